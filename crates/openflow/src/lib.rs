//! OpenFlow 1.4 with Open vSwitch's additions: flows as values, and the protocol that puts them into a switch.
//!
//! [`Flow`] and what it is made of are plain values that compare, hash and sort; `Display` writes them as `ovs-ofctl` does.

mod action;
mod field;
mod flow;

pub use action::{Action, Controller, Ct, Nat, NatRange, Zone, port, reason};
pub use field::{Field, FieldValue, Mac, MatchField, NotAMac, Subfield};
pub use flow::{Bucket, Flow, FlowKey, Group, GroupType, Match, Meter, ct_state, eth_type, ip_proto, port_masks};
