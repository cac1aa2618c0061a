//! `/v2.0/routers`: the table, gateways and routes. Interfaces are in `router_interfaces`.

use super::networks::{NETWORK, rows_for};
use super::ports::{self, PORT, own_body};
use super::{access, body, list, port_changes};
use crate::api_prelude::*;
use crate::attributes;
use crate::ipam::Subnet;
use crate::model::net::Cidr;
use ::api::{Request, Response, StatusCode};
use std::collections::HashMap;
use std::net::IpAddr;

/// Routers.
pub static ROUTER: Resource = Resource {
    tags: true,
    quota: Some("router"),
    topic: Some("router"),
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    extend,
    ..Resource::base("router", "routers", "/v2.0/routers", "/v2.0/routers/{id}", ATTRIBUTES, |id| Error::RouterNotFound { id: id.into() })
};

const MOST_ROUTES: usize = 30;

const ATTRIBUTES: &[Attribute] = attributes![tagged;
    ID, NAME, PROJECT, TENANT, ADMIN_STATE,
    a("status", "VS").text(),
    a("external_gateway_info", "CUVP").or(Initial::Null).is(Check::Rule(check::gateway_info)),
    a("routes", "UV").or(Initial::Unset).to(convert::none_to_list).is(Check::Rule(check::routes)).json(),
    a("flavor_id", "CVSP").or(Initial::Unset).text(),
    a("ha", "CUVP").or(Initial::Unset).to(convert::boolean_or_none).bool(),
    a("availability_zones", "V"),
    a("availability_zone_hints", "CV").or(Initial::List).is(Check::Rule(check::zone_hints)).json(),
    a("enable_ndp_proxy", "CUVF").or(Initial::Unset).to(convert::boolean_or_none).bool(),
    a("conntrack_helpers", "V"),
    a("gw_port_id", "").text(),
    a("enable_snat", "").bool(),
];

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().filter_map(|i| i.get("gw_port_id").as_str().map(str::to_string)).collect();
    let mut gateways: HashMap<String, (String, Value)> = HashMap::new();
    for row in rows_for(cx, "id, network_id, fixed_ips", "ports", "id", &ids, None, &[])? {
        gateways.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
    }
    let zones = if items.is_empty() { Vec::new() } else { super::agents::zones(cx, "L3 agent")? };
    for item in items.iter_mut() {
        let info = gateways.get(item.text("gw_port_id")).map(|(network, ips)| {
            json!({"network_id": network, "external_fixed_ips": ips, "enable_snat": item.is("enable_snat")})
        });
        item.set("enable_ndp_proxy", info.is_some() && item.is("enable_ndp_proxy"));
        item.set("external_gateway_info", info.unwrap_or_default());
        item.set("availability_zones", json!(zones));
    }
    super::conntrack_helpers::extend_routers(cx, items)
}

fn create(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let id = item::new_id();
    super::agents::check_zones(cx, body.get("availability_zone_hints"))?;
    if let Some(flavor) = body.get("flavor_id").and_then(Value::as_str) {
        super::flavors::check_for_router(cx, flavor)?;
    }
    super::ndp_proxies::router_created(cx, &id, &body)?;
    let ha = body.get("ha").and_then(Value::as_bool).unwrap_or(false);
    if ha {
        super::ha_networks::ensure(cx, item::text(&body, "project_id"))?;
    }
    item::insert(cx, &ROUTER, &id, &body, &[("status", Sql::from("ACTIVE")), ("ha", Sql::from(ha)), ("enable_snat", Sql::from(true))])?;
    if let Some(info) = gateway_wish(body.get("external_gateway_info")) {
        set_gateway(cx, &id, Some(&info))?;
        // What a create does with its own gateway is no change of the router.
        cx.tx.execute("UPDATE routers SET revision_number = 1 WHERE id = ?1", &params![&id])?;
    }
    Ok(id)
}

