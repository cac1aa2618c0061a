//! What Compute asks of the network: the ports of servers.

use crate::api_prelude::*;
use crate::rest::controller::create_internal;
use crate::rest::{networks, port_changes, ports, security_groups, subnets};
use crate::Network;
use ::api::Context;
use ::api::services::{Nic, NicAddress, Ports, RequestedNic, ServerRef};
use database::Tx;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

fn api<T>(done: Result<T>) -> Result<T, ::api::Error> {
    done.map_err(Into::into)
}

/// The network that a server without an explicit choice is on.
fn usual_network(cx: &mut Cx<'_, '_>, project: &str) -> Result<Option<String>> {
    // The project's own networks; only if it has none, those that are shared with it.
    let own: Vec<String> =
        cx.tx.column("SELECT id FROM networks WHERE project_id = ?1 AND external = 0 ORDER BY id LIMIT 2", &params![project])?;
    let shared = "SELECT DISTINCT n.id FROM networks n JOIN rbac_policies r ON r.object_id = n.id AND r.object_type = 'network'
         WHERE r.action = 'access_as_shared' AND r.target_project IN (?1, '*') AND n.project_id <> ?1 AND n.external = 0 ORDER BY n.id LIMIT 2";
    let shared: Vec<String> = cx.tx.column(shared, &params![project])?;
    let mut found = own;
    found.extend(shared);
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(Error::NetworkAmbiguous { msg: "Multiple possible networks found, use a Network ID to be more specific.".into() }),
    }
}

/// Ids of groups given by id or name.
fn group_ids(cx: &mut Cx<'_, '_>, project: &str, groups: &[String]) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for group in groups {
        let found: Vec<String> = cx.tx.column(
            "SELECT id FROM security_groups WHERE id = ?1 AND project_id = ?2 UNION SELECT id FROM security_groups WHERE name = ?1 AND project_id = ?2",
            &params![group, project],
        )?;
        match found.as_slice() {
            [one] => ids.push(one.clone()),
            [] if group == "default" => ids.extend(security_groups::ensure_default(cx, project)?),
            [] => {
                // A group of another project that is shared with this one counts by its id.
                let shared = item::find(cx, &security_groups::SECURITY_GROUP, group)?;
                ids.push(shared.map(|g| g.id().to_string()).ok_or_else(|| Error::SecurityGroupNotFound { id: group.clone() })?);
            }
            _ => {
                return Err(Error::NoUniqueMatch {
                    msg: format!("Multiple security groups found matching '{group}'. Use an ID to be more specific."),
                });
            }
        }
    }
    ids.dedup();
    Ok(ids)
}

fn check_nic(cx: &mut Cx<'_, '_>, nic: &RequestedNic, server: &str) -> Result<Option<Item>> {
    if let Some(id) = &nic.port_id {
        let port = item::get(cx, &ports::PORT, id)?;
        let device = port.text("device_id");
        if !device.is_empty() && device != server {
            return Err(Error::PortInUse { port_id: id.clone(), net_id: port.text("network_id").into(), device_id: device.into() });
        }
        if port.list("fixed_ips").is_empty() && port.text("ip_allocation") != "none" {
            return Err(Error::PortRequiresFixedIP { port_id: id.clone() });
        }
        return Ok(Some(port));
    }
    if let Some(id) = &nic.network_id {
        let network = item::get(cx, &networks::NETWORK, id)?;
        if network.list("subnets").is_empty() {
            return Err(Error::NetworkRequiresSubnet { id: id.clone() });
        }
        if network.is("router:external") && !network.is("shared") && !cx.caller.admin {
            return Err(Error::ExternalNetworkAttachForbidden { network_uuid: id.clone() });
        }
        if let Some(ip) = &nic.fixed_ip
            && let Ok(address) = ip.parse::<IpAddr>()
        {
            let used = "SELECT port_id FROM ip_allocations WHERE network_id = ?1 AND ip_address = ?2";
            if cx.tx.query_one(used, &params![id, address.to_string()])?.is_some() {
                return Err(Error::FixedIpAlreadyInUse { address: ip.clone(), instance_uuid: server.into() });
            }
        }
    }
    Ok(None)
}

