//! What an image really is, found out from its bytes alone.
//!
//! An [`Inspector`] is fed the image in chunks of any size while it streams by, keeps at most [`MEMORY_LIMIT`] bytes of
//! it, and says at the end which formats the bytes match, how large the guest's disk would be, and what is dangerous
//! about them. Every byte is untrusted: nothing here allocates, loops or seeks by a number from the image without a
//! bound, and no input makes it fail other than by an [`InspectError`].
//!
//! Names, checks and texts are those of upstream's `oslo_utils.imageutils.format_inspector`, which Glance runs at upload
//! and Nova before it lets QEMU open an image.

mod formats;

use std::fmt;
use std::io::Read;
use std::path::Path;

/// The most an inspector ever holds of an image: the VMDK descriptor (1 MiB) and the fixed headers.
pub const MEMORY_LIMIT: usize = (1 << 20) + 256 * 1024;

/// A disk format that can be told from the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Nothing that is known: plain sectors.
    Raw,
    /// QEMU's copy-on-write format, versions 2 and 3 (version 1 is recognised and refused).
    Qcow2,
    /// QEMU's abandoned enhanced disk; recognised and always refused.
    Qed,
    /// VMware's monolithicSparse and streamOptimized; the others are recognised and refused.
    Vmdk,
    /// VirtualBox.
    Vdi,
    /// Connectix and Microsoft Virtual PC; `vpc` to QEMU.
    Vhd,
    /// Hyper-V.
    Vhdx,
    /// ISO 9660 or UDF.
    Iso,
    /// Plain sectors that begin with a GPT or MBR partition table.
    Gpt,
    /// LUKS encryption around something else.
    Luks,
}

impl Format {
    /// All formats that have an inspector.
    pub const ALL: [Format; 10] = [
        Format::Raw,
        Format::Qcow2,
        Format::Vhd,
        Format::Vhdx,
        Format::Vmdk,
        Format::Vdi,
        Format::Qed,
        Format::Iso,
        Format::Gpt,
        Format::Luks,
    ];

    /// The name in Glance's `disk_format`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Qed => "qed",
            Format::Vmdk => "vmdk",
            Format::Vdi => "vdi",
            Format::Vhd => "vhd",
            Format::Vhdx => "vhdx",
            Format::Iso => "iso",
            Format::Gpt => "gpt",
            Format::Luks => "luks",
        }
    }

    /// The name that QEMU's tools have for it.
    pub fn qemu_name(self) -> &'static str {
        match self {
            Format::Vhd => "vpc",
            Format::Iso | Format::Gpt => "raw",
            other => other.name(),
        }
    }

    /// The format with this `disk_format` name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A safety check that an image did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetyFailure {
    /// Upstream's name of the check (`backing_file`, `data_file`, `mbr`, …).
    pub check: &'static str,
    /// Why, for a person.
    pub reason: String,
}

/// Why an image is not taken.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The bytes match more than one format: somebody may be hiding one in another.
    #[error("Multiple formats detected: {0}")]
    MultipleFormats(String),
    /// The bytes are not what `disk_format` says.
    #[error("Image disk_format {declared} does not match stream data {found}")]
    Mismatch {
        /// What the image's record says.
        declared: String,
        /// What the bytes are.
        found: Format,
    },
    /// The stream ended before the format's structures did.
    #[error("Incomplete file cannot be safety checked")]
    Incomplete(Format),
    /// One or more safety checks failed.
    #[error("Safety checks failed: {}", .failures.iter().map(|f| f.check).collect::<Vec<_>>().join(","))]
    Unsafe {
        /// The format as which it was checked.
        format: Format,
        /// What failed.
        failures: Vec<SafetyFailure>,
    },
    /// `disk_format` names something that cannot be checked, so Nova does not boot it.
    #[error("Image not in a supported format")]
    Unsupported(String),
    /// The file could not be read.
    #[error("reading the image: {0}")]
    Read(#[from] std::io::Error),
}

impl InspectError {
    /// One sentence for the operator: what is wrong with the image, with the checks' own reasons.
    pub fn reason(&self) -> String {
        match self {
            InspectError::Unsafe { format, failures } => {
                let list: Vec<_> = failures.iter().map(|f| format!("{} ({})", f.reason, f.check)).collect();
                format!("The {format} image is not safe to use: {}.", list.join("; "))
            }
            other => other.to_string(),
        }
    }
}

