//! The kinds of requests: what each is made of, and how it has to be answered.

use super::pack::{self, Block};
use std::io;

/// Which server a kind is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settings {
    /// Default settings.
    Default,
    /// 256 CORS origins, 10,000 applications, 256 trusted networks, three codings: what makes a head dear.
    Lists,
}

impl Settings {
    /// The name of the server's row.
    pub(super) fn name(self) -> &'static str {
        match self {
            Settings::Default => "default",
            Settings::Lists => "lists",
        }
    }
}

/// A kind of request.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Its name, unique.
    pub(super) name: &'static str,
    /// What keeps the server busy.
    pub(super) about: &'static str,
    pub(super) settings: Settings,
    /// What one send consists of.
    pub(super) bytes: Vec<u8>,
    /// Requests in one send.
    pub(super) requests: usize,
    /// Status of every response.
    pub(super) status: u16,
    /// Events that one request stores.
    pub(super) accepted: u64,
    /// Events that the server rejects one by one.
    pub(super) rejected: u64,
    /// Whether the server closes the connection, or each request comes by a new one.
    pub(super) own_connection: bool,
    /// Whether the worker serves others between the pieces of one request.
    pub(super) in_pieces: bool,
}

impl Kind {
    fn new(name: &'static str, about: &'static str, bytes: Vec<u8>) -> Kind {
        Kind {
            name,
            about,
            settings: Settings::Default,
            bytes,
            requests: 1,
            status: 200,
            accepted: 0,
            rejected: 0,
            own_connection: false,
            in_pieces: false,
        }
    }

    fn accepts(mut self, events: u64) -> Kind {
        self.accepted = events;
        self
    }

    fn rejects(mut self, events: u64) -> Kind {
        self.rejected = events;
        self
    }

    fn status(mut self, status: u16) -> Kind {
        self.status = status;
        self
    }

    fn lists(mut self) -> Kind {
        self.settings = Settings::Lists;
        self
    }

    /// Each of them on a connection of its own.
    fn alone(mut self) -> Kind {
        self.own_connection = true;
        self
    }

    fn in_pieces(mut self) -> Kind {
        self.in_pieces = true;
        self
    }

    /// This many of them in one send.
    fn pipelined(mut self, requests: usize) -> Kind {
        self.bytes = self.bytes.repeat(requests);
        self.requests = requests;
        self
    }
}

/// The honest request that all others are compared with.
pub(super) fn plain() -> Kind {
    Kind::new(
        "plain",
        "an event of 1 KiB",
        post("/v1/events", "", &plain_event()),
    )
    .accepts(1)
}

/// The same from a listed application.
pub(super) fn plain_listed() -> Kind {
    Kind::new(
        "plain-listed",
        "an event of 1 KiB from a listed application",
        post("/v1/events?appId=app-1", "", &plain_event()),
    )
    .accepts(1)
    .lists()
}

/// The same, but by a connection for itself.
pub(super) fn plain_alone() -> Kind {
    Kind {
        name: "plain-alone",
        about: "an event of 1 KiB on a connection of its own",
        ..plain().alone()
    }
}

/// A page view of 1,024 bytes as an SDK sends it.
fn plain_event() -> Vec<u8> {
    let mut event = String::from(
        "{\"event_type\":\"_page_view\",\"event_id\":\"0190b3a2-6f1c-7c3e-9a52-8d6f0a1b2c3d\",\"timestamp\":1719469182900,\
         \"unique_id\":\"7f9c24e8-3b1d-4e5f-8a6b-1c2d3e4f5a6b\",\"platform\":\"Web\",\"locale\":\"en_US\",\"screen_width\":1920,\
         \"screen_height\":1080,\"zone_offset\":3600000,\"sdk_version\":\"0.11.1\",\"attributes\":{",
    );
    let mut number = 0;
    while event.len() < 960 {
        event.push_str(&format!(
            "\"page_attribute_{number}\":\"value of {number}\","
        ));
        number += 1;
    }
    event.push_str("\"rest\":\"");
    while event.len() < 1_024 - 3 {
        event.push('r');
    }
    event.push_str("\"}}");
    event.into_bytes()
}

