//! The node role: what a configuration means for a real node, simulated ones, and what is left to look at and remove without one.

use crate::Failure;
use crate::config::Config;
use crate::listeners;
use crate::serve::{node_name, openvswitch_rundir};
use database::Database;
use hypervisor::Hypervisor;
use hypervisor::qemu::{Qemu, QemuConfig};
use hypervisor::simulated::SimulatedConfig;
use node::switch::{self, Instance};
use node::{Capacity, NodeConfig, RealNode, SimulatedMachine};
use node_protocol::controller::NodeServer;
use node_protocol::link::Transport;
use node_protocol::node::unix_transport;
use openflow::{Connection, Field};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How many guests one node may have screens for.
const VNC_PORTS: u16 = 1000;

/// Starts the simulated nodes; they end with what is returned.
pub fn simulated(config: &Config, nodes: &NodeServer) -> Result<Vec<node::Node>, Failure> {
    let own = &config.simulate;
    let capacity = Capacity { vcpus: own.vcpus, memory_mib: own.memory_mib, disk_gib: own.disk_gib };
    let guests = SimulatedConfig { start: Duration::from_millis(own.boot_millis.into()), ..SimulatedConfig::default() };
    let transport: Arc<dyn Transport> = Arc::new(nodes.clone());
    let first = node_name(config);
    (0..own.nodes.max(1))
        .map(|i| {
            let name = if i == 0 { first.clone() } else { format!("{first}-{}", i + 1) };
            let mut machine = SimulatedMachine::new(&name, capacity, guests.clone());
            machine.config.bridge_mappings = mappings(config)?;
            machine.switch = node::simulated::Switch::new(machine.config.bridge_mappings.values());
            Ok(machine.start(transport.clone())?)
        })
        .collect()
}