/// Gives a server one port: the one it asked for, or a new one.
fn attach_one(cx: &mut Cx<'_, '_>, server: &ServerRef, nic: &RequestedNic, groups: &[String], index: i64) -> Result<String> {
    let owner = format!("compute:{}", server.availability_zone);
    let host = server.host.clone().unwrap_or_default();
    let id = match check_nic(cx, nic, &server.id)? {
        Some(port) => {
            let mut body = Body::new();
            body.insert("device_id".into(), json!(server.id));
            body.insert("device_owner".into(), json!(owner));
            body.insert("binding:host_id".into(), json!(host));
            if port.text("dns_name").is_empty() {
                body.insert("dns_name".into(), json!(dns_label(&server.hostname)));
            }
            port_changes::update(&mut cx.elevated(), &port, body)?;
            port.id().to_string()
        }
        None => {
            let network_id = nic.network_id.clone().unwrap_or_default();
            let mut body = json!({
                "project_id": server.project_id, "network_id": network_id, "admin_state_up": true, "device_id": server.id,
                "device_owner": owner, "binding:host_id": host, "dns_name": dns_label(&server.hostname),
            });
            if let Some(ip) = &nic.fixed_ip {
                body["fixed_ips"] = json!([{"ip_address": ip}]);
            }
            let secure: Option<bool> =
                cx.tx.scalar("SELECT port_security_enabled FROM networks WHERE id = ?1", &params![&network_id])?;
            if !groups.is_empty() && secure != Some(false) {
                body["security_groups"] = json!(groups);
            }
            let mut cx = cx.elevated();
            create_internal(&mut cx, &ports::PORT, body)?.id().to_string()
        }
    };
    let made = nic.port_id.is_none();
    let sql = "UPDATE ports SET nic_tag = ?2, nic_index = ?3, made_by_compute = ?4 WHERE id = ?1";
    cx.tx.execute(sql, &params![&id, &nic.tag, index, made])?;
    Ok(id)
}

/// A server's name as a DNS label.
fn dns_label(hostname: &str) -> String {
    let label: String = hostname.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
    label.trim_matches('-').to_string()
}

/// Takes a port off its server; one that Compute made goes.
fn detach_one(cx: &mut Cx<'_, '_>, port: &Item) -> Result<()> {
    let made: bool = cx.tx.scalar("SELECT made_by_compute FROM ports WHERE id = ?1", &params![port.id()])?.unwrap_or(false);
    if made {
        return ports::remove(cx, port.id());
    }
    let mut body = Body::new();
    for (name, value) in [("device_id", json!("")), ("device_owner", json!("")), ("binding:host_id", json!("")), ("dns_name", json!(""))] {
        body.insert(name.into(), value);
    }
    port_changes::update(cx, port, body)
}

fn of_server(cx: &mut Cx<'_, '_>, server: &str) -> Result<Vec<Item>> {
    item::all_with(cx, &ports::PORT, "t.device_id = ? AND t.device_owner LIKE 'compute:%'", &params![server])
}

impl Network {
    fn caller_of(&self, caller: &Context) -> Arc<Context> {
        Arc::new(caller.clone())
    }
}

impl Ports for Network {
    fn attach(&self, tx: &mut Tx<'_>, caller: &Context, server: &ServerRef, nics: &[RequestedNic], groups: &[String]) -> Result<Vec<Nic>, ::api::Error> {
        let context = self.caller_of(caller);
        let ids = {
            let mut cx = self.within(tx, &context);
            api((|| {
                let mut nics = nics.to_vec();
                if nics.is_empty() {
                    let usual = usual_network(&mut cx, &server.project_id)?;
                    nics.extend(usual.map(|id| RequestedNic { network_id: Some(id), ..RequestedNic::default() }));
                }
                let groups = group_ids(&mut cx, &server.project_id, groups)?;
                let next = "SELECT COALESCE(MAX(nic_index), -1) + 1 FROM ports WHERE device_id = ?1";
                let first: i64 = cx.tx.scalar(next, &params![&server.id])?.unwrap_or(0);
                let mut ids = Vec::new();
                for (i, nic) in nics.iter().enumerate() {
                    ids.push(attach_one(&mut cx, server, nic, &groups, first + i as i64)?);
                }
                Ok(ids)
            })())?
        };
        let mut all = self.nics(tx, std::slice::from_ref(&server.id))?.remove(&server.id).unwrap_or_default();
        all.retain(|nic| ids.contains(&nic.port_id));
        Ok(all)
    }

