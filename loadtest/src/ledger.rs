//! The two files that an audit compares: the events an emulator stored, and the answers a generator
//! got. Lines of text behind a first line that names the kind. No set arithmetic here.

mod line_file;

pub(crate) use line_file::LineFile;

use crate::event_id::{EventId, hex};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// First line of a file of stored ids. Then one id per line, once per stored copy. An id stands here
/// before the call that stored it is answered. The last line is [`END`] when the emulator has ended.
pub const STORED_HEADER: &str = "sluice-loadtest stored v2";

/// First line of a file of stored ids that an emulator writes only when it ends, because what it
/// stores can be replaced. Without [`END`] it says nothing yet.
pub const STORED_AT_END_HEADER: &str = "sluice-loadtest stored-at-end v2";

/// First line of the former kind of stored ids, which is still read. It has no end mark.
pub const STORED_HEADER_V1: &str = "sluice-loadtest stored v1";

/// First line of a file of answers. Then, before the requests of a run, its [`RunStart`]:
/// `run <run> <unix second of its start> <profile>`; and one line per request that was sent:
/// `<run> <first sequence> <count> <second> <status> [<refused index>,...]`, or for a request
/// without an answer `<run> <first sequence> <count> <second> - <what happened>`; run and sequence
/// in hex, the second counted from the run's start. The last line is [`END`] when the run is over.
///
/// With a line of [`STORED_HEADER`]'s kind at most 64 bytes per event, if it has a request of its
/// own: 25 there and 35 here, in a run of up to a week.
pub const ACKS_HEADER: &str = "sluice-loadtest acks v3";

/// First line of the kind before, which is still read: it has no end mark.
pub const ACKS_HEADER_V2: &str = "sluice-loadtest acks v2";

/// First line of the first kind, which is still read: no line of a run, no seconds, no end mark.
pub const ACKS_HEADER_V1: &str = "sluice-loadtest acks v1";

/// Last line of a file whose writer has ended cleanly. Without it the writer still runs, or was
/// killed.
pub const END: &str = "end";

/// Bytes of a profile's name.
pub const PROFILE_BYTES_MAX: usize = 64;

/// Events that one request may carry, in a file of answers.
pub const EVENTS_PER_REQUEST_MAX: u32 = 100_000;

/// Bytes that one line may have: enough for the index of every event of the largest request.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Why a ledger cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The first line is not the one of this kind of ledger.
    #[error("{} is no ledger: its first line is not `{expected}`", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The expected first line.
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
    /// A request of a run that no line introduced.
    #[error("{} line {line}: run {run:08x} has no line that says when it began", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// The run.
        run: u32,
    },
}

/// A run, as a file of answers introduces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStart {
    /// Its number in event ids.
    pub run: u32,
    /// When it began, in seconds since the Unix epoch.
    pub start: u64,
    /// Its traffic: 1 to [`PROFILE_BYTES_MAX`] of `a-z`, `0-9`, `-`, `_`.
    pub profile: String,
}

impl RunStart {
    /// The line that introduces it.
    pub(crate) fn to_line(&self) -> String {
        format!("run {:08x} {} {}\n", self.run, self.start, self.profile)
    }

    fn parse(line: &str) -> Option<RunStart> {
        let mut words = line.strip_prefix("run ")?.split(' ');
        let run = words.next().filter(|word| word.len() == 8)?;
        let start: u64 = words.next()?.parse().ok()?;
        let profile = words.next()?;
        let named = (1..=PROFILE_BYTES_MAX).contains(&profile.len())
            && profile.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
            });
        // Far beyond any clock, and far from overflow.
        (named && start < 1 << 40 && words.next().is_none()).then_some(RunStart {
            run: u32::try_from(hex(run.as_bytes())?).ok()?,
            start,
            profile: profile.to_owned(),
        })
    }
}

