//! The flows of each piece of a topology.

mod base;
mod groups;
mod network;
mod port;
mod router;

use crate::flows::{Bridge, Out, Unit};
use crate::pipeline::{register, table};
use crate::state::State;
use crate::topology::{Network, NetworkType};
use openflow::{Action, Field, Match};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use network::serves_dhcp;
pub(crate) use router::{Leg, legs, served};

/// The bridge that the unit's flows are for.
pub(crate) fn bridge_of(unit: &Unit) -> Bridge {
    match unit {
        Unit::Physical(name) => Bridge::Physical(name.clone()),
        _ => Bridge::Integration,
    }
}

/// The physical bridges that are connected.
pub(crate) fn physical_bridges(s: &State) -> impl Iterator<Item = Arc<str>> + use<> {
    let names: BTreeSet<&String> = s.topology.node.bridge_mappings.values().collect();
    let connected: Vec<Arc<str>> = names
        .into_iter()
        .filter(|n| s.ports.patches.contains_key(*n))
        .map(|n| Arc::from(n.as_str()))
        .collect();
    connected.into_iter()
}

/// The flows of a unit; none if what it stands for is gone or down.
pub(crate) fn unit(s: &State, unit: &Unit, out: &mut Out) {
    match unit {
        Unit::Base => base::base(s, out),
        Unit::Physical(name) => network::physical(s, name, out),
        Unit::Network(id) => network::network(s, *id, out),
        Unit::Flood(id) => network::flood(s, *id, out),
        Unit::FloodPiece(id, piece) => network::flood_piece(s, *id, *piece, out),
        Unit::Router(id) => router::router(s, *id, out),
        Unit::FloatingIp(id) => router::floating_ip(s, *id, out),
        Unit::Port(id) => port::port(s, *id, out),
        Unit::Groups(set) => groups::rules(s, set, out),
        Unit::Member(set, id) => groups::member(s, set, *id, out),
        Unit::Neighbor(network, address) => router::neighbor(s, *network, *address, out),
    }
}

/// A match on the network in which the packet is.
fn in_network(tag: u32) -> Match {
    Match::new().reg(register::NETWORK, tag)
}

/// A match on the next hop, in `NEIGHBOR`.
fn next_hop(tag: u32, address: IpAddr) -> Match {
    match address {
        IpAddr::V4(a) => in_network(tag).ip().reg(register::NEXT_HOP, a.into()),
        IpAddr::V6(a) => in_network(tag).ipv6().with(Field::XxReg3, a),
    }
}

/// The next hop `address` of network `tag` is at `mac`.
fn neighbor_flow(out: &mut Out, priority: u16, tag: u32, address: IpAddr, mac: openflow::Mac) {
    let actions = vec![
        Action::set(Field::EthDst, mac),
        Action::CtClear,
        Action::resubmit(table::L2),
    ];
    out.flow(table::NEIGHBOR, priority, next_hop(tag, address), actions);
}

/// Sends a packet into the physical network, and leaves it as it was for what comes after.
fn to_wire(s: &State, n: &Network) -> Vec<Action> {
    match (n.kind, s.patch(n), n.segmentation_id) {
        (NetworkType::Flat, Some(patch), _) => vec![Action::output(patch.integration)],
        (NetworkType::Vlan, Some(patch), Some(vlan)) => vec![
            Action::PushVlan(0x8100),
            Action::set(Field::VlanVid, 0x1000 | (vlan as u16 & 0xfff)),
            Action::output(patch.integration),
            Action::PopVlan,
        ],
        _ => Vec::new(),
    }
}

/// Sends a packet through a tunnel to `endpoint`.
fn to_node(s: &State, n: &Network, endpoint: IpAddr) -> Vec<Action> {
    let (Some(port), Some(key)) = (s.ports.tunnels.get(&n.kind), n.segmentation_id) else {
        return Vec::new();
    };
    let to = match endpoint {
        IpAddr::V4(a) => Action::set(Field::TunDst, a),
        IpAddr::V6(a) => Action::set(Field::TunIpv6Dst, a),
    };
    vec![Action::set(Field::TunId, u64::from(key)), to, Action::output(*port)]
}
