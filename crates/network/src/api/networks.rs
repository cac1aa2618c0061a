//! `/v2.0/networks`

use crate::api_prelude::*;
use crate::attributes;
use crate::store::segments::{self, Wish};
use std::collections::{HashMap, HashSet};

/// Networks.
pub static NETWORK: Resource = Resource {
    sight: Sight::Shared("network"),
    tags: true,
    quota: Some("network"),
    topic: Some("network"),
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    extend,
    filter,
    ..Resource::base("network", "networks", "/v2.0/networks", "/v2.0/networks/{id}", ATTRIBUTES, |id| Error::NetworkNotFound { id: id.into() })
};

const ATTRIBUTES: &[Attribute] = attributes![tagged;
    ID, NAME, PROJECT, TENANT, ADMIN_STATE,
    a("subnets", "V"),
    a("status", "VFS").text(),
    a("shared", "CUVFP").or(Initial::Bool(false)).to(convert::boolean),
    a("ipv4_address_scope", "V"),
    a("ipv6_address_scope", "V"),
    a("is_default", "CUVFPO").or(Initial::Bool(false)).to(convert::boolean).bool(),
    a("dns_domain", "CUV").or(Initial::Text("")).to(convert::lower).is(Check::Rule(check::dns_domain)).text(),
    a("router:external", "CUVFP").or(Initial::Bool(false)).to(convert::boolean).at("external", Kind::Bool),
    a("segments", "CUVPO").or(Initial::Unset).is(Check::Rule(check::segments)),
    a("mtu", "CUVFSP").or(Initial::Int(0)).to(convert::int).is(Check::NonNegative).int(),
    a("availability_zones", "V"),
    a("availability_zone_hints", "CVS").or(Initial::List).is(Check::Rule(check::zone_hints)).json(),
    a("port_security_enabled", "CUVP").or(Initial::Bool(true)).to(convert::boolean).bool(),
    a("provider:network_type", "CUVFP").or(Initial::Unset).is(Check::Text(32)),
    a("provider:physical_network", "CUVFP").or(Initial::Unset).is(Check::Text(64)),
    a("provider:segmentation_id", "CUVFP").or(Initial::Unset).to(convert::int),
    a("qos_policy_id", "CUV").or(Initial::Null).is(Check::UuidOrNone).text(),
];

/// `?` for each value, for an IN list.
pub fn places(count: usize) -> String {
    vec!["?"; count.max(1)].join(", ")
}

