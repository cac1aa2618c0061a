//! OAuth 1.0a: consumers, request tokens and access tokens.

use super::{Kind, Ref, Table, text};
use crate::{Error, Result};
use database::{Tx, params};
use serde_json::Value;

/// The table of consumers; `secret` is shown only when one is made.
pub const CONSUMERS: Table = Table {
    name: "identity_consumers",
    kind: "consumer",
    missing: |_| Error::Missing("Consumer not found".into()),
    columns: &[
        ("id", Kind::Text(64)),
        ("description", Kind::Text(64)),
        ("secret", Kind::Text(64)),
    ],
    extra: true,
};

/// The table of request tokens. `expires_at` is µs.
pub const REQUEST_TOKENS: Table = Table {
    name: "identity_request_tokens",
    kind: "request_token",
    missing: |_| Error::Missing("Request token not found".into()),
    columns: &[
        ("id", Kind::Text(64)),
        ("request_secret", Kind::Text(64)),
        ("verifier", Kind::Text(64)),
        ("authorizing_user_id", Kind::Text(64)),
        ("requested_project_id", Kind::Text(64)),
        ("role_ids", Kind::Json),
        ("consumer_id", Kind::Text(64)),
        ("expires_at", Kind::Int),
    ],
    extra: false,
};

/// The table of access tokens. `expires_at` is µs.
pub const ACCESS_TOKENS: Table = Table {
    name: "identity_access_tokens",
    kind: "access_token",
    missing: |_| Error::Missing("Access token not found".into()),
    columns: &[
        ("id", Kind::Text(64)),
        ("access_secret", Kind::Text(64)),
        ("authorizing_user_id", Kind::Text(64)),
        ("project_id", Kind::Text(64)),
        ("role_ids", Kind::Json),
        ("consumer_id", Kind::Text(64)),
        ("expires_at", Kind::Int),
    ],
    extra: false,
};

/// A user's access tokens.
pub fn access_tokens_of(tx: &mut Tx<'_>, user_id: &str) -> Result<Vec<Ref>> {
    ACCESS_TOKENS.find_all(tx, "authorizing_user_id = ?1", &params![user_id])
}

/// Turns an authorized request token into an access token.
pub fn exchange(tx: &mut Tx<'_>, request: &Ref, expires_at: Option<i64>) -> Result<Ref> {
    let mut access = Ref::new();
    access.insert("id".into(), super::new_id().into());
    access.insert("access_secret".into(), super::new_id().into());
    access.insert("authorizing_user_id".into(), request["authorizing_user_id"].clone());
    access.insert("project_id".into(), request["requested_project_id"].clone());
    access.insert("role_ids".into(), request["role_ids"].clone());
    access.insert("consumer_id".into(), request["consumer_id"].clone());
    access.insert("expires_at".into(), expires_at.map_or(Value::Null, Value::from));
    ACCESS_TOKENS.insert(tx, &access)?;
    REQUEST_TOKENS.delete(tx, text(request, "id"))?;
    Ok(access)
}
