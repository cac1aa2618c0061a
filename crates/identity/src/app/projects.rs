//! Projects and domains.

use crate::store::assignments::{self, Actor, Target};
use crate::store::revocations::Event;
use crate::store::{
    Ref, application_credentials, check_deletable, check_mutable, credentials, domain_config, federation, groups,
    is_true, limits, new_id, projects, text, trusts,
};
use crate::{Error, Identity, Result};
use database::{Tx, params};
use serde_json::Value;

fn enabled(project: &Ref) -> bool {
    !matches!(project.get("enabled"), Some(value) if !value.is_null()) || is_true(project, "enabled")
}

fn name_conflict(error: Error, project: &Ref) -> Error {
    match error {
        Error::Conflict { .. } if is_true(project, "is_domain") => Error::Conflict {
            what: "project",
            details: format!(
                "it is not permitted to have two projects acting as domains with the same name: {}",
                text(project, "name")
            ),
        },
        Error::Conflict { .. } => Error::Conflict {
            what: "project",
            details: format!(
                "it is not permitted to have two projects with either the same name or same id in the same domain: name is {}, project id {}",
                text(project, "name"),
                text(project, "id")
            ),
        },
        other => other,
    }
}

/// A domain may not pretend to be the one of federated users.
fn check_not_federated(id: &str, domain: &Ref) -> Result<()> {
    let name = text(domain, "name");
    if name.eq_ignore_ascii_case("federated") {
        return Err(Error::Invalid(format!("Domain cannot be named {name}")));
    }
    if id.eq_ignore_ascii_case("federated") {
        return Err(Error::Invalid(format!("Domain cannot have ID {id}")));
    }
    Ok(())
}

impl Identity {
    /// Adds a project, or a domain where `is_domain` is set. An `id` is made where there is none.
    pub(crate) fn create_project(&self, tx: &mut Tx<'_>, mut project: Ref) -> Result<Ref> {
        if text(&project, "id").is_empty() {
            project.insert("id".into(), new_id().into());
        }
        if project.get("enabled").is_none_or(Value::is_null) {
            project.insert("enabled".into(), true.into());
        }
        let name = text(&project, "name").trim().to_owned();
        project.insert("name".into(), name.into());
        project.entry("description").or_insert_with(|| "".into());
        let is_domain = is_true(&project, "is_domain");
        project.insert("is_domain".into(), is_domain.into());
        if text(&project, "parent_id").is_empty() {
            let domain = project.get("domain_id").cloned().unwrap_or_default();
            project.insert("parent_id".into(), domain);
        }
        if is_domain {
            check_not_federated(text(&project, "id"), &project)?;
            if !text(&project, "parent_id").is_empty() {
                return Err(Error::Invalid(
                    "only root projects are allowed to act as domains.".into(),
                ));
            }
            project.insert("parent_id".into(), Value::Null);
        } else {
            self.check_place(tx, &project)?;
        }
        projects::insert(tx, project.clone()).map_err(|e| name_conflict(e, &project))
    }

    /// A project's domain and parent must fit together, be enabled, and not be too deep.
    fn check_place(&self, tx: &mut Tx<'_>, project: &Ref) -> Result<()> {
        let domain = projects::get_domain(tx, text(project, "domain_id"))?;
        let parent = projects::get(tx, text(project, "parent_id"))?;
        let (domain_id, parent_id) = (text(&domain, "id"), text(&parent, "id"));
        if is_true(&parent, "is_domain") {
            if parent_id != domain_id {
                return Err(Error::Invalid(format!(
                    "Cannot create project, the parent ({parent_id}) is acting as a domain, but this project's domain id ({domain_id}) does not match the parent's id."
                )));
            }
        } else if text(&parent, "domain_id") != domain_id {
            return Err(Error::Invalid(format!(
                "Cannot create project, since it specifies its domain_id {domain_id}, but specifies a parent in a different domain ({}).",
                text(&parent, "domain_id")
            )));
        }
        let mut above = projects::parents(tx, &parent)?;
        above.push(parent.clone());
        if let Some(disabled) = above.iter().find(|p| !enabled(p)) {
            return Err(Error::Invalid(format!(
                "cannot create a project in a branch containing a disabled project: {}",
                text(disabled, "id")
            )));
        }
        if above.len() + 1 > self.config.max_project_tree_depth + 1 {
            return Err(Error::Refused(format!(
                "Max hierarchy depth reached for {parent_id} branch."
            )));
        }
        Ok(())
    }

    /// Adds a domain.
    pub(crate) fn create_domain(&self, tx: &mut Tx<'_>, mut domain: Ref) -> Result<Ref> {
        domain.insert("is_domain".into(), true.into());
        domain.insert("domain_id".into(), Value::Null);
        domain.insert("parent_id".into(), Value::Null);
        self.create_project(tx, domain).map(projects::as_domain)
    }

