//! The API: one file per resource, and what they share.

mod actions;
mod cache;
pub(crate) mod data;
mod images;
mod import;
mod info;
mod locations;
mod members;
mod metadefs;
pub(crate) mod rules;
mod schemas;
mod tags;
mod tasks;
mod versions;

use api::{Error, Request, Response, Result, Routes, StatusCode};
use serde_json::Value;

use crate::Images;

/// Which import methods are offered.
const IMPORT_METHODS: [&str; 1] = ["glance-direct"];

/// All routes.
pub(crate) fn routes() -> Routes<Images> {
    let mut routes = Routes::new();
    versions::routes(&mut routes);
    images::routes(&mut routes);
    data::routes(&mut routes);
    tags::routes(&mut routes);
    members::routes(&mut routes);
    actions::routes(&mut routes);
    schemas::routes(&mut routes);
    info::routes(&mut routes);
    import::routes(&mut routes);
    locations::routes(&mut routes);
    tasks::routes(&mut routes);
    metadefs::routes(&mut routes);
    cache::routes(&mut routes);
    routes
}

/// Clients may write any minor version into the path.
pub(crate) fn rewrite(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/v2.")?;
    let (minor, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let known = ["0", "1", "2", "3", "4", "5", "6", "7", "9", "15", "17"].contains(&minor);
    known.then(|| format!("/v2/{rest}"))
}

/// A JSON body.
fn body(request: &Request) -> Result<Value> {
    if request.body.is_empty() {
        return Err(Error::bad_request("Body expected in request."));
    }
    match serde_json::from_slice(&request.body) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => Ok(value),
        Ok(_) => Err(Error::bad_request("Unexpected body type. Expected list/dict.")),
        Err(_) => Err(Error::bad_request("Malformed JSON in request body.")),
    }
}

/// Operations that take no body refuse one.
fn no_body(request: &Request) -> Result<()> {
    if request.body.is_empty() {
        Ok(())
    } else {
        Err(Error::bad_request("A body is not expected with this request."))
    }
}

fn media_type(request: &Request) -> Option<&str> {
    request
        .header("content-type")
        .map(|value| value.split(';').next().unwrap_or("").trim())
}

fn no_content() -> Response {
    Response::empty(StatusCode::NO_CONTENT)
}

/// Python's `urlencode`.
fn urlencode(pairs: &[(String, String)]) -> String {
    let quote = |text: &str| {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
                b' ' => out.push('+'),
                byte => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    };
    pairs
        .iter()
        .map(|(name, value)| format!("{}={}", quote(name), quote(value)))
        .collect::<Vec<_>>()
        .join("&")
}

/// The query as a page's links repeat it: each name once with its last value, without the marker.
fn page_query(request: &Request) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, value) in request.query.iter().filter(|(name, _)| *name != "marker") {
        match pairs.iter_mut().find(|(have, _)| have == name) {
            Some(have) => have.1 = value.to_owned(),
            None => pairs.push((name.to_owned(), value.to_owned())),
        }
    }
    pairs
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
    fn every_operation_asks_who_and_lets_no_stranger_do_harm() {
        let folder = tempfile::tempdir().unwrap();
        let database = database::Database::temporary().unwrap();
        database.migrate(&[crate::MIGRATIONS]).unwrap();
        let config = crate::Config {
            folder: folder.path().to_owned(),
            ..crate::Config::default()
        };
        let service = Images::new(database, config, None)
            .unwrap()
            .service(Arc::new(Stranger), "http://identity");
        // What is open to everybody with a token, or answers before it asks what for.
        let open = ["/v2/schemas", "/v2/info"];
        for (method, path, public) in routes().list() {
            if public {
                assert!(
                    ["/", "/versions", "/{*path}"].contains(&path),
                    "{path} is for everybody"
                );
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
            let answer = status(&service, method, path, Some("stranger"));
            let refused = matches!(answer, 400 | 403 | 404 | 415 | 501);
            let fine = open.iter().any(|prefix| path.starts_with(prefix)) && *method == api::Method::GET;
            assert!(refused || fine, "{method} {path} as a stranger: {answer}");
        }
    }
}
