//! Guests' disks, and what is kept of how far each guest is.

mod local;

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use hypervisor::Disk;
use node_protocol::link::LinkError;
use node_protocol::objects::Server;
use node_protocol::reports::{Fault, Reached};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use local::LocalDisks;

/// What goes wrong with disks.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DiskError {
    /// The controller cannot be reached: nothing is wrong with the server, and it is tried again.
    #[error("image {image} cannot be fetched now")]
    Unreachable {
        image: Uuid,
        #[source]
        source: LinkError,
    },
    #[error("image {image} cannot be used: {source}")]
    Image {
        image: Uuid,
        source: disk_image::cache::Error,
    },
    #[error("the image says no checksum, so it cannot be told whether it arrived whole")]
    NoChecksum,
    #[error("Flavor's disk is too small for requested image. Flavor disk is {flavor} bytes, image is {image} bytes.")]
    FlavorTooSmall { flavor: u64, image: u64 },
    #[error("a disk cannot be made: {source}")]
    Overlay {
        #[from]
        source: disk_image::overlay::Error,
    },
    #[error("the config drive cannot be made: {source}")]
    ConfigDrive {
        #[from]
        source: disk_image::config_drive::Error,
    },
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
    #[error("{program} failed: {reason}")]
    Program { program: &'static str, reason: String },
    #[error("{what} is not possible on this node yet")]
    Unsupported { what: &'static str },
}

impl DiskError {
    fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// How far a guest is; written down after each step, so that a node that was killed goes on from there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// What has been brought about.
    pub reached: Reached,
    /// The guest was ended for these wishes and only has to be started.
    pub ended_for: Option<Reached>,
    /// Its root disk is that of this rebuild.
    pub disk_of: Option<u64>,
    /// When it was first started, seconds of the epoch.
    pub launched_at: Option<i64>,
    /// A failure, and the wishes that failed: they are not tried again.
    pub failed: Option<(Reached, Fault)>,
}

/// Makes and removes guests' disks. Every call can be made twice.
pub trait Disks: Send + Sync + 'static {
    /// Guests of which anything is kept.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Uuid>, DiskError>>;
    /// How far a guest is; nothing is known of a new one.
    fn progress(&self, id: Uuid) -> BoxFuture<'_, Result<Progress, DiskError>>;
    /// Writes down how far it is.
    fn set_progress<'a>(&'a self, id: Uuid, progress: &'a Progress) -> BoxFuture<'a, Result<(), DiskError>>;
    /// Sees to it that all disks of a server are there, and says which.
    fn ensure<'a>(&'a self, server: &'a Server) -> BoxFuture<'a, Result<Vec<Disk>, DiskError>>;
    /// Writes the config drive anew with these files, and says which disk it is.
    fn config_drive<'a>(
        &'a self,
        server: &'a Server,
        files: BTreeMap<String, Vec<u8>>,
    ) -> BoxFuture<'a, Result<Disk, DiskError>>;
    /// Removes the root disk, before a rebuild.
    fn remove_root(&self, id: Uuid) -> BoxFuture<'_, Result<(), DiskError>>;
    /// Removes everything of a guest.
    fn remove(&self, id: Uuid) -> BoxFuture<'_, Result<(), DiskError>>;
    /// Room for guests' disks: all of it and what is free, in GiB.
    fn space(&self) -> (u64, u64);
    /// Work that comes up now and then (making room among cached images).
    fn maintain(&self) -> BoxFuture<'_, ()>;
}
