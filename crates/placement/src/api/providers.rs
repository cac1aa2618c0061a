//! `/resource_providers`.

use api::{Error, Request, Response, Result, Routes, StatusCode, Version};
use database::{Tx, now};
use serde_json::{Value, json};

use super::{accepts_json, authorize, conflict, dated, needs_json, no_content, ok, schemas, url};
use crate::model::request as parse;
use crate::store::providers::{self, Filters, Provider};
use crate::{Error as Domain, Placement};

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes
        .get("/resource_providers", list)
        .post("/resource_providers", create)
        .get("/resource_providers/{uuid}", show)
        .put("/resource_providers/{uuid}", update)
        .delete("/resource_providers/{uuid}", delete);
}

const DUPLICATE_NAME: &str = "placement.duplicate_name";

/// A provider as clients see it.
pub(super) fn view(request: &Request, provider: &Provider) -> Value {
    let own = url(request, &format!("/resource_providers/{}", provider.uuid));
    let mut links = vec![json!({"rel": "self", "href": own})];
    let relations = [
        ("inventories", 0),
        ("usages", 0),
        ("aggregates", 1),
        ("traits", 6),
        ("allocations", 11),
    ];
    for (relation, since) in relations {
        if request.version >= Version(1, since) {
            links.push(json!({"rel": relation, "href": format!("{own}/{relation}")}));
        }
    }
    let mut view = json!({
        "uuid": provider.uuid,
        "name": provider.name,
        "generation": provider.generation,
        "links": links,
    });
    if request.version >= Version(1, 14) {
        view["parent_provider_uuid"] = json!(provider.parent_uuid);
        view["root_provider_uuid"] = json!(provider.root_uuid);
    }
    view
}

/// The provider in the path.
pub(super) fn from_path(tx: &mut Tx<'_>, request: &Request) -> Result<Provider> {
    Ok(providers::get(tx, request.param("uuid"))?)
}

impl From<parse::Bad> for Error {
    fn from(bad: parse::Bad) -> Error {
        Error::bad_request(bad.0).kind(bad.1)
    }
}

fn list(service: &Placement, request: &Request) -> Result<Response> {
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_providers:list")?;
    schemas::check_query(request, schemas::LIST_PROVIDERS.of(request.version))?;
    let pairs: Vec<(&str, &str)> = request.query.iter().collect();
    let mut filters = Filters {
        name: request
            .query
            .last("name")
            .map(str::to_owned)
            .filter(|name| !name.is_empty()),
        uuid: request
            .query
            .last("uuid")
            .map(str::to_owned)
            .filter(|uuid| !uuid.is_empty()),
        in_tree: request.query.last("in_tree").map(str::to_owned),
        ..Filters::default()
    };
    (filters.member_of, filters.forbidden_aggregates) = parse::member_of(&pairs, "", request.version)?;
    (filters.required_traits, filters.forbidden_traits) = parse::required(&pairs, "", request.version)?;
    if let Some(resources) = request.query.last("resources") {
        filters.resources = parse::resources(resources)?;
    }
    let found = service
        .database
        .read(|tx| providers::list(tx, &filters))
        .map_err(|error| match error {
            Domain::ResourceClassNotFound(_) => {
                Error::bad_request(format!("Invalid resource class in resources parameter: {error}"))
            }
            Domain::TraitNotFound(_) => {
                Error::bad_request(format!("Invalid trait(s) in \"required\" parameter: {error}"))
            }
            error => error.into(),
        })?;
    let modified = found.iter().map(Provider::modified_at).max();
    let views: Vec<Value> = found.iter().map(|provider| view(request, provider)).collect();
    Ok(ok(request, &json!({"resource_providers": views}), modified))
}

fn create(service: &Placement, request: &Request) -> Result<Response> {
    needs_json(request)?;
    authorize(service, request, "placement:resource_providers:create")?;
    let body = schemas::read(request, schemas::CREATE_PROVIDER.of(request.version))?;
    let uuid = match body["uuid"].as_str() {
        Some(given) => canonical(given),
        None => uuid::Uuid::new_v4().to_string(),
    };
    let name = body["name"].as_str().unwrap_or_default();
    let parent = body["parent_provider_uuid"].as_str();
    let made = service
        .database
        .write(|tx| providers::create(tx, &uuid, name, parent))
        .map_err(|error| match error {
            Domain::ProviderExists(_) => conflict(error.to_string(), DUPLICATE_NAME),
            Domain::ObjectAction { .. } => Error::bad_request(format!(
                "Unable to create resource provider \"{name}\", {uuid}: {error}"
            )),
            error => error.into(),
        })?;
    let location = request.url(&format!("/resource_providers/{uuid}"));
    let response = if request.version >= Version(1, 20) {
        ok(request, &view(request, &made), Some(made.modified_at()))
    } else {
        Response::empty(StatusCode::CREATED)
    };
    Ok(response.header("location", location))
}

/// A UUID with dashes and in lower case, as Python's `str(uuid.UUID(…))` writes it.
pub(super) fn canonical(text: &str) -> String {
    let plain = text.replace("urn:", "").replace("uuid:", "");
    let plain: String = plain.chars().filter(char::is_ascii_hexdigit).collect();
    uuid::Uuid::parse_str(&plain).map_or_else(|_| text.to_owned(), |uuid| uuid.to_string())
}

fn show(service: &Placement, request: &Request) -> Result<Response> {
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_providers:show")?;
    let provider = service.database.read(|tx| from_path(tx, request))?;
    Ok(ok(request, &view(request, &provider), Some(provider.modified_at())))
}

fn update(service: &Placement, request: &Request) -> Result<Response> {
    needs_json(request)?;
    authorize(service, request, "placement:resource_providers:update")?;
    let updated = service.database.write(|tx| {
        let provider = from_path(tx, request)?;
        let body = schemas::read(request, schemas::UPDATE_PROVIDER.of(request.version))?;
        let name = body["name"].as_str().unwrap_or_default();
        let parent = match body.get("parent_provider_uuid") {
            Some(parent) => parent.as_str().map(str::to_owned),
            None => provider.parent_uuid.clone(),
        };
        let reparent = request.version >= Version(1, 37);
        providers::update(tx, &provider, name, parent.as_deref(), reparent).map_err(|error| match error {
            Domain::ProviderExists(_) => conflict(error.to_string(), DUPLICATE_NAME),
            Domain::ObjectAction { .. } => {
                Error::bad_request(format!("Unable to save resource provider {}: {error}", provider.uuid))
            }
            error => error.into(),
        })
    })?;
    Ok(dated(
        request,
        Response::json(StatusCode::OK, &view(request, &updated)),
        Some(updated.updated_at.unwrap_or_else(now)),
    ))
}

fn delete(service: &Placement, request: &Request) -> Result<Response> {
    authorize(service, request, "placement:resource_providers:delete")?;
    let uuid = request.param("uuid");
    let deleted = service.database.write(|tx| {
        providers::get(tx, uuid)?;
        providers::delete(tx, uuid)
    });
    deleted.map_err(|error| match error {
        Domain::ProviderInUse => conflict(
            format!("Unable to delete resource provider {uuid}: {error}"),
            "placement.resource_provider.inuse",
        ),
        Domain::ProviderHasChildren => conflict(
            format!("Unable to delete parent resource provider {uuid}: It has child resource providers."),
            "placement.resource_provider.cannot_delete_parent",
        ),
        Domain::ProviderNotFound(_) => {
            Error::not_found(format!("No resource provider with uuid {uuid} found for delete"))
        }
        error => error.into(),
    })?;
    Ok(no_content())
}
