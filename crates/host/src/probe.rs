//! What the machine has and lacks for a role.

use crate::Machine;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the machine is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Controller and node.
    AllInOne,
    /// The APIs only.
    Controller,
    /// Guests only.
    Node,
}

/// Something the cloud needs on the machine, recognised by its programs: a program may be there without the package that
/// the archive offers today, and asking for that package again could fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// The virtual switch.
    OpenVSwitch,
    /// The hypervisor.
    Qemu,
    /// Disk images.
    QemuImg,
    /// File systems for the tiny image.
    FileSystemTools,
    /// Unpacking for the tiny image.
    Xz,
}

impl Capability {
    /// All, in the order they are told.
    pub const ALL: [Capability; 5] = [
        Capability::OpenVSwitch,
        Capability::Qemu,
        Capability::QemuImg,
        Capability::FileSystemTools,
        Capability::Xz,
    ];

    /// For a sentence.
    pub fn text(self) -> &'static str {
        match self {
            Capability::OpenVSwitch => "Open vSwitch",
            Capability::Qemu => "QEMU",
            Capability::QemuImg => "QEMU's disk image tool",
            Capability::FileSystemTools => "ext4's tools",
            Capability::Xz => "xz",
        }
    }

    /// The programs that make it up; `/` separates ones of which any will do.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Capability::OpenVSwitch => &["ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl"],
            Capability::Qemu => &["qemu-system-x86_64/qemu-kvm"],
            Capability::QemuImg => &["qemu-img"],
            Capability::FileSystemTools => &["mke2fs", "debugfs"],
            Capability::Xz => &["xz"],
        }
    }

    fn is_for(self, role: Role) -> bool {
        role != Role::Controller || self == Capability::QemuImg
    }
}

/// The machine's way of installing software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageManager {
    /// Debian and Ubuntu.
    Apt,
    /// Fedora, RHEL and their kin.
    Dnf,
}

impl PackageManager {
    /// The package that brings a capability.
    pub fn package(self, capability: Capability) -> &'static str {
        match (self, capability) {
            (PackageManager::Apt, Capability::OpenVSwitch) => "openvswitch-switch",
            (PackageManager::Apt, Capability::Qemu) => "qemu-system-x86",
            (PackageManager::Apt, Capability::QemuImg) => "qemu-utils",
            (PackageManager::Apt, Capability::FileSystemTools) => "e2fsprogs",
            (PackageManager::Apt, Capability::Xz) => "xz-utils",
            (PackageManager::Dnf, Capability::OpenVSwitch) => "openvswitch",
            (PackageManager::Dnf, Capability::Qemu) => "qemu-kvm",
            (PackageManager::Dnf, Capability::QemuImg) => "qemu-img",
            (PackageManager::Dnf, Capability::FileSystemTools) => "e2fsprogs",
            (PackageManager::Dnf, Capability::Xz) => "xz",
        }
    }
}

/// How fast guests will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// The processor runs them.
    Kvm,
    /// They are emulated; why.
    Tcg(&'static str),
}

/// A listener that has a port the cloud wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupied {
    /// The TCP port.
    pub port: u16,
    /// Process that holds it, where it can be seen.
    pub process: Option<(u32, String)>,
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct Question {
    /// For which role.
    pub role: Role,
    /// Where the cloud would keep its state.
    pub state_folder: PathBuf,
    /// Ports it would listen on.
    pub ports: Vec<u16>,
    /// The unprivileged user it would run as.
    pub user: String,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Name of the operating system for a person.
    pub system: String,
    /// How software is installed here.
    pub packages: Option<PackageManager>,
    /// What is there, with the programs.
    pub present: BTreeMap<Capability, Vec<PathBuf>>,
    /// What is missing, with the programs that were not found.
    pub missing: BTreeMap<Capability, Vec<&'static str>>,
    /// How guests will run.
    pub acceleration: Acceleration,
    /// Whether taps can be made.
    pub tun: bool,
    /// Whether Open vSwitch's datapath can be the kernel's.
    pub kernel_datapath: bool,
    /// Whether guests can be put into cgroups (version 2).
    pub cgroups: bool,
    /// Whether services are systemd's.
    pub systemd: bool,
    /// Whether this is a network namespace other than the machine's own.
    pub private_network: bool,
    /// Free bytes for the state.
    pub free_disk: Option<u64>,
    /// Memory available in bytes.
    pub free_memory: Option<u64>,
    /// Wanted ports that somebody has.
    pub occupied: Vec<Occupied>,
    /// Whether the user exists.
    pub user_exists: bool,
    /// Whether this runs as root.
    pub root: bool,
}

