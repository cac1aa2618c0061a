//! `/v2.0/rbac-policies`: what is shared with whom.

use super::networks::{self, NETWORK};
use crate::api_prelude::*;
use crate::attributes;

/// RBAC policies.
pub static RBAC_POLICY: Resource = Resource {
    standard: false,
    quota: Some("rbac_policy"),
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    ..Resource::base("rbac_policy", "rbac_policies", "/v2.0/rbac-policies", "/v2.0/rbac-policies/{id}", ATTRIBUTES, |id| {
        Error::RbacPolicyNotFound { id: id.into(), object_type: "unknown".into() }
    })
};

/// Object types with the tables they are in.
const TYPES: &[(&str, &str)] = &[
    ("network", "networks"),
    ("qos_policy", "qos_policies"),
    ("security_group", "security_groups"),
    ("address_scope", "address_scopes"),
    ("subnetpool", "subnetpools"),
    ("address_group", "address_groups"),
];

const ATTRIBUTES: &[Attribute] = attributes![plain;
    a("id", "VFS").text(),
    PROJECT, TENANT,
    a("object_type", "CVFP").or(Initial::Null).to(object_type).text(),
    a("object_id", "CVFP").is(Check::Uuid).text(),
    a("target_tenant", "CUVFP").is(Check::Rule(target)).at("target_project", Kind::Text),
    a("target_project", "").text(),
    a("action", "CVFP").is(Check::Text(255)).text(),
];

fn object_type(value: Value) -> Result<Value> {
    let text = show(&value).trim().to_lowercase();
    if TYPES.iter().any(|(name, _)| *name == text) {
        return Ok(json!(text));
    }
    Err(Error::input(format!("'{}' is not a valid RBAC object type", show(&value))))
}

fn target(value: &Value) -> check::Verdict {
    let text = show(value);
    if text == "*" || check::is_uuid(&text) {
        return Ok(None);
    }
    Err(Error::input(format!("'{text}' is not a valid target project ID; expected a UUID or '*'")))
}

fn wanted_target(body: &Body) -> Option<String> {
    let given = body.get("target_tenant").or(body.get("target_project"));
    given.and_then(Value::as_str).map(str::to_string)
}

/// Adds an entry for the cloud's own purposes; one that is there already is enough.
pub fn grant(cx: &mut Cx<'_, '_>, project: &str, kind: &str, object: &str, action: &str, target: &str) -> Result<()> {
    cx.tx.execute(
        "INSERT INTO rbac_policies (id, project_id, object_type, object_id, action, target_project) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        &params![item::new_id(), project, kind, object, action, target],
    )?;
    Ok(())
}

fn owner_of(cx: &mut Cx<'_, '_>, kind: &str, object: &str) -> Result<Option<String>> {
    let Some((_, table)) = TYPES.iter().find(|(name, _)| *name == kind) else { return Ok(None) };
    Ok(cx.tx.scalar(&format!("SELECT project_id FROM {table} WHERE id = ?1"), &params![object])?)
}

fn missing(kind: &str, object: &str) -> Error {
    let id = object.to_string();
    match kind {
        "network" => Error::NetworkNotFound { id },
        "qos_policy" => Error::QosPolicyNotFound { id },
        "security_group" => Error::SecurityGroupNotFound { id },
        "address_scope" => Error::AddressScopeNotFound { id },
        "subnetpool" => Error::SubnetPoolNotFound { id },
        _ => Error::AddressGroupNotFound { id },
    }
}

fn create(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let kind = item::text(&body, "object_type").to_string();
    let object = item::text(&body, "object_id").to_string();
    let action = item::text(&body, "action").to_string();
    let Some(target) = wanted_target(&body) else {
        return Err(Error::bad("Failed to parse request. Required attribute 'target_tenant' not specified"));
    };
    let Some(owner) = owner_of(cx, &kind, &object)? else { return Err(missing(&kind, &object)) };
    if !cx.caller.admin && owner != cx.caller.project() {
        let what = if kind == "network" { "networks" } else { "objects" };
        return Err(Error::input(format!("Only admins can manipulate policies on {what} they do not own")));
    }
    let valid: &[&str] = if kind == "network" { &["access_as_shared", "access_as_external"] } else { &["access_as_shared"] };
    if !valid.contains(&action.as_str()) {
        let listed = valid.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", ");
        let listed = if valid.len() == 1 { format!("({listed},)") } else { format!("({listed})") };
        return Err(Error::input(format!("Invalid action '{action}' for object type '{kind}'. Valid actions: {listed}")));
    }
    let same = "SELECT id FROM rbac_policies WHERE object_type = ?1 AND object_id = ?2 AND action = ?3 AND target_project = ?4";
    if cx.tx.query_one(same, &params![&kind, &object, &action, &target])?.is_some() {
        return Err(Error::DuplicateRbacPolicy {});
    }
    if action == "access_as_external" {
        let network = item::get_any(cx, &NETWORK, &object)?;
        if !network.is("router:external") {
            cx.tx.execute("UPDATE networks SET external = 1 WHERE id = ?1", &params![&object])?;
        }
    }
    let id = item::new_id();
    let mut row = body.clone();
    row.remove("target_tenant");
    row.insert("target_project".into(), json!(target));
    item::insert(cx, &RBAC_POLICY, &id, &row, &[])?;
    if kind == "network" {
        item::bump(cx, &NETWORK, &object)?;
    }
    Ok(id)
}

