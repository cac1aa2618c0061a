//! The small numbers that flows need in place of identifiers.
//!
//! They are handed out, lowest free one first, and remembered; hashing would make them stable without memory but could
//! collide, and a collision of conntrack zones would let one tenant's connections pass for another's. The node keeps this object over
//! restarts, so that a zone goes on meaning the same port and established connections survive a restart of the daemon. If it is
//! lost nothing breaks: every zone is flushed when it is handed out.

use crate::topology::{AddressGroupId, Direction, NetworkId, PortId, RouterId, SecurityGroupId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

/// Numbers of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    from = "Vec<(K, u32)>",
    into = "Vec<(K, u32)>",
    bound(
        serialize = "K: Serialize + Clone + Eq + Hash + Ord",
        deserialize = "K: Deserialize<'de> + Eq + Hash + Clone"
    )
)]
pub(crate) struct Pool<K: Eq + Hash> {
    numbers: HashMap<K, u32>,
    free: BTreeSet<u32>,
    next: u32,
}

impl<K: Eq + Hash> Default for Pool<K> {
    fn default() -> Self {
        Pool {
            numbers: HashMap::new(),
            free: BTreeSet::new(),
            next: 1,
        }
    }
}

impl<K: Eq + Hash + Clone> From<Vec<(K, u32)>> for Pool<K> {
    /// A number that occurs twice stays with the first key.
    fn from(pairs: Vec<(K, u32)>) -> Self {
        let mut seen = BTreeSet::new();
        let numbers: HashMap<K, u32> = pairs.into_iter().filter(|(_, n)| *n > 0 && seen.insert(*n)).collect();
        let used: BTreeSet<u32> = numbers.values().copied().collect();
        let next = used.last().map_or(1, |n| n + 1);
        Pool {
            free: (1..next).filter(|n| !used.contains(n)).collect(),
            numbers,
            next,
        }
    }
}

impl<K: Eq + Hash + Ord> From<Pool<K>> for Vec<(K, u32)> {
    fn from(pool: Pool<K>) -> Self {
        let mut pairs: Vec<_> = pool.numbers.into_iter().collect();
        pairs.sort_by_key(|p| p.1);
        pairs
    }
}

impl<K: Eq + Hash + Clone> Pool<K> {
    pub(crate) fn get(&self, key: &K) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The number of `key`, and whether it is new. `None` if all up to `max` are taken.
    pub(crate) fn take(&mut self, key: &K, max: u32) -> Option<(u32, bool)> {
        if let Some(n) = self.numbers.get(key) {
            return Some((*n, false));
        }
        let n = match self.free.pop_first() {
            Some(n) => n,
            None if self.next <= max => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.numbers.insert(key.clone(), n);
        Some((n, true))
    }

    /// Gives the number of `key` back.
    pub(crate) fn release(&mut self, key: &K) -> Option<u32> {
        let n = self.numbers.remove(key)?;
        self.free.insert(n);
        while self.next > 1 && self.free.remove(&(self.next - 1)) {
            self.next -= 1;
        }
        Some(n)
    }

    /// Gives back what `keep` refuses, and tells the numbers.
    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) -> Vec<u32> {
        let gone: Vec<K> = self.numbers.keys().filter(|k| !keep(k)).cloned().collect();
        gone.iter().filter_map(|k| self.release(k)).collect()
    }
}

/// Who has a conntrack zone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ZoneOwner {
    Port(PortId),
    Router(RouterId),
}

/// Security groups of a port: what all ports with the same ones share.
pub(crate) type GroupSet = BTreeSet<SecurityGroupId>;

/// Addresses a rule can name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Remote {
    Group(SecurityGroupId),
    Addresses(AddressGroupId),
}

/// The numbers handed out so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Numbers {
    pub(crate) networks: Pool<NetworkId>,
    pub(crate) zones: Pool<ZoneOwner>,
    pub(crate) sets: Pool<GroupSet>,
    pub(crate) conjunctions: Pool<(GroupSet, Direction, Remote)>,
    pub(crate) clients: Pool<(PortId, IpAddr)>,
}

/// Conntrack zones have 16 bits.
pub(crate) const MAX_ZONE: u32 = 0xffff;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_unique_and_used_again() {
        let mut p: Pool<&str> = Pool::default();
        assert_eq!(p.take(&"a", 3), Some((1, true)));
        assert_eq!(p.take(&"b", 3), Some((2, true)));
        assert_eq!(p.take(&"a", 3), Some((1, false)));
        assert_eq!(p.take(&"c", 3), Some((3, true)));
        assert_eq!(p.take(&"d", 3), None);
        assert_eq!(p.release(&"a"), Some(1));
        let pairs: Vec<(&str, u32)> = p.clone().into();
        let mut again = Pool::from(pairs);
        assert_eq!(again, p);
        assert_eq!(again.take(&"d", 3), Some((1, true)));
    }

    #[test]
    fn they_survive_json_and_a_number_given_twice_is_not_trusted() {
        let id = |n| PortId(uuid::Uuid::from_u128(n));
        let mut n = Numbers::default();
        n.zones.take(&ZoneOwner::Port(id(1)), MAX_ZONE);
        n.clients.take(&(id(1), IpAddr::from([10, 0, 0, 1])), 9);
        let text = serde_json::to_string(&n).unwrap();
        assert_eq!(serde_json::from_str::<Numbers>(&text).unwrap(), n);
        let p = Pool::from(vec![("a", 2), ("b", 2)]);
        assert_eq!((p.get(&"a"), p.get(&"b")), (Some(2), None));
    }
}
