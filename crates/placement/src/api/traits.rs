//! `/traits` and `/resource_providers/{uuid}/traits`.

use api::{Error, Request, Response, Result, Routes, StatusCode};
use database::now;
use serde_json::{Value, json};

use super::{
    CONCURRENT_UPDATE, accepts_json, authorize, conflict, dated, integer, needs_json, no_content, ok, schemas, since,
};
use crate::store::providers;
use crate::store::traits::{self, Filters, Trait};
use crate::{Error as Domain, Placement};

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes
        .get("/traits", list)
        .get("/traits/{name}", show)
        .put("/traits/{name}", create)
        .delete("/traits/{name}", delete)
        .get("/resource_providers/{uuid}/traits", of_provider)
        .put("/resource_providers/{uuid}/traits", set_of_provider)
        .delete("/resource_providers/{uuid}/traits", clear_of_provider);
}

fn names(found: &[Trait]) -> Vec<&str> {
    found.iter().map(|found| found.name.as_str()).collect()
}

fn modified(found: &[Trait]) -> Option<i64> {
    found.iter().map(|found| found.modified_at).max()
}

fn list(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 6)?;
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:traits:list")?;
    schemas::check_query(request, &schemas::LIST_TRAITS)?;
    let mut filters = Filters::default();
    if let Some(text) = request.query.last("name") {
        match text.split_once(':') {
            Some(("in", names)) => filters.names = Some(names.split(',').map(str::to_owned).collect()),
            Some(("startswith", prefix)) => filters.prefix = Some(prefix.to_owned()),
            Some(_) => {}
            None => {
                return Err(Error::bad_request(format!(
                    "Badly formatted name parameter. Expected name query string parameter in form: \
                     ?name=[in|startswith]:[name1,name2|prefix]. Got: \"{text}\""
                )));
            }
        }
    }
    if let Some(text) = request.query.last("associated") {
        filters.associated = Some(match text.to_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                let text = "The query parameter \"associated\" only accepts \"true\" or \"false\"";
                return Err(Error::bad_request(text));
            }
        });
    }
    let found = service.database.read(|tx| traits::list(tx, &filters))?;
    Ok(ok(request, &json!({"traits": names(&found)}), modified(&found)))
}

fn show(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 6)?;
    authorize(service, request, "placement:traits:show")?;
    let found = service.database.read(|tx| traits::get(tx, request.param("name")))?;
    Ok(dated(request, no_content(), Some(found.modified_at)))
}

fn create(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 6)?;
    authorize(service, request, "placement:traits:update")?;
    let name = request.param("name");
    if schemas::CUSTOM_TRAIT.validate(&json!(name)).is_err() {
        return Err(Error::bad_request(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix \"CUSTOM_\" \
             and use following characters: \"A\"-\"Z\", \"0\"-\"9\" and \"_\"",
        ));
    }
    let (found, new) = service.database.write(|tx| traits::ensure(tx, name))?;
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::NO_CONTENT
    };
    let response = Response::empty(status).header("location", request.url(&format!("/traits/{name}")));
    Ok(dated(request, response, Some(found.modified_at)))
}

fn delete(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 6)?;
    authorize(service, request, "placement:traits:delete")?;
    service
        .database
        .write(|tx| traits::delete(tx, request.param("name")))
        .map_err(|error| match error {
            Domain::TraitStandard(_) => Error::bad_request(error.to_string()),
            Domain::TraitInUse(_) => Error::conflict(error.to_string()),
            error => error.into(),
        })?;
    Ok(no_content())
}

fn body(found: &[Trait], generation: i64) -> Value {
    json!({"traits": names(found), "resource_provider_generation": generation})
}

fn of_provider(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 6)?;
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_providers:traits:list")?;
    let uuid = request.param("uuid");
    let (provider, found) = service.database.read(|tx| {
        let provider = providers::get(tx, uuid).map_err(|error| match error {
            Domain::ProviderNotFound(_) => {
                Error::not_found(format!("No resource provider with uuid {uuid} found: {error}"))
            }
            error => error.into(),
        })?;
        Ok::<_, Error>((provider, traits::of_provider(tx, uuid)?))
    })?;
    Ok(ok(request, &body(&found, provider.generation), modified(&found)))
}

fn set_of_provider(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 6)?;
    needs_json(request)?;
    authorize(service, request, "placement:resource_providers:traits:update")?;
    let wish = schemas::read(request, &schemas::SET_TRAITS)?;
    let uuid = request.param("uuid");
    let (found, generation) = service.database.write(|tx| {
        let provider = providers::get(tx, uuid)?;
        if integer(&wish["resource_provider_generation"]) != provider.generation {
            let text = "Resource provider's generation already changed. Please update the generation and try again.";
            return Err(conflict(text, CONCURRENT_UPDATE));
        }
        let wanted: Vec<String> = wish["traits"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect();
        let found = traits::list(
            tx,
            &Filters {
                names: Some(wanted.clone()),
                ..Filters::default()
            },
        )?;
        let missing: Vec<&str> = wanted
            .iter()
            .map(String::as_str)
            .filter(|name| !found.iter().any(|known| known.name == *name))
            .collect();
        if !missing.is_empty() {
            return Err(Error::bad_request(format!("No such trait {}", missing.join(", "))));
        }
        let grown = traits::set_of_provider(tx, uuid, &wanted)?;
        Ok((found, provider.generation + i64::from(grown)))
    })?;
    Ok(ok(
        request,
        &body(&found, generation),
        Some(modified(&found).unwrap_or_else(now)),
    ))
}

fn clear_of_provider(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 6)?;
    authorize(service, request, "placement:resource_providers:traits:delete")?;
    let uuid = request.param("uuid");
    service.database.write(|tx| {
        providers::get(tx, uuid)?;
        traits::set_of_provider(tx, uuid, &[])
    })?;
    Ok(no_content())
}
