//! Servers with their metadata, tags and ports.

use std::collections::HashMap;

use database::{Direction, Result, Select, Tx, Value, params};
use serde_json::Map;

use crate::model::server::Server;

/// The next number of a server.
pub fn next_number(tx: &mut Tx<'_>, id: &str) -> Result<i64> {
    let number = super::insert_numbered(tx, "server_numbers", &["server_id"], &params![id])?;
    if number % 1000 == 0 {
        // The rows only make the numbers; the servers keep theirs.
        tx.execute("DELETE FROM server_numbers WHERE number < ?1", &params![number])?;
    }
    Ok(number)
}

/// The server, deleted ones only where `deleted` says so.
pub fn find(tx: &mut Tx<'_>, id: &str, deleted: bool) -> Result<Option<Server>> {
    Ok(Server::get(tx, id)?.filter(|s| deleted || s.deleted_at.is_none()))
}

/// A list of servers under construction.
pub struct List {
    select: Select,
}

/// The column behind a sort key or filter of the API; `None` where servers have no such column.
pub fn column(name: &str) -> Option<&'static str> {
    Some(match name {
        "access_ip_v4" => "s.access_ip_v4",
        "access_ip_v6" => "s.access_ip_v6",
        "auto_disk_config" => "s.auto_disk_config",
        "availability_zone" => "s.availability_zone",
        "config_drive" => "s.config_drive",
        "created_at" => "s.created_at",
        "display_description" | "description" => "s.description",
        "display_name" | "name" => "s.name",
        "host" => "s.host",
        "hostname" => "s.hostname",
        "image_ref" | "image" => "s.image_id",
        "instance_type_id" | "flavor" => "s.flavor_id",
        "kernel_id" => "s.kernel_id",
        "key_name" => "s.key_name",
        "launch_index" => "s.launch_index",
        "launched_at" => "s.launched_at",
        "locked_by" => "s.locked_by",
        "locked" => "CASE WHEN s.locked_by IS NULL THEN 0 ELSE 1 END",
        "node" => "s.node",
        "power_state" => "s.power_state",
        "progress" => "s.progress",
        "project_id" | "tenant_id" => "s.project_id",
        "ramdisk_id" => "s.ramdisk_id",
        "reservation_id" => "s.reservation_id",
        "root_device_name" => "s.root_device_name",
        "task_state" => "s.task_state",
        "terminated_at" => "s.terminated_at",
        "updated_at" => "s.updated_at",
        "user_id" => "s.user_id",
        "uuid" => "s.id",
        "vm_state" => "s.vm_state",
        _ => return None,
    })
}

impl List {
    /// All servers.
    #[allow(clippy::new_without_default)]
    pub fn new() -> List {
        List {
            select: Select::new(Server::columns("s"), "servers s"),
        }
    }

    /// A further condition, with bare `?`.
    pub fn filter(&mut self, condition: &str, values: &[Value]) -> &mut List {
        self.select.filter(condition, values);
        self
    }

    /// The column is one of these.
    pub fn one_of(&mut self, column: &str, values: &[Value]) -> &mut List {
        self.select.filter_in(column, values);
        self
    }

    /// Has all (or, with `any`, one) of the tags; `not` turns it around.
    pub fn tags(&mut self, tags: &[&str], any: bool, not: bool) -> &mut List {
        let places = vec!["?"; tags.len()].join(", ");
        let needed = if any { 1 } else { tags.len() as i64 };
        let op = if not { "<" } else { ">=" };
        let condition =
            format!("(SELECT COUNT(*) FROM server_tags t WHERE t.server_id = s.id AND t.tag IN ({places})) {op} ?");
        let mut values = super::texts(tags);
        values.push(needed.into());
        self.filter(&condition, &values)
    }

