//! The node's networks: keeps the compiler's state, puts what it says into the switch, and answers the packets that flows cannot.
//!
//! One task owns the compiler. It is woken by changes of what should be, of the switch's port numbers, and of the connection to the switch, and
//! by packets. Changes cost their own size; after a failure, after a new connection and every now and then everything is compared.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use node_protocol::node::Reporter;
use node_protocol::reports::{PortObserved, Report};
use openflow::{PacketIn, PacketOut};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use virtual_network::topology::{Binding, Change, Port, PortId, Topology};
use virtual_network::{Bridge, Compiler, FlowDiff, Numbers, PortNumbers, Responder, Response};

use crate::datapath::{Switch, SwitchError};
use crate::desired::Desired;

/// How often all flows are compared with those there are; Open vSwitch's driver does it by itself more often.
const COMPARE: Duration = Duration::from_secs(60);
/// The first pause after a failure; it doubles up to [`COMPARE`].
const RETRY: Duration = Duration::from_millis(100);

/// The way to the network's task for the node's other parts. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    pending: Mutex<Vec<Change>>,
    wake: Notify,
    /// Local ports whose flows stand.
    ready: Mutex<HashSet<PortId>>,
    changed: watch::Sender<u64>,
    compiler: RwLock<Compiler>,
    problem: Mutex<Option<String>>,
}

