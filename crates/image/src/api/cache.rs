//! `/v2/cache` and `/v2/stores`: parts of the API that sites without an image cache and with one store do not have.

use api::{Error, Request, Response, Result, Routes, StatusCode};

use super::rules;
use crate::Images;

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/cache", |service, request| no_cache(service, request, "cache_list"))
        .delete("/v2/cache", |service, request| {
            no_cache(service, request, "cache_delete")
        })
        .put("/v2/cache/{image_id}", |service, request| {
            no_cache(service, request, "cache_image")
        })
        .delete("/v2/cache/{image_id}", |service, request| {
            no_cache(service, request, "cache_delete")
        })
        .get("/v2/cache/nodes/{image_id}", |service, request| {
            no_cache(service, request, "cache_list")
        })
        .post("/v2/cache/clean", |service, request| {
            no_cache(service, request, "cache_delete")
        })
        .post("/v2/cache/prune", |service, request| {
            no_cache(service, request, "cache_delete")
        })
        .delete("/v2/stores/{store_id}/{image_id}", no_stores);
}

fn no_cache(service: &Images, request: &Request, rule: &str) -> Result<Response> {
    rules::check(service, service.caller(request), rule, &())?;
    Err(Error::not_found("Caching via API is not supported at this site."))
}

fn no_stores(_: &Images, _: &Request) -> Result<Response> {
    Err(Error::not_found(api::webob::explanation(StatusCode::NOT_FOUND)))
}
