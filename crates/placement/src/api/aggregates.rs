//! `/resource_providers/{uuid}/aggregates`.

use api::{Request, Response, Result, Routes, Version};
use serde_json::{Value, json};

use super::{CONCURRENT_UPDATE, accepts_json, authorize, conflict, integer, needs_json, ok, schemas, since};
use crate::Placement;
use crate::store::{aggregates, providers};

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes
        .get("/resource_providers/{uuid}/aggregates", show)
        .put("/resource_providers/{uuid}/aggregates", replace);
}

/// From this version on the generation is checked and shown.
const WITH_GENERATION: Version = Version(1, 19);

fn view(request: &Request, found: &[String], generation: i64) -> Value {
    let mut view = json!({"aggregates": found});
    if request.version >= WITH_GENERATION {
        view["resource_provider_generation"] = json!(generation);
    }
    view
}

fn show(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 1)?;
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_providers:aggregates:list")?;
    let (provider, found) = service.database.read(|tx| {
        let provider = providers::get(tx, request.param("uuid"))?;
        let found = aggregates::of_provider(tx, &provider.uuid)?;
        Ok::<_, crate::Error>((provider, found))
    })?;
    Ok(ok(request, &view(request, &found, provider.generation), None))
}

fn replace(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 1)?;
    needs_json(request)?;
    authorize(service, request, "placement:resource_providers:aggregates:update")?;
    let (wanted, generation) = service.database.write(|tx| {
        let provider = providers::get(tx, request.param("uuid"))?;
        let body = schemas::read(request, schemas::SET_AGGREGATES.of(request.version))?;
        let counted = request.version >= WITH_GENERATION;
        if counted && integer(&body["resource_provider_generation"]) != provider.generation {
            let text = "Resource provider's generation already changed. Please update the generation and try again.";
            return Err(conflict(text, CONCURRENT_UPDATE));
        }
        let list = if counted { &body["aggregates"] } else { &body };
        let wanted: Vec<String> = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|uuid| Some(uuid.as_str()?.to_owned()))
            .collect();
        aggregates::set_of_provider(tx, &provider.uuid, &wanted)?;
        let generation = if counted {
            providers::bump(tx, &provider.uuid)?
        } else {
            provider.generation
        };
        Ok((wanted, generation))
    })?;
    Ok(ok(request, &view(request, &wanted, generation), None))
}
