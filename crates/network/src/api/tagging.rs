//! `…/tags` of every resource that has them.

use super::{access, body};
use crate::api_prelude::*;
use crate::store::tags;
use ::api::{Request, Response, Routes, StatusCode};

const MOST: usize = 50;

/// Adds the tag routes of a resource; the paths are given whole, since routes are known by them.
pub fn mount(routes: &mut Routes<crate::Network>, resource: &'static Resource, list: &'static str, one: &'static str) {
    routes.get(list, move |net: &crate::Network, request: &Request| {
        net.read(request, |cx| {
            let item = target(cx, resource, request)?;
            allowed(cx, "get", &item)?;
            Ok::<_, Error>(Response::json(StatusCode::OK, &json!({"tags": tags::of(cx, item.id())?})))
        })
    });
    routes.put(list, move |net: &crate::Network, request: &Request| set(net, resource, request, true));
    routes.post(list, move |net: &crate::Network, request: &Request| set(net, resource, request, false));
    routes.delete(list, move |net: &crate::Network, request: &Request| {
        net.write(request, |cx| {
            let item = target(cx, resource, request)?;
            allowed(cx, "delete", &item)?;
            tags::forget(cx, item.id())?;
            item::bump(cx, resource, item.id())?;
            Ok::<_, Error>(Response::empty(StatusCode::NO_CONTENT))
        })
    });
    routes.get(one, move |net: &crate::Network, request: &Request| {
        let tag = tag_of(request)?;
        net.read(request, |cx| {
            let item = target(cx, resource, request)?;
            allowed(cx, "get", &item)?;
            if !tags::of(cx, item.id())?.contains(&tag) {
                return Err(Error::TagNotFound { tag: tag.clone() });
            }
            Ok(Response::empty(StatusCode::NO_CONTENT))
        })
    });
    routes.put(one, move |net: &crate::Network, request: &Request| {
        let tag = tag_of(request)?;
        net.write(request, |cx| {
            let item = target(cx, resource, request)?;
            allowed(cx, "update", &item)?;
            let mut now = tags::of(cx, item.id())?;
            if !now.contains(&tag) {
                now.push(tag.clone());
                few_enough(resource, now.len())?;
                tags::add(cx, resource.name, item.id(), &tag)?;
                item::bump(cx, resource, item.id())?;
            }
            Ok::<_, Error>(Response::empty(StatusCode::CREATED))
        })
    });
    routes.delete(one, move |net: &crate::Network, request: &Request| {
        let tag = tag_of(request)?;
        net.write(request, |cx| {
            let item = target(cx, resource, request)?;
            allowed(cx, "delete", &item)?;
            if !tags::remove(cx, item.id(), &tag)? {
                return Err(Error::TagNotFound { tag: tag.clone() });
            }
            item::bump(cx, resource, item.id())?;
            Ok(Response::empty(StatusCode::NO_CONTENT))
        })
    });
}

fn target(cx: &mut Cx<'_, '_>, resource: &'static Resource, request: &Request) -> Result<Item> {
    let id = request.param("id");
    item::find(cx, resource, id)?.ok_or_else(|| Error::TagResourceNotFound { resource: resource.collection.into(), id: id.into() })
}

fn allowed(cx: &mut Cx<'_, '_>, action: &str, item: &Item) -> Result<()> {
    access::require_on(cx, &format!("{action}_{}:tags", item.resource.name), item)
}

fn tag_of(request: &Request) -> Result<String> {
    let tag = request.param("tag").to_string();
    match check::text(&json!(tag), 255)? {
        Some(problem) => Err(Error::input(problem)),
        None => Ok(tag),
    }
}

fn few_enough(resource: &Resource, count: usize) -> Result<()> {
    if count > MOST {
        return Err(Error::request(resource.collection, format!("The number of tags exceed the per-resource limit of {MOST}")));
    }
    Ok(())
}

/// PUT replaces all tags, POST adds some.
fn set(net: &crate::Network, resource: &'static Resource, request: &Request, replace: bool) -> Result<Response> {
    let given = body::object(request)?;
    let Some(list) = given.get("tags") else { return Err(Error::input("Invalid tags body")) };
    if let Some(problem) = check::tags(list)? {
        return Err(Error::input(problem));
    }
    let wanted: Vec<String> = list.as_array().into_iter().flatten().map(show).collect();
    net.write(request, |cx| {
        let item = target(cx, resource, request)?;
        allowed(cx, if replace { "update" } else { "create" }, &item)?;
        few_enough(resource, wanted.len())?;
        let had = tags::of(cx, item.id())?;
        let mut changed = false;
        if replace {
            for tag in had.iter().filter(|t| !wanted.contains(t)) {
                changed |= tags::remove(cx, item.id(), tag)?;
            }
        }
        for tag in wanted.iter().filter(|t| !had.contains(t)) {
            tags::add(cx, resource.name, item.id(), tag)?;
            changed = true;
        }
        if changed {
            item::bump(cx, resource, item.id())?;
        }
        Ok(Response::json(StatusCode::OK, &json!({"tags": wanted})))
    })
}