/// The rows of `from` whose `key` is one of `ids` and that meet `also`, in chunks.
pub fn rows_for(cx: &mut Cx<'_, '_>, columns: &str, from: &str, key: &str, ids: &[String], also: Option<(&str, &[Sql])>, order: &[&str]) -> Result<Vec<database::Row>> {
    let mut rows = Vec::new();
    for chunk in ids.chunks(500) {
        let values: Vec<Sql> = chunk.iter().map(Sql::from).collect();
        let mut select = Select::new(columns, from);
        select.filter_in(key, &values);
        if let Some((condition, params)) = also {
            select.filter(condition, params);
        }
        for column in order {
            select.order(column, database::Direction::Ascending);
        }
        rows.extend(select.rows(cx.tx)?);
    }
    Ok(rows)
}

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let also = "object_type = 'network' AND action = 'access_as_shared' AND target_project IN (?, '*')";
    let also_values = params![cx.caller.project()];
    let mut shared: HashSet<String> = HashSet::new();
    for row in rows_for(cx, "object_id", "rbac_policies", "object_id", &ids, Some((also, &also_values)), &[])? {
        shared.insert(row.get(0)?);
    }
    let mut subnets: HashMap<String, Vec<Value>> = HashMap::new();
    let mut scopes: HashMap<(String, i64), String> = HashMap::new();
    let mut dhcp: HashSet<String> = HashSet::new();
    let from = "subnets s LEFT JOIN subnetpools p ON p.id = s.subnetpool_id";
    let columns = "s.network_id, s.id, s.ip_version, p.address_scope_id, s.enable_dhcp";
    for row in rows_for(cx, columns, from, "s.network_id", &ids, None, &["s.created_at", "s.id"])? {
        let network: String = row.get(0)?;
        subnets.entry(network.clone()).or_default().push(Value::String(row.get(1)?));
        if let Some(scope) = row.get::<Option<String>>(3)? {
            scopes.insert((network.clone(), row.get(2)?), scope);
        }
        if row.get::<bool>(4)? {
            dhcp.insert(network);
        }
    }
    let mut found: HashMap<String, Vec<Value>> = HashMap::new();
    let columns = "network_id, network_type, physical_network, segmentation_id";
    for row in rows_for(cx, columns, "network_segments", "network_id", &ids, None, &["segment_index", "id"])? {
        let segment = json!({
            "provider:network_type": row.get::<String>(1)?,
            "provider:physical_network": row.get::<Option<String>>(2)?,
            "provider:segmentation_id": row.get::<Option<i64>>(3)?,
        });
        found.entry(row.get(0)?).or_default().push(segment);
    }
    let zones: Vec<String> = super::agents::zones(cx, "DHCP agent")?;
    for item in items {
        let id = item.id().to_string();
        item.set("shared", shared.contains(&id));
        for version in [4, 6] {
            let scope = scopes.remove(&(id.clone(), version));
            item.set(&format!("ipv{version}_address_scope"), json!(scope));
        }
        item.set("subnets", subnets.remove(&id).unwrap_or_default());
        item.set("availability_zones", if dhcp.contains(&id) { json!(zones) } else { json!([]) });
        if !item.is("router:external") {
            item.set("is_default", Value::Null);
        }
        let segments = found.remove(&id).unwrap_or_default();
        match segments.as_slice() {
            [one] => {
                for key in ["provider:network_type", "provider:physical_network", "provider:segmentation_id"] {
                    item.set(key, one[key].clone());
                }
            }
            [] => {}
            _ => item.set("segments", segments),
        }
    }
    Ok(())
}

/// The condition that an object is shared with a project (or with all), for filters on `shared`.
pub fn shared_filter(cx: &Cx<'_, '_>, select: &mut Select, kind: &str, column: &str, values: &[String]) {
    let not = if values.iter().all(|v| v == "True") { "" } else { "NOT " };
    let condition = format!(
        "{column} {not}IN (SELECT object_id FROM rbac_policies WHERE object_type = ? AND action = 'access_as_shared' AND target_project IN (?, '*'))"
    );
    select.filter(&condition, &params![kind, cx.caller.project()]);
}

fn filter(cx: &mut Cx<'_, '_>, select: &mut Select, name: &str, values: &[String]) -> Result<bool> {
    let column = match name {
        "shared" => {
            shared_filter(cx, select, "network", "t.id", values);
            return Ok(true);
        }
        "provider:network_type" => "network_type",
        "provider:physical_network" => "physical_network",
        "provider:segmentation_id" => "segmentation_id",
        _ => return Ok(false),
    };
    let values: Vec<Sql> = values
        .iter()
        .map(|v| if column == "segmentation_id" { v.parse::<i64>().map_or(Sql::Null, Sql::Int) } else { Sql::from(v) })
        .collect();
    let condition = format!("t.id IN (SELECT network_id FROM network_segments WHERE {column} IN ({}))", places(values.len()));
    select.filter(&condition, &values);
    Ok(true)
}

fn wish(map: &Map<String, Value>) -> Wish {
    let text = |key: &str| map.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_string);
    Wish {
        network_type: text("provider:network_type").unwrap_or_default(),
        physical_network: text("provider:physical_network"),
        segmentation_id: map.get("provider:segmentation_id").and_then(convert::as_int),
    }
}

