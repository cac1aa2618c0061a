//! The driver against a real Open vSwitch, each test in a network namespace and a folder of its own.
//!
//! Needs root, Open vSwitch, iproute2 and util-linux. With CI set, a machine that lacks them fails the tests.

#![allow(clippy::unwrap_used)]

use node::switch::{
    Config, Connections, Error, Handler, Instance, Ovs, PacketOut, Plug, PortSpec, Program, TapOwner, tap,
};
use openflow::{Action, Ct, Field, Flow, Mac, Match, Zone, eth_type};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);

fn possible() -> bool {
    let missing = if nix::unistd::geteuid().as_raw() != 0 {
        Some("root")
    } else if !Path::new("/usr/share/openvswitch/vswitch.ovsschema").exists() {
        Some("Open vSwitch")
    } else if !Path::new("/dev/net/tun").exists() {
        Some("/dev/net/tun")
    } else {
        None
    };
    if let Some(what) = missing {
        assert!(std::env::var_os("CI").is_none(), "this test needs {what}");
        eprintln!("skipped: needs {what}");
    }
    missing.is_none()
}

/// Runs a test in a network namespace of its own, with a folder for the switch, which is stopped whatever happens.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(Config) -> F) {
    if !possible() {
        return;
    }
    // Of this thread only; the runtime's threads and all processes that are started from here inherit it.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    run("ip", &["link", "set", "lo", "up"]);
    let dir = tempfile::Builder::new().prefix("node-switch-").tempdir().unwrap();
    let instance = Instance::in_folder(dir.path());
    let config = Config {
        datapath: Some("netdev".to_owned()),
        ..Config::new(instance)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let _stop = Stop(dir.path().to_owned());
    runtime.block_on(test(config));
}

struct Stop(std::path::PathBuf);

impl Drop for Stop {
    fn drop(&mut self) {
        for daemon in ["ovs-vswitchd", "ovsdb-server"] {
            if let Some(pid) = pid_of(&self.0, daemon) {
                let _ = Command::new("kill").args(["-9", &pid]).status();
            }
        }
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(self.0.join("ovs-vswitchd.log"))
        {
            log.lines().rev().take(20).for_each(|l| eprintln!("{l}"));
        }
    }
}

fn pid_of(dir: &Path, daemon: &str) -> Option<String> {
    Some(
        std::fs::read_to_string(dir.join(format!("{daemon}.pid")))
            .ok()?
            .trim()
            .to_owned(),
    )
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn vsctl(c: &Config, args: &[&str]) -> String {
    let db = format!("--db=unix:{}", c.ovs.socket().display());
    run("ovs-vsctl", &[&[db.as_str()], args].concat())
}

fn ofctl(c: &Config, command: &str, bridge: &str, args: &[&str]) -> String {
    let target = format!("unix:{}/{bridge}.mgmt", c.ovs.run_dir.display());
    run("ovs-ofctl", &[&["-OOpenFlow14", command, &target], args].concat())
}

/// Waits for something, at most as long as anything may take.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(t) = look().await {
            return t;
        }
        assert!(Instant::now() < end, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Without checksums: a veth leaves them unfinished, and the switch in user space passes them on so.
fn datagrams(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    let one: libc::c_int = 1;
    // SAFETY: plain system call with a pointer to a value and its size.
    let result = unsafe {
        let (value, size) = (std::ptr::from_ref(&one).cast(), size_of::<libc::c_int>() as u32);
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value, size)
    };
    assert_eq!(result, 0);
    socket
}

/// A namespace that plays a guest, joined by a veth pair whose other end has the guest's name.
struct Guest {
    holder: Child,
    name: String,
}

