//! How the two sides reach each other: over HTTP, or inside one process.

use std::io;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::message::{ToController, ToNode};
use crate::reports::NodeHello;

/// What goes wrong between controller and node.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LinkError {
    #[error("cannot reach the controller at {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("the connection broke")]
    Io {
        #[from]
        source: io::Error,
    },
    #[error("the HTTP exchange failed")]
    Http {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the controller answered {status}: {text}")]
    Status { status: u16, text: String },
    #[error("a message could not be encoded")]
    Encode {
        #[source]
        source: serde_json::Error,
    },
    #[error("a message could not be read")]
    Decode {
        #[source]
        source: serde_json::Error,
    },
    #[error("a message is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("the controller does not accept this node: {reason}")]
    Refused { reason: String },
    #[error("the other side said something out of turn")]
    OutOfTurn,
    #[error("the other side was silent for {seconds} s")]
    Silent { seconds: u64 },
    #[error("the connection was closed")]
    Closed,
    #[error("the controller could not read or write its state")]
    State {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("image {id} does not exist")]
    NoImage { id: Uuid },
}

/// A link that stands: the hello was said and the welcome heard.
#[derive(Debug)]
pub struct Connection {
    /// What the controller says. Its end is the link's end.
    pub incoming: mpsc::Receiver<ToNode>,
    /// What the node says. Fails when the link has ended.
    pub outgoing: mpsc::Sender<ToController>,
}

/// Messages under way in one direction before the sender waits.
pub(crate) const CHANNEL_DEPTH: usize = 256;

/// The bytes of an image.
pub struct ImageData {
    /// How many will come, if known.
    pub size: Option<u64>,
    /// The bytes.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
}

impl std::fmt::Debug for ImageData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageData")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A node's way to its controller. [`crate::node::HttpTransport`] goes over a socket,
/// [`crate::controller::NodeServer`] stays within the process.
pub trait Transport: Send + Sync + 'static {
    /// Opens a link.
    fn connect(&self, hello: NodeHello) -> BoxFuture<'_, Result<Connection, LinkError>>;
    /// Reads an image's data.
    fn image(&self, node: &str, id: Uuid) -> BoxFuture<'_, Result<ImageData, LinkError>>;
    /// Opens the tunnel the controller is waiting for.
    fn tunnel(&self, ticket: Uuid) -> BoxFuture<'_, Result<Box<dyn Duplex>, LinkError>>;
    /// Where it leads, for messages.
    fn describe(&self) -> String;
}
