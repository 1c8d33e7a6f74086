//! Tests of every coding against its limits.

mod bits;

use super::*;
use bits::Bits;
use std::io::Write;

pub(super) const TEXT: &[u8] = b"[{\"event_type\":\"_page_view\"},{\"event_type\":\"_page_view\"}]";
pub(super) const LIMIT: usize = 1_000;

pub(super) fn limits(bytes_max: usize) -> UnwrapLimits {
    UnwrapLimits {
        bytes_max,
        codings_max: 1,
        codings_undone: 0,
        opens_gzip: true,
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 3).unwrap()
}

/// A brotli stream of one uncompressed metablock (RFC 7932 section 9): window 16 bits, 4 nibbles of
/// length, then the empty last one. For up to 65,536 bytes.
fn brotli(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len() - 1).unwrap();
    // Bits, lowest first: 0 (window), 0 (not last), 00 (4 nibbles), 16 of length - 1, 1 (uncompressed).
    let head = length << 4 | 1 << 20;
    let mut out = head.to_le_bytes()[..3].to_vec();
    out.extend_from_slice(bytes);
    // 1 (last), 1 (empty).
    out.push(0b11);
    out
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

pub(super) fn codings(list: &str) -> Codings {
    let mut codings = Codings::default();
    codings.read(list.as_bytes()).unwrap();
    codings
}

type Pack = fn(&[u8]) -> Vec<u8>;

fn packed() -> [(&'static str, Pack); 6] {
    [
        ("gzip", gzip),
        ("deflate", zlib),
        ("deflate", raw_deflate),
        ("zstd", zstd),
        ("br", brotli),
        ("snappy", snappy),
    ]
}

#[test]
fn packed_bodies_come_back_and_cut_or_longer_ones_fail() {
    for (name, pack) in packed() {
        let body = pack(TEXT);
        let codings = codings(name);
        assert_eq!(&*codings.undo(&body, LIMIT).unwrap(), TEXT, "{name}");
        assert_eq!(&*codings.undo(&body, TEXT.len()).unwrap(), TEXT, "{name}");
        let broken = Err(Reject::Broken { coding: name });
        for cut in 0..body.len() {
            // No frame at all is an empty body.
            if name == "zstd" && cut == 0 {
                continue;
            }
            assert_eq!(codings.undo(&body[..cut], LIMIT), broken, "{name} at {cut}");
        }
        let longer = [&body[..], b"garbage"].concat();
        assert_eq!(codings.undo(&longer, LIMIT), broken, "{name}");
    }
}

#[test]
fn a_body_that_inflates_beyond_its_limit_is_refused() {
    for (name, pack) in packed() {
        let body = pack(&vec![b' '; 50_000]);
        assert_eq!(
            codings(name).undo(&body, 49_999),
            Err(Reject::InflatedTooLarge { limit: 49_999 }),
            "{name}"
        );
        assert_eq!(codings(name).undo(&body, 50_000).unwrap().len(), 50_000);
    }
    // Also one in between, and one of which nobody waits for the end: 10 MB from 10 KB.
    let bomb = gzip(&vec![b' '; 10_000_000]);
    for (list, body) in [("gzip", bomb.clone()), ("gzip, gzip", gzip(&bomb))] {
        assert_eq!(
            codings(list).undo(&body, 65_536),
            Err(Reject::InflatedTooLarge { limit: 65_536 }),
            "{list}"
        );
    }
}

#[test]
fn a_stream_of_the_reference_brotli_encoder_is_decoded() {
    let body = b"\x1b\x38\x00\xc0\x9d\x07\xb6\xad\x26\x7d\x41\x3c\xb4\xbf\xd9\x1a\xea\x2d\xba\xbc\
        \x3d\x2d\xf2\x55\x06\xb7\x74\xfa\x8a\xa5\x0b\x36\xe0\x80\x3d\x0c\x34\xc2\x49\x4f\x92\x68\x15\
        \x03\x9b\x7d\x68\x35\xfa\x55\x31";
    assert_eq!(&*codings("br").undo(body, LIMIT).unwrap(), TEXT);
}

#[test]
fn members_and_frames_after_each_other_are_one_body() {
    let (left, right) = TEXT.split_at(20);
    for (name, body) in [
        ("gzip", [gzip(left), gzip(right)].concat()),
        ("zstd", [zstd(left), zstd(right)].concat()),
    ] {
        assert_eq!(&*codings(name).undo(&body, LIMIT).unwrap(), TEXT, "{name}");
    }
}

#[test]
fn a_list_is_undone_from_its_end() {
    let body = gzip(&zlib(TEXT));
    assert_eq!(&*codings("deflate, gzip").undo(&body, LIMIT).unwrap(), TEXT);
    let mut lines = codings(" Deflate ,identity,");
    lines.read(b"X-GZIP").unwrap();
    assert_eq!(&*lines.undo(&body, LIMIT).unwrap(), TEXT);
    assert_eq!(
        codings("gzip, deflate").undo(&body, LIMIT),
        Err(Reject::Broken { coding: "deflate" })
    );
    assert!(matches!(codings("").undo(TEXT, 0), Ok(Cow::Borrowed(TEXT))));
}

fn overhead(coding: &str, body: &[u8]) -> &'static str {
    match codings(coding).undo(body, 1 << 20) {
        Err(Reject::CodingOverhead {
            what,
            limit,
            actual,
            ..
        }) => {
            assert!(actual > limit, "{coding}: {actual} {limit}");
            what
        }
        other => panic!("{coding}: {other:?}"),
    }
}

