//! A controller's database in memory, and objects to put into it.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use node_protocol::controller::{BoxError, DesiredState, ImageSource, ReportSink, Since, Snapshot};
use node_protocol::link::ImageData;
use node_protocol::message::{Change, Cursor};
use node_protocol::objects::{Object, ObjectKey, Server, Versioned, WantedPower};
use node_protocol::reports::{NodeHello, Progress, Report, Sequenced, ServerObserved};
use parking_lot::Mutex;
use serde_json::json;
use uuid::Uuid;

pub const LIMIT: Duration = Duration::from_secs(180);
pub const NODE: &str = "hv1";

/// A controller's database in memory.
#[derive(Default)]
pub struct Cloud {
    pub objects: Mutex<BTreeMap<ObjectKey, Versioned>>,
    pub log: Mutex<Vec<Change>>,
    pub seen: Mutex<HashMap<Uuid, ServerObserved>>,
    pub ports: Mutex<HashMap<Uuid, bool>>,
    pub gone: Mutex<Vec<Uuid>>,
    pub history: Mutex<Vec<Report>>,
    /// The data of every image.
    pub image: Option<PathBuf>,
}

impl Cloud {
    pub fn put(&self, object: Object) -> u64 {
        let mut log = self.log.lock();
        let revision = log.len() as u64 + 1;
        let object = Versioned { revision, object };
        self.objects.lock().insert(object.object.key(), object.clone());
        log.push(Change::Upsert(object));
        revision
    }

    pub fn delete(&self, key: ObjectKey) {
        let mut log = self.log.lock();
        let revision = log.len() as u64 + 1;
        self.objects.lock().remove(&key);
        log.push(Change::Delete { key, revision });
    }

    pub fn settled(&self, id: Uuid, revision: u64) -> Option<ServerObserved> {
        self.seen
            .lock()
            .get(&id)
            .filter(|seen| seen.revision >= revision && seen.progress == Progress::Settled)
            .cloned()
    }
}

impl DesiredState for Cloud {
    fn snapshot(&self, _node: &str) -> BoxFuture<'_, Result<Snapshot, BoxError>> {
        Box::pin(async move {
            let log = self.log.lock();
            let objects = self.objects.lock().values().cloned().collect();
            Ok(Snapshot {
                objects,
                cursor: Cursor(log.len() as u64),
            })
        })
    }

    fn changes_since(&self, _node: &str, cursor: Cursor) -> BoxFuture<'_, Result<Since, BoxError>> {
        Box::pin(async move {
            let log = self.log.lock();
            Ok(Since::Changes(
                log[cursor.0 as usize..].to_vec(),
                Cursor(log.len() as u64),
            ))
        })
    }
}

impl ReportSink for Cloud {
    fn connected(&self, _hello: NodeHello) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn report(&self, _node: &str, reports: Vec<Sequenced>) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            for Sequenced { report, .. } in reports {
                match report.clone() {
                    Report::Server(seen) => drop(self.seen.lock().insert(seen.id, seen)),
                    Report::ServerGone { id } => {
                        self.seen.lock().remove(&id);
                        self.gone.lock().push(id);
                    }
                    Report::Port(port) => drop(self.ports.lock().insert(port.id, port.active)),
                    Report::Inventory { servers, ports } => {
                        self.seen.lock().extend(servers.into_iter().map(|seen| (seen.id, seen)));
                        self.ports
                            .lock()
                            .extend(ports.into_iter().map(|port| (port.id, port.active)));
                    }
                    _ => {}
                }
                self.history.lock().push(report);
            }
            Ok(())
        })
    }

    fn disconnected(&self, _node: &str) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl ImageSource for Cloud {
    fn open(&self, _node: &str, _id: Uuid) -> BoxFuture<'_, Result<Option<ImageData>, BoxError>> {
        Box::pin(async move {
            let Some(path) = &self.image else { return Ok(None) };
            let bytes = std::fs::read(path)?;
            let size = Some(bytes.len() as u64);
            let pieces: Vec<_> = bytes.chunks(1 << 20).map(|piece| Ok(piece.to_vec().into())).collect();
            Ok(Some(ImageData {
                size,
                stream: futures_util::stream::iter(pieces).boxed(),
            }))
        })
    }
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    tokio::time::timeout(LIMIT, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

pub fn network() -> Object {
    let value = json!({"type": "vxlan", "segmentation_id": 7, "mtu": 1450});
    Object::Network(
        Uuid::from_u128(7).into(),
        serde_json::from_value(value).expect("a network"),
    )
}

pub fn subnet() -> Object {
    let value = json!({"network": Uuid::from_u128(7), "cidr": "10.0.0.0/16", "gateway": "10.0.0.1"});
    Object::Subnet(
        Uuid::from_u128(8).into(),
        serde_json::from_value(value).expect("a subnet"),
    )
}

pub fn port(n: u16) -> Object {
    let [high, low] = n.to_be_bytes();
    let value = json!({
        "network": Uuid::from_u128(7),
        "mac": format!("fa:16:3e:00:{high:02x}:{low:02x}"),
        "fixed_ips": [{"subnet": Uuid::from_u128(8), "address": format!("10.0.{high}.{low}")}],
        "device_owner": "compute:nova",
        "binding": {"local": {"interface": ""}},
    });
    Object::Port(
        port_id(n).into(),
        Box::new(serde_json::from_value(value).expect("a port")),
    )
}

pub fn port_id(n: u16) -> Uuid {
    Uuid::from_fields(u32::from(n), 1, 1, b"portport")
}

pub fn server(n: u128, ports: &[u16]) -> Server {
    let value = json!({
        "id": Uuid::from_u128(n << 64),
        "name": format!("server {n}"),
        "hostname": format!("server-{n}"),
        "project_id": "p",
        "user_id": "u",
        "flavor": {"id": "1", "name": "m1.tiny", "vcpus": 1, "ram_mib": 128, "disk_gib": 1},
        "image": {"id": Uuid::from_u128(99), "disk_format": "qcow2", "size": 1},
        "power": {"wanted": "running", "generation": 1},
        "shutdown_timeout": 1,
        "ports": ports.iter().map(|n| json!({"port_id": port_id(*n)})).collect::<Vec<_>>(),
        "availability_zone": "nova",
    });
    serde_json::from_value(value).expect("a server")
}

pub fn want(server: &mut Server, wanted: WantedPower) {
    server.power.wanted = wanted;
    server.power.generation += 1;
}
