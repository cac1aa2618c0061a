//! `/v2/info`: what this site offers.

use api::{Error, Request, Response, Result, Routes, StatusCode};
use serde_json::json;

use super::{IMPORT_METHODS, no_body, rules};
use crate::Images;

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

/// Limits are not registered with Identity, so there is nothing to count against.
fn usage(_: &Images, _: &Request) -> Result<Response> {
    Ok(Response::json(StatusCode::OK, &json!({"usage": {}})))
}
