//! Networking's two ends towards the nodes: what should be, and what they say is.

use crate::caller::Cx;
use crate::rest::agents::{self, NodeReport};
use crate::rest::bindings;
use crate::topology::{self, Nodes, Reach};
use crate::{Network, Result};
use ::api::Context;
use database::Feed;
use futures_util::future::BoxFuture;
use node_protocol::controller::{BoxError, DesiredState, ReportSink, Since, Snapshot};
use node_protocol::objects::{Object, ObjectKey, ObjectKind, Versioned};
use node_protocol::reports::{NodeHello, Report, Sequenced};
use node_protocol::{Change, Cursor};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// What of the feed is Networking's.
const TOPICS: &[&str] = &["network", "subnet", "port", "router", "floatingip", "security_group", "address_group", "network_node"];

/// The part of the virtual networks that each node should have. Remembers what each was last told to be in reach, so that a change costs
/// its own size; where it does not know, it asks for a snapshot.
struct Desired {
    network: Arc<Network>,
    told: Mutex<HashMap<String, Reach>>,
}

struct Sink(Arc<Network>);

impl Network {
    /// What nodes should have.
    pub fn desired_state(self: &Arc<Self>) -> Arc<dyn DesiredState> {
        Arc::new(Desired { network: self.clone(), told: Mutex::default() })
    }

    /// Takes what nodes report.
    pub fn report_sink(self: &Arc<Self>) -> Arc<dyn ReportSink> {
        Arc::new(Sink(self.clone()))
    }

    fn read_internal<T>(&self, f: impl FnOnce(&mut Cx<'_, '_>) -> Result<T>) -> Result<T> {
        let context = Arc::new(Context::internal());
        self.db.read(|tx| f(&mut self.within(tx, &context)))
    }
}

impl Desired {
    fn snapshot_now(&self, node: &str) -> Result<Snapshot> {
        let (snapshot, reach) = self.network.read_internal(|cx| {
            let cursor = Cursor(Feed::latest(cx.tx)?.max(0) as u64);
            let nodes = Nodes::load(cx)?;
            let reach = topology::reach(cx, &nodes, node)?;
            let objects = topology::snapshot(cx, &nodes, node, &reach)?;
            let objects = objects.into_iter().map(|object| Versioned { revision: cursor.0, object }).collect();
            Ok((Snapshot { objects, cursor }, reach))
        })?;
        self.told.lock().insert(node.to_string(), reach);
        Ok(snapshot)
    }

    fn changes_now(&self, node: &str, cursor: Cursor) -> Result<Since> {
        let Some(before) = self.told.lock().get(node).cloned() else { return Ok(Since::TooOld) };
        let found = self.network.read_internal(|cx| {
            let Some(changes) = Feed::since(cx.tx, cursor.0 as i64)? else { return Ok(None) };
            let newest = changes.last().map_or(cursor, |c| Cursor(c.sequence.max(0) as u64));
            let mut changed: Vec<(String, String)> = Vec::new();
            for change in changes.into_iter().filter(|c| TOPICS.contains(&c.topic.as_str())) {
                let pair = (change.topic, change.key);
                if !changed.contains(&pair) {
                    changed.push(pair);
                }
            }
            if changed.is_empty() {
                return Ok(Some((Vec::new(), newest, None)));
            }
            // Another node's tunnel or bridges change the bindings of everything that is there.
            if changed.iter().any(|(topic, _)| topic == "network_node") {
                return Ok(None);
            }
            let nodes = Nodes::load(cx)?;
            let reach = topology::reach(cx, &nodes, node)?;
            let (mut told, mut gone) = topology::changes(cx, &nodes, node, &reach, &changed)?;
            if reach != before {
                moved(cx, &nodes, node, &before, &reach, &mut told, &mut gone)?;
            }
            let revision = newest.0;
            let mut out: Vec<Change> = gone.into_iter().map(|key| Change::Delete { key, revision }).collect();
            out.extend(told.into_iter().map(|object| Change::Upsert(Versioned { revision, object })));
            Ok(Some((out, newest, Some(reach))))
        })?;
        let Some((changes, newest, reach)) = found else { return Ok(Since::TooOld) };
        if let Some(reach) = reach {
            self.told.lock().insert(node.to_string(), reach);
        }
        Ok(Since::Changes(changes, newest))
    }
}

