//! `/v2.0/qos/policies`, and what networks, ports and floating IPs ask of them. Rules are in `qos_rules`.

use super::networks::{rows_for, shared_filter};
use super::subnetpools::extend_shared;
use crate::api_prelude::*;
use crate::attributes;
use std::collections::HashMap;
use virtual_network::topology::Qos;

/// Policies.
pub static POLICY: Resource = Resource {
    table: "qos_policies",
    sight: Sight::Shared("qos_policy"),
    tags: true,
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    extend,
    filter: |cx, select, name, values| {
        if name == "shared" {
            shared_filter(cx, select, "qos_policy", "t.id", values);
        }
        Ok(name == "shared")
    },
    ..Resource::base("policy", "policies", "/v2.0/qos/policies", "/v2.0/qos/policies/{id}", ATTRIBUTES, |id| Error::QosPolicyNotFound { id: id.into() })
};

const ATTRIBUTES: &[Attribute] = attributes![tagged;
    ID, NAME, PROJECT, TENANT,
    a("shared", "CUVF").or(Initial::Bool(false)).to(convert::boolean),
    a("is_default", "CUVF").or(Initial::Bool(false)).to(convert::boolean).bool(),
    a("rules", "V"),
];

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    extend_shared(cx, items, "qos_policy")?;
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let mut rules: HashMap<String, Vec<Value>> = HashMap::new();
    for (policy, rule) in super::qos_rules::of_policies(cx, &ids)? {
        rules.entry(policy).or_default().push(rule);
    }
    for item in items {
        let own = rules.remove(item.id()).unwrap_or_default();
        item.set("rules", own);
    }
    Ok(())
}

fn one_default(cx: &mut Cx<'_, '_>, project: &str, id: &str) -> Result<()> {
    let sql = "SELECT id FROM qos_policies WHERE project_id = ?1 AND is_default = 1 AND id <> ?2";
    match cx.tx.query_one(sql, &params![project, id])? {
        Some(_) => Err(Error::QoSPolicyDefaultAlreadyExists { project_id: project.into() }),
        None => Ok(()),
    }
}

fn share(cx: &mut Cx<'_, '_>, project: &str, id: &str) -> Result<()> {
    super::rbac::grant(cx, project, "qos_policy", id, "access_as_shared", "*")
}

fn create(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let id = item::new_id();
    let project = item::text(&body, "project_id").to_string();
    if body.get("is_default") == Some(&json!(true)) {
        one_default(cx, &project, &id)?;
    }
    item::insert(cx, &POLICY, &id, &body, &[])?;
    if body.get("shared") == Some(&json!(true)) {
        share(cx, &project, &id)?;
    }
    Ok(id)
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, body: Body) -> Result<()> {
    let project = old.text("project_id").to_string();
    if body.get("is_default") == Some(&json!(true)) && !old.is("is_default") {
        one_default(cx, &project, old.id())?;
    }
    match body.get("shared").and_then(Value::as_bool) {
        Some(true) if !old.is("shared") => share(cx, &project, old.id())?,
        Some(false) if old.is("shared") => {
            for user in users(cx, old.id())? {
                // The owner counts as well, as upstream has it, unless a policy of its own lets it.
                let own = "SELECT id FROM rbac_policies WHERE object_type = 'qos_policy' AND object_id = ?1 AND target_project = ?2";
                if cx.tx.query_one(own, &params![old.id(), &user])?.is_none() {
                    return Err(Error::RbacPolicyInUse { object_id: old.id().into(), details: "project_id=*".into() });
                }
            }
            let sql = "DELETE FROM rbac_policies WHERE object_type = 'qos_policy' AND object_id = ?1 AND target_project = '*'";
            cx.tx.execute(sql, &params![old.id()])?;
        }
        _ => {}
    }
    item::update(cx, old, &body, &[])?;
    Ok(())
}

