//! The topology with the indexes that make a change cost its own size.

use crate::numbers::{GroupSet, MAX_ZONE, Numbers, Remote, ZoneOwner};
use crate::topology::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// Numbers of the switch's ports, as OVSDB tells them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortNumbers {
    /// Interface name -> number at the integration bridge, for the guests' interfaces that are plugged.
    pub interfaces: BTreeMap<String, u32>,
    /// Physical bridge -> the patch between it and the integration bridge.
    pub patches: BTreeMap<String, Patch>,
    /// Kind of tunnel -> its port at the integration bridge.
    pub tunnels: BTreeMap<NetworkType, u32>,
    /// The port towards the metadata listener.
    pub metadata: Option<u32>,
}

/// Both ends of a patch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patch {
    /// Number at the integration bridge.
    pub integration: u32,
    /// Number at the physical bridge.
    pub physical: u32,
}

/// MACs of addresses that the topology does not tell.
pub type Neighbors = BTreeMap<(NetworkId, IpAddr), MacAddress>;

/// Ports in one piece of a flood list.
const PIECE_BITS: u32 = 8;

/// A set of groups that local ports have.
#[derive(Default)]
pub(crate) struct SetUse {
    /// Local ports with it.
    pub ports: BTreeSet<PortId>,
    /// Groups that its rules name.
    pub remotes: BTreeSet<SecurityGroupId>,
    /// Conjunctions that its rules make.
    conjunctions: BTreeSet<(Direction, Remote)>,
}

/// A network's ports on another node.
#[derive(Default)]
pub(crate) struct RemoteNode {
    ports: usize,
    /// Those that may have MACs nobody knows of.
    pub unknown: usize,
}

#[derive(Default)]
pub(crate) struct State {
    pub topology: Topology,
    pub ports: PortNumbers,
    pub neighbors: Neighbors,
    pub numbers: Numbers,
    pub ports_of: HashMap<NetworkId, BTreeSet<PortId>>,
    pub subnets_of: HashMap<NetworkId, BTreeSet<SubnetId>>,
    pub routers_of: HashMap<NetworkId, BTreeSet<RouterId>>,
    pub floating_of_port: HashMap<PortId, BTreeSet<FloatingIpId>>,
    pub floating_of_router: HashMap<RouterId, BTreeSet<FloatingIpId>>,
    pub floating_of_network: HashMap<NetworkId, BTreeSet<FloatingIpId>>,
    pub interfaces: HashMap<String, PortId>,
    pub members: HashMap<SecurityGroupId, BTreeSet<PortId>>,
    pub sets: HashMap<Arc<GroupSet>, SetUse>,
    pub sets_naming: HashMap<SecurityGroupId, BTreeSet<Arc<GroupSet>>>,
    pub sets_with: HashMap<SecurityGroupId, BTreeSet<Arc<GroupSet>>>,
    /// Flood lists: network -> piece -> local ports.
    pub pieces: HashMap<NetworkId, BTreeMap<u32, BTreeSet<PortId>>>,
    /// Network -> other nodes -> their ports in it.
    pub remotes_of: HashMap<NetworkId, BTreeMap<IpAddr, RemoteNode>>,
    /// Numbers of routers and ports, back to them.
    pub owners: HashMap<u32, ZoneOwner>,
    pub tags: HashMap<u32, NetworkId>,
    pub clients: HashMap<u32, (PortId, IpAddr)>,
    /// Counts the changes that routers, floating IPs or their networks had a part in.
    pub routing: u64,
}

fn link<K: std::hash::Hash + Eq, V: Ord>(map: &mut HashMap<K, BTreeSet<V>>, key: K, value: V) {
    map.entry(key).or_default().insert(value);
}

fn unlink<K: std::hash::Hash + Eq, V: Ord>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

/// The values under a key, if any.
pub(crate) fn all<'a, K: std::hash::Hash + Eq, V>(
    map: &'a HashMap<K, BTreeSet<V>>,
    key: &K,
) -> impl Iterator<Item = &'a V> + use<'a, K, V> {
    map.get(key).into_iter().flatten()
}

/// A port on this node that carries traffic.
pub(crate) struct LocalPort<'a> {
    pub port: &'a Port,
    pub network: &'a Network,
    /// Number at the switch.
    pub number: u32,
    /// Zone, and what it is called in registers.
    pub key: u32,
    pub tag: u32,
}

impl State {
    /// The network, if it carries traffic.
    pub fn network(&self, id: NetworkId) -> Option<&Network> {
        self.topology.networks.get(&id).filter(|n| n.admin_state_up)
    }

