//! The DHCPv4 server of a port (RFC 2131, RFC 2132). There are no leases to keep: a port's address is its own, so the answer follows
//! from the topology alone.

use super::frame::{Body, Ends, Frame, Transport, udp};
use super::options;
use crate::pipeline::METADATA_V4;
use crate::state::{LocalPort, State, all};
use crate::topology::{NetworkId, Subnet};
use ipnet::{IpNet, Ipv4Net};
use openflow::Mac;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Seconds: Neutron's `dhcp_lease_duration`.
const LEASE: u32 = 86400;
/// Neutron's `dns_domain`.
const DOMAIN: &str = "openstacklocal";
/// Fixed part of a message with the magic cookie.
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

/// Kinds of messages.
mod kind {
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
    pub const INFORM: u8 = 8;
}

/// A client's message, as far as it matters.
struct Request {
    kind: u8,
    /// Transaction, seconds and flags, as they go back.
    head: [u8; 8],
    broadcast: bool,
    client: Ipv4Addr,
    mac: Mac,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    client_id: Option<Vec<u8>>,
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(four.into())
}

impl Request {
    fn read(b: &[u8]) -> Option<Request> {
        // A request, by Ethernet, not relayed: a relay's address would have the answer sent elsewhere.
        if b.get(..3)? != [1, 1, 6] || address(b, 24)? != Ipv4Addr::UNSPECIFIED || b.get(236..FIXED)? != COOKIE {
            return None;
        }
        let mut options = BTreeMap::new();
        let mut rest = b.get(FIXED..)?;
        loop {
            match rest {
                [] | [255, ..] => break,
                [0, tail @ ..] => rest = tail,
                [code, length, tail @ ..] => {
                    let value = tail.get(..usize::from(*length))?;
                    options.entry(*code).or_insert(value);
                    rest = &tail[value.len()..];
                }
                [_] => return None,
            }
        }
        let ip = |code: u8| options.get(&code).filter(|v| v.len() == 4).and_then(|v| address(v, 0));
        Some(Request {
            kind: *options.get(&53)?.first()?,
            head: b.get(4..12)?.try_into().ok()?,
            broadcast: b[10] & 0x80 != 0,
            client: address(b, 12)?,
            mac: Mac(b.get(28..34)?.try_into().ok()?),
            requested: ip(50),
            server: ip(54),
            client_id: options.get(&61).map(|v| v.to_vec()),
        })
    }
}

/// The answer to a frame from a port. None if it is none of our business.
pub(super) fn answer(s: &State, p: &LocalPort<'_>, frame: &Frame<'_>) -> Option<Vec<u8>> {
    let Body::Ip {
        transport: Transport::Udp { payload, .. },
        ..
    } = &frame.body
    else {
        return None;
    };
    let request = Request::read(payload).filter(|r| r.mac == p.port.mac.0)?;
    let (own, subnet) = p.port.fixed_ips.iter().find_map(|ip| {
        let subnet = s.topology.subnets.get(&ip.subnet).filter(|n| n.enable_dhcp)?;
        match (ip.address, subnet.cidr) {
            (IpAddr::V4(a), IpNet::V4(net)) => Some((a, (subnet, net))),
            _ => None,
        }
    })?;
    let server = server(subnet.0);
    let reply = match request.kind {
        kind::DISCOVER => kind::OFFER,
        kind::INFORM => kind::ACK,
        kind::REQUEST => {
            if request.server.is_some_and(|s| s != server) {
                return None;
            }
            let wanted = request.requested.unwrap_or(request.client);
            if wanted == own { kind::ACK } else { kind::NAK }
        }
        // A release or a decline changes nothing.
        _ => return None,
    };
    let mut options = BTreeMap::from([(53, vec![reply]), (54, server.octets().to_vec())]);
    if reply != kind::NAK {
        fill(s, p, own, subnet, server, &mut options);
        if request.kind == kind::INFORM {
            for time in [51, 58, 59] {
                options.remove(&time);
            }
        }
    }
    if let Some(client_id) = request.client_id.clone() {
        // RFC 6842: it goes back.
        options.insert(61, client_id);
    }
    let mut next_server = Ipv4Addr::UNSPECIFIED;
    for o in p
        .port
        .extra_dhcp_opts
        .iter()
        .filter(|o| o.ip_version == 4 && reply != kind::NAK)
    {
        if matches!(o.name.as_str(), "server-ip-address" | "255") {
            next_server = o.value.parse().unwrap_or(next_server);
        } else if let Some((code, value)) = options::v4(&o.name, &o.value)
            && !matches!(code, 53 | 54)
        {
            options.insert(code, value);
        }
    }
    let yours = match (reply, request.kind) {
        (kind::NAK, _) | (_, kind::INFORM) => Ipv4Addr::UNSPECIFIED,
        _ => own,
    };
    let message = message(&request, yours, next_server, &options);
    let to_client = reply != kind::NAK && request.client != Ipv4Addr::UNSPECIFIED;
    let (eth_dst, dst) = if to_client {
        (request.mac, request.client)
    } else if request.broadcast || reply == kind::NAK {
        (Mac::BROADCAST, Ipv4Addr::BROADCAST)
    } else {
        (request.mac, yours)
    };
    let ends = Ends {
        eth_src: p.network.service_mac(p.port.network).0,
        eth_dst,
        src: server.into(),
        dst: dst.into(),
    };
    udp(ends, (67, 68), &message)
}

