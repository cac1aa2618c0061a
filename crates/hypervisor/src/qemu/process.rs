//! QEMU's processes: finding them, starting them apart from the daemon, ending them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use uuid::Uuid;

use super::command_line::PID_FILE;
use crate::{HypervisorError, Nic, Result};

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    handle: OwnedFd,
}

impl Process {
    /// The process of this number, if it lives.
    pub fn open(pid: u32) -> Option<Self> {
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the descriptor is new and nobody else's.
        let handle = unsafe { OwnedFd::from_raw_fd(fd) };
        Some(Self { pid, handle })
    }

    /// Ends it without asking.
    pub fn kill(&self) {
        // SAFETY: a descriptor of ours, a signal number, no siginfo, no flags. It fails only when the process is gone.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.handle.as_raw_fd(),
                libc::SIGKILL,
                0,
                0,
            );
        }
    }

    /// Waits until it has ended; `false` if it has not within `limit`.
    pub async fn ended(&self, limit: Duration) -> bool {
        let Ok(handle) = self.handle.try_clone() else {
            return false;
        };
        // SAFETY: the descriptor is owned by the value that is registered, so it is open as long as that lives.
        let registered = unsafe { AsyncFd::register_with_interest(handle, tokio::io::Interest::READABLE) };
        let Ok(handle) = registered else { return false };
        // A pidfd becomes readable when its process ends.
        tokio::time::timeout(limit, handle.readable())
            .await
            .is_ok_and(|ready| ready.is_ok())
    }
}

/// Start time of a process in clock ticks since boot; none when it has ended (also as a zombie).
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows its last one does not.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether the process is the QEMU of the guest whose folder this is.
fn is_guest(pid: u32, folder: &Path, id: Uuid) -> bool {
    if start_time(pid).is_none() {
        return false;
    }
    let Ok(arguments) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let name = format!("guest={id}");
    if !arguments.split(|b| *b == 0).any(|argument| argument == name.as_bytes()) {
        return false;
    }
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => strip_deleted(&cwd) == folder,
        // Without the right to look there, the name must do: the id is unique.
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

fn strip_deleted(path: &Path) -> PathBuf {
    match path.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
        Some(stripped) => PathBuf::from(stripped),
        None => path.to_owned(),
    }
}

/// The guest's process, by its pid file or by looking at all processes.
pub fn find(folder: &Path, id: Uuid) -> Option<Process> {
    let by_file = read_small(&folder.join(PID_FILE)).and_then(|text| text.trim().parse().ok());
    if let Some(pid) = by_file
        && let Some(process) = Process::open(pid)
        && is_guest(pid, folder, id)
    {
        return Some(process);
    }
    // QEMU writes its pid file some milliseconds after it was started.
    let parent = folder.parent()?;
    let process = Process::open(*scan(parent).get(&id)?)?;
    is_guest(process.pid, folder, id).then_some(process)
}

/// All guests' processes under this folder, found by where they run.
pub fn scan(instances: &Path) -> HashMap<Uuid, u32> {
    let mut found = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return found;
    };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(cwd) = fs::read_link(entry.path().join("cwd")) else {
            continue;
        };
        let cwd = strip_deleted(&cwd);
        if cwd.parent() != Some(instances) {
            continue;
        }
        let Some(id) = cwd
            .file_name()
            .and_then(OsStr::to_str)
            .and_then(|name| Uuid::parse_str(name).ok())
        else {
            continue;
        };
        if is_guest(pid, &cwd, id) {
            found.insert(id, pid);
        }
    }
    found
}

/// A small file that the guest's QEMU could have replaced by anything: links are not followed and little is read.
pub fn read_small(path: &Path) -> Option<String> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    let mut text = Vec::new();
    file.take(64 * 1024).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Connects to a socket in the guest's folder. QEMU owns the socket's directory and could have put a link there that leads to
/// another service of this machine; so the file is opened without following links and connected to as what was opened.
pub async fn connect(folder: &Path, socket: &str) -> io::Result<UnixStream> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(folder.join(socket))?;
    if !file.metadata()?.file_type().is_socket() {
        return Err(io::Error::other("it is not a socket"));
    }
    // Short, however long the folder's path is (a socket's address has 108 bytes).
    UnixStream::connect(format!("/proc/self/fd/{}", file.as_raw_fd())).await
}

/// The taps a process holds: of each descriptor of `/dev/net/tun` the kernel tells the interface, and none once that is gone.
pub fn held_taps(pid: u32) -> Vec<String> {
    let mut held = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("/dev/net/tun")) {
            let info = fs::read_to_string(Path::new(&format!("/proc/{pid}/fdinfo")).join(entry.file_name()));
            let info = info.unwrap_or_default();
            held.extend(
                info.lines()
                    .filter_map(|line| line.strip_prefix("iff:").map(|name| name.trim().to_owned())),
            );
        }
    }
    held
}

#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; 22],
}

