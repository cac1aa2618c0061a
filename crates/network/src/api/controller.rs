//! The five operations that every resource has, driven by its table.

use super::{access, body, list};
use crate::caller::{Caller, Cx};
use crate::model::attribute::Resource;
use crate::store::{item, quotas};
use crate::{Error, Network, Result};
use api::{Request, Response, Routes, StatusCode};
use std::collections::BTreeMap;

/// A path, and the same with `-` for `_` or the other way round: upstream knows both.
pub fn spellings(path: &'static str) -> Vec<&'static str> {
    let other = if path.contains('_') { path.replace('_', "-") } else { path.replace('-', "_") };
    if other == path { vec![path] } else { vec![path, Box::leak(other.into_boxed_str())] }
}

/// Adds the routes of a resource.
pub fn mount(routes: &mut Routes<Network>, resource: &'static Resource) {
    for (path, item_path) in spellings(resource.path).into_iter().zip(spellings(resource.item_path)) {
        mount_at(routes, resource, path, item_path);
    }
}

fn mount_at(routes: &mut Routes<Network>, resource: &'static Resource, path: &'static str, item_path: &'static str) {
    routes.get(path, move |net: &Network, request: &Request| {
        (resource.prepare)(net, request)?;
        net.read(request, |cx| list::list(cx, resource, request))
    });
    routes.get(item_path, move |net: &Network, request: &Request| {
        net.read(request, |cx| show(cx, resource, request))
    });
    if resource.create.is_some() {
        routes.post(path, move |net: &Network, request: &Request| create(net, resource, request));
    }
    if resource.update.is_some() {
        routes.put(item_path, move |net: &Network, request: &Request| update(net, resource, request));
    }
    if resource.delete.is_some() {
        routes.delete(item_path, move |net: &Network, request: &Request| delete(net, resource, request));
    }
}

/// GET of one.
pub fn show(cx: &mut Cx<'_, '_>, resource: &'static Resource, request: &Request) -> Result<Response> {
    let found = item::get(cx, resource, request.param("id"))?;
    if !access::Parents::default().allows(cx, &format!("get_{}", resource.name), &found)? {
        return Err(Error::hidden());
    }
    list::single(cx, &found, request, StatusCode::OK)
}

/// POST, of one or several.
pub fn create(net: &Network, resource: &'static Resource, request: &Request) -> Result<Response> {
    let caller = Caller::new(request.context().clone());
    let bodies = body::create(resource, &caller, request)?;
    let Some(make) = resource.create else { return Err(Error::hidden()) };
    net.write(request, |cx| {
        if resource.name == "security_group_rule" && bodies.bulk {
            super::security_groups::one_group_at_a_time(&bodies.items)?;
        }
        if let Some(quota) = resource.quota {
            let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
            for body in &bodies.items {
                *counts.entry(item::text(body, "project_id")).or_default() += 1;
            }
            for (project, count) in counts {
                quotas::take(cx, project, quota, count)?;
            }
        }
        let mut created = Vec::with_capacity(bodies.items.len());
        for body in &bodies.items {
            access::create(cx, resource, body)?;
        }
        for body in &bodies.items {
            let id = make(cx, body.clone())?;
            created.push(item::get_any(cx, resource, &id)?);
        }
        match created.first() {
            Some(one) if !bodies.bulk => list::single(cx, one, request, StatusCode::CREATED),
            _ => list::several(cx, resource, &created),
        }
    })
}

/// PUT.
pub fn update(net: &Network, resource: &'static Resource, request: &Request) -> Result<Response> {
    let caller = Caller::new(request.context().clone());
    let Some(change) = resource.update else { return Err(Error::hidden()) };
    let given = body::update(resource, &caller, request);
    let expected = body::expected_revision(request)?;
    // A body that is no good is told before anything else, but for a resource that is not there.
    let changes = match given {
        Ok(changes) => changes,
        Err(refusal) => return Err(refusal),
    };
    net.write(request, |cx| {
        let old = item::get(cx, resource, request.param("id"))?;
        access::update(cx, &old, &changes)?;
        expect_revision(&old, expected)?;
        change(cx, &old, changes.clone())?;
        let new = item::get(cx, resource, old.id())?;
        list::single(cx, &new, request, StatusCode::OK)
    })
}

/// DELETE.
pub fn delete(net: &Network, resource: &'static Resource, request: &Request) -> Result<Response> {
    let Some(remove) = resource.delete else { return Err(Error::hidden()) };
    let expected = body::expected_revision(request)?;
    net.write(request, |cx| {
        let old = item::get(cx, resource, request.param("id"))?;
        access::require_on(cx, &format!("delete_{}", resource.name), &old)?;
        if !request.body.is_empty() {
            return Err(Error::bad("Request body is not supported in DELETE."));
        }
        expect_revision(&old, expected)?;
        remove(cx, &old)?;
        Ok(Response::empty(StatusCode::NO_CONTENT))
    })
}

fn expect_revision(item: &item::Item, expected: Option<i64>) -> Result<()> {
    match expected {
        Some(expected) if item.int("revision_number") != expected => Err(Error::RevisionNumberConstraintFailed {
            expected: expected.to_string(),
            current: item.int("revision_number").to_string(),
        }),
        _ => Ok(()),
    }
}

/// Creates a resource for the cloud itself or another service, through the checks and the code of the API.
pub fn create_internal(cx: &mut Cx<'_, '_>, resource: &'static Resource, given: serde_json::Value) -> Result<item::Item> {
    let body = body::internal(resource, &cx.caller, given)?;
    if let Some(quota) = resource.quota {
        quotas::take(cx, item::text(&body, "project_id"), quota, 1)?;
    }
    let Some(make) = resource.create else { return Err(Error::hidden()) };
    let id = make(cx, body)?;
    item::get_any(cx, resource, &id)
}
