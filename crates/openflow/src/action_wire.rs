//! Actions and instructions as bytes: OpenFlow 1.4 (sections 7.2.4 and 7.2.5) and Nicira's (`nicira-ext.h`, `ovs-actions(7)`).

use crate::action::{Action, Controller, Ct, Nat, NatRange, Zone, port, reason};
use crate::field::{Field, MatchField};
use crate::flow::{Flow, Match};
use crate::wire::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Experimenter id of Nicira, under which Open vSwitch's additions go.
pub(crate) const NICIRA: u32 = 0x2320;

/// Clone and ct contain actions; nobody nests deeper than this.
const MAX_DEPTH: u8 = 8;

mod of {
    pub const OUTPUT: u16 = 0;
    pub const PUSH_VLAN: u16 = 17;
    pub const POP_VLAN: u16 = 18;
    pub const SET_QUEUE: u16 = 21;
    pub const GROUP: u16 = 22;
    pub const DEC_TTL: u16 = 24;
    pub const SET_FIELD: u16 = 25;
    pub const EXPERIMENTER: u16 = 0xffff;
}

mod nx {
    pub const RESUBMIT: u16 = 1;
    pub const REG_MOVE: u16 = 6;
    pub const REG_LOAD: u16 = 7;
    pub const NOTE: u16 = 8;
    pub const RESUBMIT_TABLE: u16 = 14;
    pub const OUTPUT_REG: u16 = 15;
    pub const DEC_TTL: u16 = 18;
    pub const STACK_PUSH: u16 = 27;
    pub const STACK_POP: u16 = 28;
    pub const REG_LOAD2: u16 = 33;
    pub const CONJUNCTION: u16 = 34;
    pub const CT: u16 = 35;
    pub const NAT: u16 = 36;
    pub const CONTROLLER2: u16 = 37;
    pub const CLONE: u16 = 42;
    pub const CT_CLEAR: u16 = 43;
    pub const CHECK_PKT_LARGER: u16 = 49;
}

/// Begins an action, runs `body`, pads and writes the length.
fn action(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put!(out, kind, 0u16);
    body(out);
    pad(out, start);
    let len = out.len() - start;
    set_len(out, start + 2, len);
}

fn nicira(out: &mut Vec<u8>, subtype: u16, body: impl FnOnce(&mut Vec<u8>)) {
    action(out, of::EXPERIMENTER, |out| {
        put!(out, NICIRA, subtype);
        body(out);
    });
}

/// Writes one action. `Meter` and `Goto` are instructions and write nothing here.
pub(crate) fn put_action(out: &mut Vec<u8>, a: &Action) {
    match a {
        Action::Output { port, max_len } => action(out, of::OUTPUT, |out| {
            let max_len = if *port == port::CONTROLLER { *max_len } else { 0 };
            put!(out, *port, max_len);
        }),
        Action::OutputReg { src, max_len } => nicira(out, nx::OUTPUT_REG, |out| {
            put!(out, ofs_nbits(src), header(src.field), *max_len);
        }),
        Action::Group(id) => action(out, of::GROUP, |out| put!(out, *id)),
        Action::SetField(m) if m.is_exact() => action(out, of::SET_FIELD, |out| put_field(out, m)),
        Action::SetField(m) => nicira(out, nx::REG_LOAD2, |out| put_field(out, m)),
        Action::Load { dst, value } => nicira(out, nx::REG_LOAD, |out| {
            put!(out, ofs_nbits(dst), header(dst.field), *value)
        }),
        Action::Move { src, dst } => nicira(out, nx::REG_MOVE, |out| {
            let bits = u16::from(src.bits.min(dst.bits));
            put!(
                out,
                bits,
                u16::from(src.offset),
                u16::from(dst.offset),
                header(src.field),
                header(dst.field)
            );
        }),
        Action::Push(s) => put_stack(out, nx::STACK_PUSH, s),
        Action::Pop(s) => put_stack(out, nx::STACK_POP, s),
        Action::PushVlan(t) => action(out, of::PUSH_VLAN, |out| put!(out, *t)),
        Action::PopVlan => action(out, of::POP_VLAN, |out| put_zeros(out, 4)),
        Action::DecTtl => action(out, of::DEC_TTL, |out| put_zeros(out, 4)),
        Action::SetQueue(q) => action(out, of::SET_QUEUE, |out| put!(out, *q)),
        Action::Resubmit { port, table } => nicira(out, nx::RESUBMIT_TABLE, |out| {
            put!(out, port.unwrap_or(port::IN_PORT as u16), table.unwrap_or(0xff));
        }),
        Action::Ct(ct) => put_ct(out, ct),
        Action::CtClear => nicira(out, nx::CT_CLEAR, |_| ()),
        Action::Conjunction { id, clause, n } => nicira(out, nx::CONJUNCTION, |out| {
            put!(out, clause.saturating_sub(1), *n, *id);
        }),
        Action::Controller(c) => put_controller(out, c),
        Action::Note(bytes) => nicira(out, nx::NOTE, |out| out.extend_from_slice(bytes)),
        Action::Clone(actions) => nicira(out, nx::CLONE, |out| {
            put_zeros(out, 6);
            put_actions(out, actions);
        }),
        Action::CheckPktLarger { len, dst } => nicira(out, nx::CHECK_PKT_LARGER, |out| {
            put!(out, *len, u16::from(dst.offset), header(dst.field));
            put_zeros(out, 6);
        }),
        Action::Meter(_) | Action::Goto(_) => {}
    }
}

