//! Guests that are played: the complete node runs over them, a thousand nodes in a process, or on a laptop without root.
//!
//! A guest boots at once (or in the time it is given), writes a plausible console log, powers down when asked, and can be made to die
//! or to fail, so that everything above can be tried.

mod console;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use node_protocol::link::Duplex;
use node_protocol::queries::{ConsoleKind, Diagnostics, DiskDiagnostics, NicDiagnostics};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::{
    Guest, GuestEvent, GuestEventKind, GuestSpec, Hypervisor, HypervisorError, HypervisorInfo, Nic, PowerState, Result,
    tail,
};

/// How guests are played.
#[derive(Debug, Clone, Default)]
pub struct SimulatedConfig {
    /// How long a guest takes to start; nothing by default.
    pub start: Duration,
    /// How long a guest takes from its ACPI button to its end.
    pub shut_down: Duration,
}

#[derive(Debug, Clone)]
struct Played {
    spec: GuestSpec,
    power_state: PowerState,
    booted: Option<(Instant, SystemTime)>,
    boots: u32,
    vnc_port: u16,
    deaf: bool,
}

#[derive(Default)]
struct State {
    guests: BTreeMap<Uuid, Played>,
    failures: HashMap<Uuid, String>,
    starts: u64,
    ports_given: u16,
}

/// Plays guests in memory. What is in memory outlives the node that uses it as real guests do: hand the same one to the next node.
pub struct Simulated {
    config: SimulatedConfig,
    state: Mutex<State>,
    events: broadcast::Sender<GuestEvent>,
}

impl Simulated {
    /// Without guests.
    pub fn new(config: SimulatedConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            state: Mutex::default(),
            events: broadcast::channel(256).0,
        })
    }

    /// The guest's process dies.
    pub fn kill(&self, id: Uuid) {
        self.ended(id);
    }

    /// The guest no longer hears its power button.
    pub fn deafen(&self, id: Uuid) {
        if let Some(guest) = self.state.lock().guests.get_mut(&id) {
            guest.deaf = true;
        }
    }

    /// Every start of this guest fails with this reason, until [`Simulated::heal`].
    pub fn fail(&self, id: Uuid, reason: impl Into<String>) {
        self.state.lock().failures.insert(id, reason.into());
    }

    /// Starts of this guest succeed again.
    pub fn heal(&self, id: Uuid) {
        self.state.lock().failures.remove(&id);
    }

    /// How many guests have been started so far.
    pub fn starts(&self) -> u64 {
        self.state.lock().starts
    }

    fn say(&self, id: Uuid, kind: GuestEventKind) {
        // Nobody may be listening.
        let _ = self.events.send(GuestEvent { id, kind });
    }

    fn ended(&self, id: Uuid) {
        let ended = {
            let mut state = self.state.lock();
            match state.guests.get_mut(&id) {
                Some(guest) if guest.booted.is_some() => {
                    guest.power_state = PowerState::Shutdown;
                    guest.booted = None;
                    guest.deaf = false;
                    true
                }
                _ => false,
            }
        };
        if ended {
            self.say(id, GuestEventKind::Stopped);
        }
    }

    fn read<T>(&self, id: Uuid, read: impl FnOnce(&Played) -> T) -> Result<T> {
        self.state
            .lock()
            .guests
            .get(&id)
            .map(read)
            .ok_or(HypervisorError::NotFound { id })
    }

    fn running<T>(&self, id: Uuid, change: impl FnOnce(&mut Played) -> T) -> Result<T> {
        match self.state.lock().guests.get_mut(&id) {
            None => Err(HypervisorError::NotFound { id }),
            Some(guest) if guest.booted.is_none() => Err(HypervisorError::NotRunning { id }),
            Some(guest) => Ok(change(guest)),
        }
    }
}

fn seen(played: &Played) -> Guest {
    Guest {
        id: played.spec.id,
        power_state: played.power_state,
        pid: None,
        vnc: Some(("127.0.0.1".into(), played.vnc_port)),
        nics: match played.booted {
            Some(_) => played.spec.nics.iter().map(|nic| nic.port_id).collect(),
            None => Vec::new(),
        },
        started_at: played
            .booted
            .and_then(|(_, at)| at.duration_since(UNIX_EPOCH).ok())
            .map(|d| d.as_secs() as i64),
    }
}

impl Hypervisor for Simulated {
    fn info(&self) -> HypervisorInfo {
        HypervisorInfo {
            kind: "simulated".into(),
            version: 1_000_000,
            accelerated: true,
        }
    }

