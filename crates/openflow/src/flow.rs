//! Flows, groups and meters: what a switch can be told to hold.

use crate::action::{Action, write_actions};
use crate::field::{Field, FieldValue, Mac, MatchField};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// EtherTypes.
pub mod eth_type {
    /// IPv4
    pub const IPV4: u16 = 0x0800;
    /// ARP
    pub const ARP: u16 = 0x0806;
    /// IPv6
    pub const IPV6: u16 = 0x86dd;
}

/// IP protocols.
pub mod ip_proto {
    /// ICMP
    pub const ICMP: u8 = 1;
    /// TCP
    pub const TCP: u8 = 6;
    /// UDP
    pub const UDP: u8 = 17;
    /// ICMPv6
    pub const ICMPV6: u8 = 58;
    /// SCTP
    pub const SCTP: u8 = 132;
}

/// Bits of `ct_state` (`ovs-fields(7)`).
pub mod ct_state {
    /// Not committed yet.
    pub const NEW: u32 = 1;
    /// Part of a connection that is known.
    pub const EST: u32 = 2;
    /// Belongs to a known one (ICMP errors, FTP data).
    pub const REL: u32 = 4;
    /// In the reply's direction.
    pub const RPL: u32 = 8;
    /// Could not be understood.
    pub const INV: u32 = 16;
    /// Has been through `ct`.
    pub const TRK: u32 = 32;
    /// Its source was translated.
    pub const SNAT: u32 = 64;
    /// Its destination was translated.
    pub const DNAT: u32 = 128;
}

/// The conditions of a flow: at most one for each field, in the order of the fields. Empty matches everything.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Match(Vec<MatchField>);

impl Match {
    /// Matches everything.
    pub fn new() -> Match {
        Match(Vec::new())
    }

    /// Adds a condition, in place of the one on the same field if there is one. One that excludes nothing is dropped.
    pub fn set(&mut self, m: MatchField) {
        match self.0.binary_search_by_key(&m.field, |x| x.field) {
            Ok(i) if m.mask == 0 => {
                self.0.remove(i);
            }
            Ok(i) => self.0[i] = m,
            Err(_) if m.mask == 0 => {}
            Err(i) => self.0.insert(i, m),
        }
    }

    /// The same with one more condition.
    pub fn and(mut self, m: MatchField) -> Match {
        self.set(m);
        self
    }

    /// `field` is `value`.
    pub fn with(self, field: Field, value: impl FieldValue) -> Match {
        self.and(MatchField::exact(field, value))
    }

    /// The bits of `mask` in `field` are those of `value`.
    pub fn with_masked<V: FieldValue>(self, field: Field, value: V, mask: V) -> Match {
        self.and(MatchField::masked(field, value, mask))
    }

    /// The first `length` bits of `field` are those of `value`.
    pub fn with_prefix(self, field: Field, value: impl FieldValue, length: u8) -> Match {
        self.and(MatchField::prefix(field, value, length))
    }

    /// The condition on `field`.
    pub fn get(&self, field: Field) -> Option<&MatchField> {
        self.0
            .binary_search_by_key(&field, |x| x.field)
            .ok()
            .map(|i| &self.0[i])
    }

    /// The conditions.
    pub fn fields(&self) -> &[MatchField] {
        &self.0
    }

    /// Came in by this port.
    pub fn in_port(self, port: u32) -> Match {
        self.with(Field::InPort, port)
    }

    /// EtherType.
    pub fn eth_type(self, t: u16) -> Match {
        self.with(Field::EthType, t)
    }

    /// From this Ethernet address.
    pub fn eth_src(self, mac: impl Into<Mac>) -> Match {
        self.with(Field::EthSrc, mac.into())
    }

    /// To this Ethernet address.
    pub fn eth_dst(self, mac: impl Into<Mac>) -> Match {
        self.with(Field::EthDst, mac.into())
    }

