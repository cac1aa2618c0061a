//! `/v2.0/local_ips`: addresses that every node answers for its own guests, and the ports they lead to.

use super::children::Child;
use super::networks::rows_for;
use super::ports::{self, PORT, own_body};
use crate::api_prelude::*;
use crate::attributes;
use crate::ipam::Subnet;
use std::collections::HashMap;

/// Local IPs.
pub static LOCAL_IP: Resource = Resource {
    create: Some(create),
    update: Some(|cx, old, body| item::update(cx, old, &body, &[]).map(|_| ())),
    delete: Some(delete),
    ..Resource::base("local_ip", "local_ips", "/v2.0/local_ips", "/v2.0/local_ips/{id}", ATTRIBUTES, |id| Error::LocalIPNotFound { id: id.into() })
};

const OWNER: &str = "network:local_ip";

const ATTRIBUTES: &[Attribute] = attributes![standard;
    ID, NAME, PROJECT, TENANT,
    a("local_port_id", "CVFS").or(Initial::Unset).is(Check::Uuid).text(),
    a("network_id", "CVFS").or(Initial::Unset).is(Check::Uuid).text(),
    a("local_ip_address", "CVFSP").or(Initial::Unset).is(Check::Rule(check::ip_or_none)).text(),
    a("ip_mode", "CVFS").or(Initial::Text("translate")).is(Check::Values(&["translate", "passthrough"])).text(),
];

/// Ports that local IPs lead to.
pub static ASSOCIATION: Child = Child {
    resource: Resource {
        table: "local_ip_associations",
        key: "fixed_port_id",
        standard: false,
        extend,
        ..Resource::base(
            "port_association",
            "port_associations",
            "/v2.0/local_ips/{parent}/port_associations",
            "/v2.0/local_ips/{parent}/port_associations/{id}",
            ASSOCIATIONS,
            |id| Error::LocalIPAssociationNotFound { local_ip_id: String::new(), port_id: id.into() },
        )
    },
    parent: &LOCAL_IP,
    column: "local_ip_id",
    rule: "local_ip_port_association",
    create: associate,
    update: None,
    delete: |cx, _, old| {
        let sql = "DELETE FROM local_ip_associations WHERE local_ip_id = ?1 AND fixed_port_id = ?2";
        cx.tx.execute(sql, &params![old.text("local_ip_id"), old.id()])?;
        cx.tx.changed("port", old.id());
        Ok(())
    },
};

const ASSOCIATIONS: &[Attribute] = attributes![plain;
    a("local_ip_id", "V").text(),
    a("local_ip_address", "VFS"),
    a("fixed_port_id", "CVFS").is(Check::Uuid).text(),
    a("fixed_ip", "CVFS").or(Initial::Null).is(Check::Rule(check::ip_or_none)).text(),
    a("host", "VFS"),
    a("project_id", "C").or(Initial::Unset).is(Check::Text(255)),
    a("tenant_id", "C").or(Initial::Unset).is(Check::Text(255)),
];

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let column = |name: &str| -> Vec<String> { items.iter().map(|i| i.text(name).to_string()).collect() };
    let (locals, fixed) = (column("local_ip_id"), column("fixed_port_id"));
    let mut addresses: HashMap<String, String> = HashMap::new();
    for row in rows_for(cx, "id, local_ip_address", "local_ips", "id", &locals, None, &[])? {
        addresses.insert(row.get(0)?, row.get(1)?);
    }
    let mut hosts: HashMap<String, Option<String>> = HashMap::new();
    for row in rows_for(cx, "id, host_id", "ports", "id", &fixed, None, &[])? {
        hosts.insert(row.get(0)?, row.get(1)?);
    }
    for item in items {
        let address = addresses.get(item.text("local_ip_id")).cloned();
        let host = hosts.get(item.text("fixed_port_id")).cloned().flatten().unwrap_or_default();
        item.set("local_ip_address", json!(address));
        item.set("host", host);
    }
    Ok(())
}

