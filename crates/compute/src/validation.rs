//! Bodies and query strings against the JSON schemas of their microversion.
//!
//! The schemas are data (`schemas/requests.json`): `parts` are shared sub-schemas, referred to as `{"$part": N}`, and
//! `operations` maps `METHOD /path body` (or `query`; actions are `/path action-name body`) to `[min, max, schema]`.
//! A schema is expanded and compiled when it is first needed.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use api::schema::{FormatCheck, Schema, Violation, python_str};
use api::{Error, Version};
use serde_json::{Map, Value};

const DATA: &str = include_str!("../schemas/requests.json");

struct Entry {
    min: Version,
    max: Version,
    schema: Value,
    compiled: OnceLock<Arc<Compiled>>,
}

/// A schema ready for use.
pub(crate) struct Compiled {
    schema: Schema,
    /// Names of query parameters that are known; the rest is dropped where the schema lets it pass.
    known: Vec<String>,
    patterns: Vec<regex::Regex>,
    open: bool,
}

/// All schemas of the service.
pub(crate) struct Schemas {
    parts: Vec<Value>,
    operations: HashMap<String, Vec<Entry>>,
}

impl Schemas {
    /// Reads the embedded data.
    pub(crate) fn load() -> Schemas {
        let mut data: Value = serde_json::from_str(DATA).unwrap_or(Value::Null);
        let parts = match data["parts"].take() {
            Value::Array(parts) => parts,
            _ => Vec::new(),
        };
        let version = |v: &Value, default| v.as_str().and_then(Version::parse).unwrap_or(default);
        let mut operations = HashMap::new();
        if let Value::Object(all) = data["operations"].take() {
            for (name, versions) in all {
                let Value::Array(versions) = versions else { continue };
                let entries = versions.into_iter().map(|mut v| Entry {
                    min: version(&v[0], Version(0, 0)),
                    max: version(&v[1], Version(9, 9999)),
                    schema: v[2].take(),
                    compiled: OnceLock::new(),
                });
                operations.insert(name, entries.collect());
            }
        }
        Schemas { parts, operations }
    }

    fn expand(&self, value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                if let Some(part) = map.get("$part").and_then(Value::as_u64) {
                    return self
                        .parts
                        .get(part as usize)
                        .map_or(Value::Null, |part| self.expand(part));
                }
                Value::Object(map.iter().map(|(k, v)| (k.clone(), self.expand(v))).collect())
            }
            Value::Array(list) => Value::Array(list.iter().map(|v| self.expand(v)).collect()),
            other => other.clone(),
        }
    }

    fn find(&self, operation: &str, version: Version) -> Option<Arc<Compiled>> {
        let entry = self
            .operations
            .get(operation)?
            .iter()
            .find(|e| e.min <= version && version <= e.max)?;
        Some(
            entry
                .compiled
                .get_or_init(|| {
                    let document = self.expand(&entry.schema);
                    let known = document["properties"]
                        .as_object()
                        .map(|p| p.keys().cloned().collect())
                        .unwrap_or_default();
                    let patterns = document["patternProperties"].as_object();
                    let patterns = patterns
                        .into_iter()
                        .flat_map(Map::keys)
                        .filter_map(|p| regex::Regex::new(p).ok())
                        .collect();
                    let open = document.get("additionalProperties") != Some(&Value::Bool(false));
                    let schema = Schema::with_formats(&document, FORMATS).with_numeric_strings();
                    Arc::new(Compiled {
                        schema,
                        known,
                        patterns,
                        open,
                    })
                })
                .clone(),
        )
    }

    /// Checks a body; operations without a schema take anything.
    pub(crate) fn body(&self, operation: &str, version: Version, body: &Value) -> Result<(), Error> {
        match self.find(operation, version) {
            Some(compiled) => compiled.schema.validate(body).map_err(|e| explain(&e, true)),
            None => Ok(()),
        }
    }

    /// Checks a query string and returns the parameters that count.
    pub(crate) fn query(
        &self,
        operation: &str,
        version: Version,
        query: &api::Query,
    ) -> Result<Vec<(String, String)>, Error> {
        let mut pairs: Vec<(String, String)> = query.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let Some(compiled) = self.find(operation, version) else {
            return Ok(pairs);
        };
        if pairs.is_empty() {
            return Ok(pairs);
        }
        let mut document = Map::new();
        for (name, value) in &pairs {
            let list = document.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(Value::String(value.clone()));
            }
        }
        compiled
            .schema
            .validate(&Value::Object(document))
            .map_err(|e| explain(&e, false))?;
        if compiled.open {
            pairs.retain(|(name, _)| {
                compiled.known.contains(name) || compiled.patterns.iter().any(|p| p.is_match(name))
            });
        }
        Ok(pairs)
    }
}

