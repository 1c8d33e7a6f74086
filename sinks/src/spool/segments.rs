//! The segments of a spool directory: append, read, count, remove. Does blocking I/O; its holder, one thread, is the
//! only writer. Knows no destination.
//!
//! A segment is removed once all its records are settled. Until then nothing in it is marked as settled, so that
//! after a crash up to [`SEGMENT_BYTES_MAX`] of records may be delivered twice.

mod aside;
mod listing;

use super::record::{Entry, Found, SEGMENT_HEAD, find, salt_of, segment_head};
use crate::disk::Failure;
use crate::disk::grow::{After, Growing};
use crate::disk::store::{Store, StoreFile};
use bytes::Bytes;
use listing::segment_name;
pub(super) use listing::{Content, Kind, Listed, content, list};
use sluice_core::priority::{Priority, Shares};
use sluice_core::stats::SpoolStats;
use sluice_core::time::Wall;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;

/// A segment is finished before it passes this; only a record that is larger by itself makes a larger one.
pub(super) const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// The largest segment that is read at all: one such record.
const FILE_BYTES_MAX: u64 = super::record::PAYLOAD_BYTES_MAX as u64 + (1 << 20);
/// Bytes that are read at a time.
const READ_BYTES: u64 = 1 << 20;
/// A segment whose records are all settled is removed when it has not grown for this time: a spool that is in use
/// all the time does not create and remove a file for each batch.
const QUIET: Duration = Duration::from_secs(1);
/// The first and the longest wait before a segment that cannot be read is tried again.
const BLOCKED_WAIT: Duration = Duration::from_secs(1);
const BLOCKED_WAIT_MAX: Duration = Duration::from_secs(60);

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the segment in this process.
    pub(super) segment: u32,
    /// Bytes that the record takes there.
    pub(super) bytes: u32,
}

/// Settings of a directory.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) bytes_max: u64,
    /// What each priority may fill of it.
    pub(super) shares: Shares,
    /// Whether appends are synced. Without, records outlive the process but not the host.
    pub(super) syncs: bool,
}

/// The segments of one directory.
pub(super) struct Segments {
    store: Arc<dyn Store>,
    dir: PathBuf,
    limits: Limits,
    clock: fn() -> Wall,
    stats: Arc<SpoolStats>,
    /// Oldest first. The last one grows, if one does.
    known: VecDeque<Segment>,
    growing: Option<Growing>,
    refused: Option<(Growing, u64)>,
    next_number: u32,
    aside: Aside,
}

#[derive(Clone, Copy, Debug, Default)]
struct Aside {
    bytes: u64,
    lost_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    number: u32,
    path: PathBuf,
    salt: u64,
    began_secs: u64,
    /// Bytes from its start that can be read: all that was ever confirmed. The file may be longer.
    bytes: u64,
    /// Whether records and damage have been counted.
    is_counted: bool,
    read_to: u64,
    /// Records that were read and are not settled.
    outstanding: u64,
    waiting_records: u64,
    waiting_bytes: u64,
    damaged: Vec<Range<u64>>,
    /// Something in it could be neither read nor put aside: it stays for the next start.
    is_kept: bool,
    blocked: Option<(Instant, Duration)>,
    grew_at: Instant,
}

impl Segment {
    fn is_settled(&self) -> bool {
        self.is_counted && self.read_to >= self.bytes && self.outstanding == 0
    }
}

impl Segments {
    /// Finds what an earlier process left. Reads no segment yet.
    pub(super) fn open(
        store: Arc<dyn Store>,
        dir: PathBuf,
        limits: Limits,
        clock: fn() -> Wall,
        stats: Arc<SpoolStats>,
    ) -> io::Result<Segments> {
        stats.disk_bytes_max.set(limits.bytes_max);
        let mut segments = Segments {
            store,
            dir,
            limits,
            clock,
            stats,
            known: VecDeque::new(),
            growing: None,
            refused: None,
            next_number: 0,
            aside: Aside::default(),
        };
        for Listed { path, bytes, kind } in list(&segments.dir)? {
            match kind {
                Kind::Segment { began_secs, salt } => {
                    segments.add(path, salt, began_secs, bytes);
                }
                Kind::Torn => segments.aside.bytes += bytes,
                Kind::Bad | Kind::Refused => {
                    segments.aside.bytes += bytes;
                    segments.aside.lost_bytes += bytes;
                }
                Kind::Foreign => {
                    warn!(file = %path.display(), "not a file of the spool: left alone");
                }
            }
        }
        segments.publish();
        Ok(segments)
    }

