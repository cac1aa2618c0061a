//! `/resource_providers/{uuid}/usages` and `/usages`.

use api::{Error, Request, Response, Result, Routes, Version};
use serde_json::{Map, Value, json};

use super::{accepts_json, authorize, authorize_for, ok, schemas, since};
use crate::store::providers;
use crate::store::usages::{self, Filters};
use crate::{Error as Domain, Placement};

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes
        .get("/resource_providers/{uuid}/usages", of_provider)
        .get("/usages", of_project);
}

fn of_provider(service: &Placement, request: &Request) -> Result<Response> {
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:resource_providers:usages")?;
    let uuid = request.param("uuid");
    let (provider, found) = service.database.read(|tx| {
        let provider = providers::get(tx, uuid).map_err(|error| match error {
            Domain::ProviderNotFound(_) => {
                Error::not_found(format!("No resource provider with uuid {uuid} found: {error}"))
            }
            error => error.into(),
        })?;
        Ok::<_, Error>((provider, usages::of_provider(tx, uuid)?))
    })?;
    let by_class: Map<String, Value> = found.into_iter().map(|(class, used)| (class, json!(used))).collect();
    Ok(ok(
        request,
        &json!({"resource_provider_generation": provider.generation, "usages": by_class}),
        None,
    ))
}

fn of_project(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 9)?;
    accepts_json(&request.headers)?;
    let project = request.query.last("project_id");
    authorize_for(service, request, "placement:usages", &[("project_id", project)])?;
    schemas::check_query(request, schemas::USAGES.of(request.version))?;
    let by_type = request.version >= Version(1, 38);
    let kind = request.query.last("consumer_type").filter(|_| by_type);
    let filters = Filters {
        project_id: project.unwrap_or_default(),
        user_id: request.query.last("user_id"),
        consumer_type: match kind {
            None | Some("all") => None,
            Some("unknown") => Some(None),
            Some(name) => Some(Some(name)),
        },
    };
    let merged = matches!(kind, Some("all" | "unknown"));
    let (found, counts) = service.database.read(|tx| {
        let found = usages::of_project(tx, &filters, by_type && !merged)?;
        let counts = if by_type {
            usages::consumers_of_project(tx, &filters)?
        } else {
            Vec::new()
        };
        Ok::<_, Domain>((found, counts))
    })?;
    let mut view = Map::new();
    for usage in found {
        if !by_type {
            view.insert(usage.resource_class, json!(usage.used));
            continue;
        }
        let count: i64 = counts
            .iter()
            .filter(|(name, _)| merged || *name == usage.consumer_type)
            .map(|(_, count)| count)
            .sum();
        let name = if merged { kind } else { usage.consumer_type.as_deref() }.unwrap_or("unknown");
        let entry = view.entry(name.to_owned()).or_insert_with(|| json!({}));
        entry[usage.resource_class] = json!(usage.used);
        entry["consumer_count"] = json!(count);
    }
    Ok(ok(request, &json!({"usages": view}), None))
}
