//! The Placement service: what providers have, who holds how much of it, and where something would still fit.
//!
//! Capacity is kept by the database: a claim is one `UPDATE` of the inventory's `used` column whose condition is that the amount fits.
//! Compute claims within its own transaction, through [`Placement`]'s [`api::services::Capacity`].

mod api;
mod capacity;
mod error;
pub mod model;
pub mod store;

use std::sync::Arc;

use ::api::{Authenticator, Service, ServiceConfig, formats};
use database::{Database, Migration};
use policy::Enforcer;

pub use error::{Error, Result};

/// The schema, for [`Database::migrate`].
pub const MIGRATIONS: &[Migration] = &[Migration {
    service: "placement",
    version: 1,
    name: "initial",
    sql: include_str!("schema.sql"),
}];

/// The service's state.
pub struct Placement {
    pub(crate) database: Database,
    pub(crate) policy: Enforcer,
}

impl Placement {
    /// The service over a migrated database. `policy` is the operator's `policy.yaml`. Adds the standard traits and resource classes that
    /// are missing.
    ///
    /// # Errors
    /// When the policy makes no sense or the database fails.
    pub fn new(database: Database, policy: Option<&str>) -> Result<Arc<Placement>, StartError> {
        let policy = Enforcer::new(&[policy::defaults::placement::RULES], policy)?;
        database.write(|tx| {
            store::resource_classes::sync(tx)?;
            store::traits::sync(tx)
        })?;
        Ok(Arc::new(Placement { database, policy }))
    }

    /// The HTTP API. `identity_url` is what a 401 refers to.
    pub fn service(self: &Arc<Self>, authenticator: Arc<dyn Authenticator>, identity_url: &str) -> Service {
        let errors = Arc::new(formats::Placement {
            identity_url: identity_url.to_owned(),
        });
        let config = ServiceConfig {
            microversions: Some(api::MICROVERSIONS),
            ..ServiceConfig::new("placement", errors)
        };
        Service::new(config, self.clone(), api::routes(), authenticator)
    }
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator's policy.
    #[error(transparent)]
    Policy(#[from] policy::PolicyError),
    /// The storage.
    #[error(transparent)]
    Storage(#[from] Error),
}
