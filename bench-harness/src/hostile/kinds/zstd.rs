//! zstd and snappy.

use super::bodies::{INLINE, LARGE, coded, listed};
use super::{Kind, plain_event};
use crate::hostile::pack::{self, Block};
use std::io;

pub(super) fn all() -> io::Result<Vec<Kind>> {
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
