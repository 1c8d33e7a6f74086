//! Floods of HTTP/2 frames (RFC 9113), by clients that know of it beforehand.

use super::{First, Flood};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// A type that no standard knows.
const UNKNOWN: u8 = 0xbb;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Frames in one write.
const AT_ONCE: u32 = 256;

/// Streams in one write: fewer than a connection may have at once.
const STREAMS_AT_ONCE: u32 = 32;

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // Payloads here are far below 2^24 bytes.
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The same frame again and again.
fn frames(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..AT_ONCE {
        frame(&mut out, kind, flags, stream, payload);
    }
    out
}

/// Preface and settings, and what follows.
fn opening(settings: &[u8], then: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    frame(&mut out, SETTINGS, 0, 0, settings);
    then(&mut out);
    out
}

/// The field block of a POST of events (RFC 7541 sections 6.1 and 6.2.2, names and methods from its Appendix A).
fn post() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(4_u8, &b"/v1/events"[..]), (1, b"localhost")] {
        block.extend_from_slice(&[name, value.len() as u8]);
        block.extend_from_slice(value);
    }
    block
}

/// The client's streams have odd numbers, and each write begins where the last ended.
fn streams(write: u32) -> impl Iterator<Item = u32> {
    (0..STREAMS_AT_ONCE).map(move |at| 2 * (write * STREAMS_AT_ONCE + at) + 1)
}

/// A field that is put into the dynamic table, and said again 4,000 times by a byte each.
fn expanding_block() -> Vec<u8> {
    let mut block = post();
    // A literal with incremental indexing: `a`, and 3,000 bytes (a length of 127 + 2,873 in seven bits and more).
    block.extend_from_slice(&[0x40, 1, b'a', 0x7f, 0xb9, 0x16]);
    block.extend(std::iter::repeat_n(b'v', 3_000));
    block.extend(std::iter::repeat_n(0xbe, 4_000));
    block
}

/// A request with its body in frames of one byte.
fn body_begun(out: &mut Vec<u8>) {
    frame(out, HEADERS, END_HEADERS, 1, &post());
}

pub(super) fn floods() -> Vec<Flood> {
    let plain = || opening(&[], |_| {});
    let flood = |name, about, opening, more, is_ended| Flood {
        name,
        about,
        is_tls: false,
        opening,
        more,
        holds: false,
        first: First::Settings,
        is_ended,
    };
    vec![
        flood(
            "h2-rapid-reset",
            "requests that are reset at once",
            plain(),
            |write| {
                let mut out = Vec::new();
                for stream in streams(write) {
                    frame(&mut out, HEADERS, END_HEADERS, stream, &post());
                    frame(&mut out, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
                }
                out
            },
            true,
        ),
        flood(
            "h2-settings",
            "settings again and again",
            plain(),
            |_| frames(SETTINGS, 0, 0, &[]),
            true,
        ),
        flood(
            "h2-ping",
            "pings again and again",
            plain(),
            |_| frames(PING, 0, 0, &[0; 8]),
            true,
        ),
        flood(
            "h2-continuation",
            "a head that never ends, a byte a frame",
            opening(&[], |out| frame(out, HEADERS, 0, 1, &post())),
            |_| frames(CONTINUATION, 0, 1, &[0x84]),
            true,
        ),
        flood(
            "h2-continuation-empty",
            "a head that never ends, frames without a byte",
            opening(&[], |out| frame(out, HEADERS, 0, 1, &post())),
            |_| frames(CONTINUATION, 0, 1, &[]),
            true,
        ),
        flood(
            "h2-expanding-fields",
            "12 MB of fields by 7 KB, from the dynamic table",
            plain(),
            |write| {
                let mut out = Vec::new();
                for stream in streams(write).step_by(8) {
                    let block = expanding_block();
                    frame(&mut out, HEADERS, END_HEADERS | END_STREAM, stream, &block);
                }
                out
            },
            false,
        ),
        flood(
            "h2-empty-data",
            "a body of frames without a byte",
            opening(&[], body_begun),
            |_| frames(DATA, 0, 1, &[]),
            true,
        ),
        flood(
            "h2-tiny-data",
            "a body of frames of one byte",
            opening(&[], body_begun),
            |_| frames(DATA, 0, 1, b"["),
            false,
        ),
        flood(
            "h2-window-updates",
            "one byte more, again and again",
            plain(),
            |_| frames(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
            false,
        ),
        flood(
            "h2-priority",
            "priorities of streams that are none",
            plain(),
            |_| frames(PRIORITY, 0, 1, &[0, 0, 0, 3, 16]),
            false,
        ),
        flood(
            "h2-unknown",
            "frames of a type that no standard knows",
            plain(),
            |_| frames(UNKNOWN, 0, 0, b"x"),
            false,
        ),
        flood(
            "h2-no-window",
            "answers that there is no window for",
            // SETTINGS_INITIAL_WINDOW_SIZE, 0.
            opening(&[0, 4, 0, 0, 0, 0], |_| {}),
            |write| {
                let mut out = Vec::new();
                for stream in streams(write) {
                    frame(&mut out, HEADERS, END_HEADERS, stream, &post());
                    frame(&mut out, DATA, END_STREAM, stream, br#"{"a":1}"#);
                }
                out
            },
            false,
        ),
        flood(
            "h2-tiny-events",
            "the smallest events, 32 at once",
            plain(),
            |write| {
                let mut out = Vec::new();
                for stream in streams(write) {
                    frame(&mut out, HEADERS, END_HEADERS, stream, &post());
                    frame(&mut out, DATA, END_STREAM, stream, br#"{"a":1}"#);
                }
                out
            },
            false,
        ),
        flood(
            "h2-broken",
            "a frame on a stream that is not open, on connection after connection",
            opening(&[], |out| frame(out, DATA, 0, 1, b"x")),
            |_| Vec::new(),
            false,
        ),
        Flood {
            holds: true,
            ..flood(
                "h2-bodies-held",
                "1,000 connections with 32 bodies each that do not come",
                opening(&[], |out| {
                    for stream in streams(0) {
                        frame(out, HEADERS, END_HEADERS, stream, &post());
                        frame(out, DATA, 0, stream, b"[");
                    }
                }),
                |_| Vec::new(),
                false,
            )
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_nine_bytes_before_its_payload() {
        let mut out = Vec::new();
        frame(&mut out, DATA, END_STREAM, 3, b"hi");
        assert_eq!(out, b"\x00\x00\x02\x00\x01\x00\x00\x00\x03hi");
    }

    #[test]
    fn writes_use_each_stream_once() {
        let all: Vec<u32> = streams(0).chain(streams(1)).collect();
        let expected: Vec<u32> = (0..64).map(|at| 2 * at + 1).collect();
        assert_eq!(all, expected);
    }
}
