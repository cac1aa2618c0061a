//! Flows that do not depend on any network.

use crate::flows::Out;
use crate::pipeline::*;
use crate::state::State;
use openflow::{Action, Ct, Field, Match, ct_state, eth_type};
use std::net::{Ipv4Addr, Ipv6Addr};

/// ICMPv6 types that pass whatever the groups say: multicast listener query, router solicitation, neighbour solicitation
/// and advertisement, as Neutron's firewall has them.
const ALWAYS_FROM_GUEST: [u8; 4] = [130, 133, 135, 136];
const ALWAYS_TO_GUEST: [u8; 3] = [130, 135, 136];

pub(super) fn base(s: &State, out: &mut Out) {
    sources(out);
    filter(out, &EGRESS);
    filter(out, &INGRESS);
    services(out);
    routers(out);
    if s.topology.node.metadata.is_some()
        && let Some(port) = s.ports.metadata
    {
        metadata(s, port, out);
    }
}

fn dhcp4(from: u16, to: u16) -> Match {
    Match::new().udp().with(Field::UdpSrc, from).with(Field::UdpDst, to)
}

fn dhcp6(from: u16, to: u16) -> Match {
    Match::new().udp6().with(Field::UdpSrc, from).with(Field::UdpDst, to)
}

fn goto(table: u8) -> Vec<Action> {
    vec![Action::resubmit(table)]
}

fn sources(out: &mut Out) {
    use table::*;
    // What only routers and DHCP servers say is not for guests to say.
    for m in [
        dhcp4(67, 68),
        dhcp6(547, 546),
        Match::new().icmpv6_type(134),
        Match::new().icmpv6_type(137),
    ] {
        out.flow(SOURCE_ARP, 120, m, vec![]);
    }
    // A probe tells nobody anything (RFC 5227).
    let probe = Match::new().arp().with(Field::ArpOp, 1u16);
    let probe = probe.with(Field::ArpSpa, Ipv4Addr::UNSPECIFIED);
    out.flow(SOURCE_ARP, 100, probe, goto(SERVICES));
    out.flow(SOURCE_ARP, 90, Match::new().icmpv6_type(136), vec![]);
    for t in IP_TYPES {
        out.flow(SOURCE_ARP, 80, Match::new().eth_type(t), goto(SOURCE_IP));
    }
    let discover = dhcp4(68, 67).ipv4_src(Ipv4Addr::UNSPECIFIED, 32);
    out.flow(SOURCE_IP, 110, discover, goto(SERVICES));
    let unspecified = |m: Match| m.ipv6_src(Ipv6Addr::UNSPECIFIED, 128);
    out.flow(
        SOURCE_IP,
        110,
        unspecified(Match::new().icmpv6_type(135)),
        goto(SERVICES),
    );
    for t in [131, 132, 143] {
        out.flow(SOURCE_IP, 110, unspecified(Match::new().icmpv6_type(t)), goto(L2));
    }
}

/// The tables of one direction.
struct Direction {
    track: u8,
    rules: u8,
    commit: u8,
    after: u8,
    zone: u8,
    stateless: u8,
}

const EGRESS: Direction = Direction {
    track: table::EGRESS_TRACK,
    rules: table::EGRESS_RULES,
    commit: table::EGRESS_COMMIT,
    after: table::SERVICES,
    zone: register::SOURCE,
    stateless: flag::SOURCE_STATELESS,
};

const INGRESS: Direction = Direction {
    track: table::INGRESS_TRACK,
    rules: table::INGRESS_RULES,
    commit: table::INGRESS_COMMIT,
    after: table::OUTPUT,
    zone: register::DESTINATION,
    stateless: flag::DESTINATION_STATELESS,
};

