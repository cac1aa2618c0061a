//! The routes: one file per resource, and the controller that serves all of them.

mod access;
mod address_groups;
pub(crate) mod agents;
mod auto_allocated;
mod availability;
pub(crate) mod bindings;
mod body;
mod children;
pub(crate) mod controller;
mod conntrack_helpers;
mod extensions;
mod flavors;
pub(crate) mod floatingips;
mod ha_networks;
mod list;
mod local_ips;
mod logging;
mod metering;
mod ndp_proxies;
pub(crate) mod networks;
pub(crate) mod port_changes;
mod port_forwardings;
pub(crate) mod ports;
pub(crate) mod qos;
mod qos_rules;
mod quotas;
mod rbac;
pub(crate) mod router_interfaces;
pub(crate) mod routers;
mod schedulers;
pub(crate) mod security_groups;
mod segment_ranges;
mod segments;
mod subnetpools;
pub(crate) mod subnets;
mod tagging;
mod trunks;

use crate::Network;
use ::api::{Method, Request, Response, Routes, StatusCode};
use serde_json::json;

/// All routes.
pub fn routes() -> Routes<Network> {
    let mut routes = Routes::new();
    versions(&mut routes);
    for resource in [
        &networks::NETWORK,
        &subnets::SUBNET,
        &subnetpools::SUBNETPOOL,
        &subnetpools::ADDRESS_SCOPE,
        &ports::PORT,
        &routers::ROUTER,
        &floatingips::FLOATINGIP,
        &security_groups::SECURITY_GROUP,
        &security_groups::RULE,
        &security_groups::DEFAULT_RULE,
        &address_groups::ADDRESS_GROUP,
        &rbac::RBAC_POLICY,
        &agents::AGENT,
        &segments::SEGMENT,
        &qos::POLICY,
        &trunks::TRUNK,
        &flavors::FLAVOR,
        &flavors::SERVICE_PROFILE,
        &metering::LABEL,
        &metering::RULE,
        &segment_ranges::RANGE,
        &logging::LOG,
        &ndp_proxies::NDP_PROXY,
        &local_ips::LOCAL_IP,
    ] {
        controller::mount(&mut routes, resource);
    }
    routes.put("/v2.0/routers/{id}/add_router_interface", router_interfaces::add);
    routes.put("/v2.0/routers/{id}/remove_router_interface", router_interfaces::remove);
    routes.put("/v2.0/routers/{id}/add_extraroutes", |n: &Network, r: &Request| routers::change_routes(n, r, true));
    routes.put("/v2.0/routers/{id}/remove_extraroutes", |n: &Network, r: &Request| routers::change_routes(n, r, false));
    routes.put("/v2.0/subnetpools/{id}/add_prefixes", |n: &Network, r: &Request| subnetpools::change_prefixes(n, r, true));
    routes.put("/v2.0/subnetpools/{id}/remove_prefixes", |n: &Network, r: &Request| subnetpools::change_prefixes(n, r, false));
    routes.put("/v2.0/address-groups/{id}/add_addresses", |n: &Network, r: &Request| address_groups::change(n, r, true));
    routes.put("/v2.0/address-groups/{id}/remove_addresses", |n: &Network, r: &Request| address_groups::change(n, r, false));
    routes.get("/v2.0/floatingip_pools", floatingips::pools);
    routes.get("/v2.0/floatingip-pools", floatingips::pools);
    routes.get("/v2.0/availability_zones", agents::list_zones);
    routes.get("/v2.0/network-ip-availabilities", availability::index);
    routes.get("/v2.0/network-ip-availabilities/{id}", availability::show);
    routes.get("/v2.0/quotas", quotas::index);
    routes.get("/v2.0/quotas/{id}", quotas::show);
    routes.put("/v2.0/quotas/{id}", quotas::update);
    routes.delete("/v2.0/quotas/{id}", quotas::delete);
    routes.get("/v2.0/quotas/{id}/default", quotas::default);
    routes.get("/v2.0/quotas/{id}/details", quotas::details);
    routes.get("/v2.0/quotas/{id}/details.json", quotas::details);
    routes.get("/v2.0/auto-allocated-topology/{id}", auto_allocated::show);
    routes.delete("/v2.0/auto-allocated-topology/{id}", auto_allocated::delete);
    routes.get("/v2.0/log/loggable-resources", logging::loggable);
    routes.get("/v2.0/extensions", extensions::index);
    routes.get("/v2.0/extensions/{id}", extensions::show);
    routes.get("/v2.0/service-providers", extensions::service_providers);
    for child in [&port_forwardings::PORT_FORWARDING, &conntrack_helpers::CONNTRACK_HELPER, &local_ips::ASSOCIATION] {
        children::mount(&mut routes, child);
    }
    qos_rules::mount(&mut routes);
    trunks::mount(&mut routes);
    flavors::mount(&mut routes);
    schedulers::mount(&mut routes);
    tag_routes(&mut routes);
    routes
}

macro_rules! tagged {
    ($routes:ident, $($path:literal => $resource:expr;)*) => {$(
        tagging::mount($routes, $resource, concat!("/v2.0/", $path, "/{id}/tags"), concat!("/v2.0/", $path, "/{id}/tags/{tag}"));
    )*};
}

fn tag_routes(routes: &mut Routes<Network>) {
    tagged! { routes,
        "networks" => &networks::NETWORK;
        "subnets" => &subnets::SUBNET;
        "ports" => &ports::PORT;
        "routers" => &routers::ROUTER;
        "floatingips" => &floatingips::FLOATINGIP;
        "subnetpools" => &subnetpools::SUBNETPOOL;
        "security-groups" => &security_groups::SECURITY_GROUP;
        "qos/policies" => &qos::POLICY;
        "policies" => &qos::POLICY;
        "trunks" => &trunks::TRUNK;
        "network_segment_ranges" => &segment_ranges::RANGE;
    }
}

fn versions(routes: &mut Routes<Network>) {
    routes.public(Method::GET, "/", |_: &Network, request: &Request| {
        let link = json!({"rel": "self", "href": request.url("/v2.0/")});
        let version = json!({"id": "v2.0", "status": "CURRENT", "links": [link]});
        Ok::<_, ::api::Error>(Response::json(StatusCode::OK, &json!({"versions": [version]})))
    });
    let resources = |_: &Network, request: &Request| {
        let all = [("network", "networks"), ("subnet", "subnets"), ("subnetpool", "subnetpools"), ("port", "ports")];
        let layout: Vec<_> = all
            .iter()
            .map(|(name, collection)| {
                let href = request.url(&format!("/v2.0/{collection}"));
                json!({"name": name, "collection": collection, "links": [{"rel": "self", "href": href}]})
            })
            .collect();
        Ok::<_, ::api::Error>(Response::json(StatusCode::OK, &json!({"resources": layout})))
    };
    routes.get("/v2.0/", resources);
    routes.get("/v2.0", resources);
}
