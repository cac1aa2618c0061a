//! What hangs on a server: metadata, tags, addresses, password, topology, diagnostics.

use std::time::Duration;

use api::{Error, Method, Response, StatusCode};
use database::Tx;
use node_protocol::queries::{Answer, Diagnostics, Query, QueryError};
use serde_json::{Map, Value, json};

use super::server_create::check_metadata;
use super::server_power::has_host;
use super::servers::addresses;
use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table, no_content, ok};
use crate::model::server::{Server, Surroundings, networks_view};
use crate::model::state::{self, Action, invalid_state};
use crate::store::{quotas, servers};

pub(super) fn add(table: &mut Table) {
    table
        .get("/servers/{server_id}/metadata", metadata_list)
        .post("/servers/{server_id}/metadata", |c, call| {
            metadata_change(c, call, false)
        })
        .put("/servers/{server_id}/metadata", |c, call| {
            metadata_change(c, call, true)
        })
        .get("/servers/{server_id}/metadata/{id}", metadata_show)
        .put("/servers/{server_id}/metadata/{id}", metadata_set)
        .delete("/servers/{server_id}/metadata/{id}", metadata_remove)
        .get("/servers/{server_id}/ips", ips_list)
        .get("/servers/{server_id}/ips/{id}", ips_show)
        .get("/servers/{server_id}/os-server-password", password_show)
        .delete("/servers/{server_id}/os-server-password", password_clear)
        .get("/servers/{server_id}/diagnostics", diagnostics)
        .between(Method::GET, "/servers/{server_id}/topology", (78, NEWEST), topology);
    let tags = (26, NEWEST);
    table
        .between(Method::GET, "/servers/{server_id}/tags", tags, tags_list)
        .between(Method::PUT, "/servers/{server_id}/tags", tags, tags_replace)
        .between(Method::DELETE, "/servers/{server_id}/tags", tags, tags_clear)
        .between(Method::GET, "/servers/{server_id}/tags/{id}", tags, tag_show)
        .between(Method::PUT, "/servers/{server_id}/tags/{id}", tags, tag_add)
        .between(Method::DELETE, "/servers/{server_id}/tags/{id}", tags, tag_remove);
}

fn metadata_of(tx: &mut Tx<'_>, server: &Server) -> Result<Map<String, Value>> {
    Ok(servers::metadata(tx, std::slice::from_ref(&server.id))?
        .remove(&server.id)
        .unwrap_or_default())
}

fn metadata_list(c: &Compute, call: &Call) -> Result {
    let all = c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:server-metadata:index")?;
        metadata_of(tx, &server)
    })?;
    ok(json!({"metadata": all}))
}

fn no_item() -> Error {
    Error::not_found("Metadata item was not found")
}

fn metadata_show(c: &Compute, call: &Call) -> Result {
    let key = call.param("id");
    let all = c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:server-metadata:show")?;
        metadata_of(tx, &server)
    })?;
    ok(json!({"meta": {key: all.get(key).ok_or_else(no_item)?}}))
}

/// Merges `changes` into the metadata, or with `replace` puts them in its place.
fn write_metadata(
    c: &Compute,
    call: &Call,
    rule: &str,
    changes: &Map<String, Value>,
    replace: bool,
) -> Result<Map<String, Value>> {
    c.db.write(|tx| {
        let mut server = c.server(tx, call, rule)?;
        c.open_for(call, &server, &Action::UPDATE_METADATA)?;
        let mut all = if replace { Map::new() } else { metadata_of(tx, &server)? };
        all.extend(changes.clone());
        check_metadata(
            &all,
            &quotas::limits(tx, &c.config.quotas, call.project(), Some(call.user()))?,
        )?;
        if replace {
            servers::remove_metadata(tx, &server.id, None)?;
        }
        for (key, value) in changes {
            servers::set_metadata(tx, &server.id, key, value.as_str().unwrap_or_default())?;
        }
        c.save(tx, &mut server)?;
        Ok(all)
    })
}

