//! One byte per id: its answer and the number of stored copies.
//! Knows no files and no times.

use super::AuditError;
use crate::event_id::EventId;
use crate::ledger::Ack;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Ids that are kept together: 64 KiB.
const CHUNK_BITS: u32 = 16;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Chunks that are kept at most: 4 GiB, for as many ids.
const CHUNKS_MAX: usize = 1 << 16;

/// The answer to an event, as its sender saw it. When an event is in the answers more than once, the last
/// variant wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Answered {
    /// Not in the answers.
    Unknown = 0,
    /// Sent, and no answer came.
    Not = 1,
    /// Neither accepted nor refused for good: 3xx, 5xx.
    Failed = 2,
    /// 4xx, or refused inside an answer of 200.
    Refused = 3,
    /// 2xx: a promise.
    Acked = 4,
}

const ANSWERED: [Answered; 5] = [
    Answered::Unknown,
    Answered::Not,
    Answered::Failed,
    Answered::Refused,
    Answered::Acked,
];

/// Low bits of an id's byte: the response. The others count stored copies, up to
/// [`COPIES_MAX`].
const ANSWERED_MASK: u8 = 0b111;
const COPY: u8 = 0b1000;
const COPIES_MAX: u8 = u8::MAX / COPY;

/// Counts of events, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sent.
    pub sent: u64,
    /// Answered 2xx.
    pub acked: u64,
    /// Answered 4xx, or refused inside an answer of 200.
    pub refused: u64,
    /// Answered 3xx or 5xx.
    pub failed: u64,
    /// Not answered.
    pub unanswered: u64,
    /// Acknowledged and stored.
    pub acked_stored: u64,
    /// Acknowledged and not stored: loss.
    pub lost: u64,
    /// Refused for good and stored all the same.
    pub refused_stored: u64,
    /// Answered 5xx and stored.
    pub failed_stored: u64,
    /// Not answered and stored.
    pub unanswered_stored: u64,
    /// Stored more than once.
    pub duplicated: u64,
}

impl Counts {
    /// Adds the counts of other events.
    pub(super) fn join(&mut self, other: &Counts) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.refused += other.refused;
        self.failed += other.failed;
        self.unanswered += other.unanswered;
        self.acked_stored += other.acked_stored;
        self.lost += other.lost;
        self.refused_stored += other.refused_stored;
        self.failed_stored += other.failed_stored;
        self.unanswered_stored += other.unanswered_stored;
        self.duplicated += other.duplicated;
    }

    /// Adds one event.
    pub(super) fn add(&mut self, known: Known) {
        let stored = u64::from(known.copies > 0);
        let (all, kept) = match known.answered {
            Answered::Unknown => return,
            Answered::Not => (&mut self.unanswered, &mut self.unanswered_stored),
            Answered::Failed => (&mut self.failed, &mut self.failed_stored),
            Answered::Refused => (&mut self.refused, &mut self.refused_stored),
            Answered::Acked => (&mut self.acked, &mut self.acked_stored),
        };
        *all += 1;
        *kept += stored;
        self.sent += 1;
        self.lost += u64::from(known.is_lost());
        self.duplicated += u64::from(known.copies > 1);
    }
}

/// All that is known of one event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) answered: Answered,
    /// Stored copies, up to [`COPIES_MAX`].
    pub(super) copies: u8,
}

impl Known {
    fn of(byte: u8) -> Known {
        let answered = ANSWERED.get(usize::from(byte & ANSWERED_MASK)).copied();
        Known {
            answered: answered.unwrap_or(Answered::Unknown),
            copies: byte / COPY,
        }
    }

    pub(super) fn is_lost(self) -> bool {
        self.answered == Answered::Acked && self.copies == 0
    }

    pub(super) fn is_stored_though_refused(self) -> bool {
        self.answered == Answered::Refused && self.copies > 0
    }
}

/// All ids of the answers.
#[derive(Default)]
pub(super) struct EventTable {
    chunks: HashMap<(u32, u64), Box<[u8]>>,
    /// Stored copies of ids that no answer names.
    pub(super) foreign_copies: u64,
}