pub(crate) fn put_actions(out: &mut Vec<u8>, actions: &[Action]) {
    for a in actions {
        put_action(out, a);
    }
}

fn put_stack(out: &mut Vec<u8>, subtype: u16, s: &crate::Subfield) {
    nicira(out, subtype, |out| {
        put!(out, u16::from(s.offset), header(s.field), u16::from(s.bits))
    });
}

fn put_ct(out: &mut Vec<u8>, ct: &Ct) {
    nicira(out, nx::CT, |out| {
        put!(out, u16::from(ct.commit) | u16::from(ct.force) << 1);
        match ct.zone {
            Zone::Is(z) => put!(out, 0u32, z),
            Zone::In(s) => put!(out, header(s.field), ofs_nbits(&s)),
        }
        put!(out, ct.table.unwrap_or(0xff));
        put_zeros(out, 3);
        put!(out, ct.alg);
        match &ct.nat {
            None => {}
            Some(nat) => put_nat(out, nat),
        }
        put_actions(out, &ct.exec);
    });
}

fn put_nat(out: &mut Vec<u8>, nat: &Nat) {
    nicira(out, nx::NAT, |out| {
        let (flags, range) = match nat {
            Nat::Existing => (0u16, None),
            Nat::Src(r) => (1, Some(r)),
            Nat::Dst(r) => (2, Some(r)),
        };
        put_zeros(out, 2);
        put!(out, flags);
        let Some(r) = range else { return put!(out, 0u16) };
        let shift = if r.min.is_ipv4() { 0 } else { 2 };
        let several = r.max.filter(|m| m.is_ipv4() == r.min.is_ipv4());
        let present = 1u16 << shift
            | u16::from(several.is_some()) << (shift + 1)
            | if r.ports.is_some() { 16 } else { 0 }
            | if r.ports.is_some_and(|(a, b)| a != b) { 32 } else { 0 };
        put!(out, present);
        for a in std::iter::once(r.min).chain(several) {
            match a {
                IpAddr::V4(a) => out.extend_from_slice(&a.octets()),
                IpAddr::V6(a) => out.extend_from_slice(&a.octets()),
            }
        }
        if let Some((a, b)) = r.ports {
            put!(out, a);
            if a != b {
                put!(out, b);
            }
        }
    });
}