#[test]
fn some_dozens_of_empty_members_frames_and_blocks_are_refused() {
    let stored = [0, 0, 0, 0xff, 0xff];
    let end = [1, 0, 0, 0xff, 0xff];
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    for (coding, empty, last) in [
        ("gzip", gzip(b""), gzip(TEXT)),
        ("deflate", stored.to_vec(), end.to_vec()),
        ("zstd", zstd(b""), zstd(TEXT)),
        ("zstd", skippable.to_vec(), zstd(TEXT)),
    ] {
        let few = [empty.repeat(10), last.clone()].concat();
        codings(coding).undo(&few, LIMIT).unwrap();
        let many = [empty.repeat(60), last].concat();
        assert_eq!(overhead(coding, &many), "empty blocks");
    }
}

#[test]
fn an_empty_block_after_each_flush_is_fine() {
    use flate2::write::GzEncoder;
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut text = Vec::new();
    for number in 0..100 {
        let event = format!(
            "{{\"number\":{number},\"id\":\"{:08x}\"}},",
            number * 77_777
        );
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        text.extend_from_slice(event.as_bytes());
    }
    let body = encoder.finish().unwrap();
    assert_eq!(&*codings("gzip").undo(&body, 1 << 20).unwrap(), text);
}

#[test]
fn blocks_of_a_few_bytes_are_refused() {
    // Tables for one letter, the letter, and the end of the block: 13 bytes.
    let mut bits = Bits::default();
    for _ in 0..2_000 {
        bits.deflate_block_of_one_letter();
    }
    bits.push(0b11, 3).push(0, 7);
    assert_eq!(overhead("deflate", &bits.bytes), "blocks");

    let frame =
        zstd(b"so many letters that they are worth a table, and these are not worth another one");
    assert_eq!(overhead("zstd", &frame.repeat(400)), "blocks");
}

