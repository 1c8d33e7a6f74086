//! A body as it arrived, and how its size on the wire bounds what may come of it.

use crate::inflate::Codings;
use crate::reject::Reject;

/// Bytes of records that a request may become for each byte of it.
pub const RECORD_RATIO_MAX: usize = 100;

/// Bytes of records that any request may become.
pub const RECORD_FREE_BYTES: usize = 64 << 10;

/// Events that any request may hold; more need [`EVENT_SENT_BYTES`] each.
pub const EVENTS_FREE: usize = 16;

/// However short an event is, its record travels to the destination and back: half a microsecond at least. The
/// shortest event with a field, `{"a":1}`, has twice as many bytes, so this limits packed bodies and nonsense.
pub const EVENT_SENT_BYTES: usize = 4;

/// Marks that any packed body may hold; more need a byte sent for each [`MARKS_RATIO`].
pub const MARKS_FREE: usize = 2_048;

/// Marks that a packed body may hold for each byte sent. Text is cheap to scan between marks, 0.1 ns a byte, and dear
/// at marks: quotes, brackets, escapes, line breaks and bytes that are no UTF-8 cost up to 7 ns each. Spaces cost 1 ns
/// and are no marks, or indented JSON would have too many; nor are letters outside ASCII in a body of valid UTF-8.
/// Events as SDKs send them have a mark for every four or five bytes, so that they reach 80 times the bytes sent
/// before this.
pub const MARKS_RATIO: usize = 20;

/// A body as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct SentBody<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Its content codings.
    pub codings: &'a Codings,
    /// Bytes of the whole request: target, headers and body. Limits on records grow with it.
    pub sent_bytes: usize,
    /// Bytes that the body may have once it is unpacked, in addition to the plan's own limit: how much the
    /// caller can afford to unpack on this thread.
    pub inflated_bytes_max: usize,
}

/// A body without codings, and nothing else sent.
impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for SentBody<'a> {
    fn from(bytes: &'a T) -> SentBody<'a> {
        let bytes = bytes.as_ref();
        SentBody {
            bytes,
            codings: Codings::NONE,
            sent_bytes: bytes.len(),
            inflated_bytes_max: usize::MAX,
        }
    }
}

/// Refuses records out of proportion to the request: a client can store no more than it pays for in bytes sent,
/// however well they are packed.
pub(crate) fn check_record_bytes(actual: usize, sent: usize) -> Result<(), Reject> {
    let earned = sent.saturating_mul(RECORD_RATIO_MAX);
    let limit = earned.max(RECORD_FREE_BYTES);
    if actual > limit {
        return Err(Reject::RecordsTooLarge {
            limit,
            actual,
            sent,
        });
    }
    Ok(())
}

/// Refuses an unpacked body that is dearer to scan than its bytes as sent account for.
pub(crate) fn check_marks(
    unpacked: &[u8],
    sent: usize,
    coding: &'static str,
) -> Result<(), Reject> {
    let limit = sent.saturating_mul(MARKS_RATIO).max(MARKS_FREE);
    if unpacked.len() <= limit {
        return Ok(());
    }
    let mut actual = marks(unpacked, |_| true);
    // Whether bytes outside ASCII are letters takes longer to find out, and matters only here.
    if actual > limit && simdutf8::basic::from_utf8(unpacked).is_ok() {
        actual = marks(unpacked, |byte| byte.is_ascii());
    }
    if actual > limit {
        return Err(Reject::CodingOverhead {
            coding,
            what: "bytes that are not letters, digits or spaces",
            limit,
            actual,
        });
    }
    Ok(())
}

/// Bytes that are not ASCII letters, digits or spaces, of those that are `counted`.
fn marks(text: &[u8], counted: impl Fn(u8) -> bool) -> usize {
    let count = |piece: &[u8]| {
        let marks = piece
            .iter()
            .map(|byte| u8::from(!byte.is_ascii_alphanumeric() & (*byte != b' ') & counted(*byte)));
        marks.sum::<u8>()
    };
    // A sum of 255 fits into a byte, which the compiler makes vectors of.
    text.chunks(255)
        .map(|piece| usize::from(count(piece)))
        .sum()
}

/// How many events a request of this many bytes may hold, where `configured_max` is the most that any may hold.
pub(crate) fn events_limit(sent: usize, configured_max: usize) -> usize {
    configured_max.min((sent / EVENT_SENT_BYTES).max(EVENTS_FREE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_is_no_letter_digit_or_space_is_a_mark() {
        let marks = |text: &[u8]| marks(text, |_| true);
        assert_eq!(marks(b""), 0);
        assert_eq!(marks(&b"\"a1Z\" \xff\n".repeat(300)), 4 * 300);
        assert_eq!(marks(&[b'['; 255 * 3 + 1]), 255 * 3 + 1);
    }

    #[test]
    fn marks_of_a_packed_body_are_paid_for_by_bytes_sent() {
        let check = |marks: usize, sent| {
            let body = [b"[".repeat(marks), b"letters".repeat(10_000)].concat();
            check_marks(&body, sent, "gzip")
        };
        assert_eq!(check(MARKS_FREE, 1), Ok(()));
        assert_eq!(check(20_000, 1_000), Ok(()));
        let what = "bytes that are not letters, digits or spaces";
        for (marks, sent, limit) in [(2_049, 1, 2_048), (20_001, 1_000, 20_000)] {
            let over = Reject::CodingOverhead {
                coding: "gzip",
                what,
                limit,
                actual: marks,
            };
            assert_eq!(check(marks, sent), Err(over));
        }
    }

    #[test]
    fn letters_outside_ascii_are_no_marks_in_valid_utf8() {
        let letters = "イベント".repeat(1_000);
        assert_eq!(check_marks(letters.as_bytes(), 1, "gzip"), Ok(()));
        let mut broken = letters.clone().into_bytes();
        broken.push(b'\xff');
        assert!(check_marks(&broken, 1, "gzip").is_err());
        let marked = letters + &"[".repeat(MARKS_FREE + 1);
        assert!(check_marks(marked.as_bytes(), 1, "gzip").is_err());
    }

    #[test]
    fn a_short_event_needs_four_bytes_sent() {
        assert_eq!(events_limit(0, 1_000), 16);
        assert_eq!(events_limit(67, 1_000), 16);
        assert_eq!(events_limit(400, 1_000), 100);
        assert_eq!(events_limit(1 << 20, 1_000), 1_000);
        assert_eq!(events_limit(1 << 20, 5), 5);
    }
}
