//! Requests that cost by their head, or by the connection that they need.

use super::Kind;
use super::bodies::{INLINE, event, get, post};

pub(super) fn all() -> Vec<Kind> {
    let many_headers: String = (0..97)
        .map(|number| format!("x-{number}: {number}\r\n"))
        .collect();
    let long_headers: String = (0..97)
        .map(|number| format!("x-{number}: {}\r\n", "v".repeat(320)))
        .collect();
    let cookies = format!(
        "Cookie: {}\r\n",
        "name=value; ".repeat(2_600).trim_end_matches("; ")
    );
    let hops = format!(
        "X-Forwarded-For: {}203.0.113.7\r\n",
        "2001:db8::1, ".repeat(15)
    );
    let long_hops = format!(
        "X-Forwarded-For: {}203.0.113.7\r\n",
        "1.2.3.4,".repeat(4_000)
    );
    let hop_lines = "X-Forwarded-For: 2001:db8:1:2:3:4:5:6\r\n".repeat(97);
    let close = "Connection: close\r\n";
    vec![
        Kind::new("tiny", "the smallest event", event(b"{}")).accepts(1),
        Kind::new(
            "tiny-pipelined",
            "the smallest event, 16 at once",
            event(b"{}"),
        )
        .accepts(1)
        .pipelined(16),
        Kind::new(
            "tiny-alone",
            "the smallest event on a connection of its own",
            event(b"{}"),
        )
        .accepts(1)
        .alone(),
        Kind::new(
            "tiny-close",
            "the same with Connection: close",
            post("/v1/events", close, b"{}"),
        )
        .accepts(1)
        .alone(),
        Kind::new("ping", "the clock", get("/ping", "")),
        Kind::new("ping-pipelined", "the clock, 50 at once", get("/ping", "")).pipelined(50),
        Kind::new("unknown-path", "404s, 50 at once", get("/x", ""))
            .status(404)
            .pipelined(50),
        Kind::new("wrong-method", "405s, 50 at once", get("/v1/events", ""))
            .status(405)
            .pipelined(50),
        Kind::new(
            "preflight",
            "OPTIONS, 50 at once",
            b"OPTIONS /i HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        )
        .status(204)
        .pipelined(50),
        Kind::new(
            "many-headers",
            "97 short headers",
            post("/v1/events", &many_headers, b"{}"),
        )
        .accepts(1),
        Kind::new(
            "long-headers",
            "97 headers of 320 bytes",
            post("/v1/events", &long_headers, b"{}"),
        )
        .accepts(1),
        Kind::new(
            "cookies",
            "2,600 cookies in one header",
            post("/v1/events", &cookies, b"{}"),
        )
        .accepts(1),
        Kind::new(
            "long-target",
            "a target of 8 KiB",
            post(&format!("/v1/events?{}", "q".repeat(8_000)), "", b"{}"),
        )
        .accepts(1),
        Kind::new(
            "hops",
            "16 addresses in X-Forwarded-For",
            post("/v1/events", &hops, b"{}"),
        )
        .accepts(1),
        Kind::new(
            "many-hops",
            "4,000 addresses in X-Forwarded-For",
            post("/v1/events", &long_hops, b"{}"),
        )
        .accepts(1),
        Kind::new(
            "hop-lines",
            "97 X-Forwarded-For of one address",
            post("/v1/events", &hop_lines, b"{}"),
        )
        .accepts(1),
        Kind::new(
            "codings-named",
            "`identity` 4,000 times in Content-Encoding",
            post(
                "/v1/events",
                &format!("Content-Encoding: {}\r\n", ["identity"; 3_500].join(",")),
                b"{}",
            ),
        )
        .accepts(1),
        Kind::new(
            "pixel-parameters",
            "a pixel with 4,000 parameters",
            get(&format!("/i?{}", "a&".repeat(4_000)), ""),
        )
        .accepts(1),
        Kind::new(
            "pixel-percent",
            "a pixel of percent-encoded quotes",
            get(&format!("/i?a={}", "%22".repeat(2_600)), ""),
        )
        .accepts(1),
        Kind::new(
            "pixel-tiny",
            "the smallest pixel, 16 at once",
            get("/i?a", ""),
        )
        .accepts(1)
        .pipelined(16),
        Kind::new(
            "bad-head",
            "a head that is none",
            b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n".to_vec(),
        )
        .status(400)
        .alone(),
        Kind::new(
            "bad-line",
            "the shortest thing that is refused",
            b"\n".to_vec(),
        )
        .status(400)
        .alone(),
        Kind::new(
            "head-too-long",
            "33 KB of a head without an end",
            [
                b"GET / HTTP/1.1\r\nHost: a\r\nx: ",
                &b"x".repeat(33_000)[..],
            ]
            .concat(),
        )
        .status(431)
        .alone(),
        Kind::new(
            "too-many-headers",
            "101 headers",
            get("/", &"a:b\r\n".repeat(100)),
        )
        .status(431)
        .alone(),
        Kind::new(
            "announced-too-long",
            "a length over the limit, and no body",
            b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n".to_vec(),
        )
        .status(413)
        .alone(),
        Kind::new(
            "body-unwanted",
            "an unread body of 64 KB behind a 404",
            post("/x", "", &b"x".repeat(INLINE)),
        )
        .status(404),
    ]
}
