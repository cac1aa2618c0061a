//! Answers what the controller asks of guests.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hypervisor::{Hypervisor, HypervisorError};
use node_protocol::link::Transport;
use node_protocol::node::QueryHandler;
use node_protocol::queries::{Answer, Query, QueryError};

use crate::machine;
use crate::network::describe;

/// The longest console log that is sent; upstream shows the last 100 KiB.
const MAX_LOG: usize = 1 << 20;

/// Answers from the hypervisor.
pub struct Queries {
    pub hypervisor: Arc<dyn Hypervisor>,
    pub transport: Arc<dyn Transport>,
}

fn failed(error: HypervisorError) -> QueryError {
    match error {
        HypervisorError::NotFound { .. } => QueryError::NotFound,
        HypervisorError::NotRunning { .. } => QueryError::NotRunning,
        error => QueryError::Failed {
            message: describe(&error),
        },
    }
}

impl QueryHandler for Queries {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, QueryError>> {
        Box::pin(async move {
            match query {
                Query::ConsoleLog { server_id, lines } => {
                    let mut output = self.hypervisor.console_log(server_id, lines).await.map_err(failed)?;
                    if output.len() > MAX_LOG {
                        let from = output.ceil_char_boundary(output.len() - MAX_LOG);
                        output.drain(..from);
                    }
                    Ok(Answer::ConsoleLog { output })
                }
                Query::Diagnostics { server_id } => Ok(Answer::Diagnostics(
                    self.hypervisor.diagnostics(server_id).await.map_err(failed)?,
                )),
                Query::Vnc { server_id } => {
                    let guest = self
                        .hypervisor
                        .inspect(server_id)
                        .await
                        .map_err(failed)?
                        .ok_or(QueryError::NotFound)?;
                    let (host, port) = guest
                        .vnc
                        .filter(|_| guest.started_at.is_some())
                        .ok_or(QueryError::NotRunning)?;
                    Ok(Answer::Vnc { host, port })
                }
                Query::OpenTunnel {
                    server_id,
                    console,
                    ticket,
                } => {
                    let mut guest = self.hypervisor.console(server_id, console).await.map_err(failed)?;
                    let tunnel = self.transport.tunnel(ticket).await;
                    let mut tunnel = tunnel.map_err(|error| QueryError::Failed {
                        message: describe(&error),
                    })?;
                    tokio::spawn(async move {
                        // Either end going is the console's normal end.
                        let _ = tokio::io::copy_bidirectional(&mut guest, &mut tunnel).await;
                    });
                    Ok(Answer::Done)
                }
                Query::Uptime => Ok(Answer::Uptime {
                    uptime: machine::uptime(),
                }),
            }
        })
    }
}
