//! Bridges, ports and controllers in the database of Open vSwitch (`ovs-vswitchd.conf.db(5)`).

use crate::Error;
use crate::database::{Database, Endpoint};
use crate::replica::Replica;
use crate::transaction::{Answer, Condition, Transaction};
use crate::value::{Atom, Datum, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// Columns that are needed; those that change all the time (statistics) are left out.
const WATCHED: &[(&str, &[&str])] = &[
    (
        "Open_vSwitch",
        &["bridges", "cur_cfg", "external_ids", "next_cfg", "ovs_version"],
    ),
    (
        "Bridge",
        &[
            "name",
            "ports",
            "datapath_type",
            "datapath_id",
            "fail_mode",
            "controller",
            "protocols",
            "external_ids",
        ],
    ),
    ("Port", &["name", "interfaces"]),
    (
        "Interface",
        &[
            "name",
            "type",
            "options",
            "ofport",
            "ofport_request",
            "error",
            "external_ids",
            "mtu_request",
        ],
    ),
    ("Controller", &["target", "is_connected"]),
];

/// The switch daemon applies a change in milliseconds; with a thousand ports in one transaction it took 2 s.
const APPLIED_WITHIN: Duration = Duration::from_secs(20);

/// How a bridge should be. What is not mentioned is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeSpec {
    /// Name.
    pub name: String,
    /// `system` or `netdev`; none keeps what is.
    pub datapath_type: Option<String>,
    /// `secure`: without a controller nothing is forwarded.
    pub secure: bool,
    /// `OpenFlow14`, …
    pub protocols: Vec<String>,
    /// `tcp:127.0.0.1:6633`, …
    pub controllers: Vec<String>,
    /// Noted when the bridge is made, so that it can be told from one that was there before.
    pub external_ids: BTreeMap<String, String>,
}

/// How a port should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortSpec {
    /// Name of the port and of its interface.
    pub name: String,
    /// `internal`, `patch`, `vxlan`, …; empty for an interface that exists.
    pub kind: String,
    /// Such as `peer`, `remote_ip`.
    pub options: BTreeMap<String, String>,
    /// Of the interface; kept beside those that others set.
    pub external_ids: BTreeMap<String, String>,
    /// Greatest packet.
    pub mtu: Option<u16>,
    /// Number that is wanted in OpenFlow.
    pub ofport: Option<u32>,
}

