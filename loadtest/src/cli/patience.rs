//! The command line of `patience`, and how it becomes its options.

use super::plain_target;
use crate::patience::{EVENTS_MAX, Options, PROFILES, Profile, SECONDS_MAX, named};
use crate::run::Target;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `patience`; described at [`super::Command`].
#[derive(Debug, Args)]
pub struct PatienceArgs {
    /// URL of the collector, http:// and without a path, for instance http://127.0.0.1:8088.
    #[arg(long, value_name = "URL", value_parser = bare_target)]
    pub target: Target,
    /// Clients that play, comma-separated; all of them by default.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = client)]
    pub clients: Vec<&'static Profile>,
    /// Events of each client.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=EVENTS_MAX))]
    pub events: u64,
    /// Seconds over which they are made.
    #[arg(long, default_value_t = 80, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub duration: u64,
    /// Seconds that clients may go on afterwards.
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=SECONDS_MAX))]
    pub settle: u64,
    /// Write the outcome of each event to this file, for `audit --acks`. An event that was made and never sent is in
    /// it, too.
    #[arg(long, value_name = "FILE")]
    pub acks: Option<PathBuf>,
    /// Write the report as JSON to this file; `-` is stdout, and the text then goes to stderr.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl PatienceArgs {
    /// What is played.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            target: self.target.clone(),
            clients: match self.clients.is_empty() {
                true => PROFILES.iter().collect(),
                false => self.clients.clone(),
            },
            events: self.events,
            duration: Duration::from_secs(self.duration),
            settle: Duration::from_secs(self.settle),
            acks: self.acks.clone(),
            run: fastrand::u32(..),
        }
    }
}

fn client(name: &str) -> Result<&'static Profile, String> {
    named(name).ok_or_else(|| {
        let known: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        format!("no such client; there are {}", known.join(", "))
    })
}

fn bare_target(text: &str) -> Result<Target, String> {
    let target = plain_target(text)?;
    match target.path {
        None => Ok(target),
        Some(path) => Err(format!("each client has its own path: leave out {path}")),
    }
}
