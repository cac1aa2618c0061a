//! What guests and neighbours get to see.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/common/fixture.rs"]
#[allow(dead_code)]
mod fixture;

use super::*;
use crate::topology::*;
use crate::{Numbers, Topology};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use fixture::*;
use openflow::{Field, Mac, Match};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

struct Bench {
    compiler: Compiler,
    responder: Responder,
}

fn bench(edit: impl FnOnce(&mut Topology)) -> Bench {
    let mut topology = cloud();
    edit(&mut topology);
    let mut compiler = Compiler::new(Numbers::default());
    compiler.set_port_numbers(numbers());
    compiler.replace(&topology);
    Bench {
        compiler,
        responder: Responder::new(),
    }
}

const START: Duration = Duration::from_secs(1000);

impl Bench {
    fn packet(&self, trap: Trap, registers: &[(u8, u32)], data: Vec<u8>) -> PacketIn {
        let registers = registers
            .iter()
            .fold(Match::new(), |m, (n, v)| m.with(Field::reg(*n), *v));
        PacketIn {
            userdata: vec![trap as u8],
            metadata: registers,
            data,
            ..PacketIn::default()
        }
    }

    fn from_port(&mut self, trap: Trap, port: u128, data: Vec<u8>) -> Response {
        let zone = self.compiler.port_zone(id(port).into()).unwrap();
        let p = self.packet(trap, &[(register::SOURCE, zone.into())], data);
        self.responder.respond(&self.compiler, &p, START)
    }

    fn tag(&self, network: u128) -> u32 {
        self.compiler.state.tag(id(network).into()).unwrap()
    }

    fn at_router(&mut self, trap: Trap, network: u128, hop: u32, data: Vec<u8>) -> Response {
        let zone = self.compiler.router_zone(id(R1).into()).unwrap();
        let registers = [
            (register::ROUTER, zone.into()),
            (register::NETWORK, self.tag(network)),
            (register::NEXT_HOP, hop),
        ];
        let p = self.packet(trap, &registers, data);
        self.responder.respond(&self.compiler, &p, START)
    }
}

/// A client's DHCPv4 message.
fn dhcp(kind: u8, mac: MacAddress, client: &str, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut b = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 7, 0, 0];
    b.extend(v4(client).octets());
    b.extend([0; 12]);
    b.extend(mac.bytes());
    b.resize(236, 0);
    b.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
    for (code, value) in options {
        b.extend([*code, value.len() as u8]);
        b.extend(*value);
    }
    b.push(255);
    let ends = frame::Ends {
        eth_src: mac.0,
        eth_dst: Mac::BROADCAST,
        src: ip(client),
        dst: ip("255.255.255.255"),
    };
    frame::udp(ends, (68, 67), &b).unwrap()
}

struct Answer {
    eth_dst: Mac,
    dst: IpAddr,
    kind: u8,
    yours: Ipv4Addr,
    next: Ipv4Addr,
    options: BTreeMap<u8, Vec<u8>>,
}

fn answer(r: &Response) -> Option<Answer> {
    let [packet] = r.packets.as_slice() else { return None };
    let sliced = SlicedPacket::from_ethernet(&packet.data).unwrap();
    let Some(NetSlice::Ipv4(net)) = &sliced.net else {
        panic!("not IPv4")
    };
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else {
        panic!("not UDP")
    };
    assert_eq!((udp.source_port(), udp.destination_port()), (67, 68));
    let b = udp.payload();
    assert_eq!(b[4..8], [0xde, 0xad, 0xbe, 0xef]);
    let mut options = BTreeMap::new();
    let mut rest = &b[240..];
    while rest[0] != 255 {
        let (code, n) = (rest[0], usize::from(rest[1]));
        options.entry(code).or_insert_with(Vec::new).extend(&rest[2..2 + n]);
        rest = &rest[2 + n..];
    }
    let at = |i: usize| Ipv4Addr::new(b[i], b[i + 1], b[i + 2], b[i + 3]);
    Some(Answer {
        eth_dst: Mac(packet.data[..6].try_into().unwrap()),
        dst: net.header().destination_addr().into(),
        kind: options[&53][0],
        yours: at(16),
        next: at(20),
        options,
    })
}

