//! OS-EP-FILTER: which endpoints a project sees.

use super::{Kind, Ref, Table, catalog, projects, text};
use crate::{Error, Result};
use database::{Tx, params};

/// The table of endpoint groups.
pub const ENDPOINT_GROUPS: Table = Table {
    name: "identity_endpoint_groups",
    kind: "endpoint_group",
    missing: |id| Error::not_found("Endpoint Group", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("name", Kind::Text(255)),
        ("description", Kind::Text(0)),
        ("filters", Kind::Json),
    ],
    extra: false,
};

/// Shows an endpoint to a project.
pub fn add_endpoint(tx: &mut Tx<'_>, endpoint_id: &str, project_id: &str) -> Result<()> {
    let sql = "INSERT INTO identity_project_endpoints (endpoint_id, project_id) VALUES (?1, ?2)";
    tx.execute(sql, &params![endpoint_id, project_id])
        .map_err(|e| match e {
            database::Error::Unique { .. } => Error::Conflict {
                what: "project_endpoint",
                details: "Duplicate entry".into(),
            },
            other => other.into(),
        })?;
    Ok(())
}

/// Whether the endpoint was added to the project.
pub fn has_endpoint(tx: &mut Tx<'_>, endpoint_id: &str, project_id: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM identity_project_endpoints WHERE endpoint_id = ?1 AND project_id = ?2";
    Ok(tx.scalar::<i64>(sql, &params![endpoint_id, project_id])?.is_some())
}

/// Takes an endpoint away from a project; false where it was not there.
pub fn remove_endpoint(tx: &mut Tx<'_>, endpoint_id: &str, project_id: &str) -> Result<bool> {
    Ok(tx.execute(
        "DELETE FROM identity_project_endpoints WHERE endpoint_id = ?1 AND project_id = ?2",
        &params![endpoint_id, project_id],
    )? > 0)
}

/// The projects an endpoint was added to.
pub fn projects_of_endpoint(tx: &mut Tx<'_>, endpoint_id: &str) -> Result<Vec<Ref>> {
    let sql = "SELECT project_id FROM identity_project_endpoints WHERE endpoint_id = ?1 ORDER BY project_id";
    let ids: Vec<String> = tx.column(sql, &params![endpoint_id])?;
    projects::get_many(tx, &ids)
}

/// The endpoints a project sees through single ones and through groups; none means that nothing was set for it.
pub fn endpoints_of_project(tx: &mut Tx<'_>, project_id: &str) -> Result<Vec<Ref>> {
    let ids: Vec<String> = tx.column(
        "SELECT endpoint_id FROM identity_project_endpoints WHERE project_id = ?1 ORDER BY endpoint_id",
        &params![project_id],
    )?;
    let mut endpoints = catalog::ENDPOINTS.get_many(tx, &ids)?;
    for group in groups_of_project(tx, project_id)? {
        for endpoint in endpoints_of_group(tx, &group)? {
            if !endpoints.iter().any(|known| known["id"] == endpoint["id"]) {
                endpoints.push(endpoint);
            }
        }
    }
    Ok(endpoints)
}

/// The endpoints that a group's filters pick.
pub fn endpoints_of_group(tx: &mut Tx<'_>, group: &Ref) -> Result<Vec<Ref>> {
    let mut endpoints = catalog::everything(&catalog::ENDPOINTS, tx)?;
    if let Some(filters) = group.get("filters").and_then(serde_json::Value::as_object) {
        endpoints.retain(|e| filters.iter().all(|(name, value)| e.get(name) == Some(value)));
    }
    Ok(endpoints)
}

/// The endpoint groups of a project.
pub fn groups_of_project(tx: &mut Tx<'_>, project_id: &str) -> Result<Vec<Ref>> {
    let sql = "SELECT endpoint_group_id FROM identity_project_endpoint_groups WHERE project_id = ?1 ORDER BY endpoint_group_id";
    let ids: Vec<String> = tx.column(sql, &params![project_id])?;
    ENDPOINT_GROUPS.get_many(tx, &ids)
}

/// The projects of an endpoint group.
pub fn projects_of_group(tx: &mut Tx<'_>, group_id: &str) -> Result<Vec<Ref>> {
    let sql =
        "SELECT project_id FROM identity_project_endpoint_groups WHERE endpoint_group_id = ?1 ORDER BY project_id";
    let ids: Vec<String> = tx.column(sql, &params![group_id])?;
    projects::get_many(tx, &ids)
}

/// # Errors
/// 404 where the group was not added to the project.
pub fn check_group(tx: &mut Tx<'_>, group_id: &str, project_id: &str) -> Result<()> {
    let sql = "SELECT 1 FROM identity_project_endpoint_groups WHERE endpoint_group_id = ?1 AND project_id = ?2";
    tx.scalar::<i64>(sql, &params![group_id, project_id])?
        .map(|_| ())
        .ok_or_else(|| Error::Missing("Endpoint Group Project Association not found".into()))
}

/// Adds a group to a project.
pub fn add_group(tx: &mut Tx<'_>, group_id: &str, project_id: &str) -> Result<()> {
    let sql = "INSERT INTO identity_project_endpoint_groups (endpoint_group_id, project_id) VALUES (?1, ?2)";
    tx.execute(sql, &params![group_id, project_id]).map_err(|e| match e {
        database::Error::Unique { .. } => Error::Conflict {
            what: "project_endpoint_group",
            details: "Duplicate entry".into(),
        },
        other => other.into(),
    })?;
    Ok(())
}

/// Takes a group away from a project.
pub fn remove_group(tx: &mut Tx<'_>, group_id: &str, project_id: &str) -> Result<()> {
    check_group(tx, group_id, project_id)?;
    tx.execute(
        "DELETE FROM identity_project_endpoint_groups WHERE endpoint_group_id = ?1 AND project_id = ?2",
        &params![group_id, project_id],
    )?;
    Ok(())
}

/// An endpoint as the API shows it: `region` beside `region_id`.
pub fn shown(mut endpoint: Ref) -> Ref {
    let region = endpoint.get("region_id").cloned().unwrap_or_default();
    endpoint.insert("region".into(), region);
    debug_assert!(!text(&endpoint, "id").is_empty());
    endpoint
}
