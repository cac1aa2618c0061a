//! The formats' headers, one function or state each. Offsets are from the formats' public specifications.

use super::{Capture, Format, Match, SafetyFailure};

fn be32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn be64(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(data.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn le16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn le32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn le64(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn failure(check: &'static str, reason: impl Into<String>) -> SafetyFailure {
    SafetyFailure {
        check,
        reason: reason.into(),
    }
}

fn matched(format: Format, virtual_size: u64, failures: Vec<SafetyFailure>) -> Option<Match> {
    Some(Match {
        format,
        virtual_size,
        incomplete: false,
        failures,
    })
}

/// Bits of qcow2's incompatible features that are understood: dirty, corrupt, external data file, compression type.
const QCOW2_KNOWN_FEATURES: u64 = 0b1111;
const QCOW2_EXTERNAL_DATA: u64 = 0b0100;

/// QEMU's docs/interop/qcow2.txt.
pub fn qcow2(head: &[u8]) -> Option<Match> {
    if head.len() < 512 || !head.starts_with(b"QFI\xfb") {
        return None;
    }
    let version = be32(head, 4)?;
    let features = be64(head, 0x48)?;
    let mut failures = Vec::new();
    if be64(head, 8)? != 0 {
        failures.push(failure("backing_file", "Image has a backing file"));
    }
    if features & QCOW2_EXTERNAL_DATA != 0 {
        failures.push(failure("data_file", "Image has data_file set"));
    }
    match version {
        2 => {}
        3 if features & !QCOW2_KNOWN_FEATURES != 0 => {
            failures.push(failure("unknown_features", "Unknown QCOW2 features found"));
        }
        3 => {}
        _ => failures.push(failure("unknown_features", "Unsupported qcow2 version")),
    }
    matched(Format::Qcow2, be64(head, 24)?, failures)
}

/// Recognised so that it can be refused.
pub fn qed(head: &[u8]) -> Option<Match> {
    if head.len() < 512 || !head.starts_with(b"QED\0") {
        return None;
    }
    matched(
        Format::Qed,
        0,
        vec![failure("banned", "This file format is not allowed")],
    )
}

/// Virtual PC's dynamic disks carry a copy of the footer at the beginning; fixed disks have only the footer and cannot
/// be told from raw.
pub fn vhd(head: &[u8]) -> Option<Match> {
    if !head.starts_with(b"conectix") {
        return None;
    }
    let incomplete = head.len() < 512;
    let virtual_size = if incomplete { 0 } else { be64(head, 40)? };
    Some(Match {
        format: Format::Vhd,
        virtual_size,
        incomplete,
        failures: Vec::new(),
    })
}

/// VirtualBox.
pub fn vdi(head: &[u8]) -> Option<Match> {
    if head.len() < 512 || le32(head, 0x40)? != 0xbeda_107f {
        return None;
    }
    matched(Format::Vdi, le64(head, 0x170)?, Vec::new())
}

/// ECMA-119 and ECMA-167: the first descriptor after the 32 KiB system area.
pub fn iso(head: &[u8]) -> Option<Match> {
    let descriptor = head.get(32 * 1024..34 * 1024)?;
    if !matches!(&descriptor[1..6], b"CD001" | b"NSR02" | b"NSR03") {
        return None;
    }
    let virtual_size = if descriptor[0] == 1 {
        u64::from(le32(descriptor, 80)?) * u64::from(le16(descriptor, 128)?)
    } else {
        0
    };
    matched(Format::Iso, virtual_size, Vec::new())
}

/// The MBR, alone or in front of a GPT. A FAT file system's boot sector has the same signature and is none.
pub fn gpt(head: &[u8], size: u64) -> Option<Match> {
    let mbr = head.get(..512)?;
    let fat = mbr[0x10] == 2 && mbr[0x15] == 0xf8;
    if le16(mbr, 510)? != 0xaa55 || fat {
        return None;
    }
    let failures = match partitions(mbr) {
        Ok(()) => Vec::new(),
        Err(reason) => vec![failure("mbr", reason)],
    };
    matched(Format::Gpt, size, failures)
}

fn partitions(mbr: &[u8]) -> Result<(), String> {
    let mut valid = Vec::new();
    let mut protective = false;
    for i in 0..4 {
        let entry = &mbr[446 + 16 * i..446 + 16 * (i + 1)];
        if !matches!(entry[0], 0x00 | 0x80) {
            return Err(format!("MBR PTE {i} has invalid boot flag"));
        }
        if entry[4] != 0 {
            valid.push(i);
        }
        if entry[4] == 0xee {
            protective = true;
            if entry[1..4] != [0x00, 0x02, 0x00] {
                return Err("GPT MBR has invalid start CHS".to_owned());
            }
            if le32(entry, 8) != Some(1) {
                return Err("GPT MBR has invalid start LBA".to_owned());
            }
        }
    }
    if protective && valid != [0] {
        return Err("GPT MBR defines invalid extra partitions".to_owned());
    }
    if valid.is_empty() {
        return Err("GPT MBR has no partitions defined".to_owned());
    }
    Ok(())
}

/// LUKS version 1; version 2 is recognised and refused, as QEMU cannot read it.
pub fn luks(head: &[u8], size: u64) -> Option<Match> {
    if !head.starts_with(b"LUKS\xba\xbe") {
        return None;
    }
    if head.len() < 592 {
        return Some(Match {
            format: Format::Luks,
            virtual_size: 0,
            incomplete: true,
            failures: Vec::new(),
        });
    }
    let version = u16::from_be_bytes([head[6], head[7]]);
    let payload = u64::from(be32(head, 104)?) * 512;
    let mut failures = Vec::new();
    if version != 1 {
        failures.push(failure("version", format!("LUKS version {version} is not supported")));
    }
    matched(Format::Luks, size.saturating_sub(payload), failures)
}

/// QEMU's own bounds of where the descriptor is and how long.
const VMDK_DESCRIPTOR_OFFSET: u64 = 512;
const VMDK_DESCRIPTOR_MAX: usize = (1 << 20) - 1;
/// In place of the grain directory's offset: the real header is the footer.
const VMDK_AT_END: u64 = u64::MAX;

/// VMware's virtual disk format 5.0: a sparse header with an embedded descriptor, or the descriptor alone as text.
#[derive(Debug, Default)]
pub struct Vmdk {
    state: VmdkState,
}

#[derive(Debug, Default)]
enum VmdkState {
    #[default]
    Undecided,
    Sparse(Capture),
    /// A sparse header whose descriptor is where QEMU would not look.
    Broken(&'static str),
    Text(Capture),
    No,
}

impl Vmdk {
    pub fn take(&mut self, chunk: &[u8], position: u64, head: &[u8]) {
        if matches!(self.state, VmdkState::Undecided) && head.len() >= 512 {
            self.decide(&head[..512]);
            if let VmdkState::Text(capture) = &mut self.state {
                // All that has come so far is in the head, as deciding happens at the first opportunity.
                let known = head.len().min(position as usize);
                capture.take(&head[..known], 0);
            }
        }
        if let VmdkState::Sparse(capture) | VmdkState::Text(capture) = &mut self.state {
            capture.take(chunk, position);
        }
    }

    fn decide(&mut self, header: &[u8]) {
        self.state = if header.starts_with(b"KDMV") {
            let (version, offset, sectors) = (le32(header, 4), le64(header, 28), le64(header, 36));
            match (version, offset, sectors) {
                (Some(1..=3), Some(1), Some(sectors)) => {
                    let length = sectors.saturating_mul(512).min(VMDK_DESCRIPTOR_MAX as u64) as usize;
                    VmdkState::Sparse(Capture::new(VMDK_DESCRIPTOR_OFFSET, length))
                }
                (Some(1..=3), ..) => VmdkState::Broken("Wrong descriptor location"),
                _ => VmdkState::Broken("Unsupported format version"),
            }
        } else if is_text(header) {
            VmdkState::Text(Capture::new(0, VMDK_DESCRIPTOR_MAX))
        } else {
            VmdkState::No
        };
    }

    pub fn memory(&self) -> usize {
        match &self.state {
            VmdkState::Sparse(capture) | VmdkState::Text(capture) => capture.data.len(),
            _ => 0,
        }
    }

    pub fn result(mut self, head: &[u8], tail: &[u8]) -> Option<Match> {
        if matches!(self.state, VmdkState::Undecided) {
            // Shorter than a sector: no sparse header, but a descriptor can be that short.
            if !is_text(head) || head.is_empty() {
                return None;
            }
            let mut capture = Capture::new(0, VMDK_DESCRIPTOR_MAX);
            capture.take(head, 0);
            self.state = VmdkState::Text(capture);
        }
        match self.state {
            VmdkState::Undecided | VmdkState::No => None,
            VmdkState::Broken(reason) => matched(Format::Vmdk, 0, vec![failure("descriptor", reason)]),
            VmdkState::Text(capture) => {
                let text = descriptor_text(&capture.data)?;
                create_type(&text)?;
                matched(Format::Vmdk, 0, descriptor_failures(Some(&text)))
            }
            VmdkState::Sparse(capture) => {
                let text = descriptor_text(&capture.data);
                let sparse = text.as_deref().and_then(create_type).is_some_and(is_single_file);
                let virtual_size = if sparse {
                    le64(head, 12).unwrap_or(0).saturating_mul(512)
                } else {
                    0
                };
                let mut failures = descriptor_failures(text.as_deref());
                let mut incomplete = !capture.complete();
                if le64(head, 56) == Some(VMDK_AT_END) {
                    incomplete |= tail.len() < super::TAIL;
                    if let Err(reason) = footer(head, tail) {
                        failures.push(failure("footer", reason));
                    }
                }
                Some(Match {
                    format: Format::Vmdk,
                    virtual_size,
                    incomplete,
                    failures,
                })
            }
        }
    }
}

fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace() || matches!(b, b' ' | 0x0b | 0x1c..=0x1f))
}

/// The descriptor up to its padding, in lower case as it is compared without case.
fn descriptor_text(data: &[u8]) -> Option<String> {
    let end = data.iter().position(|&b| b == 0).unwrap_or(data.len());
    let text = std::str::from_utf8(&data[..end]).ok()?;
    text.is_ascii().then(|| text.to_ascii_lowercase())
}

fn create_type(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("createtype=\"")?;
    let (value, _) = rest.split_once('"')?;
    (value.len() < 64).then_some(value)
}

fn is_single_file(create_type: &str) -> bool {
    matches!(create_type, "monolithicsparse" | "streamoptimized")
}

/// Each line must be understood, and no extent may name a file outside.
fn descriptor_failures(text: Option<&str>) -> Vec<SafetyFailure> {
    let check = || -> Result<(), &'static str> {
        let text = text.filter(|t| !t.is_empty()).ok_or("No descriptor found")?;
        if !create_type(text).is_some_and(is_single_file) {
            return Err("Unsupported subformat");
        }
        let mut extents = Vec::new();
        for line in text.split('\n').map(str::trim) {
            let first_word = line.split(' ').next().unwrap_or_default();
            let field = line.split_once('=').is_some_and(|(name, _)| !name.contains(' '));
            if line.is_empty() || line.starts_with('#') || line.starts_with("ddb") || field {
                continue;
            }
            if !matches!(first_word, "rw" | "rdonly" | "noaccess") {
                return Err("Invalid VMDK descriptor data");
            }
            extents.push(line);
        }
        if extents.iter().any(|line| line.contains('/')) {
            return Err("Invalid extent filenames found");
        }
        if extents.is_empty() {
            Err("No extents found")
        } else {
            Ok(())
        }
    };
    check()
        .err()
        .map(|reason| failure("descriptor", reason))
        .into_iter()
        .collect()
}

/// A footer overrides the header, so it must say the same.
fn footer(head: &[u8], tail: &[u8]) -> Result<(), &'static str> {
    let [marker, footer, end] = match tail.len() {
        super::TAIL => [&tail[..512], &tail[512..1024], &tail[1024..]],
        _ => return Err("Footer marker is invalid"),
    };
    if head.get(..4) != footer.get(..4) {
        return Err("Header and footer signature do not match");
    }
    if le32(head, 4) != le32(footer, 4) {
        return Err("Header and footer versions do not match");
    }
    if le64(head, 28) != le64(footer, 28) || le64(head, 36) != le64(footer, 36) {
        return Err("Footer specifies a different descriptor than header");
    }
    if le64(footer, 56) == Some(VMDK_AT_END) {
        return Err("Footer indicates another footer");
    }
    let padded = |sector: &[u8]| sector[16..].iter().all(|&b| b == 0);
    if le32(marker, 8) != Some(0) || le32(marker, 12) != Some(3) || !padded(marker) {
        return Err("Footer marker is invalid");
    }
    if le64(end, 0) != Some(0) || le32(end, 8) != Some(0) || le32(end, 12) != Some(0) || !padded(end) {
        return Err("End-of-stream marker is invalid");
    }
    Ok(())
}

