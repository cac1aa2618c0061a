//! `/v3/role_assignments`.

use super::*;
use crate::model::schemas;
use crate::store::assignments::{self, Actor, Assignment, Query, Target as Place};
use crate::store::{groups, projects, roles, users};
use database::Tx;
use std::collections::HashMap;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.get("/v3/role_assignments", list);
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::ASSIGNMENT_QUERY)?;
    check_combination(r)?;
    let given = |name: &str| r.query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let include_subtree = is_set(r, "include_subtree");
    let project_id = given("scope.project.id");
    let body = s.read(|tx| {
        if include_subtree {
            let mut target = Target::new();
            if let Some(id) = &project_id {
                let project = projects::get(tx, id)?;
                target = target
                    .with("domain_id", project["domain_id"].clone())
                    .with("project", project);
            }
            s.enforce(r, "identity:list_role_assignments_for_tree", &target)?;
            if project_id.is_none() {
                return Err(Error::Invalid(
                    "scope.project.id must be specified if include_subtree is also specified".into(),
                ));
            }
        } else {
            let target = domain_scope(r).map_or_else(Target::new, |domain| Target::new().with("domain_id", domain));
            s.enforce(r, "identity:list_role_assignments", &target)?;
        }
        let query = Query {
            role_id: given("role.id"),
            user_id: given("user.id"),
            group_id: given("group.id"),
            system: r.query.get("scope.system") == Some("all"),
            domain_id: given("scope.domain.id"),
            project_id: project_id.clone(),
            include_subtree,
            inherited: r
                .query
                .get("scope.OS-INHERIT:inherited_to")
                .map(|value| value == "projects"),
            effective: is_set(r, "effective"),
            keep_domain_roles: false,
        };
        check_filters(&query, given("scope.system").is_some())?;
        if let (true, Some(user)) = (query.effective, &query.user_id) {
            users::get(tx, user, &s.config.security_compliance)?;
        }
        let mut found = assignments::list(tx, &query)?;
        if let (false, Some(domain)) = (include_subtree, domain_scope(r)) {
            within(tx, &mut found, domain)?;
        }
        let mut names = Names {
            s,
            known: HashMap::new(),
            wanted: is_set(r, "include_names"),
        };
        let mut shown = Vec::with_capacity(found.len());
        for assignment in &found {
            shown.push(show(tx, r, &mut names, assignment)?);
        }
        Ok(linked(r, "role_assignments", all(shown), None))
    })?;
    Ok(Response::json(StatusCode::OK, &body))
}

/// What upstream's schema says of parameters together, in its words.
fn check_combination(r: &Request) -> Result<()> {
    if r.query.contains("include_subtree") && !r.query.contains("scope.project.id") {
        return Err(Error::Invalid(
            "'scope.project.id' is a dependency of 'include_subtree'".into(),
        ));
    }
    if r.query.contains("user.id") && r.query.contains("group.id") {
        let given: Vec<String> = r
            .query
            .iter()
            .map(|(name, value)| format!("('{name}', '{value}')"))
            .collect();
        let given = given.join(", ");
        let text = format!(
            "ImmutableMultiDict([{given}]) is valid under each of {{'required': ['group.id']}}, {{'required': ['user.id']}}"
        );
        return Err(Error::Invalid(text));
    }
    Ok(())
}

/// Filters that exclude each other.
fn check_filters(query: &Query, system: bool) -> Result<()> {
    let (domain, project) = (query.domain_id.is_some(), query.project_id.is_some());
    let wrong = [
        (domain && project, "Specify a domain or project, not both"),
        (domain && system, "Specify system or domain, not both"),
        (project && system, "Specify system or project, not both"),
        (
            query.user_id.is_some() && query.group_id.is_some(),
            "Specify a user or group, not both",
        ),
        (
            query.effective && query.group_id.is_some(),
            "Combining effective and group filter will always result in an empty list.",
        ),
        (
            query.effective && query.inherited == Some(true) && domain,
            "Combining effective, domain and inherited filters will always result in an empty list.",
        ),
    ];
    match wrong.into_iter().find(|(is, _)| *is) {
        Some((_, text)) => Err(Error::Invalid(text.into())),
        None => Ok(()),
    }
}

