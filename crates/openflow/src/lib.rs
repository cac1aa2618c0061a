//! OpenFlow 1.4 with Open vSwitch's additions: flows as values, and the protocol that puts them into a switch.
//!
//! [`Flow`] and what it is made of are plain values that compare, hash and sort; `Display` writes them as `ovs-ofctl`
//! does. [`encode`] and [`decode`] turn messages into bytes and back, without any I/O; [`Connection`] speaks to a switch.

mod action;
mod action_wire;
mod connection;
mod decode;
mod error;
mod field;
mod flow;
mod message;
mod wire;

pub use action::{Action, Controller, Ct, Nat, NatRange, Zone, port, reason};
pub use connection::{BundleError, Connection, ConnectionError, Event};
pub use decode::{decode, frame_len};
pub use error::SwitchError;
pub use field::{Field, FieldValue, Mac, MatchField, NotAMac, Subfield};
pub use flow::{Bucket, Flow, FlowKey, Group, GroupType, Match, Meter, ct_state, eth_type, ip_proto, port_masks};
pub use message::{
    BundleKind, Change, FlowStats, Message, MeterCommand, PacketIn, PacketOut, PortDesc, VERSION, encode,
};
pub use wire::DecodeError;
