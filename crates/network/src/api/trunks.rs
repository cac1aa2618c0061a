//! `/v2.0/trunks`: ports that carry other ports, told apart by VLAN.

use super::networks::rows_for;
use super::ports::PORT;
use super::{access, body, list};
use crate::api_prelude::*;
use crate::attributes;
use ::api::{Request, Response, Routes, StatusCode};
use std::collections::HashMap;

/// Trunks.
pub static TRUNK: Resource = Resource {
    tags: true,
    topic: Some("trunk"),
    create: Some(create),
    update: Some(|cx, old, body| item::update(cx, old, &body, &[]).map(|_| ())),
    delete: Some(delete),
    extend,
    ..Resource::base("trunk", "trunks", "/v2.0/trunks", "/v2.0/trunks/{id}", ATTRIBUTES, |id| Error::TrunkNotFound { id: id.into() })
};

const ATTRIBUTES: &[Attribute] = attributes![tagged;
    ID, NAME, PROJECT, TENANT, ADMIN_STATE,
    a("port_id", "CVFS").is(Check::Uuid).text(),
    a("status", "VFS").text(),
    a("sub_ports", "CVP").or(Initial::List).is(Check::Rule(subports)),
];

/// The shape of a list of subports.
fn subports(value: &Value) -> check::Verdict {
    let Some(list) = value.as_array() else { return Ok(Some(format!("Invalid data format for subports: '{}' is not a list", show(value)))) };
    let mut seen: Vec<&str> = Vec::new();
    let mut segments: Vec<(&Value, &Value)> = Vec::new();
    for subport in list {
        let Some(map) = subport.as_object() else {
            return Ok(Some(format!("Invalid data format for subport: '{}' is not a dict", show(subport))));
        };
        let Some(port) = map.get("port_id") else { return Ok(Some("A valid port UUID must be specified".into())) };
        let Some(id) = port.as_str().filter(|p| check::is_uuid(p)) else {
            return Ok(Some(format!("Invalid UUID for subport: '{}'", show(port))));
        };
        if seen.contains(&id) {
            return Ok(Some(format!("Non unique UUID for subport: '{id}'")));
        }
        seen.push(id);
        let (kind, number) = (&subport["segmentation_type"], &subport["segmentation_id"]);
        if kind == "inherit" {
            return Ok(None);
        }
        if (kind.is_null() || number.is_null()) && map.len() > 1 {
            return Ok(Some(format!(
                "Invalid subport details '{}': missing segmentation information. Must specify both segmentation_id and segmentation_type",
                show(subport)
            )));
        }
        if !number.is_null() && segments.contains(&(kind, number)) {
            return Ok(Some(format!("Segmentation ID '{}' for '{id}' is not unique", show(number))));
        }
        segments.push((kind, number));
    }
    Ok(None)
}

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let mut found = of_trunks(cx, &ids)?;
    for item in items {
        let own = found.remove(item.id()).unwrap_or_default();
        let own: Vec<Value> = own.into_iter().map(|(shown, _)| shown).collect();
        item.set("sub_ports", own);
    }
    Ok(())
}

/// Subports of trunks, each with its MAC.
fn of_trunks(cx: &mut Cx<'_, '_>, ids: &[String]) -> Result<HashMap<String, Vec<(Value, String)>>> {
    let mut found: HashMap<String, Vec<(Value, String)>> = HashMap::new();
    let columns = "s.trunk_id, s.port_id, s.segmentation_type, s.segmentation_id, p.mac_address";
    let from = "trunk_subports s JOIN ports p ON p.id = s.port_id";
    for row in rows_for(cx, columns, from, "s.trunk_id", ids, None, &["s.trunk_id", "s.segmentation_id"])? {
        let shown = json!({"port_id": row.get::<String>(1)?, "segmentation_type": row.get::<String>(2)?, "segmentation_id": row.get::<i64>(3)?});
        found.entry(row.get(0)?).or_default().push((shown, row.get(4)?));
    }
    Ok(found)
}

/// Fills in `trunk_details` of ports that are a trunk's parent.
pub fn extend_ports(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let mut trunks: HashMap<String, String> = HashMap::new();
    for row in rows_for(cx, "port_id, id", "trunks", "port_id", &ids, None, &[])? {
        trunks.insert(row.get(0)?, row.get(1)?);
    }
    if trunks.is_empty() {
        return Ok(());
    }
    let of: Vec<String> = trunks.values().cloned().collect();
    let mut subports = of_trunks(cx, &of)?;
    for item in items {
        let Some(trunk) = trunks.get(item.id()) else { continue };
        let own = subports.remove(trunk).unwrap_or_default().into_iter().map(|(mut shown, mac)| {
            shown["mac_address"] = json!(mac);
            shown
        });
        let own: Vec<Value> = own.collect();
        item.set("trunk_details", json!({"trunk_id": trunk, "sub_ports": own}));
    }
    Ok(())
}

