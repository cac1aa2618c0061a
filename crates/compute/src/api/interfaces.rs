//! A server's interfaces and security groups.

use api::services::{Nic, RequestedNic};
use api::{Error, Method, StatusCode};
use database::Tx;
use serde_json::{Value, json};

use super::server_power::has_host;
use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table, accepted, ok};
use crate::model::server::Server;
use crate::model::state::Action;
use crate::store::{actions, servers};

const ACTION: &str = "/servers/{id}/action";

pub(super) fn add(table: &mut Table) {
    table
        .get("/servers/{server_id}/os-interface", list)
        .post("/servers/{server_id}/os-interface", attach)
        .get("/servers/{server_id}/os-interface/{id}", show)
        .delete("/servers/{server_id}/os-interface/{id}", detach)
        .get("/servers/{server_id}/os-security-groups", groups)
        .action(ACTION, "addSecurityGroup", (1, NEWEST), |c, call| {
            change_group(c, call, true)
        })
        .action(ACTION, "removeSecurityGroup", (1, NEWEST), |c, call| {
            change_group(c, call, false)
        })
        .action(ACTION, "addFixedIp", (1, 43), add_fixed_ip)
        .action(ACTION, "removeFixedIp", (1, 43), remove_fixed_ip)
        .between(
            Method::GET,
            "/servers/{server_id}/os-virtual-interfaces",
            (1, NEWEST),
            |_, _| Err(Error::new(StatusCode::GONE, "")),
        );
}

fn nics(c: &Compute, tx: &mut Tx<'_>, server: &Server) -> Result<Vec<Nic>> {
    Ok(c.neighbours
        .ports
        .nics(tx, std::slice::from_ref(&server.id))?
        .remove(&server.id)
        .unwrap_or_default())
}

fn view(call: &Call, nic: &Nic) -> Value {
    let addresses = nic
        .addresses
        .iter()
        .map(|a| json!({"subnet_id": a.subnet_id, "ip_address": a.address}));
    let mut view = json!({
        "net_id": nic.network_id, "port_id": nic.port_id, "mac_addr": nic.mac_address, "port_state": nic.status,
        "fixed_ips": addresses.collect::<Vec<_>>(),
    });
    if call.at_least(70) {
        view["tag"] = json!(nic.tag);
    }
    view
}

/// The device tags are Compute's own, whether or not Networking keeps them too.
fn with_tags(tx: &mut Tx<'_>, server: &Server, mut nics: Vec<Nic>) -> Result<Vec<Nic>> {
    let rows = servers::ports(tx, std::slice::from_ref(&server.id))?
        .remove(&server.id)
        .unwrap_or_default();
    for nic in &mut nics {
        nic.tag = rows
            .iter()
            .find(|r| r.port_id == nic.port_id)
            .and_then(|r| r.tag.clone());
    }
    Ok(nics)
}

fn list(c: &Compute, call: &Call) -> Result {
    let list = c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-attach-interfaces:list")?;
        let nics = nics(c, tx, &server)?;
        with_tags(tx, &server, nics)
    })?;
    let views: Vec<Value> = list.iter().map(|nic| view(call, nic)).collect();
    ok(json!({"interfaceAttachments": views}))
}

fn find(c: &Compute, tx: &mut Tx<'_>, server: &Server, port: &str) -> Result<Nic> {
    let all = nics(c, tx, server)?;
    let found = with_tags(tx, server, all)?.into_iter().find(|nic| nic.port_id == port);
    found.ok_or_else(|| Error::not_found(format!("Port id {port} could not be found.")))
}

fn show(c: &Compute, call: &Call) -> Result {
    let nic = c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-attach-interfaces:show")?;
        find(c, tx, &server, call.param("id"))
    })?;
    ok(json!({"interfaceAttachment": view(call, &nic)}))
}

/// Networking's errors as attaching answers them.
fn attach_error(error: Error) -> Error {
    let status = match (&*error.kind, error.status) {
        ("PortInUse" | "IpAddressAlreadyAllocated" | "IpAddressInUse" | "FixedIpAlreadyInUse", _) => {
            StatusCode::CONFLICT
        }
        ("PortNotFound" | "NetworkNotFound", _) => StatusCode::NOT_FOUND,
        ("OverQuota" | "PortLimitExceeded", _) => return Error::forbidden("Maximum number of ports exceeded"),
        ("NetworkAmbiguous" | "IpAddressGenerationFailure", _) => StatusCode::BAD_REQUEST,
        (_, StatusCode::NOT_FOUND) => StatusCode::NOT_FOUND,
        (_, StatusCode::FORBIDDEN) => StatusCode::FORBIDDEN,
        (_, status) if status.is_server_error() => return error,
        _ => StatusCode::BAD_REQUEST,
    };
    Error {
        status,
        kind: "".into(),
        ..error
    }
}

fn attach(c: &Compute, call: &Call) -> Result {
    let wanted = &call.body["interfaceAttachment"];
    let text = |key: &str| wanted[key].as_str().map(str::to_owned);
    let nic = RequestedNic {
        network_id: text("net_id"),
        port_id: text("port_id"),
        fixed_ip: wanted["fixed_ips"][0]["ip_address"].as_str().map(str::to_owned),
        tag: text("tag"),
    };
    let nic = c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:os-attach-interfaces:create")?;
        if nic.network_id.is_some() && nic.port_id.is_some() {
            return Err(Error::bad_request("Must not input both network_id and port_id"));
        }
        if nic.fixed_ip.is_some() && nic.network_id.is_none() {
            return Err(Error::bad_request("Must input network_id when request IP address"));
        }
        c.open_for(call, &server, &Action::ATTACH_INTERFACE)?;
        has_host(&server)?;
        plug(c, tx, call, &mut server, &nic)
    })?;
    ok(json!({"interfaceAttachment": view(call, &nic)}))
}

