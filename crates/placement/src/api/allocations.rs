//! `/allocations` and `/resource_providers/{uuid}/allocations`.

use api::schema::is_uuid_like;
use api::{Error, Request, Response, Result, Routes, Version};
use database::Tx;
use serde_json::{Map, Value, json};

use super::providers::canonical;
use super::{
    CONCURRENT_UPDATE, accepts_json, authorize, conflict, integer, needs_json, no_content, ok, schemas, since,
};
use crate::store::allocations::{self, Allocation, Consumer, Wanted};
use crate::store::providers;
use crate::{Error as Domain, Placement};

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes
        .post("/allocations", manage)
        .get("/allocations/{consumer_uuid}", of_consumer)
        .put("/allocations/{consumer_uuid}", replace)
        .delete("/allocations/{consumer_uuid}", delete)
        .get("/resource_providers/{uuid}/allocations", of_provider);
}

/// Project and user of consumers that were made before 1.8 without saying whose they are.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

fn of_consumer(service: &Placement, request: &Request) -> Result<Response> {
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:allocations:list")?;
    let uuid = request.param("consumer_uuid");
    let (held, consumer, generations) = service.database.read(|tx| {
        let held = allocations::of_consumer(tx, uuid)?;
        let mut generations: Vec<(String, i64)> = Vec::new();
        for allocation in &held {
            if !generations.iter().any(|(uuid, _)| *uuid == allocation.provider_uuid) {
                let generation = providers::get(tx, &allocation.provider_uuid)?.generation;
                generations.push((allocation.provider_uuid.clone(), generation));
            }
        }
        Ok::<_, Domain>((held, allocations::consumer(tx, uuid)?, generations))
    })?;
    let mut by_provider = Map::new();
    for (uuid, generation) in generations {
        let resources: Map<String, Value> = held
            .iter()
            .filter(|allocation| allocation.provider_uuid == uuid)
            .map(|allocation| (allocation.resource_class.clone(), json!(allocation.used)))
            .collect();
        by_provider.insert(uuid, json!({"resources": resources, "generation": generation}));
    }
    let mut view = json!({"allocations": by_provider});
    if let Some(consumer) = consumer.filter(|_| !held.is_empty() && request.version >= Version(1, 12)) {
        describe(request.version, &consumer, &mut view);
    }
    Ok(ok(request, &view, newest(&held)))
}

fn describe(version: Version, consumer: &Consumer, view: &mut Value) {
    view["project_id"] = json!(consumer.project_id);
    view["user_id"] = json!(consumer.user_id);
    if version >= Version(1, 28) {
        view["consumer_generation"] = json!(consumer.generation);
    }
    if version >= Version(1, 38) {
        view["consumer_type"] = json!(consumer.consumer_type.as_deref().unwrap_or("unknown"));
    }
}

fn newest(held: &[Allocation]) -> Option<i64> {
    held.iter().map(|allocation| allocation.created_at).max()
}

fn of_provider(service: &Placement, request: &Request) -> Result<Response> {
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_providers:allocations:list")?;
    let uuid = request.param("uuid");
    let (provider, held) = service.database.read(|tx| {
        let provider = providers::get(tx, uuid).map_err(|error| match error {
            Domain::ProviderNotFound(_) => Error::not_found(format!("Resource provider '{uuid}' not found: {error}")),
            error => error.into(),
        })?;
        Ok::<_, Error>((provider, allocations::of_provider(tx, uuid)?))
    })?;
    let modified = held.iter().map(|(allocation, _)| allocation.created_at).max();
    let mut by_consumer = Map::new();
    for (allocation, generation) in held {
        let entry = by_consumer
            .entry(allocation.consumer_uuid)
            .or_insert_with(|| json!({"resources": {}}));
        entry["resources"][allocation.resource_class] = json!(allocation.used);
        if request.version >= Version(1, 28) {
            entry["consumer_generation"] = json!(generation);
        }
    }
    let view = json!({"allocations": by_consumer, "resource_provider_generation": provider.generation});
    Ok(ok(request, &view, modified))
}

