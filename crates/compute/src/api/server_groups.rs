//! Server groups.

use api::Error;
use serde_json::{Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, no_content, ok};
use crate::store::groups::{self, Group};
use crate::store::quotas;

pub(super) fn add(table: &mut Table) {
    table
        .get("/os-server-groups", list)
        .post("/os-server-groups", create)
        .get("/os-server-groups/{id}", show)
        .delete("/os-server-groups/{id}", delete);
}

fn view(call: &Call, group: &Group, members: &[String]) -> Value {
    let mut view = json!({"id": group.id, "name": group.name, "members": members});
    if call.at_least(64) {
        view["policy"] = json!(group.policy);
        view["rules"] = group.rules.clone();
    } else {
        view["policies"] = json!([group.policy]);
        view["metadata"] = json!({});
    }
    if call.at_least(13) {
        view["project_id"] = json!(group.project_id);
        view["user_id"] = json!(group.user_id);
    }
    view
}

/// The group, where the caller may see it.
fn lookup(c: &Compute, call: &Call, rule: &str) -> Result<(Group, Vec<String>)> {
    let id = call.param("id");
    let missing = || Error::not_found(format!("Instance group {id} could not be found."));
    let (group, members) = c.db.read(|tx| {
        let group = groups::find(tx, id)?.ok_or_else(missing)?;
        let members = groups::members(tx, None, Some(id))?.remove(id).unwrap_or_default();
        Ok::<_, Error>((group, members))
    })?;
    c.allow(call, rule, &group.project_id, Some(&group.user_id))?;
    Ok((group, members))
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-server-groups:index")?;
    let everything = call.query("all_projects").is_some() && call.context().is_admin();
    if everything {
        c.allow_own(call, "os_compute_api:os-server-groups:index:all_projects")?;
    }
    let project = if everything { None } else { Some(call.project()) };
    let (all, members) =
        c.db.read(|tx| Ok::<_, Error>((groups::list(tx, project)?, groups::members(tx, project, None)?)))?;
    let page = call.limited(all)?;
    let empty = Vec::new();
    let views: Vec<Value> = page
        .iter()
        .map(|g| view(call, g, members.get(&g.id).unwrap_or(&empty)))
        .collect();
    ok(json!({"server_groups": views}))
}

fn show(c: &Compute, call: &Call) -> Result {
    let (group, members) = lookup(c, call, "os_compute_api:os-server-groups:show")?;
    ok(json!({"server_group": view(call, &group, &members)}))
}

fn delete(c: &Compute, call: &Call) -> Result {
    let (group, _) = lookup(c, call, "os_compute_api:os-server-groups:delete")?;
    c.db.write(|tx| groups::delete(tx, &group.id))?;
    no_content()
}

fn create(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-server-groups:create")?;
    let wanted = &call.body["server_group"];
    let (policy, rules) = if call.at_least(64) {
        (
            wanted["policy"].as_str(),
            wanted.get("rules").cloned().unwrap_or_else(|| json!({})),
        )
    } else {
        (wanted["policies"][0].as_str(), json!({}))
    };
    let policy = policy.unwrap_or_default();
    if policy != "anti-affinity" && rules.as_object().is_some_and(|r| !r.is_empty()) {
        return Err(Error::bad_request("Only anti-affinity policy supports rules."));
    }
    // Rules are kept as numbers, however they were written.
    let rules = rules.as_object().into_iter().flatten();
    let rules = rules.map(|(k, v)| {
        (
            k.clone(),
            crate::model::encoding::json_int(v).map_or(v.clone(), Value::from),
        )
    });
    let group = Group {
        id: uuid::Uuid::new_v4().to_string(),
        name: wanted["name"].as_str().unwrap_or_default().to_owned(),
        project_id: call.project().to_owned(),
        user_id: call.user().to_owned(),
        policy: policy.to_owned(),
        rules: Value::Object(rules.collect()),
        created_at: database::now(),
    };
    c.db.write(|tx| {
        let limit = quotas::limits(tx, &c.config.quotas, call.project(), Some(call.user()))?["server_groups"];
        if limit >= 0 && quotas::usage(tx, call.project(), None)?.server_groups >= limit {
            return Err(Error::forbidden("Quota exceeded, too many server groups."));
        }
        groups::insert(tx, &group)?;
        Ok(())
    })?;
    ok(json!({"server_group": view(call, &group, &[])}))
}
