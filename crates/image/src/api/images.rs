//! `/v2/images`.

use std::collections::BTreeMap;

use api::time::iso8601_z;
use api::{Error, Request, Response, Result, Routes, StatusCode};
use database::{Tx, now};
use serde_json::{Map, Value, json};

use super::{IMPORT_METHODS, body, media_type, no_body, no_content, page_query, rules, urlencode};
use crate::model::Refusal;
use crate::model::image::{Image, Status, check_minimum};
use crate::model::listing::Listing;
use crate::model::patch::{self, Change, Dialect, Operation, RESERVED, RESERVED_PREFIX};
use crate::model::schemas;
use crate::store::images;
use crate::{Caller, Images};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/images", list)
        .post("/v2/images", create)
        .get("/v2/images/{image_id}", show)
        .patch("/v2/images/{image_id}", update)
        .delete("/v2/images/{image_id}", delete)
        .get("/v2/images/{image_id}/tasks", tasks);
}

/// Properties that clients do not see.
const HIDDEN: [&str; 2] = ["os_glance_stage_host", "os_glance_hash_op_host"];

/// An image as clients see it.
pub(super) fn view(image: &Image) -> Value {
    let mut view = Map::new();
    for (name, value) in &image.properties {
        if !HIDDEN.contains(&name.as_str()) {
            view.insert(name.clone(), json!(value));
        }
    }
    let own = format!("/v2/images/{}", image.id);
    let attributes = json!({
        "name": image.name,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "visibility": image.visibility,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "status": image.status.as_str(),
        "checksum": image.checksum,
        "protected": image.protected,
        "min_ram": image.min_ram,
        "min_disk": image.min_disk,
        "owner": image.owner,
        "os_hidden": image.os_hidden,
        "os_hash_algo": image.os_hash_algo,
        "os_hash_value": image.os_hash_value,
        "id": image.id,
        "created_at": iso8601_z(image.created_at),
        "updated_at": iso8601_z(image.updated_at),
        "tags": image.tags,
        "self": own,
        "file": format!("{own}/file"),
        "schema": "/v2/schemas/image",
    });
    if let Value::Object(attributes) = attributes {
        view.extend(attributes);
    }
    Value::Object(view)
}

/// The image in the path, where the caller may see it.
pub(super) fn from_path(tx: &mut Tx<'_>, caller: Caller<'_>, request: &Request) -> Result<Image> {
    Ok(images::get(tx, caller.viewer, request.param("image_id"))?)
}

fn list(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let listing = Listing::parse(&request.query, &service.limits)?;
    rules::check(service, caller, "get_images", &[("project_id", caller.viewer.project)])?;
    let found = service
        .database
        .read(|tx| images::list(tx, caller.viewer, &listing))
        .map_err(|error| match error {
            crate::Error::NotFound(_) => Error::bad_request(error.to_string()),
            error => error.into(),
        })?;
    let full = found.len() as u64 == listing.limit;
    let found: Vec<Image> = found
        .into_iter()
        .filter(|image| rules::allows(service, caller, image, "get_image"))
        .collect();
    let mut pairs = page_query(request);
    let mut page = json!({"images": found.iter().map(view).collect::<Vec<_>>()});
    page["first"] = json!(match pairs.is_empty() {
        true => "/v2/images".to_owned(),
        false => format!("/v2/images?{}", urlencode(&pairs)),
    });
    page["schema"] = json!("/v2/schemas/images");
    if let Some(last) = found.last().filter(|_| full) {
        pairs.push(("marker".to_owned(), last.id.clone()));
        page["next"] = json!(format!("/v2/images?{}", urlencode(&pairs)));
    }
    Ok(Response::json(StatusCode::OK, &page))
}

fn show(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let image = service.database.read(|tx| from_path(tx, caller, request))?;
    rules::enforce(service, caller, &image, "get_image")?;
    Ok(Response::json(StatusCode::OK, &view(&image)))
}

/// Attributes of an image that are not its user's to set.
const DISALLOWED: [&str; 5] = ["direct_url", "self", "file", "schema", "stores"];
/// Attributes that only the service sets, in the order upstream looks for them.
const SET_BY_SERVICE: [&str; 6] = ["created_at", "updated_at", "status", "checksum", "size", "virtual_size"];
/// Names that cannot be properties.
const NO_PROPERTIES: [&str; 8] = [
    "owner",
    "locations",
    "deleted",
    "deleted_at",
    "direct_url",
    "self",
    "file",
    "schema",
];

fn reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX)
}