    /// Changes a project or domain.
    pub(crate) fn update_project(&self, tx: &mut Tx<'_>, id: &str, mut changes: Ref) -> Result<Ref> {
        let original = projects::get(tx, id)?;
        let is_domain = is_true(&original, "is_domain");
        if changes
            .get("domain_id")
            .is_some_and(|domain| *domain != original["domain_id"])
        {
            return Err(Error::Invalid("Cannot change Domain ID".into()));
        }
        check_mutable(&original, &changes, if is_domain { "domain" } else { "project" })?;
        if is_domain {
            check_not_federated(id, &changes)?;
        }
        if let Some(name) = changes.get("name").and_then(Value::as_str) {
            let name = name.trim().to_owned();
            changes.insert("name".into(), name.into());
        }
        if changes
            .get("parent_id")
            .is_some_and(|parent| *parent != original["parent_id"])
        {
            return Err(Error::Refused("Update of `parent_id` is not allowed.".into()));
        }
        if changes.contains_key("is_domain") && is_true(&changes, "is_domain") != is_domain {
            return Err(Error::Invalid("Update of `is_domain` is not allowed.".into()));
        }
        let (was, will) = (
            enabled(&original),
            enabled(&changes) && (changes.contains_key("enabled") || enabled(&original)),
        );
        if !was && will && projects::parents(tx, &original)?.iter().any(|p| !enabled(p)) {
            return Err(Error::Refused(format!(
                "Cannot enable project {id} since it has disabled parents"
            )));
        }
        if was && !will && !is_domain && projects::subtree(tx, id)?.iter().any(enabled) {
            return Err(Error::Refused(format!(
                "Cannot disable project {id} since its subtree contains enabled projects."
            )));
        }
        let named: Ref = original
            .iter()
            .chain(changes.iter())
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        projects::update(tx, &original, &changes).map_err(|e| name_conflict(e, &named))
    }

    /// Changes a domain.
    pub(crate) fn update_domain(&self, tx: &mut Tx<'_>, id: &str, changes: Ref) -> Result<Ref> {
        projects::get_domain(tx, id)?;
        self.update_project(tx, id, changes).map(projects::as_domain)
    }

    /// Removes a project, or a domain with all that is in it.
    pub(crate) fn delete_project(&self, tx: &mut Tx<'_>, id: &str) -> Result<()> {
        let project = projects::get(tx, id)?;
        if is_true(&project, "is_domain") {
            return self.delete_domain(tx, id);
        }
        check_deletable(&project, "project")?;
        if !projects::children(tx, &[id.to_owned()])?.is_empty() {
            return Err(Error::Refused(format!(
                "Cannot delete the project {id} since it is not a leaf in the hierarchy. Use the cascade option if you want to delete a whole subtree."
            )));
        }
        self.remove_project(tx, id)
    }

    fn remove_project(&self, tx: &mut Tx<'_>, id: &str) -> Result<()> {
        projects::PROJECTS.delete(tx, id)?;
        assignments::forget_target(tx, &Target::Project(id.into()))?;
        credentials::forget_project(tx, id)?;
        trusts::forget_project(tx, id)?;
        limits::forget_project(tx, id)?;
        tx.execute(
            "UPDATE identity_users SET default_project_id = NULL WHERE default_project_id = ?1",
            &params![id],
        )?;
        self.revoke(
            tx,
            Event {
                project_id: Some(id),
                ..Event::default()
            },
        )
    }

    /// Removes a disabled domain with its projects, groups, users and identity providers.
    pub(crate) fn delete_domain(&self, tx: &mut Tx<'_>, id: &str) -> Result<()> {
        let domain = projects::get_domain(tx, id)?;
        check_deletable(&domain, "domain")?;
        if enabled(&domain) {
            return Err(Error::Refused(
                "Cannot delete a domain that is enabled, please disable it first.".into(),
            ));
        }
        let mut below = projects::subtree(tx, id)?;
        below.reverse();
        for project in &below {
            check_deletable(project, "project")?;
            self.remove_project(tx, text(project, "id"))?;
        }
        for group in groups::in_domain(tx, id)? {
            self.delete_group(tx, text(&group, "id"))?;
        }
        let users: Vec<String> = tx.column("SELECT id FROM identity_users WHERE domain_id = ?1", &params![id])?;
        for user in users {
            self.delete_user(tx, &user)?;
        }
        for provider in federation::providers_in_domain(tx, id)? {
            federation::delete_provider(tx, &provider)?;
        }
        self.remove_project(tx, id)?;
        assignments::forget_target(tx, &Target::Domain(id.into()))?;
        domain_config::delete(tx, id, None, None)
    }

    /// The ids of what a user can be scoped to by its assignments: projects and domains.
    pub(crate) fn reachable(&self, tx: &mut Tx<'_>, user_id: &str) -> Result<(Vec<String>, Vec<String>)> {
        let query = assignments::Query {
            user_id: Some(user_id.into()),
            effective: true,
            ..Default::default()
        };
        let (mut of_projects, mut of_domains) = (Vec::new(), Vec::new());
        for assignment in assignments::list(tx, &query)? {
            match assignment.target {
                Target::Project(id) => of_projects.push(id),
                Target::Domain(id) => of_domains.push(id),
                Target::System => {}
            }
        }
        for ids in [&mut of_projects, &mut of_domains] {
            ids.sort_unstable();
            ids.dedup();
        }
        Ok((of_projects, of_domains))
    }

    /// Everything that was once granted to a user or kept for it.
    pub(crate) fn forget_user(&self, tx: &mut Tx<'_>, user_id: &str) -> Result<()> {
        assignments::forget_actor(tx, &Actor::User(user_id.into()))?;
        credentials::forget_user(tx, user_id)?;
        application_credentials::forget_user(tx, user_id)?;
        trusts::forget_user(tx, user_id)?;
        self.revoke_user(tx, user_id)
    }
}
