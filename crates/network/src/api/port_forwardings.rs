//! `/v2.0/floatingips/{id}/port_forwardings`: single ports of a floating IP that lead to ports of several others.

use super::children::{self, Child};
use super::floatingips::{self, FLOATINGIP};
use super::ports::PORT;
use crate::api_prelude::*;
use crate::attributes;
use std::collections::HashMap;
use std::net::IpAddr;

/// Forwardings.
pub static PORT_FORWARDING: Child = Child {
    resource: Resource {
        table: "port_forwardings",
        standard: false,
        ..Resource::base(
            "port_forwarding",
            "port_forwardings",
            "/v2.0/floatingips/{parent}/port_forwardings",
            "/v2.0/floatingips/{parent}/port_forwardings/{id}",
            ATTRIBUTES,
            |id| Error::PortForwardingNotFound { id: id.into() },
        )
    },
    parent: &FLOATINGIP,
    column: "floatingip_id",
    rule: "floatingip_port_forwarding",
    create,
    update: Some(update),
    delete,
};

/// Protocols by name.
pub const PROTOCOLS: &[&str] = &[
    "ah", "dccp", "egp", "esp", "gre", "icmp", "icmpv6", "igmp", "ip", "ipip", "ipv6-encap", "ipv6-frag", "ipv6-icmp", "ipv6-nonxt",
    "ipv6-opts", "ipv6-route", "ospf", "pgm", "rsvp", "sctp", "tcp", "udp", "udplite", "vrrp",
];

const ATTRIBUTES: &[Attribute] = attributes![plain;
    ID,
    a("project_id", "C").or(Initial::Unset).is(Check::Text(255)),
    a("tenant_id", "C").or(Initial::Unset).is(Check::Text(255)),
    a("external_port", "CUVFS").to(convert::int).is(Check::Range(1, 65535)).int(),
    a("internal_port", "CUV").to(convert::int).is(Check::Range(1, 65535)).int(),
    a("internal_ip_address", "CUV").is(Check::Rule(check::ip)).text(),
    a("protocol", "CUVFS").to(convert::lower).is(Check::Values(PROTOCOLS)).text(),
    a("internal_port_id", "CUVFS").is(Check::Uuid).text(),
];

/// Fills in `port_forwardings` of floating IPs.
pub fn extend_floatingips(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let columns = "floatingip_id, id, protocol, internal_ip_address, internal_port, external_port, internal_port_id";
    let mut found: HashMap<String, Vec<Value>> = HashMap::new();
    for row in super::networks::rows_for(cx, columns, "port_forwardings", "floatingip_id", &ids, None, &["id"])? {
        let shown = json!({
            "id": row.get::<String>(1)?,
            "protocol": row.get::<String>(2)?,
            "internal_ip_address": row.get::<String>(3)?,
            "internal_port": row.get::<i64>(4)?,
            "external_port": row.get::<i64>(5)?,
            "internal_port_id": row.get::<String>(6)?,
        });
        found.entry(row.get(0)?).or_default().push(shown);
    }
    for item in items {
        let own = found.remove(item.id()).unwrap_or_default();
        item.set("port_forwardings", own);
    }
    Ok(())
}

/// A floating IP with forwardings cannot be associated with a port as a whole, nor deleted.
pub fn check_unused(cx: &mut Cx<'_, '_>, fip: &str) -> Result<()> {
    if cx.tx.query_one("SELECT id FROM port_forwardings WHERE floatingip_id = ?1 LIMIT 1", &params![fip])?.is_some() {
        return Err(Error::FipInUseByPortForwarding { id: fip.into() });
    }
    Ok(())
}

/// A port goes or loses addresses: what was forwarded to those that it no longer has is forgotten.
pub fn forget_port(cx: &mut Cx<'_, '_>, port: &str, kept: &[String]) -> Result<()> {
    let rows = cx.tx.query("SELECT id, floatingip_id, internal_ip_address FROM port_forwardings WHERE internal_port_id = ?1", &params![port])?;
    for row in rows {
        let (id, fip, ip): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if !kept.contains(&ip) {
            cx.tx.execute("DELETE FROM port_forwardings WHERE id = ?1", &params![&id])?;
            released(cx, &fip)?;
        }
    }
    Ok(())
}