#[test]
fn padding_without_content_is_refused() {
    let padding = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0x80, 0, 0][..], &[0; 0x8000]].concat();
    let body = [padding, zstd(TEXT)].concat();
    assert_eq!(overhead("zstd", &body), "bytes without content");
    // A gzip header with a name of 40,000 letters.
    let mut named = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
    named.extend_from_slice(&[b'n'; 40_000]);
    named.push(0);
    named.extend_from_slice(&gzip(TEXT)[10..]);
    assert_eq!(overhead("gzip", &named), "bytes without content");
    // Brotli metadata of no bytes: not last, 11, 0, 00, and up to the next byte.
    let mut bits = Bits::default();
    bits.push(0, 1).push(0b00_0110, 7);
    for _ in 0..30_000 {
        bits.push(0b00_0110, 8);
    }
    bits.push(0b11, 2);
    assert_eq!(overhead("br", &bits.bytes), "bytes without content");
}

#[test]
fn brotli_tables_are_paid_for_by_bytes_sent() {
    let mut bits = Bits::default();
    bits.push(0b1111, 4).brotli_metablock(256, 256);
    assert_eq!(overhead("br", &bits.bytes), "Huffman trees");
    let mut bits = Bits::default();
    bits.push(0b1111, 4);
    for _ in 0..20 {
        bits.brotli_metablock(1, 2);
    }
    bits.push(0b11, 2);
    let what = "bytes of windows and context maps";
    assert_eq!(overhead("br", &bits.bytes), what);
}

#[test]
fn brotli_copies_without_a_bit_are_limited_by_bytes_sent() {
    let body = |count: usize| {
        let mut bits = Bits::default();
        bits.push(0, 1).brotli_copies_of_two(count);
        bits.push(0b11, 2);
        bits.bytes
    };
    assert_eq!(
        codings("br").undo(&body(500), 1 << 20).unwrap().len(),
        1_008
    );
    let many = body(30_000);
    assert!(many.len() < 32, "{}", many.len());
    let too_large = Reject::InflatedTooLarge { limit: 1 << 10 };
    assert_eq!(codings("br").undo(&many, 1 << 20), Err(too_large));
}

#[test]
fn zstd_sequences_without_a_bit_are_limited_by_bytes_sent() {
    // A frame of a raw block of nine letters and a block of matches of three bytes: no literals, the count, and
    // tables of one symbol.
    let body = |count: u16| {
        let [high, low] = count.to_be_bytes();
        let mut body = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38, 9 << 3, 0, 0];
        body.extend_from_slice(b"aaaaaaaaa");
        body.extend_from_slice(&[8 << 3 | 0b101, 0, 0]);
        body.extend_from_slice(&[0, high | 0x80, low, 0b01_01_01_00, 0, 0, 0, 1]);
        body
    };
    let few = body(500);
    assert_eq!(
        codings("zstd").undo(&few, 1 << 20).unwrap().len(),
        9 + 3 * 500
    );
    assert_eq!(overhead("zstd", &body(5_000)), "sequences");
}

#[test]
fn brotli_windows_over_16_mib_are_no_brotli() {
    // The large-window extension: 1, 000, 100 and 6 bits of the window's size.
    let mut bits = Bits::default();
    bits.push(0b001_0001, 7)
        .push(0, 1)
        .push(30, 6)
        .push(0b11, 2);
    let broken = Err(Reject::Broken { coding: "br" });
    assert_eq!(codings("br").undo(&bits.bytes, LIMIT), broken);
}

proptest::proptest! {
    /// Damage in the middle of a good body reaches deeper than random bytes do.
    #[test]
    fn whatever_the_bytes_the_limit_holds_and_nothing_panics(
        name in proptest::sample::select(packed().to_vec()),
        text in proptest::collection::vec(0_u8..4, 1..3_000),
        damage in proptest::collection::vec((0_usize..3_000, proptest::num::u8::ANY), 0..4),
        limit in 0_usize..4_000,
    ) {
        let (name, pack) = name;
        let mut body = pack(&text);
        for (at, byte) in damage {
            let at = at % body.len();
            body[at] = byte;
        }
        if let Ok(out) = codings(name).undo(&body, limit) {
            assert!(out.len() <= limit);
        }
        if let Ok(out) = unwrap_events(&body, || false, limits(limit)) {
            assert!(out.len() <= limit || *out == body);
        }
    }
}