/// Looks at a machine.
pub fn probe(machine: &dyn Machine, question: &Question) -> Probe {
    let (mut present, mut missing) = (BTreeMap::new(), BTreeMap::new());
    for capability in Capability::ALL.into_iter().filter(|c| c.is_for(question.role)) {
        let (mut found, mut absent) = (Vec::new(), Vec::new());
        for program in capability.programs() {
            match program.split('/').find_map(|name| find_program(machine, name)) {
                Some(path) => found.push(path),
                None => absent.push(*program),
            }
        }
        if absent.is_empty() {
            present.insert(capability, found);
        } else {
            missing.insert(capability, absent);
        }
    }
    let namespace = |pid: &str| machine.link(&Path::new("/proc").join(pid).join("ns/net"));
    let passwd = machine.read(Path::new("/etc/passwd")).unwrap_or_default();
    Probe {
        system: system(machine),
        packages: package_manager(machine),
        present,
        missing,
        acceleration: acceleration(machine),
        tun: machine.openable(Path::new("/dev/net/tun")),
        kernel_datapath: kernel_module(machine, "openvswitch"),
        cgroups: machine.exists(Path::new("/sys/fs/cgroup/cgroup.controllers")),
        systemd: machine.exists(Path::new("/run/systemd/system")),
        private_network: namespace("self")
            .zip(namespace("1"))
            .is_some_and(|(own, first)| own != first),
        free_disk: machine.free_space(&question.state_folder),
        free_memory: memory(machine),
        occupied: occupied(machine, &question.ports),
        user_exists: passwd
            .lines()
            .any(|line| line.split(':').next() == Some(&question.user)),
        root: machine.is_root(),
    }
}

/// RHEL keeps its QEMU out of everybody's PATH.
fn find_program(machine: &dyn Machine, name: &str) -> Option<PathBuf> {
    let hidden = Path::new("/usr/libexec").join(name);
    machine
        .program(name)
        .or_else(|| (name == "qemu-kvm" && machine.exists(&hidden)).then_some(hidden))
}

fn system(machine: &dyn Machine) -> String {
    let text = machine.read(Path::new("/etc/os-release")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "unknown".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn package_manager(machine: &dyn Machine) -> Option<PackageManager> {
    if machine.program("apt-get").is_some() && machine.program("dpkg").is_some() {
        Some(PackageManager::Apt)
    } else {
        machine.program("dnf").map(|_| PackageManager::Dnf)
    }
}

/// KVM takes both: the device, and a processor that has the feature; in containers and some clouds only the first is there.
fn acceleration(machine: &dyn Machine) -> Acceleration {
    let cpu = machine.read(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    if !flags.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")) {
        Acceleration::Tcg("this processor offers no virtualisation (no vmx or svm flag)")
    } else if !machine.exists(Path::new("/dev/kvm")) {
        Acceleration::Tcg("there is no /dev/kvm; load the module kvm_intel or kvm_amd")
    } else if !machine.openable(Path::new("/dev/kvm")) {
        Acceleration::Tcg("/dev/kvm cannot be opened")
    } else {
        Acceleration::Kvm
    }
}

/// Loaded, built in, or there to be loaded.
fn kernel_module(machine: &dyn Machine, name: &str) -> bool {
    if machine.exists(&Path::new("/sys/module").join(name)) {
        return true;
    }
    let release = machine
        .read(Path::new("/proc/sys/kernel/osrelease"))
        .unwrap_or_default();
    let folder = Path::new("/lib/modules").join(release.trim());
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        let text = machine.read(&folder.join(list)).unwrap_or_default();
        text.lines().any(|line| {
            let file = line
                .split(':')
                .next()
                .unwrap_or_default()
                .rsplit('/')
                .next()
                .unwrap_or_default();
            file.split('.').next() == Some(name)
        })
    })
}

