//! `/resource_providers/{uuid}/inventories`.

use api::{Error, Request, Response, Result, Routes, StatusCode, Version};
use database::{Tx, now};
use serde_json::{Map, Value, json};

use super::{
    CONCURRENT_UPDATE, INVENTORY_INUSE, accepts_json, authorize, conflict, dated, integer, needs_json, no_content, ok,
    schemas,
};
use crate::model::Inventory;
use crate::store::inventories::{self, Stored};
use crate::store::providers::{self, Provider};
use crate::{Error as Domain, Placement};

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes
        .get("/resource_providers/{uuid}/inventories", list)
        .post("/resource_providers/{uuid}/inventories", create)
        .put("/resource_providers/{uuid}/inventories", replace)
        .delete("/resource_providers/{uuid}/inventories", delete_all)
        .get("/resource_providers/{uuid}/inventories/{resource_class}", show)
        .put("/resource_providers/{uuid}/inventories/{resource_class}", update)
        .delete("/resource_providers/{uuid}/inventories/{resource_class}", delete);
}

/// An inventory out of a validated body.
pub(super) fn parse(class: &str, body: &Value) -> Inventory {
    let mut inventory = Inventory::new(class, integer(&body["total"]));
    let take = |name: &str, field: &mut i64| {
        if let Some(value) = body.get(name) {
            *field = integer(value);
        }
    };
    take("reserved", &mut inventory.reserved);
    take("min_unit", &mut inventory.min_unit);
    take("max_unit", &mut inventory.max_unit);
    take("step_size", &mut inventory.step_size);
    if let Some(ratio) = body.get("allocation_ratio").and_then(Value::as_f64) {
        inventory.allocation_ratio = ratio;
    }
    inventory
}

fn view(inventory: &Inventory) -> Value {
    json!({
        "total": inventory.total,
        "reserved": inventory.reserved,
        "min_unit": inventory.min_unit,
        "max_unit": inventory.max_unit,
        "step_size": inventory.step_size,
        "allocation_ratio": inventory.allocation_ratio,
    })
}

/// One inventory with the provider's generation; upstream leaves a generation of 0 out.
fn single(inventory: &Inventory, generation: i64) -> Value {
    let mut view = view(inventory);
    if generation != 0 {
        view["resource_provider_generation"] = json!(generation);
    }
    view
}

fn several(inventories: &[Inventory], generation: i64) -> Value {
    let by_class: Map<String, Value> = inventories
        .iter()
        .map(|inventory| (inventory.resource_class.clone(), view(inventory)))
        .collect();
    json!({"resource_provider_generation": generation, "inventories": by_class})
}

/// Before 1.26 something must be left beside what is reserved.
fn check_capacity(version: Version, provider: &str, inventory: &Inventory) -> Result<(), String> {
    let (refused, how) = if version >= Version(1, 26) {
        (inventory.capacity() < 0, "greater than total")
    } else {
        (inventory.capacity() <= 0, "greater than or equal to total")
    };
    if refused {
        let class = &inventory.resource_class;
        return Err(format!(
            "Invalid inventory for '{class}' on resource provider '{provider}'. The reserved value is {how}."
        ));
    }
    Ok(())
}

/// The provider for a GET, whose text differs.
fn reader(tx: &mut Tx<'_>, uuid: &str) -> Result<Provider> {
    providers::find(tx, uuid)?.ok_or_else(|| {
        Error::not_found(format!(
            "No resource provider with uuid {uuid} found : No resource provider with uuid {uuid} found"
        ))
    })
}

fn list(service: &Placement, request: &Request) -> Result<Response> {
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_providers:inventories:list")?;
    let (provider, stored) = service.database.read(|tx| {
        let provider = reader(tx, request.param("uuid"))?;
        let stored = inventories::of_provider(tx, &provider.uuid)?;
        Ok::<_, Error>((provider, stored))
    })?;
    let modified = stored.iter().map(|stored| stored.modified_at).max();
    let inventories: Vec<Inventory> = stored.into_iter().map(|stored| stored.inventory).collect();
    Ok(ok(request, &several(&inventories, provider.generation), modified))
}

fn show(service: &Placement, request: &Request) -> Result<Response> {
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_providers:inventories:show")?;
    let (uuid, class) = (request.param("uuid"), request.param("resource_class"));
    let (provider, stored) = service.database.read(|tx| {
        let provider = reader(tx, uuid)?;
        let stored: Option<Stored> = inventories::find(tx, uuid, class)?;
        let missing = || Error::not_found(format!("No inventory of class {class} for {uuid}"));
        Ok::<_, Error>((provider, stored.ok_or_else(missing)?))
    })?;
    Ok(ok(
        request,
        &single(&stored.inventory, provider.generation),
        Some(stored.modified_at),
    ))
}

