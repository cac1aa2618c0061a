//! What this machine offers guests: KVM, users of their own, cgroups, QEMU itself.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::process::User;

/// Whether guests can run on the CPU itself. The device alone proves nothing: nested machines have it where the CPU does not offer virtualisation.
pub fn kvm_usable() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpu_virtualises(&flags) && fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

fn cpu_virtualises(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// QEMU's version as Nova counts it, from the first line of `--version`.
pub fn parse_version(output: &str) -> Option<u64> {
    let rest = output.split("version ").nth(1)?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u64>);
    let mut next = || numbers.next().and_then(Result::ok);
    Some(next()? * 1_000_000 + next()? * 1_000 + next().unwrap_or(0))
}

/// A range of users for guests, one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Users {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Users {
    /// Above what systemd hands out to containers (up to 1,879,048,191) and below what 31 bits hold.
    pub const DEFAULT: Users = Users {
        first: 1_900_000_000,
        count: 65_536,
    };

    /// Why these users cannot be used here, if they cannot.
    pub fn problem(self) -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("guests run as the daemon's own user, because the daemon is not root".into());
        }
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
        if !(self.within(&map) && self.within(&groups)) {
            return Some("guests run as the daemon's own user, because this container maps too few user ids".into());
        }
        None
    }

    fn within(self, map: &str) -> bool {
        let last = u64::from(self.first) + u64::from(self.count);
        map.lines().any(|line| {
            let numbers: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            matches!(numbers[..], [inside, _, count] if inside <= u64::from(self.first) && last <= inside + count)
        })
    }

    /// The lowest one not in `taken`.
    pub fn free(self, taken: &[u32]) -> Option<User> {
        let uid = (self.first..self.first.saturating_add(self.count)).find(|uid| !taken.contains(uid))?;
        Some(User { uid, kvm_group: None })
    }
}

/// The group that may open /dev/kvm.
pub fn kvm_group() -> Option<u32> {
    fs::metadata("/dev/kvm").ok().map(|device| device.gid())
}

/// The unified cgroup hierarchy, where guests can have groups of their own.
pub fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    })?;
    Some(root)
}

/// Makes the guest's cgroup under `parent` and opens the file that takes processes.
pub fn make_cgroup(parent: &Path, id: Uuid) -> io::Result<fs::File> {
    let group = parent.join(format!("guest-{id}.scope"));
    fs::create_dir_all(&group)?;
    fs::OpenOptions::new().write(true).open(group.join("cgroup.procs"))
}

/// Removes the guest's cgroup; it is empty once its process has ended.
pub fn remove_cgroup(parent: &Path, id: Uuid) {
    // What is not there, or still has a process that is going, is no harm.
    let _ = fs::remove_dir(parent.join(format!("guest-{id}.scope")));
    // The last guest takes the parent along; the next one makes it again.
    let _ = fs::remove_dir(parent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cpu_that_says_so_virtualises() {
        assert!(cpu_virtualises("processor: 0\nflags\t\t: fpu vmx sse\n"));
        assert!(cpu_virtualises("flags : svm\n"));
        assert!(!cpu_virtualises("flags : fpu svmx hypervisor\nbugs : vmx\n"));
    }

    #[test]
    fn versions_read_as_nova_has_them() {
        assert_eq!(
            parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"),
            Some(7_002_022)
        );
        assert_eq!(parse_version("QEMU emulator version 10.0.2"), Some(10_000_002));
        assert_eq!(parse_version("nonsense"), None);
    }

    #[test]
    fn users_are_given_out_once_and_only_where_they_exist() {
        let users = Users { first: 1000, count: 2 };
        assert_eq!(users.free(&[1000]).map(|u| u.uid), Some(1001));
        assert_eq!(users.free(&[1000, 1001]), None);
        assert!(users.within("0 0 4294967295"));
        assert!(!users.within("0 100000 1001"));
    }
}
