//! The OpenFlow controller: bridges connect to it, are recognised by their datapath id, and send it packets.

use super::Inner;
use openflow::{Connection, Event};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// A bridge that is just being made may connect before the database says who it is.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Serves bridges for ever.
pub(super) async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                connections.spawn(serve_one(inner.clone(), stream, peer));
            }
            Err(e) => {
                tracing::warn!("accepting a connection of the switch: {e}");
                // Too many open files does not pass at once.
                sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_one(inner: Arc<Inner>, stream: TcpStream, peer: SocketAddr) {
    if let Err(e) = check_peer(&inner, &stream, peer) {
        tracing::warn!(%peer, "refusing an OpenFlow connection: {e}");
        return;
    }
    let _ = stream.set_nodelay(true);
    let (connection, events) = match Connection::establish(stream).await {
        Ok(c) => c,
        Err(e) => {
            tracing::warn!(%peer, "an OpenFlow connection failed: {e}");
            return;
        }
    };
    let id = connection.datapath_id();
    let known = |_: &ovsdb::Replica| {
        inner
            .config
            .bridges()
            .find(|b| inner.vswitch.datapath_id(b) == Some(id))
    };
    let Ok(name) = inner
        .vswitch
        .database()
        .wait_for("for a bridge to be known", KNOWN_WITHIN, known)
        .await
    else {
        tracing::warn!(datapath = format_args!("{id:016x}"), "an unknown bridge connected");
        return connection.close();
    };
    let Some(bridge) = inner.bridges.get(name) else {
        return connection.close();
    };
    tracing::info!(bridge = name, "connected");
    tokio::join!(
        bridge.take(connection.clone()),
        handle(&inner, name, &connection, events)
    );
    bridge.lose(&connection);
    tracing::info!(bridge = name, dropped = connection.dropped(), "disconnected");
}

/// Hands packets to the handler, one after the other, until the connection ends.
async fn handle(inner: &Inner, bridge: &str, connection: &Connection, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        let Event::PacketIn(packet) = event else { continue };
        let Some(handler) = inner.handler() else { continue };
        for out in handler(bridge.to_owned(), packet).await {
            if let Err(e) = connection.packet_out(out) {
                tracing::debug!(bridge, "answering a packet: {e}");
            }
        }
    }
}

/// A connection over loopback could be any user's. Only root, ourselves and the owner of the switch's database may pose as a bridge.
fn check_peer(inner: &Inner, stream: &TcpStream, peer: SocketAddr) -> io::Result<()> {
    let local = stream.local_addr()?;
    if !peer.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it comes from another machine",
        ));
    }
    let uid = owner_of_socket(peer, local)?;
    // SAFETY: cannot fail and touches nothing.
    let ours = unsafe { libc::geteuid() };
    let database = fs::metadata(inner.config.ovs.socket()).map(|m| m.uid());
    if uid == 0 || uid == ours || database.is_ok_and(|d| d == uid) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("it belongs to user {uid}"),
    ))
}

/// The user whose socket has this local and this remote address (`/proc/net/tcp`, `proc(5)`).
fn owner_of_socket(local: SocketAddr, remote: SocketAddr) -> io::Result<u32> {
    let (file, local, remote) = match local.ip() {
        IpAddr::V4(_) => ("/proc/thread-self/net/tcp", hexadecimal(local), hexadecimal(remote)),
        IpAddr::V6(_) => ("/proc/thread-self/net/tcp6", hexadecimal(local), hexadecimal(remote)),
    };
    let table = fs::read_to_string(file)?;
    let owner = table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let same = columns.nth(1)? == local && columns.next()? == remote;
        same.then(|| columns.nth(4)?.parse().ok()).flatten()
    });
    owner.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its owner cannot be found"))
}

/// Addresses stand there as 32-bit words in the machine's own byte order.
fn hexadecimal(a: SocketAddr) -> String {
    let words = |bytes: &[u8]| -> String {
        let word = |w: &[u8]| u32::from_ne_bytes([w[0], w[1], w[2], w[3]]);
        bytes.chunks_exact(4).map(|w| format!("{:08X}", word(w))).collect()
    };
    match a.ip() {
        IpAddr::V4(ip) => format!("{}:{:04X}", words(&ip.octets()), a.port()),
        IpAddr::V6(ip) => format!("{}:{:04X}", words(&ip.octets()), a.port()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_owner_of_a_connection_is_found() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any).await else {
                continue;
            };
            let to = listener.local_addr().unwrap();
            let (client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
            let (_client, (stream, peer)) = (client.unwrap(), accepted.unwrap());
            let ours = unsafe { libc::geteuid() };
            assert_eq!(owner_of_socket(peer, stream.local_addr().unwrap()).unwrap(), ours);
            assert!(owner_of_socket(peer, "127.0.0.1:1".parse().unwrap()).is_err());
        }
    }
}
