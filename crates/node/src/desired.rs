//! What should be on this node, as the controller said it last. It is kept on disk, so that a node that starts without a controller goes on.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;

use node_protocol::message::Change;
use node_protocol::objects::{Object, ObjectKey, Server, Versioned, tap_name};
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;
use virtual_network::topology::{self, Binding, NodeInfo, Port, PortId, Topology};

/// A server that should be, and at which revision.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The revision.
    pub revision: u64,
    /// The server.
    pub server: Arc<Server>,
}

/// What a change has touched.
#[derive(Debug, Default)]
pub struct Touched {
    /// Servers to be looked at.
    pub servers: Vec<Uuid>,
    /// What changed of the networks, in order.
    pub network: Vec<topology::Change>,
}

/// What should be. Shared by the node's parts; locked only for moments.
pub struct Desired {
    state: RwLock<State>,
    journal: Option<Mutex<Journal>>,
}

#[derive(Default)]
struct State {
    servers: HashMap<Uuid, Wanted>,
    topology: Topology,
    revisions: HashMap<ObjectKey, u64>,
    /// Port → server, from the servers' lists.
    owners: HashMap<Uuid, Uuid>,
    /// A whole snapshot has come since the node started.
    confirmed: bool,
}

impl Desired {
    /// What was kept in `file` (`None`: nothing is kept, as in a simulated cloud).
    pub fn open(file: Option<PathBuf>, node: NodeInfo) -> io::Result<Self> {
        let mut state = State {
            topology: Topology {
                node,
                ..Topology::default()
            },
            ..State::default()
        };
        let journal = match file {
            Some(path) => {
                let (journal, changes) = Journal::open(path)?;
                for change in changes {
                    state.apply(change, &mut Touched::default());
                }
                Some(Mutex::new(journal))
            }
            None => None,
        };
        Ok(Self {
            state: RwLock::new(state),
            journal,
        })
    }

    /// Takes over a snapshot: it is all that should be.
    pub fn replace(&self, objects: Vec<Versioned>) -> Touched {
        let mut touched = Touched::default();
        let mut state = self.state.write();
        let node = state.topology.node.clone();
        let old = std::mem::take(&mut *state);
        state.topology.node = node;
        for object in &objects {
            state.apply(Change::Upsert(object.clone()), &mut Touched::default());
        }
        state.confirmed = true;
        touched.network = old.topology.changes_to(&state.topology);
        touched.servers = old.servers.keys().chain(state.servers.keys()).copied().collect();
        touched.servers.sort_unstable();
        touched.servers.dedup();
        self.record(|journal| journal.rewrite(&objects));
        touched
    }

    /// Takes over changes.
    pub fn change(&self, changes: Vec<Change>) -> Touched {
        let mut touched = Touched::default();
        let mut state = self.state.write();
        for change in &changes {
            state.apply(change.clone(), &mut touched);
        }
        self.record(|journal| {
            journal.append(&changes)?;
            if journal.lines > 1000 + 4 * state.revisions.len() {
                journal.rewrite(&state.objects())?;
            }
            Ok(())
        });
        touched
    }

    fn record(&self, write: impl FnOnce(&mut Journal) -> io::Result<()>) {
        if let Some(journal) = &self.journal
            && let Err(error) = write(&mut journal.lock())
        {
            // The controller has the truth; only a start without it would know less.
            tracing::error!(%error, "what should be cannot be kept on disk");
        }
    }

    /// Whether a whole snapshot has come since the node started: only then is it known what should not be.
    pub fn is_confirmed(&self) -> bool {
        self.state.read().confirmed
    }

    /// A server that should be.
    pub fn server(&self, id: Uuid) -> Option<Wanted> {
        self.state.read().servers.get(&id).cloned()
    }

    /// All servers that should be.
    pub fn servers(&self) -> Vec<Uuid> {
        self.state.read().servers.keys().copied().collect()
    }

    /// The server that has a port.
    pub fn owner(&self, port: PortId) -> Option<Wanted> {
        let state = self.state.read();
        state.servers.get(state.owners.get(&port.0)?).cloned()
    }

    /// A port with its network, if both are known.
    pub fn port(&self, id: PortId) -> Option<(Port, topology::Network)> {
        let state = self.state.read();
        let port = state.topology.ports.get(&id)?;
        Some((port.clone(), state.topology.networks.get(&port.network)?.clone()))
    }

    /// The revision of a port.
    pub fn port_revision(&self, id: PortId) -> u64 {
        let key = ObjectKey {
            kind: node_protocol::ObjectKind::Port,
            id: id.0,
        };
        self.state.read().revisions.get(&key).copied().unwrap_or(0)
    }

    /// Reads the networks.
    pub fn with_topology<T>(&self, read: impl FnOnce(&Topology) -> T) -> T {
        read(&self.state.read().topology)
    }
}

