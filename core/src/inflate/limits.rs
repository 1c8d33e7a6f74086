//! How large a layer may become, and the blocks that its bytes pay for.

use super::meter::Allowance;

/// Codings that one body may have, one in the other, unless configured otherwise. Each costs a pass.
pub const CODINGS_MAX: usize = 1;

/// The highest value that may be configured for it.
pub const CODINGS_CEILING: usize = 3;

/// Bytes that a layer may give for each byte on the wire. Clickstream JSON shrinks to a twentieth.
pub const RATIO_MAX: usize = 100;

/// Bytes that a layer may always give: a hundred bytes can hold a dozen events that differ in nothing. To inflate
/// them takes as long as to receive a request.
pub const RATIO_FREE_BYTES: usize = 16 << 10;

/// A deflate block brings two Huffman tables, which cost 0.8 us.
pub(super) const DEFLATE_BLOCKS: Allowance = Allowance {
    free: 1_024,
    unit_bytes: 192,
};

/// A zstd block brings up to four tables, which cost 4.5 us.
pub(super) const ZSTD_BLOCKS: Allowance = Allowance {
    free: 256,
    unit_bytes: 1_024,
};

/// How many bytes a body of `sent_bytes` bytes may become in each layer, where `configured_max` is the most
/// that any body may become.
#[must_use]
pub fn inflated_limit(sent_bytes: usize, configured_max: usize) -> usize {
    let earned = sent_bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
    earned.min(configured_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_gives_100_times_its_bytes_or_16_kib() {
        assert_eq!(inflated_limit(0, 1 << 20), 16 << 10);
        assert_eq!(inflated_limit(163, 1 << 20), 16 << 10);
        assert_eq!(inflated_limit(1_000, 1 << 20), 100_000);
        assert_eq!(inflated_limit(usize::MAX, 1 << 20), 1 << 20);
        assert_eq!(inflated_limit(1_000, 10), 10);
    }
}
