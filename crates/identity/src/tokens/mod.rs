//! Tokens: made, read, checked and shown. What was checked is kept in memory until something in Identity changes.

pub mod keys;
pub mod payload;

use crate::config::Config;
use crate::store::assignments::{self, Target};
use crate::store::{
    Ref, application_credentials, catalog, federation, oauth1, projects, revocations, roles, text, trusts, users,
};
use crate::{Error, Result};
use api::{Context, DomainRef, Principal, RoleRef, Scope};
use bytes::Bytes;
use database::{Database, Tx, now};
use parking_lot::RwLock;
use payload::{Payload, PayloadScope};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// How many checked tokens are kept.
const KEPT: usize = 20_000;

/// A token with all that it refers to.
#[derive(Debug)]
pub struct Token {
    /// What travels.
    pub id: String,
    /// What it carries.
    pub payload: Payload,
    /// µs since the epoch, whole seconds.
    pub issued_at: i64,
    /// Whose it is.
    pub user: Ref,
    /// The roles it gives.
    pub roles: Vec<Ref>,
    /// The project it is for.
    pub project: Option<Ref>,
    /// The trust through which.
    pub trust: Option<Ref>,
    /// The OAuth access token through which.
    pub access_token: Option<Ref>,
    /// The application credential through which.
    pub application_credential: Option<Ref>,
    /// The same for services.
    pub context: Arc<Context>,
    /// The body without the catalog.
    body: Ref,
    rendered: [OnceLock<Bytes>; 2],
    generation: u64,
}

impl Token {
    /// Whether it was had by delegation: not by the user itself, but by something the user once allowed.
    pub fn is_delegated(&self) -> bool {
        let primary = |m: &String| matches!(m.as_str(), "external" | "mapped" | "password" | "token");
        self.payload.methods.is_empty() || !self.payload.methods.iter().all(primary)
    }

    /// Whether it was had by delegation or by a trust.
    pub fn is_delegated_or_trust(&self) -> bool {
        self.trust.is_some() || self.is_delegated()
    }

    fn unscoped(&self) -> bool {
        matches!(self.payload.scope, PayloadScope::Unscoped)
    }

    /// The body of an answer that shows the token.
    pub fn render(&self, db: &Database, with_catalog: bool) -> Result<Bytes> {
        let slot = &self.rendered[usize::from(with_catalog)];
        if let Some(bytes) = slot.get() {
            return Ok(bytes.clone());
        }
        let mut body = self.body.clone();
        let (catalog, providers) = db.read(|tx| {
            let user = self
                .trust
                .as_ref()
                .map_or(self.payload.user_id.as_str(), |trust| text(trust, "trustor_user_id"));
            let catalog = (with_catalog && !self.unscoped())
                .then(|| catalog::catalog(tx, user, self.payload.project_id()))
                .transpose()?;
            Ok::<_, Error>((catalog, federation::enabled_service_providers(tx)?))
        })?;
        if let Some(catalog) = catalog {
            body.insert("catalog".into(), catalog);
        }
        if !providers.is_empty() {
            body.insert("service_providers".into(), providers.into());
        }
        let bytes = Bytes::from(json!({"token": body}).to_string());
        Ok(slot.get_or_init(|| bytes).clone())
    }
}

/// The tokens of a cloud.
pub struct Tokens {
    keys: keys::Keys,
    /// Counts changes in Identity; what was checked under an older number is checked again.
    generation: AtomicU64,
    checked: RwLock<HashMap<Box<str>, Arc<Token>>>,
}

fn gone(id: &str) -> Error {
    Error::not_found("token", id)
}

impl Tokens {
    /// With the keys of a folder.
    pub fn open(config: &Config) -> Result<Tokens> {
        let keys = keys::Keys::open(&config.fernet_key_repository)?;
        Ok(Tokens {
            keys,
            generation: AtomicU64::new(0),
            checked: RwLock::new(HashMap::new()),
        })
    }

