//! `/v2.0/agents` and `/v2.0/availability_zones`: the nodes, as the Network API's clients know them. Each node counts as one
//! agent of each kind whose work it does.

use super::list;
use crate::api_prelude::*;
use crate::attributes;
use ::api::{Request, Response};

/// Agents.
pub static AGENT: Resource = Resource {
    sight: Sight::Everyone,
    standard: false,
    update: Some(|cx, old, body| item::update(cx, old, &body, &[]).map(|_| ())),
    delete: Some(|cx, old| item::delete(cx, old)),
    extend,
    filter,
    ..Resource::base("agent", "agents", "/v2.0/agents", "/v2.0/agents/{id}", ATTRIBUTES, |id| Error::AgentNotFound { id: id.into() })
};

const ATTRIBUTES: &[Attribute] = attributes![plain;
    a("id", "VFS").text(),
    a("agent_type", "VFS").text(),
    a("binary", "VFS").at("binary_name", Kind::Text),
    a("topic", "VFS").text(),
    a("host", "VFS").text(),
    a("admin_state_up", "UVFS").to(convert::boolean).bool(),
    a("created_at", "V").time(),
    a("started_at", "V").time(),
    a("heartbeat_timestamp", "V").time(),
    a("alive", "VF").to(convert::boolean),
    a("configurations", "V").json(),
    a("description", "UVF").is(Check::TextOrNone(255)).text(),
    a("availability_zone", "VF").text(),
    a("resources_synced", "V"),
];

fn oldest_beat(cx: &Cx<'_, '_>) -> i64 {
    database::now() - i64::from(cx.net.config.agent_down_time) * 1_000_000
}

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let oldest = oldest_beat(cx);
    for item in items {
        let beat = api_time(item.text("heartbeat_timestamp"));
        item.set("alive", beat >= oldest - 1_000_000);
        for name in ["created_at", "started_at", "heartbeat_timestamp"] {
            // Agents' times have a blank and no zone.
            let shown = item.text(name).replace('T', " ").replace('Z', "");
            item.set(name, shown);
        }
    }
    Ok(())
}

fn api_time(text: &str) -> i64 {
    ::api::time::parse(text).unwrap_or(0)
}

fn filter(cx: &mut Cx<'_, '_>, select: &mut Select, name: &str, values: &[String]) -> Result<bool> {
    if name != "alive" {
        return Ok(false);
    }
    let condition = if values.iter().any(|v| v == "True") { "t.heartbeat_timestamp >= ?" } else { "t.heartbeat_timestamp < ?" };
    select.filter(condition, &params![oldest_beat(cx)]);
    Ok(true)
}

/// The kinds of agents that a node is, with their programs and topics.
const KINDS: &[(&str, &str, &str)] = &[
    ("Open vSwitch agent", "neutron-openvswitch-agent", "N/A"),
    ("DHCP agent", "neutron-dhcp-agent", "dhcp_agent"),
    ("L3 agent", "neutron-l3-agent", "l3_agent"),
    ("Metadata agent", "neutron-metadata-agent", "N/A"),
];

/// A node said who it is, or that it lives.
pub struct NodeReport<'a> {
    /// Its name.
    pub host: &'a str,
    /// Its end of the tunnels.
    pub tunnel_ip: Option<&'a str>,
    /// Its integration bridge.
    pub integration_bridge: &'a str,
    /// `system` or `netdev`.
    pub datapath_type: &'a str,
    /// Physical network to bridge.
    pub bridge_mappings: Value,
    /// Types of tunnels that it has.
    pub tunnel_types: Vec<String>,
}

