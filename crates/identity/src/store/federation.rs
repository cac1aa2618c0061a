//! Identity providers, their protocols, attribute mappings and service providers.

use super::{Hints, Kind, Page, Ref, Table, text};
use crate::{Error, Result};
use database::{Tx, params};
use serde_json::Value;

/// The table of identity providers; `remote_ids` stand apart.
pub const PROVIDERS: Table = Table {
    name: "identity_providers",
    kind: "identity_provider",
    missing: |id| Error::not_found("Identity Provider", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("domain_id", Kind::Text(64)),
        ("enabled", Kind::Bool),
        ("description", Kind::Text(0)),
        ("authorization_ttl", Kind::Int),
    ],
    extra: false,
};

/// The table of mappings.
pub const MAPPINGS: Table = Table {
    name: "identity_mappings",
    kind: "mapping",
    missing: |id| Error::not_found("mapping", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("rules", Kind::Json),
        ("schema_version", Kind::Text(5)),
    ],
    extra: false,
};

/// The table of service providers.
pub const SERVICE_PROVIDERS: Table = Table {
    name: "identity_service_providers",
    kind: "service_provider",
    missing: |id| Error::not_found("Service Provider", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("enabled", Kind::Bool),
        ("description", Kind::Text(0)),
        ("auth_url", Kind::Text(256)),
        ("sp_url", Kind::Text(256)),
        ("relay_state_prefix", Kind::Text(256)),
    ],
    extra: false,
};

/// The table of protocols, keyed by provider and id.
const PROTOCOLS: Table = Table {
    name: "identity_protocols",
    kind: "federation_protocol",
    missing: |id| Error::not_found("federated protocol", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("idp_id", Kind::Text(64)),
        ("mapping_id", Kind::Text(64)),
        ("remote_id_attribute", Kind::Text(64)),
    ],
    extra: false,
};

fn duplicate(text: String) -> Error {
    Error::Conflict {
        what: "identity_provider",
        details: text,
    }
}

fn with_remote_ids(tx: &mut Tx<'_>, mut provider: Ref) -> Result<Ref> {
    let sql = "SELECT remote_id FROM identity_provider_remote_ids WHERE idp_id = ?1 ORDER BY remote_id";
    let ids: Vec<String> = tx.column(sql, &params![text(&provider, "id")])?;
    provider.insert("remote_ids".into(), ids.into());
    Ok(provider)
}

fn set_remote_ids(tx: &mut Tx<'_>, id: &str, remote_ids: Option<&Value>) -> Result<()> {
    tx.execute(
        "DELETE FROM identity_provider_remote_ids WHERE idp_id = ?1",
        &params![id],
    )?;
    for remote in remote_ids
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        let sql = "INSERT INTO identity_provider_remote_ids (remote_id, idp_id) VALUES (?1, ?2)";
        tx.execute(sql, &params![remote, id]).map_err(|e| match e {
            database::Error::Unique { .. } => duplicate(format!("Duplicate remote ID: {remote}")),
            other => other.into(),
        })?;
    }
    Ok(())
}

/// Adds an identity provider.
pub fn insert_provider(tx: &mut Tx<'_>, provider: &Ref) -> Result<Ref> {
    let id = text(provider, "id");
    PROVIDERS.insert(tx, provider).map_err(|e| match e {
        Error::Conflict { .. } => duplicate(format!("Duplicate entry: {id}")),
        other => other,
    })?;
    set_remote_ids(tx, id, provider.get("remote_ids"))?;
    provider_by_id(tx, id)
}

/// An identity provider.
pub fn provider_by_id(tx: &mut Tx<'_>, id: &str) -> Result<Ref> {
    let provider = PROVIDERS.get(tx, id)?;
    with_remote_ids(tx, provider)
}

/// A page of identity providers.
pub fn list_providers(tx: &mut Tx<'_>, hints: &Hints) -> Result<Page> {
    let mut page = PROVIDERS.list(tx, hints)?;
    let mut refs = Vec::with_capacity(page.refs.len());
    for provider in page.refs {
        refs.push(with_remote_ids(tx, provider)?);
    }
    page.refs = refs;
    Ok(page)
}

