//! `add_router_interface` and `remove_router_interface`.

use super::networks::NETWORK;
use super::ports::{self, PORT, own_body};
use super::routers::{ROUTER, check_overlap};
use super::subnets::SUBNET;
use super::{access, body, port_changes};
use crate::api_prelude::*;
use crate::ipam::Subnet;
use ::api::{Request, Response, StatusCode};
use std::net::IpAddr;

const OWNER: &str = "network:router_interface";

fn bad(msg: impl Into<String>) -> Error {
    Error::request("router", msg)
}

/// What the body names: a port, a subnet, or for a removal both.
fn named(body: &Map<String, Value>, removal: bool) -> Result<(Option<String>, Option<String>)> {
    let given = |key: &str| body.contains_key(key);
    if !given("port_id") && !given("subnet_id") {
        return Err(bad("Either subnet_id or port_id must be specified"));
    }
    for key in ["port_id", "subnet_id"] {
        if let Some(value) = body.get(key)
            && let Some(reason) = Check::Uuid.check(value)?
        {
            return Err(bad(reason));
        }
    }
    if !removal && given("port_id") && given("subnet_id") {
        return Err(bad("Cannot specify both subnet-id and port-id"));
    }
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_string);
    Ok((text("port_id"), text("subnet_id")))
}

fn answer(router: &Item, port: &Item, subnets: &[String], subnet: Option<&String>) -> Response {
    let info = json!({
        "id": router.id(),
        "project_id": port.get("project_id"),
        "tenant_id": port.get("tenant_id"),
        "port_id": port.id(),
        "network_id": port.get("network_id"),
        "subnet_id": subnet,
        "subnet_ids": subnets,
    });
    Response::json(StatusCode::OK, &info)
}

fn addressable(subnet: &Subnet) -> Result<()> {
    if subnet.cidr.v6() && subnet.ra_mode.is_none() && subnet.address_mode.is_some() {
        return Err(bad(format!(
            "IPv6 subnet {} configured to receive RAs from an external router cannot be added to Neutron Router.",
            subnet.id
        )));
    }
    Ok(())
}

fn is_v6(fixed: &Value) -> bool {
    fixed["ip_address"].as_str().and_then(|t| t.parse::<IpAddr>().ok()).is_some_and(|ip| ip.is_ipv6())
}

fn interfaces(cx: &mut Cx<'_, '_>, router_id: &str) -> Result<Vec<Item>> {
    let condition = "t.id IN (SELECT port_id FROM router_ports WHERE router_id = ? AND port_type = 'network:router_interface')";
    item::all_with(cx, &PORT, condition, &params![router_id])
}

/// PUT of `add_router_interface`.
pub fn add(net: &crate::Network, request: &Request) -> Result<Response> {
    let given = body::object(request)?;
    net.write(request, |cx| {
        let router = item::get(cx, &ROUTER, request.param("id"))?;
        access::require_on(cx, "add_router_interface", &router)?;
        attach(cx, &router, &given)
    })
}

/// Attaches a router to what the body names, and answers as the API does.
pub fn attach(cx: &mut Cx<'_, '_>, router: &Item, given: &Map<String, Value>) -> Result<Response> {
    let (port, subnets) = match named(given, false)? {
        (Some(port_id), _) => by_port(cx, router, &port_id)?,
        (None, Some(subnet_id)) => by_subnet(cx, router, &subnet_id)?,
        (None, None) => return Err(bad("Either subnet_id or port_id must be specified")),
    };
    item::bump(cx, &ROUTER, router.id())?;
    super::schedulers::router_wants_agent(cx, router.id())?;
    Ok(answer(router, &port, &subnets, subnets.last()))
}

fn register(cx: &mut Cx<'_, '_>, router: &Item, port_id: &str) -> Result<()> {
    let sql = "INSERT INTO router_ports (port_id, router_id, port_type) VALUES (?1, ?2, 'network:router_interface')";
    cx.tx.execute(sql, &params![port_id, router.id()])?;
    Ok(())
}