impl EventTable {
    fn answer(&mut self, id: EventId, answered: Answered) -> Result<(), AuditError> {
        let key = (id.run, id.seq >> CHUNK_BITS);
        if self.chunks.len() == CHUNKS_MAX && !self.chunks.contains_key(&key) {
            return Err(AuditError::TooMany {
                limit: CHUNKS_MAX * CHUNK,
            });
        }
        let chunk = self
            .chunks
            .entry(key)
            .or_insert_with(|| vec![0; CHUNK].into());
        let byte = &mut chunk[id.seq as usize & (CHUNK - 1)];
        *byte = (*byte).max(answered as u8);
        Ok(())
    }

    /// Records a request and its answer.
    pub(super) fn ack(&mut self, ack: &Ack) -> Result<(), AuditError> {
        let answered = match ack.status {
            None => Answered::Not,
            Some(200..=299) => Answered::Acked,
            Some(400..=499) => Answered::Refused,
            Some(_) => Answered::Failed,
        };
        let mut refused = ack.refused.iter().peekable();
        for at in 0..ack.count {
            let id = EventId {
                run: ack.run,
                seq: ack.first + u64::from(at),
            };
            let is_refused = refused.next_if(|index| **index == at).is_some();
            self.answer(
                id,
                if is_refused {
                    Answered::Refused
                } else {
                    answered
                },
            )?;
        }
        Ok(())
    }

    /// Records a stored copy; `extra` counts copies beyond the first.
    pub(super) fn stored(&mut self, id: EventId, extra: &mut u64) {
        let key = (id.run, id.seq >> CHUNK_BITS);
        let byte = match self.chunks.get_mut(&key) {
            Some(chunk) => &mut chunk[id.seq as usize & (CHUNK - 1)],
            None => {
                self.foreign_copies += 1;
                return;
            }
        };
        if *byte & ANSWERED_MASK == 0 {
            self.foreign_copies += 1;
            return;
        }
        *extra += u64::from(*byte >= COPY);
        if *byte / COPY < COPIES_MAX {
            *byte += COPY;
        }
    }

    /// Whether no answer names any event.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Calls `found` with each id that may be known, in order.
    pub(super) fn each(&self, mut found: impl FnMut(EventId, Known)) {
        let mut keys: Vec<_> = self.chunks.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            let (run, chunk) = key;
            for (byte, seq) in self.chunks[&key].iter().zip(chunk << CHUNK_BITS..) {
                found(EventId { run, seq }, Known::of(*byte));
            }
        }
    }

    /// Takes an id out of the table, so that it is counted only once.
    pub(super) fn take(&mut self, id: EventId) -> Known {
        let chunk = self.chunks.get_mut(&(id.run, id.seq >> CHUNK_BITS));
        let byte = chunk.map(|chunk| std::mem::take(&mut chunk[id.seq as usize & (CHUNK - 1)]));
        Known::of(byte.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_one_byte_per_id_in_chunks() {
        let mut events = EventTable::default();
        let (requests, count) = (200, 10_000);
        for request in 0..requests {
            let ack = Ack {
                run: 1,
                first: request * u64::from(count),
                count,
                status: Some(200),
                ..Ack::default()
            };
            events.ack(&ack).unwrap();
        }
        let kept: usize = events.chunks.values().map(|chunk| chunk.len()).sum();
        let ids = requests as usize * count as usize;
        assert!((ids..ids + CHUNK).contains(&kept), "{kept} for {ids}");
        for seq in 0..ids as u64 * 2 {
            events.stored(EventId { run: 2, seq }, &mut 0);
        }
        assert_eq!(
            events
                .chunks
                .values()
                .map(|chunk| chunk.len())
                .sum::<usize>(),
            kept
        );
        assert_eq!(events.foreign_copies, ids as u64 * 2);
    }

    #[test]
    fn an_event_that_was_taken_is_not_told_again() {
        let mut events = EventTable::default();
        let id = EventId {
            run: 1,
            seq: 70_000,
        };
        events.answer(id, Answered::Acked).unwrap();
        assert!(events.take(id).is_lost());
        assert_eq!(events.take(id).answered, Answered::Unknown);
    }
}
