//! `/v2/metadefs/namespaces`.

use api::time::iso8601_z;
use api::{Error, Request, Response, Result, Routes, StatusCode};
use database::{Tx, now};
use serde_json::{Map, Value, json};

use super::super::{no_body, no_content, page_query, urlencode};
use super::{
    allows, body, check_visibility, direction, enforce, find, limit, objects, properties, refuse_protected,
    resource_types,
};
use crate::Images;
use crate::model::schemas;
use crate::store::metadefs::{self, Kind, Listing, Namespace};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/metadefs/namespaces", list)
        .post("/v2/metadefs/namespaces", create)
        .get("/v2/metadefs/namespaces/{namespace}", show)
        .put("/v2/metadefs/namespaces/{namespace}", update)
        .delete("/v2/metadefs/namespaces/{namespace}", delete)
        .delete("/v2/metadefs/namespaces/{namespace}/objects", |service, request| {
            clear(service, request, Kind::Object, None)
        })
        .delete("/v2/metadefs/namespaces/{namespace}/properties", |service, request| {
            clear(service, request, Kind::Property, None)
        })
        .delete("/v2/metadefs/namespaces/{namespace}/tags", |service, request| {
            clear(service, request, Kind::Tag, Some("delete_metadef_tags"))
        });
}

const READ_ONLY: [&str; 4] = ["self", "schema", "created_at", "updated_at"];

fn view(namespace: &Namespace) -> Map<String, Value> {
    let mut view = Map::new();
    view.insert("namespace".into(), json!(namespace.namespace));
    for (name, value) in [
        ("display_name", &namespace.display_name),
        ("description", &namespace.description),
    ] {
        if let Some(value) = value {
            view.insert(name.into(), json!(value));
        }
    }
    view.insert("visibility".into(), json!(namespace.visibility));
    view.insert("protected".into(), json!(namespace.protected));
    if let Some(owner) = &namespace.owner {
        view.insert("owner".into(), json!(owner));
    }
    view.insert("created_at".into(), json!(iso8601_z(namespace.created_at)));
    view.insert("updated_at".into(), json!(iso8601_z(namespace.updated_at)));
    view.insert(
        "self".into(),
        json!(format!("/v2/metadefs/namespaces/{}", namespace.namespace)),
    );
    view.insert("schema".into(), json!("/v2/schemas/metadefs/namespace"));
    view
}

/// The types of resources a namespace is for, where there are any.
fn add_associations(tx: &mut Tx<'_>, namespace: &Namespace, view: &mut Map<String, Value>) -> Result<()> {
    let found = metadefs::entries(tx, Kind::Association, namespace)?;
    if !found.is_empty() {
        let views: Vec<Value> = found.iter().map(resource_types::view).collect();
        view.insert("resource_type_associations".into(), json!(views));
    }
    Ok(())
}

const SORT_KEYS: [&str; 7] = [
    "namespace",
    "display_name",
    "owner",
    "visibility",
    "created_at",
    "updated_at",
    "id",
];

