//! Hypervisors: the nodes, in all shapes the microversions have given them.

use std::collections::HashMap;

use api::{Error, Method};
use node_protocol::queries::{Answer, Query};
use serde_json::{Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, ok};
use crate::model::encoding::{not_a_bool, parse_bool};
use crate::store::hosts::{self, Node};
use crate::store::servers;

pub(super) fn add(table: &mut Table) {
    table
        .get("/os-hypervisors", |c, call| list(c, call, false))
        .get("/os-hypervisors/detail", |c, call| list(c, call, true))
        .between(Method::GET, "/os-hypervisors/statistics", (1, 87), statistics)
        .get("/os-hypervisors/{id}", show)
        .between(Method::GET, "/os-hypervisors/{id}/uptime", (1, 87), uptime)
        .between(Method::GET, "/os-hypervisors/{id}/search", (1, 52), |c, call| {
            search(c, call, false)
        })
        .between(Method::GET, "/os-hypervisors/{id}/servers", (1, 52), |c, call| {
            search(c, call, true)
        });
}

/// What views need beside the nodes.
struct Around {
    used: HashMap<String, [i64; 5]>,
    servers: Option<HashMap<String, Vec<(String, i64)>>>,
}

fn read(c: &Compute, with_servers: bool) -> Result<(Vec<Node>, Around)> {
    c.db.read(|tx| {
        let servers = if with_servers {
            Some(servers::names_by_host(tx)?)
        } else {
            None
        };
        Ok((
            hosts::nodes(tx)?,
            Around {
                used: hosts::used(tx)?,
                servers,
            },
        ))
    })
}

fn id(call: &Call, node: &Node) -> Value {
    if call.at_least(53) {
        json!(node.id)
    } else {
        json!(node.number)
    }
}

/// The numbers that were shown before 2.88.
fn numbers(c: &Compute, node: &Node, around: &Around) -> Value {
    let [servers, vcpus, memory, disk, busy] = around.used.get(&node.host).copied().unwrap_or_default();
    let hello = &node.hello;
    let (memory_mb, local_gb) = (hello.memory_mib as i64, hello.disk_gib as i64);
    let memory_used = memory + c.config.reserved_host_memory_mb as i64;
    let disk_free = if node.heartbeat.disk_free_gib > 0 {
        node.heartbeat.disk_free_gib
    } else {
        hello.disk_free_gib
    };
    json!({
        "vcpus": hello.vcpus, "memory_mb": memory_mb, "local_gb": local_gb, "vcpus_used": vcpus, "memory_mb_used": memory_used,
        "local_gb_used": disk, "free_ram_mb": memory_mb - memory_used, "free_disk_gb": local_gb - disk,
        "current_workload": busy, "running_vms": servers, "disk_available_least": disk_free,
    })
}

fn cpu_info(node: &Node) -> Value {
    let cpu = &node.hello.cpu;
    json!({
        "arch": cpu.arch, "model": cpu.model, "vendor": cpu.vendor, "features": cpu.features,
        "topology": {"cells": 1, "sockets": cpu.sockets, "cores": cpu.cores, "threads": cpu.threads},
    })
}

fn view(c: &Compute, call: &Call, node: &Node, around: &Around, detail: bool) -> Value {
    let service = &node.service;
    let alive = service.is_up(database::now(), c.config.service_down_seconds);
    let mut view = json!({
        "id": id(call, node), "hypervisor_hostname": node.hypervisor_hostname,
        "state": if alive { "up" } else { "down" }, "status": if service.disabled { "disabled" } else { "enabled" },
    });
    if detail {
        view["hypervisor_type"] = json!(node.hello.hypervisor_type);
        view["hypervisor_version"] = json!(node.hello.hypervisor_version);
        view["host_ip"] = json!(Some(&node.hello.host_ip).filter(|ip| !ip.is_empty()));
        let service_id = if call.at_least(53) {
            json!(service.id)
        } else {
            json!(service.number)
        };
        view["service"] = json!({"id": service_id, "host": node.host, "disabled_reason": service.disabled_reason});
        if call.at_least(88) {
            view["uptime"] = json!(if alive { ask_uptime(c, node) } else { None });
        } else {
            let numbers = numbers(c, node, around);
            if let (Value::Object(view), Value::Object(numbers)) = (&mut view, numbers) {
                view.extend(numbers);
            }
            let info = cpu_info(node);
            view["cpu_info"] = if call.at_least(28) {
                info
            } else {
                json!(info.to_string())
            };
        }
    }
    if let Some(by_host) = &around.servers {
        let list: Vec<Value> = by_host
            .get(&node.host)
            .into_iter()
            .flatten()
            .map(|(id, number)| json!({"name": format!("instance-{number:08x}"), "uuid": id}))
            .collect();
        if !list.is_empty() || call.at_least(75) {
            view["servers"] = Value::Array(list);
        }
    }
    view
}

fn ask_uptime(c: &Compute, node: &Node) -> Option<String> {
    match c.ask(&node.host, Query::Uptime) {
        Ok(Answer::Uptime { uptime }) => Some(uptime),
        _ => None,
    }
}