/// The segments that a POST asks for; none leaves the choice to the cloud.
fn wishes(cx: &Cx<'_, '_>, body: &Body) -> Result<Vec<Wish>> {
    let provider = ["provider:network_type", "provider:physical_network", "provider:segmentation_id"];
    let single = provider.iter().any(|k| body.get(*k).is_some_and(|v| !v.is_null()));
    let several = body.get("segments").and_then(Value::as_array).filter(|s| !s.is_empty());
    let asked: Vec<Wish> = match (single, several) {
        (true, Some(_)) => return Err(Error::SegmentsSetInConjunctionWithProviders {}),
        (true, None) => vec![wish(body)],
        (false, Some(segments)) => segments.iter().filter_map(Value::as_object).map(wish).collect(),
        (false, None) => return Ok(Vec::new()),
    };
    for (i, one) in asked.iter().enumerate() {
        if one.network_type.is_empty() {
            return Err(Error::input("network_type required"));
        }
        segments::validate(cx, one)?;
        if one.segmentation_id.is_some() && asked[..i].contains(one) {
            return Err(Error::SegmentsContainDuplicateEntry {});
        }
    }
    Ok(asked)
}

fn largest_mtu(cx: &Cx<'_, '_>, types: impl Iterator<Item = String>) -> i64 {
    let config = &cx.net.config;
    types.map(|t| config.mtu(&t)).min().unwrap_or_else(|| config.mtu("flat"))
}

fn create(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    let id = item::new_id();
    let project = item::text(&body, "project_id").to_string();
    super::security_groups::ensure_default(cx, &project)?;
    super::agents::check_zones(cx, body.get("availability_zone_hints"))?;
    super::qos::check_policy(cx, body.get("qos_policy_id"))?;
    if body.get("qos_policy_id").is_none_or(Value::is_null) {
        let default = super::qos::default_policy(cx, &project)?;
        body.insert("qos_policy_id".into(), json!(default));
    }
    let mut got = Vec::new();
    for wish in wishes(cx, &body)? {
        got.push(segments::reserve(cx, &wish, &project)?);
    }
    if got.is_empty() {
        got.push(segments::any(cx, &project)?);
    }
    let most = largest_mtu(cx, got.iter().map(|s| s.network_type.clone()));
    let asked = body.get("mtu").and_then(Value::as_i64).unwrap_or(0);
    if asked > most {
        return Err(Error::input(format!("Requested MTU is too big, maximum is {most}")));
    }
    body.insert("mtu".into(), json!(if asked == 0 { most } else { asked }));
    if body.get("is_default") == Some(&json!(true)) {
        one_default(cx, item::text(&body, "id"), body.get("router:external") == Some(&json!(true)))?;
    }
    item::insert(cx, &NETWORK, &id, &body, &[("status", Sql::from("ACTIVE"))])?;
    for (index, segment) in got.iter().enumerate() {
        segments::add(cx, &id, segment, index as i64, None, None)?;
    }
    if body.get("shared") == Some(&json!(true)) {
        super::rbac::grant(cx, &project, "network", &id, "access_as_shared", "*")?;
    }
    if body.get("router:external") == Some(&json!(true)) {
        super::rbac::grant(cx, &project, "network", &id, "access_as_external", "*")?;
    }
    Ok(id)
}

