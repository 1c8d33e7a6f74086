//! Ids of events in objects: as they are, and inside gzip or zstd. Reads in pieces, up to a bound.

use crate::event_id::{EventId, IdScanner};
use crate::packed;
use std::io::{self, Read};

/// Bytes that one packed object may inflate to.
pub const INFLATED_BYTES_MAX: u64 = 4 << 30;

const PIECE: usize = 256 << 10;

/// Calls `found` with the id of each event in an object: unpacked when it is gzip or zstd.
///
/// # Errors
/// When a packed object is damaged or cut off, or inflates to more than [`INFLATED_BYTES_MAX`]; what was
/// found before counts.
pub(super) fn scan(
    scanner: &IdScanner,
    object: &[u8],
    found: impl FnMut(EventId),
) -> io::Result<()> {
    scan_up_to(scanner, object, INFLATED_BYTES_MAX, found)
}

fn scan_up_to(
    scanner: &IdScanner,
    object: &[u8],
    limit: u64,
    mut found: impl FnMut(EventId),
) -> io::Result<()> {
    if !packed::is_packed(object) {
        scanner.scan(object, found);
        return Ok(());
    }
    // One byte more distinguishes a body at the limit from one over it.
    let mut inflated = packed::open(object)?.take(limit.saturating_add(1));
    let mut buffer = vec![0; PIECE];
    let (mut kept, mut total) = (0, 0);
    loop {
        let count = match inflated.read(&mut buffer[kept..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if count == 0 {
            return Ok(());
        }
        total += count as u64;
        if total > limit {
            let message = format!("inflates to more than {limit} bytes");
            return Err(io::Error::other(message));
        }
        let end = kept + count;
        scanner.scan(&buffer[..end], &mut found);
        // One byte less than an id: what is begun goes on in the next piece, and what was found
        // is not found again.
        kept = end.min(EventId::LEN - 1);
        buffer.copy_within(end - kept..end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn lines(from: u64, to: u64) -> Vec<u8> {
        let line = |seq| format!("{{\"event_id\":\"{}\"}}\n", EventId { run: 1, seq });
        (from..to).flat_map(|seq| line(seq).into_bytes()).collect()
    }

    fn found(object: &[u8], limit: u64) -> (Vec<u64>, io::Result<()>) {
        let mut ids = Vec::new();
        let scanner = IdScanner::default();
        let result = scan_up_to(&scanner, object, limit, |id| ids.push(id.seq));
        (ids, result)
    }

    #[test]
    fn each_id_is_found_once_across_pieces_and_members() {
        // Many pieces, cut at places that are no line ends.
        let mut object = gzip(&lines(0, 50_000));
        object.extend_from_slice(&gzip(&lines(50_000, 50_010)));
        let (ids, result) = found(&object, INFLATED_BYTES_MAX);
        result.unwrap();
        assert_eq!(ids, (0..50_010).collect::<Vec<u64>>());
        assert_eq!(found(&lines(0, 3), 0).0, [0, 1, 2]);
        let mut object = zstd::encode_all(&*lines(0, 50_000), 0).unwrap();
        object.extend(zstd::encode_all(&*lines(50_000, 50_010), 0).unwrap());
        let (ids, result) = found(&object, INFLATED_BYTES_MAX);
        result.unwrap();
        assert_eq!(ids, (0..50_010).collect::<Vec<u64>>());
    }

    #[test]
    fn damaged_gzip_and_what_inflates_too_far_is_an_error() {
        let text = lines(0, 1_000);
        let object = gzip(&text);
        assert!(
            found(&object[..object.len() - 9], INFLATED_BYTES_MAX)
                .1
                .is_err()
        );
        let length = text.len() as u64;
        assert!(found(&object, length).1.is_ok());
        let error = found(&object, length - 1).1.unwrap_err().to_string();
        assert_eq!(error, format!("inflates to more than {} bytes", length - 1));
    }
}
