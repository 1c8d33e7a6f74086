//! Lines on a local disk that outlive the process: what the sinks that write files have in common.
//! Knows no records, no names of files and no layout of a directory.

#[cfg(test)]
pub(crate) mod faulty;
pub(crate) mod grow;
pub(crate) mod store;
pub(crate) mod tail;

use sluice_core::cause::Cause;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Why a call of the disk failed: what is to be told, and what is to be logged.
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) doing: &'static str,
    pub(crate) error: io::Error,
}

impl Failure {
    pub(crate) fn new(doing: &'static str, error: io::Error) -> Failure {
        let cause = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::NoSpace,
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

/// Whether a payload is one line: not empty, no newline, and no NUL, by which a start after a crash
/// recognises blocks that were never written.
pub(crate) fn is_line(payload: &[u8]) -> bool {
    !payload.is_empty() && memchr::memchr2(b'\n', 0, payload).is_none()
}

/// Takes a directory for this process by way of the file `name` in it; the kernel gives it back when the
/// process ends, however it ends.
pub(crate) fn lock(dir: &Path, name: &str) -> Result<File, String> {
    let path = dir.join(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!(
            "another process or output writes here (it holds {}): give each its own directory",
            path.display()
        )),
        Err(TryLockError::Error(error)) => Err(format!("cannot lock {}: {error}", path.display())),
    }
}
