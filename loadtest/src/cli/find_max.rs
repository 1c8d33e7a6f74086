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
    /// The objective: comma-separated conditions that all have to hold, as in 'p99<50ms,errors<0.1%'. p50,
    /// p90, p99, p99.9, p99.99 and max are latencies from the intended start, in us, ms or s; a request that
    /// was never answered or never sent exceeds every limit. errors is the percentage of requests that were
    /// due and not answered with a status of --ok. Without a condition on errors, an answer with another
    /// status counts like any other.
    #[arg(long, value_name = "CONDITIONS", help_heading = "Search")]
    pub slo: Slo,
    /// First rate to try, in requests per second. When it fails, the search goes down to 1.
    #[arg(
        long,
        default_value_t = 1_000.0,
        value_name = "N",
        help_heading = "Search"
    )]
    pub from: f64,
    /// Highest rate to try.
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
    /// Number of further probes that have to confirm the rate found.
    #[arg(long, default_value_t = 2, value_name = "N", help_heading = "Search")]
    pub confirm: u32,
    /// Precision of the rate found, in percent.
    #[arg(
        long,
        default_value_t = 5.0,
        value_name = "PERCENT",
        help_heading = "Search"
    )]
    pub precision: f64,
    /// Seconds for the target to settle after each probe.
    #[arg(
        long,
        default_value_t = 1.0,
        value_name = "SECONDS",
        help_heading = "Search"
    )]
    pub pause: f64,
    /// Write the result and all probes as JSON to this file; `-` is stdout, and the text then goes to stderr.
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
