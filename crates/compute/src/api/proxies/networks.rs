//! Networks and floating IPs as Compute showed them up to 2.35 (and changed on servers up to 2.43).

use api::{Error, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, accepted, ok};

pub(super) fn add(table: &mut Table) {
    let old = (1, 35);
    table
        .between(Method::GET, "/os-networks", old, |c, call| networks(c, call, true))
        .between(Method::GET, "/os-networks/{id}", old, |c, call| network(c, call, true))
        .between(Method::GET, "/os-tenant-networks", old, |c, call| {
            networks(c, call, false)
        })
        .between(Method::GET, "/os-tenant-networks/{id}", old, |c, call| {
            network(c, call, false)
        })
        .between(Method::GET, "/os-floating-ip-pools", old, pools)
        .between(Method::GET, "/os-floating-ips", old, list)
        .between(Method::POST, "/os-floating-ips", old, create)
        .between(Method::GET, "/os-floating-ips/{id}", old, show)
        .between(Method::DELETE, "/os-floating-ips/{id}", old, delete)
        .action("/servers/{id}/action", "addFloatingIp", (1, 43), associate)
        .action("/servers/{id}/action", "removeFloatingIp", (1, 43), disassociate);
}

fn network_view(call: &Call, network: &Value, whole: bool) -> Value {
    if !whole {
        return json!({"id": network["id"], "cidr": "None", "label": network["name"]});
    }
    const FIELDS: &[&str] = &[
        "cidr",
        "netmask",
        "gateway",
        "broadcast",
        "dns1",
        "dns2",
        "cidr_v6",
        "gateway_v6",
        "netmask_v6",
    ];
    const ADMIN: &[&str] = &[
        "created_at",
        "updated_at",
        "deleted_at",
        "deleted",
        "injected",
        "bridge",
        "vlan",
        "vpn_public_address",
        "vpn_public_port",
        "vpn_private_address",
        "dhcp_start",
        "project_id",
        "host",
        "bridge_interface",
        "multi_host",
        "priority",
        "rxtx_base",
        "mtu",
        "dhcp_server",
        "enable_dhcp",
        "share_address",
    ];
    let mut view = json!({"id": network["id"], "label": network["name"]});
    let admin = if call.context().is_admin() { ADMIN } else { &[] };
    for field in FIELDS.iter().chain(admin) {
        view[*field] = Value::Null;
    }
    view
}

fn rule(whole: bool, what: &str) -> String {
    let resource = if whole { "os-networks" } else { "os-tenant-networks" };
    format!("os_compute_api:{resource}:{what}")
}

fn networks(c: &Compute, call: &Call, whole: bool) -> Result {
    c.allow_own(call, &rule(whole, "list"))?;
    let mut body = c.network_ok(call, Method::GET, "/v2.0/networks", None)?;
    let own = |n: &Value| {
        call.context().is_admin()
            || n["shared"] == true
            || n["project_id"] == call.project()
            || n["router:external"] == true
    };
    let list = body["networks"].take();
    let views: Vec<Value> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter(|n| own(n))
        .map(|n| network_view(call, n, whole))
        .collect();
    ok(json!({"networks": views}))
}

fn network(c: &Compute, call: &Call, whole: bool) -> Result {
    c.allow_own(call, &rule(whole, "show"))?;
    let path = format!("/v2.0/networks/{}", call.param("id"));
    let found = c.network_ok(call, Method::GET, &path, None);
    let found = found.map_err(|e| match e.status {
        StatusCode::NOT_FOUND => Error::not_found("Network not found"),
        _ => e,
    })?;
    ok(json!({"network": network_view(call, &found["network"], whole)}))
}

