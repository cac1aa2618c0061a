//! Who asks.

use std::sync::Arc;

/// A domain by id and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainRef {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The user behind a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The domain it belongs to.
    pub domain: DomainRef,
    /// When its password expires, µs since the epoch.
    pub password_expires_at: Option<i64>,
}

/// A role by id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRef {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The domain of a domain-specific role.
    pub domain_id: Option<String>,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only to get another token.
    Unscoped,
    /// The whole cloud.
    System,
    /// A domain.
    Domain(DomainRef),
    /// A project.
    Project {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// The domain it belongs to.
        domain: DomainRef,
        /// Whether the project acts as a domain.
        is_domain: bool,
    },
}

/// A validated token, as services see it.
#[derive(Clone, Debug)]
pub struct Context {
    /// The user.
    pub user: Principal,
    /// What the token is for.
    pub scope: Scope,
    /// The roles on that scope, implied ones included.
    pub roles: Vec<RoleRef>,
    /// The same for the policy rules.
    pub credentials: policy::Credentials,
    /// How the user authenticated.
    pub methods: Vec<String>,
    /// The token's audit id, then its parent's.
    pub audit_ids: Vec<String>,
    /// µs since the epoch.
    pub issued_at: i64,
    /// µs since the epoch.
    pub expires_at: i64,
    /// The token itself; never logged.
    pub token: String,
}

impl Context {
    /// The project of the token.
    pub fn project_id(&self) -> Option<&str> {
        match &self.scope {
            Scope::Project { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The user's id.
    pub fn user_id(&self) -> &str {
        &self.user.id
    }

    /// Whether the token carries the role `admin`, which most services take for "may see everything".
    pub fn is_admin(&self) -> bool {
        self.credentials.is_admin || self.credentials.has_role("admin")
    }

    /// The cloud's own work, which no user asked for.
    pub fn internal() -> Context {
        let role = |name: &str| RoleRef { id: name.into(), name: name.into(), domain_id: None };
        Context {
            user: Principal { id: "ferrostack".into(), name: "ferrostack".into(), ..Principal::default() },
            scope: Scope::System,
            roles: vec![role("admin")],
            credentials: policy::Credentials {
                user_id: Some("ferrostack".into()),
                system_scope: Some("all".into()),
                roles: vec!["admin".into(), "manager".into(), "member".into(), "reader".into(), "service".into()],
                is_admin_project: true,
                is_admin: true,
                ..policy::Credentials::default()
            },
            methods: Vec::new(),
            audit_ids: Vec::new(),
            issued_at: 0,
            expires_at: i64::MAX,
            token: String::new(),
        }
    }

    /// The same internal work for one project, as if its administrator had asked.
    pub fn internal_for(project_id: &str) -> Context {
        let mut context = Context::internal();
        context.scope = Scope::Project {
            id: project_id.into(),
            name: project_id.into(),
            domain: DomainRef { id: "default".into(), name: "Default".into() },
            is_domain: false,
        };
        context.credentials.system_scope = None;
        context.credentials.project_id = Some(project_id.into());
        context.credentials.project_domain_id = Some("default".into());
        context
    }
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthFailure {
    /// It is unknown, expired, revoked, or its user, project or role is gone.
    #[error("the token is not valid")]
    Invalid,
    /// The check itself failed.
    #[error("the token could not be checked")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Turns a token into a [`Context`]; Identity implements it.
pub trait Authenticator: Send + Sync {
    /// # Errors
    /// [`AuthFailure::Invalid`] becomes a 401, the other a 503.
    fn authenticate(&self, token: &str) -> Result<Arc<Context>, AuthFailure>;

    /// Whether the token may be used for this request at all: an application credential may be for some methods and paths only.
    /// `service` is the name in the service's [`crate::ServiceConfig`].
    fn admits(&self, _context: &Context, _service: &str, _method: &http::Method, _path: &str) -> bool {
        true
    }
}
