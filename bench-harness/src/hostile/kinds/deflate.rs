//! gzip and deflate.

use super::bodies::{FREE, INLINE, INLINE_PACKED, LARGE, MARKS_FREE, coded, filled, listed};
use super::{Kind, plain_event};
use crate::hostile::pack;
use std::io;

pub(super) fn all() -> io::Result<Vec<Kind>> {
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