impl Compute {
    /// For `networks: auto` of a project without any network: the one that Networking makes for it.
    pub(in crate::api) fn auto_allocate(&self, call: &Call) -> Result<Option<String>> {
        let networks = self.network_ok(call, Method::GET, "/v2.0/networks?admin_state_up=True", None)?;
        let usable =
            |n: &Value| (n["project_id"] == call.project() || n["shared"] == true) && n["router:external"] != true;
        if networks["networks"]
            .as_array()
            .is_some_and(|all| all.iter().any(usable))
        {
            return Ok(None);
        }
        let path = format!("/v2.0/auto-allocated-topology/{}", call.project());
        let made = self.network_ok(call, Method::GET, &path, None).map_err(|_| {
            Error::bad_request(format!(
                "Unable to automatically allocate a network for project {}",
                call.project()
            ))
        })?;
        Ok(made["auto_allocated_topology"]["id"].as_str().map(str::to_owned))
    }
}

fn external(c: &Compute, call: &Call) -> Result<Vec<(String, String)>> {
    let body = c.network_ok(call, Method::GET, "/v2.0/networks?router:external=True", None)?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    Ok(body["networks"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|n| (text(&n["id"]), text(&n["name"])))
        .collect())
}

fn pools(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-floating-ip-pools")?;
    let pools: Vec<Value> = external(c, call)?
        .into_iter()
        .map(|(id, name)| json!({"name": if name.is_empty() { id } else { name }}))
        .collect();
    ok(json!({"floating_ip_pools": pools}))
}

fn view(ip: &Value, networks: &[(String, String)]) -> Value {
    let network = ip["floating_network_id"].as_str().unwrap_or_default();
    let name = networks
        .iter()
        .find(|(id, _)| id == network)
        .map(|(_, name)| name.as_str())
        .filter(|n| !n.is_empty());
    json!({
        "id": ip["id"], "ip": ip["floating_ip_address"], "fixed_ip": ip["fixed_ip_address"],
        "instance_id": ip["port_details"]["device_id"], "pool": name.unwrap_or(network),
    })
}

fn own(c: &Compute, call: &Call, more: &str) -> Result<Vec<Value>> {
    let path = format!("/v2.0/floatingips?project_id={}{more}", call.project());
    let mut body = c.network_ok(call, Method::GET, &path, None)?;
    match body["floatingips"].take() {
        Value::Array(list) => Ok(list),
        _ => Ok(Vec::new()),
    }
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-floating-ips:list")?;
    let networks = external(c, call)?;
    let views: Vec<Value> = own(c, call, "")?.iter().map(|ip| view(ip, &networks)).collect();
    ok(json!({"floating_ips": views}))
}

fn find(c: &Compute, call: &Call) -> Result<Value> {
    let id = call.param("id");
    let found = c.network_ok(call, Method::GET, &format!("/v2.0/floatingips/{id}"), None);
    let mut found = found.map_err(|e| match e.status {
        StatusCode::NOT_FOUND => Error::not_found(format!("Floating IP not found for ID {id}")),
        _ => e,
    })?;
    Ok(found["floatingip"].take())
}

fn show(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-floating-ips:show")?;
    let ip = find(c, call)?;
    ok(json!({"floating_ip": view(&ip, &external(c, call)?)}))
}

fn create(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-floating-ips:create")?;
    let networks = external(c, call)?;
    let pool = call.body["pool"].as_str();
    let wanted = pool.map_or_else(
        || networks.first(),
        |p| networks.iter().find(|(id, name)| id == p || name == p),
    );
    let Some((network, _)) = wanted else {
        return Err(Error::not_found("Floating IP pool not found."));
    };
    let body = json!({"floatingip": {"floating_network_id": network, "tenant_id": call.project()}});
    let (status, made) = c.network(call, Method::POST, "/v2.0/floatingips", Some(&body))?;
    if status.is_success() {
        return ok(json!({"floating_ip": view(&made["floatingip"], &networks)}));
    }
    let of_pool = |text: &str, none: &str| pool.map_or(none.to_owned(), |p| format!("{text} in pool {p}."));
    Err(match made["NeutronError"]["type"].as_str().unwrap_or_default() {
        "OverQuota" => Error::forbidden(of_pool("IP allocation over quota", "IP allocation over quota.")),
        "IpAddressGenerationFailure" | "ExternalIpAddressExhausted" => {
            Error::not_found(of_pool("No more floating IPs", "No more floating IPs available."))
        }
        _ => Error::bad_request(
            made["NeutronError"]["message"]
                .as_str()
                .unwrap_or("Floating IP allocate failed"),
        ),
    })
}

