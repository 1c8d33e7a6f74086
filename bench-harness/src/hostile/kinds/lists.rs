//! Requests that meet long lists in the settings.

use super::Kind;
use super::bodies::{INLINE, listed, post};
use crate::hostile::pack;
use std::io;

pub(super) fn all() -> io::Result<Vec<Kind>> {
    let origin = format!("Origin: https://{}example.org\r\n", "a.".repeat(130));
    let preflight = |origin: &str| {
        format!("OPTIONS /v1/events HTTP/1.1\r\nHost: a\r\n{origin}Access-Control-Request-Method: POST\r\n\r\n").into_bytes()
    };
    let hops = format!(
        "X-Forwarded-For: {}203.0.113.7\r\n",
        "2001:db8::1, ".repeat(15)
    );
    let to = "/v1/events?appId=app-9999";
    let stacked = pack::gzip(&pack::gzip(&pack::gzip(&listed(
        "{\"a\":[", "\"\"", "]}", INLINE,
    ))?)?)?;
    let bomb = pack::gzip(&pack::gzip(&pack::gzip(&b" ".repeat(100 << 20))?)?)?;
    let coded =
        |coding: &str, body: &[u8]| post(to, &format!("Content-Encoding: {coding}\r\n"), body);
    Ok(vec![
        Kind::new(
            "lists-preflight",
            "a preflight of an origin of 130 labels, by 256 patterns",
            preflight(&origin),
        )
        .status(204)
        .lists(),
        Kind::new(
            "lists-preflights",
            "the shortest origin, 50 at once",
            preflight("Origin: a://b\r\n"),
        )
        .status(204)
        .pipelined(50)
        .lists(),
        Kind::new(
            "lists-origin",
            "an event from that origin",
            post(to, &origin, b"{}"),
        )
        .accepts(1)
        .lists(),
        Kind::new(
            "lists-hops",
            "16 addresses in X-Forwarded-For, 256 trusted networks",
            post(to, &hops, b"{}"),
        )
        .accepts(1)
        .lists(),
        Kind::new(
            "lists-application",
            "an application that is none of 10,000",
            post("/v1/events?appId=other", "", b"{}"),
        )
        .status(403)
        .lists(),
        Kind::new(
            "lists-parameters",
            "1,300 applications in one target",
            post(
                &format!("/v1/events?{}appId=app-1", "appId&".repeat(1_300)),
                "",
                b"{}",
            ),
        )
        .accepts(1)
        .lists(),
        Kind::new(
            "lists-stacked",
            "64 KB of empty texts in gzip in gzip in gzip",
            coded("gzip, gzip, gzip", &stacked),
        )
        .status(413)
        .lists(),
        Kind::new(
            "lists-bomb",
            "100 MB of spaces in gzip in gzip in gzip",
            coded("gzip, gzip, gzip", &bomb),
        )
        .status(413)
        .lists(),
    ])
}
