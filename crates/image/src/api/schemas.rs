//! `/v2/schemas`.

use api::{Error, Request, Response, Result, Routes, StatusCode};

use super::no_body;
use crate::Images;
use crate::model::schemas;

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/schemas/{name}", |_, request| show(request, request.param("name")))
        .get("/v2/schemas/metadefs/{name}", |_, request| {
            show(request, &format!("metadefs/{}", request.param("name")))
        });
}

fn show(request: &Request, name: &str) -> Result<Response> {
    no_body(request)?;
    match schemas::document(name) {
        Some(document) => Ok(Response::json(StatusCode::OK, &document)),
        None => Err(Error::not_found(api::webob::explanation(StatusCode::NOT_FOUND))),
    }
}
