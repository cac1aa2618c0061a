//! What is: what a node says of itself, its guests and its ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::objects::Secret;

/// A node introduces itself. Said first on every connection, and as [`Report::Node`] when something of it changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeHello {
    /// Highest protocol version the node speaks.
    pub protocol_version: u32,
    /// The program's version.
    pub version: String,
    /// The node's name: `OS-EXT-SRV-ATTR:host`, the services' host, the ports' `binding:host_id`.
    pub hostname: String,
    /// `hypervisor_hostname`; the machine's fully qualified name.
    pub hypervisor_hostname: String,
    /// `QEMU` (also with KVM, as libvirt's driver says) or `simulated`.
    pub hypervisor_type: String,
    /// As an integer, the way Nova has it: 7002022 for 7.2.22.
    pub hypervisor_version: u64,
    /// Whether guests run on the CPU itself (KVM) or are emulated (TCG).
    pub accelerated: bool,
    /// The CPU.
    pub cpu: CpuInfo,
    /// CPUs that guests may use.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Space for guests' disks in GiB.
    pub disk_gib: u64,
    /// Free space for guests' disks in GiB.
    pub disk_free_gib: u64,
    /// The address VNC and migration use.
    pub host_ip: String,
    /// The end of this node's tunnels, if it has any.
    pub tunnel_ip: Option<String>,
    /// All addresses of the machine.
    #[serde(default)]
    pub ips: Vec<String>,
    /// The machine's id of this boot; a new one means that all guests are gone.
    #[serde(default)]
    pub boot_id: String,
    /// The Network API's view of the node.
    pub network: NetworkAgent,
}

/// The CPU as `GET /os-hypervisors` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CpuInfo {
    pub arch: String,
    pub model: String,
    pub vendor: String,
    pub features: Vec<String>,
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
}

/// What the node can do for networks (the agents of the Network API).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkAgent {
    /// `openvswitch` or `simulated`.
    pub driver: String,
    /// `system` (kernel), `netdev` (userspace) or `simulated`.
    pub datapath_type: String,
    /// The switch's version.
    #[serde(default)]
    pub switch_version: String,
    /// Physical network → bridge (`extnet` → `br-ex`).
    #[serde(default)]
    pub bridge_mappings: BTreeMap<String, String>,
    /// `vxlan`, `gre`, `geneve`, as far as the node has them.
    #[serde(default)]
    pub tunnel_types: Vec<String>,
    /// The integration bridge.
    #[serde(default)]
    pub integration_bridge: String,
}

/// Says itself with every beat.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Load of the last minute.
    pub load: f64,
    /// Memory in use in MiB.
    pub memory_used_mib: u64,
    /// Free space for guests' disks in GiB.
    pub disk_free_gib: u64,
    /// Guests that run.
    pub running_guests: u32,
    /// Whether the switch answers.
    pub switch_up: bool,
    /// What an operator should know, one sentence each.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// The power states of Nova, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    /// 0: not known, or not there yet.
    NoState,
    /// 1
    Running,
    /// 3
    Paused,
    /// 4
    Shutdown,
    /// 6
    Crashed,
    /// 7
    Suspended,
}

impl PowerState {
    /// The number in `OS-EXT-STS:power_state`.
    pub fn number(self) -> i64 {
        match self {
            PowerState::NoState => 0,
            PowerState::Running => 1,
            PowerState::Paused => 3,
            PowerState::Shutdown => 4,
            PowerState::Crashed => 6,
            PowerState::Suspended => 7,
        }
    }
}

/// How far a new guest is, for `OS-EXT-STS:task_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Ports are being plugged.
    Networking,
    /// Disks are being made.
    BlockDeviceMapping,
    /// The guest is being started.
    Spawning,
    /// Nothing is under way.
    Settled,
}

/// Why a server could not be brought to what it should be, as `fault` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// 500, as a rule.
    pub code: u16,
    /// One sentence for the user.
    pub message: String,
    /// For the administrator.
    #[serde(default)]
    pub details: String,
}

/// What a node sees of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerObserved {
    /// Which.
    pub id: Uuid,
    /// The revision of the desired state the node acted on; lower than the controller's means: not there yet.
    pub revision: u64,
    /// What the guest does.
    pub power_state: PowerState,
    /// How far it is. With [`Progress::Settled`] `reached` holds what was asked for, or `fault` says why not.
    pub progress: Progress,
    /// What has been brought about.
    pub reached: Reached,
    /// Why it is not as it should be; such a server is in ERROR. A failure is final until something is asked of the server anew.
    pub fault: Option<Fault>,
    /// When the guest was first started, seconds of the epoch.
    pub launched_at: Option<i64>,
    /// 59XX, where a VNC viewer reaches it.
    pub vnc_port: Option<u16>,
    /// Address of the same.
    pub vnc_host: Option<String>,
    /// Ports whose interfaces the guest has.
    #[serde(default)]
    pub plugged_ports: Vec<Uuid>,
    /// Root device (`/dev/vda`).
    #[serde(default)]
    pub root_device_name: String,
}

impl ServerObserved {
    /// Of a server of which something is there, and nothing else is known.
    pub fn unknown(id: Uuid) -> Self {
        Self {
            id,
            revision: 0,
            power_state: PowerState::NoState,
            progress: Progress::Spawning,
            reached: Reached::default(),
            fault: None,
            launched_at: None,
            vnc_port: None,
            vnc_host: None,
            plugged_ports: Vec::new(),
            root_device_name: String::new(),
        }
    }
}

/// The generations of a server's wishes that a node has brought about; compare with those in [`crate::objects::Server`].
///
/// With `power` reached and another power state observed, the guest has changed by itself (it was shut down from inside, or died).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// [`crate::objects::Power::generation`]; 0 before anything was done.
    pub power: u64,
    /// Soft reboots.
    pub soft_reboot: u64,
    /// Hard reboots.
    pub hard_reboot: u64,
    /// Rebuilds.
    pub rebuild: u64,
}

/// What a node sees of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortObserved {
    /// Which.
    pub id: Uuid,
    /// The revision of the desired state the node acted on.
    pub revision: u64,
    /// Whether its flows stand: `ACTIVE`, else `DOWN`.
    pub active: bool,
    /// `ovs` or `simulated`.
    pub vif_type: String,
    /// Its device on the node (`tap…`).
    #[serde(default)]
    pub device: String,
}

/// Anything a node observes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// The node itself has changed (disk, addresses, switch).
    Node(Box<NodeHello>),
    /// The node lives.
    Heartbeat(Heartbeat),
    /// A server.
    Server(ServerObserved),
    /// Nothing of a server is left.
    ServerGone {
        /// Which.
        id: Uuid,
    },
    /// A port.
    Port(PortObserved),
    /// A guest has posted its encrypted password to the metadata service.
    ServerPassword {
        /// Which.
        id: Uuid,
        /// What it posted.
        password: Secret,
    },
    /// Everything the node holds, said after each connection's snapshot has been worked into the node: a server that is not listed
    /// is not there.
    Inventory {
        /// All servers.
        servers: Vec<ServerObserved>,
        /// All ports.
        ports: Vec<PortObserved>,
    },
}

/// A report with its number. Numbers rise for ever, also over restarts of the node (they begin at the clock), so a report below
/// the last one seen of the same object is old and can be dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sequenced {
    /// Its number.
    pub sequence: u64,
    /// The report.
    pub report: Report,
}
