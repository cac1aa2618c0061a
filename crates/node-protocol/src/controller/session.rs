//! One node's link, from welcome to end.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval_at};

use super::{NodeServer, PendingQuery, Since};
use crate::link::LinkError;
use crate::message::{Change, Cursor, ToController, ToNode};
use crate::queries::{Answer, QueryError};
use crate::reports::Sequenced;
use crate::{KEEP_ALIVE, SILENCE_LIMIT};

/// Objects or changes in one message; keeps a message far below the bound.
const PART: usize = 256;
/// Reports given to the sink at once.
const REPORTS: usize = 512;

pub(super) struct Session<'a> {
    pub server: &'a NodeServer,
    pub node: &'a str,
    pub outgoing: mpsc::Sender<ToNode>,
    pub incoming: mpsc::Receiver<ToController>,
    pub woken: watch::Receiver<u64>,
    pub asked: mpsc::Receiver<PendingQuery>,
    pub closed: watch::Receiver<bool>,
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, QueryError>>>;

impl Session<'_> {
    pub async fn run(self) -> Result<(), LinkError> {
        let Session {
            server,
            node,
            outgoing,
            incoming,
            woken,
            asked,
            mut closed,
        } = self;
        let mut closing = server.inner.closing.subscribe();
        let waiting = parking_lot::Mutex::new(Waiting::new());
        // Telling and hearing are independent, so that neither a slow database nor a slow node stops the other direction.
        tokio::select! {
            ended = tell(server, node, &outgoing, woken) => ended,
            ended = ask(&outgoing, asked, &waiting) => ended,
            ended = hear(server, node, incoming, &waiting) => ended,
            () = super::closed(&mut closed) => Ok(()),
            () = super::closed(&mut closing) => Ok(()),
            _ = outgoing.closed() => Err(LinkError::Closed),
        }
    }
}

async fn say(outgoing: &mpsc::Sender<ToNode>, message: ToNode) -> Result<(), LinkError> {
    outgoing.send(message).await.map_err(|_| LinkError::Closed)
}

/// Tells the node what should be: everything, then what changes.
async fn tell(
    server: &NodeServer,
    node: &str,
    outgoing: &mpsc::Sender<ToNode>,
    mut woken: watch::Receiver<u64>,
) -> Result<(), LinkError> {
    let desired = &server.inner.desired;
    let mut cursor: Option<Cursor> = None;
    let mut idle = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    loop {
        // Before reading: what is committed after this point wakes us again.
        woken.borrow_and_update();
        cursor = match cursor {
            None => {
                let snapshot = desired
                    .snapshot(node)
                    .await
                    .map_err(|source| LinkError::State { source })?;
                let mut rest = snapshot.objects.into_iter().peekable();
                let mut first = true;
                loop {
                    let objects = rest.by_ref().take(PART).collect();
                    let complete = rest.peek().is_none();
                    say(
                        outgoing,
                        ToNode::Snapshot {
                            first,
                            objects,
                            complete,
                        },
                    )
                    .await?;
                    first = false;
                    if complete {
                        break;
                    }
                }
                Some(snapshot.cursor)
            }
            Some(since) => match desired
                .changes_since(node, since)
                .await
                .map_err(|source| LinkError::State { source })?
            {
                Since::TooOld => {
                    cursor = None;
                    continue;
                }
                Since::Changes(changes, next) => {
                    for changes in parts(changes) {
                        say(outgoing, ToNode::Changes { changes }).await?;
                    }
                    Some(next)
                }
            },
        };
        tokio::select! {
            changed = woken.changed() => changed.map_err(|_| LinkError::Closed)?,
            // The clock also asks the database, in case a wake-up was lost (another controller committed, say).
            _ = idle.tick() => say(outgoing, ToNode::KeepAlive).await?,
        }
    }
}

/// Changes in messages of bounded size.
fn parts(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut all = Vec::new();
    let mut rest = changes.into_iter().peekable();
    while rest.peek().is_some() {
        all.push(rest.by_ref().take(PART).collect());
    }
    all
}

async fn ask(
    outgoing: &mpsc::Sender<ToNode>,
    mut asked: mpsc::Receiver<PendingQuery>,
    waiting: &parking_lot::Mutex<Waiting>,
) -> Result<(), LinkError> {
    let mut id = 0;
    while let Some(PendingQuery { query, answer }) = asked.recv().await {
        id += 1;
        {
            let mut waiting = waiting.lock();
            // Whoever asked may have given up.
            waiting.retain(|_, answer| !answer.is_closed());
            waiting.insert(id, answer);
        }
        say(outgoing, ToNode::Query { id, query }).await?;
    }
    Err(LinkError::Closed)
}

/// Hears what the node observes.
async fn hear(
    server: &NodeServer,
    node: &str,
    mut incoming: mpsc::Receiver<ToController>,
    waiting: &parking_lot::Mutex<Waiting>,
) -> Result<(), LinkError> {
    let mut reports: Vec<Sequenced> = Vec::new();
    loop {
        let first = match tokio::time::timeout(SILENCE_LIMIT, incoming.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Err(LinkError::Closed),
            Err(_) => {
                return Err(LinkError::Silent {
                    seconds: SILENCE_LIMIT.as_secs(),
                });
            }
        };
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                ToController::Report(report) => reports.push(report),
                ToController::Answer { id, result } => {
                    if let Some(answer) = waiting.lock().remove(&id) {
                        // Whoever asked may have given up; then nobody misses it.
                        let _ = answer.send(result);
                    }
                }
                ToController::KeepAlive => {}
                ToController::Hello(_) => return Err(LinkError::OutOfTurn),
            }
            next = if reports.len() < REPORTS {
                incoming.try_recv().ok()
            } else {
                None
            };
        }
        if !reports.is_empty() {
            let reports = std::mem::take(&mut reports);
            server
                .inner
                .sink
                .report(node, reports)
                .await
                .map_err(|source| LinkError::State { source })?;
        }
    }
}
