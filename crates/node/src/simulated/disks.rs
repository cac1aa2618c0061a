//! Disks that are names in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hypervisor::{Disk, DiskBus};
use node_protocol::objects::Server;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::disks::{self, DiskError, Progress};

/// Keeps in memory what others keep on disk. Hand the same one to the next node, and it is a restart.
#[derive(Default)]
pub struct Disks {
    guests: Mutex<HashMap<Uuid, Kept>>,
    /// Room there is said to be, in GiB.
    space: u64,
}

#[derive(Default, Clone)]
struct Kept {
    progress: Progress,
    config_drive: BTreeMap<String, Vec<u8>>,
}

impl Disks {
    /// With room for so many GiB.
    pub fn new(space: u64) -> Arc<Self> {
        Arc::new(Self {
            guests: Mutex::default(),
            space,
        })
    }

    /// The files on a guest's config drive.
    pub fn files(&self, id: Uuid) -> Option<BTreeMap<String, Vec<u8>>> {
        self.guests.lock().get(&id).map(|kept| kept.config_drive.clone())
    }
}

fn disk(file: &str, format: &str, read_only: bool) -> Disk {
    Disk {
        file: file.into(),
        format: format.into(),
        bus: DiskBus::Virtio,
        read_only,
        backing: None,
    }
}

impl disks::Disks for Disks {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Uuid>, DiskError>> {
        Box::pin(async move { Ok(self.guests.lock().keys().copied().collect()) })
    }

    fn progress(&self, id: Uuid) -> BoxFuture<'_, Result<Progress, DiskError>> {
        Box::pin(async move {
            Ok(self
                .guests
                .lock()
                .get(&id)
                .map(|kept| kept.progress.clone())
                .unwrap_or_default())
        })
    }

    fn set_progress<'a>(&'a self, id: Uuid, progress: &'a Progress) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            self.guests.lock().entry(id).or_default().progress = progress.clone();
            Ok(())
        })
    }

    fn ensure<'a>(&'a self, server: &'a Server) -> BoxFuture<'a, Result<Vec<Disk>, DiskError>> {
        Box::pin(async move {
            self.guests.lock().entry(server.id).or_default();
            let mut disks = vec![disk("disk", "qcow2", false)];
            if server.flavor.ephemeral_gib > 0 {
                disks.push(disk("disk.eph0", "raw", false));
            }
            if server.flavor.swap_mib > 0 {
                disks.push(disk("disk.swap", "raw", false));
            }
            Ok(disks)
        })
    }

    fn config_drive<'a>(
        &'a self,
        server: &'a Server,
        files: BTreeMap<String, Vec<u8>>,
    ) -> BoxFuture<'a, Result<Disk, DiskError>> {
        Box::pin(async move {
            self.guests.lock().entry(server.id).or_default().config_drive = files;
            Ok(disk("disk.config", "raw", true))
        })
    }

    fn remove_root(&self, _id: Uuid) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, id: Uuid) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            self.guests.lock().remove(&id);
            Ok(())
        })
    }

    fn space(&self) -> (u64, u64) {
        (self.space, self.space)
    }

    fn maintain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
