//! Services, hosts and availability zones.

use std::collections::HashMap;

use api::{Error, Method};
use database::Tx;
use serde_json::{Map, Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, no_content, ok};
use crate::model::encoding::json_bool;
use crate::store::hosts::{self, NODE_SERVICE, Service};
use crate::store::{aggregates, servers};

pub(super) fn add(table: &mut Table) {
    table
        .get("/os-services", list)
        .put("/os-services/{id}", update)
        .delete("/os-services/{id}", delete)
        .get("/os-availability-zone", |c, call| zones(c, call, false))
        .get("/os-availability-zone/detail", |c, call| zones(c, call, true));
    let hosts = (1, 42);
    table
        .between(Method::GET, "/os-hosts", hosts, hosts_list)
        .between(Method::GET, "/os-hosts/{id}", hosts, host_show)
        .between(Method::PUT, "/os-hosts/{id}", hosts, host_update)
        .between(Method::GET, "/os-hosts/{id}/startup", hosts, |c, call| {
            host_power(c, call, "start")
        })
        .between(Method::GET, "/os-hosts/{id}/shutdown", hosts, |c, call| {
            host_power(c, call, "shutdown")
        })
        .between(Method::GET, "/os-hosts/{id}/reboot", hosts, |c, call| {
            host_power(c, call, "reboot")
        });
}

impl Compute {
    /// Makes the controller's own services known (`nova-conductor`, `nova-scheduler`); called once when it starts.
    ///
    /// # Errors
    /// The database's.
    pub fn announce(&self) -> Result<(), Error> {
        self.db.write(|tx| {
            for binary in ["nova-conductor", "nova-scheduler"] {
                hosts::ensure_service(tx, &self.config.controller_host, binary, database::now())?;
            }
            Ok(())
        })
    }

    fn zone_of(&self, service: &Service, zones: &HashMap<String, String>) -> String {
        if service.binary != NODE_SERVICE {
            return self.config.internal_availability_zone.clone();
        }
        zones
            .get(&service.host)
            .unwrap_or(&self.config.default_availability_zone)
            .clone()
    }

    fn is_up(&self, service: &Service) -> bool {
        service.is_up(database::now(), self.config.service_down_seconds)
    }
}

fn view(c: &Compute, call: &Call, service: &Service, zones: &HashMap<String, String>) -> Value {
    let now = database::now();
    let mut view = json!({
        "binary": service.binary, "host": service.host,
        "id": if call.at_least(53) { json!(service.id) } else { json!(service.number) },
        "zone": c.zone_of(service, zones),
        "status": if service.disabled { "disabled" } else { "enabled" },
        "state": if c.is_up(service) { "up" } else { "down" },
        "updated_at": service.beat(now).map(api::time::naive_micros),
        "disabled_reason": service.disabled_reason,
    });
    if call.at_least(11) {
        view["forced_down"] = json!(service.forced_down);
    }
    view
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-services:list")?;
    let (services, zones) =
        c.db.read(|tx| Ok::<_, Error>((hosts::services(tx)?, aggregates::zones(tx)?)))?;
    let wanted = |filter: &str, is: &str| call.query(filter).is_none_or(|w| w.is_empty() || w == is);
    let chosen = services
        .iter()
        .filter(|s| wanted("host", &s.host) && wanted("binary", &s.binary));
    let views: Vec<Value> = chosen.map(|s| view(c, call, s, &zones)).collect();
    ok(json!({"services": views}))
}

fn only_nodes(binary: &str) -> Result<()> {
    if binary == NODE_SERVICE {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "Updating a {binary} service is not supported. Only nova-compute services can be updated."
    )))
}

fn update(c: &Compute, call: &Call) -> Result {
    if call.at_least(53) {
        update_by_id(c, call)
    } else {
        update_by_host(c, call)
    }
}

/// Before 2.53: `PUT /os-services/enable` and its kin, the service named in the body.
fn update_by_host(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-services:update")?;
    let text = |key: &str| call.body[key].as_str();
    let (host, binary) = (text("host").unwrap_or_default(), text("binary").unwrap_or_default());
    let mut answer = json!({"host": host, "binary": binary});
    let (mut disabled, mut forced_down, mut reason) = (None, None, None);
    match call.param("id") {
        "enable" => {
            disabled = Some(false);
            answer["status"] = json!("enabled");
        }
        "disable" => {
            disabled = Some(true);
            answer["status"] = json!("disabled");
        }
        "disable-log-reason" => {
            reason = Some(text("disabled_reason").ok_or_else(|| Error::bad_request("Missing disabled reason field"))?);
            disabled = Some(true);
            answer["status"] = json!("disabled");
            answer["disabled_reason"] = json!(reason);
        }
        "force-down" if call.at_least(11) => {
            let down =
                json_bool(&call.body["forced_down"]).ok_or_else(|| Error::bad_request("Missing forced_down field"))?;
            forced_down = Some(down);
            answer["forced_down"] = json!(down);
        }
        _ => return Err(Error::not_found("Unknown action")),
    }
    only_nodes(binary)?;
    c.db.write(|tx| {
        let missing = || Error::not_found(format!("Host '{host}' is not mapped to any cell"));
        let service = hosts::service(tx, host, binary)?.ok_or_else(missing)?;
        change(tx, &service, disabled, reason, forced_down)
    })?;
    ok(json!({"service": answer}))
}

