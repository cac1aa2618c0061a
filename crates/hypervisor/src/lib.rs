//! Runs guests. [`Hypervisor`] is what the node needs of whatever runs them; [`qemu`] runs real ones, [`simulated`] plays them.
//!
//! Every call says what should be and can be made twice: starting a guest that runs, stopping one that does not and
//! removing one that is not there are all successes. What is running is always found by looking, never remembered, so a daemon that
//! was killed knows as much as one that was not.

pub mod qemu;
pub mod simulated;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use node_protocol::link::Duplex;
use node_protocol::queries::{ConsoleKind, Diagnostics};
pub use node_protocol::reports::PowerState;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use uuid::Uuid;

/// What goes wrong with guests.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// The emulator is not installed.
    #[error("{program} is not installed; `ferrostack up` installs it")]
    Missing {
        /// The program looked for.
        program: String,
    },
    /// The emulator ended before the guest ran.
    #[error("the guest could not be started: {reason}")]
    Start {
        /// The end of what it said.
        reason: String,
    },
    /// The guest's monitor does not answer.
    #[error("the guest's monitor did not answer within {seconds} s while {doing}")]
    Timeout {
        /// What was being tried.
        doing: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// The emulator refused.
    #[error("QEMU refused {command}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// Its error class.
        class: String,
        /// What it said.
        description: String,
    },
    /// The monitor said something that is not its protocol.
    #[error("the guest's monitor cannot be understood: {what}")]
    Protocol {
        /// What was wrong.
        what: String,
    },
    /// The monitor's connection ended.
    #[error("the guest's monitor closed the connection")]
    Closed,
    /// The machine refused something.
    #[error("cannot {doing}")]
    Io {
        /// What was being tried.
        doing: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// There is no such guest.
    #[error("there is no guest {id}")]
    NotFound {
        /// Its id.
        id: Uuid,
    },
    /// The guest does not run.
    #[error("guest {id} does not run")]
    NotRunning {
        /// Its id.
        id: Uuid,
    },
    /// All VNC ports are taken.
    #[error("no free VNC port between {first} and {last}")]
    NoVncPort {
        /// First of the range.
        first: u16,
        /// Last of the range.
        last: u16,
    },
    /// Another process starts or runs this guest.
    #[error("guest {id} is being started by another process")]
    Busy {
        /// Its id.
        id: Uuid,
    },
}

impl HypervisorError {
    /// For `map_err`: an I/O error and what was being tried.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// Result of a guest's operation.
pub type Result<T> = std::result::Result<T, HypervisorError>;

/// How a disk hangs in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskBus {
    /// virtio-blk
    #[default]
    Virtio,
    /// virtio-scsi
    Scsi,
    /// IDE with `pc`, SATA with `q35`.
    Ide,
}

/// A disk of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// A file in the guest's own folder, without any `/`.
    pub file: String,
    /// `qcow2` or `raw`.
    pub format: String,
    /// Where it hangs.
    #[serde(default)]
    pub bus: DiskBus,
    /// The guest cannot write it.
    #[serde(default)]
    pub read_only: bool,
    /// What a qcow2 is an overlay of. It overrides what the file's header says: QEMU then needs no way to any other folder.
    #[serde(default)]
    pub backing: Option<Backing>,
}

/// What a disk is an overlay of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// A file in the guest's own folder, as a rule a hard link to a cached image.
    pub file: String,
    /// Its format.
    pub format: String,
}

/// A network interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The port it is for.
    pub port_id: Uuid,
    /// The tap on the host; it exists.
    pub tap: String,
    /// Its hardware address.
    pub mac: String,
    /// Largest packet.
    pub mtu: u16,
    /// QEMU's device (`virtio-net-pci`, `e1000`, …).
    #[serde(default = "default_nic_model")]
    pub model: String,
    /// Whether the switch takes packets with unfinished checksums. Open vSwitch's userspace datapath does not: TCP would never connect.
    #[serde(default)]
    pub offload: bool,
}

fn default_nic_model() -> String {
    "virtio-net-pci".into()
}

/// What a guest is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// Its id, also that of its SMBIOS.
    pub id: Uuid,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disks; the first one is booted.
    pub disks: Vec<Disk>,
    /// Interfaces, in order.
    pub nics: Vec<Nic>,
    /// `pc`, `q35`, or a full machine name; the configured default if none.
    #[serde(default)]
    pub machine: Option<String>,
    /// QEMU's `-vga` model (`std`, `virtio`, `cirrus`, `qxl`, `none`).
    #[serde(default)]
    pub video: Option<String>,
    /// Virtual CPU topology: sockets, cores, threads; all sockets if none.
    #[serde(default)]
    pub topology: Option<(u32, u32, u32)>,
}

