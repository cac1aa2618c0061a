//! Users, their passwords and failed attempts.

use super::{Hints, Kind, Page, Ref, Table, text};
use crate::config::SecurityCompliance;
use crate::{Error, Result};
use database::{Direction, Select, Tx, Value as Sql, now, params};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The table of users.
pub const USERS: Table = Table {
    name: "identity_users",
    kind: "user",
    missing: |id| Error::not_found("user", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("domain_id", Kind::Text(64)),
        ("name", Kind::Text(255)),
        ("enabled", Kind::Bool),
        ("default_project_id", Kind::Text(64)),
        ("options", Kind::Json),
    ],
    extra: true,
};

const DAY: i64 = 86_400_000_000;

/// One password a user has or had.
#[derive(Clone, Debug)]
pub struct Password {
    /// Its number; larger is newer.
    pub id: i64,
    /// The bcrypt hash; `None` for a password that was taken away.
    pub hash: Option<String>,
    /// µs since the epoch.
    pub created_at: i64,
    /// µs since the epoch.
    pub expires_at: Option<i64>,
    /// Whether the user itself set it.
    pub self_service: bool,
}

/// Failed attempts to log in since the last success.
#[derive(Clone, Copy, Debug)]
pub struct Failures {
    /// How many.
    pub count: i64,
    /// When the last was.
    pub last: Option<i64>,
}

/// A user option, false where it is not set.
pub fn option(user: &Ref, name: &str) -> bool {
    user.get("options").and_then(|o| o.get(name)) == Some(&Value::Bool(true))
}

/// The user as the API shows it.
pub fn get(tx: &mut Tx<'_>, id: &str, rules: &SecurityCompliance) -> Result<Ref> {
    let user = USERS.get(tx, id)?;
    shown(tx, vec![user], rules)?
        .pop()
        .ok_or_else(|| Error::not_found("user", id))
}

/// A user by name within a domain.
pub fn by_name(tx: &mut Tx<'_>, name: &str, domain_id: &str, rules: &SecurityCompliance) -> Result<Option<Ref>> {
    let found = USERS.find(tx, "domain_id = ?1 AND name = ?2", &params![domain_id, name])?;
    Ok(shown(tx, found.into_iter().collect(), rules)?.pop())
}

/// Adds what is not in the row: when the password expires, federated identities, whether inactivity disabled the user.
fn shown(tx: &mut Tx<'_>, mut users: Vec<Ref>, rules: &SecurityCompliance) -> Result<Vec<Ref>> {
    let mut expiry: HashMap<String, Option<i64>> = HashMap::new();
    let mut federated: HashMap<String, Vec<(String, String, String)>> = HashMap::new();
    let mut idle: HashMap<String, i64> = HashMap::new();
    for chunk in users.chunks(500) {
        let ids: Vec<Sql> = chunk.iter().map(|u| text(u, "id").into()).collect();
        let mut select = Select::new("user_id, expires_at", "identity_passwords");
        for row in select
            .filter_in("user_id", &ids)
            .order("id", Direction::Ascending)
            .rows(tx)?
        {
            expiry.insert(row.get(0)?, row.get(1)?);
        }
        let mut select = Select::new("user_id, idp_id, protocol_id, unique_id", "identity_federated_users");
        for row in select
            .filter_in("user_id", &ids)
            .order("id", Direction::Ascending)
            .rows(tx)?
        {
            federated
                .entry(row.get(0)?)
                .or_default()
                .push((row.get(1)?, row.get(2)?, row.get(3)?));
        }
        if rules.disable_user_account_days_inactive.is_some() {
            let mut select = Select::new("id, COALESCE(last_active_at, created_at)", "identity_users");
            for row in select.filter_in("id", &ids).rows(tx)? {
                idle.insert(row.get(0)?, now() / DAY - row.get::<i64>(1)? / DAY);
            }
        }
    }
    for user in &mut users {
        let id = text(user, "id").to_owned();
        for hidden in ["password", "tenants", "groups", "domains"] {
            user.remove(hidden);
        }
        if user.get("default_project_id") == Some(&Value::Null) {
            user.remove("default_project_id");
        }
        let expires = expiry.get(&id).copied().flatten().map(api::time::naive_micros);
        user.insert("password_expires_at".into(), expires.into());
        if let Some(days) = rules.disable_user_account_days_inactive
            && idle.get(&id).is_some_and(|idle| *idle >= days)
            && !option(user, "ignore_user_inactivity")
        {
            user.insert("enabled".into(), false.into());
        }
        if let Some(identities) = federated.get(&id) {
            let mut list: Vec<Value> = Vec::new();
            for (idp, protocol, unique) in identities {
                let protocol = json!({"protocol_id": protocol, "unique_id": unique});
                match list.iter_mut().find(|entry| entry["idp_id"] == json!(idp)) {
                    Some(entry) => entry["protocols"]
                        .as_array_mut()
                        .map(|p| p.push(protocol))
                        .unwrap_or_default(),
                    None => list.push(json!({"idp_id": idp, "protocols": [protocol]})),
                }
            }
            user.insert("federated".into(), list.into());
        }
    }
    Ok(users)
}

