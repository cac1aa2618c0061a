//! What is done to a packet: the actions of OpenFlow 1.4 and those that Open vSwitch adds.

use crate::field::{MatchField, Subfield, ValueOf};
use std::fmt;
use std::net::IpAddr;

/// Reserved port numbers (OpenFlow 1.4, section 7.2.1).
pub mod port {
    /// Back out of the port the packet came in by.
    pub const IN_PORT: u32 = 0xffff_fff8;
    /// The first table (packet-out only).
    pub const TABLE: u32 = 0xffff_fff9;
    /// The switch's own learning bridge.
    pub const NORMAL: u32 = 0xffff_fffa;
    /// Every port without no-flood.
    pub const FLOOD: u32 = 0xffff_fffb;
    /// Every port but the one it came in by.
    pub const ALL: u32 = 0xffff_fffc;
    /// The controller.
    pub const CONTROLLER: u32 = 0xffff_fffd;
    /// The bridge's own interface.
    pub const LOCAL: u32 = 0xffff_fffe;
    /// No port, or any.
    pub const ANY: u32 = 0xffff_ffff;
    /// Highest number of an ordinary port.
    pub const MAX: u32 = 0xff00;
}

/// Why a packet comes to the controller (OpenFlow 1.4, section 7.4.1).
pub mod reason {
    /// The table-miss flow.
    pub const NO_MATCH: u8 = 0;
    /// An action.
    pub const ACTION: u8 = 1;
    /// TTL ran out.
    pub const INVALID_TTL: u8 = 2;
}

/// One action. Those of a flow are executed in order.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Action {
    /// To a port; `max_len` matters only for [`port::CONTROLLER`].
    Output {
        /// Number or one of [`port`].
        port: u32,
        /// Bytes that go to the controller.
        max_len: u16,
    },
    /// To the port whose number a field holds.
    OutputReg {
        /// Where the number is.
        src: Subfield,
        /// Bytes, if that is the controller.
        max_len: u16,
    },
    /// Through a group.
    Group(u32),
    /// Sets a field, or its masked bits.
    SetField(MatchField),
    /// Sets at most 64 bits of a field.
    Load {
        /// Where to.
        dst: Subfield,
        /// What.
        value: u64,
    },
    /// Copies bits; both have the same width.
    Move {
        /// Where from.
        src: Subfield,
        /// Where to.
        dst: Subfield,
    },
    /// Puts bits on the stack.
    Push(Subfield),
    /// Takes them from the stack.
    Pop(Subfield),
    /// Adds a tag with this EtherType (0x8100).
    PushVlan(u16),
    /// Removes the outermost tag.
    PopVlan,
    /// One hop less; a packet whose TTL ends goes to the controller instead, if it asked for that.
    DecTtl,
    /// Queue for the following outputs.
    SetQueue(u32),
    /// Looks the packet up in another table, then goes on here. `ct` uses the original direction of the connection.
    Resubmit {
        /// In place of the port it came in by.
        port: Option<u16>,
        /// Table; this one if none.
        table: Option<u8>,
    },
    /// Connection tracking.
    Ct(Box<Ct>),
    /// Forgets the tracking state.
    CtClear,
    /// One of the dimensions of a conjunctive match.
    Conjunction {
        /// `conj_id` of the whole.
        id: u32,
        /// Which dimension, from 1.
        clause: u8,
        /// How many there are.
        n: u8,
    },
    /// To the controller, with what it wants to know.
    Controller(Box<Controller>),
    /// Bytes without effect, zero-padded to 6 more than a multiple of 8.
    Note(Vec<u8>),
    /// Executes these on a copy of the packet.
    Clone(Vec<Action>),
    /// Sets the bit if the packet is longer than that.
    CheckPktLarger {
        /// Bytes of layer 2, without the FCS.
        len: u16,
        /// One bit.
        dst: Subfield,
    },
    /// Rate limit (an instruction in OpenFlow 1.4: at most one, and it comes first).
    Meter(u32),
    /// Goes on in a later table (an instruction: at most one, and it comes last).
    Goto(u8),
}

impl Action {
    /// To an ordinary port.
    pub fn output(port: u32) -> Action {
        Action::Output {
            port,
            max_len: if port == self::port::CONTROLLER { u16::MAX } else { 0 },
        }
    }

    /// To the port whose number `src` holds.
    pub fn output_reg(src: Subfield) -> Action {
        Action::OutputReg { src, max_len: u16::MAX }
    }

    /// Goes through `table`, then comes back.
    pub fn resubmit(table: u8) -> Action {
        Action::Resubmit {
            port: None,
            table: Some(table),
        }
    }

    /// Sets the whole of a field.
    pub fn set(field: crate::Field, value: impl crate::FieldValue) -> Action {
        Action::SetField(MatchField::exact(field, value))
    }

    /// Sets bits of a field.
    pub fn load(dst: Subfield, value: u64) -> Action {
        Action::Load {
            dst,
            value: if dst.bits >= 64 {
                value
            } else {
                value & ((1 << dst.bits) - 1)
            },
        }
    }

