//! The two files that an audit compares: what an emulator stored, and what a generator was
//! answered. Lines of text behind a first line that names the kind. No set arithmetic here.

use crate::event_id::{EventId, hex};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// First line of a file of stored ids. Then one id per line, once per stored copy.
pub const STORED_HEADER: &str = "sluice-loadtest stored v1";

/// First line of a file of answers. Then one line per request that was sent:
/// `<run> <first sequence> <count> <status> [<refused index>,...]`, or for a request without an
/// answer `<run> <first sequence> <count> - <what happened>`; run and sequence in hex.
pub const ACKS_HEADER: &str = "sluice-loadtest acks v1";

/// Events that one request may carry, in a file of answers.
pub const EVENTS_PER_REQUEST_MAX: u32 = 100_000;

/// Bytes that one line may have: room for the index of every event of the largest request.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Why a ledger cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The first line is not the one of this kind of ledger.
    #[error("{} is no ledger: its first line is not `{expected}`", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What the first line should be.
        expected: &'static str,
    },
    /// A line is damaged.
    #[error("{} line {line}: not a ledger line", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
    },
}

/// Collects lines in memory and hands them to a file when told.
#[derive(Debug)]
pub(crate) struct LineFile {
    path: PathBuf,
    file: File,
    pending: Vec<u8>,
}

impl LineFile {
    /// Makes or empties the file, and writes its first line.
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
            file,
            pending: Vec::new(),
        })
    }

    pub(crate) fn push_id(&mut self, id: EventId) {
        self.pending.extend_from_slice(&id.to_bytes());
        self.pending.push(b'\n');
    }

    /// Adds whole lines, newlines included.
    pub(crate) fn push_lines(&mut self, lines: &[u8]) {
        self.pending.extend_from_slice(lines);
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Writes what is pending. An error is final: part of it may be written.
    pub(crate) fn flush(&mut self) -> Result<(), LedgerError> {
        self.file
            .write_all(&self.pending)
            .map_err(|source| LedgerError::Io {
                path: self.path.clone(),
                source,
            })?;
        self.pending.clear();
        Ok(())
    }
}

/// What became of one request, as its sender saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The run of its events.
    pub run: u32,
    /// The sequence number of its first event; the others follow.
    pub first: u64,
    /// How many events it carried.
    pub count: u32,
    /// The status, or `None` for a request that was sent and not answered.
    pub status: Option<u16>,
    /// Events, by index in the request, that the answer refused although its status is 200.
    pub refused: Vec<u32>,
}

impl Ack {
    /// Appends the line of an answered request.
    pub(crate) fn write_answer(&self, out: &mut Vec<u8>, status: u16) {
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "{:08x} {:012x} {} {status}",
            self.run, self.first, self.count
        );
        for (at, index) in self.refused.iter().enumerate() {
            let separator = if at == 0 { ' ' } else { ',' };
            let _ = write!(out, "{separator}{index}");
        }
        out.push(b'\n');
    }

    /// Appends the line of a request that was not answered, and why.
    pub(crate) fn write_unanswered(&self, out: &mut Vec<u8>, what: &str) {
        let _ = writeln!(
            out,
            "{:08x} {:012x} {} - {what}",
            self.run, self.first, self.count
        );
    }

    fn parse(line: &str) -> Option<Ack> {
        let mut words = line.split(' ');
        let run = words.next().filter(|word| word.len() == 8)?;
        let first = words.next().filter(|word| word.len() == 12)?;
        let count: u32 = words.next()?.parse().ok()?;
        let status = words.next()?;
        let rest = words.next();
        if words.next().is_some() || count == 0 || count > EVENTS_PER_REQUEST_MAX {
            return None;
        }
        let mut ack = Ack {
            run: u32::try_from(hex(run.as_bytes())?).ok()?,
            first: hex(first.as_bytes())?,
            count,
            status: None,
            refused: Vec::new(),
        };
        if ack.first + u64::from(count) > EventId::SEQ_END {
            return None;
        }
        if status == "-" {
            return rest.is_some().then_some(ack);
        }
        ack.status = Some(
            status
                .parse()
                .ok()
                .filter(|status| (100..1000).contains(status))?,
        );
        for index in rest.into_iter().flat_map(|rest| rest.split(',')) {
            ack.refused
                .push(index.parse().ok().filter(|index| *index < count)?);
        }
        Some(ack)
    }
}

/// Calls `found` with each answer in a file of answers.
/// Returns whether the last line was cut off, as it is when its writer was killed.
///
/// # Errors
/// When the file cannot be read, is no file of answers, or has a damaged line.
pub fn read_acks(path: &Path, mut found: impl FnMut(Ack)) -> Result<bool, LedgerError> {
    read_lines(path, ACKS_HEADER, |line| {
        let ack = std::str::from_utf8(line).ok().and_then(Ack::parse);
        ack.map(&mut found).is_some()
    })
}