#[test]
fn a_guest_gets_its_address_and_all_that_goes_with_it() {
    let mut b = bench(|_| {});
    let r = b.from_port(Trap::Dhcp4, G1, dhcp(1, mac(1), "0.0.0.0", &[(61, b"\x01id")]));
    assert_eq!(r.packets[0].actions, [Action::output(11)], "to its own port only");
    let a = answer(&r).unwrap();
    assert_eq!((a.kind, a.yours), (2, v4("192.168.5.11")));
    assert_eq!((a.eth_dst, a.dst), (mac(1).0, ip("192.168.5.11")));
    let option = |code: u8| a.options.get(&code).map(Vec::as_slice);
    assert_eq!(option(1), Some(&[255, 255, 255, 0][..]));
    assert_eq!(option(3), Some(&[192, 168, 5, 1][..]));
    assert_eq!(option(6), Some(&[9, 9, 9, 9][..]));
    assert_eq!(option(12), Some(&b"host-192-168-5-11"[..]));
    assert_eq!(option(15), Some(&b"cloud.example"[..]));
    assert_eq!(option(26), Some(&1450u16.to_be_bytes()[..]));
    assert_eq!(option(51), Some(&86400u32.to_be_bytes()[..]));
    assert_eq!(option(54), Some(&[192, 168, 5, 2][..]));
    assert_eq!(option(61), Some(&b"\x01id"[..]));
    assert_eq!(option(121), None, "the router takes care of metadata");

    let request = |b: &mut Bench, options: &[(u8, &[u8])], client: &str| {
        let r = b.from_port(Trap::Dhcp4, G1, dhcp(3, mac(1), client, options));
        answer(&r)
    };
    let a = request(&mut b, &[(50, &[192, 168, 5, 11]), (54, &[192, 168, 5, 2])], "0.0.0.0").unwrap();
    assert_eq!((a.kind, a.yours), (5, v4("192.168.5.11")));
    let a = request(&mut b, &[], "192.168.5.11").unwrap();
    assert_eq!((a.kind, a.dst), (5, ip("192.168.5.11")), "a renewal");
    let a = request(&mut b, &[(50, &[192, 168, 5, 77])], "0.0.0.0").unwrap();
    assert_eq!(
        (a.kind, a.yours, a.dst),
        (6, v4("0.0.0.0"), ip("255.255.255.255")),
        "not its address"
    );
    assert!(!a.options.contains_key(&51));
    assert!(
        request(&mut b, &[(54, &[192, 168, 5, 3])], "0.0.0.0").is_none(),
        "it chose another server"
    );
    for (kind, from) in [(7, mac(1)), (4, mac(1)), (1, mac(2))] {
        let r = b.from_port(Trap::Dhcp4, G1, dhcp(kind, from, "0.0.0.0", &[]));
        assert!(r.packets.is_empty(), "release, decline, someone else's MAC");
    }
    let r = b.from_port(Trap::Dhcp4, G1, dhcp(8, mac(1), "192.168.5.11", &[]));
    let a = answer(&r).unwrap();
    assert_eq!((a.kind, a.yours), (5, v4("0.0.0.0")));
    assert!(!a.options.contains_key(&51) && a.options.contains_key(&6));
}

#[test]
fn subnets_and_ports_add_to_what_a_guest_is_told() {
    let mut b = bench(|t| {
        t.node.dns_resolvers = vec![ip("10.0.0.53"), ip("2001:db8::53")];
        let s = t.subnets.get_mut(&id(SUB_A).into()).unwrap();
        s.gateway = None;
        s.dns_nameservers.clear();
        s.host_routes = vec![Route {
            destination: "10.20.0.0/16".parse().unwrap(),
            nexthop: ip("192.168.5.9"),
        }];
        let p = t.ports.get_mut(&id(G1).into()).unwrap();
        p.dns_name = Some("web".into());
        let option = |name: &str, value: &str| ExtraDhcpOption {
            name: name.into(),
            value: value.into(),
            ip_version: 4,
        };
        p.extra_dhcp_opts = vec![
            option("mtu", "1300"),
            option("bootfile-name", "pxelinux.0"),
            option("server-ip-address", "192.168.5.8"),
            option("nonsense", "x"),
            option("53", "1"),
        ];
    });
    let r = b.from_port(Trap::Dhcp4, G1, dhcp(1, mac(1), "0.0.0.0", &[]));
    let a = answer(&r).unwrap();
    assert!(!a.options.contains_key(&3));
    let metadata = [32, 169, 254, 169, 254, 192, 168, 5, 2];
    let routes = [&[16, 10, 20, 192, 168, 5, 9][..], &metadata].concat();
    assert_eq!(a.options[&121], routes, "no router: metadata is at the DHCP server");
    assert_eq!(a.options[&6], [10, 0, 0, 53], "the node's own");
    assert_eq!(a.options[&12], b"web");
    assert_eq!(a.options[&26], 1300u16.to_be_bytes());
    assert_eq!(a.options[&67], b"pxelinux.0");
    assert_eq!((a.next, a.kind), (v4("192.168.5.8"), 2));
}

