//! `/v2.0/quotas`

use super::{access, body};
use crate::api_prelude::*;
use crate::caller::Caller;
use crate::store::quotas::{self, RESOURCES};
use ::api::{Request, Response, StatusCode};

fn quota(cx: &mut Cx<'_, '_>, project: &str) -> Result<Value> {
    let mut shown = Map::new();
    for (name, ..) in RESOURCES {
        shown.insert((*name).into(), json!(quotas::limit(cx, project, name)?));
    }
    Ok(Value::Object(shown))
}

fn ok(value: &Value) -> Result<Response> {
    Ok(Response::json(StatusCode::OK, value))
}

fn require(cx: &mut Cx<'_, '_>, rule: &str) -> Result<()> {
    let project = cx.caller.project().to_string();
    access::require(cx, rule, &[("project_id", project)])
}

/// GET of all projects with limits of their own.
pub fn index(net: &crate::Network, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        require(cx, "get_quota")?;
        let projects: Vec<String> = cx.tx.column("SELECT DISTINCT project_id FROM quotas ORDER BY project_id", &[])?;
        let mut all = Vec::new();
        for project in projects {
            let mut shown = quota(cx, &project)?;
            shown["project_id"] = json!(project);
            shown["tenant_id"] = json!(project);
            all.push(shown);
        }
        ok(&json!({"quotas": all}))
    })
}

/// GET of one project's limits, also of `tenant` and `project`, which say whose token it is.
pub fn show(net: &crate::Network, request: &Request) -> Result<Response> {
    let id = request.param("id").to_string();
    net.read(request, |cx| {
        if id == "tenant" || id == "project" {
            let Some(project) = cx.caller.project_id() else { return Err(Error::QuotaMissingTenant {}) };
            let mut inner = Map::new();
            inner.insert(format!("{id}_id"), json!(project));
            let mut outer = Map::new();
            outer.insert(id.clone(), Value::Object(inner));
            return ok(&Value::Object(outer));
        }
        if cx.caller.project_id() != Some(id.as_str()) {
            require(cx, "get_quota")?;
        }
        ok(&json!({"quota": quota(cx, &id)?}))
    })
}

/// GET of the limits that hold where a project has none of its own.
pub fn default(net: &crate::Network, request: &Request) -> Result<Response> {
    let id = request.param("id").to_string();
    net.read(request, |cx| {
        if cx.caller.project_id() != Some(id.as_str()) {
            require(cx, "get_quota")?;
        }
        let shown: Map<String, Value> = RESOURCES.iter().map(|(name, _, limit)| (name.to_string(), json!(limit))).collect();
        ok(&json!({"quota": shown}))
    })
}

/// GET of limits with what is used.
pub fn details(net: &crate::Network, request: &Request) -> Result<Response> {
    let id = request.param("id").trim_end_matches(".json").to_string();
    net.read(request, |cx| {
        if cx.caller.project_id() != Some(id.as_str()) && !cx.caller.admin {
            return Err(Error::AdminRequired { reason: "Only admin is authorized to access quotas for another project".into() });
        }
        let mut shown = Map::new();
        for (name, ..) in RESOURCES {
            let limit = quotas::limit(cx, &id, name)?;
            let used = quotas::used(cx, &id, name, i64::MAX)?;
            shown.insert((*name).into(), json!({"limit": limit, "used": used, "reserved": 0}));
        }
        ok(&json!({"quota": shown}))
    })
}

/// PUT of limits; below what is used only by force.
pub fn update(net: &crate::Network, request: &Request) -> Result<Response> {
    let id = request.param("id").to_string();
    let caller = Caller::new(request.context().clone());
    let mut given = body::object(request)?;
    let mut limits = match given.remove("quota") {
        Some(Value::Object(limits)) => limits,
        Some(_) => return Err(Error::bad("Object 'quota' contains invalid data")),
        None => return Err(Error::bad("Unable to find 'quota' in request body")),
    };
    let force = limits.remove("force") == Some(json!(true));
    limits.remove("check_limit");
    for key in ["project_id", "tenant_id"] {
        if let Some(project) = limits.remove(key)
            && project.as_str() != caller.project_id()
            && !caller.admin
        {
            return Err(Error::bad(
                "Specifying 'project_id' other than the authenticated project in request is not allowed for the current user.",
            ));
        }
    }
    net.write(request, |cx| {
        require(cx, "update_quota")?;
        let unknown: Vec<&str> = limits.keys().map(String::as_str).filter(|k| !RESOURCES.iter().any(|(name, ..)| name == k)).collect();
        if !unknown.is_empty() {
            return Err(Error::bad(format!("Unrecognized attribute(s) '{}'", unknown.join(", "))));
        }
        let mut wanted = Vec::new();
        for (name, value) in &limits {
            let limit = convert::int(value.clone())?;
            if let Some(reason) = Check::Range(-1, 2_147_483_647).check(&limit)? {
                return Err(Error::bad(format!("Invalid input for {name}. Reason: {reason}.")));
            }
            wanted.push((name.clone(), limit.as_i64().unwrap_or(-1)));
        }
        for (name, limit) in &wanted {
            let used = quotas::used(cx, &id, name, i64::MAX)?;
            if !force && *limit >= 0 && used > *limit {
                return Err(Error::bad(format!(
                    "Quota limit {limit} for {name} must be greater than or equal to already used {used}"
                )));
            }
        }
        for (name, limit) in &wanted {
            cx.tx.execute(
                "INSERT INTO quotas (project_id, resource, quota_limit) VALUES (?1, ?2, ?3)
                 ON CONFLICT (project_id, resource) DO UPDATE SET quota_limit = excluded.quota_limit",
                &params![&id, name, *limit],
            )?;
        }
        ok(&json!({"quota": quota(cx, &id)?}))
    })
}

/// DELETE of a project's own limits.
pub fn delete(net: &crate::Network, request: &Request) -> Result<Response> {
    let id = request.param("id").to_string();
    net.write(request, |cx| {
        require(cx, "delete_quota")?;
        if cx.tx.execute("DELETE FROM quotas WHERE project_id = ?1", &params![&id])? == 0 {
            return Err(Error::TenantQuotaNotFound { project: id.clone() });
        }
        Ok(Response::empty(StatusCode::NO_CONTENT))
    })
}
