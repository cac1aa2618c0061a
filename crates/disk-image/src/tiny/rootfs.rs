//! The guest's file system as a folder: chosen programs of the unpacked packages with the libraries they need, kernel
//! modules, and the guest's own scripts and accounts.

use super::{Error, Options, elf};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Programs taken over from packages. Those of busybox are links, made for all of its applets that none of these is.
const PROGRAMS: [&str; 33] = [
    "blkid",
    "busybox",
    "chpasswd",
    "curl",
    "dhclient",
    "dropbear",
    "dropbearkey",
    "e2fsck",
    "ip",
    "lsblk",
    "mke2fs",
    "mkfs.fat",
    "partx",
    "passwd",
    "ping",
    "ps",
    "rdisc6",
    "resize2fs",
    "scp",
    "screen",
    "sfdisk",
    "ssh",
    "su",
    "sudo",
    "sysctl",
    "wipefs",
    "findmnt",
    "ssh-keygen",
    "tune2fs",
    "dumpe2fs",
    "top",
    "free",
    "pgrep",
];

/// Programs that run as root whoever calls them.
const SETUID: [&str; 4] = ["su", "sudo", "passwd", "ping"];

const LINKS: [(&str, &str); 12] = [
    ("usr/bin/mkfs.ext2", "mke2fs"),
    ("usr/bin/mkfs.ext3", "mke2fs"),
    ("usr/bin/mkfs.ext4", "mke2fs"),
    ("usr/bin/fsck.ext4", "e2fsck"),
    ("usr/bin/mkfs.vfat", "mkfs.fat"),
    ("usr/bin/ping6", "ping"),
    ("usr/bin/ping4", "ping"),
    ("usr/bin/pkill", "pgrep"),
    ("usr/bin/dbclient", "ssh"),
    ("etc/mtab", "/proc/self/mounts"),
    ("var/run", "/run"),
    ("var/lock", "/run/lock"),
];

/// Modules that the root file system is found with.
pub const BOOT_MODULES: [&str; 6] = ["virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ata_piix", "ahci"];

/// Modules there for devices and protocols that come later; those that a kernel has built in are not missed.
const MODULES: [&str; 25] = [
    "8021q",
    "ata_generic",
    "button",
    "cdrom",
    "dummy",
    "evdev",
    "fat",
    "isofs",
    "loop",
    "nls_ascii",
    "nls_cp437",
    "nls_iso8859-1",
    "nls_utf8",
    "sr_mod",
    "tun",
    "vfat",
    "virtio_balloon",
    "virtio_console",
    "virtio_net",
    "virtio_rng",
    "vxlan",
    "bridge",
    "veth",
    "ip_gre",
    "virtio_input",
];

/// The unpacked packages.
pub struct Packages {
    root: PathBuf,
    /// Kernel version, as its module folder is named.
    pub kernel: String,
    libraries: BTreeMap<String, PathBuf>,
    modules: BTreeMap<String, PathBuf>,
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, &str)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // Links are looked at but not followed: packages only link inside themselves, and not in circles we need.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, visit);
        } else if let Some(name) = entry.file_name().to_str() {
            visit(&path, name);
        }
    }
}

impl Packages {
    /// Takes stock of the folder the packages were unpacked into.
    pub fn open(root: &Path) -> Result<Packages, Error> {
        let mut libraries = BTreeMap::new();
        for folder in [
            "lib/x86_64-linux-gnu",
            "usr/lib/x86_64-linux-gnu",
            "lib64",
            "usr/lib64",
            "usr/libexec/sudo",
        ] {
            walk(&root.join(folder), &mut |path, name| {
                if name.contains(".so") {
                    libraries.entry(name.to_owned()).or_insert_with(|| path.to_owned());
                }
            });
        }
        let folder = ["lib/modules", "usr/lib/modules"]
            .iter()
            .filter_map(|name| fs::read_dir(root.join(name)).ok())
            .flat_map(|entries| entries.flatten())
            .find(|entry| entry.path().join("kernel").is_dir())
            .ok_or(Error::NoKernel)?;
        let kernel = folder.file_name().to_string_lossy().into_owned();
        let mut modules = BTreeMap::new();
        walk(&folder.path().join("kernel"), &mut |path, name| {
            if let Some((stem, _)) = name.split_once(".ko") {
                modules.insert(stem.replace('-', "_"), path.to_owned());
            }
        });
        Ok(Packages {
            root: root.to_owned(),
            kernel,
            libraries,
            modules,
        })
    }

    /// The kernel's image.
    pub fn kernel_image(&self) -> Result<Vec<u8>, Error> {
        let path = self.root.join("boot").join(format!("vmlinuz-{}", self.kernel));
        fs::read(&path).map_err(Error::io("reading the kernel", &path))
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        ["bin", "usr/bin", "sbin", "usr/sbin"]
            .iter()
            .map(|f| self.root.join(f).join(name))
            .find(|p| p.exists())
    }

