//! What the cloud put on the machine, noted before it is put there, so that `purge` removes all of it and nothing else.

use crate::external::{self, Outbound};
use crate::service::Manager;
use crate::{Error, Machine, credentials, write_file};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};

/// One thing on the machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item {
    /// A service of the cloud's manager.
    Service {
        /// Its name.
        name: String,
    },
    /// A process, such as a guest or the switch; the time of its start tells it from a later one of the same number.
    Process {
        /// Process id.
        pid: u32,
        /// Field 22 of `/proc/PID/stat`.
        started: u64,
    },
    /// A cgroup (version 2) with the processes in it and its children.
    Cgroup {
        /// Its folder.
        path: PathBuf,
    },
    /// A bridge of an Open vSwitch.
    Bridge {
        /// Its name.
        name: String,
        /// How to reach the database, as `ovs-vsctl --db` takes it.
        database: String,
    },
    /// A network device.
    Device {
        /// Its name.
        name: String,
    },
    /// A named network namespace.
    Namespace {
        /// Its name.
        name: String,
    },
    /// A table or chain of the packet filter.
    Filter {
        /// Its name.
        table: String,
    },
    /// Entries in a clouds.yaml.
    Clouds {
        /// The file.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
    /// A file.
    File {
        /// Where.
        path: PathBuf,
    },
    /// A folder with all in it.
    Folder {
        /// Where.
        path: PathBuf,
    },
    /// A system user.
    User {
        /// Its name.
        name: String,
    },
}

impl Item {
    /// A running process.
    pub fn process(pid: u32) -> Option<Item> {
        Some(Item::Process {
            pid,
            started: started(pid)?,
        })
    }

    /// In which turn it is removed: first what acts, last what is stood upon.
    fn turn(&self) -> u8 {
        match self {
            Item::Service { .. } => 0,
            Item::Process { .. } => 1,
            Item::Cgroup { .. } => 2,
            Item::Bridge { .. } => 3,
            Item::Device { .. } => 4,
            Item::Filter { .. } => 5,
            Item::Namespace { .. } => 6,
            Item::Clouds { .. } => 7,
            Item::File { .. } => 8,
            Item::Folder { .. } => 9,
            Item::User { .. } => 10,
        }
    }

    /// For a line that says what is removed.
    pub fn text(&self) -> String {
        match self {
            Item::Service { name } => format!("service {name}"),
            Item::Process { pid, .. } => format!("process {pid}"),
            Item::Cgroup { path } => format!("cgroup {}", path.display()),
            Item::Bridge { name, .. } => format!("bridge {name}"),
            Item::Device { name } => format!("device {name}"),
            Item::Namespace { name } => format!("network namespace {name}"),
            Item::Filter { table } => format!("packet filter table {table}"),
            Item::Clouds { path, names } => format!("{} in {}", names.join(", "), path.display()),
            Item::File { path } => format!("file {}", path.display()),
            Item::Folder { path } => format!("folder {}", path.display()),
            Item::User { name } => format!("user {name}"),
        }
    }
}

fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; what follows the last bracket is fields 3 and on.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The list, kept in a file.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    #[serde(skip)]
    path: PathBuf,
    items: Vec<Item>,
}

/// What became of one thing.
#[derive(Debug)]
pub struct Removal {
    /// The thing.
    pub item: Item,
    /// Whether it is gone; why not.
    pub result: Result<(), Error>,
}

impl Manifest {
    /// Reads the list, or begins one.
    pub fn open(path: &Path) -> Result<Manifest, Error> {
        let mut manifest: Manifest = match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| Error::Unreadable {
                path: path.to_owned(),
                reason: e.to_string(),
            })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Manifest::default(),
            Err(e) => return Err(Error::io("reading", path)(e)),
        };
        manifest.path = path.to_owned();
        Ok(manifest)
    }

    /// What is on it.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Notes things before they are made. Noting one twice is the same as once.
    pub fn add(&mut self, items: impl IntoIterator<Item = Item>) -> Result<(), Error> {
        let before = self.items.len();
        for item in items {
            if let Item::File { path } | Item::Folder { path } = &item {
                check_path(path)?;
            }
            if !self.items.contains(&item) {
                self.items.push(item);
            }
        }
        if self.items.len() == before {
            Ok(())
        } else {
            self.save()
        }
    }

    fn save(&self) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_file(&self.path, &text, 0o600, None)
    }

    /// Removes everything on the list and then the list. What cannot be removed stays on it, so that trying again is
    /// possible; `say` is told each thing.
    pub async fn purge(
        mut self,
        machine: &dyn Machine,
        manager: &Manager,
        say: &mut dyn FnMut(&str),
    ) -> Result<Vec<Removal>, Error> {
        let mut items = std::mem::take(&mut self.items);
        items.sort_by_key(Item::turn);
        let mut removals = Vec::new();
        let own = self.path.clone();
        for item in items {
            say(&item.text());
            let result = remove(machine, manager, &item).await;
            if result.is_err() {
                self.items.push(item.clone());
            }
            removals.push(Removal { item, result });
        }
        if self.items.is_empty() {
            match std::fs::remove_file(&own) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("removing", &own)(e)),
                _ => {}
            }
        } else if own.parent().is_some_and(Path::exists) {
            self.save()?;
        }
        Ok(removals)
    }
}

