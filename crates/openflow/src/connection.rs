//! A switch at the other end of a stream: requests that await their answers, and what the switch says unasked.

use crate::decode::{decode, frame_len};
use crate::error::SwitchError;
use crate::flow::{Group, Meter};
use crate::message::{
    BundleKind, Change, FlowStats, MAX_MESSAGE, Message, MeterCommand, PacketIn, PacketOut, PortDesc, VERSION, encode,
    encode_bundle_add,
};
use crate::wire::DecodeError;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A switch that says nothing for this long is asked whether it is there.
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// A switch that does not answer for this long is given up. Committing 100,000 flows took 0.8 s on a small machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Packets for the controller that wait to be handled; more are dropped, as a switch's own queue would.
const EVENTS: usize = 1024;
/// A whole bundle is written in pieces of this size.
const PIECE: usize = 256 * 1024;

/// Why talking to a switch failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The stream broke.
    #[error("reading from or writing to the switch: {0}")]
    Io(#[from] io::Error),
    /// The switch closed the connection, or it broke while an answer was awaited.
    #[error("the switch closed the connection")]
    Closed,
    /// The switch did not answer in time.
    #[error("the switch did not answer {0} in time")]
    Timeout(&'static str),
    /// The switch does not speak OpenFlow 1.4.
    #[error("the switch does not speak OpenFlow 1.4 (its versions: {0:#x}); add OpenFlow14 to the bridge's protocols")]
    Version(u32),
    /// Bytes that are not OpenFlow.
    #[error("what the switch sent could not be understood: {0}")]
    Decode(#[from] DecodeError),
    /// The switch refused a request.
    #[error("the switch refused: {0}")]
    Refused(SwitchError),
    /// A message of ours that is longer than a message can be.
    #[error("a message of {0} bytes is too long for OpenFlow")]
    TooLong(usize),
    /// The switch answered something else than was asked.
    #[error("the switch answered {0} with something else")]
    Unexpected(&'static str),
}

/// Why a bundle was not applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The switch refused these changes, by their index; the others were fine.
    #[error("the switch refused {} of the changes: {}", .0.len(), .0.first().map(|r| r.1.to_string()).unwrap_or_default())]
    Rejected(Vec<(usize, SwitchError)>),
    /// The switch could not be talked to, or refused the bundle as a whole. After a connection that broke during the commit, whether
    /// it was applied is not known.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// What a switch says unasked.
#[derive(Debug)]
pub enum Event {
    /// A packet for the controller.
    PacketIn(PacketIn),
    /// A port came, went or changed.
    PortStatus {
        /// 0 added, 1 deleted, 2 modified.
        reason: u8,
        /// The port.
        port: PortDesc,
    },
}

type Answers = mpsc::UnboundedSender<(u32, Message)>;

/// Who waits for answers: from a first transaction id to the last.
#[derive(Default)]
struct Waiting {
    closed: bool,
    by_first: BTreeMap<u32, (u32, Answers)>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    next_xid: AtomicU32,
    dropped: AtomicU64,
    datapath_id: u64,
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut w = self.waiting();
        w.closed = true;
        w.by_first.clear();
    }
}

/// A connected switch. Clones share the connection; it ends when the switch closes it or [`Connection::close`] is called.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    out: mpsc::UnboundedSender<Vec<u8>>,
}

/// Removes the entry when the one who waits goes away.
struct Ticket<'a> {
    shared: &'a Shared,
    first: u32,
    answers: mpsc::UnboundedReceiver<(u32, Message)>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shared.waiting().by_first.remove(&self.first);
    }
}

impl Ticket<'_> {
    async fn next(&mut self, what: &'static str) -> Result<(u32, Message), ConnectionError> {
        match timeout(ANSWER_WITHIN, self.answers.recv()).await {
            Ok(Some(m)) => Ok(m),
            Ok(None) => Err(ConnectionError::Closed),
            Err(_) => Err(ConnectionError::Timeout(what)),
        }
    }
}

