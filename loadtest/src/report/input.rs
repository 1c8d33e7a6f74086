//! Reads the files that a report is made of, with a bound, and refuses what is none of them.

use crate::audit::AuditReport;
use crate::run::{REPORT_FORMAT, Report, Second, WatchedProcess};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Largest file that is read: a run of ten days is smaller.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// Largest report of an audit, and largest statistics of an emulator, that are read.
pub const SMALL_FILE_BYTES_MAX: u64 = 16 << 20;

/// Latest second that a series may have: two months, which is more than a run may take.
const AT_MAX: f64 = 60.0 * 86_400.0;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file is too large to be one of ours.
    #[error("{}: larger than {limit} bytes, namely {actual}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
        /// Its size.
        actual: u64,
    },
    /// A file is not what it should be.
    #[error("{} is no {what}: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to show.
    #[error("{}: no request of this run was answered, there is nothing to report", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The runs to compare are too many, or too few.
    #[error("{what}: between {min} and {max}, not {actual}")]
    Range {
        /// What is counted.
        what: String,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
        /// As given.
        actual: usize,
    },
    /// A plot could not be drawn.
    #[error("drawing: {0}")]
    Draw(String),
}

fn wrong(path: &Path, what: &'static str, reason: impl ToString) -> ReportError {
    ReportError::Wrong {
        path: path.to_owned(),
        what,
        reason: reason.to_string(),
    }
}

fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, ReportError> {
    let io = |source| ReportError::Io {
        path: path.to_owned(),
        source,
    };
    let too_large = |actual| ReportError::TooLarge {
        path: path.to_owned(),
        limit,
        actual,
    };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size > limit {
        return Err(too_large(size));
    }
    let mut bytes = Vec::new();
    // A pipe has no size, and a file may grow while it is read.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 {
        actual if actual > limit => Err(too_large(actual)),
        _ => Ok(bytes),
    }
}

fn json<T: DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    what: &'static str,
) -> Result<T, ReportError> {
    serde_json::from_slice(bytes).map_err(|error| wrong(path, what, error))
}

/// The report of a run, whose numbers make sense.
pub(super) fn run(path: &Path) -> Result<Report, ReportError> {
    /// What tells a report from other JSON.
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    const WHAT: &str = "report of a run";
    let bytes = bytes(path, FILE_BYTES_MAX)?;
    let head: Head = json(path, &bytes, WHAT)?;
    if head.format != REPORT_FORMAT {
        let reason = format!("format is {:?}, not {REPORT_FORMAT:?}", head.format);
        return Err(wrong(path, WHAT, reason));
    }
    let report: Report = json(path, &bytes, WHAT)?;
    check_series(&report.series).map_err(|reason| wrong(path, WHAT, reason))?;
    for process in &report.watched {
        check_process(process).map_err(|reason| wrong(path, WHAT, reason))?;
    }
    if report.answered == 0 {
        return Err(ReportError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(report)
}

/// Time must go forward, and stay within what a plot can show.
fn check_times(name: &str, times: impl Iterator<Item = f64>) -> Result<(), String> {
    let mut last = 0.0;
    for (index, at) in times.enumerate() {
        if !(at > last && at <= AT_MAX) {
            return Err(format!(
                "{name}[{index}] is at {at} s: after {last} s and up to {AT_MAX} s was expected"
            ));
        }
        last = at;
    }
    Ok(())
}

fn check_series(series: &[Second]) -> Result<(), String> {
    check_times("series", series.iter().map(|second| second.at))
}

fn check_process(process: &WatchedProcess) -> Result<(), String> {
    let name = format!("samples of process {}", process.pid);
    check_times(&name, process.samples.iter().map(|sample| sample.at))
}

/// What an audit found.
pub(super) fn audit(path: &Path) -> Result<AuditReport, ReportError> {
    json(
        path,
        &bytes(path, SMALL_FILE_BYTES_MAX)?,
        "report of an audit",
    )
}

/// An emulator's counters, whichever emulator it is.
pub(super) fn stats(
    path: &Path,
) -> Result<serde_json::Map<String, serde_json::Value>, ReportError> {
    json(
        path,
        &bytes(path, SMALL_FILE_BYTES_MAX)?,
        "statistics of an emulator",
    )
}