/// nova.api.validation.validators: which part of the error goes into the 400.
fn explain(error: &Violation, is_body: bool) -> Error {
    if let Some(cause) = &error.cause {
        return Error::bad_request(cause.clone());
    }
    let (place, path) = if is_body {
        ("field/attribute", error.path.last())
    } else {
        ("query parameters", error.path.first())
    };
    match path {
        None => Error::bad_request(error.message.clone()),
        Some(path) => {
            let value = python_str(&error.value);
            Error::bad_request(format!(
                "Invalid input for {place} {path}. Value: {value}. {}",
                error.message
            ))
        }
    }
}

fn printable(c: char) -> bool {
    !c.is_control()
        && (!c.is_whitespace() || is_space(c))
        && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}')
}

/// Unicode's class Zs.
fn is_space(c: char) -> bool {
    matches!(
        c,
        ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

/// nova.exception.InvalidName.
fn named(value: &Value, valid: impl Fn(&str) -> bool, reason: &str) -> Result<(), Option<String>> {
    match value.as_str() {
        Some(text) if valid(text) => Ok(()),
        _ => Err(Some(format!(
            "An invalid 'name' value was provided. The name must be: {reason}"
        ))),
    }
}

fn trimmed(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !is_space(c));
    text.chars().all(allowed) && edge(text.chars().next()) && edge(text.chars().last())
}

fn somewhere_solid(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    text.chars().all(allowed) && text.chars().any(|c| !is_space(c))
}

const FORMATS: &[(&str, FormatCheck)] = &[
    ("name", |v| {
        named(
            v,
            |t| trimmed(t, printable),
            "printable characters. Can not start or end with whitespace.",
        )
    }),
    ("az_name", |v| {
        let reason = "printable characters except :.Can not start or end with whitespace.";
        named(v, |t| trimmed(t, |c| printable(c) && c != ':'), reason)
    }),
    ("name_with_leading_trailing_spaces", |v| {
        named(
            v,
            |t| somewhere_solid(t, printable),
            "printable characters with at least one non space character",
        )
    }),
    ("az_name_with_leading_trailing_spaces", |v| {
        let reason = "printable characters except :, with at least one non space character";
        named(v, |t| somewhere_solid(t, |c| printable(c) && c != ':'), reason)
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_schema_compiles() {
        let schemas = Schemas::load();
        let mut count = 0;
        for (name, entries) in &schemas.operations {
            for entry in entries {
                assert!(
                    schemas.find(name, entry.min.max(Version(2, 1))).is_some() || entry.max < Version(2, 1),
                    "{name}"
                );
                count += 1;
            }
        }
        assert!(count > 200, "{count} schemas");
    }

    #[test]
    fn refusals_read_as_upstreams() {
        let schemas = Schemas::load();
        let refuse = |op: &str, version, body: Value| {
            schemas
                .body(op, version, &body)
                .err()
                .map(|e| e.message)
                .unwrap_or_default()
        };
        assert_eq!(
            refuse(
                "POST /servers body",
                Version(2, 1),
                json!({"server": {"name": "", "flavorRef": "1", "imageRef": ""}})
            ),
            "Invalid input for field/attribute name. Value: . '' should be non-empty"
        );
        assert_eq!(
            refuse(
                "POST /servers body",
                Version(2, 1),
                json!({"server": {"name": "a", "flavorRef": "1", "tags": []}})
            ),
            "Invalid input for field/attribute server. Value: {'name': 'a', 'flavorRef': '1', 'tags': []}. Additional properties are not allowed ('tags' was unexpected)"
        );
        assert_eq!(
            refuse(
                "POST /os-keypairs body",
                Version(2, 1),
                json!({"keypair": {"name": "\u{1}"}})
            ),
            "An invalid 'name' value was provided. The name must be: printable characters. Can not start or end with whitespace."
        );
    }

    #[test]
    fn unknown_parameters_are_dropped_or_refused_by_version() {
        let schemas = Schemas::load();
        let query = api::Query::parse("name=x&nonsense=1");
        let kept = schemas.query("GET /servers query", Version(2, 1), &query);
        assert_eq!(kept.map(|k| k.len()).ok(), Some(1));
        let refused = schemas
            .query("GET /servers query", Version(2, 75), &query)
            .err()
            .map(|e| e.message);
        assert_eq!(
            refused.as_deref(),
            Some("'nonsense' does not match any of the regexes: '^_'")
        );
    }
}
