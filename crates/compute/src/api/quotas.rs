//! Limits, quota sets and quota classes.

use api::{Error, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, ok};
use crate::model::encoding::{json_bool, json_int};
use crate::model::quota::{RESOURCES, shown};
use crate::store::quotas::{self, Usage};

pub(super) fn add(table: &mut Table) {
    table
        .get("/limits", limits)
        .get("/os-quota-sets/{id}", |c, call| show(c, call, false))
        .get("/os-quota-sets/{id}/detail", |c, call| show(c, call, true))
        .get("/os-quota-sets/{id}/defaults", defaults)
        .put("/os-quota-sets/{id}", update)
        .delete("/os-quota-sets/{id}", reset)
        .get("/os-quota-class-sets/{id}", class_show)
        .put("/os-quota-class-sets/{id}", class_update);
}

fn limits(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:limits")?;
    let mut project = call.project();
    if let Some(other) = call.query("tenant_id") {
        c.allow_own(call, "os_compute_api:limits:other_project")?;
        project = other;
    }
    let (limits, usage) = c.db.read(|tx| {
        Ok::<_, Error>((
            quotas::limits(tx, &c.config.quotas, project, None)?,
            quotas::usage(tx, project, None)?,
        ))
    })?;
    let mut out = Map::new();
    let mut put = |name: &str, value: i64| out.insert(name.to_owned(), json!(value));
    put("maxTotalInstances", limits["instances"]);
    put("maxTotalCores", limits["cores"]);
    put("maxTotalRAMSize", limits["ram"]);
    put("maxTotalKeypairs", limits["key_pairs"]);
    put("maxServerMeta", limits["metadata_items"]);
    put("maxServerGroups", limits["server_groups"]);
    put("maxServerGroupMembers", limits["server_group_members"]);
    if !call.at_least(39) {
        put("maxImageMeta", limits["metadata_items"]);
    }
    if !call.at_least(57) {
        put("maxPersonality", limits["injected_files"]);
        put("maxPersonalitySize", limits["injected_file_content_bytes"]);
    }
    if !call.at_least(36) {
        put("maxTotalFloatingIps", limits["floating_ips"]);
        put("maxSecurityGroups", limits["security_groups"]);
        put("maxSecurityGroupRules", limits["security_group_rules"]);
        put("totalFloatingIpsUsed", 0);
        put("totalSecurityGroupsUsed", 0);
    }
    put("totalInstancesUsed", usage.instances);
    put("totalCoresUsed", usage.cores);
    put("totalRAMUsed", usage.ram);
    put("totalServerGroupsUsed", usage.server_groups);
    ok(json!({"limits": {"rate": [], "absolute": out}}))
}

/// A quota set: what `value` says of each resource that the microversion shows.
fn set(call: &Call, id: Option<&str>, since: u16, value: impl Fn(&str) -> Value) -> Map<String, Value> {
    let mut out = Map::new();
    if let Some(id) = id {
        out.insert("id".into(), json!(id));
    }
    for resource in shown(call.request.version.1, since) {
        out.insert(resource.name.into(), value(resource.name));
    }
    out
}

fn show(c: &Compute, call: &Call, detail: bool) -> Result {
    let project = call.param("id");
    let rule = if detail {
        "os_compute_api:os-quota-sets:detail"
    } else {
        "os_compute_api:os-quota-sets:show"
    };
    c.allow(call, rule, project, None)?;
    let user = call.query_all("user_id").next().filter(|u| !u.is_empty());
    let (limits, usage) = c.db.read(|tx| {
        c.known_project(tx, project)?;
        let usage = if detail {
            quotas::usage(tx, project, user)?
        } else {
            Usage::default()
        };
        Ok::<_, Error>((quotas::limits(tx, &c.config.quotas, project, user)?, usage))
    })?;
    let view = set(call, Some(project), 36, |name| match detail {
        true => json!({"limit": limits[name], "in_use": usage.of(name), "reserved": 0}),
        false => json!(limits[name]),
    });
    ok(json!({"quota_set": view}))
}

