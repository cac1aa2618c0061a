//! Bytes: a reader that cannot run over, and the OXM encoding of fields and matches.

use crate::field::{Field, MatchField, Subfield};
use crate::flow::Match;

/// Why bytes could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before what it announces.
    #[error("message cut short")]
    Short,
    /// A length field that contradicts its surroundings.
    #[error("bad length {0}")]
    Length(usize),
    /// Not OpenFlow 1.4.
    #[error("unexpected OpenFlow wire version {0}")]
    Version(u8),
    /// A field this crate does not know.
    #[error("unknown field {class:#06x}:{number}")]
    Field {
        /// OXM class.
        class: u16,
        /// Number in the class.
        number: u8,
    },
    /// An action this crate does not know.
    #[error("unknown action {0:#06x}/{1}")]
    Action(u16, u16),
    /// An instruction this crate does not know.
    #[error("unknown instruction {0}")]
    Instruction(u16),
    /// A value outside its range.
    #[error("bad value in {0}")]
    Value(&'static str),
}

pub(crate) type Result<T> = std::result::Result<T, DecodeError>;

/// Reads from the front of a slice.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (a, b) = self.0.split_at_checked(n).ok_or(DecodeError::Short)?;
        self.0 = b;
        Ok(a)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (a, b) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = b;
        Ok(*a)
    }

    pub fn skip(&mut self, n: usize) -> Result<()> {
        self.take(n).map(drop)
    }

    pub fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|a| a[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element of a list whose elements begin with a type and a length that includes these four bytes.
    /// Yields the type, the body, and the length as announced.
    pub fn element(&mut self, aligned: bool) -> Result<(u16, Reader<'a>, usize)> {
        let mut head = *self;
        let (kind, len) = (head.u16()?, usize::from(head.u16()?));
        if len < 4 {
            return Err(DecodeError::Length(len));
        }
        let whole = self.take(len)?;
        if aligned {
            // The last element of some lists comes without its padding.
            let pad = (8 - len % 8) % 8;
            self.skip(pad.min(self.0.len()))?;
        }
        Ok((kind, Reader(&whole[4..]), len))
    }
}

/// Zeros up to a multiple of 8 since `start`.
pub(crate) fn pad(out: &mut Vec<u8>, start: usize) {
    let len = out.len() - start;
    out.resize(start + len.next_multiple_of(8), 0);
}

/// Writes the length of what was written since `start` at `at`.
pub(crate) fn set_len(out: &mut [u8], at: usize, len: usize) {
    out[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
}

macro_rules! put {
    ($out:expr, $($v:expr),*) => {{ $($out.extend_from_slice(&($v).to_be_bytes());)* }};
}
pub(crate) use put;

pub(crate) fn put_zeros(out: &mut Vec<u8>, n: usize) {
    out.resize(out.len() + n, 0);
}

/// The four bytes that name a field, without a mask.
pub(crate) fn header(field: Field) -> u32 {
    let (class, number) = field.info().header;
    u32::from(class) << 16 | u32::from(number) << 9 | field.bytes() as u32
}

pub(crate) fn put_field(out: &mut Vec<u8>, m: &MatchField) {
    let n = m.field.bytes();
    let mut h = header(m.field);
    if !m.is_exact() {
        h = (h & !0xff) | 0x100 | (n as u32 * 2);
    }
    put!(out, h);
    out.extend_from_slice(&m.value.to_be_bytes()[16 - n..]);
    if !m.is_exact() {
        out.extend_from_slice(&m.mask.to_be_bytes()[16 - n..]);
    }
}

fn field_of(header: u32) -> Result<Field> {
    let (class, number) = ((header >> 16) as u16, (header >> 9 & 0x7f) as u8);
    Field::from_header(class, number).ok_or(DecodeError::Field { class, number })
}

/// One field with its value.
pub(crate) fn read_field(r: &mut Reader<'_>) -> Result<MatchField> {
    let h = r.u32()?;
    let mut len = (h & 0xff) as usize;
    let mut body = r.take(len)?;
    let field = if h >> 16 == 0xffff {
        // An experimenter's field begins with its id. Open vSwitch reports TCP flags as ONF's (EXT-109).
        let mut inner = Reader(body);
        let (id, number) = (inner.u32()?, (h >> 9 & 0x7f) as u8);
        (body, len) = (inner.0, len - 4);
        if (id, number) != (0x4f4e_4600, 42) {
            return Err(DecodeError::Field { class: 0xffff, number });
        }
        Field::TcpFlags
    } else {
        field_of(h)?
    };
    let n = field.bytes();
    let masked = h & 0x100 != 0;
    if len != n * (1 + usize::from(masked)) {
        return Err(DecodeError::Length(len));
    }
    let number = |b: &[u8]| b.iter().fold(0u128, |v, b| v << 8 | u128::from(*b));
    let mask = if masked { number(&body[n..]) } else { u128::MAX };
    Ok(MatchField::raw(field, number(&body[..n]), mask))
}

/// A subfield as a header, an offset and a width.
pub(crate) fn subfield(header: u32, offset: u16, bits: u16) -> Result<Subfield> {
    let field = field_of(header)?;
    match (u8::try_from(offset), u8::try_from(bits)) {
        (Ok(o), Ok(b)) if b > 0 && u16::from(o) + u16::from(b) <= u16::from(field.bits()) => Ok(Subfield {
            field,
            offset: o,
            bits: b,
        }),
        _ => Err(DecodeError::Value("the bits of a field")),
    }
}

pub(crate) fn ofs_nbits(s: &Subfield) -> u16 {
    u16::from(s.offset) << 6 | (u16::from(s.bits) - 1)
}

pub(crate) fn from_ofs_nbits(header: u32, n: u16) -> Result<Subfield> {
    subfield(header, n >> 6, (n & 0x3f) + 1)
}

/// `struct ofp_match` with its padding.
pub(crate) fn put_match(out: &mut Vec<u8>, m: &Match) {
    let start = out.len();
    put!(out, 1u16, 0u16);
    for f in m.fields() {
        put_field(out, f);
    }
    let len = out.len() - start;
    set_len(out, start + 2, len);
    pad(out, start);
}

/// The fields of a `struct ofp_match`, not yet understood, and the reader moved behind its padding.
pub(crate) fn take_match<'a>(r: &mut Reader<'a>) -> Result<Reader<'a>> {
    let (kind, body, _) = r.element(true)?;
    if kind != 1 {
        Err(DecodeError::Value("the type of a match"))
    } else {
        Ok(body)
    }
}

/// Fields one after the other.
pub(crate) fn read_fields(mut r: Reader<'_>) -> Result<Match> {
    let mut m = Match::new();
    while !r.is_empty() {
        m.set(read_field(&mut r)?);
    }
    Ok(m)
}

/// The same, leaving out those that are not known.
pub(crate) fn read_known_fields(mut r: Reader<'_>) -> Result<Match> {
    let mut m = Match::new();
    while !r.is_empty() {
        match read_field(&mut r) {
            Ok(f) => m.set(f),
            Err(DecodeError::Field { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(m)
}