    fn check(&self, tx: &mut Tx<'_>, caller: &Context, project_id: &str, nics: &[RequestedNic], groups: &[String]) -> Result<u64, ::api::Error> {
        let context = self.caller_of(caller);
        let mut cx = self.within(tx, &context);
        api((|| {
            for group in groups.iter().filter(|g| *g != "default") {
                group_ids(&mut cx, project_id, std::slice::from_ref(group))?;
            }
            if nics.is_empty() {
                let Some(network) = usual_network(&mut cx, project_id)? else { return Ok(0) };
                check_nic(&mut cx, &RequestedNic { network_id: Some(network), ..RequestedNic::default() }, "")?;
                return Ok(1);
            }
            let mut made = 0;
            for nic in nics {
                if check_nic(&mut cx, nic, "")?.is_none() {
                    made += 1;
                }
            }
            Ok(made)
        })())
    }

    fn detach(&self, tx: &mut Tx<'_>, _caller: &Context, server_id: &str, port_id: &str) -> Result<(), ::api::Error> {
        let context = Arc::new(Context::internal());
        let mut cx = self.within(tx, &context);
        api((|| {
            let port = item::get(&mut cx, &ports::PORT, port_id)?;
            if port.text("device_id") != server_id {
                return Err(Error::PortNotFound { id: port_id.into() });
            }
            detach_one(&mut cx, &port)
        })())
    }

    fn detach_all(&self, tx: &mut Tx<'_>, server_id: &str) -> Result<(), ::api::Error> {
        let context = Arc::new(Context::internal());
        let mut cx = self.within(tx, &context);
        api((|| {
            for port in of_server(&mut cx, server_id)? {
                detach_one(&mut cx, &port)?;
            }
            Ok(())
        })())
    }

    fn nics(&self, tx: &mut Tx<'_>, server_ids: &[String]) -> Result<HashMap<String, Vec<Nic>>, ::api::Error> {
        let context = Arc::new(Context::internal());
        api(nics(&mut self.within(tx, &context), server_ids))
    }

    fn servers_with_address(&self, tx: &mut Tx<'_>, project_id: Option<&str>, version: u8, pattern: &str) -> Result<Vec<String>, ::api::Error> {
        let mut select = Select::new("DISTINCT p.device_id", "ip_allocations a JOIN ports p ON p.id = a.port_id JOIN subnets s ON s.id = a.subnet_id");
        select.filter("p.device_owner LIKE 'compute:%' AND s.ip_version = ? AND a.ip_address REGEXP ?", &params![i64::from(version), pattern]);
        if let Some(project) = project_id {
            select.filter("p.project_id = ?", &params![project]);
        }
        let rows = select.rows(tx)?;
        Ok(rows.iter().map(|row| row.get(0)).collect::<database::Result<_>>()?)
    }

    fn bind(&self, tx: &mut Tx<'_>, server_id: &str, host: Option<&str>) -> Result<(), ::api::Error> {
        let context = Arc::new(Context::internal());
        let mut cx = self.within(tx, &context);
        api((|| {
            for port in of_server(&mut cx, server_id)? {
                let mut body = Body::new();
                body.insert("binding:host_id".into(), json!(host.unwrap_or("")));
                port_changes::update(&mut cx, &port, body)?;
            }
            Ok(())
        })())
    }

