//! From a folder to a bootable disk, without mounting anything and without being root.
//!
//! Layout: boot sector; from sector 2048 the kernel and the initial file system as plain runs of sectors, outside any
//! partition, as other boot loaders use that gap; then the root partition, last so that it can grow.

use super::{Error, Options, elf, rootfs::BOOT_MODULES, rootfs::Packages};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

const SECTOR: u64 = 512;
/// What the boot sector copies in one step.
const STEP: u64 = 64;
const BOOT_AREA: u64 = 2048;
/// Where Linux's boot protocol has these things.
const SETUP_ADDRESS: u32 = 0x1_0000;
const COMMAND_LINE_ADDRESS: u32 = 0x1_e000;
const KERNEL_ADDRESS: u32 = 0x10_0000;
/// Above what the kernel unpacks itself into, below the end of a 128 MiB guest.
const INITRD_ADDRESS: u32 = 0x600_0000;
const INITRD_MAX: usize = 24 << 20;
const TABLE: usize = 400;
const BOOT_SECTOR: &[u8; 440] = include_bytes!("boot.bin");

const COMMAND_LINE: &str = "console=tty0 console=ttyS0,115200 quiet loglevel=4 mitigations=off nokaslr no_timer_check \
                            tsc=reliable random.trust_cpu=on audit=0 net.ifnames=0 rdinit=/init panic=10\0";

/// A `newc` cpio archive.
#[derive(Default)]
struct Cpio {
    data: Vec<u8>,
    inode: u32,
}

impl Cpio {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        self.data.extend_from_slice(b"070701");
        for field in fields {
            self.data.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.data.extend_from_slice(name.as_bytes());
        self.data.push(0);
        self.pad();
        self.data.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.data.resize(self.data.len().next_multiple_of(4), 0);
    }

    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040755, b"");
    }

    fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100755, content);
    }

    fn link(&mut self, name: &str, target: &str) {
        self.entry(name, 0o120777, target.as_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.data
    }
}

/// The file system that the kernel starts in: busybox and what it takes to reach the disk. Not compressed, as unpacking
/// costs an emulated guest more than reading.
fn initial_file_system(packages: &Packages, staging: &Path) -> Result<Vec<u8>, Error> {
    let mut cpio = Cpio::default();
    for name in [
        "bin",
        "dev",
        "proc",
        "sys",
        "root",
        "modules",
        "lib64",
        "lib",
        "lib/x86_64-linux-gnu",
    ] {
        cpio.folder(name);
    }
    let read = |path: &str| {
        let path = staging.join(path);
        fs::read(&path).map_err(Error::io("reading", &path))
    };
    let busybox = read("usr/bin/busybox")?;
    let needs = elf::needs(&busybox).unwrap_or_default();
    cpio.file("bin/busybox", &busybox);
    for applet in [
        "sh",
        "mount",
        "cat",
        "insmod",
        "findfs",
        "blkid",
        "grep",
        "sleep",
        "switch_root",
    ] {
        cpio.link(&format!("bin/{applet}"), "busybox");
    }
    cpio.link("sbin", "bin");
    for library in &needs.libraries {
        let content = read(&format!("usr/lib/x86_64-linux-gnu/{library}"))?;
        cpio.file(&format!("lib/x86_64-linux-gnu/{library}"), &content);
    }
    if let Some(interpreter) = &needs.interpreter {
        let name = interpreter.rsplit('/').next().unwrap_or_default();
        cpio.file(
            interpreter.trim_start_matches('/'),
            &read(&format!("usr/lib/x86_64-linux-gnu/{name}"))?,
        );
    }
    let modules = packages.modules(&BOOT_MODULES)?;
    let order: Vec<String> = modules.iter().map(|(name, _)| format!("{name}.ko\n")).collect();
    cpio.file("modules/order", order.concat().as_bytes());
    for (name, content) in &modules {
        cpio.file(&format!("modules/{name}.ko"), content);
    }
    cpio.file("init", include_bytes!("files/init"));
    Ok(cpio.finish())
}

