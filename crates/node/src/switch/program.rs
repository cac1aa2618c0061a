//! What a bridge should hold, what it was given, and the difference.

use openflow::{Action, Change, Flow, FlowStats, Group, GroupType, Match, Meter, MeterCommand};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Everything that a bridge should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Flows.
    pub flows: BTreeSet<Flow>,
    /// Groups by their number.
    pub groups: BTreeMap<u32, Group>,
    /// Meters by their number.
    pub meters: BTreeMap<u32, Meter>,
}

impl FromIterator<Flow> for Program {
    fn from_iter<I: IntoIterator<Item = Flow>>(flows: I) -> Program {
        Program {
            flows: flows.into_iter().collect(),
            ..Program::default()
        }
    }
}

impl Program {
    /// Takes out the flow with the same table, priority and match.
    fn take(&mut self, f: &Flow) -> Option<Flow> {
        let lowest = Flow {
            cookie: 0,
            actions: Vec::new(),
            matches: f.matches.clone(),
            ..*f
        };
        let found = self
            .flows
            .range(lowest..)
            .next()
            .filter(|x| x.key() == f.key())
            .cloned()?;
        self.flows.take(&found)
    }

    /// Takes flows out and puts others in, each in the place of the one with the same table, priority and match. Says
    /// which went and which came.
    pub(super) fn update(&mut self, remove: &[Flow], add: &[Flow]) -> (Vec<Flow>, Vec<Flow>) {
        let mut gone: Vec<Flow> = remove.iter().filter_map(|f| self.take(f)).collect();
        for f in add {
            gone.extend(self.take(f));
            self.flows.insert(f.clone());
        }
        let before: HashSet<&Flow> = gone.iter().collect();
        let come: Vec<Flow> = add.iter().filter(|f| !before.contains(f)).cloned().collect();
        gone.retain(|f| !self.flows.contains(f));
        (gone, come)
    }
}

/// Table, priority and conditions.
pub(super) type Key = (u8, u16, Match);

pub(super) fn key(f: &Flow) -> Key {
    (f.table, f.priority, f.matches.clone())
}

/// What is to be done to a switch.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Before the bundle.
    pub meters_first: Vec<(MeterCommand, Meter)>,
    /// All at once.
    pub bundle: Vec<Change>,
    /// After the bundle, when nothing points to them any more.
    pub meters_last: Vec<Meter>,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.meters_first.is_empty() && self.bundle.is_empty() && self.meters_last.is_empty()
    }

    /// Flows that are added or changed, flows that go.
    pub fn counts(&self) -> (usize, usize) {
        let count = |f: fn(&Change) -> bool| self.bundle.iter().filter(|c| f(c)).count();
        (
            count(|c| matches!(c, Change::Add(_))),
            count(|c| matches!(c, Change::Delete { .. } | Change::DeleteUnread { .. })),
        )
    }
}

/// From flows that went and came, both as they were asked for, to changes. A flow whose actions changed is in both and becomes one
/// addition, which takes the old one's place without a gap.
fn flow_changes<'a>(gone: impl Iterator<Item = &'a Flow>, come: impl Iterator<Item = &'a Flow>) -> Vec<Change> {
    let added: Vec<Flow> = come.map(Flow::canonical).collect();
    let keys: HashSet<Key> = added.iter().map(key).collect();
    let mut out: Vec<Change> = gone
        .map(Flow::canonical)
        .filter(|f| !keys.contains(&key(f)))
        .map(|f| Change::Delete {
            table: f.table,
            priority: f.priority,
            matches: f.matches,
        })
        .collect();
    out.extend(added.into_iter().map(Change::Add));
    out
}

/// From what a switch was given to what it should hold.
pub(super) fn difference(old: &Program, new: &Program) -> Difference {
    let flows = flow_changes(old.flows.difference(&new.flows), new.flows.difference(&old.flows));
    around(flows, (&old.groups, &old.meters), (&new.groups, &new.meters))
}

/// From flows that are taken away and added.
pub(super) fn delta(gone: &[Flow], come: &[Flow]) -> Difference {
    Difference {
        bundle: flow_changes(gone.iter(), come.iter()),
        ..Difference::default()
    }
}

type Others<'a> = (&'a BTreeMap<u32, Group>, &'a BTreeMap<u32, Meter>);

