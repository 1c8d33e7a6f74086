//! The command line of `run`, and how it becomes the generator's options.

use super::load::LoadArgs;
use super::traffic::{BodyArgs, ConnectArgs};
use super::{seconds, target};
use crate::run::{self, Load, OkStatuses, Target};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where requests go, and what they are.
    #[command(flatten)]
    pub traffic: TrafficArgs,
    /// When they start.
    #[command(flatten, next_help_heading = "Schedule")]
    pub load: LoadArgs,
    /// Write the answer to each event to this file, for `audit --acks`.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub acks: Option<PathBuf>,
    /// Write the report as JSON to this file; `-` is stdout, and the text then goes to stderr.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write the latencies of each second to this file, as a log that HdrHistogram's tools read.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hdr_log: Option<PathBuf>,
    /// Record the CPU time and memory of this process each second; repeat for more.
    #[arg(long, value_name = "PID", help_heading = "Output")]
    pub watch: Vec<u32>,
    /// Exit with 1 unless every request that was due was sent and answered with a status of --ok (for a
    /// preflight also 204), and no event was refused.
    #[arg(long, help_heading = "Output")]
    pub expect_all_ok: bool,
}

impl RunArgs {
    /// The generator's options.
    #[must_use]
    pub fn options(&self) -> run::Options {
        run::Options {
            duration: self.load.duration(),
            requests: self.load.requests,
            acks: self.acks.clone(),
            hdr_log: self.hdr_log.clone(),
            watch: self.watch.clone(),
            ..self.traffic.options(self.load.load())
        }
    }
}

/// Where requests go, what they are, and over which connections.
#[derive(Debug, Args)]
pub struct TrafficArgs {
    /// URL of the collector, http:// or https://, for instance http://127.0.0.1:8088. A path replaces the
    /// default path of the mode or profile.
    #[arg(long, value_name = "URL", value_parser = target)]
    pub target: Target,
    /// Connections, kept alive unless --requests-per-connection says otherwise.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub connections: usize,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// Seconds after which an unanswered request is given up.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub timeout: f64,
    /// Statuses that count as success: up to 16 between 200 and 399, comma-separated, as in 200,202,204. For
    /// a CORS preflight 204 counts as well.
    #[arg(long, default_value = "200", value_name = "STATUSES")]
    pub ok: OkStatuses,
    /// What requests carry.
    #[command(flatten, next_help_heading = "Requests")]
    pub body: BodyArgs,
    /// How connections are made and used.
    #[command(flatten, next_help_heading = "Connections")]
    pub connect: ConnectArgs,
    /// Number of this run in event ids, up to 8 hex digits; random by default.
    #[arg(long, value_name = "HEX", value_parser = run_number, help_heading = "Requests")]
    pub run: Option<u32>,
}

fn run_number(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 16).map_err(|_| "expected up to 8 hex digits".to_owned())
}

impl TrafficArgs {
    /// The generator's options, for a run that has no end yet and writes no files.
    pub(super) fn options(&self, load: Load) -> run::Options {
        run::Options {
            target: self.target.clone(),
            load,
            connections: self.connections,
            connect: self.connect.options(),
            threads: self.threads,
            duration: None,
            requests: None,
            timeout: seconds(self.timeout),
            body: self.body.options(),
            ok: self.ok.clone(),
            acks: None,
            hdr_log: None,
            watch: Vec::new(),
            run: self.run.unwrap_or_else(|| fastrand::u32(..)),
        }
    }
}
