//! The node's side: a link that is there again whenever it can be.

mod http;
mod reporter;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::link::{Connection, LinkError, Transport};
use crate::message::{Change, ToController, ToNode};
use crate::objects::Versioned;
use crate::queries::{Answer, Query, QueryError};
use crate::reports::NodeHello;
use crate::{KEEP_ALIVE, SILENCE_LIMIT};

pub use http::{Connector, HttpTransport, unix_transport};
pub use reporter::Reporter;

/// What comes over the link, for the node's other parts.
#[derive(Debug, PartialEq)]
pub enum LinkEvent {
    /// A link stands; a snapshot will follow.
    Connected,
    /// The link is gone. The node goes on by what it knows.
    Disconnected,
    /// Everything that should be; what is not in it should not be.
    Snapshot(Vec<Versioned>),
    /// What has changed, to be taken over at once.
    Changes(Vec<Change>),
}

/// Answers a controller's questions.
pub trait QueryHandler: Send + Sync + 'static {
    /// Answers one; several run at a time.
    fn query(&self, query: Query) -> futures_util::future::BoxFuture<'_, Result<Answer, QueryError>>;
}

/// Keeps a link to the controller for ever.
pub struct ControllerLink {
    transport: Arc<dyn Transport>,
    hello: watch::Receiver<NodeHello>,
    events: mpsc::Sender<LinkEvent>,
    reporter: Reporter,
    queries: Arc<dyn QueryHandler>,
}

/// The first pause after a link was lost; it doubles up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// A controller that comes back is found within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl ControllerLink {
    /// A link over `transport`. `hello` is what the node says of itself at each connection, `events` takes what comes.
    pub fn new(
        transport: Arc<dyn Transport>,
        hello: watch::Receiver<NodeHello>,
        events: mpsc::Sender<LinkEvent>,
        reporter: Reporter,
        queries: Arc<dyn QueryHandler>,
    ) -> Self {
        Self {
            transport,
            hello,
            events,
            reporter,
            queries,
        }
    }

    /// Connects, serves, and connects again, until nobody takes the events any more.
    pub async fn run(self) {
        let mut pause = SHORTEST_PAUSE;
        let mut said = String::new();
        loop {
            let hello = self.hello.borrow().clone();
            let error = match self.transport.connect(hello).await {
                Ok(connection) => {
                    tracing::info!(controller = self.transport.describe(), "connected to the controller");
                    pause = SHORTEST_PAUSE;
                    said.clear();
                    if self.events.send(LinkEvent::Connected).await.is_err() {
                        return;
                    }
                    let error = self.serve(connection).await;
                    self.reporter.disconnected();
                    if self.events.send(LinkEvent::Disconnected).await.is_err() {
                        return;
                    }
                    error
                }
                Err(error) => error,
            };
            // The same error once: a controller may be away for days.
            let text = error.to_string();
            if text != said {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    controller = self.transport.describe(),
                    "no link to the controller; trying again for ever"
                );
                said = text;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.events.closed() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Serves a link until it ends, and says why it did.
    async fn serve(&self, connection: Connection) -> LinkError {
        let Connection { incoming, outgoing } = connection;
        let ended = tokio::select! {
            ended = self.listen(incoming, &outgoing) => ended,
            ended = self.speak(&outgoing) => ended,
            () = self.events.closed() => Err(LinkError::Closed),
        };
        ended.err().unwrap_or(LinkError::Closed)
    }

    async fn listen(
        &self,
        mut incoming: mpsc::Receiver<ToNode>,
        outgoing: &mpsc::Sender<ToController>,
    ) -> Result<(), LinkError> {
        let mut snapshot: Option<Vec<Versioned>> = None;
        let mut complete = false;
        loop {
            let message = match tokio::time::timeout(SILENCE_LIMIT, incoming.recv()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(LinkError::Closed),
                Err(_) => {
                    return Err(LinkError::Silent {
                        seconds: SILENCE_LIMIT.as_secs(),
                    });
                }
            };
            match message {
                ToNode::Snapshot {
                    first,
                    objects,
                    complete: last,
                } => {
                    if first {
                        snapshot = Some(Vec::new());
                    }
                    let collected = snapshot.as_mut().ok_or(LinkError::OutOfTurn)?;
                    collected.extend(objects);
                    if last {
                        let objects = snapshot.take().unwrap_or_default();
                        complete = true;
                        self.pass(LinkEvent::Snapshot(objects)).await?;
                    }
                }
                ToNode::Changes { changes } if complete => self.pass(LinkEvent::Changes(changes)).await?,
                ToNode::Query { id, query } => {
                    let (queries, outgoing) = (self.queries.clone(), outgoing.clone());
                    tokio::spawn(async move {
                        let result = queries.query(query).await;
                        // With the link gone the question is gone too.
                        let _ = outgoing.send(ToController::Answer { id, result }).await;
                    });
                }
                ToNode::KeepAlive => {}
                ToNode::Refused { reason } => return Err(LinkError::Refused { reason }),
                ToNode::Welcome { .. } | ToNode::Changes { .. } => return Err(LinkError::OutOfTurn),
            }
        }
    }

    async fn pass(&self, event: LinkEvent) -> Result<(), LinkError> {
        self.events.send(event).await.map_err(|_| LinkError::Closed)
    }

    async fn speak(&self, outgoing: &mpsc::Sender<ToController>) -> Result<(), LinkError> {
        let mut clock = tokio::time::interval(KEEP_ALIVE);
        loop {
            let message = tokio::select! {
                report = self.reporter.next() => ToController::Report(report),
                _ = clock.tick() => ToController::KeepAlive,
            };
            outgoing.send(message).await.map_err(|_| LinkError::Closed)?;
        }
    }
}
