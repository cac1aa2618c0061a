//! Host aggregates.

use std::collections::HashMap;

use database::{Result, Row, Tx, params};
use serde_json::{Map, Value};

/// A host aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The id that clients use.
    pub number: i64,
    /// UUID.
    pub id: String,
    /// Its name, unique.
    pub name: String,
    /// µs since the epoch.
    pub created_at: i64,
    /// µs since the epoch.
    pub updated_at: Option<i64>,
    /// Its hosts, in the order in which they were added.
    pub hosts: Vec<String>,
    /// Its metadata, `availability_zone` among it.
    pub metadata: Map<String, Value>,
}

impl Aggregate {
    /// The zone that its hosts are in.
    pub fn availability_zone(&self) -> Option<&str> {
        self.metadata.get("availability_zone").and_then(Value::as_str)
    }
}

fn read(row: &Row) -> Result<Aggregate> {
    Ok(Aggregate {
        number: row.get(0)?,
        id: row.get(1)?,
        name: row.get(2)?,
        created_at: row.get(3)?,
        updated_at: row.get(4)?,
        hosts: Vec::new(),
        metadata: Map::new(),
    })
}

/// All aggregates.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<Aggregate>> {
    let rows = tx.query(
        "SELECT number, id, name, created_at, updated_at FROM aggregates ORDER BY number",
        &[],
    )?;
    let mut list = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    if list.is_empty() {
        return Ok(list);
    }
    let at: HashMap<i64, usize> = list.iter().enumerate().map(|(i, a)| (a.number, i)).collect();
    for row in tx.query("SELECT aggregate, host FROM aggregate_hosts ORDER BY position", &[])? {
        if let Some(i) = at.get(&row.get(0)?) {
            list[*i].hosts.push(row.get(1)?);
        }
    }
    for row in tx.query("SELECT aggregate, key, value FROM aggregate_metadata ORDER BY key", &[])? {
        if let Some(i) = at.get(&row.get(0)?) {
            list[*i].metadata.insert(row.get(1)?, Value::String(row.get(2)?));
        }
    }
    Ok(list)
}

/// One aggregate.
pub fn find(tx: &mut Tx<'_>, number: i64) -> Result<Option<Aggregate>> {
    Ok(all(tx)?.into_iter().find(|a| a.number == number))
}

/// Adds one without hosts.
pub fn insert(tx: &mut Tx<'_>, id: &str, name: &str, now: i64) -> Result<i64> {
    super::insert_numbered(tx, "aggregates", &["id", "name", "created_at"], &params![id, name, now])
}

/// Renames one.
pub fn rename(tx: &mut Tx<'_>, number: i64, name: &str, now: i64) -> Result<()> {
    tx.execute(
        "UPDATE aggregates SET name = ?2, updated_at = ?3 WHERE number = ?1",
        &params![number, name, now],
    )
    .map(|_| ())
}

/// Removes one with all that hangs on it.
pub fn delete(tx: &mut Tx<'_>, number: i64) -> Result<()> {
    tx.execute("DELETE FROM aggregate_hosts WHERE aggregate = ?1", &params![number])?;
    tx.execute("DELETE FROM aggregate_metadata WHERE aggregate = ?1", &params![number])?;
    tx.execute("DELETE FROM aggregates WHERE number = ?1", &params![number])
        .map(|_| ())
}

/// Sets (`Some`) or removes (`None`) a key of the metadata.
pub fn set_metadata(tx: &mut Tx<'_>, number: i64, key: &str, value: Option<&str>) -> Result<()> {
    match value {
        Some(value) => tx.execute(
            "INSERT INTO aggregate_metadata (aggregate, key, value) VALUES (?1, ?2, ?3)
             ON CONFLICT (aggregate, key) DO UPDATE SET value = excluded.value",
            &params![number, key, value],
        ),
        None => tx.execute(
            "DELETE FROM aggregate_metadata WHERE aggregate = ?1 AND key = ?2",
            &params![number, key],
        ),
    }
    .map(|_| ())
}

/// Adds a host.
pub fn add_host(tx: &mut Tx<'_>, number: i64, host: &str, now: i64) -> Result<()> {
    tx.execute(
        "INSERT INTO aggregate_hosts (aggregate, host, position) VALUES (?1, ?2, ?3)",
        &params![number, host, now],
    )
    .map(|_| ())
}

/// Removes a host; false where it was not in.
pub fn remove_host(tx: &mut Tx<'_>, number: i64, host: &str) -> Result<bool> {
    Ok(tx.execute(
        "DELETE FROM aggregate_hosts WHERE aggregate = ?1 AND host = ?2",
        &params![number, host],
    )? > 0)
}

/// The zone that each host is in, for those that an aggregate puts into one.
pub fn zones(tx: &mut Tx<'_>) -> Result<HashMap<String, String>> {
    let sql = "SELECT h.host, m.value FROM aggregate_hosts h JOIN aggregate_metadata m ON m.aggregate = h.aggregate
        WHERE m.key = 'availability_zone' ORDER BY h.aggregate DESC";
    tx.query(sql, &[])?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}