/// Adds a user. `hash` is the hash of its password, where it has one.
pub fn insert(tx: &mut Tx<'_>, mut user: Ref, hash: Option<&str>, rules: &SecurityCompliance) -> Result<Ref> {
    let federated = user.remove("federated");
    let options = super::merge_options(&Value::Null, user.get("options"));
    user.insert("options".into(), options);
    let created = now();
    USERS.insert_with(
        tx,
        &user,
        &[("created_at", created.into()), ("failed_auth_count", 0.into())],
    )?;
    let id = text(&user, "id").to_owned();
    if let Some(hash) = hash {
        add_password(tx, &user, Some(hash), false, rules)?;
    }
    set_federated(tx, &user, federated.as_ref())?;
    get(tx, &id, rules)
}

/// Writes `changes` over the user. `hash`: a new password; `Some(None)` takes it away.
pub fn update(
    tx: &mut Tx<'_>,
    old: &Ref,
    changes: &Ref,
    hash: Option<Option<&str>>,
    rules: &SecurityCompliance,
) -> Result<Ref> {
    let id = text(old, "id").to_owned();
    // Read again: what is shown lacks attributes that are stored.
    let mut user = USERS.get(tx, &id)?;
    let options = super::merge_options(user.get("options").unwrap_or(&Value::Null), changes.get("options"));
    for (name, value) in changes {
        if name != "password" && name != "federated" && name != "password_expires_at" {
            user.insert(name.clone(), value.clone());
        }
    }
    user.insert("options".into(), options);
    user.insert("id".into(), id.clone().into());
    USERS.update(tx, &user)?;
    if super::is_true(changes, "enabled") {
        forget_failures(tx, &id)?;
        tx.execute(
            "UPDATE identity_users SET last_active_at = ?2 WHERE id = ?1",
            &params![&id, now()],
        )?;
    }
    if let Some(hash) = hash {
        add_password(tx, &user, hash, false, rules)?;
    }
    if changes
        .get("federated")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty())
    {
        tx.execute("DELETE FROM identity_federated_users WHERE user_id = ?1", &params![&id])?;
        set_federated(tx, &user, changes.get("federated"))?;
    }
    let extra = super::extra_of(&USERS, &USERS.get(tx, &id)?);
    let mut user = get(tx, &id, rules)?;
    user.insert("extra".into(), extra);
    Ok(user)
}

fn set_federated(tx: &mut Tx<'_>, user: &Ref, federated: Option<&Value>) -> Result<()> {
    for identity in federated.and_then(Value::as_array).into_iter().flatten() {
        let idp = identity["idp_id"].as_str().unwrap_or_default();
        let provider: Option<i64> = tx.scalar("SELECT 1 FROM identity_providers WHERE id = ?1", &params![idp])?;
        if provider.is_none() {
            return Err(Error::Invalid(format!("Could not find Identity Provider: {idp}")));
        }
        for protocol in identity["protocols"].as_array().into_iter().flatten() {
            let name = protocol["protocol_id"].as_str().unwrap_or_default();
            let known: Option<i64> = tx.scalar(
                "SELECT 1 FROM identity_protocols WHERE idp_id = ?1 AND id = ?2",
                &params![idp, name],
            )?;
            if known.is_none() {
                return Err(Error::Invalid(format!(
                    "Could not find federated protocol {name} for Identity Provider: {idp}."
                )));
            }
            tx.execute(
                "INSERT INTO identity_federated_users (user_id, idp_id, protocol_id, unique_id, display_name) VALUES (?1, ?2, ?3, ?4, ?5)",
                &params![text(user, "id"), idp, name, protocol["unique_id"].as_str(), text(user, "name")],
            )
            .map_err(|e| match e {
                database::Error::Unique { .. } => Error::Conflict { what: "federated_user", details: "Duplicate entry".into() },
                other => other.into(),
            })?;
        }
    }
    Ok(())
}