    /// Appends records and makes them durable, all of them or none.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        let incoming: u64 = entries.iter().map(|entry| entry.size() as u64).sum();
        self.require_room(incoming, Priority::High)?;
        let is_full = self.growing.as_ref().is_some_and(|file| {
            let bytes = file.synced_bytes();
            let too_long = bytes.saturating_add(incoming) > SEGMENT_BYTES_MAX;
            (bytes > 0 && too_long) || !file.is_named()
        });
        if is_full {
            self.finish();
        }
        let file = match self.growing.take() {
            Some(file) => file,
            None => self.create()?,
        };
        let Some(segment) = self.known.back_mut() else {
            return Err(Failure::new("find", io::ErrorKind::NotFound.into()));
        };
        let capacity = usize::try_from(incoming).unwrap_or(0) + SEGMENT_HEAD;
        let mut bytes = Vec::with_capacity(capacity);
        if file.synced_bytes() == 0 {
            bytes = segment_head(segment.salt);
        }
        for entry in entries {
            if let Err(error) = entry.encode(segment.salt, &mut bytes) {
                self.growing = Some(file);
                return Err(Failure::new("encode", io::Error::other(error)));
            }
        }
        let (file, failure, goes_on) = match file.append(&bytes) {
            Ok(file) => {
                segment.bytes = file.synced_bytes();
                segment.read_to = segment.read_to.max(SEGMENT_HEAD as u64);
                segment.waiting_records += entries.len() as u64;
                segment.waiting_bytes += incoming;
                segment.grew_at = Instant::now();
                self.stats.spooled_records.add(entries.len() as u64);
                self.stats.spooled_bytes.add(incoming);
                (file, None, true)
            }
            Err((failure, After::Goes(file))) => (file, Some(failure), true),
            // The file holds what was synced before. After a failed sync it takes no more.
            Err((failure, After::Ended(file))) => (file, Some(failure), false),
            Err((failure, After::Doubtful(file, error))) => {
                warn!(
                    segment = %file.path().display(),
                    synced_bytes = file.synced_bytes(),
                    %error,
                    "gave up a segment: what follows its synced bytes was never confirmed"
                );
                (file, Some(failure), false)
            }
        };
        if goes_on && file.synced_bytes() > 0 {
            self.growing = Some(file);
        } else {
            // Without a confirmed record there is nothing to keep.
            let is_empty = file.synced_bytes() == 0;
            self.growing = Some(file);
            self.finish();
            if is_empty {
                self.remove_last();
            }
        }
        self.publish();
        match failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Whether these bytes fit under the limit for records of a priority.
    pub(super) fn require_room(&self, incoming: u64, priority: Priority) -> Result<(), Failure> {
        let used = self.disk_bytes();
        let limit = self.limits.shares.of(priority, self.limits.bytes_max);
        if used.saturating_add(incoming) <= limit {
            return Ok(());
        }
        let whom = match limit == self.limits.bytes_max {
            true => String::new(),
            false => format!(" for priority {}", priority.label()),
        };
        let full =
            format!("the spool holds {used} bytes and {incoming} came, the limit is {limit}{whom}");
        let error = io::Error::new(io::ErrorKind::StorageFull, full);
        Err(Failure::new("find room", error))
    }

    fn disk_bytes(&self) -> u64 {
        let segments: u64 = self.known.iter().map(|segment| segment.bytes).sum();
        segments + self.aside.bytes
    }

    fn create(&mut self) -> Result<Growing, Failure> {
        let salt = fastrand::u64(..);
        let now = (self.clock)();
        let path = self.dir.join(segment_name(now, salt));
        let created = self.create_file(&path);
        match created {
            Ok(file) => {
                self.add(path.clone(), salt, now.secs, 0);
                if let Some(segment) = self.known.back_mut() {
                    segment.is_counted = true;
                }
                Ok(Growing::new(path, file))
            }
            Err(error) => {
                // It may not exist, and an empty one is removed at the next start.
                let _ = self.store.remove_file(&path);
                Err(Failure::new("create a segment", error))
            }
        }
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        let file = self.store.create_file(path)?;
        if !self.limits.syncs {
            return Ok(Box::new(Unsynced(file)));
        }
        self.store.sync_dir(&self.dir)?;
        Ok(file)
    }

    fn add(&mut self, path: PathBuf, salt: u64, began_secs: u64, bytes: u64) {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.known.push_back(Segment {
            number,
            path,
            salt,
            began_secs,
            bytes,
            is_counted: false,
            read_to: 0,
            outstanding: 0,
            waiting_records: 0,
            waiting_bytes: bytes.saturating_sub(SEGMENT_HEAD as u64),
            damaged: Vec::new(),
            is_kept: false,
            blocked: None,
            grew_at: Instant::now(),
        });
    }

