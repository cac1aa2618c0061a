//! Server groups.

use std::collections::HashMap;

use database::{Result, Row, Tx, params};
use serde_json::Value;

/// A server group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Owner.
    pub project_id: String,
    /// Who made it.
    pub user_id: String,
    /// `affinity`, `anti-affinity`, `soft-affinity`, `soft-anti-affinity`.
    pub policy: String,
    /// `max_server_per_host`.
    pub rules: Value,
    /// µs since the epoch.
    pub created_at: i64,
}

const COLUMNS: &str = "id, name, project_id, user_id, policy, rules, created_at";

fn read(row: &Row) -> Result<Group> {
    Ok(Group {
        id: row.get(0)?,
        name: row.get(1)?,
        project_id: row.get(2)?,
        user_id: row.get(3)?,
        policy: row.get(4)?,
        rules: row.get(5)?,
        created_at: row.get(6)?,
    })
}

/// Adds one.
pub fn insert(tx: &mut Tx<'_>, g: &Group) -> Result<()> {
    tx.execute(
        "INSERT INTO server_groups (id, name, project_id, user_id, policy, rules, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &params![&g.id, &g.name, &g.project_id, &g.user_id, &g.policy, &g.rules, g.created_at],
    )
    .map(|_| ())
}

/// The group with this id.
pub fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<Group>> {
    tx.query_one(
        &format!("SELECT {COLUMNS} FROM server_groups WHERE id = ?1"),
        &params![id],
    )?
    .as_ref()
    .map(read)
    .transpose()
}

/// A project's groups, or all.
pub fn list(tx: &mut Tx<'_>, project: Option<&str>) -> Result<Vec<Group>> {
    let rows = match project {
        Some(project) => tx.query(
            &format!("SELECT {COLUMNS} FROM server_groups WHERE project_id = ?1 ORDER BY number"),
            &params![project],
        )?,
        None => tx.query(&format!("SELECT {COLUMNS} FROM server_groups ORDER BY number"), &[])?,
    };
    rows.iter().map(read).collect()
}

/// Removes a group; its members go on without one.
pub fn delete(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    tx.execute("DELETE FROM server_group_members WHERE group_id = ?1", &params![id])?;
    tx.execute("DELETE FROM server_groups WHERE id = ?1", &params![id])
        .map(|_| ())
}

/// The members of groups that are not deleted.
pub fn members(tx: &mut Tx<'_>, project: Option<&str>, group: Option<&str>) -> Result<HashMap<String, Vec<String>>> {
    let mut sql = "SELECT m.group_id, m.server_id FROM server_group_members m
        JOIN server_groups g ON g.id = m.group_id JOIN servers s ON s.id = m.server_id
        WHERE s.deleted_at IS NULL"
        .to_owned();
    let mut values = Vec::new();
    if let Some(project) = project {
        values.push(project.into());
        sql.push_str(&format!(" AND g.project_id = ?{}", values.len()));
    }
    if let Some(group) = group {
        values.push(group.into());
        sql.push_str(&format!(" AND m.group_id = ?{}", values.len()));
    }
    sql.push_str(" ORDER BY s.number");
    let mut out: HashMap<String, Vec<String>> = HashMap::new();
    for row in tx.query(&sql, &values)? {
        out.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(out)
}

/// Puts a server into a group.
pub fn add_member(tx: &mut Tx<'_>, group: &str, server: &str) -> Result<()> {
    let sql = "INSERT INTO server_group_members (server_id, group_id) VALUES (?1, ?2)";
    tx.execute(sql, &params![server, group]).map(|_| ())
}

/// Takes a server out of its group.
pub fn remove_member(tx: &mut Tx<'_>, server: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM server_group_members WHERE server_id = ?1",
        &params![server],
    )
    .map(|_| ())
}

/// A server's group.
pub fn of_server(tx: &mut Tx<'_>, server: &str) -> Result<Option<String>> {
    tx.scalar(
        "SELECT group_id FROM server_group_members WHERE server_id = ?1",
        &params![server],
    )
}

/// How many members a group has on each host.
pub fn hosts(tx: &mut Tx<'_>, group: &str) -> Result<HashMap<String, i64>> {
    let sql = "SELECT s.host, COUNT(*) FROM server_group_members m JOIN servers s ON s.id = m.server_id
        WHERE m.group_id = ?1 AND s.deleted_at IS NULL AND s.host IS NOT NULL GROUP BY s.host";
    tx.query(sql, &params![group])?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}
