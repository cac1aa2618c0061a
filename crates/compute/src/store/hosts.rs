//! The services and nodes that are known, and when they last said something.

use std::collections::HashMap;

use database::{Result, Row, Tx, params};
use node_protocol::reports::{Heartbeat, NodeHello};

/// A service: `nova-compute` on each node, `nova-scheduler` and `nova-conductor` on the controller.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The id before microversion 2.53.
    pub number: i64,
    /// UUID, the id since.
    pub id: String,
    /// Its host.
    pub host: String,
    /// `nova-compute`, …
    pub binary: String,
    /// Whether the scheduler leaves it out.
    pub disabled: bool,
    /// Why.
    pub disabled_reason: Option<String>,
    /// Whether somebody has declared it dead.
    pub forced_down: bool,
    /// The last beat, µs since the epoch.
    pub seen_at: Option<i64>,
    /// µs since the epoch.
    pub created_at: i64,
    /// µs since the epoch.
    pub updated_at: Option<i64>,
}

/// The service of a node.
pub const NODE_SERVICE: &str = "nova-compute";

impl Service {
    /// Whether it lives. The controller's own services do as long as they answer at all.
    pub fn is_up(&self, now: i64, down_seconds: i64) -> bool {
        if self.binary != NODE_SERVICE {
            return true;
        }
        !self.forced_down && self.seen_at.is_some_and(|seen| now - seen <= down_seconds * 1_000_000)
    }

    /// When it last beat.
    pub fn beat(&self, now: i64) -> Option<i64> {
        if self.binary == NODE_SERVICE {
            self.seen_at
        } else {
            Some(now)
        }
    }
}

const SERVICE: &str = "s.number, s.id, s.host, s.binary_name, s.disabled, s.disabled_reason, s.forced_down, s.seen_at, s.created_at, s.updated_at";
const SERVICE_COLUMNS: usize = 10;

fn read_service(row: &Row) -> Result<Service> {
    Ok(Service {
        number: row.get(0)?,
        id: row.get(1)?,
        host: row.get(2)?,
        binary: row.get(3)?,
        disabled: row.get(4)?,
        disabled_reason: row.get(5)?,
        forced_down: row.get(6)?,
        seen_at: row.get(7)?,
        created_at: row.get(8)?,
        updated_at: row.get(9)?,
    })
}

/// All services in the order in which they came.
pub fn services(tx: &mut Tx<'_>) -> Result<Vec<Service>> {
    tx.query(
        &format!("SELECT {SERVICE} FROM compute_services s ORDER BY s.number"),
        &[],
    )?
    .iter()
    .map(read_service)
    .collect()
}

/// One service by host and binary.
pub fn service(tx: &mut Tx<'_>, host: &str, binary: &str) -> Result<Option<Service>> {
    let sql = format!("SELECT {SERVICE} FROM compute_services s WHERE s.host = ?1 AND s.binary_name = ?2");
    tx.query_one(&sql, &params![host, binary])?
        .as_ref()
        .map(read_service)
        .transpose()
}

/// Makes a service known; one that is stays as it is.
pub fn ensure_service(tx: &mut Tx<'_>, host: &str, binary: &str, now: i64) -> Result<()> {
    let topic = binary.trim_start_matches("nova-");
    tx.execute(
        "INSERT INTO compute_services (id, host, binary_name, topic, disabled, forced_down, seen_at, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?5, ?5) ON CONFLICT (host, binary_name) DO NOTHING",
        &params![uuid::Uuid::new_v4().to_string(), host, binary, topic, now],
    )
    .map(|_| ())
}

/// Writes down a beat.
pub fn beat(tx: &mut Tx<'_>, host: &str, now: i64) -> Result<()> {
    let sql = "UPDATE compute_services SET seen_at = ?2, updated_at = ?2 WHERE host = ?1 AND binary_name = ?3";
    tx.execute(sql, &params![host, now, NODE_SERVICE]).map(|_| ())
}

/// Enables or disables a service.
pub fn set_disabled(tx: &mut Tx<'_>, number: i64, disabled: bool, reason: Option<&str>) -> Result<()> {
    let sql = "UPDATE compute_services SET disabled = ?2, disabled_reason = ?3 WHERE number = ?1";
    tx.execute(sql, &params![number, disabled, reason]).map(|_| ())
}

/// Declares a service dead, or not.
pub fn set_forced_down(tx: &mut Tx<'_>, number: i64, forced_down: bool) -> Result<()> {
    tx.execute(
        "UPDATE compute_services SET forced_down = ?2 WHERE number = ?1",
        &params![number, forced_down],
    )
    .map(|_| ())
}

