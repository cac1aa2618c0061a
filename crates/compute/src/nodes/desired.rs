//! What should be: the servers of a node, as a snapshot and as changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use database::{Feed, Tx};
use futures_util::future::BoxFuture;
use node_protocol::controller::{BoxError, DesiredState, Since, Snapshot};
use node_protocol::objects::{
    Flavor, ImageRef, KeyPair, Object, ObjectKey, ObjectKind, Personality, Power, Secret, Server as Wanted, ServerPort,
    Versioned, WantedPower,
};
use node_protocol::{Change, Cursor};
use serde_json::Value;
use uuid::Uuid;

use crate::Compute;
use crate::model::server::Server;
use crate::store::servers;

/// The servers that a node should have.
pub struct Desired(pub Arc<Compute>);

impl DesiredState for Desired {
    fn snapshot(&self, node: &str) -> BoxFuture<'_, Result<Snapshot, BoxError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let snapshot = self.0.db.read(|tx| {
                let cursor = Cursor(Feed::latest(tx)?.max(0) as u64);
                let rows = servers::on_host(tx, &node)?;
                let objects = desired_servers(tx, &self.0, &rows)?;
                Ok::<_, api::Error>(Snapshot { objects, cursor })
            })?;
            Ok(snapshot)
        })
    }

    fn changes_since(&self, node: &str, cursor: Cursor) -> BoxFuture<'_, Result<Since, BoxError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let since = self.0.db.read(|tx| {
                let Some(changes) = Feed::since(tx, cursor.0 as i64)? else {
                    return Ok(Since::TooOld);
                };
                let newest = changes.last().map_or(cursor, |c| Cursor(c.sequence.max(0) as u64));
                let mut ids: Vec<String> = Vec::new();
                for change in changes.into_iter().filter(|c| c.topic == "server") {
                    if !ids.contains(&change.key) {
                        ids.push(change.key);
                    }
                }
                let changes = changes_for(tx, &self.0, &node, &ids)?;
                Ok::<_, api::Error>(Since::Changes(changes, newest))
            })?;
            Ok(since)
        })
    }
}

fn changes_for(tx: &mut Tx<'_>, compute: &Compute, node: &str, ids: &[String]) -> Result<Vec<Change>, api::Error> {
    let mut here = Vec::new();
    let mut out = Vec::new();
    for slice in ids.chunks(500) {
        let sql = format!("WHERE id IN {}", crate::store::places(1, slice.len()));
        for server in Server::select(tx, &sql, &crate::store::texts(slice))? {
            let is_here = server.host.as_deref() == Some(node);
            if is_here && server.deleted_at.is_none() {
                here.push(server);
            } else if is_here || server.saved["left"] == node {
                let Ok(id) = Uuid::parse_str(&server.id) else { continue };
                let key = ObjectKey {
                    kind: ObjectKind::Server,
                    id,
                };
                out.push(Change::Delete {
                    key,
                    revision: server.revision.max(0) as u64,
                });
            }
        }
    }
    out.extend(desired_servers(tx, compute, &here)?.into_iter().map(Change::Upsert));
    Ok(out)
}

