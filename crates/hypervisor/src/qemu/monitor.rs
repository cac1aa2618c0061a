//! A running guest, through its monitor.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use uuid::Uuid;

use super::command_line::{QMP_SOCKET, Wiring, nic_device, nic_id, port_of};
use super::process::{self, Process};
use super::qmp::{Event, LIMIT, Qmp};
use crate::{GuestEvent, GuestEventKind, HypervisorError, Nic, PowerState, Result};

/// How long a guest may take to let go of a device. Nova tries for longer, but a guest that has no hot-plug driver never does.
const UNPLUG_LIMIT: Duration = Duration::from_secs(20);
/// A guest that is told to power down while it boots does not hear it; it is told again this often.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// A connection to a guest's monitor.
pub struct Monitor {
    pub(super) qmp: Qmp,
    process: Process,
    /// Counts devices that were removed, to wake those who wait for one.
    removed: watch::Receiver<u64>,
}

impl Monitor {
    /// Connects to a process that may still be getting ready. `None`: it ended meanwhile.
    pub async fn connect(
        folder: &Path,
        id: Uuid,
        process: Process,
        events: broadcast::Sender<GuestEvent>,
    ) -> Result<Option<Self>> {
        let until = tokio::time::Instant::now() + LIMIT;
        let mut process = Some(process);
        while let Some(current) = process.take() {
            if current.ended(Duration::ZERO).await {
                return Ok(None);
            }
            let pid = current.pid;
            match Self::try_connect(folder, id, current, events.clone()).await {
                Ok(Some(monitor)) => return Ok(Some(monitor)),
                Ok(None) => {}
                Err(HypervisorError::Closed) => return Ok(None),
                Err(error) => return Err(error),
            }
            if tokio::time::Instant::now() > until {
                return Err(HypervisorError::Timeout {
                    doing: "connecting to it",
                    seconds: LIMIT.as_secs(),
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            process = Process::open(pid);
        }
        Ok(None)
    }

    /// Connects if the monitor is there already.
    pub async fn try_connect(
        folder: &Path,
        id: Uuid,
        process: Process,
        events: broadcast::Sender<GuestEvent>,
    ) -> Result<Option<Self>> {
        let stream = match process::connect(folder, QMP_SOCKET).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(source) => {
                return Err(HypervisorError::Io {
                    doing: "connect to the guest's monitor".into(),
                    source,
                });
            }
        };
        let (said, heard) = mpsc::unbounded_channel();
        let qmp = Qmp::handshake(stream, said).await?;
        if qmp.peer_pid() != Some(process.pid) {
            return Err(HypervisorError::Protocol {
                what: "it is another process's".into(),
            });
        }
        let uuid = qmp.execute("query-uuid", Value::Null).await?;
        if uuid["UUID"].as_str().and_then(|uuid| Uuid::parse_str(uuid).ok()) != Some(id) {
            return Err(HypervisorError::Protocol {
                what: "it is another guest's".into(),
            });
        }
        let (count, removed) = watch::channel(0);
        let watched = Process::open(process.pid);
        tokio::spawn(pass_on(id, heard, events, count, watched));
        Ok(Some(Self { qmp, process, removed }))
    }

    /// Whether the guest's process still holds its end.
    pub fn is_open(&self) -> bool {
        self.qmp.is_open()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// What the guest does.
    pub async fn power_state(&self) -> Result<PowerState> {
        let status = self.qmp.execute("query-status", Value::Null).await?;
        Ok(match status["status"].as_str().unwrap_or_default() {
            "running" | "prelaunch" | "inmigrate" => PowerState::Running,
            "paused" | "suspended" | "debug" | "io-error" | "watchdog" | "finish-migrate" | "postmigrate"
            | "save-vm" | "restore-vm" | "colo" => PowerState::Paused,
            "guest-panicked" | "internal-error" => PowerState::Crashed,
            "shutdown" => PowerState::Shutdown,
            _ => PowerState::NoState,
        })
    }

    /// Ports whose devices the guest has.
    async fn devices(&self) -> Result<Vec<Uuid>> {
        let list = self
            .qmp
            .execute("qom-list", json!({"path": "/machine/peripheral"}))
            .await?;
        let devices = list.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(devices
            .iter()
            .filter_map(|device| port_of(device["name"].as_str()?))
            .collect())
    }

    /// Ports whose interfaces the guest has, and whose taps it still holds. `nics` is what is written down of them.
    pub async fn nics(&self, nics: &[Nic]) -> Result<Vec<Uuid>> {
        let held = process::held_taps(self.process.pid);
        let tap = |id: &Uuid| nics.iter().find(|nic| nic.port_id == *id).map(|nic| nic.tap.as_str());
        let mut devices = self.devices().await?;
        devices.retain(|id| tap(id).is_none_or(|tap| held.iter().any(|held| held == tap)));
        Ok(devices)
    }

    /// Asks by ACPI; `true` when the process has ended within `patience`.
    pub async fn power_down(&self, patience: Duration) -> Result<bool> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            match self.qmp.execute("system_powerdown", Value::Null).await {
                Ok(_) => {}
                Err(HypervisorError::Closed) => {}
                Err(error) => return Err(error),
            }
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if self.process.ended(left.min(ASK_AGAIN)).await {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    /// Tells QEMU to end.
    pub async fn quit(&self) -> Result<()> {
        self.qmp.execute("quit", Value::Null).await.map(drop)
    }

    /// Stops the guest's CPUs, or lets them run.
    pub async fn pause(&self, paused: bool) -> Result<()> {
        self.qmp
            .execute(if paused { "stop" } else { "cont" }, Value::Null)
            .await
            .map(drop)
    }

    /// Plugs an interface in. Of a guest that has the device only the tap is looked at: one that was lost is replaced.
    pub async fn attach_nic(&self, nic: &Nic) -> Result<()> {
        let mut has = self.devices().await?.contains(&nic.port_id);
        if has && process::held_taps(self.process.pid).contains(&nic.tap) {
            return Ok(());
        }
        if has && nic.offload {
            // The device is at the tap itself, so they go together.
            self.detach_nic(nic.port_id).await?;
            has = false;
        }
        let wiring = Wiring::of(nic.port_id, nic.offload);
        self.remove_tap(&wiring).await;
        let name = format!("tap-{}", nic.port_id);
        let tap = process::open_tap(nic)?;
        self.qmp
            .execute_with_fd("getfd", json!({"fdname": name}), Some(tap.as_fd()))
            .await?;
        if let Err(error) = self.add_backend(&wiring, &name, has).await {
            // A descriptor that QEMU has taken over it closes itself; one it has not is to be closed.
            let _ = self.qmp.execute("closefd", json!({"fdname": name})).await;
            self.remove_tap(&wiring).await;
            return Err(error);
        }
        if has {
            return Ok(());
        }
        match self.add_device(nic).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.remove_backend(&wiring).await?;
                Err(error)
            }
        }
    }

    async fn add_backend(&self, wiring: &Wiring, fd: &str, has_device: bool) -> Result<()> {
        let tap = json!({"type": "tap", "id": wiring.tap, "fd": fd});
        self.qmp.execute("netdev_add", tap).await?;
        if let Some((tap_end, device_end)) = &wiring.hub {
            let port = json!({"type": "hubport", "id": tap_end, "hubid": wiring.hub_id, "netdev": wiring.tap});
            self.qmp.execute("netdev_add", port).await?;
            if !has_device {
                // The remains of an earlier try; as a rule there are none.
                let _ = self.qmp.execute("netdev_del", json!({"id": device_end})).await;
                let port = json!({"type": "hubport", "id": device_end, "hubid": wiring.hub_id});
                self.qmp.execute("netdev_add", port).await?;
            }
        }
        Ok(())
    }

    /// Removes the tap's side, if it is there.
    async fn remove_tap(&self, wiring: &Wiring) {
        for id in wiring.hub.iter().map(|hub| &hub.0).chain([&wiring.tap]) {
            let _ = self.qmp.execute("netdev_del", json!({"id": id})).await;
        }
    }

    /// Removes everything but the device.
    async fn remove_backend(&self, wiring: &Wiring) -> Result<()> {
        for id in wiring.hub.iter().flat_map(|hub| [&hub.0, &hub.1]).chain([&wiring.tap]) {
            match self.qmp.execute("netdev_del", json!({"id": id})).await {
                Ok(_) => {}
                // It went with an earlier call, or there is no hub.
                Err(HypervisorError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// On `pc` QEMU finds the slot; on `q35` each root port takes one device.
    async fn add_device(&self, nic: &Nic) -> Result<()> {
        let list = self
            .qmp
            .execute("qom-list", json!({"path": "/machine/peripheral"}))
            .await?;
        let devices = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut ports: Vec<String> = devices
            .iter()
            .filter_map(|device| device["name"].as_str())
            .filter(|name| name.strip_prefix("pcie").is_some_and(|n| n.parse::<u32>().is_ok()))
            .map(str::to_owned)
            .collect();
        if ports.is_empty() {
            return self.qmp.execute("device_add", nic_device(nic, None)).await.map(drop);
        }
        ports.sort_by_key(|name| name[4..].parse::<u32>().unwrap_or(0));
        let mut refused = None;
        for port in ports.into_iter().rev() {
            match self.qmp.execute("device_add", nic_device(nic, Some(port))).await {
                Ok(_) => return Ok(()),
                Err(HypervisorError::Refused {
                    command,
                    class,
                    description,
                }) if description.contains("in use") => {
                    refused = Some(HypervisorError::Refused {
                        command,
                        class,
                        description,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| HypervisorError::Protocol {
            what: "it has no slots".into(),
        }))
    }

    /// Unplugs a port's interface.
    pub async fn detach_nic(&self, port_id: Uuid) -> Result<()> {
        let mut removed = self.removed.clone();
        let until = tokio::time::Instant::now() + UNPLUG_LIMIT;
        let device = json!({"id": nic_id(port_id)});
        let mut gone = !self.devices().await?.contains(&port_id);
        while !gone {
            match self.qmp.execute("device_del", device.clone()).await {
                Ok(_) => {}
                Err(HypervisorError::Refused { class, .. }) if class == "DeviceNotFound" => {
                    gone = true;
                    break;
                }
                // The guest has been asked and has not answered yet.
                Err(HypervisorError::Refused { description, .. }) if description.contains("unplug") => {}
                Err(error) => return Err(error),
            }
            let wait = ASK_AGAIN.min(until.saturating_duration_since(tokio::time::Instant::now()));
            // Either way it is looked at.
            let _ = tokio::time::timeout(wait, removed.changed()).await;
            gone = !self.devices().await?.contains(&port_id);
            if !gone && tokio::time::Instant::now() >= until {
                break;
            }
        }
        if gone {
            self.remove_backend(&Wiring::of(port_id, false)).await?;
            return Ok(());
        }
        // The guest keeps the device, but nothing goes through it any more.
        self.remove_tap(&Wiring::of(port_id, false)).await;
        Err(HypervisorError::Timeout {
            doing: "unplugging an interface",
            seconds: UNPLUG_LIMIT.as_secs(),
        })
    }
}

/// Makes of QEMU's events those of the trait, and of the connection's end the guest's.
async fn pass_on(
    id: Uuid,
    mut heard: mpsc::UnboundedReceiver<Event>,
    events: broadcast::Sender<GuestEvent>,
    removed: watch::Sender<u64>,
    process: Option<Process>,
) {
    // Nobody may be listening to any of these.
    let say = |kind| drop(events.send(GuestEvent { id, kind }));
    while let Some(Event { name, data }) = heard.recv().await {
        tracing::debug!(guest = %id, event = name, %data, "QEMU says");
        match name.as_str() {
            "STOP" => say(GuestEventKind::Paused),
            "RESUME" => say(GuestEventKind::Resumed),
            "RESET" => say(GuestEventKind::Reset),
            "DEVICE_DELETED" => {
                removed.send_modify(|n| *n += 1);
                if let Some(port) = data["device"].as_str().and_then(port_of) {
                    say(GuestEventKind::NicRemoved(port));
                }
            }
            _ => {}
        }
    }
    // The connection has ended: because QEMU did, or because the daemon let go of it.
    let ended = match process {
        Some(process) => process.ended(Duration::from_secs(1)).await,
        None => true,
    };
    if ended {
        say(GuestEventKind::Stopped);
    }
}