fn change(
    tx: &mut Tx<'_>,
    service: &Service,
    disabled: Option<bool>,
    reason: Option<&str>,
    down: Option<bool>,
) -> Result<()> {
    if let Some(disabled) = disabled {
        hosts::set_disabled(tx, service.number, disabled, reason)?;
    }
    if let Some(down) = down {
        hosts::set_forced_down(tx, service.number, down)?;
    }
    Ok(())
}

fn update_by_id(c: &Compute, call: &Call) -> Result {
    let id = call.param("id");
    if !api::schema::is_uuid_like(id) {
        return Err(Error::bad_request(format!("Invalid uuid {id}")));
    }
    c.allow_bare(call, "os_compute_api:os-services:update")?;
    let reason = call.body["disabled_reason"].as_str();
    let status = call.body["status"].as_str();
    let down = call.body.get("forced_down").and_then(json_bool);
    let (service, zones) = c.db.write(|tx| {
        let missing = || Error::not_found(format!("Service {id} could not be found."));
        let service = hosts::services(tx)?
            .into_iter()
            .find(|s| s.id == id)
            .ok_or_else(missing)?;
        only_nodes(&service.binary)?;
        if status == Some("enabled") && reason.is_some() {
            return Err(Error::bad_request(
                "Specifying 'disabled_reason' with status 'enabled' is invalid.",
            ));
        }
        if status.is_none() && down.is_none() {
            let text = "No updates were requested. Fields 'status' or 'forced_down' should be specified.";
            return Err(Error::bad_request(text));
        }
        change(tx, &service, status.map(|s| s == "disabled"), reason, down)?;
        let service = hosts::service(tx, &service.host, &service.binary)?.ok_or_else(missing)?;
        Ok((service, aggregates::zones(tx)?))
    })?;
    ok(json!({"service": view(c, call, &service, &zones)}))
}

fn delete(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-services:delete")?;
    let id = call.param("id");
    if call.at_least(53) {
        if !api::schema::is_uuid_like(id) {
            return Err(Error::bad_request(format!("Invalid uuid {id}")));
        }
    } else if id.parse::<i64>().is_err() {
        return Err(Error::bad_request("Invalid input received: id must be an integer"));
    }
    c.db.write(|tx| {
        let is = |s: &Service| {
            if call.at_least(53) {
                s.id == id
            } else {
                s.number.to_string() == id
            }
        };
        let missing = || Error::not_found(format!("Service {id} not found."));
        let service = hosts::services(tx)?.into_iter().find(is).ok_or_else(missing)?;
        if service.binary == NODE_SERVICE && !servers::on_host(tx, &service.host)?.is_empty() {
            let text =
                "Unable to delete compute service that is hosting instances. Migrate or delete the instances first.";
            return Err(Error::conflict(text));
        }
        hosts::delete_service(tx, &service)?;
        Ok(())
    })?;
    no_content()
}

fn zones(c: &Compute, call: &Call, detailed: bool) -> Result {
    let rule = if detailed {
        "os_compute_api:os-availability-zone:detail"
    } else {
        "os_compute_api:os-availability-zone:list"
    };
    c.allow_bare(call, rule)?;
    let (services, zones) =
        c.db.read(|tx| Ok::<_, Error>((hosts::services(tx)?, aggregates::zones(tx)?)))?;
    let (mut open, mut closed): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for service in &services {
        let zone = c.zone_of(service, &zones);
        let list = if service.disabled { &mut closed } else { &mut open };
        if !list.contains(&zone) {
            list.push(zone);
        }
    }
    closed.retain(|zone| !open.contains(zone));
    let internal = &c.config.internal_availability_zone;
    let mut out: Vec<Value> = Vec::new();
    for zone in open.iter().filter(|z| detailed || *z != internal) {
        let mut hosts: Value = Value::Null;
        if detailed {
            let mut by_host = Map::new();
            for service in services.iter().filter(|s| !s.disabled && c.zone_of(s, &zones) == *zone) {
                let entry = by_host.entry(service.host.clone()).or_insert_with(|| json!({}));
                entry[&service.binary] = json!({
                    "available": c.is_up(service), "active": true,
                    "updated_at": service.beat(database::now()).map(api::time::naive_micros),
                });
            }
            hosts = Value::Object(by_host);
        }
        out.push(json!({"zoneName": zone, "zoneState": {"available": true}, "hosts": hosts}));
    }
    for zone in closed.iter().filter(|z| detailed || *z != internal) {
        out.push(json!({"zoneName": zone, "zoneState": {"available": false}, "hosts": null}));
    }
    ok(json!({"availabilityZoneInfo": out}))
}

