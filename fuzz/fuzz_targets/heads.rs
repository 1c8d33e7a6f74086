//! Whatever a connection brings, and however it is cut: see `fuzz` in `proxy/src/http/h1`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_proxy::http::fuzz_h1;

fuzz_target!(|input: (u16, &[u8])| {
    let (choice, bytes) = input;
    fuzz_h1(bytes, choice);
});