/// Groups come before the flows that point to them, and go after.
fn around(flows: Vec<Change>, (old_groups, old_meters): Others<'_>, (groups, meters): Others<'_>) -> Difference {
    let mut d = Difference::default();
    for (id, m) in meters {
        match old_meters.get(id) {
            Some(old) if old == m => {}
            Some(_) => d.meters_first.push((MeterCommand::Modify, *m)),
            None => d.meters_first.push((MeterCommand::Add, *m)),
        }
    }
    d.meters_last = old_meters
        .values()
        .filter(|m| !meters.contains_key(&m.id))
        .copied()
        .collect();
    for (id, g) in groups {
        match old_groups.get(id) {
            Some(old) if same_group(old, g) => {}
            Some(_) => d.bundle.push(Change::ModifyGroup(g.clone())),
            None => d.bundle.push(Change::AddGroup(g.clone())),
        }
    }
    d.bundle.extend(flows);
    d.bundle.extend(
        old_groups
            .keys()
            .filter(|id| !groups.contains_key(id))
            .map(|id| Change::DeleteGroup(*id)),
    );
    d
}

fn same_group(a: &Group, b: &Group) -> bool {
    let actions = |actions: &[Action]| Flow::new(0, 0, Match::new(), actions.to_vec()).canonical().actions;
    // Only select groups have weights; the switch reports 0 for the others.
    let weighted = a.kind == GroupType::Select;
    let same_weight = |x: u16, y: u16| !weighted || x == y;
    a.kind == b.kind
        && a.buckets.len() == b.buckets.len()
        && a.buckets
            .iter()
            .zip(&b.buckets)
            .all(|(x, y)| same_weight(x.weight, y.weight) && actions(&x.actions) == actions(&y.actions))
}

/// Forms in which a switch insists on reporting a flow, other than we would write it.
pub(super) type Accepted = HashMap<Key, Vec<Action>>;

/// What a switch says it holds.
pub(super) struct Reported {
    pub flows: Vec<FlowStats>,
    pub groups: Vec<Group>,
    pub meters: Vec<Meter>,
}

