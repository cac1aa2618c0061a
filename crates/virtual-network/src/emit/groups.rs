//! Flows of security groups.
//!
//! Ports with the same set of groups share their flows: the set's number is in a register, loaded where the packet is
//! classified (sender) or enters the receiver's tables. A rule without a group as remote is a flow of its own; one with a group is a
//! conjunction of the group's addresses and of what the rule says else, so that a further member costs one flow for each set
//! that names its group, whatever the number of rules.

use crate::flows::Out;
use crate::numbers::{GroupSet, Remote};
use crate::pipeline::{register, table};
use crate::state::{State, rule_remote};
use crate::topology::*;
use ipnet::IpNet;
use openflow::{Action, Field, Match, ip_proto, port_masks};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Priority of what a flow allows by itself; conjunctions are one below, so that no flow has to be both.
const ALONE: u16 = 1000;
const TOGETHER: u16 = 990;

/// The number of a protocol, by the names that the API takes. `None` is every protocol; the error is a name nobody knows.
pub(crate) fn protocol_number(protocol: Option<&str>, ethertype: EtherType) -> Result<Option<u8>, ()> {
    let Some(name) = protocol else {
        return Ok(None);
    };
    Ok(Some(match name.to_ascii_lowercase().as_str() {
        "any" | "" => return Ok(None),
        "icmp" | "1" if ethertype == EtherType::Ipv6 => ip_proto::ICMPV6,
        "hopopt" | "ip" => 0,
        "icmp" => ip_proto::ICMP,
        "igmp" => 2,
        "ipip" => 4,
        "tcp" => ip_proto::TCP,
        "egp" => 8,
        "udp" => ip_proto::UDP,
        "dccp" => 33,
        "ipv6-encap" => 41,
        "ipv6-route" => 43,
        "ipv6-frag" => 44,
        "rsvp" => 46,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => ip_proto::ICMPV6,
        "ipv6-nonxt" => 59,
        "ipv6-opts" => 60,
        "ospf" => 89,
        "vrrp" => 112,
        "pgm" => 113,
        "sctp" => ip_proto::SCTP,
        "udplite" => 136,
        number => number.parse().map_err(|_| ())?,
    }))
}

struct Tables {
    rules: u8,
    commit: u8,
    set: u8,
}

fn tables(d: Direction) -> Tables {
    match d {
        Direction::Egress => Tables {
            rules: table::EGRESS_RULES,
            commit: table::EGRESS_COMMIT,
            set: register::SOURCE_GROUPS,
        },
        Direction::Ingress => Tables {
            rules: table::INGRESS_RULES,
            commit: table::INGRESS_COMMIT,
            set: register::DESTINATION_GROUPS,
        },
    }
}

fn ip(m: Match, e: EtherType) -> Match {
    match e {
        EtherType::Ipv4 => m.ip(),
        EtherType::Ipv6 => m.ipv6(),
    }
}

/// The remote end is in `net`.
fn remote(m: Match, d: Direction, net: IpNet) -> Match {
    match (d, net) {
        (Direction::Egress, IpNet::V4(n)) => m.ipv4_dst(n.addr(), n.prefix_len()),
        (Direction::Egress, IpNet::V6(n)) => m.ipv6_dst(n.addr(), n.prefix_len()),
        (Direction::Ingress, IpNet::V4(n)) => m.ipv4_src(n.addr(), n.prefix_len()),
        (Direction::Ingress, IpNet::V6(n)) => m.ipv6_src(n.addr(), n.prefix_len()),
    }
}

fn family(net: &IpNet) -> EtherType {
    match net {
        IpNet::V4(_) => EtherType::Ipv4,
        IpNet::V6(_) => EtherType::Ipv6,
    }
}

