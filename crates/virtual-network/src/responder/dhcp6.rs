//! The DHCPv6 server of a port (RFC 8415).

use super::frame::{Body, Ends, Frame, Transport, udp};
use super::options;
use crate::emit::serves_dhcp;
use crate::state::{LocalPort, State};
use crate::topology::{Ipv6Mode, Subnet};
use openflow::Mac;
use std::net::{IpAddr, Ipv6Addr};

/// Seconds: Neutron's `dhcp_lease_duration`.
const LEASE: u32 = 86400;

/// Kinds of messages.
mod kind {
    pub const SOLICIT: u8 = 1;
    pub const ADVERTISE: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const CONFIRM: u8 = 4;
    pub const RENEW: u8 = 5;
    pub const REBIND: u8 = 6;
    pub const REPLY: u8 = 7;
    pub const RELEASE: u8 = 8;
    pub const DECLINE: u8 = 9;
    pub const INFORMATION: u8 = 11;
}

/// Status codes.
mod status {
    pub const SUCCESS: u16 = 0;
    pub const NO_ADDRESSES: u16 = 2;
    pub const NOT_ON_LINK: u16 = 4;
}

/// Codes of options.
mod option {
    pub const CLIENT_ID: u16 = 1;
    pub const SERVER_ID: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const ADDRESS: u16 = 5;
    pub const STATUS: u16 = 13;
    pub const RAPID_COMMIT: u16 = 14;
    pub const DNS: u16 = 23;
    pub const DOMAINS: u16 = 24;
}

/// Options one after the other; none if a length is wrong.
fn read(mut b: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut out = Vec::new();
    while let [c1, c2, l1, l2, rest @ ..] = b {
        let value = rest.get(..usize::from(u16::from_be_bytes([*l1, *l2])))?;
        out.push((u16::from_be_bytes([*c1, *c2]), value));
        b = &rest[value.len()..];
    }
    b.is_empty().then_some(out)
}

