//! Starting, looking at and ending one guest.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use tokio::process::Child;
use uuid::Uuid;

use super::command_line::{self, CONSOLE_LOG, PID_FILE, QMP_SOCKET, SERIAL_SOCKET, STDERR, VNC_SOCKET};
use super::monitor::Monitor;
use super::process::{self, Launch, Process, User};
use super::record::{self, Record};
use super::{Qemu, SpawnSettings, console, machine};
use crate::{Guest, GuestEvent, GuestEventKind, GuestSpec, HypervisorError, Nic, PowerState, Result};

/// How long QEMU may take from its start to its monitor's greeting. It opens disks and takes memory in this time.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long QEMU may take to write back its disks when it was told to quit.
const QUIT_LIMIT: Duration = Duration::from_secs(10);
/// A killed process is gone at once, unless the kernel waits for a disk.
const KILL_LIMIT: Duration = Duration::from_secs(30);

impl Qemu {
    /// Looks at a guest; the caller has its turn.
    pub(super) async fn look(&self, id: Uuid) -> Result<Option<Guest>> {
        let folder = self.folder_of(id);
        let monitor = self.monitor(id).await?;
        if monitor.is_none() && !folder.exists() {
            return Ok(None);
        }
        let record = record::read(&folder);
        let vnc_port = record.as_ref().and_then(|record| record.vnc_port);
        let mut guest = Guest {
            id,
            power_state: PowerState::Shutdown,
            pid: None,
            vnc: self.config.vnc_host.clone().zip(vnc_port),
            nics: Vec::new(),
            started_at: record.as_ref().and_then(|record| record.started_at),
        };
        match monitor {
            Some(monitor) => {
                guest.power_state = monitor.power_state().await?;
                guest.pid = Some(monitor.pid());
                guest.nics = monitor
                    .nics(record.as_ref().map_or(&[][..], |record| &record.spec.nics))
                    .await?;
            }
            // Made ready, but never started.
            None if guest.started_at.is_none() => guest.power_state = PowerState::NoState,
            None => {}
        }
        Ok(Some(guest))
    }

    /// Sees to it that the guest runs; the caller has its turn.
    pub(super) async fn ensure_running(&self, spec: &GuestSpec) -> Result<Guest> {
        let id = spec.id;
        let folder = self.folder_of(id);
        fs::create_dir_all(folder.join("run")).map_err(HypervisorError::io(format!("make {}", folder.display())))?;
        // Held until this call ends. Another daemon on the same state would otherwise start the guest a second time.
        let lock = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join("start.lock"))
            .map_err(HypervisorError::io("open the guest's start lock"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| HypervisorError::Busy { id })?;

        if self.monitor(id).await?.is_none() {
            self.spawn(spec, &folder).await?;
        }
        self.look(id).await?.ok_or(HypervisorError::NotFound { id })
    }

    /// Writes down which interfaces the guest has now.
    pub(super) fn note_nics(&self, id: Uuid, change: impl FnOnce(&mut Vec<Nic>)) -> Result<()> {
        let folder = self.folder_of(id);
        let Some(mut record) = record::read(&folder) else {
            return Ok(());
        };
        change(&mut record.spec.nics);
        record::write(&folder, &record).map_err(HypervisorError::io("write the guest's record"))
    }