/// Calls `found` with each id in a file of stored ids.
/// Returns whether the last line was cut off, as it is when its writer was killed.
///
/// # Errors
/// When the file cannot be read, is no file of stored ids, or has a damaged line.
pub fn read_stored(path: &Path, mut found: impl FnMut(EventId)) -> Result<bool, LedgerError> {
    read_lines(path, STORED_HEADER, |line| {
        EventId::parse(line).map(&mut found).is_some()
    })
}

fn read_lines(
    path: &Path,
    header: &'static str,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<bool, LedgerError> {
    let io = |source| LedgerError::Io {
        path: path.to_owned(),
        source,
    };
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64;
        let read = io::Read::take(&mut reader, limit).read_until(b'\n', &mut line);
        if read.map_err(io)? == 0 && number > 0 {
            return Ok(false);
        }
        number += 1;
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        if number == 1 {
            if !whole || line != header.as_bytes() {
                return Err(LedgerError::Header {
                    path: path.to_owned(),
                    expected: header,
                });
            }
            continue;
        }
        if !whole && line.len() < LINE_BYTES_MAX {
            return Ok(true);
        }
        if !whole || !take(&line) {
            return Err(LedgerError::Line {
                path: path.to_owned(),
                line: number,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(status: Option<u16>, refused: &[u32]) -> Ack {
        Ack {
            run: 0xab,
            first: 0x1000,
            count: 20,
            status,
            refused: refused.to_vec(),
        }
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn answers_survive_writing_and_reading() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut ledger = LineFile::create(file.path(), ACKS_HEADER).unwrap();
        let acks = [
            ack(Some(200), &[]),
            ack(Some(200), &[0, 7, 19]),
            ack(Some(503), &[]),
            ack(None, &[]),
        ];
        let mut lines = Vec::new();
        for ack in &acks {
            match ack.status {
                Some(status) => ack.write_answer(&mut lines, status),
                None => ack.write_unanswered(&mut lines, "timeout"),
            }
        }
        ledger.push_lines(&lines);
        ledger.flush().unwrap();
        let mut read = Vec::new();
        assert!(!read_acks(file.path(), |ack| read.push(ack)).unwrap());
        assert_eq!(read, acks);
    }

    #[test]
    fn stored_ids_survive_writing_and_reading() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut ledger = LineFile::create(file.path(), STORED_HEADER).unwrap();
        let ids = [1, 2, 2].map(|seq| EventId { run: 9, seq });
        ids.iter().for_each(|id| ledger.push_id(*id));
        ledger.flush().unwrap();
        let mut read = Vec::new();
        assert!(!read_stored(file.path(), |id| read.push(id)).unwrap());
        assert_eq!(read, ids);
    }

    #[test]
    fn a_line_cut_off_at_the_end_is_said_and_not_counted() {
        let cut = file(&format!(
            "{ACKS_HEADER}\n000000ab 000000001000 20 200\n000000ab 0000"
        ));
        let mut count = 0;
        assert!(read_acks(cut.path(), |_| count += 1).unwrap());
        assert_eq!(count, 1);
    }

    #[test]
    fn a_file_of_another_kind_is_refused_by_its_first_line() {
        for content in [
            "",
            "{\"a\":1}\n",
            STORED_HEADER,
            "sluice-loadtest stored v1\n",
        ] {
            let other = file(content);
            let error = read_acks(other.path(), |_| {}).unwrap_err();
            assert!(matches!(error, LedgerError::Header { .. }), "{error}");
            assert!(error.to_string().contains("is no ledger"), "{error}");
        }
    }

    #[test]
    fn a_damaged_line_is_named_by_its_number() {
        for line in [
            "000000ab 000000001000 0 200",
            "000000ab 000000001000 100001 200",
            "000000ab 000000001000 20 99",
            "000000ab 000000001000 20 200 20",
            "000000ab 000000001000 20 200 1 2",
            "000000ab 000000001000 20 -",
            "ab 000000001000 20 200",
            "000000ab ffffffffffff 2 200",
            "",
        ] {
            let damaged = file(&format!("{ACKS_HEADER}\n{line}\n"));
            let error = read_acks(damaged.path(), |_| {}).unwrap_err();
            assert!(
                matches!(error, LedgerError::Line { line: 2, .. }),
                "{line}: {error}"
            );
        }
        let limit = format!("{ACKS_HEADER}\n000000ab 000000001000 100000 200\n");
        assert!(read_acks(file(&limit).path(), |_| {}).is_ok());
        let endless = format!("{ACKS_HEADER}\n{}", "x".repeat(LINE_BYTES_MAX + 1));
        assert!(read_acks(file(&endless).path(), |_| {}).is_err());
    }
}