/// One format that the bytes match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The format.
    pub format: Format,
    /// The size in bytes of the disk that a guest would see; 0 where the image does not say.
    pub virtual_size: u64,
    /// The stream ended before all the structures that this format needs.
    pub incomplete: bool,
    /// What is dangerous about it.
    pub failures: Vec<SafetyFailure>,
}

/// What was found out about an image.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Everything that matched; `raw` alone if nothing did.
    pub matches: Vec<Match>,
    /// Number of bytes in the stream.
    pub size: u64,
}

/// `disk_format`s of the AMI family: parts of a machine rather than disks, with no structure of their own.
pub const AMI_FORMATS: [&str; 3] = ["ami", "aki", "ari"];

impl Inspection {
    /// The one match to go by. ISO with a partition table in front is an ISO that also boots from a stick.
    pub fn chosen(&self) -> Result<&Match, InspectError> {
        if let [only] = self.matches.as_slice() {
            return Ok(only);
        }
        let mut formats: Vec<_> = self.matches.iter().map(|m| m.format).collect();
        formats.sort();
        if formats == [Format::Iso, Format::Gpt]
            && let Some(iso) = self.matches.iter().find(|m| m.format == Format::Iso)
        {
            return Ok(iso);
        }
        let names: Vec<_> = formats.iter().map(|f| f.name()).collect();
        Err(InspectError::MultipleFormats(names.join(",")))
    }

    /// The format to go by.
    pub fn format(&self) -> Result<Format, InspectError> {
        Ok(self.chosen()?.format)
    }

    /// All safety checks of the chosen format.
    pub fn safety(&self) -> Result<(), InspectError> {
        check_safety(self.chosen()?)
    }

    /// Glance's rule at upload, for container format `bare`: whether an image declared as `disk_format` may keep these
    /// bytes. Returns the virtual size to record.
    ///
    /// `raw` may be anything that is safe (then its size is that of the stream); a format without an inspector
    /// (`ami`, `ploop`, …) may be anything that is not recognised. Other container formats are not looked into.
    pub fn declared_format_matches(&self, disk_format: &str) -> Result<u64, InspectError> {
        let chosen = self.chosen()?;
        let virtual_size = if chosen.format.name() == disk_format {
            chosen.virtual_size
        } else if chosen.format == Format::Raw && Format::from_name(disk_format).is_none() {
            0
        } else if disk_format == "raw" {
            self.size
        } else {
            return Err(InspectError::Mismatch {
                declared: disk_format.to_owned(),
                found: chosen.format,
            });
        };
        check_safety(chosen)?;
        Ok(virtual_size)
    }

    /// Nova's rule before a guest is made of the image. Returns the format in which QEMU has to open it.
    pub fn bootable_as(&self, disk_format: &str) -> Result<&'static str, InspectError> {
        let ami = AMI_FORMATS.contains(&disk_format);
        let declared = Format::from_name(disk_format);
        if declared.is_none() && !ami {
            return Err(InspectError::Unsupported(disk_format.to_owned()));
        }
        let chosen = self.chosen()?;
        check_safety(chosen)?;
        let whole_disk = disk_format == "raw" && chosen.format == Format::Gpt;
        match declared {
            _ if ami || whole_disk => Ok("raw"),
            Some(format) if format == chosen.format => Ok(format.qemu_name()),
            _ => Err(InspectError::Mismatch {
                declared: disk_format.to_owned(),
                found: chosen.format,
            }),
        }
    }
}

fn check_safety(chosen: &Match) -> Result<(), InspectError> {
    if chosen.incomplete {
        return Err(InspectError::Incomplete(chosen.format));
    }
    if chosen.failures.is_empty() {
        Ok(())
    } else {
        Err(InspectError::Unsafe {
            format: chosen.format,
            failures: chosen.failures.clone(),
        })
    }
}

/// Part of the stream that is to be kept.
#[derive(Debug)]
struct Capture {
    offset: u64,
    length: usize,
    data: Vec<u8>,
}

impl Capture {
    fn new(offset: u64, length: usize) -> Capture {
        Capture {
            offset,
            length,
            data: Vec::new(),
        }
    }

