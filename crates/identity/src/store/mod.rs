//! SQL, one file per resource. Everything here takes the caller's transaction.

pub mod application_credentials;
pub mod assignments;
pub mod catalog;
pub mod credentials;
pub mod domain_config;
pub mod endpoint_filter;
pub mod endpoint_policy;
pub mod federation;
pub mod groups;
pub mod limits;
pub mod oauth1;
pub mod projects;
pub mod revocations;
pub mod roles;
mod table;
pub mod trusts;
pub mod users;

pub use table::{Filter, Hints, Kind, Page, Ref, Table, bool_from_text};

use serde_json::{Map, Value};

/// A new id, as upstream makes them: a random UUID without dashes.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The text under `key`; empty where there is none.
pub fn text<'a>(object: &'a Ref, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether the attribute is there and true.
pub fn is_true(object: &Ref, key: &str) -> bool {
    match object.get(key) {
        Some(Value::Bool(b)) => *b,
        Some(Value::String(text)) => bool_from_text(text, true),
        _ => false,
    }
}

/// What upstream does with `options` on update: those that are named are set, null removes, the others stay.
pub(crate) fn merge_options(old: &Value, new: Option<&Value>) -> Value {
    let mut options = old.as_object().cloned().unwrap_or_default();
    for (name, value) in new.and_then(Value::as_object).into_iter().flatten() {
        if value.is_null() {
            options.remove(name);
        } else {
            options.insert(name.clone(), value.clone());
        }
    }
    Value::Object(options)
}

/// The attributes that no column has: what upstream adds as `extra` to the answer of an update.
pub(crate) fn extra_of(table: &Table, object: &Ref) -> Value {
    let known = |name: &str| table.columns.iter().any(|(column, _)| *column == name);
    let extra: Map<String, Value> = object
        .iter()
        .filter(|(name, _)| !known(name) && *name != "extra")
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    Value::Object(extra)
}

/// Whether the resource option `immutable` is set.
pub fn is_immutable(object: &Ref) -> bool {
    object.get("options").and_then(|o| o.get("immutable")) == Some(&Value::Bool(true))
}

/// Refuses to change an immutable object, unless the change only makes it mutable.
pub(crate) fn check_mutable(original: &Ref, changes: &Ref, what: &str) -> crate::Result<()> {
    if !is_immutable(original) {
        return Ok(());
    }
    let frees = matches!(
        changes.get("options").and_then(|o| o.get("immutable")),
        Some(Value::Bool(false) | Value::Null)
    );
    if changes.len() == 1 && frees {
        return Ok(());
    }
    Err(crate::Error::Refused(format!(
        "Unable to update immutable {what} resource: `{}. Set resource option \"immutable\" to false first.",
        text(original, "id")
    )))
}

/// Refuses to delete an immutable object.
pub(crate) fn check_deletable(object: &Ref, what: &str) -> crate::Result<()> {
    if !is_immutable(object) {
        return Ok(());
    }
    Err(crate::Error::Refused(format!(
        "Unable to delete immutable {what} resource: `{}. Set resource option \"immutable\" to false first.",
        text(object, "id")
    )))
}
