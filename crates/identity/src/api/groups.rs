//! `/v3/groups`.

use super::*;
use crate::model::schemas;
use crate::store::groups::{self, GROUPS};
use crate::store::users::{self, UserFilters};
use database::Tx;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.get("/v3/groups", list).post("/v3/groups", create);
    routes
        .get("/v3/groups/{group_id}", show)
        .patch("/v3/groups/{group_id}", update)
        .delete("/v3/groups/{group_id}", delete);
    routes.get("/v3/groups/{group_id}/users", list_users);
    let one = "/v3/groups/{group_id}/users/{user_id}";
    routes.get(one, check_user).put(one, add_user).delete(one, remove_user);
}

fn target(tx: &mut Tx<'_>, r: &Request) -> Result<Target> {
    Target::new().maybe("group", GROUPS.get(tx, r.param("group_id")))
}

fn both(s: &Identity, tx: &mut Tx<'_>, r: &Request) -> Result<Target> {
    target(tx, r)?.maybe(
        "user",
        users::get(tx, r.param("user_id"), &s.config.security_compliance),
    )
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::GROUP_QUERY)?;
    let target = domain_scope(r).map_or_else(Target::new, |domain| {
        Target::new().with("group", json!({"domain_id": domain}))
    });
    s.enforce(r, "identity:list_groups", &target)?;
    let mut hints = s.hints(r, &["domain_id", "name"], true)?;
    if let Some(domain) = domain_scope(r) {
        hints = hints.equals("domain_id", Some(domain));
    }
    let limit = hints.limit;
    hints.limit = limit.or(Some(s.config.max_db_limit));
    let mut page = s.read(|tx| GROUPS.list(tx, &hints))?;
    page.truncated &= limit.is_some();
    collection(r, "groups", "groups", page, limit)
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    let group = checked(r, &schemas::GROUP_CREATE, "group")?;
    s.enforce(r, "identity:create_group", &Target::new().with("group", group.clone()))?;
    let group = with_domain(s, r, normalized(&group));
    let group = s.write(|tx| s.create_group(tx, group.clone()))?;
    created(r, "group", "groups", group)
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let group = s.read(|tx| {
        s.enforce(r, "identity:get_group", &target(tx, r)?)?;
        GROUPS.get(tx, r.param("group_id"))
    })?;
    ok(r, "group", "groups", group)
}

fn update(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::GROUP_UPDATE, "group")?;
    let id = r.param("group_id");
    let group = s.write(|tx| {
        s.enforce(r, "identity:update_group", &target(tx, r)?)?;
        check_same_id(&changes, id)?;
        s.update_group(tx, id, changes.clone())
    })?;
    ok(r, "group", "groups", group)
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    let id = r.param("group_id");
    s.write(|tx| {
        let group = GROUPS.get(tx, id)?;
        s.enforce(r, "identity:delete_group", &Target::new().with("group", group))?;
        s.delete_group(tx, id)
    })?;
    no_content()
}

fn list_users(s: &Identity, r: &Request) -> Result<Response> {
    let mut hints = s.hints(r, &["domain_id", "enabled", "name"], false)?;
    let filters = UserFilters {
        expiry: super::users::expiry_filters(r)?,
        group_id: Some(r.param("group_id").into()),
        ..UserFilters::default()
    };
    let page = s.read(|tx| {
        s.enforce(r, "identity:list_users_in_group", &target(tx, r)?)?;
        GROUPS.get(tx, r.param("group_id"))?;
        if let Some(domain) = domain_scope(r) {
            hints = hints.clone().equals("domain_id", Some(domain));
        }
        users::list(tx, &hints, &filters, &s.config.security_compliance)
    })?;
    collection(r, "users", "users", page, hints.limit)
}

fn check_user(s: &Identity, r: &Request) -> Result<Response> {
    s.read(|tx| {
        s.enforce(r, "identity:check_user_in_group", &both(s, tx, r)?)?;
        s.check_member(tx, r.param("user_id"), r.param("group_id"))
    })?;
    no_content()
}

fn add_user(s: &Identity, r: &Request) -> Result<Response> {
    let (user, group) = (r.param("user_id"), r.param("group_id"));
    s.write(|tx| {
        s.enforce(r, "identity:add_user_to_group", &both(s, tx, r)?)?;
        GROUPS.get(tx, group)?;
        users::USERS.get(tx, user)?;
        groups::add_member(tx, user, group)
    })?;
    no_content()
}

fn remove_user(s: &Identity, r: &Request) -> Result<Response> {
    let (user, group) = (r.param("user_id"), r.param("group_id"));
    s.write(|tx| {
        s.enforce(r, "identity:remove_user_from_group", &both(s, tx, r)?)?;
        s.check_member(tx, user, group)?;
        groups::remove_member(tx, user, group)?;
        s.revoke_user(tx, user)
    })?;
    no_content()
}