    pub fn tag(&self, id: NetworkId) -> Option<u32> {
        self.numbers.networks.get(&id)
    }

    pub fn port_key(&self, id: PortId) -> Option<u32> {
        self.numbers.zones.get(&ZoneOwner::Port(id))
    }

    pub fn router_key(&self, id: RouterId) -> Option<u32> {
        self.numbers.zones.get(&ZoneOwner::Router(id))
    }

    pub fn piece(key: u32) -> u32 {
        key >> PIECE_BITS
    }

    /// The port, if it is on this node, plugged and up.
    pub fn local(&self, id: PortId) -> Option<LocalPort<'_>> {
        let port = self.topology.ports.get(&id).filter(|p| p.admin_state_up)?;
        let Binding::Local { interface } = &port.binding else {
            return None;
        };
        Some(LocalPort {
            port,
            network: self.network(port.network)?,
            number: *self.ports.interfaces.get(interface)?,
            key: self.port_key(id)?,
            tag: self.tag(port.network)?,
        })
    }

    /// The router, if it is up.
    pub fn router(&self, id: RouterId) -> Option<&Router> {
        self.topology.routers.get(&id).filter(|r| r.admin_state_up)
    }

    pub fn subnets(&self, network: NetworkId) -> impl Iterator<Item = (SubnetId, &Subnet)> {
        all(&self.subnets_of, &network).filter_map(|id| Some((*id, self.topology.subnets.get(id)?)))
    }

    /// The DNS servers that guests of a subnet are told.
    pub fn dns<'a>(&'a self, subnet: &'a Subnet) -> impl Iterator<Item = IpAddr> + use<'a> {
        let own = &subnet.dns_nameservers;
        let list = if own.is_empty() {
            &self.topology.node.dns_resolvers
        } else {
            own
        };
        let none = own.iter().any(IpAddr::is_unspecified);
        let v4 = subnet.cidr.addr().is_ipv4();
        list.iter().copied().filter(move |a| a.is_ipv4() == v4 && !none)
    }

    /// The patch to a network's physical bridge.
    pub fn patch(&self, network: &Network) -> Option<Patch> {
        let bridge = self
            .topology
            .node
            .bridge_mappings
            .get(network.physical_network.as_ref()?)?;
        self.ports.patches.get(bridge).copied()
    }

    /// Whether a port's groups let answers pass only where a rule does.
    pub fn stateless(&self, port: &Port) -> bool {
        let mut known = port
            .security_groups
            .iter()
            .filter_map(|g| self.topology.security_groups.get(g))
            .peekable();
        known.peek().is_some() && known.all(|g| !g.stateful)
    }

    /// Ports that may have MACs the topology does not know.
    pub fn has_unknown_macs(port: &Port) -> bool {
        !port.port_security_enabled || port.allowed_address_pairs.iter().any(|p| p.mac.is_some())
    }

    /// Takes the numbers of everything that is there; returns the zones that are new.
    pub fn link_network(&mut self, id: NetworkId) {
        if let Some((tag, _)) = self.numbers.networks.take(&id, u32::MAX - 1) {
            self.tags.insert(tag, id);
        }
    }

    pub fn unlink_network(&mut self, id: NetworkId) {
        if let Some(tag) = self.numbers.networks.release(&id) {
            self.tags.remove(&tag);
        }
    }

    pub fn link_router(&mut self, id: RouterId, flush: &mut BTreeSet<u16>) {
        if let Some((zone, new)) = self.numbers.zones.take(&ZoneOwner::Router(id), MAX_ZONE) {
            self.owners.insert(zone, ZoneOwner::Router(id));
            if new {
                flush.insert(zone as u16);
            }
        }
        for n in router_networks(&self.topology.routers[&id]) {
            link(&mut self.routers_of, n, id);
        }
    }

    pub fn unlink_router(&mut self, id: RouterId) {
        let Some(r) = self.topology.routers.get(&id) else {
            return;
        };
        for n in router_networks(r) {
            unlink(&mut self.routers_of, &n, &id);
        }
    }

    /// Gives back the number of what is gone for good.
    pub fn release_zone(&mut self, owner: ZoneOwner, flush: &mut BTreeSet<u16>) {
        if let Some(zone) = self.numbers.zones.release(&owner) {
            self.owners.remove(&zone);
            flush.insert(zone as u16);
        }
    }

    pub fn link_floating(&mut self, id: FloatingIpId) {
        let f = &self.topology.floating_ips[&id];
        link(&mut self.floating_of_port, f.port, id);
        link(&mut self.floating_of_router, f.router, id);
        link(&mut self.floating_of_network, f.network, id);
    }

    pub fn unlink_floating(&mut self, id: FloatingIpId) {
        let Some(f) = self.topology.floating_ips.get(&id) else {
            return;
        };
        unlink(&mut self.floating_of_port, &f.port, &id);
        unlink(&mut self.floating_of_router, &f.router, &id);
        unlink(&mut self.floating_of_network, &f.network, &id);
    }

    pub fn link_subnet(&mut self, id: SubnetId) {
        let network = self.topology.subnets[&id].network;
        link(&mut self.subnets_of, network, id);
    }

    pub fn unlink_subnet(&mut self, id: SubnetId) {
        if let Some(s) = self.topology.subnets.get(&id) {
            unlink(&mut self.subnets_of, &s.network, &id);
        }
    }

    pub fn link_port(&mut self, id: PortId, flush: &mut BTreeSet<u16>) {
        let port = &self.topology.ports[&id];
        link(&mut self.ports_of, port.network, id);
        for g in &port.security_groups {
            link(&mut self.members, *g, id);
        }
        match &port.binding {
            Binding::Local { interface } => {
                self.interfaces.insert(interface.clone(), id);
                for ip in client_addresses(port) {
                    if let Some((n, _)) = self.numbers.clients.take(&(id, ip), u32::MAX - 1) {
                        self.clients.insert(n, (id, ip));
                    }
                }
                if let Some((zone, new)) = self.numbers.zones.take(&ZoneOwner::Port(id), MAX_ZONE) {
                    self.owners.insert(zone, ZoneOwner::Port(id));
                    if new {
                        flush.insert(zone as u16);
                    }
                    let pieces = self.pieces.entry(port.network).or_default();
                    pieces.entry(State::piece(zone)).or_default().insert(id);
                }
                if let Some(set) = self.sets.get_mut(&port.security_groups) {
                    set.ports.insert(id);
                } else {
                    let set = Arc::new(port.security_groups.clone());
                    self.numbers.sets.take(&set, u32::MAX - 1);
                    self.sets.entry(set.clone()).or_default().ports.insert(id);
                    self.link_set(&set);
                }
            }
            Binding::Remote { tunnel } => {
                let remotes = self.remotes_of.entry(port.network).or_default();
                let node = remotes.entry(*tunnel).or_default();
                node.ports += 1;
                node.unknown += usize::from(State::has_unknown_macs(port));
            }
            Binding::Unbound => {}
        }
    }

    /// Undoes [`State::link_port`], except for the zone, which a changed port keeps.
    pub fn unlink_port(&mut self, id: PortId) {
        let Some(port) = self.topology.ports.get(&id).cloned() else {
            return;
        };
        unlink(&mut self.ports_of, &port.network, &id);
        for g in &port.security_groups {
            unlink(&mut self.members, g, &id);
        }
        match &port.binding {
            Binding::Local { interface } => {
                if self.interfaces.get(interface) == Some(&id) {
                    self.interfaces.remove(interface);
                }
                if let Some(zone) = self.port_key(id)
                    && let Some(pieces) = self.pieces.get_mut(&port.network)
                {
                    let piece = State::piece(zone);
                    if let Some(ports) = pieces.get_mut(&piece) {
                        ports.remove(&id);
                        if ports.is_empty() {
                            pieces.remove(&piece);
                        }
                    }
                }
                if let Some(set) = self.sets.get_mut(&port.security_groups) {
                    set.ports.remove(&id);
                }
            }
            Binding::Remote { tunnel } => {
                if let Some(remotes) = self.remotes_of.get_mut(&port.network)
                    && let Some(node) = remotes.get_mut(tunnel)
                {
                    node.ports -= 1;
                    node.unknown -= usize::from(State::has_unknown_macs(&port));
                    if node.ports == 0 {
                        remotes.remove(tunnel);
                    }
                }
            }
            Binding::Unbound => {}
        }
    }

    /// Gives back the numbers of a port's addresses that it no longer has.
    pub fn release_clients(&mut self, id: PortId, before: &Port) {
        let keep = match self.topology.ports.get(&id) {
            Some(p) if matches!(p.binding, Binding::Local { .. }) => client_addresses(p),
            _ => Vec::new(),
        };
        for ip in client_addresses(before).into_iter().filter(|ip| !keep.contains(ip)) {
            if let Some(n) = self.numbers.clients.release(&(id, ip)) {
                self.clients.remove(&n);
            }
        }
    }

    /// Brings what is known of a set into line with its groups' rules.
    pub fn link_set(&mut self, set: &Arc<GroupSet>) {
        self.unlink_set(set);
        let (mut remotes, mut conjunctions) = (BTreeSet::new(), BTreeSet::new());
        for g in set.iter() {
            link(&mut self.sets_with, *g, set.clone());
            for rule in self.topology.security_groups.get(g).into_iter().flat_map(|g| &g.rules) {
                if let Some(remote) = rule_remote(rule) {
                    conjunctions.insert((rule.direction, remote));
                    if let Remote::Group(r) = remote {
                        remotes.insert(r);
                    }
                }
            }
        }
        for r in &remotes {
            link(&mut self.sets_naming, *r, set.clone());
        }
        for (direction, remote) in &conjunctions {
            let key = (GroupSet::clone(set), *direction, *remote);
            self.numbers.conjunctions.take(&key, u32::MAX - 1);
        }
        if let Some(u) = self.sets.get_mut(set) {
            u.remotes = remotes;
            let before = std::mem::replace(&mut u.conjunctions, conjunctions);
            for (direction, remote) in before.difference(&u.conjunctions) {
                let key = (GroupSet::clone(set), *direction, *remote);
                self.numbers.conjunctions.release(&key);
            }
        }
    }

    fn unlink_set(&mut self, set: &Arc<GroupSet>) {
        for g in set.iter() {
            unlink(&mut self.sets_with, g, set);
        }
        let remotes = match self.sets.get_mut(set) {
            Some(u) => std::mem::take(&mut u.remotes),
            None => BTreeSet::new(),
        };
        for r in remotes {
            unlink(&mut self.sets_naming, &r, set);
        }
    }

    /// Gives back every number whose owner is not in the topology.
    pub fn release_unused(&mut self, flush: &mut BTreeSet<u16>) {
        let (t, sets) = (&self.topology, &self.sets);
        let here = |id: &PortId| matches!(t.ports.get(id), Some(p) if matches!(p.binding, Binding::Local { .. }));
        self.numbers.networks.retain(|id| t.networks.contains_key(id));
        for zone in self.numbers.zones.retain(|owner| match owner {
            ZoneOwner::Port(id) => here(id),
            ZoneOwner::Router(id) => t.routers.contains_key(id),
        }) {
            flush.insert(zone as u16);
        }
        self.numbers.sets.retain(|set| sets.contains_key(set));
        self.numbers
            .conjunctions
            .retain(|(set, d, r)| sets.get(set).is_some_and(|u| u.conjunctions.contains(&(*d, *r))));
        self.numbers
            .clients
            .retain(|(id, ip)| here(id) && client_addresses(&t.ports[id]).contains(ip));
    }

    /// Forgets a set if no port has it any more.
    pub fn release_set(&mut self, set: &GroupSet) {
        let Some((set, _)) = self.sets.get_key_value(set).filter(|(_, u)| u.ports.is_empty()) else {
            return;
        };
        let set = set.clone();
        self.unlink_set(&set);
        for (direction, remote) in self.sets.remove(&set).into_iter().flat_map(|u| u.conjunctions) {
            let key = (GroupSet::clone(&set), direction, remote);
            self.numbers.conjunctions.release(&key);
        }
        self.numbers.sets.release(&set);
    }
}

/// What a rule names as remote, other than a prefix.
pub(crate) fn rule_remote(rule: &SecurityGroupRule) -> Option<Remote> {
    match (rule.remote_group, rule.remote_address_group) {
        (Some(g), _) => Some(Remote::Group(g)),
        (None, Some(a)) => Some(Remote::Addresses(a)),
        (None, None) => None,
    }
}

/// The networks that a router has a leg in.
pub(crate) fn router_networks(r: &Router) -> impl Iterator<Item = NetworkId> {
    let gateway = r.gateway.iter().map(|g| g.network);
    r.interfaces.iter().map(|i| i.network).chain(gateway)
}

/// The addresses from which a port may ask for metadata.
pub(crate) fn client_addresses(port: &Port) -> Vec<IpAddr> {
    let mut out: Vec<IpAddr> = port
        .fixed_ips
        .iter()
        .map(|ip| ip.address)
        .filter(IpAddr::is_ipv4)
        .collect();
    out.push(port.mac.link_local().into());
    out
}
