//! Roles, what they imply, and grants.

use crate::store::assignments::{self, Actor, Target};
use crate::store::{Ref, application_credentials, check_deletable, check_mutable, new_id, projects, roles, text};
use crate::{Error, Identity, Result};
use database::Tx;
use serde_json::Value;

impl Identity {
    /// Adds a role. An `id` is made where there is none.
    pub(crate) fn create_role(&self, tx: &mut Tx<'_>, mut role: Ref) -> Result<Ref> {
        if text(&role, "id").is_empty() {
            role.insert("id".into(), new_id().into());
        }
        roles::insert(tx, role)
    }

    /// Changes a role.
    pub(crate) fn update_role(&self, tx: &mut Tx<'_>, id: &str, changes: Ref) -> Result<Ref> {
        let original = roles::ROLES.get(tx, id)?;
        check_mutable(&original, &changes, "role")?;
        if changes
            .get("domain_id")
            .is_some_and(|domain| *domain != original["domain_id"])
        {
            return Err(Error::Invalid("Update of `domain_id` is not allowed.".into()));
        }
        roles::update(tx, &original, &changes)
    }

    /// Removes a role, its assignments, and the application credentials of those who had it.
    pub(crate) fn delete_role(&self, tx: &mut Tx<'_>, id: &str) -> Result<()> {
        let role = roles::ROLES.get(tx, id)?;
        check_deletable(&role, "role")?;
        let query = assignments::Query {
            role_id: Some(id.into()),
            ..Default::default()
        };
        for assignment in assignments::list(tx, &query)? {
            if let (Actor::User(user), Target::Project(project)) = (&assignment.actor, &assignment.target) {
                application_credentials::forget_user_on_project(tx, user, project)?;
            }
        }
        roles::ROLES.delete(tx, id)
    }

    /// Makes one role imply another.
    pub(crate) fn imply_role(&self, tx: &mut Tx<'_>, prior_id: &str, implied_id: &str) -> Result<()> {
        let implied = roles::ROLES.get(tx, implied_id)?;
        let prior = roles::ROLES.get(tx, prior_id)?;
        if self
            .config
            .prohibited_implied_roles
            .iter()
            .any(|name| name == text(&implied, "name"))
        {
            return Err(Error::Refused(format!("{implied_id} cannot be an implied roles.")));
        }
        if prior["domain_id"].is_null() && !implied["domain_id"].is_null() {
            return Err(Error::Refused(format!("{implied_id} cannot be an implied roles.")));
        }
        roles::imply(tx, prior_id, implied_id)
    }

    /// Grants a role on a project, a domain or the system.
    pub(crate) fn grant(
        &self,
        tx: &mut Tx<'_>,
        role_id: &str,
        actor: &Actor,
        target: &Target,
        inherited: bool,
    ) -> Result<()> {
        let role = roles::ROLES.get(tx, role_id)?;
        match target {
            Target::Domain(id) => {
                projects::get_domain(tx, id)?;
            }
            Target::Project(id) => {
                let project = projects::get(tx, id)?;
                if !role["domain_id"].is_null() && role["domain_id"] != project["domain_id"] {
                    return Err(Error::Refused(format!(
                        "Project {id} must be in the same domain as the role {role_id} being assigned."
                    )));
                }
            }
            Target::System if matches!(role.get("domain_id"), Some(Value::String(_))) => {
                return Err(Error::Invalid(format!(
                    "Role {role_id} is a domain-specific role. Unable to use a domain-specific role in a system assignment."
                )));
            }
            Target::System => {}
        }
        assignments::grant(tx, role_id, actor, target, inherited)
    }
}