    fn findings(&self) -> Vec<String> {
        Vec::new()
    }

    fn folder(&self, _id: Uuid) -> Option<std::path::PathBuf> {
        None
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Uuid>>> {
        Box::pin(async move { Ok(self.state.lock().guests.keys().copied().collect()) })
    }

    fn inspect(&self, id: Uuid) -> BoxFuture<'_, Result<Option<Guest>>> {
        Box::pin(async move { Ok(self.state.lock().guests.get(&id).map(seen)) })
    }

    fn start<'a>(&'a self, spec: &'a GuestSpec) -> BoxFuture<'a, Result<Guest>> {
        Box::pin(async move {
            if !self.config.start.is_zero() {
                tokio::time::sleep(self.config.start).await;
            }
            let (guest, began) = {
                let mut state = self.state.lock();
                if let Some(reason) = state.failures.get(&spec.id) {
                    return Err(HypervisorError::Start { reason: reason.clone() });
                }
                match state.guests.get(&spec.id).cloned() {
                    Some(running) if running.booted.is_some() => (seen(&running), false),
                    earlier => {
                        let boots = earlier.as_ref().map_or(0, |earlier| earlier.boots) + 1;
                        let vnc_port = match earlier {
                            Some(earlier) => earlier.vnc_port,
                            None => {
                                state.ports_given = state.ports_given.wrapping_add(1);
                                5899_u16.saturating_add(state.ports_given)
                            }
                        };
                        let played = Played {
                            spec: spec.clone(),
                            power_state: PowerState::Running,
                            booted: Some((Instant::now(), SystemTime::now())),
                            boots,
                            vnc_port,
                            deaf: false,
                        };
                        let guest = seen(&played);
                        state.starts += 1;
                        state.guests.insert(spec.id, played);
                        (guest, true)
                    }
                }
            };
            if began {
                self.say(spec.id, GuestEventKind::Started);
            }
            Ok(guest)
        })
    }

