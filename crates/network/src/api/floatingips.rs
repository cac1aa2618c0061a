//! `/v2.0/floatingips` and `/v2.0/floatingip_pools`

use super::networks::{NETWORK, rows_for};
use super::ports::{self, PORT, own_body};
use super::routers::ROUTER;
use crate::api_prelude::*;
use crate::attributes;
use crate::ipam::Subnet;
use std::collections::HashMap;
use std::net::IpAddr;

/// Floating IPs.
pub static FLOATINGIP: Resource = Resource {
    tags: true,
    quota: Some("floatingip"),
    topic: Some("floatingip"),
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    extend,
    ..Resource::base("floatingip", "floatingips", "/v2.0/floatingips", "/v2.0/floatingips/{id}", ATTRIBUTES, |id| Error::FloatingIPNotFound { id: id.into() })
};

const ATTRIBUTES: &[Attribute] = attributes![tagged;
    ID, PROJECT, TENANT,
    a("floating_ip_address", "CVFSP").or(Initial::Null).is(Check::Rule(check::ip_or_none)).text(),
    a("subnet_id", "C").or(Initial::Null).is(Check::UuidOrNone),
    a("floating_network_id", "CVFS").is(Check::Uuid).text(),
    a("router_id", "CUVFSP").or(Initial::Null).is(Check::UuidOrNone).text(),
    a("port_id", "CUVF").or(Initial::Null).is(Check::UuidOrNone).text(),
    a("fixed_ip_address", "CUVFS").or(Initial::Null).is(Check::Rule(check::ip_or_none)).text(),
    a("status", "VFS").text(),
    a("port_details", "V"),
    a("dns_name", "CV").or(Initial::Text("")).to(convert::lower).is(Check::Rule(check::relative_dns_name)).text(),
    a("dns_domain", "CV").or(Initial::Text("")).to(convert::lower).is(Check::Rule(check::dns_domain)).text(),
    a("qos_policy_id", "CUV").or(Initial::Null).is(Check::UuidOrNone).text(),
    a("port_forwardings", "V"),
    a("floating_port_id", "").text(),
];

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().filter_map(|i| i.get("port_id").as_str().map(str::to_string)).collect();
    let mut details: HashMap<String, Value> = HashMap::new();
    let columns = "id, name, network_id, mac_address, admin_state_up, status, device_id, device_owner";
    for row in rows_for(cx, columns, "ports", "id", &ids, None, &[])? {
        let shown = json!({
            "name": row.get::<String>(1)?,
            "network_id": row.get::<String>(2)?,
            "mac_address": row.get::<String>(3)?,
            "admin_state_up": row.get::<bool>(4)?,
            "status": row.get::<String>(5)?,
            "device_id": row.get::<String>(6)?,
            "device_owner": row.get::<String>(7)?,
        });
        details.insert(row.get(0)?, shown);
    }
    for item in items.iter_mut() {
        let shown = details.get(item.text("port_id")).cloned().unwrap_or_default();
        item.set("port_details", shown);
    }
    super::port_forwardings::extend_floatingips(cx, items)
}

fn bad(msg: impl Into<String>) -> Error {
    Error::request("floatingip", msg)
}

/// What a floating IP is associated with.
#[derive(Default, PartialEq, Eq)]
struct Association {
    port_id: Option<String>,
    fixed_ip: Option<String>,
    router_id: Option<String>,
}

/// The router that joins a port's subnet with an external network; of several the one that is the subnet's gateway.
pub fn router_between(cx: &mut Cx<'_, '_>, port: &Item, subnet_id: &str, external: &str) -> Result<String> {
    let sql = "SELECT r.router_id, a.ip_address FROM router_ports r
         JOIN ip_allocations a ON a.port_id = r.port_id AND a.subnet_id = ?1
         JOIN routers o ON o.id = r.router_id JOIN ports g ON g.id = o.gw_port_id
         WHERE r.port_type = 'network:router_interface' AND g.network_id = ?2 ORDER BY r.router_id";
    let mut first = None;
    let gateway = Subnet::get(cx, subnet_id)?.and_then(|s| s.gateway_ip);
    for row in cx.tx.query(sql, &params![subnet_id, external])? {
        let (router, ip): (String, String) = (row.get(0)?, row.get(1)?);
        if gateway.as_deref() == Some(ip.as_str()) {
            return Ok(router);
        }
        first.get_or_insert(router);
    }
    first.ok_or_else(|| Error::ExternalGatewayForFloatingIPNotFound {
        external_network_id: external.into(),
        subnet_id: subnet_id.into(),
        port_id: port.id().into(),
    })
}

