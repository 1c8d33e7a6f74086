//! Whole requests as one record.

use super::Kind;
use super::bodies::{INLINE, collect, post};
use crate::hostile::pack;
use std::io;

pub(super) fn all() -> io::Result<Vec<Kind>> {
    let controls = b"\x01".repeat(INLINE);
    let not_utf8 = b"\xff".repeat(INLINE);
    let mixed = b"\"\xff".repeat(INLINE / 2);
    let query = |query: String| post(&format!("/collect?{query}"), "", b"{}");
    let gzip = |body: &[u8]| {
        Ok::<_, io::Error>(post(
            "/collect",
            "Content-Encoding: gzip\r\n",
            &pack::gzip(body)?,
        ))
    };
    Ok(vec![
        Kind::new("envelope-tiny", "an empty request", collect(b"")).accepts(1),
        Kind::new(
            "envelope-pipelined",
            "an empty request, 16 at once",
            collect(b""),
        )
        .accepts(1)
        .pipelined(16),
        Kind::new(
            "envelope-controls",
            "64 KB of control characters, six bytes each in the record",
            collect(&controls),
        )
        .accepts(1),
        Kind::new(
            "envelope-quotes",
            "64 KB of quotes",
            collect(&b"\"".repeat(INLINE)),
        )
        .accepts(1),
        Kind::new(
            "envelope-not-utf8",
            "64 KB that are no UTF-8",
            collect(&not_utf8),
        )
        .accepts(1),
        Kind::new(
            "envelope-mixed",
            "64 KB of quotes and bytes that are no UTF-8",
            collect(&mixed),
        )
        .accepts(1),
        Kind::new(
            "envelope-parameters",
            "4,000 parameters",
            query("appId&".repeat(1_300)),
        )
        .accepts(1),
        Kind::new(
            "envelope-percent",
            "names of parameters percent-encoded",
            query("%61ppId&".repeat(1_000)),
        )
        .accepts(1),
        Kind::new(
            "envelope-long",
            "a parameter of percent-encoded control characters",
            query(format!("appId={}", "%01".repeat(2_600))),
        )
        .accepts(1),
        Kind::new(
            "envelope-gzip",
            "64 KB of letters in gzip",
            gzip(&b"x".repeat(INLINE))?,
        )
        .status(413),
        Kind::new(
            "envelope-gzip-controls",
            "10 KB of control characters in gzip",
            gzip(&b"\x01".repeat(10_000))?,
        )
        .status(422),
        Kind::new(
            "envelope-gzip-not-utf8",
            "20 KB that are no UTF-8 in gzip",
            gzip(&b"\xff".repeat(20_000))?,
        )
        .status(413),
        Kind::new(
            "envelope-large",
            "1 MB that is no UTF-8",
            collect(&b"\xff".repeat(330_000)),
        )
        .accepts(1),
    ])
}
