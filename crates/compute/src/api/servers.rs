//! Servers: show, update, delete, and what all their operations share.

use std::collections::HashMap;

use api::services::{Nic, ServerRef};
use api::{Error, Response, StatusCode};
use database::Tx;
use serde_json::{Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, no_content, ok};
use crate::model::encoding::canonical_address;
use crate::model::server::{Address, HostStatusShown, Server, Shown, Surroundings, view};
use crate::model::state::{self, Action, invalid_state};
use crate::store::{actions, consoles, groups, hosts, servers};

pub(super) fn add(table: &mut Table) {
    table
        .get("/servers/{id}", show)
        .put("/servers/{id}", update)
        .delete("/servers/{id}", delete);
}

pub(super) fn missing(id: &str) -> Error {
    Error::not_found(format!("Instance {id} could not be found."))
}

/// The server, where the caller may see it: it is the own project's, or the caller is an administrator.
pub(super) fn lookup(tx: &mut Tx<'_>, call: &Call, id: &str) -> Result<Server> {
    lookup_any(tx, call, id, false)
}

/// As [`lookup`]; deleted servers too where `deleted` says so.
pub(super) fn lookup_any(tx: &mut Tx<'_>, call: &Call, id: &str, deleted: bool) -> Result<Server> {
    let server = servers::find(tx, id, deleted)?;
    let visible = server.filter(|s| call.context().is_admin() || s.project_id == call.project());
    visible.ok_or_else(|| missing(id))
}

impl Compute {
    /// The server, where the caller may see it and do this to it.
    pub(super) fn server(&self, tx: &mut Tx<'_>, call: &Call, rule: &str) -> Result<Server> {
        let id = if call.param("server_id").is_empty() {
            call.param("id")
        } else {
            call.param("server_id")
        };
        let server = lookup(tx, call, id)?;
        self.allow(call, rule, &server.project_id, Some(&server.user_id))?;
        Ok(server)
    }

    /// Whether lock and state let the action through.
    pub(super) fn open_for(&self, call: &Call, server: &Server, action: &Action) -> Result<()> {
        if action.lockable && server.is_locked_for(call.context().is_admin()) {
            return Err(Error::conflict(format!("Instance {} is locked", server.id)));
        }
        let refuse = |attribute, state| Err(invalid_state(action.name, &server.id, attribute, state));
        if !action.vm_states.is_empty() && !action.vm_states.contains(&server.vm_state.as_str()) {
            return refuse("vm_state", Some(server.vm_state.as_str()));
        }
        if action.idle && server.task_state.is_some() {
            return refuse("task_state", server.task_state.as_deref());
        }
        if action.launched && server.launched_at.is_none() {
            return refuse("launched_at", None);
        }
        Ok(())
    }

    /// Records an action of the caller with its first step.
    pub(super) fn record(
        &self,
        tx: &mut Tx<'_>,
        call: &Call,
        server: &Server,
        action: &str,
        event: &str,
    ) -> Result<i64> {
        let now = database::now();
        let row = actions::Action {
            number: 0,
            server_id: server.id.clone(),
            action: action.into(),
            request_id: call.request.id.clone(),
            user_id: call.user().into(),
            project_id: call.project().into(),
            started_at: now,
            updated_at: now,
            message: None,
        };
        Ok(actions::begin(tx, &row, event, server.host.as_deref())?)
    }

    /// Writes a changed server, and tells its node.
    pub(super) fn save(&self, tx: &mut Tx<'_>, server: &mut Server) -> Result<()> {
        server.touch(database::now());
        server.update(tx)?;
        tx.changed("server", &server.id);
        Ok(())
    }

    /// What is left of a server when its node holds nothing of it any more.
    pub(crate) fn destroy(&self, tx: &mut Tx<'_>, mut server: Server, now: i64) -> Result<()> {
        self.neighbours.ports.detach_all(tx, &server.id)?;
        self.neighbours.capacity.release(tx, &server.id)?;
        servers::remove_ports(tx, &server.id, None)?;
        groups::remove_member(tx, &server.id)?;
        consoles::forget(tx, &server.id)?;
        server.vm_state = state::DELETED.into();
        server.task_state = None;
        server.power_state = 0;
        server.power_wanted = "deleted".into();
        server.terminated_at = server.terminated_at.or(Some(now));
        server.deleted_at = Some(now);
        server.admin_password = None;
        server.personality = json!([]);
        if let Some(action) = server.task_action.take() {
            actions::finish(tx, action, None, now)?;
        }
        server.touch(now);
        server.update(tx)?;
        tx.changed("server", &server.id);
        Ok(())
    }

