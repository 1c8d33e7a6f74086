//! Bodies that are wrapped without a header that says so.

use super::Kind;
use super::bodies::{INLINE_PACKED, base64, event, listed, percent, post};
use crate::hostile::pack;
use std::io;

pub(super) fn all() -> io::Result<Vec<Kind>> {
    let texts = listed("{\"a\":[", "\"\"", "]}", 12_000);
    let spaced: Vec<u8> = base64(b"{\"a\":1}   ")
        .into_iter()
        .flat_map(|letter| [&[letter][..], &b" ".repeat(900)].concat())
        .collect();
    let repeated = listed("{\"a\":[", "\"\"", "]}", 60_000);
    let url_safe: Vec<u8> = base64(&texts)
        .into_iter()
        .map(|letter| if letter == b'+' { b'-' } else { letter })
        .collect();
    let broken = [&base64(&texts)[..], b"!"].concat();
    let large = base64(&listed("{\"a\":[", "\"\"", "]}", 700_000));
    let said = |body: &[u8]| post("/v1/events?compression=gzip", "", body);
    let form = format!("data={}", percent(&texts[..5_000]));
    let form_large = format!("data={}", percent(&repeated));
    let form_type = "Content-Type: application/x-www-form-urlencoded\r\n";
    Ok(vec![
        Kind::new(
            "base64",
            "empty texts in base64, 16 KB",
            event(&base64(&texts)),
        )
        .accepts(1),
        Kind::new("base64-url", "the same, URL-safe", event(&url_safe)).accepts(1),
        Kind::new(
            "base64-spaces",
            "base64 with 900 spaces behind each letter",
            event(&spaced),
        )
        .accepts(1),
        Kind::new(
            "base64-broken",
            "base64 that is wrong at its end",
            event(&broken),
        )
        .status(400),
        Kind::new(
            "base64-nothing",
            "base64 of nothing, 16 KB",
            event(&b"A".repeat(INLINE_PACKED)),
        )
        .status(400),
        Kind::new(
            "base64-said",
            "the same, said to be gzip",
            said(&b"A".repeat(INLINE_PACKED)),
        )
        .status(422),
        Kind::new(
            "base64-large",
            "1 MB of empty texts in base64",
            event(&large),
        )
        .accepts(1),
        Kind::new(
            "base64-gzip",
            "60 KB of empty texts in gzip in base64",
            event(&base64(&pack::gzip(&repeated)?)),
        )
        .status(413),
        Kind::new(
            "gzip-unsaid",
            "60 KB of empty texts in gzip without a header",
            event(&pack::gzip(&repeated)?),
        )
        .status(413),
        Kind::new(
            "form",
            "a form field of percent-encoded bytes",
            post("/v1/events", form_type, form.as_bytes()),
        )
        .status(400),
        Kind::new(
            "form-large",
            "the same, 180 KB",
            post("/v1/events", form_type, form_large.as_bytes()),
        )
        .status(400),
    ])
}