fn hosts_list(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-hosts:list")?;
    let (services, zones) =
        c.db.read(|tx| Ok::<_, Error>((hosts::services(tx)?, aggregates::zones(tx)?)))?;
    let views = services.iter().filter(|s| !s.disabled).filter_map(|s| {
        let zone = c.zone_of(s, &zones);
        let wanted = call.query("zone").is_none_or(|w| w.is_empty() || w == zone);
        wanted.then(|| json!({"host_name": s.host, "service": s.binary.trim_start_matches("nova-"), "zone": zone}))
    });
    ok(json!({"hosts": views.collect::<Vec<_>>()}))
}

fn no_host(host: &str) -> Error {
    Error::not_found(format!("Host '{host}' is not mapped to any cell"))
}

fn host_show(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-hosts:show")?;
    let host = call.param("id");
    let (node, list) = c.db.read(|tx| {
        let node = hosts::nodes(tx)?
            .into_iter()
            .find(|n| n.host == host)
            .ok_or_else(|| no_host(host))?;
        Ok::<_, Error>((node, servers::on_host(tx, host)?))
    })?;
    let line = |project: &str, cpu: i64, memory: i64, disk: i64| json!({"resource": {"host": host, "project": project, "cpu": cpu, "memory_mb": memory, "disk_gb": disk}});
    let disk = |s: &crate::model::server::Server| s.root_gb + s.flavor["ephemeral_gb"].as_i64().unwrap_or(0);
    let mut by_project: Vec<(&str, [i64; 3])> = Vec::new();
    let mut sum = [0; 3];
    for server in &list {
        let add = [server.vcpus, server.memory_mb, disk(server)];
        let at = by_project
            .iter()
            .position(|(p, _)| *p == server.project_id)
            .unwrap_or_else(|| {
                by_project.push((&server.project_id, [0; 3]));
                by_project.len() - 1
            });
        for i in 0..3 {
            by_project[at].1[i] += add[i];
            sum[i] += add[i];
        }
    }
    let hello = &node.hello;
    let reserved = c.config.reserved_host_memory_mb as i64;
    let mut out = vec![
        line(
            "(total)",
            i64::from(hello.vcpus),
            hello.memory_mib as i64,
            hello.disk_gib as i64,
        ),
        line("(used_now)", sum[0], sum[1] + reserved, sum[2]),
        line("(used_max)", sum[0], sum[1], sum[2]),
    ];
    out.extend(
        by_project
            .iter()
            .map(|(project, [cpu, memory, disk])| line(project, *cpu, *memory, *disk)),
    );
    ok(json!({"host": out}))
}

/// What upstream's libvirt driver can do of this: enabling and disabling.
fn host_update(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-hosts:update")?;
    let host = call.param("id");
    let wanted = |key: &str| call.body[key].as_str().map(|t| t.trim().eq_ignore_ascii_case("enable"));
    let status = wanted("status");
    let service =
        c.db.read(|tx| hosts::service(tx, host, NODE_SERVICE))?
            .ok_or_else(|| no_host(host))?;
    if !c.is_up(&service) {
        return Err(Error::bad_request(format!(
            "Compute service of {host} is unavailable at this time."
        )));
    }
    if wanted("maintenance_mode").is_some() {
        return Err(Error::not_implemented("The requested functionality is not supported."));
    }
    let mut answer = json!({"host": host});
    if let Some(enabled) = status {
        c.db.write(|tx| hosts::set_disabled(tx, service.number, !enabled, None))?;
        answer["status"] = json!(if enabled { "enabled" } else { "disabled" });
    }
    ok(answer)
}

fn host_power(c: &Compute, call: &Call, rule: &str) -> Result {
    c.allow_bare(call, &format!("os_compute_api:os-hosts:{rule}"))?;
    let host = call.param("id");
    let service =
        c.db.read(|tx| hosts::service(tx, host, NODE_SERVICE))?
            .ok_or_else(|| no_host(host))?;
    if !c.is_up(&service) {
        return Err(Error::bad_request(format!(
            "Compute service of {host} is unavailable at this time."
        )));
    }
    Err(Error::not_implemented("The requested functionality is not supported."))
}
