//! Events that make tokens invalid before they expire.

use super::Ref;
use crate::Result;
use database::{Tx, Value as Sql, now, params};
use serde_json::Map;

/// What an event revokes: tokens that match all that is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    /// Tokens of this user.
    pub user_id: Option<&'a str>,
    /// Tokens for this project.
    pub project_id: Option<&'a str>,
    /// Tokens by this trust.
    pub trust_id: Option<&'a str>,
    /// Tokens by access tokens of this OAuth consumer.
    pub consumer_id: Option<&'a str>,
    /// This token.
    pub audit_id: Option<&'a str>,
    /// Tokens that were had by means of this one.
    pub audit_chain_id: Option<&'a str>,
}

/// The columns, in the order of what [`crate::tokens`] compares.
const COLUMNS: &str = "user_id, project_id, trust_id, consumer_id, audit_id, audit_chain_id, issued_before, revoked_at, domain_id, role_id, access_token_id, expires_at";

/// Records an event; `keep` is how long any token can live, µs, after which events are dropped.
pub fn record(tx: &mut Tx<'_>, event: Event<'_>, keep: i64) -> Result<()> {
    // Tokens know the second they were issued in, so events do not know more.
    let at = now() / 1_000_000 * 1_000_000;
    tx.execute(
        "INSERT INTO identity_revocations (user_id, project_id, trust_id, consumer_id, audit_id, audit_chain_id, issued_before, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
        &params![event.user_id, event.project_id, event.trust_id, event.consumer_id, event.audit_id, event.audit_chain_id, at],
    )?;
    tx.execute(
        "DELETE FROM identity_revocations WHERE revoked_at < ?1",
        &params![at - keep],
    )?;
    Ok(())
}

/// What of a token an event may match.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// The users: its own, and with a trust the trustor and trustee.
    pub user_ids: Vec<&'a str>,
    /// Its project.
    pub project_id: Option<&'a str>,
    /// Its trust.
    pub trust_id: Option<&'a str>,
    /// The OAuth consumer behind it.
    pub consumer_id: Option<&'a str>,
    /// Its audit id.
    pub audit_id: &'a str,
    /// Its parent's audit id.
    pub audit_chain_id: Option<&'a str>,
    /// When it was issued, µs.
    pub issued_at: i64,
}

/// Whether an event revokes the token.
pub fn is_revoked(tx: &mut Tx<'_>, subject: &Subject<'_>) -> Result<bool> {
    let sql = format!(
        "SELECT {COLUMNS} FROM identity_revocations WHERE issued_before >= ?1 AND (user_id IS NULL OR user_id IN (?2, ?3, ?4))
         AND (project_id IS NULL OR project_id = ?5) AND (audit_id IS NULL OR audit_id = ?6)"
    );
    let user = |i: usize| subject.user_ids.get(i).copied();
    for row in tx.query(
        &sql,
        &params![
            subject.issued_at,
            user(0),
            user(1),
            user(2),
            subject.project_id,
            subject.audit_id
        ],
    )? {
        let column = |i: usize| row.get::<Option<String>>(i);
        let one = |set: Option<String>, has: Option<&str>| set.is_none_or(|set| has == Some(&set));
        if column(0)?.is_none_or(|user| subject.user_ids.iter().any(|id| *id == user))
            && one(column(1)?, subject.project_id)
            && one(column(2)?, subject.trust_id)
            && one(column(3)?, subject.consumer_id)
            && one(column(4)?, Some(subject.audit_id))
            && one(column(5)?, subject.audit_chain_id)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The events as OS-REVOKE shows them.
pub fn list(tx: &mut Tx<'_>, since: Option<i64>) -> Result<Vec<Ref>> {
    let sql = format!("SELECT {COLUMNS} FROM identity_revocations WHERE revoked_at > ?1 ORDER BY revoked_at, id");
    let names = [
        "user_id",
        "project_id",
        "OS-TRUST:trust_id",
        "OS-OAUTH1:consumer_id",
        "audit_id",
        "audit_chain_id",
    ];
    let since = since.map_or(Sql::Int(-1), Sql::Int);
    tx.query(&sql, &[since])?
        .iter()
        .map(|row| {
            let mut event = Map::new();
            for (i, name) in names.iter().enumerate() {
                if let Some(value) = row.get::<Option<String>>(i)? {
                    event.insert((*name).into(), value.into());
                }
            }
            event.insert("issued_before".into(), api::time::iso8601_micros(row.get(6)?).into());
            event.insert("revoked_at".into(), api::time::iso8601_micros(row.get(7)?).into());
            Ok(event)
        })
        .collect()
}
