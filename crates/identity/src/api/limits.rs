//! `/v3/registered_limits` and `/v3/limits`.

use super::*;
use crate::model::schemas;
use crate::store::catalog::{REGIONS, SERVICES};
use crate::store::limits::{self, REGISTERED_LIMITS};
use crate::store::{is_true, projects};
use database::Tx;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes
        .get("/v3/registered_limits", list_registered)
        .post("/v3/registered_limits", register);
    let registered = "/v3/registered_limits/{registered_limit_id}";
    routes
        .get(registered, show_registered)
        .patch(registered, update_registered)
        .delete(registered, delete_registered);
    routes.get("/v3/limits", list).post("/v3/limits", create);
    routes.get("/v3/limits/model", model);
    let one = "/v3/limits/{limit_id}";
    routes.get(one, show).patch(one, update).delete(one, delete);
}

/// What a limit refers to must be there; a domain given as a project becomes a domain.
fn resolved(tx: &mut Tx<'_>, mut limit: Ref, target: &str) -> Result<Ref> {
    let need = |found: Result<Ref>, attribute: &str| match found {
        Err(error) if error.is_not_found() => Err(Error::expecting(attribute, target)),
        found => found,
    };
    let id = |limit: &Ref, name: &str| limit.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(service) = id(&limit, "service_id") {
        need(SERVICES.get(tx, &service), "service_id")?;
    }
    if let Some(region) = id(&limit, "region_id") {
        need(REGIONS.get(tx, &region), "region_id")?;
    }
    if let Some(project) = id(&limit, "project_id")
        && is_true(&need(projects::get(tx, &project), "project_id")?, "is_domain")
    {
        limit.remove("project_id");
        limit.insert("domain_id".into(), project.into());
    }
    if let Some(domain) = id(&limit, "domain_id") {
        need(projects::get_domain(tx, &domain), "domain_id")?;
    }
    Ok(limit)
}

/// A list of new objects, without links of its own.
fn created_list(r: &Request, name: &str, refs: Vec<Ref>) -> Result<Response> {
    let mut body = collection_value(r, name, name, all(refs), None);
    if let Some(body) = body.as_object_mut() {
        body.remove("links");
    }
    Ok(Response::json(StatusCode::CREATED, &body))
}

fn list_registered(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::REGISTERED_LIMIT_QUERY)?;
    s.enforce(r, "identity:list_registered_limits", &Target::new())?;
    let hints = s.hints(r, &["service_id", "region_id", "resource_name"], false)?;
    let page = s.read(|tx| REGISTERED_LIMITS.list(tx, &hints))?;
    collection(r, "registered_limits", "registered_limits", page, hints.limit)
}

fn register(s: &Identity, r: &Request) -> Result<Response> {
    let new = checked_list(r, &schemas::REGISTERED_LIMITS_CREATE, "registered_limits")?;
    s.enforce(r, "identity:create_registered_limits", &Target::new())?;
    let refs = s.write(|tx| {
        let mut refs = Vec::new();
        for limit in &new {
            let limit = resolved(tx, with_new_id(limit.clone()), "registered_limit")?;
            refs.push(limits::register(tx, &limit)?);
        }
        Ok(refs)
    })?;
    created_list(r, "registered_limits", refs)
}

fn show_registered(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_registered_limit", &Target::new())?;
    let limit = s.read(|tx| REGISTERED_LIMITS.get(tx, r.param("registered_limit_id")))?;
    ok(r, "registered_limit", "registered_limits", limit)
}

fn update_registered(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::REGISTERED_LIMIT_UPDATE, "registered_limit")?;
    s.enforce(r, "identity:update_registered_limit", &Target::new())?;
    let limit = s.write(|tx| {
        let changes = resolved(tx, changes.clone(), "registered_limit")?;
        limits::update_registered(tx, r.param("registered_limit_id"), &changes)
    })?;
    ok(r, "registered_limit", "registered_limits", limit)
}

fn delete_registered(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_registered_limit", &Target::new())?;
    s.write(|tx| limits::delete_registered(tx, r.param("registered_limit_id")))?;
    no_content()
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::LIMIT_QUERY)?;
    s.enforce(r, "identity:list_limits", &Target::new())?;
    let mut hints = s.hints(
        r,
        &["service_id", "region_id", "resource_name", "project_id", "domain_id"],
        false,
    )?;
    let who = &r.context().credentials;
    let superuser = who.system_scope.is_some() || who.roles.iter().any(|role| role == "admin" || role == "service");
    let page = s.read(|tx| {
        if superuser {
            return limits::list(tx, &hints);
        }
        if let Some(domain) = domain_scope(r) {
            let inside: Vec<String> = tx.column(
                "SELECT id FROM identity_projects WHERE domain_id = ?1",
                &[domain.into()],
            )?;
            let mut page = limits::list(tx, &hints)?;
            page.refs.retain(|limit| match limit["project_id"].as_str() {
                Some(project) => inside.iter().any(|id| id == project),
                None => limit["domain_id"].as_str() == Some(domain),
            });
            return Ok(page);
        }
        match r.context().project_id() {
            Some(project) => {
                hints = hints.clone().equals("project_id", Some(project));
                limits::list(tx, &hints)
            }
            None => Ok(Page::default()),
        }
    })?;
    collection(r, "limits", "limits", page, hints.limit)
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    let new = checked_list(r, &schemas::LIMITS_CREATE, "limits")?;
    s.enforce(r, "identity:create_limits", &Target::new())?;
    let refs = s.write(|tx| {
        let mut refs = Vec::new();
        for limit in &new {
            let limit = resolved(tx, with_new_id(limit.clone()), "limit")?;
            refs.push(limits::insert(tx, &limit)?);
        }
        Ok(refs)
    })?;
    created_list(r, "limits", refs)
}

fn model(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_limit_model", &Target::new())?;
    let text = "Limit enforcement and validation does not take project hierarchy into consideration.";
    Ok(Response::json(
        StatusCode::OK,
        &json!({"model": {"name": "flat", "description": text}}),
    ))
}

/// The rule looks at the limit and the project or domain it is for.
fn target(tx: &mut Tx<'_>, id: &str) -> Result<Target> {
    let mut limit = match limits::get(tx, id) {
        Ok(limit) => limit,
        Err(error) if error.is_not_found() => return Ok(Target::new()),
        Err(error) => return Err(error),
    };
    if let Some(project) = limit["project_id"].as_str() {
        let project = projects::get(tx, project)?;
        limit.insert("project".into(), project.into());
    } else if let Some(domain) = limit["domain_id"].as_str() {
        let domain = projects::get_domain(tx, domain)?;
        limit.insert("domain".into(), domain.into());
    }
    Ok(Target::new().with("limit", limit))
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let id = r.param("limit_id");
    let limit = s.read(|tx| {
        s.enforce(r, "identity:get_limit", &target(tx, id)?)?;
        limits::get(tx, id)
    })?;
    ok(r, "limit", "limits", limit)
}

fn update(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::LIMIT_UPDATE, "limit")?;
    let id = r.param("limit_id");
    let limit = s.write(|tx| {
        let limit = limits::get(tx, id)?;
        s.enforce(r, "identity:update_limit", &Target::new().with("limit", limit))?;
        limits::update(tx, id, &changes)
    })?;
    ok(r, "limit", "limits", limit)
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    let id = r.param("limit_id");
    s.write(|tx| {
        let limit = limits::get(tx, id)?;
        s.enforce(r, "identity:delete_limit", &Target::new().with("limit", limit))?;
        limits::delete(tx, id)
    })?;
    no_content()
}
