//! Trusts: a user lets another act with some of its roles.

use super::{Kind, Ref, Table, text};
use crate::{Error, Result};
use database::{Tx, now, params};
use serde_json::{Value, json};

/// The table of trusts. Times are shown as µs; the API writes them out.
pub const TRUSTS: Table = Table {
    name: "identity_trusts",
    kind: "trust",
    missing: |id| Error::not_found("trust", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("trustor_user_id", Kind::Text(64)),
        ("trustee_user_id", Kind::Text(64)),
        ("project_id", Kind::Text(64)),
        ("impersonation", Kind::Bool),
        ("expires_at", Kind::Int),
        ("remaining_uses", Kind::Int),
        ("deleted_at", Kind::Int),
        ("redelegated_trust_id", Kind::Text(64)),
        ("redelegation_count", Kind::Int),
    ],
    extra: true,
};

/// Adds a trust with its roles (`[{"id": …}]`).
pub fn insert(tx: &mut Tx<'_>, mut trust: Ref) -> Result<Ref> {
    let roles = trust.remove("roles").unwrap_or_default();
    TRUSTS.insert(tx, &trust)?;
    for role in roles.as_array().into_iter().flatten() {
        let sql = "INSERT INTO identity_trust_roles (trust_id, role_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        tx.execute(sql, &params![text(&trust, "id"), role["id"].as_str()])?;
    }
    get(tx, text(&trust, "id"))
}

/// A trust that can be used: not deleted, not expired, not used up.
pub fn get(tx: &mut Tx<'_>, id: &str) -> Result<Ref> {
    let mut trust = TRUSTS
        .find(tx, "id = ?1 AND deleted_at IS NULL", &params![id])?
        .ok_or_else(|| Error::not_found("trust", id))?;
    let expired = trust["expires_at"].as_i64().is_some_and(|at| now() > at);
    let used_up = trust["remaining_uses"].as_i64().is_some_and(|n| n <= 0);
    if expired || used_up {
        return Err(Error::not_found("trust", id));
    }
    let roles: Vec<String> = tx.column(
        "SELECT role_id FROM identity_trust_roles WHERE trust_id = ?1 ORDER BY role_id",
        &params![id],
    )?;
    trust.insert(
        "roles".into(),
        roles.iter().map(|id| json!({"id": id})).collect::<Vec<Value>>().into(),
    );
    Ok(trust)
}

/// The trust and those it was redelegated from, nearest first.
pub fn pedigree(tx: &mut Tx<'_>, id: &str) -> Result<Vec<Ref>> {
    let mut chain = vec![get(tx, id)?];
    while let Some(last) = chain.last() {
        let from = text(last, "redelegated_trust_id").to_owned();
        if from.is_empty() {
            break;
        }
        chain.push(get(tx, &from)?);
    }
    Ok(chain)
}

/// All trusts, or those where `column` has a value.
pub fn list(tx: &mut Tx<'_>, by: Option<(&'static str, &str)>) -> Result<Vec<Ref>> {
    match by {
        Some((column, value)) => TRUSTS.find_all(tx, &format!("deleted_at IS NULL AND {column} = ?1"), &params![value]),
        None => TRUSTS.find_all(tx, "deleted_at IS NULL", &[]),
    }
}

/// Deletes a trust and what was redelegated from it; returns the ids.
pub fn delete(tx: &mut Tx<'_>, id: &str) -> Result<Vec<String>> {
    let mut gone = vec![id.to_owned()];
    let mut next = 0;
    while next < gone.len() {
        tx.execute(
            "UPDATE identity_trusts SET deleted_at = ?2 WHERE id = ?1 AND deleted_at IS NULL",
            &params![&gone[next], now()],
        )?;
        let sql = "SELECT id FROM identity_trusts WHERE redelegated_trust_id = ?1 AND deleted_at IS NULL ORDER BY id";
        let below: Vec<String> = tx.column(sql, &params![&gone[next]])?;
        gone.extend(below);
        next += 1;
    }
    Ok(gone)
}

/// Deletes a user's trusts, either way.
pub fn forget_user(tx: &mut Tx<'_>, user_id: &str) -> Result<()> {
    let sql = "UPDATE identity_trusts SET deleted_at = ?2 WHERE deleted_at IS NULL AND (trustor_user_id = ?1 OR trustee_user_id = ?1)";
    tx.execute(sql, &params![user_id, now()])?;
    Ok(())
}

/// Deletes a project's trusts.
pub fn forget_project(tx: &mut Tx<'_>, project_id: &str) -> Result<()> {
    tx.execute(
        "UPDATE identity_trusts SET deleted_at = ?2 WHERE deleted_at IS NULL AND project_id = ?1",
        &params![project_id, now()],
    )?;
    Ok(())
}

/// Counts one use.
pub fn consume(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    let limited: Option<Option<i64>> = tx.scalar(
        "SELECT remaining_uses FROM identity_trusts WHERE id = ?1 AND deleted_at IS NULL",
        &params![id],
    )?;
    match limited {
        None => return Err(Error::not_found("trust", id)),
        Some(None) => return Ok(()),
        Some(Some(n)) if n <= 0 => return Err(Error::Forbidden(format!("No remaining uses for trust: {id}."))),
        Some(Some(_)) => {}
    }
    tx.execute(
        "UPDATE identity_trusts SET remaining_uses = remaining_uses - 1 WHERE id = ?1 AND remaining_uses > 0",
        &params![id],
    )?;
    Ok(())
}