/// The kernel's two halves: the setup code with what a loader writes into its header, and the rest.
fn split_kernel(mut kernel: Vec<u8>, initrd_length: u32) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let bad = |what| Error::Kernel(what);
    if kernel.get(0x202..0x206) != Some(b"HdrS") || kernel.len() < 0x8000 {
        return Err(bad("it is no bzImage"));
    }
    if u16::from_le_bytes([kernel[0x206], kernel[0x207]]) < 0x0206 {
        return Err(bad("its boot protocol is older than 2.06"));
    }
    let sectors = match kernel[0x1f1] {
        0 => 4,
        n => usize::from(n),
    };
    let setup_length = (sectors + 1) * SECTOR as usize;
    if setup_length > (STEP * SECTOR) as usize {
        return Err(bad("its setup code is larger than 32 KiB"));
    }
    let init_size = u32::from_le_bytes([kernel[0x260], kernel[0x261], kernel[0x262], kernel[0x263]]);
    let preferred = u32::from_le_bytes([kernel[0x258], kernel[0x259], kernel[0x25a], kernel[0x25b]]);
    if preferred.saturating_add(init_size) > INITRD_ADDRESS {
        return Err(bad("it needs more memory than a 128 MiB guest has"));
    }
    let mut put = |at: usize, value: u32| kernel[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(0x218, INITRD_ADDRESS);
    put(0x21c, initrd_length);
    put(0x228, COMMAND_LINE_ADDRESS);
    // heap_end_ptr: offset from the setup's start, less 0x200.
    kernel[0x224..0x226].copy_from_slice(&0xde00u16.to_le_bytes());
    // type_of_loader: none that is registered; loadflags: the heap may be used.
    kernel[0x210] = 0xff;
    kernel[0x211] |= 0x80;
    let rest = kernel.split_off(setup_length);
    Ok((kernel, rest))
}

/// What the boot sector loads: content and address.
fn boot_areas(kernel: Vec<u8>, initrd: Vec<u8>) -> Result<[(Vec<u8>, u32); 4], Error> {
    if initrd.len() > INITRD_MAX {
        return Err(Error::Kernel("its modules are too large for a 128 MiB guest"));
    }
    let (setup, rest) = split_kernel(kernel, initrd.len() as u32)?;
    Ok([
        (setup, SETUP_ADDRESS),
        (COMMAND_LINE.as_bytes().to_vec(), COMMAND_LINE_ADDRESS),
        (rest, KERNEL_ADDRESS),
        (initrd, INITRD_ADDRESS),
    ])
}

/// Writes the raw disk `disk` with the root file system of `staging`.
pub fn write(packages: &Packages, options: &Options, staging: &Path, disk: &Path) -> Result<(), Error> {
    let initrd = initial_file_system(packages, staging)?;
    let areas = boot_areas(packages.kernel_image()?, initrd)?;

    let mut sector = [0; SECTOR as usize];
    sector[..BOOT_SECTOR.len()].copy_from_slice(BOOT_SECTOR);
    let mut file = fs::File::create(disk).map_err(Error::io("creating the disk", disk))?;
    let mut next = BOOT_AREA;
    for (i, (content, address)) in areas.iter().enumerate() {
        let steps = (content.len() as u64).div_ceil(STEP * SECTOR);
        let entry = TABLE + 10 * i;
        sector[entry..entry + 4].copy_from_slice(&(next as u32).to_le_bytes());
        sector[entry + 4..entry + 6].copy_from_slice(&(steps as u16).to_le_bytes());
        sector[entry + 6..entry + 10].copy_from_slice(&address.to_le_bytes());
        file.seek(SeekFrom::Start(next * SECTOR))
            .map_err(Error::io("writing the disk", disk))?;
        file.write_all(content).map_err(Error::io("writing the disk", disk))?;
        next += steps * STEP;
    }

    let start = next.next_multiple_of(2048);
    let total = u64::from(options.size_mib) * 2048;
    let length = total
        .checked_sub(start)
        .filter(|sectors| *sectors > 16 * 2048)
        .ok_or(Error::TooSmall)?;
    // One partition, bootable, Linux; no CHS.
    sector[446] = 0x80;
    sector[450] = 0x83;
    sector[454..458].copy_from_slice(&(start as u32).to_le_bytes());
    sector[458..462].copy_from_slice(&(length as u32).to_le_bytes());
    // Disk signature, so that the kernel can name the partition by it.
    sector[440..444].copy_from_slice(b"tiny");
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    file.seek(SeekFrom::Start(0))
        .map_err(Error::io("writing the disk", disk))?;
    file.write_all(&sector).map_err(Error::io("writing the disk", disk))?;
    file.set_len(total * SECTOR)
        .map_err(Error::io("writing the disk", disk))?;
    drop(file);

    let offset = start * SECTOR;
    let output = Command::new("mke2fs")
        .env("PATH", super::TOOL_PATH)
        .args([
            "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-L", "tiny",
        ])
        .args(["-O", "^64bit,^metadata_csum,uninit_bg,resize_inode", "-J", "size=4"])
        .arg("-E")
        .arg(format!("offset={offset},lazy_itable_init=1,nodiscard,root_owner=0:0"))
        .arg("-d")
        .arg(staging)
        .arg(disk)
        .arg(format!("{}k", length / 2))
        .stdin(Stdio::null())
        .output()
        .map_err(Error::run("mke2fs"))?;
    if !output.status.success() {
        return Err(Error::tool("mke2fs", &output));
    }
    set_owners(options, staging, disk, offset)
}

