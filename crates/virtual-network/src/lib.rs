//! The network compiler: what a node must know of the virtual networks ([`topology`]) becomes OpenFlow flows, and the
//! packets that flows cannot answer are answered.

mod compiler;
mod emit;
mod flows;
mod numbers;
pub mod pipeline;
mod responder;
mod state;
pub mod topology;

pub use compiler::{Compiler, compile};
pub use flows::{Bridge, BridgeDiff, Connections, FlowDiff, Flows};
pub use numbers::Numbers;
pub use responder::{Neighbor, Responder, Response};
pub use state::{Neighbors, Patch, PortNumbers};
pub use topology::Topology;
