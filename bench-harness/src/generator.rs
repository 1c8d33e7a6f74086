//! The load generator as a process: its arguments, and the parts of its report that are read.

use crate::input;
use crate::peer::Endpoint;
use crate::workload::{Mode, Workload};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The parts of the generator's report that are read.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered, whatever the status.
    pub answered: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Events in requests answered 200, less those that the answers refused.
    pub events_ok: u64,
    /// Events that answers of 200 refused.
    pub events_refused: u64,
    /// Answers per second.
    pub answered_per_second: f64,
    /// From the start of a request to its answer.
    pub latency_from_start: Latency,
    /// Usage of the generator itself.
    pub generator: Generator,
}

/// Percentiles, microseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
}

/// Usage of the generator itself.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Generator {
    /// CPU microseconds per request.
    pub cpu_us_per_request: f64,
    /// Whether figures show its limits rather than the server's.
    pub is_bottleneck: bool,
}

/// The generator's arguments: the one place that knows its command line.
#[must_use]
pub fn arguments(
    workload: &Workload,
    endpoint: &Endpoint,
    port: u16,
    seconds: u64,
    workloads: &Path,
    report: &Path,
) -> Vec<String> {
    let (mode, own_path) = match workload.mode {
        Mode::Event => ("event", "/v1/events"),
        Mode::Envelope => ("envelope", "/collect"),
    };
    let path = match (&endpoint.path, &workload.body) {
        (Some(path), _) => path,
        // With a given body the generator has no default path.
        (None, Some(_)) => own_path,
        (None, None) => "",
    };
    let mut arguments = vec![
        "run".to_owned(),
        format!("--target=http://127.0.0.1:{port}{path}"),
        format!("--connections={}", workload.connections),
        format!("--duration={seconds}"),
        format!("--json={}", report.display()),
    ];
    match &workload.body {
        None => {
            arguments.push(format!("--mode={mode}"));
            arguments.push(format!("--batch={}", workload.batch));
        }
        Some(body) => arguments.push(format!("--body={}", workloads.join(body).display())),
    }
    arguments.extend(
        workload
            .event_bytes
            .map(|bytes| format!("--event-bytes={bytes}")),
    );
    arguments.push(
        workload
            .rate
            .map_or_else(|| "--closed".to_owned(), |rate| format!("--rate={rate}")),
    );
    arguments.extend(
        workload
            .requests_per_connection
            .map(|requests| format!("--requests-per-connection={requests}")),
    );
    for header in &endpoint.headers {
        arguments.push(format!("--header={header}"));
    }
    arguments
}