/// A request with a body of known length.
fn post(target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("POST {target} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n")
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn event(body: &[u8]) -> Vec<u8> {
    post("/v1/events", "", body)
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    post(
        "/v1/events",
        &format!("Content-Encoding: {coding}\r\n"),
        body,
    )
}

fn collect(body: &[u8]) -> Vec<u8> {
    post("/collect", "", body)
}

fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes()
}

/// A text of about `bytes` bytes: start, the piece again and again, end.
fn filled(start: &str, piece: &str, end: &str, bytes: usize) -> Vec<u8> {
    let room = bytes.saturating_sub(start.len() + end.len());
    let mut text = start.as_bytes().to_vec();
    text.extend_from_slice(&piece.as_bytes().repeat(room / piece.len()));
    text.extend_from_slice(end.as_bytes());
    text
}

/// The same of a JSON list: between two pieces a comma, and none at the end.
fn listed(start: &str, piece: &str, end: &str, bytes: usize) -> Vec<u8> {
    filled(start, &format!("{piece},"), &format!("{piece}{end}"), bytes)
}

/// An event of as many marks as a packed body may have, with pieces of this many; and of as many bytes.
fn marks(piece: &str, marks: usize) -> Vec<u8> {
    let list = piece.repeat(MARKS_FREE / marks);
    filled(&format!("{{\"a\":[{list}\""), "x", "\"]}", FREE)
}

/// An event whose gzip has about 2 KB, because a part of it hardly shrinks, and that has as many marks and bytes
/// as that allows.
fn paid_for() -> Vec<u8> {
    let mut state = 1_u32;
    let letters: String = (0..2_600)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 24) as u8 % 26)
        })
        .collect();
    let keys = "{\"\\u0069\":0},".repeat(40_000 / 7);
    filled(&format!("{{\"a\":[{keys}\"{letters}"), "x", "\"]}", 160_000)
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len() / 3 * 4 + 4);
    for piece in bytes.chunks(3) {
        let byte = |at: usize| piece.get(at).copied().unwrap_or(0);
        let number = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= piece.len() { letter } else { b'=' });
        }
    }
    text
}

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// Largest body that is prepared on the thread that read it, less a little.
const INLINE: usize = 65_000;

/// The same for packed bodies.
const INLINE_PACKED: usize = 16_000;

/// What any packed body may become, less a little.
const FREE: usize = 16_000;

/// Marks that any packed body may have, less a little.
const MARKS_FREE: usize = 2_000;

/// A body that goes to another thread; the limit is 1 MiB.
const LARGE: usize = 1_000_000;

/// All kinds.
///
/// # Errors
/// When an encoder fails.
pub(super) fn all() -> io::Result<Vec<Kind>> {
    let mut kinds = heads();
    kinds.extend(json());
    kinds.extend(wrapped()?);
    kinds.extend(deflate()?);
    kinds.extend(zstd()?);
    kinds.extend(brotli());
    kinds.extend(envelopes()?);
    kinds.extend(lists()?);
    Ok(kinds)
}

