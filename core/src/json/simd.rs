//! The three byte loops on the hot path, with the widest vectors the processor has.
//!
//! AVX2 is detected once at run time (the standard library caches the answer). SSE2 and NEON belong to
//! every x86-64 and 64-bit ARM processor and are compiled inline: most strings end within 16 bytes. Other
//! processors run the scalar kernels.

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_endian = "little")
))]
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use neon as kernels;
#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_endian = "little")
)))]
use scalar as kernels;
#[cfg(target_arch = "x86_64")]
use x86 as kernels;

/// How each special byte is written in a JSON string, as serde_json writes it: 8 bytes to copy, of
/// which the last says how many count.
static ESCAPES: [[u8; 8]; 256] = escapes();

const fn escapes() -> [[u8; 8]; 256] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = [
            b'\\',
            b'u',
            b'0',
            b'0',
            HEX[byte >> 4],
            HEX[byte & 15],
            0,
            6,
        ];
        byte += 1;
    }
    table[0x08] = [b'\\', b'b', 0, 0, 0, 0, 0, 2];
    table[0x09] = [b'\\', b't', 0, 0, 0, 0, 0, 2];
    table[0x0a] = [b'\\', b'n', 0, 0, 0, 0, 0, 2];
    table[0x0c] = [b'\\', b'f', 0, 0, 0, 0, 0, 2];
    table[0x0d] = [b'\\', b'r', 0, 0, 0, 0, 0, 2];
    table[b'"' as usize] = [b'\\', b'"', 0, 0, 0, 0, 0, 2];
    table[b'\\' as usize] = [b'\\', b'\\', 0, 0, 0, 0, 0, 2];
    table
}

/// A byte that cannot stand in a JSON string as it is: quote, backslash or control character.
#[inline(always)]
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The escape of a special byte; nothing for any other byte.
#[inline(always)]
fn escape_of(byte: u8) -> &'static [u8] {
    let entry = &ESCAPES[usize::from(byte)];
    // The length byte is at most 6.
    entry.get(..usize::from(entry[7])).unwrap_or_default()
}

/// The first offset from `from` on that holds a quote, a backslash or a control character; the
/// slice's length if none does.
#[inline(always)]
pub(super) fn find_special(bytes: &[u8], from: usize) -> usize {
    kernels::find_special(bytes, from)
}

/// By how many bytes escaping lengthens `bytes`.
pub(super) fn growth(bytes: &[u8]) -> usize {
    kernels::growth(bytes)
}

/// Appends `bytes`, escaped. Never grows `out` when the result fits what it has reserved.
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    kernels::escape(bytes, out);
}
