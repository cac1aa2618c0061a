//! The controller's side: accepts nodes, tells each what should be, takes what they observe.

mod http;
mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::link::{CHANNEL_DEPTH, Connection, Duplex, ImageData, LinkError, Transport};
use crate::message::{Change, Cursor, ToController, ToNode};
use crate::objects::Versioned;
use crate::queries::{Answer, ConsoleKind, Query, QueryError};
use crate::reports::{NodeHello, Sequenced};

pub use http::Peer;

/// An error of the controller's own parts; it is logged, and the link to the node begins anew.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Everything that concerns a node, as of `cursor`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The objects, in any order.
    pub objects: Vec<Versioned>,
    /// Where the changes that follow begin.
    pub cursor: Cursor,
}

/// What has changed since a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Since {
    /// These, in the order of their commits, and from where to ask next.
    Changes(Vec<Change>, Cursor),
    /// The feed no longer reaches back so far: a snapshot is needed.
    TooOld,
}

/// What should be, read from the database.
pub trait DesiredState: Send + Sync + 'static {
    /// All objects that concern the node.
    fn snapshot(&self, node: &str) -> BoxFuture<'_, Result<Snapshot, BoxError>>;
    /// What has changed for the node after `cursor`. Called whenever the node was woken; may find nothing. A change
    /// may be told twice: objects carry their revision.
    fn changes_since(&self, node: &str, cursor: Cursor) -> BoxFuture<'_, Result<Since, BoxError>>;
}

/// Takes what nodes observe and writes it down.
pub trait ReportSink: Send + Sync + 'static {
    /// A node says hello. An error refuses it; the text is told to the node. It is awaited before the snapshot is read.
    fn connected(&self, hello: NodeHello) -> BoxFuture<'_, Result<(), String>>;
    /// Reports of one node in their order; as many as have come while the last call ran, so they may share a transaction.
    /// After an error the link is closed; the node reconnects and says everything again.
    fn report(&self, node: &str, reports: Vec<Sequenced>) -> BoxFuture<'_, Result<(), BoxError>>;
    /// The node's link has ended and no newer one has taken its place.
    fn disconnected(&self, node: &str) -> BoxFuture<'_, ()>;
}

/// Gives nodes the bytes of images.
pub trait ImageSource: Send + Sync + 'static {
    /// Opens an image's data. `Ok(None)`: there is no such image, or it has no data.
    fn open(&self, node: &str, id: Uuid) -> BoxFuture<'_, Result<Option<ImageData>, BoxError>>;
}

/// Several sources of desired state as one, when they read the same change feed (so that cursors compare).
pub struct Combined(pub Vec<Arc<dyn DesiredState>>);

impl DesiredState for Combined {
    fn snapshot(&self, node: &str) -> BoxFuture<'_, Result<Snapshot, BoxError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let mut whole = Snapshot {
                objects: Vec::new(),
                cursor: Cursor(u64::MAX),
            };
            for part in &self.0 {
                let part = part.snapshot(&node).await?;
                whole.objects.extend(part.objects);
                // The oldest one: what lies between is told twice, which does no harm.
                whole.cursor = whole.cursor.min(part.cursor);
            }
            Ok(whole)
        })
    }

    fn changes_since(&self, node: &str, cursor: Cursor) -> BoxFuture<'_, Result<Since, BoxError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let (mut all, mut oldest) = (Vec::new(), Cursor(u64::MAX));
            for part in &self.0 {
                match part.changes_since(&node, cursor).await? {
                    Since::TooOld => return Ok(Since::TooOld),
                    Since::Changes(changes, cursor) => {
                        all.extend(changes);
                        oldest = oldest.min(cursor);
                    }
                }
            }
            Ok(Since::Changes(all, oldest))
        })
    }
}

/// Waits until a link, or the server, is to be closed.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // The sender's end closes as well.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// The nodes that are connected, and the door for new ones. Cheap to clone.
#[derive(Clone)]
pub struct NodeServer {
    inner: Arc<Inner>,
}

