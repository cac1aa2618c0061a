//! `/v3/roles` and what they imply.

use super::*;
use crate::model::schemas;
use crate::store::roles::{self, ROLES};
use database::Tx;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.get("/v3/roles", list).post("/v3/roles", create);
    let one = "/v3/roles/{role_id}";
    routes.get(one, show).patch(one, update).delete(one, delete);
    routes.get("/v3/roles/{prior_role_id}/implies", list_implied);
    let implied = "/v3/roles/{prior_role_id}/implies/{implied_role_id}";
    routes
        .get(implied, show_implied)
        .head(implied, check_implied)
        .put(implied, imply)
        .delete(implied, unimply);
    routes.get("/v3/role_inferences", list_inferences);
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::ROLE_QUERY)?;
    let of_domain = r.query.get("domain_id").is_some_and(|id| !id.is_empty());
    s.enforce(
        r,
        if of_domain {
            "identity:list_domain_roles"
        } else {
            "identity:list_roles"
        },
        &Target::new(),
    )?;
    let mut hints = s.hints(r, &["name", "domain_id"], false)?;
    if !of_domain {
        hints.filters.retain(|f| f.name != "domain_id");
        hints = hints.equals("domain_id", None);
    }
    let page = s.read(|tx| ROLES.list(tx, &hints))?;
    collection(r, "roles", "roles", page, hints.limit)
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    let role = checked(r, &schemas::ROLE_CREATE, "role")?;
    if text(&role, "domain_id").is_empty() {
        s.enforce(r, "identity:create_role", &Target::new())?;
    } else {
        s.enforce(
            r,
            "identity:create_domain_role",
            &Target::new().with("role", role.clone()),
        )?;
    }
    let role = normalized(&with_new_id(role));
    let role = s.write(|tx| s.create_role(tx, role.clone()))?;
    created(r, "role", "roles", role)
}

/// The role, once the caller may do this to it: global and domain-specific roles have rules of their own.
fn allowed(s: &Identity, tx: &mut Tx<'_>, r: &Request, global: &str, of_domain: &str) -> Result<Ref> {
    let role = ROLES.get(tx, r.param("role_id"))?;
    let rule = if role["domain_id"].is_null() { global } else { of_domain };
    s.enforce(r, rule, &Target::new().with("role", role.clone()))?;
    Ok(role)
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let role = s.read(|tx| allowed(s, tx, r, "identity:get_role", "identity:get_domain_role"))?;
    ok(r, "role", "roles", role)
}

fn update(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::ROLE_UPDATE, "role")?;
    let id = r.param("role_id");
    let role = s.write(|tx| {
        allowed(s, tx, r, "identity:update_role", "identity:update_domain_role")?;
        check_same_id(&changes, id)?;
        s.update_role(tx, id, changes.clone())
    })?;
    ok(r, "role", "roles", role)
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    s.write(|tx| {
        allowed(s, tx, r, "identity:delete_role", "identity:delete_domain_role")?;
        s.delete_role(tx, r.param("role_id"))
    })?;
    no_content()
}

fn brief(r: &Request, role: &Ref) -> Value {
    json!({"id": role["id"], "links": {"self": url(r, &format!("roles/{}", text(role, "id")))}, "name": role["name"]})
}

/// The prior role (and the implied one), once the caller may.
fn allowed_pair(s: &Identity, tx: &mut Tx<'_>, r: &Request, rule: &str) -> Result<(Ref, Ref)> {
    let prior = ROLES.get(tx, r.param("prior_role_id"))?;
    let mut target = Target::new().with("prior_role", prior.clone());
    let mut implied = Ref::new();
    if !r.param("implied_role_id").is_empty() {
        implied = ROLES.get(tx, r.param("implied_role_id"))?;
        target = target.with("implied_role", implied.clone());
    }
    s.enforce(r, rule, &target)?;
    Ok((prior, implied))
}

fn list_implied(s: &Identity, r: &Request) -> Result<Response> {
    let (prior, implied) = s.read(|tx| {
        let (prior, _) = allowed_pair(s, tx, r, "identity:list_implied_roles")?;
        let ids = roles::implied_by(tx, text(&prior, "id"))?;
        Ok((prior, ROLES.get_many(tx, &ids)?))
    })?;
    let implies: Vec<Value> = implied.iter().map(|role| brief(r, role)).collect();
    let own = url(r, &format!("roles/{}/implies", text(&prior, "id")));
    let body = json!({"role_inference": {"prior_role": brief(r, &prior), "implies": implies}, "links": {"self": own}});
    Ok(Response::json(StatusCode::OK, &body))
}

fn shown_pair(r: &Request, status: StatusCode, prior: &Ref, implied: &Ref) -> Response {
    let own = url(
        r,
        &format!("roles/{}/implies/{}", text(prior, "id"), text(implied, "id")),
    );
    Response::json(
        status,
        &json!({"role_inference": {"prior_role": brief(r, prior), "implies": brief(r, implied)}, "links": {"self": own}}),
    )
}

fn show_implied(s: &Identity, r: &Request) -> Result<Response> {
    let (prior, implied) = s.read(|tx| {
        let pair = allowed_pair(s, tx, r, "identity:get_implied_role")?;
        roles::check_implied(tx, text(&pair.0, "id"), text(&pair.1, "id"))?;
        Ok(pair)
    })?;
    Ok(shown_pair(r, StatusCode::OK, &prior, &implied))
}

fn check_implied(s: &Identity, r: &Request) -> Result<Response> {
    s.read(|tx| {
        let (prior, implied) = allowed_pair(s, tx, r, "identity:check_implied_role")?;
        roles::check_implied(tx, text(&prior, "id"), text(&implied, "id"))
    })?;
    no_content()
}

fn imply(s: &Identity, r: &Request) -> Result<Response> {
    let (prior, implied) = s.write(|tx| {
        let pair = allowed_pair(s, tx, r, "identity:create_implied_role")?;
        s.imply_role(tx, text(&pair.0, "id"), text(&pair.1, "id"))?;
        Ok(pair)
    })?;
    Ok(shown_pair(r, StatusCode::CREATED, &prior, &implied))
}

fn unimply(s: &Identity, r: &Request) -> Result<Response> {
    s.write(|tx| {
        let (prior, implied) = allowed_pair(s, tx, r, "identity:delete_implied_role")?;
        roles::unimply(tx, text(&prior, "id"), text(&implied, "id"))
    })?;
    no_content()
}

fn list_inferences(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_role_inference_rules", &Target::new())?;
    let (implications, roles) = s.read(|tx| Ok((roles::implications(tx)?, ROLES.find_all(tx, "1 = 1", &[])?)))?;
    let find = |id: &str| {
        roles
            .iter()
            .find(|role| text(role, "id") == id)
            .map(|role| brief(r, role))
    };
    let inferences: Vec<Value> = implications
        .iter()
        .filter_map(|(prior, implied)| {
            let implied: Vec<Value> = implied.iter().filter_map(|id| find(id)).collect();
            Some(json!({"prior_role": find(prior)?, "implies": implied}))
        })
        .collect();
    Ok(Response::json(StatusCode::OK, &json!({"role_inferences": inferences})))
}
