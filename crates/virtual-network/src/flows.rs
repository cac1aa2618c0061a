//! The flows that are wanted, each with the parts of the topology that want it.
//!
//! The compiler's pieces ([`Unit`]) contribute flows. Several may contribute to the same one: the dimensions of conjunctive matches
//! add up; otherwise the smallest unit wins, so the result does not depend on the order of events.

use crate::numbers::GroupSet;
use crate::topology::{FloatingIpId, NetworkId, PortId, RouterId};
use openflow::{Action, Flow, Match};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A bridge.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Bridge {
    /// The one the guests are at (`br-int`).
    Integration,
    /// One that leads to physical networks, by its name.
    Physical(Arc<str>),
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bridge::Integration => "the integration bridge",
            Bridge::Physical(name) => name,
        })
    }
}

/// Every flow that should be, by bridge. A bridge that is known is there even if it has none.
pub type Flows = BTreeMap<Bridge, Vec<Flow>>;

/// What to do to one bridge, in one bundle.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BridgeDiff {
    /// To be added; replaces the flow of the same table, priority and match.
    pub add: Vec<Flow>,
    /// To be deleted, strictly.
    pub remove: Vec<Flow>,
}

/// What to do so that the switch holds what should be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowDiff {
    /// By bridge; only those that change.
    pub bridges: BTreeMap<Bridge, BridgeDiff>,
    /// Conntrack zones to be flushed before the flows are applied: they were given to a new owner, or lost theirs.
    pub flush_zones: BTreeSet<u16>,
    /// Connections to be forgotten after the flows are applied.
    pub flush_connections: BTreeSet<Connections>,
}

/// Connections whose address translation ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Connections {
    /// Those in `zone` that were first sent to `address`.
    To {
        /// Zone.
        zone: u16,
        /// Original destination.
        address: IpAddr,
    },
    /// Those in `zone` that were first sent from `address`.
    From {
        /// Zone.
        zone: u16,
        /// Original source.
        address: IpAddr,
    },
}

impl FlowDiff {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.bridges.is_empty() && self.flush_zones.is_empty() && self.flush_connections.is_empty()
    }
}

/// A piece of the topology whose flows are made together.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Unit {
    /// What does not depend on any network.
    Base,
    /// The flows of a physical bridge.
    Physical(Arc<str>),
    Network(NetworkId),
    /// Where a network's floods begin.
    Flood(NetworkId),
    /// Up to 256 ports of a flood list.
    FloodPiece(NetworkId, u32),
    Router(RouterId),
    FloatingIp(FloatingIpId),
    Port(PortId),
    /// The rules of a set of security groups.
    Groups(Arc<GroupSet>),
    /// A port's addresses as members of groups that the rules of a set name.
    Member(Arc<GroupSet>, PortId),
    Neighbor(NetworkId, IpAddr),
}

/// What a unit wants of a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Actions(Vec<Action>),
    /// Conjunction: id, clause, number of clauses.
    Conjunctions(Vec<(u32, u8, u8)>),
}

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    bridge: Bridge,
    table: u8,
    priority: u16,
    matches: Match,
}

/// Contributions of one unit.
pub(crate) struct Out {
    bridge: Bridge,
    parts: Vec<(Key, Part)>,
}

impl Out {
    pub(crate) fn new(bridge: Bridge) -> Out {
        Out {
            bridge,
            parts: Vec::new(),
        }
    }

    /// Adds a flow.
    pub(crate) fn flow(&mut self, table: u8, priority: u16, matches: Match, actions: Vec<Action>) {
        self.part(table, priority, matches, Part::Actions(actions));
    }

    /// Adds dimensions of conjunctions.
    pub(crate) fn conjunction(&mut self, table: u8, priority: u16, matches: Match, of: Vec<(u32, u8, u8)>) {
        self.part(table, priority, matches, Part::Conjunctions(of));
    }

    fn part(&mut self, table: u8, priority: u16, matches: Match, part: Part) {
        let bridge = self.bridge.clone();
        self.parts.push((
            Key {
                bridge,
                table,
                priority,
                matches,
            },
            part,
        ));
    }
}

