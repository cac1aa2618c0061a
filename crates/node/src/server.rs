//! One server: what should be of it, what is, and the steps between.
//!
//! A task per server runs [`Worker::reconcile`] whenever something of it may have changed. It takes no input but what should be,
//! what is written down of its progress, and what is. Every step looks first whether it is done, so a node that is killed anywhere
//! goes on from there:
//!
//! ```text
//!  not wanted ──► guest ended ─► taps unplugged ─► folder removed ─► "gone"
//!  wanted ─┬─ a wish is new ─┬─ stopped: ACPI, then end
//!          │                 └─ running: (rebuild: end, remove disks) (reboot: end) ─► disks ─► config drive ─► taps ─► flows ─► start
//!          └─ nothing is new ─── plug and unplug interfaces, report what is seen
//! ```
//!
//! What failed is final until something is asked of the server anew, as with Nova. A guest that has ended by itself is not
//! started again either: it is reported, and the controller makes it SHUTOFF.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hypervisor::{Disk, Guest, GuestSpec, Hypervisor, HypervisorError, Nic};
use node_protocol::node::Reporter;
use node_protocol::objects::{Server, WantedPower, tap_name};
use node_protocol::reports::{Fault, PowerState, Progress as Stage, Reached, Report, ServerObserved};
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;
use virtual_network::topology::PortId;

use crate::datapath::{Plug, Switch, SwitchError};
use crate::desired::{Desired, Wanted};
use crate::disks::{DiskError, Disks, Progress};
use crate::metadata;
use crate::network::{Network, describe};

