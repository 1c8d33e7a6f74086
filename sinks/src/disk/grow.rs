//! One file that grows by whole lines: append, sync, and step back from what failed.
//! Knows neither when a file is finished nor what it is called.

use super::Failure;
use super::store::{StoreFile, write_all};
use std::io;
use std::path::{Path, PathBuf};

/// A growing file.
pub(crate) struct Growing {
    path: PathBuf,
    file: Box<dyn StoreFile>,
    synced_bytes: u64,
}

/// In what state an append that failed has left its file.
pub(crate) enum After {
    /// It holds what was synced before, and goes on growing.
    Goes(Growing),
    /// It holds what was synced before, and takes no further line.
    Ended(Growing),
    /// For this reason it may hold more than what was synced before, and takes no further line.
    Doubtful(Growing, io::Error),
}

impl Growing {
    /// A file that was just created.
    pub(crate) fn new(path: PathBuf, file: Box<dyn StoreFile>) -> Growing {
        Growing {
            path,
            file,
            synced_bytes: 0,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that were written and synced: whole lines, and all that was ever confirmed.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.synced_bytes
    }

    /// False when someone removed the file: what is written to it could never be read.
    pub(crate) fn is_named(&self) -> bool {
        self.file.is_named().unwrap_or(false)
    }

    /// Appends whole lines and makes them durable, all of them or none.
    pub(crate) fn append(mut self, lines: &[u8]) -> Result<Growing, (Failure, After)> {
        if let Err(error) = write_all(&mut *self.file, lines) {
            let failure = Failure::new("write", error);
            return Err(match self.file.cut(self.synced_bytes) {
                Ok(()) => (failure, After::Goes(self)),
                Err(error) => (failure, After::Doubtful(self, error)),
            });
        }
        if let Err(error) = self.file.sync() {
            // The kernel may have dropped the pages that it could not write and would report the
            // next sync of this file as a success: it takes no further line.
            let failure = Failure::new("fsync", error);
            let cut = self.file.cut(self.synced_bytes);
            return Err(match cut.and_then(|()| self.file.sync()) {
                Ok(()) => (failure, After::Ended(self)),
                Err(error) => (failure, After::Doubtful(self, error)),
            });
        }
        self.synced_bytes += lines.len() as u64;
        Ok(self)
    }
}