/// The servers as their nodes are told of them.
///
/// # Errors
/// The database's, and Networking's.
pub fn desired_servers(tx: &mut Tx<'_>, compute: &Compute, rows: &[Server]) -> Result<Vec<Versioned>, api::Error> {
    let ids: Vec<String> = rows.iter().map(|s| s.id.clone()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut metadata = servers::metadata(tx, &ids)?;
    let mut ports = servers::ports(tx, &ids)?;
    let nics = compute.neighbours.ports.nics(tx, &ids)?;
    let mut out = Vec::with_capacity(rows.len());
    for server in rows {
        let mut groups: Vec<String> = Vec::new();
        for (_, name) in nics
            .get(&server.id)
            .into_iter()
            .flatten()
            .flat_map(|nic| &nic.security_groups)
        {
            if !groups.contains(name) {
                groups.push(name.clone());
            }
        }
        let texts = metadata.remove(&server.id).unwrap_or_default();
        let texts = texts
            .into_iter()
            .map(|(k, v)| (k, v.as_str().unwrap_or_default().to_owned()))
            .collect();
        let ports = ports.remove(&server.id).unwrap_or_default();
        let ports = ports.into_iter().filter_map(|p| {
            Some(ServerPort {
                port_id: Uuid::parse_str(&p.port_id).ok()?,
                tag: p.tag,
            })
        });
        let Some(wanted) = wanted(server, ports.collect(), texts, groups) else {
            tracing::error!(server = server.id, "a server's row cannot be told to its node");
            continue;
        };
        let revision = server.revision.max(0) as u64;
        out.push(Versioned {
            revision,
            object: Object::Server(Box::new(wanted)),
        });
    }
    Ok(out)
}

fn wanted(
    server: &Server,
    ports: Vec<ServerPort>,
    metadata: BTreeMap<String, String>,
    security_groups: Vec<String>,
) -> Option<Wanted> {
    let number = |v: i64| v.max(0) as u64;
    let wanted_power = match server.power_wanted.as_str() {
        "running" => WantedPower::Running,
        "stopped" => WantedPower::Stopped,
        "paused" => WantedPower::Paused,
        "suspended" => WantedPower::Suspended,
        _ => WantedPower::Deleted,
    };
    let image = image_ref(server);
    let shutdown = server.image["properties"]["os_shutdown_timeout"]
        .as_str()
        .and_then(|t| t.parse().ok())
        .unwrap_or(60);
    let key_pair = server.key_pair.as_ref().map(|key| KeyPair {
        name: text(key, "name"),
        kind: text(key, "type"),
        public_key: text(key, "public_key"),
    });
    let personality = server
        .personality
        .as_array()
        .into_iter()
        .flatten()
        .map(|file| Personality {
            path: text(file, "path"),
            contents: Secret::new(text(file, "contents")),
        });
    Some(Wanted {
        id: Uuid::parse_str(&server.id).ok()?,
        name: server.name.clone(),
        hostname: server.hostname.clone(),
        project_id: server.project_id.clone(),
        user_id: server.user_id.clone(),
        flavor: flavor(server),
        image,
        power: Power {
            wanted: wanted_power,
            generation: number(server.power_generation),
        },
        soft_reboot: number(server.soft_reboot),
        hard_reboot: number(server.hard_reboot),
        rebuild: number(server.rebuild),
        shutdown_timeout: shutdown,
        ports,
        config_drive: !server.config_drive.is_empty() || server.image["properties"]["img_config_drive"] == "mandatory",
        metadata,
        key_pair,
        user_data: server.user_data.as_deref().map(Secret::new),
        personality: personality.collect(),
        admin_password: server.admin_password.as_deref().map(Secret::new),
        availability_zone: server.availability_zone.clone().unwrap_or_default(),
        reservation_id: server.reservation_id.clone(),
        launch_index: server.launch_index.max(0) as u32,
        security_groups,
        vendor_data: None,
        posted_password: Some(server.posted_password.clone()).filter(|p| !p.is_empty()),
    })
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let all = value.as_object().into_iter().flatten();
    all.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

fn flavor(server: &Server) -> Flavor {
    let f = &server.flavor;
    let number = |key: &str| f[key].as_u64().unwrap_or(0);
    Flavor {
        id: text(f, "id"),
        name: text(f, "name"),
        vcpus: number("vcpus") as u32,
        ram_mib: number("memory_mb"),
        disk_gib: number("root_gb"),
        swap_mib: number("swap"),
        ephemeral_gib: number("ephemeral_gb"),
        extra_specs: texts(&f["extra_specs"]),
    }
}

fn image_ref(server: &Server) -> Option<ImageRef> {
    let image = &server.image;
    let optional = |key: &str| image[key].as_str().map(str::to_owned);
    Some(ImageRef {
        id: Uuid::parse_str(&server.image_id).ok()?,
        name: text(image, "name"),
        disk_format: text(image, "disk_format"),
        size: image["size"].as_u64().unwrap_or(0),
        checksum: optional("checksum"),
        os_hash_algo: optional("os_hash_algo"),
        os_hash_value: optional("os_hash_value"),
        properties: texts(&image["properties"]),
    })
}
