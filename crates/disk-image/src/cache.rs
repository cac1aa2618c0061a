//! The node's folder of images that guests' disks are overlays of.
//!
//! An image is fetched once, however many guests wait for it; its bytes are hashed and inspected as they arrive, and only
//! what passes both gets its name, `IMAGE_CHECKSUM.FORMAT`, in one step. So a file that has such a name is whole and safe,
//! also after a crash. The least recently used go when room is needed, those that something uses never.

use crate::inspect::{InspectError, Inspector};
use sha2::Digest;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;
use tokio::io::AsyncWriteExt;

/// How the bytes are proven.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// Glance's `os_hash_value` with `os_hash_algo` sha512.
    Sha512(String),
    /// With sha256.
    Sha256(String),
    /// Glance's `checksum`.
    Md5(String),
}

impl Checksum {
    fn value(&self) -> &str {
        match self {
            Checksum::Sha512(value) | Checksum::Sha256(value) | Checksum::Md5(value) => value,
        }
    }
}

enum Hasher {
    Sha512(sha2::Sha512),
    Sha256(sha2::Sha256),
    Md5(md5::Md5),
}

impl Hasher {
    fn new(checksum: &Checksum) -> Hasher {
        match checksum {
            Checksum::Sha512(_) => Hasher::Sha512(Default::default()),
            Checksum::Sha256(_) => Hasher::Sha256(Default::default()),
            Checksum::Md5(_) => Hasher::Md5(Default::default()),
        }
    }

    fn update(&mut self, chunk: &[u8]) {
        match self {
            Hasher::Sha512(hasher) => hasher.update(chunk),
            Hasher::Sha256(hasher) => hasher.update(chunk),
            Hasher::Md5(hasher) => hasher.update(chunk),
        }
    }

    fn finish(self) -> String {
        match self {
            Hasher::Sha512(hasher) => hex::encode(hasher.finalize()),
            Hasher::Sha256(hasher) => hex::encode(hasher.finalize()),
            Hasher::Md5(hasher) => hex::encode(hasher.finalize()),
        }
    }
}

/// Which image.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its id.
    pub image: String,
    /// What its bytes hash to.
    pub checksum: Checksum,
    /// Its `disk_format`.
    pub disk_format: String,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The id, format or checksum cannot be part of a file name.
    #[error("'{0}' cannot be part of a file name")]
    Name(String),
    /// The fetch failed.
    #[error("fetching image {image}: {source}")]
    Fetch {
        /// The image.
        image: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Other bytes came than were announced.
    #[error("image {image} arrived with checksum {found} instead of {wanted}")]
    Checksum {
        /// The image.
        image: String,
        /// Hash of what came.
        found: String,
        /// Hash of what should have come.
        wanted: String,
    },
    /// The bytes are not what they should be, or dangerous.
    #[error("image {image} cannot be used: {}", .source.reason())]
    Unacceptable {
        /// The image.
        image: String,
        /// Why.
        source: InspectError,
    },
    /// The file system said no.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    }
}

/// Where a fetch puts the bytes as they come.
pub struct Sink {
    file: tokio::fs::File,
    hasher: Hasher,
    inspector: Inspector,
}

impl Sink {
    /// Takes the next bytes.
    pub async fn write(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        self.hasher.update(chunk);
        self.inspector.feed(chunk);
        self.file.write_all(chunk).await
    }
}

#[derive(Default)]
struct State {
    /// One lock per image that somebody is fetching or about to.
    fetching: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    pins: HashMap<PathBuf, usize>,
}

/// The folder. Clones are the same cache.
#[derive(Clone)]
pub struct Cache {
    folder: Arc<Path>,
    state: Arc<Mutex<State>>,
}

/// An image in the cache; it is not evicted while this lives.
pub struct CachedImage {
    path: PathBuf,
    format: String,
    state: Arc<Mutex<State>>,
}

impl CachedImage {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format that QEMU has to open it as.
    pub fn format(&self) -> &str {
        &self.format
    }
}

impl Drop for CachedImage {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if let Some(count) = state.pins.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.path);
            }
        }
    }
}

/// What an eviction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// The files that went.
    pub removed: Vec<PathBuf>,
    /// Bytes that the cache takes now.
    pub remaining: u64,
}

const PARTIAL: &str = ".part";

