//! Images as Compute showed them up to 2.35, and their metadata up to 2.38.

use std::collections::BTreeMap;

use api::services::ImageFacts;
use api::{Error, Method, StatusCode};
use database::Tx;
use serde_json::{Map, Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, no_content, no_such_version, ok};
use crate::model::encoding::parse_bool;
use crate::store::quotas;

pub(super) fn add(table: &mut Table) {
    let (images, metadata) = ((1, 35), (1, 38));
    table
        .between(Method::GET, "/images", images, |c, call| list(c, call, false))
        .between(Method::GET, "/images/detail", images, |c, call| list(c, call, true))
        .between(Method::GET, "/images/{id}", images, show)
        .between(Method::DELETE, "/images/{id}", images, delete)
        .between(Method::GET, "/images/{image_id}/metadata", metadata, metadata_list)
        .between(Method::POST, "/images/{image_id}/metadata", metadata, |c, call| {
            metadata_change(c, call, false)
        })
        .between(Method::PUT, "/images/{image_id}/metadata", metadata, |c, call| {
            metadata_change(c, call, true)
        })
        .between(Method::GET, "/images/{image_id}/metadata/{id}", metadata, metadata_show)
        .between(Method::PUT, "/images/{image_id}/metadata/{id}", metadata, metadata_set)
        .between(
            Method::DELETE,
            "/images/{image_id}/metadata/{id}",
            metadata,
            metadata_remove,
        );
}

fn links(call: &Call, id: &str) -> Value {
    let mut links = call.links("images", id);
    if let Some(list) = links.as_array_mut() {
        let href = call.request.url(&format!("/images/{id}"));
        list.push(json!({"rel": "alternate", "type": "application/vnd.openstack.image", "href": href}));
    }
    links
}

fn status(image: &ImageFacts) -> (&'static str, u8) {
    match image.status.as_str() {
        "active" => ("ACTIVE", 100),
        "queued" => ("SAVING", 25),
        "saving" => ("SAVING", 50),
        "deleted" | "pending_delete" => ("DELETED", 0),
        "killed" => ("ERROR", 0),
        _ => ("UNKNOWN", 0),
    }
}

fn view(call: &Call, image: &ImageFacts) -> Value {
    let (status, progress) = status(image);
    let mut view = json!({
        "id": image.id, "name": image.name, "minRam": image.min_ram, "minDisk": image.min_disk, "metadata": image.properties,
        "created": api::time::iso8601_z(image.created_at), "updated": api::time::iso8601_z(image.updated_at),
        "status": status, "progress": progress, "OS-EXT-IMG-SIZE:size": image.size, "links": links(call, &image.id),
    });
    if let Some(server) = image.properties.get("instance_uuid") {
        view["server"] = json!({"id": server, "links": call.links("servers", server)});
    }
    if let Some(config) = image.properties.get("auto_disk_config") {
        view["OS-DCF:diskConfig"] = json!(if parse_bool(config) == Some(true) {
            "AUTO"
        } else {
            "MANUAL"
        });
    }
    view
}

fn wanted(call: &Call, image: &ImageFacts) -> bool {
    call.query.iter().all(|(name, value)| match name.as_str() {
        "name" => image.name.as_deref() == Some(value),
        "status" => status(image).0.eq_ignore_ascii_case(value) || image.status.eq_ignore_ascii_case(value),
        "changes-since" => api::time::parse(value).is_none_or(|since| image.updated_at >= since),
        "minRam" => value.parse::<u64>().is_ok_and(|least| image.min_ram >= least),
        "minDisk" => value.parse::<u64>().is_ok_and(|least| image.min_disk >= least),
        "server" => image.properties.get("instance_uuid").map(String::as_str) == value.rsplit('/').next(),
        "type" => image.properties.get("image_type").map(String::as_str) == Some(value),
        name => match name.strip_prefix("property-") {
            Some(property) => image.properties.get(property).map(String::as_str) == Some(value),
            None => true,
        },
    })
}

