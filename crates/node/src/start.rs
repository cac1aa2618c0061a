//! Nodes put together: a real one from its configuration, a simulated one in memory.

use std::path::PathBuf;
use std::sync::Arc;

use hypervisor::qemu::{Qemu, QemuConfig};
use hypervisor::simulated::{Simulated, SimulatedConfig};
use node_protocol::link::Transport;

use crate::disks::LocalDisks;
use crate::metadata::{Listener, ListenerConfig};
use crate::ovs::OvsSwitch;
use crate::switch::{self, Ovs};
use crate::{Capacity, Node, NodeConfig, NodeError, NodeParts, simulated};

/// What a real node is made of.
#[derive(Debug, Clone)]
pub struct RealNode {
    /// The node itself.
    pub node: NodeConfig,
    /// How guests are run, and where their folders are.
    pub qemu: QemuConfig,
    /// Where fetched images are kept; on the same file system as the guests' folders.
    pub images: PathBuf,
    /// How many bytes of them are kept when no guest needs them.
    pub image_cache_bytes: u64,
    /// How the switch is set up.
    pub switch: switch::Config,
    /// How the metadata service is joined to the switch.
    pub metadata: ListenerConfig,
}

impl RealNode {
    /// Starts the switch's driver, the metadata service and the node. Needs root, or the capabilities CAP_NET_ADMIN, CAP_SYS_ADMIN,
    /// CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_KILL and CAP_SYS_PTRACE.
    pub async fn start(self, transport: Arc<dyn Transport>) -> Result<Node, NodeError> {
        let hypervisor = Qemu::new(self.qemu.clone()).await?;
        let disks = LocalDisks::open(
            self.node.hostname.clone(),
            self.qemu.instances,
            self.images,
            self.image_cache_bytes,
            transport.clone(),
        )?;
        let ovs = Ovs::start(self.switch).await?;
        let metadata = Listener::open(self.metadata).await?;
        let switch = OvsSwitch::new(ovs, self.node.tunnel_ip, Some(&metadata.interface)).await?;
        let parts = NodeParts {
            transport,
            hypervisor,
            switch,
            disks: Arc::new(disks),
            metadata: Some(metadata),
        };
        Node::start(self.node, parts)
    }
}

/// A machine in memory. It outlives the nodes that are started on it one after the other, as a real one does.
#[derive(Clone)]
pub struct SimulatedMachine {
    /// What the node on it is.
    pub config: NodeConfig,
    /// Plays the guests.
    pub hypervisor: Arc<Simulated>,
    /// Plays the switch.
    pub switch: Arc<simulated::Switch>,
    /// Stands for the disks.
    pub disks: Arc<simulated::Disks>,
}

impl SimulatedMachine {
    /// A machine of this name and size.
    pub fn new(hostname: &str, capacity: Capacity, guests: SimulatedConfig) -> Self {
        let config = NodeConfig {
            hostname: hostname.to_owned(),
            hypervisor_hostname: hostname.to_owned(),
            state: None,
            host_ip: "127.0.0.1".into(),
            tunnel_ip: None,
            bridge_mappings: [("extnet".to_owned(), "br-ex".to_owned())].into(),
            capacity: Some(capacity),
        };
        Self {
            hypervisor: Simulated::new(guests),
            switch: simulated::Switch::new(config.bridge_mappings.values()),
            disks: simulated::Disks::new(capacity.disk_gib),
            config,
        }
    }

    /// Starts a node on it.
    pub fn start(&self, transport: Arc<dyn Transport>) -> Result<Node, NodeError> {
        let parts = NodeParts {
            transport,
            hypervisor: self.hypervisor.clone(),
            switch: self.switch.clone(),
            disks: self.disks.clone(),
            metadata: None,
        };
        Node::start(self.config.clone(), parts)
    }
}