/// What a body wants one consumer to hold. The older form has a list of providers, the newer an object.
pub(super) fn wanted(tx: &mut Tx<'_>, version: Version, consumer_uuid: &str, body: &Value) -> Result<Wanted> {
    let consumer = allocations::consumer(tx, consumer_uuid)?;
    if version >= Version(1, 28) {
        check_generation(consumer.as_ref(), &body["consumer_generation"])?;
    }
    let mut amounts = Vec::new();
    let mut add = |provider: &str, resources: &Value| {
        for (class, amount) in resources.as_object().into_iter().flatten() {
            amounts.push((provider.to_owned(), class.clone(), integer(amount)));
        }
    };
    match &body["allocations"] {
        Value::Array(list) => {
            for item in list {
                add(
                    item["resource_provider"]["uuid"].as_str().unwrap_or_default(),
                    &item["resources"],
                );
            }
        }
        Value::Object(map) => {
            for (provider, item) in map {
                add(provider, &item["resources"]);
            }
        }
        _ => {}
    }
    for (provider, _, _) in &amounts {
        if providers::find(tx, provider)?.is_none() {
            return Err(Error::bad_request(format!(
                "Allocation for resource provider '{provider}' that does not exist."
            )));
        }
    }
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    Ok(Wanted {
        consumer_uuid: consumer_uuid.to_owned(),
        project_id: text("project_id").unwrap_or_else(|| NOBODY.to_owned()),
        user_id: text("user_id").unwrap_or_else(|| NOBODY.to_owned()),
        consumer_type: text("consumer_type"),
        amounts,
    })
}

fn check_generation(consumer: Option<&Consumer>, given: &Value) -> Result<()> {
    let expected = consumer.map(|consumer| consumer.generation);
    let given = if given.is_null() { None } else { Some(integer(given)) };
    if expected == given {
        return Ok(());
    }
    let expected = expected.map_or("null".to_owned(), |generation| generation.to_string());
    let given = given.map_or("None".to_owned(), |generation| generation.to_string());
    let text = format!("consumer generation conflict - expected {expected} but got {given}");
    Err(conflict(text, CONCURRENT_UPDATE))
}

/// Why allocations could not be written.
fn refused(error: Domain, unknown: impl FnOnce(&Domain) -> String) -> Error {
    match error {
        error if error.is_not_found() => Error::bad_request(unknown(&error)),
        error if error.is_invalid_inventory() => Error::conflict(format!("Unable to allocate inventory: {error}")),
        error => error.into(),
    }
}

fn replace(service: &Placement, request: &Request) -> Result<Response> {
    needs_json(request)?;
    authorize(service, request, "placement:allocations:update")?;
    let given = request.param("consumer_uuid");
    if !is_uuid_like(given) {
        return Err(Error::bad_request(format!("Malformed consumer_uuid: {given}")));
    }
    let uuid = canonical(given);
    let body = schemas::read(request, schemas::SET_ALLOCATIONS.of(request.version))?;
    service.database.write(|tx| {
        let wanted = wanted(tx, request.version, &uuid, &body)?;
        allocations::replace(tx, &[wanted]).map_err(|error| {
            refused(error, |error| {
                format!("Unable to allocate inventory for consumer {uuid}: {error}")
            })
        })
    })?;
    Ok(no_content())
}

fn manage(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 13)?;
    needs_json(request)?;
    authorize(service, request, "placement:allocations:manage")?;
    let body = schemas::read(request, schemas::MANAGE_ALLOCATIONS.of(request.version))?;
    service.database.write(|tx| {
        let wishes = all_wanted(tx, request.version, &body)?;
        allocations::replace(tx, &wishes)
            .map_err(|error| refused(error, |error| format!("Unable to allocate inventory {error}")))
    })?;
    Ok(no_content())
}

/// What a body with several consumers wants.
pub(super) fn all_wanted(tx: &mut Tx<'_>, version: Version, body: &Value) -> Result<Vec<Wanted>> {
    let consumers = body.as_object().into_iter().flatten();
    consumers.map(|(uuid, one)| wanted(tx, version, uuid, one)).collect()
}

fn delete(service: &Placement, request: &Request) -> Result<Response> {
    authorize(service, request, "placement:allocations:delete")?;
    let uuid = request.param("consumer_uuid");
    if service.database.write(|tx| allocations::delete(tx, uuid))? {
        Ok(no_content())
    } else {
        Err(Error::not_found(format!("No allocations for consumer '{uuid}'")))
    }
}