struct Inner {
    desired: Arc<dyn DesiredState>,
    sink: Arc<dyn ReportSink>,
    images: Arc<dyn ImageSource>,
    nodes: Mutex<HashMap<String, NodeEntry>>,
    tunnels: Mutex<HashMap<Uuid, oneshot::Sender<Box<dyn Duplex>>>>,
    next_id: AtomicU64,
    closing: watch::Sender<bool>,
}

struct NodeEntry {
    /// Tells this link from an older one of the same node.
    link: u64,
    /// Counts wake-ups; the session sees the newest count, however many it has missed.
    wake: watch::Sender<u64>,
    queries: mpsc::Sender<PendingQuery>,
    close: watch::Sender<bool>,
}

struct PendingQuery {
    query: Query,
    answer: oneshot::Sender<Result<Answer, QueryError>>,
}

impl NodeServer {
    /// A server without nodes.
    pub fn new(desired: Arc<dyn DesiredState>, sink: Arc<dyn ReportSink>, images: Arc<dyn ImageSource>) -> Self {
        Self {
            inner: Arc::new(Inner {
                desired,
                sink,
                images,
                nodes: Mutex::default(),
                tunnels: Mutex::default(),
                next_id: AtomicU64::new(1),
                closing: watch::channel(false).0,
            }),
        }
    }

    /// Something that concerns `node` was committed. Costs next to nothing when the node is not connected or already woken.
    pub fn wake(&self, node: &str) {
        if let Some(entry) = self.inner.nodes.lock().get(node) {
            entry.wake.send_modify(|n| *n += 1);
        }
    }

    /// Something that concerns any node was committed.
    pub fn wake_all(&self) {
        for entry in self.inner.nodes.lock().values() {
            entry.wake.send_modify(|n| *n += 1);
        }
    }

    /// Names of the nodes that are connected.
    pub fn connected(&self) -> Vec<String> {
        self.inner.nodes.lock().keys().cloned().collect()
    }

    /// Whether the node is connected.
    pub fn is_connected(&self, node: &str) -> bool {
        self.inner.nodes.lock().contains_key(node)
    }

    /// Ends all links.
    pub fn close(&self) {
        self.inner.closing.send_replace(true);
    }

    /// Puts a question to a node.
    pub async fn query(&self, node: &str, query: Query, limit: Duration) -> Result<Answer, QueryError> {
        let queries = self.inner.nodes.lock().get(node).map(|entry| entry.queries.clone());
        let not_connected = || QueryError::NotConnected { node: node.to_owned() };
        let (answer, answered) = oneshot::channel();
        let asked = async {
            queries
                .ok_or_else(not_connected)?
                .send(PendingQuery { query, answer })
                .await
                .map_err(|_| not_connected())?;
            answered.await.map_err(|_| not_connected())?
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(result) => result,
            Err(_) => Err(QueryError::Timeout {
                node: node.to_owned(),
                seconds: limit.as_secs(),
            }),
        }
    }

