//! The command line: what can be asked. Each command's arguments have a file of their own.

mod audit;
mod firehose;
mod kinesis;
mod run;
mod s3;
mod service;
mod sqs;

pub use audit::{AuditArgs, StoredArgs};
pub use firehose::{FirehoseArgs, QuotaName};
pub use kinesis::KinesisArgs;
pub use run::RunArgs;
pub use s3::S3Args;
pub use service::{FaultArgs, LatencyArgs, ServiceArgs};
pub use sqs::SqsArgs;

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
    /// Emulate Kinesis Data Streams: one stream, its limits, and faults on request.
    Kinesis(Box<KinesisArgs>),
    /// Emulate Firehose with Direct PUT: one delivery stream, its quotas, and faults on request.
    Firehose(Box<FirehoseArgs>),
    /// Emulate SQS: one standard queue, its limits, and faults on request.
    Sqs(Box<SqsArgs>),
    /// Emulate S3 for uploaders: PutObject and multipart uploads, and faults on request.
    S3(Box<S3Args>),
    /// Send events to an HTTP collector, and measure.
    Run(RunArgs),
    /// Compare what was answered with what was stored: lost, duplicated, stored though refused.
    Audit(AuditArgs),
}

fn target(text: &str) -> Result<Target, String> {
    Target::parse(text).map_err(|error| error.to_string())
}

/// A time that options can hold; what is out of range is refused where the options are checked.
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
