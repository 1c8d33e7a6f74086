//! Any bytes, escaped: the same JSON string that serde_json writes, of the length that was measured, and
//! nothing is written outside the output, whatever its capacity.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_core::json::escape::{Escaped, escape_into};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let measured = Escaped::measure(bytes);
    // Exactly the room that was measured, then a byte less and a byte more.
    for room in measured.len().saturating_sub(1)..measured.len() + 2 {
        let mut out = Vec::with_capacity(room);
        measured.write_into(&mut out);
        assert_eq!(out.len(), measured.len());
        assert_json(&out, &text);
    }
    let mut out = Vec::new();
    escape_into(bytes, &mut out);
    assert_json(&out, &text);
});

fn assert_json(escaped: &[u8], text: &str) {
    let quoted = [b"\"", escaped, b"\""].concat();
    assert_eq!(quoted, serde_json::to_vec(text).unwrap_or_default());
}