    /// Opens a guest's console on its node and returns the stream of its bytes. The caller has checked who asks.
    pub async fn open_console(
        &self,
        node: &str,
        server_id: Uuid,
        console: ConsoleKind,
        limit: Duration,
    ) -> Result<Box<dyn Duplex>, QueryError> {
        let ticket = Uuid::new_v4();
        let (open, opened) = oneshot::channel();
        self.inner.tunnels.lock().insert(ticket, open);
        let result = async {
            self.query(
                node,
                Query::OpenTunnel {
                    server_id,
                    console,
                    ticket,
                },
                limit,
            )
            .await?;
            match tokio::time::timeout(limit, opened).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(_)) => Err(QueryError::NotConnected { node: node.to_owned() }),
                Err(_) => Err(QueryError::Timeout {
                    node: node.to_owned(),
                    seconds: limit.as_secs(),
                }),
            }
        }
        .await;
        self.inner.tunnels.lock().remove(&ticket);
        result
    }

    /// Gives a tunnel to whoever waits for it; `false` when nobody does.
    fn deliver_tunnel(&self, ticket: Uuid, stream: Box<dyn Duplex>) -> bool {
        let waiting = self.inner.tunnels.lock().remove(&ticket);
        waiting.is_some_and(|waiting| waiting.send(stream).is_ok())
    }

    fn expects_tunnel(&self, ticket: Uuid) -> bool {
        self.inner.tunnels.lock().contains_key(&ticket)
    }

    /// Runs the link of one node, whose messages go through the channels, until it ends.
    async fn run(&self, hello: NodeHello, outgoing: mpsc::Sender<ToNode>, incoming: mpsc::Receiver<ToController>) {
        let link = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let node = hello.hostname.clone();
        let (wake, woken) = watch::channel(0);
        let (queries, asked) = mpsc::channel(CHANNEL_DEPTH);
        let (close, closed) = watch::channel(false);
        if let Some(older) = self.inner.nodes.lock().insert(
            node.clone(),
            NodeEntry {
                link,
                wake,
                queries,
                close,
            },
        ) {
            tracing::info!(node, "a newer link takes the place of the older one");
            older.close.send_replace(true);
        }
        let ended = session::Session {
            server: self,
            node: &node,
            outgoing,
            incoming,
            woken,
            asked,
            closed,
        }
        .run()
        .await;
        match ended {
            Ok(()) | Err(LinkError::Closed) => tracing::info!(node, "node disconnected"),
            Err(error) => tracing::warn!(node, error = &error as &dyn std::error::Error, "node disconnected"),
        }
        let last = {
            let mut nodes = self.inner.nodes.lock();
            let ours = nodes.get(&node).is_some_and(|entry| entry.link == link);
            if ours {
                nodes.remove(&node);
            }
            ours
        };
        if last {
            self.inner.sink.disconnected(&node).await;
        }
    }

    /// Checks a hello; the text of the error is for the node.
    async fn accept(&self, hello: &NodeHello) -> Result<u32, String> {
        if hello.protocol_version < crate::OLDEST_PROTOCOL_VERSION {
            return Err(format!(
                "it speaks protocol version {}, the oldest this controller knows is {}",
                hello.protocol_version,
                crate::OLDEST_PROTOCOL_VERSION
            ));
        }
        if hello.hostname.is_empty() || hello.hostname.len() > 255 || hello.hostname.chars().any(char::is_control) {
            return Err("its host name is empty, too long or not printable".into());
        }
        self.inner.sink.connected(hello.clone()).await?;
        Ok(hello.protocol_version.min(crate::PROTOCOL_VERSION))
    }
}

impl Transport for NodeServer {
    fn connect(&self, hello: NodeHello) -> BoxFuture<'_, Result<Connection, LinkError>> {
        Box::pin(async move {
            self.accept(&hello)
                .await
                .map_err(|reason| LinkError::Refused { reason })?;
            let (to_node, incoming) = mpsc::channel(CHANNEL_DEPTH);
            let (outgoing, to_us) = mpsc::channel(CHANNEL_DEPTH);
            let server = self.clone();
            tokio::spawn(async move { server.run(hello, to_node, to_us).await });
            Ok(Connection { incoming, outgoing })
        })
    }

    fn image(&self, node: &str, id: Uuid) -> BoxFuture<'_, Result<ImageData, LinkError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let opened = self
                .inner
                .images
                .open(&node, id)
                .await
                .map_err(|source| LinkError::State { source })?;
            opened.ok_or(LinkError::NoImage { id })
        })
    }

    fn tunnel(&self, ticket: Uuid) -> BoxFuture<'_, Result<Box<dyn Duplex>, LinkError>> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            if !self.deliver_tunnel(ticket, Box::new(ours)) {
                return Err(LinkError::Status {
                    status: 404,
                    text: "nobody waits for this tunnel".into(),
                });
            }
            Ok(Box::new(theirs) as Box<dyn Duplex>)
        })
    }

    fn describe(&self) -> String {
        "the controller in this process".into()
    }
}
