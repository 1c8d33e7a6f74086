//! The kernels' loops, written once over a small vector trait that each processor family implements.

use super::{ESCAPES, escape_of, scalar};

/// A vector of bytes.
///
/// # Safety
/// Every method requires that the processor has the instructions of the implementing type.
pub(super) trait Vector: Copy {
    const LEN: usize;
    /// Bits that stand for one byte in a mask, as a power of two: 0 where the processor gathers one bit of
    /// each byte, 2 where narrowing gives four. Of those a mask sets one.
    const MASK_SHIFT: u32;
    /// # Safety
    /// `LEN` bytes must be readable at `from`.
    unsafe fn load(from: *const u8) -> Self;
    /// # Safety
    /// `LEN` bytes must be writable at `to`.
    unsafe fn store(self, to: *mut u8);
    /// The mask of bytes that are a quote, a backslash or a control character.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn special(self) -> u64;
    /// The mask of bytes that are control characters.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn control(self) -> u64;
    /// Copies `LEN` bytes from `from` to `to`, writing the `special` ones as their escapes, and
    /// returns the end of what it wrote. `control` says which of them are control characters.
    ///
    /// # Safety
    /// 2 * `LEN` bytes must be readable at `from`, 7 * `LEN` writable at `to`.
    #[inline(always)]
    unsafe fn escape(from: *const u8, to: *mut u8, special: u64, _control: u64) -> *mut u8 {
        // SAFETY: as the caller says.
        unsafe { escape_bit_by_bit::<Self>(from, to, special) }
    }
}

/// The offset of the first byte in a mask that is not empty.
#[inline(always)]
fn first<V: Vector>(mask: u64) -> usize {
    (mask.trailing_zeros() >> V::MASK_SHIFT) as usize
}

/// For each set of special bytes among 8, the order that puts a backslash (any byte from the eighth
/// on) before each of them.
pub(super) static BACKSLASH_ORDERS: [[u8; 16]; 256] = backslash_orders();

const fn backslash_orders() -> [[u8; 16]; 256] {
    let mut orders = [[8; 16]; 256];
    let mut bits = 0;
    while bits < 256 {
        let (mut byte, mut to) = (0, 0);
        while byte < 8 {
            to += bits >> byte & 1;
            orders[bits][to] = byte as u8;
            to += 1;
            byte += 1;
        }
        bits += 1;
    }
    orders
}

/// See [`Vector::escape`].
///
/// # Safety
/// 2 * `V::LEN` bytes must be readable at `from`, 7 * `V::LEN` writable at `to`, and the processor must
/// have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn escape_bit_by_bit<V: Vector>(
    from: *const u8,
    to: *mut u8,
    special: u64,
) -> *mut u8 {
    // SAFETY: `run <= next < LEN` at each load, so it ends before from + 2 * LEN. `to` advances by the
    // clean bytes, fewer than LEN, and at most 6 for each special one: never beyond 6 * LEN, and
    // the last store ends before 7 * LEN. An escape's 8 bytes begin at least 6 before that 6 * LEN.
    unsafe {
        let mut to = to;
        let mut special = special;
        let mut run = 0;
        while special != 0 {
            let next = first::<V>(special);
            V::load(from.add(run)).store(to);
            to = to.add(next - run);
            let escape = &ESCAPES[usize::from(*from.add(next))];
            to.cast::<[u8; 8]>().write_unaligned(*escape);
            to = to.add(usize::from(escape[7]));
            run = next + 1;
            special &= special - 1;
        }
        if run < V::LEN {
            V::load(from.add(run)).store(to);
        }
        to.add(V::LEN - run)
    }
}

/// See [`super::find_special`].
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn find_special_with<V: Vector>(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while at + V::LEN <= bytes.len() {
        // SAFETY: `V::LEN` bytes are readable from `at`, as just checked.
        let special = unsafe { V::load(bytes.as_ptr().add(at)).special() };
        if special != 0 {
            return at + first::<V>(special);
        }
        at += V::LEN;
    }
    scalar::find_special(bytes, at)
}

/// Appends `bytes`, escaped, run by run: what whole vectors have no room for, at the end of the input or
/// of the output's capacity.
pub(super) fn escape_runs(bytes: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < bytes.len() {
        let special = super::find_special(bytes, at);
        out.extend_from_slice(&bytes[at..special]);
        if let Some(byte) = bytes.get(special) {
            out.extend_from_slice(escape_of(*byte));
        }
        at = special + 1;
    }
}

/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn growth_of<V: Vector>(bytes: &[u8]) -> usize {
    let (mut at, mut growth) = (0, 0);
    while at + V::LEN <= bytes.len() {
        // SAFETY: `V::LEN` bytes are readable from `at`, as just checked.
        let (special, mut control) = unsafe {
            let vector = V::load(bytes.as_ptr().add(at));
            (vector.special(), vector.control())
        };
        growth += (special & !control).count_ones() as usize;
        while control != 0 {
            growth += escape_of(bytes[at + first::<V>(control)]).len() - 1;
            control &= control - 1;
        }
        at += V::LEN;
    }
    growth + scalar::growth(&bytes[at..])
}

/// Escapes from the front of `bytes` as long as whole vectors can be read and written, and returns how
/// many bytes it took. Copies whole vectors and then moves on by what counted, so it may scribble
/// over reserved bytes past the end of `out`, never past its capacity.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn escape_bulk<V: Vector>(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    // A chunk of `LEN` special bytes becomes 6 * LEN, and the last copy may reach LEN further.
    let room = 7 * V::LEN;
    let mut at = 0;
    while at + 2 * V::LEN <= bytes.len() && out.capacity() - out.len() >= room {
        // SAFETY: 2 * LEN bytes are readable from `at` and `room` bytes writable at `out`'s end, as
        // just checked. What set_len counts in has been written: LEN bytes by the first store, or
        // everything up to the end that `escape` returns.
        unsafe {
            let from = bytes.as_ptr().add(at);
            let end = out.as_mut_ptr().add(out.len());
            let chunk = V::load(from);
            let special = chunk.special();
            if special == 0 {
                chunk.store(end);
                out.set_len(out.len() + V::LEN);
            } else {
                let to = V::escape(from, end, special, chunk.control());
                out.set_len(out.len() + to.offset_from_unsigned(end));
            }
        }
        at += V::LEN;
    }
    at
}
