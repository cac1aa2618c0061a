//! The messages of OpenFlow 1.4, of which this crate needs what a controller and a switch say to each other.

use crate::action::{Action, port};
use crate::action_wire::{NICIRA, put_actions, put_instructions};
use crate::error::SwitchError;
use crate::field::{Field, Mac};
use crate::flow::{Flow, Group, Match, Meter};
use crate::wire::*;

/// OpenFlow 1.4 on the wire.
pub const VERSION: u8 = 5;

/// A message without its transaction id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Versions that the peer speaks, by wire number, as a bitmap.
    Hello {
        /// Bit n is wire version n.
        versions: u32,
    },
    /// Something went wrong.
    Error(SwitchError),
    /// Is anybody there?
    EchoRequest(Vec<u8>),
    /// Yes.
    EchoReply(Vec<u8>),
    /// Who are you?
    FeaturesRequest,
    /// The switch introduces itself.
    Features {
        /// Identity of the bridge.
        datapath_id: u64,
        /// Number of tables.
        tables: u8,
    },
    /// How much of a packet that misses goes to the controller.
    SetConfig {
        /// Bytes.
        miss_send_len: u16,
    },
    /// A packet for the controller.
    PacketIn(PacketIn),
    /// A packet from the controller.
    PacketOut(PacketOut),
    /// A port came, went or changed.
    PortStatus {
        /// 0 added, 1 deleted, 2 modified.
        reason: u8,
        /// The port.
        port: PortDesc,
    },
    /// Changes flows or groups.
    Change(Change),
    /// Adds (`true`) or removes a meter.
    MeterMod(MeterCommand, Meter),
    /// Flow statistics, asked for: every flow of a table (0xff: of all).
    FlowsRequest {
        /// Table.
        table: u8,
    },
    /// A part of the flows.
    Flows {
        /// The flows.
        flows: Vec<FlowStats>,
        /// More follow.
        more: bool,
    },
    /// All groups, asked for.
    GroupsRequest,
    /// A part of the groups.
    Groups {
        /// The groups. Those that could not be understood have no buckets.
        groups: Vec<Group>,
        /// More follow.
        more: bool,
    },
    /// All meters, asked for.
    MetersRequest,
    /// A part of the meters.
    Meters {
        /// The meters.
        meters: Vec<Meter>,
        /// More follow.
        more: bool,
    },
    /// All ports, asked for.
    PortsRequest,
    /// A part of the ports.
    Ports {
        /// The ports.
        ports: Vec<PortDesc>,
        /// More follow.
        more: bool,
    },
    /// Everything before it is done when the reply comes.
    BarrierRequest,
    /// Done.
    BarrierReply,
    /// Opens, closes, commits, discards a bundle, and the answers.
    BundleControl {
        /// Bundle.
        id: u32,
        /// What.
        kind: BundleKind,
    },
    /// Puts a change into a bundle.
    BundleAdd {
        /// Bundle.
        id: u32,
        /// Change.
        change: Change,
    },
    /// Nicira: packet-ins come in the form that carries userdata (`NXPIF_NXT_PACKET_IN2`).
    SetPacketInFormat,
    /// One that this crate does not interpret.
    Other {
        /// Message type.
        kind: u8,
    },
}

/// Steps of a bundle (`ofp_bundle_ctrl_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum BundleKind {
    OpenRequest,
    OpenReply,
    CloseRequest,
    CloseReply,
    CommitRequest,
    CommitReply,
    DiscardRequest,
    DiscardReply,
}

impl BundleKind {
    pub(crate) const ALL: [BundleKind; 8] = [
        BundleKind::OpenRequest,
        BundleKind::OpenReply,
        BundleKind::CloseRequest,
        BundleKind::CloseReply,
        BundleKind::CommitRequest,
        BundleKind::CommitReply,
        BundleKind::DiscardRequest,
        BundleKind::DiscardReply,
    ];
}

/// What is done to a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum MeterCommand {
    Add,
    Modify,
    Delete,
}

/// A change that a bundle can carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds the flow, in place of one with the same key.
    Add(Flow),
    /// Changes the actions of a flow and keeps its counters; nothing happens if there is none with its key.
    Modify(Flow),
    /// Removes the flow with exactly this key.
    Delete {
        /// Table.
        table: u8,
        /// Priority.
        priority: u16,
        /// Conditions.
        matches: Match,
    },
    /// Removes a flow whose match this crate could not read, by its bytes ([`FlowStats::unread`]).
    DeleteUnread {
        /// Table.
        table: u8,
        /// Priority.
        priority: u16,
        /// Fields in OXM.
        matches: Vec<u8>,
    },
    /// Removes every flow of a table (0xff: of all).
    DeleteAll {
        /// Table.
        table: u8,
    },
    /// Adds a group.
    AddGroup(Group),
    /// Replaces one that exists.
    ModifyGroup(Group),
    /// Removes a group and the flows that point to it.
    DeleteGroup(u32),
}

