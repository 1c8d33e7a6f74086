//! Letters: how a request's letters go to the output of dead letters, beside its records.
//!
//! Whether that output takes them decides nothing about the records, which have been taken by then: an event whose letter
//! finds no room is in doubt alone, and a letter about an event that was refused anyway is counted as lost.

use super::{Intake, RECORD_OVERHEAD_BYTES, size};
use crate::ack::{Outcome, RequestKey, Settlement, WriterId};
use crate::cause::Cause;
use crate::letter::PreparedLetter;
use crate::planted::{self, Bug};
use crate::priority::Priority;
use crate::record::Record;
use crate::time::Mono;

/// Tickets of letters about refused events have numbers from here on, which no event has.
pub(super) const LETTERS_FROM: u32 = 1 << 31;

/// Letters about refused events that were not kept. No letter about an event that was taken is among them: its client
/// was told to send it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostLetters {
    /// Their output, or the byte budget, had no room.
    pub no_room: u64,
    /// Their output did not deliver them.
    pub not_delivered: u64,
}

/// Bytes that letters count in the byte budget.
pub(super) fn held(letters: &[PreparedLetter]) -> u64 {
    let sizes = letters.iter().map(|letter| size(&letter.record));
    sizes.map(|bytes| bytes + RECORD_OVERHEAD_BYTES).sum()
}

impl Intake {
    /// Letters that were lost.
    #[must_use]
    pub fn lost_letters(&self) -> LostLetters {
        self.lost_letters
    }

    /// The request was refused for lack of room before its letters were looked at.
    pub(super) fn lose(&mut self, letters: &[PreparedLetter]) {
        let refused = letters.iter().filter(|letter| !letter.is_taken);
        self.lost_letters.no_room += refused.count() as u64;
    }

    /// An output that is idle takes the whole request, however large: its letters, too, or it would never succeed.
    pub(super) fn note_idle(&mut self) {
        for output in &mut self.outputs {
            output.was_idle = output.tally.pending == 0;
        }
    }

    /// Submits the letters of a request whose records have been taken, with the priority of these if the byte budget has
    /// room.
    pub(super) fn post(
        &mut self,
        key: RequestKey,
        letters: &mut Vec<PreparedLetter>,
        room: Option<Priority>,
        (deadline, now): (Mono, Mono),
        submit: &mut impl FnMut(WriterId, Record),
    ) {
        let bytes = letters.iter().map(|letter| size(&letter.record)).sum();
        self.choose(bytes, room.unwrap_or_default(), now);
        self.ask(letters.iter().map(|letter| &letter.record));
        let is_taken = room.is_some_and(|priority| self.check(priority, now).is_ok());
        for output in &mut self.outputs {
            output.was_idle = false;
        }
        if is_taken {
            self.choose_writers(now);
        } else {
            self.lose(letters);
        }
        let mut places = std::mem::take(&mut self.scratch);
        for PreparedLetter {
            is_taken: is_promised,
            mut record,
        } in letters.drain(..)
        {
            self.requests.begin(key, is_promised);
            if is_taken {
                self.find_places(&record, &mut places, &mut false);
                self.take(key, &mut record, &places, deadline, now, submit);
            } else if is_promised && !planted::is(Bug::LetterForgotten) {
                self.requests.refuse(key, Cause::Unavailable);
            }
            if is_promised && self.keeps_records {
                self.requests.keep(key, record);
            }
        }
        self.scratch = places;
    }

    /// Counts a letter about a refused event whose output did not deliver it.
    pub(super) fn letter_settled(&mut self, settlement: &Settlement) {
        let is_lost = matches!(settlement.outcome, Outcome::Refused(_));
        if settlement.event >= LETTERS_FROM && is_lost {
            self.lost_letters.not_delivered += 1;
        }
    }
}
