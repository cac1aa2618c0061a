//! Networking: networks, subnets, ports, routers, floating IPs, security groups and what belongs to them, as the Network API
//! v2.0 of OpenStack 2026.2 has them.
//!
//! Every resource is a [`Resource`](model::attribute::Resource): a table of attributes (who may set what, defaults, conversions,
//! checks, columns) and a few functions for what is its own. `api::controller` serves all of them, `store::item` reads and writes them.
//! Everything an operation does is in one transaction of the database: quota, segment, addresses, rows and the change feed.

mod api_prelude {
    pub use crate::caller::Cx;
    pub use crate::model::attribute::{ADMIN_STATE, Attribute, Body, ID, Initial, Kind, NAME, PROJECT, Resource, Sight, TENANT, a};
    pub use crate::model::validate::{self as check, Check};
    pub use crate::model::{convert, net, python::show};
    pub use crate::store::item::{self, Item};
    pub use crate::{Error, Result};
    pub use database::{Select, Value as Sql, params};
    pub use serde_json::{Map, Value, json};
}

#[path = "api/mod.rs"]
mod rest;
mod caller;
mod config;
mod error;
mod ipam;
mod model;
mod neighbours;
mod nodes;
mod store;
mod topology;

pub use caller::Caller;
pub use config::{Config, SegmentRange, VlanRange};
pub use error::{Error, Result};
pub use neighbours::bound_ports;

use ::api::{Authenticator, Context, Request, Routes, Service, ServiceConfig};
use caller::Cx;
use database::{Database, Migration, Tx};
use std::sync::Arc;

/// The schema.
pub const MIGRATIONS: &[Migration] = &[
        Migration { service: "network", version: 1, name: "network", sql: include_str!("../migrations/0001_network.sql") },
        Migration { service: "network", version: 2, name: "services", sql: include_str!("../migrations/0002_services.sql") },
        Migration { service: "network", version: 3, name: "more services", sql: include_str!("../migrations/0003_services.sql") },
];

/// The Network service.
pub struct Network {
    db: Database,
    policy: policy::Enforcer,
    config: Config,
}

impl Network {
    /// The service over a database whose migrations have run. Configured segment ranges are brought into it.
    ///
    /// # Errors
    /// What the database says.
    pub fn new(db: Database, policy: policy::Enforcer, config: Config) -> Result<Network> {
        let network = Network { db, policy, config };
        network.write_as(&Arc::new(Context::internal()), |cx| {
            store::segments::configure(cx)?;
            rest::security_groups::ensure_template(cx)
        })?;
        Ok(network)
    }

    /// The routes of the API.
    pub fn routes() -> Routes<Network> {
        rest::routes()
    }

    /// The service as the server mounts it. `errors` is Networking's form of errors.
    pub fn service(self: Arc<Self>, errors: Arc<dyn ::api::ErrorFormat>, authenticator: Arc<dyn Authenticator>) -> Service {
        let mut config = ServiceConfig::new("network", errors);
        // A security group or a bulk create of ports can be long.
        config.max_body = 4 * 1024 * 1024;
        Service::new(config, self, Network::routes(), authenticator)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.db
    }

    fn read<T>(&self, request: &Request, f: impl FnOnce(&mut Cx<'_, '_>) -> Result<T>) -> Result<T> {
        let caller = Caller::new(request.context().clone());
        self.db.read(|tx| f(&mut Cx { net: self, tx, caller }))
    }

    fn write<T>(&self, request: &Request, f: impl FnMut(&mut Cx<'_, '_>) -> Result<T>) -> Result<T> {
        self.write_as(request.context(), f)
    }

    fn write_as<T>(&self, context: &Arc<Context>, mut f: impl FnMut(&mut Cx<'_, '_>) -> Result<T>) -> Result<T> {
        self.db.write(|tx| f(&mut Cx { net: self, tx, caller: Caller::new(context.clone()) }))
    }

    /// What an operation needs, in a transaction of another service.
    fn within<'a, 't>(&'a self, tx: &'a mut Tx<'t>, context: &Arc<Context>) -> Cx<'a, 't> {
        Cx { net: self, tx, caller: Caller::new(context.clone()) }
    }
}
