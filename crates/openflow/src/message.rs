//! The messages of OpenFlow 1.4, of which this crate needs what a controller and a switch say to each other.

use crate::action::{Action, port};
use crate::action_wire::*;
use crate::error::SwitchError;
use crate::field::{Field, Mac};
use crate::flow::{Bucket, Flow, Group, GroupType, Match, Meter};
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
    const ALL: [BundleKind; 8] = [
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

/// Length of the first message in `bytes`, when its header is there.
///
/// # Errors
/// If the header announces less than itself; the stream cannot be followed any more.
pub fn frame_len(bytes: &[u8]) -> std::result::Result<Option<usize>, DecodeError> {
    let Some(head) = bytes.first_chunk::<8>() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if len < 8 {
        Err(DecodeError::Length(len))
    } else {
        Ok(Some(len))
    }
}

/// Reads one whole message: its transaction id and what it says.
///
/// # Errors
/// If the bytes are not such a message. Never panics, whatever the bytes.
pub fn decode(bytes: &[u8]) -> std::result::Result<(u32, Message), DecodeError> {
    let mut r = Reader(bytes);
    let (version, kind, len, xid) = (r.u8()?, r.u8()?, usize::from(r.u16()?), r.u32()?);
    if len != bytes.len() {
        return Err(DecodeError::Length(len));
    }
    // A hello may come in any version; the negotiation is about its contents.
    if version != VERSION && kind != 0 && kind != 1 {
        return Err(DecodeError::Version(version));
    }
    let message = match kind {
        0 => Message::Hello {
            versions: read_hello(version, r)?,
        },
        1 => Message::Error(SwitchError {
            kind: r.u16()?,
            code: r.u16()?,
            data: r.0.to_vec(),
        }),
        2 => Message::EchoRequest(r.0.to_vec()),
        3 => Message::EchoReply(r.0.to_vec()),
        4 => read_experimenter(r)?,
        5 => Message::FeaturesRequest,
        6 => {
            let datapath_id = r.u64()?;
            r.skip(4)?;
            Message::Features {
                datapath_id,
                tables: r.u8()?,
            }
        }
        9 => {
            r.skip(2)?;
            Message::SetConfig {
                miss_send_len: r.u16()?,
            }
        }
        10 => Message::PacketIn(read_packet_in(r)?),
        12 => {
            let reason = r.u8()?;
            r.skip(7)?;
            Message::PortStatus {
                reason,
                port: read_port(&mut r)?,
            }
        }
        13 => {
            r.skip(4)?;
            let (in_port, len) = (r.u32()?, usize::from(r.u16()?));
            r.skip(6)?;
            let actions = read_actions(Reader(r.take(len)?), 0)?;
            Message::PacketOut(PacketOut {
                in_port,
                actions,
                data: r.0.to_vec(),
            })
        }
        14 | 15 => Message::Change(read_change(kind, r)?),
        18 | 19 => read_multipart(kind == 18, r)?,
        20 => Message::BarrierRequest,
        21 => Message::BarrierReply,
        29 => read_meter_mod(r)?,
        33 => {
            let (id, step) = (r.u32()?, r.u16()?);
            let kind = BundleKind::ALL
                .get(usize::from(step))
                .copied()
                .ok_or(DecodeError::Value("a bundle's step"))?;
            Message::BundleControl { id, kind }
        }
        34 => {
            let id = r.u32()?;
            r.skip(4)?;
            let mut inner = r;
            let (_, kind, len) = (inner.u8()?, inner.u8()?, usize::from(inner.u16()?));
            let mut body = Reader(r.take(len)?);
            body.skip(8)?;
            Message::BundleAdd {
                id,
                change: read_change(kind, body)?,
            }
        }
        kind => Message::Other { kind },
    };
    Ok((xid, message))
}

fn read_hello(version: u8, mut r: Reader<'_>) -> Result<u32> {
    while !r.is_empty() {
        let (kind, mut body, _) = r.element(true)?;
        if kind == 1 {
            return body.u32();
        }
    }
    // Without a bitmap: every version up to the header's.
    Ok(u32::MAX >> (31 - u32::from(version.min(31))))
}

fn read_experimenter(mut r: Reader<'_>) -> Result<Message> {
    match (r.u32()?, r.u32()?) {
        (NICIRA, 30) => Ok(Message::PacketIn(read_packet_in2(r)?)),
        (NICIRA, 16) => Ok(if r.u32()? == 2 {
            Message::SetPacketInFormat
        } else {
            Message::Other { kind: 4 }
        }),
        _ => Ok(Message::Other { kind: 4 }),
    }
}

fn read_packet_in(mut r: Reader<'_>) -> Result<PacketIn> {
    r.skip(4)?;
    let (total_len, reason, table, cookie) = (u32::from(r.u16()?), r.u8()?, r.u8()?, r.u64()?);
    let metadata = read_known_fields(take_match(&mut r)?)?;
    r.skip(2)?;
    Ok(PacketIn {
        table,
        cookie,
        reason,
        total_len,
        userdata: Vec::new(),
        metadata,
        data: r.0.to_vec(),
    })
}

fn read_packet_in2(mut r: Reader<'_>) -> Result<PacketIn> {
    let mut p = PacketIn::default();
    let mut full = None;
    while !r.is_empty() {
        let (kind, mut body, _) = r.element(true)?;
        match kind {
            0 => p.data = body.0.to_vec(),
            1 => full = Some(body.u32()?),
            3 => p.table = body.u8()?,
            4 => {
                body.skip(4)?;
                p.cookie = body.u64()?;
            }
            5 => p.reason = body.u8()?,
            6 => p.metadata = read_known_fields(body)?,
            7 => p.userdata = body.0.to_vec(),
            _ => {}
        }
    }
    // Left out by the switch when nothing was cut off.
    p.total_len = full.unwrap_or(p.data.len() as u32);
    Ok(p)
}

fn read_port(r: &mut Reader<'_>) -> Result<PortDesc> {
    let (number, len) = (r.u32()?, usize::from(r.u16()?));
    if len < 40 {
        return Err(DecodeError::Length(len));
    }
    r.skip(2)?;
    let mac = Mac(r.array()?);
    r.skip(2)?;
    let name = r.array::<16>()?;
    let (config, state) = (r.u32()?, r.u32()?);
    r.skip(len - 40)?;
    let end = name.iter().position(|b| *b == 0).unwrap_or(16);
    let name = String::from_utf8_lossy(&name[..end]).into_owned();
    Ok(PortDesc {
        number,
        name,
        mac,
        enabled: config & 1 == 0,
        link: state & 1 == 0,
    })
}

fn read_change(kind: u8, mut r: Reader<'_>) -> Result<Change> {
    if kind == 15 {
        let (command, group_type) = (r.u16()?, r.u8()?);
        r.skip(1)?;
        let id = r.u32()?;
        return match command {
            0 => Ok(Change::AddGroup(read_group(id, group_type, r)?)),
            1 => Ok(Change::ModifyGroup(read_group(id, group_type, r)?)),
            2 => Ok(Change::DeleteGroup(id)),
            _ => Err(DecodeError::Value("a group mod's command")),
        };
    }
    if kind != 14 {
        return Err(DecodeError::Value("the type of a message in a bundle"));
    }
    let cookie = r.u64()?;
    r.skip(8)?;
    let (table, command) = (r.u8()?, r.u8()?);
    r.skip(4)?;
    let priority = r.u16()?;
    r.skip(16)?;
    let fields = take_match(&mut r)?;
    let matches = read_fields(fields);
    Ok(match command {
        0 | 2 => {
            let f = Flow {
                table,
                priority,
                cookie,
                matches: matches?,
                actions: read_instructions(r)?,
            };
            if command == 0 {
                Change::Add(f)
            } else {
                Change::Modify(f)
            }
        }
        3 if fields.is_empty() => Change::DeleteAll { table },
        4 => match matches {
            Ok(matches) => Change::Delete {
                table,
                priority,
                matches,
            },
            Err(DecodeError::Field { .. }) => Change::DeleteUnread {
                table,
                priority,
                matches: fields.0.to_vec(),
            },
            Err(e) => return Err(e),
        },
        _ => return Err(DecodeError::Value("a flow mod's command")),
    })
}

fn read_group(id: u32, kind: u8, mut r: Reader<'_>) -> Result<Group> {
    let kind = match kind {
        0 => GroupType::All,
        1 => GroupType::Select,
        2 => GroupType::Indirect,
        _ => return Err(DecodeError::Value("a group's type")),
    };
    let mut buckets = Vec::new();
    while !r.is_empty() {
        let mut head = r;
        let len = usize::from(head.u16()?);
        let mut b = Reader(r.take(len)?);
        b.skip(2)?;
        let weight = b.u16()?;
        b.skip(12)?;
        buckets.push(Bucket {
            weight,
            actions: read_actions(b, 0)?,
        });
    }
    Ok(Group { id, kind, buckets })
}

/// What follows the flags and the id of a meter: its one band.
fn read_meter(id: u32, flags: u16, mut bands: Reader<'_>) -> Result<Meter> {
    let mut m = Meter {
        id,
        rate: 0,
        burst: 0,
        packets: flags & 2 != 0,
    };
    if !bands.is_empty() {
        let (_, mut band, _) = bands.element(false)?;
        m.rate = band.u32()?;
        let burst = band.u32()?;
        m.burst = if flags & 4 != 0 { burst } else { 0 };
    }
    Ok(m)
}

fn read_meter_mod(mut r: Reader<'_>) -> Result<Message> {
    let (command, flags, id) = (r.u16()?, r.u16()?, r.u32()?);
    let command = match command {
        0 => MeterCommand::Add,
        1 => MeterCommand::Modify,
        2 => MeterCommand::Delete,
        _ => return Err(DecodeError::Value("a meter mod's command")),
    };
    Ok(Message::MeterMod(command, read_meter(id, flags, r)?))
}

fn read_multipart(request: bool, mut r: Reader<'_>) -> Result<Message> {
    let (kind, flags) = (r.u16()?, r.u16()?);
    r.skip(4)?;
    let more = flags & 1 != 0;
    Ok(match (request, kind) {
        (true, 1) => Message::FlowsRequest { table: r.u8()? },
        (true, 7) => Message::GroupsRequest,
        (true, 10) => Message::MetersRequest,
        (true, 13) => Message::PortsRequest,
        (false, 1) => {
            let mut flows = Vec::new();
            while !r.is_empty() {
                flows.push(read_flow_stats(prefixed(&mut r)?)?);
            }
            Message::Flows { flows, more }
        }
        (false, 7) => {
            let mut groups = Vec::new();
            while !r.is_empty() {
                let mut g = prefixed(&mut r)?;
                let kind = g.u8()?;
                g.skip(1)?;
                let id = g.u32()?;
                groups.push(read_group(id, kind, g).unwrap_or(Group {
                    id,
                    kind: GroupType::All,
                    buckets: Vec::new(),
                }));
            }
            Message::Groups { groups, more }
        }
        (false, 10) => {
            let mut meters = Vec::new();
            while !r.is_empty() {
                let mut m = prefixed(&mut r)?;
                let (flags, id) = (m.u16()?, m.u32()?);
                meters.push(read_meter(id, flags, m)?);
            }
            Message::Meters { meters, more }
        }
        (false, 13) => {
            let mut ports = Vec::new();
            while !r.is_empty() {
                ports.push(read_port(&mut r)?);
            }
            Message::Ports { ports, more }
        }
        _ => Message::Other {
            kind: if request { 18 } else { 19 },
        },
    })
}

/// An entry that begins with its own length (which is skipped).
fn prefixed<'a>(r: &mut Reader<'a>) -> Result<Reader<'a>> {
    let mut head = *r;
    let len = usize::from(head.u16()?);
    let whole = r.take(len)?;
    whole.get(2..).map(Reader).ok_or(DecodeError::Length(len))
}

fn read_flow_stats(mut r: Reader<'_>) -> Result<FlowStats> {
    let table = r.u8()?;
    r.skip(9)?;
    let (priority, idle, hard) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(6)?;
    let (cookie, packets, bytes) = (r.u64()?, r.u64()?, r.u64()?);
    let fields = take_match(&mut r)?;
    let matches = match read_fields(fields) {
        Ok(m) => Some(m),
        Err(DecodeError::Field { .. }) => None,
        Err(e) => return Err(e),
    };
    let actions = match read_instructions(r) {
        Ok(a) => Some(a),
        Err(
            DecodeError::Action(..) | DecodeError::Instruction(_) | DecodeError::Field { .. } | DecodeError::Value(_),
        ) => None,
        Err(e) => return Err(e),
    };
    let unread = if matches.is_none() {
        fields.0.to_vec()
    } else {
        Vec::new()
    };
    Ok(FlowStats {
        table,
        priority,
        cookie,
        timeouts: idle | hard != 0,
        packets,
        bytes,
        matches,
        unread,
        actions,
    })
}