    /// Takes from `chunk`, which starts at `position` of the stream, what continues this region.
    fn take(&mut self, chunk: &[u8], position: u64) {
        let Some(wanted) = self.offset.checked_add(self.data.len() as u64) else {
            return;
        };
        let missing = self.length - self.data.len();
        if missing == 0 || wanted < position || wanted >= position + chunk.len() as u64 {
            return;
        }
        let start = (wanted - position) as usize;
        let end = chunk.len().min(start.saturating_add(missing));
        self.data.extend_from_slice(&chunk[start..end]);
    }

    fn complete(&self) -> bool {
        self.data.len() == self.length
    }
}

/// Length of the part at the beginning that the fixed headers live in: up to the end of the ISO volume descriptor.
const HEAD: usize = 34 * 1024;
/// Length of a stream-optimized VMDK's end: footer marker, footer, end-of-stream marker.
const TAIL: usize = 1536;

/// Watches an image stream by. See the module.
#[derive(Debug)]
pub struct Inspector {
    position: u64,
    head: Capture,
    tail: Vec<u8>,
    vmdk: formats::Vmdk,
    vhdx: formats::Vhdx,
}

impl Default for Inspector {
    fn default() -> Self {
        Self::new()
    }
}

impl Inspector {
    /// An inspector that has seen nothing.
    pub fn new() -> Inspector {
        Inspector {
            position: 0,
            head: Capture::new(0, HEAD),
            tail: Vec::new(),
            vmdk: formats::Vmdk::default(),
            vhdx: formats::Vhdx::default(),
        }
    }

    /// The next bytes of the stream. Costs next to nothing past the headers.
    pub fn feed(&mut self, chunk: &[u8]) {
        // The formats decide from earlier bytes which later ones they want, so what a chunk reveals can only apply to
        // the rest of it: small steps at the beginning, whole chunks afterwards.
        let mut rest = chunk;
        while !rest.is_empty() {
            let fine = self.position < HEAD as u64 || self.vhdx.pending();
            let step = if fine { rest.len().min(512) } else { rest.len() };
            let (now, later) = rest.split_at(step);
            self.step(now);
            rest = later;
        }
    }

    fn step(&mut self, chunk: &[u8]) {
        self.head.take(chunk, self.position);
        self.vmdk.take(chunk, self.position, &self.head.data);
        self.vhdx.take(chunk, self.position, &self.head.data);
        if chunk.len() >= TAIL {
            self.tail.clear();
            self.tail.extend_from_slice(&chunk[chunk.len() - TAIL..]);
        } else {
            let excess = (self.tail.len() + chunk.len()).saturating_sub(TAIL);
            self.tail.drain(..excess);
            self.tail.extend_from_slice(chunk);
        }
        self.position = self.position.saturating_add(chunk.len() as u64);
    }

    /// Number of bytes of the image held in memory.
    pub fn memory(&self) -> usize {
        self.head.data.len() + self.tail.len() + self.vmdk.memory() + self.vhdx.memory()
    }

    /// The stream has ended: what was it?
    pub fn finish(self) -> Inspection {
        let head = self.head.data.as_slice();
        let size = self.position;
        let mut matches: Vec<Match> = [
            formats::qcow2(head),
            formats::qed(head),
            formats::vhd(head),
            formats::vdi(head),
            formats::iso(head),
            formats::gpt(head, size),
            formats::luks(head, size),
            self.vmdk.result(head, &self.tail),
            self.vhdx.result(head),
        ]
        .into_iter()
        .flatten()
        .collect();
        if matches.is_empty() {
            matches.push(Match {
                format: Format::Raw,
                virtual_size: size,
                incomplete: false,
                failures: Vec::new(),
            });
        }
        Inspection { matches, size }
    }
}

/// Inspects all of a file. A sparse file of many GiB costs its reading; use it on files that were just written.
pub fn inspect_file(path: &Path) -> Result<Inspection, InspectError> {
    inspect_reader(&mut std::fs::File::open(path)?)
}

/// Inspects all that a reader gives.
pub fn inspect_reader(reader: &mut impl Read) -> Result<Inspection, InspectError> {
    let mut inspector = Inspector::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(inspector.finish()),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        inspector.feed(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests;