/// Which of a port's addresses is meant.
fn address(port: &Item, wanted: Option<&str>) -> Result<String> {
    let port_id = port.id().to_string();
    let ips: Vec<String> = port.list("fixed_ips").iter().map(|f| show(&f["ip_address"])).collect();
    match (ips.as_slice(), wanted) {
        ([], _) => Err(Error::LocalIPNoIP { port_id }),
        (ips, Some(wanted)) if ips.iter().any(|ip| ip == wanted) => Ok(wanted.into()),
        (_, Some(wanted)) => Err(Error::LocalIPRequestedIPNotFound { port_id, ip: wanted.into() }),
        ([one], None) => Ok(one.clone()),
        (_, None) => Err(Error::LocalIPNoRequestedIP { port_id }),
    }
}

fn create(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    let id = item::new_id();
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_string);
    let wanted = text("local_ip_address");
    let port = match (text("local_port_id"), text("network_id")) {
        (Some(port), _) => {
            let found = item::find(cx, &PORT, &port)?;
            found.ok_or_else(|| Error::request("local_ip", format!("Port {port} not found")))?
        }
        (None, Some(network)) => {
            if !Subnet::of_network(cx, &network)?.iter().any(|s| !s.cidr.v6()) {
                return Err(Error::request("local_ip", format!("Network {network} does not contain any IPv4 subnet")));
            }
            let fixed = wanted.as_ref().map(|ip| json!([{"ip_address": ip}]));
            let port = ports::create(&mut cx.elevated(), own_body(item::text(&body, "project_id"), &network, OWNER, &id, fixed))?;
            item::get_any(cx, &PORT, &port)?
        }
        (None, None) => return Err(Error::LocalIPPortOrNetworkRequired {}),
    };
    let ip = if port.text("device_owner") == OWNER && wanted.is_none() {
        let v4 = port.list("fixed_ips").iter().find(|f| f["ip_address"].as_str().is_some_and(|t| t.contains('.')));
        v4.map(|f| show(&f["ip_address"])).unwrap_or_default()
    } else {
        address(&port, wanted.as_deref())?
    };
    body.insert("local_port_id".into(), json!(port.id()));
    body.insert("network_id".into(), json!(port.text("network_id")));
    body.insert("local_ip_address".into(), json!(ip));
    item::insert(cx, &LOCAL_IP, &id, &body, &[])?;
    Ok(id)
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    if cx.tx.query_one("SELECT id FROM local_ip_associations WHERE local_ip_id = ?1 LIMIT 1", &params![old.id()])?.is_some() {
        return Err(Error::LocalIPInUse { id: old.id().into() });
    }
    item::delete(cx, old)?;
    let port = item::get_any(cx, &PORT, old.text("local_port_id"))?;
    if port.text("device_owner") == OWNER {
        ports::remove(cx, port.id())?;
    }
    Ok(())
}

fn associate(cx: &mut Cx<'_, '_>, local: &Item, body: Body) -> Result<String> {
    let port_id = item::text(&body, "fixed_port_id");
    let found = item::find(cx, &PORT, port_id)?;
    let port = found.ok_or_else(|| Error::request("local_ip_port_association", format!("Port {port_id} not found")))?;
    let ip = address(&port, body.get("fixed_ip").and_then(Value::as_str))?;
    let there = "SELECT id FROM local_ip_associations WHERE local_ip_id = ?1 AND fixed_port_id = ?2";
    if cx.tx.query_one(there, &params![local.id(), port_id])?.is_none() {
        let sql = "INSERT INTO local_ip_associations (id, local_ip_id, fixed_port_id, fixed_ip) VALUES (?1, ?2, ?3, ?4)";
        cx.tx.execute(sql, &params![item::new_id(), local.id(), port_id, &ip])?;
        cx.tx.changed("port", port_id);
    }
    Ok(port_id.into())
}

/// A local IP's own port is not deleted from under it.
pub fn check_deletable(cx: &mut Cx<'_, '_>, port: &str) -> Result<()> {
    if cx.tx.query_one("SELECT id FROM local_ips WHERE local_port_id = ?1 LIMIT 1", &params![port])?.is_some() {
        return Err(Error::ServicePortInUse { port_id: port.into(), reason: "still referenced by Local IPs".into() });
    }
    Ok(())
}
