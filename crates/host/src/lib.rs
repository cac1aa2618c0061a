//! The machine under the cloud: what it has and lacks, installing the rest, accounts and services, the host's side of the
//! external bridge, credential files, and removing all of it again.
//!
//! What only looks at the machine goes through [`Machine`], so that it can be tried on machines one does not have.

pub mod account;
pub mod credentials;
pub mod doctor;
pub mod external;
pub mod install;
mod machine;
pub mod manifest;
pub mod probe;
pub mod service;
pub mod supervisor;

pub use machine::{FakeMachine, Machine, RealMachine};

use std::path::{Path, PathBuf};

/// What could not be done to the machine; each is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Its name.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("'{command}' failed: {errors}")]
    Command {
        /// What was run.
        command: String,
        /// What it said.
        errors: String,
    },
    /// The operator did not agree to the installation, or could not be asked.
    #[error("{0} are needed and were not installed; run again with --yes, or install them yourself: {1}")]
    Refused(String, String),
    /// The package manager cannot reach its sources.
    #[error(
        "the packages {0} could not be fetched: this machine seems to be offline or its package sources are out of date; {1}"
    )]
    Offline(String, String),
    /// There is no package manager that is known here.
    #[error("no supported package manager (apt, dnf) was found; install these yourself: {0}")]
    NoPackageManager(String),
    /// After installing, something is still missing.
    #[error("the packages were installed, but {0} is still missing")]
    StillMissing(String),
    /// Something needs root.
    #[error("{0} needs root; run it with sudo")]
    NeedsRoot(&'static str),
    /// A service did not stay up.
    #[error("{name} does not stay up; its last words are in {log}")]
    ServiceFailed {
        /// The service.
        name: String,
        /// Where it writes.
        log: PathBuf,
    },
    /// A service did not stop in time.
    #[error("{0} did not stop in time")]
    DoesNotStop(String),
    /// A kernel's answer over netlink.
    #[error("{doing} {device}: {source}")]
    Netlink {
        /// What was tried.
        doing: &'static str,
        /// On which device.
        device: String,
        /// Why not.
        source: rtnetlink::Error,
    },
    /// A network device that should be there is not.
    #[error("there is no network device {0}")]
    NoDevice(String),
    /// A file that is there already cannot be understood, and is left alone.
    #[error("{path} cannot be understood ({reason}) and was left as it is; mend it or move it away")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Removing this would take more than the cloud's own.
    #[error("refusing to remove {0}")]
    Dangerous(PathBuf),
    /// A name that cannot be used for a service, user or cloud.
    #[error("'{0}' cannot be used as a name")]
    Name(String),
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    }
}

/// Puts a file in place in one step with the given mode, owned by `owner` if given. The folder must be there.
pub fn write_file(path: &Path, content: &[u8], mode: u32, owner: Option<account::Owner>) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("creating a file in", folder))?;
    file.write_all(content).map_err(Error::io("writing", path))?;
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(Error::io("setting the mode of", path))?;
    if let Some(owner) = owner {
        std::os::unix::fs::fchown(file.as_file(), Some(owner.uid), Some(owner.gid))
            .map_err(Error::io("giving away", path))?;
    }
    file.as_file().sync_all().map_err(Error::io("writing", path))?;
    file.persist(path)
        .map_err(|e| Error::io("putting in place", path)(e.error))?;
    Ok(())
}
