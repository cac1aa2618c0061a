//! Services by name, kept by systemd where it runs and by [`crate::supervisor`] where not.

use crate::account::{Capability, Owner};
use crate::probe::Probe;
use crate::{Error, Machine, supervisor, write_file};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What a service may do to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Parses what the world sends: sees next to nothing of the machine.
    Controller,
    /// Holds the machine: only what it never needs is taken away, and what it started goes on when it stops.
    Node,
}

/// A daemon to keep running.
#[derive(Clone, Debug)]
pub struct Service {
    /// Name of the unit or process.
    pub name: String,
    /// One line for a person.
    pub description: String,
    /// Program (an absolute path) and arguments.
    pub argv: Vec<String>,
    /// Environment; no secrets, as units can be read.
    pub environment: BTreeMap<String, String>,
    /// Whom it runs as: name and ids; none is root, or whoever starts it.
    pub user: Option<(String, Owner)>,
    /// Privileges it has; for root, none named is all.
    pub capabilities: Vec<Capability>,
    /// How it is shut in.
    pub sandbox: Sandbox,
    /// Folders it writes to.
    pub writable: Vec<PathBuf>,
    /// Services (or, with their ending, other units) that start before it.
    pub after: Vec<String>,
    /// Its output, where there is no journal.
    pub log: PathBuf,
}

const STOP_SECONDS: u64 = 30;

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It runs: its process, how often it was restarted.
    Running {
        /// Process id; none between two starts.
        process: Option<u32>,
        /// Restarts since it was started on purpose.
        restarts: u32,
    },
    /// It does not.
    Stopped,
    /// It should and does not; why.
    Failed(String),
}

/// Who keeps the services.
pub enum Manager {
    /// systemd.
    Systemd {
        /// Where units go.
        units: PathBuf,
    },
    /// Own supervisors.
    Supervised {
        /// Where their files go.
        folder: PathBuf,
        /// The command that, with a spec's path, becomes a supervisor.
        launcher: Vec<OsString>,
    },
}

impl Manager {
    /// systemd if it runs here, this is root, and the network is the machine's own: in a namespace a unit would have the
    /// wrong network.
    pub fn choose(probe: &Probe, run_folder: &Path, launcher: Vec<OsString>) -> Manager {
        if probe.systemd && probe.root && !probe.private_network {
            Manager::Systemd {
                units: PathBuf::from("/etc/systemd/system"),
            }
        } else {
            Manager::Supervised {
                folder: run_folder.to_owned(),
                launcher,
            }
        }
    }

    /// Sees to it that the service runs as described, now and after a reboot. Returns whether anything had to be done.
    pub fn start(&self, machine: &dyn Machine, service: &Service) -> Result<bool, Error> {
        match self {
            Manager::Systemd { units } => {
                let path = units.join(format!("{}.service", service.name));
                let text = unit(service);
                let changed = machine.read(&path).ok().as_deref() != Some(text.as_str());
                if changed {
                    write_file(&path, text.as_bytes(), 0o644, None)?;
                    systemctl(machine, &["daemon-reload"])?;
                }
                if !changed && systemctl(machine, &["is-active", "--quiet", &service.name]).is_ok() {
                    return Ok(false);
                }
                systemctl(machine, &["enable", "--quiet", &service.name])?;
                systemctl(machine, &["restart", &service.name])?;
                Ok(true)
            }
            Manager::Supervised { folder, launcher } => supervisor::start(folder, &spec(service), launcher),
        }
    }

    /// Stops a service and keeps it stopped. Returns whether it ran.
    pub fn stop(&self, machine: &dyn Machine, name: &str) -> Result<bool, Error> {
        match self {
            Manager::Systemd { units } => {
                let ran = systemctl(machine, &["is-active", "--quiet", name]).is_ok();
                if machine.exists(&units.join(format!("{name}.service"))) {
                    systemctl(machine, &["disable", "--now", "--quiet", name])?;
                }
                Ok(ran)
            }
            Manager::Supervised { folder, .. } => supervisor::stop(folder, name),
        }
    }

