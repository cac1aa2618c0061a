//! PUT of a port.

use super::ports::{PORT, check_owner, complete_pairs, is_trusted, mac_in_use, shown_ips};
use super::{bindings, security_groups};
use crate::api_prelude::*;
use crate::ipam::{self, Subnet, Wanted};
use std::net::IpAddr;

/// What happens to the addresses of a port.
struct Moves {
    add: Vec<Value>,
    keep: Vec<Value>,
    remove: Vec<Value>,
}

fn parsed(fixed: &Value) -> Option<IpAddr> {
    fixed["ip_address"].as_str()?.parse().ok()
}

/// Compares the addresses a port has with those it shall have: an entry without an address keeps the one in its subnet, and
/// automatic addresses stay unless a router has them.
fn moves(cx: &mut Cx<'_, '_>, old: &[Value], new: &[Value], owner: &str, dropped: &[String]) -> Result<Moves> {
    let mut rest: Vec<Value> = old.to_vec();
    let (mut add, mut keep) = (Vec::new(), Vec::new());
    let kept_in = |fixed: &Value| !dropped.iter().any(|d| fixed["subnet_id"] == d.as_str());
    for fixed in new.iter().filter(|f| kept_in(f) && f.get("ip_address").is_some()) {
        let same = |o: &Value| parsed(o) == parsed(fixed) && (fixed.get("subnet_id").is_none() || o["subnet_id"] == fixed["subnet_id"]);
        match rest.iter().position(same) {
            Some(at) => keep.push(rest.remove(at)),
            None => add.push(fixed.clone()),
        }
    }
    let mut replaced = Vec::new();
    for fixed in new.iter().filter(|f| kept_in(f) && f.get("ip_address").is_none()) {
        match rest.iter().position(|o| o["subnet_id"] == fixed["subnet_id"]) {
            Some(at) => {
                let current = rest.remove(at);
                if parsed(&current).is_some_and(net::is_eui64) {
                    add.push(fixed.clone());
                    replaced.push(current);
                } else {
                    keep.push(current);
                }
            }
            None => add.push(fixed.clone()),
        }
    }
    rest.extend(replaced);
    let mut remove = Vec::new();
    for fixed in rest {
        let id = fixed["subnet_id"].as_str().unwrap_or_default();
        let router = matches!(owner, "network:router_interface" | "network:ha_router_replicated_interface" | "network:router_centralized_snat");
        let automatic = Subnet::get(cx, id)?.is_some_and(|s| s.is_auto_address());
        if router || !automatic || dropped.iter().any(|d| d == id) {
            remove.push(fixed);
        } else {
            keep.push(fixed);
        }
    }
    Ok(Moves { add, keep, remove })
}

/// Gives a port these addresses instead of those it has; returns them as the API shows them.
fn readdress(cx: &mut Cx<'_, '_>, old: &Item, new: &[Value], owner: &str, mac: &str, dropped: &[String]) -> Result<Value> {
    let network_id = old.text("network_id");
    let moves = moves(cx, old.list("fixed_ips"), new, owner, dropped)?;
    for fixed in &moves.remove {
        if let (Some(subnet), Some(ip)) = (fixed["subnet_id"].as_str(), parsed(fixed)) {
            ipam::unassign(cx, subnet, ip)?;
        }
    }
    let settled: Vec<&str> = moves
        .keep
        .iter()
        .chain(moves.remove.iter().filter(|r| !dropped.iter().any(|d| r["subnet_id"] == d.as_str())))
        .filter_map(|f| f["subnet_id"].as_str())
        .collect();
    let wanted = Wanted { network_id, device_owner: owner, mac, fixed_ips: Some(&moves.add) };
    let got = ipam::choose(cx, &wanted, &settled)?;
    for (subnet, ip) in &got {
        ipam::assign(cx, network_id, old.id(), subnet, *ip)?;
    }
    let mut shown = moves.keep;
    if let Value::Array(new) = shown_ips(&got) {
        shown.extend(new);
    }
    Ok(Value::Array(shown))
}

