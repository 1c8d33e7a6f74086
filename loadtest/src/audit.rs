//! Compares what was promised with what arrived: ids answered 2xx against ids stored.
//! Exact; a byte of memory per id of the answers, and none for ids that no answer knows.

mod source;

pub use source::Source;

use crate::event_id::EventId;
use crate::ledger::{self, Ack, LedgerError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Ids that are kept together: 64 KiB.
const CHUNK_BITS: u32 = 16;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Chunks that are kept at most: 4 GiB, for as many ids.
const CHUNKS_MAX: usize = 1 << 16;

/// Ids of each kind that a report names.
const EXAMPLES_MAX: usize = 10;

/// Why an audit cannot say anything.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A directory or file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A line of stored data is too long to be held.
    #[error("{}: a line is longer than {limit} bytes", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Directories are nested too deep.
    #[error("{}: nested deeper than {limit} directories", path.display())]
    Depth {
        /// The directory.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// No file of stored data was found.
    #[error("{}: no files ending in {}", path.display(), suffixes.join(", "))]
    NoFiles {
        /// The directory.
        path: PathBuf,
        /// What they should end in.
        suffixes: Vec<String>,
    },
    /// The stream cannot be read.
    #[error("reading the stream at {endpoint}: {message}")]
    Kinesis {
        /// The endpoint.
        endpoint: String,
        /// What went wrong.
        message: String,
    },
    /// The answers have no event at all.
    #[error("the answers name no event: nothing to audit")]
    NoAnswers,
    /// The answers' ids are too many or too scattered.
    #[error("more than {limit} different events in the answers")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// What the sender knows of an event. Later ones outweigh earlier ones, should an event be in
/// the answers more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Answered {
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

/// Low bits of an id's byte: what was answered. The others count stored copies, up to
/// [`COPIES_MAX`].
const ANSWERED_MASK: u8 = 0b111;
const COPY: u8 = 0b1000;
const COPIES_MAX: u8 = u8::MAX / COPY;

/// What an audit found. Counts are of events, unless they say copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Events sent.
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
    /// Refused for good and stored all the same: a wrong answer.
    pub refused_stored: u64,
    /// Answered 5xx and stored: legal, since the sender may send again.
    pub failed_stored: u64,
    /// Not answered and stored: legal.
    pub unanswered_stored: u64,
    /// Stored more than once.
    pub duplicated: u64,
    /// Stored copies beyond the first of each.
    pub extra_copies: u64,
    /// Stored copies of all events that the answers know.
    pub stored_copies: u64,
    /// Stored copies of events that no answer knows, for instance of other runs.
    pub foreign_copies: u64,
    /// Files of stored data that end in an unfinished line, which is not counted as stored.
    pub unfinished_files: u64,
    /// Files of answers, or ledgers, whose last line is cut off.
    pub cut_ledgers: u64,
    /// The first lost ids.
    pub lost_examples: Vec<String>,
    /// The first ids that were refused and stored.
    pub refused_stored_examples: Vec<String>,
    /// The first ids that were stored more than once.
    pub duplicated_examples: Vec<String>,
}

impl AuditReport {
    /// Whether every promise was kept: nothing lost, and nothing stored that was refused.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost == 0 && self.refused_stored == 0
    }
}

#[derive(Default)]
struct Book {
    chunks: HashMap<(u32, u64), Box<[u8]>>,
    foreign_copies: u64,
}

impl Book {
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