/// Folders that are never the cloud's alone.
fn check_path(path: &Path) -> Result<(), Error> {
    let plain = path.is_absolute() && !path.components().any(|c| matches!(c, std::path::Component::ParentDir));
    let shared = [
        "/",
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/lib64",
        "/media",
        "/mnt",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/srv",
        "/sys",
        "/tmp",
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/local",
        "/usr/sbin",
        "/usr/share",
        "/var",
        "/var/lib",
        "/var/log",
        "/var/tmp",
        "/var/cache",
        "/etc/systemd",
        "/etc/systemd/system",
    ];
    let home = std::env::var_os("HOME").is_some_and(|home| path == Path::new(&home));
    if !plain || home || shared.iter().any(|s| path == Path::new(s)) {
        return Err(Error::Dangerous(path.to_owned()));
    }
    Ok(())
}

fn gone(result: std::io::Result<()>, path: &Path) -> Result<(), Error> {
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path)(e)),
        _ => Ok(()),
    }
}

async fn remove(machine: &dyn Machine, manager: &Manager, item: &Item) -> Result<(), Error> {
    match item {
        Item::Service { name } => manager.remove(machine, name),
        Item::Process { pid, started: then } => end_process(*pid, *then).await,
        Item::Cgroup { path } => remove_cgroup(path).await,
        Item::Bridge { name, database } => remove_bridge(machine, name, database),
        Item::Device { name } => external::remove_device(name).await.map(drop),
        Item::Namespace { name } => remove_namespace(name),
        Item::Filter { table } => {
            external::remove_outbound(machine, &Outbound::Nftables(table.clone()));
            external::remove_outbound(machine, &Outbound::Iptables(table.clone()));
            Ok(())
        }
        Item::Clouds { path, names } => {
            credentials::remove_clouds(path, &names.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Item::File { path } => {
            check_path(path)?;
            gone(std::fs::remove_file(path), path)
        }
        Item::Folder { path } => {
            check_path(path)?;
            gone(std::fs::remove_dir_all(path), path)
        }
        Item::User { name } => remove_user(machine, name),
    }
}

/// Waits for a condition of the kernel's that has no event to wait for, with a bound.
async fn until(mut condition: impl FnMut() -> bool) -> bool {
    for _ in 0..500 {
        if condition() {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    false
}

async fn end_process(pid: u32, then: u64) -> Result<(), Error> {
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        started(pid) == Some(then) && !stat.contains(") Z ")
    };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if !lives() {
            return Ok(());
        }
        let _ = kill(Pid::from_raw(pid as i32), signal);
        if until(|| !lives()).await {
            return Ok(());
        }
    }
    Err(Error::DoesNotStop(format!("process {pid}")))
}

async fn remove_cgroup(path: &Path) -> Result<(), Error> {
    if !path.starts_with("/sys/fs/cgroup/") || check_path(path).is_err() {
        return Err(Error::Dangerous(path.to_owned()));
    }
    if !path.exists() {
        return Ok(());
    }
    let kill_file = path.join("cgroup.kill");
    std::fs::write(&kill_file, "1").map_err(Error::io("ending the processes in", path))?;
    let empty = || std::fs::read_to_string(path.join("cgroup.events")).is_ok_and(|e| e.contains("populated 0"));
    if !until(empty).await {
        return Err(Error::DoesNotStop(path.display().to_string()));
    }
    fn remove_tree(path: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(path)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path())?;
            }
        }
        std::fs::remove_dir(path)
    }
    gone(remove_tree(path), path)
}

