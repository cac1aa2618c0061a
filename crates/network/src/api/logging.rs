//! `/v2.0/log/logs` and `/v2.0/log/loggable-resources`

use super::access;
use super::ports::PORT;
use super::security_groups::SECURITY_GROUP;
use crate::api_prelude::*;
use crate::attributes;
use ::api::{Request, Response, StatusCode};

/// What is logged.
pub static LOG: Resource = Resource {
    create: Some(create),
    update: Some(|cx, old, body| item::update(cx, old, &body, &[]).map(|_| ())),
    delete: Some(|cx, old| item::delete(cx, old)),
    ..Resource::base("log", "logs", "/v2.0/log/logs", "/v2.0/log/logs/{id}", ATTRIBUTES, |id| Error::LogResourceNotFound { id: id.into() })
};

const ATTRIBUTES: &[Attribute] = attributes![standard;
    ID, NAME, PROJECT, TENANT,
    a("resource_type", "CVFS").is(Check::Text(255)).text(),
    a("resource_id", "CVFS").or(Initial::Null).is(Check::UuidOrNone).text(),
    a("event", "CVF").or(Initial::Text("ALL")).is(Check::Values(&["ACCEPT", "DROP", "ALL"])).text(),
    a("target_id", "CVFS").or(Initial::Null).is(Check::UuidOrNone).text(),
    a("enabled", "CUVFS").or(Initial::Bool(true)).to(convert::boolean).bool(),
];

fn create(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_string);
    let kind = text("resource_type").unwrap_or_default();
    if kind != "security_group" {
        return Err(Error::InvalidLogResourceType { resource_type: kind });
    }
    let (group, port) = (text("resource_id"), text("target_id"));
    if let Some(id) = &group
        && item::find(cx, &SECURITY_GROUP, id)?.is_none()
    {
        return Err(Error::ResourceNotFound { resource_id: id.clone() });
    }
    if let Some(id) = &port {
        let Some(found) = item::find(cx, &PORT, id)? else { return Err(Error::TargetResourceNotFound { target_id: id.clone() }) };
        if let Some(group) = &group
            && !found.list("security_groups").iter().any(|g| *g == group.as_str())
        {
            return Err(Error::InvalidResourceConstraint {
                resource: "security_group".into(),
                resource_id: group.clone(),
                target_resource: "port".into(),
                target_id: id.clone(),
            });
        }
    }
    let id = item::new_id();
    item::insert(cx, &LOG, &id, &body, &[])?;
    Ok(id)
}

/// A group or a port goes, and what was logged of it alone.
pub fn forget(cx: &mut Cx<'_, '_>, id: &str) -> Result<()> {
    cx.tx.execute("DELETE FROM logs WHERE resource_id = ?1 OR target_id = ?1", &params![id])?;
    Ok(())
}

/// GET of what can be logged.
pub fn loggable(net: &crate::Network, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        access::require(cx, "get_loggable_resource", &[("project_id", cx.caller.project().to_string())])?;
        Ok(Response::json(StatusCode::OK, &json!({"loggable_resources": [{"type": "security_group"}]})))
    })
}
