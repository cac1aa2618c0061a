//! Gives every server its task, wakes those that something has happened to, and looks after what nobody has asked for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use node_protocol::node::LinkEvent;
use node_protocol::objects::{WantedPower, tap_name};
use node_protocol::reports::{Report, ServerObserved};
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;
use virtual_network::topology::{Binding, Port, PortId};

use crate::network::{describe, stopped};
use crate::server::{Parts, Round, Worker};

/// How often everything is looked at, though nothing is known to have happened.
const ROUND: Duration = Duration::from_secs(10);

/// The tasks of the servers.
pub struct Reconciler {
    parts: Arc<Parts>,
    workers: Arc<Mutex<HashMap<Uuid, watch::Sender<u64>>>>,
    stop: watch::Receiver<bool>,
}

impl Reconciler {
    /// Without tasks.
    pub fn new(parts: Arc<Parts>, stop: watch::Receiver<bool>) -> Self {
        Self {
            parts,
            workers: Arc::default(),
            stop,
        }
    }

    /// Takes what comes over the link, what happens to guests, and the clock, until the node stops.
    pub async fn run(self, mut events: mpsc::Receiver<LinkEvent>) {
        let mut guests = self.parts.hypervisor.events();
        let mut ready = self.parts.network.changes();
        let mut clock = tokio::time::interval(ROUND);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = self.stop.clone();
        // What was left of an earlier life is looked after before anybody says anything.
        self.wake_all().await;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.link(event).await,
                    None => return,
                },
                event = guests.recv() => match event {
                    Ok(event) => self.wake(event.id),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.wake_all().await,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                changed = ready.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.look_at_taps();
                }
                _ = clock.tick() => {
                    self.parts.hypervisor.maintain().await;
                    self.parts.disks.maintain().await;
                    self.wake_all().await;
                    self.remove_orphans().await;
                }
                () = stopped(&mut stop) => return,
            }
        }
    }

    async fn link(&self, event: LinkEvent) {
        match event {
            LinkEvent::Connected | LinkEvent::Disconnected => {}
            LinkEvent::Snapshot(objects) => {
                let touched = self.parts.desired.replace(objects);
                self.parts.network.change(touched.network);
                touched.servers.into_iter().for_each(|id| self.wake(id));
                self.wake_all().await;
                tokio::spawn(inventory(self.parts.clone()));
                self.remove_orphans().await;
            }
            LinkEvent::Changes(changes) => {
                let touched = self.parts.desired.change(changes);
                self.parts.network.change(touched.network);
                touched.servers.into_iter().for_each(|id| self.wake(id));
            }
        }
    }

    /// A tap that should be and is not: its server is woken and makes it again.
    fn look_at_taps(&self) {
        let observed = self.parts.observed.lock();
        let lost: Vec<Uuid> = observed
            .values()
            .filter(|seen| {
                seen.plugged_ports
                    .iter()
                    .any(|id| !self.parts.network.is_ready(PortId(*id)))
            })
            .map(|seen| seen.id)
            .collect();
        drop(observed);
        lost.into_iter().for_each(|id| self.wake(id));
    }

    /// Wakes every server that should be or is.
    async fn wake_all(&self) {
        let mut ids: BTreeSet<Uuid> = self.parts.desired.servers().into_iter().collect();
        match self.parts.hypervisor.list().await {
            Ok(found) => ids.extend(found),
            Err(error) => tracing::error!(error = describe(&error), "cannot find out which guests there are"),
        }
        match self.parts.disks.list().await {
            Ok(found) => ids.extend(found),
            Err(error) => tracing::error!(error = describe(&error), "cannot find out which disks there are"),
        }
        ids.into_iter().for_each(|id| self.wake(id));
    }

    /// Unplugs the taps of no server. Not before it is known what should be.
    async fn remove_orphans(&self) {
        if !self.parts.desired.is_confirmed() {
            return;
        }
        let plugged = match self.parts.switch.plugged().await {
            Ok(plugged) => plugged,
            Err(error) => {
                tracing::warn!(error = describe(&error), "cannot find out which taps there are");
                return;
            }
        };
        let mut known: BTreeSet<String> = BTreeSet::new();
        for id in self.parts.desired.servers() {
            if let Some(wanted) = self.parts.desired.server(id) {
                known.extend(wanted.server.ports.iter().map(|port| tap_name(PortId(port.port_id))));
            }
        }
        for seen in self.parts.observed.lock().values() {
            known.extend(seen.plugged_ports.iter().map(|id| tap_name(PortId(*id))));
        }
        // Guests that are being removed unplug theirs by themselves.
        for tap in plugged.into_iter().filter(|tap| !known.contains(tap)) {
            tracing::info!(tap, "unplugging a tap that belongs to no server");
            if let Err(error) = self.parts.switch.unplug(&tap).await {
                tracing::warn!(tap, error = describe(&error), "a tap cannot be unplugged");
            }
        }
    }

    /// Wakes a server's task; makes one if it has none.
    fn wake(&self, id: Uuid) {
        let mut workers = self.workers.lock();
        if let Some(wake) = workers.get(&id) {
            wake.send_modify(|n| *n += 1);
            return;
        }
        let (wake, woken) = watch::channel(0);
        workers.insert(id, wake);
        let worker = Worker {
            id,
            parts: self.parts.clone(),
            woken,
        };
        tokio::spawn(work(worker, self.workers.clone(), self.stop.clone()));
    }
}

