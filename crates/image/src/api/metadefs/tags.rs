//! `/v2/metadefs/namespaces/{namespace}/tags`.

use api::time::iso8601_z;
use api::{Error, Request, Response, Result, Routes, StatusCode};
use database::{Direction, Tx};
use serde_json::{Map, Value, json};

use super::super::{no_body, no_content};
use super::{body, check_visibility, direction, enforce, find, limit, refuse_protected};
use crate::Images;
use crate::model::schemas;
use crate::store::metadefs::{self, Entry, Kind, Namespace};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/metadefs/namespaces/{namespace}/tags", list)
        .post("/v2/metadefs/namespaces/{namespace}/tags", replace)
        .get("/v2/metadefs/namespaces/{namespace}/tags/{tag_name}", show)
        .post("/v2/metadefs/namespaces/{namespace}/tags/{tag_name}", create)
        .put("/v2/metadefs/namespaces/{namespace}/tags/{tag_name}", update)
        .delete("/v2/metadefs/namespaces/{namespace}/tags/{tag_name}", delete);
}

const READ_ONLY: [&str; 2] = ["created_at", "updated_at"];

fn view(tag: &Entry) -> Value {
    json!({
        "name": tag.name,
        "created_at": iso8601_z(tag.created_at),
        "updated_at": iso8601_z(tag.updated_at),
    })
}

fn names(tags: &[Entry]) -> Value {
    json!({"tags": tags.iter().map(|tag| json!({"name": tag.name})).collect::<Vec<_>>()})
}

fn duplicate(namespace: &Namespace, name: &str) -> Error {
    Error::conflict(format!(
        "A metadata tag with name={name} already exists in namespace={}. (Please note that metadata tag names are case \
         insensitive).",
        namespace.namespace
    ))
}

pub(super) fn insert(tx: &mut Tx<'_>, namespace: &Namespace, name: &str) -> Result<Entry> {
    metadefs::insert_entry(tx, Kind::Tag, namespace, name, &Map::new())?.ok_or_else(|| duplicate(namespace, name))
}

fn find_tag(tx: &mut Tx<'_>, namespace: &Namespace, name: &str) -> Result<Entry> {
    metadefs::find_entry(tx, Kind::Tag, namespace, name)?.ok_or_else(|| {
        Error::not_found(format!(
            "The metadata definition tag with name={name} was not found in namespace={}.",
            namespace.namespace
        ))
    })
}

fn list(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let direction = direction(request)?;
    let limit = limit(request)?;
    check_visibility(request, &["public", "private", "shared"])?;
    let mut found = service.database.read(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "get_metadef_tags")?;
        if let Some(marker) = request.query.last("marker").filter(|marker| !marker.is_empty()) {
            find_tag(tx, &namespace, marker)?;
        }
        Ok::<_, Error>(metadefs::entries(tx, Kind::Tag, &namespace)?)
    })?;
    // Entries come in the order of creation.
    match request.query.last("sort_key").unwrap_or("created_at") {
        "name" => found.sort_by(|a, b| a.name.cmp(&b.name)),
        "updated_at" => found.sort_by_key(|tag| tag.updated_at),
        _ => {}
    }
    if direction == Direction::Descending {
        found.reverse();
    }
    if let Some(marker) = request.query.last("marker").filter(|marker| !marker.is_empty()) {
        let at = found.iter().position(|tag| tag.name == marker).map_or(0, |at| at + 1);
        found.drain(..at);
    }
    if let Some(limit) = limit {
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(Response::json(StatusCode::OK, &names(&found)))
}

/// Sets all tags at once; with the header `X-Openstack-Append` it adds to those that are there.
fn replace(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let body = body(request, "tags", &schemas::TAGS, &READ_ONLY)?;
    let append = request.header("x-openstack-append").unwrap_or_default().to_lowercase();
    let append = ["1", "t", "true", "on", "y", "yes"].contains(&append.trim());
    let made = service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "add_metadef_tags")?;
        if !append {
            metadefs::clear(tx, Kind::Tag, &namespace)?;
        }
        let wanted = body.get("tags").and_then(Value::as_array).into_iter().flatten();
        wanted
            .filter_map(|tag| tag["name"].as_str())
            .map(|name| insert(tx, &namespace, name))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(Response::json(StatusCode::CREATED, &names(&made)))
}

fn show(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let found = service.database.read(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "get_metadef_tag")?;
        find_tag(tx, &namespace, request.param("tag_name"))
    })?;
    Ok(Response::json(StatusCode::OK, &view(&found)))
}

fn create(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let name = request.param("tag_name");
    let made = service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        schemas::check("tag", &schemas::TAG, &json!({"name": name}))?;
        enforce(service, caller, Some(&namespace), "add_metadef_tag")?;
        insert(tx, &namespace, name)
    })?;
    Ok(Response::json(StatusCode::CREATED, &view(&made)))
}

fn update(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let body = body(request, "tag", &schemas::TAG, &READ_ONLY)?;
    let old_name = request.param("tag_name");
    let updated = service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "modify_metadef_tag")?;
        let mut tag = find_tag(tx, &namespace, old_name)?;
        tag.name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if metadefs::update_entry(tx, Kind::Tag, &namespace, old_name, &mut tag)? {
            return Ok(tag);
        }
        Err(duplicate(&namespace, &tag.name))
    })?;
    Ok(Response::json(StatusCode::OK, &view(&updated)))
}

fn delete(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let name = request.param("tag_name");
    service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "delete_metadef_tag")?;
        find_tag(tx, &namespace, name)?;
        refuse_protected(&namespace, "tag", name)?;
        Ok::<_, Error>(metadefs::delete_entry(tx, Kind::Tag, &namespace, name)?)
    })?;
    Ok(no_content())
}
