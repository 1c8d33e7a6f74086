//! Lines on a local disk that outlive the process: what the sinks that write files have in common.
//! Knows no records, no names of files and no layout of a directory.

#[cfg(test)]
pub(crate) mod faulty;
pub(crate) mod grow;
pub(crate) mod lines;
pub(crate) mod store;
pub(crate) mod tail;

use sluice_core::cause::Cause;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Why a call of the disk failed: its cause for clients, and details for the log.
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) doing: &'static str,
    pub(crate) error: io::Error,
}

impl Failure {
    pub(crate) fn new(doing: &'static str, error: io::Error) -> Failure {
        let cause = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            // RLIMIT_FSIZE, with SIGXFSZ handled.
            | io::ErrorKind::FileTooLarge => Cause::NoSpace,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Cause::Denied,
            _ => Cause::Unavailable,
        };
        Failure {
            cause,
            doing,
            error,
        }
    }
}

/// Locks a directory for this process; the kernel releases the lock when the process ends, however it
/// ends. The lock is on the directory itself: a lock file could be removed, and a second process would
/// then lock a new one.
pub(crate) fn lock(dir: &Path) -> Result<File, String> {
    let shown = dir.display();
    let directory = File::open(dir).map_err(|error| format!("cannot open {shown}: {error}"))?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(format!(
            "another process or output writes here (it holds the lock on {shown}): \
             give each its own directory"
        )),
        Err(TryLockError::Error(error)) => Err(format!("cannot lock {shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_lock_file_lets_no_second_process_in() {
        let temp = tempfile::tempdir().unwrap();
        let held = lock(temp.path()).unwrap();
        for entry in std::fs::read_dir(temp.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        assert!(lock(temp.path()).unwrap_err().contains("another process"));
        drop(held);
        assert!(lock(temp.path()).is_ok());
    }

    #[test]
    fn a_file_size_limit_counts_as_no_space() {
        let failure = Failure::new("write", io::ErrorKind::FileTooLarge.into());
        assert_eq!(failure.cause, Cause::NoSpace);
    }
}