fn metadata_change(c: &Compute, call: &Call, replace: bool) -> Result {
    let rule = if replace {
        "os_compute_api:server-metadata:update_all"
    } else {
        "os_compute_api:server-metadata:create"
    };
    let changes = call.body["metadata"].as_object().cloned().unwrap_or_default();
    let all = write_metadata(c, call, rule, &changes, replace)?;
    ok(json!({"metadata": all}))
}

fn metadata_set(c: &Compute, call: &Call) -> Result {
    let changes = call.body["meta"].as_object().cloned().unwrap_or_default();
    if !changes.contains_key(call.param("id")) {
        c.db.read(|tx| c.server(tx, call, "os_compute_api:server-metadata:update"))?;
        return Err(Error::bad_request("Request body and URI mismatch"));
    }
    write_metadata(c, call, "os_compute_api:server-metadata:update", &changes, false)?;
    ok(json!({"meta": changes}))
}

fn metadata_remove(c: &Compute, call: &Call) -> Result {
    let key = call.param("id");
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:server-metadata:delete")?;
        if !metadata_of(tx, &server)?.contains_key(key) {
            return Err(no_item());
        }
        c.open_for(call, &server, &Action::DELETE_METADATA)?;
        servers::remove_metadata(tx, &server.id, Some(key))?;
        c.save(tx, &mut server)
    })?;
    no_content()
}

fn ips(c: &Compute, call: &Call, rule: &str) -> Result<Value> {
    c.db.read(|tx| {
        let server = c.server(tx, call, rule)?;
        let nics = c
            .neighbours
            .ports
            .nics(tx, std::slice::from_ref(&server.id))?
            .remove(&server.id)
            .unwrap_or_default();
        let around = Surroundings {
            addresses: addresses(&nics),
            ..Surroundings::default()
        };
        Ok(networks_view(&around, false))
    })
}

fn ips_list(c: &Compute, call: &Call) -> Result {
    ok(json!({"addresses": ips(c, call, "os_compute_api:ips:index")?}))
}

fn ips_show(c: &Compute, call: &Call) -> Result {
    let label = call.param("id");
    match ips(c, call, "os_compute_api:ips:show")?.get(label) {
        Some(addresses) => ok(json!({label: addresses})),
        None => Err(Error::not_found("Instance is not a member of specified network")),
    }
}

fn password_show(c: &Compute, call: &Call) -> Result {
    let server =
        c.db.read(|tx| c.server(tx, call, "os_compute_api:os-server-password:show"))?;
    ok(json!({"password": server.posted_password}))
}

fn password_clear(c: &Compute, call: &Call) -> Result {
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:os-server-password:clear")?;
        server.posted_password.clear();
        c.save(tx, &mut server)
    })?;
    no_content()
}

/// Guests have no NUMA topology of their own, which upstream shows so.
fn topology(c: &Compute, call: &Call) -> Result {
    c.db.read(|tx| c.server(tx, call, "compute:server:topology:index"))?;
    ok(json!({"nodes": [], "pagesize_kb": null}))
}

impl Compute {
    /// Asks a node, from a handler.
    pub(crate) fn ask(&self, node: &str, query: Query) -> Result<Answer, QueryError> {
        let away = || QueryError::NotConnected { node: node.to_owned() };
        let nodes = self.nodes().ok_or_else(away)?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| away())?;
        database::blocking(|| runtime.block_on(nodes.query(node, query, Duration::from_secs(20))))
    }
}

