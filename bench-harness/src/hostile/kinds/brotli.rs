//! brotli.

use super::Kind;
use super::bodies::coded;
use crate::hostile::pack;

pub(super) fn all() -> Vec<Kind> {
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
