//! Whatever a connection brings, and however it is cut: nothing panics, and the same bytes pass.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_proxy::http::fuzz_framing;

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    fuzz_framing(bytes, usize::from(cut));
});