impl Cache {
    /// Opens or makes the folder, and removes what interrupted fetches left.
    pub fn open(folder: &Path) -> Result<Cache, Error> {
        std::fs::create_dir_all(folder).map_err(Error::io("making the image cache", folder))?;
        let entries = std::fs::read_dir(folder).map_err(Error::io("reading the image cache", folder))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().ends_with(PARTIAL) {
                let path = entry.path();
                std::fs::remove_file(&path).map_err(Error::io("removing", &path))?;
            }
        }
        Ok(Cache {
            folder: folder.into(),
            state: Arc::default(),
        })
    }

    /// The image, fetched if it is not there: `fetch` gets a [`Sink`] and gives it back when all bytes are in. Of several
    /// callers at once, one fetches and the others wait; if it fails, the next one tries.
    pub async fn get<F, R, E>(&self, request: &Request, fetch: F) -> Result<CachedImage, Error>
    where
        F: FnOnce(Sink) -> R,
        R: Future<Output = Result<Sink, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        for part in [&request.image, &request.disk_format, request.checksum.value()] {
            let plain = !part.is_empty()
                && part.len() <= 128
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if !plain {
                return Err(Error::Name(part.to_owned()));
            }
        }
        let checksum: String = request.checksum.value().chars().take(32).collect();
        let stem = format!("{}_{checksum}", request.image);
        // Pinned before it is looked for, so that no eviction comes between.
        if let Some(found) = self.find(&stem) {
            return Ok(found);
        }
        let turn = lock(&self.state).fetching.entry(stem.clone()).or_default().clone();
        let result = {
            let _turn = turn.lock().await;
            match self.find(&stem) {
                Some(found) => Ok(found),
                None => self.fetch(request, &stem, fetch).await,
            }
        };
        let mut state = lock(&self.state);
        // Two holders are this map and this call.
        if Arc::strong_count(&turn) <= 2 {
            state.fetching.remove(&stem);
        }
        drop(state);
        result
    }

    fn find(&self, stem: &str) -> Option<CachedImage> {
        let pinned = ["qcow2", "raw", "vmdk", "vdi", "vpc", "vhdx", "luks"]
            .into_iter()
            .map(|format| self.pin(self.folder.join(format!("{stem}.{format}")), format))
            .find(|image| image.path.exists())?;
        // The time of last use is the order of eviction; not being able to note it is no reason to fail.
        if let Ok(file) = std::fs::File::open(&pinned.path) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(pinned)
    }

    fn pin(&self, path: PathBuf, format: &str) -> CachedImage {
        *lock(&self.state).pins.entry(path.clone()).or_default() += 1;
        CachedImage {
            path,
            format: format.to_owned(),
            state: self.state.clone(),
        }
    }

    async fn fetch<F, R, E>(&self, request: &Request, stem: &str, fetch: F) -> Result<CachedImage, Error>
    where
        F: FnOnce(Sink) -> R,
        R: Future<Output = Result<Sink, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let image = request.image.clone();
        let partial = tempfile::Builder::new()
            .prefix(stem)
            .suffix(PARTIAL)
            .tempfile_in(&self.folder)
            .map_err(Error::io("creating a file in", &self.folder))?;
        let file = partial.reopen().map_err(Error::io("opening", partial.path()))?;
        let sink = Sink {
            file: tokio::fs::File::from_std(file),
            hasher: Hasher::new(&request.checksum),
            inspector: Inspector::new(),
        };
        let mut sink = fetch(sink).await.map_err(|source| Error::Fetch {
            image: image.clone(),
            source: source.into(),
        })?;
        sink.file.flush().await.map_err(Error::io("writing", partial.path()))?;
        sink.file
            .sync_all()
            .await
            .map_err(Error::io("writing", partial.path()))?;
        let found = sink.hasher.finish();
        let wanted = request.checksum.value();
        if !found.eq_ignore_ascii_case(wanted) {
            return Err(Error::Checksum {
                image,
                found,
                wanted: wanted.to_owned(),
            });
        }
        let format = sink
            .inspector
            .finish()
            .bootable_as(&request.disk_format)
            .map_err(|source| Error::Unacceptable { image, source })?;
        let cached = self.pin(self.folder.join(format!("{stem}.{format}")), format);
        partial
            .persist(&cached.path)
            .map_err(|e| Error::io("putting in place", &cached.path)(e.error))?;
        Ok(cached)
    }

    /// Removes the least recently used images until the cache takes at most `limit` bytes. `in_use` are bases of existing
    /// disks (see [`bases_in_use`]); they and images that a [`CachedImage`] holds stay whatever the limit.
    pub fn evict(&self, limit: u64, in_use: &HashSet<PathBuf>) -> Result<Eviction, Error> {
        use std::os::unix::fs::MetadataExt;
        let mut images = Vec::new();
        let entries = std::fs::read_dir(&self.folder).map_err(Error::io("reading the image cache", &self.folder))?;
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
                && !name.to_string_lossy().ends_with(PARTIAL)
            {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                images.push((used, path, metadata.blocks() * 512));
            }
        }
        images.sort();
        let mut done = Eviction {
            remaining: images.iter().map(|(_, _, size)| size).sum(),
            ..Eviction::default()
        };
        for (_, path, size) in images {
            if done.remaining <= limit {
                break;
            }
            let canonical = path.canonicalize().unwrap_or_else(|_| path.clone());
            if in_use.contains(&path) || in_use.contains(&canonical) {
                continue;
            }
            // Under the lock, so that nobody pins it in between.
            let state = lock(&self.state);
            if !state.pins.contains_key(&path) {
                std::fs::remove_file(&path).map_err(Error::io("removing", &path))?;
                done.remaining -= size;
                done.removed.push(path);
            }
        }
        Ok(done)
    }
}

