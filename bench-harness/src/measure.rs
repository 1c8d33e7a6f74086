//! One cell of the table: one workload against one peer, once.

use crate::counter::Counts;
use crate::generator;
use crate::running::Running;
use crate::workload::Workload;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// Result of one run of the generator against one peer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Answered requests per second.
    pub requests_per_second: f64,
    /// CPU time of the peer per answered request, microseconds, all its processes.
    pub cpu_us_per_request: f64,
    /// CPU time of the generator per request, microseconds.
    pub generator_cpu_us_per_request: f64,
    /// Whether the generator was the bottleneck: then the rate is its own, not the peer's.
    pub generator_is_bottleneck: bool,
    /// From the start of a request to its answer, microseconds.
    pub p50_us: f64,
    /// The same, 99th percentile.
    pub p99_us: f64,
    /// Memory of the peer after the run, bytes, all its processes.
    pub resident_bytes: u64,
    /// Calls per second that make records durable, of a peer that counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncs_per_second: Option<f64>,
    /// Events accepted that have ids: not those of a workload's own body.
    #[serde(skip)]
    pub events: u64,
}

/// Counts still move after the last answer: cores publish them every 10 ms, and a peer that answers
/// before it has handed events on does so in its own time.
const SETTLING: Duration = Duration::from_secs(3);