impl Guest {
    fn new(name: &str, mac: Mac, address: &str) -> Guest {
        let holder = Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap();
        let pid = holder.id().to_string();
        // The namespace is there when the holder has become `sleep`.
        while std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap_or_default()
            .trim()
            != "sleep"
        {
            std::thread::yield_now();
        }
        run(
            "ip",
            &[
                "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &pid,
            ],
        );
        run("ip", &["link", "set", name, "up"]);
        let g = Guest {
            holder,
            name: name.to_owned(),
        };
        g.run(&["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
        g.run(&["ip", "link", "set", "eth0", "address", &mac.to_string(), "up"]);
        g.run(&["ip", "addr", "add", address, "dev", "eth0"]);
        // Sends back what it gets, for ever; ends with the test's process.
        g.inside(|| {
            let socket = datagrams("0.0.0.0:7777");
            let mut bytes = [0; 16];
            while let Ok((n, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..n], from);
            }
        });
        g
    }

    fn run(&self, args: &[&str]) -> String {
        let pid = self.holder.id().to_string();
        run("nsenter", &[&["-t", &pid, "-n"], args].concat())
    }

    /// Whether another guest answers a datagram, if need be the last of several: the kernel asks for an address that was
    /// not answered only once a second.
    fn reaches(&self, to: &str) -> bool {
        (0..20).any(|_| self.reaches_at_once(to))
    }

    /// Whether another guest answers the first datagram.
    fn reaches_at_once(&self, to: &str) -> bool {
        let to = format!("{to}:7777");
        let ask = move || {
            let socket = datagrams("0.0.0.0:0");
            socket.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
            socket.send_to(b"hello", to).is_ok() && socket.recv(&mut [0; 16]).is_ok()
        };
        self.inside(ask).join().unwrap()
    }

    /// Runs something in a thread that is in the guest's namespace.
    fn inside<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            what()
        })
    }

    fn plug(&self, mac: Mac) -> Plug {
        let port_id = format!("port-of-{}", self.name);
        Plug {
            interface: self.name.clone(),
            port_id,
            mac,
            server_id: None,
            tap: None,
            mtu: None,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn wire(a: u32, b: u32) -> Program {
    [(a, b), (b, a)]
        .map(|(x, y)| Flow::new(0, 10, Match::new().in_port(x), vec![Action::output(y)]))
        .into_iter()
        .collect()
}

#[test]
fn bridges_look_as_operators_expect_them() {
    in_namespace(|config| async move {
        // Nothing is said about the datapath: this machine's is found.
        let config = Config {
            datapath: None,
            ..config
        };
        let start = Instant::now();
        let ovs = Ovs::start(config.clone()).await.unwrap();
        eprintln!(
            "start until all bridges are connected: {:?}, datapath {}",
            start.elapsed(),
            ovs.datapath()
        );
        assert!(ovs.is_healthy());
        // The switch notes it in its database every five seconds.
        let noted = || vsctl(&config, &["show"]).matches("is_connected: true").count() == 2;
        until("the connections to be noted", async || noted().then_some(())).await;
        let show = vsctl(&config, &["show"]);
        let flat = show.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in [
            "Controller \"tcp:127.0.0.1:6633\" is_connected: true fail_mode: secure",
            "Port phy-br-ex Interface phy-br-ex type: patch options: {peer=int-br-ex}",
            "Port int-br-ex Interface int-br-ex type: patch options: {peer=phy-br-ex}",
            "Port br-ex Interface br-ex type: internal",
        ] {
            assert!(flat.contains(text), "{text} is not in\n{show}");
        }
        // The machine's own traffic goes through the physical bridge from the start.
        let learning = async || {
            ofctl(&config, "dump-flows", "br-ex", &[])
                .contains("actions=NORMAL")
                .then_some(())
        };
        until("the learning flow", learning).await;
        let (bridge, here, there) = ovs.patches()["extnet"].clone();
        let numbers = (ovs.port_number("int-br-ex"), ovs.port_number("phy-br-ex"));
        assert_eq!(
            (bridge.as_str(), Some(here), Some(there)),
            ("br-ex", numbers.0, numbers.1)
        );
        assert!(ovs.ensure_tunnel("vxlan", Ipv4Addr::LOCALHOST.into()).await.unwrap() > 0);
        assert!(matches!(
            ovs.apply("br-nowhere", Program::default()).await,
            Err(Error::UnknownBridge(_))
        ));

        // A second driver cannot have the same address.
        assert!(matches!(Ovs::start(config.clone()).await, Err(Error::Listen { .. })));

        // What somebody changed is put right at the next turn.
        vsctl(
            &config,
            &[
                "del-controller",
                "br-ex",
                "--",
                "del-port",
                "phy-br-ex",
                "--",
                "set-fail-mode",
                "br-int",
                "standalone",
            ],
        );
        drop(ovs);
        let again = Ovs::start(Config {
            verify_every: Duration::from_millis(50),
            ..config.clone()
        })
        .await
        .unwrap();
        assert_eq!(vsctl(&config, &["get-fail-mode", "br-int"]).trim(), "secure");
        vsctl(&config, &["--no-wait", "del-br", "br-ex"]);
        until("the bridge to go", async || (!again.is_healthy()).then_some(())).await;
        until("the bridge to come back", async || {
            again.patches().contains_key("extnet").then_some(())
        })
        .await;
        until("its connection", async || again.is_healthy().then_some(())).await;

        // A bridge that was there before, with a port of the machine, outlives us.
        let other = Config {
            integration_bridge: "br-other".to_owned(),
            physical: BTreeMap::from([("x".to_owned(), "br-old".to_owned())]),
            ..config.clone()
        };
        drop(again);
        run("ip", &["tuntap", "add", "nic0", "mode", "tap"]);
        vsctl(
            &config,
            &[
                "add-br",
                "br-old",
                "--",
                "set",
                "bridge",
                "br-old",
                "datapath_type=netdev",
                "--",
                "add-port",
                "br-old",
                "nic0",
            ],
        );
        drop(Ovs::start(other.clone()).await.unwrap());
        assert!(vsctl(&config, &["list-ports", "br-old"]).contains("phy-br-old"));
        let not_ours = Config {
            ovs: Instance {
                ours: false,
                ..config.ovs.clone()
            },
            ..other
        };
        node::switch::purge(&not_ours).await.unwrap();
        let left = vsctl(&config, &["list-br"]);
        assert_eq!(
            left.split_whitespace().collect::<Vec<_>>(),
            ["br-ex", "br-int", "br-old"]
        );
        assert_eq!(vsctl(&config, &["list-ports", "br-old"]).trim(), "nic0");
        assert_eq!(vsctl(&config, &["get-controller", "br-old"]).trim(), "");

        node::switch::purge(&config).await.unwrap();
        assert!(!config.ovs.runs());
        assert!(!tap::exists("br-ex"));
    });
}

#[test]
fn a_tap_is_plugged_found_and_removed() {
    in_namespace(|config| async move {
        let ovs = Ovs::start(config.clone()).await.unwrap();
        let plug = Plug {
            interface: "tap0123456789a".to_owned(),
            port_id: "11111111-2222-4333-8444-555555555555".to_owned(),
            mac: A,
            server_id: Some("66666666-2222-4333-8444-555555555555".to_owned()),
            tap: Some(TapOwner::User(12345)),
            mtu: Some(1450),
        };
        let number = ovs.plug(&plug).await.unwrap();
        assert_eq!(ovs.plug(&plug).await.unwrap(), number);
        let tun = run("ip", &["-d", "link", "show", "tap0123456789a"]);
        assert!(tun.contains("vnet_hdr off persist on user 12345"), "{tun}");
        assert!(run("ip", &["link", "show", "tap0123456789a"]).contains("mtu 1450"));
        let ids = vsctl(&config, &["get", "interface", "tap0123456789a", "external_ids"]);
        for id in [
            "attached-mac=\"02:00:00:00:00:01\"",
            "iface-id=\"11111111-2222-4333-8444-555555555555\"",
            "vm-uuid=\"66666666",
        ] {
            assert!(ids.contains(id), "{ids}");
        }
        // What somebody else added is not ours.
        run("ip", &["tuntap", "add", "foreign0", "mode", "tap"]);
        vsctl(&config, &["add-port", "br-int", "foreign0"]);
        let plugged = ovs.plugged();
        assert_eq!(plugged.len(), 1);
        let p = &plugged[0];
        assert_eq!(
            (p.interface.as_str(), p.mac, p.number),
            ("tap0123456789a", Some(A), Some(number))
        );
        assert_eq!(p.server_id, plug.server_id);

        // Somebody deletes the tap; plugging makes it usable again.
        run("ip", &["link", "del", "tap0123456789a"]);
        assert!(ovs.plug(&plug).await.unwrap() > 0);
        assert!(tap::exists("tap0123456789a"));

        ovs.unplug("tap0123456789a").await.unwrap();
        ovs.unplug("tap0123456789a").await.unwrap();
        assert!(!tap::exists("tap0123456789a"));
        assert!(ovs.plugged().is_empty());
        let bad = Plug {
            interface: "not a name".to_owned(),
            ..plug.clone()
        };
        assert!(matches!(ovs.plug(&bad).await, Err(Error::Interface { .. })));
        let missing = Plug {
            interface: "veth-missing".to_owned(),
            tap: None,
            ..plug.clone()
        };
        assert!(
            ovs.plug(&missing)
                .await
                .unwrap_err()
                .to_string()
                .contains("veth-missing")
        );

        let mut times = Vec::new();
        for i in 0..20 {
            let plug = Plug {
                interface: format!("tap{i}"),
                ..plug.clone()
            };
            let start = Instant::now();
            let number = ovs.plug(&plug).await.unwrap();
            let flow = Flow::new(0, 5, Match::new().in_port(number), vec![]);
            ovs.update("br-int", &[], &[flow]).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        eprintln!(
            "tap made, plugged, and its flow in force: median {:?}, slowest {:?}",
            times[10], times[19]
        );
    });
}

#[test]
fn packets_go_where_the_flows_say_and_connections_are_forgotten() {
    in_namespace(|config| async move {
        let ovs = Ovs::start(config.clone()).await.unwrap();
        let (a, b) = (Guest::new("ga", A, "10.9.0.1/24"), Guest::new("gb", B, "10.9.0.2/24"));
        let (pa, pb) = (ovs.plug(&a.plug(A)).await.unwrap(), ovs.plug(&b.plug(B)).await.unwrap());
        assert!(!a.reaches_at_once("10.9.0.2"), "without flows nothing passes");
        assert_eq!(ovs.apply("br-int", wire(pa, pb)).await.unwrap().added, 2);
        assert!(a.reaches("10.9.0.2"));

        // The same through connection tracking.
        let zone = Zone::Is(7);
        let tracked = |x: u32, y: u32| {
            let commit = vec![Ct::commit(zone).action(), Action::output(y)];
            [
                Flow::new(0, 20, Match::new().in_port(x).ip(), vec![Ct::track(zone, 1).action()]),
                Flow::new(1, 10, Match::new().in_port(x).ip(), commit),
            ]
        };
        let mut program = wire(pa, pb);
        program.flows.extend(tracked(pa, pb).into_iter().chain(tracked(pb, pa)));
        ovs.apply("br-int", program).await.unwrap();
        let dump = async || {
            ovs.control("dpctl/dump-conntrack", &["netdev@ovs-netdev", "zone=7"])
                .await
                .unwrap()
        };
        // For a moment the datapath may still do what it did before; what began then was not tracked.
        let tracked = async || {
            ovs.forget_connections(&Connections::of_zone(7)).await.unwrap();
            assert!(a.reaches("10.9.0.2"));
            let dump = dump().await;
            (dump.contains("orig=(src=10.9.0.1") && !dump.contains("orig=(src=10.9.0.2")).then_some(())
        };
        until("a tracked connection", tracked).await;
        let other = Connections {
            protocol: Some(6),
            ..Connections::of_zone(7)
        };
        ovs.forget_connections(&other).await.unwrap();
        assert!(dump().await.contains("10.9.0.2"), "only what was named is forgotten");
        let source = Some(Ipv4Addr::new(10, 9, 0, 1).into());
        let these = Connections {
            protocol: Some(17),
            source,
            ..Connections::of_zone(7)
        };
        ovs.forget_connections(&these).await.unwrap();
        let left = dump().await;
        assert!(!left.contains("10.9.0.2"), "{left}");
        assert!(a.reaches("10.9.0.2"));
        ovs.forget_connections(&Connections::of_zone(7)).await.unwrap();
        assert!(!dump().await.contains("10.9.0.2"));
        // The machine's own addresses are not to be reached through a guest's interface, whatever the guest sends.
        run("ip", &["addr", "add", "10.99.0.1/32", "dev", "lo"]);
        let listener = datagrams("10.99.0.1:7777");
        listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        a.run(&["ip", "route", "add", "10.99.0.1", "dev", "eth0"]);
        assert!(!a.reaches_at_once("10.99.0.1"));
        assert!(!a.run(&["ip", "neigh", "show", "10.99.0.1"]).contains("lladdr"));
        let own = run("ip", &["-o", "link", "show", "ga"]);
        let own = own
            .split("link/ether ")
            .nth(1)
            .and_then(|t| t.split(' ').next())
            .unwrap();
        a.run(&["ip", "neigh", "replace", "10.99.0.1", "lladdr", own, "dev", "eth0"]);
        assert!(!a.reaches_at_once("10.99.0.1"));
        assert!(
            listener.recv(&mut [0; 16]).is_err(),
            "a guest's datagram came to the machine"
        );

        let trace = ovs.trace("br-int", &format!("in_port={pa},arp")).await.unwrap();
        assert!(trace.contains(&format!("output:{pb}")), "{trace}");
    });
}

#[test]
fn packets_reach_the_handler_and_its_answers_the_guest() {
    in_namespace(|config| async move {
        let ovs = Ovs::start(config.clone()).await.unwrap();
        let a = Guest::new("ga", A, "10.9.0.1/24");
        let pa = ovs.plug(&a.plug(A)).await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = seen.clone();
        // An ARP responder.
        let handler: Handler = Arc::new(move |bridge, p| {
            notes
                .lock()
                .unwrap()
                .push((bridge, p.userdata.clone(), p.in_port(), p.reg(5)));
            let mut answer = p.data.clone();
            answer[0..6].copy_from_slice(&p.data[6..12]);
            answer[6..12].copy_from_slice(&B.0);
            answer[21] = 2;
            answer[22..28].copy_from_slice(&B.0);
            answer[28..32].copy_from_slice(&p.data[38..42]);
            answer[32..42].copy_from_slice(&p.data[22..32]);
            let out = PacketOut::to_port(p.in_port().unwrap(), answer);
            Box::pin(async move { vec![out] })
        });
        ovs.on_packet_in(handler);
        let actions = vec![Action::load(Field::reg(5).all(), 42), Action::controller(*b"arp")];
        let arp = Flow::new(0, 1, Match::new().eth_type(eth_type::ARP), actions);
        ovs.apply("br-int", Program::from_iter([arp])).await.unwrap();
        assert!(!a.reaches_at_once("10.9.0.77"));
        assert!(
            a.run(&["ip", "neigh", "show", "10.9.0.77"])
                .contains("02:00:00:00:00:02")
        );
        assert_eq!(
            seen.lock().unwrap()[0],
            ("br-int".to_owned(), b"arp".to_vec(), Some(pa), 42)
        );
        assert!(matches!(
            ovs.packet_out("br-none", PacketOut::to_port(1, vec![])),
            Err(Error::UnknownBridge(_))
        ));
    });
}

#[test]
fn a_bridge_holds_what_it_should_whatever_happens() {
    in_namespace(|config| async move {
        let config = Config {
            verify_every: Duration::from_secs(3600),
            ..config
        };
        let ovs = Ovs::start(config.clone()).await.unwrap();
        let (a, b) = (Guest::new("ga", A, "10.9.0.1/24"), Guest::new("gb", B, "10.9.0.2/24"));
        let (pa, pb) = (ovs.plug(&a.plug(A)).await.unwrap(), ovs.plug(&b.plug(B)).await.unwrap());
        let mut program = wire(pa, pb);
        let filler =
            |i: u32, to| Flow::new(9, 3, Match::new().reg(1, i), vec![Action::output(to)]).cookie(u64::from(i));
        program.flows.extend((0..500).map(|i| filler(i, pa)));
        let applied = ovs.apply("br-int", program.clone()).await.unwrap();
        assert_eq!((applied.added, applied.removed, applied.pending), (502, 0, false));
        assert_eq!(ovs.apply("br-int", program.clone()).await.unwrap(), Default::default());
        let flows = || ofctl(&config, "dump-flows", "br-int", &[]);
        let count = || flows().lines().filter(|l| l.contains("actions=")).count();
        assert_eq!(count(), 502);

        // A change costs only itself.
        let applied = ovs
            .update("br-int", &[filler(7, pa), filler(8, pa)], &[filler(8, pb)])
            .await
            .unwrap();
        assert_eq!((applied.added, applied.removed), (1, 1));
        assert_eq!(count(), 501);
        // What is added takes the place of what has the same match.
        let back = [filler(7, pa), filler(8, pa), filler(9, pa)];
        let applied = ovs.update("br-int", &[], &back).await.unwrap();
        assert_eq!((applied.added, applied.removed), (2, 0));
        assert_eq!(count(), 502);

        // A flow that the switch cannot take is named; the others are in force.
        let mut bad = program.clone();
        bad.flows
            .insert(Flow::new(10, 1, Match::new(), vec![Action::Group(77)]));
        bad.flows
            .insert(Flow::new(10, 2, Match::new(), vec![Action::output(0xffff_ff00)]));
        bad.flows
            .insert(Flow::new(10, 3, Match::new(), vec![Action::output(pa)]));
        let applied = ovs.apply("br-int", bad).await.unwrap();
        assert_eq!((applied.added, applied.refused.len()), (1, 2));
        ovs.verify().await;
        assert_eq!(count(), 503);
        ovs.apply("br-int", program.clone()).await.unwrap();
        assert_eq!(count(), 502);

        // Somebody deletes, changes and adds flows.
        ofctl(&config, "del-flows", "br-int", &["table=9,reg1=3"]);
        ofctl(&config, "mod-flows", "br-int", &["table=9,reg1=4,actions=drop"]);
        ofctl(&config, "add-flow", "br-int", &["table=3,priority=77,actions=normal"]);
        ofctl(
            &config,
            "add-flow",
            "br-int",
            &["table=4,in_port=1,actions=learn(table=5,priority=1)"],
        );
        ovs.verify().await;
        assert_eq!(count(), 502);
        assert!(!flows().contains("priority=77") && !flows().contains("learn"));
        assert!(a.reaches("10.9.0.2"));

        // The switch dies; it comes back with its flows.
        let old = pid_of(&config.ovs.run_dir, "ovs-vswitchd").unwrap();
        let start = Instant::now();
        run("kill", &["-9", &old]);
        let restarted = || pid_of(&config.ovs.run_dir, "ovs-vswitchd").filter(|p| *p != old);
        until("the switch's return", async || restarted()).await;
        until("its connection", async || ovs.is_healthy().then_some(())).await;
        until("its flows", async || (count() == 502).then_some(())).await;
        eprintln!(
            "after kill -9 of ovs-vswitchd all flows were back in {:?}",
            start.elapsed()
        );
        assert!(a.reaches("10.9.0.2"));

        // The database dies; ports can be added again, and what is there goes on.
        let old = pid_of(&config.ovs.run_dir, "ovsdb-server").unwrap();
        run("kill", &["-9", &old]);
        let returned = || pid_of(&config.ovs.run_dir, "ovsdb-server").filter(|p| *p != old);
        until("the database's return", async || returned()).await;
        let tap = Plug {
            interface: "tapnew".to_owned(),
            tap: Some(TapOwner::Privileged),
            ..a.plug(A)
        };
        until("a new port", async || ovs.plug(&tap).await.ok()).await;

        // The node's daemon is replaced: nothing changes until the new one says something.
        drop(ovs);
        assert!(a.reaches("10.9.0.2"));
        let ovs = Ovs::start(config.clone()).await.unwrap();
        ovs.verify().await;
        assert_eq!(count(), 502);
        assert_eq!((ovs.port_number("ga"), ovs.port_number("gb")), (Some(pa), Some(pb)));
        assert_eq!(ovs.apply("br-int", program).await.unwrap(), Default::default());
        assert_eq!(ovs.plugged().len(), 3);
        let spec = PortSpec::new("dhcp0", "internal");
        assert!(ovs.ensure_port("br-int", spec).await.unwrap() > 0);
        ovs.remove_ports(&["dhcp0"]).await.unwrap();
        drop(ovs);
        node::switch::purge(&config).await.unwrap();
        assert!(!tap::exists("tapnew") && !config.ovs.runs());
    });
}