fn filter(out: &mut Out, d: &Direction) {
    use ct_state::*;
    let zone = zone_in(d.zone);
    let mark = |value: u32| Ct {
        exec: vec![Action::set(Field::CtMark, value)],
        ..Ct::commit(zone)
    };
    let always: &[u8] = if d.track == table::EGRESS_TRACK {
        out.flow(d.track, 110, dhcp4(68, 67), goto(d.after));
        out.flow(d.track, 110, dhcp6(546, 547), goto(d.after));
        &ALWAYS_FROM_GUEST
    } else {
        out.flow(d.track, 110, Match::new().arp(), goto(d.after));
        // Servers and routers outside; those among the guests were stopped when they sent it.
        out.flow(d.track, 110, dhcp4(67, 68), goto(d.after));
        out.flow(d.track, 110, dhcp6(547, 546), goto(d.after));
        let advertisement = Match::new().icmpv6_type(134).flag(flag::FROM_WIRE, true);
        out.flow(d.track, 110, advertisement, goto(d.after));
        &ALWAYS_TO_GUEST
    };
    for t in always {
        out.flow(d.track, 110, Match::new().icmpv6_type(*t), goto(d.after));
    }
    for t in IP_TYPES {
        let ip = || Match::new().eth_type(t);
        // The sender's zone may have left its state on the packet.
        let untracked = vec![Action::CtClear, Action::resubmit(d.rules)];
        out.flow(d.track, 100, ip().flag(d.stateless, true), untracked);
        out.flow(d.track, 90, ip(), vec![Ct::track(zone, d.rules).action()]);

        // Answers pass as long as what they answer was not found forbidden since. Forward packets are always judged anew.
        let unmarked = |m: Match| m.with(Field::CtMark, 0u32);
        let (answer, related) = (ip().ct_state(TRK | EST | RPL, REL | INV), ip().ct_state(TRK | REL, INV));
        out.flow(d.rules, 1900, unmarked(answer.clone()), goto(d.after));
        out.flow(d.rules, 1900, unmarked(related.clone()), goto(d.after));
        out.flow(d.rules, 1890, answer, vec![]);
        out.flow(d.rules, 1890, related, vec![]);
        let no_longer = unmarked(ip().ct_state(TRK | EST, RPL));
        out.flow(d.rules, 10, no_longer, vec![mark(1).action()]);

        let after = Action::resubmit(d.after);
        let new = vec![Ct::commit(zone).action(), after.clone()];
        out.flow(d.commit, 100, ip().ct_state(TRK | NEW, EST), new);
        let again = ip().ct_state(TRK | EST, 0).with(Field::CtMark, 1u32);
        out.flow(d.commit, 90, again, vec![mark(0).action(), after]);
    }
    out.flow(d.rules, 2000, Match::new().ct_state(TRK | INV, 0), vec![]);
    out.flow(d.commit, 0, Match::new(), goto(d.after));
}

fn services(out: &mut Out) {
    // Whether an address is free is answered by who has it.
    let duplicate = Match::new().icmpv6_type(135).ipv6_src(Ipv6Addr::UNSPECIFIED, 128);
    out.flow(table::SERVICES, 120, duplicate, goto(table::L2));
    out.flow(table::SERVICES, 0, Match::new(), goto(table::L2));
    let advertisement = Match::new().icmpv6_type(136).with(Field::Icmpv6Code, 0u8);
    out.flow(
        table::ND_ANSWER,
        100,
        advertisement,
        vec![
            Action::copy(Field::EthSrc, Field::NdTll),
            Action::output(openflow::port::IN_PORT),
        ],
    );
}