/// Creates or empties a file of answers, and writes its header and the line of its run.
pub(crate) fn create_acks(path: &Path, run: &RunStart) -> Result<LineFile, LedgerError> {
    let file = LineFile::create(path, ACKS_HEADER)?;
    file.push_lines(run.to_line().as_bytes());
    file.flush()?;
    Ok(file)
}

/// The outcome of one request, as its sender saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The run of its events.
    pub run: u32,
    /// The sequence number of its first event; the others follow.
    pub first: u64,
    /// How many events it carried.
    pub count: u32,
    /// When it was started, in whole seconds since the run's start; `None` in files of the
    /// former kind.
    pub second: Option<u32>,
    /// The status, or `None` for a request that was sent and not answered.
    pub status: Option<u16>,
    /// Events, by index in the request, that the answer refused although its status is 200.
    pub refused: Vec<u32>,
}

impl Ack {
    /// Appends the line of an answered request.
    pub(crate) fn write_answer(&self, out: &mut Vec<u8>, status: u16) {
        self.write_request(out);
        // Writing to memory does not fail.
        let _ = write!(out, "{status}");
        for (at, index) in self.refused.iter().enumerate() {
            let separator = if at == 0 { ' ' } else { ',' };
            let _ = write!(out, "{separator}{index}");
        }
        out.push(b'\n');
    }

    /// Appends the line of a request that was not answered, and why.
    pub(crate) fn write_unanswered(&self, out: &mut Vec<u8>, what: &str) {
        self.write_request(out);
        let _ = writeln!(out, "- {what}");
    }

    fn write_request(&self, out: &mut Vec<u8>) {
        let _ = write!(
            out,
            "{:08x} {:012x} {} {} ",
            self.run,
            self.first,
            self.count,
            self.second.unwrap_or(0)
        );
    }

    fn parse(line: &str, seconds: bool) -> Option<Ack> {
        let mut words = line.split(' ');
        let run = words.next().filter(|word| word.len() == 8)?;
        let first = words.next().filter(|word| word.len() == 12)?;
        let count: u32 = words.next()?.parse().ok()?;
        let second = match seconds {
            true => Some(words.next()?.parse().ok()?),
            false => None,
        };
        let status = words.next()?;
        let rest = words.next();
        if words.next().is_some() || count == 0 || count > EVENTS_PER_REQUEST_MAX {
            return None;
        }
        let mut ack = Ack {
            run: u32::try_from(hex(run.as_bytes())?).ok()?,
            first: hex(first.as_bytes())?,
            count,
            second,
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

/// A line of a file of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckLine {
    /// A run begins.
    Run(RunStart),
    /// A request and its outcome.
    Ack(Ack),
}

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its end mark: nothing will follow.
    Ended,
    /// Without one: its writer still runs, or was killed.
    Open,
    /// The file is of a former kind, which has no end mark.
    Unknown,
}

/// The state of a file of answers that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcksRead {
    /// Whether the last line was cut off, as it is when its writer was killed. It is not counted.
    pub cut: bool,
    /// Whether the file has lines of runs, and seconds; the first kind ([`ACKS_HEADER_V1`]) has not.
    pub timed: bool,
    /// Whether the run is over.
    pub ending: Ending,
}

/// The state of a file of stored ids that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRead {
    /// Whether the last line was cut off, as it is when its writer was killed. It is not counted.
    pub cut: bool,
    /// Whether the ids were to be written at the end only ([`STORED_AT_END_HEADER`]).
    pub at_end: bool,
    /// Whether the emulator has ended.
    pub ending: Ending,
}

/// Calls `found` with each answer in a file of answers.
/// Returns whether the last line was cut off, as it is when its writer was killed.
///
/// # Errors
/// When the file cannot be read, is no file of answers, or has a damaged line.
pub fn read_acks(path: &Path, mut found: impl FnMut(Ack)) -> Result<bool, LedgerError> {
    let read = read_ack_lines(path, |line| {
        if let AckLine::Ack(ack) = line {
            found(ack);
        }
    })?;
    Ok(read.cut)
}

