//! `/v2.0/flavors` and `/v2.0/service_profiles`

use super::networks::rows_for;
use super::{access, body};
use crate::api_prelude::*;
use crate::attributes;
use ::api::{Request, Response, Routes, StatusCode};
use std::collections::HashMap;

/// Flavors of services.
pub static FLAVOR: Resource = Resource {
    table: "service_flavors",
    sight: Sight::Everyone,
    standard: false,
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    extend,
    ..Resource::base("flavor", "flavors", "/v2.0/flavors", "/v2.0/flavors/{id}", FLAVORS, |id| Error::FlavorNotFound { id: id.into() })
};

/// Profiles that flavors are made of.
pub static SERVICE_PROFILE: Resource = Resource {
    sight: Sight::Everyone,
    standard: false,
    create: Some(create_profile),
    update: Some(update_profile),
    delete: Some(delete_profile),
    ..Resource::base("service_profile", "service_profiles", "/v2.0/service_profiles", "/v2.0/service_profiles/{id}", PROFILES, |id| Error::ServiceProfileNotFound { id: id.into() })
};

const FLAVORS: &[Attribute] = attributes![plain;
    ID, NAME,
    a("description", "CUVFS").or(Initial::Text("")).is(Check::TextOrNone(1024)).text(),
    a("service_type", "CVFS").is(Check::Rule(service_type)).text(),
    a("service_profiles", "CUV").or(Initial::List).is(Check::Rule(check::uuids)),
    a("enabled", "CUVFS").or(Initial::Bool(true)).to(convert::boolean_or_none).bool(),
];

const PROFILES: &[Attribute] = attributes![plain;
    ID,
    a("description", "CUVFS").or(Initial::Text("")).is(Check::TextOrNone(1024)).text(),
    a("driver", "CUVFS").or(Initial::Text("")).is(Check::Text(1024)).text(),
    a("metainfo", "CUVS").or(Initial::Text("")).text(),
    a("enabled", "CUVFS").or(Initial::Bool(true)).to(convert::boolean_or_none).bool(),
];

fn service_type(value: &Value) -> check::Verdict {
    match value.as_str() {
        Some("CORE" | "L3_ROUTER_NAT" | "FLAVORS" | "METERING" | "QOS" | "TAG" | "trunk" | "NETWORK_SEGMENT_RANGE" | "LOGGING_API") => Ok(None),
        _ => Err(Error::InvalidServiceType { service_type: show(value) }),
    }
}

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let mut profiles: HashMap<String, Vec<Value>> = HashMap::new();
    for row in rows_for(cx, "flavor_id, service_profile_id", "flavor_profiles", "flavor_id", &ids, None, &["service_profile_id"])? {
        profiles.entry(row.get(0)?).or_default().push(Value::String(row.get(1)?));
    }
    for item in items {
        let own = profiles.remove(item.id()).unwrap_or_default();
        item.set("service_profiles", own);
    }
    Ok(())
}

fn bind(cx: &mut Cx<'_, '_>, flavor: &str, profiles: &[Value]) -> Result<()> {
    for profile in profiles.iter().map(show) {
        item::get(cx, &SERVICE_PROFILE, &profile)?;
        cx.tx.execute("INSERT INTO flavor_profiles (flavor_id, service_profile_id) VALUES (?1, ?2)", &params![flavor, profile])?;
    }
    Ok(())
}

fn create(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let id = item::new_id();
    item::insert(cx, &FLAVOR, &id, &body, &[])?;
    let profiles = body.get("service_profiles").and_then(Value::as_array).cloned().unwrap_or_default();
    bind(cx, &id, &profiles)?;
    Ok(id)
}

fn in_use(cx: &mut Cx<'_, '_>, id: &str) -> Result<()> {
    match cx.tx.query_one("SELECT id FROM routers WHERE flavor_id = ?1 LIMIT 1", &params![id])? {
        Some(_) => Err(Error::FlavorInUse { id: id.into() }),
        None => Ok(()),
    }
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, body: Body) -> Result<()> {
    in_use(cx, old.id())?;
    if let Some(profiles) = body.get("service_profiles").and_then(Value::as_array) {
        cx.tx.execute("DELETE FROM flavor_profiles WHERE flavor_id = ?1", &params![old.id()])?;
        bind(cx, old.id(), profiles)?;
    }
    item::update(cx, old, &body, &[])?;
    Ok(())
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    in_use(cx, old.id())?;
    item::delete(cx, old)
}

