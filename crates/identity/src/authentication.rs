//! `POST /v3/auth/tokens`: who asks, by which methods, for what.

use crate::store::{Ref, application_credentials, assignments, federation, is_true, projects, text, trusts, users};
use crate::tokens::Token;
use crate::tokens::payload::{METHODS, Payload, PayloadScope, new_audit_id};
use crate::{Error, Identity, Result};
use database::{Tx, now};
use serde_json::Value;
use std::sync::Arc;

/// Why a user is not let in.
pub(crate) enum Failure {
    /// No such user, or not this password: the client does not learn which.
    Refused,
    /// The password is right but too old.
    Expired,
    /// Something the client may read, or a failure of the server.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Error(error.into())
    }
}

/// The scope that was asked for.
#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    Nothing,
    Unscoped,
    System,
    Domain(String),
    Project(String),
    Trust(Ref),
    /// The credential decides.
    ApplicationCredential(Ref),
}

/// What the methods found out, each having to agree with the others.
#[derive(Default)]
struct Found {
    user_id: Option<String>,
    methods: Vec<String>,
    expires_at: Option<i64>,
    parent_audit_id: Option<String>,
    access_token: Option<Ref>,
    application_credential: Option<String>,
}

impl Found {
    fn user(&mut self, id: &str) -> Result<()> {
        match &self.user_id {
            Some(known) if known != id => Err(Error::Unauthorized("the methods are for different users".into())),
            _ => {
                self.user_id = Some(id.to_owned());
                Ok(())
            }
        }
    }
}

/// A lookup that fails is a 401: who may not come in learns nothing about what there is.
fn hidden<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        if error.is_not_found() {
            Error::Unauthorized(error.to_string())
        } else {
            error
        }
    })
}

fn field<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