fn put(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    // A value that does not fit is left out; nothing here is that long.
    if let Ok(length) = u16::try_from(value.len()) {
        out.extend(code.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(value);
    }
}

fn put_status(out: &mut Vec<u8>, code: u16) {
    put(out, option::STATUS, &code.to_be_bytes());
}

/// The answer to a frame from a port. None if it is none of our business.
pub(super) fn answer(s: &State, p: &LocalPort<'_>, frame: &Frame<'_>) -> Option<Vec<u8>> {
    let Body::Ip {
        src: IpAddr::V6(client),
        transport: Transport::Udp { payload, .. },
        ..
    } = &frame.body
    else {
        return None;
    };
    let [kind, x1, x2, x3, rest @ ..] = payload else {
        return None;
    };
    let kind = *kind;
    let options = read(rest)?;
    let given = |code: u16| options.iter().find(|o| o.0 == code).map(|o| o.1);
    let served: Vec<(Ipv6Addr, &Subnet)> = p
        .port
        .fixed_ips
        .iter()
        .filter_map(|ip| match ip.address {
            IpAddr::V6(a) => Some((a, s.topology.subnets.get(&ip.subnet).filter(|n| serves_dhcp(n))?)),
            IpAddr::V4(_) => None,
        })
        .collect();
    if served.is_empty() {
        return None;
    }
    let mac = p.network.service_mac(p.port.network).0;
    let own = server_id(mac);
    let client_id = given(option::CLIENT_ID);
    match (kind, given(option::SERVER_ID)) {
        // Meant for another server, or for one but without saying which (RFC 8415, 16).
        (kind::REQUEST | kind::RENEW | kind::RELEASE | kind::DECLINE, for_whom) if for_whom != Some(own.as_slice()) => {
            return None;
        }
        (kind::INFORMATION, Some(other)) if other != own.as_slice() => return None,
        (kind::SOLICIT | kind::CONFIRM | kind::REBIND, Some(_)) => return None,
        _ => {}
    }
    if client_id.is_none() && kind != kind::INFORMATION {
        return None;
    }
    let rapid = kind == kind::SOLICIT && given(option::RAPID_COMMIT).is_some();
    let mut out = match kind {
        kind::SOLICIT if !rapid => vec![kind::ADVERTISE],
        kind::SOLICIT
        | kind::REQUEST
        | kind::CONFIRM
        | kind::RENEW
        | kind::REBIND
        | kind::RELEASE
        | kind::DECLINE
        | kind::INFORMATION => vec![kind::REPLY],
        _ => return None,
    };
    out.extend([*x1, *x2, *x3]);
    if let Some(c) = client_id {
        put(&mut out, option::CLIENT_ID, c);
    }
    put(&mut out, option::SERVER_ID, &own);
    if rapid {
        put(&mut out, option::RAPID_COMMIT, &[]);
    }
    let associations = options.iter().filter(|o| o.0 == option::IA_NA).map(|o| o.1);
    let stateful = |n: &Subnet| n.ipv6_address_mode == Some(Ipv6Mode::Dhcpv6Stateful);
    let addresses: Vec<Ipv6Addr> = served.iter().filter(|(_, n)| stateful(n)).map(|(a, _)| *a).collect();
    match kind {
        kind::RELEASE | kind::DECLINE => put_status(&mut out, status::SUCCESS),
        kind::CONFIRM => {
            let mut named = associations.filter_map(|ia| read(ia.get(12..)?)).flatten();
            let fits = |(code, value): (u16, &[u8])| {
                let a: Option<[u8; 16]> = value.get(..16).and_then(|v| v.try_into().ok());
                code != option::ADDRESS || a.is_some_and(|a| addresses.contains(&a.into()))
            };
            let all = named.all(fits);
            put_status(&mut out, if all { status::SUCCESS } else { status::NOT_ON_LINK });
        }
        kind::INFORMATION => {}
        _ => {
            // The first association gets the addresses; a guest has no use for another.
            for (i, ia) in associations.enumerate() {
                let Some(number) = ia.get(..4) else { continue };
                let mut body = number.to_vec();
                if i == 0 && !addresses.is_empty() {
                    body.extend((LEASE / 2).to_be_bytes());
                    body.extend((LEASE / 5 * 4).to_be_bytes());
                    for a in &addresses {
                        let mut address = a.octets().to_vec();
                        address.extend(LEASE.to_be_bytes());
                        address.extend(LEASE.to_be_bytes());
                        put(&mut body, option::ADDRESS, &address);
                    }
                } else {
                    body.extend([0; 8]);
                    put_status(&mut body, status::NO_ADDRESSES);
                }
                put(&mut out, option::IA_NA, &body);
            }
        }
    }
    let extra: Vec<(u16, Vec<u8>)> = p
        .port
        .extra_dhcp_opts
        .iter()
        .filter(|o| o.ip_version == 6)
        .filter_map(|o| options::v6(&o.name, &o.value))
        .collect();
    let replaced = |code: u16| extra.iter().any(|(c, _)| *c == code);
    let dns: Vec<u8> = served
        .iter()
        .flat_map(|(_, n)| s.dns(n))
        .filter_map(|a| match a {
            IpAddr::V6(a) => Some(a.octets()),
            IpAddr::V4(_) => None,
        })
        .flatten()
        .collect();
    if !dns.is_empty() && !replaced(option::DNS) {
        put(&mut out, option::DNS, &dns);
    }
    let domain = p.network.dns_domain.as_deref().filter(|d| !d.is_empty());
    if let Some(d) = domain
        .and_then(|d| options::domains([d]))
        .filter(|_| !replaced(option::DOMAINS))
    {
        put(&mut out, option::DOMAINS, &d);
    }
    for (code, value) in &extra {
        put(&mut out, *code, value);
    }
    let ends = Ends {
        eth_src: mac,
        eth_dst: frame.eth_src,
        src: mac.link_local().into(),
        dst: IpAddr::V6(*client),
    };
    udp(ends, (547, 546), &out)
}

/// The server's identifier: its link-layer address (RFC 8415, 11.4).
fn server_id(mac: Mac) -> Vec<u8> {
    let mut out = vec![0, 3, 0, 1];
    out.extend(mac.0);
    out
}
