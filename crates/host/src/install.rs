//! Installing what is missing with the machine's own package manager.

use crate::probe::{Capability, PackageManager, Probe};
use crate::{Error, Machine};
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What would be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// With what.
    pub manager: PackageManager,
    /// What for.
    pub capabilities: Vec<Capability>,
    /// The packages.
    pub packages: Vec<&'static str>,
}

impl Plan {
    /// The command that an operator would type.
    pub fn command(&self) -> String {
        match self.manager {
            PackageManager::Apt => format!("apt-get install --no-install-recommends {}", self.packages.join(" ")),
            PackageManager::Dnf => format!("dnf install {}", self.packages.join(" ")),
        }
    }
}

/// Decides what to install for what a probe found missing; none if nothing is.
pub fn plan(probe: &Probe) -> Result<Option<Plan>, Error> {
    if probe.missing.is_empty() {
        return Ok(None);
    }
    let capabilities: Vec<Capability> = probe.missing.keys().copied().collect();
    let manager = probe
        .packages
        .ok_or_else(|| Error::NoPackageManager(sentence(&capabilities)))?;
    let mut packages: Vec<&str> = capabilities.iter().map(|c| manager.package(*c)).collect();
    packages.dedup();
    Ok(Some(Plan {
        manager,
        capabilities,
        packages,
    }))
}

fn sentence(capabilities: &[Capability]) -> String {
    capabilities.iter().map(|c| c.text()).collect::<Vec<_>>().join(", ")
}

/// How the operator agrees.
pub enum Consent<'a> {
    /// Given beforehand (`--yes`).
    Given,
    /// Asked on the terminal; without one, not given.
    Ask,
    /// Asked by other means.
    With(&'a mut dyn FnMut(&str) -> bool),
}

/// Asks a yes-or-no question on the terminal; anything but yes, and no terminal, is no.
pub fn ask_on_terminal(question: &str) -> bool {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() {
        return false;
    }
    let mut answer = String::new();
    let asked = write!(stderr, "{question} [Y/n] ").and_then(|()| stderr.flush());
    if asked.is_err() || stdin.lock().read_line(&mut answer).unwrap_or(0) == 0 {
        return false;
    }
    matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes")
}

/// Installs a plan. `say` is told each step. Daemons that come with the packages are not started, since the cloud runs its
/// own; a policy that is there already is respected.
pub fn install(
    machine: &dyn Machine,
    plan: &Plan,
    consent: Consent<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let question = format!(
        "{} needed; install {} with '{}'?",
        sentence(&plan.capabilities),
        plan.packages.join(", "),
        plan.command()
    );
    let agreed = match consent {
        Consent::Given => true,
        Consent::Ask => ask_on_terminal(&question),
        Consent::With(ask) => ask(&question),
    };
    if !agreed {
        return Err(Error::Refused(sentence(&plan.capabilities), plan.command()));
    }
    if !machine.is_root() {
        return Err(Error::NeedsRoot("installing packages"));
    }
    say(&format!("installing {}", plan.packages.join(", ")));
    match plan.manager {
        PackageManager::Apt => apt(machine, plan, say),
        PackageManager::Dnf => run(
            machine,
            plan,
            &["dnf", "-y", "--setopt=install_weak_deps=False", "install"],
            true,
        ),
    }?;
    let absent = |capability: &&Capability| {
        let question = crate::probe::Question {
            role: crate::probe::Role::AllInOne,
            state_folder: PathBuf::from("/"),
            ports: Vec::new(),
            user: String::new(),
        };
        crate::probe::probe(machine, &question).missing.contains_key(capability)
    };
    match plan.capabilities.iter().find(absent) {
        Some(capability) => Err(Error::StillMissing(capability.text().to_owned())),
        None => Ok(()),
    }
}

fn apt(machine: &dyn Machine, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let _quiet = machine.keep_daemons_stopped();
    let install = [
        "apt-get",
        "-y",
        "-q",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=300",
        "install",
    ];
    let lists = machine.list(Path::new("/var/lib/apt/lists"));
    let have_lists = lists.iter().any(|name| name.contains("_Packages"));
    if have_lists {
        match run(machine, plan, &install, true) {
            Err(Error::Command { errors, .. }) if is_outdated(&errors) => {}
            other => return other,
        }
    }
    say("fetching the package lists");
    run(
        machine,
        plan,
        &["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"],
        false,
    )?;
    run(machine, plan, &install, true)
}

/// apt's complaints that newer lists cure.
fn is_outdated(errors: &str) -> bool {
    [
        "Unable to locate package",
        "has no installation candidate",
        "404",
        "Unable to fetch some archives",
    ]
    .iter()
    .any(|text| errors.contains(text))
}