    /// A module with all it depends on, dependencies first, each with its content.
    pub fn modules(&self, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut done = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.module(&name.replace('-', "_"), &mut seen, &mut done)?;
        }
        Ok(done)
    }

    fn module(&self, name: &str, seen: &mut BTreeSet<String>, done: &mut Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        let Some(path) = self.modules.get(name) else {
            return Ok(());
        };
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let content = read_module(path)?;
        for depends in elf::modinfo(&content, "depends") {
            for other in depends.split(',').filter(|d| !d.is_empty()) {
                self.module(&other.replace('-', "_"), seen, done)?;
            }
        }
        done.push((name.to_owned(), elf::without_signature(&content).to_vec()));
        Ok(())
    }

    /// Copies a program or library with everything it is linked to, to the same merged places.
    fn copy_linked(&self, from: &Path, to: &Path, staging: &Staging) -> Result<(), Error> {
        if to.exists() {
            return Ok(());
        }
        let content = fs::read(from).map_err(Error::io("reading from a package", from))?;
        staging.write(to, &content, 0o755)?;
        let Some(needs) = elf::needs(&content) else {
            return Ok(());
        };
        let interpreter = needs.interpreter.as_deref().and_then(|path| path.rsplit('/').next());
        for library in needs.libraries.iter().map(String::as_str).chain(interpreter) {
            let source = self
                .libraries
                .get(library)
                .ok_or_else(|| Error::Library(library.to_owned(), from.to_owned()))?;
            self.copy_linked(
                source,
                &staging.root.join("usr/lib/x86_64-linux-gnu").join(library),
                staging,
            )?;
            if Some(library) == interpreter {
                let link = staging.root.join("usr/lib64").join(library);
                if link.symlink_metadata().is_err() {
                    staging.link(&format!("../lib/x86_64-linux-gnu/{library}"), &link)?;
                }
            }
        }
        Ok(())
    }
}

/// Some distributions compress their modules.
fn read_module(path: &Path) -> Result<Vec<u8>, Error> {
    let tool = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(Error::io("reading a kernel module", path)),
    };
    let output = std::process::Command::new(tool)
        .arg("-dc")
        .arg(path)
        .output()
        .map_err(Error::run(tool))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Error::tool(tool, &output))
    }
}

/// A folder that becomes a file system.
struct Staging {
    root: PathBuf,
}

