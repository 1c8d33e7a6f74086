//! Bodies that no encoder writes: streams made bit by bit, to keep a decoder busy with as few bytes as possible.

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{self, Write};

/// The order in which a deflate block gives the lengths of its code lengths (RFC 1951 section 3.2.7).
const LENGTH_ORDER: [u64; 18] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];

/// One gzip member.
pub(super) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// One zlib stream.
pub(super) fn zlib(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// One zstd frame.
pub(super) fn zstd(bytes: &[u8]) -> io::Result<Vec<u8>> {
    ::zstd::encode_all(bytes, 19)
}

/// One raw snappy block of literals and of copies of 64 bytes at distance 1: 3 bytes for each copy.
pub(super) fn snappy_copies(start: &[u8], copies: usize, end: &[u8]) -> Vec<u8> {
    let length = start.len() + 64 * copies + end.len();
    let mut out = varint(length);
    let literal = |bytes: &[u8], out: &mut Vec<u8>| {
        // Up to 60 bytes have their length in the tag.
        out.push(((bytes.len() - 1) << 2) as u8);
        out.extend_from_slice(bytes);
    };
    literal(start, &mut out);
    for _ in 0..copies {
        out.extend_from_slice(&[63 << 2 | 2, 1, 0]);
    }
    literal(end, &mut out);
    out
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A gzip member whose header has a field of this many bytes: the flag says which (4 extra, 8 name, 16 comment).
pub(super) fn gzip_with_header(flag: u8, bytes: usize, content: &[u8]) -> io::Result<Vec<u8>> {
    let member = gzip(content)?;
    let mut out = vec![0x1f, 0x8b, 8, flag, 0, 0, 0, 0, 0, 3];
    if flag == 4 {
        out.extend_from_slice(&(bytes as u16).to_le_bytes());
        out.resize(out.len() + bytes, b'n');
    } else {
        out.resize(out.len() + bytes, b'n');
        out.push(0);
    }
    out.extend_from_slice(&member[10..]);
    Ok(out)
}

/// Raw deflate: `count` blocks, each with Huffman tables of its own and one letter; 13.5 bytes a block.
pub(super) fn deflate_tables(count: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    for _ in 0..count {
        bits.deflate_head(0, 286);
        for zeros in [97, 0, 138, 20, 0, 29, 0] {
            match zeros {
                0 => bits.push(0, 1),
                zeros => bits.push(1, 1).push(zeros - 11, 7),
            };
        }
        bits.push(0, 1).push(1, 1);
    }
    bits.push(0b11, 3).push(0, 7);
    bits.bytes
}

/// Raw deflate: `count` blocks with the fixed tables, each with one space; 2.5 bytes a block.
pub(super) fn deflate_fixed(count: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    for _ in 0..count {
        // Not last, fixed; the code of a space is 0x30 + 0x20, its highest bit first; the end is 0000000.
        bits.push(0b010, 3).push(0b0000_1010, 8).push(0, 7);
    }
    bits.push(0b011, 3).push(0, 7);
    bits.bytes
}

/// Raw deflate: text as stored blocks, with matches of 3 bytes in 2 bits between them.
pub(super) fn deflate_matches(start: &[u8], matches: usize, end: &[u8]) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.stored(start, false);
    // Two lengths and literals are used, 256 (the end) and 257 (length 3), and one distance, 1: a bit each.
    bits.deflate_head(0, 258);
    bits.push(1, 1).push(138 - 11, 7);
    bits.push(1, 1).push(118 - 11, 7);
    bits.push(0, 1).push(0, 1).push(0, 1);
    for _ in 0..matches {
        bits.push(1, 1).push(0, 1);
    }
    bits.push(0, 1);
    bits.stored(end, true);
    bits.bytes
}

/// Raw deflate: `count` stored blocks of no bytes.
pub(super) fn deflate_empty(count: usize) -> Vec<u8> {
    let mut body = [0, 0, 0, 0xff, 0xff].repeat(count);
    body.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    body
}

/// What a block of a zstd frame is.
pub(super) enum Block<'a> {
    /// As it is.
    Raw(&'a [u8]),
    /// One byte, this many times.
    Repeated(u8, usize),
    /// This many matches of three bytes, each of which takes no bits at all: its three tables have one
    /// symbol each (RFC 8878 section 3.1.1.3.2.1).
    Matches(usize),
    /// 3 is reserved.
    Reserved,
}

/// One zstd frame of these blocks; `window` is the descriptor of its window.
pub(super) fn zstd_frame(window: u8, blocks: &[Block<'_>]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
    for (at, block) in blocks.iter().enumerate() {
        let (kind, size, content) = match block {
            Block::Raw(bytes) => (0, bytes.len(), bytes.to_vec()),
            Block::Repeated(byte, count) => (1, *count, vec![*byte]),
            Block::Matches(count) => {
                let content = matches(*count);
                (2, content.len(), content)
            }
            Block::Reserved => (3, 0, Vec::new()),
        };
        let is_last = usize::from(at + 1 == blocks.len());
        let header = size << 3 | kind << 1 | is_last;
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(&content);
    }
    out
}

fn matches(count: usize) -> Vec<u8> {
    // No literals.
    let mut content = vec![0];
    match count {
        0..0x80 => content.push(count as u8),
        0x80..0x7f00 => content.extend_from_slice(&[(count >> 8) as u8 | 0x80, count as u8]),
        _ => {
            content.push(255);
            content.extend_from_slice(&((count - 0x7f00) as u16).to_le_bytes());
        }
    }
    // All tables of one symbol: no literal, a distance used before, three bytes. Then a bit that ends the bits.
    content.extend_from_slice(&[0b01_01_01_00, 0, 0, 0, 1]);
    content
}

/// A zstd frame to skip, of this many bytes.
pub(super) fn zstd_skippable(bytes: usize) -> Vec<u8> {
    let mut out = vec![0x50, 0x2a, 0x4d, 0x18];
    out.extend_from_slice(&(bytes as u32).to_le_bytes());
    out.resize(out.len() + bytes, 0);
    out
}

/// A brotli stream: text as it is, copies of `bytes` bytes from the last distance, text as it is. The codes of all
/// copies have one symbol, so that one takes no bits at all (RFC 7932 section 5); of 2 to 9 bytes.
pub(super) fn brotli_copies(start: &[u8], bytes: usize, copies: usize, end: &[u8]) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0, 1);
    bits.brotli_stored(start);
    let mut left = copies;
    while left > 0 {
        let block = left.min((1 << 16) / bytes);
        bits.brotli_head(block * bytes);
        // One type of literals, commands and distances each; no distance bits; one context mode; one tree each.
        bits.push(0, 3).push(0, 6).push(0, 2).push(0, 2);
        bits.brotli_code(u64::from(b'a'), 8);
        // No literals, this many bytes, the last distance.
        bits.brotli_code(bytes as u64 - 2, 10);
        bits.brotli_code(0, 6);
        left -= block;
    }
    bits.brotli_stored(end);
    bits.push(0b11, 2);
    bits.bytes
}