    /// How a service is.
    pub fn status(&self, machine: &dyn Machine, name: &str) -> Result<Status, Error> {
        match self {
            Manager::Systemd { .. } => {
                let properties = "--property=ActiveState,SubState,MainPID,NRestarts,Result";
                let text = systemctl(machine, &["show", name, properties])?;
                let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
                let field = |key| fields.get(key).copied().unwrap_or_default();
                Ok(match field("ActiveState") {
                    "active" | "activating" | "reloading" => Status::Running {
                        process: field("MainPID").parse().ok().filter(|pid| *pid != 0),
                        restarts: field("NRestarts").parse().unwrap_or(0),
                    },
                    "failed" => Status::Failed(field("Result").to_owned()),
                    _ => Status::Stopped,
                })
            }
            Manager::Supervised { folder, .. } => Ok(match supervisor::status(folder, name) {
                Some(supervisor::State {
                    process: None,
                    restarts: 1..,
                    last_exit: Some(reason),
                    ..
                }) => Status::Failed(reason),
                Some(state) => Status::Running {
                    process: state.process,
                    restarts: state.restarts,
                },
                None => Status::Stopped,
            }),
        }
    }

    /// Stops a service and removes every trace of it. Returns the files there were.
    pub fn remove(&self, machine: &dyn Machine, name: &str) -> Result<(), Error> {
        self.stop(machine, name)?;
        match self {
            Manager::Systemd { units } => {
                let path = units.join(format!("{name}.service"));
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("removing", &path)(e)),
                    _ => {}
                }
                systemctl(machine, &["daemon-reload"]).map(drop)
            }
            Manager::Supervised { folder, .. } => supervisor::forget(folder, name),
        }
    }

    /// Where a person finds what the service says.
    pub fn log_hint(&self, service: &Service) -> String {
        match self {
            Manager::Systemd { .. } => format!("journalctl -u {}", service.name),
            Manager::Supervised { .. } => service.log.display().to_string(),
        }
    }
}

fn systemctl(machine: &dyn Machine, arguments: &[&str]) -> Result<String, Error> {
    let output = machine
        .run("systemctl", arguments, &[("LC_ALL", "C")])
        .map_err(|source| Error::Run {
            program: "systemctl".to_owned(),
            source,
        })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Command {
            command: format!("systemctl {}", arguments.join(" ")),
            errors,
        })
    }
}

fn spec(service: &Service) -> supervisor::Spec {
    supervisor::Spec {
        name: service.name.clone(),
        argv: service.argv.clone(),
        environment: service.environment.clone(),
        user: service.user.as_ref().map(|(_, owner)| *owner),
        capabilities: service.capabilities.clone(),
        log: service.log.clone(),
        stop_seconds: STOP_SECONDS,
    }
}