/// A new image out of a body.
fn parse(service: &Images, caller: Caller<'_>, body: Value) -> Result<Image> {
    let Value::Object(mut fields) = body else {
        return Err(Refusal::Invalid(format!(
            "Provided object does not match schema 'image': {} is not of type 'object'",
            api::python::repr(&body)
        ))
        .into());
    };
    if let Some(name) = DISALLOWED.iter().find(|name| fields.contains_key(**name)) {
        return Err(Refusal::Forbidden(format!("Attribute '{name}' is read-only.")).into());
    }
    let whole = Value::Object(fields.clone());
    schemas::check("image", &schemas::IMAGE, &whole)?;
    let mut take = |name: &str| fields.shift_remove(name);
    let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let number = |value: Option<Value>| value.and_then(|value| value.as_f64()).map_or(0, |number| number as i64);
    let flag = |value: Option<Value>| value.and_then(|value| value.as_bool()).unwrap_or(false);
    let mut tags: Vec<String> = match take("tags") {
        Some(Value::Array(tags)) => tags.iter().filter_map(|tag| Some(tag.as_str()?.to_owned())).collect(),
        _ => Vec::new(),
    };
    tags.sort();
    tags.dedup();
    let at = now();
    let mut image = Image {
        id: text(take("id")).unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        name: text(take("name")),
        status: Status::Queued,
        visibility: text(take("visibility")).unwrap_or_else(|| "shared".to_owned()),
        owner: match take("owner") {
            Some(owner) => owner.as_str().filter(|owner| !owner.is_empty()).map(str::to_owned),
            None => caller.viewer.project.map(str::to_owned),
        },
        disk_format: text(take("disk_format")),
        container_format: text(take("container_format")),
        size: None,
        virtual_size: None,
        min_disk: number(take("min_disk")),
        min_ram: number(take("min_ram")),
        protected: flag(take("protected")),
        os_hidden: flag(take("os_hidden")),
        checksum: None,
        os_hash_algo: None,
        os_hash_value: None,
        created_at: at,
        updated_at: at,
        properties: BTreeMap::new(),
        tags,
    };
    let set: Vec<&str> = SET_BY_SERVICE.into_iter().filter(|name| take(name).is_some()).collect();
    for name in fields.keys() {
        if name.chars().count() > 255 {
            return Err(Error::bad_request(
                "Custom property should not be greater than 255 characters.",
            ));
        }
        if reserved(name) {
            return Err(Refusal::ForbiddenDetail(format!("Attribute '{name}' is reserved.")).into());
        }
    }
    rules::may_add(service, caller, &image)?;
    rules::tag_limit(service, &image.tags).map_err(Refusal::TooMuch)?;
    if let Some(name) = set.first() {
        return Err(Refusal::Forbidden(format!("Attribute '{name}' is read-only.")).into());
    }
    if let Some(name) = NO_PROPERTIES.iter().find(|name| fields.contains_key(**name)) {
        return Err(Refusal::Forbidden(format!("Attribute '{name}' is reserved.")).into());
    }
    check_minimum("min_disk", image.min_disk)?;
    check_minimum("min_ram", image.min_ram)?;
    for (name, value) in fields {
        if let Value::String(value) = value {
            image.properties.insert(name, value);
        }
    }
    rules::property_limit(service, &image)?;
    Ok(image)
}

fn create(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let image = parse(service, caller, body(request)?)?;
    service.database.write(|tx| {
        rules::count_quota(service, tx, caller.viewer.project)?;
        Ok::<_, Error>(images::insert(tx, &image)?)
    })?;
    let location = request.url(&format!("/v2/images/{}", image.id));
    let response = Response::json(StatusCode::CREATED, &view(&image)).header("location", location);
    Ok(response.header("openstack-image-import-methods", IMPORT_METHODS.join(",")))
}

fn update(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let Some(dialect) = media_type(request).and_then(Dialect::of) else {
        let allowed = patch::MEDIA_TYPES.join(", ");
        let error = Error::unsupported_media_type(format!("Image PATCH expects Content-Type one of: {allowed}"));
        let allowed = api::HeaderValue::from_str(&allowed).map_err(Error::internal)?;
        return Err(error
            .kind(api::webob::DETAIL)
            .header(api::HeaderName::from_static("accept-patch"), allowed));
    };
    let changes = patch::parse(&body(request)?, dialect)?;
    let image = service.database.write(|tx| {
        let mut image = from_path(tx, caller, request)?;
        let before = image.clone();
        for change in &changes {
            apply(service, caller, &before, &mut image, change)?;
        }
        if changes.is_empty() {
            return Ok(image);
        }
        if image
            .properties
            .keys()
            .any(|name| !before.properties.contains_key(name))
        {
            rules::property_limit(service, &image)?;
        }
        if images::update(tx, &mut image, before.status)? {
            Ok(image)
        } else {
            Err(Error::not_found(format!("No image found with ID {}", image.id)))
        }
    })?;
    Ok(Response::json(StatusCode::OK, &view(&image)))
}