/// A brotli stream that says as it begins that it has `commands` Huffman trees of commands, one for each type of
/// block, and then one byte; with two `literal_trees` 256 types of literals and a context map of 16 KiB.
pub(super) fn brotli_trees(commands: u64, literal_trees: u64, metablocks: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0b1111, 4);
    for _ in 0..metablocks {
        bits.brotli_trees(commands, literal_trees);
    }
    bits.push(0b11, 2);
    bits.bytes
}

/// A brotli stream of `count` metablocks of metadata without content, a byte each.
pub(super) fn brotli_metadata(count: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0, 1).push(0b00_0110, 7);
    for _ in 0..count {
        bits.push(0b00_0110, 8);
    }
    bits.push(0b11, 2);
    bits.bytes
}

/// Writes bits, the lowest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are used; 0 when it is full.
    used: usize,
}

impl Bits {
    fn push(&mut self, value: u64, count: usize) -> &mut Bits {
        for bit in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << self.used;
            }
            self.used = (self.used + 1) % 8;
        }
        self
    }

    fn fill_byte(&mut self) -> &mut Bits {
        self.used = 0;
        self
    }

    /// The head of a deflate block with its own tables, up to the lengths of code lengths: only those of 18 (a run
    /// of zeros) and 1 are used, one bit each.
    fn deflate_head(&mut self, is_last: u64, lengths: u64) -> &mut Bits {
        self.push(is_last, 1).push(2, 2);
        self.push(lengths - 257, 5).push(0, 5).push(14, 4);
        for symbol in LENGTH_ORDER {
            self.push(u64::from(symbol == 18 || symbol == 1), 3);
        }
        self
    }

    fn stored(&mut self, bytes: &[u8], is_last: bool) {
        self.push(u64::from(is_last), 1).push(0, 2).fill_byte();
        let length = bytes.len() as u16;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&(!length).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Not the last metablock, four nibbles of length, compressed.
    fn brotli_head(&mut self, bytes: usize) {
        self.push(0, 1).push(0, 2).push(bytes as u64 - 1, 16);
        self.push(0, 1);
    }

    fn brotli_stored(&mut self, bytes: &[u8]) {
        self.push(0, 1).push(0, 2).push(bytes.len() as u64 - 1, 16);
        self.push(1, 1).fill_byte();
        self.bytes.extend_from_slice(bytes);
    }

    /// A simple code of one symbol.
    fn brotli_code(&mut self, symbol: u64, bits: usize) {
        self.push(1, 2).push(0, 2).push(symbol, bits);
    }

    fn brotli_trees(&mut self, commands: u64, literal_trees: u64) {
        self.brotli_head(1);
        let literals = if literal_trees == 2 { 256 } else { 1 };
        for types in [literals, commands, 1] {
            self.brotli_count(types);
            if types > 1 {
                // The codes of types and of lengths; the first length, code 25 and 24 bits.
                let bits = u64::BITS - (types + 1).leading_zeros();
                self.brotli_code(2, bits as usize);
                self.brotli_code(25, 5);
                self.push(0, 24);
            }
        }
        self.push(0, 6);
        for _ in 0..literals {
            self.push(0, 2);
        }
        if literal_trees == 2 {
            // A context map of one run of zeros after the other, and moved to the front.
            self.push(1, 1).push(0, 3).push(1, 1).push(13, 4);
            self.brotli_code(14, 4);
            self.push(0, 14).push(1, 1);
        } else {
            self.push(0, 1);
        }
        self.push(0, 1);
        for _ in 0..literal_trees {
            self.brotli_code(u64::from(b'a'), 8);
        }
        for _ in 0..commands {
            self.brotli_code(8, 10);
        }
        self.brotli_code(0, 6);
    }

    /// A count of 1 to 256 (RFC 7932 section 9.2, NBLTYPES).
    fn brotli_count(&mut self, count: u64) {
        if count == 1 {
            self.push(0, 1);
            return;
        }
        let power = (count - 1).ilog2();
        self.push(1, 1).push(u64::from(power), 3);
        self.push(count - 1 - (1 << power), power as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::DeflateDecoder;
    use std::io::Read;

    fn inflated(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        DeflateDecoder::new(body).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn crafted_deflate_streams_are_valid() {
        assert_eq!(inflated(&deflate_tables(50)).len(), 50);
        assert_eq!(inflated(&deflate_fixed(50)), b" ".repeat(50));
        assert_eq!(
            inflated(&deflate_matches(b"xa", 5, b"y")),
            b"xaaaaaaaaaaaaaaaay"
        );
        assert_eq!(inflated(&deflate_empty(9)), b"");
        assert_eq!(deflate_tables(100).len() - deflate_tables(0).len(), 1_350);
    }

    #[test]
    fn crafted_zstd_frames_are_valid() {
        let frame = zstd_frame(
            0,
            &[
                Block::Raw(b"abbbbbbbb"),
                Block::Matches(3),
                Block::Repeated(b'c', 2),
                Block::Matches(200),
                Block::Raw(b"d"),
            ],
        );
        let body = [zstd_skippable(3), frame].concat();
        let out = ::zstd::decode_all(&body[..]).unwrap();
        assert_eq!(out.len(), 9 + 9 + 2 + 600 + 1);
        assert_eq!(&out[..18], b"abbbbbbbbbbbbbbbbb");
        assert!(body.len() < 70, "{}", body.len());
    }

    #[test]
    fn a_snappy_block_says_its_length() {
        let block = snappy_copies(b"a", 2, b"b");
        assert_eq!(block, [130, 1, 0, b'a', 254, 1, 0, 254, 1, 0, 0, b'b']);
    }
}
