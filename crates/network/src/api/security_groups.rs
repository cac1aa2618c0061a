//! `/v2.0/security-groups`, their rules, and the rules that new groups begin with.

use super::networks::{rows_for, shared_filter};
use super::subnetpools::extend_shared;
use crate::api_prelude::*;
use crate::attributes;
use crate::model::net::Cidr;
use crate::store::quotas;
use std::collections::HashMap;

/// Security groups.
pub static SECURITY_GROUP: Resource = Resource {
    sight: Sight::Shared("security_group"),
    tags: true,
    quota: Some("security_group"),
    topic: Some("security_group"),
    prepare,
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    extend,
    filter: |cx, select, name, values| {
        if name == "shared" {
            shared_filter(cx, select, "security_group", "t.id", values);
        }
        Ok(name == "shared")
    },
    ..Resource::base(
        "security_group",
        "security_groups",
        "/v2.0/security-groups",
        "/v2.0/security-groups/{id}",
        GROUP,
        |id| Error::SecurityGroupNotFound { id: id.into() },
    )
};

/// Their rules.
pub static RULE: Resource = Resource {
    sight: Sight::GroupRule,
    quota: Some("security_group_rule"),
    prepare,
    create: Some(create_rule),
    delete: Some(delete_rule),
    extend: extend_rules,
    filter: filter_rules,
    ..Resource::base(
        "security_group_rule",
        "security_group_rules",
        "/v2.0/security-group-rules",
        "/v2.0/security-group-rules/{id}",
        RULES,
        |id| Error::SecurityGroupRuleNotFound { id: id.into() },
    )
};

/// Rules that new groups begin with.
pub static DEFAULT_RULE: Resource = Resource {
    sight: Sight::Everyone,
    create: Some(create_default_rule),
    delete: Some(|cx, old| item::delete(cx, old)),
    ..Resource::base(
        "default_security_group_rule",
        "default_security_group_rules",
        "/v2.0/default-security-group-rules",
        "/v2.0/default-security-group-rules/{id}",
        DEFAULT_RULES,
        |id| Error::DefaultSecurityGroupRuleNotFound { id: id.into() },
    )
};

const GROUP: &[Attribute] = attributes![tagged;
    ID, PROJECT, TENANT,
    a("name", "CUVFS").or(Initial::Text("")).is(Check::Rule(check::group_name)).text(),
    a("security_group_rules", "V"),
    a("stateful", "CUVF").or(Initial::Bool(true)).to(convert::boolean).bool(),
    a("shared", "VFP").to(convert::boolean),
    a("is_default", "").bool(),
];

macro_rules! rule_attributes {
    ($($more:expr),* $(,)?) => { attributes![standard;
        ID,
        a("remote_group_id", "CVFS").or(Initial::Null).text(),
        a("direction", "CVFS").is(Check::Values(&["ingress", "egress"])).text(),
        a("protocol", "CVFS").or(Initial::Null).to(convert::protocol).text(),
        a("port_range_min", "CVFS").or(Initial::Null).to(convert::port).int(),
        a("port_range_max", "CVFS").or(Initial::Null).to(convert::port).int(),
        a("ethertype", "CVFS").or(Initial::Text("IPv4")).to(convert::ethertype).text(),
        a("remote_ip_prefix", "CVFS").or(Initial::Null).to(convert::ip_prefix).text(),
        a("remote_address_group_id", "CVFS").or(Initial::Null).text(),
        $($more,)*
    ] };
}

const RULES: &[Attribute] = rule_attributes![
    PROJECT, TENANT,
    a("security_group_id", "CVFS").is(Check::Text(36)).text(),
    a("normalized_cidr", "VFS"),
    a("belongs_to_default_sg", "VF").to(convert::boolean_or_none),
];

const DEFAULT_RULES: &[Attribute] = rule_attributes![
    a("tenant_id", "C").or(Initial::Unset).is(Check::Text(255)),
    a("project_id", "C").or(Initial::Unset).is(Check::Text(255)),
    a("used_in_default_sg", "CVF").or(Initial::Bool(false)).to(convert::boolean).bool(),
    a("used_in_non_default_sg", "CVF").or(Initial::Bool(true)).to(convert::boolean).bool(),
];

