//! Resources that live below another one's path, with its owner's rights: `/v2.0/floatingips/{parent}/port_forwardings`, …

use super::controller::spellings;
use super::{access, body, list};
use crate::Network;
use crate::api_prelude::*;
use crate::caller::Caller;
use ::api::{Request, Response, Routes, StatusCode};

/// A kind of resource below another.
pub struct Child {
    /// Itself; its paths begin with the parent's and `{parent}`.
    pub resource: Resource,
    /// What it is below of.
    pub parent: &'static Resource,
    /// The column of the parent's id.
    pub column: &'static str,
    /// What comes after the verb in its rules.
    pub rule: &'static str,
    /// POST; returns the key.
    pub create: fn(&mut Cx<'_, '_>, &Item, Body) -> Result<String>,
    /// PUT.
    pub update: Option<fn(&mut Cx<'_, '_>, &Item, &Item, Body) -> Result<()>>,
    /// DELETE.
    pub delete: fn(&mut Cx<'_, '_>, &Item, &Item) -> Result<()>,
}

/// Adds the routes.
pub fn mount(routes: &mut Routes<Network>, child: &'static Child) {
    let paths = spellings(child.resource.path).into_iter().zip(spellings(child.resource.item_path));
    for (path, item_path) in paths {
        mount_at(routes, child, path, item_path);
    }
}

fn mount_at(routes: &mut Routes<Network>, child: &'static Child, path: &'static str, item_path: &'static str) {
    routes.get(path, move |n: &Network, r: &Request| index(n, child, r));
    routes.post(path, move |n: &Network, r: &Request| create(n, child, r));
    routes.get(item_path, move |n: &Network, r: &Request| show_one(n, child, r));
    if child.update.is_some() {
        routes.put(item_path, move |n: &Network, r: &Request| update(n, child, r));
    }
    routes.delete(item_path, move |n: &Network, r: &Request| delete(n, child, r));
}

/// The parent, if the caller may do this below it.
fn parent(cx: &mut Cx<'_, '_>, child: &Child, request: &Request, action: &str) -> Result<Item> {
    let parent = item::get(cx, child.parent, request.param("parent"))?;
    let owner = parent.text("project_id").to_string();
    let target = [("ext_parent:project_id", owner.clone()), ("project_id", owner)];
    let asked = access::require(cx, &format!("{action}_{}", child.rule), &target);
    match asked {
        Err(refusal) if action != "create" => {
            let seen = access::require(cx, &format!("get_{}", child.rule), &target).is_ok();
            Err(if seen { refusal } else { Error::hidden() })
        }
        other => other.map(|()| parent),
    }
}

/// All below one parent.
pub fn of(cx: &mut Cx<'_, '_>, child: &'static Child, parent: &str) -> Result<Vec<Item>> {
    item::all_with(cx, &child.resource, &format!("t.{} = ?", child.column), &params![parent])
}

fn find(cx: &mut Cx<'_, '_>, child: &'static Child, parent: &Item, id: &str) -> Result<Item> {
    let condition = format!("t.{} = ? AND t.{} = ?", child.resource.key, child.column);
    let found = item::all_with(cx, &child.resource, &condition, &params![id, parent.id()])?.pop();
    found.ok_or_else(|| (child.resource.not_found)(id))
}

fn index(net: &Network, child: &'static Child, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        let parent = parent(cx, child, request, "get")?;
        let found = of(cx, child, parent.id())?;
        list::list_of(cx, &child.resource, request, found)
    })
}

fn show_one(net: &Network, child: &'static Child, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        let parent = parent(cx, child, request, "get")?;
        let found = find(cx, child, &parent, request.param("id"))?;
        list::single(cx, &found, request, StatusCode::OK)
    })
}

fn create(net: &Network, child: &'static Child, request: &Request) -> Result<Response> {
    let caller = Caller::new(request.context().clone());
    let bodies = body::create(&child.resource, &caller, request)?;
    net.write(request, |cx| {
        let parent = parent(cx, child, request, "create")?;
        let mut created = Vec::with_capacity(bodies.items.len());
        for body in &bodies.items {
            let id = (child.create)(cx, &parent, body.clone())?;
            created.push(find(cx, child, &parent, &id)?);
        }
        match created.first() {
            Some(one) if !bodies.bulk => list::single(cx, one, request, StatusCode::CREATED),
            _ => list::several(cx, &child.resource, &created),
        }
    })
}

fn update(net: &Network, child: &'static Child, request: &Request) -> Result<Response> {
    let Some(change) = child.update else { return Err(Error::hidden()) };
    let caller = Caller::new(request.context().clone());
    let given = body::update(&child.resource, &caller, request)?;
    net.write(request, |cx| {
        let parent = parent(cx, child, request, "update")?;
        let old = find(cx, child, &parent, request.param("id"))?;
        change(cx, &parent, &old, given.clone())?;
        let new = find(cx, child, &parent, old.id())?;
        list::single(cx, &new, request, StatusCode::OK)
    })
}

fn delete(net: &Network, child: &'static Child, request: &Request) -> Result<Response> {
    net.write(request, |cx| {
        let parent = parent(cx, child, request, "delete")?;
        let old = find(cx, child, &parent, request.param("id"))?;
        (child.delete)(cx, &parent, &old)?;
        Ok(Response::empty(StatusCode::NO_CONTENT))
    })
}
