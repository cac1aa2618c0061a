//! The search for allocation candidates: which combinations of providers can satisfy all groups of a request.
//!
//! The rules are upstream's. A group with a suffix must be satisfied by one provider; the group without one may be spread over a tree and
//! over sharing providers, which lend their inventory to the trees of their aggregates. A candidate belongs to one tree, its anchor.

use std::collections::{BTreeMap, BTreeSet};

use super::request::{Group, Wide};
use super::{Inventory, SHARES_VIA_AGGREGATE};
use crate::error::Error;

/// An inventory and how much of it is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// What there is.
    pub inventory: Inventory,
    /// Sum of all allocations.
    pub used: i64,
}

/// A provider among all providers; others are named by their index.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// UUID.
    pub uuid: String,
    /// Name.
    pub name: String,
    /// Generation.
    pub generation: i64,
    /// The provider above.
    pub parent: Option<usize>,
    /// The top of the tree.
    pub root: usize,
    /// What it has.
    pub inventories: Vec<Room>,
    /// Its traits.
    pub traits: Vec<String>,
    /// Its aggregates.
    pub aggregates: Vec<String>,
}

impl Node {
    /// The inventory of a class.
    pub fn room(&self, class: &str) -> Option<&Room> {
        self.inventories
            .iter()
            .find(|room| room.inventory.resource_class == class)
    }

    fn has_trait(&self, name: &str) -> bool {
        self.traits.iter().any(|have| have == name)
    }

    fn in_any(&self, aggregates: &[String]) -> bool {
        self.aggregates.iter().any(|have| aggregates.contains(have))
    }
}

/// All providers at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cloud {
    /// The providers, oldest first.
    pub nodes: Vec<Node>,
    /// All resource classes, in their order.
    pub classes: Vec<String>,
    /// All traits.
    pub traits: Vec<String>,
}

/// So much of one class from one provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// The provider.
    pub provider: usize,
    /// The class.
    pub class: String,
    /// How much.
    pub amount: i64,
}

/// One way to satisfy the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Root of the tree it belongs to.
    pub anchor: usize,
    /// What is taken from where.
    pub pieces: Vec<Piece>,
    /// Which providers satisfy each group, by suffix.
    pub mappings: BTreeMap<String, BTreeSet<usize>>,
    granular: bool,
}

/// The answer: candidates, and the providers of their trees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Candidates.
    pub candidates: Vec<Candidate>,
    /// Indexes of the providers to summarise.
    pub summaries: Vec<usize>,
}

/// Searches. `nested` is whether the client understands trees (1.29 on).
///
/// # Errors
/// Unknown resource classes and traits.
pub fn search(cloud: &Cloud, groups: &[(String, Group)], wide: &Wide, nested: bool) -> Result<Found, Error> {
    let mut search = Search::new(cloud, wide)?;
    if search.anchors.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(Found::default());
    }
    let mut by_suffix: Vec<(&str, Vec<Candidate>)> = Vec::new();
    for (suffix, group) in groups {
        let candidates = search.group(suffix, group)?;
        if candidates.is_empty() {
            return Ok(Found::default());
        }
        by_suffix.push((suffix, candidates));
    }
    let mut candidates = search.merge(&by_suffix);
    let mut summaries = search.summaries_of(&candidates);
    if !nested && search.has_trees {
        candidates.retain(|candidate| {
            let providers: BTreeSet<usize> = candidate.pieces.iter().map(|piece| piece.provider).collect();
            let roots: BTreeSet<usize> = providers.iter().map(|&at| cloud.nodes[at].root).collect();
            roots.len() == providers.len()
        });
        let kept: BTreeSet<usize> = candidates
            .iter()
            .flat_map(|candidate| candidate.pieces.iter().map(|piece| piece.provider))
            .collect();
        summaries.retain(|at| kept.contains(at));
    }
    if let Some(limit) = wide.limit.filter(|&limit| limit < candidates.len()) {
        candidates.truncate(limit);
        let roots = search.roots_of(&candidates);
        summaries.retain(|&at| roots.contains(&cloud.nodes[at].root));
    }
    Ok(Found { candidates, summaries })
}

