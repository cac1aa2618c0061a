//! The node: makes the machine what the controller says it should be.
//!
//! ```text
//!  controller ──link──► Desired ──┬─► Worker per server ──► Hypervisor, Disks
//!      ▲                          │        │ taps
//!      │                          │        ▼
//!      └────── Reporter ◄─────────┴─► Network (compiler) ──► Switch
//! ```
//! [`desired`] holds what should be, also over a restart without a controller. [`reconciler`] wakes a task per server ([`server`]) and the
//! one of the networks ([`network`]) whenever something was told or has happened, and every few seconds. What they use is behind traits:
//! the hypervisor, the disks ([`disks`]), the switch ([`datapath`]); a simulated node ([`simulated`]) differs in nothing else.

pub mod datapath;
mod desired;
pub mod disks;
pub mod machine;
pub mod metadata;
mod network;
pub mod ovs;
mod queries;
mod reconciler;
mod server;
pub mod simulated;
mod start;
pub mod switch;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hypervisor::Hypervisor;
use node_protocol::link::Transport;
use node_protocol::node::{ControllerLink, Reporter};
use node_protocol::reports::{CpuInfo, Heartbeat, NetworkAgent, NodeHello, PowerState, Report};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use virtual_network::topology::{MetadataListener, NodeInfo};

use datapath::Switch;
use desired::Desired;
use disks::Disks;
use network::stopped;
use reconciler::Reconciler;
use server::Parts;
pub use start::{RealNode, SimulatedMachine};

/// How often the node says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a node is.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name: the host of its services and ports.
    pub hostname: String,
    /// Its fully qualified name.
    pub hypervisor_hostname: String,
    /// Where it keeps what should be; none keeps nothing (a simulated node).
    pub state: Option<PathBuf>,
    /// Address that others reach it by.
    pub host_ip: String,
    /// Its end of tunnels.
    pub tunnel_ip: Option<IpAddr>,
    /// Physical network → bridge.
    pub bridge_mappings: BTreeMap<String, String>,
    /// What guests may use, where it is not the machine's own.
    pub capacity: Option<Capacity>,
}

/// What a simulated machine has.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk in GiB.
    pub disk_gib: u64,
}

/// What a node works with.
pub struct NodeParts {
    /// The way to the controller.
    pub transport: Arc<dyn Transport>,
    /// Runs the guests.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Carries their packets.
    pub switch: Arc<dyn Switch>,
    /// Makes their disks.
    pub disks: Arc<dyn Disks>,
    /// Where guests' requests for metadata arrive; none serves them nothing but config drives.
    pub metadata: Option<metadata::Listener>,
}

