//! Open vSwitch as the node's switch: bridges and ports by OVSDB, flows and packets by OpenFlow.
//!
//! Nothing here knows what the flows mean; `virtual-network` does. The driver's part is that a bridge holds what it was told to hold:
//! it sends differences in one bundle, compares everything when a bridge connects (again) and from time to time, and
//! repairs what somebody else has changed. No process is started on the way of a packet or of a port.
//!
//! ```text
//!   Ovs ──── ovsdb ──────► ovsdb-server ◄── ovs-vswitchd
//!     └─ controller (tcp:127.0.0.1:6633) ◄─── OpenFlow ──┘
//! ```

mod bridge;
mod conntrack;
mod controller;
mod daemons;
mod error;
mod program;
pub mod tap;

pub use bridge::Applied;
pub use conntrack::Connections;
pub use daemons::Instance;
pub use error::Error;
pub use openflow::{PacketIn, PacketOut};
pub use ovsdb::{Port, PortSpec};
pub use program::Program;

use bridge::Bridge;
use openflow::{Action, Flow, Mac, Match, port};
use ovsdb::{BridgeSpec, Endpoint, Vswitch};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

/// Answers a packet that came to the controller on a bridge with packets to send out of the same bridge.
/// Packets of a bridge are handled one after the other.
pub type Handler = Arc<dyn Fn(String, PacketIn) -> Pin<Box<dyn Future<Output = Vec<PacketOut>> + Send>> + Send + Sync>;

const STARTED_WITHIN: Duration = Duration::from_secs(10);
const FREED_WITHIN: Duration = Duration::from_secs(1);
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
const OPENED_WITHIN: Duration = Duration::from_secs(10);
const PROTOCOLS: [&str; 4] = ["OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"];

/// Note on what is ours, so that an orphan can be told from what somebody else made.
const MANAGED: (&str, &str) = ("managed-by", "ferrostack");
/// Notes on ports by which other tools know whose a port is; nova and libvirt set the same.
const PORT_ID: &str = "iface-id";
const PORT_MAC: &str = "attached-mac";
const SERVER_ID: &str = "vm-uuid";

/// How the switch is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which Open vSwitch.
    pub ovs: Instance,
    /// `system` (the kernel's) or `netdev` (in user space); none finds out by trying.
    pub datapath: Option<String>,
    /// Bridge of the guests.
    pub integration_bridge: String,
    /// Physical networks and their bridges.
    pub physical: BTreeMap<String, String>,
    /// Where the bridges find the controller.
    pub listen: SocketAddr,
    /// How often the bridges and flows are compared with what they should be.
    pub verify_every: Duration,
}

impl Config {
    /// The usual: `br-int`, `extnet` on `br-ex`, 127.0.0.1:6633, the datapath that works.
    pub fn new(ovs: Instance) -> Config {
        Config {
            ovs,
            datapath: None,
            integration_bridge: "br-int".to_owned(),
            physical: BTreeMap::from([("extnet".to_owned(), "br-ex".to_owned())]),
            listen: SocketAddr::from(([127, 0, 0, 1], 6633)),
            verify_every: Duration::from_secs(15),
        }
    }

    /// Every bridge, the integration bridge first. Physical networks may share one.
    fn bridges(&self) -> impl Iterator<Item = &str> {
        let mut physical: Vec<&str> = self.physical.values().map(String::as_str).collect();
        physical.sort_unstable();
        physical.dedup();
        std::iter::once(self.integration_bridge.as_str()).chain(physical)
    }

    fn physical_bridges(&self) -> impl Iterator<Item = &str> {
        self.bridges().skip(1)
    }

    /// Name of the patch port on the integration bridge that leads to a physical bridge.
    pub fn patch_to(&self, physical_bridge: &str) -> String {
        format!("int-{physical_bridge}")
    }

    /// Name of the patch port on a physical bridge that leads to the integration bridge.
    pub fn patch_from(&self, physical_bridge: &str) -> String {
        format!("phy-{physical_bridge}")
    }
}

struct Inner {
    config: Config,
    vswitch: Vswitch,
    /// By name.
    bridges: BTreeMap<String, Bridge>,
    handler: RwLock<Option<Handler>>,
    datapath: RwLock<String>,
}

