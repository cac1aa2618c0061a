//! `ovsdb-server` and `ovs-vswitchd`: found where they run, or started, watched and stopped.
//!
//! They are started detached and outlive the node's daemon, so that guests keep their network while it is replaced. A later
//! one finds them by their process id files.

use super::error::Error;
use std::env;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// An instance of Open vSwitch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Folder of the sockets and process id files; the distributions' own is `/run/openvswitch`.
    pub run_dir: PathBuf,
    /// The database file, when the instance is ours to start.
    pub database: PathBuf,
    /// Folder of the logs, when the instance is ours to start.
    pub log_dir: PathBuf,
    /// Whether it is ours: started if it does not run, started again if it dies. Otherwise the machine's own
    /// service cares for it.
    pub ours: bool,
}

const SCHEMAS: [&str; 2] = [
    "/usr/share/openvswitch/vswitch.ovsschema",
    "/usr/local/share/openvswitch/vswitch.ovsschema",
];
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// A daemon that dies sooner than this after its start is started again only after a pause.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

const DATABASE: &str = "ovsdb-server";
const SWITCH: &str = "ovs-vswitchd";

impl Instance {
    /// The instance that the machine's own service runs.
    pub fn of_the_system() -> Instance {
        Instance {
            run_dir: "/run/openvswitch".into(),
            database: "/etc/openvswitch/conf.db".into(),
            log_dir: "/var/log/openvswitch".into(),
            ours: false,
        }
    }

    /// An instance of our own, with everything in one folder.
    pub fn in_folder(dir: &Path) -> Instance {
        Instance {
            run_dir: dir.into(),
            database: dir.join("conf.db"),
            log_dir: dir.into(),
            ours: true,
        }
    }

    /// The instance to use where nobody has said which: ours in this folder if it runs already; else the machine's own,
    /// if that runs in our network namespace, for two would fight over the datapath; else ours.
    pub fn choose(ours: &Path) -> Instance {
        let (ours, system) = (Instance::in_folder(ours), Instance::of_the_system());
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let shared = |pid: i32| namespace(&pid.to_string()).is_some_and(|n| Some(n) == namespace("thread-self"));
        if !ours.runs() && system.runs() && system.pid(SWITCH).is_some_and(shared) {
            system
        } else {
            ours
        }
    }