    /// Has every token checked again before it is next accepted.
    pub fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes a token of a payload, all that it needs being there.
    pub fn issue(&self, db: &Database, config: &Config, payload: Payload) -> Result<Arc<Token>> {
        let generation = self.generation.load(Ordering::SeqCst);
        let id = self.keys.encrypt(&payload.pack());
        let issued_at = keys::Keys::created_at(&id).unwrap_or(now() / 1_000_000) * 1_000_000;
        let token = Arc::new(db.read(|tx| build(tx, config, &id, payload, issued_at, generation))?);
        self.keep(&token);
        Ok(token)
    }

    /// A token that is valid, or was at most `grace` µs ago.
    ///
    /// # Errors
    /// 404, as upstream says it, where it is not.
    pub fn validate(&self, db: &Database, config: &Config, id: &str, grace: i64) -> Result<Arc<Token>> {
        if id.is_empty() {
            return Err(Error::Missing("No token in the request".into()));
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let expired = || Error::Missing("Failed to validate token".into());
        let known = self
            .checked
            .read()
            .get(id)
            .filter(|token| token.generation == generation)
            .cloned();
        if let Some(token) = known {
            return if now() < token.payload.expires_at + grace {
                Ok(token)
            } else {
                Err(expired())
            };
        }
        let bytes = self
            .keys
            .decrypt(id)
            .ok_or_else(|| Error::Missing("Could not recognize Fernet token".into()))?;
        let payload = Payload::unpack(&bytes).ok_or_else(|| gone(id))?;
        if now() >= payload.expires_at + grace {
            return Err(expired());
        }
        let issued_at = keys::Keys::created_at(id).ok_or_else(|| gone(id))? * 1_000_000;
        let token = db.read(|tx| {
            let token = build(tx, config, id, payload.clone(), issued_at, generation)?;
            if is_revoked(tx, &token)? {
                return Err(expired());
            }
            Ok(token)
        });
        let token = token.map_err(|error| match error {
            Error::Unauthorized(_) | Error::Rejected(_) => gone(id),
            other => other,
        })?;
        let token = Arc::new(token);
        self.keep(&token);
        Ok(token)
    }

    fn keep(&self, token: &Arc<Token>) {
        let mut checked = self.checked.write();
        if checked.len() >= KEPT {
            let at = now();
            checked.retain(|_, t| t.generation == token.generation && t.payload.expires_at > at);
            if checked.len() >= KEPT {
                checked.clear();
            }
        }
        checked.insert(token.id.as_str().into(), token.clone());
    }
}

fn is_revoked(tx: &mut Tx<'_>, token: &Token) -> Result<bool> {
    let mut user_ids = vec![token.payload.user_id.as_str()];
    if let Some(trust) = &token.trust {
        user_ids.extend([text(trust, "trustor_user_id"), text(trust, "trustee_user_id")]);
    }
    let subject = revocations::Subject {
        user_ids,
        project_id: token.payload.project_id(),
        trust_id: token.trust.as_ref().map(|t| text(t, "id")),
        consumer_id: token.access_token.as_ref().map(|t| text(t, "consumer_id")),
        audit_id: token.payload.audit_ids.first().map_or("", String::as_str),
        audit_chain_id: token.payload.audit_ids.get(1).map(String::as_str),
        issued_at: token.issued_at,
    };
    revocations::is_revoked(tx, &subject)
}

fn reference(object: &Ref) -> DomainRef {
    DomainRef {
        id: text(object, "id").into(),
        name: text(object, "name").into(),
    }
}

fn named(domain: &DomainRef) -> Value {
    json!({"id": domain.id, "name": domain.name})
}

/// Looks up all that a token refers to, and refuses where something of it is gone or disabled.
fn build(
    tx: &mut Tx<'_>,
    config: &Config,
    id: &str,
    payload: Payload,
    issued_at: i64,
    generation: u64,
) -> Result<Token> {
    let rules = &config.security_compliance;
    let user = users::get(tx, &payload.user_id, rules)?;
    if !crate::store::is_true(&user, "enabled") {
        return Err(Error::Unauthorized(format!(
            "The account is disabled for user: {}.",
            payload.user_id
        )));
    }
    let project = payload.project_id().map(|id| projects::get(tx, id)).transpose()?;
    let project_domain = match &project {
        Some(project) if !text(project, "domain_id").is_empty() => {
            Some(projects::get_domain(tx, text(project, "domain_id"))?)
        }
        Some(project) => Some(project.clone()),
        None => None,
    };
    let disabled =
        |what: &str, id: &str| Error::Missing(format!("Unable to validate token because {what} {id} is disabled"));
    if let (Some(project), Some(domain)) = (&project, &project_domain) {
        if !crate::store::is_true(project, "enabled") {
            return Err(disabled("project", text(project, "id")));
        }
        if !crate::store::is_true(domain, "enabled") {
            return Err(disabled("domain", text(domain, "id")));
        }
    }
    let trust = match &payload.scope {
        PayloadScope::Trust { trust_id, .. } => Some(check_trust(tx, config, trust_id, &payload.user_id)?),
        _ => None,
    };
    let user_domain = projects::get_domain(tx, text(&user, "domain_id"))?;
    if !crate::store::is_true(&user_domain, "enabled") {
        return Err(disabled("domain", text(&user_domain, "id")));
    }
    let access_token = match &payload.scope {
        PayloadScope::OAuth { access_token_id, .. } => Some(oauth1::ACCESS_TOKENS.get(tx, access_token_id)?),
        _ => None,
    };
    let application_credential = match &payload.scope {
        PayloadScope::ApplicationCredential {
            application_credential_id: id,
            ..
        } => Some(application_credentials::get(tx, id)?),
        _ => None,
    };
    let role_ids: Vec<String> = match &payload.scope {
        PayloadScope::Unscoped => Vec::new(),
        PayloadScope::System => assignments::effective_roles(tx, &payload.user_id, &Target::System, false)?
            .into_iter()
            .collect(),
        PayloadScope::Domain(domain) => {
            projects::get_domain(tx, domain)?;
            assignments::effective_roles(tx, &payload.user_id, &Target::Domain(domain.clone()), false)?
                .into_iter()
                .collect()
        }
        PayloadScope::Trust { .. } => trust
            .as_ref()
            .map(|trust| trust_roles(tx, trust))
            .transpose()?
            .unwrap_or_default(),
        PayloadScope::Project(project)
        | PayloadScope::OAuth {
            project_id: project, ..
        }
        | PayloadScope::ApplicationCredential {
            project_id: project, ..
        } => {
            let held = assignments::effective_roles(tx, &payload.user_id, &Target::Project(project.clone()), false)?;
            let ids = |roles: &Value, key: Option<&str>| -> Vec<String> {
                let id = |role: &Value| key.map_or(role, |key| &role[key]).as_str().map(Into::into);
                roles.as_array().into_iter().flatten().filter_map(id).collect()
            };
            let allowed = match (&access_token, &application_credential) {
                (Some(token), _) => Some(roles::with_implied(tx, ids(&token["role_ids"], None))?),
                (None, Some(credential)) => Some(ids(&credential["roles"], Some("id")).into_iter().collect()),
                (None, None) => None,
            };
            held.into_iter()
                .filter(|role| allowed.as_ref().is_none_or(|allowed| allowed.contains(role)))
                .collect()
        }
    };
    let mut held = roles::ROLES.get_many(tx, &role_ids)?;
    held.sort_by(|a, b| text(a, "name").cmp(text(b, "name")));
    let needs_roles = !matches!(payload.scope, PayloadScope::Unscoped | PayloadScope::Trust { .. });
    if needs_roles && held.is_empty() {
        return Err(Error::Unauthorized(format!(
            "User {} has no access to the scope asked for",
            payload.user_id
        )));
    }
    // With impersonation the token speaks for the trustor.
    let (shown_user, shown_domain) = match &trust {
        Some(trust) if crate::store::is_true(trust, "impersonation") => {
            let trustor = users::get(tx, text(trust, "trustor_user_id"), rules)?;
            let domain = projects::get_domain(tx, text(&trustor, "domain_id"))?;
            (trustor, domain)
        }
        _ => (user.clone(), user_domain),
    };
    let scope = match &payload.scope {
        PayloadScope::Unscoped => Scope::Unscoped,
        PayloadScope::System => Scope::System,
        PayloadScope::Domain(domain) => Scope::Domain(reference(&projects::get_domain(tx, domain)?)),
        _ => match (&project, &project_domain) {
            (Some(project), Some(domain)) => Scope::Project {
                id: text(project, "id").into(),
                name: text(project, "name").into(),
                domain: reference(domain),
                is_domain: crate::store::is_true(project, "is_domain"),
            },
            _ => Scope::Unscoped,
        },
    };
    let user_domain = reference(&shown_domain);
    let parts = Parts {
        payload: &payload,
        issued_at,
        user: &shown_user,
        user_domain: &user_domain,
        scope: &scope,
        roles: &held,
    };
    let mut body = parts.body();
    if let Some(trust) = &trust {
        let shown = json!({
            "id": trust["id"],
            "trustor_user": {"id": trust["trustor_user_id"]},
            "trustee_user": {"id": trust["trustee_user_id"]},
            "impersonation": trust["impersonation"],
        });
        body.insert("OS-TRUST:trust".into(), shown);
        body.remove("is_domain");
        body.insert(
            "roles".into(),
            held.iter().cloned().map(Value::Object).collect::<Vec<_>>().into(),
        );
    }
    if let Some(token) = &access_token {
        body.insert(
            "OS-OAUTH1".into(),
            json!({"access_token_id": token["id"], "consumer_id": token["consumer_id"]}),
        );
    }
    if let Some(credential) = &application_credential {
        body.insert(
            "application_credential".into(),
            application_credentials::in_token(credential),
        );
    }
    let context = Arc::new(parts.context(id));
    Ok(Token {
        id: id.into(),
        issued_at,
        user,
        roles: held,
        project,
        trust,
        access_token,
        application_credential,
        context,
        body,
        rendered: [OnceLock::new(), OnceLock::new()],
        generation,
        payload,
    })
}

/// The trust, with those at both ends still there and able.
fn check_trust(tx: &mut Tx<'_>, config: &Config, trust_id: &str, user_id: &str) -> Result<Ref> {
    let trust = trusts::get(tx, trust_id)?;
    if text(&trust, "trustee_user_id") != user_id {
        return Err(Error::Forbidden("User is not a trustee.".into()));
    }
    for (who, end) in [("trustor_user_id", "Trustor"), ("trustee_user_id", "Trustee")] {
        let user = users::get(tx, text(&trust, who), &config.security_compliance)?;
        let domain = projects::get_domain(tx, text(&user, "domain_id"))?;
        if !crate::store::is_true(&domain, "enabled") {
            return Err(Error::Missing(format!("{end} domain is disabled.")));
        }
        if !crate::store::is_true(&user, "enabled") {
            return Err(Error::Forbidden(format!("{end} is disabled.")));
        }
    }
    Ok(trust)
}

/// The roles a trust delegates, all of which the (first) trustor must still have.
fn trust_roles(tx: &mut Tx<'_>, trust: &Ref) -> Result<Vec<String>> {
    let chain = trusts::pedigree(tx, text(trust, "id"))?;
    let trustor = chain
        .last()
        .map_or("", |first| text(first, "trustor_user_id"))
        .to_owned();
    let delegated: Vec<String> = trust["roles"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|role| role["id"].as_str().map(Into::into))
        .collect();
    let wanted = roles::with_implied(tx, delegated)?;
    let project = text(trust, "project_id");
    let held = match project {
        "" => Default::default(),
        project => assignments::effective_roles(tx, &trustor, &Target::Project(project.into()), true)?,
    };
    if wanted.iter().any(|role| !held.contains(role)) {
        return Err(Error::Forbidden("Trustee has no delegated roles.".into()));
    }
    let ids: Vec<String> = wanted.into_iter().collect();
    let global = roles::ROLES.get_many(tx, &ids)?;
    Ok(global
        .iter()
        .filter(|r| text(r, "domain_id").is_empty())
        .map(|r| text(r, "id").to_owned())
        .collect())
}

/// What a token's body and context are made of.
struct Parts<'a> {
    payload: &'a Payload,
    issued_at: i64,
    user: &'a Ref,
    user_domain: &'a DomainRef,
    scope: &'a Scope,
    roles: &'a [Ref],
}

