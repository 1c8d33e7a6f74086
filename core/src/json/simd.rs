//! The three byte loops that everything else waits for, with the widest vectors the processor has.
//!
//! The processor is asked once (the standard library keeps the answer). What needs no question, SSE2 on
//! x86-64, is compiled inline: most strings end within 16 bytes. Other processors run the scalar twins.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

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
    #[cfg(target_arch = "x86_64")]
    return x86::find_special(bytes, from);
    #[cfg(not(target_arch = "x86_64"))]
    return scalar::find_special(bytes, from);
}

/// By how many bytes escaping lengthens `bytes`.
pub(super) fn growth(bytes: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    return x86::growth(bytes);
    #[cfg(not(target_arch = "x86_64"))]
    return scalar::growth(bytes);
}

/// Appends `bytes`, escaped. Never grows `out` when the result fits what it has reserved.
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    #[cfg(target_arch = "x86_64")]
    x86::escape(bytes, out);
    #[cfg(not(target_arch = "x86_64"))]
    scalar::escape(bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_escapes_special_bytes_and_no_others() {
        for byte in 0..=255 {
            assert_eq!(is_special(byte), !escape_of(byte).is_empty(), "byte {byte}");
        }
    }
}
