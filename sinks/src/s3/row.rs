//! The queue of segments to upload, oldest first, and the number of staged bytes. Shared by the stage (adds)
//! and the uploader (removes). Does no I/O.

use super::name::{Name, State};
use sluice_core::stats::StagingStats;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

    /// Takes the oldest segment for upload.
    pub(super) fn take(&self) -> Option<Segment> {
        let mut inner = self.lock();
        let segment = inner.waiting.pop_front();
        inner.out = segment;
        self.publish(&inner);
        segment
    }

    /// The segment being uploaded is stored and removed.
    pub(super) fn done(&self) {
        let mut inner = self.lock();
        if let Some(segment) = inner.out.take() {
            inner.bytes = inner.bytes.saturating_sub(segment.bytes);
        }
        self.publish(&inner);
    }

    /// Moves the segment being uploaded, in its current state, to the end of the queue.
    pub(super) fn put_last(&self, segment: Segment) {
        let mut inner = self.lock();
        inner.out = None;
        inner.waiting.push_back(segment);
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
        self.stats.oldest_unix_secs.set(oldest.unwrap_or(0));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
