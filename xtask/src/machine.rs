//! What the tests need of the machine, and how it gets there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that must be there, and the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("ovs-vswitchd", "openvswitch-switch"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("tcpdump", "tcpdump"),
    ("curl", "curl"),
    ("ping", "iputils-ping"),
    ("ssh", "openssh-client"),
    ("cpio", "cpio"),
    ("gcc", "gcc"),
];

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn on_path(program: &str) -> bool {
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    folders.split(':').any(|f| Path::new(f).join(program).is_file())
}

fn has_postgres() -> bool {
    std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|d| d.flatten().any(|e| e.path().join("bin/initdb").exists()))
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let status = Command::new(program).args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).status();
    match status {
        Ok(s) if s.success() => Ok(()),
        Ok(s) => Err(format!("`{program} {}` ended with {s}", args.join(" "))),
        Err(e) => Err(format!("`{program}` could not be started: {e}")),
    }
}

/// Installs the packages whose programs are missing.
pub fn packages() -> Result<(), String> {
    let mut missing: Vec<&str> = PROGRAMS.iter().filter(|(p, _)| !on_path(p)).map(|(_, package)| *package).collect();
    if !has_postgres() {
        missing.push("postgresql");
    }
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(", "));
    run("apt-get", &["update", "-qq"])?;
    // One by one: where qemu-utils is there from a newer suite than the archive's, asking for it together with
    // qemu-system-x86 is refused, while the latter alone takes it away and it can then be had again.
    for package in &missing {
        run("apt-get", &["install", "-y", "-qq", "--no-install-recommends", package])?;
    }
    if !on_path("qemu-img") {
        run("apt-get", &["install", "-y", "-qq", "--no-install-recommends", "qemu-utils"])?;
    }
    Ok(())
}

/// A virtual environment with the requirements of `tests/NAME-requirements.txt`; returns its folder. Made once.
pub fn venv(name: &str) -> Result<PathBuf, String> {
    let requirements = root().join("tests").join(format!("{name}-requirements.txt"));
    let folder = std::env::var_os("FERROSTACK_VENVS").map_or_else(|| root().join("target/venvs"), PathBuf::from).join(name);
    let stamp = folder.join(".installed");
    let wanted = std::fs::read_to_string(&requirements).map_err(|e| format!("{}: {e}", requirements.display()))?;
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(folder);
    }
    println!("making the Python environment {name}");
    let python = folder.join("bin/python");
    if !python.exists() {
        if run("python3", &["-m", "venv", &folder.to_string_lossy()]).is_err() {
            run("apt-get", &["install", "-y", "-qq", "python3-venv"])?;
            run("python3", &["-m", "venv", &folder.to_string_lossy()])?;
        }
    }
    run(&python.to_string_lossy(), &["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", &requirements.to_string_lossy()])?;
    std::fs::write(&stamp, wanted).map_err(|e| e.to_string())?;
    Ok(folder)
}