const VHDX_REGION_TABLE: u64 = 192 * 1024;
const VHDX_TABLE: usize = 64 * 1024;
const VHDX_MAX_ENTRIES: usize = 2047;
/// 8B7CA206-4790-4B9A-B8FE-575F050F886E as it is stored.
const VHDX_METADATA_REGION: [u8; 16] = [
    0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e,
];
/// 2FA54224-CD1B-4876-B211-5DBED83BF4B8 as it is stored.
const VHDX_VIRTUAL_SIZE: [u8; 16] = [
    0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8,
];

/// MS-VHDX: the region table leads to the metadata table, which leads to the virtual size.
#[derive(Debug, Default)]
pub struct Vhdx {
    is: Option<bool>,
    regions: Option<Capture>,
    metadata: Option<Capture>,
    size: Option<Capture>,
    broken: bool,
}

impl Vhdx {
    /// Still waiting for a table that says where the next one is.
    pub fn pending(&self) -> bool {
        self.is == Some(true) && !self.broken && self.size.is_none()
    }

    pub fn take(&mut self, chunk: &[u8], position: u64, head: &[u8]) {
        if self.is.is_none() && head.len() >= 8 {
            self.is = Some(head.starts_with(b"vhdxfile"));
            self.regions = Some(Capture::new(VHDX_REGION_TABLE, VHDX_TABLE));
        }
        if self.is != Some(true) || self.broken {
            return;
        }
        for capture in [&mut self.regions, &mut self.metadata, &mut self.size]
            .into_iter()
            .flatten()
        {
            capture.take(chunk, position);
        }
        let end = position.saturating_add(chunk.len() as u64);
        if self.metadata.is_none()
            && let Some(table) = self.regions.as_ref().filter(|r| r.complete())
        {
            match metadata_region(&table.data) {
                // A place that has gone by cannot be read from a stream.
                Some(offset) if offset >= end => self.metadata = Some(Capture::new(offset, VHDX_TABLE)),
                _ => self.broken = true,
            }
        }
        if self.size.is_none()
            && let Some(table) = self.metadata.as_ref().filter(|m| m.complete())
        {
            match size_entry(&table.data) {
                Some(offset) => self.size = Some(Capture::new(table.offset.saturating_add(offset), 8)),
                None => self.broken = true,
            }
        }
    }