impl Inner {
    fn handler(&self) -> Option<Handler> {
        self.handler.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn datapath(&self) -> String {
        self.datapath.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn bridge(&self, name: &str) -> Result<&Bridge, Error> {
        self.bridges
            .get(name)
            .ok_or_else(|| Error::UnknownBridge(name.to_owned()))
    }

    fn spec(&self, bridge: &str, datapath: &str) -> BridgeSpec {
        BridgeSpec {
            name: bridge.to_owned(),
            datapath_type: Some(datapath.to_owned()),
            secure: true,
            protocols: PROTOCOLS.map(str::to_owned).to_vec(),
            controllers: vec![format!("tcp:{}", self.config.listen)],
            external_ids: BTreeMap::from([(MANAGED.0.to_owned(), MANAGED.1.to_owned())]),
        }
    }

    /// Finds the datapath by making the integration bridge with it: whether the kernel has one shows only then.
    async fn find_datapath(&self) -> Result<String, Error> {
        let bridge = self.config.integration_bridge.as_str();
        let current = self.vswitch.datapath_type(bridge).filter(|t| !t.is_empty());
        let works = || self.vswitch.datapath_id(bridge).is_some();
        let candidates = match (&self.config.datapath, current) {
            (Some(given), _) => vec![given.clone()],
            // Not changed under the guests' feet.
            (None, Some(current)) if works() => vec![current],
            (None, _) => vec!["system".to_owned(), "netdev".to_owned()],
        };
        for datapath in candidates {
            self.vswitch.ensure_bridge(&self.spec(bridge, &datapath)).await?;
            if works() {
                return Ok(datapath);
            }
            tracing::info!("the {datapath} datapath does not work here");
        }
        Err(Error::NoDatapath(bridge.to_owned()))
    }

    /// Bridges and the patch ports between them, as they should be.
    async fn ensure_bridges(&self) -> Result<(), Error> {
        let datapath = self.datapath();
        for bridge in self.config.bridges() {
            self.vswitch.ensure_bridge(&self.spec(bridge, &datapath)).await?;
        }
        for bridge in self.config.physical_bridges() {
            let (to, from) = (self.config.patch_to(bridge), self.config.patch_from(bridge));
            self.vswitch
                .ensure_ports(bridge, &[PortSpec::patch(&from, &to)])
                .await?;
            self.vswitch
                .ensure_ports(&self.config.integration_bridge, &[PortSpec::patch(&to, &from)])
                .await?;
            if let Err(e) = tap::set_up(bridge) {
                tracing::warn!("{e}");
            }
        }
        Ok(())
    }

    /// Compares and repairs, for ever.
    async fn care(self: Arc<Inner>) {
        let mut pause = self.config.verify_every;
        loop {
            sleep(pause).await;
            if !self.vswitch.database().is_connected() {
                continue;
            }
            if let Err(e) = self.ensure_bridges().await {
                tracing::warn!("comparing the bridges with what they should be: {e}");
            }
            let mut took = Duration::ZERO;
            for bridge in self.bridges.values() {
                took += bridge.verify().await.unwrap_or_default();
            }
            // A dump of very many flows keeps the switch's main thread busy, so it pauses a hundred times as long, but never so long that a loss goes unseen.
            pause = self.config.verify_every.max((took * 100).min(self.config.verify_every * 2));
        }
    }
}

/// Background tasks, which end with the last handle.
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// The switch of this node. Clones share it; its tasks end with the last of them, Open vSwitch goes on.
#[derive(Clone)]
pub struct Ovs {
    inner: Arc<Inner>,
    _tasks: Arc<Tasks>,
}

/// An interface of a guest that is to be on the integration bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    /// Name of the interface.
    pub interface: String,
    /// The network port.
    pub port_id: String,
    /// MAC of the guest's end.
    pub mac: Mac,
    /// The server, if it is one's.
    pub server_id: Option<String>,
    /// Made by us as a tap that this user may open; otherwise it exists already (a veth, say).
    pub tap: Option<TapOwner>,
    /// Greatest packet.
    pub mtu: Option<u16>,
}

/// Who may open a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapOwner {
    /// Only who has CAP_NET_ADMIN.
    Privileged,
    /// Also a process with this user id.
    User(u32),
}

/// A guest's interface as it is on the integration bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugged {
    /// Name of the interface.
    pub interface: String,
    /// The network port.
    pub port_id: String,
    /// MAC of the guest's end, as it was noted.
    pub mac: Option<Mac>,
    /// The server.
    pub server_id: Option<String>,
    /// Number in OpenFlow; none if the switch cannot use the interface.
    pub number: Option<u32>,
}

