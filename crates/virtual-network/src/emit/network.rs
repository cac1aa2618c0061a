//! Flows of networks: where their packets come from, what is answered for them, floods; and the physical bridges.

use super::{in_network, to_node, to_wire};
use crate::flows::Out;
use crate::pipeline::*;
use crate::state::State;
use crate::topology::{Ipv6Mode, NetworkId, NetworkType, Subnet};
use openflow::{Action, Field, Match, port};
use std::net::IpAddr;
use std::sync::Arc;

/// Whether guests of the subnet get addresses or options by DHCP.
pub(crate) fn serves_dhcp(subnet: &Subnet) -> bool {
    subnet.enable_dhcp
        && (subnet.cidr.addr().is_ipv4()
            || matches!(
                subnet.ipv6_address_mode,
                Some(Ipv6Mode::Dhcpv6Stateful | Ipv6Mode::Dhcpv6Stateless)
            ))
}

pub(super) fn network(s: &State, id: NetworkId, out: &mut Out) {
    let (Some(n), Some(tag)) = (s.network(id), s.tag(id)) else {
        return;
    };
    classify(s, id, tag, out);
    let from_guest = || in_network(tag).flag(flag::FROM_PORT, true);
    let mac = n.service_mac(id).0;
    let subnets: Vec<&Subnet> = s.subnets(id).map(|(_, subnet)| subnet).collect();
    let dhcp = |v4: bool| subnets.iter().any(|s| s.cidr.addr().is_ipv4() == v4 && serves_dhcp(s));
    if dhcp(true) {
        let request = from_guest().udp().with(Field::UdpSrc, 68u16).with(Field::UdpDst, 67u16);
        out.flow(table::SERVICES, 115, request, vec![Trap::Dhcp4.action()]);
    }
    if dhcp(false) {
        let request = from_guest().udp6().with(Field::UdpDst, 547u16);
        out.flow(table::SERVICES, 115, request, vec![Trap::Dhcp6.action()]);
    }
    let routed = |s: &State| s.routers_of.contains_key(&id);
    if routed(s) && subnets.iter().any(|s| s.ipv6_ra_mode.is_some()) {
        let solicitation = from_guest().icmpv6_type(133);
        out.flow(
            table::SERVICES,
            115,
            solicitation,
            vec![Trap::RouterSolicitation.action()],
        );
    }
    let mut own: Vec<IpAddr> = subnets.iter().filter_map(|s| s.dhcp_server).collect();
    if s.topology.node.metadata.is_some() {
        own.extend([IpAddr::from(METADATA_V4), IpAddr::from(METADATA_V6)]);
    }
    for address in own {
        let echo = answer_echo(address.is_ipv6());
        let echo = echo.into_iter().chain([Action::output(port::IN_PORT)]).collect();
        match address {
            IpAddr::V4(a) => {
                let arp = from_guest().arp().with(Field::ArpOp, 1u16).with(Field::ArpTpa, a);
                out.flow(table::SERVICES, 100, arp, answer_arp(mac, a));
                let ping = from_guest().icmp().with(Field::Icmpv4Type, 8u8).ipv4_dst(a, 32);
                out.flow(table::SERVICES, 100, ping, echo);
            }
            IpAddr::V6(a) => {
                out.flow(
                    table::SERVICES,
                    100,
                    solicitation(from_guest(), a),
                    answer_nd(mac, a, false),
                );
                let ping = from_guest().icmpv6_type(128).ipv6_dst(a, 128);
                out.flow(table::SERVICES, 100, ping, echo);
            }
        }
    }
    out.flow(table::L2, 100, in_network(tag).eth_dst(mac), vec![]);
    // Nobody asks for the MAC of a broadcast.
    for subnet in &subnets {
        if let ipnet::IpNet::V4(net) = subnet.cidr
            && net.prefix_len() < 31
            && routed(s)
        {
            out.flow(
                table::NEIGHBOR,
                200,
                super::next_hop(tag, net.broadcast().into()),
                vec![],
            );
        }
    }
}