/// Time limit for a peer to upload acknowledged records.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// How often they are polled meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the generator for `seconds` and checks the counts. Files of workloads are in `workloads`.
///
/// # Errors
/// A generator that does not run, an answer other than the peer's row promises, or counts that do not
/// agree.
pub fn run(
    peer: &Running,
    workload: &Workload,
    seconds: u64,
    generator: &Path,
    workloads: &Path,
    scratch: &Path,
) -> Result<Sample, String> {
    let context = |error: String| format!("{} against {}: {error}", workload.name, peer.name);
    let file = scratch.join("report.json");
    let arguments = generator::arguments(
        workload,
        &peer.peer.endpoint,
        peer.port,
        seconds,
        workloads,
        &file,
    );
    let before = peer.counts().map_err(context)?;
    let cpu_before = peer.cpu().map_err(context)?;
    let report = generator::run(generator, &arguments, &file).map_err(context)?;
    report
        .check(workload, &peer.peer.endpoint)
        .map_err(context)?;
    let uploads = before.iter().any(|(counts, _)| *counts == Counts::Behind);
    let give_up = Instant::now() + if uploads { CATCHING_UP } else { SETTLING };
    let after = loop {
        let after = peer.counts().map_err(context)?;
        match agree(&before, &after, workload, report.answered) {
            Ok(()) => break after,
            Err(error) if Instant::now() > give_up => return Err(context(error)),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    };
    // Measured last, because work after the response is a cost of the request too.
    let cpu = peer.cpu().map_err(context)?.saturating_sub(cpu_before);
    Ok(Sample {
        requests_per_second: report.answered_per_second,
        cpu_us_per_request: cpu.as_secs_f64() * 1e6 / report.answered as f64,
        generator_cpu_us_per_request: report.generator.cpu_us_per_request,
        generator_is_bottleneck: report.generator.is_bottleneck,
        p50_us: report.latency_from_start.p50_us,
        p99_us: report.latency_from_start.p99_us,
        resident_bytes: peer.memory().map_err(context)?,
        syncs_per_second: syncs(&before, &after)
            .map(|syncs| syncs as f64 * report.answered_per_second / report.answered as f64),
        events: if workload.body.is_none() {
            report.events_ok
        } else {
            0
        },
    })
}

/// How many calls made records durable meanwhile; `None` of a peer that does not count them.
fn syncs(before: &[(Counts, Option<u64>)], after: &[(Counts, Option<u64>)]) -> Option<u64> {
    let sum = |counts: &[(Counts, Option<u64>)]| {
        let syncs = counts.iter().filter(|(counts, _)| *counts == Counts::Syncs);
        syncs
            .map(|(_, count)| count.unwrap_or(0))
            .reduce(|sum, count| sum + count)
    };
    Some(sum(after)?.saturating_sub(sum(before)?))
}

/// Compares the peer's counters with the expected result of this many requests.
fn agree(
    before: &[(Counts, Option<u64>)],
    after: &[(Counts, Option<u64>)],
    workload: &Workload,
    answered: u64,
) -> Result<(), String> {
    for ((counts, before), (_, after)) in before.iter().zip(after) {
        let (what, expected) = match counts {
            Counts::Accepted => ("accepted records", answered * workload.records()),
            Counts::Rejected => (
                "rejected events",
                answered * u64::from(workload.expect.rejected),
            ),
            Counts::Requests => ("requests", answered),
            Counts::Behind => match after {
                None | Some(0) => continue,
                Some(behind) => return Err(format!("{behind} are not at the destination yet")),
            },
            Counts::Syncs => continue,
        };
        let before = before.unwrap_or(0);
        // A count that does not show has counted nothing.
        let after = after.unwrap_or(0);
        if after.checked_sub(before) != Some(expected) {
            return Err(format!(
                "{expected} {what} were expected, its counter went from {before} to {after}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_whose_own_counts_differ_is_refused() {
        let workload: Workload = toml::from_str(
            "connections = 1\nmode = 'event'\nbatch = 20\nbody = 'x'\n\
             [expect]\naccepted = 18\nrejected = 2\n",
        )
        .unwrap();
        let agree =
            |counts, before, after| agree(&[(counts, before)], &[(counts, after)], &workload, 10);
        assert_eq!(agree(Counts::Accepted, Some(5), Some(185)), Ok(()));
        assert_eq!(agree(Counts::Accepted, None, Some(180)), Ok(()));
        assert_eq!(agree(Counts::Rejected, Some(0), Some(20)), Ok(()));
        assert_eq!(agree(Counts::Requests, Some(0), Some(10)), Ok(()));
        for (before, after) in [(Some(5), Some(184)), (Some(5), None), (None, None)] {
            let error = agree(Counts::Accepted, before, after).unwrap_err();
            assert!(error.starts_with("180 accepted records"), "{error}");
        }
    }

    #[test]
    fn calls_that_make_durable_are_counted_and_compared_with_nothing() {
        let counts = |syncs| [(Counts::Accepted, Some(0)), (Counts::Syncs, syncs)];
        assert_eq!(syncs(&counts(None), &counts(Some(7))), Some(7));
        assert_eq!(syncs(&counts(Some(3)), &counts(Some(7))), Some(4));
        assert_eq!(syncs(&counts(None)[..1], &counts(None)[..1]), None);
        let workload: Workload = toml::from_str(
            "connections = 1\nmode = 'event'\nbatch = 1\nevent_bytes = 9\n\
             [expect]\naccepted = 1\nrejected = 0\n",
        )
        .unwrap();
        let (before, after) = (&counts(Some(1))[1..], &counts(Some(9))[1..]);
        assert_eq!(agree(before, after, &workload, 10), Ok(()));
    }

    #[test]
    fn figures_wait_for_pending_records() {
        let workload: Workload = toml::from_str(
            "connections = 1\nmode = 'event'\nbatch = 1\nevent_bytes = 9\n\
             [expect]\naccepted = 1\nrejected = 0\n",
        )
        .unwrap();
        let agree = |behind| {
            let counts = |behind| [(Counts::Behind, behind)];
            agree(&counts(Some(5)), &counts(behind), &workload, 10)
        };
        assert_eq!(agree(Some(0)), Ok(()));
        assert_eq!(agree(None), Ok(()));
        let error = agree(Some(7)).unwrap_err();
        assert_eq!(error, "7 are not at the destination yet");
    }

    #[test]
    fn an_envelope_is_one_record() {
        let workload: Workload = toml::from_str(
            "connections = 1\nmode = 'envelope'\nbatch = 20\nevent_bytes = 800\n\
             [expect]\naccepted = 20\nrejected = 0\n",
        )
        .unwrap();
        let after = |count| [(Counts::Accepted, Some(count))];
        assert_eq!(agree(&after(0), &after(10), &workload, 10), Ok(()));
        assert!(agree(&after(0), &after(200), &workload, 10).is_err());
    }
}
