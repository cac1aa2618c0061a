//! A small bootable guest from the distribution's packages: the kernel, busybox, dropbear and some ordinary programs.
//!
//! It does what CirrOS does for OpenStack's tests, boots in seconds on an emulated processor and is content with 128 MiB.
//! Building takes apt and no privilege: packages are unpacked into a folder, mke2fs makes a file system of it, and the
//! disk's own boot sector (`boot.S`) loads the kernel. Nothing is installed on the machine and nothing is mounted.

mod disk;
mod elf;
mod packages;
mod password;
mod rootfs;

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

/// Programs the build calls, with the Debian package of each; `host` asks its machine for them.
pub const PREREQUISITES: [(&str, &str); 7] = [
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("qemu-img", "qemu-utils"),
];

/// An ordinary user's PATH often lacks the folders of the file system tools.
const TOOL_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Smallest guest memory in MiB that the image is made for; goes into the image's `min_ram`.
pub const MINIMUM_MEMORY_MIB: u32 = 128;

/// How to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder that the image is put into, and packages are kept in (`packages/`) for the next time.
    pub folder: PathBuf,
    /// Name of the login user.
    pub user: String,
    /// The user's password; none means that only keys get in.
    pub password: Option<String>,
    /// Size of the disk in MiB. The guest grows into a larger disk by itself.
    pub size_mib: u32,
    /// Compress the image: half the size, slower first reads.
    pub compress: bool,
}

impl Options {
    /// The image that OpenStack's tests expect: `cirros` with password `gocubsgo`.
    pub fn new(folder: impl Into<PathBuf>) -> Options {
        Options {
            folder: folder.into(),
            user: "cirros".to_owned(),
            password: Some("gocubsgo".to_owned()),
            size_mib: 128,
            compress: false,
        }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Finding out which packages.
    Resolve,
    /// Fetching the lists of what packages there are.
    PackageLists,
    /// Fetching packages; counted in bytes.
    Download,
    /// Unpacking; counted in packages.
    Unpack,
    /// Putting the guest's files together.
    Assemble,
    /// Writing the image.
    Write,
    /// It is there (already).
    Done,
}

impl Stage {
    /// For a progress line.
    pub fn text(self) -> &'static str {
        match self {
            Stage::Resolve => "choosing packages",
            Stage::PackageLists => "fetching package lists",
            Stage::Download => "fetching packages",
            Stage::Unpack => "unpacking",
            Stage::Assemble => "assembling the guest",
            Stage::Write => "writing the image",
            Stage::Done => "done",
        }
    }
}

/// How far a stage is; `total` 0 means that it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// Done so far.
    pub done: u64,
    /// Out of so much.
    pub total: u64,
}

impl Progress {
    fn new(stage: Stage, done: u64, total: u64) -> Progress {
        Progress { stage, done, total }
    }
}

/// Why no image could be made; each is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// A program is missing or cannot be started.
    #[error("cannot run {program}: {source}; it is needed to build the tiny image, install it and try again")]
    Run {
        /// Its name.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{tool} failed ({status}): {errors}")]
    Tool {
        /// What was run.
        tool: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        errors: String,
    },
    /// The configured sources have none of the kernels.
    #[error("the package sources of this machine have no kernel for guests; check them with 'apt-get update'")]
    NoPackages,
    /// A package came out shorter than announced.
    #[error("{path} has {found} bytes instead of {wanted}; remove it and try again")]
    PackageSize {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// What the lists say.
        wanted: u64,
    },
    /// The kernel package has no modules.
    #[error("the kernel package has no modules where they are expected")]
    NoKernel,
    /// A program that should be in a package is not.
    #[error("the packages of this distribution have no {0}")]
    Program(String),
    /// A library that a program is linked to is in no package.
    #[error("no package has {0}, which {1} needs")]
    Library(String, PathBuf),
    /// The kernel cannot be booted this way.
    #[error("this kernel cannot be used: {0}")]
    Kernel(&'static str),
    /// The disk is too small for the guest.
    #[error("the image is too small; use at least 128 MiB")]
    TooSmall,
    /// The user name would break the guest's account files.
    #[error("'{0}' cannot be a user name: use small letters, digits, '-' and '_'")]
    User(String),
    /// Only x86-64 guests can be built.
    #[error("the tiny image can only be built for x86-64")]
    Architecture,
}

impl Error {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    }

    fn run(program: &str) -> impl FnOnce(std::io::Error) -> Error {
        let program = program.to_owned();
        move |source| Error::Run { program, source }
    }

    fn tool(tool: &str, output: &Output) -> Error {
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Error::Tool {
            tool: tool.to_owned(),
            status: output.status,
            errors,
        }
    }
}