/// Requests that cost by their head or their framing.
fn heads() -> Vec<Kind> {
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
    let chunked = |chunks: &[u8]| {
        let head = "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        [head.as_bytes(), chunks].concat()
    };
    let tiny_chunks = |bytes: &[u8]| {
        let mut chunks = Vec::new();
        for byte in bytes {
            chunks.extend_from_slice(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
        }
        [&chunks[..], b"0\r\n\r\n"].concat()
    };
    let small = filled("{\"a\":\"", "x", "\"}", 1_000);
    let small_chunks = |bytes: &[u8]| {
        let mut chunks = Vec::new();
        for piece in bytes.chunks(256) {
            chunks.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            chunks.extend_from_slice(piece);
            chunks.extend_from_slice(b"\r\n");
        }
        [&chunks[..], b"0\r\n\r\n"].concat()
    };
    let extension = [b"2;", &b"x".repeat(10_000)[..], b"\r\n{}\r\n0\r\n\r\n"].concat();
    let trailers = [b"2\r\n{}\r\n0\r\n", &b"x-t: 1\r\n".repeat(90)[..], b"\r\n"].concat();
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
        Kind::new(
            "chunks",
            "chunks of one byte",
            chunked(&tiny_chunks(&small)),
        )
        .accepts(1),
        Kind::new(
            "many-chunks",
            "2,000 chunks of one byte",
            chunked(&tiny_chunks(&filled("{\"a\":\"", "x", "\"}", 2_000))),
        )
        .accepts(1)
        .in_pieces(),
        Kind::new(
            "too-many-chunks",
            "64 KB of chunks of one byte",
            chunked(&tiny_chunks(&filled("{\"a\":\"", "x", "\"}", 10_900))),
        )
        .status(400)
        .alone()
        .in_pieces(),
        Kind::new(
            "large-chunks",
            "1 MB of chunks of 256 bytes",
            chunked(&small_chunks(&filled("{\"a\":\"", "x", "\"}", LARGE))),
        )
        .accepts(1)
        .in_pieces(),
        Kind::new(
            "chunk-extension",
            "a chunk extension of 10 KB",
            chunked(&extension),
        )
        .accepts(1),
        Kind::new("trailers", "90 trailers", chunked(&trailers)).accepts(1),
        Kind::new("bad-chunk", "a chunk that is none", chunked(b"x"))
            .status(400)
            .alone(),
    ]
}

