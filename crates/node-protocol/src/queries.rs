//! Questions a controller puts to a node. They have a time limit and change nothing.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "snake_case")]
pub enum Query {
    /// The end of a guest's serial log; [`Answer::ConsoleLog`].
    ConsoleLog {
        /// Whose.
        server_id: Uuid,
        /// So many last lines; all that is kept when `None`.
        lines: Option<u64>,
    },
    /// A guest's counters; [`Answer::Diagnostics`].
    Diagnostics {
        /// Whose.
        server_id: Uuid,
    },
    /// Where a VNC viewer reaches a guest; [`Answer::Vnc`].
    Vnc {
        /// Whose.
        server_id: Uuid,
    },
    /// Asks the node to open the tunnel `ticket` and to join it to a console; [`Answer::Done`] or an error.
    OpenTunnel {
        /// Whose console.
        server_id: Uuid,
        /// Which console.
        console: ConsoleKind,
        /// What the node names when it calls back; made by the controller for this one use.
        ticket: Uuid,
    },
    /// How long the machine runs and how busy it is; [`Answer::Uptime`].
    Uptime,
}

/// The consoles of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleKind {
    /// The screen, RFB.
    Vnc,
    /// The serial port, plain bytes.
    Serial,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The log's end; bytes that are not UTF-8 are replaced.
    ConsoleLog {
        /// The text.
        output: String,
    },
    /// The counters.
    Diagnostics(Diagnostics),
    /// Where VNC is.
    Vnc {
        /// Address the guest's VNC server listens on.
        host: String,
        /// 59XX.
        port: u16,
    },
    /// The line `uptime` prints.
    Uptime {
        /// ` 21:00:01 up 3 days, …, load average: 0.1, 0.1, 0.1`
        uptime: String,
    },
    /// It was done.
    Done,
}

/// Counters of a guest, in the units of the Compute API's diagnostics of microversion 2.48.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// `running`, `paused`, `shutdown`, `crashed`, `suspended`, `pending`.
    pub state: String,
    /// `qemu`, `kvm` or `simulated`: the hypervisor that runs it.
    pub hypervisor: String,
    /// Seconds since the guest was started.
    pub uptime: Option<u64>,
    /// CPU time in nanoseconds per virtual CPU; a single entry when only the sum is known.
    pub cpu_times: Vec<u64>,
    /// Number of virtual CPUs.
    pub num_cpus: u32,
    /// Memory in MiB: the most, and what the host really gave.
    pub memory_maximum: u64,
    /// Resident memory of the guest's process in MiB.
    pub memory_used: Option<u64>,
    /// Per interface.
    pub nics: Vec<NicDiagnostics>,
    /// Per disk.
    pub disks: Vec<DiskDiagnostics>,
    /// Whether the guest has a config drive.
    pub config_drive: bool,
}

/// Counters of an interface; seen from the guest (rx is what it received).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct NicDiagnostics {
    /// The hardware address.
    pub mac_address: String,
    pub rx_octets: u64,
    pub rx_errors: u64,
    pub rx_drop: u64,
    pub rx_packets: u64,
    pub tx_octets: u64,
    pub tx_errors: u64,
    pub tx_drop: u64,
    pub tx_packets: u64,
}

/// Counters of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DiskDiagnostics {
    /// The device's name in the guest (`vda`).
    pub name: String,
    pub read_bytes: u64,
    pub read_requests: u64,
    pub write_bytes: u64,
    pub write_requests: u64,
    pub errors_count: u64,
}

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum QueryError {
    /// The node knows no such guest, or it has never been started.
    #[error("the node has no such guest")]
    NotFound,
    /// The guest does not run, so it cannot be asked.
    #[error("the guest does not run")]
    NotRunning,
    /// The node is not connected.
    #[error("node {node} is not connected")]
    NotConnected {
        /// Its name.
        node: String,
    },
    /// The node did not answer in time.
    #[error("node {node} did not answer within {seconds} s")]
    Timeout {
        /// Its name.
        node: String,
        /// The limit.
        seconds: u64,
    },
    /// The node tried and failed.
    #[error("{message}")]
    Failed {
        /// What it says.
        message: String,
    },
}