/// Sets the password, keeping as many old ones as history asks for.
pub fn add_password(
    tx: &mut Tx<'_>,
    user: &Ref,
    hash: Option<&str>,
    self_service: bool,
    rules: &SecurityCompliance,
) -> Result<()> {
    let id = text(user, "id");
    let at = now();
    let kept = rules.unique_last_password_count.max(1);
    tx.execute(
        "DELETE FROM identity_passwords WHERE user_id = ?1 AND id NOT IN (SELECT id FROM identity_passwords WHERE user_id = ?1 ORDER BY id DESC LIMIT ?2)",
        &params![id, kept],
    )?;
    tx.execute(
        "UPDATE identity_passwords SET expires_at = ?2 WHERE user_id = ?1 AND (expires_at IS NULL OR expires_at > ?2)",
        &params![id, at],
    )?;
    let lasts = rules
        .password_expires_days
        .filter(|days| *days > 0 && !option(user, "ignore_password_expiry"));
    let mut expires = lasts.map(|days| (at + days * DAY) / 1_000_000 * 1_000_000);
    if rules.change_password_upon_first_use && !self_service && !option(user, "ignore_change_password_upon_first_use") {
        expires = Some(at);
    }
    tx.execute(
        "INSERT INTO identity_passwords (user_id, hash, created_at, expires_at, self_service) VALUES (?1, ?2, ?3, ?4, ?5)",
        &params![id, hash, at, expires, self_service],
    )?;
    Ok(())
}

/// The newest passwords, newest first.
pub fn passwords(tx: &mut Tx<'_>, user_id: &str, count: i64) -> Result<Vec<Password>> {
    let sql = "SELECT id, hash, created_at, expires_at, self_service FROM identity_passwords WHERE user_id = ?1 ORDER BY id DESC LIMIT ?2";
    tx.query(sql, &params![user_id, count])?
        .iter()
        .map(|row| {
            Ok(Password {
                id: row.get(0)?,
                hash: row.get(1)?,
                created_at: row.get(2)?,
                expires_at: row.get(3)?,
                self_service: row.get(4)?,
            })
        })
        .collect()
}

/// How often the user failed to log in.
pub fn failures(tx: &mut Tx<'_>, user_id: &str) -> Result<Failures> {
    let row = tx.query_one(
        "SELECT failed_auth_count, failed_auth_at FROM identity_users WHERE id = ?1",
        &params![user_id],
    )?;
    row.map_or(Ok(Failures { count: 0, last: None }), |row| {
        Ok(Failures {
            count: row.get(0)?,
            last: row.get(1)?,
        })
    })
}

/// Counts a failed attempt.
pub fn count_failure(tx: &mut Tx<'_>, user_id: &str) -> Result<()> {
    tx.execute(
        "UPDATE identity_users SET failed_auth_count = failed_auth_count + 1, failed_auth_at = ?2 WHERE id = ?1",
        &params![user_id, now()],
    )?;
    Ok(())
}

/// Forgets failed attempts.
pub fn forget_failures(tx: &mut Tx<'_>, user_id: &str) -> Result<()> {
    tx.execute(
        "UPDATE identity_users SET failed_auth_count = 0, failed_auth_at = NULL WHERE id = ?1",
        &params![user_id],
    )?;
    Ok(())
}

/// Notes that the user was there today; only where inactivity matters.
pub fn touch(tx: &mut Tx<'_>, user_id: &str) -> Result<()> {
    tx.execute(
        "UPDATE identity_users SET last_active_at = ?2 WHERE id = ?1",
        &params![user_id, now()],
    )?;
    Ok(())
}

/// A comparison with the time a password expires at.
#[derive(Clone, Debug)]
pub struct Expiry {
    /// An SQL operator.
    pub operator: &'static str,
    /// µs since the epoch.
    pub at: i64,
}

/// Filters on users that are not columns of theirs.
#[derive(Clone, Debug, Default)]
pub struct UserFilters {
    /// When the password expires.
    pub expiry: Vec<Expiry>,
    /// `idp_id`, `protocol_id`, `unique_id` of a federated identity.
    pub federated: Vec<(&'static str, String)>,
    /// Only members of this group.
    pub group_id: Option<String>,
}

/// A page of users.
pub fn list(tx: &mut Tx<'_>, hints: &Hints, filters: &UserFilters, rules: &SecurityCompliance) -> Result<Page> {
    let mut page = USERS.list_from(tx, hints, USERS.name, |select| {
        for expiry in &filters.expiry {
            select.filter(
                &format!("EXISTS (SELECT 1 FROM identity_passwords p WHERE p.user_id = identity_users.id AND p.expires_at {} ?)", expiry.operator),
                &[expiry.at.into()],
            );
        }
        for (column, value) in &filters.federated {
            select.filter(
                &format!("EXISTS (SELECT 1 FROM identity_federated_users f WHERE f.user_id = identity_users.id AND f.{column} = ?)"),
                &[value.into()],
            );
        }
        if let Some(group) = &filters.group_id {
            select.filter("identity_users.id IN (SELECT user_id FROM identity_memberships WHERE group_id = ?)", &[group.into()]);
        }
    })?;
    page.refs = shown(tx, page.refs, rules)?;
    Ok(page)
}

/// The ids of a group's members.
pub fn ids_in_group(tx: &mut Tx<'_>, group_id: &str) -> Result<Vec<String>> {
    Ok(tx.column(
        "SELECT user_id FROM identity_memberships WHERE group_id = ?1 ORDER BY user_id",
        &params![group_id],
    )?)
}
