//! The whole node over a real machine: Open vSwitch, QEMU, the metadata service, in a network namespace of its own.
//!
//! Needs root, Open vSwitch, QEMU and iproute2. With CI set, a machine that lacks them fails the tests.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Cloud, LIMIT, NODE, network, port, port_id, server, subnet, until, want};
use hypervisor::qemu::QemuConfig;
use node::metadata::ListenerConfig;
use node::switch::Instance;
use node::{Node, NodeConfig, RealNode, switch};
use node_protocol::controller::NodeServer;
use node_protocol::objects::{KeyPair, Object, Server, WantedPower, tap_name};
use node_protocol::queries::{Answer, ConsoleKind, Query};
use node_protocol::reports::{PowerState, ServerObserved};
use serde_json::json;
use tokio::io::AsyncReadExt;
use uuid::Uuid;

fn possible() -> bool {
    let programs = ["qemu-system-x86_64", "qemu-img", "ovs-vswitchd", "ip"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .collect();
    let missing = programs
        .into_iter()
        .find(|program| !folders.iter().any(|folder| folder.join(program).exists()));
    let missing = if nix::unistd::geteuid().is_root() {
        missing
    } else {
        Some("root")
    };
    if let Some(what) = missing {
        assert!(std::env::var_os("CI").is_none(), "this test needs {what}");
        eprintln!("left out: needs {what}");
    }
    missing.is_none()
}

/// Ends every process that was started in the folder or with its sockets.
struct Cleanup(PathBuf);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let name = self.0.display().to_string();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let inside = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.0));
            let told = std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&name));
            if (inside || told) && pid != std::process::id() as i32 {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

/// A cloud of one real node, in the test's own namespace.
struct World {
    cloud: Arc<Cloud>,
    server: NodeServer,
    folder: PathBuf,
    node: Option<Node>,
}

impl World {
    async fn new(folder: &Path, image: PathBuf) -> Self {
        let cloud = Arc::new(Cloud {
            image: Some(image),
            ..Cloud::default()
        });
        cloud.put(network());
        cloud.put(subnet());
        let server = NodeServer::new(cloud.clone(), cloud.clone(), cloud.clone());
        let mut world = Self {
            cloud,
            server,
            folder: folder.to_owned(),
            node: None,
        };
        world.start().await;
        world
    }

    async fn start(&mut self) {
        let state = self.folder.join("state");
        let mut ovs = switch::Config::new(Instance::in_folder(&self.folder.join("ovs")));
        ovs.datapath = Some("netdev".into());
        let real = RealNode {
            node: NodeConfig {
                hostname: NODE.into(),
                hypervisor_hostname: NODE.into(),
                state: Some(state.clone()),
                host_ip: "127.0.0.1".into(),
                tunnel_ip: None,
                bridge_mappings: ovs.physical.clone(),
                capacity: None,
            },
            qemu: QemuConfig::new(state.join("instances")),
            images: state.join("images"),
            image_cache_bytes: 1 << 30,
            switch: ovs,
            metadata: ListenerConfig::default(),
        };
        // A node that was just killed holds the controller's port for a moment.
        let until = Instant::now() + LIMIT;
        loop {
            match real.clone().start(Arc::new(self.server.clone())).await {
                Ok(node) => {
                    self.node = Some(node);
                    return;
                }
                Err(error) if Instant::now() > until => panic!("the node does not start: {error:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn put(&self, object: Object) -> u64 {
        let revision = self.cloud.put(object);
        self.server.wake(NODE);
        revision
    }

    fn ask(&self, server: &Server) -> u64 {
        self.put(Object::Server(Box::new(server.clone())))
    }

    async fn settled(&self, id: Uuid, revision: u64) -> ServerObserved {
        let mut seen = None;
        until("the server to settle", || {
            seen = self.cloud.settled(id, revision);
            seen.is_some()
        })
        .await;
        seen.expect("it was there")
    }

    fn pid(&self, id: Uuid) -> Option<i32> {
        let path = self
            .folder
            .join("state/instances")
            .join(id.to_string())
            .join("run/qemu.pid");
        let pid = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
        Path::new(&format!("/proc/{pid}/cwd")).exists().then_some(pid)
    }

    async fn console(&self, id: Uuid) -> String {
        match self
            .server
            .query(
                NODE,
                Query::ConsoleLog {
                    server_id: id,
                    lines: None,
                },
                LIMIT,
            )
            .await
        {
            Ok(Answer::ConsoleLog { output }) => output,
            other => panic!("no console log: {other:?}"),
        }
    }
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a program"))
        .args(words)
        .output()
        .expect("it runs");
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F) {
    if !possible() {
        return;
    }
    // Of this thread only; the runtime's threads and all processes that are started from here inherit it.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace");
    run("ip link set lo up");
    let folder = tempfile::Builder::new()
        .prefix("node-real-")
        .tempdir()
        .expect("a folder");
    let _cleanup = Cleanup(folder.path().to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test(folder.path().to_owned()));
}

/// Fills in what the node checks of an image.
fn with_image(mut server: Server, image: &Path) -> Server {
    let sum = run(&format!("sha512sum {}", image.display()));
    let told = server.image.as_mut().expect("it has an image");
    told.os_hash_algo = Some("sha512".into());
    told.os_hash_value = sum.split_whitespace().next().map(str::to_owned);
    server
}

#[test]
fn a_guest_outlives_the_node_and_failures_say_why() {
    in_namespace(|folder| async move {
        let image = folder.join("empty.qcow2");
        run(&format!("qemu-img create -q -f qcow2 {} 16M", image.display()));
        let mut world = World::new(&folder, image.clone()).await;
        for n in 1..=2 {
            world.put(port(n));
        }
        let mut one = with_image(server(1, &[1]), &image);
        one.config_drive = true;
        let seen = world.settled(one.id, world.ask(&one)).await;
        assert_eq!((seen.power_state, &seen.fault), (PowerState::Running, &None));
        assert_eq!(seen.plugged_ports, vec![port_id(1)]);
        until("the port to be active", || {
            world.cloud.ports.lock().get(&port_id(1)) == Some(&true)
        })
        .await;
        let pid = world.pid(one.id).expect("it runs");
        let mut screen = world
            .server
            .open_console(NODE, one.id, ConsoleKind::Vnc, LIMIT)
            .await
            .expect("a console");
        let mut banner = [0; 4];
        screen.read_exact(&mut banner).await.expect("a banner");
        assert_eq!(&banner, b"RFB ");

        // How long a new port takes from the controller's commit to its flows.
        world.put(port(3));
        one.ports = server(1, &[1, 3]).ports;
        let began = Instant::now();
        let revision = world.ask(&one);
        until("the new port to be active", || {
            world.cloud.ports.lock().get(&port_id(3)) == Some(&true)
        })
        .await;
        eprintln!("a new port is active after {:?}", began.elapsed());
        assert_eq!(world.settled(one.id, revision).await.plugged_ports.len(), 2);
        eprintln!("and in the guest after {:?}", began.elapsed());

        // The node dies, and an interface is added while it is dead.
        drop(world.node.take());
        one.ports = server(1, &[1, 2, 3]).ports;
        let revision = world.ask(&one);
        world.cloud.seen.lock().clear();
        world.start().await;
        let seen = world.settled(one.id, revision).await;
        assert_eq!((seen.power_state, seen.plugged_ports.len()), (PowerState::Running, 3));
        assert_eq!(world.pid(one.id), Some(pid), "it was not restarted");

        // Somebody deletes a tap: a new one takes its place, under the same guest.
        let tap = tap_name(port_id(1).into());
        let index = || nix::net::if_::if_nametoindex(tap.as_str()).ok();
        let before = index().expect("a tap");
        run(&format!("ip link delete {tap}"));
        until("a new tap", || index().is_some_and(|index| index != before)).await;
        until("all interfaces", || {
            world
                .cloud
                .settled(one.id, revision)
                .is_some_and(|seen| seen.plugged_ports.len() == 3)
        })
        .await;
        assert_eq!(world.pid(one.id), Some(pid), "it was not restarted");

        // Somebody kills the guest: it is seen, and stays so.
        let killed = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(killed, nix::sys::signal::Signal::SIGKILL).expect("killed");
        until("its end to be seen", || {
            world
                .cloud
                .settled(one.id, revision)
                .is_some_and(|seen| seen.power_state == PowerState::Shutdown)
        })
        .await;
        want(&mut one, WantedPower::Running);
        assert_eq!(
            world.settled(one.id, world.ask(&one)).await.power_state,
            PowerState::Running
        );

        // Faults are sentences.
        let mut large = with_image(server(2, &[]), &image);
        large.flavor.ram_mib = 1 << 40;
        let fault = world.settled(large.id, world.ask(&large)).await.fault.expect("a fault");
        assert!(
            fault.message.starts_with("the guest could not be started: "),
            "{fault:?}"
        );
        let mut wrong = with_image(server(3, &[]), &image);
        wrong.image.as_mut().expect("an image").os_hash_value = Some("00".repeat(64));
        let fault = world.settled(wrong.id, world.ask(&wrong)).await.fault.expect("a fault");
        assert!(fault.message.contains("checksum"), "{fault:?}");

        for server in [&mut one, &mut large, &mut wrong] {
            want(server, WantedPower::Deleted);
            world.ask(server);
            until("it to be gone", || world.cloud.gone.lock().contains(&server.id)).await;
            assert!(!folder.join("state/instances").join(server.id.to_string()).exists());
        }
        assert!(!run("ip -brief link").contains("tap"), "no tap stays");
    });
}

/// A guest that boots, gets its address by DHCP and its metadata over the network, and answers.
#[test]
fn a_guest_boots_and_reads_its_metadata() {
    // Built once for all runs, and out here: in the namespace there is no way to the packages.
    let options = disk_image::tiny::Options::new(env!("CARGO_TARGET_TMPDIR"));
    let image = disk_image::tiny::build_tiny(&options, &mut |_| {}).expect("the tiny image");
    in_namespace(|folder| async move {
        let world = World::new(&folder, image.clone()).await;
        let group = json!({"rules": [
            {"direction": "egress", "ethertype": "IPv4"},
            {"direction": "ingress", "ethertype": "IPv4"},
        ]});
        let group_id = Uuid::from_u128(77);
        world.put(Object::SecurityGroup(
            group_id.into(),
            serde_json::from_value(group).expect("a group"),
        ));
        let Object::Port(id, mut port) = port(5) else {
            panic!("a port")
        };
        port.security_groups.insert(group_id.into());
        world.put(Object::Port(id, port));
        let mut one = with_image(server(1, &[5]), &image);
        one.hostname = "first-light".into();
        one.key_pair = Some(KeyPair {
            name: "k".into(),
            kind: "ssh".into(),
            public_key: "ssh-ed25519 AAAA me".into(),
        });
        one.user_data = Some(node_protocol::objects::Secret::new(
            "IyEvYmluL3NoCmVjaG8gdXNlci1kYXRhLXJhbgo=",
        ));
        let began = Instant::now();
        let seen = world.settled(one.id, world.ask(&one)).await;
        assert_eq!((seen.power_state, seen.fault), (PowerState::Running, None));
        eprintln!("running after {:?}", began.elapsed());
        let deadline = Instant::now() + LIMIT;
        let log = loop {
            let log = world.console(one.id).await;
            if log.contains("ready: ") || Instant::now() > deadline {
                break log;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        eprintln!("ready after {:?}", began.elapsed());
        assert!(log.contains("ready: first-light"), "{log}");
        assert!(log.contains("10.0.0.5"), "{log}");
        assert!(log.contains("user-data-ran"), "{log}");
        // It hears its power button.
        let mut stopped = one.clone();
        stopped.shutdown_timeout = 60;
        want(&mut stopped, WantedPower::Stopped);
        let asked = Instant::now();
        let seen = world.settled(one.id, world.ask(&stopped)).await;
        eprintln!("shut down after {:?}", asked.elapsed());
        assert_eq!(seen.power_state, PowerState::Shutdown);
        assert!(asked.elapsed() < Duration::from_secs(59), "it was ended, because it did not hear");
    });
}
