//! The kernels on x86-64: SSE2, which every such processor has, and AVX2, which is asked for once.

use super::vector::{
    BACKSLASH_ORDERS, Vector, escape_bit_by_bit, escape_bulk, escape_runs, find_special_with,
    growth_of,
};
use std::arch::x86_64::{
    __m128i, __m256i, _mm_cmpeq_epi8, _mm_loadl_epi64, _mm_loadu_si128, _mm_min_epu8,
    _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm_shuffle_epi8, _mm_storeu_si128,
    _mm_unpacklo_epi64, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8,
    _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_storeu_si256,
};

/// A gathered mask without its sign: 16 or 32 bits, the lowest for the first byte.
#[inline(always)]
fn mask(gathered: i32) -> u64 {
    u64::from(gathered as u32)
}

impl Vector for __m128i {
    const LEN: usize = 16;
    const MASK_SHIFT: u32 = 0;

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
    unsafe fn special(self) -> u64 {
        // SAFETY: plain arithmetic; SSE2 is part of x86-64.
        unsafe {
            let quote = _mm_cmpeq_epi8(self, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(self, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(self, _mm_set1_epi8(0x1f)), self);
            mask(_mm_movemask_epi8(_mm_or_si128(
                _mm_or_si128(quote, backslash),
                control,
            )))
        }
    }

    #[inline(always)]
    unsafe fn control(self) -> u64 {
        // SAFETY: plain arithmetic; SSE2 is part of x86-64.
        unsafe {
            let limit = _mm_set1_epi8(0x1f);
            mask(_mm_movemask_epi8(_mm_cmpeq_epi8(
                _mm_min_epu8(self, limit),
                self,
            )))
        }
    }
}

impl Vector for __m256i {
    const LEN: usize = 32;
    const MASK_SHIFT: u32 = 0;

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
    unsafe fn special(self) -> u64 {
        // SAFETY: plain arithmetic; the processor has AVX2, says the caller.
        unsafe {
            let quote = _mm256_cmpeq_epi8(self, _mm256_set1_epi8(b'"' as i8));
            let backslash = _mm256_cmpeq_epi8(self, _mm256_set1_epi8(b'\\' as i8));
            let control = _mm256_cmpeq_epi8(_mm256_min_epu8(self, _mm256_set1_epi8(0x1f)), self);
            mask(_mm256_movemask_epi8(_mm256_or_si256(
                _mm256_or_si256(quote, backslash),
                control,
            )))
        }
    }

    #[inline(always)]
    unsafe fn control(self) -> u64 {
        // SAFETY: plain arithmetic; the processor has AVX2, says the caller.
        unsafe {
            let limit = _mm256_set1_epi8(0x1f);
            mask(_mm256_movemask_epi8(_mm256_cmpeq_epi8(
                _mm256_min_epu8(self, limit),
                self,
            )))
        }
    }

    /// In JSON every few bytes are a quote, and no branch predictor knows where. So all 8 bytes of a
    /// group go through one shuffle that makes room for the backslashes, however many there are.
    #[inline(always)]
    unsafe fn escape(from: *const u8, to: *mut u8, special: u64, control: u64) -> *mut u8 {
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

/// See [`super::find_special`]. Strings of events are short: 16 bytes at a time, inline.
#[inline(always)]
pub(super) fn find_special(bytes: &[u8], from: usize) -> usize {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { find_special_with::<__m128i>(bytes, from) }
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
    escape_runs(&bytes[done..], out);
}

#[target_feature(enable = "avx2,popcnt")]
fn growth_avx2(bytes: &[u8]) -> usize {
    // SAFETY: this function is only entered on processors with AVX2.
    unsafe { growth_of::<__m256i>(bytes) }
}

pub(super) fn growth_sse2(bytes: &[u8]) -> usize {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { growth_of::<__m128i>(bytes) }
}

#[target_feature(enable = "avx2,popcnt")]
fn escape_avx2(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    // SAFETY: this function is only entered on processors with AVX2.
    unsafe { escape_bulk::<__m256i>(bytes, out) }
}

pub(super) fn escape_sse2(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { escape_bulk::<__m128i>(bytes, out) }
}