/// Type, code, word and body of the only packet; checks the checksum.
fn icmp_of(r: &Response) -> (IpAddr, IpAddr, u8, u8, [u8; 4], Vec<u8>) {
    let [packet] = r.packets.as_slice() else {
        panic!("{} packets", r.packets.len())
    };
    icmp_in(&packet.data)
}

fn icmp_in(data: &[u8]) -> (IpAddr, IpAddr, u8, u8, [u8; 4], Vec<u8>) {
    let sliced = SlicedPacket::from_ethernet(data).unwrap();
    match (&sliced.net, &sliced.transport) {
        (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(i))) => {
            let header = ip.header();
            assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
            let sum = etherparse::checksum::Sum16BitWords::new()
                .add_slice(i.slice())
                .ones_complement();
            assert_eq!(sum, 0, "checksum");
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                i.type_u8(),
                i.code_u8(),
                i.bytes5to8(),
                i.payload().to_vec(),
            )
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(i))) => {
            let header = ip.header();
            assert!(i.is_checksum_valid(header.source(), header.destination()));
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                i.type_u8(),
                i.code_u8(),
                i.bytes5to8(),
                i.payload().to_vec(),
            )
        }
        _ => panic!("not ICMP"),
    }
}

fn dhcp6(kind: u8, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut b = vec![kind, 1, 2, 3];
    for (code, value) in options {
        b.extend(code.to_be_bytes());
        b.extend((value.len() as u16).to_be_bytes());
        b.extend(*value);
    }
    let ends = frame::Ends {
        eth_src: mac(1).0,
        eth_dst: Mac([0x33, 0x33, 0, 1, 0, 2]),
        src: mac(1).link_local().into(),
        dst: ip("ff02::1:2"),
    };
    frame::udp(ends, (546, 547), &b).unwrap()
}

fn options6(b: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let (mut out, mut rest) = (BTreeMap::new(), b);
    while let [c1, c2, l1, l2, tail @ ..] = rest {
        let n = usize::from(u16::from_be_bytes([*l1, *l2]));
        out.insert(u16::from_be_bytes([*c1, *c2]), tail[..n].to_vec());
        rest = &tail[n..];
    }
    out
}

