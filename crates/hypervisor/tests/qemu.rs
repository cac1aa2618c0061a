//! Real guests: started, found again by a second daemon, plugged, asked, ended. They need root, QEMU and `unshare`; where those are missing
//! they are left out with a word, and fail when `CI` is set.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hypervisor::qemu::{Qemu, QemuConfig};
use hypervisor::{GuestEventKind, GuestSpec, Hypervisor, HypervisorError, Nic, PowerState};
use node_protocol::queries::ConsoleKind;
use tokio::io::AsyncReadExt;
use uuid::Uuid;

const INSIDE: &str = "FERROSTACK_TEST_IN_NAMESPACE";
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the named test again in a network namespace of its own. `true`: this is that second run.
fn in_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let able = nix::unistd::geteuid().is_root()
        && Command::new("qemu-system-x86_64").arg("--version").output().is_ok()
        && Command::new("unshare")
            .args(["--net", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !able {
        assert!(
            std::env::var_os("CI").is_none(),
            "real guests need root, qemu-system-x86_64 and unshare"
        );
        eprintln!("{test}: left out, it needs root, qemu-system-x86_64 and unshare");
        return false;
    }
    let own = std::env::current_exe().expect("this test's program");
    let status = Command::new("unshare")
        .arg("--net")
        .arg(own)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "{test} failed in its namespace");
    false
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a program");
    let status = Command::new(program).args(words).status().expect("it runs");
    assert!(status.success(), "{command}");
}

/// Ends what a failed test has left running.
struct Cleanup(PathBuf);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return;
        };
        for entry in entries.flatten() {
            let inside = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.0));
            if let (true, Some(pid)) = (inside, entry.file_name().to_str().and_then(|n| n.parse().ok())) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

fn spec(nics: Vec<Nic>) -> GuestSpec {
    GuestSpec {
        id: Uuid::new_v4(),
        vcpus: 1,
        memory_mib: 64,
        disks: vec![],
        nics,
        machine: None,
        video: None,
        topology: None,
    }
}

fn nic(n: u8) -> Nic {
    Nic {
        port_id: Uuid::new_v4(),
        tap: format!("fstap{n}"),
        mac: format!("fa:16:3e:00:00:{n:02x}"),
        mtu: 1450,
        model: "virtio-net-pci".into(),
        offload: false,
    }
}

async fn daemon(folder: &Path) -> Arc<Qemu> {
    Qemu::new(QemuConfig::new(folder)).await.expect("a hypervisor")
}

