//! Security groups as Compute showed them up to 2.35.

use api::{Error, Method, StatusCode};
use serde_json::{Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, accepted, ok};

pub(super) fn add(table: &mut Table) {
    let old = (1, 35);
    table
        .between(Method::GET, "/os-security-groups", old, list)
        .between(Method::POST, "/os-security-groups", old, create)
        .between(Method::GET, "/os-security-groups/{id}", old, show)
        .between(Method::PUT, "/os-security-groups/{id}", old, update)
        .between(Method::DELETE, "/os-security-groups/{id}", old, delete)
        .between(Method::POST, "/os-security-group-rules", old, rule_create)
        .between(Method::DELETE, "/os-security-group-rules/{id}", old, rule_delete);
}

/// Only rules for incoming traffic were ever shown.
fn rule_view(rule: &Value, names: &[(String, Value)]) -> Option<Value> {
    if rule["direction"] != "ingress" {
        return None;
    }
    let protocol = &rule["protocol"];
    let port = |key: &str| match (&rule[key], protocol.as_str()) {
        (Value::Null, Some(_)) => json!(-1),
        (port, _) => port.clone(),
    };
    let (mut group, mut range) = (json!({}), json!({}));
    match rule["remote_group_id"].as_str() {
        Some(id) => {
            group = names
                .iter()
                .find(|(i, _)| i == id)
                .map(|(_, v)| v.clone())
                .unwrap_or_else(|| json!({"name": id, "tenant_id": rule["tenant_id"]}))
        }
        None => {
            let all = if rule["ethertype"] == "IPv6" {
                "::/0"
            } else {
                "0.0.0.0/0"
            };
            range = json!({"cidr": rule["remote_ip_prefix"].as_str().unwrap_or(all)});
        }
    }
    Some(json!({
        "id": rule["id"], "parent_group_id": rule["security_group_id"], "ip_protocol": protocol,
        "from_port": port("port_range_min"), "to_port": port("port_range_max"), "group": group, "ip_range": range,
    }))
}

