//! A body as it arrived, and how its size on the wire bounds what may come of it.

use crate::inflate::Codings;
use crate::reject::Reject;

/// Bytes of records that a request may become for each byte of it.
pub const RECORD_RATIO_MAX: usize = 100;

/// Bytes of records that any request may become.
pub const RECORD_FREE_BYTES: usize = 64 << 10;

/// Events that any request may hold; more need [`EVENT_SENT_BYTES`] each.
pub const EVENTS_FREE: usize = 64;

/// The shortest element of a plain array is `1,`, and the shortest line as long. However short an event is, its
/// record travels to the destination and back, so a packed body may not hold more events than a plain one could.
pub const EVENT_SENT_BYTES: usize = 2;

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

/// How many events a request of this many bytes may hold, where `configured_max` is the most that any may hold.
pub(crate) fn events_limit(sent: usize, configured_max: usize) -> usize {
    configured_max.min((sent / EVENT_SENT_BYTES).max(EVENTS_FREE))
}
