//! `/v3/OS-EP-FILTER`.

use super::*;
use crate::model::schemas;
use crate::store::catalog::ENDPOINTS;
use crate::store::endpoint_filter::{self as filter, ENDPOINT_GROUPS};
use crate::store::projects;

const GROUPS_PATH: &str = "OS-EP-FILTER/endpoint_groups";

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes
        .get("/v3/OS-EP-FILTER/endpoint_groups", list_groups)
        .post("/v3/OS-EP-FILTER/endpoint_groups", create_group);
    let group = "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}";
    routes
        .get(group, show_group)
        .patch(group, update_group)
        .delete(group, delete_group);
    routes.get(
        "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints",
        endpoints_of_group,
    );
    routes.get(
        "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects",
        projects_of_group,
    );
    let member = "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}";
    routes
        .get(member, show_member)
        .put(member, add_member)
        .delete(member, remove_member);
    routes.get(
        "/v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects",
        projects_of_endpoint,
    );
    routes.get("/v3/OS-EP-FILTER/projects/{project_id}/endpoints", endpoints_of_project);
    routes.get(
        "/v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups",
        groups_of_project,
    );
    let one = "/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}";
    routes
        .get(one, check_endpoint)
        .put(one, add_endpoint)
        .delete(one, remove_endpoint);
}

fn check_filters(group: &Ref) -> Result<()> {
    let valid = ["service_id", "region_id", "interface"];
    let unknown = group
        .get("filters")
        .and_then(Value::as_object)
        .is_some_and(|f| f.keys().any(|key| !valid.contains(&key.as_str())));
    if unknown {
        Err(Error::expecting(valid.join(" or "), "endpoint_group"))
    } else {
        Ok(())
    }
}

fn list_groups(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::ENDPOINT_GROUP_QUERY)?;
    s.enforce(r, "identity:list_endpoint_groups", &Target::new())?;
    let hints = s.hints(r, &["name"], false)?;
    let page = s.read(|tx| ENDPOINT_GROUPS.list(tx, &hints))?;
    collection(r, "endpoint_groups", GROUPS_PATH, page, hints.limit)
}

fn create_group(s: &Identity, r: &Request) -> Result<Response> {
    let group = checked(r, &schemas::ENDPOINT_GROUP_CREATE, "endpoint_group")?;
    s.enforce(r, "identity:create_endpoint_group", &Target::new())?;
    if group
        .get("filters")
        .and_then(Value::as_object)
        .is_none_or(Map::is_empty)
    {
        return Err(Error::Invalid("filters field is required and cannot be empty".into()));
    }
    check_filters(&group)?;
    let group = with_new_id(group);
    let group = s.write(|tx| {
        ENDPOINT_GROUPS.insert(tx, &group)?;
        ENDPOINT_GROUPS.get(tx, text(&group, "id"))
    })?;
    created(r, "endpoint_group", GROUPS_PATH, group)
}

fn show_group(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_endpoint_group", &Target::new())?;
    let group = s.read(|tx| ENDPOINT_GROUPS.get(tx, r.param("endpoint_group_id")))?;
    ok(r, "endpoint_group", GROUPS_PATH, group)
}

fn update_group(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::ENDPOINT_GROUP_UPDATE, "endpoint_group")?;
    s.enforce(r, "identity:update_endpoint_group", &Target::new())?;
    check_filters(&changes)?;
    let id = r.param("endpoint_group_id");
    let group = s.write(|tx| {
        let mut group = ENDPOINT_GROUPS.get(tx, id)?;
        group.extend(changes.clone());
        ENDPOINT_GROUPS.update(tx, &group)?;
        ENDPOINT_GROUPS.get(tx, id)
    })?;
    ok(r, "endpoint_group", GROUPS_PATH, group)
}

fn delete_group(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_endpoint_group", &Target::new())?;
    s.write(|tx| ENDPOINT_GROUPS.delete(tx, r.param("endpoint_group_id")))?;
    no_content()
}

fn endpoints_of_group(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(
        r,
        "identity:list_endpoints_associated_with_endpoint_group",
        &Target::new(),
    )?;
    let found = s.read(|tx| {
        let group = ENDPOINT_GROUPS.get(tx, r.param("endpoint_group_id"))?;
        filter::endpoints_of_group(tx, &group)
    })?;
    collection(
        r,
        "endpoints",
        "endpoints",
        all(found.into_iter().map(filter::shown).collect()),
        None,
    )
}