    /// Copies the whole of `src` to the whole of `dst`.
    pub fn copy(src: crate::Field, dst: crate::Field) -> Action {
        Action::Move {
            src: src.all(),
            dst: dst.all(),
        }
    }

    /// To the controller, whole, with `userdata` by which it knows what to do.
    pub fn controller(userdata: impl Into<Vec<u8>>) -> Action {
        Action::Controller(Box::new(Controller {
            userdata: userdata.into(),
            ..Controller::default()
        }))
    }
}

/// To the controller.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Controller {
    /// Bytes of the packet that are sent.
    pub max_len: u16,
    /// Which controller; connections have id 0 unless they ask for another.
    pub id: u16,
    /// One of [`reason`].
    pub reason: u8,
    /// Comes back in the packet-in.
    pub userdata: Vec<u8>,
}

impl Default for Controller {
    fn default() -> Self {
        Controller {
            max_len: u16::MAX,
            id: 0,
            reason: reason::ACTION,
            userdata: Vec::new(),
        }
    }
}

/// A connection tracking zone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Zone {
    /// This one.
    Is(u16),
    /// The one whose number (16 bits) the field holds.
    In(Subfield),
}

/// Connection tracking.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ct {
    /// Makes the connection known.
    pub commit: bool,
    /// Replaces one that is known in the other direction (only with `commit`).
    pub force: bool,
    /// Namespace of connections.
    pub zone: Zone,
    /// Where the tracked copy goes on.
    pub table: Option<u8>,
    /// Address translation.
    pub nat: Option<Nat>,
    /// Set in the connection: `ct_mark`, `ct_label` (only with `commit`).
    pub exec: Vec<Action>,
    /// Helper by its port: 21 FTP, 69 TFTP; 0 none.
    pub alg: u16,
}

impl Ct {
    /// `ct(zone=…)`, to be completed with `..`.
    pub fn new(zone: Zone) -> Ct {
        Ct {
            commit: false,
            force: false,
            zone,
            table: None,
            nat: None,
            exec: Vec::new(),
            alg: 0,
        }
    }

    /// `ct(table=…,zone=…)`: tracks the packet and goes on in `table`.
    pub fn track(zone: Zone, table: u8) -> Ct {
        Ct {
            table: Some(table),
            ..Ct::new(zone)
        }
    }

    /// `ct(commit,zone=…)`
    pub fn commit(zone: Zone) -> Ct {
        Ct {
            commit: true,
            ..Ct::new(zone)
        }
    }

    /// With address translation.
    pub fn nat(self, nat: Nat) -> Ct {
        Ct { nat: Some(nat), ..self }
    }

    /// Goes on in `table`.
    pub fn table(self, table: u8) -> Ct {
        Ct {
            table: Some(table),
            ..self
        }
    }

    /// As an action.
    pub fn action(self) -> Action {
        Action::Ct(Box::new(self))
    }
}

/// Address translation of a tracked connection.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Nat {
    /// As the connection was translated when it was committed.
    Existing,
    /// Another source.
    Src(NatRange),
    /// Another destination.
    Dst(NatRange),
}

impl Nat {
    /// Source becomes `to`.
    pub fn src(to: impl Into<IpAddr>) -> Nat {
        Nat::Src(NatRange {
            min: to.into(),
            max: None,
            ports: None,
        })
    }

    /// Destination becomes `to`.
    pub fn dst(to: impl Into<IpAddr>) -> Nat {
        Nat::Dst(NatRange {
            min: to.into(),
            max: None,
            ports: None,
        })
    }

    /// Only these ports.
    pub fn ports(self, min: u16, max: u16) -> Nat {
        match self {
            Nat::Existing => Nat::Existing,
            Nat::Src(r) => Nat::Src(NatRange {
                ports: Some((min, max)),
                ..r
            }),
            Nat::Dst(r) => Nat::Dst(NatRange {
                ports: Some((min, max)),
                ..r
            }),
        }
    }
}

/// Addresses and ports to choose from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NatRange {
    /// First address.
    pub min: IpAddr,
    /// Last one, if there are several; of the same family.
    pub max: Option<IpAddr>,
    /// First and last port.
    pub ports: Option<(u16, u16)>,
}

pub(crate) fn write_port(f: &mut fmt::Formatter<'_>, p: u32) -> fmt::Result {
    match p {
        port::IN_PORT => f.write_str("IN_PORT"),
        port::TABLE => f.write_str("TABLE"),
        port::NORMAL => f.write_str("NORMAL"),
        port::FLOOD => f.write_str("FLOOD"),
        port::ALL => f.write_str("ALL"),
        port::CONTROLLER => f.write_str("CONTROLLER"),
        port::LOCAL => f.write_str("LOCAL"),
        port::ANY => f.write_str("ANY"),
        n => write!(f, "{n}"),
    }
}

