//! `/v2.0/ports`: the table, creation and deletion. Changes are in `port_changes`, bindings in `bindings`.

use super::networks::{NETWORK, places};
use super::{bindings, port_changes, security_groups};
use crate::api_prelude::*;
use crate::attributes;
use crate::ipam::{self, Subnet, Wanted};
use std::net::IpAddr;

/// Ports.
pub static PORT: Resource = Resource {
    sight: Sight::Port,
    tags: true,
    quota: Some("port"),
    topic: Some("port"),
    create: Some(create),
    update: Some(port_changes::update),
    delete: Some(delete),
    extend,
    filter,
    ..Resource::base("port", "ports", "/v2.0/ports", "/v2.0/ports/{id}", ATTRIBUTES, |id| Error::PortNotFound { id: id.into() })
};

/// Kinds of virtual NICs.
pub const VNIC_TYPES: &[&str] = &[
    "normal", "direct", "macvtap", "baremetal", "direct-physical", "virtio-forwarder", "smart-nic", "vdpa", "accelerator-direct",
    "accelerator-direct-physical", "remote-managed",
];

const ATTRIBUTES: &[Attribute] = attributes![standard;
    ID, NAME, PROJECT, TENANT, ADMIN_STATE,
    a("network_id", "CVFS").is(Check::Uuid).text(),
    a("mac_address", "CUVFSP").or(Initial::Unset).to(convert::mac).is(Check::Rule(check::mac)).text(),
    a("fixed_ips", "CUVFP").or(Initial::Unset).is(Check::Rule(check::fixed_ips)).json(),
    a("device_id", "CUVFSP").or(Initial::Text("")).is(Check::Text(255)).text(),
    a("device_owner", "CUVFSP").or(Initial::Text("")).is(Check::Text(255)).text(),
    a("status", "VFS").text(),
    a("allowed_address_pairs", "CUVP").or(Initial::Unset).to(convert::none_to_list).is(Check::Rule(check::address_pairs)).json(),
    a("binding:vif_type", "VP").or(Initial::Unset).at("vif_type", Kind::Text),
    a("binding:vif_details", "VP").or(Initial::Unset).at("vif_details", Kind::Json),
    a("binding:vnic_type", "CUVP").or(Initial::Text("normal")).is(Check::Values(VNIC_TYPES)).at("vnic_type", Kind::Text),
    a("binding:host_id", "CUVFP").or(Initial::Unset).at("host_id", Kind::Text),
    a("binding:profile", "CUVP").or(Initial::Unset).is(Check::Rule(check::object_or_none)).at("profile", Kind::Json),
    a("dns_domain", "CUV").or(Initial::Text("")).to(convert::lower).is(Check::Rule(check::dns_domain)).text(),
    a("dns_name", "CUV").or(Initial::Text("")).to(convert::lower).is(Check::Rule(check::dns_name)).text(),
    a("dns_assignment", "V"),
    a("extra_dhcp_opts", "CUV").or(Initial::Null).is(Check::Rule(check::dhcp_options)).json(),
    a("device_profile", "CV").or(Initial::Null).is(Check::TextOrNone(255)).text(),
    a("resource_request", "V").or(Initial::Unset),
    a("port_security_enabled", "CUVP").or(Initial::Unset).to(convert::boolean).bool(),
    a("trusted", "CUVP").or(Initial::Unset).to(convert::boolean_or_none).bool(),
    a("security_groups", "CUVF").or(Initial::Unset).to(convert::none_to_list).is(Check::Rule(check::uuids)).json(),
    a("qos_policy_id", "CUV").or(Initial::Null).is(Check::UuidOrNone).text(),
    a("qos_network_policy_id", "V"),
    a("trunk_details", "VPO"),
    a("propagate_uplink_status", "CUV").or(Initial::Bool(true)).to(convert::boolean).bool(),
    a("ip_allocation", "VFS").text(),
    a("tags", "CVF").or(Initial::List).is(Check::Rule(check::tags)),
    a("tags-any", "F").or(Initial::Unset),
    a("not-tags", "F").or(Initial::Unset),
    a("not-tags-any", "F").or(Initial::Unset),
];

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let domain = cx.net.config.dns_domain.clone();
    for item in items.iter_mut() {
        let assignments: Vec<Value> =
            item.list("fixed_ips").iter().map(|fixed| assignment(item.text("dns_name"), &show(&fixed["ip_address"]), &domain)).collect();
        item.set("dns_assignment", assignments);
    }
    super::qos::extend_ports(cx, items)?;
    super::trunks::extend_ports(cx, items)
}

/// The DNS name of one address of a port.
fn assignment(name: &str, ip: &str, domain: &str) -> Value {
    let hostname = match name {
        "" => format!("host-{}", ip.replace(['.', ':'], "-")),
        name => name.trim_end_matches('.').into(),
    };
    let fqdn = if name.ends_with('.') { name.into() } else { format!("{hostname}.{domain}") };
    json!({"ip_address": ip, "hostname": hostname, "fqdn": fqdn})
}

