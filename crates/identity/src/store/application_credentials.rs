//! Application credentials and the access rules that narrow them.

use super::{Hints, Kind, Page, Ref, Table, roles, text};
use crate::{Error, Result};
use database::{Tx, params};
use serde_json::{Value, json};

/// The table of application credentials. `expires_at` is shown as µs; the API writes it out.
pub const APPLICATION_CREDENTIALS: Table = Table {
    name: "identity_application_credentials",
    kind: "application_credential",
    missing: |id| Error::not_found("Application Credential", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("name", Kind::Text(255)),
        ("description", Kind::Text(0)),
        ("user_id", Kind::Text(64)),
        ("project_id", Kind::Text(64)),
        ("system", Kind::Text(64)),
        ("expires_at", Kind::Int),
        ("unrestricted", Kind::Bool),
    ],
    extra: false,
};

/// The table of access rules.
pub const ACCESS_RULES: Table = Table {
    name: "identity_access_rules",
    kind: "access_rule",
    missing: |id| Error::not_found("Access Rule", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("service", Kind::Text(64)),
        ("path", Kind::Text(128)),
        ("method", Kind::Text(16)),
    ],
    extra: false,
};

/// Adds an application credential with the ids of its roles and its access rules (`None`: may do anything its roles may).
pub fn insert(
    tx: &mut Tx<'_>,
    credential: &Ref,
    secret_hash: &str,
    role_ids: &[String],
    rules: Option<&Vec<Value>>,
) -> Result<Ref> {
    let id = text(credential, "id");
    let user_id = text(credential, "user_id");
    APPLICATION_CREDENTIALS.insert_with(tx, credential, &[("secret_hash", secret_hash.into())])?;
    for role in role_ids {
        let sql = "INSERT INTO identity_application_credential_roles (application_credential_id, role_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        tx.execute(sql, &params![id, role])?;
    }
    for rule in rules.into_iter().flatten() {
        let wanted = rule["id"].as_str().unwrap_or_default();
        let owner: Option<String> = tx.scalar(
            "SELECT user_id FROM identity_access_rules WHERE id = ?1",
            &params![wanted],
        )?;
        let same = params![
            user_id,
            rule["service"].as_str(),
            rule["path"].as_str(),
            rule["method"].as_str()
        ];
        let rule_id = match owner {
            Some(owner) if owner == user_id => wanted.to_owned(),
            Some(_) => return Err(Error::not_found("Access Rule", wanted)),
            None => {
                let sql = "SELECT id FROM identity_access_rules WHERE user_id = ?1 AND service = ?2 AND path = ?3 AND method = ?4";
                match tx.scalar::<String>(sql, &same)? {
                    Some(known) => known,
                    // One that is named only must be there.
                    None if rule["path"].is_null() || rule["method"].is_null() || rule["service"].is_null() => {
                        return Err(Error::not_found("Access Rule", wanted));
                    }
                    None => {
                        let new = rule.as_object().cloned().unwrap_or_default();
                        ACCESS_RULES.insert_with(tx, &new, &[("user_id", user_id.into())])?;
                        wanted.to_owned()
                    }
                }
            }
        };
        let sql = "INSERT INTO identity_application_credential_access_rules (application_credential_id, access_rule_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        tx.execute(sql, &params![id, rule_id])?;
    }
    get(tx, id)
}

fn completed(tx: &mut Tx<'_>, mut credential: Ref) -> Result<Ref> {
    let id = text(&credential, "id").to_owned();
    let sql = "SELECT role_id FROM identity_application_credential_roles WHERE application_credential_id = ?1 ORDER BY role_id";
    let ids: Vec<String> = tx.column(sql, &params![&id])?;
    let roles: Vec<Value> = roles::ROLES
        .get_many(tx, &ids)?
        .into_iter()
        .map(Value::Object)
        .collect();
    credential.insert("roles".into(), roles.into());
    let rules = ACCESS_RULES.find_all(
        tx,
        "id IN (SELECT access_rule_id FROM identity_application_credential_access_rules WHERE application_credential_id = ?1)",
        &params![&id],
    )?;
    if !rules.is_empty() {
        credential.insert(
            "access_rules".into(),
            rules.into_iter().map(Value::Object).collect::<Vec<_>>().into(),
        );
    }
    Ok(credential)
}