/// Calls `found` with each line of a file of answers.
///
/// # Errors
/// When the file cannot be read, is no file of answers, has a damaged line, or a request of a run
/// that no line before it introduced.
pub fn read_ack_lines(
    path: &Path,
    mut found: impl FnMut(AckLine),
) -> Result<AcksRead, LedgerError> {
    let mut runs = HashSet::new();
    let mut unknown_run = None;
    let headers = [ACKS_HEADER, ACKS_HEADER_V2, ACKS_HEADER_V1];
    let read = read_lines(path, &headers, &[ACKS_HEADER], |header, line| {
        let timed = header != ACKS_HEADER_V1;
        let Ok(line) = std::str::from_utf8(line) else {
            return false;
        };
        if timed && let Some(run) = RunStart::parse(line) {
            runs.insert(run.run);
            found(AckLine::Run(run));
            return true;
        }
        match Ack::parse(line, timed) {
            Some(ack) if timed && !runs.contains(&ack.run) => {
                unknown_run = Some(ack.run);
                false
            }
            Some(ack) => {
                found(AckLine::Ack(ack));
                true
            }
            None => false,
        }
    });
    match (read, unknown_run) {
        (Err(LedgerError::Line { path, line }), Some(run)) => {
            Err(LedgerError::Run { path, line, run })
        }
        (read, _) => {
            let read = read?;
            Ok(AcksRead {
                cut: read.cut,
                timed: read.header != ACKS_HEADER_V1,
                ending: read.ending,
            })
        }
    }
}

/// Calls `found` with each id in a file of stored ids.
///
/// # Errors
/// When the file cannot be read, is no file of stored ids, or has a damaged line.
pub fn read_stored(path: &Path, mut found: impl FnMut(EventId)) -> Result<StoredRead, LedgerError> {
    let headers = [STORED_HEADER, STORED_AT_END_HEADER, STORED_HEADER_V1];
    let read = read_lines(path, &headers, &headers[..2], |_, line| {
        EventId::parse(line).map(&mut found).is_some()
    })?;
    Ok(StoredRead {
        cut: read.cut,
        at_end: read.header == STORED_AT_END_HEADER,
        ending: read.ending,
    })
}

/// Whether a file's last line is the end mark. Reads no more than that line.
///
/// # Errors
/// When the file cannot be read.
pub fn has_end_mark(path: &Path) -> Result<bool, LedgerError> {
    let io = |source| LedgerError::Io {
        path: path.to_owned(),
        source,
    };
    let mark = format!("\n{END}\n").into_bytes();
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let Some(from) = length.checked_sub(mark.len() as u64) else {
        return Ok(false);
    };
    file.seek(SeekFrom::Start(from)).map_err(io)?;
    let mut last = Vec::new();
    file.take(mark.len() as u64)
        .read_to_end(&mut last)
        .map_err(io)?;
    Ok(last == mark)
}

struct LinesRead {
    header: &'static str,
    cut: bool,
    ending: Ending,
}

