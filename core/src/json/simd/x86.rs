//! SSE2 and AVX2 kernels, written once over a small vector trait.

use super::{ESCAPES, escape_of, scalar};
use std::arch::x86_64::{
    __m128i, __m256i, _mm_cmpeq_epi8, _mm_loadl_epi64, _mm_loadu_si128, _mm_min_epu8,
    _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm_shuffle_epi8, _mm_storeu_si128,
    _mm_unpacklo_epi64, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8,
    _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_storeu_si256,
};

/// A vector of bytes.
///
/// # Safety
/// Every method requires that the processor has the instructions of the implementing type.
trait Vector: Copy {
    const LEN: usize;
    /// # Safety
    /// `LEN` bytes have to be readable at `from`.
    unsafe fn load(from: *const u8) -> Self;
    /// # Safety
    /// `LEN` bytes have to be writable at `to`.
    unsafe fn store(self, to: *mut u8);
    /// Bit n is set when byte n is a quote, a backslash or a control character.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn special(self) -> u32;
    /// Bit n is set when byte n is a control character.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn control(self) -> u32;
    /// Copies `LEN` bytes from `from` to `to`, writing the `special` ones as their escapes, and
    /// gives the end of what it wrote. `control` says which of them are control characters.
    ///
    /// # Safety
    /// 2 * `LEN` bytes have to be readable at `from`, 7 * `LEN` writable at `to`.
    #[inline(always)]
    unsafe fn escape(from: *const u8, to: *mut u8, special: u32, _control: u32) -> *mut u8 {
        // SAFETY: as the caller says.
        unsafe { escape_bit_by_bit::<Self>(from, to, special) }
    }
}