/// `external_gateway_info` where it asks for something.
fn gateway_wish(value: Option<&Value>) -> Option<Map<String, Value>> {
    value?.as_object().filter(|map| !map.is_empty()).cloned()
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, mut body: Body) -> Result<()> {
    if let Some(ha) = body.get("ha").and_then(Value::as_bool)
        && ha != old.is("ha")
        && old.is("admin_state_up")
        && body.get("admin_state_up") != Some(&json!(false))
    {
        return Err(Error::request(
            "router",
            "Cannot change HA attribute of active routers. Please set router admin_state_up to False prior to upgrade",
        ));
    }
    if body.get("ha").is_some_and(Value::is_null) {
        body.remove("ha");
    }
    if let Some(routes) = body.get("routes").and_then(Value::as_array).cloned() {
        check_routes(cx, old.id(), &routes)?;
        body.insert("routes".into(), json!(canonical_routes(&routes)));
    }
    let mut touched = false;
    if let Some(info) = body.get("external_gateway_info").cloned() {
        touched = set_gateway(cx, old.id(), gateway_wish(Some(&info)).as_ref())?;
        body.remove("external_gateway_info");
    }
    super::ndp_proxies::router_changed(cx, old.id(), &mut body)?;
    if !item::update(cx, old, &body, &[])? && touched {
        item::bump(cx, &ROUTER, old.id())?;
    }
    match (old.is("ha"), body.get("ha").and_then(Value::as_bool)) {
        (false, Some(true)) => super::ha_networks::ensure(cx, old.text("project_id"))?,
        (true, Some(false)) => super::ha_networks::forget(cx, old.text("project_id"))?,
        _ => {}
    }
    Ok(())
}

fn canonical_routes(routes: &[Value]) -> Vec<Value> {
    let canonical = |v: &Value, cidr: bool| {
        let text = show(v);
        if cidr {
            Cidr::parse(&text).map_or(text, |c| c.to_string())
        } else {
            text.parse::<IpAddr>().map_or(text.clone(), |ip| ip.to_string())
        }
    };
    routes.iter().map(|r| json!({"destination": canonical(&r["destination"], true), "nexthop": canonical(&r["nexthop"], false)})).collect()
}

/// The subnets that a router is in, with their prefixes, and its own addresses.
fn connected(cx: &mut Cx<'_, '_>, id: &str) -> Result<(Vec<Cidr>, Vec<String>)> {
    let sql = "SELECT s.cidr, a.ip_address FROM router_ports r JOIN ip_allocations a ON a.port_id = r.port_id JOIN subnets s ON s.id = a.subnet_id
         WHERE r.router_id = ?1";
    let (mut cidrs, mut ips) = (Vec::new(), Vec::new());
    for row in cx.tx.query(sql, &params![id])? {
        cidrs.extend(Cidr::parse(&row.get::<String>(0)?));
        ips.push(row.get(1)?);
    }
    Ok((cidrs, ips))
}

fn check_routes(cx: &mut Cx<'_, '_>, id: &str, routes: &[Value]) -> Result<()> {
    let (cidrs, ips) = connected(cx, id)?;
    check_routes_with(routes, &cidrs, &ips)?;
    if routes.len() > MOST_ROUTES {
        return Err(Error::OverQuota { overs: "['router_route']".into() });
    }
    Ok(())
}

fn check_routes_with(routes: &[Value], cidrs: &[Cidr], ips: &[String]) -> Result<()> {
    for route in routes {
        let Ok(nexthop) = show(&route["nexthop"]).parse::<IpAddr>() else { continue };
        let refuse = |reason: &str| Error::InvalidRoutes { routes: show(&json!(routes)), reason: reason.into() };
        if !cidrs.iter().any(|c| c.contains(nexthop)) {
            return Err(refuse("the nexthop is not connected with router"));
        }
        if ips.contains(&nexthop.to_string()) {
            return Err(refuse("the nexthop is used by router"));
        }
    }
    Ok(())
}

/// Refuses subnets that a router is in already, and those that overlap with one it is in.
pub fn check_overlap(cx: &mut Cx<'_, '_>, router_id: &str, new: &[Subnet]) -> Result<()> {
    let mut current: Vec<Subnet> = Vec::new();
    let rows = cx.tx.query(
        "SELECT p.network_id, p.device_owner, p.fixed_ips FROM router_ports r JOIN ports p ON p.id = r.port_id WHERE r.router_id = ?1",
        &params![router_id],
    )?;
    for row in rows {
        let (network, owner): (String, String) = (row.get(0)?, row.get(1)?);
        let ips: Value = row.get(2)?;
        for fixed in ips.as_array().into_iter().flatten() {
            let id = show(&fixed["subnet_id"]);
            if new.iter().any(|s| s.id == id) {
                return Err(Error::request("router", format!("Router already has a port on subnet {id}")));
            }
            if owner != "network:router_gateway" {
                current.extend(Subnet::get(cx, &id)?);
            }
        }
        if owner == "network:router_gateway" {
            current.extend(Subnet::of_network(cx, &network)?);
        }
    }
    for old in &current {
        for subnet in new {
            if old.cidr.overlaps(&subnet.cidr) {
                return Err(Error::request(
                    "router",
                    format!("Cidr {} of subnet {} overlaps with cidr {} of subnet {}", subnet.cidr, subnet.id, old.cidr, old.id),
                ));
            }
        }
    }
    Ok(())
}