/// Runs the generator and reads its report.
///
/// # Errors
/// Its error output when it fails, or a report that cannot be read.
pub fn run(program: &Path, arguments: &[String], report: &Path) -> Result<Report, String> {
    // A report of an earlier run must not be taken for this one's.
    let _ = std::fs::remove_file(report);
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!(
            "{}: {}\n{}{}",
            program.display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let text = input::read(report, input::REPORT_BYTES_MAX)?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", report.display()))
}

impl Report {
    /// Compares the responses with those expected of this workload at this endpoint.
    ///
    /// # Errors
    /// The expected and the actual responses.
    pub fn check(&self, workload: &Workload, endpoint: &Endpoint) -> Result<(), String> {
        if self.answered == 0 {
            return Err("nothing was answered".to_owned());
        }
        let right = self.statuses.get(&endpoint.status).copied().unwrap_or(0);
        if right != self.sent || self.answered != self.sent {
            return Err(format!(
                "{} requests were sent, {right} of them answered {} as they have to be; answers by status: {:?}",
                self.sent, endpoint.status, self.statuses
            ));
        }
        // Only a 200 reports single events; any other status accepts all of them. The generator does not
        // know the events of a file: there the peer's own counters decide.
        if endpoint.status != 200 || workload.body.is_some() {
            return Ok(());
        }
        let rejected = self.answered * u64::from(workload.expect.rejected);
        if self.events_refused != rejected {
            return Err(format!(
                "{rejected} events had to be refused, {} were",
                self.events_refused
            ));
        }
        let accepted = self.answered * u64::from(workload.expect.accepted);
        if self.events_ok != accepted {
            return Err(format!(
                "{accepted} events had to be accepted, {} were",
                self.events_ok
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(accepted: u32, rejected: u32) -> Workload {
        let text = format!(
            "connections = 3\nmode = 'event'\nbatch = {}\nrate = 9\nevent_bytes = 800\n\
             [expect]\naccepted = {accepted}\nrejected = {rejected}\n",
            accepted + rejected
        );
        toml::from_str(&text).unwrap()
    }

    fn report(status: u16, events_ok: u64, events_refused: u64) -> Report {
        let text = format!(
            r#"{{"sent":10,"answered":10,"statuses":{{"{status}":10}},"events_ok":{events_ok},
               "events_refused":{events_refused},"answered_per_second":1.0,"more":1,
               "latency_from_start":{{"p50_us":1.0,"p99_us":2.0}},
               "generator":{{"cpu_us_per_request":1.0,"is_bottleneck":false}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn endpoint(status: u16) -> Endpoint {
        Endpoint {
            status,
            ..Endpoint::default()
        }
    }

    #[test]
    fn a_peer_with_wrong_counts_is_refused() {
        let check =
            |report: Report, workload: &Workload, status| report.check(workload, &endpoint(status));
        assert_eq!(check(report(200, 200, 0), &workload(20, 0), 200), Ok(()));
        assert_eq!(check(report(200, 180, 20), &workload(18, 2), 200), Ok(()));
        let error = check(report(200, 199, 1), &workload(20, 0), 200).unwrap_err();
        assert_eq!(error, "0 events had to be refused, 1 were");
        let error = check(report(200, 200, 0), &workload(18, 2), 200).unwrap_err();
        assert_eq!(error, "20 events had to be refused, 0 were");
        let error = check(report(200, 10, 0), &workload(20, 0), 200).unwrap_err();
        assert_eq!(error, "200 events had to be accepted, 10 were");
    }

    #[test]
    fn status_204_counts_only_where_configured() {
        let workload = workload(20, 0);
        assert_eq!(report(204, 0, 0).check(&workload, &endpoint(204)), Ok(()));
        let error = report(204, 0, 0)
            .check(&workload, &endpoint(200))
            .unwrap_err();
        assert!(error.contains("0 of them answered 200") && error.contains("204: 10"));
        assert!(
            report(200, 200, 0)
                .check(&workload, &endpoint(204))
                .is_err()
        );
    }

    #[test]
    fn a_request_without_an_answer_is_a_wrong_count() {
        let mut report = report(200, 180, 0);
        report.statuses.insert(200, 9);
        report.answered = 9;
        let error = report.check(&workload(20, 0), &endpoint(200)).unwrap_err();
        assert!(
            error.starts_with("10 requests were sent, 9 of them"),
            "{error}"
        );
        report.sent = 0;
        report.answered = 0;
        assert!(report.check(&workload(20, 0), &endpoint(200)).is_err());
    }

    #[test]
    fn the_row_becomes_the_generators_arguments() {
        let of = |workload: &Workload, endpoint: &Endpoint| {
            arguments(
                workload,
                endpoint,
                80,
                5,
                Path::new("w"),
                Path::new("r.json"),
            )
            .join(" ")
        };
        let mut workload = workload(18, 2);
        let mut endpoint = endpoint(200);
        assert_eq!(
            of(&workload, &endpoint),
            "run --target=http://127.0.0.1:80 --connections=3 --duration=5 --json=r.json \
             --mode=event --batch=20 --event-bytes=800 --rate=9"
        );
        workload.rate = None;
        workload.event_bytes = None;
        workload.body = Some("bad.json".to_owned());
        workload.requests_per_connection = Some(1);
        endpoint.headers = vec!["A: b".to_owned()];
        assert_eq!(
            of(&workload, &endpoint),
            "run --target=http://127.0.0.1:80/v1/events --connections=3 --duration=5 --json=r.json \
             --body=w/bad.json --closed --requests-per-connection=1 --header=A: b"
        );
        endpoint.path = Some("/post".to_owned());
        assert!(of(&workload, &endpoint).contains(":80/post "));
    }
}