/// A packet that came to the controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PacketIn {
    /// Table of the flow that sent it.
    pub table: u8,
    /// Cookie of that flow.
    pub cookie: u64,
    /// One of [`crate::reason`].
    pub reason: u8,
    /// Length before it was cut to the action's `max_len`.
    pub total_len: u32,
    /// Given in the action.
    pub userdata: Vec<u8>,
    /// Port, registers, metadata, tunnel and connection state.
    pub metadata: Match,
    /// The frame.
    pub data: Vec<u8>,
}

impl PacketIn {
    /// The port it came in by.
    pub fn in_port(&self) -> Option<u32> {
        self.metadata.get(Field::InPort).map(|m| m.value as u32)
    }

    /// What register `n` held.
    pub fn reg(&self, n: u8) -> u32 {
        // The switch reports registers as the 64-bit ones of OpenFlow 1.5 where it can.
        let half = |m: &crate::MatchField| (m.value >> if n.is_multiple_of(2) { 32 } else { 0 }) as u32;
        let xreg = Field::ALL[Field::XReg0 as usize + usize::from(n.min(15) / 2)];
        self.metadata
            .get(Field::reg(n.min(15)))
            .map(|m| m.value as u32)
            .or_else(|| self.metadata.get(xreg).map(half))
            .unwrap_or(0)
    }

    /// The metadata of the pipeline.
    pub fn metadata(&self) -> u64 {
        self.metadata.get(Field::Metadata).map_or(0, |m| m.value as u64)
    }

    /// The tunnel key.
    pub fn tun_id(&self) -> u64 {
        self.metadata.get(Field::TunId).map_or(0, |m| m.value as u64)
    }
}

/// A packet that the controller sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketOut {
    /// As if it had come in by this port; [`port::CONTROLLER`] if by none.
    pub in_port: u32,
    /// What is done with it.
    pub actions: Vec<Action>,
    /// The frame.
    pub data: Vec<u8>,
}

impl PacketOut {
    /// Straight out of a port.
    pub fn to_port(port: u32, data: Vec<u8>) -> PacketOut {
        PacketOut {
            in_port: port::CONTROLLER,
            actions: vec![Action::output(port)],
            data,
        }
    }
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortDesc {
    /// Number.
    pub number: u32,
    /// Name of its interface (15 bytes at most).
    pub name: String,
    /// Its own address.
    pub mac: Mac,
    /// Not administratively down.
    pub enabled: bool,
    /// Has a link.
    pub link: bool,
}

/// A flow as the switch reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStats {
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Cookie.
    pub cookie: u64,
    /// Has an idle or hard timeout, which ours never have.
    pub timeouts: bool,
    /// Packets that hit it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Conditions; none if they could not be understood.
    pub matches: Option<Match>,
    /// The fields as bytes, if they could not be understood.
    pub unread: Vec<u8>,
    /// Actions; none if they could not be understood.
    pub actions: Option<Vec<Action>>,
}

/// `OFPBF_ATOMIC | OFPBF_ORDERED`
const BUNDLE_FLAGS: u16 = 3;

/// A length has 16 bits.
pub(crate) const MAX_MESSAGE: usize = 0xffff;

const NO_BUFFER: u32 = 0xffff_ffff;

/// Appends the message, with its header, to `out`.
pub fn encode(out: &mut Vec<u8>, xid: u32, message: &Message) {
    let start = out.len();
    put!(out, VERSION, 0u8, 0u16, xid);
    let kind = body(out, xid, message);
    out[start + 1] = kind;
    let len = out.len() - start;
    set_len(out, start + 2, len);
}

/// [`Message::BundleAdd`] without a copy of the change. Writes nothing and says so if the change is longer than a
/// message can be.
pub(crate) fn encode_bundle_add(out: &mut Vec<u8>, xid: u32, id: u32, change: &Change) -> bool {
    let start = out.len();
    put!(out, VERSION, 34u8, 0u16, xid);
    put_bundle_add(out, xid, id, change);
    let len = out.len() - start;
    set_len(out, start + 2, len);
    let fits = len <= MAX_MESSAGE;
    if !fits {
        out.truncate(start);
    }
    fits
}

