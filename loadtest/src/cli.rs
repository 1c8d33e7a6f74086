//! The command line: what can be asked. Each command's arguments have a file of their own.

mod audit;
mod find_max;
mod kinesis;
mod load;
mod plan;
mod run;
mod traffic;

pub use audit::{AuditArgs, StoredArgs};
pub use find_max::FindMaxArgs;
pub use kinesis::{FaultArgs, KinesisArgs};
pub use load::{LoadArgs, RATE_DEFAULT, ShapeArgs, TRACE_BYTES_MAX};
pub use plan::{PlanArgs, ScenarioArgs};
pub use run::{RunArgs, TrafficArgs};
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
    /// Emulate Kinesis Data Streams: one stream, its limits, and faults on request.
    Kinesis(KinesisArgs),
    /// Send events to an HTTP collector, and measure.
    ///
    /// An open loop unless --closed is given: requests start on a schedule whether or not earlier ones
    /// were answered, and latency counts from the intended start, so that a stalled target shows. The
    /// schedule is a constant rate, a ramp, steps, a burst, or a trace of rates from a file.
    /// In a closed loop each connection sends when its last request was answered.
    /// Ctrl-C ends the run cleanly with the report so far.
    ///
    /// Exit code 0; 1 when nothing was answered, or with --expect-all-ok when a request was not
    /// answered 200; 2 for bad arguments.
    Run(Box<RunArgs>),
    /// Search the highest rate at which a target meets an objective.
    ///
    /// Runs at constant rates in an open loop: doubles the rate until the objective is missed, halves the
    /// interval down to the precision, and makes the answer hold again. A probe that misses the objective
    /// while the generator was the bottleneck is no limit of the target, and is called by its name.
    ///
    /// Exit code 0 when a rate was found and confirmed; 1 when none was; 2 for bad arguments.
    FindMax(Box<FindMaxArgs>),
    /// Compare what was answered with what was stored: lost, duplicated, stored though refused.
    Audit(AuditArgs),
    /// Size a fleet: hosts, shards or delivery streams, load balancer units, monthly bill.
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
