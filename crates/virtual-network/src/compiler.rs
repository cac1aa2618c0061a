//! The compiler: keeps the flows that a topology wants, and tells what a change of it changes.

use crate::emit;
use crate::flows::{Connections, FlowDiff, Flows, Out, Store, Unit};
use crate::numbers::{GroupSet, Numbers, ZoneOwner};
use crate::state::{Neighbors, PortNumbers, State, all, router_networks};
use crate::topology::*;
use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Compiles topologies, incrementally. See the [crate's documentation](crate) for how it is used.
#[derive(Default)]
pub struct Compiler {
    pub(crate) state: State,
    store: Store,
}

/// All flows of a topology, as a function of nothing else. `numbers` gets those that are new.
pub fn compile(topology: &Topology, ports: &PortNumbers, neighbors: &Neighbors, numbers: &mut Numbers) -> Flows {
    let mut compiler = Compiler::new(std::mem::take(numbers));
    compiler.state.ports = ports.clone();
    compiler.state.neighbors = neighbors.clone();
    let from_nothing = compiler.load(topology.clone());
    *numbers = compiler.state.numbers;
    from_nothing
        .bridges
        .into_iter()
        .map(|(bridge, diff)| (bridge, diff.add))
        .collect()
}

impl Compiler {
    /// One that has no topology yet, with the numbers of an earlier one.
    pub fn new(numbers: Numbers) -> Compiler {
        let mut compiler = Compiler::default();
        compiler.state.numbers = numbers;
        compiler
    }

    /// What is compiled.
    pub fn topology(&self) -> &Topology {
        &self.state.topology
    }

    /// The numbers in use, to be kept for the next [`Compiler::new`].
    pub fn numbers(&self) -> &Numbers {
        &self.state.numbers
    }

    /// The switch's port numbers, as they were told.
    pub fn port_numbers(&self) -> &PortNumbers {
        &self.state.ports
    }

    /// The neighbours, as they were told.
    pub fn neighbors(&self) -> &Neighbors {
        &self.state.neighbors
    }

    /// Every flow that should be.
    pub fn flows(&self) -> Flows {
        self.store.flows()
    }

    /// The port, and which address of it, that the metadata listener sees as `client`.
    pub fn metadata_client(&self, client: IpAddr) -> Option<(PortId, IpAddr)> {
        let m = self.state.topology.node.metadata.as_ref()?;
        let number = match client {
            IpAddr::V4(a) if m.clients_v4.contains(&a) => u32::from(a) - u32::from(m.clients_v4.network()),
            IpAddr::V6(a) if m.clients_v6.contains(&a) => {
                u32::try_from(u128::from(a) - u128::from(m.clients_v6.network())).ok()?
            }
            _ => return None,
        };
        self.state.clients.get(&number).copied()
    }

    /// The zone in which connections of a local port are tracked.
    pub fn port_zone(&self, id: PortId) -> Option<u16> {
        self.state.port_key(id).map(|z| z as u16)
    }

    /// The zone in which a router translates.
    pub fn router_zone(&self, id: RouterId) -> Option<u16> {
        self.state.router_key(id).map(|z| z as u16)
    }

    /// Compiles `topology` in place of what was. The cost of comparing is that of the topology, that of compiling is the
    /// difference's.
    pub fn replace(&mut self, topology: &Topology) -> FlowDiff {
        let changes = self.state.topology.changes_to(topology);
        self.update(changes)
    }

    /// Compiles changes, in this order.
    pub fn update(&mut self, changes: Vec<Change>) -> FlowDiff {
        let mut work = Work::default();
        for change in changes {
            if let Change::Node(node) = change {
                self.state.topology.node = node;
                work.everything = true;
            } else {
                self.touch(&change, &mut work);
                self.apply(change.clone(), &mut work);
                self.touch(&change, &mut work);
            }
        }
        self.finish(work)
    }

    /// The switch has other port numbers. Costs what changes, if that is only guests' interfaces; else everything.
    pub fn set_port_numbers(&mut self, ports: PortNumbers) -> FlowDiff {
        let mut work = Work::default();
        let old = std::mem::replace(&mut self.state.ports, ports);
        let new = &self.state.ports;
        if (&old.patches, &old.tunnels, old.metadata) != (&new.patches, &new.tunnels, new.metadata) {
            work.everything = true;
        }
        let names: BTreeSet<&String> = old.interfaces.keys().chain(new.interfaces.keys()).collect();
        for name in names {
            if old.interfaces.get(name) != new.interfaces.get(name)
                && let Some(id) = self.state.interfaces.get(name)
            {
                self.touch_port(*id, &mut work);
            }
        }
        self.finish(work)
    }

    /// The MAC of an address became known, another, or unknown (`None`).
    pub fn set_neighbor(&mut self, network: NetworkId, address: IpAddr, mac: Option<MacAddress>) -> FlowDiff {
        match mac {
            Some(mac) => self.state.neighbors.insert((network, address), mac),
            None => self.state.neighbors.remove(&(network, address)),
        };
        let mut work = Work::default();
        work.units.insert(Unit::Neighbor(network, address));
        self.finish(work)
    }

    /// Loads a whole topology into a compiler that has none.
    fn load(&mut self, topology: Topology) -> FlowDiff {
        let mut work = Work {
            everything: true,
            ..Work::default()
        };
        self.state.topology = topology;
        let t = &self.state.topology;
        let (networks, subnets, ports, routers, floating): (Vec<_>, Vec<_>, Vec<_>, Vec<_>, Vec<_>) = (
            t.networks.keys().copied().collect(),
            t.subnets.keys().copied().collect(),
            t.ports.keys().copied().collect(),
            t.routers.keys().copied().collect(),
            t.floating_ips.keys().copied().collect(),
        );
        networks.into_iter().for_each(|id| self.state.link_network(id));
        subnets.into_iter().for_each(|id| self.state.link_subnet(id));
        ports
            .into_iter()
            .for_each(|id| self.state.link_port(id, &mut work.flush));
        routers
            .into_iter()
            .for_each(|id| self.state.link_router(id, &mut work.flush));
        floating.into_iter().for_each(|id| self.state.link_floating(id));
        self.finish(work)
    }

    /// Notes what a change touches: asked before it is applied and after.
    fn touch(&self, change: &Change, work: &mut Work) {
        match change {
            Change::Node(_) => work.everything = true,
            Change::Network(id, _) => self.touch_network(*id, work),
            Change::Subnet(id, _) => {
                if let Some(s) = self.state.topology.subnets.get(id) {
                    work.units.insert(Unit::Network(s.network));
                    for r in all(&self.state.routers_of, &s.network) {
                        work.units.insert(Unit::Router(*r));
                    }
                }
            }
            Change::Port(id, _) => self.touch_port(*id, work),
            Change::Router(id, new) => {
                self.touch_router(*id, work);
                new.iter()
                    .flat_map(router_networks)
                    .for_each(|n| self.touch_routed(n, work));
            }
            Change::FloatingIp(id, _) => self.touch_floating(*id, work),
            Change::SecurityGroup(id, _) => self.touch_group(*id, work),
            Change::AddressGroup(id, _) => {
                let uses = |g: &SecurityGroupId| {
                    let group = self.state.topology.security_groups.get(g);
                    let mut rules = group.into_iter().flat_map(|g| &g.rules);
                    rules.any(|r| r.remote_address_group == Some(*id))
                };
                for set in self.state.sets.keys().filter(|s| s.iter().any(uses)) {
                    work.units.insert(Unit::Groups(set.clone()));
                }
            }
        }
    }

    fn touch_port(&self, id: PortId, work: &mut Work) {
        work.units.insert(Unit::Port(id));
        let Some(port) = self.state.topology.ports.get(&id) else {
            return;
        };
        work.units.insert(Unit::Flood(port.network));
        if let Some(key) = self.state.port_key(id) {
            work.units.insert(Unit::FloodPiece(port.network, State::piece(key)));
        }
        for f in all(&self.state.floating_of_port, &id) {
            work.units.insert(Unit::FloatingIp(*f));
        }
        for g in &port.security_groups {
            for set in all(&self.state.sets_naming, g) {
                work.units.insert(Unit::Member(set.clone(), id));
            }
        }
        if let Some((set, uses)) = self.state.sets.get_key_value(&port.security_groups)
            && uses.ports.len() <= 1
        {
            // The first port with these groups brings their rules, the last one takes them along.
            self.touch_set(set, work);
        }
    }

    fn touch_set(&self, set: &Arc<GroupSet>, work: &mut Work) {
        work.units.insert(Unit::Groups(set.clone()));
        for g in self.state.sets.get(set).into_iter().flat_map(|u| &u.remotes) {
            for p in all(&self.state.members, g) {
                work.units.insert(Unit::Member(set.clone(), *p));
            }
        }
    }

    fn touch_group(&self, id: SecurityGroupId, work: &mut Work) {
        for set in all(&self.state.sets_with, &id) {
            self.touch_set(set, work);
            for p in self.state.sets.get(set).into_iter().flat_map(|u| &u.ports) {
                let stateless = self.state.topology.ports.get(p).map(|p| self.state.stateless(p));
                work.stateless.push((*p, stateless));
            }
        }
    }

    fn touch_router(&self, id: RouterId, work: &mut Work) {
        work.units.insert(Unit::Router(id));
        for f in all(&self.state.floating_of_router, &id) {
            work.units.insert(Unit::FloatingIp(*f));
        }
        for network in self
            .state
            .topology
            .routers
            .get(&id)
            .into_iter()
            .flat_map(router_networks)
        {
            self.touch_routed(network, work);
        }
    }

    fn touch_routed(&self, network: NetworkId, work: &mut Work) {
        work.units.insert(Unit::Network(network));
        let routed = self.state.routers_of.contains_key(&network);
        work.routed.push((network, routed));
    }

    fn touch_floating(&self, id: FloatingIpId, work: &mut Work) {
        work.units.insert(Unit::FloatingIp(id));
        let floating = &self.state.topology.floating_ips;
        if let Some(f) = floating.get(&id) {
            work.translations.push((id, f.clone()));
        }
    }

    fn touch_network(&self, id: NetworkId, work: &mut Work) {
        work.units.insert(Unit::Network(id));
        for piece in self.state.pieces.get(&id).into_iter().flatten() {
            work.units.insert(Unit::FloodPiece(id, *piece.0));
        }
        for p in all(&self.state.ports_of, &id) {
            work.units.insert(Unit::Port(*p));
            for f in all(&self.state.floating_of_port, p) {
                work.units.insert(Unit::FloatingIp(*f));
            }
        }
        work.units.insert(Unit::Flood(id));
        for r in all(&self.state.routers_of, &id) {
            self.touch_router(*r, work);
        }
        for f in all(&self.state.floating_of_network, &id) {
            work.units.insert(Unit::FloatingIp(*f));
        }
        let (first, last) = (IpAddr::from([0, 0, 0, 0]), IpAddr::from(Ipv6Addr::from(u128::MAX)));
        for ((_, address), _) in self.state.neighbors.range((id, first)..=(id, last)) {
            work.units.insert(Unit::Neighbor(id, *address));
        }
        work.physical = true;
    }

    fn apply(&mut self, change: Change, work: &mut Work) {
        let state = &mut self.state;
        match change {
            Change::Node(node) => state.topology.node = node,
            Change::Network(id, Some(n)) => {
                state.topology.networks.insert(id, n);
                state.link_network(id);
            }
            Change::Network(id, None) => {
                state.topology.networks.remove(&id);
                work.gone_networks.insert(id);
            }
            Change::Subnet(id, s) => {
                state.unlink_subnet(id);
                state.topology.apply(Change::Subnet(id, s));
                if state.topology.subnets.contains_key(&id) {
                    state.link_subnet(id);
                }
            }
            Change::Port(id, p) => {
                let before = state.topology.ports.get(&id).cloned();
                state.unlink_port(id);
                state.topology.apply(Change::Port(id, p));
                if state.topology.ports.contains_key(&id) {
                    state.link_port(id, &mut work.flush);
                }
                work.gone_ports.insert(id);
                if let Some(before) = before {
                    state.release_clients(id, &before);
                    work.gone_sets.insert(before.security_groups);
                }
            }
            Change::Router(id, r) => {
                state.unlink_router(id);
                state.topology.apply(Change::Router(id, r));
                if state.topology.routers.contains_key(&id) {
                    state.link_router(id, &mut work.flush);
                } else {
                    work.gone_routers.insert(id);
                }
            }
            Change::FloatingIp(id, f) => {
                state.unlink_floating(id);
                state.topology.apply(Change::FloatingIp(id, f));
                if state.topology.floating_ips.contains_key(&id) {
                    state.link_floating(id);
                }
            }
            Change::SecurityGroup(id, g) => {
                state.topology.apply(Change::SecurityGroup(id, g));
                let sets: Vec<Arc<GroupSet>> = all(&state.sets_with, &id).cloned().collect();
                for set in sets {
                    state.link_set(&set);
                }
            }
            Change::AddressGroup(id, g) => state.topology.apply(Change::AddressGroup(id, g)),
        }
    }

    /// Gives back numbers of what is gone, makes the touched units again and tells the difference.
    fn finish(&mut self, mut work: Work) -> FlowDiff {
        work.everything |= !self.store.has(&Unit::Base);
        let mut connections = BTreeSet::new();
        for (id, f) in &work.translations {
            let same = self.state.topology.floating_ips.get(id) == Some(f);
            if let Some(zone) = self.state.router_key(f.router).filter(|_| !same) {
                let zone = zone as u16;
                let (to, from) = (f.address.into(), f.fixed_address.into());
                connections.insert(Connections::To { zone, address: to });
                connections.insert(Connections::From { zone, address: from });
            }
        }
        let routed: Vec<NetworkId> = work
            .routed
            .iter()
            .filter(|(n, was)| self.state.routers_of.contains_key(n) != *was)
            .map(|(n, _)| *n)
            .collect();
        for p in routed.iter().flat_map(|n| all(&self.state.ports_of, n)) {
            work.units.insert(Unit::Port(*p));
        }
        for (id, was) in &work.stateless {
            let is = self.state.topology.ports.get(id).map(|p| self.state.stateless(p));
            if is != *was {
                work.units.insert(Unit::Port(*id));
            }
        }
        if work.physical {
            work.units
                .extend(emit::physical_bridges(&self.state).map(Unit::Physical));
        }
        if work.everything {
            work.units.extend(self.store.units().cloned());
            work.units.extend(self.all_units());
        }
        // Numbers go back before the flows are made, so a flow never carries the number of something that is gone.
        for id in work.gone_networks {
            if !self.state.topology.networks.contains_key(&id) {
                self.state.unlink_network(id);
            }
        }
        for id in work.gone_routers {
            if !self.state.topology.routers.contains_key(&id) {
                self.state.release_zone(ZoneOwner::Router(id), &mut work.flush);
            }
        }
        for id in work.gone_ports {
            let port = self.state.topology.ports.get(&id);
            if !port.is_some_and(|p| matches!(p.binding, Binding::Local { .. })) {
                self.state.release_zone(ZoneOwner::Port(id), &mut work.flush);
            }
        }
        for set in work.gone_sets {
            self.state.release_set(&set);
        }
        if work.everything {
            self.state.release_unused(&mut work.flush);
        }
        if work
            .units
            .iter()
            .any(|u| matches!(u, Unit::Router(_) | Unit::FloatingIp(_)))
        {
            self.state.routing += 1;
        }
        for unit in work.units {
            let mut out = Out::new(emit::bridge_of(&unit));
            emit::unit(&self.state, &unit, &mut out);
            self.store.set(unit, out);
        }
        connections.retain(|c| {
            let (Connections::To { zone, .. } | Connections::From { zone, .. }) = c;
            !work.flush.contains(zone)
        });
        FlowDiff {
            bridges: self.store.diff(),
            flush_zones: work.flush,
            flush_connections: connections,
        }
    }

    fn all_units(&self) -> Vec<Unit> {
        let (s, t) = (&self.state, &self.state.topology);
        let mut out = vec![Unit::Base];
        out.extend(emit::physical_bridges(s).map(Unit::Physical));
        for id in t.networks.keys() {
            out.extend([Unit::Network(*id), Unit::Flood(*id)]);
        }
        for (network, pieces) in &s.pieces {
            out.extend(pieces.keys().map(|p| Unit::FloodPiece(*network, *p)));
        }
        out.extend(t.routers.keys().map(|id| Unit::Router(*id)));
        out.extend(t.floating_ips.keys().map(|id| Unit::FloatingIp(*id)));
        out.extend(t.ports.keys().map(|id| Unit::Port(*id)));
        out.extend(s.neighbors.keys().map(|(n, a)| Unit::Neighbor(*n, *a)));
        for (set, uses) in &s.sets {
            out.push(Unit::Groups(set.clone()));
            let members: HashSet<PortId> = uses.remotes.iter().flat_map(|g| all(&s.members, g)).copied().collect();
            out.extend(members.into_iter().map(|p| Unit::Member(set.clone(), p)));
        }
        out
    }
}

/// What a batch of changes makes necessary.
#[derive(Default)]
struct Work {
    everything: bool,
    physical: bool,
    units: HashSet<Unit>,
    /// Networks of routers that changed, and whether they had a router before.
    routed: Vec<(NetworkId, bool)>,
    /// Ports of groups that changed, and whether they were stateless before.
    stateless: Vec<(PortId, Option<bool>)>,
    /// Floating IPs as they were.
    translations: Vec<(FloatingIpId, FloatingIp)>,
    flush: BTreeSet<u16>,
    gone_networks: BTreeSet<NetworkId>,
    gone_routers: BTreeSet<RouterId>,
    gone_ports: BTreeSet<PortId>,
    gone_sets: BTreeSet<GroupSet>,
}