struct Search<'a> {
    cloud: &'a Cloud,
    wide: &'a Wide,
    has_trees: bool,
    sharing: BTreeSet<usize>,
    /// Roots that may anchor a candidate; `None` for any.
    anchors: Option<BTreeSet<usize>>,
    /// Trees whose providers are summarised.
    seen_trees: BTreeSet<usize>,
    /// Amounts over all groups, and the classes that several groups ask for.
    totals: BTreeMap<String, i64>,
    shared_classes: BTreeSet<String>,
}

impl<'a> Search<'a> {
    fn new(cloud: &'a Cloud, wide: &'a Wide) -> Result<Search<'a>, Error> {
        for name in wide.root_required.iter().chain(&wide.root_forbidden) {
            known_trait(cloud, name)?;
        }
        let anchors = (!wide.root_required.is_empty() || !wide.root_forbidden.is_empty()).then(|| {
            (0..cloud.nodes.len())
                .filter(|&at| {
                    let node = &cloud.nodes[at];
                    node.parent.is_none()
                        && wide.root_required.iter().all(|name| node.has_trait(name))
                        && !wide.root_forbidden.iter().any(|name| node.has_trait(name))
                })
                .collect()
        });
        Ok(Search {
            cloud,
            wide,
            has_trees: cloud.nodes.iter().any(|node| node.parent.is_some()),
            sharing: (0..cloud.nodes.len())
                .filter(|&at| cloud.nodes[at].has_trait(SHARES_VIA_AGGREGATE))
                .collect(),
            anchors,
            seen_trees: BTreeSet::new(),
            totals: BTreeMap::new(),
            shared_classes: BTreeSet::new(),
        })
    }

    fn anchored(&self, root: usize) -> bool {
        self.anchors.as_ref().is_none_or(|anchors| anchors.contains(&root))
    }

    fn indexes(&self) -> std::ops::Range<usize> {
        0..self.cloud.nodes.len()
    }

    fn group(&mut self, suffix: &str, group: &Group) -> Result<Vec<Candidate>, Error> {
        let cloud = self.cloud;
        for (class, _) in &group.resources {
            if !cloud.classes.contains(class) {
                return Err(Error::ResourceClassNotFound(class.clone()));
            }
        }
        let members = group
            .member_of
            .iter()
            .fold(None::<BTreeSet<usize>>, |found, aggregates| {
                let these = self.indexes().filter(|&at| cloud.nodes[at].in_any(aggregates));
                Some(match found {
                    None => these.collect(),
                    Some(found) => these.filter(|at| found.contains(at)).collect(),
                })
            });
        if members.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(Vec::new());
        }
        for name in group.required_traits.iter().flatten().chain(&group.forbidden_traits) {
            known_trait(cloud, name)?;
        }
        let tree = match &group.in_tree {
            None => None,
            Some(uuid) => match cloud.nodes.iter().find(|node| node.uuid == *uuid) {
                Some(node) => Some(node.root),
                None => return Ok(Vec::new()),
            },
        };
        let mut with_room: Vec<(&str, i64, BTreeSet<usize>)> = Vec::new();
        for (class, amount) in &group.resources {
            let found: BTreeSet<usize> = self
                .indexes()
                .filter(|&at| tree.is_none_or(|root| cloud.nodes[at].root == root))
                .filter(|&at| {
                    cloud.nodes[at]
                        .room(class)
                        .is_some_and(|room| room.inventory.has_room(room.used, *amount))
                })
                .collect();
            if found.is_empty() {
                return Ok(Vec::new());
            }
            with_room.push((class, *amount, found));
        }
        for (class, amount) in &group.resources {
            if self.totals.contains_key(class) {
                self.shared_classes.insert(class.clone());
            }
            *self.totals.entry(class.clone()).or_default() += amount;
        }
        let mut candidates = if suffix.is_empty() && (self.has_trees || !self.sharing.is_empty()) {
            self.spread(suffix, group, &with_room, members.as_ref(), tree)
        } else {
            self.single(suffix, group, &with_room, members.as_ref())
        };
        for candidate in &mut candidates {
            candidate.granular = !suffix.is_empty();
        }
        Ok(candidates)
    }

    /// Candidates of one provider each.
    fn single(
        &mut self,
        suffix: &str,
        group: &Group,
        with_room: &[(&str, i64, BTreeSet<usize>)],
        members: Option<&BTreeSet<usize>>,
    ) -> Vec<Candidate> {
        let nodes = &self.cloud.nodes;
        let filtered = !group.required_traits.is_empty() || members.is_some();
        // A group without resources is matched only by what its traits and aggregates say.
        if with_room.is_empty() && !filtered {
            return Vec::new();
        }
        let providers: Vec<usize> = self
            .indexes()
            .filter(|&at| {
                let node = &nodes[at];
                group
                    .required_traits
                    .iter()
                    .all(|any| any.iter().any(|name| node.has_trait(name)))
                    && members.is_none_or(|members| members.contains(&at))
                    && !node.in_any(&group.forbidden_aggregates)
                    && !group.forbidden_traits.iter().any(|name| node.has_trait(name))
                    && with_room.iter().all(|(_, _, found)| found.contains(&at))
            })
            .collect();
        let mut candidates = Vec::new();
        for provider in providers {
            let root = nodes[provider].root;
            self.seen_trees.insert(root);
            let pieces = with_room
                .iter()
                .map(|(class, amount, _)| Piece {
                    provider,
                    class: (*class).to_owned(),
                    amount: *amount,
                })
                .collect::<Vec<_>>();
            let candidate = Candidate {
                anchor: root,
                pieces,
                mappings: BTreeMap::from([(suffix.to_owned(), BTreeSet::from([provider]))]),
                granular: false,
            };
            if self.sharing.contains(&provider) {
                for anchor in self.anchors_of_sharing(provider) {
                    if anchor != root && self.anchored(anchor) {
                        candidates.push(Candidate {
                            anchor,
                            ..candidate.clone()
                        });
                    }
                }
            }
            if self.anchored(root) {
                candidates.push(candidate);
            }
        }
        candidates
    }

    /// Roots of the trees that have a member in an aggregate of the sharing provider, its own among them.
    fn anchors_of_sharing(&self, provider: usize) -> BTreeSet<usize> {
        let aggregates = &self.cloud.nodes[provider].aggregates;
        self.cloud
            .nodes
            .iter()
            .filter(|node| node.in_any(aggregates))
            .map(|node| node.root)
            .collect()
    }

    /// Candidates over the providers of a tree and those that share with it.
    fn spread(
        &mut self,
        suffix: &str,
        group: &Group,
        with_room: &[(&str, i64, BTreeSet<usize>)],
        members: Option<&BTreeSet<usize>>,
        tree: Option<usize>,
    ) -> Vec<Candidate> {
        let nodes = &self.cloud.nodes;
        let mut trees: Option<BTreeMap<usize, BTreeMap<&str, BTreeSet<usize>>>> = None;
        for (class, _, found) in with_room {
            let mut pairs: BTreeSet<(usize, usize)> = found.iter().map(|&at| (nodes[at].root, at)).collect();
            if tree.is_none() {
                let lenders = self.sharing.iter().filter(|at| found.contains(at));
                for &lender in lenders.filter(|at| members.is_none_or(|members| members.contains(at))) {
                    pairs.extend(self.anchors_of_sharing(lender).into_iter().map(|root| (root, lender)));
                }
            }
            pairs.retain(|&(root, at)| {
                self.anchored(root)
                    && members.is_none_or(|members| members.contains(&at) || members.contains(&root))
                    && !nodes[at].in_any(&group.forbidden_aggregates)
                    && !nodes[root].in_any(&group.forbidden_aggregates)
            });
            let mut next: BTreeMap<usize, BTreeMap<&str, BTreeSet<usize>>> = BTreeMap::new();
            for (root, at) in pairs {
                next.entry(root).or_default().entry(class).or_default().insert(at);
            }
            trees = Some(match trees {
                None => next,
                Some(before) => before
                    .into_iter()
                    .filter_map(|(root, mut classes)| {
                        classes.extend(next.remove(&root)?);
                        Some((root, classes))
                    })
                    .collect(),
            });
        }
        let mut trees = trees.unwrap_or_default();
        if self.sharing.is_empty() {
            trees.retain(|_, classes| self.tree_has_traits(classes, group));
        }
        let amounts: BTreeMap<&str, i64> = with_room.iter().map(|(class, amount, _)| (*class, *amount)).collect();
        let mut candidates = Vec::new();
        for (root, classes) in &trees {
            self.seen_trees.insert(*root);
            self.seen_trees
                .extend(classes.values().flatten().map(|&at| nodes[at].root));
            let ordered: Vec<(&str, Vec<usize>)> = self
                .cloud
                .classes
                .iter()
                .filter_map(|class| Some((class.as_str(), classes.get(class.as_str())?.iter().copied().collect())))
                .collect();
            for choice in product(
                &ordered
                    .iter()
                    .map(|(_, providers)| providers.clone())
                    .collect::<Vec<_>>(),
            ) {
                if !self.choice_has_traits(&choice, group) {
                    continue;
                }
                let pieces: Vec<Piece> = ordered
                    .iter()
                    .zip(&choice)
                    .map(|((class, _), &provider)| Piece {
                        provider,
                        class: (*class).to_owned(),
                        amount: amounts[class],
                    })
                    .collect();
                let mappings = BTreeMap::from([(suffix.to_owned(), choice.into_iter().collect())]);
                candidates.push(Candidate {
                    anchor: *root,
                    pieces,
                    mappings,
                    granular: false,
                });
            }
        }
        candidates
    }

    /// Whether the providers of a tree that have no forbidden trait have all required ones among them.
    fn tree_has_traits(&self, classes: &BTreeMap<&str, BTreeSet<usize>>, group: &Group) -> bool {
        let nodes = &self.cloud.nodes;
        let good: Vec<usize> = classes
            .values()
            .flatten()
            .copied()
            .filter(|&at| !group.forbidden_traits.iter().any(|name| nodes[at].has_trait(name)))
            .collect();
        !good.is_empty()
            && group
                .required_traits
                .iter()
                .all(|any| any.iter().any(|name| good.iter().any(|&at| nodes[at].has_trait(name))))
    }

    fn choice_has_traits(&self, choice: &[usize], group: &Group) -> bool {
        let has = |name: &String| choice.iter().any(|&at| self.cloud.nodes[at].has_trait(name));
        !group.forbidden_traits.iter().any(has) && group.required_traits.iter().all(|any| any.iter().any(has))
    }

    /// Combines the groups' candidates that have the same anchor.
    fn merge(&self, by_suffix: &[(&str, Vec<Candidate>)]) -> Vec<Candidate> {
        let granular = by_suffix.iter().filter(|(suffix, _)| !suffix.is_empty()).count();
        let mut anchors: Vec<usize> = Vec::new();
        for candidate in by_suffix.iter().flat_map(|(_, candidates)| candidates) {
            if !anchors.contains(&candidate.anchor) {
                anchors.push(candidate.anchor);
            }
        }
        let mut merged: Vec<Candidate> = Vec::new();
        let mut seen = BTreeSet::new();
        for anchor in anchors {
            let lists: Vec<Vec<&Candidate>> = by_suffix
                .iter()
                .map(|(_, candidates)| {
                    candidates
                        .iter()
                        .filter(|candidate| candidate.anchor == anchor)
                        .collect()
                })
                .collect();
            if lists.iter().any(Vec::is_empty) || !self.enough_overall(&lists) {
                continue;
            }
            for choice in product(&lists) {
                if !self.obeys_group_policy(&choice, granular) || !self.obeys_same_subtree(&choice) {
                    continue;
                }
                let candidate = consolidate(anchor, &choice);
                if self.exceeds_capacity(&candidate) {
                    continue;
                }
                let mut key = candidate.pieces.clone();
                key.sort();
                if seen.insert((key, candidate.mappings.clone())) {
                    merged.push(candidate);
                }
            }
        }
        merged
    }

    /// A quick look whether a tree can have enough of the classes that several groups want.
    fn enough_overall(&self, lists: &[Vec<&Candidate>]) -> bool {
        let providers: BTreeSet<usize> = lists
            .iter()
            .flatten()
            .flat_map(|candidate| candidate.pieces.iter().map(|piece| piece.provider))
            .collect();
        self.shared_classes.iter().all(|class| {
            let rooms = providers.iter().filter_map(|&at| self.cloud.nodes[at].room(class));
            rooms.map(|room| room.inventory.capacity()).sum::<i64>() >= self.totals[class]
        })
    }

    fn obeys_group_policy(&self, choice: &[&Candidate], granular: usize) -> bool {
        if !self.wide.isolate {
            return true;
        }
        let used: BTreeSet<usize> = choice
            .iter()
            .filter(|candidate| candidate.granular)
            .flat_map(|candidate| candidate.mappings.values().flatten().copied())
            .collect();
        used.len() == granular
    }

    fn obeys_same_subtree(&self, choice: &[&Candidate]) -> bool {
        self.wide.same_subtrees.iter().all(|suffixes| {
            let providers: BTreeSet<usize> = choice
                .iter()
                .flat_map(|candidate| suffixes.iter().filter_map(|suffix| candidate.mappings.get(suffix)))
                .flatten()
                .copied()
                .collect();
            providers.len() == 1
                || providers
                    .iter()
                    .any(|top| providers.iter().all(|&at| self.ancestors(at).contains(top)))
        })
    }

    fn ancestors(&self, provider: usize) -> Vec<usize> {
        let mut line = vec![provider];
        while let Some(parent) = line.last().and_then(|&at| self.cloud.nodes[at].parent) {
            if line.contains(&parent) {
                break;
            }
            line.push(parent);
        }
        line
    }

    fn exceeds_capacity(&self, candidate: &Candidate) -> bool {
        candidate.pieces.iter().any(|piece| {
            self.cloud.nodes[piece.provider].room(&piece.class).is_none_or(|room| {
                room.used + piece.amount > room.inventory.capacity() || piece.amount > room.inventory.max_unit
            })
        })
    }

    fn roots_of(&self, candidates: &[Candidate]) -> BTreeSet<usize> {
        let pieces = candidates.iter().flat_map(|candidate| &candidate.pieces);
        pieces.map(|piece| self.cloud.nodes[piece.provider].root).collect()
    }

    fn summaries_of(&self, candidates: &[Candidate]) -> Vec<usize> {
        let roots = self.roots_of(candidates);
        self.indexes()
            .filter(|&at| {
                let root = self.cloud.nodes[at].root;
                roots.contains(&root) && self.seen_trees.contains(&root)
            })
            .collect()
    }
}

