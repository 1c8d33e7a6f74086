//! Whatever the bytes are, the scanner and serde_json agree on whether they are JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use sluice_core::json::scan;

fuzz_target!(|document: &[u8]| {
    let ours = scan::check(document);
    // serde_json skips ignored strings without a look at their UTF-8.
    let theirs = std::str::from_utf8(document).is_ok()
        && serde_json::from_slice::<IgnoredAny>(document).is_ok();
    assert_eq!(ours.is_ok(), theirs, "{ours:?}");
    if let Err(fault) = ours {
        assert!(fault.at <= document.len());
    }
});
