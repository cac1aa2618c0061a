//! What controller and node say to each other.
//!
//! **Level-triggered.** The controller never gives commands. It says what should be: after every (re)connection a full
//! snapshot of the objects that concern the node, closed by an end marker, then changes in the order in which they were
//! committed. The node makes reality match and says what it observes; after every (re)connection it says all of it again. A message that is lost
//! with its connection is therefore repaired by the next one, and either side can be killed at any point.
//!
//! **What can be asked.** Next to the two streams the controller may put a [`queries::Query`] to a node (the tail of a console log,
//! diagnostics, a tunnel to a console); it has a time limit and changes nothing.
//!
//! **How it travels.** The node is always the client and has no port of its own. Every connection is HTTP/1.1, on a Unix
//! socket whose peer is known by its credentials, or on any other stream that says who its peer is (mutual TLS):
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/link`, `Upgrade: ferrostack-link` | 101, then one JSON document per line in both directions ([`message`]) |
//! | `GET /v1/images/{id}/data` | the bytes of an image |
//! | `POST /v1/tunnels/{ticket}`, `Upgrade: ferrostack-tunnel` | 101, then the bytes of a console |
//!
//! In a simulated cloud both roles share a process, and [`controller::NodeServer`] itself is the [`link::Transport`]: the same
//! messages, handed over without being encoded.

pub mod controller;
pub mod link;
pub mod message;
pub mod node;
pub mod objects;
pub mod queries;
pub mod reports;
mod wire;

pub use link::{LinkError, Transport};
pub use message::{Change, Cursor, ToController, ToNode};
pub use objects::{Object, ObjectKey, ObjectKind, Versioned};
pub use reports::{NodeHello, Report};

/// The version of the protocol; both sides say theirs and the lower one is spoken.
pub const PROTOCOL_VERSION: u32 = 1;
/// The oldest version this program still speaks.
pub const OLDEST_PROTOCOL_VERSION: u32 = 1;
/// A longer message ends the connection. User data (64 KiB) and console logs (1 MiB) fit many times.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// How often each side says something even when there is nothing to say.
pub const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(10);
/// After so long without a word the other side is taken for dead.
pub const SILENCE_LIMIT: std::time::Duration = std::time::Duration::from_secs(35);