/// The state is consistent between any two statements, so a panicking holder is no reason to stop.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The bases of all qcow2 files in a folder and the folders in it, as guests' disks lie.
pub fn bases_in_use(folder: &Path) -> std::io::Result<HashSet<PathBuf>> {
    let mut found = HashSet::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(bases_in_use(&entry.path())?);
        } else if kind.is_file()
            && let Some(base) = crate::overlay::backing_file(&entry.path())?
        {
            found.insert(base);
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn request(image: &str, content: &[u8]) -> Request {
        let checksum = Checksum::Sha256(hex::encode(sha2::Sha256::digest(content)));
        Request {
            image: image.to_owned(),
            checksum,
            disk_format: "raw".to_owned(),
        }
    }

    async fn give(mut sink: Sink, content: Vec<u8>) -> std::io::Result<Sink> {
        for chunk in content.chunks(1000) {
            sink.write(chunk).await?;
            tokio::task::yield_now().await;
        }
        Ok(sink)
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[tokio::test]
    async fn many_wait_for_one_fetch() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let content = vec![3; 20_000];
        let fetches = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (cache, content, fetches) = (cache.clone(), content.clone(), fetches.clone());
            tasks.spawn(async move {
                let got = cache
                    .get(&request("a", &content), |sink| {
                        fetches.fetch_add(1, Ordering::SeqCst);
                        give(sink, content.clone())
                    })
                    .await
                    .unwrap();
                assert_eq!(got.format(), "raw");
                std::fs::read(got.path()).unwrap()
            });
        }
        while let Some(read) = tasks.join_next().await {
            assert_eq!(read.unwrap(), content);
        }
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
        assert!(lock(&cache.state).pins.is_empty() && lock(&cache.state).fetching.is_empty());
    }

    #[tokio::test]
    async fn wrong_bytes_are_not_kept_and_the_next_one_tries_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let wanted = request("a", b"right");
        let error = cache
            .get(&wanted, |sink| give(sink, b"wrong".to_vec()))
            .await
            .err()
            .unwrap();
        assert!(matches!(error, Error::Checksum { .. }), "{error}");
        let broken = |_sink: Sink| async { Err::<Sink, _>(std::io::Error::other("connection reset")) };
        let error = cache.get(&wanted, broken).await.err().unwrap();
        assert_eq!(error.to_string(), "fetching image a: connection reset");
        assert_eq!(files(folder.path()), 0);
        cache.get(&wanted, |sink| give(sink, b"right".to_vec())).await.unwrap();
        assert_eq!(files(folder.path()), 1);
    }

    #[tokio::test]
    async fn an_unsafe_image_never_gets_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let mut content = vec![0; 1024];
        content[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        content[15] = 64;
        let mut wanted = request("a", &content);
        wanted.disk_format = "qcow2".to_owned();
        let error = cache
            .get(&wanted, |sink| give(sink, content.clone()))
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains("Image has a backing file"), "{error}");
        assert_eq!(files(folder.path()), 0);
        wanted.image = "../a".to_owned();
        assert!(matches!(
            cache.get(&wanted, |sink| give(sink, vec![])).await,
            Err(Error::Name(_))
        ));
    }

    #[tokio::test]
    async fn eviction_takes_the_oldest_and_spares_what_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let mut images = Vec::new();
        for (i, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let content = vec![i as u8 + 1; 64 * 1024];
            let image = cache
                .get(&request(name, &content), |sink| give(sink, content.clone()))
                .await
                .unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 + i as u64);
            std::fs::File::open(image.path()).unwrap().set_modified(time).unwrap();
            images.push(image);
        }
        let paths: Vec<PathBuf> = images.iter().map(|i| i.path().to_owned()).collect();
        let held = images.remove(0);
        drop(images);
        let in_use = HashSet::from([paths[1].clone()]);
        let done = cache.evict(3 * 64 * 1024, &in_use).unwrap();
        assert_eq!(
            done.removed,
            [paths[2].clone()],
            "a is held, b has an overlay, c is the oldest of the others"
        );
        let done = cache.evict(0, &in_use).unwrap();
        assert_eq!(done.removed, [paths[3].clone()]);
        assert!(held.path().exists() && paths[1].exists());
        drop(held);
        assert_eq!(cache.evict(0, &HashSet::new()).unwrap().remaining, 0);
    }

    #[test]
    fn leftovers_of_a_crash_go() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.part"), b"half").unwrap();
        Cache::open(folder.path()).unwrap();
        assert_eq!(files(folder.path()), 0);
    }
}