    /// Begins the deletion of a server. Where no living node holds anything of it, it is gone at once.
    pub(super) fn begin_delete(&self, tx: &mut Tx<'_>, call: &Call, mut server: Server) -> Result<()> {
        let now = database::now();
        if server.power_wanted == "deleted" && server.task_state.as_deref() == Some("deleting") {
            return Ok(());
        }
        if let Some(action) = server.task_action.take() {
            actions::finish(tx, action, None, now)?;
        }
        server.task_action = Some(self.record(tx, call, &server, "delete", "compute_terminate_instance")?);
        let alive = match &server.host {
            None => false,
            Some(host) => hosts::service(tx, host, hosts::NODE_SERVICE)?
                .is_some_and(|s| s.is_up(now, self.config.service_down_seconds)),
        };
        server.terminated_at = Some(now);
        server.want("deleted");
        if !alive {
            return self.destroy(tx, server, now);
        }
        server.task_state = Some("deleting".into());
        self.save(tx, &mut server)
    }

    /// The facts of a server that Networking needs.
    pub(super) fn server_ref(&self, server: &Server) -> ServerRef {
        ServerRef {
            id: server.id.clone(),
            hostname: server.hostname.clone(),
            host: server.host.clone(),
            availability_zone: server
                .availability_zone
                .clone()
                .unwrap_or_else(|| self.config.default_availability_zone.clone()),
            project_id: server.project_id.clone(),
        }
    }

    /// What views of these servers show beside their rows, read at once for all.
    pub(super) fn surroundings(
        &self,
        tx: &mut Tx<'_>,
        list: &[Server],
        hosts_too: bool,
    ) -> Result<HashMap<String, Surroundings>> {
        let ids: Vec<String> = list.iter().map(|s| s.id.clone()).collect();
        let mut metadata = servers::metadata(tx, &ids)?;
        let mut tags = servers::tags(tx, &ids)?;
        let mut nics = self.neighbours.ports.nics(tx, &ids)?;
        let mut status = HashMap::new();
        if hosts_too {
            let now = database::now();
            for service in hosts::services(tx)? {
                if service.binary != hosts::NODE_SERVICE {
                    continue;
                }
                let text = match (service.disabled, service.is_up(now, self.config.service_down_seconds)) {
                    _ if service.forced_down => "DOWN",
                    (true, _) => "MAINTENANCE",
                    (false, true) => "UP",
                    (false, false) => "UNKNOWN",
                };
                status.insert(service.host, text);
            }
        }
        Ok(list
            .iter()
            .map(|server| {
                let nics = nics.remove(&server.id).unwrap_or_default();
                let host_status = server
                    .host
                    .as_ref()
                    .and_then(|h| status.get(h))
                    .copied()
                    .unwrap_or_default();
                let around = Surroundings {
                    metadata: metadata.remove(&server.id).unwrap_or_default(),
                    tags: tags.remove(&server.id).unwrap_or_default(),
                    addresses: addresses(&nics),
                    security_groups: group_names(&nics),
                    host_status: host_status.into(),
                    group: None,
                };
                (server.id.clone(), around)
            })
            .collect())
    }

    /// What the caller may see of the servers of a project.
    pub(super) fn shown(&self, call: &Call, project: &str) -> Shown {
        let rule = |name: &str| self.permits(call, name, project);
        let host_status = if !call.at_least(16) {
            HostStatusShown::No
        } else if rule("os_compute_api:servers:show:host_status") {
            HostStatusShown::Yes
        } else if rule("os_compute_api:servers:show:host_status:unknown-only") {
            HostStatusShown::UnknownOnly
        } else {
            HostStatusShown::No
        };
        Shown {
            minor: call.request.version.1,
            extended: rule("os_compute_api:os-extended-server-attributes"),
            host_status,
            extra_specs: call.at_least(47) && rule("os_compute_api:servers:show:flavor-extra-specs"),
            admin: call.context().is_admin(),
            groups: false,
            whole: true,
            user_data: true,
        }
    }

    /// The detailed view of one server.
    pub(super) fn detail(&self, tx: &mut Tx<'_>, call: &Call, server: &Server, shown: &Shown) -> Result<Value> {
        let mut around = self
            .surroundings(
                tx,
                std::slice::from_ref(server),
                shown.host_status != HostStatusShown::No,
            )?
            .remove(&server.id)
            .unwrap_or_default();
        if shown.groups && shown.minor >= 71 {
            around.group = groups::of_server(tx, &server.id)?;
        }
        Ok(view(server, &around, shown, &|c, id| call.links(c, id), &|c, id| {
            call.bookmark(c, id)
        }))
    }
}

