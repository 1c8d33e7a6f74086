//! Writes to the staging directory: appends batches to the growing segment, syncs them before they are
//! confirmed, and closes segments by size and age. Also recovers segments of an earlier process. Knows no
//! store; its holder is the only writer.

use super::name::{Name, State, file_name, parse_file_name};
use super::row::{Row, Segment};
use crate::disk::Failure;
use crate::disk::grow::{After, Growing};
use crate::disk::store::Store;
use crate::disk::tail::{TORN_SUFFIX, set_torn_tail_aside, whole_lines};
use sluice_core::cause::Cause;
use sluice_core::time::Wall;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Limits on segment size, segment age and staged bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StageLimits {
    pub(super) segment_bytes_max: u64,
    pub(super) segment_age_max: Duration,
    pub(super) staged_bytes_max: u64,
}

/// The writer of the staging directory.
pub(super) struct Stage {
    store: Arc<dyn Store>,
    dir: PathBuf,
    limits: StageLimits,
    clock: fn() -> Wall,
    row: Arc<Row>,
    open: Option<Open>,
    /// Whether the last append failed, so that a full disk is logged once, not per batch.
    failing: bool,
}

/// The segment that takes the next batch.
struct Open {
    name: Name,
    file: Growing,
    /// Monotonic: the wall clock may be set back.
    since: Instant,
}

impl Stage {
    pub(super) fn new(
        store: Arc<dyn Store>,
        dir: PathBuf,
        limits: StageLimits,
        clock: fn() -> Wall,
        row: Arc<Row>,
    ) -> Stage {
        Stage {
            store,
            dir,
            limits,
            clock,
            row,
            open: None,
            failing: false,
        }
    }

    /// Appends whole lines and syncs them. After an error none of them is uploaded by this process;
    /// [`Cause::Unknown`] means that the next process may find them.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Cause> {
        match self.try_append(lines) {
            Ok(()) => {
                if self.failing {
                    info!(dir = %self.dir.display(), "staging takes events again");
                    self.failing = false;
                }
                Ok(())
            }
            Err(failure) => {
                if !self.failing {
                    warn!(
                        dir = %self.dir.display(),
                        doing = failure.doing,
                        error = %failure.error,
                        "cannot stage events"
                    );
                    self.failing = true;
                }
                Err(failure.cause)
            }
        }
    }

    fn try_append(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let incoming = lines.len() as u64;
        let staged = self.row.bytes();
        if staged.saturating_add(incoming) > self.limits.staged_bytes_max {
            let full = format!(
                "{staged} bytes are staged and {incoming} came, the limit is {}",
                self.limits.staged_bytes_max
            );
            let error = io::Error::new(io::ErrorKind::StorageFull, full);
            return Err(Failure::new("find room", error));
        }
        let too_long = self.open.as_ref().is_some_and(|open| {
            let bytes = open.file.synced_bytes().saturating_add(incoming);
            open.file.synced_bytes() > 0 && bytes > self.limits.segment_bytes_max
        });
        if too_long || self.open.as_ref().is_some_and(|open| !open.file.is_named()) {
            self.finish();
        }
        let Open { name, file, since } = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        match file.append(lines) {
            Ok(file) => {
                self.row.grew(name.secs(), file.synced_bytes());
                self.open = Some(Open { name, file, since });
                Ok(())
            }
            Err((failure, After::Goes(file))) => {
                self.open = Some(Open { name, file, since });
                Err(failure)
            }
            Err((failure, After::Ended(file))) => {
                self.close(name, file, State::Closed);
                Err(failure)
            }
            Err((failure, After::Doubtful(file, error))) => {
                warn!(
                    segment = %file.path().display(),
                    synced_bytes = file.synced_bytes(),
                    %error,
                    "gave up a segment: what follows its synced bytes was never confirmed"
                );
                // Left as open, so that the next start checks its tail.
                let is_left = self.close(name, file, State::Open);
                let cause = if is_left {
                    Cause::Unknown
                } else {
                    failure.cause
                };
                Err(Failure { cause, ..failure })
            }
        }
    }

    /// Whether [`Stage::finish`] should close the growing segment now.
    pub(super) fn is_due(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.since.elapsed() >= self.limits.segment_age_max)
    }

    /// Closes the growing segment, if any. Its content is already durable.
    pub(super) fn finish(&mut self) {
        if let Some(Open { name, file, .. }) = self.open.take() {
            self.close(name, file, State::Closed);
        }
    }

    /// Closes a segment and returns whether its file still exists. An empty one is removed.
    fn close(&self, name: Name, file: Growing, state: State) -> bool {
        let (path, bytes) = (file.path().to_owned(), file.synced_bytes());
        let is_named = file.is_named();
        drop(file);
        if !is_named {
            warn!(segment = %path.display(), bytes, "a segment was removed by someone else: its events are lost");
            self.row.grew(name.secs(), 0);
            return false;
        }
        if bytes == 0 {
            return self.store.remove_file(&path).is_err();
        }
        let closed = self.dir.join(file_name(name, State::Closed));
        // Not synced: losing the new name only makes the next start check an intact segment.
        let state = match state {
            State::Closed if self.store.rename(&path, &closed).is_ok() => State::Closed,
            _ => State::Open,
        };
        self.row.join(Segment {
            name,
            state,
            bytes,
            began_secs: name.secs(),
            attempts: 0,
            last_tries: 0,
            is_unchecked: false,
            may_be_stored: false,
            blocked_until: None,
        });
        true
    }

    fn create(&self) -> Result<Open, Failure> {
        let name = Name::new((self.clock)());
        let path = self.dir.join(file_name(name, State::Open));
        let created = self.store.create_file(&path).and_then(|file| {
            self.store.sync_dir(&self.dir)?;
            Ok(file)
        });
        match created {
            Ok(file) => Ok(Open {
                name,
                file: Growing::new(path, file),
                since: Instant::now(),
            }),
            Err(error) => {
                // It may not exist, and an empty one is removed at the next start.
                let _ = self.store.remove_file(&path);
                Err(Failure::new("create a segment", error))
            }
        }
    }
}