/// mke2fs copies the owners of the folder, which are those of whoever builds.
fn set_owners(options: &Options, staging: &Path, disk: &Path, offset: u64) -> Result<(), Error> {
    let home = format!("/home/{}", options.user);
    let mut commands = String::new();
    let mut queue = vec![staging.to_owned()];
    while let Some(path) = queue.pop() {
        let relative = path
            .strip_prefix(staging)
            .map(|p| format!("/{}", p.display()))
            .unwrap_or_default();
        let metadata = path.symlink_metadata().map_err(Error::io("looking at", &path))?;
        let owner = if relative == home || relative.starts_with(&format!("{home}/")) {
            1000
        } else {
            0
        };
        for (field, is) in [("uid", metadata.uid()), ("gid", metadata.gid())] {
            if is != owner && relative != "/" {
                commands.push_str(&format!("sif \"{relative}\" {field} {owner}\n"));
            }
        }
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).map_err(Error::io("reading a folder", &path))?;
            queue.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    let mut child = Command::new("debugfs")
        .env("PATH", super::TOOL_PATH)
        .args(["-w", "-f", "-"])
        .arg(format!("{}?offset={offset}", disk.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::run("debugfs"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes()).map_err(Error::run("debugfs"))?;
    }
    let output = child.wait_with_output().map_err(Error::run("debugfs"))?;
    // Its first line of errors is its version; a command that failed adds another.
    let complaints = String::from_utf8_lossy(&output.stderr).lines().count();
    if output.status.success() && complaints <= 1 {
        Ok(())
    } else {
        Err(Error::tool("debugfs", &output))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The committed boot sector is what its source says, wherever there is an assembler.
    #[test]
    fn boot_sector_is_assembled_from_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let (object, binary) = (folder.path().join("boot.o"), folder.path().join("boot.bin"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tiny/boot.S");
        let assembled = Command::new("as").args(["--32", source, "-o"]).arg(&object).status();
        if !assembled.is_ok_and(|status| status.success()) {
            return;
        }
        let status = Command::new("objcopy")
            .args(["-O", "binary", "-j", ".text"])
            .arg(&object)
            .arg(&binary)
            .status();
        assert!(status.unwrap().success());
        assert_eq!(fs::read(binary).unwrap(), BOOT_SECTOR);
    }

    #[test]
    fn cpio_is_readable() {
        let mut cpio = Cpio::default();
        cpio.folder("etc");
        cpio.file("etc/name", b"tiny\n");
        cpio.link("bin", "usr/bin");
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("cpio")
            .args(["-i", "-d", "--quiet"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { return };
        child.stdin.take().unwrap().write_all(&cpio.finish()).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(fs::read_to_string(folder.path().join("etc/name")).unwrap(), "tiny\n");
        assert_eq!(fs::read_link(folder.path().join("bin")).unwrap(), Path::new("usr/bin"));
    }

    #[test]
    fn refuses_what_is_no_kernel() {
        assert!(matches!(split_kernel(vec![0; 100_000], 1), Err(Error::Kernel(_))));
        assert!(matches!(split_kernel(Vec::new(), 1), Err(Error::Kernel(_))));
    }
}
