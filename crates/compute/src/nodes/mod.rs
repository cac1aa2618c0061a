//! Compute's two ends towards the nodes: what should be ([`Desired`]) and what is ([`Sink`]).

mod desired;
mod observed;
mod sink;

pub use desired::{Desired, desired_servers};
pub use sink::Sink;