/// The node's reach itself changed: all that came into it is told, all that left it is taken back.
fn moved(
    cx: &mut Cx<'_, '_>,
    nodes: &Nodes,
    node: &str,
    before: &Reach,
    now: &Reach,
    told: &mut Vec<Object>,
    gone: &mut Vec<ObjectKey>,
) -> Result<()> {
    let difference = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<BTreeSet<_>>();
    let new = Reach { networks: difference(&now.networks, &before.networks), routers: difference(&now.routers, &before.routers) };
    for object in topology::snapshot(cx, nodes, node, &new)? {
        if !told.iter().any(|t| t.key() == object.key()) {
            told.push(object);
        }
    }
    let left = Reach { networks: difference(&before.networks, &now.networks), routers: difference(&before.routers, &now.routers) };
    let networks: Vec<String> = left.networks.iter().cloned().collect();
    let mut forget = |kind: ObjectKind, id: Uuid| {
        let key = ObjectKey { kind, id };
        if !gone.contains(&key) && !told.iter().any(|t| t.key() == key) {
            gone.push(key);
        }
    };
    for (kind, ids) in [(ObjectKind::Network, &left.networks), (ObjectKind::Router, &left.routers)] {
        for id in ids.iter().filter_map(|id| Uuid::parse_str(id).ok()) {
            forget(kind, id);
        }
    }
    let routers: Vec<String> = left.routers.iter().cloned().collect();
    let mut objects = topology::subnet_objects(cx, "network_id", &networks)?;
    objects.extend(topology::port_objects(cx, nodes, node, "network_id", &networks)?.into_iter().map(|(_, o)| o));
    objects.extend(topology::floating_ip_objects(cx, "router_id", &routers)?.into_iter().map(|(_, o)| o));
    for key in objects.iter().map(Object::key) {
        forget(key.kind, key.id);
    }
    Ok(())
}

impl DesiredState for Desired {
    fn snapshot(&self, node: &str) -> BoxFuture<'_, Result<Snapshot, BoxError>> {
        let node = node.to_owned();
        Box::pin(async move { Ok(self.snapshot_now(&node)?) })
    }

    fn changes_since(&self, node: &str, cursor: Cursor) -> BoxFuture<'_, Result<Since, BoxError>> {
        let node = node.to_owned();
        Box::pin(async move { Ok(self.changes_now(&node, cursor)?) })
    }
}

fn hello_of(cx: &mut Cx<'_, '_>, hello: &NodeHello) -> Result<()> {
    let report = NodeReport {
        host: &hello.hostname,
        tunnel_ip: hello.tunnel_ip.as_deref(),
        integration_bridge: &hello.network.integration_bridge,
        datapath_type: &hello.network.datapath_type,
        bridge_mappings: serde_json::json!(hello.network.bridge_mappings),
        tunnel_types: hello.network.tunnel_types.clone(),
    };
    agents::reported(cx, &report)
}

fn take(cx: &mut Cx<'_, '_>, node: &str, report: &Report) -> Result<()> {
    match report {
        Report::Node(hello) => hello_of(cx, hello),
        Report::Heartbeat(_) => agents::beat(cx, node),
        Report::Port(port) => bindings::observed(cx, node, &port.id.to_string(), port.active),
        Report::Inventory { ports, .. } => {
            for port in ports {
                bindings::observed(cx, node, &port.id.to_string(), port.active)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

impl ReportSink for Sink {
    fn connected(&self, hello: NodeHello) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let context = Arc::new(Context::internal());
            let done = self.0.write_as(&context, |cx| hello_of(cx, &hello));
            done.map_err(|error| {
                tracing::error!(node = hello.hostname, %error, "a node's hello could not be written down");
                "the controller could not write the node down".into()
            })
        })
    }

    fn report(&self, node: &str, reports: Vec<Sequenced>) -> BoxFuture<'_, Result<(), BoxError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let ours = |r: &Report| matches!(r, Report::Node(_) | Report::Heartbeat(_) | Report::Port(_) | Report::Inventory { .. });
            let reports: Vec<&Report> = reports.iter().map(|r| &r.report).filter(|r| ours(r)).collect();
            if reports.is_empty() {
                return Ok(());
            }
            let context = Arc::new(Context::internal());
            self.0.write_as(&context, |cx| reports.iter().try_for_each(|report| take(cx, &node, report)))?;
            Ok(())
        })
    }

    fn disconnected(&self, _node: &str) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
