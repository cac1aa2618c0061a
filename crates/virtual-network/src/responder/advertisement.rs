//! Router advertisements (RFC 4861, RFC 8106).

use super::frame::{ALL_NODES, ALL_NODES_MAC, Body, Ends, Frame, icmp};
use crate::emit::{Leg, legs};
use crate::state::{LocalPort, State, all};
use crate::topology::{Ipv6Mode, MacAddress, NetworkId};
use ipnet::IpNet;
use openflow::{Action, Mac, PacketOut, port};
use std::net::{IpAddr, Ipv6Addr};

/// What Neutron's agents have radvd say, in seconds: three times the longest interval (100), and its two prefix lifetimes.
const ROUTER_LIFETIME: u16 = 300;
const VALID: u32 = 86400;
const PREFERRED: u32 = 14400;
const DNS_LIFETIME: u32 = 1000;

/// The advertisement of a router's leg, if its subnets want one.
fn advertisement(s: &State, leg: &Leg<'_>, to: (Mac, Ipv6Addr)) -> Option<Vec<u8>> {
    let mtu = s.network(leg.network)?.mtu;
    let (mut managed, mut other) = (false, false);
    let (mut prefixes, mut dns): (Vec<u8>, Vec<Ipv6Addr>) = (Vec::new(), Vec::new());
    for ip in leg.fixed_ips {
        let Some(subnet) = s.topology.subnets.get(&ip.subnet) else {
            continue;
        };
        let (IpNet::V6(net), Some(mode)) = (subnet.cidr, subnet.ipv6_ra_mode) else {
            continue;
        };
        managed |= mode == Ipv6Mode::Dhcpv6Stateful;
        other |= mode != Ipv6Mode::Slaac;
        // On link; for addresses of one's own making, unless DHCPv6 gives them.
        let autonomous = if mode == Ipv6Mode::Dhcpv6Stateful { 0 } else { 0x40 };
        prefixes.extend([3, 4, net.prefix_len(), 0x80 | autonomous]);
        prefixes.extend(VALID.to_be_bytes());
        prefixes.extend(PREFERRED.to_be_bytes());
        prefixes.extend([0; 4]);
        prefixes.extend(net.network().octets());
        for server in s.dns(subnet) {
            if let IpAddr::V6(a) = server
                && !dns.contains(&a)
            {
                dns.push(a);
            }
        }
    }
    if prefixes.is_empty() {
        return None;
    }
    let mut body = Vec::with_capacity(128);
    // Reachable time and retransmission timer: not specified.
    body.extend([0; 8]);
    body.extend([1, 1]);
    body.extend(leg.mac.bytes());
    body.extend([5, 1, 0, 0, 0, 0]);
    body.extend(mtu.to_be_bytes());
    body.extend(prefixes);
    // The option's length has 8 bits and counts 8 bytes; nobody needs that many servers.
    dns.truncate(16);
    if !dns.is_empty() {
        body.extend([25, 1 + 2 * dns.len() as u8, 0, 0]);
        body.extend(DNS_LIFETIME.to_be_bytes());
        body.extend(dns.iter().flat_map(Ipv6Addr::octets));
    }
    let flags = if managed { 0x80 } else { 0 } | if other { 0x40 } else { 0 };
    let lifetime = ROUTER_LIFETIME.to_be_bytes();
    let ends = Ends {
        eth_src: leg.mac.0,
        eth_dst: to.0,
        src: leg.mac.link_local().into(),
        dst: to.1.into(),
    };
    icmp(ends, 255, 134, 0, [64, flags, lifetime[0], lifetime[1]], &body)
}

fn advertisements(s: &State, network: NetworkId, to: (Mac, Ipv6Addr)) -> Vec<(MacAddress, Vec<u8>)> {
    let routers = all(&s.routers_of, &network).filter_map(|id| s.router(*id));
    let legs = routers.flat_map(|r| legs(s, r));
    let inside = legs.filter(|l| l.network == network && !l.outside);
    let made = inside.filter_map(|leg| Some((leg.mac, advertisement(s, &leg, to)?)));
    made.collect()
}

/// Answers to a guest's solicitation.
pub(super) fn solicited(s: &State, p: &LocalPort<'_>, frame: &Frame<'_>) -> Vec<Vec<u8>> {
    let to = match &frame.body {
        Body::Ip { src: IpAddr::V6(a), .. } if !a.is_unspecified() => (frame.eth_src, *a),
        Body::Ip { .. } => (ALL_NODES_MAC, ALL_NODES),
        Body::Arp { .. } => return Vec::new(),
    };
    let all = advertisements(s, p.port.network, to);
    all.into_iter().map(|(_, data)| data).collect()
}

/// To all local ports of every network; with the leg that each is from.
pub(super) fn unsolicited(s: &State) -> Vec<((NetworkId, MacAddress), PacketOut)> {
    let mut out = Vec::new();
    for network in s.routers_of.keys() {
        let all = advertisements(s, *network, (ALL_NODES_MAC, ALL_NODES));
        if all.is_empty() {
            continue;
        }
        let ports = s.pieces.get(network).into_iter().flatten().flat_map(|(_, ports)| ports);
        let outputs: Vec<Action> = ports
            .filter_map(|p| s.local(*p))
            .map(|p| Action::output(p.number))
            .collect();
        for (mac, data) in all {
            let packet = PacketOut {
                in_port: port::CONTROLLER,
                actions: outputs.clone(),
                data,
            };
            out.push(((*network, mac), packet));
        }
    }
    out
}