/// Locations are where the data is. They are not shown, so they cannot be changed.
fn refuse_locations(service: &Images, caller: Caller<'_>, image: &Image, change: &Change) -> Result<()> {
    let (rule, verb) = match change.operation {
        Operation::Add => ("set_image_location", "add"),
        Operation::Replace => ("set_image_location", "update"),
        Operation::Remove => ("delete_image_location", "remove"),
    };
    if change.operation == Operation::Replace && change.value.as_array().is_none_or(Vec::is_empty) {
        return Err(Refusal::ForbiddenDetail("Cannot set locations to empty list.".into()).into());
    }
    rules::enforce(service, caller, image, rule)?;
    Err(Refusal::Forbidden(format!(
        "It's not allowed to {verb} locations if locations are invisible."
    ))
    .into())
}

/// Attributes that every image has, as far as patches reach them.
const ATTRIBUTES: [&str; 10] = [
    "name",
    "visibility",
    "min_disk",
    "min_ram",
    "protected",
    "os_hidden",
    "tags",
    "owner",
    "disk_format",
    "container_format",
];

fn apply(service: &Images, caller: Caller<'_>, before: &Image, image: &mut Image, change: &Change) -> Result<()> {
    let name = change.path[0].as_str();
    if name == "locations" {
        return refuse_locations(service, caller, before, change);
    }
    if change.operation == Operation::Replace && name == "owner" && !caller.viewer.admin {
        return Err(Refusal::ForbiddenDetail("Owner can't be updated by non admin.".into()).into());
    }
    if name == "visibility" && change.operation != Operation::Remove {
        rules::visibility(service, caller, image, change.value.as_str().unwrap_or_default())?;
    }
    rules::enforce(service, caller, image, "modify_image")?;
    let own = ATTRIBUTES.contains(&name);
    let there = own || image.properties.contains_key(name);
    let missing = || Refusal::ConflictDetail(format!("Property {name} does not exist."));
    match change.operation {
        Operation::Remove if own => {
            return Err(Refusal::ForbiddenDetail(format!("Property {name} may not be removed.")).into());
        }
        Operation::Remove => {
            image.properties.remove(name).ok_or_else(missing)?;
            return Ok(());
        }
        Operation::Replace if !there => return Err(missing().into()),
        Operation::Add if there && change.strict_add => {
            return Err(Refusal::ConflictDetail(format!("Property {name} already present.")).into());
        }
        _ => {}
    }
    if own {
        set(service, image, name, &change.value)?;
    } else if let Some(value) = change.value.as_str() {
        image.properties.insert(name.to_owned(), value.to_owned());
    }
    Ok(())
}

fn set(service: &Images, image: &mut Image, name: &str, value: &Value) -> Result<()> {
    let text = value.as_str().map(str::to_owned);
    let number = value.as_f64().map_or(0, |number| number as i64);
    match name {
        "name" => image.name = text,
        "visibility" => image.visibility = text.unwrap_or_default(),
        "owner" => image.owner = text.filter(|owner| !owner.is_empty()),
        "protected" => image.protected = value == true,
        "os_hidden" => image.os_hidden = value == true,
        "min_disk" => {
            check_minimum(name, number)?;
            image.min_disk = number;
        }
        "min_ram" => {
            check_minimum(name, number)?;
            image.min_ram = number;
        }
        "disk_format" => {
            image.may_change_format(name)?;
            image.disk_format = text;
        }
        "container_format" => {
            image.may_change_format(name)?;
            image.container_format = text;
        }
        _ => {
            let tags = value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|tag| Some(tag.as_str()?.to_owned()));
            image.tags = tags.collect();
            image.tags.sort();
            image.tags.dedup();
            rules::tag_limit(service, &image.tags).map_err(Refusal::TooMuch)?;
        }
    }
    Ok(())
}

fn delete(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let id = request.param("image_id");
    service.database.write(|tx| {
        let image = from_path(tx, caller, request).map_err(|error| match error.status {
            StatusCode::NOT_FOUND => Error::not_found(format!("Failed to find image {id} to delete")),
            _ => error,
        })?;
        rules::enforce(service, caller, &image, "delete_image")?;
        rules::may_delete(&image)?;
        Ok::<_, Error>(images::delete(tx, id)?)
    })?;
    // The record is gone for good; data that cannot be removed now is only space.
    if let Err(error) = service.folder.remove(id) {
        tracing::error!(image = id, %error, "the data of a deleted image could not be removed");
    }
    Ok(no_content())
}

fn tasks(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let hidden = || Error::not_found(api::webob::explanation(StatusCode::NOT_FOUND));
    let image = service
        .database
        .read(|tx| from_path(tx, caller, request))
        .map_err(|error| match error.status {
            StatusCode::NOT_FOUND => hidden(),
            _ => error,
        })?;
    rules::enforce(service, caller, &image, "get_image")?;
    let found = service
        .database
        .read(|tx| crate::store::tasks::of_image(tx, &image.id))?;
    let views: Vec<Value> = found.iter().map(super::tasks::view).collect();
    Ok(Response::json(StatusCode::OK, &json!({"tasks": views})))
}