impl Ovs {
    /// Starts Open vSwitch if it is ours to start, makes the bridges, and begins to listen for them. Returns when all are
    /// connected.
    ///
    /// # Errors
    /// If Open vSwitch cannot be used, or the controller's address is taken.
    pub async fn start(config: Config) -> Result<Ovs, Error> {
        let listener = listen(config.listen).await?;
        if config.ovs.ours {
            config.ovs.start().await?;
        }
        let vswitch = connect(&config.ovs).await?;
        // What a physical bridge holds until it is told otherwise: the machine's own traffic goes through it.
        let learning = || Program::from_iter([Flow::new(0, 0, Match::new(), vec![Action::output(port::NORMAL)])]);
        let mut bridges: BTreeMap<String, Bridge> = config
            .physical_bridges()
            .map(|b| (b.to_owned(), Bridge::new(b, Some(learning()))))
            .collect();
        let integration = config.integration_bridge.clone();
        bridges.insert(integration.clone(), Bridge::new(&integration, None));
        let inner = Arc::new(Inner {
            config,
            vswitch,
            bridges,
            handler: RwLock::default(),
            datapath: RwLock::default(),
        });
        let mut tasks = Tasks(vec![
            tokio::spawn(controller::serve(inner.clone(), listener)).abort_handle(),
        ]);
        let datapath = inner.find_datapath().await?;
        *inner.datapath.write().unwrap_or_else(PoisonError::into_inner) = datapath;
        inner.ensure_bridges().await?;
        for bridge in inner.bridges.values() {
            let connected = tokio::time::timeout(CONNECTED_WITHIN, bridge.connected()).await;
            connected.map_err(|_| Error::NotConnected(bridge.name.clone()))?;
        }
        if inner.config.ovs.ours {
            tasks
                .0
                .push(tokio::spawn(inner.config.ovs.clone().supervise()).abort_handle());
        }
        tasks.0.push(tokio::spawn(inner.clone().care()).abort_handle());
        Ok(Ovs {
            inner,
            _tasks: Arc::new(tasks),
        })
    }

    /// How the switch is set up.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The datapath in use: `system` or `netdev`.
    pub fn datapath(&self) -> String {
        self.inner.datapath()
    }

    /// Version of Open vSwitch, as it says.
    pub fn version(&self) -> Option<String> {
        self.inner.vswitch.version()
    }

