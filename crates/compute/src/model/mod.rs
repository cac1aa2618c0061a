//! Domain types and rules of the Compute service; no I/O.

pub mod encoding;
pub mod flavor;
pub mod keypair;
pub mod quota;
pub mod server;
pub mod state;
