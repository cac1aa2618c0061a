//! The version documents, and the JSON-home document that lists every route.

use super::*;
use ::api::Method;
use std::sync::LazyLock;

const JSON_HOME: &str = "application/json-home";

/// Relation to path, as upstream publishes them.
static RESOURCES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("json_home.json")).unwrap_or_default());

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.public(Method::GET, "/", versions);
    routes.public(Method::GET, "/v3", version);
}

fn version_3(r: &Request) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/v3/", r.base_url)}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    })
}

/// Whether the client would rather have JSON home than JSON.
fn prefers_home(r: &Request) -> bool {
    let accept = r.header("accept").unwrap_or_default();
    let quality = |wanted: &str| {
        accept
            .split(',')
            .filter_map(|range| {
                let (kind, parameters) = range.split_once(';').unwrap_or((range, ""));
                let kind = kind.trim();
                let fits = kind == wanted || kind == "*/*" || kind == "application/*";
                let q = parameters
                    .split(';')
                    .find_map(|p| p.trim().strip_prefix("q=")?.parse::<f64>().ok())
                    .unwrap_or(1.0);
                // A range that names the type goes before one with a star.
                fits.then_some((kind == wanted, q))
            })
            .max_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
            .map_or(0.0, |(named, q)| if named { q } else { q * 0.999 })
    };
    quality(JSON_HOME) > quality("application/json")
}

fn home(prefix: &str) -> Response {
    let mut resources = RESOURCES.clone();
    for resource in resources.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        for key in ["href", "href-template"] {
            if let Some(path) = resource.get(key).and_then(Value::as_str) {
                resource[key] = format!("{prefix}{path}").into();
            }
        }
    }
    Response::bytes(StatusCode::OK, JSON_HOME, json!({"resources": resources}).to_string())
}

fn versions(_: &Identity, r: &Request) -> Result<Response> {
    if prefers_home(r) {
        return Ok(home("/v3"));
    }
    let body = json!({"versions": {"values": [version_3(r)]}});
    Ok(Response::json(StatusCode::MULTIPLE_CHOICES, &body).header("location", format!("{}/v3/", r.base_url)))
}

fn version(_: &Identity, r: &Request) -> Result<Response> {
    if prefers_home(r) {
        return Ok(home(""));
    }
    Ok(Response::json(StatusCode::OK, &json!({"version": version_3(r)})))
}