async fn event(events: &mut tokio::sync::broadcast::Receiver<hypervisor::GuestEvent>, kind: GuestEventKind) {
    tokio::time::timeout(LIMIT, async {
        while events.recv().await.expect("an event").kind != kind {}
    })
    .await
    .unwrap_or_else(|_| panic!("no {kind:?} in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_outlives_its_daemon() {
    if !in_own_network("a_guest_outlives_its_daemon") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let _cleanup = Cleanup(folder.path().to_owned());
    run("ip link set lo up");
    run("ip tuntap add fstap1 mode tap");
    run("ip tuntap add fstap2 mode tap");
    let (first, second) = (nic(1), nic(2));
    let spec = spec(vec![first.clone()]);
    let id = spec.id;

    let daemon1 = daemon(folder.path()).await;
    let mut events = daemon1.events();
    assert_eq!(daemon1.inspect(id).await.expect("a look"), None);
    let guest = daemon1.start(&spec).await.expect("it starts");
    assert_eq!(guest.power_state, PowerState::Running);
    assert_eq!(guest.nics, vec![first.port_id]);
    event(&mut events, GuestEventKind::Started).await;
    let again = daemon1.start(&spec).await.expect("it runs");
    assert_eq!(again.pid, guest.pid, "no second process");

    // The daemon goes without a word; the next one finds the guest, by looking.
    drop(daemon1);
    drop(events);
    let daemon2 = daemon(folder.path()).await;
    let mut events = daemon2.events();
    assert_eq!(daemon2.list().await.expect("a list"), vec![id]);
    let found = daemon2.inspect(id).await.expect("a look").expect("it is there");
    assert_eq!(found, guest);
    assert_eq!(daemon2.start(&spec).await.expect("it runs").pid, guest.pid);

    let (host, port) = found.vnc.expect("a VNC port");
    for mut stream in [
        Box::new(tokio::net::TcpStream::connect((host, port)).await.expect("VNC by TCP"))
            as Box<dyn node_protocol::link::Duplex>,
        daemon2.console(id, ConsoleKind::Vnc).await.expect("VNC by the socket"),
    ] {
        let mut banner = [0; 4];
        stream.read_exact(&mut banner).await.expect("a banner");
        assert_eq!(&banner, b"RFB ");
    }

    for _ in 0..2 {
        daemon2.attach_nic(id, &second).await.expect("plugged");
    }
    let nics = daemon2.inspect(id).await.expect("a look").expect("it is there").nics;
    assert!(nics.contains(&first.port_id) && nics.contains(&second.port_id));
    let diagnostics = daemon2.diagnostics(id).await.expect("counters");
    assert_eq!((diagnostics.num_cpus, diagnostics.memory_maximum), (1, 64));
    assert!(diagnostics.memory_used.is_some_and(|mib| mib > 0));

    // Somebody deletes the tap; a new one takes its place under the guest's device.
    run("ip link delete fstap1");
    let nics = daemon2.inspect(id).await.expect("a look").expect("it is there").nics;
    assert_eq!(nics, vec![second.port_id], "an interface without its tap is none");
    run("ip tuntap add fstap1 mode tap");
    daemon2.attach_nic(id, &first).await.expect("plugged again");
    let nics = daemon2.inspect(id).await.expect("a look").expect("it is there").nics;
    assert!(nics.contains(&first.port_id) && nics.contains(&second.port_id));

    daemon2.pause(id, true).await.expect("paused");
    event(&mut events, GuestEventKind::Paused).await;
    assert_eq!(
        daemon2
            .inspect(id)
            .await
            .expect("a look")
            .expect("it is there")
            .power_state,
        PowerState::Paused
    );
    daemon2.pause(id, false).await.expect("resumed");

    // The firmware without a disk hears no button.
    assert!(!daemon2.shut_down(id, Duration::from_millis(100)).await.expect("asked"));
    for _ in 0..2 {
        daemon2.stop(id, Duration::from_millis(50)).await.expect("stopped");
    }
    event(&mut events, GuestEventKind::Stopped).await;
    let stopped = daemon2.inspect(id).await.expect("a look").expect("its folder is there");
    assert_eq!((stopped.power_state, stopped.pid), (PowerState::Shutdown, None));
    assert!(matches!(
        daemon2.console(id, ConsoleKind::Vnc).await,
        Err(HypervisorError::NotRunning { .. })
    ));

    let restarted = daemon2.start(&spec).await.expect("it starts again");
    assert_eq!(restarted.vnc.map(|v| v.1), Some(port), "the VNC port is kept");
    // Somebody kills it.
    let pid = nix::unistd::Pid::from_raw(restarted.pid.expect("a process") as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
    event(&mut events, GuestEventKind::Stopped).await;
    for _ in 0..2 {
        daemon2.destroy(id).await.expect("destroyed");
        assert_eq!(daemon2.inspect(id).await.expect("a look"), None);
    }
    assert!(daemon2.list().await.expect("a list").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_are_kept_apart_and_failures_say_why() {
    if !in_own_network("guests_are_kept_apart_and_failures_say_why") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let _cleanup = Cleanup(folder.path().to_owned());
    run("ip link set lo up");
    let qemu = daemon(folder.path()).await;
    let (a, b) = (spec(vec![]), spec(vec![]));
    // Somebody has taken the first port.
    let taken = std::net::TcpListener::bind("127.0.0.1:5900").expect("the first VNC port");
    let (first, second) = tokio::join!(qemu.start(&a), qemu.start(&b));
    let (first, second) = (first.expect("it starts"), second.expect("it starts"));
    let ports = [first.vnc.expect("a port").1, second.vnc.expect("a port").1];
    assert_ne!(ports[0], ports[1]);
    assert!(!ports.contains(&5900));
    drop(taken);
    if qemu.findings().iter().all(|finding| !finding.contains("own user")) {
        let uid = |pid: u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
            let line = status
                .lines()
                .find(|line| line.starts_with("Uid:"))
                .expect("a user")
                .to_owned();
            line.split_whitespace()
                .nth(1)
                .and_then(|uid| uid.parse::<u32>().ok())
                .expect("a number")
        };
        let (one, two) = (uid(first.pid.expect("a process")), uid(second.pid.expect("a process")));
        assert!(
            one >= 1_900_000_000 && two >= 1_900_000_000 && one != two,
            "{one} {two}"
        );
    }
    qemu.destroy(a.id).await.expect("destroyed");
    qemu.destroy(b.id).await.expect("destroyed");

    let mut broken = spec(vec![]);
    broken.machine = Some("no-such-machine".into());
    let error = qemu.start(&broken).await.expect_err("it cannot start");
    assert!(
        matches!(&error, HypervisorError::Start { reason } if reason.contains("unsupported machine type")),
        "{error}"
    );
    let gone = qemu
        .start(&spec(vec![nic(9)]))
        .await
        .expect_err("without its tap it cannot start");
    assert!(gone.to_string().contains("fstap9"), "{gone}");

    let missing = QemuConfig {
        program: "qemu-system-nowhere".into(),
        ..QemuConfig::new(folder.path())
    };
    let missing = Qemu::new(missing).await.expect("a hypervisor without QEMU");
    assert!(
        missing
            .findings()
            .iter()
            .any(|finding| finding.contains("not installed"))
    );
    let error = missing.start(&spec(vec![])).await.expect_err("it cannot start");
    assert!(error.to_string().contains("ferrostack up"), "{error}");
}