/// `addresses` of NICs: by network name, fixed addresses before floating ones.
pub(super) fn addresses(nics: &[Nic]) -> Vec<(String, Vec<Address>)> {
    let mut out: Vec<(String, Vec<Address>, Vec<Address>)> = Vec::new();
    for nic in nics {
        let at = match out.iter().position(|(label, ..)| *label == nic.network_name) {
            Some(at) => at,
            None => {
                out.push((nic.network_name.clone(), Vec::new(), Vec::new()));
                out.len() - 1
            }
        };
        for address in &nic.addresses {
            let as_seen = |version, address: &str, kind| Address {
                version,
                address: address.into(),
                kind,
                mac: nic.mac_address.clone(),
            };
            out[at].1.push(as_seen(address.version, &address.address, "fixed"));
            for floating in &address.floating {
                let version = if floating.contains(':') { 6 } else { 4 };
                out[at].2.push(as_seen(version, floating, "floating"));
            }
        }
    }
    let joined = out.into_iter().map(|(label, mut fixed, floating)| {
        fixed.extend(floating);
        (label, fixed)
    });
    joined.collect()
}

fn group_names(nics: &[Nic]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (id, name) in nics.iter().flat_map(|nic| &nic.security_groups) {
        if !seen.contains(&id.as_str()) {
            seen.push(id);
            out.push(name.clone());
        }
    }
    out
}

fn show(c: &Compute, call: &Call) -> Result {
    let body = c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:servers:show")?;
        let shown = Shown {
            groups: true,
            ..c.shown(call, &server.project_id)
        };
        c.detail(tx, call, &server, &shown)
    })?;
    ok(json!({"server": body}))
}

fn update(c: &Compute, call: &Call) -> Result {
    let wanted = &call.body["server"];
    let body = c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:servers:update")?;
        let text = |key: &str| wanted[key].as_str().map(str::to_owned);
        if let Some(name) = text("name") {
            server.name = name.trim().to_owned();
        }
        if wanted.get("description").is_some() {
            server.description = text("description");
        }
        if let Some(hostname) = text("hostname") {
            server.hostname = hostname;
            c.neighbours.ports.rename(tx, &server.id, &server.hostname)?;
        }
        if let Some(address) = wanted.get("accessIPv4") {
            server.access_ip_v4 = canonical_address(address);
        }
        if let Some(address) = wanted.get("accessIPv6") {
            server.access_ip_v6 = canonical_address(address);
        }
        if let Some(config) = text("OS-DCF:diskConfig") {
            server.auto_disk_config = config == "AUTO";
        }
        if call.at_least(104)
            && let Some(zone) = wanted.get("pinned_availability_zone")
        {
            pin(&mut server, zone.as_str())?;
        }
        c.save(tx, &mut server)?;
        let all = call.at_least(75);
        let shown = c.shown(call, &server.project_id);
        let shown = Shown {
            groups: true,
            whole: all,
            extended: shown.extended && all,
            host_status: if all { shown.host_status } else { HostStatusShown::No },
            ..shown
        };
        c.detail(tx, call, &server, &shown)
    })?;
    ok(json!({"server": body}))
}

/// Pins a server to the zone it is in, or unpins it.
fn pin(server: &mut Server, zone: Option<&str>) -> Result<()> {
    let Some(zone) = zone else {
        server.pinned_availability_zone = None;
        return Ok(());
    };
    match &server.pinned_availability_zone {
        Some(pinned) if pinned == zone => Ok(()),
        Some(_) => Err(Error::conflict(
            "Cannot change pinned availability zone directly. Unpin first by setting pinned_availability_zone to null.",
        )),
        None if server.availability_zone.as_deref() == Some(zone) => {
            server.pinned_availability_zone = Some(zone.to_owned());
            Ok(())
        }
        None => {
            let current = server.availability_zone.as_deref().unwrap_or_default();
            let text = format!(
                "Server can only be pinned to its current availability zone '{current}', but '{zone}' was requested."
            );
            Err(Error::conflict(text))
        }
    }
}

fn delete(c: &Compute, call: &Call) -> Result {
    c.db.write(|tx| {
        let server = c.server(tx, call, "os_compute_api:servers:delete")?;
        c.open_for(call, &server, &Action::DELETE)?;
        c.begin_delete(tx, call, server)
    })?;
    no_content()
}

/// 202 with the URL of what was made.
pub(super) fn located(body: &Value, location: &str) -> Response {
    Response::json(StatusCode::ACCEPTED, body).header("location", location)
}
