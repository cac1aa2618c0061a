//! Groups and who is in them.

use super::{Hints, Kind, Page, Ref, Table};
use crate::{Error, Result};
use database::{Tx, params};
use serde_json::Value;

/// The table of groups.
pub const GROUPS: Table = Table {
    name: "identity_groups",
    kind: "group",
    missing: |id| Error::not_found("group", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("name", Kind::Text(64)),
        ("domain_id", Kind::Text(64)),
        ("description", Kind::Text(0)),
    ],
    extra: true,
};

/// Adds a member; twice is once.
pub fn add_member(tx: &mut Tx<'_>, user_id: &str, group_id: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_memberships (user_id, group_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &params![user_id, group_id],
    )?;
    Ok(())
}

/// Removes a member; false where it was none.
pub fn remove_member(tx: &mut Tx<'_>, user_id: &str, group_id: &str) -> Result<bool> {
    Ok(tx.execute(
        "DELETE FROM identity_memberships WHERE user_id = ?1 AND group_id = ?2",
        &params![user_id, group_id],
    )? > 0)
}

/// Whether the user is in the group.
pub fn is_member(tx: &mut Tx<'_>, user_id: &str, group_id: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM identity_memberships WHERE user_id = ?1 AND group_id = ?2";
    Ok(tx.scalar::<i64>(sql, &params![user_id, group_id])?.is_some())
}

/// The ids of a user's groups.
pub fn ids_of_user(tx: &mut Tx<'_>, user_id: &str) -> Result<Vec<String>> {
    Ok(tx.column(
        "SELECT group_id FROM identity_memberships WHERE user_id = ?1 ORDER BY group_id",
        &params![user_id],
    )?)
}

/// A page of a user's groups.
pub fn list_of_user(tx: &mut Tx<'_>, user_id: &str, hints: &Hints) -> Result<Page> {
    let mut page = GROUPS.list_from(tx, hints, GROUPS.name, |select| {
        select.filter(
            "identity_groups.id IN (SELECT group_id FROM identity_memberships WHERE user_id = ?)",
            &params![user_id],
        );
    })?;
    for group in &mut page.refs {
        group.insert("membership_expires_at".into(), Value::Null);
    }
    Ok(page)
}

/// All groups of a domain.
pub fn in_domain(tx: &mut Tx<'_>, domain_id: &str) -> Result<Vec<Ref>> {
    GROUPS.find_all(tx, "domain_id = ?1", &params![domain_id])
}
