#![no_main]
//! What the switch sends, packet-ins among it.
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((xid, message)) = openflow::decode(data) {
        let mut again = Vec::new();
        openflow::encode(&mut again, xid, &message);
    }
});