/// Opens an existing tap, so that a QEMU without rights can have it. The interface must not vanish with the descriptor, so it is
/// the switch that creates it.
pub fn open_tap(nic: &Nic) -> Result<OwnedFd> {
    let doing = || format!("open the network interface {}", nic.tap);
    if nic.tap.len() >= libc::IFNAMSIZ || nic.tap.is_empty() || nic.tap.contains('/') {
        return Err(HypervisorError::Io {
            doing: doing(),
            source: io::ErrorKind::InvalidInput.into(),
        });
    }
    if nix::net::if_::if_nametoindex(nic.tap.as_str()).is_err() {
        // Opening it would make one that is in no switch.
        return Err(HypervisorError::Io {
            doing: doing(),
            source: io::ErrorKind::NotFound.into(),
        });
    }
    let tun = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(HypervisorError::io("open /dev/net/tun"))?;
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if nic.offload {
        flags |= libc::IFF_VNET_HDR;
    }
    let mut request = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        flags: flags as libc::c_short,
        padding: [0; 22],
    };
    request.name[..nic.tap.len()].copy_from_slice(nic.tap.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, whose size and layout `InterfaceRequest` has.
    let set = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if set < 0 {
        return Err(HypervisorError::Io {
            doing: doing(),
            source: io::Error::last_os_error(),
        });
    }
    Ok(tun.into())
}

/// Who QEMU becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User and group of the same number.
    pub uid: u32,
    /// Group of /dev/kvm, where it is needed.
    pub kvm_group: Option<u32>,
}

/// A process to be started apart from the daemon.
pub struct Launch<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [String],
    /// Where it runs.
    pub folder: &'a Path,
    /// Takes its standard error.
    pub stderr: fs::File,
    /// Descriptors it keeps.
    pub keep: &'a [OwnedFd],
    /// Who it becomes; the daemon's own user if none.
    pub user: Option<User>,
    /// `cgroup.procs` of its own cgroup, where there is one.
    pub cgroup: Option<fs::File>,
}

/// Starts a process in a session of its own, so that neither a signal to the daemon's group nor the daemon's end reaches it.
pub fn launch(launch: Launch<'_>) -> io::Result<tokio::process::Child> {
    let mut command = std::process::Command::new(launch.program);
    command
        .args(launch.arguments)
        .current_dir(launch.folder)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(launch.stderr);
    let keep: Vec<i32> = launch.keep.iter().map(|fd| fd.as_fd().as_raw_fd()).collect();
    let (user, cgroup) = (launch.user, launch.cgroup);
    // SAFETY: between fork and exec only calls that are safe there (system calls, no allocation, no locks).
    unsafe {
        command.pre_exec(move || {
            let check = |result: libc::c_int| {
                if result < 0 {
                    Err(io::Error::last_os_error())
                } else {
                    Ok(())
                }
            };
            check(libc::setsid())?;
            if let Some(cgroup) = &cgroup {
                // "0" is the writer itself. A machine that refuses has one cgroup fewer, not one guest fewer.
                libc::write(cgroup.as_raw_fd(), b"0".as_ptr().cast(), 1);
            }
            for fd in &keep {
                check(libc::fcntl(*fd, libc::F_SETFD, 0))?;
            }
            let none = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            check(libc::setrlimit(libc::RLIMIT_CORE, &none))?;
            libc::umask(0o077);
            if let Some(user) = user {
                match user.kvm_group {
                    Some(group) => check(libc::setgroups(1, &group))?,
                    None => check(libc::setgroups(0, std::ptr::null()))?,
                }
                check(libc::setresgid(user.uid, user.uid, user.uid))?;
                check(libc::setresuid(user.uid, user.uid, user.uid))?;
            }
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            Ok(())
        });
    }
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(false);
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_is_no_guest() {
        let pid = std::process::id();
        assert!(start_time(pid).is_some());
        assert!(!is_guest(pid, Path::new("/"), Uuid::nil()));
        assert!(Process::open(pid).is_some());
        assert!(start_time(u32::MAX).is_none());
    }

    #[test]
    fn links_in_a_guests_folder_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "x").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        assert_eq!(read_small(&secret).as_deref(), Some("x"));
        assert_eq!(read_small(&link), None);
    }

    #[tokio::test]
    async fn a_link_to_a_socket_is_not_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let _listener = tokio::net::UnixListener::bind(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        assert!(connect(folder.path(), "real").await.is_ok());
        assert!(connect(folder.path(), "link").await.is_err());
    }

    #[test]
    fn a_tap_that_is_not_there_is_not_made() {
        let nic = Nic {
            port_id: Uuid::nil(),
            tap: "fs-no-such".into(),
            mac: String::new(),
            mtu: 1450,
            model: "virtio-net-pci".into(),
            offload: false,
        };
        assert!(open_tap(&nic).is_err());
        assert!(nix::net::if_::if_nametoindex("fs-no-such").is_err());
    }
}