    /// The database's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("db.sock")
    }

    /// The control socket of `ovs-vswitchd`, if it runs.
    pub fn control(&self) -> Option<PathBuf> {
        let pid = self.pid(SWITCH)?;
        Some(self.run_dir.join(format!("{SWITCH}.{pid}.ctl")))
    }

    /// The process of a daemon that runs.
    fn pid(&self, daemon: &str) -> Option<i32> {
        let text = fs::read_to_string(self.run_dir.join(format!("{daemon}.pid"))).ok()?;
        let pid: i32 = text.trim().parse().ok().filter(|p| *p > 1)?;
        // The number may have been given to another process since; a dead one that nobody has waited for still has it.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, state) = stat.split_once('(')?.1.rsplit_once(") ")?;
        (name == daemon && !state.starts_with(['Z', 'X'])).then_some(pid)
    }

    /// Whether the database answers on its socket.
    pub fn runs(&self) -> bool {
        UnixStream::connect(self.socket()).is_ok()
    }

    /// Starts what does not run.
    ///
    /// # Errors
    /// If Open vSwitch is not installed or does not start.
    pub async fn start(&self) -> Result<(), Error> {
        for dir in [
            Some(self.run_dir.as_path()),
            Some(self.log_dir.as_path()),
            self.database.parent(),
        ]
        .into_iter()
        .flatten()
        {
            fs::create_dir_all(dir).map_err(|source| Error::File {
                what: "making",
                path: dir.to_owned(),
                source,
            })?;
        }
        if self.pid(DATABASE).is_none() {
            self.prepare_database().await?;
            self.start_database().await?;
        }
        if self.pid(SWITCH).is_none() {
            self.start_switch().await?;
        }
        Ok(())
    }

    /// Makes the database, or brings it to the installed version's schema.
    async fn prepare_database(&self) -> Result<(), Error> {
        let schema = SCHEMAS
            .into_iter()
            .find(|p| Path::new(p).exists())
            .ok_or(Error::NotInstalled("Open vSwitch"))?;
        let file = self.database.to_string_lossy().into_owned();
        if !self.database.exists() {
            return self.run("ovsdb-tool", &["create", &file, schema]).await.map(drop);
        }
        if self
            .run("ovsdb-tool", &["needs-conversion", &file, schema])
            .await?
            .trim()
            == "yes"
        {
            self.run("ovsdb-tool", &["convert", &file, schema]).await?;
        }
        Ok(())
    }

    async fn start_database(&self) -> Result<(), Error> {
        let remote = format!("--remote=punix:{}", self.socket().display());
        let file = self.database.to_string_lossy().into_owned();
        self.daemon(
            DATABASE,
            &[&file, &remote, "--remote=db:Open_vSwitch,Open_vSwitch,manager_options"],
        )
        .await
    }

    async fn start_switch(&self) -> Result<(), Error> {
        // Loads the kernel's datapath where there is one. Where there is none, the bridges say so later.
        let modprobe = self.command("modprobe").args(["-q", "openvswitch"]).status().await;
        tracing::debug!("modprobe openvswitch: {modprobe:?}");
        let database = format!("unix:{}", self.socket().display());
        self.daemon(SWITCH, &[&database]).await
    }

    /// The defaults of the process id file and of the control socket follow from OVS_RUNDIR, so `ovs-appctl`
    /// and its kin find them with the same variable.
    async fn daemon(&self, program: &'static str, args: &[&str]) -> Result<(), Error> {
        let log = format!("--log-file={}", self.log_dir.join(format!("{program}.log")).display());
        let common = [
            "--pidfile",
            &log,
            "--detach",
            "--no-chdir",
            "-vconsole:off",
            "-vsyslog:off",
            "-vfile:info",
        ];
        self.run(program, &[args, &common].concat()).await.map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut path = env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/sbin:/sbin:/usr/local/sbin");
        let mut c = Command::new(program);
        c.env("PATH", path)
            .env("OVS_RUNDIR", &self.run_dir)
            .env("OVS_LOGDIR", &self.log_dir);
        c.env("OVS_DBDIR", self.database.parent().unwrap_or(&self.run_dir));
        c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        c
    }

    async fn run(&self, program: &'static str, args: &[&str]) -> Result<String, Error> {
        // A daemon keeps its standard error; a pipe would not end with its parent. A file does not mind.
        let failed = |source| Error::File {
            what: "making",
            path: env::temp_dir(),
            source,
        };
        let mut errors = tempfile::tempfile().map_err(failed)?;
        let stderr = errors.try_clone().map_err(failed)?;
        let stdout = if program == "ovsdb-tool" {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let child = self
            .command(program)
            .args(args)
            .stdout(stdout)
            .stderr(stderr)
            .output()
            .await;
        let out = child.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotInstalled(program),
            _ => Error::Program {
                program,
                message: e.to_string(),
            },
        })?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        let mut message = String::new();
        let _ = io::Seek::rewind(&mut errors).and_then(|()| io::Read::read_to_string(&mut errors, &mut message));
        Err(Error::Program {
            program,
            message: format!("{} {}", out.status, message.trim()),
        })
    }

    /// Ends both daemons, if they run. Bridges of the kernel's datapath go with them.
    ///
    /// # Errors
    /// If one does not end.
    pub async fn stop(&self) -> Result<(), Error> {
        // "exit --cleanup" takes the datapath along, which a signal would leave in the kernel.
        if let Some(socket) = self.control() {
            let exit = ovsdb::unixctl::call(&socket, "exit", &["--cleanup"]);
            if let Ok(Err(e)) = timeout(STOP_WITHIN, exit).await {
                tracing::debug!("asking {SWITCH} to exit: {e}");
            }
        }
        for daemon in [SWITCH, DATABASE] {
            let Some(pid) = self.pid(daemon) else { continue };
            let Ok(process) = Process::open(pid) else { continue };
            for signal in [None, Some(libc::SIGTERM), Some(libc::SIGKILL)] {
                match signal {
                    // The switch may be exiting already.
                    None if daemon == DATABASE => continue,
                    None => {}
                    Some(signal) => process.kill(signal),
                }
                if timeout(STOP_WITHIN, process.ended()).await.is_ok() {
                    break;
                }
            }
            if self.pid(daemon).is_some() {
                return Err(Error::Program {
                    program: daemon_name(daemon),
                    message: format!("process {pid} does not end"),
                });
            }
            let _ = fs::remove_file(self.run_dir.join(format!("{daemon}.pid")));
        }
        Ok(())
    }

    /// Starts what dies again, for ever.
    pub(super) async fn supervise(self) {
        let mut pause = Duration::ZERO;
        loop {
            let started = Instant::now();
            tokio::select! {
                () = self.ended(DATABASE) => tracing::warn!("{DATABASE} has ended; starting it again"),
                () = self.ended(SWITCH) => tracing::warn!("{SWITCH} has ended; starting it again"),
            }
            if started.elapsed() < HEALTHY_AFTER {
                pause = (pause * 2).clamp(Duration::from_millis(100), LONGEST_PAUSE);
                sleep(pause).await;
            } else {
                pause = Duration::ZERO;
            }
            if let Err(e) = self.start().await {
                tracing::error!("{e}");
            }
        }
    }

    /// Returns when the daemon does not run.
    async fn ended(&self, daemon: &str) {
        let Some(pid) = self.pid(daemon) else { return };
        if let Ok(process) = Process::open(pid) {
            process.ended().await;
        }
    }
}

fn daemon_name(daemon: &str) -> &'static str {
    if daemon == DATABASE { DATABASE } else { SWITCH }
}

/// A process that is not our child (`pidfd_open(2)`).
struct Process(AsyncFd<OwnedFd>);

impl Process {
    fn open(pid: i32) -> io::Result<Process> {
        // SAFETY: plain system call; the descriptor is new and ours alone.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd as i32)
        };
        // SAFETY: `OwnedFd` gives the same open descriptor until it is dropped, which is after the registration ends.
        Ok(Process(unsafe {
            AsyncFd::register_with_interest(fd, Interest::READABLE)?
        }))
    }

    /// The descriptor becomes readable when the process ends.
    async fn ended(&self) {
        let _ = self.0.readable().await;
    }

    fn kill(&self, signal: i32) {
        use std::os::fd::AsRawFd;
        // SAFETY: plain system call on our own descriptor; no siginfo is given.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.get_ref().as_raw_fd(), signal, 0, 0) };
    }
}