/// Says everything that is known, once it has been looked at: what was said to an earlier link may never have arrived.
async fn inventory(parts: Arc<Parts>) {
    let until = Instant::now() + ROUND;
    let settled = || {
        let observed = parts.observed.lock();
        let looked_at = |id: &Uuid| match parts.desired.server(*id) {
            Some(wanted) => wanted.server.power.wanted == WantedPower::Deleted || observed.contains_key(id),
            None => true,
        };
        let plugged = observed.values().flat_map(|seen| &seen.plugged_ports);
        parts.desired.servers().iter().all(looked_at)
            && plugged.into_iter().all(|id| parts.network.is_ready(PortId(*id)))
    };
    while !settled() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut servers: Vec<ServerObserved> = parts.observed.lock().values().cloned().collect();
    // What is on its way out is still there.
    let mut there = parts.hypervisor.list().await.unwrap_or_default();
    there.extend(parts.disks.list().await.unwrap_or_default());
    there.sort_unstable();
    there.dedup();
    there.retain(|id| !servers.iter().any(|seen| seen.id == *id));
    servers.extend(there.into_iter().map(ServerObserved::unknown));
    let driver = parts.switch.info().driver;
    let local = parts.desired.with_topology(|topology| {
        let local = |port: &Port| matches!(port.binding, Binding::Local { .. });
        topology
            .ports
            .iter()
            .filter(|(_, port)| local(port))
            .map(|(id, _)| *id)
            .collect::<Vec<_>>()
    });
    let seen = |id: PortId| (parts.network.is_ready(id), parts.desired.port_revision(id));
    let ports = local
        .into_iter()
        .map(|id| crate::network::observed(id, seen(id), &driver))
        .collect();
    parts.reporter.report(Report::Inventory { servers, ports });
}

/// A server's task: rounds, until nothing is left of the server.
async fn work(
    mut worker: Worker,
    workers: Arc<Mutex<HashMap<Uuid, watch::Sender<u64>>>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let round = tokio::select! {
            round = worker.reconcile() => round,
            () = stopped(&mut stop) => return,
        };
        let pause = match round {
            Round::Settled => None,
            Round::Again(pause) => Some(pause),
            Round::Gone => {
                let mut workers = workers.lock();
                // It may have been woken since it looked: then there is something to look at.
                if worker.woken.has_changed().unwrap_or(false) {
                    continue;
                }
                workers.remove(&worker.id);
                return;
            }
        };
        let again = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = worker.woken.changed() => if changed.is_err() { return },
            () = again => {}
            () = stopped(&mut stop) => return,
        }
    }
}