    /// Who answers packets that come to the controller.
    pub fn on_packet_in(&self, handler: Handler) {
        *self.inner.handler.write().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    /// Makes the bridge hold exactly this. Only the difference is sent, all at once. Flows that the switch refuses are left out, and named in
    /// the answer.
    ///
    /// # Errors
    /// If there is no such bridge, or it does not do what it is told. A bridge that is not connected is no error: what is wanted is
    /// remembered, and in force as soon as it connects.
    pub async fn apply(&self, bridge: &str, program: Program) -> Result<Applied, Error> {
        self.inner.bridge(bridge)?.apply(program).await
    }

    /// Makes the bridge hold the flows of `add` and no longer those of `remove`, at the cost of the change, not of the whole.
    /// A flow goes by its table, priority and match; one that is added takes the place of the one with the same.
    /// [`Ovs::apply`] must have said once what the whole is.
    ///
    /// # Errors
    /// As [`Ovs::apply`].
    pub async fn update(&self, bridge: &str, remove: &[Flow], add: &[Flow]) -> Result<Applied, Error> {
        self.inner.bridge(bridge)?.update(remove, add).await
    }

    /// Compares what the bridges hold with what they should hold, and repairs it, now rather than at the next turn.
    pub async fn verify(&self) {
        for bridge in self.inner.bridges.values() {
            bridge.verify().await;
        }
    }

    /// Sends a packet out of a bridge.
    ///
    /// # Errors
    /// If there is no such bridge, or it is not connected.
    pub fn packet_out(&self, bridge: &str, packet: PacketOut) -> Result<(), Error> {
        self.inner.bridge(bridge)?.packet_out(packet)
    }

    /// Waits until a bridge is connected.
    ///
    /// # Errors
    /// If there is no such bridge.
    pub async fn connected(&self, bridge: &str) -> Result<(), Error> {
        self.inner.bridge(bridge)?.connected().await;
        Ok(())
    }

    /// Whether every bridge is connected at the moment.
    pub fn is_healthy(&self) -> bool {
        self.inner.bridges.values().all(|b| b.connection().is_some())
    }

    /// Puts a guest's interface on the integration bridge, and returns its number in OpenFlow. Doing it again changes nothing.
    ///
    /// # Errors
    /// If the interface cannot be made or the switch cannot use it.
    pub async fn plug(&self, plug: &Plug) -> Result<u32, Error> {
        let name = plug.interface.as_str();
        if let Some(owner) = plug.tap {
            if !tap::exists(name) {
                // The switch does not notice that an interface of the same name is another one.
                self.inner.vswitch.delete_ports(&[name]).await?;
            }
            let owner = if let TapOwner::User(uid) = owner {
                Some(uid)
            } else {
                None
            };
            tap::ensure(name, owner, plug.mtu)?;
        }
        let mut spec = PortSpec::new(name, "")
            .external_id(MANAGED.0, MANAGED.1)
            .external_id(PORT_ID, &plug.port_id);
        spec = spec
            .external_id(PORT_MAC, &plug.mac.to_string())
            .external_id("iface-status", "active");
        if let Some(id) = &plug.server_id {
            spec = spec.external_id(SERVER_ID, id);
        }
        let bridge = self.inner.config.integration_bridge.clone();
        self.ensure_port(&bridge, spec).await
    }

    /// Takes a guest's interface off the bridge, and removes it. One that is not there is no error.
    ///
    /// # Errors
    /// If the switch or the kernel refuses.
    pub async fn unplug(&self, interface: &str) -> Result<(), Error> {
        // In this order: if we are killed in between, the port is still listed, and found to be an orphan.
        tap::remove(interface)?;
        Ok(self.inner.vswitch.delete_ports(&[interface]).await?)
    }

    /// The guests' interfaces on the integration bridge that we put there.
    pub fn plugged(&self) -> Vec<Plugged> {
        let ports = self.ports(&self.inner.config.integration_bridge);
        let ours = ports
            .into_iter()
            .filter(|p| p.external_ids.get(MANAGED.0).is_some_and(|v| v == MANAGED.1));
        let plugged = ours.filter_map(|p| {
            Some(Plugged {
                port_id: p.external_ids.get(PORT_ID)?.clone(),
                mac: p.external_ids.get(PORT_MAC).and_then(|m| m.parse().ok()),
                server_id: p.external_ids.get(SERVER_ID).cloned(),
                number: p.ofport,
                interface: p.name,
            })
        });
        plugged.collect()
    }

    /// Makes a port as it should be, and returns its number in OpenFlow. An interface of the machine that becomes one is
    /// closed to the machine itself, see [`tap::isolate`].
    ///
    /// # Errors
    /// If there is no such bridge, or the switch cannot use the interface.
    pub async fn ensure_port(&self, bridge: &str, spec: PortSpec) -> Result<u32, Error> {
        let name = spec.name.clone();
        if spec.kind.is_empty() && tap::exists(&name) {
            tap::isolate(&name)?;
        }
        self.inner.vswitch.ensure_ports(bridge, &[spec]).await?;
        Ok(self.inner.vswitch.ofport(&name, OPENED_WITHIN).await?)
    }

    /// The port through which a kind of tunnel (`vxlan`, `geneve`, `gre`) leaves the integration bridge. Key and remote address are set by flows.
    ///
    /// # Errors
    /// If the switch does not know that kind.
    pub async fn ensure_tunnel(&self, kind: &str, local: std::net::IpAddr) -> Result<u32, Error> {
        let spec = PortSpec::new(format!("{kind}-tun"), kind)
            .option("remote_ip", "flow")
            .option("key", "flow")
            .option("local_ip", &local.to_string());
        let bridge = self.inner.config.integration_bridge.clone();
        self.ensure_port(&bridge, spec).await
    }

    /// Takes ports off whatever bridge they are on.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn remove_ports(&self, names: &[&str]) -> Result<(), Error> {
        Ok(self.inner.vswitch.delete_ports(names).await?)
    }

    /// Ports of a bridge.
    pub fn ports(&self, bridge: &str) -> Vec<Port> {
        self.inner.vswitch.ports(bridge)
    }

    /// Number of a port in OpenFlow, if the switch has it.
    pub fn port_number(&self, name: &str) -> Option<u32> {
        self.inner.vswitch.port(name).and_then(|p| p.1.ofport)
    }

