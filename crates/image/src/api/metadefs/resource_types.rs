//! `/v2/metadefs/resource_types` and which of them a namespace is for.

use api::time::iso8601_z;
use api::{Error, Request, Response, Result, Routes, StatusCode};
use database::Tx;
use serde_json::{Map, Value, json};

use super::super::{no_body, no_content};
use super::{allows, body, enforce, find, refuse_protected};
use crate::Images;
use crate::model::schemas;
use crate::store::metadefs::{self, Entry, Kind, Namespace};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/metadefs/resource_types", list)
        .get("/v2/metadefs/namespaces/{namespace}/resource_types", of_namespace)
        .post("/v2/metadefs/namespaces/{namespace}/resource_types", create)
        .delete(
            "/v2/metadefs/namespaces/{namespace}/resource_types/{resource_type}",
            delete,
        );
}

const READ_ONLY: [&str; 2] = ["created_at", "updated_at"];

pub(super) fn view(association: &Entry) -> Value {
    let mut view = Map::new();
    view.insert("name".into(), json!(association.name));
    for name in ["prefix", "properties_target"] {
        if let Some(value) = association.document.get(name).filter(|value| !value.is_null()) {
            view.insert(name.into(), value.clone());
        }
    }
    view.insert("created_at".into(), json!(iso8601_z(association.created_at)));
    view.insert("updated_at".into(), json!(iso8601_z(association.updated_at)));
    Value::Object(view)
}

pub(super) fn insert(tx: &mut Tx<'_>, namespace: &Namespace, body: &Map<String, Value>) -> Result<Entry> {
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    metadefs::ensure_resource_type(tx, name)?;
    let mut document = body.clone();
    document.retain(|key, _| ["prefix", "properties_target"].contains(&key.as_str()));
    metadefs::insert_entry(tx, Kind::Association, namespace, name, &document)?.ok_or_else(|| {
        Error::conflict(format!(
            "The metadata definition resource-type association of resource-type={name} to namespace={} already exists.",
            namespace.namespace
        ))
    })
}

fn list(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    enforce(service, service.caller(request), None, "list_metadef_resource_types")?;
    let found = service.database.read(metadefs::resource_types)?;
    let views: Vec<Value> = found
        .into_iter()
        .map(|(name, created_at, updated_at)| {
            json!({"name": name, "created_at": iso8601_z(created_at), "updated_at": iso8601_z(updated_at)})
        })
        .collect();
    Ok(Response::json(StatusCode::OK, &json!({"resource_types": views})))
}

fn of_namespace(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let found = service.database.read(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "list_metadef_resource_types")?;
        if !allows(service, caller, Some(&namespace), "get_metadef_resource_type") {
            return Ok(Vec::new());
        }
        Ok::<_, Error>(metadefs::entries(tx, Kind::Association, &namespace)?)
    })?;
    let views: Vec<Value> = found.iter().map(view).collect();
    Ok(Response::json(
        StatusCode::OK,
        &json!({"resource_type_associations": views}),
    ))
}

fn create(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let body = body(
        request,
        "resource_type_association",
        &schemas::RESOURCE_TYPE,
        &READ_ONLY,
    )?;
    let made = service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(
            service,
            caller,
            Some(&namespace),
            "add_metadef_resource_type_association",
        )?;
        insert(tx, &namespace, &body)
    })?;
    Ok(Response::json(StatusCode::CREATED, &view(&made)))
}

fn delete(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let name = request.param("resource_type");
    service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(
            service,
            caller,
            Some(&namespace),
            "remove_metadef_resource_type_association",
        )?;
        if metadefs::find_entry(tx, Kind::Association, &namespace, name)?.is_none() {
            return Err(Error::not_found(format!(
                "Failed to find resource type {name} to delete"
            )));
        }
        refuse_protected(&namespace, "resource-type-association", name)?;
        Ok(metadefs::delete_entry(tx, Kind::Association, &namespace, name)?)
    })?;
    Ok(no_content())
}
