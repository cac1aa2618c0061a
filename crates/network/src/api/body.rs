//! From a request's body to validated attributes, with upstream's order of checks.

use crate::caller::Caller;
use crate::model::attribute::{Body, Initial, Resource};
use crate::{Error, Result};
use api::Request;
use serde_json::{Map, Value};

/// The bodies of a POST: one, or several under the collection's name.
pub struct Bodies {
    /// The validated bodies.
    pub items: Vec<Body>,
    /// Whether they came as a list, and are answered as one.
    pub bulk: bool,
}

/// The JSON object of a request; an empty body is an empty object.
pub fn object(request: &Request) -> Result<Map<String, Value>> {
    if request.body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(Error::bad("Body contains invalid data")),
    }
}

/// Reads and checks the body of a POST.
pub fn create(resource: &Resource, caller: &Caller, request: &Request) -> Result<Bodies> {
    let mut body = object(request)?;
    if let Some(list) = body.remove(resource.collection) {
        let items = match list {
            Value::Array(items) if !items.is_empty() => items,
            Value::Array(_) | Value::Null => return Err(Error::bad("Resources required")),
            _ => return Err(Error::bad("Body contains invalid data")),
        };
        let items = items
            .into_iter()
            .map(|item| match item {
                Value::Object(mut map) => {
                    let inner = map.remove(resource.name).unwrap_or(Value::Object(map));
                    one(resource, caller, Some(inner), true)
                }
                _ => Err(Error::bad("Body contains invalid data")),
            })
            .collect::<Result<Vec<_>>>()?;
        return Ok(Bodies { items, bulk: true });
    }
    let items = vec![one(resource, caller, body.remove(resource.name), true)?];
    Ok(Bodies { items, bulk: false })
}

/// Reads and checks the body of a PUT: only what is to change.
pub fn update(resource: &Resource, caller: &Caller, request: &Request) -> Result<Body> {
    let mut body = object(request)?;
    if body.contains_key(resource.collection) {
        return Err(Error::bad("Bulk operation not supported"));
    }
    one(resource, caller, body.remove(resource.name), false)
}

/// Checks the body of a create that the cloud itself asks for, as if it had come by HTTP.
pub fn internal(resource: &Resource, caller: &Caller, given: Value) -> Result<Body> {
    one(resource, caller, Some(given), true)
}

fn one(resource: &Resource, caller: &Caller, given: Option<Value>, creating: bool) -> Result<Body> {
    let mut body = match given {
        None | Some(Value::Null) => return Err(Error::bad(format!("Unable to find '{}' in request body", resource.name))),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(Error::bad(format!("Object '{}' contains invalid data", resource.name))),
    };
    owner(resource, caller, &mut body, creating)?;
    let unknown: Vec<&str> = body.keys().map(String::as_str).filter(|k| resource.attribute(k).is_none()).collect();
    if !unknown.is_empty() {
        return Err(Error::bad(format!("Unrecognized attribute(s) '{}'", unknown.join(", "))));
    }
    for attribute in resource.attributes {
        let name = attribute.name;
        if !creating {
            if body.contains_key(name) && !attribute.put {
                return Err(Error::bad(format!("Cannot update read-only attribute {name}")));
            }
        } else if attribute.post {
            if !body.contains_key(name) {
                match attribute.initial {
                    Initial::Required => {
                        return Err(Error::bad(format!("Failed to parse request. Required attribute '{name}' not specified")));
                    }
                    initial => {
                        if let Some(value) = initial.value() {
                            body.insert(name.into(), value);
                        }
                    }
                }
            }
        } else if body.contains_key(name) {
            return Err(Error::bad(format!("Attribute '{name}' not allowed in POST")));
        }
    }
    for attribute in resource.attributes {
        let Some(value) = body.get_mut(attribute.name) else { continue };
        if let Some(convert) = attribute.convert {
            *value = convert(value.take())?;
        }
        if let Some(reason) = attribute.check.check(value)? {
            return Err(Error::bad(format!("Invalid input for {}. Reason: {reason}.", attribute.name)));
        }
    }
    Ok(body)
}

/// `project_id` and `tenant_id` are one; only administrators set another than their own.
fn owner(resource: &Resource, caller: &Caller, body: &mut Body, creating: bool) -> Result<()> {
    match (body.get("project_id").cloned(), body.get("tenant_id").cloned()) {
        (Some(a), Some(b)) if a != b => return Err(Error::bad("'project_id' and 'tenant_id' do not match")),
        (Some(a), None) => {
            body.insert("tenant_id".into(), a);
        }
        (None, Some(b)) => {
            body.insert("project_id".into(), b);
        }
        _ => {}
    }
    if let Some(given) = body.get("project_id")
        && given.as_str() != caller.project_id()
        && !caller.sees_all()
    {
        return Err(Error::bad(
            "Specifying 'project_id' other than the authenticated project in request is not allowed for the current user.",
        ));
    }
    let owned = resource.attribute("project_id").is_some();
    if creating && owned && !body.contains_key("project_id") {
        let Some(project) = caller.project_id() else {
            return Err(Error::bad("Running without keystone AuthN requires that project_id is specified"));
        };
        body.insert("project_id".into(), project.into());
        body.insert("tenant_id".into(), project.into());
    }
    if owned && resource.attribute("tenant_id").is_none() {
        body.remove("tenant_id");
    }
    Ok(())
}

/// The revision that `If-Match: revision_number=N` asks for.
pub fn expected_revision(request: &Request) -> Result<Option<i64>> {
    let Some(header) = request.header("if-match") else { return Ok(None) };
    let mut found = None;
    for tag in header.split(',').map(|t| t.trim().trim_start_matches("W/").trim_matches('"')) {
        let Some(number) = tag.strip_prefix("revision_number=") else { continue };
        if found.is_some() {
            return Err(Error::request("if-match", "Multiple revision_number etags are not supported."));
        }
        match number.parse() {
            Ok(number) => found = Some(number),
            Err(_) => {
                return Err(Error::request("if-match", "Revision number etag must be in the format of revision_number=<int>"));
            }
        }
    }
    Ok(found)
}
