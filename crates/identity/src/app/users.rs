//! Users and groups.

use crate::authentication::Failure;
use crate::store::assignments::{self, Actor};
use crate::store::{Ref, groups, is_true, new_id, projects, text, users};
use crate::{Error, Identity, Result};
use database::{Tx, now};
use serde_json::Value;

const DAY: i64 = 86_400_000_000;

impl Identity {
    /// # Errors
    /// 400 where a new password does not match the operator's pattern.
    pub(crate) fn check_new_password(&self, password: Option<&str>) -> Result<()> {
        let rules = &self.config.security_compliance;
        let Some(pattern) = rules.password_regex.as_deref().filter(|p| !p.is_empty()) else {
            return Ok(());
        };
        let Some(password) = password else {
            return Err(Error::Invalid(
                "Password validation error: Password must be a string type.".into(),
            ));
        };
        // Python's `re.match` looks at the beginning only.
        let matches = fancy_regex::Regex::new(&format!(r"\A(?:{pattern})")).and_then(|regex| regex.is_match(password));
        match matches {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Invalid(format!(
                "The password does not match the requirements: {}.",
                rules.password_regex_description.as_deref().unwrap_or("None")
            ))),
            Err(error) => {
                tracing::error!(%error, pattern, "[security_compliance] password_regex is not a regular expression");
                Err(Error::Invalid(
                    "Password validation error: Unable to validate password due to invalid configuration.".into(),
                ))
            }
        }
    }

    fn check_default_project(&self, tx: &mut Tx<'_>, user: &Ref) -> Result<()> {
        let id = text(user, "default_project_id");
        if id.is_empty() {
            return Ok(());
        }
        match projects::get(tx, id) {
            Ok(project) if is_true(&project, "is_domain") => Err(Error::Invalid(format!(
                "User's default project ID cannot be a domain ID: {id}"
            ))),
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Adds a user; its password comes as a hash (see [`crate::passwords`]).
    pub(crate) fn create_user(&self, tx: &mut Tx<'_>, mut user: Ref, hash: Option<&str>) -> Result<Ref> {
        user.remove("password");
        let name = text(&user, "name").trim().to_owned();
        user.insert("name".into(), name.into());
        if user.get("enabled").is_none_or(Value::is_null) {
            user.insert("enabled".into(), true.into());
        }
        projects::get_domain(tx, text(&user, "domain_id"))?;
        self.check_default_project(tx, &user)?;
        user.insert("id".into(), new_id().into());
        users::insert(tx, user, hash, &self.config.security_compliance)
    }

    /// Changes a user. `hash`: a new password, or that there is none any more.
    pub(crate) fn update_user(
        &self,
        tx: &mut Tx<'_>,
        id: &str,
        mut changes: Ref,
        hash: Option<Option<&str>>,
    ) -> Result<Ref> {
        let rules = &self.config.security_compliance;
        let old = users::get(tx, id, rules)?;
        if changes
            .get("domain_id")
            .is_some_and(|domain| *domain != old["domain_id"])
        {
            return Err(Error::Invalid("Cannot change Domain ID".into()));
        }
        if let Some(name) = changes.get("name").and_then(Value::as_str) {
            let name = name.trim().to_owned();
            changes.insert("name".into(), name.into());
        }
        self.check_default_project(tx, &changes)?;
        let new = users::update(tx, &old, &changes, hash, rules)?;
        let disabled = changes.contains_key("enabled") && !is_true(&changes, "enabled") && is_true(&old, "enabled");
        if disabled || matches!(hash, Some(Some(_))) {
            self.revoke_user(tx, id)?;
        }
        Ok(new)
    }

    /// Removes a user and all that hangs on it.
    pub(crate) fn delete_user(&self, tx: &mut Tx<'_>, id: &str) -> Result<()> {
        users::USERS.delete(tx, id)?;
        self.forget_user(tx, id)
    }

    /// A user's own change of its password.
    pub(crate) fn change_password(&self, user_id: &str, original: &str, new: &str) -> Result<()> {
        match self.check_login(user_id, original) {
            Ok(()) | Err(Failure::Expired) => {}
            Err(Failure::Refused) => {
                return Err(Error::Unauthorized(
                    "Error when changing user password: Invalid user / password".into(),
                ));
            }
            Err(Failure::Error(error)) => return Err(error),
        }
        self.check_new_password(Some(new))?;
        let rules = &self.config.security_compliance;
        let count = rules.unique_last_password_count;
        let (user, known) = self.read(|tx| {
            Ok((
                users::get(tx, user_id, rules)?,
                users::passwords(tx, user_id, count.max(1))?,
            ))
        })?;
        if users::option(&user, "lock_password") {
            return Err(Error::Invalid(
                "You cannot change your password at this time due to password policy disallowing password changes. Please contact your administrator to reset your password.".into(),
            ));
        }
        if let Some(last) = known.first().filter(|last| last.self_service) {
            let until = last.created_at + rules.minimum_password_age * DAY;
            if now() < until {
                return Err(Error::Invalid(format!(
                    "You cannot change your password at this time due to the minimum password age. Once you change your password, it must be used for {} day(s) before it can be changed. Please try again in {} day(s) or contact your administrator to reset your password.",
                    rules.minimum_password_age,
                    (until - now()) / DAY
                )));
            }
        }
        if count > 0 {
            for old in known.iter().filter_map(|password| password.hash.as_deref()) {
                if self.passwords.verify(new, old)? {
                    return Err(Error::Invalid(format!(
                        "The new password cannot be identical to a previous password. The total number which includes the new password must be unique is {count}."
                    )));
                }
            }
        }
        let hash = self.passwords.hash(new)?;
        self.write(|tx| {
            // Somebody may have set another in the meantime; theirs stands.
            if users::passwords(tx, user_id, 1)?.first().map(|p| p.id) != known.first().map(|p| p.id) {
                return Err(Error::Unauthorized(
                    "the password was changed by another request".into(),
                ));
            }
            users::add_password(tx, &user, Some(&hash), true, rules)?;
            self.revoke_user(tx, user_id)
        })
    }

    /// Adds a group.
    pub(crate) fn create_group(&self, tx: &mut Tx<'_>, mut group: Ref) -> Result<Ref> {
        group.entry("description").or_insert_with(|| "".into());
        projects::get_domain(tx, text(&group, "domain_id"))?;
        group.insert("id".into(), new_id().into());
        let name = text(&group, "name").trim().to_owned();
        group.insert("name".into(), name.into());
        groups::GROUPS.insert(tx, &group)?;
        groups::GROUPS.get(tx, text(&group, "id"))
    }

    /// Changes a group.
    pub(crate) fn update_group(&self, tx: &mut Tx<'_>, id: &str, mut changes: Ref) -> Result<Ref> {
        let mut group = groups::GROUPS.get(tx, id)?;
        if changes
            .get("domain_id")
            .is_some_and(|domain| *domain != group["domain_id"])
        {
            return Err(Error::Invalid("Cannot change Domain ID".into()));
        }
        if let Some(name) = changes.get("name").and_then(Value::as_str) {
            let name = name.trim().to_owned();
            changes.insert("name".into(), name.into());
        }
        group.extend(changes);
        group.insert("id".into(), id.into());
        groups::GROUPS.update(tx, &group)?;
        groups::GROUPS.get(tx, id)
    }

    /// Removes a group. Its members lose what it had, so their tokens are revoked.
    pub(crate) fn delete_group(&self, tx: &mut Tx<'_>, id: &str) -> Result<()> {
        let query = assignments::Query {
            group_id: Some(id.into()),
            ..Default::default()
        };
        let had_roles = !assignments::list(tx, &query)?.is_empty();
        let members = users::ids_in_group(tx, id)?;
        groups::GROUPS.delete(tx, id)?;
        assignments::forget_actor(tx, &Actor::Group(id.into()))?;
        if had_roles {
            for member in members {
                self.revoke_user(tx, &member)?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// 404 for a group or user that is not there, and where the user is not in the group.
    pub(crate) fn check_member(&self, tx: &mut Tx<'_>, user_id: &str, group_id: &str) -> Result<()> {
        groups::GROUPS.get(tx, group_id)?;
        users::USERS.get(tx, user_id)?;
        match groups::is_member(tx, user_id, group_id)? {
            true => Ok(()),
            false => Err(Error::Missing(format!(
                "User '{user_id}' not found in group '{group_id}'"
            ))),
        }
    }
}
