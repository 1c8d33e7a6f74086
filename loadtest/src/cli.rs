//! The command line: what can be asked. Each command's arguments have a file of their own.

mod audit;
mod kinesis;
mod plan;
mod run;

pub use audit::{AuditArgs, StoredArgs};
pub use kinesis::{FaultArgs, KinesisArgs};
pub use plan::{LoadArgs, PlanArgs};
pub use run::RunArgs;

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
    Run(RunArgs),
    /// Compare what was answered with what was stored: lost, duplicated, stored though refused.
    Audit(AuditArgs),
    /// Size a fleet: hosts, shards or delivery streams, load balancer units, monthly bill.
    Plan(Box<PlanArgs>),
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