/// Properties of `NXAST_CONTROLLER2`; those at their default are left out, as the switch does when it dumps.
fn put_controller(out: &mut Vec<u8>, c: &Controller) {
    let property = |out: &mut Vec<u8>, kind: u16, body: &[u8]| {
        let start = out.len();
        put!(out, kind, (4 + body.len()) as u16);
        out.extend_from_slice(body);
        pad(out, start);
    };
    nicira(out, nx::CONTROLLER2, |out| {
        put_zeros(out, 6);
        if c.max_len != u16::MAX {
            property(out, 0, &[(c.max_len >> 8) as u8, c.max_len as u8, 0, 0]);
        }
        if c.id != 0 {
            property(out, 1, &[(c.id >> 8) as u8, c.id as u8, 0, 0]);
        }
        if c.reason != reason::ACTION {
            property(out, 2, &[c.reason, 0, 0, 0]);
        }
        if !c.userdata.is_empty() {
            property(out, 3, &c.userdata);
        }
    });
}

pub(crate) fn read_actions(mut r: Reader<'_>, depth: u8) -> Result<Vec<Action>> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let (kind, body, _) = r.element(false)?;
        out.push(read_action(kind, body, depth)?);
    }
    Ok(out)
}

fn read_action(kind: u16, mut r: Reader<'_>, depth: u8) -> Result<Action> {
    Ok(match kind {
        of::OUTPUT => {
            let (port, max_len) = (r.u32()?, r.u16()?);
            Action::Output {
                port,
                max_len: if port == port::CONTROLLER { max_len } else { 0 },
            }
        }
        of::PUSH_VLAN => Action::PushVlan(r.u16()?),
        of::POP_VLAN => Action::PopVlan,
        of::SET_QUEUE => Action::SetQueue(r.u32()?),
        of::GROUP => Action::Group(r.u32()?),
        of::DEC_TTL => Action::DecTtl,
        of::SET_FIELD => Action::SetField(read_field(&mut r)?),
        of::EXPERIMENTER => {
            let (vendor, subtype) = (r.u32()?, r.u16()?);
            if vendor != NICIRA {
                return Err(DecodeError::Action(kind, subtype));
            }
            return read_nicira(subtype, r, depth);
        }
        _ => return Err(DecodeError::Action(kind, 0)),
    })
}

fn read_nicira(subtype: u16, mut r: Reader<'_>, depth: u8) -> Result<Action> {
    Ok(match subtype {
        nx::RESUBMIT => Action::Resubmit {
            port: resubmit_port(r.u16()?),
            table: None,
        },
        nx::RESUBMIT_TABLE => {
            let (port, table) = (r.u16()?, r.u8()?);
            Action::Resubmit {
                port: resubmit_port(port),
                table: Some(table).filter(|t| *t != 0xff),
            }
        }
        nx::REG_MOVE => {
            let (bits, from, to) = (r.u16()?, r.u16()?, r.u16()?);
            let (src, dst) = (r.u32()?, r.u32()?);
            Action::Move {
                src: subfield(src, from, bits)?,
                dst: subfield(dst, to, bits)?,
            }
        }
        nx::REG_LOAD => {
            let (range, header, value) = (r.u16()?, r.u32()?, r.u64()?);
            Action::load(from_ofs_nbits(header, range)?, value)
        }
        nx::NOTE => Action::Note(r.0.to_vec()),
        nx::OUTPUT_REG => {
            let (range, header, max_len) = (r.u16()?, r.u32()?, r.u16()?);
            Action::OutputReg {
                src: from_ofs_nbits(header, range)?,
                max_len,
            }
        }
        nx::DEC_TTL => Action::DecTtl,
        nx::STACK_PUSH | nx::STACK_POP => {
            let (offset, header, bits) = (r.u16()?, r.u32()?, r.u16()?);
            let s = subfield(header, offset, bits)?;
            if subtype == nx::STACK_PUSH {
                Action::Push(s)
            } else {
                Action::Pop(s)
            }
        }
        nx::REG_LOAD2 => Action::SetField(read_field(&mut r)?),
        nx::CONJUNCTION => {
            let (clause, n, id) = (r.u8()?, r.u8()?, r.u32()?);
            Action::Conjunction {
                id,
                clause: clause.checked_add(1).ok_or(DecodeError::Value("a conjunction"))?,
                n,
            }
        }
        nx::CT => read_ct(r, depth)?,
        nx::CONTROLLER2 => {
            r.skip(6)?;
            let mut c = Controller::default();
            while !r.is_empty() {
                let (kind, mut body, _) = r.element(true)?;
                match kind {
                    0 => c.max_len = body.u16()?,
                    1 => c.id = body.u16()?,
                    2 => c.reason = body.u8()?,
                    3 => c.userdata = body.0.to_vec(),
                    _ => return Err(DecodeError::Action(of::EXPERIMENTER, subtype)),
                }
            }
            Action::Controller(Box::new(c))
        }
        nx::CLONE => {
            r.skip(6)?;
            Action::Clone(nested(r, depth)?)
        }
        nx::CT_CLEAR => Action::CtClear,
        nx::CHECK_PKT_LARGER => {
            let (len, offset, header) = (r.u16()?, r.u16()?, r.u32()?);
            Action::CheckPktLarger {
                len,
                dst: subfield(header, offset, 1)?,
            }
        }
        _ => return Err(DecodeError::Action(of::EXPERIMENTER, subtype)),
    })
}