fn filter(_: &mut Cx<'_, '_>, select: &mut Select, name: &str, values: &[String]) -> Result<bool> {
    match name {
        "fixed_ips" => {
            for key in ["ip_address", "subnet_id", "ip_address_substr"] {
                let prefix = format!("{key}=");
                let wanted: Vec<&str> = values.iter().filter_map(|v| v.strip_prefix(prefix.as_str())).collect();
                if wanted.is_empty() {
                    continue;
                }
                let (condition, params): (String, Vec<Sql>) = if key == "ip_address_substr" {
                    let any = vec!["ip_address LIKE ? ESCAPE '!'"; wanted.len()].join(" OR ");
                    let escape = |w: &str| format!("%{}%", w.replace('!', "!!").replace('%', "!%").replace('_', "!_"));
                    (any, wanted.iter().map(|w| Sql::from(escape(w))).collect())
                } else {
                    let canonical = |w: &str| w.parse::<IpAddr>().map_or_else(|_| w.to_string(), |ip| ip.to_string());
                    let any = format!("{key} IN ({})", places(wanted.len()));
                    (any, wanted.iter().map(|w| Sql::from(canonical(w))).collect())
                };
                select.filter(&format!("t.id IN (SELECT port_id FROM ip_allocations WHERE {condition})"), &params);
            }
            for value in values {
                if !value.contains('=') {
                    return Err(Error::input(format!("'{value}' is not of the form <key>=[value]")));
                }
            }
        }
        "security_groups" => {
            let condition = format!(
                "t.id IN (SELECT port_id FROM port_security_groups WHERE security_group_id IN ({}))",
                places(values.len())
            );
            select.filter(&condition, &values.iter().map(Sql::from).collect::<Vec<_>>());
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Whether the owner is the cloud's own, which is neither filtered nor has security groups.
pub fn is_trusted(owner: &str) -> bool {
    owner.starts_with("network:")
}

/// Users may not pass a port off as an interface of somebody else's router.
pub fn check_owner(cx: &mut Cx<'_, '_>, owner: &str, device_id: &str, project: &str) -> Result<()> {
    if !ipam_owners(owner) || cx.caller.admin || device_id.is_empty() {
        return Ok(());
    }
    let router: Option<String> = cx.tx.scalar("SELECT project_id FROM routers WHERE id = ?1", &params![device_id])?;
    match router {
        Some(router) if router != project => Err(Error::DeviceIDNotOwnedByTenant { device_id: device_id.into() }),
        _ => Ok(()),
    }
}

fn ipam_owners(owner: &str) -> bool {
    matches!(owner, "network:router_interface" | "network:ha_router_replicated_interface" | "network:router_interface_distributed")
}

/// A MAC that no port of the network has.
fn free_mac(cx: &mut Cx<'_, '_>, network_id: &str) -> Result<String> {
    // With 2^24 addresses and far fewer ports the second try succeeds as good as always.
    for _ in 0..64 {
        let mac = convert::random_mac();
        if !mac_in_use(cx, network_id, &mac)? {
            return Ok(mac);
        }
    }
    Err(Error::MacAddressInUse { net_id: network_id.into(), mac: "fa:16:3e:xx:xx:xx".into() })
}

/// Whether a port of the network has this MAC.
pub fn mac_in_use(cx: &mut Cx<'_, '_>, network_id: &str, mac: &str) -> Result<bool> {
    Ok(cx.tx.query_one("SELECT id FROM ports WHERE network_id = ?1 AND mac_address = ?2", &params![network_id, mac])?.is_some())
}

/// Address pairs with their MAC filled in.
pub fn complete_pairs(pairs: Option<&Value>, mac: &str) -> Result<Vec<Value>> {
    let mut done: Vec<Value> = Vec::new();
    for pair in pairs.and_then(Value::as_array).into_iter().flatten() {
        let own = pair["mac_address"].as_str().and_then(convert::canonical_mac).unwrap_or_else(|| mac.into());
        let pair = json!({"mac_address": own, "ip_address": pair["ip_address"]});
        if done.contains(&pair) {
            return Err(Error::DuplicateAddressPairInRequest { mac_address: own, ip_address: show(&pair["ip_address"]) });
        }
        done.push(pair);
    }
    Ok(done)
}

/// Options as they are kept; those without value are none.
fn complete_options(options: Option<&Value>) -> Vec<Value> {
    let options = options.and_then(Value::as_array).into_iter().flatten();
    let options = options.filter(|o| {
        let blank_is_fine = matches!(o["opt_name"].as_str(), Some("router" | "classless-static-route"));
        o["opt_value"].as_str().is_some_and(|v| blank_is_fine || !v.is_empty())
    });
    options
        .map(|o| {
            let version = convert::as_int(&o["ip_version"]).unwrap_or(4);
            json!({"opt_name": o["opt_name"], "opt_value": o["opt_value"], "ip_version": version})
        })
        .collect()
}

/// `fixed_ips` as the API shows them.
pub fn shown_ips(ips: &[(String, IpAddr)]) -> Value {
    ips.iter().map(|(subnet, ip)| json!({"subnet_id": subnet, "ip_address": ip.to_string()})).collect()
}

/// Creates a port and everything that is its own.
pub fn create(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    let id = item::new_id();
    let network_id = item::text(&body, "network_id").to_string();
    let project = item::text(&body, "project_id").to_string();
    let owner = item::text(&body, "device_owner").to_string();
    // Upstream answers for a network that the caller cannot see as for one that is not there.
    let mut seen = item::select(cx, &NETWORK);
    seen.filter("t.id = ?", &params![&network_id]);
    if seen.count(cx.tx)? == 0 {
        return Err(Error::NetworkNotFound { id: network_id });
    }
    let network_security: bool =
        cx.tx.scalar("SELECT port_security_enabled FROM networks WHERE id = ?1", &params![&network_id])?.unwrap_or(true);
    check_owner(cx, &owner, item::text(&body, "device_id"), &project)?;
    super::qos::check_policy(cx, body.get("qos_policy_id"))?;
    let mac = match body.get("mac_address").and_then(Value::as_str) {
        Some(mac) => {
            let mac = mac.to_string();
            if mac_in_use(cx, &network_id, &mac)? {
                return Err(Error::MacAddressInUse { net_id: network_id, mac });
            }
            mac
        }
        None => free_mac(cx, &network_id)?,
    };
    let fixed_ips = body.get("fixed_ips").and_then(Value::as_array).cloned();
    let wanted = Wanted { network_id: &network_id, device_owner: &owner, mac: &mac, fixed_ips: fixed_ips.as_deref() };
    let ips = ipam::choose(cx, &wanted, &[])?;
    let none = fixed_ips.as_ref().is_some_and(Vec::is_empty);
    body.insert("ip_allocation".into(), json!(if none { "none" } else { "immediate" }));
    body.insert("fixed_ips".into(), shown_ips(&ips));
    body.insert("mac_address".into(), json!(mac));
    let secure = match body.get("port_security_enabled").and_then(Value::as_bool) {
        Some(secure) => secure,
        None => !is_trusted(&owner) && network_security,
    };
    body.insert("port_security_enabled".into(), json!(secure));
    let pairs = complete_pairs(body.get("allowed_address_pairs"), &mac)?;
    if !secure && !pairs.is_empty() {
        return Err(Error::AddressPairAndPortSecurityRequired {});
    }
    let asked_groups = body.get("security_groups").and_then(Value::as_array).cloned();
    let groups = match asked_groups {
        _ if is_trusted(&owner) => Vec::new(),
        Some(groups) if !secure && !groups.is_empty() => return Err(Error::PortSecurityAndIPRequiredForSecurityGroups {}),
        Some(groups) => security_groups::check_for_port(cx, &groups, &project)?,
        None if secure => vec![security_groups::ensure_default(cx, &project)?].into_iter().flatten().collect(),
        None => Vec::new(),
    };
    body.insert("security_groups".into(), json!(groups));
    body.insert("allowed_address_pairs".into(), json!(pairs));
    let options = complete_options(body.get("extra_dhcp_opts"));
    body.insert("extra_dhcp_opts".into(), json!(options));
    if body.get("binding:profile").is_none_or(Value::is_null) {
        body.insert("binding:profile".into(), json!({}));
    }
    let host = body.get("binding:host_id").and_then(Value::as_str).unwrap_or("").to_string();
    let bound = bindings::bind(cx, &network_id, &host, &owner)?;
    let status = body.get("status").and_then(Value::as_str).map_or_else(|| initial_status(&owner).to_string(), str::to_string);
    body.insert("binding:host_id".into(), json!(host));
    body.insert("binding:vif_type".into(), json!(bound.vif_type));
    body.insert("binding:vif_details".into(), bound.vif_details);
    body.insert("status".into(), json!(status));
    item::insert(cx, &PORT, &id, &body, &[])?;
    for (subnet, ip) in &ips {
        ipam::assign(cx, &network_id, &id, subnet, *ip)?;
    }
    for group in &groups {
        cx.tx.execute("INSERT INTO port_security_groups (port_id, security_group_id) VALUES (?1, ?2)", &params![&id, group])?;
        // Rules of other groups that name this one change their meaning.
        cx.tx.changed("security_group", group);
    }
    for tag in body.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        crate::store::tags::add(cx, "port", &id, tag)?;
    }
    Ok(id)
}

/// Ports of the cloud's own are there as soon as they are written down; guests' ports when their node says so.
fn initial_status(owner: &str) -> &'static str {
    match owner {
        "network:floatingip" => "N/A",
        "network:router_interface" | "network:router_gateway" | "network:ha_router_replicated_interface" => "ACTIVE",
        _ => "DOWN",
    }
}

/// The body of a port that the cloud makes for itself.
pub fn own_body(project: &str, network_id: &str, owner: &str, device_id: &str, fixed_ips: Option<Value>) -> Body {
    let mut body = Body::new();
    let values = [
        ("project_id", json!(project)),
        ("network_id", json!(network_id)),
        ("name", json!("")),
        ("description", json!("")),
        ("admin_state_up", json!(true)),
        ("device_owner", json!(owner)),
        ("device_id", json!(device_id)),
    ];
    for (name, value) in values {
        body.insert(name.into(), value);
    }
    if let Some(fixed_ips) = fixed_ips {
        body.insert("fixed_ips".into(), fixed_ips);
    }
    body
}

/// DELETE.
fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    let owner = old.text("device_owner");
    let device = old.text("device_id");
    let owned = match owner {
        "network:floatingip" => cx.tx.query_one("SELECT id FROM floatingips WHERE id = ?1", &params![device])?.is_some(),
        "network:router_interface" | "network:router_gateway" | "network:ha_router_replicated_interface" => {
            cx.tx.query_one("SELECT id FROM routers WHERE id = ?1", &params![device])?.is_some()
        }
        _ => false,
    };
    if owned {
        return Err(Error::ServicePortInUse { port_id: old.id().into(), reason: format!("has device owner {owner}") });
    }
    super::trunks::check_deletable(cx, old.id())?;
    super::local_ips::check_deletable(cx, old.id())?;
    remove(cx, old.id())
}

