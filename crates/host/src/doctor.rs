//! Findings: what is the matter with the machine, and what to do about it, a sentence each.

use crate::probe::{Acceleration, PackageManager, Probe};
use std::fmt;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works, less well.
    Notice,
    /// The cloud cannot run like this.
    Problem,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, in a word or two.
    pub subject: String,
    /// One sentence that says what is and what to do.
    pub sentence: String,
}

impl Finding {
    /// A finding.
    pub fn new(severity: Severity, subject: impl Into<String>, sentence: impl Into<String>) -> Finding {
        Finding {
            severity,
            subject: subject.into(),
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Good => "ok     ",
            Severity::Notice => "notice ",
            Severity::Problem => "PROBLEM",
        };
        write!(f, "{mark} {}: {}", self.subject, self.sentence)
    }
}

/// All findings of a look at the machine.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order to be told.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing stands in the cloud's way.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|f| f.severity < Severity::Problem)
    }

    /// Adds a finding.
    pub fn add(&mut self, severity: Severity, subject: impl Into<String>, sentence: impl Into<String>) {
        self.findings.push(Finding::new(severity, subject, sentence));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

const GIB: u64 = 1 << 30;

/// What a probe means.
pub fn report(probe: &Probe) -> Report {
    use Severity::{Good, Notice, Problem};
    let mut report = Report::default();
    report.add(Good, "System", format!("{}.", probe.system));
    for (capability, programs) in &probe.present {
        let places: Vec<String> = programs.iter().map(|p| p.display().to_string()).collect();
        report.add(Good, capability.text(), format!("{}.", places.join(", ")));
    }
    for (capability, programs) in &probe.missing {
        let programs = programs.join(", ").replace('/', " or ");
        let how = match probe.packages {
            Some(manager) => {
                let command = if manager == PackageManager::Apt {
                    "apt-get"
                } else {
                    "dnf"
                };
                format!(
                    "run 'ferrostack up', which installs it, or '{command} install {}'",
                    manager.package(*capability)
                )
            }
            None => "install it".to_owned(),
        };
        report.add(Problem, capability.text(), format!("{programs} not found: {how}."));
    }
    match &probe.acceleration {
        Acceleration::Kvm => report.add(Good, "KVM", "guests run on the processor itself."),
        Acceleration::Tcg(reason) => {
            report.add(
                Notice,
                "KVM",
                format!("guests are emulated and slow, because {reason}."),
            );
        }
    }
    if !probe.tun && probe.root {
        report.add(
            Problem,
            "Taps",
            "/dev/net/tun cannot be opened: load the kernel module tun, or give the container that device.",
        );
    }
    if probe.kernel_datapath {
        report.add(Good, "Datapath", "Open vSwitch can use the kernel's.");
    } else {
        report.add(
            Notice,
            "Datapath",
            "this kernel has no openvswitch module, so packets are switched in user space; install the kernel's extra \
             modules for more speed.",
        );
    }
    if !probe.cgroups {
        report.add(
            Notice,
            "cgroups",
            "version 2 is not mounted, so guests are not kept to their share of the processor.",
        );
    }
    let service = if probe.systemd && !probe.private_network {
        "systemd"
    } else {
        "a supervisor of its own"
    };
    report.add(Good, "Services", format!("kept by {service}."));
    match probe.free_disk {
        Some(free) if free < 2 * GIB => {
            let sentence = format!(
                "only {} MiB are free for the cloud's state: free some, or choose another --state-dir.",
                free >> 20
            );
            report.add(Problem, "Disk", sentence);
        }
        Some(free) if free < 10 * GIB => {
            report.add(
                Notice,
                "Disk",
                format!("{} GiB are free, enough for a few small guests.", free / GIB),
            );
        }
        Some(free) => report.add(Good, "Disk", format!("{} GiB free.", free / GIB)),
        None => {}
    }
    match probe.free_memory {
        Some(free) if free < GIB => {
            let sentence = format!(
                "only {} MiB are available: guests will not start; stop something else first.",
                free >> 20
            );
            report.add(Problem, "Memory", sentence);
        }
        Some(free) => report.add(Good, "Memory", format!("{} GiB available.", free / GIB)),
        None => {}
    }
    for occupied in &probe.occupied {
        let who = match &occupied.process {
            Some((pid, name)) => format!("{name} (process {pid})"),
            None => "another process".to_owned(),
        };
        report.add(
            Problem,
            format!("Port {}", occupied.port),
            format!("{who} listens there: stop it, or use --api-port to put all services on another port."),
        );
    }
    report
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::FakeMachine;
    use crate::probe::{Question, Role, probe};

    #[test]
    fn a_bare_machine_is_told_what_to_do() {
        let machine = FakeMachine {
            free: 100 << 30,
            root: true,
            ..FakeMachine::default()
        }
        .with_programs(&["apt-get", "dpkg"])
        .with_file("/proc/meminfo", "MemAvailable:  500000 kB\n");
        let question = Question {
            role: Role::AllInOne,
            state_folder: "/var/lib/ferrostack".into(),
            ports: vec![],
            user: "ferrostack".to_owned(),
        };
        let report = report(&probe(&machine, &question));
        let text = report.to_string();
        assert!(!report.is_healthy());
        assert!(text.contains("PROBLEM QEMU: qemu-system-x86_64 or qemu-kvm not found: run 'ferrostack up', which installs it, or 'apt-get install qemu-system-x86'."), "{text}");
        assert!(text.contains("PROBLEM Memory: only 488 MiB are available"), "{text}");
        assert!(text.contains("PROBLEM Taps"), "{text}");
        assert!(
            report
                .findings
                .iter()
                .all(|f| f.sentence.ends_with('.') && !f.sentence.contains('\n'))
        );
    }
}
