//! The tables and registers of the integration bridge, and what the pieces of the compiler share in using them.
//!
//! # Tables
//!
//! | table | name | what is in it |
//! |---|---|---|
//! | 0 | `CLASSIFY` | who sent it: a guest (port and source MAC), a physical network (VLAN), a tunnel (key), the metadata listener |
//! | 5 | `METADATA_RETURN` | answers of the metadata listener get the guest's address back |
//! | 10 | `SOURCE_ARP` | ARP and neighbour advertisements only about addresses of the port; no DHCP server, no router advertisement |
//! | 11 | `SOURCE_IP` | IPv4 and IPv6 only from addresses of the port |
//! | 12 | `EGRESS_TRACK` | DHCP and neighbour discovery pass; the rest goes through `ct` in the port's zone |
//! | 13 | `EGRESS_RULES` | security groups; what is no longer allowed gets its connection marked |
//! | 14 | `EGRESS_COMMIT` | new connections are committed |
//! | 20 | `SERVICES` | ARP and ND answers, DHCP and router solicitations to the controller, metadata |
//! | 21 | `ND_ANSWER` | second half of an ND answer (`nd_tll` needs a match on type 136) |
//! | 30 | `L2` | by destination MAC: a local port, a router, another node, the physical network; multicast; unknown |
//! | 31 | `FLOOD` | every local port of a network, in pieces of 256 |
//! | 32 | `FLOOD_UNKNOWN` | the ports that may have MACs nobody knows of |
//! | 40 | `ROUTER` | the router's own addresses (ICMP echo), TTL, where NAT is needed |
//! | 42 | `DNAT` | from outside, after `ct(nat)`: floating IPs |
//! | 45 | `ROUTE` | longest prefix: next hop, outgoing network, source MAC, TTL |
//! | 46 | `OVERSIZE` | larger than the outgoing network's MTU: to the controller |
//! | 51 | `SNAT` | to the outside, after `ct(nat)`: floating IPs, the gateway's address |
//! | 52 | `SNAT_MAC` | floating IPs leave with their own MAC |
//! | 55 | `NEIGHBOR` | next hop -> MAC; unknown ones to the controller |
//! | 60 | `INGRESS` | towards a local port: its security groups |
//! | 61 | `INGRESS_TRACK` | as 12, for packets to the guest |
//! | 62 | `INGRESS_RULES` | as 13 |
//! | 63 | `INGRESS_COMMIT` | as 14 |
//! | 65 | `OUTPUT` | out of the port |
//!
//! There are no local VLANs: within the bridge a network is a number in a register, and the patch port to a physical bridge
//! carries the VLAN of the physical network itself. A physical bridge is a learning switch that lets only those VLANs
//! through.
//!
//! # Zones
//! Every local port has a conntrack zone of its own, and every router one for NAT. So the same connection is
//! judged once leaving a guest and once entering another, wherever the two are and whatever NAT is between, and all
//! that is known of a port ends by flushing one zone.

use openflow::{Action, Ct, Field, Mac, Match, Nat, Subfield, Zone, eth_type};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Table numbers.
#[allow(missing_docs)]
pub mod table {
    pub const CLASSIFY: u8 = 0;
    pub const METADATA_RETURN: u8 = 5;
    pub const SOURCE_ARP: u8 = 10;
    pub const SOURCE_IP: u8 = 11;
    pub const EGRESS_TRACK: u8 = 12;
    pub const EGRESS_RULES: u8 = 13;
    pub const EGRESS_COMMIT: u8 = 14;
    pub const SERVICES: u8 = 20;
    pub const ND_ANSWER: u8 = 21;
    pub const L2: u8 = 30;
    pub const FLOOD: u8 = 31;
    pub const FLOOD_UNKNOWN: u8 = 32;
    pub const ROUTER: u8 = 40;
    pub const DNAT: u8 = 42;
    pub const ROUTE: u8 = 45;
    pub const OVERSIZE: u8 = 46;
    pub const SNAT: u8 = 51;
    pub const SNAT_MAC: u8 = 52;
    pub const NEIGHBOR: u8 = 55;
    pub const INGRESS: u8 = 60;
    pub const INGRESS_TRACK: u8 = 61;
    pub const INGRESS_RULES: u8 = 62;
    pub const INGRESS_COMMIT: u8 = 63;
    pub const OUTPUT: u8 = 65;
}

