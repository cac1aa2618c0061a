//! What can go wrong with the switch.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why something about the switch failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Open vSwitch is not installed.
    #[error("{0} is not installed; install Open vSwitch (package openvswitch-switch)")]
    NotInstalled(&'static str),
    /// One of its programs failed.
    #[error("{program} failed: {message}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// A file or folder could not be used.
    #[error("{what} {path}: {source}")]
    File {
        /// What was being tried.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A network interface could not be made or changed.
    #[error("{what} interface {name}: {source}")]
    Interface {
        /// What was being tried.
        what: &'static str,
        /// With which.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Neither the kernel's datapath nor the one in user space can be used.
    #[error("Open vSwitch cannot make bridge {0}: its log says why")]
    NoDatapath(String),
    /// The controller's address is taken.
    #[error("cannot listen for the switch on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A bridge that is not one of the configured ones.
    #[error("there is no bridge {0}")]
    UnknownBridge(String),
    /// The bridge is not connected at the moment; it will be brought up to date when it is.
    #[error("bridge {0} is not connected")]
    NotConnected(String),
    /// The database of the switch.
    #[error(transparent)]
    Database(#[from] ovsdb::Error),
    /// The OpenFlow connection.
    #[error("bridge {bridge}: {source}")]
    OpenFlow {
        /// Which bridge.
        bridge: String,
        /// Why.
        source: openflow::ConnectionError,
    },
}