/// From what a switch says it holds to what it should hold: missing flows come, foreign ones go, changed ones are put right.
/// Flows in `refused` are not tried again. Also yields the flows that are there, but with other actions.
pub(super) fn repair(
    reported: Reported,
    want: &Program,
    refused: &HashSet<Flow>,
    accepted: &Accepted,
) -> (Difference, Vec<(Key, Vec<Action>)>) {
    let mut missing: HashMap<Key, Flow> = want
        .flows
        .iter()
        .filter(|f| !refused.contains(*f))
        .map(Flow::canonical)
        .map(|f| (key(&f), f))
        .collect();
    let (mut deletions, mut additions, mut differing) = (Vec::new(), Vec::new(), Vec::new());
    for s in reported.flows {
        let Some(matches) = s.matches else {
            deletions.push(Change::DeleteUnread {
                table: s.table,
                priority: s.priority,
                matches: s.unread,
            });
            continue;
        };
        let key = (s.table, s.priority, matches);
        let Some(flow) = missing.remove(&key) else {
            let (table, priority, matches) = key;
            deletions.push(Change::Delete {
                table,
                priority,
                matches,
            });
            continue;
        };
        let actions = s.actions.unwrap_or_default();
        let same = actions == flow.actions || accepted.get(&key) == Some(&actions);
        if !same {
            differing.push((key, actions));
        }
        if !same || s.cookie != flow.cookie || s.timeouts {
            additions.push(Change::Add(flow));
        }
    }
    let mut rest: Vec<Flow> = missing.into_values().collect();
    rest.sort_unstable();
    deletions.append(&mut additions);
    deletions.extend(rest.into_iter().map(Change::Add));
    let groups = reported.groups.into_iter().map(|g| (g.id, g)).collect();
    let meters = reported.meters.into_iter().map(|m| (m.id, m)).collect();
    (
        around(deletions, (&groups, &meters), (&want.groups, &want.meters)),
        differing,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::Bucket;

    fn flow(priority: u16, port: u32) -> Flow {
        Flow::new(0, priority, Match::new().in_port(1), vec![Action::output(port)])
    }

    fn stats(f: &Flow) -> FlowStats {
        FlowStats {
            table: f.table,
            priority: f.priority,
            cookie: f.cookie,
            timeouts: false,
            packets: 0,
            bytes: 0,
            matches: Some(f.matches.clone()),
            unread: Vec::new(),
            actions: Some(f.actions.clone()),
        }
    }

    #[test]
    fn only_what_differs_is_sent() {
        let old: Program = [flow(1, 1), flow(2, 1), flow(3, 1)].into_iter().collect();
        let new: Program = [flow(1, 1), flow(2, 9), flow(4, 1)].into_iter().collect();
        let d = difference(&old, &new);
        let gone = flow(3, 1);
        assert_eq!(
            d.bundle,
            [
                Change::Delete {
                    table: 0,
                    priority: 3,
                    matches: gone.matches
                },
                Change::Add(flow(2, 9)),
                Change::Add(flow(4, 1))
            ]
        );
        assert_eq!(d.counts(), (2, 1));
        assert!(difference(&new, &new).is_empty());
    }

    #[test]
    fn flows_take_the_place_of_those_with_the_same_key() {
        let mut p: Program = [flow(1, 1), flow(2, 1), flow(3, 1)].into_iter().collect();
        // 1 changes, 2 stays, 3 goes by its key whatever else it says, 4 is new, 9 never was.
        let (gone, come) = p.update(&[flow(3, 77), flow(9, 1)], &[flow(1, 5), flow(2, 1), flow(4, 1)]);
        assert_eq!(
            (gone.as_slice(), come.as_slice()),
            ([flow(3, 1), flow(1, 1)].as_slice(), [flow(1, 5), flow(4, 1)].as_slice())
        );
        assert_eq!(p.flows, BTreeSet::from([flow(1, 5), flow(2, 1), flow(4, 1)]));
        assert_eq!(delta(&gone, &come).counts(), (2, 1));
        // Taken away and added again in one breath: it stays.
        let (gone, come) = p.update(&[flow(2, 1)], &[flow(2, 1)]);
        assert!(delta(&gone, &come).is_empty());
        assert_eq!(p.flows.len(), 3);
    }

    #[test]
    fn groups_and_meters_come_before_the_flows_that_need_them_and_go_after() {
        let group = Group {
            id: 5,
            kind: GroupType::All,
            buckets: vec![Bucket {
                weight: 0,
                actions: vec![Action::output(1)],
            }],
        };
        let meter = Meter {
            id: 2,
            rate: 100,
            burst: 0,
            packets: false,
        };
        let flow = Flow::new(0, 1, Match::new(), vec![Action::Meter(2), Action::Group(5)]);
        let empty = Program::default();
        let full = Program {
            flows: [flow.clone()].into(),
            groups: [(5, group.clone())].into(),
            meters: [(2, meter)].into(),
        };
        let up = difference(&empty, &full);
        assert_eq!(
            (up.meters_first.as_slice(), up.meters_last.len()),
            ([(MeterCommand::Add, meter)].as_slice(), 0)
        );
        assert_eq!(up.bundle, [Change::AddGroup(group), Change::Add(flow)]);
        let down = difference(&full, &empty);
        assert!(matches!(
            down.bundle.as_slice(),
            [Change::Delete { .. }, Change::DeleteGroup(5)]
        ));
        assert_eq!((down.meters_first.len(), down.meters_last), (0, vec![meter]));
    }

    #[test]
    fn a_switch_is_brought_to_what_it_should_hold() {
        let want: Program = [flow(1, 1), flow(2, 1), flow(3, 1)].into_iter().collect();
        let unread = FlowStats {
            matches: None,
            unread: vec![1, 2, 3, 0],
            ..stats(&flow(9, 1))
        };
        let held = || {
            vec![
                stats(&flow(1, 1)),
                stats(&flow(2, 7)),
                stats(&flow(8, 1)),
                unread.clone(),
            ]
        };
        let reported = |flows| Reported {
            flows,
            groups: Vec::new(),
            meters: Vec::new(),
        };
        let (d, differing) = repair(reported(held()), &want, &HashSet::new(), &Accepted::new());
        assert_eq!(d.counts(), (2, 2));
        assert_eq!(&d.bundle[2..], [Change::Add(flow(2, 1)), Change::Add(flow(3, 1))]);
        assert_eq!(differing, [(key(&flow(2, 7)), flow(2, 7).actions)]);

        // A refused flow is not tried again; a form that the switch insists on is left alone.
        let refused = HashSet::from([flow(3, 1)]);
        let (d, _) = repair(reported(held()), &want, &refused, &differing.into_iter().collect());
        assert_eq!(d.counts(), (0, 2));
    }
}