/// How long a port may take from its tap to its flows.
const PORT_LIMIT: Duration = Duration::from_secs(60);
/// How long a guest may take to shut down for a soft reboot before it is ended (`wait_soft_reboot_seconds`).
const SOFT_REBOOT_LIMIT: Duration = Duration::from_secs(120);
/// The pause before something that failed in passing is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What all workers share.
pub struct Parts {
    pub desired: Arc<Desired>,
    pub hypervisor: Arc<dyn Hypervisor>,
    pub disks: Arc<dyn Disks>,
    pub switch: Arc<dyn Switch>,
    pub network: Network,
    pub reporter: Reporter,
    /// Whether each step on the way to a new guest is reported; not worth it where they take no time.
    pub report_steps: bool,
    /// What was last seen of each server.
    pub observed: Mutex<BTreeMap<Uuid, ServerObserved>>,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Switch(#[from] SwitchError),
    #[error("Virtual Interface creation failed: the flows of port {port} did not come about within {seconds} s")]
    Port { port: Uuid, seconds: u64 },
    #[error("{0} is not possible on this node yet")]
    Unsupported(&'static str),
    /// Not an error: something that was told after the server is still missing.
    #[error("port {0} has not been told yet")]
    Waiting(Uuid),
    /// Not an error: what should be has changed while something was waited for.
    #[error("something else is wanted meanwhile")]
    Overtaken,
}

impl Failure {
    /// Whether to try again without being asked.
    fn is_passing(&self) -> bool {
        matches!(
            self,
            Failure::Waiting(_)
                | Failure::Overtaken
                | Failure::Disk(DiskError::Unreachable { .. })
                | Failure::Hypervisor(HypervisorError::Busy { .. } | HypervisorError::Closed)
        )
    }
}

/// Brings one server into line.
pub struct Worker {
    pub id: Uuid,
    pub parts: Arc<Parts>,
    /// Counts the times it was woken.
    pub woken: watch::Receiver<u64>,
}

/// What became of a worker's round.
pub enum Round {
    /// Nothing is left to do until it is woken.
    Settled,
    /// To be tried again after a while.
    Again(Duration),
    /// Nothing is left of the server.
    Gone,
}

fn wishes(server: &Server) -> Reached {
    Reached {
        power: server.power.generation,
        soft_reboot: server.soft_reboot,
        hard_reboot: server.hard_reboot,
        rebuild: server.rebuild,
    }
}

fn wanted(desired: &Desired, id: Uuid) -> Option<Wanted> {
    desired
        .server(id)
        .filter(|wanted| wanted.server.power.wanted != WantedPower::Deleted)
}

impl Worker {
    /// One round: looks, does what is to be done, reports.
    pub async fn reconcile(&mut self) -> Round {
        self.woken.borrow_and_update();
        let Some(Wanted { revision, server }) = wanted(&self.parts.desired, self.id) else {
            let named = self.parts.desired.server(self.id).is_some();
            if !named && !self.parts.desired.is_confirmed() {
                // Perhaps it should be, and we have not been told yet.
                return Round::Settled;
            }
            return match self.remove().await {
                Ok(()) => {
                    self.parts.observed.lock().remove(&self.id);
                    self.parts.reporter.report(Report::ServerGone { id: self.id });
                    Round::Gone
                }
                Err(error) => {
                    tracing::error!(server = %self.id, error = describe(&error), "a server cannot be removed; trying again");
                    Round::Again(RETRY)
                }
            };
        };
        match self.bring_about(revision, &server).await {
            Ok(()) => Round::Settled,
            Err(Failure::Overtaken) => Round::Again(Duration::ZERO),
            Err(Failure::Waiting(port)) => {
                tracing::debug!(server = %self.id, %port, "waiting for a port");
                // Its coming wakes us.
                Round::Settled
            }
            Err(error) => {
                tracing::error!(server = %self.id, error = describe(&error), "cannot look after a server; trying again");
                Round::Again(RETRY)
            }
        }
    }

    /// Removes everything of the server: guest, taps, disks.
    async fn remove(&self) -> Result<(), Failure> {
        let guest = self.parts.hypervisor.inspect(self.id).await.ok().flatten();
        let mut ports: BTreeSet<Uuid> = guest.into_iter().flat_map(|guest| guest.nics).collect();
        if let Some(wanted) = self.parts.desired.server(self.id) {
            ports.extend(wanted.server.ports.iter().map(|port| port.port_id));
        }
        if let Some(seen) = self.parts.observed.lock().get(&self.id) {
            ports.extend(&seen.plugged_ports);
        }
        self.parts.hypervisor.destroy(self.id).await?;
        for port in ports {
            // A switch that is away keeps no server from going; the tap goes when it is back, as one of no server.
            if let Err(error) = self.unplug(port).await {
                tracing::warn!(server = %self.id, error = describe(&error), "a tap cannot be unplugged yet");
            }
        }
        self.parts.disks.remove(self.id).await?;
        Ok(())
    }

    async fn unplug(&self, port: Uuid) -> Result<(), Failure> {
        // Unless another server has it by now.
        if self
            .parts
            .desired
            .owner(PortId(port))
            .is_none_or(|owner| owner.server.id == self.id)
        {
            self.parts.switch.unplug(&tap_name(PortId(port))).await?;
        }
        Ok(())
    }

    async fn bring_about(&mut self, revision: u64, server: &Server) -> Result<(), Failure> {
        let mut progress = self.parts.disks.progress(self.id).await?;
        let wish = wishes(server);
        let mut guest = self.parts.hypervisor.inspect(self.id).await?;
        if progress == Progress::default()
            && guest
                .as_ref()
                .is_some_and(|guest| guest.power_state == PowerState::Running)
        {
            // It runs, but what was written down of it is lost: it is taken as it is, not rebooted for what was asked long ago.
            progress.reached = Reached { power: 0, ..wish };
            progress.disk_of = Some(wish.rebuild);
        }
        let failed_before = progress.failed.as_ref().is_some_and(|(failed, _)| *failed == wish);
        if progress.reached != wish && !failed_before {
            progress.failed = None;
            let result = self.act(revision, server, wish, &mut progress, guest.as_ref()).await;
            match result {
                Ok(()) => {
                    progress.reached = wish;
                    progress.ended_for = None;
                }
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => {
                    let fault = fault_of(&error);
                    tracing::error!(server = %self.id, error = describe(&error), "a server failed");
                    progress.failed = Some((wish, fault));
                    self.clean_up(server, &progress).await;
                }
            }
            self.parts.disks.set_progress(self.id, &progress).await?;
            guest = self.parts.hypervisor.inspect(self.id).await?;
        }
        if progress.failed.is_none() {
            match self.keep(server, guest.as_ref()).await {
                Ok(true) => guest = self.parts.hypervisor.inspect(self.id).await?,
                Ok(false) => {}
                Err(error @ Failure::Waiting(_)) => {
                    self.report(revision, &progress, guest.as_ref(), Stage::Settled);
                    return Err(error);
                }
                Err(error) => {
                    // The guest goes on; its interfaces are tried again.
                    self.report(revision, &progress, guest.as_ref(), Stage::Settled);
                    return Err(error);
                }
            }
        }
        self.report(revision, &progress, guest.as_ref(), Stage::Settled);
        Ok(())
    }

    /// Brings about what was asked for and is not there yet.
    async fn act(
        &mut self,
        revision: u64,
        server: &Server,
        wish: Reached,
        progress: &mut Progress,
        guest: Option<&Guest>,
    ) -> Result<(), Failure> {
        let id = self.id;
        let parts = self.parts.clone();
        let alive = guest.is_some_and(|guest| guest.pid.is_some() || is_alive(guest.power_state));

        // Ends the guest for a rebuild or a reboot, once.
        let reached = progress.reached;
        let rebuild = wish.rebuild > reached.rebuild && progress.disk_of.is_some_and(|of| of != wish.rebuild);
        let hard = wish.hard_reboot > reached.hard_reboot;
        let soft = wish.soft_reboot > reached.soft_reboot;
        if (rebuild || hard || soft) && progress.ended_for != Some(wish) {
            if alive {
                if !rebuild && !hard {
                    let polite = parts.hypervisor.shut_down(id, SOFT_REBOOT_LIMIT);
                    self.unless_overtaken(wish, polite).await??;
                }
                parts.hypervisor.stop(id, Duration::ZERO).await?;
            }
            if rebuild {
                parts.disks.remove_root(id).await?;
                progress.disk_of = None;
            }
            progress.ended_for = Some(wish);
            parts.disks.set_progress(id, progress).await?;
        }

        match server.power.wanted {
            WantedPower::Stopped => {
                let patience = Duration::from_secs(server.shutdown_timeout.into());
                let polite = parts.hypervisor.shut_down(id, patience);
                self.unless_overtaken(wish, polite).await??;
                parts.hypervisor.stop(id, Duration::ZERO).await?;
                if rebuild || progress.disk_of.is_none() {
                    // A server that was never started has its disks all the same: a snapshot may be taken of it.
                    parts.disks.ensure(server).await?;
                    progress.disk_of = Some(wish.rebuild);
                }
                Ok(())
            }
            WantedPower::Running => self.start(revision, server, wish, progress).await,
            WantedPower::Paused => {
                self.start(revision, server, wish, progress).await?;
                Ok(parts.hypervisor.pause(id, true).await?)
            }
            WantedPower::Suspended => Err(Failure::Unsupported("suspending a server")),
            // Filtered out before.
            WantedPower::Deleted => Err(Failure::Overtaken),
        }
    }

    /// Everything a guest needs, then the guest.
    async fn start(
        &mut self,
        revision: u64,
        server: &Server,
        wish: Reached,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let parts = self.parts.clone();
        let running = parts
            .hypervisor
            .inspect(self.id)
            .await?
            .filter(|guest| is_alive(guest.power_state));
        if let Some(guest) = running {
            if guest.power_state == PowerState::Paused {
                parts.hypervisor.pause(self.id, false).await?;
            }
            return self.launched(progress);
        }
        // Before anything is made: what the server is made of has to be known.
        let nics = self.nics(server)?;
        self.report(revision, progress, None, Stage::BlockDeviceMapping);
        let mut disks = self.unless_overtaken(wish, parts.disks.ensure(server)).await??;
        if progress.disk_of != Some(wish.rebuild) {
            progress.disk_of = Some(wish.rebuild);
            parts.disks.set_progress(self.id, progress).await?;
        }
        if server.config_drive {
            let files = parts
                .desired
                .with_topology(|topology| metadata::config_drive_files(server, topology));
            disks.push(parts.disks.config_drive(server, files).await?);
        }
        self.report(revision, progress, None, Stage::Networking);
        let plugs = nics.iter().map(|nic| plug(&parts, self.id, nic));
        let plugs = futures_util::future::try_join_all(plugs);
        self.unless_overtaken(wish, plugs).await??;
        self.report(revision, progress, None, Stage::Spawning);
        let spec = guest_spec(server, disks, nics);
        parts.hypervisor.start(&spec).await?;
        self.launched(progress)
    }

    fn launched(&self, progress: &mut Progress) -> Result<(), Failure> {
        if progress.launched_at.is_none() {
            progress.launched_at = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .map(|d| d.as_secs() as i64);
        }
        Ok(())
    }

    /// The interfaces the server should have. All of its ports have to be known.
    fn nics(&self, server: &Server) -> Result<Vec<Nic>, Failure> {
        let offload = self.parts.switch.info().offload;
        let model = match server
            .image
            .as_ref()
            .and_then(|image| image.properties.get("hw_vif_model"))
            .map(String::as_str)
        {
            None | Some("virtio") => "virtio-net-pci",
            Some(model @ ("e1000" | "e1000e" | "ne2k_pci" | "pcnet" | "rtl8139" | "vmxnet3")) => model,
            Some(_) => return Err(Failure::Unsupported("this model of network interface")),
        };
        let nic = |id: Uuid| {
            let (port, network) = self.parts.desired.port(PortId(id)).ok_or(Failure::Waiting(id))?;
            Ok(Nic {
                port_id: id,
                tap: tap_name(PortId(id)),
                mac: port.mac.to_string(),
                mtu: network.mtu,
                model: model.to_owned(),
                offload,
            })
        };
        server.ports.iter().map(|port| nic(port.port_id)).collect()
    }

    /// Keeps the interfaces in line: of a guest that runs those that should be, of one that does not none. `true`: something was changed.
    async fn keep(&self, server: &Server, guest: Option<&Guest>) -> Result<bool, Failure> {
        let running = guest.filter(|guest| is_alive(guest.power_state));
        let should: BTreeSet<Uuid> = server.ports.iter().map(|port| port.port_id).collect();
        let mut before: BTreeSet<Uuid> = BTreeSet::new();
        if let Some(seen) = self.parts.observed.lock().get(&self.id) {
            before.extend(&seen.plugged_ports);
        }
        let Some(guest) = running else {
            for port in before.union(&should) {
                if self.parts.network.is_ready(PortId(*port)) || before.contains(port) {
                    self.unplug(*port).await?;
                }
            }
            return Ok(false);
        };
        let has: BTreeSet<Uuid> = guest.nics.iter().copied().collect();
        let mut changed = false;
        for port in has.union(&before).filter(|port| !should.contains(port)) {
            if has.contains(port) {
                self.parts.hypervisor.detach_nic(self.id, *port).await?;
            }
            self.unplug(*port).await?;
            changed = true;
        }
        for nic in self.nics(server)? {
            let missing = !has.contains(&nic.port_id);
            // A tap that somebody has deleted is made again.
            if missing || !self.parts.network.is_ready(PortId(nic.port_id)) {
                plug(&self.parts, self.id, &nic).await?;
            }
            if missing {
                self.parts.hypervisor.attach_nic(self.id, &nic).await?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// After a failure nothing half-made stays: no guest that was not there before, no taps without a guest.
    async fn clean_up(&self, server: &Server, progress: &Progress) {
        if progress.launched_at.is_none() {
            // What cannot be cleaned now is cleaned when the server is deleted.
            if let Err(error) = self.parts.hypervisor.stop(self.id, Duration::ZERO).await {
                tracing::warn!(server = %self.id, error = describe(&error), "a failed guest cannot be ended");
            }
        }
        let alive = self.parts.hypervisor.inspect(self.id).await.ok().flatten();
        if alive.is_none_or(|guest| !is_alive(guest.power_state)) {
            for port in &server.ports {
                if let Err(error) = self.unplug(port.port_id).await {
                    tracing::warn!(server = %self.id, error = describe(&error), "a failed guest's tap cannot be unplugged");
                }
            }
        }
    }

    /// Awaits something that may take long, unless something else is wanted of the server meanwhile.
    async fn unless_overtaken<T>(&mut self, wish: Reached, work: impl Future<Output = T>) -> Result<T, Failure> {
        let (desired, id) = (self.parts.desired.clone(), self.id);
        let overtaken = async {
            loop {
                if wanted(&desired, id).is_none_or(|wanted| wishes(&wanted.server) != wish) {
                    return;
                }
                if self.woken.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = overtaken => Err(Failure::Overtaken),
        }
    }

    fn report(&self, revision: u64, progress: &Progress, guest: Option<&Guest>, stage: Stage) {
        if stage != Stage::Settled && !self.parts.report_steps {
            return;
        }
        let vnc = guest
            .filter(|guest| is_alive(guest.power_state))
            .and_then(|guest| guest.vnc.clone());
        let observed = ServerObserved {
            id: self.id,
            revision,
            power_state: guest.map_or(PowerState::NoState, |guest| guest.power_state),
            progress: stage,
            reached: progress.reached,
            fault: progress.failed.as_ref().map(|(_, fault)| fault.clone()),
            launched_at: progress.launched_at,
            vnc_port: vnc.as_ref().map(|vnc| vnc.1),
            vnc_host: vnc.map(|vnc| vnc.0),
            plugged_ports: guest.map(|guest| guest.nics.clone()).unwrap_or_default(),
            root_device_name: "/dev/vda".into(),
        };
        let mut all = self.parts.observed.lock();
        if all.get(&self.id) != Some(&observed) {
            all.insert(self.id, observed.clone());
            self.parts.reporter.report(Report::Server(observed));
        }
    }
}

/// Sees to it that a port's tap is there and its flows stand.
async fn plug(parts: &Parts, server_id: Uuid, nic: &Nic) -> Result<(), Failure> {
    let plug = Plug {
        port_id: nic.port_id,
        server_id,
        tap: nic.tap.clone(),
        mac: nic.mac.clone(),
        mtu: nic.mtu,
    };
    parts.switch.plug(&plug).await?;
    if parts.network.ready(PortId(nic.port_id), PORT_LIMIT).await {
        return Ok(());
    }
    Err(Failure::Port {
        port: nic.port_id,
        seconds: PORT_LIMIT.as_secs(),
    })
}

fn is_alive(state: PowerState) -> bool {
    matches!(state, PowerState::Running | PowerState::Paused)
}

/// The fault for a failure: one sentence for the user, the chain of causes for the administrator.
fn fault_of(error: &Failure) -> Fault {
    Fault {
        code: 500,
        message: error.to_string(),
        details: describe(error),
    }
}

fn guest_spec(server: &Server, disks: Vec<Disk>, nics: Vec<Nic>) -> GuestSpec {
    let property = |name: &str| {
        server
            .image
            .as_ref()
            .and_then(|image| image.properties.get(name))
            .cloned()
    };
    let spec = |name: &str, image: &str| {
        server
            .flavor
            .extra_specs
            .get(name)
            .cloned()
            .or_else(|| property(image))
            .and_then(|n| n.parse::<u32>().ok())
    };
    let vcpus = server.flavor.vcpus.max(1);
    let (sockets, cores, threads) = (
        spec("hw:cpu_sockets", "hw_cpu_sockets"),
        spec("hw:cpu_cores", "hw_cpu_cores"),
        spec("hw:cpu_threads", "hw_cpu_threads"),
    );
    let inner = u64::from(cores.unwrap_or(1)) * u64::from(threads.unwrap_or(1));
    let sockets = sockets.unwrap_or_else(|| u32::try_from(u64::from(vcpus) / inner.max(1)).unwrap_or(1));
    let topology = (sockets, cores.unwrap_or(1), threads.unwrap_or(1));
    // A topology that does not give the CPUs the flavor has is not used.
    let whole = u64::from(topology.0) * inner == u64::from(vcpus);
    GuestSpec {
        id: server.id,
        vcpus,
        memory_mib: server.flavor.ram_mib,
        disks,
        nics,
        machine: property("hw_machine_type"),
        video: property("hw_video_model").and_then(|model| match model.as_str() {
            "vga" => Some("std".into()),
            "virtio" | "cirrus" | "qxl" | "none" => Some(model),
            _ => None,
        }),
        topology: whole.then_some(topology),
    }
}
