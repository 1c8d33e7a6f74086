//! The record of a comparison: every sample, the medians, and the environment.

use crate::measure::Sample;
use crate::workload::Workload;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::fs;
use std::process::Command;

/// Where figures came from.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Describes this machine. Unknown values are `unknown`.
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
    /// Every round, in order; empty where one failed.
    pub samples: Vec<Sample>,
    /// Why there is no figure.
    pub error: Option<String>,
}

impl Cell {
    /// Adds a round's result. After the first failure there is no figure.
    pub fn take(&mut self, outcome: Result<Sample, String>) {
        match outcome {
            Ok(sample) if self.error.is_none() => self.samples.push(sample),
            Ok(_) => {}
            Err(error) => {
                self.samples.clear();
                self.error.get_or_insert(error);
            }
        }
    }
}

/// A peer that took part, or was to.
#[derive(Clone, Debug, Serialize)]
pub struct PeerNote {
    /// Its row's name.
    pub name: String,
    /// Its description.
    pub about: String,
    /// Output of its version commands; empty for the programs of this repository.
    pub version: String,
    /// Why it was skipped, if it was.
    pub skipped: Option<String>,
}

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Where it came from.
    pub origin: Origin,
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// Peers by name.
    pub peers: Vec<PeerNote>,
    /// Seconds per sample.
    pub seconds: u64,
    /// Times that every workload met every peer.
    pub rounds: u64,
    /// Everything measured.
    pub cells: Vec<Cell>,
}

/// The peer that ratios are taken to.
pub const FLOOR: &str = "limit";

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

/// A peer that answered less than this share of the asked rate did not hold it.
const RATE_HELD: f64 = 0.98;

/// The lowest and the highest value; 0 without values.
#[must_use]
pub fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    values
        .into_iter()
        .fold(None, |seen: Option<(f64, f64)>, value| {
            let (low, high) = seen.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })
        .unwrap_or_default()
}