fn projects_of_group(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(
        r,
        "identity:list_projects_associated_with_endpoint_group",
        &Target::new(),
    )?;
    let found = s.read(|tx| filter::projects_of_group(tx, r.param("endpoint_group_id")))?;
    collection(r, "projects", "projects", all(found), None)
}

/// Both ends of a membership.
fn ends(
    s: &Identity,
    r: &Request,
    rule: &str,
    then: impl Fn(&mut database::Tx<'_>, &str, &str) -> Result<()>,
    write: bool,
) -> Result<()> {
    s.enforce(r, rule, &Target::new())?;
    let (group, project) = (r.param("endpoint_group_id"), r.param("project_id"));
    let work = |tx: &mut database::Tx<'_>| {
        projects::get(tx, project)?;
        ENDPOINT_GROUPS.get(tx, group)?;
        then(tx, group, project)
    };
    if write { s.write(work) } else { s.read(work) }
}

fn show_member(s: &Identity, r: &Request) -> Result<Response> {
    ends(
        s,
        r,
        "identity:get_endpoint_group_in_project",
        filter::check_group,
        false,
    )?;
    let (group, project) = (r.param("endpoint_group_id"), r.param("project_id"));
    // Upstream's link has no host.
    let own = format!("/OS-EP-FILTER/endpoint_groups/{group}/projects/{project}");
    let body =
        json!({"project_endpoint_group": {"endpoint_group_id": group, "project_id": project, "links": {"self": own}}});
    Ok(Response::json(StatusCode::OK, &body))
}

fn add_member(s: &Identity, r: &Request) -> Result<Response> {
    ends(s, r, "identity:add_endpoint_group_to_project", filter::add_group, true)?;
    no_content()
}

fn remove_member(s: &Identity, r: &Request) -> Result<Response> {
    ends(
        s,
        r,
        "identity:remove_endpoint_group_from_project",
        filter::remove_group,
        true,
    )?;
    no_content()
}

fn projects_of_endpoint(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_projects_for_endpoint", &Target::new())?;
    let id = r.param("endpoint_id");
    let found = s.read(|tx| {
        ENDPOINTS.get(tx, id)?;
        filter::projects_of_endpoint(tx, id)
    })?;
    collection(r, "projects", "projects", all(found), None)
}

fn endpoints_of_project(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_endpoints_for_project", &Target::new())?;
    let id = r.param("project_id");
    let found = s.read(|tx| {
        projects::get(tx, id)?;
        filter::endpoints_of_project(tx, id)
    })?;
    collection(
        r,
        "endpoints",
        "endpoints",
        all(found.into_iter().map(filter::shown).collect()),
        None,
    )
}

fn groups_of_project(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_endpoint_groups_for_project", &Target::new())?;
    let id = r.param("project_id");
    let found = s.read(|tx| {
        projects::get(tx, id)?;
        filter::groups_of_project(tx, id)
    })?;
    collection(r, "endpoint_groups", GROUPS_PATH, all(found), None)
}

fn not_in(endpoint: &str, project: &str) -> Error {
    Error::Missing(format!("Endpoint {endpoint} not found in project {project}"))
}

fn check_endpoint(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:check_endpoint_in_project", &Target::new())?;
    let (endpoint, project) = (r.param("endpoint_id"), r.param("project_id"));
    s.read(|tx| {
        ENDPOINTS.get(tx, endpoint)?;
        projects::get(tx, project)?;
        if filter::has_endpoint(tx, endpoint, project)? {
            Ok(())
        } else {
            Err(not_in(endpoint, project))
        }
    })?;
    no_content()
}

fn add_endpoint(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:add_endpoint_to_project", &Target::new())?;
    let (endpoint, project) = (r.param("endpoint_id"), r.param("project_id"));
    s.write(|tx| {
        ENDPOINTS.get(tx, endpoint)?;
        projects::get(tx, project)?;
        filter::add_endpoint(tx, endpoint, project)
    })?;
    no_content()
}

fn remove_endpoint(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:remove_endpoint_from_project", &Target::new())?;
    let (endpoint, project) = (r.param("endpoint_id"), r.param("project_id"));
    s.write(|tx| {
        if filter::remove_endpoint(tx, endpoint, project)? {
            Ok(())
        } else {
            Err(not_in(endpoint, project))
        }
    })?;
    no_content()
}