#[test]
fn dhcpv6_gives_the_ports_address() {
    let mut b = bench(|t| {
        let s = t.subnets.get_mut(&id(SUB_A6).into()).unwrap();
        s.ipv6_ra_mode = Some(Ipv6Mode::Dhcpv6Stateful);
        s.ipv6_address_mode = Some(Ipv6Mode::Dhcpv6Stateful);
    });
    let ask = |b: &mut Bench, data: Vec<u8>| -> Option<(u8, BTreeMap<u16, Vec<u8>>)> {
        let r = b.from_port(Trap::Dhcp6, G1, data);
        let data = r.packets.first()?.data.clone();
        let sliced = SlicedPacket::from_ethernet(&data).unwrap();
        let Some(TransportSlice::Udp(udp)) = sliced.transport else {
            panic!("not UDP")
        };
        let p = udp.payload();
        assert_eq!(p[1..4], [1, 2, 3]);
        Some((p[0], options6(&p[4..])))
    };
    let association = [0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
    let client: &[u8] = b"client";
    let (kind, o) = ask(&mut b, dhcp6(1, &[(1, client), (3, &association)])).unwrap();
    assert_eq!((kind, o[&1].as_slice()), (2, client));
    let server = o[&2].clone();
    let inner = options6(&o[&3][12..]);
    let IpAddr::V6(own) = ip("fd00:5::11") else {
        unreachable!()
    };
    assert_eq!(inner[&5][..16], own.octets());
    assert_eq!(o[&24], b"\x05cloud\x07example\0");
    assert_eq!(o[&23].len(), 16);
    let (kind, _) = ask(&mut b, dhcp6(3, &[(1, client), (2, &server), (3, &association)])).unwrap();
    assert_eq!(kind, 7);
    let (kind, o) = ask(&mut b, dhcp6(1, &[(1, client), (14, &[]), (3, &association)])).unwrap();
    assert!(kind == 7 && o.contains_key(&14), "rapid commit");
    assert!(ask(&mut b, dhcp6(3, &[(1, client), (2, b"other"), (3, &association)])).is_none());
    assert!(
        ask(&mut b, dhcp6(1, &[(3, &association)])).is_none(),
        "who asks must say who they are"
    );
    let (kind, o) = ask(&mut b, dhcp6(11, &[])).unwrap();
    assert!(kind == 7 && o.contains_key(&23) && !o.contains_key(&3));
    // Router advertisements say that DHCPv6 is to be used.
    let advertisements = b.responder.advertise(&b.compiler);
    let a = advertisements
        .iter()
        .find(|p| p.data[6..12] == infra(2).bytes())
        .unwrap();
    let (src, dst, kind, _, word, body) = icmp_in(&a.data);
    assert_eq!((src, dst, kind), (infra(2).link_local().into(), ip("ff02::1"), 134));
    assert_eq!(word[1], 0xc0, "managed, other");
    assert!(a.actions.contains(&Action::output(11)) && a.actions.contains(&Action::output(12)));
    let prefix = body
        .windows(4)
        .position(|w| w == [3, 4, 64, 0x80])
        .expect("no autonomous addresses");
    assert_eq!(body[prefix + 16..prefix + 18], [0xfd, 0]);
}

#[test]
fn solicitations_are_answered_with_prefix_mtu_and_dns() {
    let mut b = bench(|_| {});
    let ends = frame::Ends {
        eth_src: mac(3).0,
        eth_dst: Mac([0x33, 0x33, 0, 0, 0, 2]),
        src: mac(3).link_local().into(),
        dst: ip("ff02::2"),
    };
    let rs = frame::icmp(ends, 255, 133, 0, [0; 4], &[]).unwrap();
    let r = b.from_port(Trap::RouterSolicitation, G3, rs);
    let (src, dst, kind, _, word, body) = icmp_of(&r);
    assert_eq!((src, kind), (infra(3).link_local().into(), 134));
    assert_eq!(dst, IpAddr::from(mac(3).link_local()));
    assert_eq!(word, [64, 0, 1, 44], "hop limit 64, no DHCPv6, 300 s");
    let has = |bytes: &[u8]| body.windows(bytes.len()).any(|w| w == bytes);
    assert!(has(&[5, 1, 0, 0, 0, 0, 5, 170]), "MTU 1450");
    assert!(has(&[3, 4, 64, 0xc0]), "on link and autonomous");
    assert!(has(&[25, 3, 0, 0, 0, 0, 3, 232]), "DNS");
}

fn udp_to(dst: &str, size: usize) -> Vec<u8> {
    let ends = frame::Ends {
        eth_src: mac(1).0,
        eth_dst: infra(1).0,
        src: ip("192.168.5.11"),
        dst: ip(dst),
    };
    frame::udp(ends, (1000, 2000), &vec![7; size]).unwrap()
}

#[test]
fn routers_say_why_a_packet_did_not_arrive() {
    let mut b = bench(|_| {});
    let data = udp_to("203.0.113.1", 1000);
    let r = b.at_router(Trap::TimeExceeded, NET_A, 0, data.clone());
    let (src, dst, kind, code, _, body) = icmp_of(&r);
    assert_eq!((src, dst, kind, code), (ip("192.168.5.1"), ip("192.168.5.11"), 11, 0));
    assert_eq!(body, data[14..14 + 548], "as much of it as 576 bytes hold");
    assert_eq!(r.packets[0].data[..6], mac(1).bytes());
    let mut whole = data.clone();
    whole[20] = 0x40;
    let r = b.at_router(Trap::TooBig, NET_B, 0, whole);
    let (src, _, kind, code, word, _) = icmp_of(&r);
    assert_eq!((src, kind, code, word), (ip("192.168.5.1"), 3, 4, [0, 0, 5, 170]));
    assert_eq!(r.packets[0].actions.last(), Some(&Action::resubmit(table::ROUTE)));
    // Nothing is said of an error, of what went to many, or of a later fragment.
    let error = frame::icmp(
        frame::Ends {
            eth_src: mac(1).0,
            eth_dst: infra(1).0,
            src: ip("192.168.5.11"),
            dst: ip("203.0.113.1"),
        },
        1,
        3,
        3,
        [0; 4],
        &data[14..],
    );
    assert!(
        b.at_router(Trap::TimeExceeded, NET_A, 0, error.unwrap())
            .packets
            .is_empty()
    );
    let many = udp_to("224.0.0.251", 10);
    assert!(b.at_router(Trap::TimeExceeded, NET_A, 0, many).packets.is_empty());
    let mut fragment = data.clone();
    fragment[20] = 0;
    fragment[21] = 9;
    assert!(b.at_router(Trap::TimeExceeded, NET_A, 0, fragment).packets.is_empty());
    // Nor for long.
    let answered = (0..100).filter(|_| !b.at_router(Trap::NoRoute, NET_A, 0, data.clone()).packets.is_empty());
    assert!((5..30).contains(&answered.count()));
}

fn arp_reply(from: MacAddress, address: &str, to: MacAddress) -> Vec<u8> {
    let mut f = to.bytes().to_vec();
    f.extend(from.bytes());
    f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    f.extend(from.bytes());
    f.extend(v4(address).octets());
    f.extend(to.bytes());
    f.extend([10, 98, 0, 21]);
    f
}

#[test]
fn next_hops_are_asked_for_and_what_waits_is_sent() {
    let mut b = bench(|_| {});
    let network: NetworkId = id(NET_X).into();
    let hop = ip("10.98.0.1");
    let data = udp_to("203.0.113.1", 20);
    let r = b.at_router(Trap::Resolve, NET_X, v4("10.98.0.1").into(), data.clone());
    assert_eq!(
        r.neighbors,
        [(network, hop, Some(MacAddress::new([0; 6])))],
        "others wait in the switch"
    );
    let request = &r.packets[0].data;
    assert_eq!(request[..14], [&[0xff; 6][..], &infra(4).bytes(), &[8, 6]].concat()[..]);
    assert_eq!(request[28..32], v4("10.98.0.21").octets());
    assert_eq!(request[38..42], v4("10.98.0.1").octets());
    let again = b.at_router(Trap::Resolve, NET_X, v4("10.98.0.1").into(), data.clone());
    assert_eq!(again, Response::default());
    // An answer nobody asked for is not believed.
    let tag = b.tag(NET_X);
    let learn = |b: &mut Bench, frame: Vec<u8>, now: Duration| {
        let p = b.packet(Trap::Learn, &[(register::NETWORK, tag)], frame);
        b.responder.respond(&b.compiler, &p, now)
    };
    let other = learn(&mut b, arp_reply(mac(66), "10.98.0.2", infra(4)), START);
    assert_eq!(other, Response::default());
    let r = learn(&mut b, arp_reply(infra(254), "10.98.0.1", infra(4)), START);
    assert_eq!(r.neighbors, [(network, hop, Some(infra(254)))]);
    assert_eq!(r.packets.len(), 2, "both that waited");
    assert_eq!(r.packets[0].data[..6], infra(254).bytes());
    assert_eq!(r.packets[0].data[6..], data[6..]);
    // It moves.
    let r = learn(&mut b, arp_reply(mac(70), "10.98.0.1", infra(4)), START);
    assert_eq!(r.neighbors, [(network, hop, Some(mac(70)))]);
    // It is checked after a while, and forgotten when it is silent.
    let tick = |b: &mut Bench, seconds: u64| b.responder.tick(&b.compiler, START + Duration::from_secs(seconds));
    assert_eq!(tick(&mut b, 60), Response::default());
    let checks: Vec<Response> = (130..140).map(|s| tick(&mut b, s)).collect();
    assert_eq!(checks[0].packets[0].data[..6], mac(70).bytes(), "asked alone");
    assert_eq!(checks.iter().map(|r| r.packets.len()).sum::<usize>(), 3);
    let told: Vec<_> = checks.iter().flat_map(|r| &r.neighbors).collect();
    assert_eq!(told, [&(network, hop, None)]);
}

#[test]
fn a_next_hop_that_is_silent_is_given_up_for_a_while() {
    let mut b = bench(|_| {});
    let data = udp_to("203.0.113.1", 20);
    b.at_router(Trap::Resolve, NET_X, v4("10.98.0.1").into(), data.clone());
    let ticks: Vec<Response> = (1..20)
        .map(|s| b.responder.tick(&b.compiler, START + Duration::from_secs(s)))
        .collect();
    let requests: usize = ticks.iter().map(|r| r.packets.len()).sum();
    assert_eq!(requests, 2, "three with the first");
    let told: Vec<_> = ticks.iter().flat_map(|r| &r.neighbors).collect();
    assert_eq!(told, [&(id(NET_X).into(), ip("10.98.0.1"), None)]);
    let r = b.at_router(Trap::Resolve, NET_X, v4("10.98.0.1").into(), data);
    assert_eq!(r.packets.len(), 1, "then the next packet asks again");
}

#[test]
fn what_is_new_here_is_announced_once() {
    let mut b = bench(|_| {});
    let (first, advertisements): (Vec<_>, Vec<_>) = b
        .responder
        .announce(&b.compiler)
        .into_iter()
        .partition(|p| p.data[12..14] == [8, 6]);
    assert_eq!(first.len(), 4, "two gateways, two floating IPs");
    assert_eq!(advertisements.len(), 2, "two networks with SLAAC");
    let of = |p: &PacketOut| (p.data[6..12].to_vec(), p.data[28..32].to_vec());
    let all: Vec<_> = first.iter().map(of).collect();
    assert!(all.contains(&(infra(101).bytes().to_vec(), vec![10, 98, 0, 101])));
    assert!(b.responder.announce(&b.compiler).is_empty());
    let moved = floating(102, "10.98.0.101", G2, "192.168.5.12", R1);
    b.compiler
        .update(vec![Change::FloatingIp(id(FIP1).into(), Some(moved))]);
    assert_eq!(b.responder.announce(&b.compiler).len(), 1);
    let mut subnet = b.compiler.topology().subnets[&id(SUB_A6).into()].clone();
    subnet.dns_nameservers.clear();
    b.compiler.update(vec![Change::Subnet(id(SUB_A6).into(), Some(subnet))]);
    let told = b.responder.announce(&b.compiler);
    assert_eq!(told.len(), 1, "guests hear of what changed");
    assert_eq!(icmp_in(&told[0].data).2, 134);
}

#[test]
fn a_silent_next_hop_costs_the_controller_nothing() {
    let mut b = bench(|_| {});
    let nobody = MacAddress::new([0; 6]);
    let diff = b.compiler.set_neighbor(id(NET_X).into(), ip("10.98.0.1"), Some(nobody));
    let flows = &diff.bridges[&crate::Bridge::Integration].add;
    assert!(flows.len() == 1 && flows[0].table == table::NEIGHBOR && flows[0].actions.is_empty());
}

fn trap() -> impl Strategy<Value = u8> {
    0u8..12
}

proptest! {
    #[test]
    fn nothing_that_comes_in_makes_it_fail(
        traps in prop::collection::vec((trap(), any::<[u32; 4]>(), 0u32..8, prop::collection::vec(any::<u8>(), 0..200)), 1..4),
        template in 0usize..5, cuts in prop::collection::vec((any::<u16>(), any::<u8>()), 0..8), end in any::<u16>(),
    ) {
        let mut b = bench(|_| {});
        let zone = |n: u32| n;
        for (trap, wide, small, data) in traps {
            let registers: Vec<(u8, u32)> = [register::SOURCE, register::ROUTER, register::NETWORK]
                .into_iter().map(|r| (r, zone(small)))
                .chain([(register::NEXT_HOP, wide[0]), (12, wide[1]), (13, wide[2]), (14, wide[3])]).collect();
            let mut p = b.packet(Trap::Dhcp4, &registers, data);
            p.userdata = vec![trap];
            b.responder.respond(&b.compiler, &p, START);
            // Something that makes sense, damaged.
            p.data = match template {
                0 => dhcp(3, mac(1), "0.0.0.0", &[(50, &[1, 2, 3, 4]), (55, &[1, 3, 6])]),
                1 => dhcp6(1, &[(1, b"x"), (3, &[0; 12])]),
                2 => udp_to("203.0.113.1", 64),
                3 => arp_reply(mac(7), "10.98.0.1", infra(4)),
                _ => frame::solicitation(mac(1).0, mac(1).link_local(), mac(2).link_local(), None).unwrap(),
            };
            for (at, value) in &cuts {
                let at = usize::from(*at) % p.data.len();
                p.data[at] = *value;
            }
            p.data.truncate(usize::from(end) % (p.data.len() * 2) + 1);
            b.responder.respond(&b.compiler, &p, START);
            b.responder.tick(&b.compiler, START + Duration::from_secs(200));
        }
    }
}
