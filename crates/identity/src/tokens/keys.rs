//! A folder of numbered Fernet keys, as upstream keeps it: the highest number encrypts, all decrypt, 0 is next in line.

use crate::{Error, Result};
use fernet::{Fernet, MultiFernet};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often the folder is looked at for keys that were rotated in it.
const LOOK: Duration = Duration::from_secs(1);

/// The keys of a folder, as they are in it: a rotation holds without a restart.
pub struct Keys {
    folder: PathBuf,
    held: RwLock<Held>,
}

struct Held {
    fernet: Arc<MultiFernet>,
    /// The folder's own time when they were read.
    changed: Option<SystemTime>,
    looked: Instant,
}

impl Held {
    fn read(folder: &Path) -> Result<Held> {
        // The time is taken first: what changes in between is read again.
        let changed = changed(folder);
        let keys = read(folder)?;
        let fernets: Vec<Fernet> = keys.values().rev().filter_map(|key| Fernet::new(key)).collect();
        if fernets.is_empty() {
            return Err(Error::internal(format!("no usable key in {}", folder.display())));
        }
        Ok(Held {
            fernet: Arc::new(MultiFernet::new(fernets)),
            changed,
            looked: Instant::now(),
        })
    }
}

fn changed(folder: &Path) -> Option<SystemTime> {
    std::fs::metadata(folder).and_then(|data| data.modified()).ok()
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::internal(format!("{what} {}: {error}", path.display()))
}

fn read(folder: &Path) -> Result<BTreeMap<u64, String>> {
    let mut keys = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|e| failed("reading the key folder", folder, e))? {
        let path = entry.map_err(|e| failed("reading the key folder", folder, e))?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse().ok());
        if let Some(number) = number {
            let key = std::fs::read_to_string(&path).map_err(|e| failed("reading the key", &path, e))?;
            if !key.trim().is_empty() {
                keys.insert(number, key.trim().to_owned());
            }
        }
    }
    Ok(keys)
}

fn write(folder: &Path) -> Result<()> {
    let temporary = folder.join("0.tmp");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(|e| failed("writing the key", &temporary, e))?;
    // An operator may rotate the keys of a service that runs as somebody else.
    let (owner, made) = (std::fs::metadata(folder), file.metadata());
    if let (Ok(owner), Ok(made)) = (owner, made)
        && (owner.uid(), owner.gid()) != (made.uid(), made.gid())
    {
        fchown(&file, Some(owner.uid()), Some(owner.gid())).map_err(|e| failed("handing over the key", &temporary, e))?;
    }
    file.write_all(Fernet::generate_key().as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|e| failed("writing the key", &temporary, e))?;
    std::fs::rename(&temporary, folder.join("0")).map_err(|e| failed("naming the key", &temporary, e))
}

impl Keys {
    /// Reads the keys; makes the folder and its first two keys where there are none.
    pub fn open(folder: &Path) -> Result<Keys> {
        if !folder.is_dir() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|e| failed("making the key folder", folder, e))?;
        }
        if read(folder)?.is_empty() {
            write(folder)?;
            rotate(folder, 2)?;
        }
        let held = RwLock::new(Held::read(folder)?);
        Ok(Keys {
            folder: folder.into(),
            held,
        })
    }

    /// The keys of now.
    fn current(&self) -> Arc<MultiFernet> {
        let held = self.held.read();
        if held.looked.elapsed() < LOOK {
            return held.fernet.clone();
        }
        drop(held);
        let mut held = self.held.write();
        if held.looked.elapsed() >= LOOK {
            held.looked = Instant::now();
            if changed(&self.folder) != held.changed {
                match Held::read(&self.folder) {
                    Ok(new) => *held = new,
                    Err(error) => tracing::error!(%error, "the keys cannot be read again; the old ones are kept"),
                }
            }
        }
        held.fernet.clone()
    }

    /// Encrypts; without padding, as tokens go.
    pub fn encrypt(&self, data: &[u8]) -> String {
        let mut token = self.current().encrypt(data);
        token.truncate(token.trim_end_matches('=').len());
        token
    }

    /// Decrypts, with padding or without; `None` where no key fits.
    pub fn decrypt(&self, token: &str) -> Option<Vec<u8>> {
        let missing = (4 - token.len() % 4) % 4;
        self.current().decrypt(&format!("{token}{}", "=".repeat(missing))).ok()
    }

    /// When a Fernet token was made, in seconds since the epoch: bytes 1 to 8 of it.
    pub fn created_at(token: &str) -> Option<i64> {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .ok()?;
        Some(i64::from_be_bytes(bytes.get(1..9)?.try_into().ok()?))
    }
}

/// Makes key 0 the one that encrypts, adds a new key 0, and drops the oldest beyond `max_active`.
pub fn rotate(folder: &Path, max_active: usize) -> Result<()> {
    let keys = read(folder)?;
    let primary = keys.keys().next_back().copied().unwrap_or(0);
    let staged: PathBuf = folder.join("0");
    std::fs::rename(&staged, folder.join((primary + 1).to_string()))
        .map_err(|e| failed("promoting the key", &staged, e))?;
    write(folder)?;
    let mut old: Vec<u64> = read(folder)?.into_keys().filter(|n| *n != 0).collect();
    while old.len() + 1 > max_active.max(2) {
        let path = folder.join(old.remove(0).to_string());
        std::fs::remove_file(&path).map_err(|e| failed("removing the key", &path, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tokens_survive_one_rotation_and_not_many() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let token = Keys::open(&folder).unwrap().encrypt(b"hello");
        assert!(!token.ends_with('='));
        for name in ["0", "1"] {
            let mode = std::fs::metadata(folder.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        rotate(&folder, 3).unwrap();
        assert_eq!(
            Keys::open(&folder).unwrap().decrypt(&token).as_deref(),
            Some(b"hello".as_slice())
        );
        rotate(&folder, 3).unwrap();
        assert_eq!(
            Keys::open(&folder).unwrap().decrypt(&token),
            None,
            "the key that made it is gone"
        );
        assert_eq!(read(&folder).unwrap().len(), 3);
    }

    #[test]
    fn a_rotation_holds_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        rotate(folder.path(), 3).unwrap();
        let new = Keys::open(folder.path()).unwrap().encrypt(b"x");
        // Until the folder is looked at again; key 0, which was promoted, is known before already.
        assert!(keys.decrypt(&new).is_some());
        rotate(folder.path(), 3).unwrap();
        let new = Keys::open(folder.path()).unwrap().encrypt(b"x");
        let until = Instant::now() + LOOK * 5;
        while keys.decrypt(&new).is_none() {
            assert!(Instant::now() < until, "the new key is not seen");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_token_knows_when_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let token = Keys::open(folder.path()).unwrap().encrypt(b"x");
        let age = database::now() / 1_000_000 - Keys::created_at(&token).unwrap();
        assert!((0..=5).contains(&age));
        assert_eq!(Keys::created_at("gAAA"), None);
    }
}
