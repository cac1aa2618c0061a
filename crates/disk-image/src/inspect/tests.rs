#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::process::Command;

fn inspect(bytes: &[u8]) -> Inspection {
    let mut inspector = Inspector::new();
    inspector.feed(bytes);
    inspector.finish()
}

fn qcow2_header(version: u32, backing: u64, features: u64) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..4].copy_from_slice(b"QFI\xfb");
    header[4..8].copy_from_slice(&version.to_be_bytes());
    header[8..16].copy_from_slice(&backing.to_be_bytes());
    header[24..32].copy_from_slice(&(5u64 << 30).to_be_bytes());
    header[0x48..0x50].copy_from_slice(&features.to_be_bytes());
    header
}

fn failed_checks(inspection: &Inspection) -> Vec<&'static str> {
    match inspection.safety() {
        Err(InspectError::Unsafe { failures, .. }) => failures.iter().map(|f| f.check).collect(),
        other => panic!("expected failed checks, got {other:?}"),
    }
}

#[test]
fn a_plain_qcow2_passes_and_has_its_virtual_size() {
    let inspection = inspect(&qcow2_header(3, 0, 0));
    assert_eq!(inspection.declared_format_matches("qcow2").unwrap(), 5 << 30);
    assert_eq!(inspection.bootable_as("qcow2").unwrap(), "qcow2");
}

#[test]
fn qcow2_that_reaches_outside_itself_is_refused() {
    assert_eq!(failed_checks(&inspect(&qcow2_header(3, 0x200, 0))), ["backing_file"]);
    assert_eq!(failed_checks(&inspect(&qcow2_header(3, 0, 0b100))), ["data_file"]);
    assert_eq!(
        failed_checks(&inspect(&qcow2_header(3, 0, 1 << 4))),
        ["unknown_features"]
    );
    assert_eq!(
        failed_checks(&inspect(&qcow2_header(3, 0, 1 << 63))),
        ["unknown_features"]
    );
    assert_eq!(failed_checks(&inspect(&qcow2_header(1, 0, 0))), ["unknown_features"]);
    let error = inspect(&qcow2_header(3, 1, 0))
        .declared_format_matches("qcow2")
        .unwrap_err();
    assert_eq!(
        error.reason(),
        "The qcow2 image is not safe to use: Image has a backing file (backing_file)."
    );
}

#[test]
fn a_declared_format_has_to_be_that_of_the_bytes() {
    let raw = inspect(&[7; 4096]);
    let error = raw.declared_format_matches("qcow2").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Image disk_format qcow2 does not match stream data raw"
    );
    assert_eq!(raw.declared_format_matches("raw").unwrap(), 4096);
    assert_eq!(raw.declared_format_matches("ami").unwrap(), 0);
    let qcow2 = inspect(&qcow2_header(3, 0, 0));
    assert_eq!(
        qcow2.declared_format_matches("raw").unwrap(),
        512,
        "raw is the size of the stream, whatever is in it"
    );
    assert!(qcow2.declared_format_matches("vdi").is_err());
    assert!(matches!(qcow2.bootable_as("raw"), Err(InspectError::Mismatch { .. })));
    assert!(matches!(raw.bootable_as("ploop"), Err(InspectError::Unsupported(_))));
    assert!(
        inspect(&qcow2_header(3, 1, 0)).declared_format_matches("raw").is_err(),
        "calling it raw must not hide a backing file"
    );
}

fn mbr(entries: &[[u8; 16]]) -> Vec<u8> {
    let mut disk = vec![0; 1024];
    for (i, entry) in entries.iter().enumerate() {
        disk[446 + 16 * i..462 + 16 * i].copy_from_slice(entry);
    }
    disk[510] = 0x55;
    disk[511] = 0xaa;
    disk
}

