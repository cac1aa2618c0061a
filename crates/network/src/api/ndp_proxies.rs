//! `/v2.0/ndp_proxies`: addresses behind a router that it answers for outside, and `enable_ndp_proxy` of routers.

use super::networks::NETWORK;
use super::ports::PORT;
use super::routers::ROUTER;
use crate::api_prelude::*;
use crate::attributes;
use std::net::IpAddr;

/// NDP proxies.
pub static NDP_PROXY: Resource = Resource {
    create: Some(create),
    update: Some(|cx, old, body| item::update(cx, old, &body, &[]).map(|_| ())),
    delete: Some(|cx, old| {
        cx.tx.changed("router", old.text("router_id"));
        item::delete(cx, old)
    }),
    ..Resource::base("ndp_proxy", "ndp_proxies", "/v2.0/ndp_proxies", "/v2.0/ndp_proxies/{id}", ATTRIBUTES, |id| Error::NDPProxyNotFound { id: id.into() })
};

const ATTRIBUTES: &[Attribute] = attributes![standard;
    ID, NAME, PROJECT, TENANT,
    a("router_id", "CVFS").is(Check::Uuid).text(),
    a("port_id", "CVFS").is(Check::Uuid).text(),
    a("ip_address", "CVFS").or(Initial::Null).is(Check::Rule(check::ip_or_none)).text(),
];

fn create(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    let router_id = item::text(&body, "router_id").to_string();
    let port = item::get(cx, &PORT, item::text(&body, "port_id"))?;
    let unreachable = || Error::PortUnreachableRouter { port_id: port.id().into(), router_id: router_id.clone() };
    let ports = item::all_with(cx, &PORT, "t.device_id = ? AND t.network_id = ?", &params![&router_id, port.text("network_id")])?;
    if ports.is_empty() {
        return Err(unreachable());
    }
    let router = item::get(cx, &ROUTER, &router_id)?;
    if !router.is("enable_ndp_proxy") {
        return Err(Error::RouterNDPProxyNotEnable { router_id });
    }
    let external = item::get_any(cx, &NETWORK, &show(&router.get("external_gateway_info")["network_id"]))?;
    let ip = address(&port, &router_id, &ports, body.get("ip_address").and_then(Value::as_str), unreachable)?;
    let internal = item::get_any(cx, &NETWORK, port.text("network_id"))?;
    let scope = "ipv6_address_scope";
    if external.get(scope) != internal.get(scope) {
        return Err(Error::AddressScopeConflict {
            ext_address_scope: show(external.get(scope)),
            internal_address_scope: show(internal.get(scope)),
        });
    }
    body.insert("ip_address".into(), json!(ip));
    let id = item::new_id();
    item::insert(cx, &NDP_PROXY, &id, &body, &[])?;
    cx.tx.changed("router", &router_id);
    Ok(id)
}

fn parsed(fixed: &Value) -> Option<IpAddr> {
    fixed["ip_address"].as_str()?.parse().ok()
}

fn v6(ports: &[Item]) -> Vec<&Value> {
    ports.iter().flat_map(|p| p.list("fixed_ips")).filter(|f| parsed(f).is_some_and(|ip| ip.is_ipv6())).collect()
}

/// The address of the port that the router reaches.
fn address(port: &Item, router: &str, router_ports: &[Item], wanted: Option<&str>, unreachable: impl Fn() -> Error) -> Result<String> {
    let own = v6(std::slice::from_ref(port));
    if own.is_empty() {
        return Err(Error::request("ndp_proxy", format!("Requested port {} must allocate one IPv6 address at least", port.id())));
    }
    let reached = v6(router_ports);
    let reaches = |fixed: &Value| reached.iter().any(|r| r["subnet_id"] == fixed["subnet_id"]);
    let Some(wanted) = wanted else {
        return own.iter().find(|f| reaches(f)).map(|f| show(&f["ip_address"])).ok_or_else(unreachable);
    };
    let invalid = |reason: String| Error::InvalidAddress { address: wanted.into(), reason };
    match own.iter().find(|f| parsed(f) == wanted.parse().ok()) {
        None => Err(invalid(format!("This address not belong to the port {}", port.id()))),
        Some(fixed) if !reaches(fixed) => Err(invalid(format!("This address cannot reach the router {router}"))),
        Some(fixed) => Ok(show(&fixed["ip_address"])),
    }
}

