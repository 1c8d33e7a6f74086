//! The command line: what can be asked, and how it becomes options of the library.

use crate::audit::Source;
use crate::kinesis::{self, Distribution, Faults, Mode, Portion, Reject, RejectCode};
use crate::run::{self, BodyMode, BodyOptions, Load, Target};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Load generator, service emulators and loss audit for HTTP event collectors.
#[derive(Debug, Parser)]
#[command(name = "sluice-loadtest", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Emulate Kinesis Data Streams: one stream, its limits, and faults on request.
    Kinesis(KinesisArgs),
    /// Send events to an HTTP collector, and measure.
    Run(RunArgs),
    /// Compare what was answered with what was stored: lost, duplicated, stored though refused.
    Audit(AuditArgs),
}

/// Send events to an HTTP collector, and measure.
///
/// With --rate an open loop: requests start on a schedule whether or not earlier ones were
/// answered, and latency counts from the intended start, so that a stalled target shows.
/// Without, a closed loop: each connection sends when its last request was answered.
/// Ctrl-C ends the run cleanly with the report so far.
///
/// Exit code 0; 1 when nothing was answered, or with --expect-all-ok when a request was not
/// answered 200; 2 for bad arguments.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Collector, for instance http://127.0.0.1:8088; a path replaces the mode's default one.
    #[arg(long, value_name = "URL", value_parser = target)]
    pub target: Target,
    /// Requests per second; without it, as fast as they are answered.
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Connections, all kept alive.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub connections: usize,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// For how long requests are started, in seconds; 10 unless --requests is given.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Send at most this many requests.
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Seconds after which a request without an answer is given up.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub timeout: f64,
    /// envelope: POST /collect as a web SDK does, a JSON array behind a query string.
    /// event: POST /v1/events, one JSON object, or an array with --batch.
    #[arg(long, value_enum, default_value = "event")]
    pub mode: BodyMode,
    /// Events in each request.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub batch: u32,
    /// Exact size of each event in bytes.
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    pub event_bytes: usize,
    /// One more header line; repeat for more.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Write what was answered for which event to this file, for `audit --acks`.
    #[arg(long, value_name = "FILE")]
    pub acks: Option<PathBuf>,
    /// Write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Exit with 1 unless every request was answered 200 and no event was refused.
    #[arg(long)]
    pub expect_all_ok: bool,
    /// Number of this run in event ids, up to 8 hex digits; random by default.
    #[arg(long, value_name = "HEX", value_parser = run_number)]
    pub run: Option<u32>,
}

/// Compare what was answered with what was stored: lost, duplicated, stored though refused.
///
/// Reads the files that `run --acks` wrote, and what arrived: the ledger of an emulator, files
/// of newline-delimited JSON, or a stream.
///
/// Exit code 0 when every promise was kept; 1 when an event answered 2xx is not stored or an
/// event answered 4xx is, or when the comparison cannot be made; 2 for bad arguments.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// File of answers, from `run --acks`; more than one for several runs.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub acks: Vec<PathBuf>,
    /// Where the stored events are.
    #[command(flatten)]
    pub stored: StoredArgs,
    /// Ending of the file names that --dir reads; repeat for more, '' for all files.
    #[arg(long, value_name = "ENDING", default_values = [".ndjson", ".jsonl", ".json"])]
    pub suffix: Vec<String>,
    /// Name of the stream that --kinesis reads.
    #[arg(long, default_value = "clicks")]
    pub stream: String,
    /// Write the findings as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Where the stored events are: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct StoredArgs {
    /// Directory of newline-delimited JSON, searched with those below it.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Ledger of an emulator, from `kinesis --ledger`.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Endpoint of a Kinesis emulator, read from the oldest record on.
    #[arg(long, value_name = "URL", value_parser = target)]
    pub kinesis: Option<Target>,
}

fn target(text: &str) -> Result<Target, String> {
    Target::parse(text).map_err(|error| error.to_string())
}

fn run_number(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 16).map_err(|_| "expected up to 8 hex digits".to_owned())
}