#[test]
fn partition_tables() {
    let linux = [0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0];
    let disk = inspect(&mbr(&[linux]));
    assert_eq!(disk.format().unwrap(), Format::Gpt);
    assert_eq!(disk.declared_format_matches("raw").unwrap(), 1024);
    assert_eq!(disk.bootable_as("raw").unwrap(), "raw");
    assert_eq!(failed_checks(&inspect(&mbr(&[]))), ["mbr"]);
    assert!(
        inspect(&mbr(&[])).declared_format_matches("aki").is_err(),
        "a recognised format is no aki"
    );
    let protective = [0, 0, 2, 0, 0xee, 0, 0, 0, 1, 0, 0, 0, 0xff, 0, 0, 0];
    assert!(inspect(&mbr(&[protective])).safety().is_ok());
    assert_eq!(failed_checks(&inspect(&mbr(&[protective, linux]))), ["mbr"]);
}

fn iso_bytes() -> Vec<u8> {
    let mut iso = vec![0; 40 * 1024];
    iso[32768] = 1;
    iso[32769..32774].copy_from_slice(b"CD001");
    iso[32768 + 80..32768 + 84].copy_from_slice(&20u32.to_le_bytes());
    iso[32768 + 128..32768 + 130].copy_from_slice(&2048u16.to_le_bytes());
    iso
}

#[test]
fn iso_alone_with_a_partition_table_and_with_something_hidden() {
    let mut iso = iso_bytes();
    assert_eq!(inspect(&iso).declared_format_matches("iso").unwrap(), 40960);
    let table = mbr(&[[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]]);
    iso[..512].copy_from_slice(&table[..512]);
    assert_eq!(inspect(&iso).format().unwrap(), Format::Iso);
    iso[..512].copy_from_slice(&qcow2_header(3, 0, 0));
    assert_eq!(
        inspect(&iso).format().unwrap_err().to_string(),
        "Multiple formats detected: qcow2,iso"
    );
}

fn vmdk(descriptor: &str) -> Vec<u8> {
    let mut disk = vec![0; 512 * 24];
    disk[..4].copy_from_slice(b"KDMV");
    disk[4] = 1;
    disk[12..20].copy_from_slice(&2048u64.to_le_bytes());
    disk[28..36].copy_from_slice(&1u64.to_le_bytes());
    disk[36..44].copy_from_slice(&20u64.to_le_bytes());
    disk[512..512 + descriptor.len()].copy_from_slice(descriptor.as_bytes());
    disk
}

#[test]
fn vmdk_descriptors() {
    let good = "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicSparse\"\nRW 2048 SPARSE \"disk.vmdk\"\nddb.x = \"1\"\n";
    assert_eq!(inspect(&vmdk(good)).declared_format_matches("vmdk").unwrap(), 1 << 20);
    for bad in [
        good.replace("disk.vmdk", "/etc/passwd"),
        good.replace("monolithicSparse", "monolithicFlat"),
        good.replace("version=1", "include something"),
        good.replace("RW 2048 SPARSE \"disk.vmdk\"\n", ""),
        String::new(),
    ] {
        assert_eq!(failed_checks(&inspect(&vmdk(&bad))), ["descriptor"], "{bad}");
    }
    let alone = good.replace("monolithicSparse", "twoGbMaxExtentFlat");
    assert_eq!(
        failed_checks(&inspect(alone.as_bytes())),
        ["descriptor"],
        "a descriptor alone names files elsewhere"
    );
    assert_eq!(inspect(b"hello").format().unwrap(), Format::Raw);
    let short = &vmdk(good)[..2048];
    assert!(matches!(
        inspect(short).safety(),
        Err(InspectError::Incomplete(Format::Vmdk))
    ));
}

