//! `/v3/users`.

use super::*;
use crate::model::schemas;
use crate::store::users::{Expiry, UserFilters, get as get_user, list as list_users};
use crate::store::{groups, projects};
use database::Tx;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.get("/v3/users", list).post("/v3/users", create);
    routes
        .get("/v3/users/{user_id}", show)
        .patch("/v3/users/{user_id}", update)
        .delete("/v3/users/{user_id}", delete);
    routes.public(::api::Method::POST, "/v3/users/{user_id}/password", change_password);
    routes.get("/v3/users/{user_id}/groups", list_groups);
    routes.get("/v3/users/{user_id}/projects", list_projects);
    routes.delete("/v3/users/{user_id}/tokens", revoke_tokens);
}

/// The rule's target is the user, where there is one.
pub(super) fn target(s: &Identity, tx: &mut Tx<'_>, request: &Request) -> Result<Target> {
    let id = request.param("user_id");
    Target::new()
        .arg("user_id", id)
        .maybe("user", get_user(tx, id, &s.config.security_compliance))
}

/// `password_expires_at=lt:2026-01-01T00:00:00Z` and the like.
pub(super) fn expiry_filters(request: &Request) -> Result<Vec<Expiry>> {
    let mut found = Vec::new();
    for value in request.query.all("password_expires_at") {
        // An operator of two or three letters is followed by a colon; a year is not.
        let has_operator = value.get(2..4).is_some_and(|s| s.contains(':'));
        let (operator, at) = if has_operator {
            value.split_once(':').unwrap_or(("eq", value))
        } else {
            ("eq", value)
        };
        let at = ::api::time::parse(at).ok_or_else(|| {
            Error::Invalid(
                "Timestamp not in expected format. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.".into(),
            )
        })?;
        let operator = match operator {
            "lt" => "<",
            "gt" => ">",
            "eq" => "=",
            "lte" => "<=",
            "gte" => ">=",
            "neq" => "<>",
            other => {
                return Err(Error::Invalid(format!(
                    "The given operator {other} is not valid. It must be one of the following: 'eq', 'neq', 'lt', 'lte', 'gt', or 'gte'."
                )));
            }
        };
        found.push(Expiry { operator, at });
    }
    Ok(found)
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::USER_QUERY)?;
    let target = domain_scope(r).map_or_else(Target::new, |domain| Target::new().with("domain_id", domain));
    s.enforce(r, "identity:list_users", &target)?;
    let mut hints = s.hints(r, &["domain_id", "enabled", "name"], true)?;
    if let Some(domain) = domain_scope(r) {
        hints = hints.equals("domain_id", Some(domain));
    }
    let federated = ["idp_id", "protocol_id", "unique_id"].into_iter();
    let filters = UserFilters {
        expiry: expiry_filters(r)?,
        federated: federated
            .filter_map(|name| Some((name, r.query.get(name)?.to_owned())))
            .collect(),
        group_id: None,
    };
    let limit = hints.limit;
    hints.limit = limit.or(Some(s.config.max_db_limit));
    let mut page = s.read(|tx| list_users(tx, &hints, &filters, &s.config.security_compliance))?;
    page.truncated &= limit.is_some();
    collection(r, "users", "users", page, limit)
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    let user = checked(r, &schemas::USER_CREATE, "user")?;
    s.enforce(r, "identity:create_user", &Target::new().with("user", user.clone()))?;
    let user = with_domain(s, r, normalized(&user));
    let password = user.get("password").map(Value::as_str);
    if let Some(password) = password {
        s.check_new_password(password)?;
    }
    let hash = password
        .flatten()
        .map(|password| s.passwords.hash(password))
        .transpose()?;
    let user = s.write(|tx| s.create_user(tx, user.clone(), hash.as_deref()))?;
    created(r, "user", "users", user)
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let user = s.read(|tx| {
        s.enforce(r, "identity:get_user", &target(s, tx, r)?)?;
        get_user(tx, r.param("user_id"), &s.config.security_compliance)
    })?;
    ok(r, "user", "users", user)
}

fn update(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::USER_UPDATE, "user")?;
    let id = r.param("user_id");
    s.read(|tx| {
        s.enforce(r, "identity:update_user", &target(s, tx, r)?)?;
        get_user(tx, id, &s.config.security_compliance)
    })?;
    check_same_id(&changes, id)?;
    let password = changes.get("password").map(Value::as_str);
    if let Some(password) = password {
        s.check_new_password(password)?;
    }
    let hash = password
        .map(|new| new.map(|new| s.passwords.hash(new)).transpose())
        .transpose()?;
    let user = s.write(|tx| s.update_user(tx, id, changes.clone(), hash.as_ref().map(Option::as_deref)))?;
    ok(r, "user", "users", user)
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    s.write(|tx| {
        s.enforce(r, "identity:delete_user", &target(s, tx, r)?)?;
        s.delete_user(tx, r.param("user_id"))
    })?;
    no_content()
}

/// Needs no token: the password is the proof.
fn change_password(s: &Identity, r: &Request) -> Result<Response> {
    let user = Value::Object(part(r, "user")?);
    schemas::check_part(&schemas::PASSWORD, &user)?;
    let given = |name: &str| user[name].as_str().unwrap_or_default();
    s.change_password(r.param("user_id"), given("original_password"), given("password"))?;
    no_content()
}

fn list_groups(s: &Identity, r: &Request) -> Result<Response> {
    let mut hints = s.hints(r, &["name"], false)?;
    let id = r.param("user_id");
    let page = s.read(|tx| {
        s.enforce(r, "identity:list_groups_for_user", &target(s, tx, r)?)?;
        get_user(tx, id, &s.config.security_compliance)?;
        if let Some(domain) = domain_scope(r) {
            hints = hints.clone().equals("domain_id", Some(domain));
        }
        groups::list_of_user(tx, id, &hints)
    })?;
    collection(r, "groups", "groups", page, hints.limit)
}

fn list_projects(s: &Identity, r: &Request) -> Result<Response> {
    let hints = s.hints(r, &["domain_id", "enabled", "name"], false)?;
    let page = s.read(|tx| {
        s.enforce(r, "identity:list_user_projects", &target(s, tx, r)?)?;
        get_user(tx, r.param("user_id"), &s.config.security_compliance)?;
        let (ids, _) = s.reachable(tx, r.param("user_id"))?;
        super::projects::filtered(projects::get_many(tx, &ids)?, &hints)
    })?;
    collection(r, "projects", "projects", page, hints.limit)
}

fn revoke_tokens(s: &Identity, r: &Request) -> Result<Response> {
    let id = r.param("user_id");
    s.write(|tx| {
        s.enforce(r, "identity:revoke_tokens_for_user", &target(s, tx, r)?)?;
        get_user(tx, id, &s.config.security_compliance)?;
        s.revoke_user(tx, id)
    })?;
    no_content()
}