fn create(service: &Placement, request: &Request) -> Result<Response> {
    needs_json(request)?;
    authorize(service, request, "placement:resource_providers:inventories:create")?;
    let uuid = request.param("uuid");
    let (inventory, generation) = service.database.write(|tx| {
        providers::get(tx, uuid)?;
        let body = schemas::read(request, &schemas::CREATE_INVENTORY)?;
        let inventory = parse(body["resource_class"].as_str().unwrap_or_default(), &body);
        let refuse = |why: &dyn std::fmt::Display| {
            Error::bad_request(format!(
                "Unable to create inventory for resource provider {uuid}: {why}"
            ))
        };
        check_capacity(request.version, uuid, &inventory).map_err(|why| refuse(&why))?;
        if inventories::find(tx, uuid, &inventory.resource_class)?.is_some() {
            let text = format!(
                "Update conflict: the resource provider has an inventory of class {}",
                inventory.resource_class
            );
            return Err(conflict(text, CONCURRENT_UPDATE));
        }
        let generation = inventories::add(tx, uuid, &inventory).map_err(|error| match error {
            error if error.is_not_found() => refuse(&error),
            error => error.into(),
        })?;
        Ok::<_, Error>((inventory, generation))
    })?;
    let location = request.url(&format!(
        "/resource_providers/{uuid}/inventories/{}",
        inventory.resource_class
    ));
    let response = Response::json(StatusCode::CREATED, &single(&inventory, generation));
    Ok(dated(request, response, Some(now())).header("location", location))
}

fn update(service: &Placement, request: &Request) -> Result<Response> {
    needs_json(request)?;
    authorize(service, request, "placement:resource_providers:inventories:update")?;
    let (uuid, class) = (request.param("uuid"), request.param("resource_class"));
    let (inventory, generation) = service.database.write(|tx| {
        let provider = providers::get(tx, uuid)?;
        let body = schemas::read(request, &schemas::UPDATE_INVENTORY)?;
        if integer(&body["resource_provider_generation"]) != provider.generation {
            return Err(conflict("resource provider generation conflict", CONCURRENT_UPDATE));
        }
        let inventory = parse(class, &body);
        check_capacity(request.version, uuid, &inventory).map_err(|why| {
            Error::bad_request(format!(
                "Unable to update inventory for resource provider {uuid}: {why}"
            ))
        })?;
        let generation = inventories::update(tx, uuid, &inventory).map_err(|error| match error {
            Domain::InventoryNotFound(_) => Error::bad_request(format!(
                "No inventory record with resource class for resource provider {uuid}: {error}"
            )),
            error => error.into(),
        })?;
        Ok::<_, Error>((inventory, generation))
    })?;
    Ok(ok(request, &single(&inventory, generation), Some(now())))
}

fn replace(service: &Placement, request: &Request) -> Result<Response> {
    needs_json(request)?;
    authorize(service, request, "placement:resource_providers:inventories:update")?;
    let uuid = request.param("uuid");
    let (inventories, generation) = service.database.write(|tx| {
        let provider = providers::get(tx, uuid)?;
        let body = schemas::read(request, &schemas::SET_INVENTORIES)?;
        if integer(&body["resource_provider_generation"]) != provider.generation {
            return Err(conflict("resource provider generation conflict", CONCURRENT_UPDATE));
        }
        let wanted = body["inventories"].as_object().into_iter().flatten();
        let inventories: Vec<Inventory> = wanted.map(|(class, one)| parse(class, one)).collect();
        for inventory in &inventories {
            check_capacity(request.version, uuid, inventory).map_err(|why| {
                Error::bad_request(format!(
                    "Unable to update inventory for resource provider {uuid}: {why}"
                ))
            })?;
        }
        let generation = inventories::set(tx, uuid, &inventories).map_err(|error| match error {
            Domain::ResourceClassNotFound(_) => Error::bad_request(format!(
                "Unknown resource class in inventory for resource provider {uuid}: {error}"
            )),
            Domain::InventoryInUse { .. } => conflict(format!("update conflict: {error}"), INVENTORY_INUSE),
            error => error.into(),
        })?;
        Ok::<_, Error>((inventories, generation))
    })?;
    Ok(ok(request, &several(&inventories, generation), Some(now())))
}

fn delete(service: &Placement, request: &Request) -> Result<Response> {
    authorize(service, request, "placement:resource_providers:inventories:delete")?;
    let (uuid, class) = (request.param("uuid"), request.param("resource_class"));
    service.database.write(|tx| {
        providers::get(tx, uuid)?;
        inventories::delete(tx, uuid, class).map_err(|error| match error {
            Domain::InventoryInUse { .. } => conflict(
                format!("Unable to delete inventory of class {class}: {error}"),
                CONCURRENT_UPDATE,
            ),
            error if error.is_not_found() => {
                Error::not_found(format!("No inventory of class {class} found for delete: {error}"))
            }
            error => error.into(),
        })
    })?;
    Ok(no_content())
}

fn delete_all(service: &Placement, request: &Request) -> Result<Response> {
    if request.version < Version(1, 5) {
        return Err(Error::method_not_allowed(""));
    }
    authorize(service, request, "placement:resource_providers:inventories:delete")?;
    let uuid = request.param("uuid");
    service.database.write(|tx| {
        providers::get(tx, uuid)?;
        inventories::set(tx, uuid, &[]).map_err(|error| match error {
            Domain::InventoryInUse { .. } => conflict(error.to_string(), INVENTORY_INUSE),
            error => error.into(),
        })
    })?;
    Ok(no_content())
}