    fn rename(&self, tx: &mut Tx<'_>, server_id: &str, hostname: &str) -> Result<(), ::api::Error> {
        let context = Arc::new(Context::internal());
        let mut cx = self.within(tx, &context);
        api((|| {
            for port in of_server(&mut cx, server_id)? {
                let mut body = Body::new();
                body.insert("dns_name".into(), json!(dns_label(hostname)));
                port_changes::update(&mut cx, &port, body)?;
            }
            Ok(())
        })())
    }

    fn change_security_group(&self, tx: &mut Tx<'_>, caller: &Context, server: &ServerRef, group: &str, add: bool) -> Result<(), ::api::Error> {
        let context = self.caller_of(caller);
        let mut cx = self.within(tx, &context);
        api((|| {
            let ids = group_ids(&mut cx, &server.project_id, &[group.to_string()])?;
            let mut had = false;
            for port in of_server(&mut cx, &server.id)? {
                let mut groups: Vec<String> = port.list("security_groups").iter().map(show).collect();
                let before = groups.len();
                groups.retain(|g| !ids.contains(g));
                had |= groups.len() < before;
                if add {
                    if !port.is("port_security_enabled") || port.list("fixed_ips").is_empty() {
                        continue;
                    }
                    groups.extend(ids.clone());
                }
                let mut body = Body::new();
                body.insert("security_groups".into(), json!(groups));
                port_changes::update(&mut cx, &port, body)?;
            }
            if !add && !had {
                return Err(Error::SecurityGroupNotFound { id: group.into() });
            }
            Ok(())
        })())
    }

    fn network_data(&self, tx: &mut Tx<'_>, server_id: &str) -> Result<Value, ::api::Error> {
        let context = Arc::new(Context::internal());
        api(network_data(&mut self.within(tx, &context), server_id))
    }
}

fn nics(cx: &mut Cx<'_, '_>, server_ids: &[String]) -> Result<HashMap<String, Vec<Nic>>> {
    let columns = "p.device_id, p.id, p.network_id, n.name, p.mac_address, p.fixed_ips, p.status, n.mtu, p.nic_tag, p.made_by_compute,
         p.security_groups, p.port_security_enabled";
    let from = "ports p JOIN networks n ON n.id = p.network_id";
    let also: Option<(&str, &[Sql])> = Some(("p.device_owner LIKE 'compute:%'", &[]));
    let rows = networks::rows_for(cx, columns, from, "p.device_id", server_ids, also, &["p.device_id", "p.nic_index", "p.id"])?;
    let mut port_ids = Vec::new();
    let mut group_ids: Vec<String> = Vec::new();
    for row in &rows {
        port_ids.push(row.get::<String>(1)?);
        let groups: Value = row.get(10)?;
        group_ids.extend(groups.as_array().into_iter().flatten().map(show));
    }
    group_ids.sort();
    group_ids.dedup();
    let mut floating: HashMap<(String, String), Vec<String>> = HashMap::new();
    for row in networks::rows_for(cx, "port_id, fixed_ip_address, floating_ip_address", "floatingips", "port_id", &port_ids, None, &["id"])? {
        floating.entry((row.get(0)?, row.get::<Option<String>>(1)?.unwrap_or_default())).or_default().push(row.get(2)?);
    }
    let mut names: HashMap<String, String> = HashMap::new();
    for row in networks::rows_for(cx, "id, name", "security_groups", "id", &group_ids, None, &[])? {
        names.insert(row.get(0)?, row.get(1)?);
    }
    let mut found: HashMap<String, Vec<Nic>> = HashMap::new();
    for row in rows {
        let port_id: String = row.get(1)?;
        let fixed_ips: Value = row.get(5)?;
        let groups: Value = row.get(10)?;
        let addresses = fixed_ips.as_array().into_iter().flatten().map(|fixed| {
            let address = show(&fixed["ip_address"]);
            NicAddress {
                version: if address.contains(':') { 6 } else { 4 },
                subnet_id: show(&fixed["subnet_id"]),
                floating: floating.get(&(port_id.clone(), address.clone())).cloned().unwrap_or_default(),
                address,
            }
        });
        let security_groups = groups.as_array().into_iter().flatten().map(show);
        let nic = Nic {
            network_id: row.get(2)?,
            network_name: row.get(3)?,
            mac_address: row.get(4)?,
            addresses: addresses.collect(),
            status: row.get(6)?,
            mtu: row.get(7)?,
            tag: row.get(8)?,
            created_by_compute: row.get(9)?,
            security_groups: security_groups.map(|id| (id.clone(), names.get(&id).cloned().unwrap_or_default())).collect(),
            port_security_enabled: row.get(11)?,
            port_id,
        };
        found.entry(row.get(0)?).or_default().push(nic);
    }
    Ok(found)
}