/// Packets of the network that come from physical networks and from other nodes.
fn classify(s: &State, id: NetworkId, tag: u32, out: &mut Out) {
    let Some(n) = s.network(id) else {
        return;
    };
    match n.kind {
        NetworkType::Flat | NetworkType::Vlan => {
            let Some(patch) = s.patch(n) else {
                return;
            };
            let from = Match::new().in_port(patch.integration);
            let mut actions = vec![
                load(register::NETWORK, tag),
                load_flag(flag::FROM_WIRE, true),
                Action::resubmit(table::SERVICES),
            ];
            match (n.kind, n.segmentation_id) {
                (NetworkType::Flat, _) => out.flow(table::CLASSIFY, 100, from.untagged(), actions),
                (_, Some(vlan)) => {
                    actions.insert(0, Action::PopVlan);
                    out.flow(table::CLASSIFY, 100, from.vlan(vlan as u16 & 0xfff), actions);
                }
                (_, None) => {}
            }
        }
        NetworkType::Vxlan | NetworkType::Gre | NetworkType::Geneve => {
            if let (Some(port), Some(key)) = (s.ports.tunnels.get(&n.kind), n.segmentation_id) {
                let from = Match::new().in_port(*port).tun_id(u64::from(key));
                let actions = vec![load(register::NETWORK, tag), Action::resubmit(table::L2)];
                out.flow(table::CLASSIFY, 100, from, actions);
            }
        }
        NetworkType::Local => {}
    }
}

/// Where floods begin: the pieces with local ports, then the physical network or the other nodes.
pub(super) fn flood(s: &State, id: NetworkId, out: &mut Out) {
    let (Some(n), Some(tag)) = (s.network(id), s.tag(id)) else {
        return;
    };
    let (mut all, mut unknown) = (Vec::new(), Vec::new());
    for piece in s.pieces.get(&id).into_iter().flatten().map(|(piece, _)| *piece) {
        // A piece without such ports has no flow: nothing happens there.
        all.extend([load(register::PIECE, piece), Action::resubmit(table::FLOOD)]);
        unknown.extend([load(register::PIECE, piece), Action::resubmit(table::FLOOD_UNKNOWN)]);
    }
    if n.kind.is_provider() {
        all.extend(to_wire(s, n));
        unknown.extend(to_wire(s, n));
    }
    if n.kind.is_tunnel() {
        for (endpoint, remote) in s.remotes_of.get(&id).into_iter().flatten() {
            all.extend(to_node(s, n, *endpoint));
            if remote.unknown > 0 {
                unknown.extend(to_node(s, n, *endpoint));
            }
        }
    }
    out.flow(table::L2, 50, in_network(tag).eth_multicast(), all);
    out.flow(table::L2, 10, in_network(tag), unknown);
}

pub(super) fn flood_piece(s: &State, id: NetworkId, piece: u32, out: &mut Out) {
    let (Some(_), Some(tag)) = (s.network(id), s.tag(id)) else {
        return;
    };
    let (mut all, mut unknown) = (Vec::new(), Vec::new());
    for port in s.pieces.get(&id).and_then(|p| p.get(&piece)).into_iter().flatten() {
        if let Some(p) = s.local(*port) {
            let actions = [load(register::DESTINATION, p.key), Action::resubmit(table::INGRESS)];
            all.extend(actions.clone());
            if State::has_unknown_macs(p.port) {
                unknown.extend(actions);
            }
        }
    }
    for (table, actions) in [(table::FLOOD, all), (table::FLOOD_UNKNOWN, unknown)] {
        if !actions.is_empty() {
            out.flow(table, 100, in_network(tag).reg(register::PIECE, piece), actions);
        }
    }
}

/// A physical bridge: a learning switch, into which the integration bridge sends only what belongs there.
pub(super) fn physical(s: &State, bridge: &Arc<str>, out: &mut Out) {
    let Some(patch) = s.ports.patches.get(&**bridge) else {
        return;
    };
    let mapped = |physical: &Option<String>| {
        let mapping = physical.as_ref().and_then(|p| s.topology.node.bridge_mappings.get(p));
        mapping.is_some_and(|b| **b == **bridge)
    };
    let ours = Match::new().in_port(patch.physical);
    for n in s.topology.networks.values() {
        if !n.admin_state_up || !mapped(&n.physical_network) {
            continue;
        }
        let m = match (n.kind, n.segmentation_id) {
            (NetworkType::Flat, _) => ours.clone().untagged(),
            (NetworkType::Vlan, Some(vlan)) => ours.clone().vlan(vlan as u16 & 0xfff),
            _ => continue,
        };
        out.flow(0, 10, m, vec![Action::output(port::NORMAL)]);
    }
    out.flow(0, 5, ours, vec![]);
    out.flow(0, 0, Match::new(), vec![Action::output(port::NORMAL)]);
}