/// Writes a node's report down. What its neighbours must know of it is told when it changes.
pub fn reported(cx: &mut Cx<'_, '_>, report: &NodeReport<'_>) -> Result<()> {
    let now = database::now();
    let known = "SELECT tunnel_ip, integration_bridge, datapath_type, bridge_mappings FROM network_nodes WHERE hostname = ?1";
    let mappings = report.bridge_mappings.to_string();
    let same = match cx.tx.query_one(known, &params![report.host])? {
        Some(row) => {
            row.get::<Option<String>>(0)?.as_deref() == report.tunnel_ip
                && row.get::<String>(1)? == report.integration_bridge
                && row.get::<String>(2)? == report.datapath_type
                && row.get::<String>(3)? == mappings
        }
        None => false,
    };
    if !same {
        cx.tx.execute(
            "INSERT INTO network_nodes (hostname, tunnel_ip, integration_bridge, datapath_type, bridge_mappings, seen_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (hostname) DO UPDATE SET tunnel_ip = excluded.tunnel_ip, integration_bridge = excluded.integration_bridge,
             datapath_type = excluded.datapath_type, bridge_mappings = excluded.bridge_mappings, seen_at = excluded.seen_at",
            &params![report.host, report.tunnel_ip, report.integration_bridge, report.datapath_type, mappings, now],
        )?;
        cx.tx.changed("network_node", report.host);
    }
    let zone = cx.net.config.availability_zone.clone();
    for (kind, program, topic) in KINDS {
        let (zone, configurations) = match *kind {
            "Open vSwitch agent" => (
                None,
                json!({"bridge_mappings": report.bridge_mappings, "tunnel_types": report.tunnel_types, "tunneling_ip": report.tunnel_ip,
                       "integration_bridge": report.integration_bridge, "datapath_type": report.datapath_type, "l2_population": true,
                       "arp_responder_enabled": true, "enable_distributed_routing": true}),
            ),
            "DHCP agent" => (Some(zone.as_str()), json!({"dhcp_driver": "ferrostack", "networks": 0, "ports": 0, "subnets": 0})),
            "L3 agent" => (Some(zone.as_str()), json!({"agent_mode": "dvr", "routers": 0, "handle_internal_only_routers": true})),
            _ => (None, json!({"metadata_proxy_socket": ""})),
        };
        cx.tx.execute(
            "INSERT INTO agents (id, agent_type, binary_name, topic, host, availability_zone, admin_state_up, created_at, started_at, heartbeat_timestamp, configurations)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?7, ?7, ?8)
             ON CONFLICT (agent_type, host) DO UPDATE SET heartbeat_timestamp = excluded.heartbeat_timestamp, configurations = excluded.configurations",
            &params![item::new_id(), *kind, *program, *topic, report.host, zone, now, configurations],
        )?;
    }
    Ok(())
}

/// A node lives.
pub fn beat(cx: &mut Cx<'_, '_>, host: &str) -> Result<()> {
    cx.tx.execute("UPDATE agents SET heartbeat_timestamp = ?2 WHERE host = ?1", &params![host, database::now()])?;
    Ok(())
}

/// Zones of living agents of a kind.
pub fn zones(cx: &mut Cx<'_, '_>, kind: &str) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT availability_zone FROM agents WHERE agent_type = ?1 AND availability_zone IS NOT NULL AND heartbeat_timestamp >= ?2 ORDER BY availability_zone";
    Ok(cx.tx.column(sql, &params![kind, oldest_beat(cx)])?)
}

/// Hints must name zones that there are.
pub fn check_zones(cx: &mut Cx<'_, '_>, hints: Option<&Value>) -> Result<()> {
    let hints = hints.and_then(Value::as_array).cloned().unwrap_or_default();
    for hint in hints.iter().map(show) {
        let known = cx.tx.query_one("SELECT id FROM agents WHERE availability_zone = ?1 LIMIT 1", &params![&hint])?.is_some();
        if !known && hint != cx.net.config.availability_zone {
            return Err(Error::AvailabilityZoneNotFound { zone: hint });
        }
    }
    Ok(())
}

/// Availability zones.
pub static ZONE: Resource = Resource {
    sight: Sight::Everyone,
    standard: false,
    key: "name",
    ..Resource::base("availability_zone", "availability_zones", "/v2.0/availability_zones", "/v2.0/availability_zones/{id}", ZONES, |id| Error::AvailabilityZoneNotFound { zone: id.into() })
};

const ZONES: &[Attribute] = attributes![plain; a("name", "VF"), a("resource", "VF"), a("state", "VF")];

/// GET of the zones.
pub fn list_zones(net: &crate::Network, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        let sql = "SELECT availability_zone, agent_type, MAX(heartbeat_timestamp) FROM agents WHERE availability_zone IS NOT NULL AND admin_state_up = 1
             GROUP BY availability_zone, agent_type ORDER BY availability_zone, agent_type";
        let mut found = Vec::new();
        for row in cx.tx.query(sql, &[])? {
            let (zone, kind): (String, String) = (row.get(0)?, row.get(1)?);
            let mut item = Item { resource: &ZONE, values: vec![Value::Null; ZONES.len()] };
            item.set("name", zone);
            item.set("resource", if kind == "L3 agent" { "router" } else { "network" });
            item.set("state", "available");
            found.push(item);
        }
        list::list_of(cx, &ZONE, request, found)
    })
}
