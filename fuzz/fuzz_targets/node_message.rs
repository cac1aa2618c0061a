#![no_main]
//! What comes over the link between controller and node, in any pieces.
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut decoder = node_protocol::message::Decoder::default();
    for chunk in data.chunks(64) {
        decoder.push(chunk);
        while let Ok(Some(_)) = decoder.message::<node_protocol::ToController>() {}
    }
});