impl Network {
    /// Tells what has changed.
    pub fn change(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.shared.pending.lock().extend(changes);
            self.shared.wake.notify_one();
        }
    }

    /// Waits until a port's flows stand; `false` when they do not within `limit`.
    pub async fn ready(&self, port: PortId, limit: Duration) -> bool {
        let mut changed = self.shared.changed.subscribe();
        let standing = async {
            while !self.shared.ready.lock().contains(&port) {
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(limit, standing).await.is_ok()
    }

    /// Changes whenever a port has become ready or is so no longer.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Whether a port's flows stand.
    pub fn is_ready(&self, port: PortId) -> bool {
        self.shared.ready.lock().contains(&port)
    }

    /// The port, and which of its addresses, that the metadata listener sees under this address.
    pub fn metadata_client(&self, client: std::net::IpAddr) -> Option<(PortId, std::net::IpAddr)> {
        self.shared.compiler.read().metadata_client(client)
    }

    /// Why the switch is not as it should be, if so.
    pub fn problem(&self) -> Option<String> {
        self.shared.problem.lock().clone()
    }
}

/// Starts the task. `numbers` is where the compiler's numbers are kept (`None`: nowhere).
pub fn start(
    desired: Arc<Desired>,
    switch: Arc<dyn Switch>,
    reporter: Reporter,
    numbers: Option<PathBuf>,
    stop: watch::Receiver<bool>,
) -> Network {
    let known = numbers.as_ref().and_then(|path| std::fs::read(path).ok());
    let known: Numbers = known
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let network = Network {
        shared: Arc::new(Shared {
            pending: Mutex::default(),
            wake: Notify::new(),
            ready: Mutex::default(),
            changed: watch::channel(0).0,
            compiler: RwLock::new(Compiler::new(known)),
            problem: Mutex::default(),
        }),
    };
    // What was known before the task began is compared as a whole; what comes later waits in `pending`.
    let topology = desired.with_topology(Topology::clone);
    let task = Task {
        shared: network.shared.clone(),
        responder: Responder::new(),
        began: Instant::now(),
        advertised: Instant::now(),
        desired,
        driver: switch.info().driver,
        unkept: false,
        locals: HashMap::new(),
        switch,
        reporter,
        numbers,
        reported: Default::default(),
    };
    tokio::spawn(task.run(topology, stop));
    network
}

struct Task {
    shared: Arc<Shared>,
    responder: Responder,
    began: Instant,
    advertised: Instant,
    desired: Arc<Desired>,
    switch: Arc<dyn Switch>,
    reporter: Reporter,
    numbers: Option<PathBuf>,
    driver: String,
    /// Numbers have been given out since they were last written down.
    unkept: bool,
    /// Interface → port, of the ports on this node.
    locals: HashMap<String, PortId>,
    reported: HashMap<PortId, (bool, u64)>,
}

impl Task {
    async fn run(mut self, topology: Topology, mut stop: watch::Receiver<bool>) {
        let mut port_numbers = self.switch.port_numbers();
        let mut connections = self.switch.connections();
        let mut packets = self.switch.take_packets();
        for (id, port) in &topology.ports {
            self.note(*id, Some(port));
        }
        {
            let mut compiler = self.shared.compiler.write();
            compiler.replace(&topology);
            compiler.set_port_numbers(port_numbers.borrow_and_update().clone());
        }
        connections.borrow_and_update();
        // Nothing is known of the switch's flows yet.
        let mut whole = true;
        let mut renumbered = false;
        let mut pause = RETRY;
        let mut again = Instant::now();
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // `changed` marks a value as seen, so what it said is kept here until it is taken.
            let numbers = std::mem::take(&mut renumbered) || port_numbers.has_changed().unwrap_or(false);
            let numbers = numbers.then(|| port_numbers.borrow_and_update().clone());
            let diffs = self.take_changes(numbers);
            let result = match whole {
                true if Instant::now() < again => None,
                true => Some(self.replace().await),
                false => Some(self.apply(&diffs).await),
            };
            match result {
                None => {}
                Some(Ok(())) => {
                    if whole {
                        whole = false;
                        pause = RETRY;
                        again = Instant::now() + COMPARE;
                    }
                    self.settle();
                    if !diffs.is_empty() {
                        let packets = self.responder.announce(&self.shared.compiler.read());
                        self.send(packets).await;
                    }
                }
                Some(Err(error)) => {
                    let text = describe(&error);
                    if self.shared.problem.lock().replace(text.clone()).as_ref() != Some(&text) {
                        tracing::warn!(error = text, "the switch is not as it should be; trying again");
                    }
                    whole = true;
                    again = Instant::now() + pause;
                    pause = (pause * 2).min(COMPARE);
                }
            }
            if diffs.iter().any(|diff| !diff.is_empty()) {
                self.unkept = true;
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                changed = port_numbers.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    renumbered = true;
                }
                changed = connections.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    connections.borrow_and_update();
                    whole = true;
                    again = Instant::now();
                }
                packet = next(&mut packets) => match packet {
                    Some((Bridge::Integration, packet)) => self.packet(packet).await,
                    // No flow of a physical bridge sends packets here.
                    Some((Bridge::Physical(bridge), _)) => tracing::debug!(%bridge, "an unexpected packet"),
                    None => packets = None,
                },
                _ = clock.tick() => self.tick().await,
                () = tokio::time::sleep_until(again) => whole = true,
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// Compiles what has changed.
    fn take_changes(&mut self, numbers: Option<PortNumbers>) -> Vec<FlowDiff> {
        let changes = std::mem::take(&mut *self.shared.pending.lock());
        let mut diffs = Vec::new();
        if changes.is_empty() && numbers.is_none() {
            return diffs;
        }
        for change in &changes {
            if let Change::Port(id, port) = change {
                self.note(*id, port.as_ref());
            }
        }
        let mut compiler = self.shared.compiler.write();
        if let Some(numbers) = numbers {
            diffs.push(compiler.set_port_numbers(numbers));
        }
        if !changes.is_empty() {
            diffs.push(compiler.update(changes));
        }
        diffs
    }

    /// Notes which port an interface is.
    fn note(&mut self, id: PortId, port: Option<&Port>) {
        match port.map(|port| &port.binding) {
            Some(Binding::Local { interface }) => {
                self.locals.insert(interface.clone(), id);
            }
            _ => self.locals.retain(|_, local| *local != id),
        }
    }

    async fn apply(&self, diffs: &[FlowDiff]) -> Result<(), SwitchError> {
        for diff in diffs.iter().filter(|diff| !diff.is_empty()) {
            self.switch.apply(diff).await?;
        }
        Ok(())
    }

    async fn replace(&self) -> Result<(), SwitchError> {
        let flows = self.shared.compiler.read().flows();
        let changed = self.switch.replace(&flows).await?;
        if changed > 0 {
            tracing::info!(changed, "flows were brought into line");
        }
        Ok(())
    }

    /// The switch is as the compiler says: notes which ports are ready, and reports what has changed.
    fn settle(&mut self) {
        self.shared.problem.lock().take();
        let standing: HashSet<PortId> = {
            let compiler = self.shared.compiler.read();
            let interfaces = compiler.port_numbers().interfaces.keys();
            interfaces.filter_map(|name| self.locals.get(name)).copied().collect()
        };
        let mut known: Vec<PortId> = self.reported.keys().copied().collect();
        known.extend(standing.iter().filter(|id| !self.reported.contains_key(id)));
        for id in known {
            let seen = (standing.contains(&id), self.desired.port_revision(id));
            if self.reported.get(&id) == Some(&seen) {
                continue;
            }
            self.reporter.report(Report::Port(observed(id, seen, &self.driver)));
            if seen.0 {
                self.reported.insert(id, seen);
            } else {
                self.reported.remove(&id);
            }
        }
        let mut ready = self.shared.ready.lock();
        if *ready != standing {
            *ready = standing;
            drop(ready);
            self.shared.changed.send_modify(|n| *n += 1);
        }
    }

    /// Keeps the compiler's numbers, so that established connections survive a restart of the node.
    fn keep_numbers(&self) {
        let Some(path) = &self.numbers else { return };
        let write = || -> std::io::Result<()> {
            let text = serde_json::to_vec(self.shared.compiler.read().numbers())?;
            let new = path.with_extension("new");
            std::fs::write(&new, text)?;
            std::fs::rename(new, path)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "the switch's numbers cannot be kept; a restart would cut connections");
        }
    }

    async fn packet(&mut self, packet: PacketIn) {
        let response = self
            .responder
            .respond(&self.shared.compiler.read(), &packet, self.began.elapsed());
        self.answer(response).await;
    }

    /// What the passing of a second leads to.
    async fn tick(&mut self) {
        if std::mem::take(&mut self.unkept) {
            self.keep_numbers();
        }
        let response = self.responder.tick(&self.shared.compiler.read(), self.began.elapsed());
        self.answer(response).await;
        if self.advertised.elapsed() >= Responder::ADVERTISE_EVERY {
            self.advertised = Instant::now();
            let packets = self.responder.advertise(&self.shared.compiler.read());
            self.send(packets).await;
        }
    }

    /// Tells the switch what became known of neighbours, then sends the packets, some of which waited for that.
    async fn answer(&mut self, response: Response) {
        for (network, address, mac) in response.neighbors {
            let diff = self.shared.compiler.write().set_neighbor(network, address, mac);
            if let Err(error) = self.switch.apply(&diff).await {
                // The next comparison of everything brings it.
                tracing::warn!(
                    error = describe(&error),
                    "a neighbour's address could not be told to the switch"
                );
            }
        }
        self.send(response.packets).await;
    }

    async fn send(&self, packets: Vec<PacketOut>) {
        for packet in packets {
            if let Err(error) = self.switch.packet_out(&Bridge::Integration, packet).await {
                tracing::debug!(error = describe(&error), "a packet could not be sent");
            }
        }
    }
}

/// Waits until the node is to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Without a sender nobody keeps the node.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What a port's state is called.
pub fn observed(id: PortId, (active, revision): (bool, u64), driver: &str) -> PortObserved {
    PortObserved {
        id: id.0,
        revision,
        active,
        vif_type: if driver == "simulated" { "simulated" } else { "ovs" }.into(),
        device: node_protocol::objects::tap_name(id),
    }
}

async fn next(packets: &mut Option<mpsc::Receiver<(Bridge, PacketIn)>>) -> Option<(Bridge, PacketIn)> {
    match packets {
        Some(packets) => packets.recv().await,
        None => std::future::pending().await,
    }
}

/// An error with its causes.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
