//! `/v2/images/{image_id}/tags/{tag_value}`.

use api::{Error, Request, Response, Result, Routes, StatusCode};
use database::Tx;
use serde_json::json;

use super::images::from_path;
use super::{no_body, no_content, rules};
use crate::model::image::Image;
use crate::model::schemas;
use crate::store::images;
use crate::{Caller, Images};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .put("/v2/images/{image_id}/tags/{tag_value}", add)
        .delete("/v2/images/{image_id}/tags/{tag_value}", remove);
}

fn find(tx: &mut Tx<'_>, caller: Caller<'_>, request: &Request) -> Result<Image> {
    from_path(tx, caller, request).map_err(|error| match error.status {
        StatusCode::NOT_FOUND => Error::not_found(format!("Image {} not found.", request.param("image_id"))),
        _ => error,
    })
}

fn save(tx: &mut Tx<'_>, image: &mut Image) -> Result<()> {
    let status = image.status;
    if images::update(tx, image, status)? {
        return Ok(());
    }
    Err(Error::not_found(format!("Image {} not found.", image.id)))
}

fn add(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let tag = request.param("tag_value");
    schemas::check("image", &schemas::IMAGE, &json!({"tags": [tag]}))?;
    service.database.write(|tx| {
        let mut image = find(tx, caller, request)?;
        rules::enforce(service, caller, &image, "modify_image")?;
        if image.tags.iter().any(|have| have == tag) {
            return Ok(());
        }
        image.tags.push(tag.to_owned());
        rules::tag_limit(service, &image.tags)
            .map_err(|why| Error::too_large(format!("Image tag limit exceeded for image {}: {why}:", image.id)))?;
        save(tx, &mut image)
    })?;
    Ok(no_content())
}

fn remove(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let tag = request.param("tag_value");
    service.database.write(|tx| {
        let mut image = find(tx, caller, request)?;
        rules::enforce(service, caller, &image, "modify_image")?;
        let before = image.tags.len();
        image.tags.retain(|have| have != tag);
        if image.tags.len() == before {
            return Err(Error::not_found(api::webob::explanation(StatusCode::NOT_FOUND)));
        }
        save(tx, &mut image)
    })?;
    Ok(no_content())
}