impl State {
    /// Takes over a change, unless something newer is known.
    fn apply(&mut self, change: Change, touched: &mut Touched) {
        let (key, revision) = match &change {
            Change::Upsert(object) => (object.object.key(), object.revision),
            Change::Delete { key, revision } => (*key, *revision),
        };
        if self.revisions.get(&key).is_some_and(|known| *known > revision) {
            return;
        }
        let network = match change {
            Change::Upsert(Versioned { object, .. }) => {
                self.revisions.insert(key, revision);
                self.upsert(object, revision, touched)
            }
            Change::Delete { .. } => {
                self.revisions.remove(&key);
                self.delete(key, touched)
            }
        };
        if let Some(network) = network {
            if let topology::Change::Port(id, _) = &network
                && let Some(owner) = self.owners.get(&id.0)
            {
                touched.servers.push(*owner);
            }
            touched.network.push(network.clone());
            self.topology.apply(network);
        }
    }

    fn upsert(&mut self, object: Object, revision: u64, touched: &mut Touched) -> Option<topology::Change> {
        Some(match object {
            Object::Server(server) => {
                let id = server.id;
                self.disown(id);
                self.owners.extend(server.ports.iter().map(|port| (port.port_id, id)));
                self.servers.insert(
                    id,
                    Wanted {
                        revision,
                        server: Arc::new(*server),
                    },
                );
                touched.servers.push(id);
                return None;
            }
            Object::Network(id, value) => topology::Change::Network(id, Some(value)),
            Object::Subnet(id, value) => topology::Change::Subnet(id, Some(value)),
            Object::Port(id, value) => {
                let mut value = *value;
                if let Binding::Local { interface } = &mut value.binding {
                    // What the node calls it is the node's affair.
                    *interface = tap_name(id);
                }
                topology::Change::Port(id, Some(value))
            }
            Object::Router(id, value) => topology::Change::Router(id, Some(value)),
            Object::FloatingIp(id, value) => topology::Change::FloatingIp(id, Some(value)),
            Object::SecurityGroup(id, value) => topology::Change::SecurityGroup(id, Some(value)),
            Object::AddressGroup(id, value) => topology::Change::AddressGroup(id, Some(value)),
        })
    }

    /// Forgets whose the ports of a server are.
    fn disown(&mut self, id: Uuid) {
        for port in self
            .servers
            .get(&id)
            .into_iter()
            .flat_map(|wanted| &wanted.server.ports)
        {
            self.owners.remove(&port.port_id);
        }
    }

    fn delete(&mut self, key: ObjectKey, touched: &mut Touched) -> Option<topology::Change> {
        use node_protocol::ObjectKind as Kind;
        let id = key.id;
        Some(match key.kind {
            Kind::Server => {
                self.disown(id);
                self.servers.remove(&id);
                touched.servers.push(id);
                return None;
            }
            Kind::Network => topology::Change::Network(id.into(), None),
            Kind::Subnet => topology::Change::Subnet(id.into(), None),
            Kind::Port => topology::Change::Port(id.into(), None),
            Kind::Router => topology::Change::Router(id.into(), None),
            Kind::FloatingIp => topology::Change::FloatingIp(id.into(), None),
            Kind::SecurityGroup => topology::Change::SecurityGroup(id.into(), None),
            Kind::AddressGroup => topology::Change::AddressGroup(id.into(), None),
        })
    }

    fn objects(&self) -> Vec<Versioned> {
        let t = &self.topology;
        let servers = self
            .servers
            .values()
            .map(|wanted| Object::Server(Box::new((*wanted.server).clone())));
        let networks = t.networks.iter().map(|(id, v)| Object::Network(*id, v.clone()));
        let subnets = t.subnets.iter().map(|(id, v)| Object::Subnet(*id, v.clone()));
        let ports = t.ports.iter().map(|(id, v)| Object::Port(*id, Box::new(v.clone())));
        let routers = t.routers.iter().map(|(id, v)| Object::Router(*id, v.clone()));
        let floating = t.floating_ips.iter().map(|(id, v)| Object::FloatingIp(*id, v.clone()));
        let groups = t
            .security_groups
            .iter()
            .map(|(id, v)| Object::SecurityGroup(*id, v.clone()));
        let addresses = t
            .address_groups
            .iter()
            .map(|(id, v)| Object::AddressGroup(*id, v.clone()));
        let all = servers
            .chain(networks)
            .chain(subnets)
            .chain(ports)
            .chain(routers)
            .chain(floating)
            .chain(groups);
        all.chain(addresses)
            .map(|object| Versioned {
                revision: self.revisions.get(&object.key()).copied().unwrap_or(0),
                object,
            })
            .collect()
    }
}

/// A file of changes, one JSON document per line; read from its begin it gives what should be. A line cut short by a power cut ends it.
struct Journal {
    path: PathBuf,
    file: fs::File,
    lines: usize,
}

fn open_private(path: &std::path::Path, append: bool) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Servers carry user data and passwords.
    fs::OpenOptions::new()
        .write(true)
        .append(append)
        .create(true)
        .truncate(!append)
        .mode(0o600)
        .open(path)
}

