//! The queue of segments to upload, oldest first, and the number of staged bytes. Shared by the stage (adds)
//! and the uploader (removes). Does no I/O.

use super::name::{Name, State};
use sluice_core::stats::StagingStats;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// A closed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) name: Name,
    pub(super) state: State,
    /// Confirmed bytes from its start: whole lines. The file may be longer.
    pub(super) bytes: u64,
    /// Unix time of its creation, in seconds.
    pub(super) began_secs: u64,
    /// Failed upload attempts in this process.
    pub(super) attempts: u32,
    /// Times that it was taken up during shutdown.
    pub(super) last_tries: u32,
    /// Its unfinished end could not be looked for at start: `bytes` is the length of its file.
    pub(super) is_unchecked: bool,
    /// An earlier call, of this process or the one before, may have stored its object.
    pub(super) may_be_stored: bool,
    /// It cannot be handled itself, and is not tried before this; others are.
    pub(super) blocked_until: Option<Instant>,
}

/// Segments waiting for their upload.
pub(super) struct Row {
    inner: Mutex<Inner>,
    /// Notified for each segment that is added.
    pub(super) joined: Notify,
    stats: Arc<StagingStats>,
    /// Held as long as anything can still write: a call may outlive the sink.
    _lock: File,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Segment>,
    /// The segment being uploaded.
    out: Option<Segment>,
    /// Creation time and length of the growing segment.
    growing: Option<(u64, u64)>,
    bytes: u64,
}

impl Row {
    /// Starts with the segments an earlier process left.
    pub(super) fn new(
        left: Vec<Segment>,
        staged_bytes_max: u64,
        stats: Arc<StagingStats>,
        lock: File,
    ) -> Row {
        let row = Row {
            inner: Mutex::new(Inner {
                bytes: left.iter().map(|segment| segment.bytes).sum(),
                waiting: left.into(),
                ..Inner::default()
            }),
            joined: Notify::new(),
            stats,
            _lock: lock,
        };
        row.stats.staged_bytes_max.set(staged_bytes_max);
        row.publish(&row.lock());
        row
    }

    pub(super) fn stats(&self) -> &Arc<StagingStats> {
        &self.stats
    }

    /// Bytes staged and not yet uploaded.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Updates length and creation time of the growing segment, which is queued when closed.
    pub(super) fn grew(&self, began_secs: u64, bytes: u64) {
        let mut inner = self.lock();
        let before = inner.growing.map_or(0, |(_, before)| before);
        inner.bytes = inner.bytes.saturating_sub(before) + bytes;
        inner.growing = (bytes > 0).then_some((began_secs, bytes));
        self.publish(&inner);
    }

    /// Appends the closed segment to the queue.
    pub(super) fn join(&self, segment: Segment) {
        let mut inner = self.lock();
        inner.growing = None;
        inner.waiting.push_back(segment);
        self.publish(&inner);
        drop(inner);
        self.joined.notify_one();
    }

    /// Takes the oldest segment for upload that is not blocked now.
    pub(super) fn take(&self, now: Instant) -> Option<Segment> {
        let mut inner = self.lock();
        let is_due = |one: &Segment| one.blocked_until.is_none_or(|until| until <= now);
        let first = inner.waiting.iter().position(is_due);
        let segment = first.and_then(|at| inner.waiting.remove(at));
        inner.out = segment;
        self.publish(&inner);
        segment
    }

    /// When the first blocked segment is tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let inner = self.lock();
        let blocked = inner.waiting.iter();
        blocked.filter_map(|segment| segment.blocked_until).min()
    }

    /// Blocked segments that have had fewer last tries than this may be tried now.
    pub(super) fn unblock(&self, last_tries: u32) {
        for segment in &mut self.lock().waiting {
            if segment.last_tries < last_tries {
                segment.blocked_until = segment.blocked_until.map(|_| Instant::now());
            }
        }
    }

    /// The segment being uploaded turned out to have this many bytes.
    pub(super) fn measured(&self, bytes: u64) {
        let mut inner = self.lock();
        if let Some(segment) = &mut inner.out {
            let before = std::mem::replace(&mut segment.bytes, bytes);
            inner.bytes = inner.bytes.saturating_sub(before) + bytes;
        }
        self.publish(&inner);
    }

    /// The segment being uploaded is stored and removed.
    pub(super) fn done(&self) {
        let mut inner = self.lock();
        if let Some(segment) = inner.out.take() {
            inner.bytes = inner.bytes.saturating_sub(segment.bytes);
        }
        self.publish(&inner);
    }

    /// Puts the segment being uploaded back, in its current state: one that is blocked at the end of the queue,
    /// another one, which a shutdown interrupted, at its beginning.
    pub(super) fn put_back(&self, segment: Segment) {
        let mut inner = self.lock();
        inner.out = None;
        match segment.blocked_until {
            Some(_) => inner.waiting.push_back(segment),
            None => inner.waiting.push_front(segment),
        }
        self.publish(&inner);
    }

    fn publish(&self, inner: &Inner) {
        let Inner {
            waiting,
            out,
            growing,
            bytes,
        } = inner;
        let waits = waiting.iter().chain(out);
        let oldest = waits
            .map(|segment| segment.began_secs)
            .chain(growing.map(|(began_secs, _)| began_secs))
            .min();
        self.stats.staged_bytes.set(*bytes);
        self.stats
            .segments_waiting
            .set((waiting.len() + usize::from(out.is_some())) as u64);
        let blocked = waiting.iter().filter(|one| one.blocked_until.is_some());
        self.stats.segments_blocked.set(blocked.count() as u64);
        self.stats.oldest_unix_secs.set(oldest.unwrap_or(0));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