/// A time that options can hold; what is out of range is refused where the options are checked.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

impl RunArgs {
    /// The generator's options.
    #[must_use]
    pub fn options(&self) -> run::Options {
        let duration = match (self.duration, self.requests) {
            (Some(duration), _) => Some(seconds(duration)),
            (None, Some(_)) => None,
            (None, None) => Some(Duration::from_secs(10)),
        };
        run::Options {
            target: self.target.clone(),
            load: match self.rate {
                Some(per_second) => Load::Open { per_second },
                None => Load::Closed,
            },
            connections: self.connections,
            threads: self.threads,
            duration,
            requests: self.requests,
            timeout: seconds(self.timeout),
            body: BodyOptions {
                mode: self.mode,
                batch: self.batch,
                event_bytes: self.event_bytes,
                headers: self.headers.clone(),
            },
            acks: self.acks.clone(),
            run: self.run.unwrap_or_else(|| fastrand::u32(..)),
        }
    }
}

impl AuditArgs {
    /// What was stored. The command line has made sure that exactly one is named.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        let stored = &self.stored;
        if let Some(path) = &stored.ledger {
            return Some(Source::Ledger(path.clone()));
        }
        if let Some(path) = &stored.dir {
            return Some(Source::Dir {
                path: path.clone(),
                suffixes: self.suffix.clone(),
            });
        }
        stored.kinesis.as_ref().map(|endpoint| Source::Kinesis {
            endpoint: endpoint.clone(),
            stream: self.stream.clone(),
        })
    }
}

/// Emulate Kinesis Data Streams: one stream, its limits, and faults on request.
///
/// Speaks PutRecords, ListShards, DescribeStreamSummary, GetShardIterator and GetRecords of the
/// AWS JSON 1.1 protocol; signatures are not checked. Point a producer at it with
/// AWS_ENDPOINT_URL_KINESIS=http://127.0.0.1:4567 and any credentials.
///
/// While it runs: `GET /_stats` has its counters, `GET /_faults` the faults in force, and
/// `POST /_faults` replaces them; what the JSON leaves out is off, so `{}` ends all faults:
/// curl -d '{"reject":{"k":1,"n":10},"hang":0.01}' http://127.0.0.1:4567/_faults
#[derive(Debug, Args)]
pub struct KinesisArgs {
    /// Address to listen on; port 0 lets the system choose. Printed when ready.
    #[arg(long, default_value = "127.0.0.1:4567", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Name of the stream.
    #[arg(long, default_value = "clicks")]
    pub stream: String,
    /// Shards of the stream, 1 to 10000.
    #[arg(long, default_value_t = 4)]
    pub shards: u32,
    /// Capacity mode that DescribeStreamSummary tells.
    #[arg(long, value_enum, default_value = "provisioned")]
    pub mode: Mode,
    /// Who chooses a record's shard; auto needs --mode on-demand, and keys may then be absent.
    #[arg(long, value_enum, default_value = "user-partition-key")]
    pub distribution: Distribution,
    /// Largest record in KiB, data and partition key together, 1024 to 10240.
    #[arg(long, default_value_t = 1024, value_name = "KIB")]
    pub record_kib_max: usize,
    /// Do not throttle shards at 1,000 records/s and 1 MiB/s.
    #[arg(long)]
    pub no_shard_limits: bool,
    /// Delay before each answer, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub latency_ms: u64,
    /// Up to this much more delay, evenly spread, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub latency_jitter_ms: u64,
    /// Memory for records in bytes; over it the oldest of a shard go, and are counted.
    #[arg(long, default_value_t = 256 << 20, value_name = "BYTES")]
    pub retain_bytes_max: usize,
    /// Keep no records, only count them (for benchmarks).
    #[arg(long)]
    pub discard: bool,
    /// Write the id of each stored event to this file, for `audit --ledger`.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Threads that serve, 1 to 64.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Faults from the start.
    #[command(flatten)]
    pub faults: FaultArgs,
}