fn diagnostics(c: &Compute, call: &Call) -> Result {
    let server =
        c.db.read(|tx| c.server(tx, call, "os_compute_api:os-server-diagnostics"))?;
    has_host(&server)?;
    if call.at_least(48) && !matches!(server.power_state, 1 | 3) {
        // Upstream's driver can only be asked of a guest that is there.
        return Err(invalid_state(
            "get_diagnostics",
            &server.id,
            "power state",
            Some(power_name(server.power_state)),
        ));
    }
    let id = uuid::Uuid::parse_str(&server.id).unwrap_or_default();
    let answer = c.ask(
        server.host.as_deref().unwrap_or_default(),
        Query::Diagnostics { server_id: id },
    );
    let seen = match answer {
        Ok(Answer::Diagnostics(seen)) => seen,
        Err(QueryError::NotRunning | QueryError::NotFound) => {
            return Err(invalid_state(
                "get_diagnostics",
                &server.id,
                "power state",
                Some(power_name(server.power_state)),
            ));
        }
        Err(error) => return Err(Error::conflict(error.to_string())),
        Ok(_) => return Err(Error::internal("a node answered another question than was asked")),
    };
    ok(if call.at_least(48) {
        diagnostics_v248(&seen)
    } else {
        diagnostics_plain(&seen)
    })
}

fn power_name(state: i64) -> &'static str {
    match state {
        1 => "running",
        3 => "paused",
        4 => "shutdown",
        6 => "crashed",
        7 => "suspended",
        _ => "pending",
    }
}

fn diagnostics_v248(seen: &Diagnostics) -> Value {
    let cpus = seen
        .cpu_times
        .iter()
        .enumerate()
        .map(|(id, time)| json!({"id": id, "time": time, "utilisation": null}));
    let nics = seen.nics.iter().map(|n| {
        json!({"mac_address": n.mac_address, "rx_octets": n.rx_octets, "rx_errors": n.rx_errors, "rx_drop": n.rx_drop,
            "rx_packets": n.rx_packets, "rx_rate": null, "tx_octets": n.tx_octets, "tx_errors": n.tx_errors, "tx_drop": n.tx_drop,
            "tx_packets": n.tx_packets, "tx_rate": null})
    });
    let disks = seen.disks.iter().map(|d| {
        json!({"read_bytes": d.read_bytes, "read_requests": d.read_requests, "write_bytes": d.write_bytes,
            "write_requests": d.write_requests, "errors_count": d.errors_count})
    });
    // The values that upstream's schema knows; its driver is always called libvirt.
    let hypervisor = if seen.hypervisor == "kvm" { "kvm" } else { "qemu" };
    json!({
        "state": seen.state, "driver": "libvirt", "hypervisor": hypervisor, "hypervisor_os": "linux", "uptime": seen.uptime,
        "config_drive": seen.config_drive, "num_cpus": seen.num_cpus, "num_nics": seen.nics.len(), "num_disks": seen.disks.len(),
        "disk_details": disks.collect::<Vec<_>>(), "cpu_details": cpus.collect::<Vec<_>>(), "nic_details": nics.collect::<Vec<_>>(),
        "memory_details": {"maximum": seen.memory_maximum, "used": seen.memory_used},
    })
}

/// Before 2.48: libvirt's own names, flat.
fn diagnostics_plain(seen: &Diagnostics) -> Value {
    let mut out = Map::new();
    for (i, time) in seen.cpu_times.iter().enumerate() {
        out.insert(format!("cpu{i}_time"), json!(time));
    }
    for disk in &seen.disks {
        for (key, value) in [
            ("read", disk.read_bytes),
            ("read_req", disk.read_requests),
            ("write", disk.write_bytes),
            ("write_req", disk.write_requests),
            ("errors", disk.errors_count),
        ] {
            out.insert(format!("{}_{key}", disk.name), json!(value));
        }
    }
    out.insert("memory".into(), json!(seen.memory_maximum * 1024));
    out.insert("memory-actual".into(), json!(seen.memory_maximum * 1024));
    out.insert("memory-rss".into(), json!(seen.memory_used.unwrap_or(0) * 1024));
    for (i, nic) in seen.nics.iter().enumerate() {
        for (key, value) in [
            ("rx", nic.rx_octets),
            ("rx_packets", nic.rx_packets),
            ("rx_drop", nic.rx_drop),
            ("rx_errors", nic.rx_errors),
            ("tx", nic.tx_octets),
            ("tx_packets", nic.tx_packets),
            ("tx_drop", nic.tx_drop),
            ("tx_errors", nic.tx_errors),
        ] {
            out.insert(format!("net{i}_{key}"), json!(value));
        }
    }
    Value::Object(out)
}

