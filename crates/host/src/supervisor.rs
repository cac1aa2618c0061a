//! Keeping a daemon running where there is no systemd: a small process of its own session that starts the daemon, starts it
//! again when it ends (later and later if it keeps ending), and outlives the terminal.
//!
//! The supervisor is this same program, run as `LAUNCHER SPEC`, which calls [`run`]. Its files lie in one folder:
//! `NAME.json` (the [`Spec`]), `NAME.pid` (locked as long as it runs, which is how one knows), `NAME.state`. Stopping
//! signals the supervisor, which ends the daemon and nothing else, so guests go on.

use crate::account::{Capability, Owner, drop_privileges};
use crate::{Error, write_file};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What to keep running.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spec {
    /// Name of the service and its files.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its whole environment; PATH has a sensible default.
    pub environment: BTreeMap<String, String>,
    /// Whom to run it as; none for whoever starts it.
    pub user: Option<Owner>,
    /// Privileges that it keeps with another user.
    pub capabilities: Vec<Capability>,
    /// Where its output goes.
    pub log: PathBuf,
    /// How long it may take to stop.
    pub stop_seconds: u64,
}

/// How a supervised service is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct State {
    /// The supervisor.
    pub supervisor: u32,
    /// The daemon; none between an end and the next start.
    pub process: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// When it was last started, in seconds of Unix time.
    pub since: u64,
    /// How it last ended.
    pub last_exit: Option<String>,
}

/// Where a daemon finds programs unless told otherwise, as under systemd.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Having run that long, the daemon counts as good again.
const GOOD_RUN: Duration = Duration::from_secs(60);
/// A log that is larger at a start is put aside.
const LOG_LIMIT: u64 = 64 << 20;

fn file(folder: &Path, name: &str, kind: &str) -> PathBuf {
    folder.join(format!("{name}.{kind}"))
}

/// A lock on all of a file. Record locks are asked about without being taken, and do not pass to children.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// The supervisor's process if it runs: who holds the lock.
fn holder(folder: &Path, name: &str) -> Option<u32> {
    let pid_file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file(folder, name, "pid"))
        .ok()?;
    let mut lock = whole_file();
    fcntl(&pid_file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    (lock.l_type != libc::F_UNLCK as i16).then_some(lock.l_pid as u32)
}

/// How a service is; none if it does not run.
pub fn status(folder: &Path, name: &str) -> Option<State> {
    let supervisor = holder(folder, name)?;
    let text = std::fs::read_to_string(file(folder, name, "state")).ok();
    let state: Option<State> = text.and_then(|text| serde_json::from_str(&text).ok());
    state.filter(|s| s.supervisor == supervisor).or(Some(State {
        supervisor,
        process: None,
        restarts: 0,
        since: 0,
        last_exit: None,
    }))
}

/// What is known of a service that was started here, whether it runs or not.
pub fn spec(folder: &Path, name: &str) -> Option<Spec> {
    serde_json::from_str(&std::fs::read_to_string(file(folder, name, "json")).ok()?).ok()
}

/// Starts a service, unless it runs with this very spec already; one that runs with another is stopped first. Returns
/// whether something was done. `launcher` is the command that, with the spec's path, ends up in [`run`].
pub fn start(folder: &Path, wanted: &Spec, launcher: &[OsString]) -> Result<bool, Error> {
    check_name(&wanted.name)?;
    if holder(folder, &wanted.name).is_some() {
        if spec(folder, &wanted.name).as_ref() == Some(wanted) {
            return Ok(false);
        }
        stop(folder, &wanted.name)?;
    }
    let spec_path = file(folder, &wanted.name, "json");
    // The environment may hold what others need not see.
    let text = serde_json::to_vec_pretty(wanted).unwrap_or_default();
    write_file(&spec_path, &text, 0o600, None)?;
    let (program, arguments) = launcher.split_first().ok_or_else(|| Error::Name(String::new()))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(&spec_path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.current_dir("/");
    // SAFETY: setsid is async-signal-safe.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
    let failed = |source| Error::Run {
        program: program.to_string_lossy().into_owned(),
        source,
    };
    let mut supervisor = command.spawn().map_err(failed)?;
    // It runs once it holds the lock; it may also end at once. pidfd tells of the end, the folder of the lock.
    let ended = pidfd(supervisor.id()).map_err(failed)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if holder(folder, &wanted.name) == Some(supervisor.id()) {
            return Ok(true);
        }
        if wait_readable(&ended, Duration::from_millis(5)) {
            let _ = supervisor.wait();
            break;
        }
    }
    Err(Error::ServiceFailed {
        name: wanted.name.clone(),
        log: wanted.log.clone(),
    })
}