/// Works out what a body associates a floating IP of `project` with.
fn associate(cx: &mut Cx<'_, '_>, body: &Body, project: &str, external: &str) -> Result<Association> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_string);
    let Some(port_id) = text("port_id") else { return Ok(Association::default()) };
    let port = item::get(cx, &PORT, &port_id)?;
    if port.text("project_id") != project && !cx.caller.admin {
        return Err(bad(format!(
            "Cannot process floating IP association with Port {port_id}, since that port is owned by a different project"
        )));
    }
    if port.text("device_owner") == "network:dhcp" {
        return Err(bad("Port %(id)s is unable to be assigned a floating IP"));
    }
    let parsed = |fixed: &Value| fixed["ip_address"].as_str().and_then(|t| t.parse::<IpAddr>().ok());
    let (fixed_ip, subnet_id) = match text("fixed_ip_address") {
        Some(wanted) => {
            let ip = wanted.parse::<IpAddr>().ok();
            if !ip.is_some_and(|ip| ip.is_ipv4()) {
                return Err(bad(format!("Cannot process floating IP association with {wanted}, since that is not an IPv4 address")));
            }
            let found = port.list("fixed_ips").iter().find(|f| parsed(f) == ip);
            let found = found.ok_or_else(|| bad(format!("Port {port_id} does not have fixed ip {wanted}")))?;
            (wanted, show(&found["subnet_id"]))
        }
        None => {
            let v4: Vec<&Value> = port.list("fixed_ips").iter().filter(|f| parsed(f).is_some_and(|ip| ip.is_ipv4())).collect();
            match v4.as_slice() {
                [] => return Err(bad(format!("Cannot add floating IP to port {port_id} that has no fixed IPv4 addresses"))),
                [one] => (show(&one["ip_address"]), show(&one["subnet_id"])),
                _ => {
                    return Err(bad(format!(
                        "Port {port_id} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when assigning a floating IP"
                    )));
                }
            }
        }
    };
    let router_id = match text("router_id") {
        Some(router) => {
            item::get(cx, &ROUTER, &router)?;
            let gateway = "SELECT o.id FROM routers o JOIN ports g ON g.id = o.gw_port_id WHERE o.id = ?1 AND g.network_id = ?2";
            if cx.tx.query_one(gateway, &params![&router, external])?.is_none() {
                return Err(Error::Conflict {});
            }
            router
        }
        None => router_between(cx, &port, &subnet_id, external)?,
    };
    Ok(Association { port_id: Some(port_id), fixed_ip: Some(fixed_ip), router_id: Some(router_id) })
}

fn status(association: &Association) -> &'static str {
    if association.port_id.is_some() { "ACTIVE" } else { "DOWN" }
}

/// Refuses a second floating IP of the same network for one address.
fn check_free(cx: &mut Cx<'_, '_>, association: &Association, id: &str, address: &str, external: &str) -> Result<()> {
    let (Some(port), Some(fixed)) = (&association.port_id, &association.fixed_ip) else { return Ok(()) };
    let sql = "SELECT id FROM floatingips WHERE port_id = ?1 AND fixed_ip_address = ?2 AND floating_network_id = ?3 AND id <> ?4";
    if cx.tx.query_one(sql, &params![port, fixed, external, id])?.is_none() {
        return Ok(());
    }
    Err(Error::FloatingIPPortAlreadyAssociated {
        floating_ip_address: address.into(),
        fip_id: id.into(),
        port_id: port.clone(),
        fixed_ip: fixed.clone(),
        net_id: external.into(),
    })
}

fn create(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    let id = item::new_id();
    let project = item::text(&body, "project_id").to_string();
    let network_id = item::text(&body, "floating_network_id").to_string();
    let network = item::get(cx, &NETWORK, &network_id)?;
    if !network.is("router:external") {
        return Err(bad(format!("Network {network_id} is not a valid external network")));
    }
    if !Subnet::of_network(cx, &network_id)?.iter().any(|s| !s.cidr.v6()) {
        return Err(bad(format!("Network {network_id} does not contain any IPv4 subnet")));
    }
    super::qos::check_policy(cx, body.get("qos_policy_id"))?;
    let mut fixed = Map::new();
    for (from, to) in [("subnet_id", "subnet_id"), ("floating_ip_address", "ip_address")] {
        if let Some(value) = body.get(from).filter(|v| !v.is_null()) {
            fixed.insert(to.into(), value.clone());
        }
    }
    let fixed_ips = (!fixed.is_empty()).then(|| json!([fixed]));
    let port = ports::create(&mut cx.elevated(), own_body("", &network_id, "network:floatingip", &id, fixed_ips))?;
    let port = item::get_any(cx, &PORT, &port)?;
    let v4 = port.list("fixed_ips").iter().find(|f| f["ip_address"].as_str().is_some_and(|t| t.contains('.')));
    let Some(address) = v4.map(|f| show(&f["ip_address"])) else { return Err(Error::ExternalIpAddressExhausted { net_id: network_id }) };
    if body.get("fixed_ip_address").is_some_and(|v| !v.is_null()) && body.get("port_id").is_none_or(Value::is_null) {
        return Err(bad("fixed_ip_address cannot be specified without a port_id"));
    }
    let association = associate(cx, &body, &project, &network_id)?;
    check_free(cx, &association, &id, &address, &network_id)?;
    body.insert("floating_ip_address".into(), json!(address));
    body.insert("port_id".into(), json!(association.port_id));
    body.insert("fixed_ip_address".into(), json!(association.fixed_ip));
    body.insert("router_id".into(), json!(association.router_id));
    let more = [("floating_port_id", Sql::from(port.id())), ("status", Sql::from(status(&association)))];
    item::insert(cx, &FLOATINGIP, &id, &body, &more)?;
    touch(cx, association.router_id.as_deref());
    Ok(id)
}

