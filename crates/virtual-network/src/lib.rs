//! The network compiler: what a node must know of the virtual networks ([`topology`]) becomes OpenFlow flows, and the
//! packets that flows cannot answer are answered. Nothing here does I/O or reads a clock.
//!
//! # How a node uses it
//! 1. Make a [`Compiler`] with the [`Numbers`] it kept from last time (or the default).
//! 2. Tell it the switch's [`PortNumbers`] (again whenever they change, as when a tap is plugged) and the [`Topology`]
//!    ([`Compiler::replace`]), later [changes](topology::Change) of it ([`Compiler::update`]). Each gives a [`FlowDiff`]: keep
//!    [`Compiler::numbers`], flush its `flush_zones`, apply each bridge's flows in one bundle, flush its
//!    `flush_connections`. After a switch restarted, or to repair one, compare what it holds with [`Compiler::flows`].
//! 3. Give every packet-in of the integration bridge to [`Responder::respond`], and call [`Responder::tick`] once a
//!    second: send the packets it returns, and put its neighbours into [`Compiler::set_neighbor`], whose difference is applied as
//!    any other.
//! 4. After changes are applied send what [`Responder::announce`] returns (gratuitous ARP for what moved here, advertisements of routers that changed), and every
//!    [`Responder::ADVERTISE_EVERY`] what [`Responder::advertise`] does.
//!
//! ```
//! use virtual_network::{Bridge, Compiler, Numbers, PortNumbers, Topology};
//!
//! let mut compiler = Compiler::new(Numbers::default());
//! compiler.set_port_numbers(PortNumbers::default());
//! let difference = compiler.replace(&Topology::default());
//! assert!(compiler.replace(&Topology::default()).is_empty());
//! let every_flow = compiler.flows();
//! assert!(!every_flow[&Bridge::Integration].is_empty());
//! # let _ = difference;
//! ```
//!
//! The tables of the integration bridge are described in [`pipeline`].
//!
//! # What the switch must have
//! - The integration bridge and the physical ones with `fail_mode=secure` and OpenFlow 1.4, a patch between it and each of them.
//! - A tunnel port for each kind, with `remote_ip=flow`, `key=flow` and `local_ip`.
//! - Packet-ins with user data (`NXPIF_NXT_PACKET_IN2`, as `openflow::Connection` asks for), cut at 65535 bytes.
//! - For the listener of metadata, a port whose other end has the MAC of
//!   [`MetadataListener`](topology::MetadataListener), 169.254.169.254/32 and fe80::a9fe:a9fe/64, and routes on the link to
//!   `clients_v4` and `clients_v6`. Whom a connection to it comes from is told by [`Compiler::metadata_client`].
//! - Checksums finished before packets get to the switch: no transmit offload on veths and taps.
//!
//! # What it does not do
//! Packets too large for the network behind a router that may be fragmented are fragmented by the responder, so slowly; TCP
//! never comes to that, as guests know their MTU. IPv6 is never translated. QoS ([`topology::Qos`]) is carried, not compiled.
//! A gateway on another node is not reached through a tunnel yet; routers between tunnel networks are on every node.

#[cfg(test)]
extern crate self as virtual_network;

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