/// Writes actions as after `actions=`.
pub(crate) fn write_actions(f: &mut fmt::Formatter<'_>, actions: &[Action]) -> fmt::Result {
    if actions.is_empty() {
        return f.write_str("drop");
    }
    for (i, a) in actions.iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        write!(f, "{a}")?;
    }
    Ok(())
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Output {
                port: port::CONTROLLER,
                max_len: u16::MAX,
            } => f.write_str("CONTROLLER"),
            Action::Output {
                port: port::CONTROLLER,
                max_len,
            } => write!(f, "CONTROLLER:{max_len}"),
            Action::Output {
                port: p @ (port::IN_PORT | port::NORMAL | port::FLOOD | port::ALL | port::LOCAL),
                ..
            } => write_port(f, *p),
            Action::Output { port, .. } => write!(f, "output:{port}"),
            Action::OutputReg { src, .. } => write!(f, "output:{src}"),
            Action::Group(id) => write!(f, "group:{id}"),
            Action::SetField(m) => write!(f, "set_field:{}->{}", ValueOf(m), m.field.name()),
            Action::Load { dst, value } => write!(f, "load:{value:#x}->{dst}"),
            Action::Move { src, dst } => write!(f, "move:{src}->{dst}"),
            Action::Push(s) => write!(f, "push:{s}"),
            Action::Pop(s) => write!(f, "pop:{s}"),
            Action::PushVlan(t) => write!(f, "push_vlan:{t:#06x}"),
            Action::PopVlan => f.write_str("pop_vlan"),
            Action::DecTtl => f.write_str("dec_ttl"),
            Action::SetQueue(q) => write!(f, "set_queue:{q}"),
            Action::Resubmit { port, table } => {
                f.write_str("resubmit(")?;
                if let Some(p) = port {
                    write!(f, "{p}")?;
                }
                f.write_str(",")?;
                if let Some(t) = table {
                    write!(f, "{t}")?;
                }
                f.write_str(")")
            }
            Action::Ct(ct) => write!(f, "{ct}"),
            Action::CtClear => f.write_str("ct_clear"),
            Action::Conjunction { id, clause, n } => write!(f, "conjunction({id},{clause}/{n})"),
            Action::Controller(c) => {
                write!(f, "controller(max_len={},id={}", c.max_len, c.id)?;
                match c.reason {
                    reason::NO_MATCH => f.write_str(",reason=no_match")?,
                    reason::INVALID_TTL => f.write_str(",reason=invalid_ttl")?,
                    _ => {}
                }
                if !c.userdata.is_empty() {
                    f.write_str(",userdata=")?;
                    write_bytes(f, &c.userdata)?;
                }
                f.write_str(")")
            }
            Action::Note(bytes) => {
                f.write_str("note:")?;
                write_bytes(f, bytes)
            }
            Action::Clone(actions) => {
                f.write_str("clone(")?;
                write_actions(f, actions)?;
                f.write_str(")")
            }
            Action::CheckPktLarger { len, dst } => write!(f, "check_pkt_larger({len})->{dst}"),
            Action::Meter(id) => write!(f, "meter:{id}"),
            Action::Goto(t) => write!(f, "goto_table:{t}"),
        }
    }
}

fn write_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (i, b) in bytes.iter().enumerate() {
        write!(f, "{}{b:02x}", if i == 0 { "" } else { "." })?;
    }
    Ok(())
}

impl fmt::Display for Ct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.commit {
            parts.push("commit".to_owned());
        }
        if self.force {
            parts.push("force".to_owned());
        }
        if let Some(t) = self.table {
            parts.push(format!("table={t}"));
        }
        match self.zone {
            Zone::Is(0) => {}
            Zone::Is(z) => parts.push(format!("zone={z}")),
            Zone::In(s) => parts.push(format!("zone={s}")),
        }
        if let Some(n) = &self.nat {
            parts.push(n.to_string());
        }
        if !self.exec.is_empty() {
            let inner: Vec<String> = self.exec.iter().map(ToString::to_string).collect();
            parts.push(format!("exec({})", inner.join(",")));
        }
        match self.alg {
            0 => {}
            21 => parts.push("alg=ftp".to_owned()),
            69 => parts.push("alg=tftp".to_owned()),
            n => parts.push(format!("alg={n}")),
        }
        write!(f, "ct({})", parts.join(","))
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, r) = match self {
            Nat::Existing => return f.write_str("nat"),
            Nat::Src(r) => ("src", r),
            Nat::Dst(r) => ("dst", r),
        };
        let addr = |a: IpAddr| match a {
            IpAddr::V6(a) if r.ports.is_some() => format!("[{a}]"),
            a => a.to_string(),
        };
        write!(f, "nat({word}={}", addr(r.min))?;
        if let Some(max) = r.max {
            write!(f, "-{}", addr(max))?;
        }
        match r.ports {
            Some((a, b)) if a == b => write!(f, ":{a}")?,
            Some((a, b)) => write!(f, ":{a}-{b}")?,
            None => {}
        }
        f.write_str(")")
    }
}