fn remove_bridge(machine: &dyn Machine, name: &str, database: &str) -> Result<(), Error> {
    // With the switch gone, so is the bridge.
    let socket = database.strip_prefix("unix:").map(Path::new);
    if machine.program("ovs-vsctl").is_none() || socket.is_some_and(|path| !machine.exists(path)) {
        return Ok(());
    }
    let arguments = [
        &format!("--db={database}"),
        "--timeout=10",
        "--no-wait",
        "--if-exists",
        "del-br",
        name,
    ];
    let output = machine.run("ovs-vsctl", &arguments, &[]).map_err(|source| Error::Run {
        program: "ovs-vsctl".to_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if errors.contains("database connection failed") {
        return Ok(());
    }
    Err(Error::Command {
        command: format!("ovs-vsctl del-br {name}"),
        errors,
    })
}

fn remove_namespace(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Error::Name(name.to_owned()));
    }
    let path = Path::new("/run/netns").join(name);
    match nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(e) => return Err(Error::io("unmounting", &path)(e.into())),
    }
    gone(std::fs::remove_file(&path), &path)
}

fn remove_user(machine: &dyn Machine, name: &str) -> Result<(), Error> {
    if crate::account::find_user(machine, name).is_none() {
        return Ok(());
    }
    let output = machine.run("userdel", &[name], &[]).map_err(|source| Error::Run {
        program: "userdel".to_owned(),
        source,
    })?;
    // 6: there is no such user any more.
    if output.status.success() || output.status.code() == Some(6) {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Command {
        command: format!("userdel {name}"),
        errors,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::FakeMachine;
    use std::process::Command;

    fn manager(folder: &Path) -> Manager {
        Manager::Supervised {
            folder: folder.to_owned(),
            launcher: vec!["/bin/false".into()],
        }
    }

    #[tokio::test]
    async fn everything_noted_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["state/a/b", "other"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        for name in ["state/a/file", "rc", "kept"] {
            std::fs::write(path(name), "x").unwrap();
        }
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Item::process(child.id()).unwrap();
        let mut manifest = Manifest::open(&path("manifest.json")).unwrap();
        let items = [
            Item::Folder { path: path("state") },
            Item::File { path: path("rc") },
            Item::File {
                path: path("never made"),
            },
            Item::Service {
                name: "never-started".to_owned(),
            },
            Item::Bridge {
                name: "br-ex".to_owned(),
                database: "unix:/none".to_owned(),
            },
            Item::Namespace {
                name: "host-no-such-namespace".to_owned(),
            },
            process,
        ];
        manifest.add(items.clone()).unwrap();
        manifest.add(items).unwrap();
        let manifest = Manifest::open(&path("manifest.json")).unwrap();
        assert_eq!(manifest.items().len(), 7, "it is in the file, once");
        let mut said = Vec::new();
        let machine = FakeMachine::default();
        let reaped = std::thread::spawn(move || child.wait());
        let removals = manifest
            .purge(&machine, &manager(folder.path()), &mut |line| {
                said.push(line.to_owned())
            })
            .await
            .unwrap();
        reaped.join().unwrap().unwrap();
        for removal in &removals {
            assert!(removal.result.is_ok(), "{removal:?}");
        }
        assert_eq!(said[0], "service never-started");
        let mut left: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["kept", "other"]);
    }

    #[tokio::test]
    async fn a_number_that_is_somebody_elses_now_is_left_alone() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let Some(Item::Process { pid, started }) = Item::process(child.id()) else {
            panic!("it runs")
        };
        end_process(pid, started + 1).await.unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it still runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_removed_stays_on_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        let mut manifest = Manifest::open(&path).unwrap();
        manifest.items.push(Item::Folder { path: "/etc".into() });
        manifest.items.push(Item::Cgroup {
            path: "/sys/fs/cgroup/../../../etc".into(),
        });
        manifest.items.push(Item::File {
            path: folder.path().join("x"),
        });
        let machine = FakeMachine::default();
        let removals = manifest
            .purge(&machine, &manager(folder.path()), &mut |_| {})
            .await
            .unwrap();
        assert_eq!(
            removals
                .iter()
                .filter(|r| matches!(r.result, Err(Error::Dangerous(_))))
                .count(),
            2
        );
        assert_eq!(Manifest::open(&path).unwrap().items().len(), 2);
    }

    #[test]
    fn shared_places_cannot_be_noted() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::open(&folder.path().join("m")).unwrap();
        for path in ["/", "/etc", "/var/lib", "relative", "/var/lib/ferrostack/../.."] {
            assert!(
                matches!(
                    manifest.add([Item::Folder { path: path.into() }]),
                    Err(Error::Dangerous(_))
                ),
                "{path}"
            );
        }
    }
}