fn check_floating(cx: &mut Cx<'_, '_>, old: &Item, fixed_ips: &[Value]) -> Result<()> {
    let sql = "SELECT fixed_ip_address FROM floatingips WHERE port_id = ?1 AND fixed_ip_address IS NOT NULL LIMIT 1";
    let Some(ip) = cx.tx.scalar::<String>(sql, &params![old.id()])? else { return Ok(()) };
    if fixed_ips.iter().any(|f| f["ip_address"] == ip.as_str()) {
        return Ok(());
    }
    Err(Error::request(
        "port",
        format!("Cannot update the fixed_ips of the port {}, because its original fixed_ip has been associated to a floating ip", old.id()),
    ))
}

/// New values of options over the old ones; null takes one away.
fn merge_options(old: &Item, given: &[Value]) -> Vec<Value> {
    let mut options: Vec<Value> = old.list("extra_dhcp_opts").to_vec();
    for option in given {
        let version = convert::as_int(&option["ip_version"]).unwrap_or(4);
        let blank_is_fine = matches!(option["opt_name"].as_str(), Some("router" | "classless-static-route"));
        let valid = option["opt_value"].as_str().is_some_and(|v| blank_is_fine || !v.is_empty());
        let at = options.iter().position(|o| o["opt_name"] == option["opt_name"] && o["ip_version"] == version);
        match at {
            Some(at) if option["opt_value"].is_null() => {
                options.remove(at);
            }
            Some(at) if valid => options[at]["opt_value"] = option["opt_value"].clone(),
            None if valid => {
                options.push(json!({"opt_name": option["opt_name"], "opt_value": option["opt_value"], "ip_version": version}));
            }
            _ => {}
        }
    }
    options
}

/// PUT.
pub fn update(cx: &mut Cx<'_, '_>, old: &Item, mut body: Body) -> Result<()> {
    let id = old.id().to_string();
    let network_id = old.text("network_id").to_string();
    let project = old.text("project_id").to_string();
    let bound = !matches!(old.text("binding:vif_type"), "unbound" | "binding_failed" | "distributed");
    if let Some(vnic) = body.get("binding:vnic_type")
        && vnic != old.get("binding:vnic_type")
        && bound
    {
        return Err(Error::PortInUse { port_id: id, net_id: network_id, device_id: old.text("device_id").into() });
    }
    let owner = body.get("device_owner").and_then(Value::as_str).unwrap_or(old.text("device_owner")).to_string();
    let device = body.get("device_id").and_then(Value::as_str).unwrap_or(old.text("device_id")).to_string();
    if body.contains_key("device_owner") || device != old.text("device_id") {
        check_owner(cx, &owner, &device, &project)?;
    }
    super::qos::check_change(cx, old, &body)?;
    let mac = body.get("mac_address").and_then(Value::as_str).unwrap_or(old.text("mac_address")).to_string();
    let mut dropped = Vec::new();
    if mac != old.text("mac_address") {
        if bound {
            return Err(Error::PortBound {
                port_id: id,
                vif_type: old.text("binding:vif_type").into(),
                old_mac: old.text("mac_address").into(),
                new_mac: mac,
            });
        }
        if is_trusted(&owner) {
            return Err(Error::UnsupportedPortDeviceOwner { op: "mac address update".into(), port_id: id, device_owner: owner });
        }
        if mac_in_use(cx, &network_id, &mac)? {
            return Err(Error::MacAddressInUse { net_id: network_id, mac });
        }
        // An address that was made of the old MAC is made anew of the new one.
        for fixed in old.list("fixed_ips").iter().filter(|f| parsed(f).is_some_and(net::is_eui64)) {
            dropped.push(show(&fixed["subnet_id"]));
        }
    }
    if let Some(fixed_ips) = body.get("fixed_ips").and_then(Value::as_array) {
        check_floating(cx, old, &fixed_ips.clone())?;
    }
    if body.contains_key("fixed_ips") || !dropped.is_empty() {
        let wanted = body.get("fixed_ips").and_then(Value::as_array).cloned().unwrap_or_else(|| old.list("fixed_ips").to_vec());
        let shown = readdress(cx, old, &wanted, &owner, &mac, &dropped)?;
        body.insert("fixed_ips".into(), shown);
    }
    let groups = secure(cx, old, &mut body, &owner, &project, &mac)?;
    if let Some(options) = body.get("extra_dhcp_opts").and_then(Value::as_array) {
        let merged = merge_options(old, options);
        body.insert("extra_dhcp_opts".into(), json!(merged));
    } else {
        body.remove("extra_dhcp_opts");
    }
    if body.get("binding:profile").is_some_and(Value::is_null) {
        body.insert("binding:profile".into(), json!({}));
    }
    if let Some(host) = body.get("binding:host_id") {
        let host = host.as_str().unwrap_or("").to_string();
        if host != old.text("binding:host_id") {
            let binding = bindings::bind(cx, &network_id, &host, &owner)?;
            body.insert("binding:vif_type".into(), json!(binding.vif_type));
            body.insert("binding:vif_details".into(), binding.vif_details);
            body.insert("status".into(), json!("DOWN"));
        }
        body.insert("binding:host_id".into(), json!(host));
    }
    if body.get("admin_state_up") == Some(&json!(false)) && old.text("status") == "ACTIVE" && !is_trusted(&owner) {
        body.insert("status".into(), json!("DOWN"));
    }
    if let Some(groups) = groups {
        let had: Vec<String> = old.list("security_groups").iter().map(show).collect();
        cx.tx.execute("DELETE FROM port_security_groups WHERE port_id = ?1", &params![&id])?;
        for group in &groups {
            cx.tx.execute("INSERT INTO port_security_groups (port_id, security_group_id) VALUES (?1, ?2)", &params![&id, group])?;
        }
        for group in had.iter().chain(&groups) {
            cx.tx.changed("security_group", group);
        }
        body.insert("security_groups".into(), json!(groups));
    }
    if item::update(cx, old, &body, &[])? && body.contains_key("fixed_ips") {
        super::routers::changed_by_port(cx, old)?;
        for group in old.list("security_groups").iter().filter_map(Value::as_str) {
            cx.tx.changed("security_group", group);
        }
    }
    item::changed(cx, &PORT, &id);
    Ok(())
}