/// What the registers hold.
pub mod register {
    /// Bits of [`flag`](super::flag).
    pub const FLAGS: u8 = 0;
    /// The router that has the packet (its zone's number).
    pub const ROUTER: u8 = 4;
    /// The local port that sent it (its zone's number).
    pub const SOURCE: u8 = 5;
    /// The network it is in.
    pub const NETWORK: u8 = 6;
    /// The local port it goes to (its zone's number).
    pub const DESTINATION: u8 = 7;
    /// IPv4 next hop. The IPv6 one is in xxreg3 (registers 12 to 15).
    pub const NEXT_HOP: u8 = 8;
    /// Piece of a flood list.
    pub const PIECE: u8 = 9;
    /// Set of security groups of the sender.
    pub const SOURCE_GROUPS: u8 = 10;
    /// Set of security groups of the receiver.
    pub const DESTINATION_GROUPS: u8 = 11;
}

/// Bits of register 0, by their number.
pub mod flag {
    /// Sent by a local port.
    pub const FROM_PORT: u8 = 0;
    /// A router has had it, so it may go back where it came from.
    pub const ROUTED: u8 = 1;
    /// The sender's groups are stateless.
    pub const SOURCE_STATELESS: u8 = 2;
    /// The receiver's groups are stateless.
    pub const DESTINATION_STATELESS: u8 = 3;
    /// Came to the router by its gateway.
    pub const FROM_OUTSIDE: u8 = 4;
    /// Does not fit into the network it should go to.
    pub const OVERSIZE: u8 = 5;
    /// Leaves the router by its gateway.
    pub const TO_OUTSIDE: u8 = 6;
    /// Came from a physical network.
    pub const FROM_WIRE: u8 = 7;
}

/// Why a packet comes to the controller: the first byte of the action's user data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Trap {
    /// A guest's DHCPv4 request.
    Dhcp4 = 1,
    /// A guest's DHCPv6 request.
    Dhcp6 = 2,
    /// A guest's router solicitation.
    RouterSolicitation = 3,
    /// TTL ran out at a router.
    TimeExceeded = 4,
    /// Too large for the network behind a router.
    TooBig = 5,
    /// UDP to a router's own address.
    PortUnreachable = 6,
    /// A router has no route.
    NoRoute = 7,
    /// The next hop's MAC is not known.
    Resolve = 8,
    /// ARP or ND that tells a MAC we asked for.
    Learn = 9,
}

impl Trap {
    /// The trap that this user data stands for.
    pub fn from_userdata(data: &[u8]) -> Option<Trap> {
        use Trap::*;
        let all = [
            Dhcp4,
            Dhcp6,
            RouterSolicitation,
            TimeExceeded,
            TooBig,
            PortUnreachable,
            NoRoute,
            Resolve,
            Learn,
        ];
        all.into_iter().find(|t| data.first() == Some(&(*t as u8)))
    }

    /// The action that sends a packet to the controller for this reason.
    pub fn action(self) -> Action {
        Action::controller(vec![self as u8])
    }
}

/// The address of the metadata service.
pub const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Its IPv6 address.
pub const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe);
/// The MAC the listener sees behind every client address.
pub const METADATA_CLIENT_MAC: Mac = Mac([0x0e, 0x00, 0xa9, 0xfe, 0x00, 0x01]);

/// `load:value->NXM_NX_REGn[]`
pub(crate) fn load(n: u8, value: u32) -> Action {
    Action::load(Field::reg(n).all(), u64::from(value))
}

/// Sets or clears a flag.
pub(crate) fn load_flag(bit: u8, on: bool) -> Action {
    Action::load(Field::reg(register::FLAGS).part(bit, 1), u64::from(on))
}

