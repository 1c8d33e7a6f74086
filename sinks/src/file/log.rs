//! The growing file: append and sync, rotate, and step back from what failed.
//! Knows no records and no threads; whoever holds it writes alone.

use super::FileSettings;
use super::layout::{FileName, OPEN};
use crate::disk::Failure;
use crate::disk::grow::{After, Growing};
use crate::disk::store::{Store, create_dir_durably};
use sluice_core::cause::Cause;
use sluice_core::time::Wall;
use std::io;
use std::sync::Arc;
use tracing::{info, warn};

/// One directory's writing end.
pub(super) struct Log {
    store: Arc<dyn Store>,
    settings: FileSettings,
    clock: fn() -> Wall,
    open: Option<Open>,
    /// Whether the last append failed, so that a full disk is logged once and not per batch.
    failing: bool,
    /// Held for as long as anything can still write: a call may outlive the sink.
    _lock: std::fs::File,
}

/// The file that takes the next batch.
struct Open {
    name: FileName,
    file: Growing,
}

impl Log {
    /// A log without a file: the first append creates one.
    pub(super) fn new(
        store: Arc<dyn Store>,
        settings: FileSettings,
        clock: fn() -> Wall,
        lock: std::fs::File,
    ) -> Log {
        Log {
            store,
            settings,
            clock,
            open: None,
            failing: false,
            _lock: lock,
        }
    }

    /// Appends whole lines and makes them durable. After an error none of them is in a file that
    /// goes on growing; [`Cause::Unknown`] says that they may be readable in one that was given up.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Cause> {
        match self.try_append(lines) {
            Ok(()) => {
                if self.failing {
                    info!(dir = %self.settings.dir.display(), "file sink writes again");
                    self.failing = false;
                }
                Ok(())
            }
            Err(failure) => {
                if !self.failing {
                    warn!(
                        dir = %self.settings.dir.display(),
                        doing = failure.doing,
                        error = %failure.error,
                        "file sink cannot write"
                    );
                    self.failing = true;
                }
                Err(failure.cause)
            }
        }
    }

    fn try_append(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let now = (self.clock)();
        let incoming_bytes = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.is_due(now, incoming_bytes) || !self.is_growing_file_named() {
            self.finish();
        }
        let Open { name, file } = match self.open.take() {
            Some(open) => open,
            None => self.create(now)?,
        };
        match file.append(lines) {
            Ok(file) => {
                self.open = Some(Open { name, file });
                Ok(())
            }
            Err((failure, After::Goes(file))) => {
                self.open = Some(Open { name, file });
                Err(failure)
            }
            Err((failure, After::Ended(file))) => {
                self.close(Open { name, file });
                Err(failure)
            }
            Err((failure, After::Doubtful(file, error))) => {
                Err(self.abandon(Open { name, file }, failure, &error))
            }
        }
    }

    /// Whether a file is open that [`Log::finish`] should end now.
    pub(super) fn is_due_now(&self) -> bool {
        self.is_due((self.clock)(), 0)
    }

    fn is_due(&self, now: Wall, incoming_bytes: u64) -> bool {
        self.open.as_ref().is_some_and(|Open { name, file }| {
            let bytes = file.synced_bytes().saturating_add(incoming_bytes);
            name.hour() != now.secs / 3600
                || name.age_secs(now) >= self.settings.file_age_max.as_secs()
                || (file.synced_bytes() > 0 && bytes > self.settings.file_bytes_max)
        })
    }

    fn is_growing_file_named(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.file.is_named())
    }

    /// Ends the growing file, if there is one. Its content is durable already.
    pub(super) fn finish(&mut self) {
        if let Some(open) = self.open.take() {
            self.close(open);
        }
    }

    fn close(&self, Open { name, file }: Open) {
        let path = file.path().to_owned();
        let is_empty = file.synced_bytes() == 0;
        drop(file);
        if is_empty {
            // Its creation may have been undone by hand; a file without a line is of no use.
            let _ = self.store.remove_file(&path);
        }
        let marker = name.marker(&self.settings.dir);
        if let Err(error) = self.store.remove_file(&marker) {
            // It costs the next start a look at a file that is in order.
            warn!(marker = %marker.display(), %error, "cannot remove a marker");
        }
    }

    /// Gives up a file that may hold more than what was confirmed. If it holds what was confirmed, its
    /// marker stays, so readers know, and the next start puts it in order; if not, it is removed.
    fn abandon(&self, open: Open, failure: Failure, error: &io::Error) -> Failure {
        let (path, synced_bytes) = (open.file.path(), open.file.synced_bytes());
        warn!(
            file = %path.display(),
            synced_bytes,
            %error,
            "gave up a file: what follows its synced bytes was never confirmed"
        );
        if synced_bytes == 0 && self.store.remove_file(path).is_ok() {
            self.close(open);
            return failure;
        }
        Failure {
            cause: Cause::Unknown,
            ..failure
        }
    }

    /// Creates marker and file, and makes both and the directories above them durable.
    fn create(&self, now: Wall) -> Result<Open, Failure> {
        let dir = &self.settings.dir;
        let store = &*self.store;
        let name = FileName::new(now, fastrand::u64(..));
        let partition = name.partition(dir).ok_or_else(|| {
            let beyond = io::Error::other("the clock reads a year beyond 9999");
            Failure::new("choose the hour's directory", beyond)
        })?;
        let open_dir = dir.join(OPEN);
        let marker = name.marker(dir);
        let [.., hour_dir] = &partition;
        let path = hour_dir.join(name.data_name());
        let created = create_dir_durably(store, &open_dir)
            .and_then(|()| store.create_file(&marker))
            // Before the file: a crash must not leave a growing file that no marker names.
            .and_then(|_| store.sync_dir(&open_dir))
            .and_then(|()| {
                partition
                    .iter()
                    .try_for_each(|level| store.create_dir(level))
            })
            .and_then(|()| store.create_file(&path))
            .and_then(|file| {
                // Every level each time: a directory that exists may be one that an earlier
                // process had created but not yet synced when it was killed.
                partition
                    .iter()
                    .rev()
                    .try_for_each(|level| store.sync_dir(level))?;
                store.sync_dir(dir)?;
                Ok(file)
            });
        match created {
            Ok(file) => Ok(Open {
                name,
                file: Growing::new(path, file),
            }),
            Err(error) => {
                // Either may not exist, and one that cannot be removed is swept at the next start.
                let _ = store.remove_file(&path);
                let _ = store.remove_file(&marker);
                Err(Failure::new("create a file", error))
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.finish();
    }
}