impl PortSpec {
    /// A port of this kind.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> PortSpec {
        PortSpec {
            name: name.into(),
            kind: kind.into(),
            ..PortSpec::default()
        }
    }

    /// One end of a pair that joins two bridges.
    pub fn patch(name: &str, peer: &str) -> PortSpec {
        PortSpec::new(name, "patch").option("peer", peer)
    }

    /// With an option.
    pub fn option(mut self, key: &str, value: &str) -> PortSpec {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With a note for others.
    pub fn external_id(mut self, key: &str, value: &str) -> PortSpec {
        self.external_ids.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// A port as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Type of its interface; empty for one of the system.
    pub kind: String,
    /// Number in OpenFlow, once the switch has opened it.
    pub ofport: Option<u32>,
    /// Why it could not.
    pub error: Option<String>,
    /// Options of its interface.
    pub options: BTreeMap<String, String>,
    /// Notes of its interface.
    pub external_ids: BTreeMap<String, String>,
}

/// The database of a switch.
#[derive(Clone)]
pub struct Vswitch {
    database: Database,
}

impl Vswitch {
    /// Connects to the database of a switch. It may still be empty.
    ///
    /// # Errors
    /// If there is none.
    pub async fn connect(endpoint: Endpoint) -> Result<Vswitch, Error> {
        let database = Database::connect(endpoint, "Open_vSwitch", WATCHED).await?;
        let v = Vswitch { database };
        if v.root().is_none() {
            // As `ovs-vsctl init`; two at once would make two rows, which the schema forbids.
            let mut t = Transaction::new();
            t.insert("Open_vSwitch", &Row::default());
            match v.database.transact(t).await {
                Ok(_) | Err(Error::Refused { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(v)
    }

    /// The database itself.
    pub fn database(&self) -> &Database {
        &self.database
    }

    fn root(&self) -> Option<Uuid> {
        self.database.read(|r| r.table("Open_vSwitch").keys().next().copied())
    }

    /// Version of the switch, once its daemon runs.
    pub fn version(&self) -> Option<String> {
        self.database
            .read(|r| Some(r.table("Open_vSwitch").values().next()?.text("ovs_version")?.to_owned()))
    }

    /// Does the operations and, if there are any, returns when the daemon has applied them.
    async fn apply(&self, mut t: Transaction) -> Result<(), Error> {
        if t.is_empty() {
            return Ok(());
        }
        let root = self.root().ok_or(Error::Disconnected)?;
        t.mutate("Open_vSwitch", &Condition::Is(root), "next_cfg", "+=", &1.into());
        let place = t.select("Open_vSwitch", &Condition::Is(root), &["next_cfg"]);
        let answers: Vec<Answer> = self.database.transact(t).await?;
        let wanted = answers.get(place).and_then(|a| a.rows.first()?.integer("next_cfg"));
        let wanted = wanted.ok_or_else(|| Error::Protocol("no next_cfg in the answer".to_owned()))?;
        let reached = |r: &Replica| r.row("Open_vSwitch", root)?.integer("cur_cfg").filter(|n| *n >= wanted);
        self.database
            .wait_for("for the switch to apply a change", APPLIED_WITHIN, reached)
            .await
            .map(drop)
    }

    /// Makes the bridge as it should be; returns when the switch has it.
    ///
    /// # Errors
    /// If the database refuses, or the switch daemon does not answer.
    pub async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<(), Error> {
        let root = self.root().ok_or(Error::Disconnected)?;
        let t = self.database.read(|r| bridge_changes(r, root, spec));
        self.apply(t).await
    }

    /// Leaves a bridge to itself: it has no controller any more and learns addresses, as one that `ovs-vsctl add-br` made.
    ///
    /// # Errors
    /// If the database refuses, or the switch daemon does not answer.
    pub async fn release_bridge(&self, name: &str) -> Result<(), Error> {
        let Some(bridge) = self.database.read(|r| r.find("Bridge", "name", name).map(|b| b.0)) else {
            return Ok(());
        };
        let mut t = Transaction::new();
        let free = Row::default()
            .with("controller", Datum::EMPTY)
            .with("fail_mode", Datum::EMPTY);
        t.update("Bridge", &Condition::Is(bridge), &free);
        self.apply(t).await
    }

    /// Removes the bridge with its ports, if there is one.
    ///
    /// # Errors
    /// If the database refuses, or the switch daemon does not answer.
    pub async fn delete_bridge(&self, name: &str) -> Result<(), Error> {
        let root = self.root().ok_or(Error::Disconnected)?;
        let Some(bridge) = self.database.read(|r| r.find("Bridge", "name", name).map(|b| b.0)) else {
            return Ok(());
        };
        let mut t = Transaction::new();
        t.mutate(
            "Open_vSwitch",
            &Condition::Is(root),
            "bridges",
            "delete",
            &bridge.into(),
        );
        self.apply(t).await
    }

    /// Makes ports as they should be, in one transaction. Does not wait for the switch; [`Vswitch::ofport`] does.
    /// A port of that name on another bridge is taken from there.
    ///
    /// # Errors
    /// If there is no such bridge, or the database refuses.
    pub async fn ensure_ports(&self, bridge: &str, specs: &[PortSpec]) -> Result<(), Error> {
        let t = self.database.read(|r| port_changes(r, bridge, specs))?;
        if t.is_empty() {
            return Ok(());
        }
        self.commit_quickly(t).await
    }

    /// Removes ports from whatever bridge they are on. Those that are not there are no error. Does not wait for the switch.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn delete_ports(&self, names: &[&str]) -> Result<(), Error> {
        let t = self.database.read(|r| {
            let mut t = Transaction::new();
            for (uuid, bridge) in r.table("Bridge") {
                let ports = bridge.uuids("ports");
                let doomed: Vec<Uuid> = ports
                    .into_iter()
                    .filter(|p| {
                        r.row("Port", *p)
                            .and_then(|p| p.text("name"))
                            .is_some_and(|n| names.contains(&n))
                    })
                    .collect();
                if !doomed.is_empty() {
                    t.mutate("Bridge", &Condition::Is(*uuid), "ports", "delete", &Datum::set(doomed));
                }
            }
            t
        });
        if t.is_empty() {
            Ok(())
        } else {
            self.commit_quickly(t).await
        }
    }

    /// Raises `next_cfg` too, without which the daemon may leave a change for later, but does not wait for it.
    async fn commit_quickly(&self, mut t: Transaction) -> Result<(), Error> {
        let root = self.root().ok_or(Error::Disconnected)?;
        t.mutate("Open_vSwitch", &Condition::Is(root), "next_cfg", "+=", &1.into());
        self.database.transact(t).await.map(drop)
    }

    /// The number of a port in OpenFlow, as soon as the switch has opened it.
    ///
    /// # Errors
    /// If the switch cannot open the interface, or not within that time.
    pub async fn ofport(&self, name: &str, within: Duration) -> Result<u32, Error> {
        let look = |r: &Replica| {
            let (_, row) = r.find("Interface", "name", name)?;
            match row.integer("ofport") {
                Some(n) if n > 0 => u32::try_from(n).ok().map(Ok),
                _ => row.text("error").map(|e| Err(e.to_owned())),
            }
        };
        let found = self
            .database
            .wait_for(&format!("for port {name}"), within, look)
            .await?;
        found.map_err(|message| Error::Switch {
            name: name.to_owned(),
            message,
        })
    }

    /// Names of the bridges, sorted.
    pub fn bridges(&self) -> Vec<String> {
        let mut names: Vec<String> = self.database.read(|r| {
            r.table("Bridge")
                .values()
                .filter_map(|b| b.text("name"))
                .map(str::to_owned)
                .collect()
        });
        names.sort();
        names
    }

    /// Identity of a bridge in OpenFlow, once the switch has made it.
    pub fn datapath_id(&self, bridge: &str) -> Option<u64> {
        self.database
            .read(|r| u64::from_str_radix(r.find("Bridge", "name", bridge)?.1.text("datapath_id")?, 16).ok())
    }

    /// The datapath type of a bridge.
    pub fn datapath_type(&self, bridge: &str) -> Option<String> {
        self.database.read(|r| {
            Some(
                r.find("Bridge", "name", bridge)?
                    .1
                    .text("datapath_type")
                    .unwrap_or_default()
                    .to_owned(),
            )
        })
    }

    /// Whether a bridge has this note.
    pub fn is_marked(&self, bridge: &str, key: &str, value: &str) -> bool {
        let marked = |b: &Row| b.map("external_ids").get(key).is_some_and(|v| v == value);
        self.database
            .read(|r| r.find("Bridge", "name", bridge).is_some_and(|b| marked(b.1)))
    }

    /// Controllers of a bridge, and whether each is connected.
    pub fn controllers(&self, bridge: &str) -> Vec<(String, bool)> {
        self.database.read(|r| {
            let Some((_, b)) = r.find("Bridge", "name", bridge) else {
                return Vec::new();
            };
            let rows = b.uuids("controller").into_iter().filter_map(|u| r.row("Controller", u));
            rows.map(|c| {
                (
                    c.text("target").unwrap_or_default().to_owned(),
                    c.boolean("is_connected"),
                )
            })
            .collect()
        })
    }

    /// Ports of a bridge, sorted by name, its own among them.
    pub fn ports(&self, bridge: &str) -> Vec<Port> {
        let mut ports = self.database.read(|r| {
            let Some((_, b)) = r.find("Bridge", "name", bridge) else {
                return Vec::new();
            };
            let rows = b.uuids("ports").into_iter().filter_map(|u| r.row("Port", u));
            rows.flat_map(|p| p.uuids("interfaces"))
                .filter_map(|u| r.row("Interface", u))
                .map(port_of)
                .collect::<Vec<_>>()
        });
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        ports
    }

    /// A port, and the bridge that it is on.
    pub fn port(&self, name: &str) -> Option<(String, Port)> {
        self.database.read(|r| {
            let port = r.find("Port", "name", name)?.0;
            let bridge = r.table("Bridge").values().find(|b| b.uuids("ports").contains(&port))?;
            let interface = r.find("Interface", "name", name)?.1;
            Some((bridge.text("name")?.to_owned(), port_of(interface)))
        })
    }

    /// Sets notes of the whole switch (such as `system-id`), beside those that others set.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn set_external_ids(&self, ids: &BTreeMap<String, String>) -> Result<(), Error> {
        let root = self.root().ok_or(Error::Disconnected)?;
        let t = self.database.read(|r| {
            let mut t = Transaction::new();
            if let Some(row) = r.row("Open_vSwitch", root) {
                set_pairs(&mut t, ("Open_vSwitch", root), row, "external_ids", ids);
            }
            t
        });
        if t.is_empty() {
            Ok(())
        } else {
            self.database.transact(t).await.map(drop)
        }
    }
}

fn port_of(i: &Row) -> Port {
    Port {
        name: i.text("name").unwrap_or_default().to_owned(),
        kind: i.text("type").unwrap_or_default().to_owned(),
        ofport: i
            .integer("ofport")
            .filter(|n| *n > 0)
            .and_then(|n| u32::try_from(n).ok()),
        error: i.text("error").map(str::to_owned),
        options: i.map("options"),
        external_ids: i.map("external_ids"),
    }
}

/// Adds pairs to a map column, in place of those with the same keys.
fn set_pairs(
    t: &mut Transaction,
    (table, uuid): (&str, Uuid),
    row: &Row,
    column: &str,
    want: &BTreeMap<String, String>,
) {
    let have = row.map(column);
    let differ: BTreeMap<String, String> = want
        .iter()
        .filter(|(k, v)| have.get(*k) != Some(*v))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if differ.is_empty() {
        return;
    }
    let keys = Datum::set(differ.keys().map(String::as_str));
    t.mutate(table, &Condition::Is(uuid), column, "delete", &keys);
    t.mutate(table, &Condition::Is(uuid), column, "insert", &Datum::map(&differ));
}

fn controllers(t: &mut Transaction, targets: &[String]) -> Datum {
    let row = |target: &String| {
        // The controller is on this machine: no in-band flows. A daemon that comes back is found within a second.
        Row::default()
            .with("target", target.as_str())
            .with("connection_mode", "out-of-band")
            .with("max_backoff", 1000)
    };
    Datum::Set(
        targets
            .iter()
            .map(|target| t.insert("Controller", &row(target)))
            .collect(),
    )
}

fn bridge_changes(r: &Replica, root: Uuid, spec: &BridgeSpec) -> Transaction {
    let mut t = Transaction::new();
    let mut wanted = Row::default();
    if let Some(d) = &spec.datapath_type {
        wanted = wanted.with("datapath_type", d.as_str());
    }
    if spec.secure {
        wanted = wanted.with("fail_mode", "secure");
    }
    let Some((uuid, row)) = r.find("Bridge", "name", &spec.name) else {
        let interface = t.insert(
            "Interface",
            &Row::default().with("name", spec.name.as_str()).with("type", "internal"),
        );
        let port = t.insert(
            "Port",
            &Row::default()
                .with("name", spec.name.as_str())
                .with("interfaces", interface),
        );
        let controllers = controllers(&mut t, &spec.controllers);
        wanted = wanted
            .with("name", spec.name.as_str())
            .with("ports", port)
            .with("controller", controllers);
        wanted = wanted.with("external_ids", Datum::map(&spec.external_ids));
        wanted = wanted.with("protocols", Datum::set(spec.protocols.iter().map(String::as_str)));
        let bridge = t.insert("Bridge", &wanted);
        t.mutate(
            "Open_vSwitch",
            &Condition::Is(root),
            "bridges",
            "insert",
            &Datum::Set(vec![bridge]),
        );
        return t;
    };
    wanted.0.retain(|column, value| row.0.get(column) != Some(value));
    let mut protocols: Vec<&str> = spec.protocols.iter().map(String::as_str).collect();
    protocols.sort_unstable();
    if !protocols.is_empty() && row.texts("protocols") != protocols {
        wanted = wanted.with("protocols", Datum::set(protocols));
    }
    let have: BTreeSet<&str> = row
        .uuids("controller")
        .into_iter()
        .filter_map(|u| r.row("Controller", u)?.text("target"))
        .collect();
    if have != spec.controllers.iter().map(String::as_str).collect() {
        let controllers = controllers(&mut t, &spec.controllers);
        wanted = wanted.with("controller", controllers);
    }
    if !wanted.0.is_empty() {
        t.update("Bridge", &Condition::Is(uuid), &wanted);
    }
    t
}

fn port_changes(r: &Replica, bridge: &str, specs: &[PortSpec]) -> Result<Transaction, Error> {
    let (bridge_uuid, bridge_row) = r.find("Bridge", "name", bridge).ok_or_else(|| Error::Switch {
        name: bridge.to_owned(),
        message: "there is no such bridge".to_owned(),
    })?;
    let here: BTreeSet<Uuid> = bridge_row.uuids("ports").into_iter().collect();
    let mut t = Transaction::new();
    let mut added: Vec<Atom> = Vec::new();
    for spec in specs {
        let existing = r.find("Port", "name", &spec.name);
        let interface = r.find("Interface", "name", &spec.name);
        if let (Some((port, _)), Some((uuid, row))) = (existing, interface)
            && here.contains(&port)
            && row.text("type").unwrap_or_default() == spec.kind
        {
            let mut wanted = Row::default();
            if row.map("options") != spec.options {
                wanted = wanted.with("options", Datum::map(&spec.options));
            }
            if let Some(mtu) = spec
                .mtu
                .map(i64::from)
                .filter(|m| row.integer("mtu_request") != Some(*m))
            {
                wanted = wanted.with("mtu_request", mtu);
            }
            if !wanted.0.is_empty() {
                t.update("Interface", &Condition::Is(uuid), &wanted);
            }
            set_pairs(&mut t, ("Interface", uuid), row, "external_ids", &spec.external_ids);
            continue;
        }
        if let Some((port, _)) = existing {
            // On another bridge, or of another kind: made anew.
            for (owner, _) in r
                .table("Bridge")
                .iter()
                .filter(|(_, b)| b.uuids("ports").contains(&port))
            {
                t.mutate("Bridge", &Condition::Is(*owner), "ports", "delete", &port.into());
            }
        }
        let mut row = Row::default()
            .with("name", spec.name.as_str())
            .with("type", spec.kind.as_str())
            .with("options", Datum::map(&spec.options))
            .with("external_ids", Datum::map(&spec.external_ids));
        if let Some(mtu) = spec.mtu {
            row = row.with("mtu_request", i64::from(mtu));
        }
        if let Some(n) = spec.ofport {
            row = row.with("ofport_request", i64::from(n));
        }
        let interface = t.insert("Interface", &row);
        added.push(
            t.insert(
                "Port",
                &Row::default()
                    .with("name", spec.name.as_str())
                    .with("interfaces", interface),
            ),
        );
    }
    if !added.is_empty() {
        t.mutate(
            "Bridge",
            &Condition::Is(bridge_uuid),
            "ports",
            "insert",
            &Datum::Set(added),
        );
    }
    Ok(t)
}