fn known_trait(cloud: &Cloud, name: &str) -> Result<(), Error> {
    if cloud.traits.iter().any(|known| known == name) {
        Ok(())
    } else {
        Err(Error::TraitNotFound(name.to_owned()))
    }
}

fn consolidate(anchor: usize, choice: &[&Candidate]) -> Candidate {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut mappings: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for candidate in choice {
        for piece in &candidate.pieces {
            match pieces
                .iter_mut()
                .find(|have| have.provider == piece.provider && have.class == piece.class)
            {
                Some(have) => have.amount += piece.amount,
                None => pieces.push(piece.clone()),
            }
        }
        for (suffix, providers) in &candidate.mappings {
            mappings.entry(suffix.clone()).or_default().extend(providers);
        }
    }
    Candidate {
        anchor,
        pieces,
        mappings,
        granular: false,
    }
}

/// All ways to take one of each list, the last varying fastest.
fn product<T: Clone>(lists: &[Vec<T>]) -> Vec<Vec<T>> {
    let mut ways: Vec<Vec<T>> = vec![Vec::new()];
    for list in lists {
        ways = ways
            .into_iter()
            .flat_map(|way| {
                list.iter().map(move |item| {
                    let mut longer = way.clone();
                    longer.push(item.clone());
                    longer
                })
            })
            .collect();
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(uuid: &str, root: usize, parent: Option<usize>, inventories: &[(&str, i64)]) -> Node {
        let rooms = inventories
            .iter()
            .map(|(class, total)| Room {
                inventory: Inventory::new(*class, *total),
                used: 0,
            })
            .collect();
        Node {
            uuid: uuid.into(),
            name: uuid.into(),
            generation: 0,
            parent,
            root,
            inventories: rooms,
            traits: Vec::new(),
            aggregates: Vec::new(),
        }
    }

    fn cloud(nodes: Vec<Node>) -> Cloud {
        Cloud {
            nodes,
            classes: ["VCPU", "MEMORY_MB", "DISK_GB", "SRIOV_NET_VF"]
                .map(String::from)
                .to_vec(),
            traits: vec![SHARES_VIA_AGGREGATE.into(), "CUSTOM_A".into(), "CUSTOM_B".into()],
        }
    }

    fn group(resources: &[(&str, i64)]) -> Group {
        Group {
            resources: resources.iter().map(|(c, a)| ((*c).to_owned(), *a)).collect(),
            ..Group::default()
        }
    }

    fn places(found: &Found) -> Vec<Vec<(usize, &str, i64)>> {
        found
            .candidates
            .iter()
            .map(|c| {
                c.pieces
                    .iter()
                    .map(|p| (p.provider, p.class.as_str(), p.amount))
                    .collect()
            })
            .collect()
    }

    #[test]
    fn full_providers_are_left_out() {
        let mut cloud = cloud(vec![
            node("a", 0, None, &[("VCPU", 4)]),
            node("b", 1, None, &[("VCPU", 4)]),
        ]);
        cloud.nodes[0].inventories[0].used = 3;
        let groups = [(String::new(), group(&[("VCPU", 2)]))];
        let found = search(&cloud, &groups, &Wide::default(), true).unwrap();
        assert_eq!(places(&found), [[(1, "VCPU", 2)]]);
        assert_eq!(found.summaries, [1]);
    }

    #[test]
    fn a_sharing_provider_lends_its_disk_to_its_aggregate() {
        let mut cloud = cloud(vec![
            node("host", 0, None, &[("VCPU", 4)]),
            node("other", 1, None, &[("VCPU", 4)]),
            node("nfs", 2, None, &[("DISK_GB", 100)]),
        ]);
        cloud.nodes[0].aggregates.push("agg".into());
        cloud.nodes[2].aggregates.push("agg".into());
        cloud.nodes[2].traits.push(SHARES_VIA_AGGREGATE.into());
        let groups = [(String::new(), group(&[("VCPU", 1), ("DISK_GB", 10)]))];
        let found = search(&cloud, &groups, &Wide::default(), true).unwrap();
        assert_eq!(places(&found), [[(0, "VCPU", 1), (2, "DISK_GB", 10)]]);
        assert_eq!(found.summaries, [0, 2]);
    }

    #[test]
    fn granular_groups_take_children_apart_when_isolated() {
        let cloud = cloud(vec![
            node("host", 0, None, &[("VCPU", 4)]),
            node("pf1", 0, Some(0), &[("SRIOV_NET_VF", 8)]),
            node("pf2", 0, Some(0), &[("SRIOV_NET_VF", 8)]),
        ]);
        let groups = [
            (String::new(), group(&[("VCPU", 1)])),
            ("1".to_owned(), group(&[("SRIOV_NET_VF", 1)])),
            ("2".to_owned(), group(&[("SRIOV_NET_VF", 1)])),
        ];
        let together = search(&cloud, &groups, &Wide::default(), true).unwrap();
        assert_eq!(together.candidates.len(), 4);
        let apart = search(
            &cloud,
            &groups,
            &Wide {
                isolate: true,
                ..Wide::default()
            },
            true,
        )
        .unwrap();
        assert_eq!(apart.candidates.len(), 2);
        assert_eq!(apart.summaries, [0, 1, 2]);
        let flat = search(&cloud, &groups, &Wide::default(), false).unwrap();
        assert!(flat.candidates.is_empty());
    }

    #[test]
    fn traits_are_looked_for_in_the_whole_choice_and_unknown_ones_refused() {
        let mut cloud = cloud(vec![
            node("a", 0, None, &[("VCPU", 4)]),
            node("b", 1, None, &[("VCPU", 4)]),
        ]);
        cloud.nodes[1].traits.push("CUSTOM_A".into());
        let mut wish = group(&[("VCPU", 1)]);
        wish.required_traits = vec![vec!["CUSTOM_A".into(), "CUSTOM_B".into()]];
        let found = search(&cloud, &[(String::new(), wish.clone())], &Wide::default(), true).unwrap();
        assert_eq!(places(&found), [[(1, "VCPU", 1)]]);
        wish.required_traits = vec![vec!["CUSTOM_X".into()]];
        let error = search(&cloud, &[(String::new(), wish)], &Wide::default(), true).unwrap_err();
        assert_eq!(error.to_string(), "No such trait(s): CUSTOM_X.");
    }
}
