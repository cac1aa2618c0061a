//! Who asks.

use serde_json::Value;

use crate::Scope;
use crate::target::python_str;

/// The caller, as the services hand their request contexts to oslo.policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Credentials {
    /// The user.
    pub user_id: Option<String>,
    /// The user's domain.
    pub user_domain_id: Option<String>,
    /// The project the token is for.
    pub project_id: Option<String>,
    /// The domain of that project.
    pub project_domain_id: Option<String>,
    /// The domain the token is for (not the user's).
    pub domain_id: Option<String>,
    /// `all` for a token of the system.
    pub system_scope: Option<String>,
    /// Names of the roles the token carries, implied ones included.
    pub roles: Vec<String>,
    /// Whether the token's project is the administrative one; true where none is configured.
    pub is_admin_project: bool,
    /// The user of the service token that came along.
    pub service_user_id: Option<String>,
    /// The domain of that user.
    pub service_user_domain_id: Option<String>,
    /// The project of the service token.
    pub service_project_id: Option<String>,
    /// The domain of that project.
    pub service_project_domain_id: Option<String>,
    /// Roles of the service token.
    pub service_roles: Vec<String>,
    /// What the service itself decided (`context_is_admin`), for rules that say `is_admin:True`.
    pub is_admin: bool,
    /// The token's body, for Identity's rules on `token.project.domain.id` and the like.
    pub token: Value,
}

/// An attribute of the credentials, resolved from its name when a rule is compiled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Attribute {
    UserId,
    UserDomainId,
    ProjectId,
    ProjectDomainId,
    DomainId,
    SystemScope,
    /// `system`, which exists only for system tokens.
    System,
    Roles,
    IsAdminProject,
    ServiceUserId,
    ServiceUserDomainId,
    ServiceProjectId,
    ServiceProjectDomainId,
    ServiceRoles,
    IsAdmin,
    /// The segments after `token`.
    Token(Vec<String>),
    Unknown,
}

impl Attribute {
    pub(crate) fn named(name: &str) -> Attribute {
        match name {
            "user_id" | "user" => Attribute::UserId,
            "user_domain_id" | "user_domain" => Attribute::UserDomainId,
            "project_id" | "tenant_id" | "tenant" => Attribute::ProjectId,
            "project_domain_id" | "project_domain" => Attribute::ProjectDomainId,
            "domain_id" | "domain" => Attribute::DomainId,
            "system_scope" => Attribute::SystemScope,
            "system" => Attribute::System,
            "roles" => Attribute::Roles,
            "is_admin_project" => Attribute::IsAdminProject,
            "service_user_id" => Attribute::ServiceUserId,
            "service_user_domain_id" => Attribute::ServiceUserDomainId,
            "service_project_id" => Attribute::ServiceProjectId,
            "service_project_domain_id" => Attribute::ServiceProjectDomainId,
            "service_roles" => Attribute::ServiceRoles,
            "is_admin" => Attribute::IsAdmin,
            _ => match name.strip_prefix("token.") {
                Some(path) => Attribute::Token(path.split('.').map(str::to_owned).collect()),
                None => Attribute::Unknown,
            },
        }
    }
}

impl Credentials {
    /// The scope of the token. Anything that is neither of the system nor of a domain counts as of a project.
    pub fn scope(&self) -> Scope {
        let set = |value: &Option<String>| value.as_deref().is_some_and(|text| !text.is_empty());
        if set(&self.system_scope) {
            Scope::System
        } else if set(&self.domain_id) {
            Scope::Domain
        } else {
            Scope::Project
        }
    }

    /// Whether the token carries the role, without regard to case.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| crate::same_role(held, role))
    }

    /// oslo.policy's GenericCheck: absent values read as `None`, of a list any member may match.
    pub(crate) fn matches(&self, attribute: &Attribute, text: &str) -> bool {
        let option = |value: &Option<String>| value.as_deref().unwrap_or("None") == text;
        let boolean = |value: bool| text == if value { "True" } else { "False" };
        match attribute {
            Attribute::UserId => option(&self.user_id),
            Attribute::UserDomainId => option(&self.user_domain_id),
            Attribute::ProjectId => option(&self.project_id),
            Attribute::ProjectDomainId => option(&self.project_domain_id),
            Attribute::DomainId => option(&self.domain_id),
            Attribute::SystemScope => option(&self.system_scope),
            Attribute::System => self
                .system_scope
                .as_deref()
                .is_some_and(|scope| !scope.is_empty() && scope == text),
            Attribute::Roles => self.roles.iter().any(|role| role == text),
            Attribute::IsAdminProject => boolean(self.is_admin_project),
            Attribute::ServiceUserId => option(&self.service_user_id),
            Attribute::ServiceUserDomainId => option(&self.service_user_domain_id),
            Attribute::ServiceProjectId => option(&self.service_project_id),
            Attribute::ServiceProjectDomainId => option(&self.service_project_domain_id),
            Attribute::ServiceRoles => self.service_roles.iter().any(|role| role == text),
            Attribute::IsAdmin => boolean(self.is_admin),
            Attribute::Token(path) => find_in(&self.token, path, text),
            Attribute::Unknown => false,
        }
    }
}

fn find_in(value: &Value, path: &[String], text: &str) -> bool {
    let Some((key, rest)) = path.split_first() else {
        return python_str(value) == text;
    };
    match value.get(key) {
        None => false,
        Some(Value::Array(items)) => items.iter().any(|item| find_in(item, rest, text)),
        Some(value) => find_in(value, rest, text),
    }
}