fn defaults(c: &Compute, call: &Call) -> Result {
    let project = call.param("id");
    c.allow(call, "os_compute_api:os-quota-sets:defaults", project, None)?;
    let limits = c.db.read(|tx| {
        c.known_project(tx, project)?;
        Ok::<_, Error>(quotas::defaults(tx, &c.config.quotas)?)
    })?;
    ok(json!({"quota_set": set(call, Some(project), 36, |name| json!(limits[name]))}))
}

fn update(c: &Compute, call: &Call) -> Result {
    let project = call.param("id");
    c.allow(call, "os_compute_api:os-quota-sets:update", project, None)?;
    let user = call.query_all("user_id").next().filter(|u| !u.is_empty());
    let wanted = &call.body["quota_set"];
    let force = json_bool(&wanted["force"]).unwrap_or(false);
    let limits = c.db.write(|tx| {
        c.known_project(tx, project)?;
        let usage = quotas::usage(tx, project, user)?;
        let of_project = quotas::limits(tx, &c.config.quotas, project, None)?;
        for resource in RESOURCES {
            let name = resource.name;
            let Some(limit) = wanted.get(name).filter(|v| !v.is_null()).and_then(json_int) else { continue };
            if !force {
                let (least, most) = (usage.of(name), if user.is_some() { of_project[name] } else { -1 });
                if limit != -1 && limit < least {
                    return Err(Error::bad_request(format!(
                        "Quota limit {limit} for {name} must be greater than or equal to already used and reserved {least}."
                    )));
                }
                if most != -1 && (limit == -1 || limit > most) {
                    return Err(Error::bad_request(format!(
                        "Quota limit {limit} for {name} must be less than or equal to {most}."
                    )));
                }
            }
            quotas::set(tx, project, user.unwrap_or_default(), name, limit)?;
        }
        Ok(quotas::limits(tx, &c.config.quotas, project, user)?)
    })?;
    ok(json!({"quota_set": set(call, None, 36, |name| json!(limits[name]))}))
}

fn reset(c: &Compute, call: &Call) -> Result {
    let project = call.param("id");
    c.allow(call, "os_compute_api:os-quota-sets:delete", project, None)?;
    // DELETE reads its parameters itself upstream, whatever the schema says.
    let user = call.request.query.get("user_id").filter(|u| !u.is_empty());
    c.db.write(|tx| quotas::reset(tx, project, user))?;
    Ok(Response::empty(StatusCode::ACCEPTED))
}

fn class_view(c: &Compute, call: &Call, id: Option<&str>, class: &str) -> Result {
    let limits = c.db.read(|tx| {
        let mut limits = quotas::defaults(tx, &c.config.quotas)?;
        limits.extend(quotas::class_limits(tx, class)?);
        Ok::<_, Error>(limits)
    })?;
    let mut view = set(call, id, 50, |name| json!(limits[name]));
    if !call.at_least(50) {
        view.remove("server_groups");
        view.remove("server_group_members");
    }
    ok(json!({"quota_class_set": view}))
}

fn class_show(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-quota-class-sets:show")?;
    class_view(c, call, Some(call.param("id")), call.param("id"))
}

fn class_update(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-quota-class-sets:update")?;
    let class = call.param("id");
    if class.chars().count() > 255 {
        return Err(Error::bad_request(
            "Invalid input received: quota_class_name has 256 characters, more than 255.",
        ));
    }
    c.db.write(|tx| {
        for resource in RESOURCES {
            if let Some(limit) = call.body["quota_class_set"].get(resource.name).and_then(json_int) {
                quotas::set_class(tx, class, resource.name, limit)?;
            }
        }
        Ok::<_, Error>(())
    })?;
    class_view(c, call, None, class)
}