fn touch(cx: &mut Cx<'_, '_>, router: Option<&str>) {
    if let Some(router) = router {
        cx.tx.changed("router", router);
    }
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, mut body: Body) -> Result<()> {
    super::qos::check_change(cx, old, &body)?;
    let given = |body: &Body, name: &str| body.get(name).is_some_and(|v| !v.is_null());
    if given(&body, "fixed_ip_address") && !given(&body, "port_id") {
        return Err(bad("fixed_ip_address cannot be specified without a port_id"));
    }
    let external = old.text("floating_network_id").to_string();
    let current = old.get("port_id").clone();
    if body.is_empty() {
        // An update of nothing once was the way to disassociate, and still is.
        body.insert("port_id".into(), Value::Null);
    }
    if !body.contains_key("port_id") && !current.is_null() {
        // Without a word on the port, upstream takes the one it has, and then the port's only address.
        let only = body.keys().all(|k| matches!(k.as_str(), "description" | "qos_policy_id"));
        if !only {
            body.insert("port_id".into(), current.clone());
        }
    }
    if body.contains_key("port_id") || body.contains_key("router_id") {
        if given(&body, "port_id") {
            super::port_forwardings::check_unused(cx, old.id())?;
        }
        let association = associate(cx, &body, old.text("project_id"), &external)?;
        check_free(cx, &association, old.id(), old.text("floating_ip_address"), &external)?;
        body.insert("port_id".into(), json!(association.port_id));
        body.insert("fixed_ip_address".into(), json!(association.fixed_ip));
        body.insert("router_id".into(), json!(association.router_id));
        body.insert("status".into(), json!(status(&association)));
        touch(cx, association.router_id.as_deref());
        touch(cx, old.get("router_id").as_str());
    }
    item::update(cx, old, &body, &[])?;
    Ok(())
}

/// DELETE, with the port that held its address.
pub fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    let port = old.text("floating_port_id").to_string();
    touch(cx, old.get("router_id").as_str());
    super::port_forwardings::check_unused(cx, old.id())?;
    item::delete(cx, old)?;
    ports::remove(cx, &port)
}

/// A port goes: floating IPs that led to it lead nowhere.
pub fn disassociate_port(cx: &mut Cx<'_, '_>, port_id: &str) -> Result<()> {
    let rows = cx.tx.query("SELECT id, router_id FROM floatingips WHERE port_id = ?1", &params![port_id])?;
    for row in rows {
        let (id, router): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        cx.tx.execute(
            "UPDATE floatingips SET port_id = NULL, fixed_ip_address = NULL, router_id = NULL, status = 'DOWN', updated_at = ?2, revision_number = revision_number + 1 WHERE id = ?1",
            &params![&id, database::now()],
        )?;
        cx.tx.changed("floatingip", &id);
        touch(cx, router.as_deref());
    }
    super::port_forwardings::forget_port(cx, port_id, &[])
}

/// Pools of floating IPs: the IPv4 subnets of external networks.
pub static FLOATINGIP_POOL: Resource = Resource {
    sight: Sight::Everyone,
    standard: false,
    key: "subnet_id",
    ..Resource::base("floatingip_pool", "floatingip_pools", "/v2.0/floatingip_pools", "/v2.0/floatingip_pools/{id}", POOL, |id| Error::SubnetNotFound { id: id.into() })
};

const POOL: &[Attribute] = attributes![plain;
    a("subnet_id", "V"), a("subnet_name", "V"), a("network_id", "V"), a("cidr", "V"), a("project_id", "V"), a("tenant_id", "V"),
];

/// GET of the pools.
pub fn pools(net: &crate::Network, request: &::api::Request) -> Result<::api::Response> {
    net.read(request, |cx| {
        let mut select = item::select(cx, &super::subnets::SUBNET);
        select.filter("t.ip_version = 4 AND t.network_id IN (SELECT id FROM networks WHERE external = 1)", &[]);
        select.order("t.id", database::Direction::Ascending);
        let subnets = item::load(cx, &super::subnets::SUBNET, &select)?;
        let owner = cx.caller.project().to_string();
        let pools = subnets
            .iter()
            .map(|subnet| {
                let mut pool = Item { resource: &FLOATINGIP_POOL, values: vec![Value::Null; POOL.len()] };
                pool.set("subnet_id", subnet.id());
                pool.set("subnet_name", subnet.text("name"));
                pool.set("network_id", subnet.text("network_id"));
                pool.set("cidr", subnet.text("cidr"));
                pool.set("project_id", owner.as_str());
                pool.set("tenant_id", owner.as_str());
                pool
            })
            .collect();
        super::list::list_of(cx, &FLOATINGIP_POOL, request, pools)
    })
}
