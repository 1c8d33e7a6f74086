//! Payloads joined as lines, in memory that is used again: a fresh buffer for each batch would be pages that the
//! kernel has to clear, a tenth of the CPU time of batches.

use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Memory for lines that is kept between batches; a batch that is larger has its own.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Joins the lines of a sink. It keeps the memory of the last batch that was done.
#[derive(Default)]
pub(crate) struct LineJoiner {
    spare: Arc<Mutex<Vec<u8>>>,
}

impl LineJoiner {
    /// The payloads that are lines, each with its newline; and which of the payloads are.
    pub(crate) fn join(&self, records: &[Record]) -> (Lines, Vec<bool>) {
        let mut bytes = std::mem::take(&mut *lock(&self.spare));
        bytes.clear();
        bytes.reserve(records.iter().map(|record| record.payload.len() + 1).sum());
        let mut are_lines = Vec::with_capacity(records.len());
        for record in records {
            let is_line = is_line(&record.payload);
            if is_line {
                bytes.extend_from_slice(&record.payload);
                bytes.push(b'\n');
            }
            are_lines.push(is_line);
        }
        let home = Arc::clone(&self.spare);
        (Lines { bytes, home }, are_lines)
    }
}

/// Whole lines. Their memory goes back when they are dropped.
pub(crate) struct Lines {
    bytes: Vec<u8>,
    home: Arc<Mutex<Vec<u8>>>,
}

impl Deref for Lines {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.bytes.capacity() <= KEPT_BYTES_MAX {
            *lock(&self.home) = std::mem::take(&mut self.bytes);
        }
    }
}

/// Whether a payload is one line: not empty, no newline, and no NUL, by which a start after a crash
/// recognises blocks that were never written.
pub(crate) fn is_line(payload: &[u8]) -> bool {
    !payload.is_empty() && memchr::memchr2(b'\n', 0, payload).is_none()
}

/// The result of each payload: of those that are lines `result`, which is none when there are none.
pub(crate) fn results(are_lines: &[bool], result: Option<RecordResult>) -> Vec<RecordResult> {
    let refused = RecordResult::Refused(Cause::Invalid);
    let of = |is_line: &bool| if *is_line { result } else { None };
    let results = are_lines
        .iter()
        .map(|is_line| of(is_line).unwrap_or(refused));
    results.collect()
}

fn lock(spare: &Mutex<Vec<u8>>) -> std::sync::MutexGuard<'_, Vec<u8>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::script::record;

    #[test]
    fn memory_is_used_again_and_never_shows_old_lines() {
        let joiner = LineJoiner::default();
        let (lines, are_lines) = joiner.join(&[record("one"), record("a\nb"), record("two")]);
        assert_eq!(&*lines, b"one\ntwo\n");
        assert_eq!(are_lines, [true, false, true]);
        let at = lines.as_ptr();
        drop(lines);
        let (lines, _) = joiner.join(&[record("3")]);
        assert_eq!(&*lines, b"3\n");
        assert_eq!(lines.as_ptr(), at);
        // A batch that is still being written keeps its own.
        let (other, _) = joiner.join(&[record("4")]);
        assert_ne!(other.as_ptr(), at);
    }

    #[test]
    fn memory_of_a_huge_batch_is_given_back() {
        let joiner = LineJoiner::default();
        drop(joiner.join(&[record(vec![b'x'; KEPT_BYTES_MAX])]));
        assert_eq!(lock(&joiner.spare).capacity(), 0);
    }
}
