//! Guests as QEMU processes, driven by their monitors.
//!
//! A guest's folder is `<instances>/<uuid>/`: `guest.json` (the daemon's), its disks, and `run/`, which belongs to the guest's
//! own user and holds its sockets and logs. A process is in a session, and where possible in a user and a cgroup, of its own,
//! and outlives the daemon. The truth is the process: it is found by its working directory and its name, asked through its monitor, and
//! two processes for one guest are prevented by the start lock here and by QEMU's locks on its pid file and its disks.

mod command_line;
mod console;
mod instance;
mod machine;
mod monitor;
mod process;
mod qmp;
mod record;
mod statistics;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use node_protocol::link::Duplex;
use node_protocol::queries::{ConsoleKind, Diagnostics};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::{Guest, GuestEvent, GuestSpec, Hypervisor, HypervisorError, HypervisorInfo, Nic, Result, tail};
pub use machine::{Users, kvm_usable, parse_version};
use monitor::Monitor;
pub use qmp::{Event, Qmp};

/// How guests are run on this machine.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// Where the guests' folders are.
    pub instances: PathBuf,
    /// The emulator: a name looked up in the usual places, or a path.
    pub program: PathBuf,
    /// Machine type of guests whose image asks for none.
    pub machine: String,
    /// Address the guests' VNC servers listen on; none for the Unix socket alone.
    pub vnc_host: Option<String>,
    /// Ports of the guests' VNC servers.
    pub vnc_ports: std::ops::RangeInclusive<u16>,
    /// A user of its own for each guest, out of these.
    pub users: Option<Users>,
    /// Whether QEMU is confined by seccomp.
    pub sandbox: bool,
    /// KVM (`Some(true)`), TCG (`Some(false)`), or whichever works.
    pub kvm: Option<bool>,
    /// When a guest's console log is cut; up to twice as many bytes are kept.
    pub console_log_bytes: u64,
    /// The cgroup below the hierarchy's root that holds the guests' cgroups.
    pub cgroup: Option<String>,
}

impl QemuConfig {
    /// The defaults, with guests in this folder.
    pub fn new(instances: impl Into<PathBuf>) -> Self {
        Self {
            instances: instances.into(),
            program: "qemu-system-x86_64".into(),
            machine: "pc".into(),
            vnc_host: Some("127.0.0.1".into()),
            vnc_ports: 5900..=6899,
            users: Some(Users::DEFAULT),
            sandbox: true,
            kvm: None,
            console_log_bytes: console::LIMIT,
            cgroup: Some("ferrostack-guests".into()),
        }
    }
}

/// What a command line depends on besides the guest.
#[derive(Debug, Clone)]
pub(crate) struct SpawnSettings {
    pub kvm: bool,
    pub machine: String,
    pub sandbox: bool,
    /// The address and port of the VNC server.
    pub vnc: Option<(String, u16)>,
}

/// Runs guests with QEMU.
pub struct Qemu {
    config: QemuConfig,
    instances: PathBuf,
    program: Option<PathBuf>,
    version: u64,
    kvm: bool,
    users: Option<Users>,
    cgroup: Option<PathBuf>,
    findings: Vec<String>,
    monitors: Mutex<HashMap<Uuid, Arc<Monitor>>>,
    /// One operation at a time on each guest that connects, starts or ends it.
    turns: Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>,
    /// Users and VNC ports are given out by one start at a time.
    giving: Mutex<()>,
    events: broadcast::Sender<GuestEvent>,
}

/// The processes of the guests that run in this folder, found without their monitors, which serve one client at a time: the node.
///
/// # Errors
/// Where the folder cannot be opened.
pub fn processes(instances: &Path) -> std::io::Result<HashMap<Uuid, u32>> {
    Ok(process::scan(&std::fs::canonicalize(instances)?))
}

