//! The command line. The arguments of each command have a file of their own.

mod audit;
mod find_max;
mod firehose;
mod kinesis;
mod load;
mod patience;
mod plan;
mod report;
mod run;
mod s3;
mod service;
mod sqs;
mod traffic;

pub use audit::{AuditArgs, StoredArgs};
pub use find_max::FindMaxArgs;
pub use firehose::{FirehoseArgs, QuotaName};
pub use kinesis::KinesisArgs;
pub use load::{LoadArgs, RATE_DEFAULT, ShapeArgs, TRACE_BYTES_MAX};
pub use patience::PatienceArgs;
pub use plan::{PlanArgs, ScenarioArgs};
pub use report::{CompareArgs, OneArgs, ReportArgs, SeveralArgs};
pub use run::{RunArgs, TrafficArgs};
pub use s3::S3Args;
pub use service::{FaultArgs, LatencyArgs, ServiceArgs};
pub use sqs::SqsArgs;
pub use traffic::{BodyArgs, ConnectArgs};

use crate::run::Target;
use clap::{Parser, Subcommand};
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
    /// Emulate Kinesis Data Streams: streams, their limits, and faults on request.
    ///
    /// Speaks PutRecord(s), GetShardIterator, GetRecords, ListShards, DescribeStream(Summary),
    /// ListStreams, CreateStream, DeleteStream, DescribeLimits, SplitShard, MergeShards,
    /// UpdateShardCount, UpdateStreamMode, UpdateMaxRecordSize and
    /// UpdateStreamRecordDistributionStrategy of the AWS JSON 1.1 protocol and of its CBOR form, over
    /// HTTP/1.1 and h2, with DryRun. Point a producer or reader at it with
    /// AWS_ENDPOINT_URL_KINESIS=http://127.0.0.1:4567 and any credentials.
    ///
    /// While it runs, `GET /_stats` returns its counters and `GET /_faults` the faults in force.
    /// `POST /_faults` replaces them: faults that the JSON leaves out are off, so `{}` ends all of them. For instance:
    /// curl -d '{"reject":{"k":1,"n":10},"hang":0.01}' http://127.0.0.1:4567/_faults
    Kinesis(Box<KinesisArgs>),
    /// Emulate Firehose with Direct PUT: one delivery stream, its quotas, and faults on request.
    ///
    /// Speaks PutRecord, PutRecordBatch and DescribeDeliveryStream of the AWS JSON 1.1 protocol. Point a
    /// producer at it with AWS_ENDPOINT_URL_FIREHOSE=http://127.0.0.1:4573 and any credentials. It delivers
    /// records nowhere: `GET /_stats` counts them and the bytes that would be billed (each record rounded up
    /// to a multiple of 5 KiB), and --ledger records their events.
    ///
    /// While it runs, `GET /_faults` returns the faults in force. `POST /_faults` replaces them: faults that
    /// the JSON leaves out are off, so `{}` ends all of them.
    Firehose(Box<FirehoseArgs>),
    /// Emulate SQS: one standard queue, its limits, and faults on request.
    ///
    /// Speaks SendMessage, SendMessageBatch, GetQueueUrl, GetQueueAttributes, ReceiveMessage,
    /// DeleteMessage and DeleteMessageBatch of the AWS JSON 1.0 protocol. Point a producer at it with
    /// AWS_ENDPOINT_URL_SQS=http://127.0.0.1:4576 and any credentials; the queue's URL is
    /// http://127.0.0.1:4576/000000000000/clicks.
    ///
    /// While it runs, `GET /_stats` returns its counters and the requests that would be billed, and
    /// `GET /_faults` the faults in force. `POST /_faults` replaces them: faults that the JSON leaves out
    /// are off, so `{}` ends all of them.
    Sqs(Box<SqsArgs>),
    /// Emulate S3 for uploaders: PutObject and multipart uploads, and faults on request.
    ///
    /// Speaks PutObject (also with If-None-Match: *), CreateMultipartUpload, UploadPart,
    /// CompleteMultipartUpload, AbortMultipartUpload, HeadObject and GetObject (also with Range,
    /// If-Match and If-None-Match), HeadBucket and ListObjectsV2, with buckets in the path or in the
    /// host. Point an uploader at it with AWS_ENDPOINT_URL_S3=http://127.0.0.1:4572 and any credentials.
    ///
    /// It writes --ledger when it ends, from the objects stored at that point (gzip and zstd are unpacked),
    /// so an object that was replaced counts once.
    ///
    /// While it runs, `GET /_stats` returns its counters and the requests that would be billed, and
    /// `GET /_faults` the faults in force. `POST /_faults` replaces them: faults that the JSON leaves out
    /// are off, so `{}` ends all of them.
    S3(Box<S3Args>),
    /// Send events to an HTTP collector and measure its answers.
    ///
    /// An open loop unless --closed is given: requests start on a schedule whether or not earlier ones were
    /// answered, and latency counts from the intended start, so that a stalled target shows. The schedule is
    /// a constant rate, a ramp, steps, a burst, or a trace of rates from a file. In a closed loop each
    /// connection sends its next request once the last one was answered. Ctrl-C ends the run cleanly and
    /// reports what was measured so far.
    ///
    /// Exit code 0; 1 when nothing was answered, or with --expect-all-ok when a request that was due
    /// failed or was never sent; 2 for bad arguments.
    Run(Box<RunArgs>),
    /// Search for the highest rate at which a target meets an objective.
    ///
    /// Runs at constant rates in an open loop: doubles the rate until the objective is missed, halves the
    /// interval down to --precision, and repeats the rate it found to confirm it. A probe that misses the
    /// objective while the generator was the bottleneck says nothing about the target, and is reported as
    /// such.
    ///
    /// Exit code 0 when a rate was found and confirmed; 1 when none was; 2 for bad arguments.
    FindMax(Box<FindMaxArgs>),
    /// Play clients with the patience of published SDKs, through an outage.
    ///
    /// Each makes its events evenly over --duration, and sends, waits, tries again and gives up as its package does:
    /// batches, tries, waits, time-outs, and what it does with Retry-After, with a closed connection and with one
    /// that is refused. What is played is patience, not wire formats: all send JSON arrays, to /v1/events or
    /// /collect. Afterwards clients have --settle seconds to end their tries.
    ///
    /// Prints for each client the events that it made, had acknowledged, gave up, and still holds. With --acks the
    /// audit counts what of them was stored.
    ///
    /// Exit code 0; 1 when the file of answers cannot be written; 2 for bad arguments.
    Patience(Box<PatienceArgs>),
    /// Compare what was answered with what was stored: lost, duplicated, stored though refused.
    ///
    /// Reads the files that `run --acks` wrote, and the stored events: the ledger of an emulator, files of
    /// newline-delimited JSON, or a stream.
    ///
    /// Exit code 0 when every promise was kept; 1 when an event answered 2xx is not stored or an
    /// event answered 4xx is, or when the comparison cannot be made; 2 for bad arguments.
    Audit(AuditArgs),
    /// Make an HTML page from a run, or from several runs to compare.
    ///
    /// Reads what `run --json` wrote, and optionally an audit and an emulator's counters. The page needs no
    /// network and runs no script; its plots are part of it. `report compare` makes the page of several runs.
    ///
    /// Exit code 0 when the page was written, whatever its findings; 1 when a file cannot be read, is not a
    /// report, or comes from a run without a single answer; 2 for bad arguments.
    Report(ReportArgs),
    /// Size a fleet: hosts, shards or delivery streams, load balancer units, and the monthly bill.
    ///
    /// The load comes from options, or from TOML files with the same keys (requests_per_second = 500000), one
    /// plan per file. Rates are peak rates. Measure how many requests one host takes: `find-max` against one
    /// host finds the highest rate that meets your objective.
    ///
    /// Records are those of Sluice's event mode: one per event, unless --micro-batch is given. For envelopes,
    /// one record per request, use --events-per-request 1 and the size of the body as --event-bytes.
    ///
    /// Exit code 0; 2 for bad arguments, files included; 1 when the JSON cannot be written.
    Plan(Box<PlanArgs>),
}

fn target(text: &str) -> Result<Target, String> {
    Target::parse(text).map_err(|error| error.to_string())
}

/// A target of tools that speak no TLS.
fn plain_target(text: &str) -> Result<Target, String> {
    let target = target(text)?;
    match target.tls {
        true => Err("no TLS here: use an http:// URL".to_owned()),
        false => Ok(target),
    }
}

/// Seconds as a duration. A value out of range becomes zero, which the check of the options refuses.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
