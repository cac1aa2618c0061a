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
    key: Arc<Key>,
    /// Who wants it; nobody between the removal of one and the coming of another.
    parts: Vec<(Unit, Part)>,
    /// What it was before the changes that [`Store::diff`] will tell, if it changed since.
    before: Option<Option<Vec<Action>>>,
}

impl Slot {
    /// What the flow does; none if nobody wants it.
    fn actions(&self) -> Option<Vec<Action>> {
        if let [(_, Part::Actions(only))] = self.parts.as_slice() {
            return Some(only.clone());
        }
        if self.parts.is_empty() {
            return None;
        }
        let fixed = self.parts.iter().filter_map(|(u, p)| match p {
            Part::Actions(a) => Some((u, a)),
            Part::Conjunctions(_) => None,
        });
        if let Some((_, actions)) = fixed.min() {
            return Some(actions.clone());
        }
        let dimensions: BTreeSet<(u32, u8, u8)> = self
            .parts
            .iter()
            .flat_map(|(_, p)| match p {
                Part::Conjunctions(c) => c.as_slice(),
                Part::Actions(_) => &[],
            })
            .copied()
            .collect();
        let conjunction = |(id, clause, n)| Action::Conjunction { id, clause, n };
        Some(dimensions.into_iter().map(conjunction).collect())
    }

    fn flow(&self, actions: Vec<Action>) -> Flow {
        Flow::new(self.key.table, self.key.priority, self.key.matches.clone(), actions)
    }
}

/// All contributions. A slot is found by hashing once; everything else goes by its number.
#[derive(Default)]
pub(crate) struct Store {
    slots: Vec<Slot>,
    free: Vec<usize>,
    index: HashMap<Arc<Key>, usize, foldhash::fast::RandomState>,
    units: HashMap<Unit, Vec<usize>>,
    touched: Vec<usize>,
}

impl Store {
    fn touch(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if slot.before.is_none() {
            slot.before = Some(slot.actions());
            self.touched.push(at);
        }
    }

    fn slot(&mut self, key: Key) -> usize {
        if let Some(at) = self.index.get(&key) {
            return *at;
        }
        let key = Arc::new(key);
        let slot = Slot {
            key: key.clone(),
            parts: Vec::with_capacity(1),
            before: None,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.index.insert(key, at);
        at
    }

    /// Replaces all that `unit` contributes.
    pub(crate) fn set(&mut self, unit: Unit, out: Out) {
        for at in self.units.remove(&unit).unwrap_or_default() {
            self.touch(at);
            self.slots[at].parts.retain(|(u, _)| *u != unit);
        }
        let mut mine = Vec::with_capacity(out.parts.len());
        for (key, part) in out.parts {
            let at = self.slot(key);
            self.touch(at);
            self.slots[at].parts.push((unit.clone(), part));
            mine.push(at);
        }
        if !mine.is_empty() {
            self.units.insert(unit, mine);
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
        for at in std::mem::take(&mut self.touched) {
            let slot = &mut self.slots[at];
            let (was, is) = (slot.before.take().flatten(), slot.actions());
            if is.is_none() {
                self.index.remove(&slot.key);
                self.free.push(at);
            }
            if is == was {
                continue;
            }
            let diff = match out.get_mut(&slot.key.bridge) {
                Some(diff) => diff,
                None => out.entry(slot.key.bridge.clone()).or_default(),
            };
            match (is, was) {
                (Some(actions), _) => diff.add.push(slot.flow(actions)),
                (None, Some(actions)) => diff.remove.push(slot.flow(actions)),
                (None, None) => {}
            }
        }
        out
    }

    /// Everything.
    pub(crate) fn flows(&self) -> Flows {
        let mut out = Flows::new();
        for slot in &self.slots {
            let Some(actions) = slot.actions() else {
                continue;
            };
            match out.get_mut(&slot.key.bridge) {
                Some(flows) => flows.push(slot.flow(actions)),
                None => {
                    out.insert(slot.key.bridge.clone(), vec![slot.flow(actions)]);
                }
            }
        }
        out
    }
}
