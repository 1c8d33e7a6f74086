//! The thread of one spool: the only one that touches its directory. Groups appends, so that one sync serves all that
//! came while the last one ran.

use super::record::Entry;
use super::segments::{Place, Segments};
use crate::disk::Failure;
use crate::disk::store::{Store, probe};
use sluice_core::priority::Priority;
use sluice_core::stats::SpoolStats;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

/// Bytes that share a sync at most. Appends that are larger by themselves have one of their own.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How often a disk that failed is tried again. Until then records are not kept.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How often segments are looked at for removal.
const TIDY_EVERY: Duration = Duration::from_millis(250);
/// A full spool is logged at most this often.
const WARN_EVERY: Duration = Duration::from_secs(30);

/// What the thread is asked for.
pub(super) enum Command {
    /// Put records on disk; answered with [`Reply::Appended`].
    Append {
        number: u64,
        entries: Vec<Entry>,
        priority: Priority,
        reply: UnboundedSender<Reply>,
    },
    /// Read records; answered with [`Reply::Read`] as soon as there are any.
    Read { reply: UnboundedSender<Reply> },
    /// The destination has these.
    Settled(Vec<Settled>),
    /// The destination will never take these.
    Refused(Vec<(Place, Entry)>),
}

/// A record that the destination has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) place: Place,
    pub(super) is_attempted: bool,
}

/// What a writer hears of the thread.
pub(super) enum Reply {
    Appended { number: u64, kept: bool },
    Read(Vec<(Place, Entry)>),
}

/// The thread's state.
pub(super) struct Work {
    pub(super) output: String,
    pub(super) dir: PathBuf,
    pub(super) store: Arc<dyn Store>,
    pub(super) segments: Segments,
    pub(super) stats: Arc<SpoolStats>,
    /// Held as long as anything can still write.
    pub(super) lock: File,
    failing: Option<Instant>,
    told_full: Option<Instant>,
    /// A command that was taken while appends were gathered.
    next: Option<Command>,
    /// A read without records to answer it with.
    reader: Option<UnboundedSender<Reply>>,
    /// Whether the reader knows that nothing waits on disk.
    is_empty_told: bool,
    tidied: Instant,
}

impl Work {
    pub(super) fn new(
        output: String,
        dir: PathBuf,
        store: Arc<dyn Store>,
        segments: Segments,
        stats: Arc<SpoolStats>,
        lock: File,
    ) -> Work {
        Work {
            output,
            dir,
            store,
            segments,
            stats,
            lock,
            failing: None,
            told_full: None,
            next: None,
            reader: None,
            is_empty_told: false,
            tidied: Instant::now(),
        }
    }

    /// Runs until nobody can ask for anything more.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let command = match self.next.take() {
                Some(command) => Ok(command),
                None => self.wait(commands),
            };
            match command {
                Ok(Command::Append {
                    number,
                    entries,
                    priority,
                    reply,
                }) => self.append_group((number, entries, priority, reply), commands),
                Ok(Command::Read { reply }) => self.reader = Some(reply),
                Ok(Command::Settled(settled)) => {
                    for Settled {
                        place,
                        is_attempted,
                    } in settled
                    {
                        self.segments.settled(place, is_attempted);
                    }
                    self.segments.publish();
                }
                Ok(Command::Refused(records)) => {
                    self.segments.refused(&records);
                    self.segments.publish();
                }
                Err(RecvTimeoutError::Timeout) => self.segments.count_one(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.answer_reader();
            if self.tidied.elapsed() >= TIDY_EVERY {
                self.segments.tidy(false);
                self.tidied = Instant::now();
            }
            self.probe_failing();
        }
        self.segments.tidy(true);
        drop(self.lock);
    }

    /// Waits for a command, and not at all while segments of an earlier process are to be counted.
    fn wait(&self, commands: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        if self.segments.has_uncounted() {
            return commands.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            });
        }
        let has_timer = self.segments.is_untidy() || self.failing.is_some();
        match has_timer {
            true => commands.recv_timeout(TIDY_EVERY),
            // Nothing on disk, nothing to look at: the thread sleeps.
            false => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Appends these records and those of all other appends that have come, with one sync; but of each append none
    /// where its priority has no room for all.
    fn append_group(
        &mut self,
        first: (u64, Vec<Entry>, Priority, UnboundedSender<Reply>),
        commands: &Receiver<Command>,
    ) {
        let mut group = Vec::new();
        let mut replies = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some((number, entries, priority, reply)) = next.take() {
            let incoming: usize = entries.iter().map(Entry::size).sum();
            let room = self
                .segments
                .require_room((bytes + incoming) as u64, priority);
            let has_room = room.is_ok();
            replies.push((number, reply, has_room));
            match room {
                Ok(()) => {
                    bytes += incoming;
                    group.extend(entries);
                }
                Err(failure) => self.has_no_room(&failure, entries.len(), priority),
            }
            if bytes >= GROUP_BYTES_MAX {
                break;
            }
            match commands.try_recv() {
                Ok(Command::Append {
                    number,
                    entries,
                    priority,
                    reply,
                }) => next = Some((number, entries, priority, reply)),
                Ok(other) => self.next = Some(other),
                Err(_) => {}
            }
        }
        let kept = !group.is_empty() && self.append(&group);
        for (number, reply, has_room) in replies {
            let kept = has_room && kept;
            // A writer that has ended meanwhile has settled its records.
            let _ = reply.send(Reply::Appended { number, kept });
        }
    }

    fn append(&mut self, entries: &[Entry]) -> bool {
        if self.failing.is_some() {
            return false;
        }
        let Err(Failure { doing, error, .. }) = self.segments.append(entries) else {
            return true;
        };
        warn!(
            output = self.output,
            dir = %self.dir.display(),
            doing,
            %error,
            "the spool's disk fails: records are confirmed by the destination only"
        );
        self.failing = Some(Instant::now());
        self.stats.failing.set(1);
        false
    }

    fn has_no_room(&mut self, failure: &Failure, records: usize, priority: Priority) {
        if let Some(counter) = self.stats.unkept_records.get(priority as usize) {
            counter.add(records as u64);
        }
        let is_told = self.told_full.is_some_and(|at| at.elapsed() < WARN_EVERY);
        if !is_told {
            self.told_full = Some(Instant::now());
            warn!(output = self.output, error = %failure.error, "the spool is full: records are confirmed by the destination only");
        }
    }

    fn probe_failing(&mut self) {
        if self
            .failing
            .is_some_and(|since| since.elapsed() >= PROBE_EVERY)
        {
            self.failing = match probe(&*self.store, &self.dir) {
                Ok(()) => {
                    info!(output = self.output, "the spool's disk works again");
                    self.stats.failing.set(0);
                    None
                }
                Err(_) => Some(Instant::now()),
            };
        }
    }

    /// Answers the reader when there is something to read, and once when nothing waits any more: a writer that drains
    /// ends then.
    fn answer_reader(&mut self) {
        let Some(reader) = &self.reader else {
            return;
        };
        let is_empty = self.stats.waiting_bytes.get() == 0;
        if is_empty && !self.is_empty_told {
            let _ = reader.send(Reply::Read(Vec::new()));
            self.reader = None;
        }
        self.is_empty_told = is_empty;
        if self.reader.is_none() || !self.segments.has_unread() {
            return;
        }
        let read = self.segments.read();
        if !read.is_empty()
            && let Some(reader) = self.reader.take()
        {
            // A writer that has ended leaves them to the next start.
            let _ = reader.send(Reply::Read(read));
        }
    }
}
