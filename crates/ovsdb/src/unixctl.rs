//! The control socket of a daemon of Open vSwitch: what `ovs-appctl` says, without a process.

use crate::Error;
use crate::jsonrpc::Rpc;
use serde_json::{Value, json};
use std::path::Path;
use tokio::net::UnixStream;

/// Calls a command with its arguments and returns what `ovs-appctl` would print.
///
/// # Errors
/// If the daemon is not there, or says that the command failed.
pub async fn call(socket: &Path, command: &str, args: &[&str]) -> Result<String, Error> {
    let failed = |source| Error::Connect {
        endpoint: socket.display().to_string(),
        source,
    };
    let stream = UnixStream::connect(socket).await.map_err(failed)?;
    match Rpc::new(stream, |_, _| ()).call(command, json!(args)).await? {
        Value::String(s) => Ok(s),
        other => Err(Error::Protocol(format!("{other} is no text"))),
    }
}
