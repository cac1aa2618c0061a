//! `/reshaper`: inventories move between providers together with the allocations on them.

use api::{Error, Request, Response, Result, Routes};
use serde_json::Value;

use super::allocations::all_wanted;
use super::inventories::parse;
use super::{CONCURRENT_UPDATE, INVENTORY_INUSE, authorize, conflict, integer, needs_json, no_content, schemas, since};
use crate::model::Inventory;
use crate::store::{allocations, inventories, providers};
use crate::{Error as Domain, Placement};

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes.post("/reshaper", reshape);
}

fn reshape(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 30)?;
    needs_json(request)?;
    authorize(service, request, "placement:reshaper:reshape")?;
    let body = schemas::read(request, schemas::RESHAPER.of(request.version))?;
    service.database.write(|tx| {
        let mut wanted: Vec<(String, Vec<Inventory>)> = Vec::new();
        for (uuid, one) in body["inventories"].as_object().into_iter().flatten() {
            let Some(provider) = providers::find(tx, uuid)? else {
                let missing = Domain::ProviderNotFound(uuid.clone());
                let text = format!("Resource provider {uuid} in inventories not found: {missing}");
                return Err(Error::bad_request(text).kind("placement.resource_provider.not_found"));
            };
            let given = integer(&one["resource_provider_generation"]);
            if given != provider.generation {
                let text = format!(
                    "resource provider generation conflict for provider {uuid}: actual: {}, given: {given}",
                    provider.generation
                );
                return Err(conflict(text, CONCURRENT_UPDATE));
            }
            let list: &Value = &one["inventories"];
            let inventories = list
                .as_object()
                .into_iter()
                .flatten()
                .map(|(class, one)| parse(class, one))
                .collect();
            wanted.push((uuid.clone(), inventories));
        }
        let wishes = all_wanted(tx, request.version, &body["allocations"])?;
        (|| {
            // In between, each provider has its old inventories and its new ones, so that allocations can move.
            for (uuid, new) in wanted.iter().filter(|(_, new)| !new.is_empty()) {
                let mut both: Vec<Inventory> = new.clone();
                for old in inventories::of_provider(tx, uuid)? {
                    if !new.iter().any(|one| one.resource_class == old.inventory.resource_class) {
                        both.push(old.inventory);
                    }
                }
                inventories::set(tx, uuid, &both)?;
            }
            allocations::replace(tx, &wishes)?;
            for (uuid, new) in &wanted {
                inventories::set(tx, uuid, new)?;
            }
            Ok(())
        })()
        .map_err(|error: Domain| match error {
            Domain::InventoryInUse { .. } => conflict(format!("update conflict: {error}"), INVENTORY_INUSE),
            error if error.is_invalid_inventory() => Error::conflict(format!("Unable to allocate inventory: {error}")),
            error if error.is_not_found() => Error::bad_request(format!("malformed reshaper data: {error}")),
            error => error.into(),
        })
    })?;
    Ok(no_content())
}