impl Journal {
    fn open(path: PathBuf) -> io::Result<(Self, Vec<Change>)> {
        let mut changes = Vec::new();
        let mut whole = true;
        if let Ok(file) = fs::File::open(&path) {
            for line in BufReader::new(file).split(b'\n') {
                match serde_json::from_slice(&line?) {
                    Ok(change) => changes.push(change),
                    Err(error) => {
                        tracing::warn!(%error, file = %path.display(), "what should be was cut short here; the controller will tell");
                        whole = false;
                        break;
                    }
                }
            }
        }
        let mut journal = Self {
            file: open_private(&path, true)?,
            path,
            lines: changes.len(),
        };
        if !whole {
            // Nothing is to be appended to half a line.
            let text = lines(&changes)?;
            journal.write_anew(&text, changes.len())?;
        }
        Ok((journal, changes))
    }

    fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        self.lines += changes.len();
        self.file.write_all(&lines(changes)?)
    }

    fn rewrite(&mut self, objects: &[Versioned]) -> io::Result<()> {
        let changes: Vec<Change> = objects.iter().cloned().map(Change::Upsert).collect();
        self.write_anew(&lines(&changes)?, changes.len())
    }

    fn write_anew(&mut self, text: &[u8], lines: usize) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = open_private(&new, false)?;
        file.write_all(text)?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        self.file = open_private(&self.path, true)?;
        self.lines = lines;
        Ok(())
    }
}

fn lines(changes: &[Change]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for change in changes {
        serde_json::to_writer(&mut text, change).map_err(io::Error::other)?;
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{network, port, server, upsert};

    fn ids(desired: &Desired) -> Vec<Uuid> {
        let mut ids = desired.servers();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn what_should_be_survives_a_restart_and_half_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desired");
        let (a, b) = (server(1), server(2));
        {
            let desired = Desired::open(Some(path.clone()), NodeInfo::default()).unwrap();
            desired.replace(vec![upsert(1, network(7)), upsert(1, a.clone())]);
            desired.change(vec![Change::Upsert(upsert(2, b.clone()))]);
            desired.change(vec![Change::Delete {
                key: a.key(),
                revision: 3,
            }]);
        }
        let again = Desired::open(Some(path.clone()), NodeInfo::default()).unwrap();
        assert_eq!(ids(&again), vec![b.key().id]);
        assert_eq!(again.with_topology(|t| t.networks.len()), 1);
        assert!(
            !again.is_confirmed(),
            "what is on disk says what should be, not what should not"
        );
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 5]).unwrap();
        let cut = Desired::open(Some(path.clone()), NodeInfo::default()).unwrap();
        cut.change(vec![Change::Upsert(upsert(4, server(3)))]);
        let after = Desired::open(Some(path), NodeInfo::default()).unwrap();
        assert!(ids(&after).contains(&server(3).key().id));
    }

    #[test]
    fn the_journal_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desired");
        let desired = Desired::open(Some(path.clone()), NodeInfo::default()).unwrap();
        for revision in 0..5000 {
            desired.change(vec![Change::Upsert(upsert(revision, server(1)))]);
        }
        assert!(fs::read_to_string(path).unwrap().lines().count() < 2000);
    }

    #[test]
    fn an_older_change_does_not_undo_a_newer_one_but_a_snapshot_is_all() {
        let desired = Desired::open(None, NodeInfo::default()).unwrap();
        let a = server(1);
        desired.change(vec![Change::Upsert(upsert(5, a.clone()))]);
        desired.change(vec![Change::Delete {
            key: a.key(),
            revision: 4,
        }]);
        assert_eq!(ids(&desired), vec![a.key().id]);
        let touched = desired.replace(vec![]);
        assert_eq!(touched.servers, vec![a.key().id]);
        assert!(ids(&desired).is_empty() && desired.is_confirmed());
    }

    #[test]
    fn a_port_wakes_its_server_and_has_the_nodes_name_for_its_tap() {
        let desired = Desired::open(None, NodeInfo::default()).unwrap();
        let Object::Server(mut a) = server(1) else {
            panic!("a server")
        };
        a.ports = vec![node_protocol::objects::ServerPort {
            port_id: Uuid::from_u128(9),
            tag: None,
        }];
        desired.change(vec![
            Change::Upsert(upsert(1, Object::Server(a.clone()))),
            Change::Upsert(upsert(1, network(7))),
        ]);
        let touched = desired.change(vec![Change::Upsert(upsert(1, port(9, 7)))]);
        assert_eq!(touched.servers, vec![a.id]);
        let (port, _) = desired.port(PortId(Uuid::from_u128(9))).unwrap();
        assert_eq!(
            port.binding,
            Binding::Local {
                interface: tap_name(PortId(Uuid::from_u128(9)))
            }
        );
        assert_eq!(desired.owner(PortId(Uuid::from_u128(9))).unwrap().server.id, a.id);
    }
}