/// Gives a router a gateway, changes it, or takes it away. Returns whether something changed.
fn set_gateway(cx: &mut Cx<'_, '_>, id: &str, info: Option<&Map<String, Value>>) -> Result<bool> {
    let router = item::get_any(cx, &ROUTER, id)?;
    let snat = match info.and_then(|i| i.get("enable_snat")) {
        Some(value) => convert::boolean(value.clone())? == json!(true),
        None => true,
    };
    let wanted: Vec<Value> = info.and_then(|i| i.get("external_fixed_ips")).and_then(Value::as_array).cloned().unwrap_or_default();
    let network_id = info.and_then(|i| i.get("network_id")).and_then(Value::as_str).map(str::to_string);
    let mut subnets = Vec::new();
    if let Some(network_id) = &network_id {
        let network = item::get(cx, &NETWORK, network_id)?;
        if !network.is("router:external") {
            return Err(Error::request("router", format!("Network {network_id} is not an external network")));
        }
        subnets = Subnet::of_network(cx, network_id)?;
        for fixed in &wanted {
            if subnets.iter().any(|s| s.gateway_ip.as_deref().is_some_and(|g| fixed["ip_address"] == g)) {
                return Err(Error::request("router", format!("External IP {} is the same as the gateway IP", show(&fixed["ip_address"]))));
            }
        }
    }
    let current = match router.get("gw_port_id").as_str() {
        Some(port) => Some(item::get_any(cx, &PORT, port)?),
        None => None,
    };
    check_routes_after(cx, &router, &subnets)?;
    let mut changed = false;
    if snat != router.is("enable_snat") {
        cx.tx.execute("UPDATE routers SET enable_snat = ?2 WHERE id = ?1", &params![id, snat])?;
        changed = true;
    }
    let same_network = current.as_ref().is_some_and(|p| network_id.as_deref() == Some(p.text("network_id")));
    if let (Some(port), true) = (&current, same_network) {
        let texts = |list: &[Value], key: &str| {
            let mut texts: Vec<String> = list.iter().filter_map(|f| f[key].as_str().map(str::to_string)).collect();
            texts.sort();
            texts
        };
        let has = port.list("fixed_ips");
        let differs = texts(has, "subnet_id") != texts(&wanted, "subnet_id") || texts(has, "ip_address") != texts(&wanted, "ip_address");
        if !wanted.is_empty() && differs {
            let mut body = Body::new();
            body.insert("fixed_ips".into(), json!(wanted));
            port_changes::update(&mut cx.elevated(), port, body)?;
            changed = true;
        }
        item::changed(cx, &ROUTER, id);
        return Ok(changed);
    }
    if let Some(port) = current {
        if cx.tx.query_one("SELECT id FROM floatingips WHERE router_id = ?1 LIMIT 1", &params![id])?.is_some() {
            return Err(Error::RouterExternalGatewayInUseByFloatingIp { router_id: id.into(), net_id: port.text("network_id").into() });
        }
        super::ndp_proxies::check_gateway_unused(cx, id)?;
        cx.tx.execute("UPDATE routers SET gw_port_id = NULL WHERE id = ?1", &params![id])?;
        ports::remove(cx, port.id())?;
        changed = true;
    }
    if let Some(network_id) = network_id {
        check_overlap(cx, id, &subnets)?;
        let fixed_ips = (!wanted.is_empty()).then(|| json!(wanted));
        let body = own_body("", &network_id, "network:router_gateway", id, fixed_ips);
        let port = ports::create(&mut cx.elevated(), body)?;
        cx.tx.execute("UPDATE routers SET gw_port_id = ?2 WHERE id = ?1", &params![id, &port])?;
        let sql = "INSERT INTO router_ports (port_id, router_id, port_type) VALUES (?1, ?2, 'network:router_gateway')";
        cx.tx.execute(sql, &params![&port, id])?;
        super::schedulers::router_wants_agent(cx, id)?;
        changed = true;
    }
    item::changed(cx, &ROUTER, id);
    Ok(changed)
}