impl Staging {
    fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("making a folder", parent))?;
        }
        fs::write(path, content).map_err(Error::io("writing", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("setting the mode of", path))
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<(), Error> {
        self.write(&self.root.join(path), content.as_ref(), mode)
    }

    fn folder(&self, path: &str, mode: u32) -> Result<(), Error> {
        let path = self.root.join(path);
        fs::create_dir_all(&path).map_err(Error::io("making a folder", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Error::io("setting the mode of", &path))
    }

    fn link(&self, target: &str, path: &Path) -> Result<(), Error> {
        symlink(target, path).map_err(Error::io("linking", path))
    }
}

/// Fills `root` with the guest's file system.
pub fn stage(packages: &Packages, options: &Options, root: &Path) -> Result<(), Error> {
    let staging = Staging { root: root.to_owned() };
    for folder in [
        "usr/bin",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib64",
        "usr/libexec",
        "etc",
        "dev",
        "proc",
        "sys",
        "run",
        "mnt",
    ] {
        staging.folder(folder, 0o755)?;
    }
    for (name, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        staging.link(target, &root.join(name))?;
    }
    staging.link("bin", &root.join("usr/sbin"))?;
    for folder in [
        "var/lib/tiny",
        "var/lib/dhcp",
        "var/log",
        "var/www",
        "var/tmp",
        "etc/dropbear",
        "media",
        "opt",
    ] {
        staging.folder(folder, 0o755)?;
    }
    staging.folder("tmp", 0o1777)?;
    staging.folder("root/.ssh", 0o700)?;
    staging.folder("root", 0o700)?;
    programs(packages, &staging)?;
    modules(packages, &staging)?;
    for (target, link) in LINKS.iter().map(|(path, target)| (target, root.join(path))) {
        staging.link(target, &link)?;
    }
    scripts(&staging)?;
    accounts(options, &staging)
}

fn programs(packages: &Packages, staging: &Staging) -> Result<(), Error> {
    let bin = staging.root.join("usr/bin");
    for name in PROGRAMS {
        let source = packages.program(name).ok_or_else(|| Error::Program(name.to_owned()))?;
        let source = source
            .canonicalize()
            .map_err(Error::io("looking at a program", &source))?;
        let target = bin.join(name);
        packages.copy_linked(&source, &target, staging)?;
        if SETUID.contains(&name) {
            fs::set_permissions(&target, fs::Permissions::from_mode(0o4755))
                .map_err(Error::io("setting the mode of", &target))?;
        }
    }
    // Under its own name, so that pidof and killall find it as nc.
    let socat = packages
        .program("socat")
        .ok_or_else(|| Error::Program("socat".to_owned()))?;
    let socat = socat
        .canonicalize()
        .map_err(Error::io("looking at a program", &socat))?;
    packages.copy_linked(&socat, &staging.root.join("usr/libexec/nc"), staging)?;
    staging.link("../libexec/nc", &bin.join("socat"))?;
    staging.file("usr/bin/nc", include_str!("files/nc"), 0o755)?;
    for library in [
        "sudoers.so",
        "pam_permit.so",
        "pam_unix.so",
        "pam_rootok.so",
        "pam_deny.so",
    ] {
        let source = packages
            .libraries
            .get(library)
            .ok_or_else(|| Error::Program(library.to_owned()))?;
        let folder = if library == "sudoers.so" {
            "usr/libexec/sudo"
        } else {
            "usr/lib/x86_64-linux-gnu/security"
        };
        packages.copy_linked(source, &staging.root.join(folder).join(library), staging)?;
    }
    for name in [
        "linux",
        "screen",
        "screen-256color",
        "vt100",
        "vt220",
        "xterm",
        "xterm-256color",
        "dumb",
        "ansi",
    ] {
        let path = format!("lib/terminfo/{}/{name}", &name[..1]);
        let source = [packages.root.join(&path), packages.root.join("usr").join(&path)]
            .into_iter()
            .find(|p| p.exists());
        if let Some(source) = source {
            let content = fs::read(&source).map_err(Error::io("reading from a package", &source))?;
            staging.file(&format!("usr/{path}"), content, 0o644)?;
        }
    }
    let busybox = bin.join("busybox");
    let applets = applets(packages, &busybox)?;
    for applet in applets {
        let link = bin.join(&applet);
        if link.symlink_metadata().is_err() && applet != "linuxrc" && !LINKS.iter().any(|(p, _)| link.ends_with(p)) {
            staging.link("busybox", &link)?;
        }
    }
    Ok(())
}

/// The applets of the guest's busybox, by running it with the guest's own loader and libraries.
fn applets(packages: &Packages, busybox: &Path) -> Result<Vec<String>, Error> {
    let loader = packages
        .libraries
        .get("ld-linux-x86-64.so.2")
        .ok_or_else(|| Error::Program("ld-linux".to_owned()))?;
    let folder = busybox
        .parent()
        .map(|p| p.join("../lib/x86_64-linux-gnu"))
        .unwrap_or_default();
    let output = std::process::Command::new(loader)
        .arg("--library-path")
        .arg(folder)
        .arg(busybox)
        .arg("--list")
        .output()
        .map_err(Error::run("busybox"))?;
    if !output.status.success() {
        return Err(Error::tool("busybox --list", &output));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names
        .lines()
        .filter(|n| !n.is_empty() && !n.contains('/'))
        .map(str::to_owned)
        .collect())
}

fn modules(packages: &Packages, staging: &Staging) -> Result<(), Error> {
    let wanted: Vec<&str> = BOOT_MODULES.into_iter().chain(MODULES).collect();
    let found = packages.modules(&wanted)?;
    let folder = format!("usr/lib/modules/{}", packages.kernel);
    let known: BTreeSet<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let (mut dependencies, mut aliases) = (String::new(), String::new());
    for (name, content) in &found {
        staging.file(&format!("{folder}/{name}.ko"), content, 0o644)?;
        let direct: Vec<String> = elf::modinfo(content, "depends")
            .iter()
            .flat_map(|list| list.split(','))
            .map(|d| d.replace('-', "_"))
            .filter(|d| known.contains(d.as_str()))
            .collect();
        let needed = closure(&found, &direct);
        let needed: Vec<String> = needed.iter().map(|d| format!(" {d}.ko")).collect();
        dependencies.push_str(&format!("{name}.ko:{}\n", needed.concat()));
        for alias in elf::modinfo(content, "alias") {
            aliases.push_str(&format!("alias {alias} {name}\n"));
        }
    }
    staging.file(&format!("{folder}/modules.dep"), dependencies, 0o644)?;
    staging.file(&format!("{folder}/modules.alias"), aliases, 0o644)
}

/// All that has to be loaded before, nearest first as modprobe wants it.
fn closure(found: &[(String, Vec<u8>)], direct: &[String]) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let mut queue: Vec<String> = direct.to_vec();
    while !queue.is_empty() {
        let name = queue.remove(0);
        list.retain(|known| *known != name);
        if let Some((_, content)) = found.iter().find(|(n, _)| *n == name) {
            let more = elf::modinfo(content, "depends");
            queue.extend(
                more.iter()
                    .flat_map(|l| l.split(','))
                    .filter(|d| !d.is_empty())
                    .map(|d| d.replace('-', "_")),
            );
        }
        list.push(name);
    }
    list
}