fn memory(machine: &dyn Machine) -> Option<u64> {
    let text = machine.read(Path::new("/proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Which of these ports somebody listens on, and who.
pub fn occupied(machine: &dyn Machine, ports: &[u16]) -> Vec<Occupied> {
    let mut inodes = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in machine.read(Path::new(table)).unwrap_or_default().lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            // sl local_address rem_address st … inode; 0A is LISTEN.
            if let [_, local, _, "0A", ..] = words.as_slice()
                && let Some(port) = local
                    .rsplit(':')
                    .next()
                    .and_then(|hex| u16::from_str_radix(hex, 16).ok())
                && ports.contains(&port)
                && let Some(inode) = words.get(9)
            {
                inodes.entry(port).or_insert_with(|| (*inode).to_owned());
            }
        }
    }
    if inodes.is_empty() {
        return Vec::new();
    }
    let mut owners = BTreeMap::new();
    let processes = machine
        .list(Path::new("/proc"))
        .into_iter()
        .filter_map(|name| name.parse::<u32>().ok());
    for pid in processes {
        let folder = Path::new("/proc").join(pid.to_string());
        for descriptor in machine.list(&folder.join("fd")) {
            let target = machine.link(&folder.join("fd").join(descriptor));
            let inode = target
                .as_deref()
                .and_then(Path::to_str)
                .and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'));
            if let Some(inode) = inode {
                owners.entry(inode.to_owned()).or_insert(pid);
            }
        }
    }
    inodes
        .into_iter()
        .map(|(port, inode)| {
            let process = owners.get(&inode).map(|&pid| {
                let name = machine
                    .read(&Path::new("/proc").join(pid.to_string()).join("comm"))
                    .unwrap_or_default();
                (pid, name.trim().to_owned())
            });
            Occupied { port, process }
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{FakeMachine, RealMachine};

    pub fn question() -> Question {
        Question {
            role: Role::AllInOne,
            state_folder: "/var/lib/ferrostack".into(),
            ports: vec![5000, 8774],
            user: "ferrostack".to_owned(),
        }
    }

    #[test]
    fn programs_count_not_packages() {
        let machine = FakeMachine::default().with_programs(&["qemu-img", "apt-get", "dpkg", "ovs-vswitchd", "xz"]);
        let probe = probe(&machine, &question());
        assert_eq!(probe.packages, Some(PackageManager::Apt));
        assert!(probe.present.contains_key(&Capability::QemuImg));
        assert_eq!(
            probe.missing[&Capability::OpenVSwitch],
            ["ovsdb-server", "ovsdb-tool", "ovs-vsctl"]
        );
        assert_eq!(probe.missing[&Capability::Qemu], ["qemu-system-x86_64/qemu-kvm"]);
    }

    #[test]
    fn a_controller_needs_no_switch() {
        let question = Question {
            role: Role::Controller,
            ..question()
        };
        let probe = probe(&FakeMachine::default(), &question);
        assert_eq!(probe.missing.keys().copied().collect::<Vec<_>>(), [Capability::QemuImg]);
    }

    #[test]
    fn the_kvm_device_alone_is_not_enough() {
        let machine = FakeMachine::default()
            .with_file("/dev/kvm", "")
            .with_file("/proc/cpuinfo", "flags\t: fpu sse\n");
        assert!(
            matches!(probe(&machine, &question()).acceleration, Acceleration::Tcg(reason) if reason.contains("vmx"))
        );
        let machine = machine.with_file("/proc/cpuinfo", "flags\t: fpu svm\n");
        assert_eq!(probe(&machine, &question()).acceleration, Acceleration::Kvm);
    }

    #[test]
    fn modules_that_can_be_loaded() {
        let machine = FakeMachine::default()
            .with_file("/proc/sys/kernel/osrelease", "6.1.0-9\n")
            .with_file(
                "/lib/modules/6.1.0-9/modules.dep",
                "kernel/net/openvswitch/openvswitch.ko: kernel/net/nsh.ko\n",
            );
        assert!(probe(&machine, &question()).kernel_datapath);
        assert!(!probe(&FakeMachine::default(), &question()).kernel_datapath);
    }

    #[test]
    fn who_has_the_port() {
        let mut machine = FakeMachine::default()
            .with_file(
                "/proc/net/tcp",
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: \
                 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100\n   1: \
                 0100007F:2246 0100007F:1388 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0 100\n",
            )
            .with_file("/proc/77/comm", "airplay\n");
        machine.links.insert("/proc/77/fd/3".into(), "socket:[4242]".into());
        let occupied = probe(&machine, &question()).occupied;
        assert_eq!(
            occupied,
            [Occupied {
                port: 5000,
                process: Some((77, "airplay".to_owned()))
            }]
        );
    }

    #[test]
    fn this_machine() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = probe(
            &RealMachine,
            &Question {
                ports: vec![port],
                state_folder: "/tmp/none/yet".into(),
                ..question()
            },
        );
        assert_eq!(probe.occupied.len(), 1);
        assert_eq!(probe.occupied[0].process.as_ref().unwrap().0, std::process::id());
        assert!(probe.free_disk.unwrap() > 0 && probe.free_memory.unwrap() > 0);
    }
}
