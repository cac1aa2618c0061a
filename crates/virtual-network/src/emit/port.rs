//! Flows of ports.

use super::{in_network, neighbor_flow, to_node};
use crate::flows::Out;
use crate::pipeline::*;
use crate::state::{LocalPort, State, client_addresses};
use crate::topology::{Binding, MacAddress, Network, Port, PortId};
use ipnet::IpNet;
use openflow::{Action, Field, Match, ip_proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) fn port(s: &State, id: PortId, out: &mut Out) {
    let Some(port) = s.topology.ports.get(&id).filter(|p| p.admin_state_up) else {
        return;
    };
    let (Some(network), Some(tag)) = (s.network(port.network), s.tag(port.network)) else {
        return;
    };
    match &port.binding {
        Binding::Local { .. } => {
            if let Some(local) = s.local(id) {
                known(s, port, tag, out);
                self::local(s, id, &local, out);
            }
        }
        Binding::Remote { tunnel } if !port.is_service() => {
            known(s, port, tag, out);
            remote(s, port, network, tag, *tunnel, out);
        }
        Binding::Remote { .. } | Binding::Unbound => {}
    }
}

/// What everyone in the network and its routers may be told of the port. A guest that may use any MAC answers ARP itself.
fn known(s: &State, port: &Port, tag: u32, out: &mut Out) {
    let mac = port.mac.0;
    let asked = || in_network(tag).flag(flag::FROM_PORT, true);
    let routed = s.routers_of.contains_key(&port.network);
    let own = port.mac.link_local();
    let addresses = port.fixed_ips.iter().map(|ip| ip.address);
    for address in addresses.clone() {
        if routed {
            neighbor_flow(out, 100, tag, address, mac);
        }
        if !port.port_security_enabled {
            continue;
        }
        match address {
            IpAddr::V4(a) => {
                let arp = asked().arp().with(Field::ArpOp, 1u16).with(Field::ArpTpa, a);
                out.flow(table::SERVICES, 100, arp, answer_arp(mac, a));
            }
            IpAddr::V6(a) => out.flow(table::SERVICES, 100, solicitation(asked(), a), answer_nd(mac, a, false)),
        }
    }
    if port.port_security_enabled && addresses.clone().any(|a| a.is_ipv6()) && !addresses.clone().any(|a| a == own) {
        out.flow(
            table::SERVICES,
            100,
            solicitation(asked(), own),
            answer_nd(mac, own, false),
        );
    }
}

fn remote(s: &State, port: &Port, network: &Network, tag: u32, tunnel: IpAddr, out: &mut Out) {
    if network.kind.is_tunnel() {
        let actions = to_node(s, network, tunnel);
        out.flow(table::L2, 90, in_network(tag).eth_dst(port.mac), actions);
    }
}

fn local(s: &State, id: PortId, p: &LocalPort<'_>, out: &mut Out) {
    let (port, key) = (p.port, p.key);
    let groups = s.numbers.sets.get(&port.security_groups).unwrap_or(0);
    let stateless = s.stateless(port);
    let from = || Match::new().in_port(p.number);
    let mut classify = vec![
        load(register::SOURCE, key),
        load(register::NETWORK, p.tag),
        load_flag(flag::FROM_PORT, true),
    ];
    if port.port_security_enabled {
        classify.push(load(register::SOURCE_GROUPS, groups));
        if stateless {
            classify.push(load_flag(flag::SOURCE_STATELESS, true));
        }
        classify.push(Action::resubmit(table::SOURCE_ARP));
        for mac in macs(port) {
            out.flow(table::CLASSIFY, 100, from().eth_src(mac), classify.clone());
        }
        sources(port, key, out);
    } else {
        classify.push(Action::resubmit(table::SERVICES));
        out.flow(table::CLASSIFY, 100, from(), classify);
    }

    let to_port = vec![load(register::DESTINATION, key), Action::resubmit(table::INGRESS)];
    out.flow(table::L2, 90, in_network(p.tag).eth_dst(port.mac), to_port.clone());

    let arrives = || Match::new().reg(register::DESTINATION, key);
    let own_flood = arrives().reg(register::SOURCE, key).flag(flag::ROUTED, false);
    out.flow(table::INGRESS, 110, own_flood, vec![]);
    let ingress = if port.port_security_enabled {
        vec![
            load(register::DESTINATION_GROUPS, groups),
            load_flag(flag::DESTINATION_STATELESS, stateless),
            Action::resubmit(table::INGRESS_TRACK),
        ]
    } else {
        vec![Action::resubmit(table::OUTPUT)]
    };
    out.flow(table::INGRESS, 100, arrives(), ingress);
    out.flow(table::OUTPUT, 100, arrives(), vec![Action::output(p.number)]);

    // A port asking for its own address wants to know whether someone else has it.
    let from_port = || Match::new().reg(register::SOURCE, key);
    for ip in &port.fixed_ips {
        if let IpAddr::V4(a) = ip.address {
            let own = from_port().arp().with(Field::ArpOp, 1u16).with(Field::ArpTpa, a);
            out.flow(table::SERVICES, 110, own, vec![Action::resubmit(table::L2)]);
        }
    }
    metadata(s, id, p, &to_port, out);
}