/// A forwarding has gone: with the last one the floating IP is free again.
fn released(cx: &mut Cx<'_, '_>, fip: &str) -> Result<()> {
    let router = cx.tx.scalar::<Option<String>>("SELECT router_id FROM floatingips WHERE id = ?1", &params![fip])?.flatten();
    if cx.tx.query_one("SELECT id FROM port_forwardings WHERE floatingip_id = ?1 LIMIT 1", &params![fip])?.is_none() {
        cx.tx.execute("UPDATE floatingips SET router_id = NULL, status = 'DOWN' WHERE id = ?1", &params![fip])?;
    }
    cx.tx.changed("floatingip", fip);
    if let Some(router) = router {
        cx.tx.changed("router", &router);
    }
    Ok(())
}

fn bad(msg: impl Into<String>) -> Error {
    Error::request("port_forwarding", msg)
}

/// A port that has a floating IP of its own needs no forwarding.
fn check_no_floatingip(cx: &mut Cx<'_, '_>, port: &str, fixed_ip: &str) -> Result<()> {
    let sql = "SELECT id, floating_ip_address FROM floatingips WHERE port_id = ?1 LIMIT 1";
    let Some(row) = cx.tx.query_one(sql, &params![port])? else { return Ok(()) };
    Err(Error::PortHasBindingFloatingIP {
        floating_ip_address: row.get(1)?,
        fip_id: row.get(0)?,
        port_id: port.into(),
        fixed_ip: fixed_ip.into(),
    })
}

/// No two forwardings of a floating IP for one outer port, nor two to one inner one.
fn check_collisions(cx: &mut Cx<'_, '_>, fip: &str, id: &str, wanted: &Body, whole: &dyn Fn(&str) -> Value) -> Result<()> {
    let (protocol, port, ip) = (show(&whole("protocol")), show(&whole("internal_port_id")), show(&whole("internal_ip_address")));
    let mut questions = Vec::new();
    if let Some(number) = wanted.get("internal_port").and_then(Value::as_i64) {
        let sql = "SELECT id FROM port_forwardings WHERE internal_port_id = ?1 AND protocol = ?2 AND internal_ip_address = ?3 AND internal_port = ?4 AND id <> ?5";
        questions.push((sql, params![&port, &protocol, &ip, number, id].to_vec(), "internal_port_range", number));
    }
    if let Some(number) = wanted.get("external_port").and_then(Value::as_i64) {
        let sql = "SELECT id FROM port_forwardings WHERE floatingip_id = ?1 AND protocol = ?2 AND external_port = ?3 AND id <> ?4";
        questions.push((sql, params![fip, &protocol, number, id].to_vec(), "external_port_range", number));
    }
    for (sql, values, key, number) in questions {
        if cx.tx.query_one(sql, &values)?.is_some() {
            return Err(bad(format!(
                "There is a port collision with the {key}. The following ranges collide: {number}:{number} and {number}:{number}"
            )));
        }
    }
    Ok(())
}

/// The router that forwards, which has to be the one that the floating IP has already, if any.
fn router(cx: &mut Cx<'_, '_>, fip: &Item, body: &Body) -> Result<String> {
    let port_id = item::text(body, "internal_port_id");
    let port = item::get(cx, &PORT, port_id)?;
    let is_v4 = |f: &&Value| f["ip_address"].as_str().is_some_and(|t| t.contains('.'));
    let v4: Vec<Value> = port.list("fixed_ips").iter().filter(is_v4).cloned().collect();
    if v4.is_empty() {
        return Err(bad(format!("Requested internal port {port_id} must allocate an IPv4 address at least.")));
    }
    let wanted = item::text(body, "internal_ip_address");
    let parsed = wanted.parse::<IpAddr>().ok();
    let found = v4.iter().find(|f| wanted.is_empty() || f["ip_address"].as_str().and_then(|t| t.parse::<IpAddr>().ok()) == parsed);
    let Some(fixed) = found else {
        return Err(bad(format!(
            "Requested internal IP address {wanted} is not suitable for internal neutron port {port_id}, as its fixed_ips are {}",
            show(&json!(v4))
        )));
    };
    let (subnet, external) = (show(&fixed["subnet_id"]), fip.text("floating_network_id"));
    let router = match floatingips::router_between(cx, &port, &subnet, external) {
        Err(Error::ExternalGatewayForFloatingIPNotFound { .. }) => {
            return Err(bad(format!(
                "External network {external} is not reachable from subnet {subnet}. Cannot set Port forwarding for port {port_id} with Floating IP {}",
                fip.id()
            )));
        }
        other => other?,
    };
    let current = fip.text("router_id");
    if !current.is_empty() && current != router {
        return Err(bad(format!(
            "The Floating IP {} had been set on router {current}, the internal Neutron port {port_id} can not reach it",
            fip.id()
        )));
    }
    Ok(router)
}

