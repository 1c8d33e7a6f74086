//! Bodies that cost by their chunks.

use super::Kind;
use super::bodies::{LARGE, filled};

pub(super) fn all() -> Vec<Kind> {
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
    vec![
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
