//! Compares acknowledged events with stored ones: ids answered 2xx against ids stored.
//! Exact. Takes a byte of memory per answered id, and none for ids in no answer. Time windows cost
//! a second pass over the answers instead of memory.

mod event_table;
mod source;
mod windows;

pub use event_table::Counts;
pub use source::Source;
pub use windows::{ProfileCounts, RunCounts, WINDOWS_MAX, WindowCounts};

use crate::event_id::EventId;
use crate::ledger::{self, AckLine, Ending, LedgerError};
use event_table::EventTable;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use windows::Runs;

/// Ids of each kind that a report names.
const EXAMPLES_MAX: usize = 10;

/// How often [`wait_for_end`] looks for end marks.
const END_POLL: Duration = Duration::from_millis(50);

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
        /// The system's error.
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
        /// The endings that count.
        suffixes: Vec<String>,
    },
    /// The stream cannot be read.
    #[error("reading the stream at {endpoint}: {message}")]
    Kinesis {
        /// The endpoint.
        endpoint: String,
        /// The reason.
        message: String,
    },
    /// A ledger that is written at the end, before that.
    #[error(
        "{}: too early: its emulator writes this ledger when it ends, and it has not ended (stop \
         it, or use --wait)",
        path.display()
    )]
    Early {
        /// The ledger.
        path: PathBuf,
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
    /// The answers are of too many runs.
    #[error("more than {limit} runs in the answers")]
    Runs {
        /// The limit.
        limit: usize,
    },
    /// Two files disagree about a run, so an id of it may stand for two events.
    #[error("{}: run {run:08x} is in another file with another start or profile", path.display())]
    RunTwice {
        /// The second file.
        path: PathBuf,
        /// The run.
        run: u32,
    },
    /// A file of answers of the former kind has no times.
    #[error("{}: has no times (acks v1), so it cannot be told by windows", path.display())]
    NoTimes {
        /// The file.
        path: PathBuf,
    },
    /// There are more windows than one audit reports.
    #[error("more than {limit} windows with events; use a longer one than {window_s} s")]
    Windows {
        /// The limit.
        limit: usize,
        /// The length asked for, in seconds.
        window_s: u32,
    },
}

/// Findings of an audit. Counts are of events, unless they say copies.
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
    /// Files of answers without their end mark: the run goes on, or was killed.
    #[serde(default)]
    pub open_acks: u64,
    /// Ledgers without their end mark: the emulator still runs, or was killed.
    #[serde(default)]
    pub open_ledgers: u64,
    /// The first lost ids.
    pub lost_examples: Vec<String>,
    /// The first ids that were refused and stored.
    pub refused_stored_examples: Vec<String>,
    /// The first ids that were stored more than once.
    pub duplicated_examples: Vec<String>,
    /// The same by run, in the order of their start; events without a run come last.
    #[serde(default)]
    pub runs: Vec<RunCounts>,
    /// The same by profile; without events whose file has no profile.
    #[serde(default)]
    pub profiles: Vec<ProfileCounts>,
    /// Length of `windows` in seconds, when they were asked for.
    #[serde(default)]
    pub window_s: Option<u32>,
    /// The same by the time at which requests were started, and by profile. An event that is in
    /// the answers more than once counts where it comes first.
    #[serde(default)]
    pub windows: Vec<WindowCounts>,
}

impl AuditReport {
    /// Whether every promise was kept: nothing lost, and nothing stored that was refused.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost == 0 && self.refused_stored == 0
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
    audit_by_window(acks, source, None)
}