/// Removes a port with its addresses; floating IPs that led to it lead nowhere.
pub fn remove(cx: &mut Cx<'_, '_>, id: &str) -> Result<()> {
    super::floatingips::disassociate_port(cx, id)?;
    let rows = cx.tx.query("SELECT subnet_id, ip_address FROM ip_allocations WHERE port_id = ?1", &params![id])?;
    for row in rows {
        let (subnet, ip): (String, String) = (row.get(0)?, row.get(1)?);
        if let Ok(ip) = ip.parse() {
            ipam::unassign(cx, &subnet, ip)?;
        }
    }
    let groups: Vec<String> = cx.tx.column("SELECT security_group_id FROM port_security_groups WHERE port_id = ?1", &params![id])?;
    for group in groups {
        cx.tx.changed("security_group", &group);
    }
    super::logging::forget(cx, id)?;
    crate::store::tags::forget(cx, id)?;
    cx.tx.execute("DELETE FROM ports WHERE id = ?1", &params![id])?;
    cx.tx.changed("port", id);
    Ok(())
}

/// Brings `fixed_ips` of a port into line with its addresses, after those were changed behind it.
pub fn refresh_addresses(cx: &mut Cx<'_, '_>, id: &str) -> Result<()> {
    let rows = cx.tx.query("SELECT subnet_id, ip_address FROM ip_allocations WHERE port_id = ?1 ORDER BY subnet_id", &params![id])?;
    let mut ips = Vec::new();
    for row in rows {
        let (subnet, ip): (String, String) = (row.get(0)?, row.get(1)?);
        ips.push(json!({"subnet_id": subnet, "ip_address": ip}));
    }
    let sql = "UPDATE ports SET fixed_ips = ?2, revision_number = revision_number + 1, updated_at = ?3 WHERE id = ?1";
    cx.tx.execute(sql, &params![id, json!(ips), database::now()])?;
    cx.tx.changed("port", id);
    Ok(())
}

/// A new subnet whose addresses ports make themselves: every port of the network has one in it from now on.
pub fn add_automatic_addresses(cx: &mut Cx<'_, '_>, subnet: &Subnet) -> Result<()> {
    let sql = "SELECT id, mac_address, device_owner FROM ports WHERE network_id = ?1
         AND device_owner NOT IN ('network:router_interface', 'network:ha_router_replicated_interface', 'network:router_interface_distributed', 'network:router_centralized_snat')";
    for row in cx.tx.query(sql, &params![&subnet.network_id])? {
        let (id, mac, owner): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if !subnet.service_types.is_empty() && !subnet.service_types.contains(&owner) {
            continue;
        }
        let Some(ip) = net::eui64(&subnet.cidr, &mac) else { continue };
        match ipam::take(cx, subnet, ip) {
            Ok(()) => {
                ipam::assign(cx, &subnet.network_id, &id, &subnet.id, ip)?;
                refresh_addresses(cx, &id)?;
            }
            Err(Error::IpAddressAlreadyAllocated { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}