/// Forgets a service and its node.
pub fn delete_service(tx: &mut Tx<'_>, service: &Service) -> Result<()> {
    if service.binary == NODE_SERVICE {
        tx.execute("DELETE FROM compute_nodes WHERE host = ?1", &params![&service.host])?;
        tx.execute("DELETE FROM aggregate_hosts WHERE host = ?1", &params![&service.host])?;
    }
    tx.execute(
        "DELETE FROM compute_services WHERE number = ?1",
        &params![service.number],
    )
    .map(|_| ())
}

/// A node: what the API calls a hypervisor.
#[derive(Clone, Debug)]
pub struct Node {
    /// The id before microversion 2.53.
    pub number: i64,
    /// UUID; also its resource provider's.
    pub id: String,
    /// Its host.
    pub host: String,
    /// `hypervisor_hostname`.
    pub hypervisor_hostname: String,
    /// What it said of itself.
    pub hello: NodeHello,
    /// Its last beat.
    pub heartbeat: Heartbeat,
    /// Its service.
    pub service: Service,
}

fn read_node(row: &Row) -> Result<Node> {
    let at = SERVICE_COLUMNS;
    let json = |i: usize| row.get::<String>(at + i);
    Ok(Node {
        service: read_service(row)?,
        number: row.get(at)?,
        id: row.get(at + 1)?,
        host: row.get(at + 2)?,
        hypervisor_hostname: row.get(at + 3)?,
        hello: serde_json::from_str(&json(4)?).unwrap_or_default(),
        heartbeat: serde_json::from_str(&json(5)?).unwrap_or_default(),
    })
}

/// All nodes in the order in which they came.
pub fn nodes(tx: &mut Tx<'_>) -> Result<Vec<Node>> {
    let sql = format!(
        "SELECT {SERVICE}, n.number, n.id, n.host, n.hypervisor_hostname, n.hello, n.heartbeat FROM compute_nodes n
         JOIN compute_services s ON s.host = n.host AND s.binary_name = ?1 ORDER BY n.number"
    );
    tx.query(&sql, &params![NODE_SERVICE])?.iter().map(read_node).collect()
}

/// Makes a node known, or writes down what is new of it; returns its UUID.
pub fn ensure_node(tx: &mut Tx<'_>, hello: &NodeHello, now: i64) -> Result<String> {
    let text = serde_json::to_string(hello).unwrap_or_default();
    let name = if hello.hypervisor_hostname.is_empty() {
        &hello.hostname
    } else {
        &hello.hypervisor_hostname
    };
    let known: Option<String> = tx.scalar(
        "SELECT id FROM compute_nodes WHERE host = ?1",
        &params![&hello.hostname],
    )?;
    match known {
        Some(id) => {
            let sql = "UPDATE compute_nodes SET hypervisor_hostname = ?2, hello = ?3, updated_at = ?4 WHERE id = ?1";
            tx.execute(sql, &params![&id, name, text, now])?;
            Ok(id)
        }
        None => {
            let id = uuid::Uuid::new_v4().to_string();
            tx.execute(
                "INSERT INTO compute_nodes (id, host, hypervisor_hostname, hello, heartbeat, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, '{}', ?5, ?5)",
                &params![&id, &hello.hostname, name, text, now],
            )?;
            Ok(id)
        }
    }
}

/// Writes down a node's beat.
pub fn set_heartbeat(tx: &mut Tx<'_>, host: &str, heartbeat: &Heartbeat, now: i64) -> Result<()> {
    let text = serde_json::to_string(heartbeat).unwrap_or_default();
    tx.execute(
        "UPDATE compute_nodes SET heartbeat = ?2, updated_at = ?3 WHERE host = ?1",
        &params![host, text, now],
    )
    .map(|_| ())
}

/// What the servers on each host take: (servers, vcpus, MiB of memory, GiB of disk, servers with something under way).
pub fn used(tx: &mut Tx<'_>) -> Result<HashMap<String, [i64; 5]>> {
    let sum = |column: &str| format!("CAST(COALESCE(SUM({column}), 0) AS BIGINT)");
    let sql = format!(
        "SELECT host, COUNT(*), {}, {}, {}, {} FROM servers WHERE deleted_at IS NULL AND host IS NOT NULL GROUP BY host",
        sum("vcpus"),
        sum("memory_mb"),
        sum("root_gb"),
        sum("CASE WHEN task_state IS NULL THEN 0 ELSE 1 END"),
    );
    tx.query(&sql, &[])?
        .iter()
        .map(|row| {
            Ok((
                row.get(0)?,
                [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?],
            ))
        })
        .collect()
}