/// As [`audit`], and with a window also by windows of that many seconds, counted from the earliest
/// start of a run.
///
/// # Errors
/// Those of [`audit`]; when a file of answers has no times; when there are more than
/// [`WINDOWS_MAX`] windows with events, profiles counted apart.
pub fn audit_by_window(
    acks: &[impl AsRef<Path>],
    source: &Source,
    window_s: Option<NonZeroU32>,
) -> Result<AuditReport, AuditError> {
    let mut events = EventTable::default();
    let mut runs = Runs::default();
    let (mut cut_ledgers, mut open_acks) = (0, 0);
    for path in acks {
        let path = path.as_ref();
        let mut failed = None;
        let read = ledger::read_ack_lines(path, |line| {
            let taken = match line {
                AckLine::Run(run) => runs.begin(path, run),
                AckLine::Ack(ack) => events.ack(&ack),
            };
            if failed.is_none() {
                failed = taken.err();
            }
        })?;
        cut_ledgers += u64::from(read.cut);
        open_acks += u64::from(read.ending == Ending::Open);
        if let Some(error) = failed {
            return Err(error);
        }
        if window_s.is_some() && !read.timed {
            return Err(AuditError::NoTimes {
                path: path.to_owned(),
            });
        }
    }
    if events.is_empty() {
        return Err(AuditError::NoAnswers);
    }
    let mut extra = 0;
    let met = source.read(|id| events.stored(id, &mut extra))?;
    let mut report = AuditReport::of(&events, extra);
    report.cut_ledgers = cut_ledgers + met.cut_ledgers;
    report.open_acks = open_acks;
    report.open_ledgers = met.open_ledgers;
    report.unfinished_files = met.unfinished_files;
    report.runs = runs.counts(&events);
    report.profiles = windows::profiles(&report.runs);
    if let Some(window_s) = window_s {
        report.window_s = Some(window_s.get());
        report.windows = windows::windows(acks, &mut events, &runs, window_s)?;
    }
    Ok(report)
}

/// Waits until every file of answers, and the ledger if `source` is one, has its end mark, for
/// `wait` at most. Returns whether they all have.
///
/// # Errors
/// When a file cannot be read.
pub fn wait_for_end(
    acks: &[impl AsRef<Path>],
    source: &Source,
    wait: Duration,
) -> Result<bool, AuditError> {
    let begin = Instant::now();
    let ledger = match source {
        Source::Ledger(path) => Some(path.as_path()),
        Source::Dir { .. } | Source::Kinesis { .. } => None,
    };
    let mut open: Vec<&Path> = acks.iter().map(AsRef::as_ref).chain(ledger).collect();
    loop {
        let mut still_open = Vec::new();
        for path in open {
            if !ledger::has_end_mark(path)? {
                still_open.push(path);
            }
        }
        let left = wait.saturating_sub(begin.elapsed());
        if still_open.is_empty() || left.is_zero() {
            return Ok(still_open.is_empty());
        }
        open = still_open;
        thread::sleep(END_POLL.min(left));
    }
}

impl AuditReport {
    fn of(events: &EventTable, extra_copies: u64) -> AuditReport {
        let mut counts = Counts::default();
        let mut report = AuditReport::default();
        events.each(|id, known| {
            counts.add(known);
            if known.is_lost() {
                example(&mut report.lost_examples, id);
            }
            if known.is_stored_though_refused() {
                example(&mut report.refused_stored_examples, id);
            }
            if known.copies > 1 {
                example(&mut report.duplicated_examples, id);
            }
        });
        let stored = counts.acked_stored
            + counts.refused_stored
            + counts.failed_stored
            + counts.unanswered_stored;
        AuditReport {
            sent: counts.sent,
            acked: counts.acked,
            refused: counts.refused,
            failed: counts.failed,
            unanswered: counts.unanswered,
            acked_stored: counts.acked_stored,
            lost: counts.lost,
            refused_stored: counts.refused_stored,
            failed_stored: counts.failed_stored,
            unanswered_stored: counts.unanswered_stored,
            duplicated: counts.duplicated,
            extra_copies,
            stored_copies: stored + extra_copies,
            foreign_copies: events.foreign_copies,
            ..report
        }
    }
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
        if self.open_acks > 0 {
            writeln!(
                f,
                "EARLY              {} files of answers have no end mark: their runs go on, or were \
                 killed",
                self.open_acks
            )?;
        }
        if self.open_ledgers > 0 {
            writeln!(
                f,
                "EARLY              the ledger has no end mark: its emulator still runs, or was \
                 killed; events acknowledged before they are delivered may still come"
            )?;
        }
        let examples = |f: &mut fmt::Formatter<'_>, ids: &[String]| {
            ids.iter().try_for_each(|id| writeln!(f, "    {id}"))
        };
        self.write_tables(f)?;
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
