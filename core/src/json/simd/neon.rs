//! The kernels on 64-bit ARM, whose baseline has NEON: nothing has to be asked.

use super::vector::{
    BACKSLASH_ORDERS, Vector, escape_bit_by_bit, escape_bulk, escape_runs, find_special_with,
    growth_of,
};
use std::arch::aarch64::{
    uint8x16_t, vceqq_u8, vcltq_u8, vcombine_u8, vdup_n_u8, vdupq_n_u8, vget_lane_u64, vld1_u8,
    vld1q_u8, vorrq_u8, vqtbl1q_u8, vreinterpret_u64_u8, vreinterpretq_u16_u8, vshrn_n_u16,
    vst1q_u8,
};

/// The highest of the four bits that stand for a byte in a mask.
const TOPS: u64 = 0x8888_8888_8888_8888;

/// There is no instruction that gathers one bit of each byte. Shifting each pair of bytes right by four
/// and keeping the low byte leaves four bits of each, in one instruction.
///
/// # Safety
/// The processor must have NEON; each byte of `matches` must be 0x00 or 0xff.
#[inline(always)]
unsafe fn mask(matches: uint8x16_t) -> u64 {
    // SAFETY: plain arithmetic; the processor has NEON, says the caller.
    unsafe {
        let nibbles = vshrn_n_u16::<4>(vreinterpretq_u16_u8(matches));
        vget_lane_u64::<0>(vreinterpret_u64_u8(nibbles)) & TOPS
    }
}

/// The mask of one group of eight bytes with one bit for each, closed up step by step: bits 4n, then pairs,
/// then fours.
#[inline(always)]
fn gathered(special: u64, group: usize) -> usize {
    let mut bits = ((special & TOPS) >> (group * 32 + 3)) as u32;
    bits = (bits | bits >> 3) & 0x0303_0303;
    bits = (bits | bits >> 6) & 0x000f_000f;
    ((bits | bits >> 12) & 0xff) as usize
}

impl Vector for uint8x16_t {
    const LEN: usize = 16;
    const MASK_SHIFT: u32 = 2;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: 16 bytes are readable, says the caller; the load may be unaligned.
        unsafe { vld1q_u8(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: 16 bytes are writable, says the caller; the store may be unaligned.
        unsafe { vst1q_u8(to, self) }
    }

    #[inline(always)]
    unsafe fn special(self) -> u64 {
        // SAFETY: plain arithmetic; NEON is part of the target. Comparisons give 0x00 or 0xff.
        unsafe {
            let quote = vceqq_u8(self, vdupq_n_u8(b'"'));
            let backslash = vceqq_u8(self, vdupq_n_u8(b'\\'));
            let control = vcltq_u8(self, vdupq_n_u8(0x20));
            mask(vorrq_u8(vorrq_u8(quote, backslash), control))
        }
    }

    #[inline(always)]
    unsafe fn control(self) -> u64 {
        // SAFETY: plain arithmetic; NEON is part of the target. Comparisons give 0x00 or 0xff.
        unsafe { mask(vcltq_u8(self, vdupq_n_u8(0x20))) }
    }

    /// As the AVX2 kernel does it: 8 bytes through one table look-up that makes room for the backslashes.
    #[inline(always)]
    unsafe fn escape(from: *const u8, to: *mut u8, special: u64, control: u64) -> *mut u8 {
        // SAFETY: the two groups read 16 bytes at `from`; each writes 16 bytes at most 16 further
        // than the one before, 32 in all. The rest is as the caller says; NEON is part of the target.
        unsafe {
            if control != 0 {
                return escape_bit_by_bit::<Self>(from, to, special);
            }
            let mut to = to;
            for group in 0..2 {
                let bits = gathered(special, group);
                let bytes = vcombine_u8(vld1_u8(from.add(group * 8)), vdup_n_u8(b'\\'));
                let order = vld1q_u8(BACKSLASH_ORDERS[bits].as_ptr());
                vst1q_u8(to, vqtbl1q_u8(bytes, order));
                to = to.add(8 + bits.count_ones() as usize);
            }
            to
        }
    }
}

/// See [`super::find_special`].
#[inline(always)]
pub(super) fn find_special(bytes: &[u8], from: usize) -> usize {
    // SAFETY: NEON is part of the target.
    unsafe { find_special_with::<uint8x16_t>(bytes, from) }
}

/// See [`super::growth`].
pub(super) fn growth(bytes: &[u8]) -> usize {
    // SAFETY: NEON is part of the target.
    unsafe { growth_of::<uint8x16_t>(bytes) }
}

/// See [`super::escape`].
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    // SAFETY: NEON is part of the target.
    let done = unsafe { escape_bulk::<uint8x16_t>(bytes, out) };
    escape_runs(&bytes[done..], out);
}
