//! A real Open vSwitch in a namespace of its own, guests in theirs, and the compiler as its controller.

use super::fixture::*;
use openflow::{Connection, Event};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use virtual_network::topology::*;
use virtual_network::{Bridge, BridgeDiff, Compiler, FlowDiff, Patch, PortNumbers, Responder};

fn run(program: &str, args: &[&str]) -> Output {
    let out = Command::new(program).args(args).stdin(Stdio::null()).output();
    out.unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Runs a program that must succeed.
pub fn sh(program: &str, args: &[&str]) -> String {
    let out = run(program, args);
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Whether real switches can be had; with CI set they must.
pub fn available() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let ovs = Path::new("/usr/share/openvswitch/vswitch.ovsschema").exists();
    let ok = root && ovs;
    assert!(
        ok || std::env::var_os("CI").is_none(),
        "these tests need root and Open vSwitch"
    );
    if !ok {
        eprintln!("skipped: needs root and Open vSwitch");
    }
    ok
}

/// Runs `f` in a network namespace.
pub fn inside<T: Send>(namespace: &str, f: impl FnOnce() -> T + Send) -> T {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::scope(|s| {
        let thread = s.spawn(move || {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            f()
        });
        thread.join().unwrap()
    })
}

static NEXT: AtomicU32 = AtomicU32::new(0);

struct Namespace(String);

impl Namespace {
    fn new(name: String) -> Namespace {
        sh("ip", &["netns", "add", &name]);
        let ns = Namespace(name);
        sh("ip", &["-n", &ns.0, "link", "set", "lo", "up"]);
        for (key, value) in [
            ("net.ipv4.ping_group_range", "0 2147483647"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
        ] {
            ns.exec("sysctl", &["-qw", &format!("{key}={value}")]);
        }
        ns
    }

    fn exec(&self, program: &str, args: &[&str]) -> String {
        let mut all = vec!["netns", "exec", self.0.as_str(), program];
        all.extend(args);
        sh("ip", &all)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "del", &self.0]);
    }
}

struct Shared {
    compiler: Compiler,
    connections: BTreeMap<Bridge, Connection>,
}

pub struct Lab {
    namespaces: BTreeMap<String, Namespace>,
    prefix: String,
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    shared: Arc<Mutex<Shared>>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["vswitchd.pid", "ovsdb.pid"] {
            if let Ok(text) = std::fs::read_to_string(self.dir.path().join(name))
                && let Ok(pid) = text.trim().parse()
            {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
            }
        }
    }
}

