//! The data of images: a folder with one file per image, named by its id. A file appears under its name only when all of it is
//! there and on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use disk_image::inspect::{Inspection, Inspector};
use md5::Md5;
use sha2::{Digest, Sha512};

/// Ending of files that are being received.
const PARTIAL: &str = "part";
/// Ending of files that wait for their import.
const STAGED: &str = "staged";

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

/// What was found out about data while it came in.
#[derive(Debug)]
pub struct Received {
    /// Number of bytes.
    pub size: u64,
    /// MD5, hexadecimal.
    pub md5: String,
    /// SHA-512, hexadecimal.
    pub sha512: String,
    /// What the bytes are; `None` where nobody wanted to know.
    pub inspection: Option<Inspection>,
}

impl Folder {
    /// Opens the folder, which is created if need be, readable by its owner alone. What an earlier run did not finish receiving is removed.
    ///
    /// # Errors
    /// Where the folder cannot be made or read.
    pub fn open(path: &Path) -> io::Result<Folder> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o750).create(path)?;
        for entry in fs::read_dir(path)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == PARTIAL) {
                fs::remove_file(file)?;
            }
        }
        Ok(Folder { path: path.to_owned() })
    }

    /// The file of an image. Ids are UUIDs; anything else has no file.
    fn file(&self, id: &str, ending: Option<&str>) -> io::Result<PathBuf> {
        if uuid::Uuid::parse_str(id).is_err() || id.contains('/') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the id of an image is no UUID",
            ));
        }
        Ok(match ending {
            Some(ending) => self.path.join(format!("{id}.{ending}")),
            None => self.path.join(id),
        })
    }

    /// The file with an image's data, if it has any.
    pub fn data(&self, id: &str) -> Option<PathBuf> {
        self.file(id, None).ok().filter(|path| path.is_file())
    }

    /// The file with data that waits for its import, if there is any.
    pub fn staged(&self, id: &str) -> Option<PathBuf> {
        self.file(id, Some(STAGED)).ok().filter(|path| path.is_file())
    }

    /// Begins to receive data.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn receive(&self, id: &str, inspect: bool) -> io::Result<Incoming> {
        use std::os::unix::fs::OpenOptionsExt;
        // The name is unique, so that an upload that was overtaken by deletion never writes into another's file.
        let path = self.file(id, Some(&format!("{}.{PARTIAL}", uuid::Uuid::new_v4().simple())))?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&path)?;
        Ok(Incoming {
            file,
            path: Some(path),
            size: 0,
            md5: Md5::new(),
            sha512: Sha512::new(),
            inspector: inspect.then(Inspector::new),
        })
    }

    /// Gives received data its name, durably.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn keep(&self, id: &str, incoming: Incoming) -> io::Result<()> {
        self.keep_as(&self.file(id, None)?, incoming)
    }

    /// Keeps received data for a later import.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn stage(&self, id: &str, incoming: Incoming) -> io::Result<()> {
        self.keep_as(&self.file(id, Some(STAGED))?, incoming)
    }

    fn keep_as(&self, target: &Path, mut incoming: Incoming) -> io::Result<()> {
        incoming.file.sync_all()?;
        let Some(path) = incoming.path.take() else {
            return Ok(());
        };
        fs::rename(path, target)?;
        File::open(&self.path)?.sync_all()
    }

    /// Removes everything there is of an image.
    ///
    /// # Errors
    /// Where the disk fails; what is not there is no failure.
    pub fn remove(&self, id: &str) -> io::Result<()> {
        for ending in [None, Some(STAGED)] {
            remove_if_there(&self.file(id, ending)?)?;
        }
        Ok(())
    }

    /// Ids of all images that have data, staged or not.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            let id = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .filter(|_| matches!(ending, None | Some(STAGED)));
            ids.extend(id.filter(|id| uuid::Uuid::parse_str(id).is_ok()).map(str::to_owned));
        }
        Ok(ids)
    }

    /// Removes data that was staged.
    ///
    /// # Errors
    /// Where the disk fails; what is not there is no failure.
    pub fn unstage(&self, id: &str) -> io::Result<()> {
        remove_if_there(&self.file(id, Some(STAGED))?)
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Data on its way in. Dropped without being kept it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    path: Option<PathBuf>,
    size: u64,
    md5: Md5,
    sha512: Sha512,
    inspector: Option<Inspector>,
}

impl Incoming {
    /// Takes the next piece.
    ///
    /// # Errors
    /// Where the disk fails or is full.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.md5.update(piece);
        self.sha512.update(piece);
        if let Some(inspector) = &mut self.inspector {
            inspector.feed(piece);
        }
        self.size += piece.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What came in, once all of it has.
    pub fn result(&mut self) -> Received {
        Received {
            size: self.size,
            md5: hex::encode(std::mem::take(&mut self.md5).finalize()),
            sha512: hex::encode(std::mem::take(&mut self.sha512).finalize()),
            inspection: self.inspector.take().map(Inspector::finish),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove what was received of an image");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5a3a8f0e-0b5c-4b0e-9c1f-1f2b3c4d5e6f";

    #[test]
    fn data_appears_only_when_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::open(folder.path()).unwrap();
        let mut incoming = folder.receive(ID, true).unwrap();
        incoming.write(b"hello").unwrap();
        assert!(folder.data(ID).is_none());
        let received = incoming.result();
        assert_eq!(received.size, 5);
        assert_eq!(received.md5, "5d41402abc4b2a76b9719d911017c592");
        assert!(received.sha512.starts_with("9b71d224bd62f378"));
        folder.keep(ID, incoming).unwrap();
        assert_eq!(fs::read(folder.data(ID).unwrap()).unwrap(), b"hello");
        folder.remove(ID).unwrap();
        folder.remove(ID).unwrap();
        assert!(folder.data(ID).is_none());
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        drop(folder.receive(ID, false).unwrap());
        fs::write(temporary.path().join(format!("{ID}.x.part")), b"old").unwrap();
        Folder::open(temporary.path()).unwrap();
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn ids_cannot_leave_the_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        assert!(folder.data("../../etc/passwd").is_none());
        assert!(folder.receive("../x", false).is_err());
    }
}