impl Connection {
    /// Greets the switch at the other end and learns who it is. Also asks for packet-ins in the form that carries
    /// `userdata`. The events end when the connection does.
    ///
    /// # Errors
    /// If the other end is no switch that speaks OpenFlow 1.4.
    pub async fn establish<S>(stream: S) -> Result<(Connection, mpsc::Receiver<Event>), ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, mut write) = tokio::io::split(stream);
        let mut input = Input {
            read,
            buffer: Vec::new(),
            start: 0,
        };
        let datapath_id = timeout(HELLO_WITHIN, greet(&mut input, &mut write))
            .await
            .map_err(|_| ConnectionError::Timeout("the greeting"))??;
        let (out, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        let (events, received) = mpsc::channel(EVENTS);
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            next_xid: AtomicU32::new(16),
            dropped: AtomicU64::new(0),
            datapath_id,
        });
        let (done, mut finished) = mpsc::channel::<()>(1);
        tokio::spawn(async move {
            // Ends with the reader, which drops `done`; a writer that waited for its queue alone would live as long as a clone.
            loop {
                let bytes = tokio::select! {
                    b = queue.recv() => b,
                    _ = finished.recv() => None,
                };
                let Some(bytes) = bytes.filter(|b| !b.is_empty()) else {
                    break;
                };
                for piece in bytes.chunks(PIECE) {
                    if write.write_all(piece).await.is_err() {
                        return;
                    }
                }
            }
            let _ = write.shutdown().await;
        });
        // Not a sender of its own: when the last handle goes, the writer ends and with it the connection.
        let reader = (shared.clone(), out.downgrade());
        tokio::spawn(async move {
            let (shared, out) = reader;
            let error = read_all(&mut input, &shared, &out, &events).await;
            tracing::debug!(
                datapath = format_args!("{datapath_id:016x}"),
                "OpenFlow connection ended: {error}"
            );
            shared.close();
            drop(done);
        });
        let connection = Connection { shared, out };
        connection.send(&Message::SetPacketInFormat)?;
        connection.send(&Message::SetConfig {
            miss_send_len: u16::MAX,
        })?;
        connection.barrier().await?;
        Ok((connection, received))
    }

    /// Identity of the bridge.
    pub fn datapath_id(&self) -> u64 {
        self.shared.datapath_id
    }

    /// Packets for the controller that were dropped because it was too slow.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.waiting().closed
    }

    /// Whether both are handles of one connection.
    pub fn same(&self, other: &Connection) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Ends the connection.
    pub fn close(&self) {
        self.shared.close();
        // An empty piece tells the writer to end; the switch then closes its side.
        let _ = self.out.send(Vec::new());
    }

    /// Waits until everything sent before is done.
    ///
    /// # Errors
    /// If the connection ends first.
    pub async fn barrier(&self) -> Result<(), ConnectionError> {
        match self.ask("a barrier", &Message::BarrierRequest).await?.1 {
            Message::BarrierReply => Ok(()),
            _ => Err(ConnectionError::Unexpected("a barrier")),
        }
    }

    /// Sends a packet. Does not wait for the switch.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn packet_out(&self, packet: PacketOut) -> Result<(), ConnectionError> {
        self.send(&Message::PacketOut(packet))
    }

    /// Applies all changes at once, or none.
    ///
    /// A switch answers a bad change with an error when it is added, and a commit after that still applies the others.
    /// So the commit is sent only when a barrier inside the open bundle has shown that there was no error.
    ///
    /// # Errors
    /// Says which changes the switch refused, or why it could not be talked to.
    pub async fn bundle(&self, changes: &[Change]) -> Result<(), BundleError> {
        if changes.is_empty() {
            return Ok(());
        }
        let count = changes.len() as u32;
        let (first, mut ticket) = self.ticket(count + 3)?;
        let (id, barrier, end) = (first, first + count + 1, first + count + 2);
        let mut bytes = Vec::with_capacity(changes.len() * 200);
        let control = |out: &mut Vec<u8>, xid, kind| encode(out, xid, &Message::BundleControl { id, kind });
        control(&mut bytes, first, BundleKind::OpenRequest);
        let mut rejected: Vec<(usize, SwitchError)> = Vec::new();
        for (i, change) in changes.iter().enumerate() {
            if !encode_bundle_add(&mut bytes, first + 1 + i as u32, id, change) {
                // "bad request: bad length", as a switch would say.
                rejected.push((
                    i,
                    SwitchError {
                        kind: 1,
                        code: 6,
                        data: Vec::new(),
                    },
                ));
            }
        }
        encode(&mut bytes, barrier, &Message::BarrierRequest);
        self.put(bytes)?;
        let mut unopened = None;
        loop {
            match ticket.next("a bundle").await? {
                (xid, Message::Error(e)) if xid == first => unopened = Some(e),
                (xid, Message::Error(e)) if xid < barrier => rejected.push(((xid - first - 1) as usize, e)),
                (xid, Message::BarrierReply) if xid == barrier => break,
                (xid, Message::Error(e)) if xid == barrier => return Err(ConnectionError::Refused(e).into()),
                _ => {}
            }
        }
        if let Some(e) = unopened {
            return Err(ConnectionError::Refused(e).into());
        }
        let ok = rejected.is_empty();
        let mut bytes = Vec::new();
        control(
            &mut bytes,
            end,
            if ok {
                BundleKind::CommitRequest
            } else {
                BundleKind::DiscardRequest
            },
        );
        self.put(bytes)?;
        loop {
            match ticket.next("the end of a bundle").await? {
                (xid, Message::BundleControl { .. }) if xid == end => break,
                (xid, Message::Error(e)) if xid == end => {
                    return match rejected.is_empty() {
                        true => Err(ConnectionError::Refused(e).into()),
                        false => Err(BundleError::Rejected(rejected)),
                    };
                }
                // Some errors are found only at the commit: the first comes with the change's own id.
                (xid, Message::Error(e)) if xid > first && xid < barrier => {
                    rejected.push(((xid - first - 1) as usize, e))
                }
                _ => {}
            }
        }
        if rejected.is_empty() {
            Ok(())
        } else {
            Err(BundleError::Rejected(rejected))
        }
    }

    /// Every flow of the switch.
    ///
    /// # Errors
    /// If the switch cannot be talked to.
    pub async fn flows(&self) -> Result<Vec<FlowStats>, ConnectionError> {
        self.gather("a dump of flows", &Message::FlowsRequest { table: 0xff }, |m| match m {
            Message::Flows { flows, more } => Some((flows, more)),
            _ => None,
        })
        .await
    }

    /// Every group.
    ///
    /// # Errors
    /// If the switch cannot be talked to.
    pub async fn groups(&self) -> Result<Vec<Group>, ConnectionError> {
        self.gather("a dump of groups", &Message::GroupsRequest, |m| match m {
            Message::Groups { groups, more } => Some((groups, more)),
            _ => None,
        })
        .await
    }

    /// Every meter.
    ///
    /// # Errors
    /// If the switch cannot be talked to.
    pub async fn meters(&self) -> Result<Vec<Meter>, ConnectionError> {
        self.gather("a dump of meters", &Message::MetersRequest, |m| match m {
            Message::Meters { meters, more } => Some((meters, more)),
            _ => None,
        })
        .await
    }

    /// Every port.
    ///
    /// # Errors
    /// If the switch cannot be talked to.
    pub async fn ports(&self) -> Result<Vec<PortDesc>, ConnectionError> {
        self.gather("a dump of ports", &Message::PortsRequest, |m| match m {
            Message::Ports { ports, more } => Some((ports, more)),
            _ => None,
        })
        .await
    }

    /// Adds, changes or removes a meter. Meters cannot be in a bundle.
    ///
    /// # Errors
    /// If the switch refuses or cannot be talked to.
    pub async fn meter(&self, command: MeterCommand, meter: Meter) -> Result<(), ConnectionError> {
        let (first, mut ticket) = self.ticket(2)?;
        let mut bytes = Vec::new();
        encode(&mut bytes, first, &Message::MeterMod(command, meter));
        encode(&mut bytes, first + 1, &Message::BarrierRequest);
        self.put(bytes)?;
        let mut refused = None;
        loop {
            match ticket.next("a meter mod").await? {
                (_, Message::Error(e)) => refused = Some(e),
                (_, Message::BarrierReply) => break,
                _ => {}
            }
        }
        refused.map_or(Ok(()), |e| Err(ConnectionError::Refused(e)))
    }

    async fn gather<T>(
        &self,
        what: &'static str,
        request: &Message,
        part: impl Fn(Message) -> Option<(Vec<T>, bool)>,
    ) -> Result<Vec<T>, ConnectionError> {
        let (xid, mut ticket) = self.ticket(1)?;
        let mut bytes = Vec::new();
        encode(&mut bytes, xid, request);
        self.put(bytes)?;
        let mut all = Vec::new();
        loop {
            match ticket.next(what).await?.1 {
                Message::Error(e) => return Err(ConnectionError::Refused(e)),
                m => {
                    let (mut items, more) = part(m).ok_or(ConnectionError::Unexpected(what))?;
                    all.append(&mut items);
                    if !more {
                        return Ok(all);
                    }
                }
            }
        }
    }

    async fn ask(&self, what: &'static str, request: &Message) -> Result<(u32, Message), ConnectionError> {
        let (xid, mut ticket) = self.ticket(1)?;
        let mut bytes = Vec::new();
        encode(&mut bytes, xid, request);
        self.put(bytes)?;
        match ticket.next(what).await? {
            (_, Message::Error(e)) => Err(ConnectionError::Refused(e)),
            answer => Ok(answer),
        }
    }

    /// Takes `count` consecutive transaction ids, whose answers come through the ticket.
    fn ticket(&self, count: u32) -> Result<(u32, Ticket<'_>), ConnectionError> {
        let first = loop {
            let first = self.shared.next_xid.fetch_add(count, Ordering::Relaxed);
            // The numbers begin anew before they run over.
            if first < 0x7fff_ffff {
                break first;
            }
            self.shared.next_xid.store(16, Ordering::Relaxed);
        };
        let (tx, answers) = mpsc::unbounded_channel();
        let mut w = self.shared.waiting();
        if w.closed {
            return Err(ConnectionError::Closed);
        }
        w.by_first.insert(first, (first + count - 1, tx));
        drop(w);
        Ok((
            first,
            Ticket {
                shared: &self.shared,
                first,
                answers,
            },
        ))
    }

    fn send(&self, m: &Message) -> Result<(), ConnectionError> {
        let mut bytes = Vec::new();
        encode(&mut bytes, 1, m);
        if bytes.len() > MAX_MESSAGE {
            return Err(ConnectionError::TooLong(bytes.len()));
        }
        self.put(bytes)
    }

    fn put(&self, bytes: Vec<u8>) -> Result<(), ConnectionError> {
        if self.is_closed() {
            return Err(ConnectionError::Closed);
        }
        self.out.send(bytes).map_err(|_| ConnectionError::Closed)
    }
}