/// The default group is made on demand: before a list is read, the project that asks has one.
fn prepare(net: &crate::Network, request: &::api::Request) -> Result<()> {
    let own = request.context().project_id();
    let asked = request.query.get("project_id").or_else(|| request.query.get("tenant_id"));
    let Some(project) = asked.filter(|_| request.context().is_admin()).or(own) else { return Ok(()) };
    let known = "SELECT id FROM security_groups WHERE project_id = ?1 AND is_default = 1";
    if net.db.read(|tx| tx.query_one(known, &params![project]))?.is_none() {
        net.write(request, |cx| ensure_default(cx, project))?;
    }
    Ok(())
}

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    extend_shared(cx, items, "security_group")?;
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let mut rules: HashMap<String, Vec<Value>> = HashMap::new();
    let rows = rows_for(cx, RULE.select_list(), "security_group_rules t", "t.security_group_id", &ids, None, &["t.id"])?;
    let mut found: Vec<Item> = rows.into_iter().map(|row| Item::from_row(&RULE, row)).collect();
    extend_rules(cx, &mut found)?;
    for rule in found {
        let visible = RULE.attributes.iter().zip(&rule.values).filter(|(a, _)| a.visible);
        let map: Map<String, Value> = visible.map(|(a, v)| (a.name.to_string(), v.clone())).collect();
        rules.entry(rule.text("security_group_id").into()).or_default().push(Value::Object(map));
    }
    for item in items {
        let own = rules.remove(item.id()).unwrap_or_default();
        item.set("security_group_rules", own);
    }
    Ok(())
}

fn extend_rules(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let mut groups: Vec<String> = items.iter().map(|i| i.text("security_group_id").to_string()).collect();
    groups.sort();
    groups.dedup();
    let mut defaults: Vec<String> = Vec::new();
    for row in rows_for(cx, "id", "security_groups", "id", &groups, Some(("is_default = ?", &params![1])), &[])? {
        defaults.push(row.get(0)?);
    }
    for item in items {
        let normalized = Cidr::parse(item.text("remote_ip_prefix")).map(|c| c.network().to_string());
        item.set("normalized_cidr", json!(normalized));
        let default = defaults.iter().any(|d| d == item.text("security_group_id"));
        item.set("belongs_to_default_sg", default);
    }
    Ok(())
}