fn scripts(staging: &Staging) -> Result<(), Error> {
    staging.file("etc/inittab", include_str!("files/inittab"), 0o644)?;
    for (path, content) in [
        ("etc/init.d/start", include_str!("files/start")),
        ("etc/init.d/cloud", include_str!("files/cloud")),
        ("etc/init.d/name", include_str!("files/name")),
        ("etc/init.d/ipv6", include_str!("files/ipv6")),
        ("etc/udhcpc.script", include_str!("files/udhcpc.script")),
        ("etc/dhclient6.script", include_str!("files/dhclient6.script")),
        ("etc/acpi/PWRF/00000080", "#!/bin/sh\nexec /sbin/poweroff\n"),
    ] {
        staging.file(path, content, 0o755)?;
    }
    staging.file("var/www/index.html", "<h1>It works.</h1>\n", 0o666)
}

fn accounts(options: &Options, staging: &Staging) -> Result<(), Error> {
    let user = &options.user;
    let hash = match &options.password {
        Some(password) => super::password::sha512_crypt(password.as_bytes(), "ferrostack"),
        None => "!".to_owned(),
    };
    staging.file(
        "etc/passwd",
        format!("root:x:0:0:root:/root:/bin/sh\n{user}:x:1000:1000:{user}:/home/{user}:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        0o644,
    )?;
    staging.file(
        "etc/group",
        format!("root:x:0:\ntty:x:5:\nshadow:x:42:\nutmp:x:43:\nsudo:x:27:{user}\n{user}:x:1000:\nnogroup:x:65534:\n"),
        0o644,
    )?;
    staging.file(
        "etc/shadow",
        format!("root:*:19000:0:99999:7:::\n{user}:{hash}:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n"),
        0o600,
    )?;
    staging.file(
        "etc/sudoers",
        format!("Defaults !requiretty\nroot ALL=(ALL:ALL) ALL\n{user} ALL=(ALL:ALL) NOPASSWD: ALL\n"),
        0o440,
    )?;
    let permit = "auth sufficient pam_permit.so\naccount required pam_permit.so\npassword required pam_permit.so\nsession required pam_permit.so\n";
    let unix = "auth sufficient pam_rootok.so\nauth required pam_unix.so\naccount required pam_permit.so\npassword required pam_unix.so sha512\nsession required pam_permit.so\n";
    for (name, content) in [
        ("sudo", permit),
        ("su", unix),
        ("su-l", unix),
        ("passwd", unix),
        ("chpasswd", unix),
        ("other", unix),
    ] {
        staging.file(&format!("etc/pam.d/{name}"), content, 0o644)?;
    }
    staging.file("etc/tiny-user", format!("{user}\n"), 0o644)?;
    // What mount tries in turn where no type is given.
    staging.file("etc/filesystems", "ext4\nvfat\niso9660\next3\next2\n", 0o644)?;
    staging.file("etc/shells", "/bin/sh\n/bin/ash\n", 0o644)?;
    staging.file(
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n",
        0o644,
    )?;
    staging.file("etc/services", "http 80/tcp\nssh 22/tcp\ndomain 53/udp\n", 0o644)?;
    staging.file(
        "etc/protocols",
        "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\n",
        0o644,
    )?;
    staging.file("etc/hostname", "tiny\n", 0o644)?;
    staging.file(
        "etc/hosts",
        "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\ttiny\n",
        0o644,
    )?;
    staging.file("etc/resolv.conf", "", 0o644)?;
    staging.file(
        "etc/os-release",
        "NAME=\"Ferrostack tiny guest\"\nID=tiny\nID_LIKE=debian\n",
        0o644,
    )?;
    staging.file(
        "etc/profile",
        "export PATH=/usr/bin\nexport PS1='\\u@\\h:\\w\\$ '\n",
        0o644,
    )?;
    let password = options.password.as_deref();
    let login = match password {
        Some(password) => format!("Log in as {user} with password {password}; sudo gives root."),
        None => format!("Log in as {user} with your ssh key; sudo gives root."),
    };
    staging.file("etc/issue", format!("\nFerrostack tiny guest. {login}\n"), 0o644)?;
    staging.folder(&format!("home/{user}/.ssh"), 0o700)?;
    staging.folder(&format!("home/{user}"), 0o755)
}
