//! What can go wrong.

use std::io;

/// Why talking to a database failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens there, or it may not be opened.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// The stream broke.
    #[error("the connection to the database broke: {0}")]
    Io(#[from] io::Error),
    /// There is no connection at the moment; it is being tried again.
    #[error("not connected to the database")]
    Disconnected,
    /// No answer.
    #[error("the database did not answer {0} in time")]
    Timeout(String),
    /// The other end does not speak JSON-RPC.
    #[error("what the database sent could not be understood: {0}")]
    Protocol(String),
    /// The method failed.
    #[error("{method} failed: {message}")]
    Method {
        /// Which.
        method: String,
        /// What the other end says.
        message: String,
    },
    /// An operation of a transaction failed, and so none was done.
    #[error("the database refused a transaction: {error}{}{details}", if .details.is_empty() { "" } else { ": " })]
    Refused {
        /// RFC 7047's word for it, such as "constraint violation".
        error: String,
        /// More about it.
        details: String,
    },
    /// The switch could not do what the database says.
    #[error("Open vSwitch cannot use {name}: {message}")]
    Switch {
        /// Bridge or port.
        name: String,
        /// What the switch says.
        message: String,
    },
}
