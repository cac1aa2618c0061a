//! `/v2/metadefs/namespaces/{namespace}/properties`.

use api::{Error, Request, Response, Result, Routes, StatusCode};
use database::Tx;
use serde_json::{Map, Value, json};

use super::super::{no_body, no_content};
use super::{body, enforce, find, refuse_protected};
use crate::Images;
use crate::model::schemas;
use crate::store::metadefs::{self, Entry, Kind, Namespace};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/metadefs/namespaces/{namespace}/properties", list)
        .post("/v2/metadefs/namespaces/{namespace}/properties", create)
        .get("/v2/metadefs/namespaces/{namespace}/properties/{property_name}", show)
        .put("/v2/metadefs/namespaces/{namespace}/properties/{property_name}", update)
        .delete("/v2/metadefs/namespaces/{namespace}/properties/{property_name}", delete);
}

const READ_ONLY: [&str; 2] = ["created_at", "updated_at"];

fn view(property: &Entry) -> Value {
    let mut view = property.document.clone();
    view.insert("name".into(), json!(property.name));
    Value::Object(view)
}

pub(super) fn insert(
    tx: &mut Tx<'_>,
    namespace: &Namespace,
    name: &str,
    document: &Map<String, Value>,
) -> Result<Entry> {
    metadefs::insert_entry(tx, Kind::Property, namespace, name, document)?.ok_or_else(|| {
        Error::conflict(format!(
            "A metadata definition property with name={name} already exists in namespace={}.",
            namespace.namespace
        ))
    })
}

fn find_property(tx: &mut Tx<'_>, namespace: &Namespace, name: &str) -> Result<Entry> {
    metadefs::find_entry(tx, Kind::Property, namespace, name)?
        .ok_or_else(|| Error::not_found(format!("Could not find property {name}")))
}

fn list(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let found = service.database.read(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "get_metadef_properties")?;
        Ok::<_, Error>(metadefs::entries(tx, Kind::Property, &namespace)?)
    })?;
    let by_name: Map<String, Value> = found
        .into_iter()
        .map(|property| (property.name, Value::Object(property.document)))
        .collect();
    Ok(Response::json(StatusCode::OK, &json!({"properties": by_name})))
}

fn create(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let body = body(request, "property", &schemas::PROPERTY, &READ_ONLY)?;
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    let made = service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "add_metadef_property")?;
        insert(tx, &namespace, name, &body)
    })?;
    Ok(Response::json(StatusCode::CREATED, &view(&made)))
}

fn show(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let found = service.database.read(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "get_metadef_property")?;
        let mut name = request.param("property_name");
        if let Some(resource_type) = request.query.last("resource_type").filter(|name| !name.is_empty()) {
            enforce(service, caller, Some(&namespace), "get_metadef_resource_type")?;
            let association = metadefs::find_entry(tx, Kind::Association, &namespace, resource_type)?;
            let Some(association) = association else {
                return Err(Error::not_found(format!(
                    "The metadata definition resource-type association of resource-type={resource_type} to namespace={}, was \
                     not found.",
                    namespace.namespace
                )));
            };
            let prefix = association.document.get("prefix").and_then(Value::as_str).unwrap_or_default();
            match name.strip_prefix(prefix).filter(|_| !prefix.is_empty()) {
                Some(rest) => name = rest,
                None => {
                    return Err(Error::not_found(format!(
                        "Property {name} does not start with the expected resource type association prefix of '{prefix}'."
                    )));
                }
            }
        }
        find_property(tx, &namespace, name)
    })?;
    Ok(Response::json(StatusCode::OK, &view(&found)))
}

fn update(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let body = body(request, "property", &schemas::PROPERTY, &READ_ONLY)?;
    let old_name = request.param("property_name");
    let updated = service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "modify_metadef_property")?;
        let mut property = find_property(tx, &namespace, old_name)?;
        property.name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        property.document = body.clone();
        if metadefs::update_entry(tx, Kind::Property, &namespace, old_name, &mut property)? {
            return Ok(property);
        }
        Err(Error::conflict(format!(
            "Invalid update. It would result in a duplicate metadata definition property with the same name={} in \
             namespace={}.",
            property.name, namespace.namespace
        )))
    })?;
    Ok(Response::json(StatusCode::OK, &view(&updated)))
}

fn delete(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let name = request.param("property_name");
    service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "remove_metadef_property")?;
        find_property(tx, &namespace, name)?;
        refuse_protected(&namespace, "property", name)?;
        Ok::<_, Error>(metadefs::delete_entry(tx, Kind::Property, &namespace, name)?)
    })?;
    Ok(no_content())
}