fn create(cx: &mut Cx<'_, '_>, fip: &Item, body: Body) -> Result<String> {
    let (port, fixed_ip) = (item::text(&body, "internal_port_id"), item::text(&body, "internal_ip_address"));
    check_collisions(cx, fip.id(), "", &body, &|name| body.get(name).cloned().unwrap_or_default())?;
    check_no_floatingip(cx, port, fixed_ip)?;
    if !fip.get("port_id").is_null() {
        return Err(Error::FloatingIPPortAlreadyAssociated {
            floating_ip_address: fip.text("floating_ip_address").into(),
            fip_id: fip.id().into(),
            port_id: port.into(),
            fixed_ip: fixed_ip.into(),
            net_id: fip.text("floating_network_id").into(),
        });
    }
    let router = router(cx, fip, &body)?;
    cx.tx.execute("UPDATE floatingips SET router_id = ?2, status = 'ACTIVE' WHERE id = ?1", &params![fip.id(), &router])?;
    let id = item::new_id();
    item::insert(cx, &PORT_FORWARDING.resource, &id, &body, &[("floatingip_id", Sql::from(fip.id()))])?;
    cx.tx.changed("floatingip", fip.id());
    cx.tx.changed("router", &router);
    Ok(id)
}

fn update(cx: &mut Cx<'_, '_>, fip: &Item, old: &Item, body: Body) -> Result<()> {
    if let Some(port) = body.get("internal_port_id").and_then(Value::as_str) {
        check_no_floatingip(cx, port, item::text(&body, "internal_ip_address"))?;
        if port != old.text("internal_port_id") {
            router(cx, fip, &body)?;
        }
    }
    let new = old.merged(&body);
    let port = item::get(cx, &PORT, new.text("internal_port_id"))?;
    let fixed = port.list("fixed_ips");
    if !fixed.iter().any(|f| f["ip_address"] == *new.get("internal_ip_address")) {
        return Err(bad(format!(
            "The internal IP does not correspond to an address on the internal port, which has fixed_ips {}",
            show(&json!(fixed))
        )));
    }
    for other in children::of(cx, &PORT_FORWARDING, fip.id())? {
        if other.id() == old.id() || other.get("protocol") != new.get("protocol") {
            continue;
        }
        let refuse = |conflict: Value| {
            bad(format!("Another port forwarding entry with the same attributes already exists, conflicting values are {}", show(&conflict)))
        };
        if other.get("external_port") == new.get("external_port") {
            return Err(refuse(json!({
                "floating_ip_address": fip.text("floating_ip_address"),
                "external_port": new.get("external_port"),
            })));
        }
        if ["internal_port_id", "internal_ip_address", "internal_port"].iter().all(|name| other.get(name) == new.get(name)) {
            return Err(refuse(json!({
                "internal_port_id": new.get("internal_port_id"),
                "internal_ip_address": new.get("internal_ip_address"),
                "internal_port": new.get("internal_port"),
            })));
        }
    }
    check_collisions(cx, fip.id(), old.id(), &body, &|name| new.get(name).clone())?;
    item::update(cx, old, &body, &[])?;
    cx.tx.changed("floatingip", fip.id());
    cx.tx.changed("router", fip.text("router_id"));
    Ok(())
}

fn delete(cx: &mut Cx<'_, '_>, fip: &Item, old: &Item) -> Result<()> {
    item::delete(cx, old)?;
    released(cx, fip.id())
}
