//! Requests whose records are under way.

use super::Ingest;
use crate::verdict::LISTED_MAX;
use sluice_core::ack::RequestKey;
use sluice_core::intake::Resolution;
use sluice_core::reject::Reject;
use sluice_core::time::{Mono, micros};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The result of preparing a body.
pub(super) struct HandedOver<'a> {
    /// Events submitted.
    pub(super) accepted: u32,
    /// Events refused individually.
    pub(super) rejected: Vec<(u32, Reject)>,
    /// Events that are not stored, which no client is told.
    pub(super) withheld: Vec<u32>,
    /// Events of which letters are stored, which no client is told either. They were submitted last.
    pub(super) letters: Vec<u32>,
    /// The acks to wait for, if any.
    pub(super) waiting: Option<Waiting<'a>>,
}

/// A request whose records are under way. Ready when its resolution is known; the request is closed
/// when this goes, also when the client went first.
pub(super) struct Waiting<'a> {
    pub(super) ingest: &'a Ingest,
    pub(super) key: RequestKey,
    pub(super) since: Mono,
}

impl Future for Waiting<'_> {
    type Output = Resolution;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Resolution> {
        let mut intake = self.ingest.intake.borrow_mut();
        intake.poll_resolution(self.key, LISTED_MAX, cx.waker())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let took = self.ingest.context.recent().since(self.since);
        self.ingest.stats.ack_latency_micros.observe(micros(took));
        self.ingest.intake.borrow_mut().close(self.key);
    }
}

/// Maps positions among the submitted events, of which so many have records and the others `letters`, to indices in the
/// body.
pub(super) fn in_body(
    submitted: &[u32],
    records: u32,
    rejected: &[(u32, Reject)],
    withheld: &[u32],
    letters: &[u32],
) -> Vec<u32> {
    let rejected = rejected.iter().map(|(index, _)| *index);
    let without_record = rejected.chain(withheld.iter().copied());
    let mut others: Vec<u32> = without_record.chain(letters.iter().copied()).collect();
    others.sort_unstable();
    let mut others = others.into_iter().peekable();
    let mut skipped = 0;
    let index = |place: &u32| match place.checked_sub(records) {
        // Letters are submitted last.
        Some(letter) => letters.get(letter as usize).copied().unwrap_or_default(),
        None => {
            while others.next_if(|index| *index <= place + skipped).is_some() {
                skipped += 1;
            }
            place + skipped
        }
    };
    let mut indices: Vec<u32> = submitted.iter().map(index).collect();
    indices.sort_unstable();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_in_doubt_count_rejected_and_withheld_events_too() {
        let rejected = [1, 2, 5].map(|index| (index, Reject::NoEvents));
        // In the body: 0 accepted, 1 and 2 rejected, 3 and 4 accepted, 5 rejected, 6 accepted.
        assert_eq!(in_body(&[0, 1, 2, 3], 4, &rejected, &[], &[]), [0, 3, 4, 6]);
        assert_eq!(in_body(&[2, 3], 4, &rejected, &[], &[]), [4, 6]);
        assert_eq!(in_body(&[0, 1], 2, &[], &[], &[]), [0, 1]);
        // 3 is not stored.
        assert_eq!(in_body(&[0, 1, 2], 3, &rejected, &[3], &[]), [0, 4, 6]);
    }

    #[test]
    fn letters_in_doubt_have_the_index_of_their_event() {
        let rejected = [(1, Reject::NoEvents)];
        // In the body: 0 accepted, 1 rejected, 2 a letter, 3 accepted, 4 a letter.
        assert_eq!(
            in_body(&[0, 1, 2, 3], 2, &rejected, &[], &[2, 4]),
            [0, 2, 3, 4]
        );
        assert_eq!(in_body(&[1, 3], 2, &rejected, &[], &[2, 4]), [3, 4]);
    }
}
