//! Whatever a body holds and is said to be coded with: nothing panics, and no output is over its limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_core::inflate::{Codings, UnwrapLimits, unwrap_events};

const LIMIT: usize = 10_000;

fuzz_target!(|body: &[u8]| {
    for list in ["gzip", "deflate", "zstd", "br", "snappy", "deflate, gzip"] {
        let mut codings = Codings::default();
        assert!(codings.read(list.as_bytes()).is_ok());
        if let Ok(out) = codings.undo(body, LIMIT) {
            assert!(out.len() <= LIMIT);
        }
    }
    let _ = Codings::default().read(body);
    let limits = UnwrapLimits {
        bytes_max: LIMIT,
        codings_max: 1,
        codings_undone: 0,
        opens_gzip: true,
    };
    if let Ok(out) = unwrap_events(body, || true, limits) {
        assert!(out.len() <= LIMIT || *out == *body);
    }
});