impl Identity {
    /// A token for the `auth` of a request. `oauth` checks the signature of an OAuth request and returns its access token.
    pub(crate) fn authenticate_for_token(&self, auth: &Value, oauth: impl Fn() -> Result<Ref>) -> Result<Arc<Token>> {
        if auth.as_object().is_none_or(|auth| auth.is_empty()) {
            return Err(Error::expecting("auth", "request body"));
        }
        let identity = &auth["identity"];
        let mut methods: Vec<&str> = Vec::new();
        for method in identity["methods"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        if let Some(missing) = methods.iter().find(|method| identity.get(**method).is_none()) {
            return Err(Error::expecting(*missing, "identity"));
        }
        if methods.iter().any(|method| !METHODS.contains(method)) {
            return Err(Error::UnsupportedMethod(METHODS));
        }
        let wanted = self.read(|tx| self.wanted(tx, auth, &methods))?;
        let mut found = Found::default();
        for method in &methods {
            self.method(method, &identity[*method], auth, &wanted, &mut found, &oauth)?;
            if !found.methods.iter().any(|m| m == method) {
                found.methods.insert(0, (*method).to_owned());
            }
        }
        let Some(user_id) = found.user_id.clone() else {
            return Err(Error::Unauthorized(
                "User not found by auth plugin; authentication failed".into(),
            ));
        };
        let scope = self.scope(&user_id, wanted.clone(), &found)?;
        self.check_factors(&user_id, &found.methods)?;
        self.issue(&user_id, scope, &wanted, found)
    }

    fn issue(&self, user_id: &str, scope: PayloadScope, wanted: &Wanted, found: Found) -> Result<Arc<Token>> {
        let mut expires_at = found
            .expires_at
            .unwrap_or_else(|| (now() / 1_000_000 + self.config.token_expiration) * 1_000_000);
        let limits = match wanted {
            Wanted::Trust(by) | Wanted::ApplicationCredential(by) => by["expires_at"].as_i64(),
            _ => None,
        };
        if let Some(limit) = limits {
            expires_at = expires_at.min(limit / 1_000_000 * 1_000_000);
        }
        let audit_ids = [Some(new_audit_id()), found.parent_audit_id]
            .into_iter()
            .flatten()
            .collect();
        let payload = Payload {
            user_id: user_id.into(),
            methods: found.methods,
            scope,
            expires_at,
            audit_ids,
        };
        let token = self.tokens.issue(&self.db, &self.config, payload)?;
        if let Wanted::Trust(trust) = wanted
            && !trust["remaining_uses"].is_null()
        {
            self.write(|tx| trusts::consume(tx, text(trust, "id")))?;
        }
        Ok(token)
    }

    /// A token by other means than `POST /v3/auth/tokens`: EC2 credentials.
    pub(crate) fn issue_for(&self, user_id: &str, method: &str, scope: PayloadScope) -> Result<Arc<Token>> {
        let found = Found {
            methods: vec![method.into()],
            ..Found::default()
        };
        self.issue(user_id, scope, &Wanted::Nothing, found)
    }

    fn wanted(&self, tx: &mut Tx<'_>, auth: &Value, methods: &[&str]) -> Result<Wanted> {
        let identity = &auth["identity"];
        if methods.contains(&"application_credential") {
            if auth.get("scope").is_some() {
                return Err(Error::Rejected(
                    "Error authenticating with application credential: Application credentials cannot request a scope."
                        .into(),
                ));
            }
            return self
                .application_credential(tx, &identity["application_credential"])
                .map(Wanted::ApplicationCredential);
        }
        let Some(scope) = auth.get("scope") else {
            return Ok(Wanted::Nothing);
        };
        let kinds = ["project", "domain", "unscoped", "system", "OS-TRUST:trust"];
        let has = |kind: &str| match scope {
            Value::String(text) => text == kind,
            other => other.get(kind).is_some(),
        };
        let named: Vec<&str> = kinds.into_iter().filter(|kind| has(kind)).collect();
        let [kind] = named[..] else {
            return Err(Error::expecting(
                "system, project, domain, OS-TRUST:trust or unscoped",
                "scope",
            ));
        };
        let body = &scope[kind];
        Ok(match kind {
            "system" => Wanted::System,
            "unscoped" => Wanted::Unscoped,
            "project" => Wanted::Project(text(&self.lookup_project(tx, body)?, "id").into()),
            "domain" => Wanted::Domain(text(&self.lookup_domain(tx, body)?, "id").into()),
            _ => {
                let id = field(body, "id").ok_or_else(|| Error::expecting("trust_id", "trust"))?;
                let trust = hidden(trusts::get(tx, id))?;
                if let Some(project) = trust["project_id"].as_str() {
                    self.lookup_project(tx, &serde_json::json!({"id": project}))?;
                }
                Wanted::Trust(trust)
            }
        })
    }

    fn lookup_domain(&self, tx: &mut Tx<'_>, body: &Value) -> Result<Ref> {
        let domain = hidden(match field(body, "name") {
            Some(name) => projects::domain_by_name(tx, name),
            None => projects::get_domain(tx, field(body, "id").unwrap_or_default()),
        })?;
        if !is_true(&domain, "enabled") {
            return Err(Error::Unauthorized(format!(
                "Domain is disabled: {}",
                text(&domain, "id")
            )));
        }
        Ok(domain)
    }

    fn lookup_project(&self, tx: &mut Tx<'_>, body: &Value) -> Result<Ref> {
        let project = match field(body, "name") {
            Some(name) => {
                let domain = body
                    .get("domain")
                    .ok_or_else(|| Error::expecting("domain", "project"))?;
                let domain = self.lookup_domain(tx, domain)?;
                let found = projects::by_name(tx, name, text(&domain, "id"))?;
                hidden(found.ok_or_else(|| Error::not_found("project", name)))?
            }
            None => {
                let id = field(body, "id").unwrap_or_default();
                let project = hidden(projects::get(tx, id))?;
                let domain = text(&project, "domain_id").to_owned();
                if domain.is_empty() {
                    return Err(Error::Unauthorized(format!("project {id} is a domain")));
                }
                self.lookup_domain(tx, &serde_json::json!({"id": domain}))?;
                project
            }
        };
        if !projects::is_enabled(tx, &project)? {
            return Err(Error::Unauthorized(format!(
                "Project is disabled: {}",
                text(&project, "id")
            )));
        }
        Ok(project)
    }

    /// The user of a method's payload, enabled and in an enabled domain.
    fn lookup_user(&self, tx: &mut Tx<'_>, body: &Value) -> Result<Ref> {
        let rules = &self.config.security_compliance;
        let user = match field(body, "name") {
            Some(name) => {
                let domain = body.get("domain").ok_or_else(|| Error::expecting("domain", "user"))?;
                if field(domain, "id").is_none() && field(domain, "name").is_none() {
                    return Err(Error::expecting("id or name", "domain"));
                }
                let domain = self.lookup_domain(tx, domain)?;
                let found = users::by_name(tx, name, text(&domain, "id"), rules)?;
                hidden(found.ok_or_else(|| Error::not_found("user", name)))?
            }
            None => {
                let id = field(body, "id").ok_or_else(|| Error::expecting("id or name", "user"))?;
                let user = hidden(users::get(tx, id, rules))?;
                self.lookup_domain(tx, &serde_json::json!({"id": user["domain_id"]}))?;
                user
            }
        };
        if !is_true(&user, "enabled") {
            return Err(Error::Unauthorized(format!("User is disabled: {}", text(&user, "id"))));
        }
        Ok(user)
    }

    fn application_credential(&self, tx: &mut Tx<'_>, body: &Value) -> Result<Ref> {
        if let Some(id) = field(body, "id") {
            return application_credentials::get(tx, id);
        }
        let name = field(body, "name").ok_or_else(|| Error::expecting("name or ID", "application credential"))?;
        let user = body
            .get("user")
            .ok_or_else(|| Error::expecting("user", "application credential"))?;
        let user = self.lookup_user(tx, user)?;
        let hints = crate::store::Hints::default().equals("name", Some(name));
        let found = application_credentials::list(tx, text(&user, "id"), &hints)?.refs.pop();
        found.ok_or_else(|| Error::Unauthorized(format!("Could not find application credential: {name}")))
    }

    fn method(
        &self,
        method: &str,
        body: &Value,
        auth: &Value,
        wanted: &Wanted,
        found: &mut Found,
        oauth: &impl Fn() -> Result<Ref>,
    ) -> Result<()> {
        match method {
            "password" => {
                let user = body.get("user").ok_or_else(|| Error::expecting("user", "None"))?;
                let known = self.read(|tx| self.lookup_user(tx, user))?;
                let id = text(&known, "id");
                match self.check_login(id, user["password"].as_str().unwrap_or_default()) {
                    Ok(()) => found.user(id),
                    Err(Failure::Refused) => Err(Error::Unauthorized("Invalid username or password".into())),
                    Err(Failure::Expired) => {
                        Err(Error::Rejected(format!("The password is expired and needs to be changed for user: {id}.")))
                    }
                    Err(Failure::Error(error)) => Err(error),
                }
            }
            "token" => {
                let id = field(body, "id").ok_or_else(|| Error::expecting("id", "token"))?;
                let token = self.tokens.validate(&self.db, &self.config, id, 0)?;
                self.rescope(&token, auth, found)
            }
            "application_credential" => {
                let Wanted::ApplicationCredential(credential) = wanted else {
                    return Err(Error::expecting("id or name", "application credential"));
                };
                let (id, user_id) = (text(credential, "id"), text(credential, "user_id"));
                let hash = self.read(|tx| {
                    self.lookup_user(tx, &serde_json::json!({"id": user_id}))?;
                    application_credentials::secret_hash(tx, id)
                })?;
                let right = match (&hash, body["secret"].as_str()) {
                    (Some(hash), Some(secret)) => self.passwords.verify(secret, hash)?,
                    _ => false,
                };
                if !right || credential["expires_at"].as_i64().is_some_and(|at| now() >= at) {
                    return Err(Error::Unauthorized("Invalid application credential ID or secret".into()));
                }
                found.application_credential = Some(id.to_owned());
                found.user(user_id)
            }
            "oauth1" => {
                let access = oauth()?;
                let user = text(&access, "authorizing_user_id").to_owned();
                found.access_token = Some(access);
                found.user(&user)
            }
            "ec2credential" => Err(Error::Unauthorized(
                "The ec2credential method cannot be used to authenticate via /v3/auth/tokens. Exchange your EC2 credentials at /v3/ec2tokens instead.".into(),
            )),
            "mapped" => {
                let provider = body["identity_provider"].as_str().ok_or_else(|| Error::expecting("identity_provider", "mapped"))?;
                body["protocol"].as_str().ok_or_else(|| Error::expecting("protocol", "mapped"))?;
                self.read(|tx| federation::provider_by_id(tx, provider))?;
                Err(Error::Unauthorized(format!("nothing before this server brings assertions of {provider}")))
            }
            other => Err(Error::Unauthorized(format!("nothing before this server vouches for a user by the method {other}"))),
        }
    }

    /// A token as a means to get another.
    fn rescope(&self, token: &Token, auth: &Value, found: &mut Found) -> Result<()> {
        let scope = auth.get("scope").unwrap_or(&Value::Null);
        let (to_project, to_domain) = (scope.get("project").is_some(), scope.get("domain").is_some());
        let refuse = |action: &str| Err(Error::Action(action.into()));
        let from = &token.payload.scope;
        if token.access_token.is_some() {
            return refuse("Using OAuth-scoped token to create another token. Create a new OAuth-scoped token instead");
        }
        if token.trust.is_some() {
            return refuse("Using trust-scoped token to create another token. Create a new trust-scoped token instead");
        }
        if *from == PayloadScope::System && (to_project || to_domain) {
            return refuse(
                "Using a system-scoped token to create a project-scoped or domain-scoped token is not allowed.",
            );
        }
        if token.is_delegated() {
            return refuse("Using a delegated token to create another token is not allowed.");
        }
        if !self.config.allow_rescope_scoped_token && *from != PayloadScope::Unscoped {
            return refuse("rescope a scoped token");
        }
        let expires = token.payload.expires_at;
        found.expires_at = Some(found.expires_at.map_or(expires, |known| known.min(expires)));
        found.parent_audit_id = token.payload.audit_ids.last().cloned();
        for method in &token.payload.methods {
            if !found.methods.contains(method) {
                found.methods.push(method.clone());
            }
        }
        found.user(&token.payload.user_id)
    }

    /// What the token will be for: what was asked for, else the default project, else nothing.
    fn scope(&self, user_id: &str, wanted: Wanted, found: &Found) -> Result<PayloadScope> {
        if let Some(access) = &found.access_token {
            return Ok(PayloadScope::OAuth {
                project_id: text(access, "project_id").into(),
                access_token_id: text(access, "id").into(),
            });
        }
        Ok(match wanted {
            Wanted::System => PayloadScope::System,
            Wanted::Unscoped => PayloadScope::Unscoped,
            Wanted::Domain(id) => PayloadScope::Domain(id),
            Wanted::Project(id) => PayloadScope::Project(id),
            Wanted::Trust(trust) => PayloadScope::Trust {
                project_id: text(&trust, "project_id").into(),
                trust_id: text(&trust, "id").into(),
            },
            Wanted::ApplicationCredential(credential) => PayloadScope::ApplicationCredential {
                project_id: text(&credential, "project_id").into(),
                application_credential_id: text(&credential, "id").into(),
            },
            Wanted::Nothing => self.read(|tx| {
                let user = users::get(tx, user_id, &self.config.security_compliance)?;
                let id = text(&user, "default_project_id");
                if id.is_empty() {
                    return Ok(PayloadScope::Unscoped);
                }
                let usable = match projects::get(tx, id) {
                    Ok(project) => projects::is_enabled(tx, &project)?,
                    Err(error) if error.is_not_found() => false,
                    Err(error) => return Err(error),
                };
                let target = assignments::Target::Project(id.into());
                if usable && !assignments::effective_roles(tx, user_id, &target, false)?.is_empty() {
                    return Ok(PayloadScope::Project(id.into()));
                }
                Ok(PayloadScope::Unscoped)
            })?,
        })
    }

    /// A user may have to show several methods at once (`multi_factor_auth_rules`).
    fn check_factors(&self, user_id: &str, methods: &[String]) -> Result<()> {
        let user = self.read(|tx| users::get(tx, user_id, &self.config.security_compliance))?;
        let options = &user["options"];
        if options["multi_factor_auth_enabled"] == Value::Bool(false) {
            return Ok(());
        }
        let supported = |rule: &Value| -> Vec<String> {
            let names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
            names.filter(|name| METHODS.contains(name)).map(Into::into).collect()
        };
        let rules: Vec<Vec<String>> = options["multi_factor_auth_rules"]
            .as_array()
            .into_iter()
            .flatten()
            .map(supported)
            .collect();
        // Rules that nobody could ever meet lock nobody out.
        let usable: Vec<&Vec<String>> = rules.iter().filter(|rule| !rule.is_empty()).collect();
        if usable.is_empty() || usable.iter().any(|rule| rule.iter().all(|name| methods.contains(name))) {
            return Ok(());
        }
        Err(Error::Rejected(format!(
            "Insufficient auth methods received for {user_id}. Auth Methods Provided: [{}].",
            methods.join(",")
        )))
    }

    /// A user's password, with what failed attempts lead to.
    pub(crate) fn check_login(&self, user_id: &str, password: &str) -> Result<(), Failure> {
        let rules = &self.config.security_compliance;
        let state = self.read(|tx| {
            let user = match users::get(tx, user_id, rules) {
                Ok(user) => user,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            };
            let password = users::passwords(tx, user_id, 1)?.pop();
            Ok(Some((user, password, users::failures(tx, user_id)?)))
        })?;
        let Some((user, stored, mut failures)) = state else {
            return Err(Failure::Refused);
        };
        let limit = rules.lockout_failure_attempts.filter(|limit| *limit > 0);
        if limit.is_some_and(|limit| failures.count >= limit)
            && !users::option(&user, "ignore_lockout_failure_attempts")
        {
            let until = failures.last.map(|last| last + rules.lockout_duration * 1_000_000);
            if rules.lockout_duration == 0 || until.is_some_and(|until| until > now()) {
                return Err(Failure::Error(Error::Unauthorized(format!(
                    "The account is locked for user: {user_id}."
                ))));
            }
            self.db.write(|tx| users::forget_failures(tx, user_id))?;
            failures.count = 0;
        }
        let hash = stored.as_ref().and_then(|stored| stored.hash.as_deref());
        let right = match hash {
            Some(hash) => self.passwords.verify(password, hash)?,
            None => false,
        };
        if !right {
            self.db.write(|tx| users::count_failure(tx, user_id))?;
            return Err(Failure::Refused);
        }
        if !is_true(&user, "enabled") {
            return Err(Failure::Error(Error::Rejected(format!(
                "The account is disabled for user: {user_id}."
            ))));
        }
        let expired = stored
            .and_then(|stored| stored.expires_at)
            .is_some_and(|at| now() >= at);
        if expired && !users::option(&user, "ignore_password_expiry") {
            return Err(Failure::Expired);
        }
        if failures.count > 0 {
            self.db.write(|tx| users::forget_failures(tx, user_id))?;
        }
        if rules.disable_user_account_days_inactive.is_some() {
            self.db.write(|tx| users::touch(tx, user_id))?;
        }
        Ok(())
    }
}
