//! The command line of `find-max`.

use super::run::TrafficArgs;
use super::seconds;
use crate::find_max::{FindMaxOptions, Slo};
use crate::run::{Load, RATE_MAX};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `find-max`.
#[derive(Debug, Args)]
pub struct FindMaxArgs {
    /// Where requests go, and what they are.
    #[command(flatten)]
    pub traffic: TrafficArgs,
    /// The objective: conditions with commas between them that all have to hold, as in
    /// 'p99<50ms,errors<0.1%'. p50, p90, p99, p99.9, p99.99 and max of the latency from the intended
    /// start, in us, ms or s; a request that was never answered or never sent is above every limit.
    /// errors in % are all requests that were due and not answered with a status of --ok. Without a
    /// condition on errors an answer with another status counts like any other.
    #[arg(long, value_name = "CONDITIONS", help_heading = "Search")]
    pub slo: Slo,
    /// First rate, in requests per second. Lower ones are tried when it fails, down to 1.
    #[arg(
        long,
        default_value_t = 1_000.0,
        value_name = "N",
        help_heading = "Search"
    )]
    pub from: f64,
    /// Highest rate that is tried.
    #[arg(long, default_value_t = RATE_MAX, value_name = "N", help_heading = "Search")]
    pub to: f64,
    /// Length of each probe in seconds.
    #[arg(
        long,
        default_value_t = 10.0,
        value_name = "SECONDS",
        help_heading = "Search"
    )]
    pub seconds: f64,
    /// How often the answer has to be met again.
    #[arg(long, default_value_t = 2, value_name = "N", help_heading = "Search")]
    pub confirm: u32,
    /// Precision of the answer in percent.
    #[arg(
        long,
        default_value_t = 5.0,
        value_name = "PERCENT",
        help_heading = "Search"
    )]
    pub precision: f64,
    /// Seconds after each probe in which the target may settle.
    #[arg(
        long,
        default_value_t = 1.0,
        value_name = "SECONDS",
        help_heading = "Search"
    )]
    pub pause: f64,
    /// Write the answer and all probes as JSON to this file; `-` is stdout, and the text then goes to stderr.
    #[arg(long, value_name = "FILE", help_heading = "Search")]
    pub json: Option<PathBuf>,
}

impl FindMaxArgs {
    /// The search's options.
    #[must_use]
    pub fn options(&self) -> FindMaxOptions {
        FindMaxOptions {
            run: self.traffic.options(Load::Closed),
            slo: self.slo.clone(),
            from: self.from,
            to: self.to,
            probe: seconds(self.seconds),
            confirmations: self.confirm,
            precision: self.precision / 100.0,
            pause: seconds(self.pause),
        }
    }
}