/// An application credential with its roles and access rules.
pub fn get(tx: &mut Tx<'_>, id: &str) -> Result<Ref> {
    let found = APPLICATION_CREDENTIALS.get(tx, id)?;
    completed(tx, found)
}

/// The hash of its secret.
pub fn secret_hash(tx: &mut Tx<'_>, id: &str) -> Result<Option<String>> {
    Ok(tx.scalar(
        "SELECT secret_hash FROM identity_application_credentials WHERE id = ?1",
        &params![id],
    )?)
}

/// A page of a user's application credentials.
pub fn list(tx: &mut Tx<'_>, user_id: &str, hints: &Hints) -> Result<Page> {
    let mut page = APPLICATION_CREDENTIALS.list_from(tx, hints, APPLICATION_CREDENTIALS.name, |select| {
        select.filter("user_id = ?", &params![user_id]);
    })?;
    let mut refs = Vec::with_capacity(page.refs.len());
    for credential in page.refs {
        refs.push(completed(tx, credential)?);
    }
    page.refs = refs;
    Ok(page)
}

/// How many a user has.
pub fn count(tx: &mut Tx<'_>, user_id: &str) -> Result<i64> {
    Ok(tx
        .scalar(
            "SELECT COUNT(*) FROM identity_application_credentials WHERE user_id = ?1",
            &params![user_id],
        )?
        .unwrap_or(0))
}

/// Removes all of a user, with its access rules.
pub fn forget_user(tx: &mut Tx<'_>, user_id: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM identity_application_credentials WHERE user_id = ?1",
        &params![user_id],
    )?;
    tx.execute(
        "DELETE FROM identity_access_rules WHERE user_id = ?1",
        &params![user_id],
    )?;
    Ok(())
}

/// Removes a user's for one project.
pub fn forget_user_on_project(tx: &mut Tx<'_>, user_id: &str, project_id: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM identity_application_credentials WHERE user_id = ?1 AND project_id = ?2",
        &params![user_id, project_id],
    )?;
    Ok(())
}

/// A user's access rule.
pub fn rule(tx: &mut Tx<'_>, id: &str, user_id: &str) -> Result<Ref> {
    ACCESS_RULES
        .find(tx, "id = ?1 AND user_id = ?2", &params![id, user_id])?
        .ok_or_else(|| Error::not_found("Access Rule", id))
}

/// A page of a user's access rules.
pub fn rules(tx: &mut Tx<'_>, user_id: &str, hints: &Hints) -> Result<Page> {
    ACCESS_RULES.list_from(tx, hints, ACCESS_RULES.name, |select| {
        select.filter("user_id = ?", &params![user_id]);
    })
}

/// Removes an access rule that no application credential uses.
pub fn delete_rule(tx: &mut Tx<'_>, id: &str, user_id: &str) -> Result<()> {
    rule(tx, id, user_id)?;
    let sql = "SELECT COUNT(*) FROM identity_application_credential_access_rules WHERE access_rule_id = ?1";
    if tx.scalar::<i64>(sql, &params![id])?.unwrap_or(0) > 0 {
        return Err(Error::Refused("May not delete access rule in use".into()));
    }
    ACCESS_RULES.delete(tx, id)
}

/// What a token of the credential shows of it.
pub fn in_token(credential: &Ref) -> Value {
    let mut shown = json!({
        "id": credential["id"],
        "name": credential["name"],
        "restricted": !super::is_true(credential, "unrestricted"),
    });
    if let Some(rules) = credential.get("access_rules") {
        shown["access_rules"] = rules.clone();
    }
    shown
}