fn resubmit_port(p: u16) -> Option<u16> {
    Some(p).filter(|p| *p != port::IN_PORT as u16)
}

fn nested(r: Reader<'_>, depth: u8) -> Result<Vec<Action>> {
    if depth >= MAX_DEPTH {
        return Err(DecodeError::Value("the nesting of actions"));
    }
    read_actions(r, depth + 1)
}

fn read_ct(mut r: Reader<'_>, depth: u8) -> Result<Action> {
    let flags = r.u16()?;
    let (src, range) = (r.u32()?, r.u16()?);
    let table = r.u8()?;
    r.skip(3)?;
    let alg = r.u16()?;
    let mut ct = Ct {
        commit: flags & 1 != 0,
        force: flags & 2 != 0,
        zone: if src == 0 {
            Zone::Is(range)
        } else {
            Zone::In(from_ofs_nbits(src, range)?)
        },
        table: Some(table).filter(|t| *t != 0xff),
        nat: None,
        exec: Vec::new(),
        alg,
    };
    if depth >= MAX_DEPTH {
        return Err(DecodeError::Value("the nesting of actions"));
    }
    while !r.is_empty() {
        let (kind, body, _) = r.element(false)?;
        let mut peek = body;
        let is_nat = kind == of::EXPERIMENTER && peek.u32()? == NICIRA && peek.u16()? == nx::NAT;
        if is_nat {
            ct.nat = Some(read_nat(peek)?);
        } else {
            ct.exec.push(read_action(kind, body, depth + 1)?);
        }
    }
    Ok(Action::Ct(Box::new(ct)))
}

fn read_nat(mut r: Reader<'_>) -> Result<Nat> {
    r.skip(2)?;
    let (flags, present) = (r.u16()?, r.u16()?);
    let mut v4 = |on: bool| {
        on.then(|| r.array::<4>().map(|a| IpAddr::V4(Ipv4Addr::from(a))))
            .transpose()
    };
    let (min4, max4) = (v4(present & 1 != 0)?, v4(present & 2 != 0)?);
    let mut v6 = |on: bool| {
        on.then(|| r.array::<16>().map(|a| IpAddr::V6(Ipv6Addr::from(a))))
            .transpose()
    };
    let (min6, max6) = (v6(present & 4 != 0)?, v6(present & 8 != 0)?);
    let ports = if present & 16 != 0 {
        let a = r.u16()?;
        Some((a, if present & 32 != 0 { r.u16()? } else { a }))
    } else {
        None
    };
    let range = min4.or(min6).map(|min| NatRange {
        min,
        max: if min.is_ipv4() { max4 } else { max6 },
        ports,
    });
    match (flags & 3, range) {
        (0, None) => Ok(Nat::Existing),
        (1, Some(r)) => Ok(Nat::Src(r)),
        (2, Some(r)) => Ok(Nat::Dst(r)),
        _ => Err(DecodeError::Value("nat")),
    }
}

