//! `/resource_classes`.

use api::{Error, Request, Response, Result, Routes, StatusCode, Version};
use serde_json::{Value, json};

use super::{accepts_json, authorize, needs_json, no_content, ok, schemas, since, url};
use crate::store::resource_classes::{self, ResourceClass};
use crate::{Error as Domain, Placement};

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes
        .get("/resource_classes", list)
        .post("/resource_classes", create)
        .get("/resource_classes/{name}", show)
        .put("/resource_classes/{name}", update)
        .delete("/resource_classes/{name}", delete);
}

fn own_url(request: &Request, name: &str) -> String {
    url(request, &format!("/resource_classes/{name}"))
}

fn view(request: &Request, name: &str) -> Value {
    json!({"name": name, "links": [{"rel": "self", "href": own_url(request, name)}]})
}

fn list(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 2)?;
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_classes:list")?;
    let found: Vec<ResourceClass> = service.database.read(resource_classes::list)?;
    let modified = found.iter().map(|class| class.modified_at).max();
    let views: Vec<Value> = found.iter().map(|class| view(request, &class.name)).collect();
    Ok(ok(request, &json!({"resource_classes": views}), modified))
}

fn show(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 2)?;
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_classes:show")?;
    let found = service
        .database
        .read(|tx| resource_classes::get(tx, request.param("name")))?;
    Ok(ok(request, &view(request, &found.name), Some(found.modified_at)))
}

fn create(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 2)?;
    needs_json(request)?;
    authorize(service, request, "placement:resource_classes:create")?;
    let body = schemas::read(request, &schemas::RESOURCE_CLASS)?;
    let name = body["name"].as_str().unwrap_or_default();
    service
        .database
        .write(|tx| resource_classes::create(tx, name))
        .map_err(|error| match error {
            Domain::ResourceClassExists(name) => {
                Error::conflict(format!("Conflicting resource class already exists: {name}"))
            }
            error => error.into(),
        })?;
    Ok(Response::empty(StatusCode::CREATED).header("location", request.url(&format!("/resource_classes/{name}"))))
}

/// Until 1.6 this renames a class; from 1.7 on it makes sure that there is one.
fn update(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 2)?;
    if request.version >= Version(1, 7) {
        ensure(service, request)
    } else {
        rename(service, request)
    }
}

fn rename(service: &Placement, request: &Request) -> Result<Response> {
    needs_json(request)?;
    authorize(service, request, "placement:resource_classes:update")?;
    let body = schemas::read(request, &schemas::RESOURCE_CLASS)?;
    let (name, new) = (request.param("name"), body["name"].as_str().unwrap_or_default());
    service
        .database
        .write(|tx| resource_classes::rename(tx, name, new))
        .map_err(|error| match error {
            Domain::ResourceClassExists(name) => Error::conflict(format!("Resource class already exists: {name}")),
            Domain::ResourceClassStandard(name) => {
                Error::bad_request(format!("Cannot update standard resource class {name}"))
            }
            error => error.into(),
        })?;
    Ok(Response::json(StatusCode::OK, &view(request, new)))
}

fn ensure(service: &Placement, request: &Request) -> Result<Response> {
    authorize(service, request, "placement:resource_classes:update")?;
    let name = request.param("name");
    schemas::RESOURCE_CLASS
        .validate(&json!({"name": name}))
        .map_err(|error| Error::bad_request(format!("JSON does not validate: {error}")))?;
    let new = service.database.write(|tx| match resource_classes::create(tx, name) {
        Ok(_) => Ok(true),
        Err(Domain::ResourceClassExists(_)) => Ok(false),
        Err(error) => Err(error),
    })?;
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::NO_CONTENT
    };
    Ok(Response::empty(status).header("location", request.url(&format!("/resource_classes/{name}"))))
}

fn delete(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 2)?;
    authorize(service, request, "placement:resource_classes:delete")?;
    service
        .database
        .write(|tx| resource_classes::delete(tx, request.param("name")))
        .map_err(|error| match error {
            Domain::ResourceClassStandard(_) => Error::bad_request(format!("Error in delete resource class: {error}")),
            Domain::ResourceClassInUse(_) => Error::conflict(format!("Error in delete resource class: {error}")),
            error => error.into(),
        })?;
    Ok(no_content())
}
