//! ICMP errors of routers (RFC 792, RFC 1812, RFC 4443).

use super::frame::{Body, Ends, Frame, Transport, icmp};
use super::in_network;
use crate::emit::legs;
use crate::pipeline::{Trap, flag, load, load_flag, register, table};
use crate::state::State;
use crate::topology::RouterId;
use openflow::{Action, Mac, PacketIn, PacketOut, port};
use std::net::IpAddr;

/// Whether nobody may be told that this packet did not arrive.
fn unmentionable(eth_dst: Mac, body: &Body<'_>) -> bool {
    let Body::Ip {
        src,
        dst,
        later_fragment,
        transport,
        ..
    } = body
    else {
        return true;
    };
    let error = match (transport, src) {
        (Transport::Icmp { kind, .. }, IpAddr::V4(_)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        (Transport::Icmp { kind, .. }, IpAddr::V6(_)) => *kind < 128 || *kind == 137,
        _ => false,
    };
    let nobody = |a: &IpAddr| match a {
        IpAddr::V4(a) => a.is_unspecified() || a.is_broadcast() || a.is_multicast() || a.is_loopback(),
        IpAddr::V6(a) => a.is_unspecified() || a.is_multicast() || a.is_loopback(),
    };
    error || *later_fragment || eth_dst.0[0] & 1 == 1 || nobody(src) || nobody(dst)
}

/// The error that `router` sends because of a packet.
pub(super) fn error(
    s: &State,
    trap: Trap,
    router: RouterId,
    packet: &PacketIn,
    frame: &Frame<'_>,
) -> Option<PacketOut> {
    if unmentionable(frame.eth_dst, &frame.body) {
        return None;
    }
    let Body::Ip { src, packet: ip, .. } = &frame.body else {
        return None;
    };
    let legs = legs(s, s.router(router)?);
    let network = *s.tags.get(&packet.reg(register::NETWORK))?;
    let v4 = src.is_ipv4();
    let mut word = [0u8; 4];
    let (kind, code) = match (trap, v4) {
        (Trap::TimeExceeded, true) => (11, 0),
        (Trap::TimeExceeded, false) => (3, 0),
        (Trap::PortUnreachable, true) => (3, 3),
        (Trap::PortUnreachable, false) => (1, 4),
        (Trap::NoRoute, true) => (3, 0),
        (Trap::NoRoute, false) => (1, 0),
        (_, v4) => {
            // Too large for the network it would go to, which is the one in the register.
            let mtu = s.network(network)?.mtu;
            word[2..].copy_from_slice(&mtu.to_be_bytes());
            if v4 { (3, 4) } else { (2, 0) }
        }
    };
    let back = |a: &IpAddr, leg: &crate::emit::Leg<'_>| {
        leg.network == network
            && leg.fixed_ips.iter().any(|ip| {
                let subnet = s.topology.subnets.get(&ip.subnet);
                subnet.is_some_and(|n| n.cidr.contains(a))
            })
    };
    let speaks = |leg: &&crate::emit::Leg<'_>| leg.fixed_ips.iter().any(|ip| ip.address.is_ipv4() == v4);
    let leg = if trap == Trap::TooBig {
        // The register names the way out, so the way back is found by the sender's address.
        let near = legs.iter().filter(speaks).find(|leg| {
            let mut subnets = leg.fixed_ips.iter().filter_map(|ip| s.topology.subnets.get(&ip.subnet));
            !leg.outside && subnets.any(|n| n.cidr.contains(src))
        });
        near.or_else(|| legs.iter().filter(speaks).find(|l| l.outside))?
    } else {
        let here = || legs.iter().filter(speaks).filter(|l| l.network == network);
        here().find(|l| back(src, l)).or_else(|| here().next())?
    };
    let own = leg.fixed_ips.iter().map(|ip| ip.address).find(|a| a.is_ipv4() == v4)?;
    // As much of the packet as fits (RFC 1812, 4.3.2.3: 576 in all; RFC 4443, 2.4: 1280).
    let room = if v4 { 576 - 28 } else { 1280 - 48 };
    let quoted = &ip[..ip.len().min(room)];
    let ends = Ends {
        eth_src: leg.mac.0,
        eth_dst: frame.eth_src,
        src: own,
        dst: *src,
    };
    let data = icmp(ends, 64, kind, code, word, quoted)?;
    if trap == Trap::TooBig {
        // It is routed, and translated if the packet it is about was.
        return Some(PacketOut {
            in_port: port::CONTROLLER,
            actions: vec![
                load(register::ROUTER, s.router_key(router)?),
                load_flag(flag::ROUTED, true),
                Action::resubmit(table::ROUTE),
            ],
            data,
        });
    }
    in_network(s, network, data)
}
