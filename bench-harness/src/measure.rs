//! One cell of the table: one workload against one peer, once.

use crate::peer::Running;
use crate::workload::Workload;
use serde::Serialize;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What one run of the generator against one peer came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Answered requests per second.
    pub requests_per_second: f64,
    /// CPU time of the peer per answered request, microseconds.
    pub cpu_us_per_request: f64,
    /// CPU time of the generator per request, microseconds.
    pub generator_cpu_us_per_request: f64,
    /// From the start of a request to its answer, microseconds.
    pub p50_us: f64,
    /// The same, 99th percentile.
    pub p99_us: f64,
    /// Resident memory of the peer after the run, bytes.
    pub resident_bytes: u64,
}

/// Counts still move for a moment after the last answer: cores publish them every 10 ms.
const SETTLING: Duration = Duration::from_millis(50);

/// Runs the generator for `seconds` and checks the counts.
///
/// # Errors
/// A generator that does not run, an answer other than 200, or counts that do not agree.
pub fn run(
    peer: &Running,
    workload: &Workload,
    seconds: u64,
    bin: &Path,
    scratch: &Path,
) -> Result<Sample, String> {
    let report = scratch.join("report.json");
    let before = (peer.delivered()?, peer.stored()?);
    let cpu_before = peer.cpu()?;
    let output = Command::new(bin.join("sluice-loadtest"))
        .arg("run")
        .args(["--target", &format!("http://127.0.0.1:{}", peer.ports.main)])
        .args(["--connections", &workload.connections.to_string()])
        .args(["--mode", &workload.mode])
        .args(["--batch", &workload.batch.to_string()])
        .args(["--event-bytes", &workload.event_bytes.to_string()])
        .args(["--duration", &seconds.to_string()])
        .arg(
            workload
                .rate
                .map_or("--closed".to_owned(), |rate| format!("--rate={rate}")),
        )
        .arg("--expect-all-ok")
        .arg("--json")
        .arg(&report)
        .output()
        .map_err(|error| format!("sluice-loadtest: {error}"))?;
    let cpu = peer.cpu()?.saturating_sub(cpu_before);
    let context = format!("{} against {}", workload.name, peer.name);
    if !output.status.success() {
        return Err(format!(
            "{context}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let text = std::fs::read_to_string(&report).map_err(|error| format!("{context}: {error}"))?;
    let report: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("{context}: {error}"))?;
    let number = |value: &serde_json::Value, name: &str| {
        value[name]
            .as_f64()
            .ok_or_else(|| format!("{context}: the report has no {name}"))
    };
    let answered = number(&report, "answered")?;
    let events = number(&report, "events_ok")?;
    if answered < 1.0 {
        return Err(format!("{context}: nothing was answered"));
    }
    std::thread::sleep(SETTLING);
    // An envelope is one record, however many events are in it.
    let records = if workload.mode == "envelope" {
        answered
    } else {
        events
    };
    let after = (peer.delivered()?, peer.stored()?);
    for (who, before, after) in [
        ("the peer", before.0, after.0),
        ("its backend", before.1, after.1),
    ] {
        if let (Some(before), Some(after)) = (before, after)
            && (after - before) as f64 != records
        {
            return Err(format!(
                "{context}: {records} records were acknowledged, {who} counts {}",
                after - before
            ));
        }
    }
    let latency = &report["latency_from_start"];
    Ok(Sample {
        requests_per_second: number(&report, "answered_per_second")?,
        cpu_us_per_request: cpu.as_secs_f64() * 1e6 / answered,
        generator_cpu_us_per_request: number(&report["generator"], "cpu_us_per_request")?,
        p50_us: number(latency, "p50_us")?,
        p99_us: number(latency, "p99_us")?,
        resident_bytes: peer.resident_bytes()?,
    })
}
