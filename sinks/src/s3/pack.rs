//! Packs lines into an object's bytes: gzip, no newline after the last line, and the digest that protects the
//! transfer. Deterministic, so that a repeated upload is identical.

use crate::gzip::gzip;
use bytes::Bytes;
use md5::{Digest, Md5};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a segment that is packed: the largest batch of a writer makes one of 256 MiB.
const SEGMENT_BYTES_MAX: u64 = 512 << 20;

/// A packed object.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) body: Bytes,
    /// MD5 of the body in base64, for Content-MD5.
    pub(super) md5: String,
    /// The same in hexadecimal, which is the ETag of an object that is not encrypted with a key of its own.
    pub(super) etag: String,
}

/// Packs the first `bytes` of a file, which are whole lines. Needs memory for them and for the object.
pub(super) fn pack_file(path: &Path, bytes: u64) -> io::Result<Packed> {
    if bytes > SEGMENT_BYTES_MAX {
        let error = format!("it has {bytes} bytes, the limit is {SEGMENT_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
    }
    let wanted = bytes.saturating_sub(1);
    let mut lines = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
    let read = File::open(path)?.take(wanted).read_to_end(&mut lines)?;
    if (read as u64) < wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    pack(&lines)
}

/// Packs payloads as lines.
pub(super) fn pack_lines(payloads: &[Bytes]) -> io::Result<Packed> {
    let bytes = payloads.iter().map(|payload| payload.len() + 1).sum();
    let mut lines = Vec::with_capacity(bytes);
    for (at, payload) in payloads.iter().enumerate() {
        if at > 0 {
            lines.push(b'\n');
        }
        lines.extend_from_slice(payload);
    }
    pack(&lines)
}

fn pack(lines: &[u8]) -> io::Result<Packed> {
    let body = gzip(lines).map_err(io::Error::other)?;
    let digest = Md5::digest(&body);
    let etag = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Packed {
        body: body.into(),
        md5: base64_simd::STANDARD.encode_to_string(digest),
        etag,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    fn unpack(packed: &Packed) -> String {
        let mut text = String::new();
        GzDecoder::new(&*packed.body)
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn objects_are_equal_from_disk_and_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        std::fs::write(&path, "{\"a\":1}\n{\"b\":2}\nnot confir").unwrap();
        let from_disk = pack_file(&path, 16).unwrap();
        let payloads = [Bytes::from("{\"a\":1}"), Bytes::from("{\"b\":2}")];
        let from_memory = pack_lines(&payloads).unwrap();
        assert_eq!(unpack(&from_disk), "{\"a\":1}\n{\"b\":2}");
        assert_eq!(from_disk.body, from_memory.body);
        assert_eq!(from_disk.md5, from_memory.md5);
        assert_eq!(from_disk.md5.len(), 24);
    }

    #[test]
    fn a_truncated_segment_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        std::fs::write(&path, "{\"a\":1}\n").unwrap();
        let error = pack_file(&path, 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_segment_over_the_limit_is_named_with_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        File::create(&path).unwrap();
        let error = pack_file(&path, SEGMENT_BYTES_MAX + 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it has 536870913 bytes, the limit is 536870912"
        );
    }
}
