//! Registered limits (a resource's default) and limits (a project's or domain's own).

use super::{Hints, Kind, Page, Ref, Table, text};
use crate::{Error, Result};
use database::{Row, Select, Tx, Value as Sql, params};
use serde_json::Value;

/// The table of registered limits.
pub const REGISTERED_LIMITS: Table = Table {
    name: "identity_registered_limits",
    kind: "registered_limit",
    missing: |id| Error::Missing(format!("Could not find registered limit for {id}.")),
    columns: &[
        ("id", Kind::Text(64)),
        ("service_id", Kind::Text(255)),
        ("region_id", Kind::Text(64)),
        ("resource_name", Kind::Text(255)),
        ("default_limit", Kind::Int),
        ("description", Kind::Text(0)),
    ],
    extra: false,
};

/// The table of limits; service, region and resource stand with the registered limit.
const LIMITS: Table = Table {
    name: "identity_limits",
    kind: "limit",
    missing: |id| Error::Missing(format!("Could not find limit for {id}.")),
    columns: &[
        ("id", Kind::Text(64)),
        ("project_id", Kind::Text(64)),
        ("domain_id", Kind::Text(64)),
        ("resource_limit", Kind::Int),
        ("description", Kind::Text(0)),
    ],
    extra: false,
};

/// The registered limit for a resource of a service in a region.
pub fn registered_for(tx: &mut Tx<'_>, limit: &Ref) -> Result<Option<Ref>> {
    let region = limit.get("region_id").and_then(Value::as_str);
    let mut params: Vec<Sql> = vec![text(limit, "service_id").into(), text(limit, "resource_name").into()];
    let condition = if region.is_some() {
        "region_id = ?3"
    } else {
        "region_id IS NULL"
    };
    params.extend(region.map(Sql::from));
    REGISTERED_LIMITS.find(
        tx,
        &format!("service_id = ?1 AND resource_name = ?2 AND {condition}"),
        &params,
    )
}

fn duplicate(what: &'static str) -> Error {
    Error::Conflict {
        what,
        details: "Duplicate entry".into(),
    }
}

/// Adds a registered limit.
pub fn register(tx: &mut Tx<'_>, limit: &Ref) -> Result<Ref> {
    if registered_for(tx, limit)?.is_some() {
        return Err(duplicate("registered_limit"));
    }
    REGISTERED_LIMITS.insert(tx, limit)?;
    REGISTERED_LIMITS.get(tx, text(limit, "id"))
}

fn check_unreferenced(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    let used: Option<i64> = tx.scalar(
        "SELECT 1 FROM identity_limits WHERE registered_limit_id = ?1 LIMIT 1",
        &params![id],
    )?;
    if used.is_some() {
        return Err(Error::Refused(format!(
            "Unable to update or delete registered limit {id} because there are project limits associated with it."
        )));
    }
    Ok(())
}

/// Writes `changes` over a registered limit.
pub fn update_registered(tx: &mut Tx<'_>, id: &str, changes: &Ref) -> Result<Ref> {
    let old = REGISTERED_LIMITS.get(tx, id)?;
    check_unreferenced(tx, id)?;
    let mut new = old.clone();
    new.extend(changes.clone());
    new.insert("id".into(), id.into());
    if ["service_id", "region_id", "resource_name"]
        .iter()
        .any(|name| changes.contains_key(*name))
        && registered_for(tx, &new)?.is_some()
    {
        return Err(duplicate("registered_limit"));
    }
    REGISTERED_LIMITS.update(tx, &new)?;
    REGISTERED_LIMITS.get(tx, id)
}

/// Removes a registered limit.
pub fn delete_registered(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    REGISTERED_LIMITS.get(tx, id)?;
    check_unreferenced(tx, id)?;
    REGISTERED_LIMITS.delete(tx, id)
}

const FROM: &str = "identity_limits JOIN identity_registered_limits r ON r.id = identity_limits.registered_limit_id";

fn read(row: &Row) -> Result<Ref> {
    let mut limit = LIMITS.read(row)?;
    for (i, name) in ["service_id", "region_id", "resource_name"].iter().enumerate() {
        limit.insert(
            (*name).into(),
            row.get::<Option<String>>(LIMITS.columns.len() + i)?.into(),
        );
    }
    Ok(limit)
}

fn columns() -> String {
    format!("{}, r.service_id, r.region_id, r.resource_name", LIMITS.select_list())
}

/// Adds a limit.
pub fn insert(tx: &mut Tx<'_>, limit: &Ref) -> Result<Ref> {
    let registered = registered_for(tx, limit)?
        .ok_or_else(|| Error::Refused("Unable to create a limit that has no corresponding registered limit.".into()))?;
    let project = limit.get("project_id").and_then(Value::as_str);
    let (column, owner) = project.map_or(("domain_id", text(limit, "domain_id")), |project| {
        ("project_id", project)
    });
    let sql = format!("SELECT 1 FROM identity_limits WHERE registered_limit_id = ?1 AND {column} = ?2");
    if tx
        .scalar::<i64>(&sql, &params![text(&registered, "id"), owner])?
        .is_some()
    {
        return Err(duplicate("limit"));
    }
    LIMITS.insert_with(tx, limit, &[("registered_limit_id", text(&registered, "id").into())])?;
    get(tx, text(limit, "id"))
}

/// A limit.
pub fn get(tx: &mut Tx<'_>, id: &str) -> Result<Ref> {
    let sql = format!("SELECT {} FROM {FROM} WHERE identity_limits.id = ?1", columns());
    tx.query_one(&sql, &params![id])?
        .as_ref()
        .map(read)
        .transpose()?
        .ok_or_else(|| (LIMITS.missing)(id))
}

/// Changes a limit's value and description.
pub fn update(tx: &mut Tx<'_>, id: &str, changes: &Ref) -> Result<Ref> {
    let mut limit = get(tx, id)?;
    if let Some(value) = changes.get("resource_limit").filter(|v| v.as_i64() != Some(0)) {
        limit.insert("resource_limit".into(), value.clone());
    }
    if let Some(text) = changes
        .get("description")
        .filter(|v| v.as_str().is_some_and(|t| !t.is_empty()))
    {
        limit.insert("description".into(), text.clone());
    }
    LIMITS.update(tx, &limit)?;
    get(tx, id)
}

/// Removes a limit.
pub fn delete(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    LIMITS.delete(tx, id)
}

/// Removes a project's limits.
pub fn forget_project(tx: &mut Tx<'_>, project_id: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM identity_limits WHERE project_id = ?1",
        &params![project_id],
    )?;
    Ok(())
}

/// A page of limits.
pub fn list(tx: &mut Tx<'_>, hints: &Hints) -> Result<Page> {
    let mut select = Select::new(columns(), FROM);
    for filter in hints.filters.iter().filter(|f| f.comparator == "equals") {
        let table = if matches!(filter.name.as_str(), "project_id" | "domain_id") {
            "identity_limits"
        } else {
            "r"
        };
        if let Some(value) = &filter.value {
            select.filter(&format!("{table}.{} = ?", filter.name), &[value.into()]);
        }
    }
    select.order("identity_limits.id", database::Direction::Ascending);
    if let Some(limit) = hints.limit {
        select.limit(limit as u64 + 1);
    }
    let mut refs = select.rows(tx)?.iter().map(read).collect::<Result<Vec<_>>>()?;
    let truncated = hints.limit.is_some_and(|limit| refs.len() > limit);
    refs.truncate(hints.limit.unwrap_or(usize::MAX));
    Ok(Page { refs, truncated })
}
