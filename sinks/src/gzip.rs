//! Gzip of bytes that are in memory as a whole. Knows no events.

use libdeflater::{CompressionError, CompressionLvl, Compressor};

/// Of 1 to 12, by what clickstream events take and become (bench-harness/record/gzip.md). The CPU time is taken from
/// the host that has to answer clients, and objects are usually compacted by their readers.
const LEVEL: i32 = 1;

/// One member; the same bytes always become the same.
///
/// # Errors
/// None: the room is what the library asks for.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut compressor = Compressor::new(CompressionLvl::new(LEVEL).unwrap_or_default());
    let mut packed = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let length = compressor.gzip_compress(bytes, &mut packed)?;
    packed.truncate(length);
    packed.shrink_to_fit();
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use std::io::Read as _;

    proptest! {
        #[test]
        fn packed_bytes_unpack_to_themselves(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..4_000),
                "(\\{\"event_name\":\"[a-c]{1,4}\",\"user_id\":[0-9]{1,6}\\}\n){0,200}".prop_map(String::into_bytes),
            ]
        ) {
            let packed = gzip(&bytes).unwrap();
            let mut unpacked = Vec::new();
            // Reads one member, and would leave a second.
            GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
            prop_assert_eq!(unpacked, bytes);
        }
    }
}