/// A port that a trunk has stays.
pub fn check_deletable(cx: &mut Cx<'_, '_>, port: &str) -> Result<()> {
    let parent: Option<String> = cx.tx.scalar("SELECT id FROM trunks WHERE port_id = ?1", &params![port])?;
    if let Some(trunk_id) = parent {
        return Err(Error::PortInUseAsTrunkParent { port_id: port.into(), trunk_id });
    }
    let sub: Option<String> = cx.tx.scalar("SELECT trunk_id FROM trunk_subports WHERE port_id = ?1", &params![port])?;
    match sub {
        Some(trunk_id) => Err(Error::PortInUseAsSubPort { port_id: port.into(), trunk_id }),
        None => Ok(()),
    }
}

/// No trunk has the port, as parent or below one.
fn free(cx: &mut Cx<'_, '_>, port: &str) -> Result<()> {
    if cx.tx.query_one("SELECT port_id FROM trunk_subports WHERE port_id = ?1", &params![port])?.is_some() {
        return Err(Error::TrunkPortInUse { port_id: port.into() });
    }
    if cx.tx.query_one("SELECT id FROM trunks WHERE port_id = ?1", &params![port])?.is_some() {
        return Err(Error::ParentPortInUse { port_id: port.into() });
    }
    Ok(())
}

fn mtu(cx: &mut Cx<'_, '_>, port: &Item) -> Result<i64> {
    Ok(cx.tx.scalar("SELECT mtu FROM networks WHERE id = ?1", &params![port.text("network_id")])?.unwrap_or(0))
}

/// Adds subports to a trunk, each checked as upstream does.
fn add(cx: &mut Cx<'_, '_>, trunk_id: &str, parent: &Item, subports: &[Value]) -> Result<()> {
    let trunk_mtu = mtu(cx, parent)?;
    for subport in subports {
        let port_id = show(&subport["port_id"]);
        if port_id == parent.id() {
            return Err(Error::ParentPortInUse { port_id });
        }
        let port = item::get(cx, &PORT, &port_id)?;
        let (mut kind, mut number) = (subport["segmentation_type"].clone(), subport["segmentation_id"].clone());
        if kind == "inherit" {
            let sql = "SELECT network_type, segmentation_id FROM network_segments WHERE network_id = ?1 ORDER BY segment_index LIMIT 1";
            if let Some(row) = cx.tx.query_one(sql, &params![port.text("network_id")])? {
                kind = json!(row.get::<String>(0)?);
                number = json!(row.get::<Option<i64>>(1)?);
            }
        }
        let port_mtu = mtu(cx, &port)?;
        if port_mtu > trunk_mtu && trunk_mtu > 0 {
            return Err(Error::SubPortMtuGreaterThanTrunkPortMtu {
                port_mtu: port_mtu.to_string(),
                port_id,
                trunk_mtu: trunk_mtu.to_string(),
                trunk_id: parent.id().into(),
            });
        }
        if kind.is_null() || number.is_null() {
            return Err(Error::input(format!(
                "Invalid subport details '{}': missing segmentation information. Must specify both segmentation_id and segmentation_type",
                show(subport)
            )));
        }
        let Some(id) = convert::as_int(&number) else {
            return Err(Error::input(format!("Invalid subport details: segmentation_id '{}' is not an integer", show(&number))));
        };
        if kind != "vlan" {
            return Err(Error::input(format!("Unknown segmentation_type '{}'", show(&kind))));
        }
        if !(1..=4094).contains(&id) {
            return Err(Error::input(format!("Segmentation ID '{id}' is not in range")));
        }
        free(cx, &port_id)?;
        if !port.text("device_id").is_empty() {
            return Err(Error::PortInUse { port_id, net_id: port.text("network_id").into(), device_id: port.text("device_id").into() });
        }
        let taken = "SELECT port_id FROM trunk_subports WHERE trunk_id = ?1 AND segmentation_type = ?2 AND segmentation_id = ?3";
        if cx.tx.query_one(taken, &params![trunk_id, show(&kind), id])?.is_some() {
            return Err(Error::DuplicateSubPort { segmentation_type: show(&kind), segmentation_id: id.to_string(), trunk_id: trunk_id.into() });
        }
        let sql = "INSERT INTO trunk_subports (port_id, trunk_id, segmentation_type, segmentation_id) VALUES (?1, ?2, ?3, ?4)";
        cx.tx.execute(sql, &params![&port_id, trunk_id, show(&kind), id])?;
        item::update(cx, &port, &Body::new(), &[("device_owner", Sql::from("trunk:subport")), ("device_id", Sql::from(trunk_id))])?;
    }
    Ok(())
}

