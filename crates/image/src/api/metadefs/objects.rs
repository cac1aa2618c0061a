//! `/v2/metadefs/namespaces/{namespace}/objects`.

use api::time::iso8601_z;
use api::{Error, Request, Response, Result, Routes, StatusCode};
use database::Tx;
use serde_json::{Map, Value, json};

use super::super::{no_body, no_content};
use super::{allows, body, check_visibility, direction, enforce, find, limit, refuse_protected};
use crate::Images;
use crate::model::schemas;
use crate::store::metadefs::{self, Entry, Kind, Namespace};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/metadefs/namespaces/{namespace}/objects", list)
        .post("/v2/metadefs/namespaces/{namespace}/objects", create)
        .get("/v2/metadefs/namespaces/{namespace}/objects/{object_name}", show)
        .put("/v2/metadefs/namespaces/{namespace}/objects/{object_name}", update)
        .delete("/v2/metadefs/namespaces/{namespace}/objects/{object_name}", delete);
}

const READ_ONLY: [&str; 4] = ["self", "schema", "created_at", "updated_at"];

pub(super) fn view(namespace: &Namespace, object: &Entry) -> Map<String, Value> {
    let mut view = Map::new();
    view.insert("name".into(), json!(object.name));
    for (name, value) in &object.document {
        if !value.is_null() {
            view.insert(name.clone(), value.clone());
        }
    }
    view.entry("properties").or_insert_with(|| json!({}));
    view.entry("required").or_insert_with(|| json!([]));
    view.insert("created_at".into(), json!(iso8601_z(object.created_at)));
    view.insert("updated_at".into(), json!(iso8601_z(object.updated_at)));
    let own = format!(
        "/v2/metadefs/namespaces/{}/objects/{}",
        namespace.namespace, object.name
    );
    view.insert("self".into(), json!(own));
    view.insert("schema".into(), json!("/v2/schemas/metadefs/object"));
    view
}

/// The object with the prefix that its properties have on a type of resource.
pub(super) fn prefixed(mut view: Map<String, Value>, prefix: &str) -> Map<String, Value> {
    if prefix.is_empty() {
        return view;
    }
    if let Some(Value::Object(properties)) = view.get_mut("properties") {
        *properties = std::mem::take(properties)
            .into_iter()
            .map(|(name, value)| (format!("{prefix}{name}"), value))
            .collect();
    }
    if let Some(Value::Array(required)) = view.get_mut("required") {
        for name in required.iter_mut() {
            if let Some(text) = name.as_str() {
                *name = json!(format!("{prefix}{text}"));
            }
        }
    }
    view
}

/// Name and the rest of a body.
fn split(mut body: Map<String, Value>) -> (String, Map<String, Value>) {
    let name = body
        .shift_remove("name")
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default();
    body.retain(|key, _| ["description", "required", "properties"].contains(&key.as_str()));
    (name, body)
}

pub(super) fn insert(tx: &mut Tx<'_>, namespace: &Namespace, body: Map<String, Value>) -> Result<Entry> {
    let (name, document) = split(body);
    metadefs::insert_entry(tx, Kind::Object, namespace, &name, &document)?.ok_or_else(|| {
        Error::conflict(format!(
            "A metadata definition object with name={name} already exists in namespace={}.",
            namespace.namespace
        ))
    })
}

fn find_object(tx: &mut Tx<'_>, namespace: &Namespace, name: &str) -> Result<Entry> {
    metadefs::find_entry(tx, Kind::Object, namespace, name)?.ok_or_else(|| {
        Error::not_found(format!(
            "The metadata definition object with name={name} was not found in namespace={}.",
            namespace.namespace
        ))
    })
}

fn list(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    direction(request)?;
    if limit(request)? == Some(0) {
        return Err(Error::bad_request("limit param must be positive"));
    }
    check_visibility(request, &["public", "private", "shared"])?;
    let views = service.database.read(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "get_metadef_objects")?;
        if !allows(service, caller, Some(&namespace), "get_metadef_object") {
            return Ok(Vec::new());
        }
        let found = metadefs::entries(tx, Kind::Object, &namespace)?;
        Ok::<_, Error>(found.iter().map(|object| view(&namespace, object)).collect())
    })?;
    Ok(Response::json(
        StatusCode::OK,
        &json!({"objects": views, "schema": "v2/schemas/metadefs/objects"}),
    ))
}

fn create(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let body = body(request, "object", &schemas::OBJECT, &READ_ONLY)?;
    for property in body
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::values)
    {
        schemas::check("property", &schemas::NAMELESS_PROPERTY, property)?;
    }
    let view = service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "add_metadef_object")?;
        let made = insert(tx, &namespace, body.clone())?;
        Ok::<_, Error>(view(&namespace, &made))
    })?;
    Ok(Response::json(StatusCode::CREATED, &Value::Object(view)))
}

fn show(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let view = service.database.read(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "get_metadef_object")?;
        let found = find_object(tx, &namespace, request.param("object_name"))?;
        Ok::<_, Error>(view(&namespace, &found))
    })?;
    Ok(Response::json(StatusCode::OK, &Value::Object(view)))
}

fn update(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let body = body(request, "object", &schemas::OBJECT, &READ_ONLY)?;
    let old_name = request.param("object_name");
    let view = service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "modify_metadef_object")?;
        let mut object = find_object(tx, &namespace, old_name)?;
        (object.name, object.document) = split(body.clone());
        if metadefs::update_entry(tx, Kind::Object, &namespace, old_name, &mut object)? {
            return Ok(view(&namespace, &object));
        }
        Err(Error::conflict(format!(
            "Invalid update. It would result in a duplicate metadata definition object with same name={} in namespace={}.",
            object.name, namespace.namespace
        )))
    })?;
    Ok(Response::json(StatusCode::OK, &Value::Object(view)))
}

fn delete(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let name = request.param("object_name");
    service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "delete_metadef_object")?;
        find_object(tx, &namespace, name)?;
        refuse_protected(&namespace, "object", name)?;
        Ok::<_, Error>(metadefs::delete_entry(tx, Kind::Object, &namespace, name)?)
    })?;
    Ok(no_content())
}