/// One word of a unit file: quoted, with systemd's specifiers and variables switched off.
fn quoted(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// The unit file of a service.
pub fn unit(service: &Service) -> String {
    let mut lines = vec![
        "[Unit]".to_owned(),
        format!("Description={}", service.description.replace('%', "%%")),
    ];
    lines.push("Wants=network-online.target".to_owned());
    let unit_name = |name: &String| {
        if name.contains('.') {
            format!(" {name}")
        } else {
            format!(" {name}.service")
        }
    };
    let after: Vec<String> = service.after.iter().map(unit_name).collect();
    lines.push(format!("After=network-online.target{}", after.concat()));
    // Starting over without end: a cloud that mends itself does not give up after five times.
    lines.push("StartLimitIntervalSec=0".to_owned());
    lines.extend(["", "[Service]", "Type=exec"].map(str::to_owned));
    let words: Vec<String> = service
        .argv
        .iter()
        .map(|word| quoted(&word.replace('$', "$$")))
        .collect();
    lines.push(format!("ExecStart={}", words.join(" ")));
    for (key, value) in &service.environment {
        lines.push(format!("Environment={}", quoted(&format!("{key}={value}"))));
    }
    let capabilities = service
        .capabilities
        .iter()
        .map(|c| c.name())
        .collect::<Vec<_>>()
        .join(" ");
    if let Some((name, _)) = &service.user {
        lines.push(format!("User={name}"));
        lines.push(format!("AmbientCapabilities={capabilities}"));
    }
    // An empty set would leave root without any privilege.
    if service.user.is_some() || !capabilities.is_empty() {
        lines.push(format!("CapabilityBoundingSet={capabilities}"));
    }
    lines.extend(
        [
            "Restart=always",
            "RestartSec=200ms",
            "RestartSteps=8",
            "RestartMaxDelaySec=30",
        ]
        .map(str::to_owned),
    );
    lines.push(format!("TimeoutStopSec={STOP_SECONDS}"));
    lines.extend(
        [
            "LimitNOFILE=65536",
            "UMask=0027",
            "LockPersonality=yes",
            "RestrictRealtime=yes",
        ]
        .map(str::to_owned),
    );
    let restrictions: &[&str] = match service.sandbox {
        Sandbox::Controller => &[
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            "PrivateDevices=yes",
            "ProtectKernelTunables=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelLogs=yes",
            "ProtectControlGroups=yes",
            "ProtectClock=yes",
            "ProtectHostname=yes",
            "ProtectProc=invisible",
            "RestrictNamespaces=yes",
            "RestrictSUIDSGID=yes",
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
            "MemoryDenyWriteExecute=yes",
            "SystemCallArchitectures=native",
            "SystemCallFilter=@system-service",
        ],
        // Guests are its children and must outlive it, so only the daemon itself is ended.
        Sandbox::Node => &[
            "KillMode=process",
            "Delegate=yes",
            "OOMScoreAdjust=-900",
            "ProtectHome=read-only",
        ],
    };
    lines.extend(restrictions.iter().map(|r| (*r).to_owned()));
    if service.sandbox == Sandbox::Controller && !service.writable.is_empty() {
        let folders: Vec<String> = service
            .writable
            .iter()
            .map(|path| quoted(&path.to_string_lossy()))
            .collect();
        lines.push(format!("ReadWritePaths={}", folders.join(" ")));
    }
    lines.extend(["", "[Install]", "WantedBy=multi-user.target", ""].map(str::to_owned));
    lines.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::FakeMachine;

    fn controller() -> Service {
        Service {
            name: "ferrostack-controller".to_owned(),
            description: "Ferrostack controller".to_owned(),
            argv: ["/usr/bin/ferrostack", "serve", "--config", "/etc/100% \"mine\"/$x"]
                .map(str::to_owned)
                .to_vec(),
            environment: BTreeMap::from([("RUST_LOG".to_owned(), "info".to_owned())]),
            user: Some(("ferrostack".to_owned(), Owner { uid: 998, gid: 998 })),
            capabilities: vec![Capability::NetBindService],
            sandbox: Sandbox::Controller,
            writable: vec!["/var/lib/ferrostack".into()],
            after: vec![],
            log: "/var/log/ferrostack/controller.log".into(),
        }
    }

    #[test]
    fn the_controllers_unit_is_shut_in() {
        let text = unit(&controller());
        for line in [
            r#"ExecStart="/usr/bin/ferrostack" "serve" "--config" "/etc/100%% \"mine\"/$$x""#,
            "User=ferrostack",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
            "ProtectSystem=strict",
            r#"ReadWritePaths="/var/lib/ferrostack""#,
            "NoNewPrivileges=yes",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_nodes_unit_leaves_guests_alone() {
        let service = Service {
            user: None,
            sandbox: Sandbox::Node,
            capabilities: crate::account::NODE_CAPABILITIES.to_vec(),
            ..controller()
        };
        let text = unit(&service);
        assert!(text.contains("\nKillMode=process\n") && !text.contains("PrivateDevices") && !text.contains("User="));
        assert!(text.contains("CAP_NET_ADMIN"));
        let after = vec!["network.target".to_owned(), "ferrostack-controller".to_owned()];
        let text = unit(&Service {
            capabilities: Vec::new(),
            after,
            ..service
        });
        assert!(
            !text.contains("CapabilityBoundingSet"),
            "root without privileges is no node"
        );
        assert!(
            text.contains("After=network-online.target network.target ferrostack-controller.service\n"),
            "{text}"
        );
    }

    #[test]
    fn systemd_is_told_only_when_something_changes() {
        let folder = tempfile::tempdir().unwrap();
        let manager = Manager::Systemd {
            units: folder.path().to_owned(),
        };
        let machine = FakeMachine {
            answers: vec![("is-active".to_owned(), 3, String::new())],
            ..FakeMachine::default()
        };
        assert!(manager.start(&machine, &controller()).unwrap());
        let path = folder.path().join("ferrostack-controller.service");
        assert_eq!(
            machine.commands(),
            [
                "systemctl daemon-reload",
                "systemctl enable --quiet ferrostack-controller",
                "systemctl restart ferrostack-controller"
            ]
        );
        let running =
            FakeMachine::default().with_file(path.to_str().unwrap(), &std::fs::read_to_string(&path).unwrap());
        assert!(!manager.start(&running, &controller()).unwrap());
        assert_eq!(
            running.commands(),
            ["systemctl is-active --quiet ferrostack-controller"]
        );
        manager.remove(&running, "ferrostack-controller").unwrap();
        assert!(!path.exists());
    }
}