    /// The segment that grew takes no further record.
    fn finish(&mut self) {
        if let Some(file) = self.growing.take()
            && !file.is_named()
            && let Some(segment) = self.known.back_mut()
        {
            warn!(
                segment = %segment.path.display(),
                bytes = segment.bytes,
                "a segment was removed by someone else: its events are lost unless they were read"
            );
            segment.read_to = segment.bytes;
            segment.waiting_records = segment.outstanding;
        }
    }

    fn remove_last(&mut self) {
        if let Some(segment) = self.known.pop_back() {
            // An empty one is removed at the next start.
            let _ = self.store.remove_file(&segment.path);
        }
    }

    /// Whether a record is there that was not read.
    pub(super) fn has_unread(&self) -> bool {
        let now = Instant::now();
        self.known.iter().any(|segment| is_readable(segment, now))
    }

    /// Whether a segment of an earlier process has not been counted.
    pub(super) fn has_uncounted(&self) -> bool {
        let now = Instant::now();
        self.known
            .iter()
            .any(|segment| !segment.is_counted && !is_blocked(segment, now))
    }

    /// Counts records and damage of one segment of an earlier process.
    pub(super) fn count_one(&mut self) {
        let now = Instant::now();
        let uncounted = self
            .known
            .iter()
            .position(|segment| !segment.is_counted && !is_blocked(segment, now));
        if let Some(at) = uncounted {
            self.count(at);
            self.publish();
        }
    }

    fn count(&mut self, at: usize) {
        let Some(segment) = self.known.get_mut(at) else {
            return;
        };
        let bytes = match read_range(&segment.path, 0..segment.bytes) {
            Ok(bytes) => bytes,
            Err(error) => return block(segment, "read", &error),
        };
        match salt_of(&bytes) {
            Some(salt) => segment.salt = salt,
            // Its name has the salt too.
            None if !bytes.is_empty() => {
                warn!(segment = %segment.path.display(), "the head of a segment is damaged");
            }
            None => {}
        }
        segment.bytes = bytes.len() as u64;
        let mut records = 0;
        let mut record_bytes = 0;
        let mut damage = Vec::new();
        let mut from = SEGMENT_HEAD.min(bytes.len());
        loop {
            match find(&bytes, segment.salt, from) {
                Found::Record(_, next) => {
                    records += 1;
                    record_bytes += (next - from) as u64;
                    from = next;
                }
                Found::Damage(range) => {
                    from = range.end;
                    damage.push(range);
                }
                Found::End => break,
            }
        }
        segment.is_counted = true;
        segment.blocked = None;
        segment.read_to = SEGMENT_HEAD as u64;
        segment.waiting_records = records;
        segment.waiting_bytes = record_bytes;
        for range in damage {
            let is_tail = range.end == bytes.len();
            let content = bytes.slice(range.clone());
            self.put_aside(at, range.start as u64, &content, is_tail);
        }
    }

    /// Reads the oldest records that were not read, about [`READ_BYTES`] of them, in order.
    pub(super) fn read(&mut self) -> Vec<(Place, Entry)> {
        let now = Instant::now();
        let mut read = Vec::new();
        while read.is_empty() {
            let Some(at) = self.known.iter().position(|one| is_readable(one, now)) else {
                break;
            };
            if self.known.get(at).is_some_and(|one| !one.is_counted) {
                self.count(at);
                continue;
            }
            if !self.read_segment(at, READ_BYTES, &mut read) {
                // A record that is longer, or damage: look at all of it.
                self.read_segment(at, u64::MAX, &mut read);
            }
        }
        self.publish();
        read
    }

    /// Reads up to `bytes_max` of a segment. False if that was too little for a single record.
    fn read_segment(&mut self, at: usize, bytes_max: u64, read: &mut Vec<(Place, Entry)>) -> bool {
        let Some(segment) = self.known.get_mut(at) else {
            return true;
        };
        let start = segment.read_to;
        let end = segment.bytes.min(start.saturating_add(bytes_max));
        let bytes = match read_range(&segment.path, start..end) {
            Ok(bytes) => bytes,
            Err(error) => {
                block(segment, "read", &error);
                return true;
            }
        };
        let is_all = end == segment.bytes;
        let mut damage = Vec::new();
        let mut from = 0;
        loop {
            match find(&bytes, segment.salt, from) {
                Found::Record(entry, next) => {
                    let size = next - from;
                    let place = Place {
                        segment: segment.number,
                        // A record is far below 4 GiB.
                        bytes: u32::try_from(size).unwrap_or(u32::MAX),
                    };
                    segment.outstanding += 1;
                    read.push((place, entry));
                    from = next;
                }
                // The rest of a record may lie behind what was read.
                Found::Damage(range) if range.end == bytes.len() && !is_all => break,
                Found::Damage(range) => {
                    from = range.end;
                    damage.push(range);
                }
                Found::End => break,
            }
        }
        segment.read_to = start + from as u64;
        for range in damage {
            let is_tail = is_all && range.end == bytes.len();
            let content = bytes.slice(range.clone());
            self.put_aside(at, start + range.start as u64, &content, is_tail);
        }
        from > 0 || is_all
    }

