#![no_main]
//! An uploaded image: any bytes, in any pieces, are judged without a panic and in bounded memory.
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, data)) = data.split_first() else { return };
    let mut inspector = disk_image::inspect::Inspector::new();
    for chunk in data.chunks(piece as usize + 1) {
        inspector.feed(chunk);
        assert!(inspector.memory() < 16 << 20);
    }
    let inspection = inspector.finish();
    let _ = (inspection.format(), inspection.safety(), inspection.declared_format_matches("qcow2"), inspection.bootable_as("raw"));
});