impl Parts<'_> {
    fn body(&self) -> Ref {
        let mut body = Ref::new();
        body.insert("methods".into(), self.payload.methods.clone().into());
        let user = json!({
            "domain": named(self.user_domain),
            "id": self.user["id"],
            "name": self.user["name"],
            "password_expires_at": self.user["password_expires_at"],
        });
        body.insert("user".into(), user);
        body.insert("audit_ids".into(), self.payload.audit_ids.clone().into());
        body.insert(
            "expires_at".into(),
            api::time::iso8601_micros(self.payload.expires_at).into(),
        );
        body.insert("issued_at".into(), api::time::iso8601_micros(self.issued_at).into());
        match self.scope {
            Scope::Unscoped => return body,
            Scope::System => {
                body.insert("system".into(), json!({"all": true}));
            }
            Scope::Domain(domain) => {
                body.insert("domain".into(), named(domain));
            }
            Scope::Project {
                id,
                name,
                domain,
                is_domain,
            } => {
                body.insert(
                    "project".into(),
                    json!({"domain": named(domain), "id": id, "name": name}),
                );
                body.insert("is_domain".into(), (*is_domain).into());
            }
        }
        let roles: Vec<Value> = self
            .roles
            .iter()
            .map(|role| json!({"id": role["id"], "name": role["name"]}))
            .collect();
        body.insert("roles".into(), roles.into());
        body
    }

    fn context(&self, id: &str) -> Context {
        let project = match self.scope {
            Scope::Project { id, domain, .. } => Some((id.clone(), domain.id.clone())),
            _ => None,
        };
        let domain = match self.scope {
            Scope::Domain(domain) => Some(domain.id.clone()),
            _ => None,
        };
        let mut token = Ref::new();
        if let Some(domain) = &domain {
            token.insert("domain".into(), json!({"id": domain}));
        }
        if let Some((_, domain)) = &project {
            token.insert("project".into(), json!({"domain": {"id": domain}}));
        }
        let credentials = policy::Credentials {
            user_id: Some(text(self.user, "id").into()),
            user_domain_id: Some(self.user_domain.id.clone()),
            project_id: project.as_ref().map(|(id, _)| id.clone()),
            project_domain_id: project.map(|(_, domain)| domain),
            system_scope: matches!(self.scope, Scope::System).then(|| "all".into()),
            roles: self.roles.iter().map(|role| text(role, "name").to_owned()).collect(),
            is_admin_project: domain.is_none(),
            domain_id: domain,
            token: Value::Object(token),
            ..policy::Credentials::default()
        };
        Context {
            user: Principal {
                id: text(self.user, "id").into(),
                name: text(self.user, "name").into(),
                domain: self.user_domain.clone(),
                password_expires_at: self.user["password_expires_at"].as_str().and_then(api::time::parse),
            },
            scope: self.scope.clone(),
            roles: self
                .roles
                .iter()
                .map(|role| RoleRef {
                    id: text(role, "id").into(),
                    name: text(role, "name").into(),
                    domain_id: role["domain_id"].as_str().map(Into::into),
                })
                .collect(),
            credentials,
            methods: self.payload.methods.clone(),
            audit_ids: self.payload.audit_ids.clone(),
            issued_at: self.issued_at,
            expires_at: self.payload.expires_at,
            token: id.into(),
        }
    }
}