    /// Records that were read are settled, `attempted` of them carried by a call before they came here.
    pub(super) fn settled(&mut self, place: Place, is_attempted: bool) {
        self.stats.replayed_records.increment();
        if is_attempted {
            self.stats.replayed_attempted_records.increment();
        }
        self.forget(place);
    }

    fn forget(&mut self, place: Place) {
        let found = self
            .known
            .iter_mut()
            .find(|segment| segment.number == place.segment);
        if let Some(segment) = found {
            segment.outstanding = segment.outstanding.saturating_sub(1);
            segment.waiting_records = segment.waiting_records.saturating_sub(1);
            segment.waiting_bytes = segment.waiting_bytes.saturating_sub(u64::from(place.bytes));
        }
    }

    /// Removes segments whose records are all settled; `at_end` also one that could still grow.
    pub(super) fn tidy(&mut self, at_end: bool) {
        let now = Instant::now();
        let mut kept = VecDeque::with_capacity(self.known.len());
        let last = self.known.back().map(|segment| segment.number);
        for segment in std::mem::take(&mut self.known) {
            let grows = self.growing.is_some() && Some(segment.number) == last;
            let is_quiet = at_end || now.duration_since(segment.grew_at) >= QUIET;
            if !segment.is_settled() || segment.is_kept || (grows && !is_quiet) {
                kept.push_back(segment);
                continue;
            }
            if grows {
                self.growing = None;
            }
            match self.store.remove_file(&segment.path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    warn!(segment = %segment.path.display(), %error, "cannot remove a segment: its records would be delivered again by the next start");
                    kept.push_back(Segment {
                        is_kept: true,
                        ..segment
                    });
                }
            }
        }
        self.known = kept;
        self.publish();
    }

    /// Whether [`Segments::tidy`] may have something to do later.
    pub(super) fn is_untidy(&self) -> bool {
        !self.known.is_empty()
    }

    /// Sets the gauges.
    pub(super) fn publish(&self) {
        let stats = &self.stats;
        let sum = |of: fn(&Segment) -> u64| self.known.iter().map(of).sum::<u64>();
        stats
            .waiting_records
            .set(sum(|segment| segment.waiting_records));
        stats
            .waiting_bytes
            .set(sum(|segment| segment.waiting_bytes));
        stats.disk_bytes.set(self.disk_bytes());
        stats.put_aside_bytes.set(self.aside.bytes);
        stats.lost_bytes.set(self.aside.lost_bytes);
        let waiting = self.known.iter().filter(|one| one.waiting_bytes > 0);
        let oldest = waiting.map(|segment| segment.began_secs).min();
        stats.oldest_unix_secs.set(oldest.unwrap_or(0));
    }
}

fn is_blocked(segment: &Segment, now: Instant) -> bool {
    segment.blocked.is_some_and(|(until, _)| now < until)
}

fn is_readable(segment: &Segment, now: Instant) -> bool {
    (!segment.is_counted || segment.read_to < segment.bytes) && !is_blocked(segment, now)
}

/// Puts a segment off that cannot be read; the others go on.
fn block(segment: &mut Segment, doing: &str, error: &io::Error) {
    let wait = segment
        .blocked
        .map_or(BLOCKED_WAIT, |(_, wait)| (wait * 2).min(BLOCKED_WAIT_MAX));
    warn!(
        segment = %segment.path.display(),
        %error,
        retry_in_s = wait.as_secs(),
        "cannot {doing} a segment: it waits, the others go on"
    );
    segment.blocked = Some((Instant::now() + wait, wait));
}

/// A range of a file, or what it has of it.
fn read_range(path: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let wanted = range.end.saturating_sub(range.start);
    if wanted > FILE_BYTES_MAX {
        let error = format!("it has {wanted} bytes, the limit is {FILE_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
    file.take(wanted).read_to_end(&mut bytes)?;
    Ok(Bytes::from(bytes))
}

/// A file whose appends are not synced: the kernel writes them when it likes.
struct Unsynced(Box<dyn StoreFile>);

impl StoreFile for Unsynced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.0.cut(len)
    }

    fn is_named(&self) -> io::Result<bool> {
        self.0.is_named()
    }
}