fn view(group: &Value, names: &[(String, Value)]) -> Value {
    let rules: Vec<Value> = group["security_group_rules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|r| rule_view(r, names))
        .collect();
    json!({
        "id": group["id"], "name": group["name"], "description": group["description"], "tenant_id": group["tenant_id"],
        "rules": rules,
    })
}

fn names(groups: &[Value]) -> Vec<(String, Value)> {
    let name = |g: &Value| {
        (
            g["id"].as_str().unwrap_or_default().to_owned(),
            json!({"name": g["name"], "tenant_id": g["tenant_id"]}),
        )
    };
    groups.iter().map(name).collect()
}

fn all(c: &Compute, call: &Call) -> Result<Vec<Value>> {
    let path = format!("/v2.0/security-groups?project_id={}", call.project());
    let mut body = c.network_ok(call, Method::GET, &path, None)?;
    match body["security_groups"].take() {
        Value::Array(list) => Ok(list),
        _ => Ok(Vec::new()),
    }
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-security-groups:get")?;
    let groups = all(c, call)?;
    let names = names(&groups);
    let mut views: Vec<Value> = call.limited(groups.iter().map(|g| view(g, &names)).collect())?;
    views.sort_by_key(|g| g["name"].as_str().unwrap_or_default().to_owned());
    ok(json!({"security_groups": views}))
}

fn check_id(id: &str) -> Result<()> {
    if api::schema::is_uuid_like(id) {
        return Ok(());
    }
    Err(Error::bad_request("Security group id should be uuid"))
}

fn find(c: &Compute, call: &Call, id: &str) -> Result<Value> {
    let found = c.network_ok(call, Method::GET, &format!("/v2.0/security-groups/{id}"), None);
    let mut found = found.map_err(|e| match e.status {
        StatusCode::NOT_FOUND => Error::not_found(format!("Security group {id} not found.")),
        _ => e,
    })?;
    Ok(found["security_group"].take())
}

fn show(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-security-groups:show")?;
    check_id(call.param("id"))?;
    let group = find(c, call, call.param("id"))?;
    let names = names(&all(c, call)?);
    ok(json!({"security_group": view(&group, &names)}))
}

/// Networking's refusals: over quota is 403, the rest keeps its status.
fn refused(error: Error) -> Error {
    let over = error.source.as_ref().is_some_and(|s| s.to_string() == "OverQuota");
    if over { Error::forbidden(error.message) } else { error }
}

fn write(c: &Compute, call: &Call, method: Method, path: &str) -> Result {
    let wanted = &call.body["security_group"];
    let body = json!({"security_group": {"name": wanted["name"], "description": wanted["description"]}});
    let made = c.network_ok(call, method, path, Some(&body)).map_err(refused)?;
    ok(json!({"security_group": view(&made["security_group"], &[])}))
}

fn create(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-security-groups:create")?;
    write(c, call, Method::POST, "/v2.0/security-groups")
}

fn update(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-security-groups:update")?;
    check_id(call.param("id"))?;
    find(c, call, call.param("id"))?;
    write(
        c,
        call,
        Method::PUT,
        &format!("/v2.0/security-groups/{}", call.param("id")),
    )
}

fn delete(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-security-groups:delete")?;
    let id = call.param("id");
    check_id(id)?;
    find(c, call, id)?;
    let (status, answer) = c.network(call, Method::DELETE, &format!("/v2.0/security-groups/{id}"), None)?;
    if status.is_success() {
        return accepted();
    }
    Err(Error::bad_request(
        answer["NeutronError"]["message"]
            .as_str()
            .unwrap_or("Security group is still in use"),
    ))
}

fn port(value: &Value) -> Option<i64> {
    crate::model::encoding::json_int(value)
}

fn rule_create(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-security-groups:rule:create")?;
    let wanted = &call.body["security_group_rule"];
    let parent = wanted["parent_group_id"]
        .as_str()
        .map_or_else(|| wanted["parent_group_id"].to_string(), str::to_owned);
    let group = find(c, call, &parent)?;
    let source = match wanted["group_id"].as_str() {
        Some(id) => Some(find(c, call, id)?),
        None => None,
    };
    let (from, to) = (port(&wanted["from_port"]), port(&wanted["to_port"]));
    let protocol = wanted["ip_protocol"].as_str().map(str::to_lowercase);
    if source.is_none() && protocol.is_none() {
        return Err(Error::bad_request("Not enough parameters to build a valid rule."));
    }
    check_rule(protocol.as_deref(), from, to)?;
    let cidr = wanted["cidr"].as_str().filter(|c| !c.is_empty());
    let cidr = if source.is_none() {
        Some(cidr.unwrap_or("0.0.0.0/0"))
    } else {
        None
    };
    let is_v6 = cidr.is_some_and(|c| c.contains(':'));
    let mut rule = json!({
        "security_group_id": group["id"], "direction": "ingress", "protocol": protocol,
        "ethertype": if is_v6 { "IPv6" } else { "IPv4" },
    });
    for (key, value) in [("port_range_min", from), ("port_range_max", to)] {
        if let Some(value) = value.filter(|v| *v != -1) {
            rule[key] = json!(value);
        }
    }
    match &source {
        Some(source) => rule["remote_group_id"] = source["id"].clone(),
        None => rule["remote_ip_prefix"] = json!(cidr),
    }
    let body = json!({"security_group_rule": rule});
    let made = c
        .network_ok(call, Method::POST, "/v2.0/security-group-rules", Some(&body))
        .map_err(|error| match error.status {
            // A rule that is there already.
            StatusCode::CONFLICT if error.source.as_ref().is_none_or(|s| s.to_string() != "OverQuota") => {
                Error::bad_request(error.message)
            }
            _ => refused(error),
        })?;
    let names = source.iter().cloned().collect::<Vec<_>>();
    let view = rule_view(&made["security_group_rule"], &self::names(&names)).unwrap_or(Value::Null);
    ok(json!({"security_group_rule": view}))
}

fn check_rule(protocol: Option<&str>, from: Option<i64>, to: Option<i64>) -> Result<()> {
    let Some(protocol) = protocol else { return Ok(()) };
    if !["tcp", "udp", "icmp"].contains(&protocol) {
        return Err(Error::bad_request(format!(
            "Invalid IP protocol {}.",
            protocol.to_uppercase()
        )));
    }
    let (Some(from), Some(to)) = (from, to) else {
        return Err(Error::bad_request("Not enough parameters to build a valid rule."));
    };
    let invalid = |why: &str| Err(Error::bad_request(format!("Invalid port range {from}:{to}. {why}")));
    match protocol {
        "icmp" if !(-1..=255).contains(&from) || !(-1..=255).contains(&to) => {
            invalid("For ICMP, the type:code must be valid")
        }
        "icmp" => Ok(()),
        _ if from > to => invalid("Former value cannot be greater than the later"),
        _ if from < 1 || to > 65535 => invalid("Valid TCP ports should be between 1-65535")
            .map_err(|e| Error::bad_request(e.message.replace("TCP", &protocol.to_uppercase()))),
        _ => Ok(()),
    }
}

fn rule_delete(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-security-groups:rule:delete")?;
    let id = call.param("id");
    check_id(id)?;
    let (status, answer) = c.network(call, Method::DELETE, &format!("/v2.0/security-group-rules/{id}"), None)?;
    match status {
        status if status.is_success() => accepted(),
        StatusCode::NOT_FOUND => Err(Error::not_found(format!("Security group rule {id} not found."))),
        _ => Err(Error::bad_request(
            answer["NeutronError"]["message"]
                .as_str()
                .unwrap_or("The rule cannot be deleted"),
        )),
    }
}