/// Extra routes must still lead somewhere after the gateway has changed.
fn check_routes_after(cx: &mut Cx<'_, '_>, router: &Item, gateway_subnets: &[Subnet]) -> Result<()> {
    let routes = router.list("routes");
    if routes.is_empty() {
        return Ok(());
    }
    let sql = "SELECT s.cidr, a.ip_address FROM router_ports r JOIN ip_allocations a ON a.port_id = r.port_id JOIN subnets s ON s.id = a.subnet_id
         WHERE r.router_id = ?1 AND r.port_type <> 'network:router_gateway'";
    let (mut cidrs, mut ips): (Vec<Cidr>, Vec<String>) = (gateway_subnets.iter().map(|s| s.cidr).collect(), Vec::new());
    for row in cx.tx.query(sql, &params![router.id()])? {
        cidrs.extend(Cidr::parse(&row.get::<String>(0)?));
        ips.push(row.get(1)?);
    }
    check_routes_with(routes, &cidrs, &ips)
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    let interfaces = "SELECT port_id FROM router_ports WHERE router_id = ?1 AND port_type = 'network:router_interface' ORDER BY port_id";
    let attached: Vec<String> = cx.tx.column(interfaces, &params![old.id()])?;
    if !attached.is_empty() {
        return Err(Error::RouterInUse { id: old.id().into(), reason: format!("has ports still attached: {}", attached.join(", ")) });
    }
    set_gateway(cx, old.id(), None)?;
    for port in cx.tx.column::<String>("SELECT port_id FROM router_ports WHERE router_id = ?1", &params![old.id()])? {
        ports::remove(cx, &port)?;
    }
    super::schedulers::forget(cx, old.id())?;
    cx.tx.execute("UPDATE auto_allocated_topologies SET router_id = NULL WHERE router_id = ?1", &params![old.id()])?;
    item::delete(cx, old)?;
    if old.is("ha") { super::ha_networks::forget(cx, old.text("project_id")) } else { Ok(()) }
}

/// PUT of `add_extraroutes`, `remove_extraroutes`.
pub fn change_routes(net: &crate::Network, request: &Request, add: bool) -> Result<Response> {
    let given = body::object(request)?;
    let routes = given.get("router").and_then(|r| r.get("routes")).cloned();
    let Some(routes) = routes else { return Err(Error::bad("Unable to find 'router' in request body")) };
    if let Some(reason) = check::routes(&routes)? {
        return Err(Error::bad(format!("Invalid input for routes. Reason: {reason}.")));
    }
    let routes = canonical_routes(routes.as_array().map_or(&[], Vec::as_slice));
    net.write(request, |cx| {
        let old = item::get(cx, &ROUTER, request.param("id"))?;
        access::require_on(cx, if add { "add_extraroutes" } else { "remove_extraroutes" }, &old)?;
        let mut now: Vec<Value> = old.list("routes").to_vec();
        if add {
            now.extend(routes.iter().filter(|r| !old.list("routes").contains(r)).cloned());
        } else {
            now.retain(|r| !routes.contains(r));
        }
        let mut body = Body::new();
        body.insert("routes".into(), json!(now));
        update(cx, &old, body)?;
        let new = item::get(cx, &ROUTER, old.id())?;
        list::single(cx, &new, request, StatusCode::OK)
    })
}

/// A subnet was added to an external network: gateways there get an address in it, if they have none of its family.
pub fn subnet_added(cx: &mut Cx<'_, '_>, network_id: &str, subnet_id: &str, version: i64) -> Result<()> {
    let gateways = item::all_with(cx, &PORT, "t.network_id = ? AND t.device_owner = 'network:router_gateway'", &params![network_id])?;
    for port in gateways {
        let mut fixed: Vec<Value> = Vec::new();
        for ip in port.list("fixed_ips") {
            if let Some(subnet) = Subnet::get(cx, &show(&ip["subnet_id"]))?
                && !subnet.is_auto_address()
            {
                fixed.push(ip.clone());
            }
        }
        let family = |ip: &Value| ip["ip_address"].as_str().and_then(|t| t.parse::<IpAddr>().ok()).map_or(4, |ip| if ip.is_ipv6() { 6 } else { 4 });
        if fixed.len() > 1 || fixed.len() == 1 && family(&fixed[0]) == version {
            continue;
        }
        let mut wanted: Vec<Value> = port.list("fixed_ips").to_vec();
        wanted.push(json!({"subnet_id": subnet_id}));
        let mut body = Body::new();
        body.insert("fixed_ips".into(), json!(wanted));
        port_changes::update(&mut cx.elevated(), &port, body)?;
        item::bump(cx, &ROUTER, port.text("device_id"))?;
    }
    Ok(())
}

/// A subnet's gateway changed: routers with a port in it look different to their nodes.
pub fn changed_by_subnet(cx: &mut Cx<'_, '_>, subnet_id: &str) -> Result<()> {
    let sql = "SELECT DISTINCT r.router_id FROM router_ports r JOIN ip_allocations a ON a.port_id = r.port_id WHERE a.subnet_id = ?1";
    for router in cx.tx.column::<String>(sql, &params![subnet_id])? {
        cx.tx.changed("router", &router);
    }
    Ok(())
}

/// A router's port changed: so did the router.
pub fn changed_by_port(cx: &mut Cx<'_, '_>, port: &Item) -> Result<()> {
    if port.text("device_owner").starts_with("network:router") {
        cx.tx.changed("router", port.text("device_id"));
    }
    Ok(())
}