/// Stops a service and waits for its end. Returns whether it ran.
pub fn stop(folder: &Path, name: &str) -> Result<bool, Error> {
    check_name(name)?;
    let Some(pid) = holder(folder, name) else {
        return Ok(false);
    };
    let patience = spec(folder, name).map_or(30, |s| s.stop_seconds);
    let failed = |source: std::io::Error| Error::Run {
        program: name.to_owned(),
        source,
    };
    let ended = match pidfd(pid) {
        Ok(ended) => ended,
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
        Err(e) => return Err(failed(e)),
    };
    // The lock was still held after the descriptor was there, so it is that process and none that has its number now.
    if holder(folder, name) != Some(pid) {
        return Ok(true);
    }
    kill(Pid::from_raw(pid as i32), Signal::SIGTERM).map_err(|e| failed(e.into()))?;
    if wait_readable(&ended, Duration::from_secs(patience + 5)) {
        Ok(true)
    } else {
        Err(Error::DoesNotStop(name.to_owned()))
    }
}

/// Removes what a stopped service left, its log included.
pub fn forget(folder: &Path, name: &str) -> Result<(), Error> {
    check_name(name)?;
    let log = spec(folder, name).map(|s| s.log);
    let old = log.as_ref().map(|log| log.with_extension("log.1"));
    let own = ["json", "pid", "state"].map(|kind| Some(file(folder, name, kind)));
    for path in own.into_iter().chain([log, old]).flatten() {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("removing", &path)(e)),
            _ => {}
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Error> {
    let good = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if good {
        Ok(())
    } else {
        Err(Error::Name(name.to_owned()))
    }
}

fn pidfd(pid: u32) -> std::io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes numbers and gives a new descriptor, which is owned here.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) {
            -1 => Err(std::io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor as i32)),
        }
    }
}

fn wait_readable(descriptor: &OwnedFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .as_millis()
            .min(i32::MAX as u128) as i32;
        let mut poll = libc::pollfd {
            fd: descriptor.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one structure, which lives through the call.
        match unsafe { libc::poll(&raw mut poll, 1, left) } {
            1.. => return true,
            0 => return false,
            _ if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            _ => return false,
        }
    }
}