/// There is one default external network at most.
fn one_default(cx: &mut Cx<'_, '_>, id: &str, external: bool) -> Result<()> {
    if !external {
        return Ok(());
    }
    let other: Option<String> = cx.tx.scalar("SELECT id FROM networks WHERE is_default = 1 AND id <> ?1", &params![id])?;
    match other {
        Some(other) => Err(Error::DefaultExternalNetworkExists { net_id: other }),
        None => Ok(()),
    }
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, body: Body) -> Result<()> {
    let id = old.id().to_string();
    let project = old.text("project_id").to_string();
    for key in ["provider:network_type", "provider:physical_network"] {
        if body.get(key).is_some_and(|v| !v.is_null() && v != old.get(key)) {
            return Err(Error::input(
                "Plugin does not support updating the following provider network attributes: provider:network_type, provider:physical_network",
            ));
        }
    }
    let mut touched = false;
    if let Some(new) = body.get("provider:segmentation_id").and_then(Value::as_i64)
        && old.get("provider:segmentation_id") != new
    {
        renumber(cx, old, new)?;
        touched = true;
    }
    super::qos::check_change(cx, old, &body)?;
    if let Some(mtu) = body.get("mtu").and_then(Value::as_i64) {
        touched |= check_mtu(cx, old, mtu)?;
    }
    if let Some(shared) = body.get("shared").and_then(Value::as_bool) {
        let all = "SELECT id FROM rbac_policies WHERE object_type = 'network' AND object_id = ?1 AND action = 'access_as_shared' AND target_project = '*'";
        let entry: Option<String> = cx.tx.scalar(all, &params![&id])?;
        match (shared, entry) {
            (true, None) => {
                super::rbac::grant(cx, &project, "network", &id, "access_as_shared", "*")?;
                touched = true;
            }
            (false, Some(entry)) => {
                check_unshare(cx, old)?;
                cx.tx.execute("DELETE FROM rbac_policies WHERE id = ?1", &params![entry])?;
                touched = true;
            }
            _ => {}
        }
    }
    if let Some(external) = body.get("router:external").and_then(Value::as_bool) {
        set_external(cx, &id, &project, old.is("router:external"), external, true)?;
    }
    if body.get("is_default") == Some(&json!(true)) {
        one_default(cx, &id, body.get("router:external").map_or(old.is("router:external"), |v| v == true))?;
    }
    let mut body = body;
    if body.get("mtu") == Some(&json!(0)) {
        let types = types(cx, &id)?;
        let most = largest_mtu(cx, types.into_iter());
        body.insert("mtu".into(), json!(most));
    }
    if !item::update(cx, old, &body, &[])? && touched {
        item::bump(cx, &NETWORK, &id)?;
    }
    Ok(())
}

/// Makes a network external or ends that; `everyone` also shares it so with all projects.
pub fn set_external(cx: &mut Cx<'_, '_>, id: &str, project: &str, was: bool, external: bool, everyone: bool) -> Result<()> {
    if was == external {
        return Ok(());
    }
    if external {
        if everyone {
            super::rbac::grant(cx, project, "network", id, "access_as_external", "*")?;
        }
    } else {
        let gateways = "SELECT id FROM ports WHERE network_id = ?1 AND device_owner = 'network:router_gateway' LIMIT 1";
        if cx.tx.query_one(gateways, &params![id])?.is_some() {
            return Err(Error::ExternalNetworkInUse { id: id.into() });
        }
        let sql = "DELETE FROM rbac_policies WHERE object_type = 'network' AND object_id = ?1 AND action = 'access_as_external'";
        cx.tx.execute(sql, &params![id])?;
    }
    Ok(())
}

fn types(cx: &mut Cx<'_, '_>, id: &str) -> Result<Vec<String>> {
    Ok(cx.tx.column("SELECT network_type FROM network_segments WHERE network_id = ?1", &params![id])?)
}

fn check_mtu(cx: &mut Cx<'_, '_>, old: &Item, mtu: i64) -> Result<bool> {
    let types = types(cx, old.id())?;
    let most = largest_mtu(cx, types.into_iter());
    if mtu > most {
        return Err(Error::input(format!("Requested MTU is too big, maximum is {most}")));
    }
    if mtu != 0 && mtu < 1280 {
        let versions: Vec<i64> = cx.tx.column("SELECT ip_version FROM subnets WHERE network_id = ?1", &params![old.id()])?;
        if !versions.is_empty() && mtu < 68 {
            return Err(Error::NetworkMTUSubnetConflict { id: old.id().into(), mtu: "68".into() });
        }
        if versions.contains(&6) {
            return Err(Error::NetworkMTUSubnetConflict { id: old.id().into(), mtu: "1280".into() });
        }
    }
    Ok(old.int("mtu") != mtu && mtu != 0)
}