    /// To a broadcast or multicast address.
    pub fn eth_multicast(self) -> Match {
        let bit = Mac([1, 0, 0, 0, 0, 0]);
        self.with_masked(Field::EthDst, bit, bit)
    }

    /// To one machine only.
    pub fn eth_unicast(self) -> Match {
        self.with_masked(Field::EthDst, Mac::ZERO, Mac([1, 0, 0, 0, 0, 0]))
    }

    /// Tagged with this VLAN.
    pub fn vlan(self, id: u16) -> Match {
        self.with(Field::VlanVid, 0x1000 | id)
    }

    /// Not tagged.
    pub fn untagged(self) -> Match {
        self.with(Field::VlanVid, 0u16)
    }

    /// ARP.
    pub fn arp(self) -> Match {
        self.eth_type(eth_type::ARP)
    }

    /// IPv4.
    pub fn ip(self) -> Match {
        self.eth_type(eth_type::IPV4)
    }

    /// IPv6.
    pub fn ipv6(self) -> Match {
        self.eth_type(eth_type::IPV6)
    }

    /// IP protocol; the EtherType must be given too.
    pub fn ip_proto(self, p: u8) -> Match {
        self.with(Field::IpProto, p)
    }

    /// ICMP over IPv4.
    pub fn icmp(self) -> Match {
        self.ip().ip_proto(ip_proto::ICMP)
    }

    /// ICMPv6.
    pub fn icmpv6(self) -> Match {
        self.ipv6().ip_proto(ip_proto::ICMPV6)
    }

    /// ICMPv6 of this type.
    pub fn icmpv6_type(self, t: u8) -> Match {
        self.icmpv6().with(Field::Icmpv6Type, t)
    }

    /// TCP over IPv4.
    pub fn tcp(self) -> Match {
        self.ip().ip_proto(ip_proto::TCP)
    }

    /// UDP over IPv4.
    pub fn udp(self) -> Match {
        self.ip().ip_proto(ip_proto::UDP)
    }

    /// TCP over IPv6.
    pub fn tcp6(self) -> Match {
        self.ipv6().ip_proto(ip_proto::TCP)
    }

    /// UDP over IPv6.
    pub fn udp6(self) -> Match {
        self.ipv6().ip_proto(ip_proto::UDP)
    }

    /// From this IPv4 network (32: this address).
    pub fn ipv4_src(self, a: Ipv4Addr, length: u8) -> Match {
        self.with_prefix(Field::Ipv4Src, a, length)
    }

    /// To this IPv4 network (32: this address).
    pub fn ipv4_dst(self, a: Ipv4Addr, length: u8) -> Match {
        self.with_prefix(Field::Ipv4Dst, a, length)
    }

    /// From this IPv6 network (128: this address).
    pub fn ipv6_src(self, a: Ipv6Addr, length: u8) -> Match {
        self.with_prefix(Field::Ipv6Src, a, length)
    }

    /// To this IPv6 network (128: this address).
    pub fn ipv6_dst(self, a: Ipv6Addr, length: u8) -> Match {
        self.with_prefix(Field::Ipv6Dst, a, length)
    }

    /// Register `n` is `value`.
    pub fn reg(self, n: u8, value: u32) -> Match {
        self.with(Field::reg(n), value)
    }

    /// The bits of `mask` in register `n` are those of `value`.
    pub fn reg_masked(self, n: u8, value: u32, mask: u32) -> Match {
        self.with_masked(Field::reg(n), value, mask)
    }

    /// Metadata is `value`.
    pub fn metadata(self, value: u64) -> Match {
        self.with(Field::Metadata, value)
    }

    /// Tunnel key.
    pub fn tun_id(self, id: u64) -> Match {
        self.with(Field::TunId, id)
    }

    /// These bits of [`ct_state`] are set and those are clear.
    pub fn ct_state(self, set: u32, clear: u32) -> Match {
        self.with_masked(Field::CtState, set, set | clear)
    }
}

