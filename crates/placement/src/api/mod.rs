//! The API: one file per resource, and what they share.

mod aggregates;
mod allocations;
mod candidates;
mod inventories;
mod providers;
mod reshaper;
mod resource_classes;
mod root;
mod schemas;
mod traits;
mod usages;

use api::{Error, HeaderMap, Microversions, Request, Response, Result, Routes, StatusCode, Version};
use database::now;
use policy::Denied;
use serde_json::{Value, json};

use crate::Placement;

const CONCURRENT_UPDATE: &str = "placement.concurrent_update";
const INVENTORY_INUSE: &str = "placement.inventory.inuse";

/// Which microversions there are.
pub(crate) const MICROVERSIONS: Microversions = Microversions {
    service: "placement",
    legacy_header: None,
    min: Version(1, 0),
    max: Version(1, 39),
    malformed: |text| {
        Error::bad_request(format!(
            "Invalid microversion: invalid version string: {text}; not two numbers"
        ))
    },
    unsupported: |version, offered| {
        Error::not_acceptable(format!("Invalid microversion: Unacceptable version header: {version}"))
            .detail(json!({"max_version": offered.max.to_string(), "min_version": offered.min.to_string()}))
    },
};

/// All routes.
pub(crate) fn routes() -> Routes<Placement> {
    let mut routes = Routes::new();
    root::routes(&mut routes);
    providers::routes(&mut routes);
    inventories::routes(&mut routes);
    usages::routes(&mut routes);
    aggregates::routes(&mut routes);
    allocations::routes(&mut routes);
    candidates::routes(&mut routes);
    resource_classes::routes(&mut routes);
    traits::routes(&mut routes);
    reshaper::routes(&mut routes);
    routes
}

impl From<crate::Error> for Error {
    /// For what a handler did not turn into an error of its own: what is not found is 404 with its text.
    fn from(error: crate::Error) -> Error {
        match error {
            crate::Error::Database(error) => error.into(),
            error if error.is_not_found() => Error::not_found(error.to_string()),
            error => Error::internal(error),
        }
    }
}

/// May the caller do this? Targets are empty but for usages.
fn authorize(service: &Placement, request: &Request, rule: &str) -> Result<()> {
    authorize_for(service, request, rule, &())
}

fn authorize_for(service: &Placement, request: &Request, rule: &str, target: &dyn policy::Target) -> Result<()> {
    service
        .policy
        .check(rule, target, &request.context().credentials)
        .map_err(|denied: Denied| Error::forbidden(format!("Policy does not allow {} to be performed.", denied.rule())))
}

/// The operation exists from this minor version on; before, it is not there.
fn since(request: &Request, minor: u16) -> Result<()> {
    if request.version >= Version(1, minor) {
        Ok(())
    } else {
        Err(Error::not_found(""))
    }
}

/// Bodies must say that they are JSON.
fn needs_json(request: &Request) -> Result<()> {
    let media = request
        .header("content-type")
        .map(|value| value.split(';').next().unwrap_or("").trim());
    match media {
        Some("application/json") => Ok(()),
        None | Some("") if !request.body.is_empty() => Err(Error::bad_request(
            "content-type header required when content-length > 0",
        )),
        other => {
            let media = other.filter(|media| !media.is_empty()).unwrap_or("None");
            let text = format!("The media type {media} is not supported, use application/json");
            Err(Error::unsupported_media_type(text))
        }
    }
}

/// The client must not exclude JSON.
fn accepts_json(headers: &HeaderMap) -> Result<()> {
    let Some(accept) = headers
        .get("accept")
        .and_then(|value| value.to_str().ok())
        .filter(|a| !a.is_empty())
    else {
        return Ok(());
    };
    let fits = accept.split(',').any(|range| {
        let media = range.split(';').next().unwrap_or("").trim();
        let refused = range.split(';').any(|part| matches!(part.trim(), "q=0" | "q=0.0"));
        matches!(media, "*/*" | "application/*" | "application/json") && !refused
    });
    if fits {
        Ok(())
    } else {
        Err(Error::not_acceptable("Only application/json is provided"))
    }
}

/// An HTTP date.
fn http_date(micros: i64) -> String {
    let since_epoch = std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since_epoch)
}

/// From 1.15 on answers say when their subject was changed last (microseconds since the epoch, `None` for now) and are not cached.
fn dated(request: &Request, response: Response, modified: Option<i64>) -> Response {
    if request.version < Version(1, 15) {
        return response;
    }
    response
        .header("last-modified", http_date(modified.unwrap_or_else(now)))
        .header("cache-control", "no-cache")
}

fn ok(request: &Request, body: &Value, modified: Option<i64>) -> Response {
    dated(request, Response::json(StatusCode::OK, body), modified)
}

fn no_content() -> Response {
    Response::empty(StatusCode::NO_CONTENT)
}

fn conflict(text: impl Into<String>, code: &'static str) -> Error {
    Error::conflict(text).kind(code)
}

fn url(request: &Request, path: &str) -> String {
    // Upstream's links are relative to the server, with the mount point.
    let prefix = request
        .base_url
        .splitn(4, '/')
        .nth(3)
        .map(|rest| format!("/{rest}"))
        .unwrap_or_default();
    format!("{}{path}", prefix.trim_end_matches('/'))
}

/// An integer of a body; whole floats are integers too.
fn integer(value: &Value) -> i64 {
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|float| float as i64))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::{AuthFailure, Authenticator, Context, Service};

    use super::*;

    /// Knows one token, whose user has no role anywhere.
    struct Stranger;

    impl Authenticator for Stranger {
        fn authenticate(&self, token: &str) -> std::result::Result<Arc<Context>, AuthFailure> {
            let mut context = Context::internal_for("stranger");
            context.credentials.roles.clear();
            context.credentials.is_admin = false;
            if token == "stranger" {
                Ok(Arc::new(context))
            } else {
                Err(AuthFailure::Invalid)
            }
        }
    }

    fn status(service: &Service, method: &api::Method, path: &str, token: Option<&str>) -> u16 {
        let mut headers = api::HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("openstack-api-version", "placement 1.39".parse().unwrap());
        if let Some(token) = token {
            headers.insert("x-auth-token", token.parse().unwrap());
        }
        let path = path.replace('{', "").replace('}', "");
        let mut request = Service::head(method.clone(), &path, "", headers, "http://host".into(), None);
        if matches!(*method, api::Method::POST | api::Method::PUT | api::Method::PATCH) {
            request.body = "{}".into();
        }
        service.call(request).status.as_u16()
    }

    #[test]
    fn every_operation_asks_who_and_whether() {
        let database = database::Database::temporary().unwrap();
        database.migrate(&[crate::MIGRATIONS]).unwrap();
        let service = Placement::new(database, None)
            .unwrap()
            .service(Arc::new(Stranger), "http://identity");
        let mut walked = 0;
        for (method, path, public) in routes().list() {
            walked += 1;
            if public {
                assert_eq!(path, "/", "only the versions are for everybody");
                continue;
            }
            assert_eq!(
                status(&service, method, path, None),
                401,
                "{method} {path} without a token"
            );
            assert_eq!(
                status(&service, method, path, Some("forged")),
                401,
                "{method} {path} with a forged token"
            );
            assert_eq!(
                status(&service, method, path, Some("stranger")),
                403,
                "{method} {path} as a stranger"
            );
        }
        assert_eq!(walked, 36);
    }
}