/// The supervisor itself: keeps the service of `spec_path` running until it gets SIGTERM or SIGINT. Call it first thing in
/// a process, before there are threads.
pub fn run(spec_path: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(spec_path).map_err(Error::io("reading", spec_path))?;
    let spec: Spec = serde_json::from_str(&text).map_err(|e| Error::Unreadable {
        path: spec_path.to_owned(),
        reason: e.to_string(),
    })?;
    let folder = spec_path.parent().unwrap_or(Path::new("."));
    let pid_path = file(folder, &spec.name, "pid");
    let pid_file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(&pid_path)
        .map_err(Error::io("opening", &pid_path))?;
    // Somebody else's, then: two starts at once end up with one service.
    if fcntl(&pid_file, FcntlArg::F_SETLK(&whole_file())).is_err() {
        return Ok(());
    }
    let write_pid = |text: String| {
        pid_file
            .set_len(0)
            .and_then(|()| pid_file.write_all_at(text.as_bytes(), 0))
    };
    write_pid(format!("{}\n", std::process::id())).map_err(Error::io("writing", &pid_path))?;
    // Its folder may go while it runs; where it stands it must hold nothing.
    let _ = std::env::set_current_dir("/");
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|e| Error::Run {
        program: spec.name.clone(),
        source: e.into(),
    })?;
    let mut state = State {
        supervisor: std::process::id(),
        process: None,
        restarts: 0,
        since: 0,
        last_exit: None,
    };
    let state_path = file(folder, &spec.name, "state");
    let note = |state: &State| {
        // Only `status` reads it: not being able to write it does not stop the service.
        let _ = write_file(&state_path, &serde_json::to_vec(state).unwrap_or_default(), 0o644, None);
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        state.since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let ended = match spawn(&spec) {
            Ok(mut child) => {
                state.process = Some(child.id());
                note(&state);
                match watch(&mut child, &signals, &spec) {
                    Some(ended) => ended,
                    None => break,
                }
            }
            Err(error) => {
                tell(
                    &spec,
                    &format!("cannot start {}: {error}", spec.argv.first().map_or("", String::as_str)),
                );
                error.to_string()
            }
        };
        if started.elapsed() > GOOD_RUN {
            pause = FIRST_PAUSE;
        }
        tell(
            &spec,
            &format!("ended ({ended}); starts again in {} ms", pause.as_millis()),
        );
        state.process = None;
        state.restarts += 1;
        state.last_exit = Some(ended);
        note(&state);
        if told_to_stop(&signals, pause) {
            break;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    let _ = std::fs::remove_file(&state_path);
    // An empty file rather than none: a start that has it open already could otherwise lock a file without a name.
    let _ = write_pid(String::new());
    Ok(())
}

fn open_log(spec: &Spec) -> std::io::Result<File> {
    let open = || OpenOptions::new().create(true).append(true).mode(0o640).open(&spec.log);
    let log = open()?;
    if log.metadata()?.len() <= LOG_LIMIT {
        return Ok(log);
    }
    std::fs::rename(&spec.log, spec.log.with_extension("log.1"))?;
    open()
}

fn tell(spec: &Spec, line: &str) {
    if let Ok(mut log) = open_log(spec) {
        let _ = writeln!(log, "supervisor of {}: {line}", spec.name);
    }
}

fn spawn(spec: &Spec) -> std::io::Result<Child> {
    let (program, arguments) = spec
        .argv
        .split_first()
        .ok_or_else(|| std::io::Error::other("there is no program to run"))?;
    let log = open_log(spec)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .envs(&spec.environment)
        .current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let (user, keep) = (spec.user, spec.capabilities.clone());
    let parent = std::process::id();
    // SAFETY: only system calls, none of which allocates.
    unsafe {
        command.pre_exec(move || {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            if let Some(user) = user {
                drop_privileges(user, &keep)?;
            }
            // Should the supervisor be killed, the daemon ends as well, lest two of it run one day. Set after the change of
            // user, which clears it; the parent may be gone already.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as u64, 0, 0, 0);
            if libc::getppid() as u32 != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command.spawn()
}

/// Waits for the child's end (how it ended), or for being told to stop (none; the child is gone then).
fn watch(child: &mut Child, signals: &SigSet, spec: &Spec) -> Option<String> {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Ok(Some(status)) = child.try_wait() {
                    return Some(status.to_string());
                }
            }
            Ok(Signal::SIGHUP) => {
                let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGHUP);
            }
            Ok(_) => {
                end(child, signals, Duration::from_secs(spec.stop_seconds));
                return None;
            }
            Err(_) => {}
        }
    }
}

fn end(child: &mut Child, signals: &SigSet, patience: Duration) {
    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
    let deadline = Instant::now() + patience;
    while matches!(child.try_wait(), Ok(None)) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        wait_signal(signals, left);
    }
}

/// Waits for one of the signals, at most so long.
fn wait_signal(signals: &SigSet, patience: Duration) -> Option<i32> {
    let timeout = libc::timespec {
        tv_sec: patience.as_secs() as libc::time_t,
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    // SAFETY: the set and the time live through the call; no information about the signal is asked for.
    let signal = unsafe { libc::sigtimedwait(signals.as_ref(), std::ptr::null_mut(), &raw const timeout) };
    (signal > 0).then_some(signal)
}

fn told_to_stop(signals: &SigSet, pause: Duration) -> bool {
    let deadline = Instant::now() + pause;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        if matches!(wait_signal(signals, left), Some(libc::SIGTERM | libc::SIGINT)) {
            return true;
        }
    }
}
