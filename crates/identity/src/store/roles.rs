//! Roles and which role implies which.

use super::{Kind, Ref, Table, text};
use crate::{Error, Result};
use database::{Tx, params};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The table of roles.
pub const ROLES: Table = Table {
    name: "identity_roles",
    kind: "role",
    missing: |id| Error::not_found("role", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("name", Kind::Text(255)),
        ("domain_id", Kind::Root(64)),
        ("description", Kind::Text(255)),
        ("options", Kind::Json),
    ],
    extra: true,
};

/// Adds a role.
pub fn insert(tx: &mut Tx<'_>, mut role: Ref) -> Result<Ref> {
    let options = super::merge_options(&Value::Null, role.get("options"));
    role.insert("options".into(), options);
    ROLES.insert(tx, &role)?;
    ROLES.get(tx, text(&role, "id"))
}

/// Writes `changes` over the role.
pub fn update(tx: &mut Tx<'_>, old: &Ref, changes: &Ref) -> Result<Ref> {
    let mut role = old.clone();
    let options = super::merge_options(old.get("options").unwrap_or(&Value::Null), changes.get("options"));
    role.extend(changes.clone());
    role.insert("options".into(), options);
    role.insert("id".into(), old["id"].clone());
    ROLES.update(tx, &role)?;
    ROLES.get(tx, text(old, "id"))
}

/// A global role by name.
pub fn global_by_name(tx: &mut Tx<'_>, name: &str) -> Result<Option<Ref>> {
    ROLES.find(tx, "name = ?1 AND domain_id = ''", &params![name])
}

/// The one role of this name, in whichever domain.
pub fn unique_by_name(tx: &mut Tx<'_>, name: &str) -> Result<Ref> {
    let mut found = ROLES.find_all(tx, "name = ?1", &params![name])?;
    match (found.pop(), found.is_empty()) {
        (Some(role), true) => Ok(role),
        (None, _) => Err(Error::Missing(format!("Role {name} is not defined"))),
        _ => Err(Error::Invalid(format!(
            "There are multiple role entities named '{name}'. Please use ID instead of names to resolve the ambiguity."
        ))),
    }
}

/// Every implication, prior to implied.
pub fn implications(tx: &mut Tx<'_>) -> Result<BTreeMap<String, Vec<String>>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let sql =
        "SELECT prior_role_id, implied_role_id FROM identity_implied_roles ORDER BY prior_role_id, implied_role_id";
    for row in tx.query(sql, &[])? {
        all.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(all)
}

/// The roles that `prior` implies directly.
pub fn implied_by(tx: &mut Tx<'_>, prior: &str) -> Result<Vec<String>> {
    Ok(tx.column(
        "SELECT implied_role_id FROM identity_implied_roles WHERE prior_role_id = ?1 ORDER BY implied_role_id",
        &params![prior],
    )?)
}

/// Adds an implication.
pub fn imply(tx: &mut Tx<'_>, prior: &str, implied: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_implied_roles (prior_role_id, implied_role_id) VALUES (?1, ?2)",
        &params![prior, implied],
    )
    .map_err(|e| match e {
        database::Error::Unique { .. } => Error::Conflict {
            what: "implied_role",
            details: "Duplicate entry".into(),
        },
        other => other.into(),
    })?;
    Ok(())
}

fn not_implied(prior: &str, implied: &str) -> Error {
    Error::Missing(format!("{prior} does not imply {implied}."))
}

/// Removes an implication.
pub fn unimply(tx: &mut Tx<'_>, prior: &str, implied: &str) -> Result<()> {
    let sql = "DELETE FROM identity_implied_roles WHERE prior_role_id = ?1 AND implied_role_id = ?2";
    if tx.execute(sql, &params![prior, implied])? == 0 {
        Err(not_implied(prior, implied))
    } else {
        Ok(())
    }
}

/// # Errors
/// 404 where `prior` does not imply `implied`.
pub fn check_implied(tx: &mut Tx<'_>, prior: &str, implied: &str) -> Result<()> {
    let sql = "SELECT 1 FROM identity_implied_roles WHERE prior_role_id = ?1 AND implied_role_id = ?2";
    tx.scalar::<i64>(sql, &params![prior, implied])?
        .map(|_| ())
        .ok_or_else(|| not_implied(prior, implied))
}

/// The roles with everything they imply.
pub fn with_implied(tx: &mut Tx<'_>, roles: impl IntoIterator<Item = String>) -> Result<BTreeSet<String>> {
    let implications = implications(tx)?;
    let mut all = BTreeSet::new();
    let mut todo: Vec<String> = roles.into_iter().collect();
    while let Some(role) = todo.pop() {
        todo.extend(
            implications
                .get(&role)
                .into_iter()
                .flatten()
                .filter(|implied| !all.contains(*implied))
                .cloned(),
        );
        all.insert(role);
    }
    Ok(all)
}
