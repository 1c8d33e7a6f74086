//! The file of suppressed ids: read at the start, and again when another file stands in its place.

use crate::file_stamp::FileStamp;
use crate::reloads::Reloads;
use sluice_core::privacy::{
    HashKey, SUPPRESS_BYTES_MAX, SuppressCell, SuppressError, SuppressList,
};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{info, warn};

/// A list that cannot be put in force.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct SuppressFileError {
    file: PathBuf,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error(transparent)]
    Unusable(#[from] SuppressError),
}

/// The file, and the list in force.
#[derive(Debug)]
pub struct SuppressFile {
    file: PathBuf,
    keys: Vec<HashKey>,
    list: Arc<SuppressCell>,
    /// The file that was last looked at; `None` if there was none.
    seen: Mutex<Option<FileStamp>>,
    entries: AtomicU64,
    modified: AtomicU64,
    reloads: Reloads,
}

impl SuppressFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// It cannot be read, is too large, or a line is no hash of one of the keys.
    pub fn load(file: &Path, keys: Vec<HashKey>) -> Result<SuppressFile, SuppressFileError> {
        let new = SuppressFile {
            file: file.to_path_buf(),
            keys,
            list: Arc::default(),
            seen: Mutex::new(None),
            entries: AtomicU64::new(0),
            modified: AtomicU64::new(0),
            reloads: Reloads::default(),
        };
        let seen = new.read().map_err(|reason| SuppressFileError {
            file: new.file.clone(),
            reason,
        })?;
        Ok(SuppressFile {
            seen: Mutex::new(Some(seen)),
            ..new
        })
    }

    /// The list in force.
    #[must_use]
    pub fn list(&self) -> &Arc<SuppressCell> {
        &self.list
    }

    /// Different ids in it.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// When the file in force was written, as Unix time.
    #[must_use]
    pub fn modified(&self) -> u64 {
        self.modified.load(Ordering::Relaxed)
    }

    /// Changed files.
    #[must_use]
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Takes a changed file, or keeps the old list. Call it every few seconds, from one thread that may wait for a
    /// disk.
    pub fn maintain(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = std::fs::metadata(&self.file).map(|file| FileStamp::of(&file));
        if found.as_ref().ok() == seen.as_ref() {
            return;
        }
        *seen = found.ok();
        match self.read() {
            Ok(read) => {
                *seen = Some(read);
                self.reloads.take();
                info!(file = %self.file.display(), entries = self.entries(), "the changed suppress list is in force");
            }
            Err(reason) => {
                self.reloads.refuse();
                warn!(file = %self.file.display(), %reason, "the changed suppress list is refused, the old one stays in force");
            }
        }
    }

    fn read(&self) -> Result<FileStamp, Reason> {
        let file = File::open(&self.file)?;
        let seen = FileStamp::of(&file.metadata()?);
        let limit = SUPPRESS_BYTES_MAX;
        let mut text = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut text)?;
        if text.len() > limit {
            let actual = seen.bytes.max(text.len() as u64);
            return Err(SuppressError::Bytes { limit, actual }.into());
        }
        let list = SuppressList::parse(&text, &self.keys)?;
        self.entries.store(list.len() as u64, Ordering::Relaxed);
        let modified = u64::try_from(seen.modified.0).unwrap_or(0);
        self.modified.store(modified, Ordering::Relaxed);
        self.list.set(list);
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_bad_list_leaves_the_old_one_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone");
        let keys = || vec![HashKey::new("k1", &[1; 16]).unwrap()];
        assert!(SuppressFile::load(&path, keys()).is_err());
        fs::write(&path, "k1:short\n").unwrap();
        let error = SuppressFile::load(&path, keys()).unwrap_err().to_string();
        assert!(error.contains("gone: line 1: expected"), "{error}");

        fs::write(&path, format!("k1:{}\n", "1".repeat(64))).unwrap();
        let file = SuppressFile::load(&path, keys()).unwrap();
        let counts = |file: &SuppressFile| {
            (
                file.entries(),
                file.reloads().taken(),
                file.reloads().refused(),
            )
        };
        file.maintain();
        assert_eq!(counts(&file), (1, 0, 0));
        fs::write(
            &path,
            "nonsense that is longer than before, by far\n".repeat(3),
        )
        .unwrap();
        file.maintain();
        file.maintain();
        assert_eq!(counts(&file), (1, 0, 1));
        assert_eq!(file.list().get().len(), 1);
        fs::remove_file(&path).unwrap();
        file.maintain();
        file.maintain();
        assert_eq!(counts(&file), (1, 0, 2));
        fs::write(
            &path,
            format!("k1:{}\nk1:{}\n", "a".repeat(64), "b".repeat(64)),
        )
        .unwrap();
        file.maintain();
        assert_eq!(counts(&file), (2, 1, 2));
        assert!(file.modified() > 0);
    }
}