fn body(out: &mut Vec<u8>, xid: u32, message: &Message) -> u8 {
    match message {
        Message::Hello { versions } => {
            put!(out, 1u16, 8u16, *versions);
            0
        }
        Message::Error(e) => {
            put!(out, e.kind, e.code);
            out.extend_from_slice(&e.data);
            1
        }
        Message::EchoRequest(data) => {
            out.extend_from_slice(data);
            2
        }
        Message::EchoReply(data) => {
            out.extend_from_slice(data);
            3
        }
        Message::FeaturesRequest => 5,
        Message::Features { datapath_id, tables } => {
            put!(out, *datapath_id, 0u32, *tables, 0u8, 0u16, 0u64);
            6
        }
        Message::SetConfig { miss_send_len } => {
            put!(out, 0u16, *miss_send_len);
            9
        }
        Message::PacketIn(p) => {
            put!(out, NICIRA, 30u32);
            put_packet_in(out, p);
            4
        }
        Message::PortStatus { reason, port } => {
            put!(out, *reason, 0u8, 0u16, 0u32);
            put_port(out, port);
            12
        }
        Message::PacketOut(p) => {
            put!(out, NO_BUFFER, p.in_port);
            let at = out.len();
            put!(out, 0u64);
            put_actions(out, &p.actions);
            let len = out.len() - at - 8;
            set_len(out, at, len);
            out.extend_from_slice(&p.data);
            13
        }
        Message::Change(c) => put_change(out, c),
        Message::MeterMod(command, m) => {
            put!(out, *command as u16, meter_flags(m), m.id);
            if *command != MeterCommand::Delete {
                put!(out, 1u16, 16u16, m.rate, m.burst, 0u32);
            }
            29
        }
        Message::FlowsRequest { table } => {
            put!(
                out,
                1u16,
                0u16,
                0u32,
                *table,
                0u8,
                0u16,
                port::ANY,
                0xffff_ffffu32,
                0u32,
                0u64,
                0u64
            );
            put_match(out, &Match::new());
            18
        }
        Message::GroupsRequest => multipart(out, 18, 7, false),
        Message::MetersRequest => {
            put!(out, 10u16, 0u16, 0u32, 0xffff_ffffu32, 0u32);
            18
        }
        Message::PortsRequest => multipart(out, 18, 13, false),
        Message::Flows { flows, more } => {
            let kind = multipart(out, 19, 1, *more);
            flows.iter().for_each(|f| put_flow_stats(out, f));
            kind
        }
        Message::Groups { groups, more } => {
            let kind = multipart(out, 19, 7, *more);
            for g in groups {
                let start = out.len();
                put!(out, 0u16, g.kind as u8, 0u8, g.id);
                put_buckets(out, g);
                let len = out.len() - start;
                set_len(out, start, len);
            }
            kind
        }
        Message::Meters { meters, more } => {
            let kind = multipart(out, 19, 10, *more);
            for m in meters {
                put!(out, 24u16, meter_flags(m), m.id, 1u16, 16u16, m.rate, m.burst, 0u32);
            }
            kind
        }
        Message::Ports { ports, more } => {
            let kind = multipart(out, 19, 13, *more);
            ports.iter().for_each(|p| put_port(out, p));
            kind
        }
        Message::BarrierRequest => 20,
        Message::BarrierReply => 21,
        Message::BundleControl { id, kind } => {
            put!(out, *id, *kind as u16, BUNDLE_FLAGS);
            33
        }
        Message::BundleAdd { id, change } => put_bundle_add(out, xid, *id, change),
        Message::SetPacketInFormat => {
            put!(out, NICIRA, 16u32, 2u32);
            4
        }
        Message::Other { kind } => *kind,
    }
}

fn put_bundle_add(out: &mut Vec<u8>, xid: u32, id: u32, change: &Change) -> u8 {
    put!(out, id, 0u16, BUNDLE_FLAGS);
    let start = out.len();
    put!(out, VERSION, 0u8, 0u16, xid);
    let kind = put_change(out, change);
    out[start + 1] = kind;
    let len = out.len() - start;
    set_len(out, start + 2, len);
    34
}

fn multipart(out: &mut Vec<u8>, message: u8, kind: u16, more: bool) -> u8 {
    put!(out, kind, u16::from(more), 0u32);
    message
}

