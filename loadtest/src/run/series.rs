//! The part of a report that plots are drawn from: counts and percentiles of each second, and samples
//! of the watched processes. Plain data.

use serde::{Deserialize, Serialize};

/// One second of a run. Counts are of this second; a request counts in the second of its answer, a
/// sent one in the second of its real start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds from the run's start to the end of this one: 1, 2, 3 ...; the last may be shorter.
    pub at: f64,
    /// Requests that the schedule meant to start; absent in a closed loop.
    pub intended: Option<u64>,
    /// Requests sent.
    pub sent: u64,
    /// Responses with a success status: 200, or those of `--ok`.
    pub ok: u64,
    /// Answers with other statuses below 400, or above 599.
    pub other: u64,
    /// Answers 4xx.
    pub client_errors: u64,
    /// Answers 5xx.
    pub server_errors: u64,
    /// Requests that ended without an answer.
    pub unanswered: u64,
    /// Events answered with success and not refused in the answer.
    pub events_ok: u64,
    /// Requests in flight at its end.
    pub in_flight: u64,
    /// Latencies of its answers in microseconds: from the intended start in an open loop, else from
    /// the real start.
    pub p50_us: f64,
    /// 90th percentile of the same.
    #[serde(default)]
    pub p90_us: f64,
    /// 99th percentile of the same.
    pub p99_us: f64,
    /// 99.9th percentile of the same.
    pub p99_9_us: f64,
    /// 99.99th percentile of the same.
    #[serde(default)]
    pub p99_99_us: f64,
    /// Largest of the same.
    pub max_us: f64,
    /// Median from the real start in an open loop, where it is another one.
    #[serde(default)]
    pub p50_from_start_us: Option<f64>,
    /// 99th percentile of the same.
    #[serde(default)]
    pub p99_from_start_us: Option<f64>,
    /// Largest of the same.
    #[serde(default)]
    pub max_from_start_us: Option<f64>,
    /// 99th percentile of the schedule's slip in microseconds; absent in a closed loop.
    pub slip_p99_us: Option<f64>,
}

/// A process that was watched while the run went on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WatchedProcess {
    /// Its process id.
    pub pid: u32,
    /// Its name as the system has it.
    pub name: String,
    /// One sample per second, as long as it lived.
    pub samples: Vec<ProcessSample>,
}

/// CPU and memory of a process in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// Seconds since the run's start.
    pub at: f64,
    /// CPU time of the second in cores: 1.0 is one core all the time.
    pub cpu_cores: f64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

/// The machine that a run was made on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Processor, as the system names it.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Operating system and kernel.
    pub system: String,
}