fn create(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let id = item::new_id();
    let port_id = item::text(&body, "port_id").to_string();
    let port = item::get(cx, &PORT, &port_id)?;
    free(cx, &port_id)?;
    item::insert(cx, &TRUNK, &id, &body, &[("status", Sql::from("DOWN"))])?;
    let subports = body.get("sub_ports").and_then(Value::as_array).cloned().unwrap_or_default();
    add(cx, &id, &port, &subports)?;
    Ok(id)
}

fn manageable(trunk: &Item) -> Result<()> {
    if trunk.is("admin_state_up") { Ok(()) } else { Err(Error::TrunkDisabled { id: trunk.id().into() }) }
}

fn release(cx: &mut Cx<'_, '_>, port_id: &str) -> Result<()> {
    cx.tx.execute("DELETE FROM trunk_subports WHERE port_id = ?1", &params![port_id])?;
    let port = item::get_any(cx, &PORT, port_id)?;
    item::update(cx, &port, &Body::new(), &[("device_owner", Sql::from("")), ("device_id", Sql::from(""))])?;
    Ok(())
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    manageable(old)?;
    let parent = item::get_any(cx, &PORT, old.text("port_id"))?;
    if parent.text("binding:vif_type") == "ovs" {
        return Err(Error::TrunkInUse { id: old.id().into() });
    }
    for subport in old.list("sub_ports") {
        release(cx, &show(&subport["port_id"]))?;
    }
    item::delete(cx, old)
}

/// Adds the routes for subports.
pub fn mount(routes: &mut Routes<crate::Network>) {
    routes.put("/v2.0/trunks/{id}/add_subports", |n: &crate::Network, r: &Request| change(n, r, true));
    routes.put("/v2.0/trunks/{id}/remove_subports", |n: &crate::Network, r: &Request| change(n, r, false));
    routes.get("/v2.0/trunks/{id}/get_subports", |n: &crate::Network, r: &Request| {
        n.read(r, |cx| {
            let trunk = item::get(cx, &TRUNK, r.param("id"))?;
            access::require_on(cx, "get_subports", &trunk)?;
            Ok::<_, Error>(Response::json(StatusCode::OK, &json!({"sub_ports": trunk.get("sub_ports")})))
        })
    });
}

fn change(net: &crate::Network, request: &Request, adding: bool) -> Result<Response> {
    let given = body::object(request)?;
    let Some(listed) = given.get("sub_ports") else { return Err(Error::bad("Unable to find 'sub_ports' in request body")) };
    net.write(request, |cx| {
        let trunk = item::get(cx, &TRUNK, request.param("id"))?;
        access::require_on(cx, if adding { "add_subports" } else { "remove_subports" }, &trunk)?;
        if let Some(problem) = subports(listed)? {
            return Err(Error::input(problem));
        }
        manageable(&trunk)?;
        let listed = listed.as_array().cloned().unwrap_or_default();
        if adding {
            let parent = item::get_any(cx, &PORT, trunk.text("port_id"))?;
            add(cx, trunk.id(), &parent, &listed)?;
        } else {
            for subport in &listed {
                let port_id = show(&subport["port_id"]);
                if !trunk.list("sub_ports").iter().any(|s| s["port_id"] == port_id.as_str()) {
                    return Err(Error::SubPortNotFound { port_id, trunk_id: trunk.id().into() });
                }
                release(cx, &port_id)?;
            }
        }
        item::update(cx, &trunk, &Body::new(), &[("status", Sql::from("DOWN"))])?;
        let trunk = item::get(cx, &TRUNK, trunk.id())?;
        let response = list::single(cx, &trunk, request, StatusCode::OK)?;
        // Upstream answers member actions with the bare object.
        let bare: Option<Value> = match &response.body {
            ::api::Body::Full(bytes) => serde_json::from_slice::<Value>(bytes).ok().and_then(|mut v| v.get_mut("trunk").map(Value::take)),
            _ => None,
        };
        Ok(bare.map_or(response, |trunk| Response::json(StatusCode::OK, &trunk)))
    })
}
