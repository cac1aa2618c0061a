//! `/v2/metadefs`: catalogues of metadata that images, servers and volumes can carry.

mod namespaces;
mod objects;
mod properties;
mod resource_types;
mod tags;

use api::{Error, Request, Result, Routes, StatusCode};
use database::{Direction, Tx};
use serde_json::{Map, Value};

use super::rules;
use crate::model::{Refusal, schemas};
use crate::store::metadefs::{self, Namespace};
use crate::{Caller, Images};

pub(super) fn routes(routes: &mut Routes<Images>) {
    namespaces::routes(routes);
    objects::routes(routes);
    properties::routes(routes);
    tags::routes(routes);
    resource_types::routes(routes);
}

/// A namespace as rules see it; without one, the caller's own project.
fn allows(service: &Images, caller: Caller<'_>, namespace: Option<&Namespace>, rule: &str) -> bool {
    let credentials = &caller.context.credentials;
    match namespace {
        None => service
            .policy
            .allows(rule, &[("project_id", caller.viewer.project)], credentials),
        Some(namespace) => {
            let target = [
                ("project_id", namespace.owner.as_deref()),
                ("visibility", Some(namespace.visibility.as_str())),
            ];
            service.policy.allows(rule, &target, credentials)
        }
    }
}

/// The rule must let the caller do it: 403, or 404 where it must not even see the namespace.
fn enforce(service: &Images, caller: Caller<'_>, namespace: Option<&Namespace>, rule: &str) -> Result<()> {
    if allows(service, caller, namespace, rule) {
        Ok(())
    } else if rule == "get_metadef_namespace" || !allows(service, caller, namespace, "get_metadef_namespace") {
        Err(Error::not_found(api::webob::explanation(StatusCode::NOT_FOUND)))
    } else {
        Err(rules::denied(rule))
    }
}

/// The namespace in the path, where the caller may see it.
fn find(tx: &mut Tx<'_>, caller: Caller<'_>, request: &Request) -> Result<Namespace> {
    let name = request.param("namespace");
    metadefs::find(tx, name)?
        .filter(|namespace| metadefs::is_visible(caller.viewer, namespace))
        .ok_or_else(|| Error::not_found(format!("Namespace {name} not found")))
}

/// A JSON object that obeys the schema, without what only the service sets.
fn body(
    request: &Request,
    name: &str,
    schema: &api::json_schema::Schema,
    read_only: &[&str],
) -> Result<Map<String, Value>> {
    let body = super::body(request)?;
    if let Some(field) = read_only.iter().find(|field| body.get(**field).is_some()) {
        return Err(Refusal::Forbidden(format!("Attribute '{field}' is read-only.")).into());
    }
    schemas::check(name, schema, &body)?;
    match body {
        Value::Object(map) => Ok(map),
        other => {
            let why = format!("{} is not of type 'object'", api::python::repr(&other));
            Err(Refusal::Invalid(format!("Provided object does not match schema '{name}': {why}")).into())
        }
    }
}

fn direction(request: &Request) -> Result<Direction> {
    match request.query.last("sort_dir").unwrap_or("desc") {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        other => Err(Error::bad_request(format!("Invalid sort direction: {other}"))),
    }
}

fn limit(request: &Request) -> Result<Option<u64>> {
    let Some(text) = request.query.last("limit") else {
        return Ok(None);
    };
    match text.trim().parse::<i64>() {
        Ok(limit) if limit < 0 => Err(Error::bad_request("limit param must be positive")),
        Ok(limit) => Ok(Some(limit.unsigned_abs())),
        Err(_) => Err(Error::bad_request("limit param must be an integer")),
    }
}

fn check_visibility(request: &Request, known: &[&str]) -> Result<Option<String>> {
    match request.query.last("visibility").filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) if known.contains(&value) => Ok(Some(value.to_owned())),
        Some(value) => Err(Error::bad_request(format!("Invalid visibility value: {value}"))),
    }
}

/// Protects what stands in a protected namespace; `what` is `object`, `tag`, …
fn refuse_protected(namespace: &Namespace, what: &str, name: &str) -> Result<()> {
    if namespace.protected {
        let text = format!("Metadata definition {what} {name} is protected and cannot be deleted.");
        return Err(Refusal::Forbidden(text).into());
    }
    Ok(())
}
