//! Decompresses brotli (RFC 7932) with a bound on the tables that its metablocks ask for.
//!
//! 18 bytes can ask for 768 Huffman trees and 80 for a context map of 16 KiB, which cost their memory before a
//! single letter is decoded, and again in each metablock. The decoder takes both from allocators, and
//! fails in good order when those have nothing left: so the allocators keep the account. Its window grows with
//! its output, and the windows above 16 MiB, which are no part of the RFC, are refused.

use super::meter::{Fault, Meter};
use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc,
};

/// Table entries that the decoder reserves for one tree.
const TREE_ENTRIES: usize = 1_080;

/// Trees of a body, beside one for each [`TREE_BYTES`] of it.
const TREES_MAX: usize = 32;

/// A tree that is worth its place saves more bytes than it takes.
const TREE_BYTES: usize = 128;

/// The largest context map: 256 block types of 64 contexts.
const CONTEXT_MAP_BYTES_MAX: usize = 256 << 6;

/// Bytes of context maps and of windows up to that size, beside this many for each byte of the body.
const SMALL_BYTES_MAX: usize = 64 << 10;
const SMALL_BYTES_RATIO: usize = 4;

/// Bytes of input between two looks at the output.
const SLICE_BYTES: usize = 4 << 10;

/// Hands out zeroed memory until the allowance is used up, and nothing then.
struct Metered {
    /// Elements left.
    left: usize,
    /// The same for windows: requests of more than [`CONTEXT_MAP_BYTES_MAX`] elements.
    left_large: Option<usize>,
    refused: bool,
}

impl Metered {
    fn new(left: usize, left_large: Option<usize>) -> Metered {
        Metered {
            left,
            left_large,
            refused: false,
        }
    }

    fn takes(&mut self, length: usize) -> bool {
        let left = if let Some(left_large) = &mut self.left_large
            && length > CONTEXT_MAP_BYTES_MAX
        {
            left_large
        } else {
            &mut self.left
        };
        match left.checked_sub(length) {
            Some(less) => *left = less,
            None => self.refused = true,
        }
        !self.refused
    }
}

impl<T: Clone + Default> Allocator<T> for Metered {
    type AllocatedMemory = <StandardAlloc as Allocator<T>>::AllocatedMemory;

    fn alloc_cell(&mut self, length: usize) -> Self::AllocatedMemory {
        if self.takes(length) {
            StandardAlloc::default().alloc_cell(length)
        } else {
            Self::AllocatedMemory::default()
        }
    }

    fn free_cell(&mut self, _: Self::AllocatedMemory) {}
}

/// Decompresses `body` to its last byte.
pub(super) fn decompress(body: &[u8], meter: &mut Meter) -> Result<Vec<u8>, Fault> {
    let limit = meter.output_max();
    let trees = TREES_MAX + body.len() / TREE_BYTES;
    let small_bytes = SMALL_BYTES_MAX + SMALL_BYTES_RATIO * body.len();
    // A window grows by doubling, and is copied each time.
    let window_bytes = 4 * limit.max(CONTEXT_MAP_BYTES_MAX);
    // The trees of block types and block lengths are small and few.
    let entries = (trees + 4) * TREE_ENTRIES;
    let mut state = BrotliState::new_strict(
        Metered::new(small_bytes, Some(window_bytes)),
        Metered::new(entries, None),
        Metered::new(entries, None),
    );
    let mut out = Vec::new();
    let mut piece = [0; 16 << 10];
    let (mut at, mut total) = (0, 0);
    loop {
        let mut left = SLICE_BYTES.min(body.len() - at);
        let (mut room, mut filled) = (piece.len(), 0);
        let is_last = at + left == body.len();
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            body,
            &mut room,
            &mut filled,
            &mut piece,
            &mut total,
            &mut state,
        );
        out.extend_from_slice(&piece[..filled]);
        if out.len() > limit {
            return Err(Fault::TooLarge);
        }
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput if !is_last => meter.progress(at, out.len())?,
            BrotliResult::ResultSuccess if at == body.len() => {
                meter.progress(at, out.len())?;
                return Ok(out);
            }
            BrotliResult::ResultFailure if state.alloc_hc.refused || state.alloc_u32.refused => {
                return Err(Fault::Overhead {
                    what: "Huffman trees",
                    limit: trees,
                    actual: trees + 1,
                });
            }
            BrotliResult::ResultFailure if state.alloc_u8.refused => {
                return Err(Fault::Overhead {
                    what: "bytes of context maps",
                    limit: small_bytes,
                    actual: small_bytes + 1,
                });
            }
            // An end before the body's end, or the body's end before an end.
            BrotliResult::ResultSuccess
            | BrotliResult::NeedsMoreInput
            | BrotliResult::ResultFailure => return Err(Fault::Broken),
        }
    }
}