fn by_port(cx: &mut Cx<'_, '_>, router: &Item, port_id: &str) -> Result<(Item, Vec<String>)> {
    let port = item::get(cx, &PORT, port_id)?;
    if !port.text("device_id").is_empty() {
        return Err(Error::PortInUse {
            net_id: port.text("network_id").into(),
            port_id: port_id.into(),
            device_id: port.text("device_id").into(),
        });
    }
    if port.list("fixed_ips").is_empty() {
        return Err(bad("Router port must have at least one fixed IP"));
    }
    let mut subnets = Vec::new();
    for fixed in port.list("fixed_ips") {
        let subnet = Subnet::get(cx, &show(&fixed["subnet_id"]))?.ok_or_else(|| Error::SubnetNotFound { id: show(&fixed["subnet_id"]) })?;
        addressable(&subnet)?;
        subnets.push(subnet);
    }
    if port.list("fixed_ips").iter().any(is_v6) {
        let twin = interfaces(cx, router.id())?
            .into_iter()
            .find(|p| p.text("network_id") == port.text("network_id") && p.list("fixed_ips").iter().any(is_v6));
        if let Some(twin) = twin {
            return Err(bad(format!(
                "Router already contains IPv6 port {} belonging to network id {}. Only one IPv6 port from the same network subnet can be connected to a router.",
                twin.id(),
                twin.text("network_id")
            )));
        }
    }
    check_overlap(cx, router.id(), &subnets)?;
    if subnets.iter().filter(|s| !s.cidr.v6()).count() > 1 {
        return Err(bad("Cannot have multiple IPv4 subnets on router port"));
    }
    if !cx.caller.admin {
        for (subnet, fixed) in subnets.iter().zip(port.list("fixed_ips")) {
            let owner: Option<String> = cx.tx.scalar("SELECT project_id FROM subnets WHERE id = ?1", &params![&subnet.id])?;
            let at = fixed["ip_address"].as_str().and_then(|t| t.parse::<IpAddr>().ok()).map(net::number).unwrap_or_default();
            let inside = subnet.pools.iter().any(|(first, last)| (*first..=*last).contains(&at));
            if !inside && owner.as_deref() != cx.caller.project_id() {
                return Err(bad(format!(
                    "Cannot add interface to router because specified port {port_id} has an IP address out of the allocation pool of subnet {}, which is not owned by the project making the request",
                    subnet.id
                )));
            }
        }
    }
    register(cx, router, port_id)?;
    let groups: Vec<String> = port.list("security_groups").iter().map(show).collect();
    let more = [
        ("device_id", Sql::from(router.id())),
        ("device_owner", Sql::from(OWNER)),
        ("status", Sql::from("ACTIVE")),
        ("vif_type", Sql::from("distributed")),
    ];
    item::update(cx, &port, &Body::new(), &more)?;
    for group in groups {
        cx.tx.changed("security_group", &group);
    }
    let port = item::get_any(cx, &PORT, port_id)?;
    Ok((port, subnets.into_iter().map(|s| s.id).collect()))
}

fn by_subnet(cx: &mut Cx<'_, '_>, router: &Item, subnet_id: &str) -> Result<(Item, Vec<String>)> {
    let shown = item::get(cx, &SUBNET, subnet_id)?;
    let subnet = Subnet::get(cx, subnet_id)?.ok_or_else(|| Error::SubnetNotFound { id: subnet_id.into() })?;
    let Some(gateway) = subnet.gateway_ip.clone() else {
        return Err(bad("Subnet for router interface must have a gateway IP"));
    };
    if !cx.caller.admin && shown.text("project_id") != cx.caller.project() {
        let shared = "SELECT id FROM rbac_policies WHERE object_type = 'network' AND object_id = ?1 AND action = 'access_as_shared' AND target_project = ?2";
        if cx.tx.query_one(shared, &params![&subnet.network_id, cx.caller.project()])?.is_none() {
            return Err(bad(format!(
                "Cannot add interface to router because subnet {subnet_id} is not owned by project making the request"
            )));
        }
    }
    addressable(&subnet)?;
    check_overlap(cx, router.id(), std::slice::from_ref(&subnet))?;
    let fixed = json!({"ip_address": gateway, "subnet_id": subnet_id});
    let subnets = vec![subnet_id.to_string()];
    if subnet.cidr.v6() {
        let twin = interfaces(cx, router.id())?
            .into_iter()
            .find(|p| p.text("network_id") == subnet.network_id && p.list("fixed_ips").iter().any(is_v6));
        if let Some(port) = twin {
            let mut fixed_ips = port.list("fixed_ips").to_vec();
            fixed_ips.push(fixed);
            let mut body = Body::new();
            body.insert("fixed_ips".into(), json!(fixed_ips));
            port_changes::update(cx, &port, body)?;
            return Ok((item::get_any(cx, &PORT, port.id())?, subnets));
        }
    }
    item::get(cx, &NETWORK, &subnet.network_id)?;
    let body = own_body(router.text("project_id"), &subnet.network_id, OWNER, router.id(), Some(json!([fixed])));
    crate::store::quotas::take(cx, router.text("project_id"), "port", 1)?;
    let id = ports::create(cx, body)?;
    register(cx, router, &id)?;
    Ok((item::get_any(cx, &PORT, &id)?, subnets))
}

