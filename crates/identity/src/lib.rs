//! OpenStack Identity (Keystone's API v3): who may do what.
//!
//! `api/` has the routes, `store/` the SQL, `model/` the rules between them; `tokens/` makes and checks tokens, `authentication.rs` finds
//! out who asks for one. Objects are maps, because Identity keeps whatever attributes clients send.

mod access_rules;
pub mod api;
mod app;
mod authentication;
pub mod bootstrap;
pub mod config;
mod error;
mod model;
mod oauth1;
mod passwords;
pub mod store;
pub mod tokens;

pub use bootstrap::Bootstrap;
pub use config::Config;
pub use error::{Error, Result};

use ::api::{AuthFailure, Authenticator, Context, Method, Service, ServiceConfig};
use database::{Database, Engine, Feed, Migration, Tx, params};
use std::sync::Arc;
use std::time::Duration;

/// The schema of Identity's tables.
pub const MIGRATIONS: &[Migration] = &[Migration {
    service: "identity",
    version: 1,
    name: "identity",
    sql: include_str!("../migrations/0001_identity.sql"),
}];

/// The Identity service.
pub struct Identity {
    db: Database,
    config: Config,
    policy: policy::Enforcer,
    passwords: passwords::Passwords,
    tokens: tokens::Tokens,
    credential_keys: tokens::keys::Keys,
}

impl Identity {
    /// The service over a migrated database, with the operator's `policy.yaml` over the defaults.
    ///
    /// # Errors
    /// Where a key folder cannot be read or made, or the policy file cannot be understood.
    pub fn new(db: Database, config: Config, policy_overrides: Option<&str>) -> Result<Arc<Identity>> {
        let policy =
            policy::Enforcer::new(&[policy::defaults::identity::RULES], policy_overrides).map_err(Error::internal)?;
        let identity = Arc::new(Identity {
            passwords: passwords::Passwords::new(&config),
            tokens: tokens::Tokens::open(&config)?,
            credential_keys: tokens::keys::Keys::open(&config.credential_key_repository)?,
            policy,
            config,
            db,
        });
        if identity.db.engine() == Engine::Postgres {
            follow(&identity);
        }
        Ok(identity)
    }

    /// The routes and their state, ready to be mounted.
    pub fn service(self: &Arc<Self>) -> Service {
        let errors = Arc::new(::api::formats::Identity);
        Service::new(
            ServiceConfig::new("identity", errors),
            self.clone(),
            api::routes(),
            self.clone(),
        )
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A transaction that changes something: whoever was let in before is looked at again.
    fn write<T>(&self, mut f: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let shared = self.db.engine() == Engine::Postgres;
        let value = self.db.write(|tx| {
            let value = f(tx)?;
            if shared {
                tx.changed("identity", "authorization");
            }
            Ok::<_, Error>(value)
        })?;
        self.tokens.invalidate();
        Ok(value)
    }

    fn read<T>(&self, f: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.db.read(f)
    }
}

/// Over a shared database another controller may change what this one remembers.
fn follow(identity: &Arc<Identity>) {
    let follower = Arc::downgrade(identity);
    let spawned = std::thread::Builder::new()
        .name("identity-changes".into())
        .spawn(move || {
            let mut seen = None;
            while let Some(identity) = follower.upgrade() {
                let news = identity.db.read(|tx| match seen {
                    None => Ok::<_, Error>((Feed::latest(tx)?, true)),
                    Some(from) => {
                        let changes = Feed::since(tx, from)?;
                        let mine = changes
                            .as_ref()
                            .is_none_or(|all| all.iter().any(|c| c.topic == "identity"));
                        let last = changes.and_then(|all| all.last().map(|c| c.sequence));
                        Ok((last.map_or_else(|| Feed::latest(tx), Ok)?, mine))
                    }
                });
                match news {
                    Ok((at, mine)) => {
                        if mine {
                            identity.tokens.invalidate();
                        }
                        seen = Some(at);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "changes of Identity cannot be followed");
                        identity.tokens.invalidate();
                    }
                }
                drop(identity);
                std::thread::sleep(Duration::from_millis(250));
            }
        });
    if let Err(error) = spawned {
        tracing::error!(%error, "changes of Identity cannot be followed");
    }
}

impl Authenticator for Identity {
    fn authenticate(&self, token: &str) -> Result<Arc<Context>, AuthFailure> {
        match self.tokens.validate(&self.db, &self.config, token, 0) {
            Ok(token) if token.payload.methods.iter().any(|m| m == "ec2credential") => Err(AuthFailure::Invalid),
            Ok(token) => Ok(token.context.clone()),
            Err(error @ (Error::Database(_) | Error::Internal(_))) => Err(AuthFailure::Unavailable(Box::new(error))),
            Err(_) => Err(AuthFailure::Invalid),
        }
    }

    fn admits(&self, context: &Context, service: &str, method: &Method, path: &str) -> bool {
        // Only tokens of application credentials are restricted.
        if !context.methods.iter().any(|m| m == "application_credential") {
            return true;
        }
        self.tokens
            .validate(&self.db, &self.config, &context.token, 0)
            .is_ok_and(|token| {
                let rules = token
                    .application_credential
                    .as_ref()
                    .and_then(|credential| credential.get("access_rules"));
                access_rules::admit(rules, service, method.as_str(), path)
            })
    }
}

impl ::api::services::Identities for Identity {
    fn project_exists(&self, tx: &mut Tx<'_>, id: &str) -> Result<bool, ::api::Error> {
        Ok(tx
            .scalar::<i64>("SELECT 1 FROM identity_projects WHERE id = ?1", &params![id])?
            .is_some())
    }

    fn user_exists(&self, tx: &mut Tx<'_>, id: &str) -> Result<bool, ::api::Error> {
        Ok(tx
            .scalar::<i64>("SELECT 1 FROM identity_users WHERE id = ?1", &params![id])?
            .is_some())
    }
}
