//! Inflates gzip, zlib and raw deflate (RFC 1950 to 1952), one block at a time.
//!
//! Block by block because the cost of a block is its Huffman tables, not its bytes: a block of 12 bytes that
//! holds one letter costs as much as one that holds a kilobyte. zlib's window is 32 KiB whatever a body says.

use super::meter::{Fault, Meter};
use zlib_rs::{Inflate, InflateFlush, Status};

/// zlib's largest window, as a power of two.
const WINDOW_BITS: u8 = 15;

/// Added to the window bits to make zlib read a gzip header and trailer.
const GZIP: u8 = 16;

/// A block of fewer bytes than this has no room for Huffman tables of its own.
const TABLES_BYTES_MIN: usize = 8;

/// The format around the deflate blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Zlib,
    Raw,
}

/// Inflates `body` to its last byte. Gzip members after each other are one body.
pub(super) fn inflate(body: &[u8], format: Format, meter: &mut Meter) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        let mut decoder = match format {
            Format::Gzip => Inflate::new(true, GZIP + WINDOW_BITS),
            Format::Zlib => Inflate::new(true, WINDOW_BITS),
            Format::Raw => Inflate::new(false, WINDOW_BITS),
        };
        at += member(&mut decoder, &body[at..], &mut out, meter)?;
        if at == body.len() {
            meter.made(out.len())?;
            return Ok(out);
        }
        if format != Format::Gzip {
            // Bytes behind the end would be dropped in silence.
            return Err(Fault::Broken);
        }
    }
}

/// Appends what one member holds, and gives its length in `body`.
fn member(
    decoder: &mut Inflate,
    body: &[u8],
    out: &mut Vec<u8>,
    meter: &mut Meter,
) -> Result<usize, Fault> {
    let (mut at, mut filled) = (0, out.len());
    let result = loop {
        if filled == out.len() {
            // One byte over the limit, so that a body that just fits is told from one that does not.
            let room = meter.output_max() + 1;
            if filled >= room {
                break Err(Fault::TooLarge);
            }
            out.resize((2 * filled).max(4 * body.len()).max(4_096).min(room), 0);
        }
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let status = decoder.decompress(&body[at..], &mut out[filled..], InflateFlush::Block);
        // Both are lengths of slices.
        let read = (decoder.total_in() - read) as usize;
        let written = (decoder.total_out() - written) as usize;
        (at, filled) = (at + read, filled + written);
        match status {
            Ok(Status::StreamEnd) => break meter.unit(read, written > 0),
            Ok(Status::Ok) => {
                // zlib also stops once after a header, which has no tables.
                let has_tables = decoder.total_out() > 0 && read >= TABLES_BYTES_MIN;
                let counted = if has_tables {
                    meter.unit(read, written > 0)
                } else {
                    meter.bytes(read, written > 0)
                };
                if let Err(fault) = counted {
                    break Err(fault);
                }
            }
            // Nothing more to read, and no end.
            Ok(Status::BufError) if at == body.len() && filled < out.len() => {
                break Err(Fault::Broken);
            }
            Ok(Status::BufError) => {}
            Err(_) => break Err(Fault::Broken),
        }
    };
    out.truncate(filled);
    if out.len() > meter.output_max() {
        return Err(Fault::TooLarge);
    }
    result.map(|()| at)
}