impl Lab {
    /// The switch with `br-int` and `br-ex`, and [`cloud`] compiled into it; guests are still to be plugged.
    pub fn start() -> Lab {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("vnet-{}-{n}-", std::process::id());
        let mut lab = Lab {
            namespaces: BTreeMap::new(),
            prefix,
            dir: tempfile::Builder::new().prefix("virtual-network-").tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            shared: Arc::new(Mutex::new(Shared {
                compiler: Compiler::new(Default::default()),
                connections: BTreeMap::new(),
            })),
        };
        lab.namespace("node");
        let (db, sock) = (lab.path("conf.db"), lab.path("db.sock"));
        sh(
            "ovsdb-tool",
            &["create", &db, "/usr/share/openvswitch/vswitch.ovsschema"],
        );
        let daemon = |program: &str, name: &str, args: &[&str]| {
            let dir = lab.dir.path().to_str().unwrap();
            let (pid, ctl) = (lab.path(&format!("{name}.pid")), lab.path(&format!("{name}.ctl")));
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &lab.name("node"), program]).args(args);
            command.args([format!("--pidfile={pid}"), format!("--unixctl={ctl}")]);
            command.args(["--detach", "--no-chdir", "-vconsole:off", "-vsyslog:off", "-vfile:off"]);
            for key in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
                command.env(key, dir);
            }
            let out = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(out.unwrap().success(), "{program}");
        };
        daemon("ovsdb-server", "ovsdb", &[&db, &format!("--remote=punix:{sock}")]);
        lab.vsctl(&["--no-wait", "init"]);
        daemon("ovs-vswitchd", "vswitchd", &[&format!("unix:{sock}")]);
        for bridge in ["br-int", "br-ex"] {
            lab.vsctl(&[
                "add-br",
                bridge,
                "--",
                "set",
                "bridge",
                bridge,
                "datapath_type=netdev",
                "fail_mode=secure",
                "protocols=OpenFlow14",
            ]);
        }
        let patch = |bridge, name, peer| {
            let peer = format!("options:peer={peer}");
            lab.vsctl(&[
                "add-port",
                bridge,
                name,
                "--",
                "set",
                "interface",
                name,
                "type=patch",
                &peer,
            ]);
        };
        patch("br-int", "int-br-ex", "phy-br-ex");
        patch("br-ex", "phy-br-ex", "int-br-ex");
        for (bridge, name) in [
            (Bridge::Integration, "br-int"),
            (Bridge::Physical("br-ex".into()), "br-ex"),
        ] {
            let path = PathBuf::from(lab.path(&format!("{name}.mgmt")));
            let (connection, events) = lab.runtime.block_on(async {
                let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
                Connection::establish(stream).await.unwrap()
            });
            if bridge == Bridge::Integration {
                lab.runtime.spawn(serve(lab.shared.clone(), events));
            }
            lab.shared.lock().unwrap().connections.insert(bridge, connection);
        }
        lab.change(|c| c.set_port_numbers(PortNumbers::default()));
        let patch = Patch {
            integration: lab.ofport("int-br-ex"),
            physical: lab.ofport("phy-br-ex"),
        };
        lab.renumber(|n| {
            n.patches.insert("br-ex".into(), patch);
        });
        lab.change(|c| c.replace(&cloud()));
        lab
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The real name of a namespace.
    pub fn name(&self, short: &str) -> String {
        format!("{}{short}", self.prefix)
    }

    fn namespace(&mut self, short: &str) {
        let ns = Namespace::new(self.name(short));
        self.namespaces.insert(short.to_owned(), ns);
    }

    pub fn vsctl(&self, args: &[&str]) -> String {
        let db = format!("--db=unix:{}", self.path("db.sock"));
        let mut all = vec![db.as_str(), "--timeout=20"];
        all.extend(args);
        sh("ovs-vsctl", &all)
    }

    /// `ovs-appctl` of the switch.
    pub fn appctl(&self, args: &[&str]) -> String {
        let ctl = self.path("vswitchd.ctl");
        let mut all = vec!["-t", ctl.as_str()];
        all.extend(args);
        sh("ovs-appctl", &all)
    }

    /// What the switch would do with a packet.
    pub fn trace(&self, packet: &str) -> String {
        self.appctl(&["ofproto/trace", "br-int", packet])
    }

    pub fn ofport(&self, name: &str) -> u32 {
        self.vsctl(&["get", "interface", name, "ofport"])
            .trim()
            .parse()
            .unwrap()
    }

    /// Changes what is compiled, and waits until the switch has it.
    pub fn change(&self, f: impl FnOnce(&mut Compiler) -> FlowDiff) {
        let (diff, connections) = {
            let mut shared = self.shared.lock().unwrap();
            (f(&mut shared.compiler), shared.connections.clone())
        };
        for zone in &diff.flush_zones {
            self.appctl(&["dpctl/flush-conntrack", &format!("zone={zone}")]);
        }
        for (bridge, diff) in diff.bridges {
            let changes = changes(diff);
            let connection = &connections[&bridge];
            self.runtime.block_on(connection.bundle(&changes)).unwrap_or_else(|e| {
                let detail = match &e {
                    openflow::BundleError::Rejected(all) => {
                        let all = all.iter().map(|(i, e)| format!("{e}: {:?}", changes[*i]));
                        all.collect::<Vec<_>>().join("\n")
                    }
                    other => other.to_string(),
                };
                panic!("{bridge}: {detail}")
            });
        }
        // Until then packets may still go by what was cached of the old flows.
        self.appctl(&["revalidator/wait"]);
        for c in diff.flush_connections {
            let (zone, tuple) = match c {
                virtual_network::Connections::To { zone, address } => (zone, format!("ct_nw_dst={address}")),
                virtual_network::Connections::From { zone, address } => (zone, format!("ct_nw_src={address}")),
            };
            self.appctl(&["dpctl/flush-conntrack", &format!("zone={zone}"), &tuple]);
        }
    }

    /// Changes the topology.
    pub fn edit(&self, f: impl FnOnce(&mut Topology)) {
        self.change(|c| {
            let mut t = c.topology().clone();
            f(&mut t);
            c.replace(&t)
        });
    }

    fn renumber(&self, f: impl FnOnce(&mut PortNumbers)) {
        self.change(|c| {
            let mut n = c.port_numbers().clone();
            f(&mut n);
            c.set_port_numbers(n)
        });
    }

    /// Whether the switch holds what it should, as it writes it itself.
    pub fn check_flows(&self) {
        let mut tries = 0;
        while let Err(difference) = self.compare() {
            // A neighbour may have become known in between.
            tries += 1;
            assert!(tries < 10, "{difference}");
        }
    }

    fn compare(&self) -> Result<(), String> {
        // Not under the lock: the one who answers packets may want it, and has the connection's only thread.
        let (wanted, connections) = {
            let shared = self.shared.lock().unwrap();
            (shared.compiler.flows(), shared.connections.clone())
        };
        for (bridge, connection) in &connections {
            let held = self.runtime.block_on(connection.flows()).unwrap();
            let read = |f: openflow::FlowStats| {
                let (matches, actions) = (f.matches.unwrap(), f.actions.unwrap());
                openflow::Flow::new(f.table, f.priority, matches, actions).to_string()
            };
            let held: BTreeSet<String> = held.into_iter().map(read).collect();
            let wanted: BTreeSet<String> = wanted[bridge].iter().map(|f| f.canonical().to_string()).collect();
            if held != wanted {
                let missing: Vec<_> = wanted.difference(&held).collect();
                let extra: Vec<_> = held.difference(&wanted).collect();
                return Err(format!("{bridge}: missing {missing:#?}, extra {extra:#?}"));
            }
        }
        Ok(())
    }

    fn veth(&mut self, short: &str, bridge: &str, mac: MacAddress) {
        self.namespace(short);
        let (node, ns) = (self.name("node"), self.name(short));
        sh(
            "ip",
            &[
                "-n",
                &node,
                "link",
                "add",
                short,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "address",
                &mac.to_string(),
                "netns",
                &ns,
            ],
        );
        sh("ip", &["-n", &node, "link", "set", short, "up"]);
        sh("ip", &["-n", &ns, "link", "set", "eth0", "up"]);
        // OVS passes unfinished checksums on, and the receiver drops them.
        self.exec(short, "ethtool", &["-K", "eth0", "tx", "off"]);
        self.vsctl(&["add-port", bridge, short]);
    }

    /// Plugs a guest of [`cloud`]: its interface is `short`.
    pub fn guest(&mut self, short: &str, mac: MacAddress, addresses: &[&str], gateways: &[&str]) {
        self.veth(short, "br-int", mac);
        // As DHCP would have told them, except in the provider's network.
        if short != "gx" {
            self.exec(short, "ip", &["link", "set", "eth0", "mtu", "1450"]);
        }
        for a in addresses {
            self.exec(short, "ip", &["addr", "add", a, "dev", "eth0"]);
        }
        for g in gateways {
            self.exec(short, "ip", &["route", "add", "default", "via", g]);
        }
        let number = self.ofport(short);
        let name = short.to_owned();
        self.renumber(|n| {
            n.interfaces.insert(name, number);
        });
    }

    /// A machine on the provider's network: 10.98.0.1, which is the gateway there, with 203.0.113.1 behind it.
    pub fn outside(&mut self) {
        self.veth("out", "br-ex", infra(254));
        for a in ["10.98.0.1/24", "203.0.113.1/32"] {
            self.exec("out", "ip", &["addr", "add", a, "dev", "eth0"]);
        }
    }

    /// The listener for metadata.
    pub fn metadata(&mut self) {
        self.veth("meta", "br-int", infra(200));
        for a in ["169.254.169.254/32", "fe80::a9fe:a9fe/64"] {
            self.exec("meta", "ip", &["addr", "add", a, "dev", "eth0"]);
        }
        for r in ["100.64.0.0/10", "fd00:a9fe:a9fe::/96"] {
            self.exec("meta", "ip", &["route", "add", r, "dev", "eth0"]);
        }
        let number = self.ofport("meta");
        self.renumber(|n| n.metadata = Some(number));
    }

    /// A tunnel port (whose other end is nowhere).
    pub fn tunnel(&mut self, kind: NetworkType) {
        let kind_name = format!("type={}", format!("{kind:?}").to_lowercase());
        self.vsctl(&[
            "add-port",
            "br-int",
            "tun",
            "--",
            "set",
            "interface",
            "tun",
            &kind_name,
            "options:remote_ip=flow",
            "options:key=flow",
            "options:local_ip=127.0.0.1",
        ]);
        let number = self.ofport("tun");
        self.renumber(|n| {
            n.tunnels.insert(kind, number);
        });
    }

    /// Whose address the listener saw.
    pub fn client(&self, address: IpAddr) -> Option<(PortId, IpAddr)> {
        self.shared.lock().unwrap().compiler.metadata_client(address)
    }

    pub fn exec(&self, short: &str, program: &str, args: &[&str]) -> String {
        self.namespaces[short].exec(program, args)
    }

    /// Whether one of several echo requests is answered.
    pub fn ping(&self, from: &str, to: &str) -> bool {
        self.ping_from(from, None, to)
    }

    /// The same from a certain address.
    pub fn ping_from(&self, from: &str, source: Option<&str>, to: &str) -> bool {
        let (to, source): (IpAddr, Option<IpAddr>) = (ip(to), source.map(ip));
        inside(&self.name(from), || {
            let socket = ping_socket(to);
            if let Some(s) = source {
                bind(&socket, s);
            }
            socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
            let mut buffer = [0u8; 1500];
            (0..4u8).any(|i| {
                let kind = if to.is_ipv4() { 8 } else { 128 };
                let request = [kind, 0, 0, 0, 0, 0, 0, i, b'p', b'i', b'n', b'g'];
                socket.send_to(&request, SocketAddr::new(to, 0)).is_ok()
                    && matches!(socket.recv_from(&mut buffer), Ok((n, who)) if n >= 8 && who.ip() == to)
            })
        })
    }

    /// Serves TCP at `port` in the background: tells everyone the address they came from.
    pub fn serve(&self, at: &str, port: u16) {
        let any: SocketAddr = format!("[::]:{port}").parse().unwrap();
        let listener = inside(&self.name(at), || TcpListener::bind(any).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut s) = stream else { return };
                std::thread::spawn(move || {
                    use std::io::{Read, Write};
                    let Ok(peer) = s.peer_addr() else { return };
                    let _ = s.write_all(format!("{}\n", peer.ip().to_canonical()).as_bytes());
                    // Then echoes, so that a connection can be tried again later.
                    let mut b = [0u8; 64];
                    while let Ok(n @ 1..) = s.read(&mut b) {
                        if s.write_all(&b[..n]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
    }

    /// Connects; the address that the server saw.
    pub fn connect(&self, from: &str, to: &str, port: u16) -> Option<(IpAddr, Talk)> {
        let to = match to.split_once('%') {
            // The guests' only interface is the second one of their namespace.
            Some((a, _)) => SocketAddr::V6(std::net::SocketAddrV6::new(a.parse().unwrap(), port, 0, 2)),
            None => SocketAddr::new(ip(to), port),
        };
        inside(&self.name(from), || {
            let stream = TcpStream::connect_timeout(&to, Duration::from_millis(1500)).ok()?;
            stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
            let mut talk = Talk(stream);
            let seen = talk.line()?;
            Some((ip(&seen), talk))
        })
    }

    /// The address that a server saw, if it could be reached.
    pub fn seen_as(&self, from: &str, to: &str, port: u16) -> Option<String> {
        self.connect(from, to, port).map(|(a, _)| a.to_string())
    }

    /// Puts a frame on the wire as a guest that obeys nobody would.
    pub fn inject(&self, from: &str, frame: &[u8]) {
        use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
        inside(&self.name(from), || {
            let kind = SockType::Raw;
            let fd = socket(
                AddressFamily::Packet,
                kind,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .unwrap();
            let index = nix::net::if_::if_nametoindex("eth0").unwrap();
            // SAFETY: all of it is plain numbers.
            let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_ifindex = index as i32;
            to.sll_halen = 6;
            let length = size_of_val(&to) as libc::socklen_t;
            // SAFETY: frame and address live during the call, and the lengths are theirs.
            let sent = unsafe {
                libc::sendto(
                    fd.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const to).cast(),
                    length,
                )
            };
            assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
        });
    }

    /// The same, and the first frame that then arrives and is what `wanted` looks for.
    pub fn exchange(&self, at: &str, frame: &[u8], wanted: impl Fn(&[u8]) -> bool + Send) -> Option<Vec<u8>> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
        let listener = inside(&self.name(at), || {
            let kind = SockType::Raw;
            let fd = socket(
                AddressFamily::Packet,
                kind,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .unwrap();
            let wait = nix::sys::time::TimeVal::new(2, 0);
            setsockopt(&fd, sockopt::ReceiveTimeout, &wait).unwrap();
            fd
        });
        self.inject(at, frame);
        let (mut buffer, until) = ([0u8; 2048], Instant::now() + Duration::from_secs(5));
        while Instant::now() < until {
            let n =
                nix::sys::socket::recv(listener.as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::empty()).ok()?;
            if wanted(&buffer[..n]) {
                return Some(buffer[..n].to_vec());
            }
        }
        None
    }

    /// Whether a large echo request, which may be fragmented, is answered.
    pub fn ping_large(&self, from: &str, to: &str, size: usize) -> bool {
        let to: IpAddr = ip(to);
        inside(&self.name(from), || {
            let socket = ping_socket(to);
            set_option(&socket, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT);
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut request = vec![0x55u8; size];
            request[..8].copy_from_slice(&[8, 0, 0, 0, 0, 0, 0, 1]);
            let mut buffer = [0u8; 4000];
            (0..3).any(|_| {
                socket.send_to(&request, SocketAddr::new(to, 0)).is_ok()
                    && matches!(socket.recv_from(&mut buffer), Ok((n, _)) if n == size)
            })
        })
    }

    /// What the neighbour table of a guest says of an address.
    pub fn neighbor(&self, of: &str, address: &str) -> String {
        self.exec(of, "ip", &["neigh", "show", address])
    }

    /// Sends UDP to a closed port: the error that comes back.
    pub fn udp_error(&self, from: &str, to: &str, ttl: Option<u32>, size: usize) -> Option<std::io::Error> {
        let to = SocketAddr::new(ip(to), 9999);
        inside(&self.name(from), || {
            let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
            let socket = UdpSocket::bind(any).unwrap();
            if let Some(ttl) = ttl {
                socket.set_ttl(ttl).unwrap();
            }
            // So that errors which are no final ones are told as well.
            match to {
                SocketAddr::V4(_) => set_option(&socket, libc::SOL_IP, libc::IP_RECVERR, 1),
                SocketAddr::V6(_) => set_option(&socket, libc::SOL_IPV6, libc::IPV6_RECVERR, 1),
            }
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(1000))).unwrap();
            let mut b = [0u8; 2000];
            for _ in 0..3 {
                if let Err(e) = socket.send(&vec![0u8; size]) {
                    return Some(e);
                }
                match socket.recv(&mut b) {
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(e) => return Some(e),
                    Ok(_) => return None,
                }
            }
            None
        })
    }
}

/// A connection that is open.
pub struct Talk(TcpStream);

impl Talk {
    fn line(&mut self) -> Option<String> {
        use std::io::Read;
        let (mut line, mut b) = (Vec::new(), [0u8; 1]);
        while self.0.read(&mut b).ok()? == 1 && b[0] != b'\n' {
            line.push(b[0]);
        }
        String::from_utf8(line).ok()
    }

    /// Whether the other end still answers.
    pub fn alive(&mut self) -> bool {
        use std::io::Write;
        self.0.write_all(b"?\n").is_ok() && self.line().as_deref() == Some("?")
    }
}

fn set_option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value lives during the call and its size is right.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn ping_socket(to: IpAddr) -> UdpSocket {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
    };
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, protocol) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: as above.
    UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(socket: &UdpSocket, source: IpAddr) {
    use nix::sys::socket::{SockaddrStorage, bind};
    let address = SockaddrStorage::from(SocketAddr::new(source, 0));
    bind(socket.as_raw_fd(), &address).unwrap();
}

