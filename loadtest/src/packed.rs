//! Opens stored data, compressed or not: gzip and zstd are detected by their first bytes, since
//! names of objects and files say little. Everything else is read as it is.

use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, Read};

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Whether these first bytes are those of gzip or zstd.
pub(crate) fn is_packed(start: &[u8]) -> bool {
    start.starts_with(GZIP_MAGIC) || start.starts_with(ZSTD_MAGIC)
}

/// The contents of `raw`: all members of gzip, all frames of zstd, or its own bytes.
///
/// # Errors
/// When the first bytes cannot be read, or there is no memory for a decoder.
pub(crate) fn open<'a>(mut raw: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let start = raw.fill_buf()?;
    if start.starts_with(GZIP_MAGIC) {
        return Ok(Box::new(MultiGzDecoder::new(raw)));
    }
    if start.starts_with(ZSTD_MAGIC) {
        return Ok(Box::new(zstd::stream::read::Decoder::with_buffer(raw)?));
    }
    Ok(Box::new(raw))
}