fn plug(c: &Compute, tx: &mut Tx<'_>, call: &Call, server: &mut Server, wanted: &RequestedNic) -> Result<Nic> {
    let by_choice = wanted.network_id.is_some() || wanted.port_id.is_some();
    let list: &[RequestedNic] = if by_choice { std::slice::from_ref(wanted) } else { &[] };
    let reference = c.server_ref(server);
    let attached = c
        .neighbours
        .ports
        .attach(tx, call.context(), &reference, list, &[])
        .map_err(attach_error)?;
    let Some(mut nic) = attached.into_iter().next() else {
        let project = call.project();
        let text = format!("No specific network was requested and none are available for project '{project}'.");
        return Err(Error::bad_request(text));
    };
    nic.tag = wanted.tag.clone();
    servers::add_port(tx, &server.id, &nic.port_id, nic.tag.as_deref(), nic.created_by_compute)?;
    let action = c.record(tx, call, server, "attach_interface", "compute_attach_interface")?;
    actions::finish(tx, action, None, database::now())?;
    c.save(tx, server)?;
    Ok(nic)
}

fn unplug(c: &Compute, tx: &mut Tx<'_>, call: &Call, server: &mut Server, port: &str) -> Result<()> {
    if !nics(c, tx, server)?.iter().any(|nic| nic.port_id == port) {
        return Err(Error::not_found(format!("Port id {port} could not be found.")));
    }
    c.neighbours
        .ports
        .detach(tx, call.context(), &server.id, port)
        .map_err(attach_error)?;
    servers::remove_ports(tx, &server.id, Some(port))?;
    let action = c.record(tx, call, server, "detach_interface", "compute_detach_interface")?;
    actions::finish(tx, action, None, database::now())?;
    c.save(tx, server)
}

fn detach(c: &Compute, call: &Call) -> Result {
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:os-attach-interfaces:delete")?;
        c.open_for(call, &server, &Action::DETACH_INTERFACE)?;
        unplug(c, tx, call, &mut server, call.param("id"))
    })?;
    accepted()
}

/// Upstream adds a further address of the network; here that is a further interface on it.
fn add_fixed_ip(c: &Compute, call: &Call) -> Result {
    let network = call.body["addFixedIp"]["networkId"].as_str().map(str::to_owned);
    let nic = RequestedNic {
        network_id: network,
        ..RequestedNic::default()
    };
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:os-multinic:add")?;
        c.open_for(
            call,
            &server,
            &Action {
                idle: false,
                launched: false,
                ..Action::FORCE_DELETE
            },
        )?;
        plug(c, tx, call, &mut server, &nic)
    })?;
    accepted()
}

fn remove_fixed_ip(c: &Compute, call: &Call) -> Result {
    let address = call.body["removeFixedIp"]["address"].as_str().unwrap_or_default();
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:os-multinic:remove")?;
        c.open_for(
            call,
            &server,
            &Action {
                idle: false,
                launched: false,
                ..Action::FORCE_DELETE
            },
        )?;
        let all = nics(c, tx, &server)?;
        let port = all
            .iter()
            .find(|nic| nic.addresses.iter().any(|a| a.address == address))
            .map(|nic| nic.port_id.clone());
        match port {
            Some(port) => unplug(c, tx, call, &mut server, &port),
            None => Err(Error::bad_request(format!(
                "Fixed IP address {address} not found for instance {}.",
                server.id
            ))),
        }
    })?;
    accepted()
}

fn groups(c: &Compute, call: &Call) -> Result {
    let groups = c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-security-groups:list")?;
        let mut out: Vec<Value> = Vec::new();
        for (id, name) in nics(c, tx, &server)?.into_iter().flat_map(|nic| nic.security_groups) {
            if !out.iter().any(|g| g["id"] == id.as_str()) {
                let tenant = &server.project_id;
                out.push(json!({"id": id, "name": name, "tenant_id": tenant, "description": "", "rules": []}));
            }
        }
        out.sort_by_key(|g| g["name"].as_str().unwrap_or_default().to_owned());
        Ok::<_, Error>(out)
    })?;
    ok(json!({"security_groups": groups}))
}

fn change_group(c: &Compute, call: &Call, add: bool) -> Result {
    let (key, rule) = if add {
        ("addSecurityGroup", "os_compute_api:os-security-groups:add")
    } else {
        ("removeSecurityGroup", "os_compute_api:os-security-groups:remove")
    };
    c.db.write(|tx| {
        let server = c.server(tx, call, rule)?;
        let body = &call.body[key];
        if !body.is_object() {
            return Err(Error::bad_request("Missing parameter dict"));
        }
        let name = body["name"]
            .as_str()
            .ok_or_else(|| Error::bad_request("Security group not specified"))?;
        if name.trim().is_empty() {
            return Err(Error::bad_request("Security group name cannot be empty"));
        }
        let reference = c.server_ref(&server);
        let changed = c
            .neighbours
            .ports
            .change_security_group(tx, call.context(), &reference, name, add);
        changed.map_err(|error| match error.status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Error {
                kind: "".into(),
                ..error
            },
            _ => attach_error(error),
        })?;
        let mut server = server;
        c.save(tx, &mut server)
    })?;
    accepted()
}
