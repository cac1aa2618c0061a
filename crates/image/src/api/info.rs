//! `/v2/info`: what this site offers.

use api::{Error, Request, Response, Result, Routes, StatusCode};
use serde_json::json;

use super::{IMPORT_METHODS, no_body, rules};
use crate::Images;
use crate::store::images;

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/info/import", import)
        .get("/v2/info/stores", stores)
        .get("/v2/info/stores/detail", stores_detail)
        .get("/v2/info/usage", usage);
}

fn import(_: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let methods = json!({"description": "Import methods available.", "type": "array", "value": IMPORT_METHODS});
    Ok(Response::json(StatusCode::OK, &json!({"import-methods": methods})))
}

/// There is one store, and it has no name.
fn no_stores() -> Error {
    Error::not_found("Multi backend is not supported at this site.")
}

fn stores(_: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    Err(no_stores())
}

fn stores_detail(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    rules::check(service, service.caller(request), "stores_info_detail", &())?;
    Err(no_stores())
}

/// Of the limits that are set, how much is used; nothing where none is.
fn usage(service: &Images, request: &Request) -> Result<Response> {
    let quota = &service.quota;
    let Some(project) = service
        .caller(request)
        .viewer
        .project
        .filter(|_| quota.images > 0 || quota.mebibytes > 0)
    else {
        return Ok(Response::json(StatusCode::OK, &json!({"usage": {}})));
    };
    let ((count, size), staged, uploading) = service.database.read(|tx| {
        Ok::<_, crate::Error>((
            images::usage(tx, project)?,
            images::staged(tx, project)?,
            images::uploading(tx, project)?,
        ))
    })?;
    let limit = |limit: u64| if limit == 0 { json!(-1) } else { json!(limit) };
    let usage = json!({
        "image_size_total": {"usage": size >> 20, "limit": limit(quota.mebibytes)},
        "image_stage_total": {"usage": staged >> 20, "limit": limit(0)},
        "image_count_total": {"usage": count, "limit": limit(quota.images)},
        "image_count_uploading": {"usage": uploading, "limit": limit(0)},
    });
    Ok(Response::json(StatusCode::OK, &json!({"usage": usage})))
}
