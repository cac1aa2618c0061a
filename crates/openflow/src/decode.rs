//! Messages from bytes. Nothing here panics, whatever the bytes: every read is checked.

use crate::action_wire::{NICIRA, read_actions, read_instructions};
use crate::error::SwitchError;
use crate::field::Mac;
use crate::flow::{Bucket, Flow, Group, GroupType, Meter};
use crate::message::{BundleKind, Change, FlowStats, Message, MeterCommand, PacketIn, PacketOut, PortDesc, VERSION};
use crate::wire::*;

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