/// The matches that together are what a rule says of protocol and ports.
fn said(base: &Match, rule: &SecurityGroupRule) -> Vec<Match> {
    let m = ip(base.clone(), rule.ethertype);
    let Ok(protocol) = protocol_number(rule.protocol.as_deref(), rule.ethertype) else {
        return Vec::new();
    };
    let Some(number) = protocol else {
        return vec![m];
    };
    let m = m.ip_proto(number);
    let (min, max) = (rule.port_range_min, rule.port_range_max);
    let ports = match number {
        ip_proto::TCP => Field::TcpDst,
        ip_proto::UDP => Field::UdpDst,
        ip_proto::SCTP => Field::SctpDst,
        ip_proto::ICMP | ip_proto::ICMPV6 => {
            // For ICMP the two are type and code.
            let v4 = rule.ethertype == EtherType::Ipv4;
            let (kind, code) = match number {
                ip_proto::ICMP if v4 => (Field::Icmpv4Type, Field::Icmpv4Code),
                ip_proto::ICMPV6 if !v4 => (Field::Icmpv6Type, Field::Icmpv6Code),
                _ => return vec![m],
            };
            let Some(t) = min else { return vec![m] };
            let m = m.with(kind, t as u8);
            return vec![match max {
                Some(c) => m.with(code, c as u8),
                None => m,
            }];
        }
        _ => return vec![m],
    };
    let (low, high) = match (min, max) {
        (None, None) => return vec![m],
        (low, high) => (low.unwrap_or(0), high.unwrap_or(u16::MAX)),
    };
    let masks = port_masks(low, high).into_iter();
    masks
        .map(|(value, mask)| m.clone().with_masked(ports, value, mask))
        .collect()
}

/// Whether a rule leaves only its remote end to be checked.
fn every_protocol(rule: &SecurityGroupRule) -> bool {
    protocol_number(rule.protocol.as_deref(), rule.ethertype) == Ok(None)
}

fn group_rules<'a>(s: &'a State, set: &'a GroupSet) -> impl Iterator<Item = &'a SecurityGroupRule> {
    let groups = set.iter().filter_map(|g| s.topology.security_groups.get(g));
    groups.flat_map(|g| &g.rules)
}

/// The rules of a set.
pub(super) fn rules(s: &State, set: &Arc<GroupSet>, out: &mut Out) {
    let (Some(_), Some(number)) = (s.sets.get(set), s.numbers.sets.get(set)) else {
        return;
    };
    let mut conjunctions = BTreeSet::new();
    for rule in group_rules(s, set) {
        let t = tables(rule.direction);
        let allow = || vec![Action::resubmit(t.commit)];
        let base = Match::new().reg(t.set, number);
        match (rule_remote(rule), rule.remote_ip_prefix) {
            (None, None) => {
                for m in said(&base, rule) {
                    out.flow(t.rules, ALONE, m, allow());
                }
            }
            (None, Some(net)) if family(&net) == rule.ethertype => {
                for m in said(&base, rule) {
                    out.flow(t.rules, ALONE, remote(m, rule.direction, net.trunc()), allow());
                }
            }
            (None, Some(_)) => {}
            (Some(of), _) => {
                let key = (GroupSet::clone(set), rule.direction, of);
                let Some(id) = s.numbers.conjunctions.get(&key) else {
                    continue;
                };
                if let Remote::Addresses(a) = of {
                    let addresses = s.topology.address_groups.get(&a).into_iter().flat_map(|a| &a.addresses);
                    for net in addresses.filter(|n| family(n) == rule.ethertype) {
                        let m = remote(ip(base.clone(), rule.ethertype), rule.direction, net.trunc());
                        if every_protocol(rule) {
                            out.flow(t.rules, ALONE, m, allow());
                        } else {
                            out.conjunction(t.rules, TOGETHER, m, vec![(id, 1, 2)]);
                        }
                    }
                }
                if !every_protocol(rule) {
                    for m in said(&base, rule) {
                        out.conjunction(t.rules, TOGETHER, m, vec![(id, 2, 2)]);
                    }
                    conjunctions.insert((t.rules, t.commit, id));
                }
            }
        }
    }
    for (rules, commit, id) in conjunctions {
        let both = Match::new().with(Field::ConjId, id);
        out.flow(rules, TOGETHER, both, vec![Action::resubmit(commit)]);
    }
}