/// The MACs that a port may use.
fn macs(port: &Port) -> Vec<MacAddress> {
    let pairs = port.allowed_address_pairs.iter().filter_map(|p| p.mac);
    let mut out: Vec<MacAddress> = std::iter::once(port.mac).chain(pairs).collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// Anti-spoofing: which addresses may be at which MAC.
fn sources(port: &Port, key: u32, out: &mut Out) {
    let macs = macs(port);
    let own = |mac: MacAddress| (IpNet::from(IpAddr::from(mac.link_local())), mac);
    let fixed = port.fixed_ips.iter().map(|ip| (IpNet::from(ip.address), port.mac));
    let pairs = &port.allowed_address_pairs;
    let pairs = pairs.iter().map(|p| (p.address, p.mac.unwrap_or(port.mac)));
    let mut allowed: Vec<(IpNet, MacAddress)> = fixed.chain(pairs).chain(macs.iter().map(|m| own(*m))).collect();
    allowed.sort_unstable();
    allowed.dedup();
    for (net, mac) in allowed {
        let mut from = Match::new().reg(register::SOURCE, key);
        if macs.len() > 1 {
            from = from.eth_src(mac);
        }
        match net {
            IpNet::V4(net) => {
                let arp = from.clone().arp().with(Field::ArpSha, mac.0);
                let arp = arp.with_prefix(Field::ArpSpa, net.addr(), net.prefix_len());
                out.flow(table::SOURCE_ARP, 100, arp, vec![Action::resubmit(table::SERVICES)]);
                let ip = from.ip().ipv4_src(net.addr(), net.prefix_len());
                out.flow(table::SOURCE_IP, 100, ip, vec![Action::resubmit(table::EGRESS_TRACK)]);
            }
            IpNet::V6(net) => {
                let advertisement = from.clone().icmpv6_type(136).with(Field::Icmpv6Code, 0u8);
                let advertisement = advertisement.with_prefix(Field::NdTarget, net.addr(), net.prefix_len());
                out.flow(
                    table::SOURCE_ARP,
                    100,
                    advertisement,
                    vec![Action::resubmit(table::SOURCE_IP)],
                );
                let ip = from.ipv6().ipv6_src(net.addr(), net.prefix_len());
                out.flow(table::SOURCE_IP, 100, ip, vec![Action::resubmit(table::EGRESS_TRACK)]);
            }
        }
    }
}

/// Requests for metadata go to the listener under an address that tells who asks, and the answers come back. Nothing of it
/// is tracked except by the port's own groups.
fn metadata(s: &State, id: PortId, p: &LocalPort<'_>, to_port: &[Action], out: &mut Out) {
    let (Some(listener), Some(number)) = (&s.topology.node.metadata, s.ports.metadata) else {
        return;
    };
    let service = p.network.service_mac(p.port.network).0;
    for address in client_addresses(p.port) {
        let Some(client) = s.numbers.clients.get(&(id, address)) else {
            continue;
        };
        let from = Match::new().reg(register::SOURCE, p.key);
        let (request, answer, client, back): (Match, Match, Action, [Action; 1]) = match address {
            IpAddr::V4(a) => {
                let Some(client) = u32::from(listener.clients_v4.network())
                    .checked_add(client)
                    .map(Ipv4Addr::from)
                else {
                    continue;
                };
                (
                    from.tcp().ipv4_src(a, 32).ipv4_dst(METADATA_V4, 32),
                    Match::new().tcp().ipv4_dst(client, 32),
                    Action::set(Field::Ipv4Src, client),
                    [Action::set(Field::Ipv4Dst, a)],
                )
            }
            IpAddr::V6(a) => {
                let client = Ipv6Addr::from(u128::from(listener.clients_v6.network()).wrapping_add(client.into()));
                (
                    from.tcp6().ipv6_src(a, 128).ipv6_dst(METADATA_V6, 128),
                    Match::new().tcp6().ipv6_dst(client, 128),
                    Action::set(Field::Ipv6Src, client),
                    [Action::set(Field::Ipv6Dst, a)],
                )
            }
        };
        let request = request.with(Field::TcpDst, 80u16);
        let mut to_listener = vec![
            client,
            Action::set(Field::EthSrc, METADATA_CLIENT_MAC),
            Action::set(Field::EthDst, listener.mac.0),
        ];
        let mut to_guest = back.to_vec();
        if listener.tcp_port != 80 {
            to_listener.push(Action::set(Field::TcpDst, listener.tcp_port));
            to_guest.push(Action::set(Field::TcpSrc, 80u16));
        }
        to_listener.push(Action::output(number));
        to_guest.extend([
            Action::set(Field::EthSrc, service),
            Action::set(Field::EthDst, p.port.mac.0),
            load(register::NETWORK, p.tag),
        ]);
        to_guest.extend_from_slice(to_port);
        out.flow(table::SERVICES, 110, request, to_listener);
        let answer = answer.with(Field::TcpSrc, listener.tcp_port);
        debug_assert!(
            answer
                .get(Field::IpProto)
                .is_some_and(|m| m.value() == u128::from(ip_proto::TCP))
        );
        out.flow(table::METADATA_RETURN, 100, answer, to_guest);
    }
}