/// Bodies of plain JSON.
fn json() -> Vec<Kind> {
    let accepted = |name, about, body: Vec<u8>| Kind::new(name, about, event(&body)).accepts(1);
    let refused = |name, about, body: Vec<u8>| Kind::new(name, about, event(&body)).status(400);
    let nested = format!("{}{}", "[".repeat(62), "]".repeat(62));
    let too_deep = format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64));
    let bad_lines = [&b"{}\n{}\n"[..], &b"xxx\n".repeat(998)].concat();
    let long_bad_lines: Vec<u8> = (0..1_000)
        .flat_map(|_| filled("{\"a\":[", "1,", "}\n", 1_000))
        .collect();
    let late = |bytes| {
        [
            &filled("{\"a\":[", "\"\",", "\"\"],\"b\":\"", bytes)[..],
            b"\xff\"}",
        ]
        .concat()
    };
    let late_line = [&b"{\"a\":1}\n".repeat(999)[..], b"{\"a\":\"\xff\"}"].concat();
    let wide: Vec<u8> = {
        let fields: Vec<String> = (0..6_000)
            .map(|number| format!("\"k{number}\":0"))
            .collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    };
    let second_line = [
        &listed("{\"a\":[", "\"\"", "]x\n", INLINE / 2)[..],
        &listed("{\"a\":[", "\"\"", "]}x\n", INLINE / 2),
    ]
    .concat();
    vec![
        accepted(
            "empty-texts",
            "empty texts, 64 KB",
            listed("{\"a\":[", "\"\"", "]}", INLINE),
        ),
        accepted(
            "empty-objects",
            "empty objects, 64 KB",
            listed("{\"a\":[", "{}", "]}", INLINE),
        ),
        accepted(
            "ones",
            "numbers of one digit, 64 KB",
            listed("{\"a\":[", "1", "]}", INLINE),
        ),
        accepted(
            "numbers",
            "numbers with fraction and exponent, 64 KB",
            listed("{\"a\":[", "-0.1e+1", "]}", INLINE),
        ),
        accepted(
            "mantissa",
            "one number of 64,000 digits",
            filled("{\"a\":1", "7", "}", INLINE),
        ),
        accepted(
            "literals",
            "`null` again and again, 64 KB",
            listed("{\"a\":[", "null", "]}", INLINE),
        ),
        accepted(
            "nested",
            "arrays to the limit of depth, 64 KB",
            listed("{\"a\":[", &nested, "]}", INLINE),
        ),
        refused(
            "nested-open",
            "64,000 opening brackets",
            filled("[", "[", "", INLINE),
        ),
        refused(
            "nested-objects-open",
            "objects in each other, 64 KB",
            filled("", "{\"\":", "", INLINE),
        ),
        refused(
            "too-deep",
            "500 events that are nested too deep",
            listed("[", &too_deep, "]", INLINE),
        )
        .rejects(477),
        accepted(
            "same-key",
            "one empty key again and again, 64 KB",
            listed("{", "\"\":0", "}", INLINE),
        ),
        accepted(
            "server-key",
            "a key that the server looks for, again and again, 64 KB",
            listed("{", "\"ip\":0", "}", INLINE),
        ),
        accepted(
            "similar-key",
            "keys as long as those that the server looks for, 64 KB",
            listed("{", "\"iq\":0", "}", INLINE),
        ),
        accepted(
            "escaped-key",
            "keys with an escape, 64 KB",
            listed("{", "\"\\u0069\":0", "}", INLINE),
        ),
        accepted("wide", "6,000 different keys", wide),
        accepted(
            "escapes",
            "texts of escaped quotes, 64 KB",
            filled("{\"a\":\"", "\\\"", "\"}", INLINE),
        ),
        accepted(
            "unicode-escapes",
            "texts of \\u0041, 64 KB",
            filled("{\"a\":\"", "\\u0041", "\"}", INLINE),
        ),
        accepted(
            "multibyte",
            "letters of four bytes, 64 KB",
            filled("{\"a\":\"", "\u{1f600}", "\"}", INLINE),
        ),
        accepted(
            "spaces",
            "64 KB of white space in an event",
            filled("{\"a\":", " ", "1}", INLINE),
        ),
        accepted(
            "line-breaks",
            "64 KB of line breaks in an event",
            filled("{\"a\":[", "1,\n", "1]}", INLINE),
        ),
        refused(
            "blank-lines",
            "64 KB of blank lines and no event",
            filled("", "\n", "", INLINE),
        ),
        refused(
            "late-utf8",
            "64 KB of empty texts, and a last byte that is no UTF-8",
            late(INLINE),
        ),
        Kind::new(
            "late-utf8-line",
            "999 good lines and one that is no UTF-8",
            event(&late_line),
        )
        .accepts(999)
        .rejects(1),
        refused(
            "late-fault",
            "64 KB of empty texts that never end",
            filled("{\"a\":[", "\"\",", "", INLINE),
        ),
        refused(
            "second-line",
            "two lines of 32 KB, both wrong at their end",
            second_line,
        ),
        refused(
            "bad-events",
            "1,000 events that are none",
            listed("[", "123", "]", 4_001),
        )
        .rejects(1_000),
        Kind::new(
            "bad-lines",
            "1,000 lines, 998 of them no events",
            event(&bad_lines),
        )
        .accepts(2)
        .rejects(998),
        refused(
            "long-bad-lines",
            "1 MB: 1,000 lines that are wrong at their end",
            long_bad_lines,
        ),
        Kind::new(
            "empty-events",
            "1,000 events of three bytes",
            event(&listed("[", "{ }", "]", 4_001)),
        )
        .accepts(1_000),
        Kind::new(
            "small-events",
            "1,000 events of seven bytes",
            event(&listed("[", "{\"a\":1}", "]", 8_001)),
        )
        .accepts(1_000),
        Kind::new(
            "too-many-events",
            "64 KB of events of one byte",
            event(&listed("[", "1", "]", INLINE)),
        )
        .status(400),
        Kind::new(
            "too-many-large",
            "1 MB of events of two bytes",
            event(&listed("[", "{}", "]", LARGE)),
        )
        .status(400),
        accepted(
            "large-texts",
            "1 MB of empty texts",
            listed("{\"a\":[", "\"\"", "]}", LARGE),
        ),
        accepted(
            "large-nested",
            "1 MB of arrays to the limit of depth",
            listed("{\"a\":[", &nested, "]}", LARGE),
        ),
        refused(
            "large-open",
            "a million opening brackets",
            filled("[", "[", "", LARGE),
        ),
        refused(
            "large-late",
            "1 MB of empty texts, and a last byte that is no UTF-8",
            late(LARGE),
        ),
        accepted(
            "large-escapes",
            "1 MB of escaped quotes",
            filled("{\"a\":\"", "\\\"", "\"}", LARGE),
        ),
    ]
}

