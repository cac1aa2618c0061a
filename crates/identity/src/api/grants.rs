//! Roles of users and groups on projects, domains and the system, inherited ones too: one set of operations under many paths.

use super::*;
use crate::store::assignments::{self, Actor, Target as Place};
use crate::store::{groups, projects, roles, users};
use database::Tx;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    for list_path in [
        "/v3/projects/{project_id}/users/{user_id}/roles",
        "/v3/projects/{project_id}/groups/{group_id}/roles",
        "/v3/domains/{domain_id}/users/{user_id}/roles",
        "/v3/domains/{domain_id}/groups/{group_id}/roles",
        "/v3/system/users/{user_id}/roles",
        "/v3/system/groups/{group_id}/roles",
        "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects",
        "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects",
    ] {
        routes.get(list_path, list);
    }
    for path in [
        "/v3/projects/{project_id}/users/{user_id}/roles/{role_id}",
        "/v3/projects/{project_id}/groups/{group_id}/roles/{role_id}",
        "/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}",
        "/v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}",
        "/v3/system/users/{user_id}/roles/{role_id}",
        "/v3/system/groups/{group_id}/roles/{role_id}",
        "/v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
        "/v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
        "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
        "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
    ] {
        routes.get(path, check).put(path, grant).delete(path, revoke);
    }
}

/// What the path names.
struct Grant<'a> {
    role_id: &'a str,
    actor: Actor,
    place: Place,
    inherited: bool,
}

impl Grant<'_> {
    fn of(r: &Request) -> Grant<'_> {
        let set = |name: &str| Some(r.param(name)).filter(|id| !id.is_empty());
        Grant {
            role_id: r.param("role_id"),
            actor: match set("user_id") {
                Some(user) => Actor::User(user.into()),
                None => Actor::Group(r.param("group_id").into()),
            },
            place: match (set("project_id"), set("domain_id")) {
                (Some(project), _) => Place::Project(project.into()),
                (None, Some(domain)) => Place::Domain(domain.into()),
                (None, None) => Place::System,
            },
            inherited: r.path.trim_end_matches('/').ends_with("/inherited_to_projects"),
        }
    }

    /// The rule: the system has rules of its own.
    fn rule(&self, action: &str) -> String {
        let who = if matches!(self.actor, Actor::User(_)) {
            "user"
        } else {
            "group"
        };
        match (&self.place, action) {
            (Place::System, "list") => format!("identity:list_system_grants_for_{who}"),
            (Place::System, action) => format!("identity:{action}_system_grant_for_{who}"),
            (_, "list") => "identity:list_grants".into(),
            (_, action) => format!("identity:{action}_grant"),
        }
    }

    /// All that the rule may look at. What is not there is a 404, except that under OS-INHERIT it is empty, and that the actor of a
    /// grant to be revoked may be gone.
    fn target(&self, s: &Identity, tx: &mut Tx<'_>, actor_may_be_gone: bool) -> Result<Target> {
        let mut target = Target::new();
        let mut add = |name: &str, found: Result<Ref>, may_be_gone: bool| {
            let object = match found {
                Err(error) if error.is_not_found() && may_be_gone => return Ok(()),
                Err(error) if error.is_not_found() && self.inherited => Ref::new(),
                found => found?,
            };
            target = std::mem::take(&mut target).with(name, object);
            Ok::<_, Error>(())
        };
        let place = |tx: &mut Tx<'_>| match &self.place {
            Place::Project(id) => Some(("project", projects::get(tx, id))),
            Place::Domain(id) => Some(("domain", projects::get_domain(tx, id))),
            Place::System => None,
        };
        // Upstream looks for a domain first and for a project last.
        if let (Place::Domain(_), Some((name, found))) = (&self.place, place(tx)) {
            add(name, found, false)?;
        }
        if !self.role_id.is_empty() {
            add("role", roles::ROLES.get(tx, self.role_id), false)?;
        }
        match &self.actor {
            Actor::User(id) => add(
                "user",
                users::get(tx, id, &s.config.security_compliance),
                actor_may_be_gone,
            )?,
            Actor::Group(id) => add("group", groups::GROUPS.get(tx, id), actor_may_be_gone)?,
        }
        if let (Place::Project(_), Some((name, found))) = (&self.place, place(tx)) {
            add(name, found, false)?;
        }
        Ok(target)
    }
}

fn exists(tx: &mut Tx<'_>, grant: &Grant<'_>) -> Result<()> {
    match &grant.place {
        Place::Project(id) => projects::get(tx, id).map(|_| ()),
        Place::Domain(id) => projects::get_domain(tx, id).map(|_| ()),
        Place::System => Ok(()),
    }
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    let grant = Grant::of(r);
    let roles = s.read(|tx| {
        s.enforce(r, &grant.rule("list"), &grant.target(s, tx, false)?)?;
        exists(tx, &grant)?;
        let ids = assignments::granted(tx, &grant.actor, &grant.place, grant.inherited)?;
        roles::ROLES.get_many(tx, &ids)
    })?;
    collection(r, "roles", "roles", all(roles), None)
}

fn check(s: &Identity, r: &Request) -> Result<Response> {
    let grant = Grant::of(r);
    s.read(|tx| {
        s.enforce(r, &grant.rule("check"), &grant.target(s, tx, false)?)?;
        roles::ROLES.get(tx, grant.role_id)?;
        exists(tx, &grant)?;
        assignments::check(tx, grant.role_id, &grant.actor, &grant.place, grant.inherited)
    })?;
    no_content()
}

fn grant(s: &Identity, r: &Request) -> Result<Response> {
    let grant = Grant::of(r);
    s.write(|tx| {
        s.enforce(r, &grant.rule("create"), &grant.target(s, tx, false)?)?;
        s.grant(tx, grant.role_id, &grant.actor, &grant.place, grant.inherited)
    })?;
    no_content()
}

fn revoke(s: &Identity, r: &Request) -> Result<Response> {
    let grant = Grant::of(r);
    s.write(|tx| {
        s.enforce(r, &grant.rule("revoke"), &grant.target(s, tx, true)?)?;
        roles::ROLES.get(tx, grant.role_id)?;
        // The grant is looked for first, so that a project that is not there is told as a grant that is not there.
        assignments::check(tx, grant.role_id, &grant.actor, &grant.place, grant.inherited)?;
        exists(tx, &grant)?;
        assignments::revoke(tx, grant.role_id, &grant.actor, &grant.place, grant.inherited)
    })?;
    no_content()
}
