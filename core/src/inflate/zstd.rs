//! Decompresses zstd (RFC 8878) in one piece, after a walk over the headers of its frames and blocks.
//!
//! The walk decodes nothing. It counts the blocks, and bounds the output from above, so that the decoder
//! writes straight into a buffer of that size: it needs no window, however large a frame says its own is.

use super::meter::{Fault, Meter};

const FRAME_MAGIC: u32 = 0xfd2f_b528;

/// Skippable frames: the low four bits are free.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

/// Bytes of a block once it is decompressed, at most.
const BLOCK_BYTES_MAX: usize = 128 << 10;

/// Sequences of a body, beside this many for each byte of it. One with tables of one symbol takes no bits at all, and
/// 8 ns of time; those that an encoder writes take a byte or two.
const SEQUENCES_FREE: usize = 512;
const SEQUENCES_RATIO: usize = 4;

/// Decompresses `body`. Frames after each other are one body; no frame at all is an empty one.
pub(super) fn decompress(body: &[u8], meter: &mut Meter) -> Result<Vec<u8>, Fault> {
    let bound = walk(body, meter)?.min(meter.output_max());
    let mut out = Vec::with_capacity(bound);
    match zstd::zstd_safe::decompress(&mut out, body) {
        Ok(_) => {
            meter.made(out.len())?;
            Ok(out)
        }
        Err(code) if code == output_full() && bound == meter.output_max() => Err(Fault::TooLarge),
        Err(_) => Err(Fault::Broken),
    }
}

/// How libzstd says that the output buffer is full: the negated number of the error.
fn output_full() -> usize {
    (zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg()
}

/// Counts frames and blocks; gives what they hold at most.
fn walk(body: &[u8], meter: &mut Meter) -> Result<usize, Fault> {
    let mut rest = Reader(body);
    let (mut bound, mut sequences) = (0_usize, 0_usize);
    let sequences_max = SEQUENCES_FREE + SEQUENCES_RATIO * body.len();
    while !rest.0.is_empty() {
        let magic = rest.number(4)? as u32;
        if magic & !0xf == SKIPPABLE_MAGIC {
            let length = rest.number(4)? as usize;
            rest.skip(length)?;
            meter.bytes(8 + length, false)?;
            continue;
        }
        if magic != FRAME_MAGIC {
            return Err(Fault::Broken);
        }
        let has_checksum = frame_header(&mut rest)?;
        loop {
            let header = rest.number(3)? as usize;
            let (kind, size) = (header >> 1 & 3, header >> 3);
            // As stored, one byte repeated, compressed; 3 is reserved.
            let (stored, output) = match kind {
                0 => (size, size),
                1 => (1, size),
                2 => (size, BLOCK_BYTES_MAX),
                _ => return Err(Fault::Broken),
            };
            let content = rest.0;
            rest.skip(stored)?;
            bound = bound.saturating_add(output);
            if kind == 2 {
                meter.unit(3 + stored, true)?;
                sequences += count_sequences(Reader(&content[..stored]))?;
                if sequences > sequences_max {
                    return Err(Fault::Overhead {
                        what: "sequences",
                        limit: sequences_max,
                        actual: sequences,
                    });
                }
            } else {
                meter.bytes(3 + stored, output > 0)?;
            }
            if header & 1 == 1 {
                break;
            }
        }
        if has_checksum {
            rest.skip(4)?;
        }
    }
    Ok(bound)
}

/// How many sequences a compressed block says it has (RFC 8878 section 3.1.1.3): they stand behind its literals.
fn count_sequences(mut block: Reader<'_>) -> Result<usize, Fault> {
    let first = *block.0.first().ok_or(Fault::Broken)? as usize;
    let (kind, size_format) = (first & 3, first >> 2 & 3);
    let literals = if kind < 2 {
        // As stored, or one byte repeated.
        let header = [1, 2, 1, 3][size_format];
        let number = block.number(header)? as usize;
        let size = number >> if header == 1 { 3 } else { 4 };
        if kind == 0 { size } else { 1 }
    } else {
        // Both sizes have as many bits, the one as stored is the second.
        let (header, bits) = [(3, 10), (3, 10), (4, 14), (5, 18)][size_format];
        let number = block.number(header)? >> 4 >> bits;
        number as usize & ((1 << bits) - 1)
    };
    block.skip(literals)?;
    match block.number(1)? as usize {
        count @ 0..128 => Ok(count),
        high @ 128..255 => Ok((high - 128) << 8 | block.number(1)? as usize),
        _ => Ok(0x7f00 + block.number(2)? as usize),
    }
}

/// Reads past the header of a frame; says whether the frame ends with a checksum.
fn frame_header(rest: &mut Reader<'_>) -> Result<bool, Fault> {
    let descriptor = rest.number(1)?;
    let is_single_segment = descriptor >> 5 & 1 == 1;
    let window = usize::from(!is_single_segment);
    let dictionary = [0, 1, 2, 4][descriptor as usize & 3];
    let content_size = match descriptor >> 6 {
        0 => usize::from(is_single_segment),
        power => 1 << power,
    };
    rest.skip(window + dictionary + content_size)?;
    Ok(descriptor >> 2 & 1 == 1)
}

/// What is left of a body.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn skip(&mut self, length: usize) -> Result<(), Fault> {
        self.0 = self.0.get(length..).ok_or(Fault::Broken)?;
        Ok(())
    }

    /// A number of up to eight bytes, little-endian.
    fn number(&mut self, length: usize) -> Result<u64, Fault> {
        let bytes = self.0.get(..length).ok_or(Fault::Broken)?;
        let number = bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        self.skip(length)?;
        Ok(number)
    }
}