fn with_servers(call: &Call) -> Result<bool> {
    match call.query("with_servers").filter(|_| call.at_least(53)) {
        None => Ok(false),
        Some(text) => parse_bool(text).ok_or_else(|| Error::bad_request(not_a_bool(text))),
    }
}

fn list(c: &Compute, call: &Call, detail: bool) -> Result {
    let rule = if detail {
        "os_compute_api:os-hypervisors:list-detail"
    } else {
        "os_compute_api:os-hypervisors:list"
    };
    c.allow_bare(call, rule)?;
    let pattern = call.query("hypervisor_hostname_pattern").filter(|_| call.at_least(53));
    let (mut nodes, around) = read(c, with_servers(call)?)?;
    let collection = if detail {
        "os-hypervisors/detail"
    } else {
        "os-hypervisors"
    };
    let mut links = None;
    if let Some(pattern) = pattern {
        if call.query("limit").is_some() || call.query("marker").is_some() {
            let text = "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported.";
            return Err(Error::bad_request(text));
        }
        nodes = matching(nodes, pattern)?;
    } else if call.at_least(33) {
        let (limit, marker) = call.paging()?;
        if let Some(marker) = marker {
            let is = |node: &Node| {
                if call.at_least(53) {
                    node.id == marker
                } else {
                    Some(node.number) == marker.parse().ok()
                }
            };
            let at = nodes
                .iter()
                .position(is)
                .ok_or_else(|| Error::bad_request(format!("marker [{marker}] not found")))?;
            nodes.drain(..=at);
        }
        nodes.truncate(limit as usize);
        let last = nodes.last().map(|n| {
            if call.at_least(53) {
                n.id.clone()
            } else {
                n.number.to_string()
            }
        });
        links = call.next_link(collection, nodes.len(), last.as_deref())?;
    }
    let views: Vec<Value> = nodes.iter().map(|n| view(c, call, n, &around, detail)).collect();
    let mut body = json!({"hypervisors": views});
    if let Some(links) = links {
        body["hypervisors_links"] = links;
    }
    ok(body)
}

fn matching(mut nodes: Vec<Node>, pattern: &str) -> Result<Vec<Node>> {
    nodes.retain(|n| n.hypervisor_hostname.contains(pattern));
    if nodes.is_empty() {
        return Err(Error::not_found(format!(
            "No hypervisor matching '{pattern}' could be found."
        )));
    }
    Ok(nodes)
}

fn lookup(call: &Call, nodes: Vec<Node>) -> Result<Node> {
    let wanted = call.param("id");
    let missing = || Error::not_found(format!("Hypervisor with ID '{wanted}' could not be found."));
    if call.at_least(53) {
        if !api::schema::is_uuid_like(wanted) {
            return Err(Error::bad_request(format!("Invalid uuid {wanted}")));
        }
        return nodes.into_iter().find(|n| n.id == wanted).ok_or_else(missing);
    }
    nodes
        .into_iter()
        .find(|n| n.number.to_string() == wanted)
        .ok_or_else(missing)
}

fn show(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-hypervisors:show")?;
    let (nodes, around) = read(c, with_servers(call)?)?;
    let node = lookup(call, nodes)?;
    ok(json!({"hypervisor": view(c, call, &node, &around, true)}))
}

fn uptime(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-hypervisors:uptime")?;
    let (nodes, around) = read(c, false)?;
    let node = lookup(call, nodes)?;
    let away = || Error::bad_request(format!("Compute service of {} is unavailable at this time.", node.host));
    let mut body = view(c, call, &node, &around, false);
    body["uptime"] = json!(ask_uptime(c, &node).ok_or_else(away)?);
    ok(json!({"hypervisor": body}))
}

fn search(c: &Compute, call: &Call, with_servers: bool) -> Result {
    let rule = if with_servers {
        "os_compute_api:os-hypervisors:servers"
    } else {
        "os_compute_api:os-hypervisors:search"
    };
    c.allow_bare(call, rule)?;
    let (nodes, around) = read(c, with_servers)?;
    let nodes = matching(nodes, call.param("id"))?;
    let views: Vec<Value> = nodes.iter().map(|n| view(c, call, n, &around, false)).collect();
    ok(json!({"hypervisors": views}))
}

fn statistics(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-hypervisors:statistics")?;
    let (nodes, around) = read(c, false)?;
    let mut sums: Vec<(&str, i64)> = [
        "vcpus",
        "memory_mb",
        "local_gb",
        "vcpus_used",
        "memory_mb_used",
        "local_gb_used",
        "free_ram_mb",
        "free_disk_gb",
        "current_workload",
        "running_vms",
        "disk_available_least",
    ]
    .into_iter()
    .map(|name| (name, 0))
    .collect();
    let enabled: Vec<&Node> = nodes.iter().filter(|n| !n.service.disabled).collect();
    for node in &enabled {
        let numbers = numbers(c, node, &around);
        for (name, sum) in &mut sums {
            *sum += numbers[*name].as_i64().unwrap_or(0);
        }
    }
    let mut body = json!({"count": enabled.len()});
    for (name, sum) in sums {
        body[name] = json!(sum);
    }
    ok(json!({"hypervisor_statistics": body}))
}
