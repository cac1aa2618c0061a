//! Guests' disks: copy-on-write overlays on cached images, by `qemu-img` under limits.
//!
//! An image is untrusted; `qemu-img` reads it only after [`crate::inspect`] found nothing wrong, is always told the format
//! instead of guessing it, and runs with bounds on memory and time as upstream's does.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::Command;

/// Bounds of one `qemu-img` process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Address space in bytes.
    pub address_space: u64,
    /// Processor time in seconds; none for work that grows with the image.
    pub cpu_seconds: Option<u64>,
}

impl Limits {
    /// Upstream's for reading headers (nova's `QEMU_IMG_LIMITS`).
    pub const HEADER: Limits = Limits {
        address_space: 1 << 30,
        cpu_seconds: Some(30),
    };
    /// For reading or writing all of an image.
    pub const DATA: Limits = Limits {
        address_space: 2 << 30,
        cpu_seconds: None,
    };
}

/// Why a disk could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `qemu-img` is missing.
    #[error("cannot run qemu-img: {0}; install the package qemu-utils")]
    Missing(std::io::Error),
    /// `qemu-img` failed.
    #[error("qemu-img {action} failed ({status}): {errors}")]
    Failed {
        /// `create`, `info`, …
        action: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        errors: String,
    },
    /// `qemu-img info` said something that is not understood.
    #[error("qemu-img info gave unexpected output: {0}")]
    Output(serde_json::Error),
    /// The guest's disk would be smaller than the image on it.
    #[error("the disk of {disk} bytes is smaller than the image of {image} bytes")]
    TooSmall {
        /// What was asked for.
        disk: u64,
        /// What it takes.
        image: u64,
    },
    /// A file could not be read or put in place.
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

/// What `qemu-img info` says about a file.
#[derive(Clone, Debug, serde::Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub struct Info {
    /// QEMU's name of the format.
    pub format: String,
    /// Bytes that a guest sees.
    pub virtual_size: u64,
    /// Bytes taken on the host.
    #[serde(default)]
    pub actual_size: u64,
    /// The file it is an overlay of, as the header has it.
    pub backing_filename: Option<String>,
}

async fn qemu_img(
    action: &'static str,
    limits: Limits,
    arguments: impl FnOnce(&mut Command),
) -> Result<Vec<u8>, Error> {
    let mut command = Command::new("qemu-img");
    command
        .arg(action)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    arguments(&mut command);
    // SAFETY: between fork and exec only setrlimit is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            let set = |resource, value: u64| {
                let limit = libc::rlimit {
                    rlim_cur: value,
                    rlim_max: value,
                };
                if libc::setrlimit(resource, &limit) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            };
            set(libc::RLIMIT_AS, limits.address_space)?;
            match limits.cpu_seconds {
                Some(seconds) => set(libc::RLIMIT_CPU, seconds),
                None => Ok(()),
            }
        });
    }
    let output = command.output().await.map_err(Error::Missing)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Failed {
            action,
            status: output.status,
            errors,
        });
    }
    Ok(output.stdout)
}

/// Reads the header of a disk of a known format. Works on disks that a running guest has open.
pub async fn info(path: &Path, format: &str) -> Result<Info, Error> {
    let output = qemu_img("info", Limits::HEADER, |command| {
        command.args(["-U", "--output=json", "-f", format]).arg(path);
    })
    .await?;
    serde_json::from_slice(&output).map_err(Error::Output)
}

/// Makes `overlay`, a qcow2 on `base`, at least as large as the base and grown to `size` bytes where that is more given.
/// An overlay that is there already is replaced in one step. Fails if `size` is less than the base's.
pub async fn create_overlay(base: &Path, base_format: &str, overlay: &Path, size: Option<u64>) -> Result<Info, Error> {
    let base_info = info(base, base_format).await?;
    let size = size.unwrap_or(base_info.virtual_size);
    if size < base_info.virtual_size {
        return Err(Error::TooSmall {
            disk: size,
            image: base_info.virtual_size,
        });
    }
    // An absolute name, because qemu-img takes a relative one from the overlay's folder.
    let base = std::path::absolute(base).map_err(io("finding", base))?;
    let partial = partial_name(overlay);
    let made = qemu_img("create", Limits::HEADER, |command| {
        command
            .args(["-q", "-f", "qcow2", "-F", base_format, "-b"])
            .arg(&base)
            .arg(&partial)
            .arg(size.to_string());
    })
    .await;
    finish(made, &partial, overlay)?;
    Ok(Info {
        format: "qcow2".to_owned(),
        virtual_size: size,
        actual_size: 0,
        backing_filename: Some(base.display().to_string()),
    })
}