    fn ack(&mut self, ack: &Ack) -> Result<(), AuditError> {
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

    fn stored(&mut self, id: EventId, extra: &mut u64) {
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

    fn report(&self, extra_copies: u64) -> AuditReport {
        let mut report = AuditReport {
            extra_copies,
            foreign_copies: self.foreign_copies,
            ..AuditReport::default()
        };
        let mut keys: Vec<_> = self.chunks.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            let (run, chunk) = key;
            for (byte, seq) in self.chunks[&key].iter().zip(chunk << CHUNK_BITS..) {
                report.count(EventId { run, seq }, *byte);
            }
        }
        report
    }
}

impl AuditReport {
    fn count(&mut self, id: EventId, byte: u8) {
        let copies = byte / COPY;
        let stored = u64::from(copies > 0);
        let answered = ANSWERED.get(usize::from(byte & ANSWERED_MASK)).copied();
        match answered.unwrap_or(Answered::Unknown) {
            Answered::Unknown => return,
            Answered::Not => {
                self.unanswered += 1;
                self.unanswered_stored += stored;
            }
            Answered::Failed => {
                self.failed += 1;
                self.failed_stored += stored;
            }
            Answered::Refused => {
                self.refused += 1;
                self.refused_stored += stored;
                if stored > 0 {
                    example(&mut self.refused_stored_examples, id);
                }
            }
            Answered::Acked => {
                self.acked += 1;
                self.acked_stored += stored;
                if stored == 0 {
                    self.lost += 1;
                    example(&mut self.lost_examples, id);
                }
            }
        }
        self.sent += 1;
        if copies > 1 {
            self.duplicated += 1;
            example(&mut self.duplicated_examples, id);
        }
    }
}

fn example(examples: &mut Vec<String>, id: EventId) {
    if examples.len() < EXAMPLES_MAX {
        examples.push(id.to_string());
    }
}

/// Compares all answers in `acks` with everything in `source`.
///
/// # Errors
/// When a file cannot be read, is no ledger, or the answers name no event.
pub fn audit(acks: &[impl AsRef<Path>], source: &Source) -> Result<AuditReport, AuditError> {
    let mut book = Book::default();
    let mut cut_ledgers = 0;
    for path in acks {
        let mut failed = None;
        let cut = ledger::read_acks(path.as_ref(), |ack| {
            if failed.is_none() {
                failed = book.ack(&ack).err();
            }
        })?;
        cut_ledgers += u64::from(cut);
        if let Some(error) = failed {
            return Err(error);
        }
    }
    if book.chunks.is_empty() {
        return Err(AuditError::NoAnswers);
    }
    let mut extra = 0;
    let met = source.read(|id| book.stored(id, &mut extra))?;
    let mut report = book.report(extra);
    report.cut_ledgers = cut_ledgers + met.cut_ledgers;
    report.unfinished_files = met.unfinished_files;
    report.stored_copies = extra
        + report.acked_stored
        + report.refused_stored
        + report.failed_stored
        + report.unanswered_stored;
    Ok(report)
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "events sent        {}", self.sent)?;
        writeln!(
            f,
            "answered 2xx       {}, of these stored {}",
            self.acked, self.acked_stored
        )?;
        writeln!(
            f,
            "refused (4xx)      {}, of these stored {}",
            self.refused, self.refused_stored
        )?;
        writeln!(
            f,
            "failed (3xx, 5xx)  {}, of these stored {}",
            self.failed, self.failed_stored
        )?;
        writeln!(
            f,
            "unanswered         {}, of these stored {}",
            self.unanswered, self.unanswered_stored
        )?;
        writeln!(
            f,
            "stored copies      {}, and {} of events that the answers do not know",
            self.stored_copies, self.foreign_copies
        )?;
        if self.unfinished_files > 0 {
            writeln!(
                f,
                "unfinished files   {}; their last line is not counted",
                self.unfinished_files
            )?;
        }
        if self.cut_ledgers > 0 {
            writeln!(
                f,
                "cut ledgers        {}; their last line is not counted",
                self.cut_ledgers
            )?;
        }
        let examples = |f: &mut fmt::Formatter<'_>, ids: &[String]| {
            ids.iter().try_for_each(|id| writeln!(f, "    {id}"))
        };
        writeln!(
            f,
            "DUPLICATED         {} ({} extra copies)",
            self.duplicated, self.extra_copies
        )?;
        examples(f, &self.duplicated_examples)?;
        writeln!(f, "REFUSED AND STORED {}", self.refused_stored)?;
        examples(f, &self.refused_stored_examples)?;
        write!(f, "LOST               {}", self.lost)?;
        self.lost_examples
            .iter()
            .try_for_each(|id| write!(f, "\n    {id}"))
    }
}