/// A port's addresses as members of the groups that a set's rules name.
pub(super) fn member(s: &State, set: &Arc<GroupSet>, id: PortId, out: &mut Out) {
    let (Some(uses), Some(number)) = (s.sets.get(set), s.numbers.sets.get(set)) else {
        return;
    };
    let Some(port) = s.topology.ports.get(&id) else {
        return;
    };
    let groups: Vec<_> = port.security_groups.intersection(&uses.remotes).copied().collect();
    if groups.is_empty() {
        return;
    }
    let fixed = port.fixed_ips.iter().map(|ip| IpNet::from(ip.address));
    let pairs = port.allowed_address_pairs.iter().map(|p| p.address.trunc());
    let addresses: BTreeSet<IpNet> = fixed.chain(pairs).collect();
    let mut done = BTreeSet::new();
    for rule in group_rules(s, set) {
        let Some(group) = rule.remote_group.filter(|g| groups.contains(g)) else {
            continue;
        };
        let alone = every_protocol(rule);
        if !done.insert((rule.direction, rule.ethertype, group, alone)) {
            continue;
        }
        let key = (GroupSet::clone(set), rule.direction, Remote::Group(group));
        let Some(conjunction) = s.numbers.conjunctions.get(&key) else {
            continue;
        };
        let t = tables(rule.direction);
        for net in addresses.iter().filter(|n| family(n) == rule.ethertype) {
            let m = ip(Match::new().reg(t.set, number), rule.ethertype);
            let m = remote(m, rule.direction, *net);
            if alone {
                out.flow(t.rules, ALONE, m, vec![Action::resubmit(t.commit)]);
            } else {
                out.conjunction(t.rules, TOGETHER, m, vec![(conjunction, 1, 2)]);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rule(protocol: Option<&str>, ethertype: EtherType, min: Option<u16>, max: Option<u16>) -> SecurityGroupRule {
        SecurityGroupRule {
            direction: Direction::Ingress,
            ethertype,
            protocol: protocol.map(Into::into),
            port_range_min: min,
            port_range_max: max,
            remote_ip_prefix: None,
            remote_group: None,
            remote_address_group: None,
        }
    }

    #[test]
    fn rules_match_what_they_say() {
        let show =
            |r: SecurityGroupRule| -> Vec<String> { said(&Match::new(), &r).iter().map(ToString::to_string).collect() };
        let (v4, v6) = (EtherType::Ipv4, EtherType::Ipv6);
        assert_eq!(show(rule(None, v4, None, None)), ["ip"]);
        assert_eq!(show(rule(Some("any"), v6, None, None)), ["ipv6"]);
        assert_eq!(show(rule(Some("tcp"), v4, Some(22), Some(22))), ["tcp,tcp_dst=22"]);
        assert_eq!(show(rule(Some("6"), v6, Some(22), Some(22))), ["tcp6,tcp_dst=22"]);
        assert_eq!(show(rule(Some("udp"), v4, None, None)), ["udp"]);
        assert_eq!(
            show(rule(Some("icmp"), v4, Some(8), Some(0))),
            ["icmp,icmp_type=8,icmp_code=0"]
        );
        assert_eq!(show(rule(Some("icmp"), v6, Some(128), None)), ["icmp6,icmpv6_type=128"]);
        assert_eq!(show(rule(Some("vrrp"), v4, None, None)), ["ip,nw_proto=112"]);
        assert_eq!(
            show(rule(Some("tcp"), v4, Some(80), Some(83))),
            ["tcp,tcp_dst=0x50/0xfffc"]
        );
        assert!(show(rule(Some("nonsense"), v4, None, None)).is_empty());
    }
}
