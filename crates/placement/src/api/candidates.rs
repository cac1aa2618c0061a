//! `/allocation_candidates`.

use api::{Error, Request, Response, Result, Routes, Version};
use serde_json::{Map, Value, json};

use super::{accepts_json, authorize, ok, schemas, since};
use crate::model::candidates::{self, Candidate, Cloud, Node};
use crate::model::request::{self, Group};
use crate::store::snapshot;
use crate::{Error as Domain, Placement};

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes.get("/allocation_candidates", list);
}

fn list(service: &Placement, request: &Request) -> Result<Response> {
    since(request, 10)?;
    accepts_json(&request.headers)?;
    authorize(service, request, "placement:allocation_candidates:list")?;
    schemas::check_query(request, schemas::CANDIDATES.of(request.version))?;
    let pairs: Vec<(&str, &str)> = request.query.iter().collect();
    let (groups, wide) = request::parse(&pairs, request.version)?;
    let cloud = service.database.read(snapshot::read)?;
    let nested = request.version >= Version(1, 29);
    let found = candidates::search(&cloud, &groups, &wide, nested).map_err(|error| match error {
        Domain::ResourceClassNotFound(_) => {
            Error::bad_request(format!("Invalid resource class in resources parameter: {error}"))
        }
        Domain::TraitNotFound(_) => Error::bad_request(error.to_string()),
        error => error.into(),
    })?;
    let requests: Vec<Value> = found
        .candidates
        .iter()
        .map(|candidate| view(request.version, &cloud, candidate))
        .collect();
    let summaries: Map<String, Value> = found
        .summaries
        .iter()
        .map(|&at| {
            (
                cloud.nodes[at].uuid.clone(),
                summary(request.version, &cloud, &cloud.nodes[at], &groups),
            )
        })
        .collect();
    Ok(ok(
        request,
        &json!({"allocation_requests": requests, "provider_summaries": summaries}),
        None,
    ))
}

/// A candidate in the form in which it can be sent back as allocations.
fn view(version: Version, cloud: &Cloud, candidate: &Candidate) -> Value {
    let mut resources: Map<String, Value> = Map::new();
    for piece in &candidate.pieces {
        let entry = resources
            .entry(cloud.nodes[piece.provider].uuid.clone())
            .or_insert_with(|| json!({}));
        entry[piece.class.as_str()] = json!(piece.amount);
    }
    if version < Version(1, 12) {
        let list: Vec<Value> = resources
            .into_iter()
            .map(|(uuid, resources)| json!({"resource_provider": {"uuid": uuid}, "resources": resources}))
            .collect();
        return json!({"allocations": list});
    }
    let allocations: Map<String, Value> = resources
        .into_iter()
        .map(|(uuid, resources)| (uuid, json!({"resources": resources})))
        .collect();
    let mut view = json!({"allocations": allocations});
    if version >= Version(1, 34) {
        let mappings: Map<String, Value> = candidate
            .mappings
            .iter()
            .map(|(suffix, providers)| {
                let uuids: Vec<&str> = providers.iter().map(|&at| cloud.nodes[at].uuid.as_str()).collect();
                (suffix.clone(), json!(uuids))
            })
            .collect();
        view["mappings"] = Value::Object(mappings);
    }
    view
}

fn summary(version: Version, cloud: &Cloud, node: &Node, groups: &[(String, Group)]) -> Value {
    let asked = |class: &str| {
        groups
            .iter()
            .any(|(_, group)| group.resources.iter().any(|(name, _)| name == class))
    };
    let resources: Map<String, Value> = node
        .inventories
        .iter()
        .filter(|room| version >= Version(1, 27) || asked(&room.inventory.resource_class))
        .map(|room| {
            let view = json!({"capacity": room.inventory.capacity(), "used": room.used});
            (room.inventory.resource_class.clone(), view)
        })
        .collect();
    let mut view = json!({"resources": resources});
    if version >= Version(1, 17) {
        view["traits"] = json!(node.traits);
    }
    if version >= Version(1, 29) {
        view["parent_provider_uuid"] = json!(node.parent.map(|at| &cloud.nodes[at].uuid));
        view["root_provider_uuid"] = json!(cloud.nodes[node.root].uuid);
    }
    view
}
