//! The metadata service's own corner of the network: a namespace that only this process has, joined to the integration bridge by a
//! pair of interfaces. In it are 169.254.169.254 and fe80::a9fe:a9fe, which therefore are on no interface of the machine itself: a
//! machine that is itself a guest of a cloud goes on reaching that cloud's service.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::Command;

use ipnet::{Ipv4Net, Ipv6Net};
use tokio::net::TcpListener;
use virtual_network::pipeline::{METADATA_V4, METADATA_V6};
use virtual_network::topology::{MacAddress, MetadataListener};

/// What goes wrong in setting the listener up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the metadata service: {doing}")]
pub struct ListenerError {
    doing: String,
    #[source]
    source: io::Error,
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ListenerError {
    let doing = doing.into();
    move |source| ListenerError { doing, source }
}

/// How the listener is joined to the switch.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// The end of the pair that is to be a port of the integration bridge.
    pub interface: String,
    /// Addresses under which guests' IPv4 addresses appear in the namespace.
    pub clients_v4: Ipv4Net,
    /// The same for IPv6.
    pub clients_v6: Ipv6Net,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        // 100.64.0.0/10 is for what lies between customers and their provider (RFC 6598); it is seen in the namespace alone.
        let clients_v4 = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
        let clients_v6 = Ipv6Net::new_assert([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 0].into(), 64);
        Self {
            interface: "fs-metadata".into(),
            clients_v4,
            clients_v6,
        }
    }
}

/// The MAC of the listener's interface: locally administered, and of no vendor.
const MAC: MacAddress = MacAddress::new([0x0e, 0x00, 0xa9, 0xfe, 0xa9, 0xfe]);

/// A listener that guests reach. The namespace lives as long as its sockets and this process.
pub struct Listener {
    /// Takes the guests' connections.
    pub listener: TcpListener,
    /// What the compiler has to know of it.
    pub description: MetadataListener,
    /// The interface to be plugged into the integration bridge.
    pub interface: String,
}

impl Listener {
    /// Makes the namespace and listens in it. What is left of an earlier process is replaced.
    pub async fn open(config: ListenerConfig) -> Result<Self, ListenerError> {
        let interface = config.interface.clone();
        let description = MetadataListener {
            mac: MAC,
            tcp_port: 80,
            clients_v4: config.clients_v4,
            clients_v6: config.clients_v6,
        };
        let made = tokio::task::spawn_blocking(move || in_namespace(&config)).await;
        let listener = made.map_err(|error| failed("running its thread")(io::Error::other(error)))??;
        listener.set_nonblocking(true).map_err(failed("preparing its socket"))?;
        let listener = TcpListener::from_std(listener).map_err(failed("preparing its socket"))?;
        Ok(Self {
            listener,
            description,
            interface,
        })
    }
}

fn run(program: &str, arguments: &str) -> Result<(), ListenerError> {
    let doing = format!("{program} {arguments}");
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .map_err(failed(doing.clone()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(doing)(io::Error::other(said)))
}

/// The namespace is that of a thread of its own, which ends when the socket is open; the socket keeps the namespace.
fn in_namespace(config: &ListenerConfig) -> Result<std::net::TcpListener, ListenerError> {
    // What is left of an earlier process, if anything; its other end went with that process.
    let _ = run("ip", &format!("link delete {}", config.interface));
    let (entered, wait_for_thread) = std::sync::mpsc::sync_channel(1);
    let (joined, wait_for_link) = std::sync::mpsc::sync_channel::<bool>(1);
    let addresses = config.clone();
    let thread = std::thread::Builder::new().name("metadata".into()).spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|e| failed("making a namespace")(e.into()))?;
        let gone = || failed("waiting for its interface")(io::ErrorKind::BrokenPipe.into());
        entered.send(nix::unistd::gettid()).map_err(|_| gone())?;
        if wait_for_link.recv() != Ok(true) {
            return Err(gone());
        }
        listen(&addresses)
    });
    let thread = thread.map_err(failed("starting its thread"))?;
    if let Ok(id) = wait_for_thread.recv() {
        // A process started by that thread would be in its namespace; this one puts the other end there.
        let pair = format!(
            "link add {} type veth peer name eth0 address {MAC} netns {id}",
            config.interface
        );
        let made = run("ip", &pair).and_then(|()| run("ip", &format!("link set {} up", config.interface)));
        let ok = made.is_ok();
        // The thread may have ended by an error of its own, which is told below.
        let _ = joined.send(ok);
        made?;
    }
    thread
        .join()
        .map_err(|_| failed("running its thread")(io::Error::other("it panicked")))?
}

fn listen(config: &ListenerConfig) -> Result<std::net::TcpListener, ListenerError> {
    for arguments in [
        "link set lo up".to_owned(),
        "link set eth0 up".to_owned(),
        format!("address add {METADATA_V4}/32 dev eth0"),
        format!("address add {METADATA_V6}/64 dev eth0 nodad"),
        format!("route add {} dev eth0", config.clients_v4),
    ] {
        run("ip", &arguments)?;
    }
    // A machine without IPv6 serves IPv4 all the same.
    let v6 = run("ip", &format!("-6 route add {} dev eth0", config.clients_v6)).is_ok();
    finish_checksums()?;
    let any: SocketAddr = if v6 {
        ([0_u16; 8], 80).into()
    } else {
        ([0_u8; 4], 80).into()
    };
    std::net::TcpListener::bind(any).map_err(failed("listening on port 80"))
}

/// `ETHTOOL_STXCSUM` of linux/ethtool.h.
const SET_TX_CHECKSUM: u32 = 0x17;

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    data: *mut EthtoolValue,
    padding: [u8; 16],
}

/// Makes the kernel finish checksums before packets leave: Open vSwitch's userspace datapath passes on what it gets, and the guest
/// would drop it.
fn finish_checksums() -> Result<(), ListenerError> {
    let doing = "switching off checksum offload";
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").map_err(failed(doing))?;
    let mut value = EthtoolValue {
        command: SET_TX_CHECKSUM,
        data: 0,
    };
    let mut request = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        data: &mut value,
        padding: [0; 16],
    };
    request.name[..4].copy_from_slice(b"eth0");
    // SAFETY: SIOCETHTOOL reads one `struct ifreq`, whose layout this has, and the `ethtool_value` it points to, which outlives the call.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) };
    if set < 0 {
        return Err(failed(doing)(io::Error::last_os_error()));
    }
    Ok(())
}
