//! The Image service: images, their data, and who may see them.
//!
//! Records are in the database, data in a folder ([`data::Folder`]). Data is received in pieces, hashed and inspected on the way, and belongs to an
//! image from the transaction on that makes it active.

mod api;
pub mod data;
mod error;
mod facts;
mod import;
pub mod model;
pub mod store;

use std::path::PathBuf;
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
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        service: "image",
        version: 1,
        name: "initial",
        sql: include_str!("schema.sql"),
    },
    Migration {
        service: "image",
        version: 2,
        name: "metadefs",
        sql: include_str!("metadefs.sql"),
    },
    Migration {
        service: "image",
        version: 3,
        name: "tasks",
        sql: include_str!("tasks.sql"),
    },
];

/// Types of resources that every deployment has metadata definitions for.
const RESOURCE_TYPES: [&str; 5] = [
    "OS::Glance::Image",
    "OS::Cinder::Volume",
    "OS::Nova::Flavor",
    "OS::Nova::Aggregate",
    "OS::Nova::Server",
];

/// What can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the data is.
    pub folder: PathBuf,
    /// Bytes of an image's data at most.
    pub size_cap: u64,
    /// Images a project may have; 0 for as many as it likes.
    pub image_count_total: u64,
    /// MiB of data a project may have in all; 0 for as much as it likes.
    pub image_size_total: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            folder: PathBuf::from("images"),
            size_cap: 1 << 40,
            image_count_total: 0,
            image_size_total: 0,
        }
    }
}

/// The service as others know it: by its type.
pub type Image = Images;

/// The service's state.
pub struct Images {
    pub(crate) database: Database,
    pub(crate) policy: Enforcer,
    pub(crate) folder: Folder,
    pub(crate) limits: Limits,
    pub(crate) quota: Quota,
}

impl Images {
    /// The service over a migrated database. `policy` is the operator's `policy.yaml`. Uploads that an earlier run did not finish are undone.
    ///
    /// # Errors
    /// When the policy makes no sense, or the folder or the database cannot be used.
    pub fn new(database: Database, config: Config, policy: Option<&str>) -> Result<Arc<Images>, StartError> {
        let policy = Enforcer::new(&[policy::defaults::image::RULES], policy)?;
        let folder = Folder::open(&config.folder).map_err(Error::Data)?;
        database.write(|tx| {
            for id in images::in_state(tx, Status::Saving)? {
                if let Some(mut image) = images::find(tx, &id)? {
                    image.status = Status::Queued;
                    images::update(tx, &mut image, Status::Saving)?;
                }
            }
            for name in RESOURCE_TYPES {
                store::metadefs::ensure_resource_type(tx, name)?;
            }
            Ok::<_, Error>(())
        })?;
        let limits = Limits {
            image_size: config.size_cap,
            ..Limits::default()
        };
        let quota = Quota {
            images: config.image_count_total,
            mebibytes: config.image_size_total,
        };
        let images = Arc::new(Images {
            database,
            policy,
            folder,
            limits,
            quota,
        });
        images.sweep()?;
        sweep_regularly(&images);
        import::resume(&images)?;
        Ok(images)
    }

    /// Removes data whose image is gone. Data is written before its image becomes active and removed after its image is deleted, so whatever is
    /// interrupted in between leaves data too much, never too little.
    ///
    /// # Errors
    /// When the folder or the database cannot be read, or the data not be removed.
    pub fn sweep(&self) -> Result<()> {
        for id in self.folder.ids().map_err(Error::Data)? {
            if self.database.read(|tx| images::find(tx, &id))?.is_none() {
                self.folder.remove(&id).map_err(Error::Data)?;
            }
        }
        Ok(())
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

/// How often data without an image is looked for.
const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(300);

/// Sweeps as long as the service lives. Outside of a tokio runtime nothing happens.
fn sweep_regularly(images: &Arc<Images>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let images = Arc::downgrade(images);
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let Some(images) = images.upgrade() else { return };
            if let Err(error) = database::blocking(|| images.sweep()) {
                tracing::warn!(%error, "data of deleted images could not be removed");
            }
        }
    });
}

/// What a project may have; 0 is no limit.
pub(crate) struct Quota {
    pub(crate) images: u64,
    pub(crate) mebibytes: u64,
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