/// Cuts a stream into messages.
struct Input<R> {
    read: R,
    buffer: Vec<u8>,
    start: usize,
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// The next message that can be understood. One that cannot, but is whole, is skipped.
    async fn next(&mut self) -> Result<(u32, Message), ConnectionError> {
        loop {
            let bytes = &self.buffer[self.start..];
            if let Some(len) = frame_len(bytes)?.filter(|len| bytes.len() >= *len) {
                let message = decode(&bytes[..len]);
                let head = (bytes[1], u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
                self.start += len;
                match message {
                    Ok(m) => return Ok(m),
                    Err(e @ DecodeError::Version(_)) => return Err(e.into()),
                    Err(e) => {
                        tracing::warn!(kind = head.0, xid = head.1, "skipping an OpenFlow message: {e}");
                        return Ok((head.1, Message::Other { kind: head.0 }));
                    }
                }
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer.reserve(64 * 1024);
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return Err(ConnectionError::Closed);
            }
        }
    }
}

async fn greet<R, W>(input: &mut Input<R>, write: &mut W) -> Result<u64, ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    encode(&mut bytes, 1, &Message::Hello { versions: 1 << VERSION });
    write.write_all(&bytes).await?;
    match input.next().await?.1 {
        Message::Hello { versions } if versions >> VERSION & 1 == 1 => {}
        Message::Hello { versions } => return Err(ConnectionError::Version(versions)),
        Message::Error(e) => return Err(ConnectionError::Refused(e)),
        _ => return Err(ConnectionError::Unexpected("the greeting")),
    }
    bytes.clear();
    encode(&mut bytes, 2, &Message::FeaturesRequest);
    write.write_all(&bytes).await?;
    loop {
        match input.next().await?.1 {
            Message::Features { datapath_id, .. } => return Ok(datapath_id),
            Message::EchoRequest(data) => {
                bytes.clear();
                encode(&mut bytes, 0, &Message::EchoReply(data));
                write.write_all(&bytes).await?;
            }
            Message::Error(e) => return Err(ConnectionError::Refused(e)),
            _ => {}
        }
    }
}