fn filter_rules(_: &mut Cx<'_, '_>, select: &mut Select, name: &str, values: &[String]) -> Result<bool> {
    match name {
        "belongs_to_default_sg" => {
            let not = if values.iter().any(|v| v == "True") { "" } else { "NOT " };
            select.filter(&format!("t.security_group_id {not}IN (SELECT id FROM security_groups WHERE is_default = 1)"), &[]);
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The rules that upstream's database begins with.
pub fn ensure_template(cx: &mut Cx<'_, '_>) -> Result<()> {
    if cx.tx.query_one("SELECT id FROM default_security_group_rules LIMIT 1", &[])?.is_some() {
        return Ok(());
    }
    for ethertype in ["IPv4", "IPv6"] {
        for (direction, remote, non_default) in [("egress", Value::Null, true), ("ingress", json!("PARENT"), false)] {
            let mut body = Body::new();
            for (name, value) in [
                ("direction", json!(direction)),
                ("ethertype", json!(ethertype)),
                ("remote_group_id", remote),
                ("description", json!(format!("Legacy default SG rule for {direction} traffic"))),
                ("used_in_default_sg", json!(true)),
                ("used_in_non_default_sg", json!(non_default)),
            ] {
                body.insert(name.into(), value);
            }
            item::insert(cx, &DEFAULT_RULE, &item::new_id(), &body, &[])?;
        }
    }
    Ok(())
}

/// The id of a project's default group, which is made if need be; `None` where the caller may not make it.
pub fn ensure_default(cx: &mut Cx<'_, '_>, project: &str) -> Result<Option<String>> {
    if project.is_empty() {
        return Ok(None);
    }
    let known = "SELECT id FROM security_groups WHERE project_id = ?1 AND is_default = 1";
    if let Some(id) = cx.tx.scalar(known, &params![project])? {
        return Ok(Some(id));
    }
    if !cx.caller.sees_all() && cx.caller.project() != project {
        return Ok(None);
    }
    let id = item::new_id();
    let mut body = Body::new();
    for (name, value) in [
        ("project_id", json!(project)),
        ("name", json!("default")),
        ("description", json!("Default security group")),
        ("stateful", json!(true)),
        ("is_default", json!(true)),
    ] {
        body.insert(name.into(), value);
    }
    item::insert(cx, &SECURITY_GROUP, &id, &body, &[])?;
    add_template_rules(cx, &id, project, true)?;
    Ok(Some(id))
}

fn add_template_rules(cx: &mut Cx<'_, '_>, group: &str, project: &str, default: bool) -> Result<()> {
    let which = if default { "t.used_in_default_sg = ?" } else { "t.used_in_non_default_sg = ?" };
    let template = item::all_with(cx, &DEFAULT_RULE, which, &params![1])?;
    quotas::take(cx, project, "security_group_rule", template.len() as i64)?;
    for rule in template {
        let mut body = Body::new();
        for name in ["direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_address_group_id", "remote_group_id"] {
            body.insert(name.into(), rule.get(name).clone());
        }
        if body["remote_group_id"] == "PARENT" {
            body.insert("remote_group_id".into(), json!(group));
        }
        body.insert("project_id".into(), json!(project));
        body.insert("security_group_id".into(), json!(group));
        body.insert("description".into(), json!(""));
        item::insert(cx, &RULE, &item::new_id(), &body, &[])?;
    }
    Ok(())
}

fn create(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let id = item::new_id();
    let project = item::text(&body, "project_id").to_string();
    ensure_default(cx, &project)?;
    item::insert(cx, &SECURITY_GROUP, &id, &body, &[])?;
    add_template_rules(cx, &id, &project, false)?;
    Ok(id)
}

fn in_use(cx: &mut Cx<'_, '_>, id: &str) -> Result<bool> {
    Ok(cx.tx.query_one("SELECT port_id FROM port_security_groups WHERE security_group_id = ?1 LIMIT 1", &params![id])?.is_some())
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, body: Body) -> Result<()> {
    if body.get("stateful").is_some_and(|s| s != old.get("stateful")) && in_use(cx, old.id())? {
        return Err(Error::SecurityGroupInUse { id: old.id().into() });
    }
    if old.text("name") == "default" && body.contains_key("name") {
        return Err(Error::SecurityGroupCannotUpdateDefault {});
    }
    item::update(cx, old, &body, &[])?;
    Ok(())
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    if in_use(cx, old.id())? {
        return Err(Error::SecurityGroupInUse { id: old.id().into() });
    }
    if old.text("name") == "default" && !cx.caller.admin {
        return Err(Error::SecurityGroupCannotRemoveDefault {});
    }
    let referring = "SELECT DISTINCT security_group_id FROM security_group_rules WHERE remote_group_id = ?1";
    for group in cx.tx.column::<String>(referring, &params![old.id()])? {
        cx.tx.changed("security_group", &group);
    }
    super::logging::forget(cx, old.id())?;
    cx.tx.execute("DELETE FROM rbac_policies WHERE object_type = 'security_group' AND object_id = ?1", &params![old.id()])?;
    item::delete(cx, old)
}

/// The groups that a port of `project` asks for, checked: they are there, it may use them, and they go together.
pub fn check_for_port(cx: &mut Cx<'_, '_>, groups: &[Value], project: &str) -> Result<Vec<String>> {
    let ids: Vec<String> = groups.iter().map(show).collect();
    let mut stateful = Vec::new();
    let mut missing = Vec::new();
    for id in &ids {
        let row = cx.tx.query_one("SELECT project_id, stateful FROM security_groups WHERE id = ?1", &params![id])?;
        let usable = match &row {
            None => false,
            Some(row) => {
                let owner: String = row.get(0)?;
                let shared = "SELECT id FROM rbac_policies WHERE object_type = 'security_group' AND object_id = ?1 AND action = 'access_as_shared' AND target_project IN (?2, '*')";
                let visible = cx.caller.sees_all() || owner == cx.caller.project() || cx.tx.query_one(shared, &params![id, cx.caller.project()])?.is_some();
                visible
                    && (cx.caller.admin
                        || project.is_empty()
                        || owner == project
                        || cx.tx.query_one(shared, &params![id, project])?.is_some())
            }
        };
        match row {
            Some(row) if usable => stateful.push(row.get::<bool>(1)?),
            _ => missing.push(id.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(Error::SecurityGroupNotFound { id: missing.join(", ") });
    }
    if stateful.contains(&true) && stateful.contains(&false) {
        let reason = "Cannot apply both stateful and stateless security groups on the same port at the same time";
        return Err(Error::SecurityGroupConflict { reason: reason.into() });
    }
    Ok(ids)
}

/// A bulk create of rules is for one group of one project.
pub fn one_group_at_a_time(bodies: &[Body]) -> Result<()> {
    for (name, refusal) in [("security_group_id", Error::SecurityGroupNotSingleGroupRules {}), ("project_id", Error::SecurityGroupRulesNotSingleProject {})] {
        if bodies.windows(2).any(|pair| pair[0].get(name) != pair[1].get(name)) {
            return Err(refusal);
        }
    }
    let keys: Vec<Vec<String>> = bodies.iter().map(|b| key_of(|name| b.get(name).cloned().unwrap_or_default())).collect();
    if keys.iter().enumerate().any(|(i, key)| keys[..i].contains(key)) {
        return Err(Error::DuplicateSecurityGroupRuleInPost {});
    }
    Ok(())
}

fn protocol_number(protocol: &str) -> Option<i64> {
    let known = convert::PROTOCOLS.iter().find(|(name, _)| *name == protocol);
    known.map(|(_, number)| i64::from(*number)).or_else(|| protocol.parse().ok())
}

/// What makes two rules the same: a name and a number of one protocol are one, and so are no prefix and all addresses.
fn key_of(get: impl Fn(&str) -> Value) -> Vec<String> {
    let ethertype = show(&get("ethertype"));
    ["direction", "ethertype", "port_range_max", "port_range_min", "protocol", "remote_group_id", "remote_address_group_id", "remote_ip_prefix"]
        .iter()
        .map(|name| {
            let value = get(name);
            match (*name, value.as_str()) {
                ("remote_ip_prefix", Some("0.0.0.0/0" | "::/0")) => "+".into(),
                ("protocol", Some(protocol)) => {
                    let number = protocol_number(protocol).unwrap_or(-1);
                    let number = if ethertype == "IPv6" && number == 1 { 58 } else { number };
                    number.to_string()
                }
                _ if value.is_null() => "+".into(),
                _ => show(&value),
            }
        })
        .collect()
}

/// Brings a rule into its canonical form and checks it, as upstream does for both kinds of rules.
fn validate_rule(body: &mut Body) -> Result<()> {
    let text = |body: &Body, name: &str| body.get(name).and_then(Value::as_str).map(str::to_string);
    let ethertype = text(body, "ethertype").unwrap_or_default();
    if ethertype == "IPv6" {
        match text(body, "protocol").as_deref() {
            Some("icmp" | "icmpv6") => {
                body.insert("protocol".into(), json!("ipv6-icmp"));
            }
            Some("1") => {
                body.insert("protocol".into(), json!("58"));
            }
            _ => {}
        }
    }
    let number = |body: &Body, name: &str| body.get(name).and_then(Value::as_i64);
    if number(body, "port_range_min") == Some(1) && number(body, "port_range_max") == Some(65535) {
        body.insert("port_range_min".into(), Value::Null);
        body.insert("port_range_max".into(), Value::Null);
    }
    let (min, max) = (number(body, "port_range_min"), number(body, "port_range_max"));
    let protocol = text(body, "protocol");
    if min.is_some() || max.is_some() {
        let Some(protocol) = &protocol else { return Err(Error::SecurityGroupProtocolRequiredWithPorts {}) };
        match protocol_number(protocol) {
            Some(6 | 17 | 33 | 132 | 136) => {
                if min == Some(0) || max == Some(0) {
                    return Err(Error::SecurityGroupInvalidPortValue { port: "0".into() });
                }
                if !matches!((min, max), (Some(min), Some(max)) if min <= max) {
                    return Err(Error::SecurityGroupInvalidPortRange {});
                }
            }
            Some(1 | 58) => {
                for (attr, field, value) in [("port_range_min", "type", min), ("port_range_max", "code", max)] {
                    if let Some(value) = value.filter(|v| !(0..=255).contains(v)) {
                        return Err(Error::SecurityGroupInvalidIcmpValue { field: field.into(), attr: attr.into(), value: value.to_string() });
                    }
                }
                if let (None, Some(max)) = (min, max) {
                    return Err(Error::SecurityGroupMissingIcmpType { value: max.to_string() });
                }
            }
            other => {
                return Err(Error::SecurityGroupInvalidProtocolForPort {
                    protocol: other.map_or_else(|| protocol.clone(), |n| n.to_string()),
                    valid: "DCCP, SCTP, TCP, UDP, UDPLITE".into(),
                });
            }
        }
    }
    if let Some(prefix) = text(body, "remote_ip_prefix")
        && let Some(cidr) = Cidr::parse(&prefix)
        && ethertype != format!("IPv{}", cidr.version())
    {
        return Err(Error::SecurityGroupRuleParameterConflict { ethertype, cidr: prefix });
    }
    if ethertype == "IPv4"
        && let Some(protocol) = &protocol
        && (protocol.starts_with("ipv6-") || protocol == "icmpv6" || matches!(protocol.as_str(), "41" | "44" | "58" | "59" | "60" | "43"))
    {
        return Err(Error::SecurityGroupEthertypeConflictWithProtocol { ethertype, protocol: protocol.clone() });
    }
    let remotes = ["remote_ip_prefix", "remote_group_id", "remote_address_group_id"];
    if remotes.iter().filter(|r| text(body, r).is_some_and(|t| !t.is_empty())).count() > 1 {
        return Err(Error::SecurityGroupMultipleRemoteEntites {});
    }
    Ok(())
}

fn create_rule(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    validate_rule(&mut body)?;
    let group_id = item::text(&body, "security_group_id").to_string();
    if let Some(remote) = body.get("remote_group_id").and_then(Value::as_str).filter(|r| !r.is_empty()) {
        let remote = remote.to_string();
        item::get(cx, &SECURITY_GROUP, &remote)?;
    }
    if let Some(remote) = body.get("remote_address_group_id").and_then(Value::as_str).filter(|r| !r.is_empty()) {
        let remote = remote.to_string();
        item::get(cx, &super::address_groups::ADDRESS_GROUP, &remote)?;
    }
    item::get(cx, &SECURITY_GROUP, &group_id)?;
    let key = key_of(|name| body.get(name).cloned().unwrap_or_default());
    for rule in item::all_with(cx, &RULE, "t.security_group_id = ?", &params![&group_id])? {
        if key_of(|name| rule.get(name).clone()) == key {
            return Err(Error::SecurityGroupRuleExists { rule_id: rule.id().into() });
        }
    }
    let id = item::new_id();
    item::insert(cx, &RULE, &id, &body, &[])?;
    item::bump(cx, &SECURITY_GROUP, &group_id)?;
    Ok(id)
}

fn delete_rule(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    let group = old.text("security_group_id").to_string();
    item::delete(cx, old)?;
    item::bump(cx, &SECURITY_GROUP, &group)
}

fn create_default_rule(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    validate_rule(&mut body)?;
    let key = key_of(|name| body.get(name).cloned().unwrap_or_default());
    for used in ["used_in_default_sg", "used_in_non_default_sg"] {
        if body.get(used) != Some(&json!(true)) {
            continue;
        }
        for rule in item::all_with(cx, &DEFAULT_RULE, &format!("t.{used} = ?"), &params![1])? {
            if key_of(|name| rule.get(name).clone()) == key {
                return Err(Error::DefaultSecurityGroupRuleExists { rule_id: rule.id().into() });
            }
        }
    }
    let id = item::new_id();
    item::insert(cx, &DEFAULT_RULE, &id, &body, &[])?;
    Ok(id)
}