/// Only what concerns a domain and its projects.
fn within(tx: &mut Tx<'_>, found: &mut Vec<Assignment>, domain: &str) -> Result<()> {
    let inside: Vec<String> = tx.column(
        "SELECT id FROM identity_projects WHERE domain_id = ?1",
        &[domain.into()],
    )?;
    found.retain(|assignment| match &assignment.target {
        Place::Domain(id) => id == domain,
        Place::Project(id) => inside.contains(id),
        Place::System => false,
    });
    Ok(())
}

/// Names of what assignments mention, each looked up once.
struct Names<'a> {
    s: &'a Identity,
    known: HashMap<(&'static str, String), Value>,
    wanted: bool,
}

impl Names<'_> {
    /// `{"id": …}`, with name and domain where names are wanted.
    fn entity(&mut self, tx: &mut Tx<'_>, kind: &'static str, id: &str) -> Result<Value> {
        if !self.wanted {
            return Ok(json!({"id": id}));
        }
        let key = (kind, id.to_owned());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let found = match kind {
            "user" => users::get(tx, id, &self.s.config.security_compliance),
            "group" => groups::GROUPS.get(tx, id),
            "project" => projects::get(tx, id),
            "domain" => projects::get_domain(tx, id),
            _ => roles::ROLES.get(tx, id),
        };
        let shown = match found {
            Ok(object) => {
                let mut shown = json!({"id": id, "name": object["name"]});
                if let Some(domain_id) = object.get("domain_id").and_then(Value::as_str) {
                    let domain_id = domain_id.to_owned();
                    shown["domain"] = self.entity(tx, "domain", &domain_id)?;
                }
                shown
            }
            // An actor that another back end no longer knows still has its assignments.
            Err(error) if error.is_not_found() && matches!(kind, "user" | "group") => {
                json!({"id": id, "name": "", "domain": {"id": "", "name": ""}})
            }
            Err(error) => return Err(error),
        };
        self.known.insert(key, shown.clone());
        Ok(shown)
    }
}

fn show(tx: &mut Tx<'_>, r: &Request, names: &mut Names<'_>, assignment: &Assignment) -> Result<Ref> {
    let mut shown = Ref::new();
    let mut links = Map::new();
    let (mut scope, mut path) = match &assignment.target {
        Place::Project(id) => {
            let from = assignment.via_target.as_ref().unwrap_or(&assignment.target);
            let kind = if matches!(from, Place::Domain(_)) {
                "domains"
            } else {
                "projects"
            };
            (
                json!({"project": names.entity(tx, "project", id)?}),
                format!("/{kind}/{}", from.id()),
            )
        }
        Place::Domain(id) => (
            json!({"domain": names.entity(tx, "domain", id)?}),
            format!("/domains/{id}"),
        ),
        Place::System => (json!({"system": {"all": true}}), "/system".into()),
    };
    match &assignment.actor {
        Actor::User(id) => {
            shown.insert("user".into(), names.entity(tx, "user", id)?);
            match &assignment.via_group {
                Some(group) => {
                    links.insert(
                        "membership".into(),
                        url(r, &format!("groups/{group}/users/{id}")).into(),
                    );
                    path.push_str(&format!("/groups/{group}"));
                }
                None => path.push_str(&format!("/users/{id}")),
            }
        }
        Actor::Group(id) => {
            shown.insert("group".into(), names.entity(tx, "group", id)?);
            path.push_str(&format!("/groups/{id}"));
        }
    }
    shown.insert("role".into(), names.entity(tx, "role", &assignment.role_id)?);
    path.push_str(&format!(
        "/roles/{}",
        assignment.via_role.as_ref().unwrap_or(&assignment.role_id)
    ));
    if assignment.inherited || assignment.via_target.is_some() {
        scope["OS-INHERIT:inherited_to"] = "projects".into();
        path = format!("/OS-INHERIT{path}/inherited_to_projects");
    }
    links.insert("assignment".into(), url(r, &path).into());
    if let Some(prior) = &assignment.via_role {
        links.insert(
            "prior_role".into(),
            url(r, &format!("prior_role/{}/implies/{prior}", assignment.role_id)).into(),
        );
    }
    shown.insert("scope".into(), scope);
    shown.insert("links".into(), links.into());
    Ok(shown)
}