/// The instructions of a flow. The meter comes first and the jump last, whatever their place among the actions.
pub(crate) fn put_instructions(out: &mut Vec<u8>, actions: &[Action]) {
    for a in actions {
        if let Action::Meter(id) = a {
            put!(out, 6u16, 8u16, *id);
        }
    }
    let start = out.len();
    put!(out, 4u16, 0u16, 0u32);
    put_actions(out, actions);
    if out.len() == start + 8 {
        out.truncate(start);
    } else {
        let len = out.len() - start;
        set_len(out, start + 2, len);
    }
    for a in actions {
        if let Action::Goto(table) = a {
            put!(out, 1u16, 8u16, *table, 0u8, 0u16);
        }
    }
}

pub(crate) fn read_instructions(mut r: Reader<'_>) -> Result<Vec<Action>> {
    let (mut out, mut first, mut last) = (Vec::new(), Vec::new(), Vec::new());
    while !r.is_empty() {
        let (kind, mut body, _) = r.element(false)?;
        match kind {
            1 => last.push(Action::Goto(body.u8()?)),
            4 => {
                body.skip(4)?;
                out.extend(read_actions(body, 0)?);
            }
            6 => first.push(Action::Meter(body.u32()?)),
            k => return Err(DecodeError::Instruction(k)),
        }
    }
    if !first.is_empty() {
        first.append(&mut out);
        out = first;
    }
    out.append(&mut last);
    Ok(out)
}

/// The form in which a switch reports the actions: what `decode(encode(a))` yields.
pub(crate) fn canonical_actions(actions: &[Action]) -> Vec<Action> {
    let mut out: Vec<Action> = actions
        .iter()
        .filter(|a| !matches!(a, Action::Goto(_) | Action::Meter(_)))
        .map(canonical)
        .collect();
    if let Some(meter) = actions.iter().find(|a| matches!(a, Action::Meter(_))) {
        out.insert(0, meter.clone());
    }
    out.extend(actions.iter().find(|a| matches!(a, Action::Goto(_))).cloned());
    out
}

fn canonical(a: &Action) -> Action {
    match a {
        Action::Output { port, .. } if *port != port::CONTROLLER => Action::output(*port),
        Action::Resubmit { port, table } => Action::Resubmit {
            port: port.and_then(resubmit_port),
            table: table.filter(|t| *t != 0xff),
        },
        Action::Load { dst, value } => Action::load(*dst, *value),
        Action::Note(b) => {
            let mut b = b.clone();
            let whole = (b.len() + 10).next_multiple_of(8) - 10;
            b.resize(whole, 0);
            Action::Note(b)
        }
        Action::Clone(inner) => Action::Clone(inner.iter().map(canonical).collect()),
        Action::Ct(ct) => {
            let mut ct = ct.clone();
            ct.exec = ct.exec.iter().map(canonical).collect();
            ct.table = ct.table.filter(|t| *t != 0xff);
            Action::Ct(ct)
        }
        other => other.clone(),
    }
}

impl Flow {
    /// The flow in the form in which a switch reports it, so that the two can be compared.
    pub fn canonical(&self) -> Flow {
        Flow {
            table: self.table,
            priority: self.priority,
            cookie: self.cookie,
            matches: canonical_match(&self.matches),
            actions: canonical_actions(&self.actions),
        }
    }
}

/// Wide registers are matched, and reported, as the narrow ones they consist of.
fn canonical_match(m: &Match) -> Match {
    let wide = |f: Field| (Field::XReg0..=Field::XxReg3).contains(&f);
    if !m.fields().iter().any(|f| wide(f.field)) {
        return m.clone();
    }
    let mut out: Match = m.fields().iter().filter(|f| !wide(f.field)).copied().collect();
    for f in m.fields().iter().filter(|f| wide(f.field)) {
        let words = f.field.bits() / 32;
        let group = if words == 2 { Field::XReg0 } else { Field::XxReg0 };
        let first = (f.field as u8 - group as u8) * words;
        for i in 0..words {
            let shift = 32 * (words - 1 - i);
            let word = |n: u128| n >> shift & 0xffff_ffff;
            out.set(MatchField::raw(Field::reg(first + i), word(f.value), word(f.mask)));
        }
    }
    out
}
