//! Fetching Debian packages with the machine's own apt and its configured sources, without touching the machine: apt is
//! given a state of its own in which next to nothing is installed, and only downloads.

use super::{Error, Progress, Stage};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the guest is made of, beside what these depend on.
const PACKAGES: [&str; 20] = [
    "busybox",
    "curl",
    "dosfstools",
    "dropbear-bin",
    "e2fsprogs",
    "fdisk",
    "iproute2",
    "iputils-ping",
    "isc-dhcp-client",
    "libpam-modules",
    "login",
    "ncurses-base",
    "ndisc6",
    "openssh-client",
    "passwd",
    "procps",
    "screen",
    "socat",
    "sudo",
    "util-linux",
];

/// Kernels, in order of preference: Debian's small one for clouds, Ubuntu's, Debian's for everything.
const KERNELS: [&str; 3] = ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64"];

/// What packages depend on for being installed, and nothing in the guest needs.
const PRETENDED: [&str; 19] = [
    "adduser",
    "coreutils",
    "cpio",
    "debconf",
    "debianutils",
    "dpkg",
    "init-system-helpers",
    "initramfs-tools",
    "initramfs-tools-core",
    "kmod",
    "libpam-runtime",
    "linux-base",
    "logsave",
    "perl",
    "perl-base",
    "tar",
    "udev",
    "usrmerge",
    "util-linux-extra",
];

/// One package that apt would fetch.
#[derive(Clone, Debug)]
pub struct Package {
    /// File name in the archive folder.
    pub file: String,
    /// Length in bytes.
    pub size: u64,
    /// apt's checksum of it.
    pub checksum: String,
}

/// A folder of packages with apt's private state beside it.
pub struct Archive {
    folder: PathBuf,
    own_lists: bool,
    kernel: &'static str,
}

impl Archive {
    /// Opens or makes the cache in `folder`.
    pub fn open(folder: &Path) -> Result<Archive, Error> {
        for name in ["archives/partial", "plan/partial", "lists/partial"] {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).map_err(Error::io("making the package cache", &path))?;
        }
        let status: String = PRETENDED
            .iter()
            .map(|name| {
                format!(
                    "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 99:9999\nMulti-Arch: \
                     allowed\nProvides: linux-initramfs-tool, debconf-2.0\nMaintainer: none\nDescription: none\n\n"
                )
            })
            .collect();
        let path = folder.join("status");
        std::fs::write(&path, status).map_err(Error::io("writing apt's private state", &path))?;
        let folder = folder
            .canonicalize()
            .map_err(Error::io("looking at the package cache", folder))?;
        Ok(Archive {
            folder,
            own_lists: false,
            kernel: KERNELS[0],
        })
    }

    fn apt(&self) -> Command {
        let mut command = Command::new("apt-get");
        let folder = self.folder.display();
        command
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        for option in [
            format!("Dir::State::status={folder}/status"),
            format!("Dir::State::extended_states={folder}/extended_states"),
            format!("Dir::Cache::archives={folder}/archives"),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            "Debug::NoLocking=1".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "APT::Get::AllowUnauthenticated=false".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Dpkg::Use-Pty=0".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        if self.own_lists {
            command.arg("-o").arg(format!("Dir::State::lists={folder}/lists"));
        }
        command
    }

    /// What has to be fetched, in a fixed order. Looks first at the machine's own package lists; where they are missing,
    /// fetches lists of its own.
    pub fn plan(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<Vec<Package>, Error> {
        progress(Progress::new(Stage::Resolve, 0, 0));
        let first = self.resolve();
        if first.is_ok() {
            return first;
        }
        self.own_lists = true;
        progress(Progress::new(Stage::PackageLists, 0, 0));
        let output = self
            .apt()
            .args(["-q", "update"])
            .output()
            .map_err(Error::run("apt-get"))?;
        if !output.status.success() {
            return Err(Error::tool("apt-get update", &output));
        }
        self.resolve()
    }

    fn resolve(&mut self) -> Result<Vec<Package>, Error> {
        let mut last = None;
        for kernel in KERNELS {
            let output = self
                .apt()
                // Of what is in the archive already it would say nothing, so it is shown an empty one.
                .arg("-o")
                .arg(format!("Dir::Cache::archives={}/plan", self.folder.display()))
                .args(["-qq", "-y", "--print-uris", "--no-remove", "install", kernel])
                .args(PACKAGES)
                .output()
                .map_err(Error::run("apt-get"))?;
            if output.status.success() {
                self.kernel = kernel;
                let mut packages: Vec<_> = String::from_utf8_lossy(&output.stdout)
                    .lines()
                    .filter_map(parse_uri)
                    .collect();
                packages.sort_by(|a, b| a.file.cmp(&b.file));
                return Ok(packages);
            }
            last.get_or_insert(output);
        }
        Err(match last {
            Some(output) => Error::tool("apt-get install --print-uris", &output),
            None => Error::NoPackages,
        })
    }

    /// Fetches what of the plan is not there yet; apt verifies each against its signed lists.
    pub fn fetch(&self, plan: &[Package], progress: &mut dyn FnMut(Progress)) -> Result<Vec<PathBuf>, Error> {
        let total: u64 = plan.iter().map(|p| p.size).sum();
        progress(Progress::new(Stage::Download, 0, total));
        let mut child = self
            .apt()
            .args([
                "-qq",
                "-y",
                "-o",
                "APT::Status-Fd=1",
                "--no-remove",
                "--download-only",
                "install",
                self.kernel,
            ])
            .args(PACKAGES)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::run("apt-get"))?;
        let errors = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                BufReader::new(stderr)
                    .lines()
                    .map_while(Result::ok)
                    .collect::<Vec<_>>()
                    .join("\n")
            })
        });
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // dlstatus:<number>:<percent>:<text>
                let percent = line
                    .strip_prefix("dlstatus:")
                    .and_then(|rest| rest.split(':').nth(1)?.parse::<f64>().ok());
                if let Some(percent) = percent {
                    progress(Progress::new(
                        Stage::Download,
                        (total as f64 * percent / 100.0) as u64,
                        total,
                    ));
                }
            }
        }
        let status = child.wait().map_err(Error::run("apt-get"))?;
        let errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if !status.success() {
            return Err(Error::Tool {
                tool: "apt-get install --download-only".to_owned(),
                status,
                errors,
            });
        }
        progress(Progress::new(Stage::Download, total, total));
        plan.iter()
            .map(|package| {
                let path = self.folder.join("archives").join(&package.file);
                let found = std::fs::metadata(&path)
                    .map_err(Error::io("looking for a fetched package", &path))?
                    .len();
                if found == package.size {
                    Ok(path)
                } else {
                    Err(Error::PackageSize {
                        path,
                        found,
                        wanted: package.size,
                    })
                }
            })
            .collect()
    }
}