fn users(cx: &mut Cx<'_, '_>, id: &str) -> Result<Vec<String>> {
    let sql = "SELECT project_id FROM networks WHERE qos_policy_id = ?1 UNION SELECT project_id FROM ports WHERE qos_policy_id = ?1";
    Ok(cx.tx.column(sql, &params![id])?)
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    for (kind, table) in [("network", "networks"), ("port", "ports"), ("fip", "floatingips")] {
        let sql = format!("SELECT id FROM {table} WHERE qos_policy_id = ?1 LIMIT 1");
        if let Some(object_id) = cx.tx.scalar::<String>(&sql, &params![old.id()])? {
            return Err(Error::QosPolicyInUse { policy_id: old.id().into(), object_type: kind.into(), object_id });
        }
    }
    cx.tx.execute("DELETE FROM rbac_policies WHERE object_type = 'qos_policy' AND object_id = ?1", &params![old.id()])?;
    item::delete(cx, old)
}

/// A policy that a network, port or floating IP names must be there for the caller.
pub fn check_policy(cx: &mut Cx<'_, '_>, id: Option<&Value>) -> Result<()> {
    let Some(id) = id.and_then(Value::as_str) else { return Ok(()) };
    let id = id.to_string();
    item::get(cx, &POLICY, &id).map(|_| ())
}

/// The policy that networks of a project have unless they name another.
pub fn default_policy(cx: &mut Cx<'_, '_>, project: &str) -> Result<Option<String>> {
    Ok(cx.tx.scalar("SELECT id FROM qos_policies WHERE project_id = ?1 AND is_default = 1", &params![project])?)
}

/// A network, port or floating IP gets another policy, or none: the new one must be there, and the old one the caller's to take away.
pub fn check_change(cx: &mut Cx<'_, '_>, old: &Item, body: &Body) -> Result<()> {
    let Some(new) = body.get("qos_policy_id") else { return Ok(()) };
    let current = old.get("qos_policy_id");
    if current == new {
        return Ok(());
    }
    if let Some(current) = current.as_str()
        && item::find(cx, &POLICY, current)?.is_none()
    {
        return Err(Error::PolicyRemoveAuthorizationError { policy_id: current.into() });
    }
    check_policy(cx, Some(new))
}

/// Everything that follows a policy looks different to its nodes.
pub fn changed(cx: &mut Cx<'_, '_>, id: &str) -> Result<()> {
    let sql = "SELECT p.id FROM ports p JOIN networks n ON n.id = p.network_id WHERE p.qos_policy_id = ?1 OR (p.qos_policy_id IS NULL AND n.qos_policy_id = ?1)";
    for port in cx.tx.column::<String>(sql, &params![id])? {
        cx.tx.changed("port", &port);
    }
    Ok(())
}

/// What a policy asks of a port's traffic; `None` where it asks for nothing.
pub fn limits(cx: &mut Cx<'_, '_>, policy: &str) -> Result<Option<Qos>> {
    let mut qos = Qos::default();
    let sql = "SELECT rule_type, direction, max_kbps, max_burst_kbps, dscp_mark FROM qos_rules WHERE policy_id = ?1";
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    for row in cx.tx.query(sql, &params![policy])? {
        let (kind, direction): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        match (kind.as_str(), direction.as_deref()) {
            ("bandwidth_limit", Some("ingress")) => {
                qos.ingress_kbps = number(row.get(2)?);
                qos.ingress_burst_kbits = number(row.get(3)?).filter(|b| *b > 0);
            }
            ("bandwidth_limit", _) => {
                qos.egress_kbps = number(row.get(2)?);
                qos.egress_burst_kbits = number(row.get(3)?).filter(|b| *b > 0);
            }
            ("dscp_marking", _) => qos.dscp_mark = row.get::<Option<i64>>(4)?.and_then(|n| u8::try_from(n).ok()),
            _ => {}
        }
    }
    Ok((qos != Qos::default()).then_some(qos))
}