impl From<Vec<MatchField>> for Match {
    fn from(fields: Vec<MatchField>) -> Match {
        fields.into_iter().collect()
    }
}

impl FromIterator<MatchField> for Match {
    fn from_iter<I: IntoIterator<Item = MatchField>>(fields: I) -> Match {
        let mut out = Match::new();
        for m in fields {
            out.set(m);
        }
        out
    }
}

/// Values and masks that together cover the ports `min` to `max` and no other.
pub fn port_masks(min: u16, max: u16) -> Vec<(u16, u16)> {
    let mut out = Vec::new();
    let (mut at, end) = (u32::from(min), u32::from(max) + 1);
    while at < end {
        let mut size = 1u32;
        while at % (size * 2) == 0 && at + size * 2 <= end && size < 0x10000 {
            size *= 2;
        }
        out.push((at as u16, !((size - 1) as u16)));
        at += size;
    }
    out
}

/// One flow. Table, priority and match are its identity; a switch holds one of each. They come first in the order of flows.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Table, 0 first.
    pub table: u8,
    /// The highest that matches wins.
    pub priority: u16,
    /// Conditions.
    pub matches: Match,
    /// For the controller's own use; comes with packet-ins.
    pub cookie: u64,
    /// What is done; nothing drops the packet.
    pub actions: Vec<Action>,
}

impl Flow {
    /// A flow with cookie 0.
    pub fn new(table: u8, priority: u16, matches: Match, actions: Vec<Action>) -> Flow {
        Flow {
            table,
            priority,
            cookie: 0,
            matches,
            actions,
        }
    }

    /// The same with a cookie.
    pub fn cookie(self, cookie: u64) -> Flow {
        Flow { cookie, ..self }
    }

    /// What the switch knows the flow by.
    pub fn key(&self) -> FlowKey<'_> {
        FlowKey {
            table: self.table,
            priority: self.priority,
            matches: &self.matches,
        }
    }
}

/// Identity of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowKey<'a> {
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Conditions.
    pub matches: &'a Match,
}

/// How a group uses its buckets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum GroupType {
    /// A copy through each (broadcast, multicast).
    All,
    /// Through one, by a hash of the packet (load balancing).
    Select,
    /// The only one.
    Indirect,
}

/// A group.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Group {
    /// Number, below 0xffffff00.
    pub id: u32,
    /// What it does with its buckets.
    pub kind: GroupType,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
}

/// One alternative of a group.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Bucket {
    /// Share of the packets, in a [`GroupType::Select`] group.
    pub weight: u16,
    /// What is done.
    pub actions: Vec<Action>,
}

