//! The command line of `kinesis`, and how it becomes the emulator's options.

use crate::kinesis::{self, Distribution, Faults, Mode, Portion, Reject, RejectCode};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Emulate Kinesis Data Streams: one stream, its limits, and faults on request.
///
/// Speaks PutRecord(s), GetShardIterator, GetRecords, ListShards, DescribeStream(Summary),
/// SplitShard, MergeShards, UpdateShardCount, UpdateStreamMode, UpdateMaxRecordSize and
/// UpdateStreamRecordDistributionStrategy of the AWS JSON 1.1 protocol, with DryRun; signatures
/// are not checked. Point a producer or reader at it with
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
    /// Shards of the stream at the start, 1 to 10000.
    #[arg(long, default_value_t = 4)]
    pub shards: u32,
    /// Capacity mode at the start; on-demand doubles the shards when the load asks for it.
    #[arg(long, value_enum, default_value = "provisioned")]
    pub mode: Mode,
    /// Who chooses a record's shard; auto needs --mode on-demand, and keys may then be absent.
    #[arg(long, value_enum, default_value = "user-partition-key")]
    pub distribution: Distribution,
    /// Largest record in KiB, data and partition key together, 1024 to 10240.
    #[arg(long, default_value_t = 1024, value_name = "KIB")]
    pub record_kib_max: usize,
    /// Do not throttle shards at 1,000 records/s and 1 MiB/s written, 5 calls/s and 2 MiB/s read.
    #[arg(long)]
    pub no_shard_limits: bool,
    /// How long the stream is UPDATING before a change of its shards comes, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    pub update_ms: u64,
    /// Shortest time between two doublings of an on-demand stream, in milliseconds, 100 to 24 h.
    #[arg(long, default_value_t = 900_000, value_name = "MS")]
    pub on_demand_period_ms: u64,
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
            update: Duration::from_millis(self.update_ms),
            on_demand_period: Duration::from_millis(self.on_demand_period_ms),
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

    #[test]
    fn a_portion_is_k_of_n() {
        assert_eq!(portion("1/10"), Ok(Portion { k: 1, n: 10 }));
        assert_eq!(portion("10/10"), Ok(Portion { k: 10, n: 10 }));
        for text in ["11/10", "0/0", "1", "1/", "-1/2", "a/b"] {
            assert!(portion(text).is_err(), "{text}");
        }
    }
}