#[test]
fn qed_and_luks() {
    let mut qed = vec![0; 512];
    qed[..4].copy_from_slice(b"QED\0");
    assert_eq!(failed_checks(&inspect(&qed)), ["banned"]);
    let mut luks = vec![0; 4096];
    luks[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
    luks[104..108].copy_from_slice(&4u32.to_be_bytes());
    assert_eq!(inspect(&luks).declared_format_matches("luks").unwrap(), 2048);
    luks[7] = 2;
    assert_eq!(failed_checks(&inspect(&luks)), ["version"]);
}

/// What QEMU itself writes is recognised with the right size, in chunks of any length.
#[test]
fn agrees_with_qemu_img() {
    let folder = tempfile::tempdir().unwrap();
    if Command::new("qemu-img").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "qemu-img is missing");
        return;
    }
    for (name, options, format) in [
        ("qcow2", "", Format::Qcow2),
        ("qcow2", "compat=0.10", Format::Qcow2),
        ("vmdk", "", Format::Vmdk),
        ("vmdk", "subformat=streamOptimized", Format::Vmdk),
        ("vdi", "", Format::Vdi),
        ("vpc", "force_size=on", Format::Vhd),
        ("vhdx", "", Format::Vhdx),
    ] {
        let path = folder.path().join(format!("{name}{}", options.len()));
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", name]);
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        let output = command.arg(&path).arg("64M").output().unwrap();
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let inspection = inspect_file(&path).unwrap();
        let chosen = inspection.chosen().unwrap();
        assert_eq!(
            (chosen.format, chosen.virtual_size),
            (format, 64 << 20),
            "{name} {options}"
        );
        inspection
            .safety()
            .unwrap_or_else(|e| panic!("{name} {options}: {}", e.reason()));
        let bytes = std::fs::read(&path).unwrap();
        let mut bytewise = Inspector::new();
        for chunk in bytes.chunks(7) {
            bytewise.feed(chunk);
        }
        assert_eq!(bytewise.finish().matches, inspection.matches, "{name} {options}");
    }
    let (base, overlay) = (folder.path().join("base"), folder.path().join("overlay"));
    for args in [
        vec!["create", "-q", "-f", "raw"],
        vec!["create", "-q", "-f", "qcow2", "-F", "raw", "-b"],
    ] {
        let mut command = Command::new("qemu-img");
        command.args(&args).arg(&base);
        if args.len() > 4 {
            command.arg(&overlay);
        }
        assert!(command.arg("1M").status().unwrap().success());
    }
    assert_eq!(failed_checks(&inspect_file(&overlay).unwrap()), ["backing_file"]);
}

fn seeds() -> impl Strategy<Value = Vec<u8>> {
    let mut vhdx = vec![0; 400 * 1024];
    vhdx[..8].copy_from_slice(b"vhdxfile");
    vhdx[196608..196612].copy_from_slice(b"regi");
    vhdx[196616] = 1;
    prop_oneof![
        Just(qcow2_header(3, 0, 0)),
        Just(iso_bytes()),
        Just(vmdk("createType=\"streamOptimized\"\nRW 1 SPARSE \"x\"\n")),
        Just(vhdx),
        Just(mbr(&[])),
        Just(b"# Disk DescriptorFile\ncreateType=\"custom\"\n".repeat(40)),
        proptest::collection::vec(any::<u8>(), 0..2000),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However the bytes are bent and cut, nothing panics, memory is bounded, and the verdict does not depend on how
    /// the stream was cut into chunks.
    #[test]
    fn any_bytes_in_any_chunks(
        seed in seeds(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in any::<prop::sample::Index>(),
        chunk in 1usize..5000,
    ) {
        let mut bytes = seed;
        for (index, value) in edits {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
        }
        bytes.truncate(cut.index(bytes.len() + 1).max(bytes.len() / 2));
        let whole = inspect(&bytes);
        let mut inspector = Inspector::new();
        for piece in bytes.chunks(chunk) {
            inspector.feed(piece);
            prop_assert!(inspector.memory() <= MEMORY_LIMIT);
        }
        let pieces = inspector.finish();
        prop_assert_eq!(&whole.matches, &pieces.matches);
        let _ = whole.declared_format_matches("raw");
        let _ = whole.bootable_as("qcow2");
    }
}