struct Slot {
    first: (Unit, Part),
    rest: Vec<(Unit, Part)>,
}

impl Slot {
    fn actions(&self) -> Vec<Action> {
        let all = std::iter::once(&self.first).chain(&self.rest);
        let fixed = all.clone().filter_map(|(u, p)| match p {
            Part::Actions(a) => Some((u, a)),
            Part::Conjunctions(_) => None,
        });
        if let Some((_, actions)) = fixed.min_by(|a, b| a.cmp(b)) {
            return actions.clone();
        }
        let dimensions: BTreeSet<(u32, u8, u8)> = all
            .flat_map(|(_, p)| match p {
                Part::Conjunctions(c) => c.as_slice(),
                Part::Actions(_) => &[],
            })
            .copied()
            .collect();
        let conjunction = |(id, clause, n)| Action::Conjunction { id, clause, n };
        dimensions.into_iter().map(conjunction).collect()
    }
}

/// All contributions.
#[derive(Default)]
pub(crate) struct Store {
    slots: HashMap<Arc<Key>, Slot>,
    units: HashMap<Unit, Vec<Arc<Key>>>,
    /// What flows were before the changes that [`Store::diff`] will tell; `None` for those that were not.
    before: HashMap<Arc<Key>, Option<Vec<Action>>>,
}

impl Store {
    fn remember(&mut self, key: &Arc<Key>) {
        if !self.before.contains_key(key) {
            let was = self.slots.get(key).map(Slot::actions);
            self.before.insert(key.clone(), was);
        }
    }

    /// Replaces all that `unit` contributes.
    pub(crate) fn set(&mut self, unit: Unit, out: Out) {
        for key in self.units.remove(&unit).unwrap_or_default() {
            self.remember(&key);
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.rest.retain(|(u, _)| *u != unit);
                if slot.first.0 == unit {
                    match slot.rest.pop() {
                        Some(other) => slot.first = other,
                        None => {
                            self.slots.remove(&key);
                        }
                    }
                }
            }
        }
        let mut keys = Vec::with_capacity(out.parts.len());
        for (key, part) in out.parts {
            let key = match self.slots.get_key_value(&key) {
                Some((k, _)) => k.clone(),
                None => Arc::new(key),
            };
            self.remember(&key);
            match self.slots.get_mut(&key) {
                Some(slot) => slot.rest.push((unit.clone(), part)),
                None => {
                    let slot = Slot {
                        first: (unit.clone(), part),
                        rest: Vec::new(),
                    };
                    self.slots.insert(key.clone(), slot);
                }
            }
            keys.push(key);
        }
        if !keys.is_empty() {
            self.units.insert(unit, keys);
        }
    }

    /// Whether the unit contributes something.
    pub(crate) fn has(&self, unit: &Unit) -> bool {
        self.units.contains_key(unit)
    }

    /// The units that contribute something.
    pub(crate) fn units(&self) -> impl Iterator<Item = &Unit> {
        self.units.keys()
    }

    /// What changed since this was asked last.
    pub(crate) fn diff(&mut self) -> BTreeMap<Bridge, BridgeDiff> {
        let mut out: BTreeMap<Bridge, BridgeDiff> = BTreeMap::new();
        for (key, was) in std::mem::take(&mut self.before) {
            let is = self.slots.get(&key).map(Slot::actions);
            if is == was {
                continue;
            }
            let flow = |actions| Flow::new(key.table, key.priority, key.matches.clone(), actions);
            let diff = out.entry(key.bridge.clone()).or_default();
            match (is, was) {
                (Some(actions), _) => diff.add.push(flow(actions)),
                (None, Some(actions)) => diff.remove.push(flow(actions)),
                (None, None) => {}
            }
        }
        out
    }

    /// Everything.
    pub(crate) fn flows(&self) -> Flows {
        let mut out = Flows::new();
        for (key, slot) in &self.slots {
            let flow = Flow::new(key.table, key.priority, key.matches.clone(), slot.actions());
            match out.get_mut(&key.bridge) {
                Some(flows) => flows.push(flow),
                None => {
                    out.insert(key.bridge.clone(), vec![flow]);
                }
            }
        }
        out
    }
}
