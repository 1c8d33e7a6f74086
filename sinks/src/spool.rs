//! The spool: records on this host's disk in front of any destination.
//!
//! ```text
//!  writer --Append--> thread: one write and one sync for all that came -> segments
//!    ^  \                                                                   |
//!    |   `- live records -> sink.write                                      | Read
//!    |                          ^                                           v
//!    `--- Settled, Refused -- replay: lanes, one call at a time each <------+
//! ```
//!
//! [`sluice_core::delivery`] decides which records come here. While there are none, nothing is written. Records are
//! replayed through the same machine and the same sink, a lane for each call that may run: records with one key are in
//! one lane, in order. A segment goes when all its records are settled.

mod offline;
mod pace;
mod record;
mod replay;
mod segments;
mod settings;
#[cfg(test)]
mod tests;
mod thread;

pub use offline::{Report, Verified, export, verify};
pub(crate) use pace::Pace;
pub use record::Entry;
pub(crate) use replay::{Due, Replay, ReplayCall};
pub use settings::{SECTION, SpoolSettings};

use crate::disk::lock;
use crate::disk::store::{self, Store};
use segments::{Limits, Segments};
use sluice_core::delivery::ToSpool;
use sluice_core::priority::{Priority, Shares};
use sluice_core::stats::SpoolStats;
use sluice_core::time::Wall;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};
use thread::{Command, Reply, Work};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::info;

/// A spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("spool {dir}: {reason}")]
pub struct SpoolError {
    /// Its directory.
    pub dir: String,
    /// What is wrong.
    pub reason: String,
}

/// A running spool: one thread that owns a directory.
pub struct Spool {
    commands: Sender<Command>,
    stats: Arc<SpoolStats>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Spool {
    /// Creates and locks the directory, finds what an earlier process left there, and starts the thread. `shares` says
    /// what each priority may fill of the directory; `clock` reads the time that segments are named by.
    ///
    /// # Errors
    /// The directory cannot be created or read, someone else writes to it, or there is no thread to be had.
    pub fn start(
        output: &str,
        settings: &SpoolSettings,
        shares: Shares,
        clock: fn() -> Wall,
    ) -> Result<Spool, SpoolError> {
        Spool::start_on(Arc::new(store::Os), output, settings, shares, clock)
    }

    fn start_on(
        store: Arc<dyn Store>,
        output: &str,
        settings: &SpoolSettings,
        shares: Shares,
        clock: fn() -> Wall,
    ) -> Result<Spool, SpoolError> {
        let dir = settings.dir.clone().unwrap_or_default();
        let fail = |reason: String| SpoolError {
            dir: dir.display().to_string(),
            reason,
        };
        store::create_root_durably(&*store, &dir)
            .map_err(|error| fail(format!("cannot create the directory: {error}")))?;
        let lock = lock(&dir).map_err(fail)?;
        let stats = Arc::new(SpoolStats::default());
        let limits = Limits {
            bytes_max: settings.bytes_max,
            shares,
            syncs: settings.fsync,
        };
        let segments = Segments::open(
            Arc::clone(&store),
            dir.clone(),
            limits,
            clock,
            Arc::clone(&stats),
        )
        .map_err(|error| fail(format!("cannot read the directory: {error}")))?;
        let left = stats.waiting_bytes.get();
        if left > 0 {
            info!(output, dir = %dir.display(), bytes = left, "records of an earlier process are replayed");
        }
        let work = Work::new(
            output.to_owned(),
            dir.clone(),
            store,
            segments,
            Arc::clone(&stats),
            lock,
        );
        let (commands, asked) = channel();
        let thread = Builder::new()
            .name(format!("spool-{output}"))
            .spawn(move || work.run(&asked))
            .map_err(|error| fail(format!("cannot start its thread: {error}")))?;
        Ok(Spool {
            commands,
            stats,
            thread,
        })
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<SpoolStats> {
        &self.stats
    }

    /// Access for one writer. Exactly one writer of an output replays.
    #[must_use]
    pub fn client(&self, replays: bool) -> SpoolClient {
        let (reply, replies) = unbounded_channel();
        SpoolClient {
            commands: self.commands.clone(),
            stats: Arc::clone(&self.stats),
            reply,
            replies,
            replays,
            next_number: 0,
        }
    }

    /// Lets the thread end, which it does once the clients are gone as well.
    #[must_use]
    pub fn close(self) -> JoinHandle<()> {
        self.thread
    }
}

/// A writer's access to the spool of its output.
pub struct SpoolClient {
    commands: Sender<Command>,
    stats: Arc<SpoolStats>,
    reply: UnboundedSender<Reply>,
    replies: UnboundedReceiver<Reply>,
    replays: bool,
    next_number: u64,
}

impl fmt::Debug for SpoolClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolClient")
            .field("replays", &self.replays)
            .finish_non_exhaustive()
    }
}

impl SpoolClient {
    /// Whether its writer replays.
    pub(crate) fn replays(&self) -> bool {
        self.replays
    }

    /// Whether records lie on disk that the destination has not confirmed.
    pub(crate) fn has_waiting(&self) -> bool {
        self.stats.waiting_bytes.get() > 0
    }

    /// Asks for records of one priority to be put on disk. The number returned comes back with the result; `None` where
    /// the thread is gone.
    pub(crate) fn append(
        &mut self,
        records: &[ToSpool],
        priority: Priority,
        now: Wall,
    ) -> Option<u64> {
        let arrived_micros = now
            .secs
            .saturating_mul(1_000_000)
            .saturating_add(u64::from(now.nanos / 1_000));
        let entries = records
            .iter()
            .map(
                |ToSpool {
                     record, attempts, ..
                 }| Entry {
                    key: record.key.clone(),
                    topic: record
                        .topic
                        .as_ref()
                        .map(|topic| topic.as_str().to_owned().into()),
                    payload: record.payload.clone(),
                    arrived_micros,
                    is_attempted: *attempts > 0,
                },
            )
            .collect();
        let number = self.next_number;
        self.next_number += 1;
        let reply = self.reply.clone();
        let command = Command::Append {
            number,
            entries,
            priority,
            reply,
        };
        self.commands.send(command).ok().map(|()| number)
    }

    fn tell(&self, command: Command) {
        // Fails when the thread is gone: what is on disk is replayed by the next start.
        let _ = self.commands.send(command);
    }
}

/// The files of a directory that hold records, for commands that start nothing.
///
/// # Errors
/// The directory cannot be read.
pub fn holds_records(dir: &Path) -> std::io::Result<bool> {
    let listed = segments::list(dir)?;
    Ok(listed
        .iter()
        .any(|file| matches!(file.kind, segments::Kind::Segment { .. }) && file.bytes > 0))
}