/// Calls `take` with the first line, which is one of `headers`, and each line after it. Files of the
/// kinds in `marked` have an end mark, which is not given to `take` and which nothing may follow.
fn read_lines(
    path: &Path,
    headers: &[&'static str],
    marked: &[&'static str],
    mut take: impl FnMut(&str, &[u8]) -> bool,
) -> Result<LinesRead, LedgerError> {
    let io = |source| LedgerError::Io {
        path: path.to_owned(),
        source,
    };
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?);
    let mut line = Vec::new();
    let mut number = 0;
    let mut read = LinesRead {
        header: "",
        cut: false,
        ending: Ending::Unknown,
    };
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64;
        let count = io::Read::take(&mut reader, limit).read_until(b'\n', &mut line);
        if count.map_err(io)? == 0 && number > 0 {
            return Ok(read);
        }
        number += 1;
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        if number == 1 {
            let known = headers.iter().find(|known| line == known.as_bytes());
            read.header = match known {
                Some(known) if whole => known,
                _ => {
                    return Err(LedgerError::Header {
                        path: path.to_owned(),
                        expected: headers.first().copied().unwrap_or_default(),
                    });
                }
            };
            if marked.contains(&read.header) {
                read.ending = Ending::Open;
            }
            continue;
        }
        let ended = read.ending == Ending::Ended;
        if !whole && line.len() < LINE_BYTES_MAX && !ended {
            read.cut = true;
            return Ok(read);
        }
        if whole && line == END.as_bytes() && read.ending == Ending::Open {
            read.ending = Ending::Ended;
            continue;
        }
        if !whole || ended || !take(read.header, &line) {
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
            second: Some(77),
            status,
            refused: refused.to_vec(),
        }
    }

    const RUN: &str = "run 000000ab 1763000000 web";

    fn run() -> RunStart {
        RunStart {
            run: 0xab,
            start: 1_763_000_000,
            profile: "web".to_owned(),
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
        let ledger = create_acks(file.path(), &run()).unwrap();
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
        ledger.finish().unwrap();
        let mut read = Vec::new();
        let end = read_ack_lines(file.path(), |line| read.push(line)).unwrap();
        let expected: Vec<AckLine> = std::iter::once(AckLine::Run(run()))
            .chain(acks.map(AckLine::Ack))
            .collect();
        assert_eq!(read, expected);
        assert_eq!(
            end,
            AcksRead {
                cut: false,
                timed: true,
                ending: Ending::Ended,
            }
        );
    }

    #[test]
    fn files_of_the_kind_before_have_no_end_mark() {
        let line = "000000ab 000000001000 20 7 200";
        let before = file(&format!("{ACKS_HEADER_V2}\n{RUN}\n{line}\n"));
        let read = read_ack_lines(before.path(), |_| {}).unwrap();
        assert_eq!((read.timed, read.ending), (true, Ending::Unknown));
        let marked = file(&format!("{ACKS_HEADER_V2}\n{RUN}\n{line}\nend\n"));
        assert!(read_acks(marked.path(), |_| {}).is_err());
    }

    #[test]
    fn v1_ack_files_are_read_without_seconds() {
        let old = file(&format!(
            "{ACKS_HEADER_V1}\n000000ab 000000001000 20 200 0,7\n000000ab 000000001014 1 - reset\n"
        ));
        let mut read = Vec::new();
        let end = read_ack_lines(old.path(), |line| read.push(line)).unwrap();
        let first = Ack {
            second: None,
            ..ack(Some(200), &[0, 7])
        };
        assert_eq!(read[0], AckLine::Ack(first));
        assert_eq!((read.len(), end.timed, end.cut), (2, false, false));
        let mixed = file(&format!("{ACKS_HEADER_V1}\n{RUN}\n"));
        assert!(read_acks(mixed.path(), |_| {}).is_err());
    }

    #[test]
    fn an_event_takes_at_most_64_bytes_in_both_ledgers() {
        let mut line = Vec::new();
        let ack = Ack {
            run: u32::MAX,
            first: EventId::SEQ_END - 1,
            count: 1,
            second: Some(7 * 86_400),
            status: Some(200),
            refused: vec![],
        };
        ack.write_answer(&mut line, 200);
        let stored = EventId::LEN + "\n".len();
        assert!(line.len() + stored <= 64, "{}", line.len());
    }

    #[test]
    fn a_request_of_a_run_without_its_line_is_named() {
        let other_run = file(&format!(
            "{ACKS_HEADER}\n{RUN}\n000000ac 000000001000 1 0 200\n"
        ));
        let error = read_acks(other_run.path(), |_| {}).unwrap_err();
        assert!(
            error.to_string().contains("line 3: run 000000ac has no"),
            "{error}"
        );
    }

    #[test]
    fn stored_ids_survive_writing_and_reading() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ledger = LineFile::create(file.path(), STORED_HEADER).unwrap();
        let ids = [1, 2, 2].map(|seq| EventId { run: 9, seq });
        ids.iter().for_each(|id| ledger.push_id(*id));
        ledger.flush().unwrap();
        let mut read = Vec::new();
        let open = StoredRead {
            cut: false,
            at_end: false,
            ending: Ending::Open,
        };
        assert_eq!(read_stored(file.path(), |id| read.push(id)).unwrap(), open);
        assert_eq!(read, ids);
    }

    #[test]
    fn the_end_mark_is_the_last_line_of_a_ledger() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let ending = || read_stored(path, |_| {}).unwrap().ending;
        let ledger = LineFile::create(path, STORED_AT_END_HEADER).unwrap();
        assert!(!has_end_mark(path).unwrap());
        ledger.push_id(EventId { run: 9, seq: 1 });
        ledger.flush().unwrap();
        assert!(!has_end_mark(path).unwrap());
        assert_eq!(ending(), Ending::Open);
        ledger.finish().unwrap();
        assert!(has_end_mark(path).unwrap());
        assert_eq!(ending(), Ending::Ended);
        ledger.push_id(EventId { run: 9, seq: 2 });
        ledger.flush().unwrap();
        let error = read_stored(path, |_| {}).unwrap_err();
        assert!(
            matches!(error, LedgerError::Line { line: 4, .. }),
            "{error}"
        );
        let former = self::file(&format!("{STORED_HEADER_V1}\n"));
        let read = read_stored(former.path(), |_| {}).unwrap();
        assert_eq!(read.ending, Ending::Unknown);
        let former = self::file(&format!("{STORED_HEADER_V1}\nend\n"));
        assert!(read_stored(former.path(), |_| {}).is_err());
    }

    #[test]
    fn a_truncated_last_line_is_reported_and_not_counted() {
        let cut = file(&format!(
            "{ACKS_HEADER}\n{RUN}\n000000ab 000000001000 20 0 200\n000000ab 0000"
        ));
        let mut count = 0;
        assert!(read_acks(cut.path(), |_| count += 1).unwrap());
        assert_eq!(count, 1);
        let early = file(&format!("{ACKS_HEADER}\nrun 0000"));
        assert!(read_acks(early.path(), |_| {}).unwrap());
    }

    #[test]
    fn a_wrong_header_line_is_refused() {
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
            "000000ab 000000001000 0 0 200",
            "000000ab 000000001000 100001 0 200",
            "000000ab 000000001000 20 0 99",
            "000000ab 000000001000 20 0 200 20",
            "000000ab 000000001000 20 0 200 1 2",
            "000000ab 000000001000 20 0 -",
            "000000ab 000000001000 20 4294967296 200",
            "000000ab 000000001000 20 -1 200",
            "ab 000000001000 20 0 200",
            "000000ab ffffffffffff 2 0 200",
            "run 000000ab 1099511627776 web",
            "run 000000ab 1 ",
            "run 000000ab 1 We",
            "run ab 1 web",
            "run 000000ab 1 web more",
            "",
        ] {
            let damaged = file(&format!("{ACKS_HEADER}\n{RUN}\n{line}\n"));
            let error = read_acks(damaged.path(), |_| {}).unwrap_err();
            assert!(
                matches!(error, LedgerError::Line { line: 3, .. }),
                "{line}: {error}"
            );
        }
        let limit = format!("{ACKS_HEADER}\n{RUN}\n000000ab 000000001000 100000 0 200\n");
        assert!(read_acks(file(&limit).path(), |_| {}).is_ok());
        let long = format!("{ACKS_HEADER}\nrun 000000ab 1 {}\n", "x".repeat(65));
        assert!(read_acks(file(&long).path(), |_| {}).is_err());
        let endless = format!("{ACKS_HEADER}\n{}", "x".repeat(LINE_BYTES_MAX + 1));
        assert!(read_acks(file(&endless).path(), |_| {}).is_err());
    }
}