fn run(machine: &dyn Machine, plan: &Plan, command: &[&str], packages: bool) -> Result<(), Error> {
    let mut arguments = command[1..].to_vec();
    if packages {
        arguments.extend(&plan.packages);
    }
    let environment = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("LC_ALL", "C"),
        ("NEEDRESTART_MODE", "l"),
    ];
    let output = machine
        .run(command[0], &arguments, &environment)
        .map_err(|source| Error::Run {
            program: command[0].to_owned(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let offline = [
        "Temporary failure resolving",
        "Could not resolve",
        "Could not connect",
        "Network is unreachable",
        "Curl error",
    ];
    if offline.iter().any(|text| errors.contains(text)) {
        return Err(Error::Offline(
            plan.packages.join(", "),
            format!("then run '{}'", plan.command()),
        ));
    }
    Err(Error::Command {
        command: format!("{} {}", command[0], arguments.join(" ")),
        errors,
    })
}

/// While this lives, packages do not start daemons (Debian's policy-rc.d).
pub struct NoDaemons {
    path: Option<PathBuf>,
}

impl NoDaemons {
    pub(crate) fn new(path: &Path) -> NoDaemons {
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path);
        let written = file.and_then(|mut file| file.write_all(b"#!/bin/sh\nexit 101\n"));
        NoDaemons {
            path: written.is_ok().then(|| path.to_owned()),
        }
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// All missing programs by capability, for a message.
pub fn missing_programs(missing: &BTreeMap<Capability, Vec<&'static str>>) -> String {
    missing.values().flatten().copied().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::FakeMachine;
    use crate::probe::{Question, Role, probe};

    const ALL: [&str; 9] = [
        "ovs-vswitchd",
        "ovsdb-server",
        "ovsdb-tool",
        "ovs-vsctl",
        "qemu-img",
        "mke2fs",
        "debugfs",
        "xz",
        "dpkg",
    ];

    fn plan_for(machine: &FakeMachine) -> Option<Plan> {
        let question = Question {
            role: Role::AllInOne,
            state_folder: "/x".into(),
            ports: vec![],
            user: "ferrostack".to_owned(),
        };
        plan(&probe(machine, &question)).unwrap()
    }

    fn debian() -> FakeMachine {
        FakeMachine {
            root: true,
            ..FakeMachine::default()
        }
        .with_programs(&ALL)
        .with_programs(&["apt-get"])
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let plan = plan_for(&debian()).unwrap();
        assert_eq!(plan.packages, ["qemu-system-x86"]);
        assert_eq!(
            plan.command(),
            "apt-get install --no-install-recommends qemu-system-x86"
        );
        assert_eq!(plan_for(&debian().with_programs(&["qemu-system-x86_64"])), None);
    }

    #[test]
    fn refusing_says_what_to_do() {
        let machine = debian();
        let plan = plan_for(&machine).unwrap();
        let mut asked = String::new();
        let mut no = |question: &str| {
            asked = question.to_owned();
            false
        };
        let error = install(&machine, &plan, Consent::With(&mut no), &mut |_| {}).unwrap_err();
        assert!(asked.contains("QEMU needed; install qemu-system-x86"), "{asked}");
        assert!(error.to_string().contains("run again with --yes"), "{error}");
        assert!(machine.commands().is_empty());
    }

    #[test]
    fn lists_are_fetched_when_there_are_none_or_old_ones() {
        let machine = debian();
        let plan = plan_for(&machine).unwrap();
        let error = install(&machine, &plan, Consent::Given, &mut |_| {}).unwrap_err();
        assert!(
            matches!(error, Error::StillMissing(_)),
            "the fake never gets the program: {error}"
        );
        let commands = machine.commands();
        assert!(
            commands[0].ends_with("update") && commands[1].ends_with("install qemu-system-x86"),
            "{commands:?}"
        );

        let machine = FakeMachine {
            answers: vec![(
                "install".to_owned(),
                100,
                "E: Unable to locate package qemu-system-x86".to_owned(),
            )],
            ..debian().with_file("/var/lib/apt/lists/mirror_Packages", "")
        };
        let error = install(&machine, &plan, Consent::Given, &mut |_| {}).unwrap_err();
        assert_eq!(machine.commands().len(), 3, "install, update, install");
        assert!(matches!(error, Error::Command { .. }));
    }

    #[test]
    fn offline_is_said_plainly() {
        let machine = FakeMachine {
            answers: vec![(
                "update".to_owned(),
                100,
                "Temporary failure resolving 'mirror'".to_owned(),
            )],
            ..debian()
        };
        let error = install(&machine, &plan_for(&machine).unwrap(), Consent::Given, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("offline"), "{error}");
    }

    #[test]
    fn an_ordinary_user_is_told_to_use_sudo() {
        let machine = FakeMachine {
            root: false,
            ..debian()
        };
        let error = install(&machine, &plan_for(&machine).unwrap(), Consent::Given, &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "installing packages needs root; run it with sudo");
    }

    #[test]
    fn the_policy_goes_away_and_an_existing_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        let policy = NoDaemons::new(&path);
        assert!(path.exists());
        drop(policy);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        drop(NoDaemons::new(&path));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