/// The segments of an earlier process in upload order: those that may already have been sent come first. A
/// segment that cannot be put in order now is tried again by the uploader, and counts with the length of its file.
pub(super) fn leftovers(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let text = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some((name, state)) = parse_file_name(&text) else {
            // A directory is another output's: one that was made for a name in a list.
            if !text.starts_with('.') && !text.ends_with(TORN_SUFFIX) && !path.is_dir() {
                warn!(file = %path.display(), "not a segment of ours: left alone");
            }
            continue;
        };
        match put_in_order(&path, state) {
            Ok(0) => {
                if let Err(error) = fs::remove_file(&path) {
                    warn!(segment = %path.display(), %error, "cannot remove an empty segment");
                }
            }
            Ok(bytes) => left.push(Segment {
                name,
                state,
                bytes,
                began_secs: name.secs(),
                attempts: 0,
                last_tries: 0,
                is_unchecked: false,
                may_be_stored: state == State::Keyed,
                blocked_until: None,
            }),
            Err(error) => {
                warn!(segment = %path.display(), %error, "cannot put a segment in order: it waits, others are uploaded");
                left.push(Segment {
                    name,
                    state,
                    // One that tells no length holds something all the same.
                    bytes: fs::metadata(&path).map_or(1, |file| file.len().max(1)),
                    began_secs: name.secs(),
                    attempts: 0,
                    last_tries: 0,
                    is_unchecked: true,
                    may_be_stored: state == State::Keyed,
                    blocked_until: Some(Instant::now()),
                });
            }
        }
    }
    left.sort_by_key(|segment| (segment.state != State::Keyed, segment.name));
    Ok(left)
}

/// Returns the bytes of its whole lines.
pub(super) fn put_in_order(path: &Path, state: State) -> io::Result<u64> {
    if state != State::Open {
        let file = fs::metadata(path)?;
        return match file.is_file() {
            true => Ok(file.len()),
            false => Err(io::ErrorKind::IsADirectory.into()),
        };
    }
    let open = || OpenOptions::new().read(true).write(true).open(path);
    set_torn_tail_aside(path, open()?).or_else(|error| {
        // Confirmed lines do not wait for room for bytes that never were.
        let whole_bytes = whole_lines(&mut open()?)?;
        warn!(
            segment = %path.display(),
            %error,
            "cannot set the unfinished end of a segment aside: only its whole lines are uploaded"
        );
        Ok(whole_bytes)
    })
}
