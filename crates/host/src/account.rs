//! The cloud's unprivileged user, giving up privileges, and folders with the right owners.

use crate::{Error, Machine};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Whom a file or process belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A user as `/etc/passwd` has it.
pub fn find_user(machine: &dyn Machine, name: &str) -> Option<Owner> {
    let passwd = machine.read(Path::new("/etc/passwd")).ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(Owner {
        uid: fields.next()?.parse().ok()?,
        gid: fields.next()?.parse().ok()?,
    })
}

/// A group's id as `/etc/group` has it.
pub fn find_group(machine: &dyn Machine, name: &str) -> Option<u32> {
    let group = machine.read(Path::new("/etc/group")).ok()?;
    let line = group.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// Makes a system user without a password or shell, unless it is there. Returns it, and whether it is new (and so the
/// cloud's to remove).
pub fn ensure_user(machine: &dyn Machine, name: &str, home: &Path) -> Result<(Owner, bool), Error> {
    if !is_user_name(name) {
        return Err(Error::Name(name.to_owned()));
    }
    if let Some(owner) = find_user(machine, name) {
        return Ok((owner, false));
    }
    let shell = if machine.exists(Path::new("/usr/sbin/nologin")) {
        "/usr/sbin/nologin"
    } else {
        "/bin/false"
    };
    let home = home.to_string_lossy();
    let arguments = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        &home,
        "--shell",
        shell,
        name,
    ];
    let output = machine.run("useradd", &arguments, &[]).map_err(|source| Error::Run {
        program: "useradd".to_owned(),
        source,
    })?;
    // 9: somebody else made it in the meantime.
    if !output.status.success() && output.status.code() != Some(9) {
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Command {
            command: format!("useradd {name}"),
            errors,
        });
    }
    find_user(machine, name)
        .map(|owner| (owner, true))
        .ok_or_else(|| Error::StillMissing(format!("the user {name}")))
}

fn is_user_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.len() <= 32
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
}

/// The person behind `sudo`, who is to own what is written for them; none for root itself.
pub fn invoking_user() -> Option<Owner> {
    let id = |name| std::env::var(name).ok()?.parse().ok();
    let owner = Owner {
        uid: id("SUDO_UID")?,
        gid: id("SUDO_GID")?,
    };
    (nix::unistd::geteuid().is_root() && owner.uid != 0).then_some(owner)
}

/// Makes a folder with its parents, and sees to its mode and owner, also where it was there before.
pub fn ensure_folder(path: &Path, mode: u32, owner: Option<Owner>) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::io("making the folder", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(Error::io("setting the mode of", path))?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).map_err(Error::io("giving away", path))?;
    }
    Ok(())
}

/// A privilege of root's that can be kept alone; numbers from `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Capability {
    /// Changing owners.
    Chown = 0,
    /// Reading and writing whatever a file's mode says.
    DacOverride = 1,
    /// Changing modes of others' files.
    Fowner = 3,
    /// Signals to others' processes.
    Kill = 5,
    /// Becoming other groups.
    Setgid = 6,
    /// Becoming other users.
    Setuid = 7,
    /// Ports below 1024.
    NetBindService = 10,
    /// Interfaces, addresses, routes, taps.
    NetAdmin = 12,
    /// Raw and packet sockets.
    NetRaw = 13,
    /// Locked memory.
    IpcLock = 14,
    /// Looking into others' processes.
    SysPtrace = 19,
    /// Mounts, namespaces.
    SysAdmin = 21,
    /// Priorities.
    SysNice = 23,
    /// Limits.
    SysResource = 24,
    /// Device nodes.
    Mknod = 27,
}