/// OpenStack's `network_data.json`: links, networks and services of a server.
fn network_data(cx: &mut Cx<'_, '_>, server_id: &str) -> Result<Value> {
    let ids = [server_id.to_string()];
    let nics = nics(cx, &ids)?.remove(server_id).unwrap_or_default();
    let (mut links, mut nets, mut services) = (Vec::new(), Vec::new(), Vec::<Value>::new());
    for nic in nics {
        let device = format!("tap{}", nic.port_id.get(..11).unwrap_or(&nic.port_id));
        links.push(json!({"id": device, "vif_id": nic.port_id, "type": "ovs", "mtu": nic.mtu, "ethernet_mac_address": nic.mac_address}));
        for address in &nic.addresses {
            let Some(subnet) = item::find(cx, &subnets::SUBNET, &address.subnet_id)? else { continue };
            let index = nets.len();
            let family = if address.version == 6 { "ipv6" } else { "ipv4" };
            let dns: Vec<Value> = subnet.list("dns_nameservers").iter().map(|s| json!({"type": "dns", "address": s})).collect();
            let mut net = json!({"id": format!("network{index}"), "link": device, "network_id": nic.network_id});
            let modes = (subnet.text("ipv6_ra_mode"), subnet.text("ipv6_address_mode"));
            if subnet.is("enable_dhcp") {
                net["type"] = json!(match (family, modes.1) {
                    ("ipv4", _) => "ipv4_dhcp".to_string(),
                    (_, "") => "ipv6_dhcp".to_string(),
                    (_, mode) => format!("ipv6_{mode}"),
                });
            } else {
                let cidr = net::Cidr::parse(subnet.text("cidr"));
                let mut routes: Vec<Value> = Vec::new();
                if let Some(gateway) = subnet.get("gateway_ip").as_str() {
                    let (any, mask) = if address.version == 6 { ("::", "::") } else { ("0.0.0.0", "0.0.0.0") };
                    routes.push(json!({"network": any, "netmask": mask, "gateway": gateway}));
                }
                for route in subnet.list("host_routes") {
                    if let Some(destination) = route["destination"].as_str().and_then(net::Cidr::parse) {
                        routes.push(json!({
                            "network": destination.network().address.to_string(), "netmask": netmask(&destination), "gateway": route["nexthop"],
                        }));
                    }
                }
                net["type"] = json!(family);
                net["ip_address"] = json!(address.address);
                net["netmask"] = json!(cidr.as_ref().map(netmask));
                net["routes"] = json!(routes);
                net["services"] = json!(dns);
            }
            for service in dns {
                if !services.contains(&service) {
                    services.push(service);
                }
            }
            nets.push(net);
        }
    }
    Ok(json!({"links": links, "networks": nets, "services": services}))
}

fn netmask(cidr: &net::Cidr) -> String {
    let bits: u32 = if cidr.v6() { 128 } else { 32 };
    let host = bits - u32::from(cidr.prefix);
    let all = if cidr.v6() { u128::MAX } else { u128::from(u32::MAX) };
    let mask = if host >= bits { 0 } else { all & (all << host) };
    net::address(mask, cidr.v6()).to_string()
}

/// Ids of the ports that are bound to a host, for the check of what is plugged there.
pub fn bound_ports(tx: &mut Tx<'_>, host: &str) -> Result<Vec<String>, database::Error> {
    tx.column("SELECT id FROM ports WHERE host_id = ?1 AND device_owner LIKE 'compute:%' ORDER BY id", &params![host])
}
