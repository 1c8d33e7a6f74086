//! Reads the input files of a report, up to a size limit, and refuses other files.

use crate::audit::AuditReport;
use crate::run::{REPORT_FORMAT, Report, WatchedProcess};
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

/// Largest time, rate or share that is taken for one: 30 years in microseconds.
const NUMBER_MAX: f64 = 1e15;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
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
    /// A file has the wrong content.
    #[error("{} is no {what}: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The expected content.
        what: &'static str,
        /// The reason.
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
    /// A condition of `--fail-if` can be neither met nor missed.
    #[error("--fail-if {condition}: {reason}")]
    Undecided {
        /// The condition.
        condition: String,
        /// What is missing.
        reason: String,
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

/// The report of a run; its numbers are plausible.
pub(super) fn run(path: &Path) -> Result<Report, ReportError> {
    /// The field that identifies a report.
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
    check(&report).map_err(|reason| wrong(path, WHAT, reason))?;
    if report.answered == 0 {
        return Err(ReportError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(report)
}

/// Time must increase, and stay within the range of a plot.
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

/// Times, rates and shares are not below 0, and not so large that sums of them are infinite.
fn check_numbers(name: &str, numbers: &[f64]) -> Result<(), String> {
    match numbers.iter().find(|n| !(0.0..=NUMBER_MAX).contains(*n)) {
        Some(number) => Err(format!(
            "{name} has {number:e}: 0 to {NUMBER_MAX:e} was expected"
        )),
        None => Ok(()),
    }
}

fn check(report: &Report) -> Result<(), String> {
    let generator = &report.generator;
    let figures = [
        report.seconds,
        report.answered_per_second,
        report.events_ok_per_second,
        generator.cpu_us_per_request,
        generator.busy_share_max,
        generator.cpu_wait_seconds,
        generator.cpu_share_max,
        generator.stolen_share,
        generator.throttled_seconds,
        report.load.rate.unwrap_or(0.0),
    ];
    check_numbers("the run", &figures)?;
    let latencies = [
        report.latency_from_intended_start,
        Some(report.latency_from_start),
        report.schedule_slip,
        Some(report.tcp_connect),
        report.tls_handshake,
    ];
    for l in latencies.into_iter().flatten() {
        let of_all = [l.mean_us, l.p50_us, l.p90_us, l.p99_us];
        check_numbers("a latency", &of_all)?;
        check_numbers("a latency", &[l.p99_9_us, l.p99_99_us, l.max_us])?;
    }
    check_times("series", report.series.iter().map(|second| second.at))?;
    for second in &report.series {
        let s = second;
        let percentiles = [s.p50_us, s.p90_us, s.p99_us, s.p99_9_us, s.p99_99_us];
        check_numbers("series", &percentiles)?;
        let from_start = [
            s.p50_from_start_us,
            s.p99_from_start_us,
            s.max_from_start_us,
        ];
        let others = [Some(s.max_us), s.slip_p99_us]
            .into_iter()
            .chain(from_start);
        check_numbers("series", &others.flatten().collect::<Vec<_>>())?;
    }
    report.watched.iter().try_for_each(check_process)
}

fn check_process(process: &WatchedProcess) -> Result<(), String> {
    let name = format!("samples of process {}", process.pid);
    check_times(&name, process.samples.iter().map(|sample| sample.at))?;
    let cores: Vec<f64> = process.samples.iter().map(|s| s.cpu_cores).collect();
    check_numbers(&name, &cores)
}

/// An audit's report.
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
