#![no_main]
//! What ovsdb-server sends.
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) {
        let _ = ovsdb::parse_updates(&value);
    }
});