impl Vector for __m128i {
    const LEN: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: 16 bytes are readable, says the caller; the load may be unaligned.
        unsafe { _mm_loadu_si128(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: 16 bytes are writable, says the caller; the store may be unaligned.
        unsafe { _mm_storeu_si128(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn special(self) -> u32 {
        // SAFETY: plain arithmetic; SSE2 is part of x86-64.
        unsafe {
            let quote = _mm_cmpeq_epi8(self, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(self, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(self, _mm_set1_epi8(0x1f)), self);
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
        }
    }

    #[inline(always)]
    unsafe fn control(self) -> u32 {
        // SAFETY: plain arithmetic; SSE2 is part of x86-64.
        unsafe {
            let limit = _mm_set1_epi8(0x1f);
            _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(self, limit), self)) as u32
        }
    }
}

impl Vector for __m256i {
    const LEN: usize = 32;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: 32 bytes are readable, says the caller; the load may be unaligned.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: 32 bytes are writable, says the caller; the store may be unaligned.
        unsafe { _mm256_storeu_si256(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn special(self) -> u32 {
        // SAFETY: plain arithmetic; the processor has AVX2, says the caller.
        unsafe {
            let quote = _mm256_cmpeq_epi8(self, _mm256_set1_epi8(b'"' as i8));
            let backslash = _mm256_cmpeq_epi8(self, _mm256_set1_epi8(b'\\' as i8));
            let control = _mm256_cmpeq_epi8(_mm256_min_epu8(self, _mm256_set1_epi8(0x1f)), self);
            _mm256_movemask_epi8(_mm256_or_si256(_mm256_or_si256(quote, backslash), control)) as u32
        }
    }

    #[inline(always)]
    unsafe fn control(self) -> u32 {
        // SAFETY: plain arithmetic; the processor has AVX2, says the caller.
        unsafe {
            let limit = _mm256_set1_epi8(0x1f);
            _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(self, limit), self)) as u32
        }
    }

    /// In JSON every few bytes are a quote, and no branch predictor knows where. So all 8 bytes of a
    /// group go through one shuffle that makes room for the backslashes, however many there are.
    #[inline(always)]
    unsafe fn escape(from: *const u8, to: *mut u8, special: u32, control: u32) -> *mut u8 {
        // SAFETY: the four groups read 32 bytes at `from`; each writes 16 bytes at most 16 further
        // than the one before, 64 in all. The rest is as the caller says; AVX2 implies SSSE3.
        unsafe {
            if control != 0 {
                return escape_bit_by_bit::<Self>(from, to, special);
            }
            let backslashes = _mm_set1_epi8(b'\\' as i8);
            let mut to = to;
            for group in 0..4 {
                let bits = special >> (group * 8) & 0xff;
                let bytes = _mm_loadl_epi64(from.add(group * 8).cast());
                let order = _mm_loadu_si128(BACKSLASH_ORDERS[bits as usize].as_ptr().cast());
                let spread = _mm_shuffle_epi8(_mm_unpacklo_epi64(bytes, backslashes), order);
                _mm_storeu_si128(to.cast(), spread);
                to = to.add(8 + bits.count_ones() as usize);
            }
            to
        }
    }
}

/// For each set of special bytes among 8, the order that puts a backslash (any byte from the eighth
/// on) before each of them.
static BACKSLASH_ORDERS: [[u8; 16]; 256] = backslash_orders();

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
/// 2 * `V::LEN` bytes have to be readable at `from`, 7 * `V::LEN` writable at `to`, and the processor has to
/// have the instructions of `V`.
#[inline(always)]
unsafe fn escape_bit_by_bit<V: Vector>(from: *const u8, to: *mut u8, special: u32) -> *mut u8 {
    // SAFETY: `run <= next < LEN` at each load, so it ends before from + 2 * LEN. `to` advances by the
    // clean bytes, fewer than LEN, and at most 6 for each special one: never beyond 6 * LEN, and
    // the last store ends before 7 * LEN. An escape's 8 bytes begin at least 6 before that 6 * LEN.
    unsafe {
        let mut to = to;
        let mut special = special;
        let mut run = 0;
        while special != 0 {
            let next = special.trailing_zeros() as usize;
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

/// See [`super::find_special`]. Strings of events are short: 16 bytes at a time, inline.
#[inline(always)]
pub(super) fn find_special(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while at + 16 <= bytes.len() {
        // SAFETY: SSE2 is part of x86-64; 16 bytes are readable from `at`, as just checked.
        let special = unsafe { __m128i::load(bytes.as_ptr().add(at)).special() };
        if special != 0 {
            return at + special.trailing_zeros() as usize;
        }
        at += 16;
    }
    scalar::find_special(bytes, at)
}

/// Whether the processor has AVX2, and POPCNT as all that have AVX2 do.
#[inline(always)]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt")
}

/// See [`super::growth`].
pub(super) fn growth(bytes: &[u8]) -> usize {
    if has_avx2() {
        // SAFETY: the processor has AVX2, as just asked.
        unsafe { growth_avx2(bytes) }
    } else {
        growth_sse2(bytes)
    }
}

/// See [`super::escape`].
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let done = if bytes.len() < 2 * __m128i::LEN {
        0
    } else if has_avx2() {
        // SAFETY: the processor has AVX2, as just asked.
        unsafe { escape_avx2(bytes, out) }
    } else {
        escape_sse2(bytes, out)
    };
    // What is left has no room for whole vectors, at its end or at the end of `out`.
    escape_runs(&bytes[done..], out);
}

/// Appends `bytes`, escaped, run by run.
fn escape_runs(bytes: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < bytes.len() {
        let special = find_special(bytes, at);
        out.extend_from_slice(&bytes[at..special]);
        if let Some(byte) = bytes.get(special) {
            out.extend_from_slice(escape_of(*byte));
        }
        at = special + 1;
    }
}

#[target_feature(enable = "avx2,popcnt")]
fn growth_avx2(bytes: &[u8]) -> usize {
    // SAFETY: this function is only entered on processors with AVX2.
    unsafe { growth_of::<__m256i>(bytes) }
}

fn growth_sse2(bytes: &[u8]) -> usize {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { growth_of::<__m128i>(bytes) }
}

#[target_feature(enable = "avx2,popcnt")]
fn escape_avx2(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    // SAFETY: this function is only entered on processors with AVX2.
    unsafe { escape_bulk::<__m256i>(bytes, out) }
}

fn escape_sse2(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { escape_bulk::<__m128i>(bytes, out) }
}

/// # Safety
/// The processor has to have the instructions of `V`.
#[inline(always)]
unsafe fn growth_of<V: Vector>(bytes: &[u8]) -> usize {
    let (mut at, mut growth) = (0, 0);
    while at + V::LEN <= bytes.len() {
        // SAFETY: `V::LEN` bytes are readable from `at`, as just checked.
        let (special, mut control) = unsafe {
            let vector = V::load(bytes.as_ptr().add(at));
            (vector.special(), vector.control())
        };
        growth += (special & !control).count_ones() as usize;
        while control != 0 {
            growth += escape_of(bytes[at + control.trailing_zeros() as usize]).len() - 1;
            control &= control - 1;
        }
        at += V::LEN;
    }
    growth + scalar::growth(&bytes[at..])
}

/// Escapes from the front of `bytes` as long as whole vectors can be read and written, and gives how
/// many bytes it took. Copies whole vectors and then moves on by what counted, so it may scribble
/// over reserved bytes past the end of `out`, never past its capacity.
///
/// # Safety
/// The processor has to have the instructions of `V`.
#[inline(always)]
unsafe fn escape_bulk<V: Vector>(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    // A chunk of `LEN` special bytes becomes 6 * LEN, and the last copy may reach LEN further.
    let room = 7 * V::LEN;
    let mut at = 0;
    while at + 2 * V::LEN <= bytes.len() && out.capacity() - out.len() >= room {
        // SAFETY: 2 * LEN bytes are readable from `at` and `room` bytes writable at `out`'s end, as
        // just checked. What set_len counts in has been written: LEN bytes by the first store, or
        // everything up to the end that `escape` gives.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Clean filler of this length with `inserts` placed at their offsets.
    fn text(len: usize, inserts: &[(usize, u8)]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len).map(|at| b'a' + (at % 26) as u8).collect();
        for (at, byte) in inserts {
            if let Some(place) = bytes.get_mut(*at) {
                *place = *byte;
            }
        }
        bytes
    }

    fn escaped(escape: impl Fn(&[u8], &mut Vec<u8>), bytes: &[u8], capacity: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(b"before");
        escape(bytes, &mut out);
        out
    }

    fn check(bytes: &[u8]) {
        for from in [0, 1, bytes.len() / 2, bytes.len()] {
            let from = from.min(bytes.len());
            assert_eq!(
                find_special(bytes, from),
                scalar::find_special(bytes, from),
                "find from {from} in {bytes:?}"
            );
        }
        let growth = scalar::growth(bytes);
        assert_eq!(growth_sse2(bytes), growth, "sse2 growth of {bytes:?}");
        assert_eq!(super::growth(bytes), growth, "growth of {bytes:?}");
        let expected = escaped(scalar::escape, bytes, 0);
        assert_eq!(expected.len(), 6 + bytes.len() + growth);
        // With no room the kernels leave all to the runs; with exact room they must not outgrow it.
        for capacity in [6, expected.len(), expected.len() + 7 * 32] {
            let out = escaped(super::escape, bytes, capacity);
            assert_eq!(out, expected, "escape of {bytes:?} into {capacity}");
            if capacity >= expected.len() {
                assert!(out.capacity() == capacity, "grew from {capacity}");
            }
            let sse2 = |bytes: &[u8], out: &mut Vec<u8>| {
                let done = escape_sse2(bytes, out);
                escape_runs(&bytes[done..], out);
            };
            assert_eq!(
                escaped(sse2, bytes, capacity),
                expected,
                "sse2 of {bytes:?}"
            );
        }
    }

    #[test]
    fn kernels_do_as_scalar_does_for_each_special_byte_at_each_offset_around_vector_edges() {
        let lengths = [
            0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 96, 100, 129,
        ];
        for len in lengths {
            check(&text(len, &[]));
            for at in 0..len {
                for byte in [b'"', b'\\', 0x00, 0x1f, b'\n', 0x20, 0x7f, 0x80, 0xff] {
                    check(&text(len, &[(at, byte)]));
                }
                check(&text(len, &[(at, b'"'), (at + 1, 0x01), (at + 17, b'\\')]));
            }
        }
    }

    #[test]
    fn kernels_do_as_scalar_does_for_nothing_but_special_bytes() {
        for len in 0..200 {
            for byte in [b'"', 0x01, b'\n'] {
                check(&vec![byte; len]);
            }
        }
    }

    #[test]
    fn kernels_do_as_scalar_does_for_every_byte_value() {
        let all: Vec<u8> = (0..=255).collect();
        for start in 0..64 {
            check(&all[start..]);
        }
    }
}