fn check_unshare(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    let mut users: HashSet<String> = HashSet::new();
    let ports = "SELECT DISTINCT project_id FROM ports WHERE network_id = ?1 AND device_owner NOT LIKE 'network:%'";
    users.extend(cx.tx.column::<String>(ports, &params![old.id()])?);
    users.extend(cx.tx.column::<String>("SELECT DISTINCT project_id FROM subnets WHERE network_id = ?1", &params![old.id()])?);
    let grants = "SELECT target_project FROM rbac_policies WHERE object_type = 'network' AND object_id = ?1 AND action = 'access_as_shared'";
    let allowed: Vec<String> = cx.tx.column(grants, &params![old.id()])?;
    users.retain(|user| user != old.text("project_id") && !allowed.contains(user));
    if users.is_empty() { Ok(()) } else { Err(Error::InvalidSharedSetting { network: old.text("name").into() }) }
}

fn renumber(cx: &mut Cx<'_, '_>, old: &Item, new: i64) -> Result<()> {
    if old.get("segments").is_array() {
        return Err(Error::input("Provider network attributes can be updated only in provider networks with a single segment."));
    }
    if old.text("provider:network_type") != "vlan" {
        return Err(Error::input("Only VLAN type networks can be updated."));
    }
    let wish = Wish {
        network_type: "vlan".into(),
        physical_network: Some(old.text("provider:physical_network").into()),
        segmentation_id: Some(new),
    };
    segments::validate(cx, &wish)?;
    segments::reserve(cx, &wish, old.text("project_id"))?;
    let sql = "UPDATE network_segments SET segmentation_id = ?2, revision_number = revision_number + 1 WHERE network_id = ?1";
    cx.tx.execute(sql, &params![old.id(), new])?;
    segments::release(cx, "vlan", wish.physical_network.as_deref(), old.int("provider:segmentation_id"))
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    let id = old.id().to_string();
    let idle = "SELECT id FROM floatingips WHERE floating_network_id = ?1 AND port_id IS NULL";
    for fip in cx.tx.column::<String>(idle, &params![&id])? {
        let fip = item::get_any(cx, &super::floatingips::FLOATINGIP, &fip)?;
        super::floatingips::delete(cx, &fip)?;
    }
    // Ports that the cloud itself put there go with the network.
    let own = "('network:dhcp', 'network:distributed', 'network:floatingip_agent_gateway')";
    let used: Vec<String> =
        cx.tx.column(&format!("SELECT id FROM ports WHERE network_id = ?1 AND device_owner NOT IN {own} ORDER BY id"), &params![&id])?;
    if !used.is_empty() {
        let reason = format!("There are one or more ports still in use on the network, id for these ports is: {}", used.join(","));
        return Err(Error::NetworkInUse { id, reason });
    }
    for port in cx.tx.column::<String>("SELECT id FROM ports WHERE network_id = ?1", &params![&id])? {
        super::ports::remove(cx, &port)?;
    }
    for subnet in item::all_with(cx, &super::subnets::SUBNET, "t.network_id = ?", &params![&id])? {
        super::subnets::remove(cx, &subnet)?;
    }
    cx.tx.execute("DELETE FROM auto_allocated_topologies WHERE network_id = ?1", &params![&id])?;
    cx.tx.execute("DELETE FROM rbac_policies WHERE object_type = 'network' AND object_id = ?1", &params![&id])?;
    super::schedulers::forget(cx, &id)?;
    let rows = cx.tx.query("SELECT network_type, physical_network, segmentation_id FROM network_segments WHERE network_id = ?1", &params![&id])?;
    item::delete(cx, old)?;
    for row in rows {
        if let Some(number) = row.get::<Option<i64>>(2)? {
            let (kind, physical): (String, Option<String>) = (row.get(0)?, row.get(1)?);
            segments::release(cx, &kind, physical.as_deref(), number)?;
        }
    }
    Ok(())
}
