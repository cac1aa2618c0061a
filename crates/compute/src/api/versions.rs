//! Version documents.

use api::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::NEWEST_VERSION;
use crate::call::{Result, Table};

pub(super) fn add(table: &mut Table) {
    table.public(Method::GET, "/", |_, request| index(request));
    table.public(Method::GET, "/versions", |_, request| index(request));
    table.public(Method::GET, "/v2.1", |_, request| show(request, false));
    table.public(Method::GET, "/v2.1/", |_, request| show(request, false));
    table.public(Method::GET, "/v2", |_, request| show(request, true));
    table.public(Method::GET, "/v2/", |_, request| show(request, true));
    table.public(Method::GET, "/v2.1/versions/{id}", |_, request| {
        match request.param("id") {
            "v2.1" => show(request, false),
            "v2.0" => show(request, true),
            _ => Err(crate::call::no_such_version()),
        }
    });
}

fn document(request: &Request, legacy: bool) -> Value {
    let (id, path, status, updated) = if legacy {
        ("v2.0", "/v2/", "SUPPORTED", "2011-01-21T11:33:21Z")
    } else {
        ("v2.1", "/v2.1/", "CURRENT", "2013-07-23T11:33:21Z")
    };
    let (newest, oldest) = if legacy {
        (String::new(), "")
    } else {
        (NEWEST_VERSION.to_string(), "2.1")
    };
    json!({
        "id": id, "status": status, "version": newest, "min_version": oldest, "updated": updated,
        "links": [{"rel": "self", "href": request.url(path)}],
    })
}

fn index(request: &Request) -> Result {
    let versions = json!({"versions": [document(request, true), document(request, false)]});
    Ok(Response::json(StatusCode::OK, &versions))
}

fn show(request: &Request, legacy: bool) -> Result {
    let mut version = document(request, legacy);
    if let Some(links) = version["links"].as_array_mut() {
        links.push(json!({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}));
    }
    let kind = if legacy { "2" } else { "2.1" };
    let media = format!("application/vnd.openstack.compute+json;version={kind}");
    version["media-types"] = json!([{"base": "application/json", "type": media}]);
    Ok(Response::json(StatusCode::OK, &json!({"version": version})))
}
