//! The Compute service: Nova's API 2.1 to 2.104.
//!
//! A call is one transaction that validates, takes quota, places the server ([`scheduler`]), takes its ports, and writes what should be; it
//! is answered as soon as that is committed. Nodes read what should be through [`nodes::Desired`] and say what is through
//! [`nodes::Sink`], which is where servers become ACTIVE or ERROR.

mod api;
mod call;
mod config;
pub mod model;
pub mod nodes;
pub mod scheduler;
pub mod store;
mod validation;

use std::sync::{Arc, OnceLock};

use ::api::services::{Capacity, Identities, Images, Ports};
use ::api::{Authenticator, Error, Microversions, Service, ServiceConfig, Version};
use database::{Database, Migration};
use node_protocol::controller::NodeServer;
use policy::Enforcer;

pub use api::consoles::ConsoleTarget;
pub use config::Config;

/// The schema of this service.
pub const MIGRATIONS: &[Migration] = &[Migration {
    service: "compute",
    version: 1,
    name: "compute",
    sql: include_str!("../migrations/0001_compute.sql"),
}];

/// The newest microversion (2026.2).
pub const NEWEST_VERSION: Version = Version(2, 104);

/// What Compute needs of the other services.
#[derive(Clone)]
pub struct Neighbours {
    /// Images.
    pub images: Arc<dyn Images>,
    /// Ports and addresses.
    pub ports: Arc<dyn Ports>,
    /// Room on hosts.
    pub capacity: Arc<dyn Capacity>,
    /// Projects and users.
    pub identities: Arc<dyn Identities>,
}

/// The service.
pub struct Compute {
    pub(crate) db: Database,
    pub(crate) policy: Enforcer,
    pub(crate) neighbours: Neighbours,
    pub(crate) config: Config,
    pub(crate) schemas: validation::Schemas,
    nodes: OnceLock<NodeServer>,
    network: OnceLock<Service>,
}

impl Compute {
    /// The service over a database that has been migrated.
    pub fn new(db: Database, policy: Enforcer, neighbours: Neighbours, config: Config) -> Compute {
        Compute {
            db,
            policy,
            neighbours,
            config,
            schemas: validation::Schemas::load(),
            nodes: OnceLock::new(),
            network: OnceLock::new(),
        }
    }

    /// Says through whom nodes are asked (console logs, diagnostics). Until then such questions are answered as if the node
    /// were away.
    pub fn connect_nodes(&self, nodes: NodeServer) {
        let _ = self.nodes.set(nodes);
    }

    pub(crate) fn nodes(&self) -> Option<&NodeServer> {
        self.nodes.get()
    }

    /// The operations of the API.
    pub fn routes() -> ::api::Routes<Compute> {
        api::routes()
    }

    /// The service as the server mounts it.
    pub fn service(self: &Arc<Self>, authenticator: Arc<dyn Authenticator>, identity_url: &str) -> Service {
        let errors = Arc::new(::api::formats::Compute {
            identity_url: identity_url.to_owned(),
        });
        let mut config = ServiceConfig::new("compute", errors);
        config.microversions = Some(Microversions {
            service: "compute",
            legacy_header: Some("x-openstack-nova-api-version"),
            min: Version(2, 1),
            max: NEWEST_VERSION,
            malformed: |text| {
                Error::bad_request(format!(
                    "API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum."
                ))
            },
            unsupported: |version, offered| {
                Error::not_acceptable(format!(
                    "Version {version} is not supported by the API. Minimum is {} and maximum is {}.",
                    offered.min, offered.max
                ))
            },
        });
        config.request_id_header = Some("x-compute-request-id");
        config.rewrite = Some(api::rewrite);
        Service::new(config, self.clone(), Self::routes(), authenticator)
    }
}
