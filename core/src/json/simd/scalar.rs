//! The kernels as plain loops. They define the correct result; the vector kernels are tested against them.

use super::{escape_of, is_special};

/// The first offset from `from` on that holds a quote, a backslash or a control character; the
/// slice's length if none does.
pub(super) fn find_special(bytes: &[u8], from: usize) -> usize {
    bytes
        .iter()
        .skip(from)
        .position(|byte| is_special(*byte))
        .map_or(bytes.len(), |at| from + at)
}

/// By how many bytes escaping lengthens `bytes`.
pub(super) fn growth(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .filter(|byte| is_special(**byte))
        .map(|byte| escape_of(*byte).len() - 1)
        .sum()
}

/// Appends `bytes`, escaped.
#[cfg(any(
    test,
    not(any(
        target_arch = "x86_64",
        all(target_arch = "aarch64", target_endian = "little")
    ))
))]
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        if is_special(*byte) {
            out.extend_from_slice(escape_of(*byte));
        } else {
            out.push(*byte);
        }
    }
}