/// Writes the changeable attributes over an identity provider.
pub fn update_provider(tx: &mut Tx<'_>, id: &str, changes: &Ref) -> Result<Ref> {
    let mut provider = PROVIDERS.get(tx, id)?;
    for name in ["description", "enabled", "authorization_ttl"] {
        if let Some(value) = changes.get(name) {
            provider.insert(name.into(), value.clone());
        }
    }
    PROVIDERS.update(tx, &provider)?;
    if changes.contains_key("remote_ids") {
        set_remote_ids(tx, id, changes.get("remote_ids"))?;
    }
    provider_by_id(tx, id)
}

/// Removes an identity provider, its protocols, and the users that it alone vouched for.
pub fn delete_provider(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    tx.execute("DELETE FROM identity_federated_users WHERE idp_id = ?1", &params![id])?;
    PROVIDERS.delete(tx, id)
}

/// The ids of a domain's identity providers.
pub fn providers_in_domain(tx: &mut Tx<'_>, domain_id: &str) -> Result<Vec<String>> {
    Ok(tx.column(
        "SELECT id FROM identity_providers WHERE domain_id = ?1 ORDER BY id",
        &params![domain_id],
    )?)
}

fn no_protocol(idp_id: &str, id: &str) -> Error {
    Error::Missing(format!(
        "Could not find federated protocol {id} for Identity Provider: {idp_id}."
    ))
}

/// A protocol of a provider.
pub fn protocol(tx: &mut Tx<'_>, idp_id: &str, id: &str) -> Result<Ref> {
    PROTOCOLS
        .find(tx, "idp_id = ?1 AND id = ?2", &params![idp_id, id])?
        .ok_or_else(|| no_protocol(idp_id, id))
}

/// The protocols of a provider.
pub fn protocols(tx: &mut Tx<'_>, idp_id: &str) -> Result<Vec<Ref>> {
    PROTOCOLS.find_all(tx, "idp_id = ?1", &params![idp_id])
}

/// Adds a protocol.
pub fn insert_protocol(tx: &mut Tx<'_>, protocol_ref: &Ref) -> Result<Ref> {
    PROTOCOLS.insert(tx, protocol_ref)?;
    protocol(tx, text(protocol_ref, "idp_id"), text(protocol_ref, "id"))
}

/// Changes a protocol's mapping.
pub fn update_protocol(tx: &mut Tx<'_>, idp_id: &str, id: &str, changes: &Ref) -> Result<Ref> {
    let mut new = protocol(tx, idp_id, id)?;
    new.extend(changes.clone());
    let sql = "UPDATE identity_protocols SET mapping_id = ?3, remote_id_attribute = ?4 WHERE idp_id = ?1 AND id = ?2";
    tx.execute(
        sql,
        &params![
            idp_id,
            id,
            text(&new, "mapping_id"),
            new["remote_id_attribute"].as_str()
        ],
    )?;
    protocol(tx, idp_id, id)
}

/// Removes a protocol.
pub fn delete_protocol(tx: &mut Tx<'_>, idp_id: &str, id: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM identity_federated_users WHERE idp_id = ?1 AND protocol_id = ?2",
        &params![idp_id, id],
    )?;
    match tx.execute(
        "DELETE FROM identity_protocols WHERE idp_id = ?1 AND id = ?2",
        &params![idp_id, id],
    )? {
        0 => Err(no_protocol(idp_id, id)),
        _ => Ok(()),
    }
}

/// The enabled service providers, as tokens show them.
pub fn enabled_service_providers(tx: &mut Tx<'_>) -> Result<Vec<Value>> {
    let found = SERVICE_PROVIDERS.find_all(tx, "enabled = 1", &[])?;
    Ok(found
        .into_iter()
        .map(|sp| serde_json::json!({"auth_url": sp["auth_url"], "id": sp["id"], "sp_url": sp["sp_url"]}))
        .collect())
}