impl Capability {
    /// As systemd and `capabilities(7)` write it.
    pub fn name(self) -> &'static str {
        match self {
            Capability::Chown => "CAP_CHOWN",
            Capability::DacOverride => "CAP_DAC_OVERRIDE",
            Capability::Fowner => "CAP_FOWNER",
            Capability::Kill => "CAP_KILL",
            Capability::Setgid => "CAP_SETGID",
            Capability::Setuid => "CAP_SETUID",
            Capability::NetBindService => "CAP_NET_BIND_SERVICE",
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::NetRaw => "CAP_NET_RAW",
            Capability::IpcLock => "CAP_IPC_LOCK",
            Capability::SysPtrace => "CAP_SYS_PTRACE",
            Capability::SysAdmin => "CAP_SYS_ADMIN",
            Capability::SysNice => "CAP_SYS_NICE",
            Capability::SysResource => "CAP_SYS_RESOURCE",
            Capability::Mknod => "CAP_MKNOD",
        }
    }
}

/// What a node's daemon needs.
pub const NODE_CAPABILITIES: [Capability; 13] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::SysAdmin,
    Capability::SysNice,
    Capability::SysResource,
    Capability::Mknod,
];

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Becomes `owner` for good, keeping only `keep` (also over an exec), and can gain nothing back. As the kernel does this per
/// thread, call it before there are others; nothing in it allocates, so it may run between fork and exec.
pub fn drop_privileges(owner: Owner, keep: &[Capability]) -> io::Result<()> {
    let check = |result: i64| {
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    let prctl = |option: i32, a: u64, b: u64| {
        // SAFETY: these options take numbers only.
        check(i64::from(unsafe { libc::prctl(option, a, b, 0, 0) }))
    };
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    // The bounding set first, while there is the privilege to shrink it. The kernel says where its capabilities end.
    for number in 0..64 {
        if !keep.iter().any(|c| *c as u64 == number) && prctl(libc::PR_CAPBSET_DROP, number, 0).is_err() {
            break;
        }
    }
    // SAFETY: plain system calls; the C library's versions would signal other threads, which is not allowed after a fork.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        check(libc::syscall(libc::SYS_setresgid, owner.gid, owner.gid, owner.gid))?;
        check(libc::syscall(libc::SYS_setresuid, owner.uid, owner.uid, owner.uid))?;
    }
    let mask = keep.iter().fold(0u32, |mask, c| mask | 1 << (*c as u32));
    let low = CapabilityData {
        effective: mask,
        permitted: mask,
        inheritable: mask,
    };
    let data = [
        low,
        CapabilityData {
            effective: 0,
            permitted: 0,
            inheritable: 0,
        },
    ];
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    // SAFETY: both structures live through the call and have the version's layout.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    for capability in keep {
        prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE as u64,
            *capability as u64,
        )?;
    }
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::FakeMachine;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;

    #[test]
    fn users_are_found_and_made_once() {
        let machine = FakeMachine::default().with_file(
            "/etc/passwd",
            "root:x:0:0::/:/bin/sh\nferrostack:x:998:997::/x:/bin/false\n",
        );
        let (owner, new) = ensure_user(&machine, "ferrostack", Path::new("/x")).unwrap();
        assert_eq!((owner, new), (Owner { uid: 998, gid: 997 }, false));
        assert!(machine.commands().is_empty());
        assert!(
            ensure_user(&machine, "other", Path::new("/x")).is_err(),
            "useradd of the fake makes nobody"
        );
        assert!(machine.commands()[0].starts_with("useradd --system"));
        assert!(matches!(
            ensure_user(&machine, "-x", Path::new("/x")),
            Err(Error::Name(_))
        ));
    }

    #[test]
    fn privileges_are_dropped_but_for_those_kept() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            return;
        }
        let mut command = std::process::Command::new("cat");
        command.arg("/proc/self/status");
        // SAFETY: drop_privileges allocates nothing.
        unsafe {
            command.pre_exec(|| drop_privileges(Owner { uid: 65534, gid: 65533 }, &[Capability::NetBindService]));
        }
        let output = command.output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
            line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(field("Uid:"), ["65534"; 4]);
        assert_eq!(field("Gid:"), ["65533"; 4]);
        assert!(field("Groups:").is_empty());
        for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), ["0000000000000400"], "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), ["1"]);
    }

    #[test]
    fn folders_get_their_mode_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        ensure_folder(&path, 0o750, None).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        ensure_folder(&path, 0o750, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o750);
    }
}