    /// The page: sorted by these columns (then by age), after the marker. `None` when the marker names no server.
    pub fn page(
        &mut self,
        tx: &mut Tx<'_>,
        sort: &[(&'static str, Direction)],
        limit: u64,
        marker: Option<&str>,
    ) -> Result<Option<Vec<Server>>> {
        let last = sort.first().map_or(Direction::Descending, |(_, d)| *d);
        let mut keys: Vec<(&'static str, Direction)> = sort.to_vec();
        for tail in ["s.created_at", "s.number"] {
            if !keys.iter().any(|(k, _)| *k == tail) {
                keys.push((tail, last));
            }
        }
        for (column, direction) in &keys {
            self.select.order(column, *direction);
        }
        if let Some(marker) = marker {
            let columns: Vec<&str> = keys.iter().map(|(k, _)| *k).collect();
            let sql = format!("SELECT {} FROM servers s WHERE s.id = ?1", columns.join(", "));
            let Some(row) = tx.query_one(&sql, &params![marker])? else {
                return Ok(None);
            };
            self.select.after(&row.into_values());
        }
        self.select.limit(limit);
        self.select
            .rows(tx)?
            .iter()
            .map(Server::from_row)
            .collect::<Result<Vec<_>>>()
            .map(Some)
    }
}

/// Runs `f` on slices of the ids small enough for one statement and joins what it returns.
fn in_slices<T>(ids: &[String], mut f: impl FnMut(&str, &[Value]) -> Result<Vec<T>>) -> Result<Vec<T>> {
    let mut out = Vec::new();
    for slice in ids.chunks(500) {
        out.extend(f(&super::places(1, slice.len()), &super::texts(slice))?);
    }
    Ok(out)
}

/// The metadata of servers.
pub fn metadata(tx: &mut Tx<'_>, ids: &[String]) -> Result<HashMap<String, Map<String, serde_json::Value>>> {
    let rows = in_slices(ids, |places, values| {
        tx.query(
            &format!("SELECT server_id, key, value FROM server_metadata WHERE server_id IN {places} ORDER BY key"),
            values,
        )
    })?;
    let mut out: HashMap<String, Map<String, serde_json::Value>> = HashMap::new();
    for row in rows {
        out.entry(row.get(0)?)
            .or_default()
            .insert(row.get(1)?, serde_json::Value::String(row.get(2)?));
    }
    Ok(out)
}

/// Sets one item of the metadata.
pub fn set_metadata(tx: &mut Tx<'_>, id: &str, key: &str, value: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO server_metadata (server_id, key, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (server_id, key) DO UPDATE SET value = excluded.value",
        &params![id, key, value],
    )
    .map(|_| ())
}

/// Removes one item of the metadata, or (for `None`) all.
pub fn remove_metadata(tx: &mut Tx<'_>, id: &str, key: Option<&str>) -> Result<()> {
    match key {
        Some(key) => tx.execute(
            "DELETE FROM server_metadata WHERE server_id = ?1 AND key = ?2",
            &params![id, key],
        ),
        None => tx.execute("DELETE FROM server_metadata WHERE server_id = ?1", &params![id]),
    }
    .map(|_| ())
}

/// The tags of servers.
pub fn tags(tx: &mut Tx<'_>, ids: &[String]) -> Result<HashMap<String, Vec<String>>> {
    let rows = in_slices(ids, |places, values| {
        tx.query(
            &format!("SELECT server_id, tag FROM server_tags WHERE server_id IN {places} ORDER BY tag"),
            values,
        )
    })?;
    let mut out: HashMap<String, Vec<String>> = HashMap::new();
    for row in rows {
        out.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(out)
}

/// Adds a tag.
pub fn add_tag(tx: &mut Tx<'_>, id: &str, tag: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO server_tags (server_id, tag) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &params![id, tag],
    )
    .map(|_| ())
}

/// Removes a tag, or (for `None`) all; false where there was none.
pub fn remove_tag(tx: &mut Tx<'_>, id: &str, tag: Option<&str>) -> Result<bool> {
    let removed = match tag {
        Some(tag) => tx.execute(
            "DELETE FROM server_tags WHERE server_id = ?1 AND tag = ?2",
            &params![id, tag],
        )?,
        None => tx.execute("DELETE FROM server_tags WHERE server_id = ?1", &params![id])?,
    };
    Ok(removed > 0)
}

/// A server's port as Compute remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRow {
    /// The port.
    pub port_id: String,
    /// Its device tag.
    pub tag: Option<String>,
}

/// The ports of servers, in the order of attachment.
pub fn ports(tx: &mut Tx<'_>, ids: &[String]) -> Result<HashMap<String, Vec<PortRow>>> {
    let rows = in_slices(ids, |places, values| {
        let sql = "SELECT server_id, port_id, tag FROM server_ports WHERE server_id IN";
        tx.query(&format!("{sql} {places} ORDER BY server_id, position"), values)
    })?;
    let mut out: HashMap<String, Vec<PortRow>> = HashMap::new();
    for row in rows {
        out.entry(row.get(0)?).or_default().push(PortRow {
            port_id: row.get(1)?,
            tag: row.get(2)?,
        });
    }
    Ok(out)
}

/// Remembers a port of a server.
pub fn add_port(tx: &mut Tx<'_>, server: &str, port: &str, tag: Option<&str>, created_here: bool) -> Result<()> {
    let next: Option<Option<i64>> = tx.scalar(
        "SELECT MAX(position) FROM server_ports WHERE server_id = ?1",
        &params![server],
    )?;
    let next = next.flatten().unwrap_or(0) + 1;
    tx.execute(
        "INSERT INTO server_ports (port_id, server_id, position, tag, created_here) VALUES (?1, ?2, ?3, ?4, ?5)",
        &params![port, server, next, tag, created_here],
    )
    .map(|_| ())
}

/// Forgets a port, or (for `None`) all ports of a server.
pub fn remove_ports(tx: &mut Tx<'_>, server: &str, port: Option<&str>) -> Result<()> {
    match port {
        Some(port) => tx.execute(
            "DELETE FROM server_ports WHERE server_id = ?1 AND port_id = ?2",
            &params![server, port],
        ),
        None => tx.execute("DELETE FROM server_ports WHERE server_id = ?1", &params![server]),
    }
    .map(|_| ())
}

/// The servers that belong on a node, those among them that are to be deleted included.
pub fn on_host(tx: &mut Tx<'_>, host: &str) -> Result<Vec<Server>> {
    Server::select(
        tx,
        "WHERE host = ?1 AND deleted_at IS NULL ORDER BY number",
        &params![host],
    )
}

/// Ids and names of the servers on hosts.
pub fn names_by_host(tx: &mut Tx<'_>) -> Result<HashMap<String, Vec<(String, i64)>>> {
    let sql = "SELECT host, id, number FROM servers WHERE deleted_at IS NULL AND host IS NOT NULL ORDER BY number";
    let mut out: HashMap<String, Vec<(String, i64)>> = HashMap::new();
    for row in tx.query(sql, &[])? {
        out.entry(row.get(0)?).or_default().push((row.get(1)?, row.get(2)?));
    }
    Ok(out)
}

/// The guests that a host must have: their servers' ids, and whether each must run. What is under way, or failed, may be either way and is
/// told with `None`.
pub fn expected_guests(tx: &mut Tx<'_>, host: &str) -> Result<Vec<(String, Option<bool>)>> {
    let sql = "SELECT id, vm_state, task_state FROM servers WHERE host = ?1 AND deleted_at IS NULL ORDER BY number";
    tx.query(sql, &params![host])?
        .iter()
        .map(|row| {
            let (state, task): (String, Option<String>) = (row.get(1)?, row.get(2)?);
            let runs = match (state.as_str(), task) {
                (_, Some(_)) => None,
                ("active" | "rescued", None) => Some(true),
                ("stopped" | "shelved", None) => Some(false),
                _ => None,
            };
            Ok((row.get(0)?, runs))
        })
        .collect()
}
