//! Flows of routers, floating IPs and of the neighbours that routers found.

use super::{in_network, neighbor_flow};
use crate::flows::Out;
use crate::pipeline::*;
use crate::state::{State, router_networks};
use crate::topology::*;
use ipnet::IpNet;
use openflow::{Action, Ct, Field, Mac, Match, Nat, ct_state};
use std::net::{IpAddr, Ipv4Addr};

/// A router's way into a network.
pub(crate) struct Leg<'a> {
    pub network: NetworkId,
    pub mac: MacAddress,
    pub fixed_ips: &'a [FixedIp],
    pub outside: bool,
    tag: u32,
    mtu: u16,
}

impl Leg<'_> {
    /// The subnets that are reached directly. Outside that is every one of the network, as floating IPs may be in any.
    fn subnets<'s>(&self, s: &'s State) -> Vec<&'s Subnet> {
        if self.outside {
            s.subnets(self.network).map(|(_, subnet)| subnet).collect()
        } else {
            let ids = self.fixed_ips.iter().map(|ip| ip.subnet);
            ids.filter_map(|id| s.topology.subnets.get(&id)).collect()
        }
    }

    /// Its addresses, with the link-local one if it speaks IPv6.
    fn addresses(&self) -> Vec<IpAddr> {
        let mut out: Vec<IpAddr> = self.fixed_ips.iter().map(|ip| ip.address).collect();
        let own = IpAddr::from(self.mac.link_local());
        if out.iter().any(IpAddr::is_ipv6) && !out.contains(&own) {
            out.push(own);
        }
        out
    }
}

/// The legs of a router that carry traffic on this node.
pub(crate) fn legs<'a>(s: &'a State, router: &'a Router) -> Vec<Leg<'a>> {
    let inside = router.interfaces.iter().filter(|i| i.admin_state_up);
    let inside = inside.map(|i| (i.network, i.mac, i.fixed_ips.as_slice(), false));
    let gateway = router.gateway.iter().filter(|g| g.is_here());
    let gateway = gateway.map(|g| (g.network, g.mac, g.fixed_ips.as_slice(), true));
    let leg = |(network, mac, fixed_ips, outside)| {
        Some(Leg {
            network,
            mac,
            fixed_ips,
            outside,
            tag: s.tag(network)?,
            mtu: s.network(network)?.mtu,
        })
    };
    inside.chain(gateway).filter_map(leg).collect()
}

pub(super) fn router(s: &State, id: RouterId, out: &mut Out) {
    let (Some(router), Some(key)) = (s.router(id), s.router_key(id)) else {
        return;
    };
    let legs = legs(s, router);
    let largest = router_networks(router)
        .filter_map(|n| s.network(n))
        .map(|n| n.mtu)
        .max();
    for leg in &legs {
        enter(leg.tag, leg.mac.0, key, leg.outside, out);
        let learn = || in_network(leg.tag).eth_dst(leg.mac.0);
        let reply = learn().arp().with(Field::ArpOp, 2u16);
        out.flow(table::L2, 96, reply, vec![Trap::Learn.action()]);
        // A hop limit of 255 says that no router had it (RFC 4861, 7.1.2).
        let advertisement = learn().icmpv6_type(136).with(Field::Icmpv6Code, 0u8);
        let advertisement = advertisement.with(Field::IpTtl, 255u8);
        out.flow(table::L2, 96, advertisement, vec![Trap::Learn.action()]);
        for address in leg.addresses() {
            own_address(leg, key, address, out);
        }
        for subnet in leg.subnets(s) {
            route(leg, key, subnet.cidr, None, largest, out);
        }
    }
    let via = |hop: IpAddr| legs.iter().find(|l| l.subnets(s).iter().any(|n| n.cidr.contains(&hop)));
    for r in &router.routes {
        if let Some(leg) = via(r.nexthop)
            && r.nexthop.is_ipv4() == r.destination.addr().is_ipv4()
        {
            route(leg, key, r.destination, Some(r.nexthop), largest, out);
        }
    }
    let Some((gateway, leg)) = router.gateway.as_ref().zip(legs.iter().find(|l| l.outside)) else {
        return;
    };
    for ip in &gateway.fixed_ips {
        let subnet = s.topology.subnets.get(&ip.subnet);
        if let Some(hop) = subnet.and_then(|s| s.gateway) {
            let everywhere = match hop {
                IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
                IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
            };
            route(leg, key, everywhere, Some(hop), largest, out);
        }
    }
    let v4 = gateway.fixed_ips.iter().find_map(|ip| match ip.address {
        IpAddr::V4(a) => Some(a),
        IpAddr::V6(_) => None,
    });
    if let Some(address) = v4 {
        let new = || at(key).ip().ct_state(ct_state::TRK | ct_state::NEW, 0);
        out.flow(table::DNAT, 80, new().ipv4_dst(address, 32), vec![]);
        let udp = new().ip_proto(openflow::ip_proto::UDP).ipv4_dst(address, 32);
        out.flow(table::DNAT, 81, udp, vec![Trap::PortUnreachable.action()]);
        if gateway.enable_snat {
            let translate = Ct::commit(zone_in(register::ROUTER)).nat(Nat::src(address).ports(1024, 65535));
            out.flow(table::SNAT, 50, new(), vec![translate.table(table::SNAT_MAC).action()]);
        }
    }
}