/// Port security, address pairs and groups depend on each other. Returns the new groups, where they change.
fn secure(cx: &mut Cx<'_, '_>, old: &Item, body: &mut Body, owner: &str, project: &str, mac: &str) -> Result<Option<Vec<String>>> {
    let secure = body.get("port_security_enabled").and_then(Value::as_bool).unwrap_or(old.is("port_security_enabled"));
    let pairs = match body.get("allowed_address_pairs") {
        Some(pairs) => Some(complete_pairs(Some(pairs), mac)?),
        None => None,
    };
    let groups = body.get("security_groups").and_then(Value::as_array).cloned();
    if !secure {
        let has_pairs = pairs.as_ref().map_or(!old.list("allowed_address_pairs").is_empty(), |p| !p.is_empty());
        if has_pairs {
            return Err(Error::AddressPairAndPortSecurityRequired {});
        }
        match &groups {
            Some(groups) if !groups.is_empty() => return Err(Error::PortSecurityAndIPRequiredForSecurityGroups {}),
            None if !old.list("security_groups").is_empty() => return Err(Error::PortSecurityPortHasSecurityGroup {}),
            _ => {}
        }
    }
    if let Some(pairs) = pairs {
        body.insert("allowed_address_pairs".into(), json!(pairs));
    }
    body.remove("security_groups");
    let Some(groups) = groups else { return Ok(None) };
    let mut had: Vec<String> = old.list("security_groups").iter().map(show).collect();
    let mut wanted: Vec<String> = groups.iter().map(show).collect();
    had.sort();
    wanted.sort();
    if had == wanted {
        return Ok(None);
    }
    if is_trusted(owner) {
        return Ok(Some(Vec::new()));
    }
    security_groups::check_for_port(cx, &groups, project).map(Some)
}
