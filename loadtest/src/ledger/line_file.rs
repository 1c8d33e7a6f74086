//! Writes a ledger: lines from many threads, with as few writes as they can share.

use super::{END, LedgerError};
use crate::event_id::EventId;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file of lines that many threads add to. A line is pushed into memory; a flush writes every
/// line pushed until then in one call, so that calls which wait for their lines at the same time
/// share a write.
#[derive(Debug)]
pub(crate) struct LineFile {
    path: PathBuf,
    // Locked in this order: `written`, then `pending`.
    written: Mutex<Written>,
    pending: Mutex<Pending>,
}

/// Lines that are not in the file yet.
#[derive(Debug, Default)]
struct Pending {
    lines: Vec<u8>,
    /// Bytes ever pushed.
    pushed: u64,
}

#[derive(Debug)]
struct Written {
    file: File,
    /// Bytes written, the header not counted.
    bytes: u64,
    /// Set by the first failed write. Part of its lines may be in the file, so nothing may follow.
    failed: Option<io::ErrorKind>,
    /// The buffer of the last write, for the next one.
    spare: Vec<u8>,
}

impl LineFile {
    /// Creates or empties the file, and writes its first line.
    pub(crate) fn create(path: &Path, header: &str) -> Result<LineFile, LedgerError> {
        let io = |source| LedgerError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::create(path).map_err(io)?;
        file.write_all(format!("{header}\n").as_bytes())
            .map_err(io)?;
        Ok(LineFile {
            path: path.to_owned(),
            written: Mutex::new(Written {
                file,
                bytes: 0,
                failed: None,
                spare: Vec::new(),
            }),
            pending: Mutex::default(),
        })
    }

    pub(crate) fn push_id(&self, id: EventId) {
        let mut pending = lock(&self.pending);
        pending.lines.extend_from_slice(&id.to_bytes());
        pending.lines.push(b'\n');
        pending.pushed += EventId::LEN as u64 + 1;
    }

    /// Adds whole lines, newlines included.
    pub(crate) fn push_lines(&self, lines: &[u8]) {
        let mut pending = lock(&self.pending);
        pending.lines.extend_from_slice(lines);
        pending.pushed += lines.len() as u64;
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending(&self) -> usize {
        lock(&self.pending).lines.len()
    }

    /// The end of the last line pushed, for [`LineFile::flush_to`].
    pub(crate) fn position(&self) -> u64 {
        lock(&self.pending).pushed
    }

    /// Writes all pending lines. An error is final: some of them may be in the file.
    pub(crate) fn flush(&self) -> Result<(), LedgerError> {
        self.flush_to(self.position())
    }

    /// Returns when the lines up to `position` are in the file: writes all pending lines, unless
    /// another thread has written these meanwhile.
    pub(crate) fn flush_to(&self, position: u64) -> Result<(), LedgerError> {
        let io = |source| LedgerError::Io {
            path: self.path.clone(),
            source,
        };
        let mut written = lock(&self.written);
        if let Some(kind) = written.failed {
            return Err(io(kind.into()));
        }
        if written.bytes >= position {
            return Ok(());
        }
        let empty = std::mem::take(&mut written.spare);
        let (mut lines, pushed) = {
            let mut pending = lock(&self.pending);
            (std::mem::replace(&mut pending.lines, empty), pending.pushed)
        };
        if let Err(error) = written.file.write_all(&lines) {
            written.failed = Some(error.kind());
            return Err(io(error));
        }
        written.bytes = pushed;
        lines.clear();
        written.spare = lines;
        Ok(())
    }

    /// Writes the pending lines and the end mark. Nothing may be pushed after it.
    pub(crate) fn finish(&self) -> Result<(), LedgerError> {
        self.push_lines(format!("{END}\n").as_bytes());
        self.flush()
    }
}

/// A panic elsewhere does not make the lines unreadable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::{STORED_HEADER, read_stored};
    use super::*;

    #[test]
    fn a_flush_writes_every_line_pushed_before_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ledger = LineFile::create(file.path(), STORED_HEADER).unwrap();
        std::thread::scope(|scope| {
            for run in 0..4 {
                let (ledger, path) = (&ledger, file.path());
                scope.spawn(move || {
                    for seq in 0..100 {
                        let id = EventId { run, seq };
                        ledger.push_id(id);
                        ledger.flush_to(ledger.position()).unwrap();
                        let text = std::fs::read_to_string(path).unwrap();
                        assert!(text.contains(&id.to_string()));
                    }
                });
            }
        });
        assert_eq!(ledger.pending(), 0);
        let mut count = 0;
        read_stored(file.path(), |_| count += 1).unwrap();
        assert_eq!(count, 400);
    }

    #[test]
    fn after_a_failed_write_no_flush_succeeds() {
        let ledger = LineFile::create(Path::new("/dev/full"), STORED_HEADER);
        let failed = matches!(ledger, Err(LedgerError::Io { .. }));
        assert!(failed);
        let file = tempfile::NamedTempFile::new().unwrap();
        let ledger = LineFile::create(file.path(), STORED_HEADER).unwrap();
        lock(&ledger.written).file = File::create("/dev/full").unwrap();
        ledger.push_id(EventId { run: 1, seq: 1 });
        assert!(ledger.flush().is_err());
        lock(&ledger.written).file = File::create(file.path()).unwrap();
        ledger.push_id(EventId { run: 1, seq: 2 });
        assert!(ledger.flush().is_err());
    }
}
