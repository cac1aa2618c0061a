//! Disks as files in the guests' folders, over a cache of images.
//!
//! A guest's folder gets a hard link to the cached image, so its QEMU, in a user of its own, needs no way into the cache and can reach
//! no other image. An image is in use as long as it has such links; when the room is needed the others go, the longest unused first.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk_image::cache::{Cache, CachedImage, Checksum, Request, Sink};
use disk_image::{config_drive, overlay};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use hypervisor::{Backing, Disk, DiskBus};
use node_protocol::link::{LinkError, Transport};
use node_protocol::objects::{ImageRef, Server};
use uuid::Uuid;

use super::{DiskError, Disks, Progress};

const GIB: u64 = 1 << 30;
const ROOT: &str = "disk";
const BASE: &str = "base";
const CONFIG: &str = "disk.config";
const EPHEMERAL: &str = "disk.eph0";
const SWAP: &str = "disk.swap";
const PROGRESS: &str = "node.json";

/// Disks in local files.
pub struct LocalDisks {
    node: String,
    instances: PathBuf,
    cache: Cache,
    cache_folder: PathBuf,
    cache_limit: u64,
    transport: Arc<dyn Transport>,
}

impl LocalDisks {
    /// Disks under `instances`, images under `images`, of which at most `cache_limit` bytes are kept when no guest needs them.
    pub fn open(
        node: String,
        instances: PathBuf,
        images: PathBuf,
        cache_limit: u64,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, DiskError> {
        for folder in [&instances, &images] {
            fs::create_dir_all(folder).map_err(DiskError::io(format!("making {}", folder.display())))?;
        }
        // What is in it may be read by anybody who reaches it, by way of the links; the cache itself is reached by nobody.
        fs::set_permissions(&images, fs::Permissions::from_mode(0o700))
            .map_err(DiskError::io("protecting the image cache"))?;
        let cache = Cache::open(&images).map_err(|source| DiskError::Io {
            doing: "opening the image cache".into(),
            source: io::Error::other(source),
        })?;
        Ok(Self {
            node,
            instances,
            cache,
            cache_folder: images,
            cache_limit,
            transport,
        })
    }

    fn folder(&self, id: Uuid) -> PathBuf {
        self.instances.join(id.to_string())
    }

    async fn image(&self, image: &ImageRef) -> Result<CachedImage, DiskError> {
        let request = Request {
            image: image.id.to_string(),
            checksum: checksum(image).ok_or(DiskError::NoChecksum)?,
            disk_format: image.disk_format.clone(),
        };
        let fetch = |sink| self.fetch(image.id, sink);
        self.cache.get(&request, fetch).await.map_err(|error| match error {
            disk_image::cache::Error::Fetch { image: name, source } => match source.downcast::<LinkError>() {
                Ok(source) if is_passing(&source) => DiskError::Unreachable {
                    image: image.id,
                    source: *source,
                },
                Ok(source) => DiskError::Image {
                    image: image.id,
                    source: disk_image::cache::Error::Fetch { image: name, source },
                },
                Err(source) => DiskError::Image {
                    image: image.id,
                    source: disk_image::cache::Error::Fetch { image: name, source },
                },
            },
            source => DiskError::Image {
                image: image.id,
                source,
            },
        })
    }

    async fn fetch(&self, id: Uuid, mut sink: Sink) -> Result<Sink, Box<dyn std::error::Error + Send + Sync>> {
        let mut data = self.transport.image(&self.node, id).await?;
        while let Some(piece) = data.stream.next().await {
            let piece = piece.map_err(|source| LinkError::Io { source })?;
            sink.write(&piece).await?;
        }
        Ok(sink)
    }

    async fn ensure_root(&self, server: &Server, folder: &Path) -> Result<Disk, DiskError> {
        let image = server.image.as_ref().ok_or(DiskError::Unsupported {
            what: "booting from a volume",
        })?;
        let base = folder.join(BASE);
        let root = folder.join(ROOT);
        let format_file = folder.join("base.format");
        let ready = root.exists() && base.exists();
        let format = match fs::read_to_string(&format_file) {
            Ok(format) if ready => format,
            _ => {
                let cached = self.image(image).await?;
                link(cached.path(), &base).map_err(DiskError::io("linking the image into the guest's folder"))?;
                fs::write(&format_file, cached.format()).map_err(DiskError::io("writing to the guest's folder"))?;
                cached.format().to_owned()
            }
        };
        if !ready {
            let size = (server.flavor.disk_gib > 0).then(|| server.flavor.disk_gib * GIB);
            overlay::create_overlay(&base, &format, &root, size)
                .await
                .map_err(|error| match error {
                    overlay::Error::TooSmall { disk, image } => DiskError::FlavorTooSmall { flavor: disk, image },
                    source => DiskError::Overlay { source },
                })?;
        }
        let bus = match image.properties.get("hw_disk_bus").map(String::as_str) {
            Some("scsi") => DiskBus::Scsi,
            Some("ide" | "sata") => DiskBus::Ide,
            _ => DiskBus::Virtio,
        };
        let backing = Some(Backing {
            file: BASE.into(),
            format,
        });
        Ok(Disk {
            file: ROOT.into(),
            format: "qcow2".into(),
            bus,
            read_only: false,
            backing,
        })
    }
}

/// Whether a later try may go better without anybody's doing.
fn is_passing(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::Connect { .. }
            | LinkError::Io { .. }
            | LinkError::Closed
            | LinkError::Silent { .. }
            | LinkError::Http { .. }
    )
}

fn checksum(image: &ImageRef) -> Option<Checksum> {
    let hash = image.os_hash_value.clone();
    match (image.os_hash_algo.as_deref(), hash, image.checksum.clone()) {
        (Some("sha512"), Some(value), _) => Some(Checksum::Sha512(value)),
        (Some("sha256"), Some(value), _) => Some(Checksum::Sha256(value)),
        (_, _, Some(value)) => Some(Checksum::Md5(value)),
        _ => None,
    }
}