fn list(c: &Compute, call: &Call, detail: bool) -> Result {
    let (limit, marker) = call.paging()?;
    let all = c.db.read(|tx| c.neighbours.images.visible(tx, call.context()))?;
    let mut images: Vec<ImageFacts> = all.into_iter().filter(|i| wanted(call, i)).collect();
    if let Some(marker) = marker {
        let at = images.iter().position(|i| i.id == marker);
        let at = at.ok_or_else(|| Error::bad_request(format!("Invalid input received: marker {marker} not found")))?;
        images.drain(..=at);
    }
    images.truncate(limit as usize);
    let views: Vec<Value> = images
        .iter()
        .map(|i| {
            if detail {
                view(call, i)
            } else {
                json!({"id": i.id, "name": i.name, "links": links(call, &i.id)})
            }
        })
        .collect();
    let mut body = json!({"images": views});
    let collection = if detail { "images/detail" } else { "images" };
    if let Some(links) = call.next_link(collection, images.len(), images.last().map(|i| i.id.as_str()))? {
        body["images_links"] = links;
    }
    ok(body)
}

fn find(c: &Compute, tx: &mut Tx<'_>, call: &Call, id: &str) -> Result<ImageFacts> {
    c.neighbours
        .images
        .find(tx, call.context(), id)?
        .ok_or_else(|| Error::not_found("Image not found."))
}

fn show(c: &Compute, call: &Call) -> Result {
    let image = c.db.read(|tx| find(c, tx, call, call.param("id")))?;
    ok(json!({"image": view(call, &image)}))
}

/// The Image service's refusals in Compute's words.
fn refused(error: Error) -> Error {
    match error.status {
        StatusCode::FORBIDDEN => Error::forbidden("You are not allowed to delete the image."),
        StatusCode::NOT_FOUND => Error::not_found("Image not found."),
        _ => Error {
            kind: "".into(),
            ..error
        },
    }
}

fn delete(c: &Compute, call: &Call) -> Result {
    let id = call.param("id");
    c.db.write(|tx| {
        find(c, tx, call, id)?;
        c.neighbours.images.delete(tx, call.context(), id).map_err(refused)
    })?;
    no_content()
}

fn metadata_list(c: &Compute, call: &Call) -> Result {
    let image = c.db.read(|tx| find(c, tx, call, call.param("image_id")))?;
    ok(json!({"metadata": image.properties}))
}

fn metadata_show(c: &Compute, call: &Call) -> Result {
    let key = call.param("id");
    let image = c.db.read(|tx| find(c, tx, call, call.param("image_id")))?;
    let value = image.properties.get(key).ok_or_else(no_such_version)?;
    ok(json!({"meta": {key: value}}))
}

/// Changes the properties with `change` and returns what they are then.
fn write(
    c: &Compute,
    call: &Call,
    change: impl Fn(&mut BTreeMap<String, String>) -> Result<()>,
) -> Result<BTreeMap<String, String>> {
    let id = call.param("image_id");
    c.db.write(|tx| {
        let mut properties = find(c, tx, call, id)?.properties;
        change(&mut properties)?;
        let limit = quotas::limits(tx, &c.config.quotas, call.project(), Some(call.user()))?["metadata_items"];
        if limit >= 0 && properties.len() as i64 > limit {
            return Err(Error::forbidden("Image metadata limit exceeded"));
        }
        c.neighbours
            .images
            .set_properties(tx, call.context(), id, &properties, true)
            .map_err(|error| match error.status {
                StatusCode::FORBIDDEN => Error::forbidden(format!("Not authorized for image {id}.")),
                _ => Error {
                    kind: "".into(),
                    ..error
                },
            })?;
        Ok(properties)
    })
}

fn texts(map: &Map<String, Value>) -> impl Iterator<Item = (String, String)> + '_ {
    map.iter()
        .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
}

fn metadata_change(c: &Compute, call: &Call, replace: bool) -> Result {
    let wanted = call.body["metadata"].as_object().cloned().unwrap_or_default();
    let properties = write(c, call, |properties| {
        if replace {
            properties.clear();
        }
        properties.extend(texts(&wanted));
        Ok(())
    })?;
    ok(json!({"metadata": properties}))
}

fn metadata_set(c: &Compute, call: &Call) -> Result {
    let wanted = call.body["meta"].as_object().cloned().unwrap_or_default();
    let key = call.param("id");
    if !wanted.contains_key(key) {
        return Err(Error::bad_request("Request body and URI mismatch"));
    }
    write(c, call, |properties| {
        properties.extend(texts(&wanted).filter(|(k, _)| k == key));
        Ok(())
    })?;
    ok(json!({"meta": wanted}))
}

fn metadata_remove(c: &Compute, call: &Call) -> Result {
    let key = call.param("id");
    write(c, call, |properties| match properties.remove(key) {
        Some(_) => Ok(()),
        None => Err(Error::not_found("Invalid metadata key")),
    })?;
    no_content()
}