fn find_program(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/local/bin", "/usr/libexec"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

impl Qemu {
    /// Looks at the machine and makes the folder for guests. A missing QEMU is a finding, and an error only once a guest is to be started.
    pub async fn new(config: QemuConfig) -> Result<Arc<Self>> {
        let mut findings = Vec::new();
        let make = HypervisorError::io(format!("make the guests' folder {}", config.instances.display()));
        std::fs::create_dir_all(&config.instances).map_err(make)?;
        let instances = std::fs::canonicalize(&config.instances).map_err(HypervisorError::io(format!(
            "open the guests' folder {}",
            config.instances.display()
        )))?;
        let program = find_program(&config.program);
        let version = match &program {
            Some(program) => version_of(program).await.unwrap_or_else(|| {
                findings.push(format!("{} does not say its version", program.display()));
                0
            }),
            None => {
                findings.push(format!("{} is not installed", config.program.display()));
                0
            }
        };
        let kvm = config.kvm.unwrap_or_else(kvm_usable);
        if !kvm {
            findings
                .push("the CPU offers no virtualisation here: guests are emulated (TCG), some ten times slower".into());
        }
        let users = config.users.filter(|users| match users.problem() {
            Some(problem) => {
                findings.push(problem);
                false
            }
            None => true,
        });
        let cgroup = config.cgroup.as_ref().and_then(|name| {
            let group = machine::cgroup_root()?.join(name);
            match std::fs::create_dir_all(&group) {
                Ok(()) => Some(group),
                Err(error) => {
                    findings.push(format!(
                        "guests have no cgroups of their own: {}: {error}",
                        group.display()
                    ));
                    None
                }
            }
        });
        Ok(Arc::new(Self {
            config,
            instances,
            program,
            version,
            kvm,
            users,
            cgroup,
            findings,
            monitors: Mutex::default(),
            turns: Mutex::default(),
            giving: Mutex::default(),
            events: broadcast::channel(1024).0,
        }))
    }

    fn folder_of(&self, id: Uuid) -> PathBuf {
        self.instances.join(id.to_string())
    }

    fn turn(&self, id: Uuid) -> Arc<tokio::sync::Mutex<()>> {
        self.turns.lock().entry(id).or_default().clone()
    }

    /// The monitor of a guest that runs. The caller has the guest's turn.
    async fn monitor(&self, id: Uuid) -> Result<Option<Arc<Monitor>>> {
        let known = self.monitors.lock().get(&id).cloned();
        if let Some(monitor) = known.filter(|monitor| monitor.is_open()) {
            return Ok(Some(monitor));
        }
        self.monitors.lock().remove(&id);
        let folder = self.folder_of(id);
        let Some(process) = process::find(&folder, id) else {
            return Ok(None);
        };
        match Monitor::connect(&folder, id, process, self.events.clone()).await? {
            Some(monitor) => {
                let monitor = Arc::new(monitor);
                self.monitors.lock().insert(id, monitor.clone());
                Ok(Some(monitor))
            }
            None => Ok(None),
        }
    }

    async fn running(&self, id: Uuid) -> Result<Arc<Monitor>> {
        let turn = self.turn(id);
        let _turn = turn.lock().await;
        match self.monitor(id).await? {
            Some(monitor) => Ok(monitor),
            None if self.folder_of(id).exists() => Err(HypervisorError::NotRunning { id }),
            None => Err(HypervisorError::NotFound { id }),
        }
    }
}

async fn version_of(program: &Path) -> Option<u64> {
    let run = tokio::process::Command::new(program)
        .arg("--version")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(10), run).await.ok()?.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

impl Hypervisor for Qemu {
    fn info(&self) -> HypervisorInfo {
        HypervisorInfo {
            kind: "QEMU".into(),
            version: self.version,
            accelerated: self.kvm,
        }
    }

    fn findings(&self) -> Vec<String> {
        self.findings.clone()
    }

    fn folder(&self, id: Uuid) -> Option<PathBuf> {
        Some(self.folder_of(id))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Uuid>>> {
        Box::pin(async move {
            let reading = || HypervisorError::io(format!("read the guests' folder {}", self.instances.display()));
            let mut ids: Vec<Uuid> = process::scan(&self.instances).into_keys().collect();
            for entry in std::fs::read_dir(&self.instances).map_err(reading())? {
                let name = entry.map_err(reading())?.file_name();
                if let Some(id) = name.to_str().and_then(|name| Uuid::parse_str(name).ok())
                    && !ids.contains(&id)
                {
                    ids.push(id);
                }
            }
            Ok(ids)
        })
    }

    fn inspect(&self, id: Uuid) -> BoxFuture<'_, Result<Option<Guest>>> {
        Box::pin(async move {
            let turn = self.turn(id);
            let _turn = turn.lock().await;
            self.look(id).await
        })
    }

    fn start<'a>(&'a self, spec: &'a GuestSpec) -> BoxFuture<'a, Result<Guest>> {
        Box::pin(async move {
            let turn = self.turn(spec.id);
            let _turn = turn.lock().await;
            self.ensure_running(spec).await
        })
    }

    fn stop(&self, id: Uuid, patience: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if !patience.is_zero() && self.shut_down(id, patience).await? {
                return Ok(());
            }
            let turn = self.turn(id);
            let _turn = turn.lock().await;
            self.end(id).await
        })
    }

    fn shut_down(&self, id: Uuid, patience: Duration) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            match self.running(id).await {
                Ok(monitor) => monitor.power_down(patience).await,
                Err(HypervisorError::NotRunning { .. } | HypervisorError::NotFound { .. }) => Ok(true),
                Err(error) => Err(error),
            }
        })
    }

    fn destroy(&self, id: Uuid) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let turn = self.turn(id);
            {
                let _turn = turn.lock().await;
                self.end(id).await?;
                let folder = self.folder_of(id);
                match tokio::fs::remove_dir_all(&folder).await {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(HypervisorError::io(format!("remove {}", folder.display()))(error));
                    }
                    _ => {}
                }
                if let Some(cgroup) = &self.cgroup {
                    machine::remove_cgroup(cgroup, id);
                }
            }
            self.turns.lock().remove(&id);
            Ok(())
        })
    }

    fn pause(&self, id: Uuid, paused: bool) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.running(id).await?.pause(paused).await })
    }

    fn attach_nic<'a>(&'a self, id: Uuid, nic: &'a Nic) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let monitor = self.running(id).await?;
            monitor.attach_nic(nic).await?;
            self.note_nics(id, |nics| {
                nics.retain(|has| has.port_id != nic.port_id);
                nics.push(nic.clone());
            })
        })
    }

    fn detach_nic(&self, id: Uuid, port_id: Uuid) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match self.running(id).await {
                Ok(monitor) => {
                    monitor.detach_nic(port_id).await?;
                    self.note_nics(id, |nics| nics.retain(|nic| nic.port_id != port_id))
                }
                Err(HypervisorError::NotRunning { .. } | HypervisorError::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn console_log(&self, id: Uuid, lines: Option<u64>) -> BoxFuture<'_, Result<String>> {
        Box::pin(async move {
            let folder = self.folder_of(id);
            if !folder.exists() {
                return Err(HypervisorError::NotFound { id });
            }
            let limit = self.config.console_log_bytes;
            let read = move || console::read(&folder, command_line::CONSOLE_LOG, limit);
            let text = tokio::task::spawn_blocking(read)
                .await
                .unwrap_or_else(|error| Err(std::io::Error::other(error)))
                .map_err(HypervisorError::io("read the console log"))?;
            Ok(tail(&text, lines).to_owned())
        })
    }

    fn console(&self, id: Uuid, kind: ConsoleKind) -> BoxFuture<'_, Result<Box<dyn Duplex>>> {
        Box::pin(async move {
            // Makes sure that it is the guest that listens there.
            self.running(id).await?;
            let socket = match kind {
                ConsoleKind::Vnc => command_line::VNC_SOCKET,
                ConsoleKind::Serial => command_line::SERIAL_SOCKET,
            };
            let stream = process::connect(&self.folder_of(id), socket)
                .await
                .map_err(HypervisorError::io("connect to the guest's console"))?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }

    fn diagnostics(&self, id: Uuid) -> BoxFuture<'_, Result<Diagnostics>> {
        Box::pin(async move {
            let monitor = self.running(id).await?;
            let record = record::read(&self.folder_of(id));
            let mut diagnostics = monitor.diagnostics(record.as_ref()).await?;
            diagnostics.hypervisor = if self.kvm { "kvm" } else { "qemu" }.into();
            Ok(diagnostics)
        })
    }

    fn events(&self) -> broadcast::Receiver<GuestEvent> {
        self.events.subscribe()
    }

    fn maintain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (instances, limit) = (self.instances.clone(), self.config.console_log_bytes);
            let trim = move || {
                let Ok(entries) = std::fs::read_dir(&instances) else {
                    return;
                };
                for entry in entries.flatten() {
                    let trimmed = console::trim(&entry.path(), command_line::CONSOLE_LOG, limit)
                        .and_then(|()| console::empty(&entry.path(), command_line::STDERR));
                    if let Err(error) = trimmed {
                        tracing::warn!(%error, folder = %entry.path().display(), "cannot bound a guest's logs");
                    }
                }
            };
            // It only fails when it panics, and then the log has it.
            let _ = tokio::task::spawn_blocking(trim).await;
        })
    }
}