/// Faults from the start. Shares are of PutRecords calls, 0 to 1; a call meets at most one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Faults (shares of PutRecords calls, 0 to 1)")]
pub struct FaultArgs {
    /// Seed of every choice; the same seed and calls give the same faults.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub fault_seed: u64,
    /// Refuse exactly K of every N records, per record.
    #[arg(long, value_name = "K/N", value_parser = portion)]
    pub reject: Option<Portion>,
    /// What a refused record's entry says.
    #[arg(long, value_enum, default_value = "throttled")]
    pub reject_code: RejectCode,
    /// Answer FailedRecordCount 0 whatever the entries say.
    #[arg(long)]
    pub failed_count_zero: bool,
    /// Answer K of every N records as stored without storing them: an audit must find them.
    #[arg(long, value_name = "K/N", value_parser = portion)]
    pub drop_acked: Option<Portion>,
    /// Answer 500 InternalFailure, store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub internal_error: f64,
    /// Throttle the whole call (400), store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub throttle_call: f64,
    /// Answer 400 AccessDeniedException, store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub access_denied: f64,
    /// Never answer, store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub hang: f64,
    /// Reset the connection before reading the body, store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub reset_before: f64,
    /// Store, then reset the connection instead of answering.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub reset_after: f64,
    /// Store, then answer --slow-ms later.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub slow: f64,
    /// Delay of a slow answer in milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    pub slow_ms: u64,
    /// Store, then answer without the last entry.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub short_answer: f64,
    /// Store, then answer 200 with a body that is no JSON.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub garbage_answer: f64,
    /// Stop faulting calls after this many.
    #[arg(long, value_name = "N")]
    pub fault_calls_max: Option<u64>,
}

/// Reads `K/N`.
fn portion(text: &str) -> Result<Portion, String> {
    let parse = || {
        let (k, n) = text.split_once('/')?;
        Some((k.parse().ok()?, n.parse().ok()?))
    };
    match parse() {
        Some((k, n)) if k <= n && n >= 1 => Ok(Portion { k, n }),
        _ => Err("expected K/N with K <= N and N >= 1, for instance 1/10".to_owned()),
    }
}

impl KinesisArgs {
    /// The emulator's options.
    #[must_use]
    pub fn options(self) -> kinesis::Options {
        let faults = self.faults;
        kinesis::Options {
            listen: self.listen,
            stream: self.stream,
            shards: self.shards,
            mode: self.mode,
            distribution: self.distribution,
            record_bytes_max: self.record_kib_max.saturating_mul(1024),
            shard_limits: !self.no_shard_limits,
            latency: Duration::from_millis(self.latency_ms),
            latency_jitter: Duration::from_millis(self.latency_jitter_ms),
            retain_bytes_max: (!self.discard).then_some(self.retain_bytes_max),
            ledger: self.ledger,
            threads: self.threads,
            faults: Faults {
                seed: faults.fault_seed,
                calls_max: faults.fault_calls_max,
                internal_error: faults.internal_error,
                throttle_call: faults.throttle_call,
                access_denied: faults.access_denied,
                hang: faults.hang,
                reset_before: faults.reset_before,
                reset_after: faults.reset_after,
                slow: faults.slow,
                slow_ms: faults.slow_ms,
                short_answer: faults.short_answer,
                garbage_answer: faults.garbage_answer,
                reject: faults.reject.map(|Portion { k, n }| Reject {
                    k,
                    n,
                    code: faults.reject_code,
                }),
                failed_count_zero: faults.failed_count_zero,
                drop_acked: faults.drop_acked,
                ..Faults::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_portion_is_k_of_n() {
        assert_eq!(portion("1/10"), Ok(Portion { k: 1, n: 10 }));
        assert_eq!(portion("10/10"), Ok(Portion { k: 10, n: 10 }));
        for text in ["11/10", "0/0", "1", "1/", "-1/2", "a/b"] {
            assert!(portion(text).is_err(), "{text}");
        }
    }
}