fn list(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let direction = direction(request)?;
    let limit = limit(request)?
        .unwrap_or(service.limits.page)
        .min(service.limits.page_max);
    let visibility = check_visibility(request, &["public", "private"])?;
    let wanted = request.query.last("sort_key").unwrap_or("created_at");
    let sort_key = SORT_KEYS.into_iter().find(|key| *key == wanted);
    let sort_key = sort_key.ok_or_else(|| Error::bad_request("Sort key supplied was not valid."))?;
    enforce(service, caller, None, "get_metadef_namespaces")?;
    enforce(service, caller, None, "list_metadef_resource_types")?;
    let (views, last) = service.database.read(|tx| {
        let marker = match request.query.last("marker").filter(|marker| !marker.is_empty()) {
            None => None,
            Some(name) => {
                let found = metadefs::find(tx, name)?.filter(|found| metadefs::is_visible(caller.viewer, found));
                let missing = || Error::not_found(format!("Metadata definition namespace={name} was not found."));
                Some(found.ok_or_else(missing)?)
            }
        };
        let types = request.query.last("resource_types");
        let resource_types = types.map(|types| types.split(',').map(str::to_owned).collect());
        let listing = Listing {
            visibility: visibility.clone(),
            resource_types,
            sort_key,
            direction,
            marker,
            limit,
        };
        let mut found = metadefs::list(tx, caller.viewer, &listing)?;
        found.retain(|namespace| allows(service, caller, Some(namespace), "get_metadef_namespace"));
        let mut views = Vec::new();
        for namespace in &found {
            let mut view = view(namespace);
            add_associations(tx, namespace, &mut view)?;
            views.push(Value::Object(view));
        }
        Ok::<_, Error>((views, found.pop()))
    })?;
    let mut pairs = page_query(request);
    let mut page = json!({"namespaces": views});
    if let Some(last) = last.filter(|_| views.len() as u64 == limit) {
        let mut pairs = pairs.clone();
        pairs.push(("marker".into(), last.namespace));
        page["next"] = json!(format!("/v2/metadefs/namespaces?{}", urlencode(&pairs)));
    }
    page["schema"] = json!("/v2/schemas/metadefs/namespaces");
    pairs.retain(|(name, _)| name != "marker");
    page["first"] = json!(match pairs.is_empty() {
        true => "/v2/metadefs/namespaces".to_owned(),
        false => format!("/v2/metadefs/namespaces?{}", urlencode(&pairs)),
    });
    Ok(Response::json(StatusCode::OK, &page))
}