fn in_use(old: &Item, details: impl Into<String>) -> Error {
    Error::RbacPolicyInUse { object_id: old.text("object_id").into(), details: details.into() }
}

/// Projects, other than the owner, that use what a policy shares.
fn users(cx: &mut Cx<'_, '_>, kind: &str, object: &str) -> Result<Vec<String>> {
    let sql = match kind {
        "network" => "SELECT DISTINCT project_id FROM ports WHERE network_id = ?1 AND project_id <> ''",
        "security_group" => {
            "SELECT DISTINCT p.project_id FROM ports p JOIN port_security_groups s ON s.port_id = p.id WHERE s.security_group_id = ?1"
        }
        "address_scope" => "SELECT DISTINCT project_id FROM subnetpools WHERE address_scope_id = ?1",
        "subnetpool" => "SELECT DISTINCT project_id FROM subnets WHERE subnetpool_id = ?1",
        "address_group" => "SELECT DISTINCT project_id FROM security_group_rules WHERE remote_address_group_id = ?1",
        _ => {
            "SELECT project_id FROM networks WHERE qos_policy_id = ?1 UNION SELECT project_id FROM ports WHERE qos_policy_id = ?1
             UNION SELECT project_id FROM floatingips WHERE qos_policy_id = ?1"
        }
    };
    Ok(cx.tx.column(sql, &params![object])?)
}

/// Refuses to take away what somebody depends on; `instead` is the target that an update puts in its place.
fn check_unused(cx: &mut Cx<'_, '_>, old: &Item, instead: Option<&str>) -> Result<()> {
    let (kind, object, target) = (old.text("object_type"), old.text("object_id"), old.text("target_project"));
    if instead == Some(target) || instead == Some("*") {
        return Ok(());
    }
    let owner = owner_of(cx, kind, object)?.unwrap_or_default();
    let sql = "SELECT target_project FROM rbac_policies WHERE object_type = ?1 AND object_id = ?2 AND action = ?3 AND id <> ?4";
    let mut others: Vec<String> = cx.tx.column(sql, &params![kind, object, old.text("action"), old.id()])?;
    if kind == "network" {
        others.extend(instead.map(str::to_string));
    }
    if others.iter().any(|o| o == "*") || target == owner {
        return Ok(());
    }
    if old.text("action") == "access_as_external" {
        if target == "*" && cx.tx.query_one("SELECT id FROM networks WHERE id = ?1 AND is_default = 1", &params![object])?.is_some() {
            return Err(in_use(old, "Default external networks must be shared to everyone."));
        }
        let sql = "SELECT DISTINCT r.project_id FROM routers r JOIN ports g ON g.id = r.gw_port_id WHERE g.network_id = ?1";
        let routers: Vec<String> = cx.tx.column(sql, &params![object])?;
        let depends = routers.iter().any(|project| if target == "*" { *project != owner && !others.contains(project) } else { project == target });
        if depends {
            return Err(in_use(old, "There are routers attached to this network that depend on this policy for access."));
        }
        return Ok(());
    }
    let users = users(cx, kind, object)?;
    // Only for networks the owner needs no leave.
    let needs = |project: &String| (kind != "network" || *project != owner) && !others.contains(project);
    let depends = users.iter().any(|project| if target == "*" { needs(project) } else { project == target });
    if !depends {
        return Ok(());
    }
    if kind == "network" {
        let name = format!("Unable to reconfigure sharing settings for network {object}. Multiple projects are using it.");
        return Err(in_use(old, format!("Callback neutron.db.db_base_plugin_v2.NeutronDbPluginV2.validate_network_rbac_policy_change failed with \"{name}\"")));
    }
    Err(in_use(old, format!("project_id={target}")))
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, body: Body) -> Result<()> {
    let (kind, object) = (old.text("object_type").to_string(), old.text("object_id").to_string());
    if !cx.caller.admin && owner_of(cx, &kind, &object)?.as_deref() != cx.caller.project_id() {
        return Err(in_use(old, "Only admins can manipulate policies on objects they do not own"));
    }
    let Some(target) = wanted_target(&body) else { return Ok(()) };
    check_unused(cx, old, Some(&target))?;
    let mut row = Body::new();
    row.insert("target_project".into(), json!(target));
    let done = item::update(cx, old, &row, &[]);
    if item::is_duplicate(&done) {
        return Err(Error::DuplicateRbacPolicy {});
    }
    done.map(|_| ())
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    check_unused(cx, old, None)?;
    let (kind, object) = (old.text("object_type").to_string(), old.text("object_id").to_string());
    item::delete(cx, old)?;
    if kind != "network" {
        return Ok(());
    }
    if old.text("action") == "access_as_external" {
        let left = "SELECT id FROM rbac_policies WHERE object_type = 'network' AND object_id = ?1 AND action = 'access_as_external' LIMIT 1";
        if cx.tx.query_one(left, &params![&object])?.is_none() {
            networks::set_external(cx, &object, "", true, false, false)?;
            cx.tx.execute("UPDATE networks SET external = 0 WHERE id = ?1", &params![&object])?;
        }
    }
    item::bump(cx, &NETWORK, &object)
}
