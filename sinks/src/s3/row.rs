//! The segments that wait to be uploaded, oldest first, and how many bytes are staged. Shared by the
//! stage, which adds, and the uploader, which takes away; knows no disk.

use super::name::{Name, State};
use sluice_core::stats::StagingStats;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A finished segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) name: Name,
    pub(super) state: State,
    /// Bytes from its start that were confirmed: whole lines. Its file may have more.
    pub(super) bytes: u64,
    /// Unix time at which it was begun, seconds.
    pub(super) began_secs: u64,
    /// Attempts to upload it that failed, in this process.
    pub(super) attempts: u32,
}

/// The row.
pub(super) struct Row {
    inner: Mutex<Inner>,
    /// Rung for each segment that joins.
    pub(super) joined: Notify,
    stats: Arc<StagingStats>,
    /// Held for as long as anything can still write: a call may outlive the sink.
    _lock: File,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Segment>,
    /// In the uploader's hands.
    out: Option<Segment>,
    /// When the segment that grows was begun, and how long it is.
    growing: Option<(u64, u64)>,
    bytes: u64,
}

impl Row {
    /// With what an earlier process left.
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

    /// Bytes that are staged and not uploaded.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// The segment that grows has these bytes now, and was begun then; at its end it joins the row.
    pub(super) fn grew(&self, began_secs: u64, bytes: u64) {
        let mut inner = self.lock();
        let before = inner.growing.map_or(0, |(_, before)| before);
        inner.bytes = inner.bytes.saturating_sub(before) + bytes;
        inner.growing = (bytes > 0).then_some((began_secs, bytes));
        self.publish(&inner);
    }

    /// The segment that grew joins the end of the row.
    pub(super) fn join(&self, segment: Segment) {
        let mut inner = self.lock();
        inner.growing = None;
        inner.waiting.push_back(segment);
        self.publish(&inner);
        drop(inner);
        self.joined.notify_one();
    }

    /// The oldest segment, for the uploader to carry.
    pub(super) fn take(&self) -> Option<Segment> {
        let mut inner = self.lock();
        let segment = inner.waiting.pop_front();
        inner.out = segment;
        self.publish(&inner);
        segment
    }

    /// The uploader's segment is uploaded and gone.
    pub(super) fn done(&self) {
        let mut inner = self.lock();
        if let Some(segment) = inner.out.take() {
            inner.bytes = inner.bytes.saturating_sub(segment.bytes);
        }
        self.publish(&inner);
    }

    /// The uploader's segment, as it is now, goes to the end of the row.
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