/// What is found of a guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Guest {
    /// Its id.
    pub id: Uuid,
    /// What it does.
    pub power_state: PowerState,
    /// Its process.
    pub pid: Option<u32>,
    /// Where its VNC server listens.
    pub vnc: Option<(String, u16)>,
    /// Ports whose interfaces it has.
    pub nics: Vec<Uuid>,
    /// When it was started, seconds of the epoch.
    pub started_at: Option<i64>,
}

/// What happens to guests by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestEvent {
    /// Whose.
    pub id: Uuid,
    /// What.
    pub kind: GuestEventKind,
}

/// Kinds of [`GuestEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEventKind {
    /// It began to run.
    Started,
    /// Its process has ended.
    Stopped,
    /// Its CPUs were stopped.
    Paused,
    /// Its CPUs run again.
    Resumed,
    /// It has rebooted.
    Reset,
    /// It has let go of the interface of this port.
    NicRemoved(Uuid),
}

/// What a hypervisor is, for the hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HypervisorInfo {
    /// `QEMU` or `simulated`.
    pub kind: String,
    /// As Nova counts: major·10⁶ + minor·10³ + micro.
    pub version: u64,
    /// Whether guests run on the CPU itself.
    pub accelerated: bool,
}

/// Whatever runs guests.
pub trait Hypervisor: Send + Sync + 'static {
    /// What it is.
    fn info(&self) -> HypervisorInfo;
    /// What an operator should know, one sentence each.
    fn findings(&self) -> Vec<String>;
    /// A guest's own folder, if the hypervisor keeps files.
    fn folder(&self, id: Uuid) -> Option<PathBuf>;
    /// All guests of which anything is there: a process or a folder.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Uuid>>>;
    /// Looks at a guest. `None`: nothing of it is there.
    fn inspect(&self, id: Uuid) -> BoxFuture<'_, Result<Option<Guest>>>;
    /// Sees to it that the guest runs. Returns when it does; a guest that runs already is left alone.
    fn start<'a>(&'a self, spec: &'a GuestSpec) -> BoxFuture<'a, Result<Guest>>;
    /// Sees to it that the guest does not run: asks it by ACPI, and after `patience` ends it. With no patience it is ended at once.
    fn stop(&self, id: Uuid, patience: Duration) -> BoxFuture<'_, Result<()>>;
    /// Asks the guest by ACPI to shut down. `true` when it did within `patience`; one that does not run did.
    fn shut_down(&self, id: Uuid, patience: Duration) -> BoxFuture<'_, Result<bool>>;
    /// Sees to it that nothing of the guest is left: process, folder.
    fn destroy(&self, id: Uuid) -> BoxFuture<'_, Result<()>>;
    /// Stops (or lets run again) the guest's CPUs.
    fn pause(&self, id: Uuid, paused: bool) -> BoxFuture<'_, Result<()>>;
    /// Sees to it that a running guest has the interface.
    fn attach_nic<'a>(&'a self, id: Uuid, nic: &'a Nic) -> BoxFuture<'a, Result<()>>;
    /// Sees to it that a running guest does not have the port's interface. A guest that does not answer keeps the device, but without its network.
    fn detach_nic(&self, id: Uuid, port_id: Uuid) -> BoxFuture<'_, Result<()>>;
    /// The serial log's last lines (all that is kept when `None`).
    fn console_log(&self, id: Uuid, lines: Option<u64>) -> BoxFuture<'_, Result<String>>;
    /// A stream to a console.
    fn console(&self, id: Uuid, kind: ConsoleKind) -> BoxFuture<'_, Result<Box<dyn Duplex>>>;
    /// Counters.
    fn diagnostics(&self, id: Uuid) -> BoxFuture<'_, Result<Diagnostics>>;
    /// What happens from here on. A receiver that lags looks at everything anew.
    fn events(&self) -> broadcast::Receiver<GuestEvent>;
    /// Work that comes up now and then (bounding the logs). The node calls it every few seconds.
    fn maintain(&self) -> BoxFuture<'_, ()>;
}

/// The last `lines` lines of a text, as Nova counts them: `Some(0)` is nothing.
pub(crate) fn tail(text: &str, lines: Option<u64>) -> &str {
    let Some(lines) = lines else { return text };
    let Ok(lines) = usize::try_from(lines) else { return text };
    if lines == 0 {
        return "";
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    match body.rmatch_indices('\n').nth(lines - 1) {
        Some((at, _)) => &text[at + 1..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_tail_counts_lines_like_tail() {
        let text = "a\nb\nc\n";
        assert_eq!(tail(text, None), text);
        assert_eq!(tail(text, Some(0)), "");
        assert_eq!(tail(text, Some(1)), "c\n");
        assert_eq!(tail(text, Some(2)), "b\nc\n");
        assert_eq!(tail(text, Some(9)), text);
        assert_eq!(tail("a\nb", Some(1)), "b");
        assert_eq!(tail("", Some(3)), "");
    }
}
