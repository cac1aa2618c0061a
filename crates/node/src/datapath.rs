//! What the node needs of a switch. `switch::Ovs` is Open vSwitch, [`crate::simulated::Switch`] plays one.

use futures_util::future::BoxFuture;
use openflow::{PacketIn, PacketOut};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;
use virtual_network::{Bridge, FlowDiff, Flows, PortNumbers};

/// What goes wrong at the switch; the chain of sources says why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct SwitchError {
    /// What was being tried.
    pub doing: String,
    /// Why not.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl SwitchError {
    /// For `map_err`.
    pub fn new<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let doing = doing.into();
        move |source| Self {
            doing,
            source: source.into(),
        }
    }
}

/// A guest's interface at the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    /// The port it is for; kept in OVSDB as `external_ids:iface-id`.
    pub port_id: Uuid,
    /// Its server; kept as `external_ids:vm-uuid`.
    pub server_id: Uuid,
    /// The tap.
    pub tap: String,
    /// The guest's hardware address; kept as `external_ids:attached-mac`.
    pub mac: String,
    /// Largest packet.
    pub mtu: u16,
}

/// What a switch is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwitchInfo {
    /// `openvswitch` or `simulated`.
    pub driver: String,
    /// `system`, `netdev` or `simulated`.
    pub datapath_type: String,
    /// Its version.
    pub version: String,
    /// The bridge guests are at.
    pub integration_bridge: String,
    /// `vxlan`, `gre`, `geneve`, as far as there are ports for them.
    pub tunnel_types: Vec<String>,
    /// Whether taps may carry packets with unfinished checksums (only the kernel's datapath finishes them).
    pub offload: bool,
}

/// A switch. Every call says what should be and can be made twice.
pub trait Switch: Send + Sync + 'static {
    /// What it is.
    fn info(&self) -> SwitchInfo;
    /// Sees to it that the tap exists and is a port of the integration bridge. Its number then is in [`Switch::port_numbers`].
    fn plug<'a>(&'a self, plug: &'a Plug) -> BoxFuture<'a, Result<(), SwitchError>>;
    /// Sees to it that neither the port nor the tap is there.
    fn unplug<'a>(&'a self, tap: &'a str) -> BoxFuture<'a, Result<(), SwitchError>>;
    /// All taps of guests that this switch has, or that are left of it on the machine, whoever plugged them.
    fn plugged(&self) -> BoxFuture<'_, Result<Vec<String>, SwitchError>>;
    /// The numbers of its ports, as they become known.
    fn port_numbers(&self) -> watch::Receiver<PortNumbers>;
    /// Counts the connections to it so far; 0 while there has been none. After each new one the flows have to be
    /// brought into line with [`Switch::replace`], for a switch that was restarted has none.
    fn connections(&self) -> watch::Receiver<u64>;
    /// Applies a difference, all or nothing per bridge, and forgets the connections it names.
    fn apply<'a>(&'a self, diff: &'a FlowDiff) -> BoxFuture<'a, Result<(), SwitchError>>;
    /// Brings all flows into line with these: reads what is there and applies the difference. Returns how many had to be changed.
    fn replace<'a>(&'a self, flows: &'a Flows) -> BoxFuture<'a, Result<usize, SwitchError>>;
    /// Sends a packet.
    fn packet_out<'a>(&'a self, bridge: &'a Bridge, packet: PacketOut) -> BoxFuture<'a, Result<(), SwitchError>>;
    /// The packets that flows send to the controller; the first caller gets them.
    fn take_packets(&self) -> Option<mpsc::Receiver<(Bridge, PacketIn)>>;
    /// What an operator should know, one sentence each.
    fn findings(&self) -> Vec<String>;
}