/// A match on the router that has the packet.
fn at(key: u32) -> Match {
    Match::new().reg(register::ROUTER, key)
}

/// What is sent to `mac` in network `tag` is the router's.
fn enter(tag: u32, mac: Mac, key: u32, outside: bool, out: &mut Out) {
    let actions = vec![
        load(register::ROUTER, key),
        load_flag(flag::FROM_OUTSIDE, outside),
        load_flag(flag::ROUTED, true),
        Action::CtClear,
        forget_in_port(),
        Action::resubmit(table::ROUTER),
    ];
    out.flow(table::L2, 95, in_network(tag).eth_dst(mac), actions);
}

/// What a router answers for one of its own addresses.
fn own_address(leg: &Leg<'_>, key: u32, address: IpAddr, out: &mut Out) {
    let mac = leg.mac.0;
    let back: Vec<Action> = answer_echo(address.is_ipv6())
        .into_iter()
        .chain([Action::CtClear, Action::resubmit(table::L2)])
        .collect();
    // What comes to the gateway's address may be an answer to something translated, also if it comes from inside (from a
    // guest whose floating IP was talked to by another guest): it goes out and in again, for conntrack to find out.
    let inside = at(key).flag(flag::FROM_OUTSIDE, false);
    match address {
        IpAddr::V4(a) => {
            let arp = in_network(leg.tag)
                .arp()
                .with(Field::ArpOp, 1u16)
                .with(Field::ArpTpa, a);
            out.flow(table::SERVICES, 105, arp, answer_arp(mac, a));
            let echo = at(key).icmp().with(Field::Icmpv4Type, 8u8).ipv4_dst(a, 32);
            out.flow(table::ROUTER, 130, echo, back);
            if !leg.outside {
                let udp = inside.clone().udp().ipv4_dst(a, 32);
                out.flow(table::ROUTER, 110, udp, vec![Trap::PortUnreachable.action()]);
                out.flow(table::ROUTER, 105, inside.ip().ipv4_dst(a, 32), vec![]);
            }
        }
        IpAddr::V6(a) => {
            let solicited = solicitation(in_network(leg.tag), a);
            out.flow(table::SERVICES, 105, solicited, answer_nd(mac, a, true));
            let echo = at(key).icmpv6_type(128).ipv6_dst(a, 128);
            out.flow(table::ROUTER, 130, echo, back);
            let udp = at(key).udp6().ipv6_dst(a, 128);
            out.flow(table::ROUTER, 110, udp, vec![Trap::PortUnreachable.action()]);
            out.flow(table::ROUTER, 105, at(key).ipv6().ipv6_dst(a, 128), vec![]);
        }
    }
    // Other routers of the network find it without asking.
    neighbor_flow(out, 101, leg.tag, address, mac);
}