/// Makes an empty qcow2 disk.
pub async fn create_empty(path: &Path, size: u64) -> Result<(), Error> {
    let partial = partial_name(path);
    let made = qemu_img("create", Limits::HEADER, |command| {
        command.args(["-q", "-f", "qcow2"]).arg(&partial).arg(size.to_string());
    })
    .await;
    finish(made, &partial, path)
}

/// Copies a disk into another format, flattening what it is an overlay of.
pub async fn convert(from: &Path, from_format: &str, to: &Path, to_format: &str, compress: bool) -> Result<(), Error> {
    let partial = partial_name(to);
    let made = qemu_img("convert", Limits::DATA, |command| {
        command.args(["-U", "-f", from_format, "-O", to_format]);
        if compress {
            command.arg("-c");
        }
        command.arg(from).arg(&partial);
    })
    .await;
    finish(made, &partial, to)
}

/// Grows a disk that no guest has open.
pub async fn grow(path: &Path, format: &str, size: u64) -> Result<(), Error> {
    let is = info(path, format).await?.virtual_size;
    if size < is {
        return Err(Error::TooSmall { disk: size, image: is });
    }
    qemu_img("resize", Limits::HEADER, |command| {
        command.args(["-q", "-f", format]).arg(path).arg(size.to_string());
    })
    .await
    .map(drop)
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Puts a finished file in place, or removes what an attempt left.
fn finish(made: Result<Vec<u8>, Error>, partial: &Path, path: &Path) -> Result<(), Error> {
    match made {
        Ok(_) => std::fs::rename(partial, path).map_err(io("putting in place", path)),
        Err(error) => {
            let _ = std::fs::remove_file(partial);
            Err(error)
        }
    }
}

/// The file that a qcow2 is an overlay of, straight from its header and without a process. None for a disk of its own.
pub fn backing_file(path: &Path) -> std::io::Result<Option<PathBuf>> {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::FileExt;
    let mut file = std::fs::File::open(path)?;
    let mut header = [0; 20];
    match file.read_exact(&mut header) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let offset = header[8..16].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let length = header[16..20].iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
    // The format bounds the name to 1023 bytes.
    if !header.starts_with(b"QFI\xfb") || offset == 0 || length == 0 || length > 1023 {
        return Ok(None);
    }
    let mut name = vec![0; length];
    file.read_exact_at(&mut name, offset)?;
    Ok(Some(PathBuf::from(std::ffi::OsString::from_vec(name))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn has_qemu_img() -> bool {
        let there = std::process::Command::new("qemu-img").arg("--version").output().is_ok();
        assert!(there || std::env::var_os("CI").is_none(), "qemu-img is missing");
        there
    }

    #[tokio::test]
    async fn overlays_grow_and_know_their_base() {
        if !has_qemu_img() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (base, disk, flat) = (
            folder.path().join("base"),
            folder.path().join("disk"),
            folder.path().join("flat"),
        );
        create_empty(&base, 8 << 20).await.unwrap();
        create_overlay(&base, "qcow2", &disk, Some(32 << 20)).await.unwrap();
        let made = info(&disk, "qcow2").await.unwrap();
        assert_eq!(made.virtual_size, 32 << 20);
        assert_eq!(backing_file(&disk).unwrap(), Some(base.clone()));
        assert_eq!(backing_file(&base).unwrap(), None);
        grow(&disk, "qcow2", 64 << 20).await.unwrap();
        assert!(matches!(
            grow(&disk, "qcow2", 1 << 20).await,
            Err(Error::TooSmall { .. })
        ));
        convert(&disk, "qcow2", &flat, "qcow2", true).await.unwrap();
        assert_eq!(backing_file(&flat).unwrap(), None);
        assert_eq!(info(&flat, "qcow2").await.unwrap().virtual_size, 64 << 20);
        let error = create_overlay(&base, "qcow2", &disk, Some(1 << 20)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the disk of 1048576 bytes is smaller than the image of 8388608 bytes"
        );
    }

    #[tokio::test]
    async fn a_failed_attempt_leaves_nothing() {
        if !has_qemu_img() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (base, disk) = (folder.path().join("base"), folder.path().join("disk"));
        std::fs::write(&base, b"this is no qcow2").unwrap();
        assert!(matches!(
            create_overlay(&base, "qcow2", &disk, None).await,
            Err(Error::Failed { .. })
        ));
        assert!(convert(&base, "qcow2", &disk, "qcow2", false).await.is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn short_files_have_no_backing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"QFI\xfb").unwrap();
        assert_eq!(backing_file(&path).unwrap(), None);
    }
}