    pub fn memory(&self) -> usize {
        [&self.regions, &self.metadata, &self.size]
            .into_iter()
            .flatten()
            .map(|c| c.data.len())
            .sum()
    }

    pub fn result(self, head: &[u8]) -> Option<Match> {
        if !head.starts_with(b"vhdxfile") {
            return None;
        }
        let size = self.size.filter(|s| s.complete()).and_then(|s| le64(&s.data, 0));
        Some(Match {
            format: Format::Vhdx,
            virtual_size: size.unwrap_or(0),
            incomplete: size.is_none(),
            failures: Vec::new(),
        })
    }
}

fn metadata_region(table: &[u8]) -> Option<u64> {
    let count = le32(table, 8)? as usize;
    if !table.starts_with(b"regi") || count > VHDX_MAX_ENTRIES {
        return None;
    }
    let entry = (0..count)
        .map(|i| 16 + 32 * i)
        .find(|&at| table.get(at..at + 16) == Some(&VHDX_METADATA_REGION))?;
    le64(table, entry + 16)
}

fn size_entry(table: &[u8]) -> Option<u64> {
    let count = usize::from(le16(table, 10)?);
    if !table.starts_with(b"metadata") || count > VHDX_MAX_ENTRIES {
        return None;
    }
    let entry = (0..count)
        .map(|i| 32 + 32 * i)
        .find(|&at| table.get(at..at + 16) == Some(&VHDX_VIRTUAL_SIZE))?;
    let offset = u64::from(le32(table, entry + 16)?);
    // The items lie behind the table, which is what lets a stream be read once.
    (offset >= VHDX_TABLE as u64).then_some(offset)
}