/// The controller's door for the node on its own machine: a socket that only root and the controller's user may use.
pub fn door(config: &Config, nodes: NodeServer) -> Result<impl Future<Output = ()> + Send + use<>, Failure> {
    let path = config.node_socket();
    // Left of an earlier controller; whoever still listened there would have kept the port of an API, too.
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(format!("the socket {} is in the way: {e}", path.display()).into()),
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(&path).map_err(|e| format!("cannot listen on {}: {e}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let own = nix::unistd::geteuid().as_raw();
    Ok(async move {
        if let Err(error) = nodes.serve_unix(listener, vec![own]).await {
            tracing::error!(%error, "nodes can no longer connect");
        }
    })
}

fn mappings(config: &Config) -> Result<BTreeMap<String, String>, Failure> {
    config
        .node
        .bridge_mappings
        .iter()
        .map(|pair| {
            let (physical, bridge) = pair.split_once(':').ok_or_else(|| format!("node.bridge_mappings takes physical:bridge, and '{pair}' is not that"))?;
            Ok((physical.to_string(), bridge.to_string()))
        })
        .collect()
}

fn instance(config: &Config) -> Instance {
    if config.node.ovsdb_socket.is_empty() {
        return Instance::choose(&config.node_dir().join("openvswitch"));
    }
    Instance { run_dir: openvswitch_rundir(config), ..Instance::of_the_system() }
}

fn qemu(config: &Config) -> QemuConfig {
    let mut qemu = QemuConfig::new(config.node_dir().join("instances"));
    let listen = &config.node.vnc_listen;
    qemu.vnc_host = (!listen.is_empty()).then(|| listen.clone());
    qemu.vnc_ports = config.node.vnc_first_port..=config.node.vnc_first_port.saturating_add(VNC_PORTS - 1);
    // QEMU cuts there, and up to as much again is kept until then.
    qemu.console_log_bytes = config.node.console_log_kib.max(2) * 1024 / 2;
    qemu.kvm = match config.node.hypervisor.as_str() {
        "kvm" => Some(true),
        "tcg" => Some(false),
        _ => None,
    };
    qemu
}

fn switch_config(config: &Config) -> Result<switch::Config, Failure> {
    let mut wanted = switch::Config::new(instance(config));
    wanted.integration_bridge.clone_from(&config.node.integration_bridge);
    wanted.physical = mappings(config)?;
    let listen = &config.node.openflow_listen;
    wanted.listen = listen.parse().map_err(|_| format!("node.openflow_listen takes address:port, and '{listen}' is not that"))?;
    Ok(wanted)
}

/// Runs the node until `stop`.
pub async fn run(config: &Config, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
    let public = listeners::public_host(&config.api);
    let tunnel = if config.node.tunnel_ip.is_empty() { public.parse().ok() } else { Some(config.node.tunnel_ip.parse()?) };
    let name = node_name(config);
    let real = RealNode {
        node: NodeConfig {
            hostname: name.clone(),
            hypervisor_hostname: name,
            state: Some(config.node_dir().join("state")),
            host_ip: public,
            tunnel_ip: tunnel,
            bridge_mappings: mappings(config)?,
            capacity: None,
        },
        qemu: qemu(config),
        images: config.node_dir().join("image-cache"),
        image_cache_bytes: config.node.image_cache_gib << 30,
        switch: switch_config(config)?,
        metadata: Default::default(),
    };
    let node = real.start(unix_transport(config.node_socket())).await?;
    for finding in node.findings() {
        tracing::warn!(finding, "for the operator");
    }
    addresses(config).await;
    // An error of the channel means that the program ends as well.
    let _ = stop.wait_for(|stop| *stop).await;
    node.stop().await;
    Ok(())
}

/// Gives the machine its addresses on the bridges. What fails is said, and guests go on without.
async fn addresses(config: &Config) {
    for entry in &config.node.bridge_addresses {
        let parsed = entry.split_once('=').and_then(|(bridge, address)| Some((bridge, address.parse::<ipnet::IpNet>().ok()?)));
        let Some((bridge, address)) = parsed else {
            tracing::warn!(entry, "node.bridge_addresses takes bridge=address/prefix");
            continue;
        };
        if let Err(error) = host::external::ensure_addresses(bridge, &[address]).await {
            tracing::warn!(bridge, %error, "the machine has no address on its bridge");
            continue;
        }
        match host::external::ensure_outbound(&host::RealMachine, "cloud", &address, bridge) {
            Ok(host::external::Outbound::None(why)) => tracing::warn!(why, "guests do not reach beyond this machine"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "guests do not reach beyond this machine"),
        }
    }
}

/// Removes guests, taps, bridges and the switch that the node started. Returns what could not be removed, a sentence each.
pub async fn purge(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    if let Ok(qemu) = Qemu::new(qemu(config)).await {
        match qemu.list().await {
            Ok(guests) => {
                for id in guests {
                    if let Err(error) = qemu.destroy(id).await {
                        problems.push(format!("guest {id}: {error}"));
                    }
                }
            }
            Err(error) => problems.push(format!("the guests cannot be listed: {error}")),
        }
    }
    match switch_config(config) {
        Ok(wanted) => {
            if let Err(error) = switch::purge(&wanted).await {
                problems.push(format!("Open vSwitch: {error}"));
            }
        }
        Err(error) => problems.push(format!("Open vSwitch: {error}")),
    }
    for entry in &config.node.bridge_addresses {
        if let Some(address) = entry.split_once('=').and_then(|(_, a)| a.parse::<ipnet::IpNet>().ok()) {
            let _ = address;
            host::external::remove_outbound(&host::RealMachine, &host::external::Outbound::Nftables("ferrostack_cloud".into()));
            host::external::remove_outbound(&host::RealMachine, &host::external::Outbound::Iptables("ferrostack_cloud".into()));
        }
    }
    problems
}

/// What of guests, taps and flows contradicts the database, a sentence each.
pub async fn check(config: &Config, db: &Database) -> Result<Vec<String>, Failure> {
    let mut findings = Vec::new();
    let host = node_name(config);
    let (wanted, ports, up) = db.read(|tx| {
        let wanted: Vec<(String, Option<bool>)> = compute::store::servers::expected_guests(tx, &host)?;
        let ports: Vec<String> = network::bound_ports(tx, &host)?;
        let up: Vec<String> = tx.column(
            "SELECT p.id FROM ports p JOIN networks n ON n.id = p.network_id WHERE p.host_id = ?1 AND p.admin_state_up = 1 AND n.admin_state_up = 1",
            &database::params![host],
        )?;
        Ok::<_, api::Error>((wanted, ports, up))
    })?;
    let folder = config.node_dir().join("instances");
    let running: BTreeSet<String> = match hypervisor::qemu::processes(&folder) {
        Ok(found) => found.into_keys().map(|id| id.to_string()).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
        Err(e) => return Err(format!("cannot look for guests in {}: {e}", folder.display()).into()),
    };
    for (id, should_run) in &wanted {
        if *should_run == Some(true) && !running.contains(id) {
            findings.push(format!("server {id} is ACTIVE, but no guest runs"));
        }
        if *should_run == Some(false) && running.contains(id) {
            findings.push(format!("server {id} is not ACTIVE, but its guest runs"));
        }
    }
    for id in running.iter().filter(|id| !wanted.iter().any(|(w, _)| w == *id)) {
        findings.push(format!("guest {id} belongs to no server"));
    }
    let instance = instance(config);
    if !instance.runs() {
        findings.push("Open vSwitch does not run".into());
        return Ok(findings);
    }
    let vswitch = ovsdb::Vswitch::connect(ovsdb::Endpoint::Unix(instance.socket())).await?;
    let bridge = &config.node.integration_bridge;
    let switched = vswitch.ports(bridge);
    let plugged: BTreeSet<String> = switched.iter().map(|p| p.name.clone()).filter(|n| n.starts_with("tap")).collect();
    let taps_of = |ids: &[String]| -> BTreeSet<String> {
        ids.iter().filter_map(|id| Some(node_protocol::objects::tap_name(virtual_network::topology::PortId(id.parse().ok()?)))).collect()
    };
    let expected = taps_of(&ports);
    findings.extend(flows(&instance.run_dir.join(format!("{bridge}.mgmt")), &switched, &taps_of(&up)).await?);
    findings.extend(plugged.difference(&expected).map(|tap| format!("{tap} is plugged into the switch, but no port is bound to it")));
    let devices = std::fs::read_dir("/sys/class/net")?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let taps: BTreeSet<String> = devices.filter(|d| d.starts_with("tap") && d.len() == 14).collect();
    findings.extend(taps.difference(&plugged).map(|tap| format!("{tap} is a device that no switch has")));
    let folders: Vec<PathBuf> = std::fs::read_dir(&folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
    for folder in folders {
        let id = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !wanted.iter().any(|(w, _)| *w == id) {
            findings.push(format!("the folder {} belongs to no server", folder.display()));
        }
    }
    Ok(findings)
}

/// What of the integration bridge's flows contradicts its ports: where packets enter, each tap that is up has its flow, and no flow is for a
/// port that is not there.
async fn flows(socket: &Path, ports: &[ovsdb::Port], up: &BTreeSet<String>) -> Result<Vec<String>, Failure> {
    let stream = tokio::net::UnixStream::connect(socket).await.map_err(|e| format!("the switch does not answer on {}: {e}", socket.display()))?;
    let (connection, _events) = Connection::establish(stream).await?;
    let real: BTreeSet<u32> = connection.ports().await?.into_iter().map(|p| p.number).collect();
    let mut classified = BTreeSet::new();
    for flow in connection.flows().await? {
        if flow.table != virtual_network::pipeline::table::CLASSIFY {
            continue;
        }
        let from = flow.matches.as_ref().and_then(|m| m.get(Field::InPort)).and_then(|f| u32::try_from(f.value()).ok());
        classified.extend(from);
    }
    connection.close();
    let mut findings = Vec::new();
    for number in classified.difference(&real) {
        findings.push(format!("a flow is for port {number} of the switch, which does not exist"));
    }
    for port in ports.iter().filter(|p| up.contains(&p.name)) {
        match port.ofport {
            Some(number) if classified.contains(&number) => {}
            Some(_) => findings.push(format!("{} is plugged into the switch, but no flow lets its packets in", port.name)),
            None => findings.push(format!("the switch could not open {}: {}", port.name, port.error.as_deref().unwrap_or("it does not say why"))),
        }
    }
    Ok(findings)
}