fn complete(driver: &Value, metainfo: &Value) -> Result<()> {
    if item::text(&Body::from_iter([("d".to_string(), driver.clone())]), "d").is_empty() && metainfo.as_str().is_none_or(str::is_empty) {
        return Err(Error::ServiceProfileEmpty {});
    }
    match driver.as_str() {
        // Drivers are Python's class paths; there are none here.
        Some(driver) if !driver.is_empty() => Err(Error::ServiceProfileDriverNotFound { driver: driver.into() }),
        _ => Ok(()),
    }
}

fn create_profile(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    complete(&body["driver"], &body["metainfo"])?;
    let id = item::new_id();
    item::insert(cx, &SERVICE_PROFILE, &id, &body, &[])?;
    Ok(id)
}

fn bound(cx: &mut Cx<'_, '_>, id: &str) -> Result<()> {
    match cx.tx.query_one("SELECT flavor_id FROM flavor_profiles WHERE service_profile_id = ?1 LIMIT 1", &params![id])? {
        Some(_) => Err(Error::ServiceProfileInUse { id: id.into() }),
        None => Ok(()),
    }
}

fn update_profile(cx: &mut Cx<'_, '_>, old: &Item, body: Body) -> Result<()> {
    bound(cx, old.id())?;
    if let Some(driver) = body.get("driver") {
        complete(driver, body.get("metainfo").unwrap_or(old.get("metainfo")))?;
    }
    item::update(cx, old, &body, &[])?;
    Ok(())
}

fn delete_profile(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    bound(cx, old.id())?;
    item::delete(cx, old)
}

/// A router's flavor is there, enabled, and one for routers.
pub fn check_for_router(cx: &mut Cx<'_, '_>, id: &str) -> Result<()> {
    let row = cx.tx.query_one("SELECT service_type, enabled FROM service_flavors WHERE id = ?1", &params![id])?;
    let Some(row) = row else { return Err(Error::FlavorNotFound { id: id.into() }) };
    let (kind, enabled): (String, bool) = (row.get(0)?, row.get(1)?);
    if kind != "L3_ROUTER_NAT" {
        return Err(Error::InvalidServiceType { service_type: kind });
    }
    if enabled { Ok(()) } else { Err(Error::FlavorDisabled {}) }
}

/// Adds the routes that bind profiles to flavors.
pub fn mount(routes: &mut Routes<crate::Network>) {
    routes.post("/v2.0/flavors/{id}/service_profiles", |net: &crate::Network, request: &Request| {
        let mut given = body::object(request)?;
        let profile = match given.remove("service_profile") {
            Some(Value::Object(map)) => map.get("id").map(show).unwrap_or_default(),
            _ => return Err(Error::bad("Unable to find 'service_profile' in request body")),
        };
        net.write(request, |cx| {
            let flavor = item::get(cx, &FLAVOR, request.param("id"))?;
            access::require_on(cx, "create_flavor_service_profile", &flavor)?;
            item::get(cx, &SERVICE_PROFILE, &profile)?;
            if flavor.list("service_profiles").iter().any(|p| *p == profile.as_str()) {
                return Err(Error::FlavorServiceProfileBindingExists { sp_id: profile.clone(), fl_id: flavor.id().into() });
            }
            bind(cx, flavor.id(), &[json!(profile)])?;
            let shown = json!({"service_profile": {"id": profile}});
            Ok(Response::json(StatusCode::CREATED, &shown))
        })
    });
    routes.delete("/v2.0/flavors/{id}/service_profiles/{profile}", |net: &crate::Network, request: &Request| {
        net.write(request, |cx| {
            let flavor = item::get(cx, &FLAVOR, request.param("id"))?;
            access::require_on(cx, "delete_flavor_service_profile", &flavor)?;
            let sql = "DELETE FROM flavor_profiles WHERE flavor_id = ?1 AND service_profile_id = ?2";
            if cx.tx.execute(sql, &params![flavor.id(), request.param("profile")])? == 0 {
                return Err(Error::FlavorServiceProfileBindingNotFound { sp_id: request.param("profile").into(), fl_id: flavor.id().into() });
            }
            Ok(Response::empty(StatusCode::NO_CONTENT))
        })
    });
    routes.get("/v2.0/flavors/{id}/next_providers", |net: &crate::Network, request: &Request| {
        net.read(request, |cx| {
            let flavor = item::get(cx, &FLAVOR, request.param("id"))?;
            access::require_on(cx, "get_flavor", &flavor)?;
            let providers = json!({"next_providers": [{"driver": "", "metainfo": "", "provider": "single_node"}]});
            Ok::<_, Error>(Response::json(StatusCode::OK, &providers))
        })
    });
}