/// What the server is known by.
fn server(subnet: &Subnet) -> Ipv4Addr {
    match (subnet.dhcp_server, subnet.gateway) {
        (Some(IpAddr::V4(a)), _) | (None, Some(IpAddr::V4(a))) => a,
        _ => METADATA_V4,
    }
}

/// Whether a router answers for the subnet's gateway.
fn has_router(s: &State, network: NetworkId, gateway: Ipv4Addr) -> bool {
    let routers = all(&s.routers_of, &network).filter_map(|id| s.router(*id));
    let mut interfaces = routers.flat_map(|r| &r.interfaces).filter(|i| i.network == network);
    interfaces.any(|i| i.fixed_ips.iter().any(|ip| ip.address == IpAddr::V4(gateway)))
}

fn fill(
    s: &State,
    p: &LocalPort<'_>,
    own: Ipv4Addr,
    (subnet, net): (&Subnet, Ipv4Net),
    server: Ipv4Addr,
    options: &mut BTreeMap<u8, Vec<u8>>,
) {
    let gateway = match subnet.gateway {
        Some(IpAddr::V4(a)) => Some(a),
        _ => None,
    };
    options.insert(1, net.netmask().octets().to_vec());
    options.insert(28, net.broadcast().octets().to_vec());
    options.insert(26, p.network.mtu.to_be_bytes().to_vec());
    options.insert(51, LEASE.to_be_bytes().to_vec());
    // Half and seven eighths of the lease (RFC 2131, 4.4.5).
    options.insert(58, (LEASE / 2).to_be_bytes().to_vec());
    options.insert(59, (LEASE / 8 * 7).to_be_bytes().to_vec());
    let domain = p
        .network
        .dns_domain
        .as_deref()
        .unwrap_or_default()
        .trim_end_matches('.');
    let domain = if domain.is_empty() { DOMAIN } else { domain };
    options.insert(15, domain.as_bytes().to_vec());
    let name = match p.port.dns_name.as_deref() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => format!("host-{}", own.to_string().replace('.', "-")),
    };
    options.insert(12, name.into_bytes());
    if let Some(g) = gateway {
        options.insert(3, g.octets().to_vec());
    }
    let dns: Vec<u8> = s
        .dns(subnet)
        .filter_map(|a| match a {
            IpAddr::V4(a) => Some(a.octets()),
            IpAddr::V6(_) => None,
        })
        .flatten()
        .collect();
    if !dns.is_empty() {
        options.insert(6, dns);
    }
    let mut routes: Vec<(Ipv4Net, Ipv4Addr)> = subnet
        .host_routes
        .iter()
        .filter_map(|r| match (r.destination, r.nexthop) {
            (IpNet::V4(n), IpAddr::V4(a)) => Some((n, a)),
            _ => None,
        })
        .collect();
    // Other subnets of the network are on the same link.
    let others = s.subnets(p.port.network).filter_map(|(_, n)| match n.cidr {
        IpNet::V4(n) if n != net => Some((n, Ipv4Addr::UNSPECIFIED)),
        _ => None,
    });
    routes.extend(others);
    // Where no router takes requests for metadata along, they go to the network's own address.
    let isolated = !gateway.is_some_and(|g| has_router(s, p.port.network, g));
    if isolated && s.topology.node.metadata.is_some() && !p.network.external {
        let via = if subnet.dhcp_server.is_some() {
            server
        } else {
            Ipv4Addr::UNSPECIFIED
        };
        routes.push((Ipv4Net::from(METADATA_V4), via));
    }
    if !routes.is_empty() {
        // Who reads option 121 ignores option 3 (RFC 3442), so the default route is in both.
        let everything = Ipv4Net::default();
        if let Some(g) = gateway
            && !routes.iter().any(|(n, _)| *n == everything)
        {
            routes.push((everything, g));
        }
        options.insert(121, options::routes(&routes));
    }
}

fn message(request: &Request, yours: Ipv4Addr, next_server: Ipv4Addr, options: &BTreeMap<u8, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(400);
    out.extend([2, 1, 6, 0]);
    out.extend(request.head);
    // Seconds are the client's.
    out[8..10].fill(0);
    let client = if yours == Ipv4Addr::UNSPECIFIED && request.kind != kind::INFORM {
        Ipv4Addr::UNSPECIFIED
    } else {
        request.client
    };
    for a in [client, yours, next_server, Ipv4Addr::UNSPECIFIED] {
        out.extend(a.octets());
    }
    out.extend(request.mac.0);
    out.resize(FIXED - COOKIE.len(), 0);
    out.extend(COOKIE);
    let first = [53u8, 54];
    let ordered = first.iter().filter_map(|c| options.get_key_value(c));
    let ordered = ordered.chain(options.iter().filter(|(c, _)| !first.contains(c)));
    for (code, value) in ordered {
        // What is longer than an option continues in another one of the same code (RFC 3396).
        for part in value.chunks(255) {
            out.extend([*code, part.len() as u8]);
            out.extend(part);
        }
        if value.is_empty() {
            out.extend([*code, 0]);
        }
    }
    out.push(255);
    // Some clients want at least as much as BOOTP had.
    out.resize(out.len().max(300), 0);
    out
}