fn check(options: &Options) -> Result<(), Error> {
    if cfg!(not(target_arch = "x86_64")) {
        return Err(Error::Architecture);
    }
    let user = options.user.as_bytes();
    let good = user.first().is_some_and(|c| c.is_ascii_lowercase())
        && user.len() <= 32
        && user
            .iter()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_'))
        && options.user != "root"
        && options.user != "nobody";
    if good {
        Ok(())
    } else {
        Err(Error::User(options.user.clone()))
    }
}

/// Builds the image and returns its path, `FOLDER/tiny-USER-FINGERPRINT.qcow2`. The same packages and options give the same
/// name, and an image that is there already is returned as it is.
pub fn build_tiny(options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, Error> {
    check(options)?;
    std::fs::create_dir_all(&options.folder).map_err(Error::io("making the folder", &options.folder))?;
    // One build at a time in a folder; the second finds the first's image. Released when it is dropped.
    let lock_path = options.folder.join(".lock");
    let lock = std::fs::File::create(&lock_path).map_err(Error::io("creating", &lock_path))?;
    lock.lock().map_err(Error::io("locking", &lock_path))?;
    let mut archive = packages::Archive::open(&options.folder.join("packages"))?;
    let plan = archive.plan(progress)?;
    let image = options
        .folder
        .join(format!("tiny-{}-{}.qcow2", options.user, fingerprint(options, &plan)));
    if image.exists() {
        progress(Progress::new(Stage::Done, 1, 1));
        return Ok(image);
    }
    let files = archive.fetch(&plan, progress)?;
    let work = tempfile::Builder::new()
        .prefix(".tiny-")
        .tempdir_in(&options.folder)
        .map_err(Error::io("making a work folder in", &options.folder))?;
    let (unpacked, staging) = (work.path().join("packages"), work.path().join("root"));
    packages::unpack(&files, &unpacked, progress)?;

    progress(Progress::new(Stage::Assemble, 0, 0));
    let contents = rootfs::Packages::open(&unpacked)?;
    rootfs::stage(&contents, options, &staging)?;

    progress(Progress::new(Stage::Write, 0, 0));
    let (raw, qcow2) = (work.path().join("disk.raw"), work.path().join("disk.qcow2"));
    disk::write(&contents, options, &staging, &raw)?;
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "qcow2"]);
    if options.compress {
        convert.arg("-c");
    }
    let output = convert.arg(&raw).arg(&qcow2).output().map_err(Error::run("qemu-img"))?;
    if !output.status.success() {
        return Err(Error::tool("qemu-img convert", &output));
    }
    std::fs::File::open(&qcow2)
        .and_then(|f| f.sync_all())
        .map_err(Error::io("writing the image", &qcow2))?;
    std::fs::rename(&qcow2, &image).map_err(Error::io("putting the image in place as", &image))?;
    progress(Progress::new(Stage::Done, 1, 1));
    Ok(image)
}

fn fingerprint(options: &Options, plan: &[packages::Package]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(env!("CARGO_PKG_VERSION"));
    for content in [
        include_str!("files/init"),
        include_str!("files/inittab"),
        include_str!("files/start"),
        include_str!("files/cloud"),
        include_str!("files/name"),
        include_str!("files/ipv6"),
        include_str!("files/nc"),
        include_str!("files/udhcpc.script"),
        include_str!("files/dhclient6.script"),
        include_str!("rootfs.rs"),
        include_str!("disk.rs"),
        include_str!("boot.S"),
    ] {
        hasher.update(content);
    }
    let Options {
        folder: _,
        user,
        password,
        size_mib,
        compress,
    } = options;
    hasher.update(format!("{user:?} {password:?} {size_mib} {compress}\n"));
    packages::fingerprint(plan, &mut hasher);
    hex::encode(&hasher.finalize()[..6])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn user_names() {
        for (name, good) in [
            ("cirros", true),
            ("ubuntu", true),
            ("", false),
            ("a b", false),
            ("x:0", false),
            ("root", false),
        ] {
            let options = Options {
                user: name.to_owned(),
                ..Options::new("/nowhere")
            };
            assert_eq!(check(&options).is_ok(), good, "{name}");
        }
    }
}