/// What the node's daemon does: answers packets, and tells the time.
async fn serve(shared: Arc<Mutex<Shared>>, mut events: tokio::sync::mpsc::Receiver<Event>) {
    let (mut responder, start) = (Responder::new(), Instant::now());
    let mut seconds = tokio::time::interval(Duration::from_millis(500));
    loop {
        let packet = tokio::select! {
            event = events.recv() => match event {
                Some(Event::PacketIn(packet)) => Some(packet),
                Some(_) => continue,
                None => return,
            },
            _ = seconds.tick() => None,
        };
        let (bundles, packets) = {
            let mut shared = shared.lock().unwrap();
            let response = match packet {
                Some(p) => responder.respond(&shared.compiler, &p, start.elapsed()),
                None => responder.tick(&shared.compiler, start.elapsed()),
            };
            let mut bundles = Vec::new();
            for (network, address, mac) in response.neighbors {
                bundles.push(shared.compiler.set_neighbor(network, address, mac));
            }
            (bundles, response.packets)
        };
        let connection = shared.lock().unwrap().connections.get(&Bridge::Integration).cloned();
        let Some(connection) = connection else { continue };
        for diff in bundles {
            for (_, d) in diff.bridges {
                connection.bundle(&changes(d)).await.unwrap();
            }
        }
        for p in packets {
            connection.packet_out(p).unwrap();
        }
    }
}

fn changes(diff: BridgeDiff) -> Vec<openflow::Change> {
    let removed = diff.remove.into_iter().map(|f| openflow::Change::Delete {
        table: f.table,
        priority: f.priority,
        matches: f.matches,
    });
    removed.chain(diff.add.into_iter().map(openflow::Change::Add)).collect()
}

/// Waits until `f` holds.
pub fn eventually(what: &str, mut f: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !f() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}