/// A route: directly into the leg's network, or through it to `hop`.
fn route(leg: &Leg<'_>, key: u32, to: IpNet, hop: Option<IpAddr>, largest: Option<u16>, out: &mut Out) {
    let m = match to {
        IpNet::V4(n) => at(key).ip().ipv4_dst(n.addr(), n.prefix_len()),
        IpNet::V6(n) => at(key).ipv6().ipv6_dst(n.addr(), n.prefix_len()),
    };
    let hop = match (hop, to) {
        (Some(IpAddr::V4(a)), _) => load(register::NEXT_HOP, a.into()),
        (Some(IpAddr::V6(a)), _) => Action::set(Field::XxReg3, a),
        (None, IpNet::V4(_)) => Action::copy(Field::Ipv4Dst, Field::reg(register::NEXT_HOP)),
        (None, IpNet::V6(_)) => Action::copy(Field::Ipv6Dst, Field::XxReg3),
    };
    let connected = matches!(hop, Action::Move { .. });
    let mut actions = vec![
        Action::set(Field::EthSrc, leg.mac.0),
        load(register::NETWORK, leg.tag),
        hop,
        load_flag(flag::TO_OUTSIDE, leg.outside),
        load_flag(flag::ROUTED, true),
        Action::DecTtl,
    ];
    if largest.is_some_and(|l| l > leg.mtu) {
        actions.push(Action::CheckPktLarger {
            len: leg.mtu.saturating_add(14),
            dst: Field::reg(register::FLAGS).part(flag::OVERSIZE, 1),
        });
    }
    actions.push(Action::resubmit(table::OVERSIZE));
    let priority = 1000 + 2 * u16::from(to.prefix_len()) + u16::from(connected);
    out.flow(table::ROUTE, priority, m, actions);
}

/// The parts of a floating IP that this node serves: its router's key and the external network's tag.
pub(crate) fn served(s: &State, f: &FloatingIp) -> Option<(u32, u32)> {
    let router = s.router(f.router)?;
    let gateway = router
        .gateway
        .as_ref()
        .filter(|g| g.network == f.network && g.is_here())?;
    s.network(gateway.network)?;
    match s.topology.ports.get(&f.port)?.binding {
        Binding::Local { .. } | Binding::Unbound => Some((s.router_key(f.router)?, s.tag(f.network)?)),
        // The node that has the guest does it.
        Binding::Remote { .. } => None,
    }
}

pub(super) fn floating_ip(s: &State, id: FloatingIpId, out: &mut Out) {
    let Some(f) = s.topology.floating_ips.get(&id) else {
        return;
    };
    let Some((key, tag)) = served(s, f) else {
        return;
    };
    let (mac, zone) = (f.mac.0, zone_in(register::ROUTER));
    enter(tag, mac, key, true, out);
    let arp = in_network(tag).arp().with(Field::ArpOp, 1u16);
    let arp = arp.with(Field::ArpTpa, f.address);
    out.flow(table::SERVICES, 105, arp, answer_arp(mac, f.address));
    neighbor_flow(out, 101, tag, f.address.into(), mac);
    let new = || at(key).ip().ct_state(ct_state::TRK | ct_state::NEW, 0);
    let inward = Ct::commit(zone).nat(Nat::dst(f.fixed_address)).table(table::ROUTE);
    out.flow(table::DNAT, 90, new().ipv4_dst(f.address, 32), vec![inward.action()]);
    let outward = Ct::commit(zone).nat(Nat::src(f.address)).table(table::SNAT_MAC);
    out.flow(
        table::SNAT,
        90,
        new().ipv4_src(f.fixed_address, 32),
        vec![outward.action()],
    );
    let own_mac = vec![Action::set(Field::EthSrc, mac), Action::resubmit(table::NEIGHBOR)];
    out.flow(table::SNAT_MAC, 100, at(key).ip().ipv4_src(f.address, 32), own_mac);
}

/// A neighbour that answered a router.
pub(super) fn neighbor(s: &State, network: NetworkId, address: IpAddr, out: &mut Out) {
    let Some(mac) = s.neighbors.get(&(network, address)) else {
        return;
    };
    let (Some(_), Some(tag)) = (s.network(network), s.tag(network)) else {
        return;
    };
    if mac.0 == Mac::ZERO {
        // Asked for, or silent: what is sent to it meanwhile goes nowhere, also not to the controller.
        out.flow(table::NEIGHBOR, 90, super::next_hop(tag, address), vec![]);
        return;
    }
    neighbor_flow(out, 90, tag, address, mac.0);
    // It may move, and will say so.
    let tell = || vec![Trap::Learn.action(), Action::resubmit(table::L2)];
    let says = |op: u16, a: Ipv4Addr| in_network(tag).arp().with(Field::ArpOp, op).with(Field::ArpSpa, a);
    match address {
        IpAddr::V4(a) => {
            out.flow(table::SERVICES, 95, says(2, a), tell());
            out.flow(table::SERVICES, 112, says(1, a).with(Field::ArpTpa, a), tell());
        }
        IpAddr::V6(a) => {
            let says = in_network(tag).icmpv6_type(136).with(Field::Icmpv6Code, 0u8);
            let says = says.with(Field::IpTtl, 255u8);
            out.flow(table::SERVICES, 95, says.with(Field::NdTarget, a), tell());
        }
    }
}