/// Bodies that are wrapped without a header that says so.
fn wrapped() -> io::Result<Vec<Kind>> {
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

/// gzip and deflate.
fn deflate() -> io::Result<Vec<Kind>> {
    let gzip = |body: &[u8]| Ok::<_, io::Error>(coded("gzip", &pack::gzip(body)?));
    let plain = plain_event();
    let empty = pack::gzip(b"")?;
    let texts = listed("{\"a\":[", "\"\"", "]}", INLINE);
    let texts_16 = listed("{\"a\":[", "\"\"", "]}", FREE);
    let letters = filled("{\"a\":\"", "x", "\"}", FREE);
    let events_16 = listed("[", "{\"a\":1}", "]", 8 * 16 + 1);
    let events_100 = listed("[", "{\"a\":1}", "]", 8 * 100 + 1);
    let paid = paid_for();
    let mut bad_sum = pack::gzip(&letters)?;
    if let Some(last) = bad_sum.last_mut() {
        *last ^= 1;
    }
    let truncated = pack::gzip(&letters)?;
    let named = |flag, bytes| {
        Ok::<_, io::Error>(coded("gzip", &pack::gzip_with_header(flag, bytes, &plain)?))
    };
    Ok(vec![
        Kind::new("gzip", "the plain event in gzip", gzip(&plain)?).accepts(1),
        Kind::new("gzip-16-events", "16 small events", gzip(&events_16)?).accepts(16),
        Kind::new("gzip-100-events", "100 small events", gzip(&events_100)?).status(400),
        Kind::new("gzip-letters", "16 KB of one letter", gzip(&letters)?).accepts(1),
        Kind::new(
            "gzip-kana",
            "16 KB of letters of three bytes",
            gzip(&filled("{\"a\":\"", "イ", "\"}", FREE))?,
        )
        .accepts(1),
        Kind::new(
            "gzip-digits",
            "16 KB of digits",
            gzip(&filled("{\"a\":1", "7", "}", FREE))?,
        )
        .accepts(1),
        Kind::new(
            "gzip-texts",
            "2,000 marks: empty texts",
            gzip(&marks("\"\",", 3))?,
        )
        .accepts(1),
        Kind::new(
            "gzip-keys",
            "2,000 marks: keys with an escape",
            gzip(&marks("{\"\\u0069\":0},", 7))?,
        )
        .accepts(1),
        Kind::new(
            "gzip-escapes",
            "2,000 marks: escaped quotes",
            gzip(&marks("\"\\\"\",", 5))?,
        )
        .accepts(1),
        Kind::new(
            "gzip-spaces",
            "16 KB of white space",
            gzip(&filled("{\"a\":", " ", "1}", FREE))?,
        )
        .accepts(1),
        Kind::new(
            "gzip-breaks",
            "2,000 marks: line breaks",
            gzip(&marks("0,\n", 2))?,
        )
        .accepts(1),
        Kind::new(
            "gzip-nested",
            "2,000 marks: arrays",
            gzip(&marks("[],", 3))?,
        )
        .accepts(1),
        Kind::new(
            "gzip-paid",
            "as many marks and bytes as 2 KB sent may have",
            gzip(&paid)?,
        )
        .accepts(1),
        Kind::new(
            "gzip-too-many-marks",
            "16 KB of empty texts",
            gzip(&texts_16)?,
        )
        .status(422),
        Kind::new(
            "gzip-open",
            "16 KB of opening brackets",
            gzip(&filled("[", "[", "", FREE))?,
        )
        .status(422),
        Kind::new("gzip-texts-64", "64 KB of empty texts", gzip(&texts)?).status(413),
        Kind::new(
            "gzip-large",
            "1 MB of empty texts",
            gzip(&listed("{\"a\":[", "\"\"", "]}", LARGE))?,
        )
        .status(413),
        Kind::new(
            "gzip-bomb",
            "10 MB of spaces",
            gzip(&b" ".repeat(10 << 20))?,
        )
        .status(413),
        Kind::new(
            "gzip-bad-sum",
            "16 KB of letters and a wrong checksum",
            coded("gzip", &bad_sum),
        )
        .status(422),
        Kind::new(
            "gzip-truncated",
            "16 KB of letters without the end",
            coded("gzip", &truncated[..truncated.len() - 9]),
        )
        .status(422),
        Kind::new(
            "gzip-empty-members",
            "15 empty members",
            coded(
                "gzip",
                &[&empty.repeat(15)[..], &pack::gzip(&plain)?].concat(),
            ),
        )
        .accepts(1),
        Kind::new(
            "gzip-many-empty",
            "800 empty members",
            coded("gzip", &empty.repeat(800)),
        )
        .status(422),
        Kind::new(
            "gzip-members",
            "500 members of one byte",
            coded(
                "gzip",
                &[&pack::gzip(b" ")?.repeat(500)[..], &pack::gzip(b"{}")?].concat(),
            ),
        )
        .status(422),
        Kind::new(
            "gzip-name",
            "a name of 15 KB in the header",
            named(8, 15_000)?,
        )
        .accepts(1),
        Kind::new("gzip-comment", "a comment of 15 KB", named(16, 15_000)?).accepts(1),
        Kind::new("gzip-extra", "an extra field of 15 KB", named(4, 15_000)?).accepts(1),
        Kind::new(
            "gzip-stacked",
            "gzip in gzip, of which one is allowed",
            coded("gzip, gzip", &pack::gzip(&pack::gzip(&texts)?)?),
        )
        .status(415),
        Kind::new(
            "zlib-texts",
            "64 KB of empty texts in zlib",
            coded("deflate", &pack::zlib(&texts)?),
        )
        .status(413),
        Kind::new(
            "deflate-matches",
            "64 KB by matches of three bytes",
            coded(
                "deflate",
                &pack::deflate_matches(b"{\"a\":\"xxxx", 21_000, b"\"}"),
            ),
        )
        .accepts(1),
        Kind::new(
            "deflate-matches-large",
            "1 MB by the same",
            coded(
                "deflate",
                &pack::deflate_matches(b"{\"a\":\"xxxx", 330_000, b"\"}"),
            ),
        )
        .accepts(1),
        Kind::new(
            "deflate-empty",
            "48 empty blocks",
            coded("deflate", &pack::deflate_empty(47)),
        )
        .status(422),
        Kind::new(
            "deflate-many-empty",
            "3,000 empty blocks",
            coded("deflate", &pack::deflate_empty(3_000)),
        )
        .status(422),
        Kind::new(
            "deflate-tables",
            "1,000 blocks with tables of their own",
            coded("deflate", &pack::deflate_tables(1_000)),
        )
        .status(400),
        Kind::new(
            "deflate-tables-large",
            "4,000 blocks with tables of their own",
            coded("deflate", &pack::deflate_tables(4_000)),
        )
        .status(422),
        Kind::new(
            "deflate-fixed",
            "6,000 blocks of one letter",
            coded("deflate", &pack::deflate_fixed(6_000)),
        )
        .status(400),
        Kind::new(
            "deflate-garbage",
            "16 KB that are no deflate",
            coded("deflate", &b"\xff".repeat(INLINE_PACKED)),
        )
        .status(422),
    ])
}

/// zstd and snappy.
fn zstd() -> io::Result<Vec<Kind>> {
    let zstd = |body: &[u8]| Ok::<_, io::Error>(coded("zstd", &pack::zstd(body)?));
    let plain = plain_event();
    let texts = listed("{\"a\":[", "\"\"", "]}", INLINE);
    let whole = pack::zstd(&plain)?;
    let start = Block::Raw(b"{\"a\":\"xxxxxxxxx");
    let end = || Block::Raw(b"\"}");
    let frame = |blocks: Vec<Block<'_>>, window| coded("zstd", &pack::zstd_frame(window, &blocks));
    let repeated = |count: usize, block: fn() -> Block<'static>| {
        let mut blocks = vec![Block::Raw(b"{\"a\":\"xxxxxxxxx")];
        blocks.extend((0..count).map(|_| block()));
        blocks.push(Block::Raw(b"\"}"));
        blocks
    };
    let tables = pack::zstd(&listed(
        "",
        "{\"a\":\"some letters that are worth a table of their own\",\"b\":[12,34,56]}",
        "\n",
        700,
    ))?;
    Ok(vec![
        Kind::new("zstd-texts", "64 KB of empty texts", zstd(&texts)?).status(413),
        Kind::new(
            "zstd-large",
            "1 MB of empty texts",
            zstd(&listed("{\"a\":[", "\"\"", "]}", LARGE))?,
        )
        .status(413),
        Kind::new(
            "zstd-16-events",
            "16 small events",
            zstd(&listed("[", "{\"a\":1}", "]", 8 * 16 + 1))?,
        )
        .accepts(16),
        Kind::new(
            "zstd-matches",
            "60 KB by matches that take no bits",
            frame(vec![start, Block::Matches(20_000), end()], 0x38),
        )
        .status(422),
        Kind::new(
            "zstd-matches-bomb",
            "1 MB by the same",
            frame(repeated(10, || Block::Matches(40_000)), 0x50),
        )
        .status(422),
        Kind::new(
            "zstd-raw",
            "4,000 blocks of one byte",
            frame(repeated(4_000, || Block::Raw(b"x")), 0),
        )
        .accepts(1),
        Kind::new(
            "zstd-repeats",
            "4,000 blocks of one repeated byte",
            frame(repeated(4_000, || Block::Repeated(b'x', 1)), 0),
        )
        .accepts(1),
        Kind::new(
            "zstd-bomb",
            "100 blocks of 128 KiB of one byte",
            frame(repeated(100, || Block::Repeated(b'x', 128 << 10)), 0x58),
        )
        .status(413),
        Kind::new(
            "zstd-empty",
            "40 empty blocks",
            frame(repeated(40, || Block::Raw(b"")), 0),
        )
        .accepts(1),
        Kind::new(
            "zstd-many-empty",
            "5,000 empty blocks",
            frame(repeated(5_000, || Block::Raw(b"")), 0),
        )
        .status(422),
        Kind::new(
            "zstd-blocks",
            "256 small compressed blocks",
            frame(repeated(250, || Block::Matches(3)), 0),
        )
        .accepts(1),
        Kind::new(
            "zstd-frames",
            "200 frames with tables",
            coded("zstd", &tables.repeat(200)),
        )
        .status(400),
        Kind::new(
            "zstd-skippable",
            "40 frames to skip",
            coded(
                "zstd",
                &[&pack::zstd_skippable(0).repeat(40)[..], &whole].concat(),
            ),
        )
        .accepts(1),
        Kind::new(
            "zstd-padding",
            "15 KB to skip",
            coded(
                "zstd",
                &[&pack::zstd_skippable(15_000)[..], &whole].concat(),
            ),
        )
        .accepts(1),
        Kind::new(
            "zstd-window",
            "a window of 3.75 TiB",
            frame(vec![Block::Raw(b"{}")], 0xff),
        )
        .status(422),
        Kind::new(
            "zstd-reserved",
            "a block of a kind that is none",
            frame(repeated(1, || Block::Reserved), 0),
        )
        .status(422),
        Kind::new(
            "zstd-truncated",
            "a frame without its end",
            coded("zstd", &whole[..whole.len() - 3]),
        )
        .status(422),
        Kind::new(
            "snappy-copies",
            "64 KB by copies",
            coded(
                "snappy",
                &pack::snappy_copies(b"{\"a\":\"xxxx", 1_000, b"\"}"),
            ),
        )
        .accepts(1),
        Kind::new(
            "snappy-length",
            "a length of 4 GB",
            coded("snappy", b"\xff\xff\xff\xff\x0f\x00"),
        )
        .status(413),
    ])
}

