//! The Image service: images, their data, and who may see them.
//!
//! Records are in the database, data in a folder ([`data::Folder`]). Data is received in pieces, hashed and inspected on the way, and belongs to an
//! image from the transaction on that makes it active.

mod api;
pub mod data;
mod error;
mod facts;
pub mod model;
pub mod store;

use std::path::Path;
use std::sync::Arc;

use ::api::{Authenticator, Context, Request, Service, ServiceConfig, formats};
use database::{Database, Migration};
use policy::Enforcer;

use crate::data::Folder;
use crate::model::Limits;
use crate::model::image::Status;
use crate::store::images::{self, Viewer};

pub use error::{Error, Result};

/// The schema, for [`Database::migrate`].
pub const MIGRATIONS: &[Migration] = &[Migration {
    service: "image",
    version: 1,
    name: "initial",
    sql: include_str!("schema.sql"),
}];

/// The service's state.
pub struct Images {
    pub(crate) database: Database,
    pub(crate) policy: Enforcer,
    pub(crate) folder: Folder,
    pub(crate) limits: Limits,
}

impl Images {
    /// The service over a migrated database, with its data in `folder`. `policy` is the operator's `policy.yaml`. Uploads that an earlier run
    /// did not finish are undone.
    ///
    /// # Errors
    /// When the policy makes no sense, or the folder or the database cannot be used.
    pub fn new(database: Database, folder: &Path, policy: Option<&str>) -> Result<Images, StartError> {
        let policy = Enforcer::new(&[policy::defaults::image::RULES], policy)?;
        let folder = Folder::open(folder).map_err(Error::Data)?;
        database.write(|tx| {
            for id in images::in_state(tx, Status::Saving)? {
                if let Some(mut image) = images::find(tx, &id)? {
                    image.status = Status::Queued;
                    images::update(tx, &mut image, Status::Saving)?;
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok(Images {
            database,
            policy,
            folder,
            limits: Limits::default(),
        })
    }

    /// The HTTP API. `identity_url` is what a 401 refers to.
    pub fn service(self: &Arc<Self>, authenticator: Arc<dyn Authenticator>, identity_url: &str) -> Service {
        let errors = Arc::new(formats::Image {
            identity_url: identity_url.to_owned(),
        });
        let config = ServiceConfig {
            rewrite: Some(api::rewrite),
            ..ServiceConfig::new("image", errors)
        };
        Service::new(config, self.clone(), api::routes(), authenticator)
    }

    /// What the policy makes of a caller.
    pub(crate) fn caller<'a>(&self, request: &'a Request) -> Caller<'a> {
        self.caller_of(request.context())
    }

    pub(crate) fn caller_of<'a>(&self, context: &'a Context) -> Caller<'a> {
        let admin = self.policy.allows("context_is_admin", &(), &context.credentials);
        Caller {
            context,
            viewer: Viewer {
                project: context.project_id(),
                admin,
            },
        }
    }
}

/// Who asks, as this service sees it.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) context: &'a Context,
    pub(crate) viewer: Viewer<'a>,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator's policy.
    #[error(transparent)]
    Policy(#[from] policy::PolicyError),
    /// The folder or the database.
    #[error(transparent)]
    Storage(#[from] Error),
}