/// Tags may be changed in these states only.
fn taggable(c: &Compute, tx: &mut Tx<'_>, call: &Call, rule: &str, action: &str) -> Result<Server> {
    let server = c.server(tx, call, rule)?;
    if ![state::ACTIVE, state::PAUSED, state::SUSPENDED, state::STOPPED].contains(&server.vm_state.as_str()) {
        return Err(invalid_state(action, &server.id, "vm_state", Some(&server.vm_state)));
    }
    Ok(server)
}

fn tags_of(tx: &mut Tx<'_>, server: &Server) -> Result<Vec<String>> {
    Ok(servers::tags(tx, std::slice::from_ref(&server.id))?
        .remove(&server.id)
        .unwrap_or_default())
}

fn tags_list(c: &Compute, call: &Call) -> Result {
    let tags = c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-server-tags:index")?;
        tags_of(tx, &server)
    })?;
    ok(json!({"tags": tags}))
}

fn tags_replace(c: &Compute, call: &Call) -> Result {
    let wanted: Vec<&str> = call.body["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let tags = c.db.write(|tx| {
        let server = taggable(c, tx, call, "os_compute_api:os-server-tags:update_all", "update tags")?;
        servers::remove_tag(tx, &server.id, None)?;
        for tag in &wanted {
            servers::add_tag(tx, &server.id, tag)?;
        }
        tags_of(tx, &server)
    })?;
    ok(json!({"tags": tags}))
}

fn tags_clear(c: &Compute, call: &Call) -> Result {
    c.db.write(|tx| {
        let server = taggable(c, tx, call, "os_compute_api:os-server-tags:delete_all", "delete tags")?;
        Ok::<_, Error>(servers::remove_tag(tx, &server.id, None)?)
    })?;
    no_content()
}

fn tag_show(c: &Compute, call: &Call) -> Result {
    let tag = call.param("id");
    c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-server-tags:show")?;
        if tags_of(tx, &server)?.iter().any(|t| t == tag) {
            return Ok(());
        }
        Err(Error::not_found(format!("Server {} has no tag '{tag}'", server.id)))
    })?;
    no_content()
}

fn tag_add(c: &Compute, call: &Call) -> Result {
    const MOST: usize = 50;
    let tag = call.param("id");
    let created = c.db.write(|tx| {
        let server = taggable(c, tx, call, "os_compute_api:os-server-tags:update", "update tag")?;
        let wrong = if tag.chars().count() > 60 {
            Some(format!("'{tag}' is too long"))
        } else if tag.contains(['/', ',']) {
            Some(format!("'{tag}' does not match '^[^,/]*$'"))
        } else {
            None
        };
        if let Some(why) = wrong {
            return Err(Error::bad_request(format!(
                "Tag '{tag}' is invalid. It must be a non empty string without characters '/' and ','. Validation error message: {why}"
            )));
        }
        let tags = tags_of(tx, &server)?;
        if tags.len() >= MOST {
            return Err(Error::bad_request(format!("The number of tags exceeded the per-server limit {MOST}")));
        }
        if tags.iter().any(|t| t == tag) {
            return Ok(None);
        }
        servers::add_tag(tx, &server.id, tag)?;
        Ok(Some(server.id))
    })?;
    match created {
        None => no_content(),
        Some(id) => {
            let location = call.request.url(&format!("/v2.1/servers/{id}/tags/{tag}"));
            Ok(Response::empty(StatusCode::CREATED).header("location", location))
        }
    }
}

fn tag_remove(c: &Compute, call: &Call) -> Result {
    let tag = call.param("id");
    c.db.write(|tx| {
        let server = taggable(c, tx, call, "os_compute_api:os-server-tags:delete", "delete tag")?;
        if servers::remove_tag(tx, &server.id, Some(tag))? {
            return Ok(());
        }
        Err(Error::not_found(format!("Server {} has no tag '{tag}'", server.id)))
    })?;
    no_content()
}
