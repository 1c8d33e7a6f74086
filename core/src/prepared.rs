//! The records and rejects of one request, and the memory that is reused from request to request.

use crate::json::scan::Span;
use crate::json::splice::{Additions, Present};
use crate::json::split::{Event, Refused};
use crate::letter::{LetterTally, PreparedLetter};
use crate::priority::Priority;
use crate::privacy::Tally;
use crate::reject::Reject;
use crate::route::Routing;
use crate::route::rules::{self, Choice, RuleTally};
use crate::schema;
use crate::server_fields::Clashes;
use crate::topic::{self, Topic};
use bytes::Bytes;

/// How many bytes one record may have, its key included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// The smallest limit among the destinations of events.
    pub records: usize,
    /// That of the output of dead letters.
    pub letters: usize,
}

/// One limit for all.
impl From<usize> for RecordLimits {
    fn from(bytes_max: usize) -> RecordLimits {
        RecordLimits {
            records: bytes_max,
            letters: bytes_max,
        }
    }
}

/// A record without its ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedRecord {
    /// Index of the event in the body, from 0; 0 in envelope mode.
    pub index: u32,
    /// The partition key, at most [`crate::partition::KEY_CHARS_MAX`] characters; `None` lets the
    /// sink choose.
    pub key: Option<Bytes>,
    /// The topic named by the event's values, if any.
    pub topic: Option<Topic>,
    /// One JSON object on one line, without a line end. Records of one request share their memory.
    pub payload: Bytes,
    /// `None` for an event that goes to every output with this key and topic, as the outputs' `ack` promises.
    /// Boxed, because it is rare.
    pub routing: Option<Box<Routing>>,
}

/// The result of [`crate::plan::Plan::run`] for one request. Reused from request to request to keep its
/// memory. Each event of `received` is in `records`, `rejected` or `withheld`, or has a letter because it was taken, always.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Events in the body; 1 in envelope mode.
    pub received: u32,
    /// Bytes of the decoded body.
    pub unpacked_bytes: usize,
    /// Records to deliver, in the order of the body.
    pub records: Vec<PreparedRecord>,
    /// Index and reason of each rejected event, in the order of the body.
    pub rejected: Vec<(u32, Reject)>,
    /// Index of each event that must not be stored, in the order of the body. Its client is answered as if it were.
    pub withheld: Vec<u32>,
    /// Letters for the output of dead letters, in the order of the body: those of rejected events, and those that stand
    /// for events that were taken.
    pub letters: Vec<PreparedLetter>,
    /// Of these, and of those for which there was no room, how many there are.
    pub letter_tally: LetterTally,
    /// What privacy did with the values of the request.
    pub privacy: Tally,
    /// Fields of the client's that have names of the server's.
    pub clashes: Clashes,
    /// The priority that counts for all records of the request, which are taken or shed together: the highest that rules
    /// gave to an event that goes somewhere. The caller [raises](Priority::raised) that of a request that nobody sends
    /// again.
    pub priority: Priority,
    pub(crate) envelope_scratch: EnvelopeScratch,
    pub(crate) event_scratch: EventScratch,
    pub(crate) topic_scratch: topic::Scratch,
    pub(crate) rules_scratch: rules::Scratch,
    pub(crate) schemas_scratch: schema::Scratch,
}

impl Prepared {
    /// Clears the contents, keeps the memory.
    pub fn clear(&mut self) {
        self.received = 0;
        self.unpacked_bytes = 0;
        self.records.clear();
        self.rejected.clear();
        self.withheld.clear();
        self.letters.clear();
        self.letter_tally = LetterTally::default();
        self.privacy = Tally::default();
        self.clashes = Clashes::default();
        self.rules_scratch.tallies.clear();
        self.schemas_scratch.outcomes.clear();
        self.priority = Priority::default();
        self.rules_scratch.priority = None;
    }

    /// Index of each event that has a letter because it was taken.
    pub fn taken_letters(&self) -> impl Iterator<Item = u32> + '_ {
        let taken = self.letters.iter().filter(|letter| letter.is_taken);
        taken.map(|letter| letter.record.index)
    }

    /// What each rule of the plan did, in their order, the unmatched events last; empty without rules.
    #[must_use]
    pub fn rule_tallies(&self) -> &[RuleTally] {
        &self.rules_scratch.tallies
    }

    /// What the check of each event that has a schema found, in the order of the body.
    #[must_use]
    pub fn schema_outcomes(&self) -> &[schema::Outcome] {
        &self.schemas_scratch.outcomes
    }
}

/// Buffers that envelope mode reuses from one request to the next.
#[derive(Debug, Default)]
pub(crate) struct EnvelopeScratch {
    pub(crate) before_data: Vec<u8>,
    pub(crate) after_data: Vec<u8>,
}

/// Buffers that event mode reuses from one request to the next.
#[derive(Debug, Default)]
pub(crate) struct EventScratch {
    pub(crate) events: Vec<Result<Event, Refused>>,
    pub(crate) additions: Additions,
    pub(crate) kept: Vec<KeptEvent>,
    /// Objects of events that are not forwarded as they came, one after the other.
    pub(crate) edited: Vec<u8>,
    /// Events without fields of the server's names, and as privacy left them.
    pub(crate) treated: Vec<u8>,
    /// One event without fields of the server's names, for privacy.
    pub(crate) stripped: Vec<u8>,
}

/// An event that becomes a record.
#[derive(Debug)]
pub(crate) struct KeptEvent {
    pub(crate) index: u32,
    pub(crate) event: Event,
    pub(crate) present: Present,
    pub(crate) len: usize,
    /// Where it goes, in a plan with rules.
    pub(crate) choice: Option<Choice>,
    /// It lies in [`EventScratch::treated`], not in the body.
    pub(crate) is_treated: bool,
    /// Its object in [`EventScratch::edited`], where that is another than the client's.
    pub(crate) edited: Option<Span>,
}