/// KBPS or PKTPS, BURST if there is one.
fn meter_flags(m: &Meter) -> u16 {
    1 << u16::from(m.packets) | if m.burst > 0 { 4 } else { 0 }
}

fn put_flow_mod(out: &mut Vec<u8>, command: u8, table: u8, priority: u16, cookie: u64) -> u8 {
    put!(
        out,
        cookie,
        0u64,
        table,
        command,
        0u16,
        0u16,
        priority,
        NO_BUFFER,
        port::ANY,
        0xffff_ffffu32,
        0u16,
        0u16
    );
    14
}

fn put_change(out: &mut Vec<u8>, c: &Change) -> u8 {
    match c {
        Change::Add(f) | Change::Modify(f) => {
            let command = if matches!(c, Change::Add(_)) { 0 } else { 2 };
            put_flow_mod(out, command, f.table, f.priority, f.cookie);
            put_match(out, &f.matches);
            put_instructions(out, &f.actions);
            14
        }
        Change::Delete {
            table,
            priority,
            matches,
        } => {
            put_flow_mod(out, 4, *table, *priority, 0);
            put_match(out, matches);
            14
        }
        Change::DeleteUnread {
            table,
            priority,
            matches,
        } => {
            put_flow_mod(out, 4, *table, *priority, 0);
            put_raw_match(out, matches);
            14
        }
        Change::DeleteAll { table } => {
            put_flow_mod(out, 3, *table, 0, 0);
            put_match(out, &Match::new());
            14
        }
        Change::AddGroup(g) | Change::ModifyGroup(g) => {
            put!(
                out,
                u16::from(matches!(c, Change::ModifyGroup(_))),
                g.kind as u8,
                0u8,
                g.id
            );
            put_buckets(out, g);
            15
        }
        Change::DeleteGroup(id) => {
            put!(out, 2u16, 0u16, *id);
            15
        }
    }
}

fn put_raw_match(out: &mut Vec<u8>, fields: &[u8]) {
    let start = out.len();
    put!(out, 1u16, (4 + fields.len()) as u16);
    out.extend_from_slice(fields);
    pad(out, start);
}

fn put_buckets(out: &mut Vec<u8>, g: &Group) {
    for b in &g.buckets {
        let start = out.len();
        put!(out, 0u16, b.weight, port::ANY, 0xffff_ffffu32, 0u32);
        put_actions(out, &b.actions);
        let len = out.len() - start;
        set_len(out, start, len);
    }
}

fn put_port(out: &mut Vec<u8>, p: &PortDesc) {
    put!(out, p.number, 40u16, 0u16);
    out.extend_from_slice(&p.mac.0);
    put!(out, 0u16);
    let mut name = [0u8; 16];
    let bytes = &p.name.as_bytes()[..p.name.len().min(15)];
    name[..bytes.len()].copy_from_slice(bytes);
    out.extend_from_slice(&name);
    put!(out, u32::from(!p.enabled), u32::from(!p.link));
}

fn put_flow_stats(out: &mut Vec<u8>, f: &FlowStats) {
    let start = out.len();
    put!(
        out,
        0u16,
        f.table,
        0u8,
        0u64,
        f.priority,
        u16::from(f.timeouts),
        0u16,
        0u16,
        0u32,
        f.cookie,
        f.packets,
        f.bytes
    );
    match &f.matches {
        Some(m) => put_match(out, m),
        None => put_raw_match(out, &f.unread),
    }
    put_instructions(out, f.actions.as_deref().unwrap_or_default());
    let len = out.len() - start;
    set_len(out, start, len);
}

fn put_packet_in(out: &mut Vec<u8>, p: &PacketIn) {
    let property = |out: &mut Vec<u8>, kind: u16, body: &[u8]| {
        let start = out.len();
        put!(out, kind, (4 + body.len()) as u16);
        out.extend_from_slice(body);
        pad(out, start);
    };
    property(out, 0, &p.data);
    property(out, 1, &p.total_len.to_be_bytes());
    property(out, 3, &[p.table, 0, 0, 0]);
    let mut cookie = vec![0; 4];
    put!(cookie, p.cookie);
    property(out, 4, &cookie);
    property(out, 5, &[p.reason, 0, 0, 0]);
    let mut fields = Vec::new();
    p.metadata.fields().iter().for_each(|f| put_field(&mut fields, f));
    property(out, 6, &fields);
    if !p.userdata.is_empty() {
        property(out, 7, &p.userdata);
    }
}
