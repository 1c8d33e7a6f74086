//! What is kept of a comparison: every sample, the medians, and where they came from.

use crate::measure::Sample;
use crate::workload::Workload;
use serde::Serialize;
use std::fmt::Write;
use std::fs;
use std::process::Command;

/// Where figures came from.
#[derive(Clone, Debug, Serialize)]
pub struct Origin {
    /// Model name of the processor.
    pub cpu: String,
    /// Cores that the process may use.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// Commit of the checkout, with `+` behind it if files differ from it.
    pub commit: String,
    /// The command line.
    pub command: String,
    /// When it ended, UTC.
    pub date: String,
    /// The one-minute load average before the first round.
    pub load_before: String,
}

impl Origin {
    /// Looks around on this machine. What cannot be found out is `unknown`.
    #[must_use]
    pub fn here() -> Origin {
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| {
            info.lines().find_map(|line| {
                Some(
                    line.strip_prefix("model name")?
                        .split(": ")
                        .nth(1)?
                        .to_owned(),
                )
            })
        });
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        let load = fs::read_to_string("/proc/loadavg").ok();
        let commit = first_line("git", &["rev-parse", "--short=12", "HEAD"]);
        // Records of earlier runs may lie there uncommitted; they do not change what is measured.
        let differs = first_line(
            "git",
            &["status", "--porcelain", "--", ".", ":!bench-harness/record"],
        );
        let unknown = || "unknown".to_owned();
        Origin {
            cpu: cpu.unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel.map_or_else(unknown, |kernel| kernel.trim().to_owned()),
            commit: commit.map_or_else(unknown, |commit| {
                commit + if differs.is_some() { "+" } else { "" }
            }),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            date: first_line("date", &["-u", "+%Y-%m-%dT%H:%MZ"]).unwrap_or_else(unknown),
            load_before: load
                .and_then(|load| Some(load.split(' ').next()?.to_owned()))
                .unwrap_or_else(unknown),
        }
    }
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.to_owned())
}

/// One workload against one peer.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The workload's name.
    pub workload: String,
    /// The peer's name.
    pub peer: String,
    /// Every round, in order.
    pub samples: Vec<Sample>,
}

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Where it came from.
    pub origin: Origin,
    /// What was sent.
    pub workloads: Vec<Workload>,
    /// Peers by name, with what they are.
    pub peers: Vec<(String, String)>,
    /// Seconds per sample.
    pub seconds: u64,
    /// Everything measured.
    pub cells: Vec<Cell>,
}

/// The middle of the values; the mean of the two middle ones for an even count. 0 without values.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

impl Record {
    /// The table: medians over the rounds, and each round's CPU per request as a ratio to the peer
    /// `limit` of the same round.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let Origin {
            cpu,
            cores,
            kernel,
            commit,
            command,
            date,
            load_before,
        } = &self.origin;
        let rounds = self.cells.first().map_or(0, |cell| cell.samples.len());
        let mut text = format!(
            "{cpu}, {cores} cores, Linux {kernel}, commit {commit}, {date}, load before {load_before}\n\n\
             `{command}`: {rounds} rounds of {} s, medians; ratio: CPU per request against `limit`, round by round\n\n\
             | workload | peer | requests/s | CPU us/request | ratio | p50 ms | p99 ms | resident MiB |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
            self.seconds
        );
        for cell in &self.cells {
            let of = |value: fn(&Sample) -> f64| median(cell.samples.iter().map(value));
            let limit = self
                .cells
                .iter()
                .find(|other| other.workload == cell.workload && other.peer == "limit");
            let ratio = limit.map_or(0.0, |limit| {
                median(
                    cell.samples
                        .iter()
                        .zip(&limit.samples)
                        .map(|(sample, limit)| {
                            sample.cpu_us_per_request / limit.cpu_us_per_request
                        }),
                )
            });
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.2} | {ratio:.2} | {:.2} | {:.2} | {:.1} |",
                cell.workload,
                cell.peer,
                of(|sample| sample.requests_per_second),
                of(|sample| sample.cpu_us_per_request),
                of(|sample| sample.p50_us) / 1e3,
                of(|sample| sample.p99_us) / 1e3,
                of(|sample| sample.resident_bytes as f64) / 1_048_576.0,
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_values() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }
}
