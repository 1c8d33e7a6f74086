//! The command line of `audit`, and its sources of stored events.

use super::plain_target;
use crate::audit::Source;
use crate::run::Target;
use clap::Args;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `audit`; described at [`super::Command`].
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// File of answers, from `run --acks`; more than one for several runs.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub acks: Vec<PathBuf>,
    /// Where the stored events are.
    #[command(flatten)]
    pub stored: StoredArgs,
    /// Ending of the file names that --dir reads; repeat for more, '' for all files. Gzip and zstd files are
    /// unpacked.
    #[arg(long, value_name = "ENDING",
          default_values = [".ndjson", ".jsonl", ".json", ".gz", ".zst"])]
    pub suffix: Vec<String>,
    /// Name of the stream that --kinesis reads.
    #[arg(long, default_value = "clicks")]
    pub stream: String,
    /// Also count per window of this many seconds, by the start time of requests.
    #[arg(long, value_name = "SECONDS")]
    pub window: Option<NonZeroU32>,
    /// Wait up to this long for the end marks that `run` and an emulator append to their --acks and --ledger
    /// files when they end. Without them the audit says that it is early.
    #[arg(long, value_name = "SECONDS", value_parser = wait, default_value = "0")]
    pub wait: Duration,
    /// Write the findings as JSON to this file; `-` is stdout, and the text then goes to stderr.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Longest `--wait`: a day.
const WAIT_SECONDS_MAX: f64 = 86_400.0;

fn wait(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .filter(|seconds| (0.0..=WAIT_SECONDS_MAX).contains(seconds))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("expected 0 to {WAIT_SECONDS_MAX} seconds"))
}

/// Where the stored events are: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct StoredArgs {
    /// Directory of newline-delimited JSON files, plain, gzip or zstd, searched recursively.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Ledger of an emulator, from `kinesis --ledger`.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Endpoint of a Kinesis emulator, read from the oldest record on, as fast as the shards' read limits
    /// allow; containers of the Kinesis Producer Library are unpacked.
    #[arg(long, value_name = "URL", value_parser = plain_target)]
    pub kinesis: Option<Target>,
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