fn routers(out: &mut Out) {
    use ct_state::{EST, INV, NEW, REL, TRK};
    use table::*;
    for t in IP_TYPES {
        for ttl in [0u8, 1] {
            let m = Match::new().eth_type(t).with(Field::IpTtl, ttl);
            out.flow(ROUTER, 120, m, vec![Trap::TimeExceeded.action()]);
        }
        out.flow(ROUTER, 10, Match::new().eth_type(t), goto(ROUTE));
        out.flow(ROUTE, 0, Match::new().eth_type(t), vec![Trap::NoRoute.action()]);
        out.flow(NEIGHBOR, 0, Match::new().eth_type(t), vec![Trap::Resolve.action()]);
        let too_big = Match::new().eth_type(t).flag(flag::OVERSIZE, true);
        out.flow(OVERSIZE, 20, too_big, vec![Trap::TooBig.action()]);
    }
    // There is no use in telling anyone that a multicast or broadcast did not get further (RFC 1812, 4.3.2.7).
    out.flow(
        ROUTE,
        2000,
        Match::new().ip().ipv4_dst(Ipv4Addr::new(224, 0, 0, 0), 3),
        vec![],
    );
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    out.flow(ROUTE, 2000, Match::new().ipv6().ipv6_dst(link_local, 10), vec![]);
    let multicast = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
    out.flow(ROUTE, 2000, Match::new().ipv6().ipv6_dst(multicast, 8), vec![]);

    let ip = || Match::new().ip();
    out.flow(
        ROUTER,
        100,
        ip().flag(flag::FROM_OUTSIDE, true),
        vec![nat_existing(DNAT)],
    );
    out.flow(DNAT, 110, ip().ct_state(TRK | INV, 0), vec![]);
    out.flow(DNAT, 100, ip().ct_state(TRK | EST, INV), goto(ROUTE));
    out.flow(DNAT, 100, ip().ct_state(TRK | REL, INV), goto(ROUTE));
    // Routed without translation; committed, so that the answer is not taken for something new and translated.
    let plain = vec![Ct::commit(zone_in(register::ROUTER)).action(), Action::resubmit(ROUTE)];
    out.flow(DNAT, 10, ip().ct_state(TRK | NEW, 0), plain);

    let outside = ip().flag(flag::TO_OUTSIDE, true);
    out.flow(OVERSIZE, 10, outside, vec![nat_existing(SNAT)]);
    out.flow(OVERSIZE, 0, Match::new(), goto(NEIGHBOR));
    out.flow(SNAT, 110, ip().ct_state(TRK | INV, 0), vec![]);
    out.flow(SNAT, 100, ip().ct_state(TRK | EST, INV), goto(SNAT_MAC));
    out.flow(SNAT, 100, ip().ct_state(TRK | REL, INV), goto(SNAT_MAC));
    let plain = vec![
        Ct::commit(zone_in(register::ROUTER)).action(),
        Action::resubmit(SNAT_MAC),
    ];
    out.flow(SNAT, 10, ip().ct_state(TRK | NEW, 0), plain);
    out.flow(SNAT_MAC, 0, Match::new(), goto(NEIGHBOR));
}

fn metadata(s: &State, port: u32, out: &mut Out) {
    let Some(m) = &s.topology.node.metadata else {
        return;
    };
    let from = Match::new().in_port(port);
    out.flow(table::CLASSIFY, 100, from, goto(table::METADATA_RETURN));
    // The listener finds every client at the same place.
    let clients = m.clients_v4;
    let request = Match::new()
        .eth_type(eth_type::ARP)
        .with(Field::ArpOp, 1u16)
        .with_prefix(Field::ArpTpa, clients.network(), clients.prefix_len());
    let answer = vec![
        Action::copy(Field::EthSrc, Field::EthDst),
        Action::set(Field::EthSrc, METADATA_CLIENT_MAC),
        Action::set(Field::ArpOp, 2u16),
        Action::copy(Field::ArpSha, Field::ArpTha),
        Action::set(Field::ArpSha, METADATA_CLIENT_MAC),
        Action::Push(Field::ArpSpa.all()),
        Action::Push(Field::ArpTpa.all()),
        Action::Pop(Field::ArpSpa.all()),
        Action::Pop(Field::ArpTpa.all()),
        Action::output(openflow::port::IN_PORT),
    ];
    out.flow(table::METADATA_RETURN, 100, request, answer);
    let clients = m.clients_v6;
    let request = Match::new().icmpv6_type(135).with(Field::Icmpv6Code, 0u8).with_prefix(
        Field::NdTarget,
        clients.network(),
        clients.prefix_len(),
    );
    let mut answer = answer_nd(METADATA_CLIENT_MAC, Ipv6Addr::UNSPECIFIED, false);
    for a in &mut answer {
        if *a == Action::set(Field::Ipv6Src, Ipv6Addr::UNSPECIFIED) {
            *a = Action::copy(Field::NdTarget, Field::Ipv6Src);
        }
    }
    out.flow(table::METADATA_RETURN, 100, request, answer);
}