    async fn spawn(&self, spec: &GuestSpec, folder: &Path) -> Result<()> {
        let program = self.program.as_ref().ok_or_else(|| HypervisorError::Missing {
            program: self.config.program.display().to_string(),
        })?;
        let taps = spec.nics.iter().map(process::open_tap).collect::<Result<Vec<_>>>()?;
        let (user, vnc) = self.give(spec, folder)?;
        prepare_folder(spec, folder, user).map_err(HypervisorError::io("prepare the guest's folder"))?;

        let settings = SpawnSettings {
            kvm: self.kvm,
            machine: self.config.machine.clone(),
            sandbox: self.config.sandbox,
            vnc: self.config.vnc_host.clone().zip(vnc),
        };
        let fds: Vec<i32> = taps.iter().map(|tap| tap.as_fd().as_raw_fd()).collect();
        let arguments = command_line::arguments(spec, &settings, &fds);
        let cgroup = self
            .cgroup
            .as_ref()
            .and_then(|parent| machine::make_cgroup(parent, spec.id).ok());
        let stderr = fs::OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(folder.join(STDERR))
            .map_err(HypervisorError::io("open the guest's log"))?;
        let launch = Launch {
            program,
            arguments: &arguments,
            folder,
            stderr,
            keep: &taps,
            user,
            cgroup,
        };
        tracing::debug!(guest = %spec.id, ?arguments, "starting QEMU");
        let mut child = process::launch(launch).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HypervisorError::Missing {
                program: program.display().to_string(),
            },
            _ => HypervisorError::Io {
                doing: format!("start {}", program.display()),
                source,
            },
        })?;
        drop(taps);

        let connected = self.await_monitor(spec.id, folder, &mut child).await;
        let monitor = match connected {
            Ok(monitor) => monitor,
            Err(error) => {
                // A QEMU that does not get ready is not left behind.
                if child.start_kill().is_ok() {
                    let _ = tokio::time::timeout(KILL_LIMIT, child.wait()).await;
                }
                return Err(error);
            }
        };
        // Nobody else asks for the child's end status, and without being asked for it stays a zombie.
        tokio::spawn(async move { child.wait().await });

        let started_at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(|d| d.as_secs() as i64);
        let record = Record {
            spec: spec.clone(),
            uid: user.map(|user| user.uid),
            vnc_port: vnc,
            started_at,
        };
        record::write(folder, &record).map_err(HypervisorError::io("write the guest's record"))?;
        self.monitors.lock().insert(spec.id, Arc::new(monitor));
        // Nobody may be listening.
        let _ = self.events.send(GuestEvent {
            id: spec.id,
            kind: GuestEventKind::Started,
        });
        Ok(())
    }

    /// Gives the guest its user and its VNC port: those it had, if they are still free. They are written down at once, so that the
    /// next guest gets others.
    fn give(&self, spec: &GuestSpec, folder: &Path) -> Result<(Option<User>, Option<u16>)> {
        let _giving = self.giving.lock();
        let had = record::read(folder);
        let (mut uids, mut ports) = (Vec::new(), Vec::new());
        let entries = fs::read_dir(&self.instances).map_err(HypervisorError::io("read the guests' folder"))?;
        for entry in entries.flatten().filter(|entry| entry.path() != folder) {
            if let Some(record) = record::read(&entry.path()) {
                uids.extend(record.uid);
                ports.extend(record.vnc_port);
            }
        }
        let user = self.users.and_then(|users| {
            let had = had
                .as_ref()
                .and_then(|record| record.uid)
                .filter(|uid| !uids.contains(uid));
            let user = had
                .map(|uid| User { uid, kvm_group: None })
                .or_else(|| users.free(&uids))?;
            Some(User {
                kvm_group: if self.kvm { machine::kvm_group() } else { None },
                ..user
            })
        });
        let port = match &self.config.vnc_host {
            Some(host) if spec.video.as_deref() != Some("none") => {
                let had = had.as_ref().and_then(|record| record.vnc_port);
                let mut candidates = had.into_iter().chain(self.config.vnc_ports.clone());
                let free = candidates.find(|port| !ports.contains(port) && is_free(host, *port));
                let range = &self.config.vnc_ports;
                Some(free.ok_or(HypervisorError::NoVncPort {
                    first: *range.start(),
                    last: *range.end(),
                })?)
            }
            _ => None,
        };
        let record = Record {
            spec: spec.clone(),
            uid: user.map(|user| user.uid),
            vnc_port: port,
            started_at: had.and_then(|record| record.started_at),
        };
        record::write(folder, &record).map_err(HypervisorError::io("write the guest's record"))?;
        Ok((user, port))
    }

    async fn await_monitor(&self, id: Uuid, folder: &Path, child: &mut Child) -> Result<Monitor> {
        let connecting = async {
            loop {
                // A handle that survives even if the process ends meanwhile.
                if let Some(process) = child.id().and_then(Process::open)
                    && let Some(monitor) = Monitor::try_connect(folder, id, process, self.events.clone()).await?
                {
                    return Ok(monitor);
                }
                match child.try_wait() {
                    Ok(None) => {}
                    Ok(Some(_)) | Err(_) => {
                        return Err(HypervisorError::Start {
                            reason: last_words(folder),
                        });
                    }
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let connected = tokio::time::timeout(START_LIMIT, connecting).await;
        match connected {
            Ok(Err(HypervisorError::Closed)) => {
                // It ended while greeting: what it said is the reason.
                let _ = tokio::time::timeout(KILL_LIMIT, child.wait()).await;
                Err(HypervisorError::Start {
                    reason: last_words(folder),
                })
            }
            Ok(result) => result,
            Err(_) => Err(HypervisorError::Timeout {
                doing: "starting the guest",
                seconds: START_LIMIT.as_secs(),
            }),
        }
    }

    /// Ends the guest's process, if there is one; the caller has its turn.
    pub(super) async fn end(&self, id: Uuid) -> Result<()> {
        let folder = self.folder_of(id);
        let known = self.monitors.lock().remove(&id);
        let Some(process) = process::find(&folder, id) else {
            return Ok(());
        };
        let monitor = match known.filter(|monitor| monitor.is_open()) {
            Some(monitor) => Some(monitor),
            // A monitor that cannot be reached is no reason to let the guest live.
            None => match Process::open(process.pid) {
                Some(again) => Monitor::try_connect(&folder, id, again, self.events.clone())
                    .await
                    .ok()
                    .flatten()
                    .map(Arc::new),
                None => None,
            },
        };
        if let Some(monitor) = monitor {
            // Quitting writes back what the disks' caches hold. The answer may be cut off by the end itself.
            let _ = monitor.quit().await;
            if process.ended(QUIT_LIMIT).await {
                return Ok(());
            }
        }
        process.kill();
        if process.ended(KILL_LIMIT).await {
            return Ok(());
        }
        Err(HypervisorError::Timeout {
            doing: "killing the guest",
            seconds: KILL_LIMIT.as_secs(),
        })
    }
}

/// Whether nobody listens there. Another process may take it before QEMU does; then QEMU says so and the start fails.
fn is_free(host: &str, port: u16) -> bool {
    let address: IpAddr = match host.parse() {
        Ok(address) => address,
        // A name: QEMU resolves it, and fails if the port is taken.
        Err(_) => return true,
    };
    TcpListener::bind((address, port)).is_ok()
}

/// Owners and modes: the guest's user can write its disks and `run/`, and nothing else of the folder.
fn prepare_folder(spec: &GuestSpec, folder: &Path, user: Option<User>) -> io::Result<()> {
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let own = |path: &Path| match user {
        Some(user) => chown(path, Some(user.uid), Some(user.uid)),
        None => Ok(()),
    };
    mode(folder, if user.is_some() { 0o711 } else { 0o700 })?;
    let run = folder.join("run");
    own(&run)?;
    mode(&run, 0o700)?;
    for disk in &spec.disks {
        if disk.file.contains('/') || disk.file.is_empty() {
            return Err(io::Error::other("a disk's file is not in the guest's folder"));
        }
        let path = folder.join(&disk.file);
        own(&path)?;
        mode(&path, if disk.read_only { 0o400 } else { 0o600 })?;
    }
    for stale in [QMP_SOCKET, SERIAL_SOCKET, VNC_SOCKET, PID_FILE, STDERR] {
        match fs::remove_file(folder.join(stale)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    console::forget(folder, CONSOLE_LOG);
    Ok(())
}

/// The end of what QEMU said, without its time stamps.
fn last_words(folder: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(folder.join(STDERR))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2000)))?;
        let mut text = Vec::new();
        file.take(2000).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .map(|line| {
            line.split_once("qemu-system")
                .map_or(line, |(_, rest)| rest.split_once(": ").map_or(rest, |r| r.1))
        })
        .filter(|line| !line.trim().is_empty())
        .collect();
    match lines.len() {
        0 => "QEMU ended without a word".into(),
        n => lines[n.saturating_sub(4)..].join("; "),
    }
}
