//! Services kept by supervisors, with real processes.
#![allow(clippy::unwrap_used)]

use host::Error;
use host::supervisor::{Spec, forget, start, status, stop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

fn launcher() -> Vec<OsString> {
    vec![env!("CARGO_BIN_EXE_host-supervise").into()]
}

fn service(folder: &Path, script: &str) -> Spec {
    Spec {
        name: "daemon".to_owned(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        user: None,
        capabilities: Vec::new(),
        log: folder.join("daemon.log"),
        stop_seconds: 5,
    }
}

fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn starts_once_restarts_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let spec = service(folder, "echo started; exec sleep 1000");
    assert!(start(folder, &spec, &launcher()).unwrap());
    assert!(
        !start(folder, &spec, &launcher()).unwrap(),
        "the second start changes nothing"
    );
    let first = until("the start", || status(folder, "daemon")?.process);
    kill(Pid::from_raw(first as i32), Signal::SIGKILL).unwrap();
    let second = until("the restart", || {
        status(folder, "daemon")?.process.filter(|p| *p != first)
    });
    assert_eq!(status(folder, "daemon").unwrap().restarts, 1);
    assert!(stop(folder, "daemon").unwrap());
    assert!(!alive(second) && status(folder, "daemon").is_none());
    assert!(!stop(folder, "daemon").unwrap());
    let log = std::fs::read_to_string(&spec.log).unwrap();
    assert_eq!(log.matches("started").count(), 2, "{log}");
    assert!(
        log.contains("ended (signal: 9 (SIGKILL)); starts again in 200 ms"),
        "{log}"
    );
    forget(folder, "daemon").unwrap();
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn another_spec_replaces_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    start(folder, &service(folder, "exec sleep 1000"), &launcher()).unwrap();
    let first = until("the start", || status(folder, "daemon")?.process);
    assert!(start(folder, &service(folder, "exec sleep 1001"), &launcher()).unwrap());
    let second = until("the start", || status(folder, "daemon")?.process);
    assert!(!alive(first) && alive(second));
    stop(folder, "daemon").unwrap();
}

#[test]
fn what_the_daemon_started_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pid_file = folder.join("guest");
    let script = format!("setsid sleep 1000 & echo $! > {}; wait", pid_file.display());
    start(folder, &service(folder, &script), &launcher()).unwrap();
    let guest: u32 = until("the guest", || {
        std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok()
    });
    stop(folder, "daemon").unwrap();
    assert!(alive(guest));
    kill(Pid::from_raw(guest as i32), Signal::SIGKILL).unwrap();
}

#[test]
fn a_daemon_that_ignores_being_asked_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut spec = service(folder, "trap '' TERM; echo ready; while :; do sleep 0.1; done");
    spec.stop_seconds = 0;
    start(folder, &spec, &launcher()).unwrap();
    until("the trap", || {
        std::fs::read_to_string(&spec.log).ok()?.contains("ready").then_some(())
    });
    let process = until("the start", || status(folder, "daemon")?.process);
    assert!(stop(folder, "daemon").unwrap());
    assert!(!alive(process));
}

#[test]
fn a_program_that_is_not_there_is_told_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut spec = service(folder, "");
    spec.argv = vec!["/no/such/program".to_owned()];
    start(folder, &spec, &launcher()).unwrap();
    until("the complaint", || {
        std::fs::read_to_string(&spec.log)
            .ok()?
            .contains("cannot start /no/such/program")
            .then_some(())
    });
    stop(folder, "daemon").unwrap();
}

#[test]
fn killing_the_supervisor_leaves_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    start(folder, &service(folder, "exec sleep 1000"), &launcher()).unwrap();
    let state = until("the start", || status(folder, "daemon").filter(|s| s.process.is_some()));
    kill(Pid::from_raw(state.supervisor as i32), Signal::SIGKILL).unwrap();
    until("the end", || (!alive(state.process.unwrap())).then_some(()));
    until("the lock's end", || status(folder, "daemon").is_none().then_some(()));
}

#[test]
fn names_stay_in_the_folder() {
    assert!(matches!(stop(Path::new("/tmp"), "../x"), Err(Error::Name(_))));
}
