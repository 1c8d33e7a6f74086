//! The findings of one run: its numbers, the verdict, the audit's and the emulator's counts, as the JSON
//! that the page is written from.

use super::curve::{self, CurvePoint};
use super::input::{self, ReportError};
use super::timeline;
use crate::audit::AuditReport;
use crate::run::{Latency, Report};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The format field of the JSON: tool and version of the format.
pub const FINDINGS_FORMAT: &str = "sluice-loadtest report v1";

/// Counters of an emulator that are shown; more would be no page to read.
const COUNTERS_MAX: usize = 500;

/// How deep an emulator's statistics are looked into.
const DEPTH_MAX: usize = 8;

/// Counters with one of these in their name count billed units.
const BILLED: [&str; 2] = ["bill", "cost"];

/// One run, with its audit and its emulator counters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    /// [`FINDINGS_FORMAT`].
    pub format: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// Share of the requests due that failed, 0 to 1: answered without success, never answered, or never sent. Requests in flight at an interrupt are among them.
    pub error_share: f64,
    /// CPU and memory of the watched processes.
    pub usage: Vec<Usage>,
    /// CPU microseconds of all watched processes per answered request; absent when none was
    /// watched.
    pub cpu_us_per_request: Option<f64>,
    /// Percentile curve from the intended start; empty when the run kept none.
    pub curve_from_intended_start: Vec<CurvePoint>,
    /// Percentile curve from the real start; empty when the run kept none.
    pub curve_from_start: Vec<CurvePoint>,
    /// The emulator's billing counters.
    pub cost_meter: Vec<Meter>,
    /// Its other counters.
    pub counters: Vec<Meter>,
    /// Counters beyond those that are shown.
    pub counters_left_out: usize,
    /// The audit's report.
    pub audit: Option<AuditReport>,
    /// The run itself.
    pub run: Report,
}

/// The verdict on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether every promise was kept; absent without an audit.
    pub promises_kept: Option<bool>,
    /// Whether every request that was due was answered with success, and all its events accepted.
    pub all_ok: bool,
    /// Whether the figures show the generator's limits.
    pub generator_was_bottleneck: bool,
    /// Whether the machine gave the generator so little CPU, or so late, that latencies show it.
    pub generator_was_starved: bool,
    /// Whether the run ended before its time.
    pub interrupted: bool,
}

/// CPU and memory of a watched process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// CPU seconds.
    pub cpu_seconds: f64,
    /// The largest CPU use of a sample, in cores.
    pub cpu_cores_max: f64,
    /// CPU microseconds per answered request.
    pub cpu_us_per_request: f64,
    /// Largest resident memory in bytes.
    pub rss_bytes_max: u64,
}

/// A counter or state of an emulator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Meter {
    /// Its path in the statistics, names joined by dots.
    pub name: String,
    /// Its value: a number, or text.
    pub value: Value,
}

/// Reads a run, its audit and its emulator counters.
///
/// # Errors
/// When a file cannot be read, is too large or has the wrong content, and when the run has no
/// answer.
pub fn findings(
    run: &Path,
    audit: Option<&Path>,
    stats: Option<&Path>,
) -> Result<Findings, ReportError> {
    let path = run;
    let run = input::run(path)?;
    let audit = audit.map(input::audit).transpose()?;
    let stats = stats.map(input::stats).transpose()?.unwrap_or_default();
    let curve_of = |histogram: Option<&str>| match histogram {
        None | Some("") => Ok(Vec::new()),
        Some(text) => curve::curve(text).map_err(|reason| ReportError::Wrong {
            path: path.to_owned(),
            what: "report of a run",
            reason,
        }),
    };
    let (cost_meter, counters, counters_left_out) = meters(&stats);
    Ok(Findings {
        format: FINDINGS_FORMAT,
        verdict: Verdict {
            promises_kept: audit.as_ref().map(AuditReport::holds),
            all_ok: run.all_ok(),
            generator_was_bottleneck: run.generator.is_bottleneck,
            generator_was_starved: run.generator.is_starved,
            interrupted: run.interrupted,
        },
        error_share: run.error_share(),
        usage: usage(&run),
        cpu_us_per_request: cpu_us_per_request(&run),
        curve_from_intended_start: curve_of(run.histogram_from_intended_start.as_deref())?,
        curve_from_start: curve_of(Some(&run.histogram_from_start))?,
        cost_meter,
        counters,
        counters_left_out,
        audit,
        run,
    })
}

impl Findings {
    /// Latencies that count: from the intended start where there is one.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        let run = &self.run;
        run.latency_from_intended_start
            .as_ref()
            .unwrap_or(&run.latency_from_start)
    }
}

fn usage(run: &Report) -> Vec<Usage> {
    run.watched
        .iter()
        .map(|process| {
            let cpu_seconds = timeline::cpu_seconds(&process.samples);
            let samples = process.samples.iter();
            Usage {
                pid: process.pid,
                name: process.name.clone(),
                cpu_seconds,
                cpu_cores_max: samples.clone().map(|s| s.cpu_cores).fold(0.0, f64::max),
                cpu_us_per_request: cpu_seconds * 1e6 / run.answered as f64,
                rss_bytes_max: samples.map(|s| s.rss_bytes).max().unwrap_or(0),
            }
        })
        .collect()
}

fn cpu_us_per_request(run: &Report) -> Option<f64> {
    let usage = usage(run);
    let sampled = run
        .watched
        .iter()
        .any(|process| !process.samples.is_empty());
    sampled.then(|| usage.iter().map(|process| process.cpu_us_per_request).sum())
}

/// The values in an emulator's statistics: billed ones, the others, and how many are left out.
fn meters(stats: &Map<String, Value>) -> (Vec<Meter>, Vec<Meter>, usize) {
    let mut all = Vec::new();
    for (name, value) in stats {
        collect(name, value, 0, &mut all);
    }
    let left_out = all.len().saturating_sub(COUNTERS_MAX);
    all.truncate(COUNTERS_MAX);
    let (billed, others) = all
        .into_iter()
        .partition(|meter: &Meter| BILLED.iter().any(|word| meter.name.contains(word)));
    (billed, others, left_out)
}

fn collect(name: &str, value: &Value, depth: usize, into: &mut Vec<Meter>) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::Number(_) | Value::String(_) => into.push(Meter {
            name: name.to_owned(),
            value: value.clone(),
        }),
        Value::Object(members) => {
            for (key, value) in members {
                collect(&format!("{name}.{key}"), value, depth + 1, into);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect(&format!("{name}.{index}"), value, depth + 1, into);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn billing_counters_are_told_from_others_wherever_they_stand() {
        let stats = json!({
            "stored": 7,
            "mode": "on-demand",
            "billing": { "put_payload_units": 12, "shard_hours": 0.25 },
            "shard_stored": [3, 4],
        });
        let (billed, others, left_out) = meters(stats.as_object().unwrap());
        let names = |meters: &[Meter]| {
            let names: Vec<_> = meters.iter().map(|meter| meter.name.clone()).collect();
            names.join(" ")
        };
        assert_eq!(
            names(&billed),
            "billing.put_payload_units billing.shard_hours"
        );
        assert_eq!(names(&others), "mode shard_stored.0 shard_stored.1 stored");
        assert_eq!(left_out, 0);
    }

    #[test]
    fn more_counters_than_a_page_can_hold_are_counted() {
        let stats = json!({ "shard_stored": vec![1; COUNTERS_MAX + 7] });
        let (_, others, left_out) = meters(stats.as_object().unwrap());
        assert_eq!((others.len(), left_out), (COUNTERS_MAX, 7));
    }
}