/// Fills in the policy that a port has by its network, and what ports ask of Placement by their policies' minimum rules.
pub fn extend_ports(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let mut networks: Vec<String> = items.iter().map(|p| p.text("network_id").to_string()).collect();
    networks.sort();
    networks.dedup();
    let also = "qos_policy_id IS NOT NULL";
    let mut inherited: HashMap<String, String> = HashMap::new();
    for row in rows_for(cx, "id, qos_policy_id", "networks", "id", &networks, Some((also, &[])), &[])? {
        inherited.insert(row.get(0)?, row.get(1)?);
    }
    let mut policies: Vec<String> = Vec::new();
    for port in items.iter_mut() {
        port.set("qos_network_policy_id", json!(inherited.get(port.text("network_id"))));
        policies.extend(effective(port));
    }
    policies.sort();
    policies.dedup();
    if policies.is_empty() {
        return Ok(());
    }
    let mut rules: HashMap<String, Vec<Value>> = HashMap::new();
    for (policy, rule) in super::qos_rules::of_policies(cx, &policies)? {
        rules.entry(policy).or_default().push(rule);
    }
    rules.retain(|_, rules| rules.iter().any(|r| r["type"] == "minimum_bandwidth" || r["type"] == "minimum_packet_rate"));
    if rules.is_empty() {
        return Ok(());
    }
    let mut physical: HashMap<String, Option<String>> = HashMap::new();
    for row in rows_for(cx, "network_id, physical_network", "network_segments", "network_id", &networks, None, &["segment_index"])? {
        physical.entry(row.get(0)?).or_insert(row.get(1)?);
    }
    for port in items {
        let Some(rules) = effective(port).and_then(|policy| rules.get(&policy)) else { continue };
        let physical = physical.get(port.text("network_id")).cloned().flatten();
        port.set("resource_request", resource_request(port, rules, physical.as_deref()));
    }
    Ok(())
}

fn effective(port: &Item) -> Option<String> {
    let own = port.get("qos_policy_id").as_str();
    own.or_else(|| port.get("qos_network_policy_id").as_str()).map(str::to_string)
}

/// What a port asks of Placement: a group for its bandwidth and one for its packets, from one provider's subtree.
fn resource_request(port: &Item, rules: &[Value], physical: Option<&str>) -> Value {
    let custom = |text: &str| -> String { text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect() };
    let vnic = format!("CUSTOM_VNIC_TYPE_{}", custom(port.text("binding:vnic_type")));
    let net = physical.map_or("CUSTOM_NETWORK_TUNNEL_PROVIDER".to_string(), |p| format!("CUSTOM_PHYSNET_{}", custom(p)));
    let namespace = uuid::Uuid::parse_str(port.id()).unwrap_or_default();
    let mut groups: Vec<Value> = Vec::new();
    for (kind, amount, required) in [("minimum_bandwidth", "min_kbps", vec![net, vnic.clone()]), ("minimum_packet_rate", "min_kpps", vec![vnic])] {
        let mut resources = Map::new();
        let mut ids: Vec<String> = Vec::new();
        for rule in rules.iter().filter(|r| r["type"] == kind) {
            let class = match (kind, rule["direction"].as_str()) {
                ("minimum_bandwidth", Some("ingress")) => "NET_BW_IGR_KILOBIT_PER_SEC",
                ("minimum_bandwidth", _) => "NET_BW_EGR_KILOBIT_PER_SEC",
                (_, Some("ingress")) => "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
                (_, Some("egress")) => "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
                _ => "NET_PACKET_RATE_KILOPACKET_PER_SEC",
            };
            resources.insert(class.into(), rule[amount].clone());
            ids.push(show(&rule["id"]));
        }
        if !resources.is_empty() {
            let id = uuid::Uuid::new_v5(&namespace, ids.join(":").as_bytes());
            groups.push(json!({"id": id.to_string(), "required": required, "resources": resources}));
        }
    }
    if groups.is_empty() {
        return Value::Null;
    }
    let ids: Vec<Value> = groups.iter().map(|g| g["id"].clone()).collect();
    json!({"request_groups": groups, "same_subtree": ids})
}