/// `'http://…/x.deb' x_1.0_amd64.deb 1234 SHA256:…`
fn parse_uri(line: &str) -> Option<Package> {
    let mut words = line.strip_prefix('\'')?.split_once("' ")?.1.split_whitespace();
    let (file, size, checksum) = (
        words.next()?,
        words.next()?.parse().ok()?,
        words.next().unwrap_or_default(),
    );
    let plain = !file.contains('/') && file.ends_with(".deb");
    plain.then(|| Package {
        file: file.to_owned(),
        size,
        checksum: checksum.to_owned(),
    })
}

/// A short name for exactly these packages.
pub fn fingerprint(plan: &[Package], hasher: &mut Sha256) {
    for package in plan {
        hasher.update(format!("{} {} {}\n", package.file, package.size, package.checksum));
    }
}

/// Unpacks all packages into one folder.
pub fn unpack(packages: &[PathBuf], into: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    // Packages come in both layouts, /bin beside /usr/bin and merged: with links in place they all end up merged.
    for name in ["bin", "sbin", "lib", "lib64"] {
        let real = into.join("usr").join(name);
        std::fs::create_dir_all(&real).map_err(Error::io("making a folder", &real))?;
    }
    let total = packages.len() as u64;
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get()).min(4);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(package) = packages.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    if sender.send(unpack_one(package, into)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (done, result) in receiver.iter().enumerate() {
            result?;
            progress(Progress::new(Stage::Unpack, done as u64 + 1, total));
        }
        Ok(())
    })
}

fn unpack_one(package: &Path, into: &Path) -> Result<(), Error> {
    // Documentation and translations are most of the files and none is wanted.
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::run("dpkg-deb"))?;
    let stream = archive.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let output = Command::new("tar")
        .args([
            "--extract",
            "--no-same-owner",
            "--keep-directory-symlink",
            "--directory",
        ])
        .arg(into)
        .args([
            "--exclude=./usr/share/doc",
            "--exclude=./usr/share/locale",
            "--exclude=./usr/share/man",
        ])
        .arg("--exclude=./lib/modules/*/kernel/drivers/infiniband")
        .stdin(stream)
        .output()
        .map_err(Error::run("tar"))?;
    let unpacked = archive.wait().map_err(Error::run("dpkg-deb"))?;
    if !unpacked.success() || !output.status.success() {
        return Err(Error::tool(&format!("unpacking {}", package.display()), &output));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_apt_prints() {
        let line = "'http://mirror/pool/main/c/curl/curl_7.88_amd64.deb' curl_7.88_amd64.deb 315764 SHA256:ab12";
        let package = parse_uri(line).unwrap();
        assert_eq!((package.file.as_str(), package.size), ("curl_7.88_amd64.deb", 315764));
        assert!(parse_uri("Reading package lists...").is_none());
        assert!(parse_uri("'http://x' ../../etc/passwd 1 SHA256:0").is_none());
    }
}