/// PUT of `remove_router_interface`.
pub fn remove(net: &crate::Network, request: &Request) -> Result<Response> {
    let given = body::object(request)?;
    net.write(request, |cx| {
        let router = item::get(cx, &ROUTER, request.param("id"))?;
        access::require_on(cx, "remove_router_interface", &router)?;
        let (port, subnets) = match named(&given, true)? {
            (Some(port_id), subnet_id) => detach_port(cx, &router, &port_id, subnet_id.as_deref())?,
            (None, Some(subnet_id)) => detach_subnet(cx, &router, &subnet_id)?,
            (None, None) => return Err(bad("Either subnet_id or port_id must be specified")),
        };
        item::bump(cx, &ROUTER, router.id())?;
        Ok(answer(&router, &port, &subnets, subnets.first()))
    })
}

/// Routes that go through a subnet and floating IPs that lead into it keep the interface where it is.
fn unused(cx: &mut Cx<'_, '_>, router: &Item, subnet: &Subnet) -> Result<()> {
    let leads = |route: &Value| route["nexthop"].as_str().and_then(|t| t.parse::<IpAddr>().ok()).is_some_and(|ip| subnet.cidr.contains(ip));
    let sql = "SELECT f.fixed_ip_address FROM floatingips f JOIN ip_allocations a ON a.port_id = f.port_id AND a.ip_address = f.fixed_ip_address
         WHERE f.router_id = ?1 AND a.subnet_id = ?2 LIMIT 1";
    if cx.tx.query_one(sql, &params![router.id(), &subnet.id])?.is_some() {
        return Err(Error::RouterInterfaceInUseByFloatingIP { router_id: router.id().into(), subnet_id: subnet.id.clone() });
    }
    super::ndp_proxies::check_interface_unused(cx, router.id(), &subnet.id)?;
    if router.list("routes").iter().any(leads) {
        return Err(Error::RouterInterfaceInUseByRoute { router_id: router.id().into(), subnet_id: subnet.id.clone() });
    }
    Ok(())
}

fn detach_port(cx: &mut Cx<'_, '_>, router: &Item, port_id: &str, subnet_id: Option<&str>) -> Result<(Item, Vec<String>)> {
    let found = interfaces(cx, router.id())?.into_iter().find(|p| p.id() == port_id);
    let Some(port) = found else {
        return Err(Error::RouterInterfaceNotFound { router_id: router.id().into(), port_id: port_id.into() });
    };
    let subnets: Vec<String> = port.list("fixed_ips").iter().map(|f| show(&f["subnet_id"])).collect();
    if let Some(subnet_id) = subnet_id
        && !subnets.iter().any(|s| s == subnet_id)
    {
        return Err(Error::SubnetMismatchForPort { port_id: port_id.into(), subnet_id: subnet_id.into() });
    }
    for id in &subnets {
        if let Some(subnet) = Subnet::get(cx, id)? {
            unused(cx, router, &subnet)?;
        }
    }
    ports::remove(cx, port_id)?;
    Ok((port, subnets))
}

fn detach_subnet(cx: &mut Cx<'_, '_>, router: &Item, subnet_id: &str) -> Result<(Item, Vec<String>)> {
    item::get(cx, &SUBNET, subnet_id)?;
    let subnet = Subnet::get(cx, subnet_id)?.ok_or_else(|| Error::SubnetNotFound { id: subnet_id.into() })?;
    let here: Vec<Item> = interfaces(cx, router.id())?.into_iter().filter(|p| p.text("network_id") == subnet.network_id).collect();
    if !here.is_empty() {
        unused(cx, router, &subnet)?;
    }
    for port in here {
        let fixed_ips = port.list("fixed_ips");
        if !fixed_ips.iter().any(|f| f["subnet_id"] == subnet_id) {
            continue;
        }
        let rest: Vec<Value> = fixed_ips.iter().filter(|f| f["subnet_id"] != subnet_id).cloned().collect();
        if rest.is_empty() {
            ports::remove(cx, port.id())?;
        } else {
            let mut body = Body::new();
            body.insert("fixed_ips".into(), json!(rest));
            port_changes::update(cx, &port, body)?;
        }
        return Ok((port, vec![subnet_id.to_string()]));
    }
    Err(Error::RouterInterfaceNotFoundForSubnet { router_id: router.id().into(), subnet_id: subnet_id.into() })
}