async fn read_all<R: AsyncRead + Unpin>(
    input: &mut Input<R>,
    shared: &Shared,
    out: &mpsc::WeakUnboundedSender<Vec<u8>>,
    events: &mpsc::Sender<Event>,
) -> ConnectionError {
    let mut probed = false;
    loop {
        let (xid, message) = match timeout(if probed { ANSWER_WITHIN } else { PROBE_AFTER }, input.next()).await {
            Ok(Ok(m)) => m,
            Ok(Err(e)) => return e,
            Err(_) if probed => return ConnectionError::Timeout("an echo request"),
            Err(_) => {
                probed = true;
                let mut bytes = Vec::new();
                encode(&mut bytes, 3, &Message::EchoRequest(Vec::new()));
                if !put(out, bytes) {
                    return ConnectionError::Closed;
                }
                continue;
            }
        };
        probed = false;
        let event = match message {
            Message::EchoRequest(data) => {
                let mut bytes = Vec::new();
                encode(&mut bytes, xid, &Message::EchoReply(data));
                if !put(out, bytes) {
                    return ConnectionError::Closed;
                }
                continue;
            }
            Message::EchoReply(_) => continue,
            Message::PacketIn(p) => Event::PacketIn(p),
            Message::PortStatus { reason, port } => Event::PortStatus { reason, port },
            message => {
                if shared.waiting().closed {
                    return ConnectionError::Closed;
                }
                deliver(shared, xid, message);
                continue;
            }
        };
        match events.try_send(event) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
            // Nobody handles events; answers are still awaited.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }
}

fn put(out: &mpsc::WeakUnboundedSender<Vec<u8>>, bytes: Vec<u8>) -> bool {
    out.upgrade().is_some_and(|o| o.send(bytes).is_ok())
}

fn deliver(shared: &Shared, xid: u32, message: Message) {
    let w = shared.waiting();
    match w.by_first.range(..=xid).next_back() {
        Some((_, (last, answers))) if xid <= *last => {
            let _ = answers.send((xid, message));
        }
        _ => {
            if let Message::Error(e) = message {
                tracing::warn!(xid, "the switch refused a message that nobody waits for: {e}");
            }
        }
    }
}
