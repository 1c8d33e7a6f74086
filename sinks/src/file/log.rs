//! The growing file: append and sync, rotate, and step back from what failed.
//! Knows no records and no threads; whoever holds it writes alone.

use super::FileSettings;
use super::layout::{FileName, OPEN};
use super::store::{Store, StoreFile, create_dir_durably, write_all};
use sluice_core::record::Cause;
use sluice_core::time::Wall;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{info, warn};

/// One directory's writing end.
pub(super) struct Log {
    store: Arc<dyn Store>,
    settings: FileSettings,
    clock: fn() -> Wall,
    growing: Option<Growing>,
    /// Whether the last append failed, so that a full disk is logged once and not per batch.
    failing: bool,
    /// Held for as long as anything can still write: a call may outlive the sink.
    _lock: std::fs::File,
}

/// The file that takes the next batch.
struct Growing {
    name: FileName,
    path: PathBuf,
    file: Box<dyn StoreFile>,
    /// Bytes that were written and synced: whole lines, and all that was ever confirmed.
    synced_bytes: u64,
}

/// Why an append failed: what is to be told, and what is to be logged.
struct Failure {
    cause: Cause,
    doing: &'static str,
    error: io::Error,
}

impl Failure {
    fn new(doing: &'static str, error: io::Error) -> Failure {
        Failure {
            cause: cause_of(&error),
            doing,
            error,
        }
    }
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
            growing: None,
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
        let mut growing = match self.growing.take() {
            Some(growing) => growing,
            None => self.create(now)?,
        };
        if let Err(error) = write_all(&mut *growing.file, lines) {
            let failure = Failure::new("write", error);
            return Err(match growing.file.cut(growing.synced_bytes) {
                Ok(()) => {
                    self.growing = Some(growing);
                    failure
                }
                Err(error) => self.abandon(growing, failure, &error),
            });
        }
        if let Err(error) = growing.file.sync() {
            // The kernel may have dropped the pages that it could not write and would report the
            // next sync of this file as a success: it takes no further line.
            let failure = Failure::new("fsync", error);
            let cut = growing.file.cut(growing.synced_bytes);
            return Err(match cut.and_then(|()| growing.file.sync()) {
                Ok(()) => {
                    self.close(growing);
                    failure
                }
                Err(error) => self.abandon(growing, failure, &error),
            });
        }
        growing.synced_bytes += incoming_bytes;
        self.growing = Some(growing);
        Ok(())
    }

    /// Whether a file is open that [`Log::finish`] should end now.
    pub(super) fn is_due_now(&self) -> bool {
        self.is_due((self.clock)(), 0)
    }

    fn is_due(&self, now: Wall, incoming_bytes: u64) -> bool {
        self.growing.as_ref().is_some_and(|growing| {
            let bytes = growing.synced_bytes.saturating_add(incoming_bytes);
            growing.name.hour() != now.secs / 3600
                || growing.name.age_secs(now) >= self.settings.file_age_max.as_secs()
                || (growing.synced_bytes > 0 && bytes > self.settings.file_bytes_max)
        })
    }

    /// False when someone removed the growing file: what is written to it could never be read.
    fn is_growing_file_named(&self) -> bool {
        self.growing
            .as_ref()
            .is_none_or(|growing| growing.file.is_named().unwrap_or(false))
    }

    /// Ends the growing file, if there is one. Its content is durable already.
    pub(super) fn finish(&mut self) {
        if let Some(growing) = self.growing.take() {
            self.close(growing);
        }
    }

    fn close(&self, growing: Growing) {
        let Growing {
            name,
            path,
            file,
            synced_bytes,
        } = growing;
        drop(file);
        if synced_bytes == 0 {
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
    fn abandon(&self, growing: Growing, failure: Failure, error: &io::Error) -> Failure {
        warn!(
            file = %growing.path.display(),
            synced_bytes = growing.synced_bytes,
            %error,
            "gave up a file: what follows its synced bytes was never confirmed"
        );
        if growing.synced_bytes == 0 && self.store.remove_file(&growing.path).is_ok() {
            self.close(growing);
            return failure;
        }
        Failure {
            cause: Cause::Unknown,
            ..failure
        }
    }

    /// Creates marker and file, and makes both and the directories above them durable.
    fn create(&self, now: Wall) -> Result<Growing, Failure> {
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
            Ok(file) => Ok(Growing {
                name,
                path,
                file,
                synced_bytes: 0,
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

fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::NoSpace,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Cause::Denied,
        _ => Cause::Unavailable,
    }
}