    fn stop(&self, id: Uuid, patience: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if patience.is_zero() || !self.shut_down(id, patience).await? {
                self.ended(id);
            }
            Ok(())
        })
    }

    fn shut_down(&self, id: Uuid, patience: Duration) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            let hears = self.running(id, |guest| !guest.deaf && guest.power_state == PowerState::Running);
            let takes = self.config.shut_down;
            match hears {
                Err(_) => Ok(true),
                Ok(true) if takes <= patience => {
                    if !takes.is_zero() {
                        tokio::time::sleep(takes).await;
                    }
                    self.ended(id);
                    Ok(true)
                }
                Ok(_) => {
                    tokio::time::sleep(patience).await;
                    Ok(false)
                }
            }
        })
    }

    fn destroy(&self, id: Uuid) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.ended(id);
            self.state.lock().guests.remove(&id);
            Ok(())
        })
    }

    fn pause(&self, id: Uuid, paused: bool) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.running(id, |guest| {
                guest.power_state = if paused {
                    PowerState::Paused
                } else {
                    PowerState::Running
                };
            })?;
            self.say(
                id,
                if paused {
                    GuestEventKind::Paused
                } else {
                    GuestEventKind::Resumed
                },
            );
            Ok(())
        })
    }

    fn attach_nic<'a>(&'a self, id: Uuid, nic: &'a Nic) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.running(id, |guest| {
                if !guest.spec.nics.iter().any(|has| has.port_id == nic.port_id) {
                    guest.spec.nics.push(nic.clone());
                }
            })
        })
    }

    fn detach_nic(&self, id: Uuid, port_id: Uuid) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            // A guest that does not run has no interface to let go of.
            let _ = self.running(id, |guest| guest.spec.nics.retain(|nic| nic.port_id != port_id));
            Ok(())
        })
    }

    fn console_log(&self, id: Uuid, lines: Option<u64>) -> BoxFuture<'_, Result<String>> {
        Box::pin(async move {
            let text = self.read(id, |guest| {
                console::boot_log(&guest.spec, guest.boots, guest.booted.is_some())
            })?;
            Ok(tail(&text, lines).to_owned())
        })
    }

    fn console(&self, id: Uuid, kind: ConsoleKind) -> BoxFuture<'_, Result<Box<dyn Duplex>>> {
        Box::pin(async move {
            let spec = self.running(id, |guest| guest.spec.clone())?;
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(console::play(ours, kind, spec));
            Ok(Box::new(theirs) as Box<dyn Duplex>)
        })
    }

    fn diagnostics(&self, id: Uuid) -> BoxFuture<'_, Result<Diagnostics>> {
        Box::pin(async move {
            self.running(id, |guest| {
                let up = guest.booted.map_or(0, |(at, _)| at.elapsed().as_secs());
                let letters = 'a'..='z';
                Diagnostics {
                    state: if guest.power_state == PowerState::Paused {
                        "paused"
                    } else {
                        "running"
                    }
                    .into(),
                    hypervisor: "simulated".into(),
                    uptime: Some(up),
                    cpu_times: vec![up * 1_000_000_000; guest.spec.vcpus as usize],
                    num_cpus: guest.spec.vcpus,
                    memory_maximum: guest.spec.memory_mib,
                    memory_used: Some(guest.spec.memory_mib),
                    nics: guest
                        .spec
                        .nics
                        .iter()
                        .map(|nic| NicDiagnostics {
                            mac_address: nic.mac.clone(),
                            ..NicDiagnostics::default()
                        })
                        .collect(),
                    disks: letters
                        .zip(&guest.spec.disks)
                        .map(|(letter, _)| DiskDiagnostics {
                            name: format!("vd{letter}"),
                            ..DiskDiagnostics::default()
                        })
                        .collect(),
                    config_drive: guest.spec.disks.iter().any(|disk| disk.read_only),
                }
            })
        })
    }

    fn events(&self) -> broadcast::Receiver<GuestEvent> {
        self.events.subscribe()
    }

    fn maintain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disk;
    use tokio::io::AsyncReadExt;

    fn spec(id: u128) -> GuestSpec {
        GuestSpec {
            id: Uuid::from_u128(id),
            vcpus: 1,
            memory_mib: 128,
            disks: vec![Disk {
                file: "disk".into(),
                format: "qcow2".into(),
                bus: Default::default(),
                read_only: false,
                backing: None,
            }],
            nics: vec![],
            machine: None,
            video: None,
            topology: None,
        }
    }

    #[tokio::test]
    async fn every_operation_can_be_made_twice() {
        let hypervisor = Simulated::new(SimulatedConfig::default());
        let (a, b) = (spec(1), spec(2));
        let first = hypervisor.start(&a).await.unwrap();
        assert_eq!(hypervisor.start(&a).await.unwrap(), first);
        assert_eq!(hypervisor.starts(), 1);
        assert_ne!(hypervisor.start(&b).await.unwrap().vnc, first.vnc);
        for _ in 0..2 {
            hypervisor.stop(a.id, Duration::from_secs(1)).await.unwrap();
            assert_eq!(
                hypervisor.inspect(a.id).await.unwrap().unwrap().power_state,
                PowerState::Shutdown
            );
        }
        assert_eq!(
            hypervisor.start(&a).await.unwrap().vnc,
            first.vnc,
            "the VNC port is kept"
        );
        for _ in 0..2 {
            hypervisor.destroy(a.id).await.unwrap();
            assert_eq!(hypervisor.inspect(a.id).await.unwrap(), None);
        }
        assert_eq!(hypervisor.list().await.unwrap(), vec![b.id]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deaf_guest_is_ended_after_its_time() {
        let hypervisor = Simulated::new(SimulatedConfig::default());
        let a = spec(1);
        hypervisor.start(&a).await.unwrap();
        hypervisor.deafen(a.id);
        let began = tokio::time::Instant::now();
        hypervisor.stop(a.id, Duration::from_secs(60)).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 60);
        assert_eq!(
            hypervisor.inspect(a.id).await.unwrap().unwrap().power_state,
            PowerState::Shutdown
        );
    }

    #[tokio::test]
    async fn consoles_show_something() {
        let hypervisor = Simulated::new(SimulatedConfig::default());
        let a = spec(1);
        hypervisor.start(&a).await.unwrap();
        let log = hypervisor.console_log(a.id, None).await.unwrap();
        assert!(log.contains("Linux version") && log.lines().count() > 20);
        assert_eq!(hypervisor.console_log(a.id, Some(2)).await.unwrap().lines().count(), 2);
        let mut screen = hypervisor.console(a.id, ConsoleKind::Vnc).await.unwrap();
        let mut banner = [0; 12];
        screen.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"RFB 003.008\n");
        hypervisor.stop(a.id, Duration::ZERO).await.unwrap();
        assert!(matches!(
            hypervisor.console(a.id, ConsoleKind::Vnc).await,
            Err(HypervisorError::NotRunning { .. })
        ));
    }
}