fn invalid(router: &str, reason: impl Into<String>) -> Error {
    Error::RouterGatewayNotValid { router_id: router.into(), reason: reason.into() }
}

/// Whether an external network can have addresses behind its routers: it has an IPv6 subnet, of an address scope.
fn network_supports(cx: &mut Cx<'_, '_>, network: &str) -> Result<bool> {
    let network = item::get_any(cx, &NETWORK, network)?;
    if network.get("ipv6_address_scope").is_null() {
        return Ok(false);
    }
    let sql = "SELECT id FROM subnets WHERE network_id = ?1 AND ip_version = 6 LIMIT 1";
    Ok(cx.tx.query_one(sql, &params![network.id()])?.is_some())
}

/// A router is created: what it says on NDP proxies is checked against the gateway it has by now.
pub fn router_created(cx: &mut Cx<'_, '_>, id: &str, body: &Body) -> Result<()> {
    if body.get("enable_ndp_proxy") != Some(&json!(true)) {
        return Ok(());
    }
    let network = body.get("external_gateway_info").and_then(|i| i["network_id"].as_str());
    let Some(network) = network else { return Err(invalid(id, "The request body not contain external gateway information")) };
    if !network_supports(cx, network)? {
        return Err(invalid(
            id,
            format!(
                "The external network {network} don't support IPv6 ndp proxy, the network has no IPv6 subnets or has no IPv6 address scope"
            ),
        ));
    }
    Ok(())
}

/// A router is changed. What it does not say on NDP proxies follows from its gateway, as upstream has it.
pub fn router_changed(cx: &mut Cx<'_, '_>, id: &str, body: &mut Body) -> Result<()> {
    let asked = body.get("enable_ndp_proxy").cloned();
    if asked == Some(json!(false)) {
        return Ok(());
    }
    let gateway = cx.tx.scalar::<Option<String>>("SELECT gw_port_id FROM routers WHERE id = ?1", &params![id])?.flatten();
    let supported = match gateway {
        None => false,
        Some(port) => {
            let port = item::get_any(cx, &PORT, &port)?;
            network_supports(cx, port.text("network_id"))? && !v6(std::slice::from_ref(&port)).is_empty()
        }
    };
    if asked == Some(json!(true)) && !supported {
        return Err(invalid(
            id,
            "The router has no external gateway or the external gateway port has no IPv6 address or IPv6 address scope",
        ));
    }
    body.insert("enable_ndp_proxy".into(), json!(supported));
    Ok(())
}

/// A router loses its gateway: not while proxies need it.
pub fn check_gateway_unused(cx: &mut Cx<'_, '_>, router: &str) -> Result<()> {
    if cx.tx.query_one("SELECT id FROM ndp_proxies WHERE router_id = ?1 LIMIT 1", &params![router])?.is_some() {
        return Err(Error::RouterGatewayInUseByNDPProxy { router_id: router.into() });
    }
    Ok(())
}

/// A router loses its interface in a subnet: not while proxies need it.
pub fn check_interface_unused(cx: &mut Cx<'_, '_>, router: &str, subnet: &str) -> Result<()> {
    let sql = "SELECT n.id FROM ndp_proxies n JOIN ip_allocations a ON a.port_id = n.port_id AND a.ip_address = n.ip_address
         WHERE n.router_id = ?1 AND a.subnet_id = ?2 LIMIT 1";
    if cx.tx.query_one(sql, &params![router, subnet])?.is_some() {
        return Err(Error::RouterInterfaceInUseByNDPProxy { router_id: router.into(), subnet_id: subnet.into() });
    }
    Ok(())
}
