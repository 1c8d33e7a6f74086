//! Decompresses brotli (RFC 7932) with a bound on the memory that its metablocks ask for.
//!
//! 18 bytes can ask for 768 Huffman trees and 80 for a context map of 16 KiB, which cost their memory before a
//! single letter is decoded, and again in each metablock; 12 bytes can ask for 32,768 copies. The decoder takes trees,
//! maps and window from allocators, and fails in good order when those have nothing left: so the allocators keep the
//! account. The windows above 16 MiB, which are no part of the RFC, are refused.

use super::meter::{Fault, Meter};
use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc,
};

/// Table entries that the decoder reserves for one tree.
const TREE_ENTRIES: usize = 1_080;

/// Trees of a body, beside one for each [`TREE_BYTES`] of it. A tree costs 0.7 us.
const TREES_MAX: usize = 8;

/// A tree that is worth its place saves more bytes than it takes.
const TREE_BYTES: usize = 64;

/// Bytes that a body may give for each byte of it, and that any body may give. Less than other codings may: copies of
/// two bytes need not take a single bit here, and 4 ns of time for each byte that they give.
const RATIO_MAX: usize = 32;
const RATIO_FREE_BYTES: usize = 1 << 10;

/// Bytes around the window that the decoder reserves with it.
const WINDOW_SLACK: usize = 1 << 10;

/// Bytes of context maps, for each byte of the body, and in any body.
const CONTEXT_MAP_RATIO: usize = 4;
const CONTEXT_MAP_FREE_BYTES: usize = 1 << 10;

/// Bytes of input between two looks at the output.
const SLICE_BYTES: usize = 4 << 10;

/// The most that a body of this many bytes may give: a power of two, as windows are.
pub(super) fn output_limit(body_bytes: usize) -> usize {
    let earned = body_bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
    1 << earned.ilog2()
}

/// Hands out zeroed memory until the allowance is used up, and nothing then.
struct Metered {
    /// Elements left.
    left: usize,
    /// Elements of one request, at most.
    one_max: usize,
    refused: Option<Refused>,
}

/// Why an allocator has nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// One request was too large.
    One,
    /// All requests together are.
    All,
}

impl Metered {
    fn new(left: usize, one_max: usize) -> Metered {
        Metered {
            left,
            one_max,
            refused: None,
        }
    }

    fn takes(&mut self, length: usize) -> bool {
        match self.left.checked_sub(length) {
            _ if length > self.one_max => self.refused = Some(Refused::One),
            Some(less) => self.left = less,
            None => self.refused = Some(Refused::All),
        }
        self.refused.is_none()
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
    // The decoder fills its window before it shows any of it, so the window is what bounds the work. It grows by
    // doubling: all windows of a body are together at most twice as large as the last one.
    let window = limit.next_power_of_two() + WINDOW_SLACK;
    let maps = CONTEXT_MAP_FREE_BYTES + CONTEXT_MAP_RATIO * body.len();
    let memory = 2 * window + maps;
    // The trees of block types and block lengths are small and few.
    let entries = (trees + 4) * TREE_ENTRIES;
    let mut state = BrotliState::new_strict(
        Metered::new(memory, window),
        Metered::new(entries, entries),
        Metered::new(entries, entries),
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
            BrotliResult::ResultFailure
                if state.alloc_hc.refused.is_some() || state.alloc_u32.refused.is_some() =>
            {
                return Err(Fault::Overhead {
                    what: "Huffman trees",
                    limit: trees,
                    actual: trees + 1,
                });
            }
            BrotliResult::ResultFailure if state.alloc_u8.refused == Some(Refused::One) => {
                return Err(Fault::TooLarge);
            }
            BrotliResult::ResultFailure if state.alloc_u8.refused == Some(Refused::All) => {
                return Err(Fault::Overhead {
                    what: "bytes of windows and context maps",
                    limit: memory,
                    actual: memory + 1,
                });
            }
            // An end before the body's end, or the body's end before an end.
            BrotliResult::ResultSuccess
            | BrotliResult::NeedsMoreInput
            | BrotliResult::ResultFailure => return Err(Fault::Broken),
        }
    }
}