/// Puts the image into the guest's folder: as a link, or copied where the folders are on two file systems.
fn link(cached: &Path, base: &Path) -> io::Result<()> {
    match fs::remove_file(base) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::set_permissions(cached, fs::Permissions::from_mode(0o444))?;
    match fs::hard_link(cached, base) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let partial = base.with_extension("part");
            fs::copy(cached, &partial)?;
            fs::rename(partial, base)
        }
        result => result,
    }
}

fn extra(file: &str) -> Disk {
    Disk {
        file: file.into(),
        format: "raw".into(),
        bus: DiskBus::Virtio,
        read_only: false,
        backing: None,
    }
}

/// A raw disk prepared by one of the system's programs; put in place when it is whole.
async fn make_raw(path: PathBuf, size: u64, program: &'static str, arguments: &[&str]) -> Result<(), DiskError> {
    if path.exists() {
        return Ok(());
    }
    let partial = path.with_extension("part");
    let make = || fs::File::create(&partial)?.set_len(size);
    make().map_err(DiskError::io(format!("making {}", path.display())))?;
    let run = tokio::process::Command::new(program)
        .args(arguments)
        .arg(&partial)
        .kill_on_drop(true)
        .output()
        .await;
    let output = run.map_err(|error| DiskError::Program {
        program,
        reason: error.to_string(),
    })?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(DiskError::Program { program, reason });
    }
    fs::rename(&partial, &path).map_err(DiskError::io(format!("putting {} in place", path.display())))
}

fn remove_files(folder: &Path, names: &[&str]) -> Result<(), DiskError> {
    for name in names {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DiskError::io(format!("removing {name} of a guest"))(error));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Disks for LocalDisks {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Uuid>, DiskError>> {
        Box::pin(async move {
            let entries = fs::read_dir(&self.instances).map_err(DiskError::io("reading the guests' folder"))?;
            let names = entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok());
            Ok(names.filter_map(|name| Uuid::parse_str(&name).ok()).collect())
        })
    }

    fn progress(&self, id: Uuid) -> BoxFuture<'_, Result<Progress, DiskError>> {
        Box::pin(async move {
            match fs::read(self.folder(id).join(PROGRESS)) {
                Ok(text) => serde_json::from_slice(&text).map_err(|error| DiskError::Io {
                    doing: format!("reading {PROGRESS} of {id}"),
                    source: error.into(),
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Progress::default()),
                Err(error) => Err(DiskError::io(format!("reading {PROGRESS} of {id}"))(error)),
            }
        })
    }

    fn set_progress<'a>(&'a self, id: Uuid, progress: &'a Progress) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            let folder = self.folder(id);
            let write = || -> io::Result<()> {
                fs::create_dir_all(&folder)?;
                let new = folder.join("node.json.new");
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&new)?;
                file.write_all(&serde_json::to_vec(progress)?)?;
                file.sync_data()?;
                fs::rename(new, folder.join(PROGRESS))
            };
            write().map_err(DiskError::io(format!("writing {PROGRESS} of {id}")))
        })
    }

    fn ensure<'a>(&'a self, server: &'a Server) -> BoxFuture<'a, Result<Vec<Disk>, DiskError>> {
        Box::pin(async move {
            let folder = self.folder(server.id);
            fs::create_dir_all(&folder).map_err(DiskError::io(format!("making {}", folder.display())))?;
            let mut disks = vec![self.ensure_root(server, &folder).await?];
            let flavor = &server.flavor;
            if flavor.ephemeral_gib > 0 {
                let arguments = ["-q", "-F", "-L", "ephemeral0"];
                make_raw(
                    folder.join(EPHEMERAL),
                    flavor.ephemeral_gib * GIB,
                    "mkfs.ext4",
                    &arguments,
                )
                .await?;
                disks.push(extra(EPHEMERAL));
            }
            if flavor.swap_mib > 0 {
                make_raw(folder.join(SWAP), flavor.swap_mib << 20, "mkswap", &[]).await?;
                disks.push(extra(SWAP));
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
            config_drive::write(&files, &self.folder(server.id).join(CONFIG))?;
            Ok(Disk {
                file: CONFIG.into(),
                format: "raw".into(),
                bus: DiskBus::Virtio,
                read_only: true,
                backing: None,
            })
        })
    }

    fn remove_root(&self, id: Uuid) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move { remove_files(&self.folder(id), &[ROOT, BASE, "base.format", CONFIG, EPHEMERAL, SWAP]) })
    }

    fn remove(&self, id: Uuid) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            match tokio::fs::remove_dir_all(self.folder(id)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(DiskError::io(format!("removing the folder of {id}"))(error))
                }
                _ => Ok(()),
            }
        })
    }

    fn space(&self) -> (u64, u64) {
        match nix::sys::statvfs::statvfs(&self.instances) {
            Ok(space) => {
                let size = space.fragment_size();
                (space.blocks() * size / GIB, space.blocks_available() * size / GIB)
            }
            Err(_) => (0, 0),
        }
    }

    fn maintain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut in_use = HashSet::new();
            for entry in fs::read_dir(&self.cache_folder).into_iter().flatten().flatten() {
                if entry.metadata().is_ok_and(|data| data.nlink() > 1) {
                    in_use.insert(entry.path());
                }
            }
            match self.cache.evict(self.cache_limit, &in_use) {
                Ok(done) if !done.removed.is_empty() => {
                    tracing::info!(removed = done.removed.len(), "cached images made room");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "cannot make room among the cached images"),
            }
        })
    }
}
