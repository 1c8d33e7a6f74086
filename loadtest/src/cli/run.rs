//! The command line of `run`, and how it becomes the generator's options.

use super::traffic::{BodyArgs, ConnectArgs};
use super::{seconds, target};
use crate::run::{self, Load, Target};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Collector, for instance http://127.0.0.1:8088; https:// too. A path replaces the default one
    /// of mode or profile.
    #[arg(long, value_name = "URL", value_parser = target)]
    pub target: Target,
    /// Requests per second; without it, as fast as they are answered.
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Connections, kept alive unless --requests-per-connection says otherwise.
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
    /// What requests carry.
    #[command(flatten)]
    pub body: BodyArgs,
    /// How connections are made and used.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Write what was answered for which event to this file, for `audit --acks`.
    #[arg(long, value_name = "FILE")]
    pub acks: Option<PathBuf>,
    /// Write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Exit with 1 unless every request was answered 200 (a preflight 200 or 204) and no event was
    /// refused.
    #[arg(long)]
    pub expect_all_ok: bool,
    /// Number of this run in event ids, up to 8 hex digits; random by default.
    #[arg(long, value_name = "HEX", value_parser = run_number)]
    pub run: Option<u32>,
}

fn run_number(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 16).map_err(|_| "expected up to 8 hex digits".to_owned())
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
            connect: self.connect.options(),
            threads: self.threads,
            duration,
            requests: self.requests,
            timeout: seconds(self.timeout),
            body: self.body.options(),
            acks: self.acks.clone(),
            run: self.run.unwrap_or_else(|| fastrand::u32(..)),
        }
    }
}