/// A rate limit: what is above is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Meter {
    /// Number, from 1.
    pub id: u32,
    /// In kilobits, or packets, per second.
    pub rate: u32,
    /// Burst in kilobits or packets; 0 for the switch's default.
    pub burst: u32,
    /// Counts packets, not bits.
    pub packets: bool,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |field| self.get(field).filter(|m| m.is_exact()).map(|m| m.value as u32);
        let (name, proto) = match (exact(Field::EthType), exact(Field::IpProto)) {
            (Some(0x806), _) => ("arp", false),
            (Some(0x800), Some(1)) => ("icmp", true),
            (Some(0x800), Some(6)) => ("tcp", true),
            (Some(0x800), Some(17)) => ("udp", true),
            (Some(0x800), Some(132)) => ("sctp", true),
            (Some(0x800), _) => ("ip", false),
            (Some(0x86dd), Some(58)) => ("icmp6", true),
            (Some(0x86dd), Some(6)) => ("tcp6", true),
            (Some(0x86dd), Some(17)) => ("udp6", true),
            (Some(0x86dd), Some(132)) => ("sctp6", true),
            (Some(0x86dd), _) => ("ipv6", false),
            _ => ("", false),
        };
        let mut first = true;
        for m in &self.0 {
            if m.field == Field::IpProto && proto {
                continue;
            }
            if !std::mem::take(&mut first) {
                f.write_str(",")?;
            }
            if m.field == Field::EthType && !name.is_empty() {
                f.write_str(name)?;
            } else {
                write!(f, "{m}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table={},priority={}", self.table, self.priority)?;
        if self.cookie != 0 {
            write!(f, ",cookie={:#x}", self.cookie)?;
        }
        if !self.matches.0.is_empty() {
            write!(f, ",{}", self.matches)?;
        }
        f.write_str(",actions=")?;
        write_actions(f, &self.actions)
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            GroupType::All => "all",
            GroupType::Select => "select",
            GroupType::Indirect => "indirect",
        };
        write!(f, "group_id={},type={kind}", self.id)?;
        for b in &self.buckets {
            f.write_str(",bucket=")?;
            if self.kind == GroupType::Select {
                write!(f, "weight:{},", b.weight)?;
            }
            f.write_str("actions=")?;
            write_actions(f, &b.actions)?;
        }
        Ok(())
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.packets { "pktps" } else { "kbps" };
        let (flag, size) = if self.burst == 0 {
            ("", String::new())
        } else {
            (",burst", format!(",burst_size={}", self.burst))
        };
        write!(
            f,
            "meter={},{unit}{flag},band=type=drop,rate={}{size}",
            self.id, self.rate
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::action::{Ct, Nat, Zone};

    #[test]
    fn flows_print_as_ovs_ofctl_reads_them() {
        let zone = Zone::In(Field::reg(6).part(0, 16));
        let f = Flow::new(
            72,
            77,
            Match::new()
                .ct_state(ct_state::NEW, ct_state::EST)
                .tcp()
                .reg(7, 5)
                .with(Field::TcpDst, 80u16),
            vec![Ct::commit(zone).action(), Action::output_reg(Field::reg(7).all())],
        );
        assert_eq!(
            f.to_string(),
            "table=72,priority=77,tcp,tcp_dst=80,ct_state=+new-est,reg7=0x5,actions=ct(commit,zone=NXM_NX_REG6[0..15]),output:NXM_NX_REG7[]"
        );
        let f = Flow::new(0, 0, Match::new(), vec![]).cookie(16);
        assert_eq!(f.to_string(), "table=0,priority=0,cookie=0x10,actions=drop");
        let nat = Ct::commit(Zone::Is(100))
            .table(30)
            .nat(Nat::src(Ipv4Addr::new(10, 0, 0, 1)).ports(1024, 65535));
        assert_eq!(
            nat.action().to_string(),
            "ct(commit,table=30,zone=100,nat(src=10.0.0.1:1024-65535))"
        );
    }

    #[test]
    fn a_match_does_not_depend_on_the_order_of_its_making() {
        let a = Match::new().with(Field::TcpDst, 80u16).tcp().in_port(3);
        let b = Match::new().in_port(3).tcp().with(Field::TcpDst, 80u16);
        assert_eq!(a, b);
        assert_eq!(Match::new().ipv4_src(Ipv4Addr::new(1, 2, 3, 4), 0), Match::new());
        assert_eq!(
            Match::new().ipv4_src(Ipv4Addr::new(1, 2, 3, 4), 24),
            Match::new().ipv4_src(Ipv4Addr::new(1, 2, 3, 0), 24)
        );
    }

    #[test]
    fn port_ranges_are_covered_exactly() {
        for (min, max) in [
            (0, 65535),
            (1, 65535),
            (80, 80),
            (8000, 8010),
            (1024, 2047),
            (65535, 65535),
            (0, 0),
            (1, 65534),
        ] {
            let masks = port_masks(min, max);
            for p in 0..=65535u16 {
                let hits = masks.iter().filter(|(v, m)| p & m == *v).count();
                assert_eq!(hits, usize::from(p >= min && p <= max), "{p} in {min}-{max}");
            }
        }
        assert_eq!(port_masks(0, 65535).len(), 1);
    }
}