/// brotli.
fn brotli() -> Vec<Kind> {
    let coded = |body: Vec<u8>| coded("br", &body);
    let copies = |bytes, copies| {
        coded(pack::brotli_copies(
            b"{\"a\":\"xxxxxxxx",
            bytes,
            copies,
            b"\"}",
        ))
    };
    let texts = |bytes, copies| {
        coded(pack::brotli_copies(
            b"{\"a\":[0,0,0,0,0,0,0,0,0",
            bytes,
            copies,
            b"]}",
        ))
    };
    vec![
        Kind::new(
            "brotli-copies",
            "64 KB by copies of two bytes that take no bits",
            copies(2, 30_000),
        )
        .status(413),
        Kind::new(
            "brotli-numbers",
            "64 KB of numbers by the same",
            texts(4, 16_000),
        )
        .status(413),
        Kind::new(
            "brotli-copies-large",
            "1 MB by copies of two bytes",
            copies(2, 500_000),
        )
        .status(413),
        Kind::new(
            "brotli-bomb",
            "16 MB by copies of nine bytes",
            copies(9, 1_800_000),
        )
        .status(413),
        Kind::new(
            "brotli-trees",
            "eight Huffman trees, and one byte",
            coded(pack::brotli_trees(6, 1, 1)),
        )
        .status(400),
        Kind::new(
            "brotli-many-trees",
            "256 Huffman trees",
            coded(pack::brotli_trees(256, 1, 1)),
        )
        .status(422),
        Kind::new(
            "brotli-context-map",
            "a context map of 16 KiB",
            coded(pack::brotli_trees(1, 2, 1)),
        )
        .status(413),
        Kind::new(
            "brotli-context-maps",
            "three context maps of 16 KiB",
            coded(pack::brotli_trees(1, 2, 3)),
        )
        .status(413),
        Kind::new(
            "brotli-many-maps",
            "20 context maps of 16 KiB",
            coded(pack::brotli_trees(1, 2, 20)),
        )
        .status(422),
        Kind::new(
            "brotli-metadata",
            "15,000 empty pieces of metadata",
            coded(pack::brotli_metadata(15_000)),
        )
        .status(400),
        Kind::new(
            "brotli-truncated",
            "a stream without its end",
            coded(b"\x1b\x38\x00\xc0\x9d".to_vec()),
        )
        .status(422),
        Kind::new("brotli-nothing", "the shortest stream", coded(vec![0b110])).status(400),
    ]
}

/// Whole requests as one record.
fn envelopes() -> io::Result<Vec<Kind>> {
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

/// Requests that meet long lists in the settings.
fn lists() -> io::Result<Vec<Kind>> {
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