fn text(body: &Map<String, Value>, name: &str) -> Option<String> {
    body.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn create(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let body = body(request, "namespace", &schemas::NAMESPACE, &READ_ONLY)?;
    let given = |name: &str| body.get(name).filter(|value| !matches!(value, Value::Null));
    let filled = |name: &str| {
        given(name).is_some_and(|value| match value {
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => false,
        })
    };
    enforce(service, caller, None, "add_metadef_namespace")?;
    for (field, rule) in [
        ("resource_type_associations", "add_metadef_resource_type_association"),
        ("objects", "add_metadef_object"),
        ("properties", "add_metadef_property"),
        ("tags", "add_metadef_tag"),
    ] {
        if filled(field) {
            enforce(service, caller, None, rule)?;
        }
    }
    let at = now();
    let mut namespace = Namespace {
        id: 0,
        namespace: text(&body, "namespace").unwrap_or_default(),
        display_name: text(&body, "display_name"),
        description: text(&body, "description"),
        visibility: text(&body, "visibility").unwrap_or_else(|| "private".to_owned()),
        protected: body.get("protected") == Some(&Value::Bool(true)),
        owner: text(&body, "owner").or_else(|| caller.viewer.project.map(str::to_owned)),
        created_at: at,
        updated_at: at,
    };
    service.database.write(|tx| {
        if !metadefs::insert(tx, &mut namespace)? {
            return Err(Error::conflict(format!(
                "The metadata definition namespace={} already exists.",
                namespace.namespace
            )));
        }
        let list = |name: &str| given(name).and_then(Value::as_array).cloned().unwrap_or_default();
        for one in list("resource_type_associations") {
            if let Value::Object(one) = one {
                resource_types::insert(tx, &namespace, &one)?;
            }
        }
        for one in list("objects") {
            if let Value::Object(one) = one {
                objects::insert(tx, &namespace, one)?;
            }
        }
        for one in list("tags") {
            let name = one["name"].as_str().unwrap_or_default();
            super::tags::insert(tx, &namespace, name)?;
        }
        for (name, one) in given("properties").and_then(Value::as_object).into_iter().flatten() {
            if let Value::Object(one) = one {
                properties::insert(tx, &namespace, name, one)?;
            }
        }
        Ok(())
    })?;
    let mut view = view(&namespace);
    for field in ["resource_type_associations", "properties", "objects", "tags"] {
        if filled(field) {
            view.insert(field.to_owned(), body[field].clone());
        }
    }
    let location = request.url(&format!("/v2/metadefs/namespaces/{}", namespace.namespace));
    Ok(Response::json(StatusCode::CREATED, &Value::Object(view)).header("location", location))
}

fn show(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let name = request.param("namespace");
    let resource_type = request.query.last("resource_type").filter(|name| !name.is_empty());
    let view = service.database.read(|tx| {
        let found = metadefs::find(tx, name)?;
        let missing = || Error::not_found(format!("Metadata definition namespace={name} was not found."));
        let namespace = found.ok_or_else(missing)?;
        let visible = metadefs::is_visible(caller.viewer, &namespace);
        if !visible || !allows(service, caller, Some(&namespace), "get_metadef_namespace") {
            return Err(Error::not_found(api::webob::explanation(StatusCode::NOT_FOUND)));
        }
        for rule in [
            "list_metadef_resource_types",
            "get_metadef_objects",
            "get_metadef_properties",
            "get_metadef_tags",
        ] {
            enforce(service, caller, Some(&namespace), rule)?;
        }
        let mut view = view(&namespace);
        let associations = metadefs::entries(tx, Kind::Association, &namespace)?;
        let prefix = associations
            .iter()
            .find(|association| Some(association.name.as_str()) == resource_type)
            .and_then(|association| association.document.get("prefix")?.as_str())
            .unwrap_or_default();
        add_associations(tx, &namespace, &mut view)?;
        let found = metadefs::entries(tx, Kind::Object, &namespace)?;
        if !found.is_empty() {
            let views = found
                .iter()
                .map(|object| objects::prefixed(objects::view(&namespace, object), prefix));
            view.insert("objects".into(), json!(views.collect::<Vec<_>>()));
        }
        let found = metadefs::entries(tx, Kind::Property, &namespace)?;
        if !found.is_empty() {
            let by_name: Map<String, Value> = found
                .iter()
                .map(|property| {
                    (
                        format!("{prefix}{}", property.name),
                        Value::Object(property.document.clone()),
                    )
                })
                .collect();
            view.insert("properties".into(), Value::Object(by_name));
        }
        let found = metadefs::entries(tx, Kind::Tag, &namespace)?;
        if !found.is_empty() {
            let names: Vec<Value> = found.iter().map(|tag| json!({"name": tag.name})).collect();
            view.insert("tags".into(), json!(names));
        }
        Ok(view)
    })?;
    Ok(Response::json(StatusCode::OK, &Value::Object(view)))
}

fn update(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let body = body(request, "namespace", &schemas::NAMESPACE, &READ_ONLY)?;
    let namespace = service.database.write(|tx| {
        let mut namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "modify_metadef_namespace")?;
        namespace.namespace = text(&body, "namespace").unwrap_or_default();
        namespace.display_name = text(&body, "display_name");
        namespace.description = text(&body, "description");
        namespace.visibility = text(&body, "visibility").unwrap_or_else(|| "private".to_owned());
        namespace.protected = body.get("protected") == Some(&Value::Bool(true));
        namespace.owner = text(&body, "owner").or_else(|| caller.viewer.project.map(str::to_owned));
        if metadefs::update(tx, &mut namespace)? {
            return Ok(namespace);
        }
        Err(Error::conflict(format!(
            "Invalid update. It would result in a duplicate metadata definition namespace with the same name of {}",
            namespace.namespace
        )))
    })?;
    Ok(Response::json(StatusCode::OK, &Value::Object(view(&namespace))))
}

fn delete(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "delete_metadef_namespace")?;
        refuse_protected(&namespace, "namespace", &namespace.namespace)?;
        Ok::<_, Error>(metadefs::delete(tx, &namespace)?)
    })?;
    Ok(no_content())
}

/// Removes everything of a kind.
fn clear(service: &Images, request: &Request, kind: Kind, rule: Option<&str>) -> Result<Response> {
    let caller = service.caller(request);
    service.database.write(|tx| {
        let namespace = find(tx, caller, request)?;
        enforce(service, caller, Some(&namespace), "delete_metadef_namespace")?;
        if let Some(rule) = rule {
            enforce(service, caller, Some(&namespace), rule)?;
        }
        refuse_protected(&namespace, "namespace", &namespace.namespace)?;
        Ok::<_, Error>(metadefs::clear(tx, kind, &namespace)?)
    })?;
    Ok(no_content())
}