fn delete(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-floating-ips:delete")?;
    let ip = find(c, call)?;
    c.network_ok(
        call,
        Method::DELETE,
        &format!("/v2.0/floatingips/{}", ip["id"].as_str().unwrap_or_default()),
        None,
    )?;
    accepted()
}

/// The caller's floating IP with this address.
fn by_address(c: &Compute, call: &Call, address: &str) -> Result<Option<Value>> {
    let encoded: String = address
        .chars()
        .filter(|c| c.is_ascii_hexdigit() || matches!(c, '.' | ':'))
        .collect();
    Ok(own(c, call, &format!("&floating_ip_address={encoded}"))?
        .into_iter()
        .next())
}

fn associate(c: &Compute, call: &Call) -> Result {
    let nics = c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-floating-ips:add")?;
        let id = server.id.clone();
        Ok::<_, Error>(
            c.neighbours
                .ports
                .nics(tx, std::slice::from_ref(&id))?
                .remove(&id)
                .unwrap_or_default(),
        )
    })?;
    let wanted = &call.body["addFloatingIp"];
    let address = wanted["address"].as_str().unwrap_or_default();
    if nics.is_empty() {
        return Err(Error::bad_request("Instance network is not ready yet"));
    }
    let fixed: Vec<(&str, &str, u8)> = nics
        .iter()
        .flat_map(|n| {
            n.addresses
                .iter()
                .map(|a| (n.port_id.as_str(), a.address.as_str(), a.version))
        })
        .collect();
    if fixed.is_empty() {
        return Err(Error::bad_request("No fixed IPs associated to instance"));
    }
    let chosen = match wanted["fixed_address"].as_str() {
        Some(given) => fixed.iter().find(|(_, a, _)| *a == given).ok_or_else(|| Error::bad_request("Specified fixed address not assigned to instance"))?,
        None => fixed.iter().find(|(_, _, version)| *version == 4).ok_or_else(|| {
            Error::bad_request(format!(
                "Unable to associate floating IP {address} to any fixed IPs for instance {}. Instance has no fixed IPv4 addresses to associate.",
                call.param("id")
            ))
        })?,
    };
    let ip = by_address(c, call, address)?.ok_or_else(|| Error::not_found("floating IP not found"))?;
    let body = json!({"floatingip": {"port_id": chosen.0, "fixed_ip_address": chosen.1}});
    let path = format!("/v2.0/floatingips/{}", ip["id"].as_str().unwrap_or_default());
    let done = c.network_ok(call, Method::PUT, &path, Some(&body));
    done.map_err(|e| {
        if e.status == StatusCode::FORBIDDEN {
            e
        } else {
            Error::bad_request(e.message)
        }
    })?;
    accepted()
}

fn disassociate(c: &Compute, call: &Call) -> Result {
    let address = call.body["removeFloatingIp"]["address"].as_str().unwrap_or_default();
    let missing = || Error::not_found(format!("Floating IP not found for address {address}."));
    let ip = by_address(c, call, address)?.ok_or_else(missing)?;
    let server =
        c.db.read(|tx| c.server(tx, call, "os_compute_api:os-floating-ips:remove"))?;
    if ip["port_details"]["device_id"] != server.id.as_str() {
        let text = format!("Floating IP {address} is not associated with instance {}.", server.id);
        return Err(Error::conflict(text));
    }
    let path = format!("/v2.0/floatingips/{}", ip["id"].as_str().unwrap_or_default());
    c.network_ok(
        call,
        Method::PUT,
        &path,
        Some(&json!({"floatingip": {"port_id": null}})),
    )?;
    Ok(Response::empty(StatusCode::ACCEPTED))
}