/// What goes wrong at a node's start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NodeError {
    #[error("cannot open the node's state in {}", path.display())]
    State {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Hypervisor(#[from] hypervisor::HypervisorError),
    #[error(transparent)]
    Disks(#[from] disks::DiskError),
    #[error(transparent)]
    Switch(#[from] datapath::SwitchError),
    #[error("Open vSwitch cannot be used")]
    Ovs(#[from] switch::Error),
    #[error(transparent)]
    Metadata(#[from] metadata::ListenerError),
}

/// A node that runs. Dropping it stops it; guests and flows go on.
pub struct Node {
    stop: watch::Sender<bool>,
    findings: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// Starts a node. It connects to the controller when it can, and until then goes on by what it knows.
    pub fn start(config: NodeConfig, parts: NodeParts) -> Result<Self, NodeError> {
        let (stop, stopping) = watch::channel(false);
        let state = |path: &PathBuf| {
            let path = path.clone();
            move |source| NodeError::State { path, source }
        };
        if let Some(folder) = &config.state {
            std::fs::create_dir_all(folder).map_err(state(folder))?;
        }
        let info = node_info(&config, parts.metadata.as_ref().map(|listener| listener.description.clone()));
        let journal = config.state.as_ref().map(|folder| folder.join("desired.jsonl"));
        let opened = Desired::open(journal.clone(), info);
        let desired = match journal {
            Some(path) => opened.map_err(state(&path))?,
            None => opened.map_err(state(&PathBuf::new()))?,
        };
        let desired = Arc::new(desired);
        let reporter = Reporter::default();
        let numbers = config.state.as_ref().map(|folder| folder.join("numbers.json"));
        let network = network::start(desired.clone(), parts.switch.clone(), reporter.clone(), numbers, stopping.clone());
        let mut tasks = Vec::new();
        if let Some(listener) = parts.metadata {
            let service = metadata::Service::new(desired.clone(), Arc::new(network.clone()), reporter.clone());
            tasks.push(tokio::spawn(service.serve(listener.listener, stopping.clone())));
        }

        let hypervisor_kind = parts.hypervisor.info().kind;
        let shared = Arc::new(Parts {
            desired,
            hypervisor: parts.hypervisor.clone(),
            disks: parts.disks.clone(),
            switch: parts.switch.clone(),
            network: network.clone(),
            reporter: reporter.clone(),
            report_steps: hypervisor_kind != "simulated",
            observed: Mutex::default(),
        });
        let (events, received) = mpsc::channel(64);
        tasks.push(tokio::spawn(Reconciler::new(shared.clone(), stopping.clone()).run(received)));

        let (hello, hello_seen) = watch::channel(hello(&config, &*parts.hypervisor, &*parts.switch, &*parts.disks));
        let queries =
            queries::Queries { hypervisor: parts.hypervisor.clone(), transport: parts.transport.clone() };
        let link =
            ControllerLink::new(parts.transport, hello_seen, events, reporter.clone(), Arc::new(queries));
        let mut until = stopping.clone();
        tasks.push(tokio::spawn(async move {
            tokio::select! {
                () = link.run() => {}
                () = stopped(&mut until) => {}
            }
        }));

        let findings = {
            let (hypervisor, switch) = (parts.hypervisor.clone(), parts.switch.clone());
            move || {
                let mut all = hypervisor.findings();
                all.extend(switch.findings());
                all.extend(network.problem());
                all
            }
        };
        let findings: Arc<dyn Fn() -> Vec<String> + Send + Sync> = Arc::new(findings);
        let beat = Beat {
            config,
            hypervisor: parts.hypervisor,
            switch: parts.switch,
            disks: parts.disks,
            reporter,
            shared,
            hello,
            findings: findings.clone(),
        };
        tasks.push(tokio::spawn(beat.run(stopping)));
        Ok(Self { stop, findings, tasks })
    }

    /// What an operator should know, one sentence each.
    pub fn findings(&self) -> Vec<String> {
        (self.findings)()
    }

    /// Stops the node and waits until it has let go of everything. Guests and flows go on.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for task in std::mem::take(&mut self.tasks) {
            // A task that panicked has said so in the log.
            let _ = task.await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

fn node_info(config: &NodeConfig, metadata: Option<MetadataListener>) -> NodeInfo {
    NodeInfo {
        hostname: config.hostname.clone(),
        tunnel_address: config.tunnel_ip,
        bridge_mappings: config.bridge_mappings.clone(),
        metadata,
        dns_resolvers: resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
    }
}

/// The machine's DNS servers, for guests whose subnet names none. What listens only on the machine itself is of no use to them.
fn resolvers(resolv_conf: &str) -> Vec<std::net::IpAddr> {
    let server = |line: &str| line.trim().strip_prefix("nameserver")?.trim().parse().ok();
    let found = resolv_conf.lines().filter_map(server);
    found.filter(|a: &std::net::IpAddr| !a.is_loopback() && !a.is_unspecified()).collect()
}

fn hello(config: &NodeConfig, hypervisor: &dyn Hypervisor, switch: &dyn Switch, disks: &dyn Disks) -> NodeHello {
    let (hypervisor, switch) = (hypervisor.info(), switch.info());
    let (disk_gib, disk_free_gib) = disks.space();
    let simulated = config.capacity.is_some();
    let capacity =
        config.capacity.unwrap_or_else(|| Capacity { vcpus: machine::cpus(), memory_mib: machine::memory_mib().0, disk_gib });
    let cpu = match simulated {
        false => machine::cpu_info(),
        true => CpuInfo {
            arch: std::env::consts::ARCH.into(),
            model: "simulated".into(),
            vendor: "Ferrostack".into(),
            features: vec![],
            sockets: 1,
            cores: capacity.vcpus,
            threads: 1,
        },
    };
    NodeHello {
        protocol_version: node_protocol::PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        hostname: config.hostname.clone(),
        hypervisor_hostname: config.hypervisor_hostname.clone(),
        hypervisor_type: hypervisor.kind,
        hypervisor_version: hypervisor.version,
        accelerated: hypervisor.accelerated,
        cpu,
        vcpus: capacity.vcpus,
        memory_mib: capacity.memory_mib,
        disk_gib: capacity.disk_gib,
        disk_free_gib: if simulated { capacity.disk_gib } else { disk_free_gib },
        host_ip: config.host_ip.clone(),
        tunnel_ip: config.tunnel_ip.map(|ip| ip.to_string()),
        ips: if simulated { vec![config.host_ip.clone()] } else { machine::addresses() },
        boot_id: machine::boot_id(),
        network: NetworkAgent {
            driver: switch.driver,
            datapath_type: switch.datapath_type,
            switch_version: switch.version,
            bridge_mappings: config.bridge_mappings.clone(),
            tunnel_types: switch.tunnel_types,
            integration_bridge: switch.integration_bridge,
        },
    }
}

struct Beat {
    config: NodeConfig,
    hypervisor: Arc<dyn Hypervisor>,
    switch: Arc<dyn Switch>,
    disks: Arc<dyn Disks>,
    reporter: Reporter,
    shared: Arc<Parts>,
    hello: watch::Sender<NodeHello>,
    findings: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Beat {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut clock = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = stopped(&mut stop) => return,
            }
            let now = hello(&self.config, &*self.hypervisor, &*self.switch, &*self.disks);
            // The free space changes all the time, and is in the heartbeat.
            let comparable = |hello: &NodeHello| NodeHello { disk_free_gib: 0, ..hello.clone() };
            let changed = comparable(&self.hello.borrow()) != comparable(&now);
            let disk_free_gib = now.disk_free_gib;
            self.hello.send_replace(now.clone());
            if changed {
                self.reporter.report(Report::Node(Box::new(now)));
            }
            let problems = (self.findings)();
            let running = self.shared.observed.lock().values().filter(|seen| seen.power_state == PowerState::Running).count();
            self.reporter.report(Report::Heartbeat(Heartbeat {
                load: if self.config.capacity.is_some() { 0.0 } else { machine::load() },
                memory_used_mib: if self.config.capacity.is_some() { 0 } else { machine::memory_mib().1 },
                disk_free_gib,
                running_guests: running as u32,
                switch_up: self.switch.findings().is_empty(),
                problems,
            }));
        }
    }
}
