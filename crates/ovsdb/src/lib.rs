//! OVSDB (RFC 7047): a client that keeps a replica of what it watches, and what is needed of Open vSwitch's own database.
//!
//! [`Vswitch`] is what a driver of the switch uses; [`Database`] knows nothing of the schema; [`unixctl`] is the same
//! JSON-RPC by which `ovs-appctl` talks to a daemon.

mod database;
mod error;
mod jsonrpc;
mod replica;
mod transaction;
pub mod unixctl;
mod value;
mod vswitch;

pub use database::{Database, Endpoint};
pub use error::Error;
pub use jsonrpc::{Rpc, Splitter};
pub use replica::{Replica, Table, parse_updates};
pub use transaction::{Answer, Condition, Transaction};
pub use value::{Atom, Datum, Row, parse_row};
pub use vswitch::{BridgeSpec, Port, PortSpec, Vswitch};