impl Record {
    /// The table: medians over the rounds with the lowest and the highest round's CPU per request, and
    /// each round's CPU per request as a ratio to [`FLOOR`] of the same round; then who took part.
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
        let mut text = format!(
            "{cpu}, {cores} cores, Linux {kernel}, commit {commit}, {date}, load before {load_before}\n\n\
             `{command}`: {} rounds of {} s, medians; in brackets the lowest and the highest round; \
             ratio: CPU per request against `{FLOOR}`, round by round\n\n\
             | workload | peer | requests/s | CPU us/request | ratio | p50 ms | p99 ms | memory MiB |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
            self.rounds, self.seconds
        );
        let mut marked = false;
        for cell in &self.cells {
            let Cell { workload, peer, .. } = cell;
            // Writing to a String cannot fail.
            if let Some(error) = &cell.error {
                let line = error.lines().next().unwrap_or_default().replace('|', "/");
                let _ = writeln!(
                    text,
                    "| {workload} | {peer} | no figure: {line} | | | | | |"
                );
                continue;
            }
            let of = |value: fn(&Sample) -> f64| median(cell.samples.iter().map(value));
            let (low, high) = range(cell.samples.iter().map(|sample| sample.cpu_us_per_request));
            let mark = if cell
                .samples
                .iter()
                .any(|sample| sample.generator_is_bottleneck)
            {
                marked = true;
                "*"
            } else {
                ""
            };
            let rate = of(|sample| sample.requests_per_second);
            let missed = self.missed(workload, rate).unwrap_or_default();
            let _ = writeln!(
                text,
                "| {workload} | {peer} | {rate:.0}{missed}{mark} | {:.2} ({low:.2}-{high:.2}) | {} | {:.2} | {:.2} | {:.1} |",
                of(|sample| sample.cpu_us_per_request),
                self.ratio(cell)
                    .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                of(|sample| sample.p50_us) / 1e3,
                of(|sample| sample.p99_us) / 1e3,
                of(|sample| sample.resident_bytes as f64) / 1_048_576.0,
            );
        }
        if marked {
            text.push_str("\n\\* the generator was the bottleneck in a round: the rate is not the peer's limit\n");
        }
        text.push_str(&self.syncs());
        text.push('\n');
        for peer in &self.peers {
            let version = match (&peer.skipped, peer.version.as_str()) {
                (Some(why), _) => format!("; skipped: {why}"),
                (None, "") => String::new(),
                (None, version) => format!("; {version}"),
            };
            let _ = writeln!(text, "- `{}`: {}{version}", peer.name, peer.about);
        }
        text
    }

    /// A second table: how often records were made durable, of peers that count it. Empty without.
    fn syncs(&self) -> String {
        let mut text = String::new();
        for cell in &self.cells {
            let syncs: Vec<f64> = cell
                .samples
                .iter()
                .filter_map(|sample| sample.syncs_per_second)
                .collect();
            if syncs.is_empty() {
                continue;
            }
            if text.is_empty() {
                text.push_str(
                    "\n| workload | peer | fsyncs/s | requests per fsync |\n| --- | --- | ---: | ---: |\n",
                );
            }
            let rate = median(cell.samples.iter().map(|sample| sample.requests_per_second));
            let syncs = median(syncs);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {syncs:.0} | {:.1} |",
                cell.workload,
                cell.peer,
                rate / syncs
            );
        }
        text
    }

    /// The offered rate, where a peer fell short of it: then peers did not have the same load.
    fn missed(&self, workload: &str, rate: f64) -> Option<String> {
        let workload = self.workloads.iter().find(|other| other.name == workload)?;
        let wanted = workload.rate?;
        (rate < f64::from(wanted) * RATE_HELD).then(|| format!(" of {wanted}"))
    }

    /// Median over the rounds of the cell's CPU per request against the floor's in the same round.
    fn ratio(&self, cell: &Cell) -> Option<f64> {
        let floor = self
            .cells
            .iter()
            .find(|other| other.workload == cell.workload && other.peer == FLOOR)?;
        let ratios: Vec<f64> = cell
            .samples
            .iter()
            .zip(&floor.samples)
            // A round too short for one tick of CPU has nothing to compare with.
            .filter(|(_, floor)| floor.cpu_us_per_request > 0.0)
            .map(|(sample, floor)| sample.cpu_us_per_request / floor.cpu_us_per_request)
            .collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_the_mean() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }

    fn sample(cpu: f64) -> Sample {
        Sample {
            requests_per_second: 100.0,
            cpu_us_per_request: cpu,
            generator_cpu_us_per_request: 1.0,
            generator_is_bottleneck: false,
            p50_us: 1_000.0,
            p99_us: 2_000.0,
            resident_bytes: 1_048_576,
            syncs_per_second: None,
            events: 0,
        }
    }

    fn record(cells: Vec<(&str, Vec<Result<Sample, String>>)>) -> String {
        let origin = Origin::here();
        let cells = cells
            .into_iter()
            .map(|(peer, outcomes)| {
                let mut cell = Cell {
                    workload: "w".to_owned(),
                    peer: peer.to_owned(),
                    samples: Vec::new(),
                    error: None,
                };
                outcomes.into_iter().for_each(|outcome| cell.take(outcome));
                cell
            })
            .collect();
        let note = |name: &str, skipped: Option<&str>| PeerNote {
            name: name.to_owned(),
            about: "a peer".to_owned(),
            version: "odd 1.2".to_owned(),
            skipped: skipped.map(str::to_owned),
        };
        let peers = vec![note("odd", None), note("gone", Some("no program gone"))];
        let record = Record {
            origin,
            workloads: vec![
                toml::from_str::<Workload>(
                    "connections = 1\nrate = 101\nmode = 'event'\nbatch = 1\nevent_bytes = 9\n\
                     [expect]\naccepted = 1\nrejected = 0\n",
                )
                .map(|workload| Workload {
                    name: "w".to_owned(),
                    ..workload
                })
                .unwrap(),
            ],
            peers,
            seconds: 1,
            rounds: 2,
            cells,
        };
        record.to_markdown()
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_noise_is_shown() {
        let ok = |cpu| Ok(sample(cpu));
        let table = record(vec![
            (FLOOR, vec![ok(2.0), ok(4.0)]),
            ("odd", vec![ok(6.0), ok(4.0)]),
        ]);
        assert!(
            table.contains("| w | odd | 100 | 5.00 (4.00-6.00) | 2.00 |"),
            "{table}"
        );
    }

    #[test]
    fn missed_rates_and_generator_limits_are_marked() {
        let table = record(vec![(
            "odd",
            vec![Ok(Sample {
                requests_per_second: 90.0,
                generator_is_bottleneck: true,
                ..sample(2.0)
            })],
        )]);
        assert!(table.contains("| w | odd | 90 of 101* |"), "{table}");
        assert!(
            table.contains("the generator was the bottleneck"),
            "{table}"
        );
    }

    #[test]
    fn fsyncs_have_a_table_where_a_peer_counts_them() {
        let with = |syncs| {
            Ok(Sample {
                syncs_per_second: Some(syncs),
                ..sample(2.0)
            })
        };
        let table = record(vec![
            (FLOOR, vec![Ok(sample(2.0))]),
            ("odd", vec![with(10.0), with(20.0), with(40.0)]),
        ]);
        assert!(table.contains("| w | odd | 20 | 5.0 |"), "{table}");
        assert!(!record(vec![(FLOOR, vec![Ok(sample(2.0))])]).contains("fsyncs"));
    }

    #[test]
    fn a_cell_that_went_wrong_once_has_no_figure() {
        let table = record(vec![(
            "odd",
            vec![
                Ok(sample(2.0)),
                Err("wrong | counts".to_owned()),
                Ok(sample(2.0)),
            ],
        )]);
        assert!(
            table.contains("| w | odd | no figure: wrong / counts |"),
            "{table}"
        );
        assert!(!table.contains("2.00"), "{table}");
    }

    #[test]
    fn versions_and_skipped_peers_are_named() {
        let table = record(vec![("odd", vec![Ok(sample(2.0))])]);
        assert!(table.contains("- `odd`: a peer; odd 1.2"), "{table}");
        assert!(
            table.contains("- `gone`: a peer; skipped: no program gone"),
            "{table}"
        );
        assert!(table.contains("| - |"), "no floor, no ratio: {table}");
    }
}