    /// For each physical network: its bridge, the number of the patch port at the integration bridge, and at the physical bridge.
    pub fn patches(&self) -> BTreeMap<String, (String, u32, u32)> {
        let config = &self.inner.config;
        let entry = |(network, bridge): (&String, &String)| {
            let here = self.port_number(&config.patch_to(bridge))?;
            let there = self.port_number(&config.patch_from(bridge))?;
            Some((network.clone(), (bridge.clone(), here, there)))
        };
        config.physical.iter().filter_map(entry).collect()
    }

    /// Changes whenever a port, its number or a bridge may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.vswitch.database().changes()
    }

    /// Makes the switch forget connections, so that their next packets are judged anew.
    ///
    /// # Errors
    /// If the switch does not run or refuses.
    pub async fn forget_connections(&self, which: &Connections) -> Result<(), Error> {
        // Not with the name of the datapath, which Open vSwitch 3.1 takes for a tuple that it is not.
        let (zone, tuple) = (format!("zone={}", which.zone), which.to_string());
        let mut args = vec![zone.as_str()];
        if which.has_tuple() {
            args.push(&tuple);
        }
        self.control("dpctl/flush-conntrack", &args).await.map(drop)
    }

    /// What the switch would do with a packet: `ofproto/trace` with a flow in `ovs-ofctl`'s words.
    ///
    /// # Errors
    /// If the switch does not run, or does not understand the flow.
    pub async fn trace(&self, bridge: &str, flow: &str) -> Result<String, Error> {
        self.control("ofproto/trace", &[bridge, flow]).await
    }

    /// A command as `ovs-appctl` gives it.
    ///
    /// # Errors
    /// If the switch does not run, or the command fails.
    pub async fn control(&self, command: &str, args: &[&str]) -> Result<String, Error> {
        let socket = self.inner.config.ovs.control().ok_or(Error::Program {
            program: "ovs-vswitchd",
            message: "it does not run".to_owned(),
        })?;
        Ok(ovsdb::unixctl::call(&socket, command, args).await?)
    }

    /// Removes everything that the driver has made: guests' interfaces and bridges. Ends Open vSwitch if it is ours.
    ///
    /// # Errors
    /// If something could not be removed; the rest is.
    pub async fn purge(self) -> Result<(), Error> {
        let config = self.inner.config.clone();
        drop(self);
        purge(&config).await
    }
}

/// Removes everything that a driver with this configuration has made, whether one runs or not. Bridges that were there before
/// stay, without a controller.
///
/// # Errors
/// If something could not be removed.
pub async fn purge(config: &Config) -> Result<(), Error> {
    if config.ovs.runs() {
        let vswitch = connect(&config.ovs).await?;
        let ours = |p: &Port| p.external_ids.get(MANAGED.0).is_some_and(|v| v == MANAGED.1);
        let taps: Vec<Port> = vswitch
            .ports(&config.integration_bridge)
            .into_iter()
            .filter(ours)
            .collect();
        for tap in taps.iter().filter(|p| p.kind.is_empty()) {
            tap::remove(&tap.name)?;
        }
        vswitch
            .delete_ports(&taps.iter().map(|p| p.name.as_str()).collect::<Vec<_>>())
            .await?;
        for bridge in config.bridges() {
            if vswitch.is_marked(bridge, MANAGED.0, MANAGED.1) {
                vswitch.delete_bridge(bridge).await?;
            } else {
                // It was there before us, maybe with the machine's own network on it.
                vswitch.delete_ports(&[&config.patch_from(bridge)]).await?;
                vswitch.release_bridge(bridge).await?;
            }
        }
    }
    if config.ovs.ours {
        config.ovs.stop().await
    } else {
        Ok(())
    }
}

/// A predecessor may be about to let go of the address.
async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let deadline = Instant::now() + FREED_WITHIN;
    loop {
        match TcpListener::bind(address).await {
            Ok(l) => return Ok(l),
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(Duration::from_millis(10)).await;
            }
            Err(source) => return Err(Error::Listen { address, source }),
        }
    }
}

/// The database's socket is there a moment after its daemon has started.
async fn connect(ovs: &Instance) -> Result<Vswitch, Error> {
    let deadline = Instant::now() + STARTED_WITHIN;
    loop {
        match Vswitch::connect(Endpoint::Unix(ovs.socket())).await {
            Ok(v) => return Ok(v),
            Err(e) if Instant::now() > deadline || !ovs.ours => return Err(e.into()),
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}
