//! Version discovery. Whatever is not below a version is answered with the choice of versions.

use api::{Error, Method, Request, Response, Result, Routes, StatusCode};
use serde_json::{Value, json};

use crate::Images;

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes.public(Method::GET, "/", choices);
    routes.public(Method::GET, "/versions", list);
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        routes.public(method, "/{*path}", elsewhere);
    }
}

/// What upstream offers with one store and without a cache, in its order.
const VERSIONS: [&str; 11] = [
    "2.15", "2.9", "2.17", "2.7", "2.6", "2.5", "2.4", "2.3", "2.2", "2.1", "2.0",
];

fn document(request: &Request) -> Value {
    let href = request.url("/v2/");
    let versions: Vec<Value> = VERSIONS
        .iter()
        .map(|version| {
            let status = if *version == "2.17" { "CURRENT" } else { "SUPPORTED" };
            json!({"id": format!("v{version}"), "status": status, "links": [{"rel": "self", "href": href}]})
        })
        .collect();
    json!({"versions": versions})
}

fn choices(_: &Images, request: &Request) -> Result<Response> {
    Ok(Response::json(StatusCode::MULTIPLE_CHOICES, &document(request)))
}

fn list(_: &Images, request: &Request) -> Result<Response> {
    Ok(Response::json(StatusCode::OK, &document(request)))
}

fn elsewhere(service: &Images, request: &Request) -> Result<Response> {
    let below = request.path == "/v2" || request.path.starts_with("/v2/");
    if !below {
        return choices(service, request);
    }
    if request.optional_context().is_none() {
        let text = "The request you have made requires authentication.";
        return Err(Error::unauthorized(text).kind("api.no_token"));
    }
    Err(Error::not_found(api::webob::explanation(StatusCode::NOT_FOUND)))
}