/// A match on a flag.
pub(crate) trait Flags {
    fn flag(self, bit: u8, on: bool) -> Self;
}

impl Flags for Match {
    fn flag(self, bit: u8, on: bool) -> Match {
        let already = self
            .get(Field::reg(register::FLAGS))
            .map_or((0, 0), |m| (m.value() as u32, m.mask() as u32));
        let (value, mask) = (already.0 | u32::from(on) << bit, already.1 | 1 << bit);
        self.reg_masked(register::FLAGS, value, mask)
    }
}

/// The zone whose number is in register `n`.
pub(crate) fn zone_in(n: u8) -> Zone {
    Zone::In(Field::reg(n).part(0, 16))
}

/// Tracks in the router's zone with the translation that the connection has.
pub(crate) fn nat_existing(table: u8) -> Action {
    Ct::track(zone_in(register::ROUTER), table).nat(Nat::Existing).action()
}

/// Lets a packet go out where it came in.
pub(crate) fn forget_in_port() -> Action {
    Action::load(Field::InPort16.all(), 0)
}

fn swap(out: &mut Vec<Action>, a: Subfield, b: Subfield) {
    out.extend([Action::Push(a), Action::Push(b), Action::Pop(a), Action::Pop(b)]);
}

/// Turns an ARP request for `address` into the answer that it is at `mac`, and sends it back.
pub(crate) fn answer_arp(mac: Mac, address: Ipv4Addr) -> Vec<Action> {
    vec![
        Action::copy(Field::EthSrc, Field::EthDst),
        Action::set(Field::EthSrc, mac),
        Action::set(Field::ArpOp, 2u16),
        Action::copy(Field::ArpSha, Field::ArpTha),
        Action::set(Field::ArpSha, mac),
        Action::copy(Field::ArpSpa, Field::ArpTpa),
        Action::set(Field::ArpSpa, address),
        Action::output(openflow::port::IN_PORT),
    ]
}

/// Turns a neighbour solicitation for `address` into the answer that it is at `mac`, and sends it back.
pub(crate) fn answer_nd(mac: Mac, address: Ipv6Addr, router: bool) -> Vec<Action> {
    vec![
        Action::copy(Field::EthSrc, Field::EthDst),
        Action::set(Field::EthSrc, mac),
        Action::copy(Field::Ipv6Src, Field::Ipv6Dst),
        Action::set(Field::Ipv6Src, address),
        Action::set(Field::IpTtl, 255u8),
        Action::set(Field::Icmpv6Type, 136u8),
        Action::set(Field::NdOptionsType, 2u8),
        // Router (only routers), solicited, override: RFC 4861, 4.4.
        Action::set(Field::NdReserved, if router { 0xe000_0000u32 } else { 0x6000_0000 }),
        Action::resubmit(table::ND_ANSWER),
    ]
}

/// Neighbour solicitation for an address.
pub(crate) fn solicitation(m: Match, target: Ipv6Addr) -> Match {
    m.icmpv6_type(135)
        .with(Field::Icmpv6Code, 0u8)
        .with(Field::NdTarget, target)
}

/// Turns an ICMP (or, if `v6`, ICMPv6) echo request into the reply, addressed to who sent it.
pub(crate) fn answer_echo(v6: bool) -> Vec<Action> {
    let mut out = Vec::with_capacity(12);
    swap(&mut out, Field::EthSrc.all(), Field::EthDst.all());
    if v6 {
        swap(&mut out, Field::Ipv6Src.all(), Field::Ipv6Dst.all());
        out.push(Action::set(Field::Icmpv6Type, 129u8));
    } else {
        swap(&mut out, Field::Ipv4Src.all(), Field::Ipv4Dst.all());
        out.push(Action::set(Field::Icmpv4Type, 0u8));
    }
    out.push(Action::set(Field::IpTtl, 64u8));
    out
}

/// IPv4 and IPv6, the two EtherTypes that `ct` understands.
pub(crate) const IP_TYPES: [u16; 2] = [eth_type::IPV4, eth_type::IPV6];
