//! Plays clients with the patience of published SDKs against a collector, through an outage: batches, tries, waits and
//! time-outs. What is played is when a client sends and when it gives up, not its wire format: all send JSON to
//! the collector's own paths, a connection for each try.

mod client;
mod play;
mod profiles;
mod report;

pub use client::{Batch, Client, Counts};
pub use play::play;
pub use profiles::{AtLast, Next, Outcome, PROFILES, Profile, Retry, RetryAfter, Waits, named};
pub use report::{ClientReport, Report};

use crate::ledger::LedgerError;
use crate::run::Target;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Events that one client may make.
pub const EVENTS_MAX: u64 = 100_000;

/// The longest run, production and settling each.
pub const SECONDS_MAX: u64 = 86_400;

/// What is played.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where requests go, without a path.
    pub target: Target,
    /// Who plays.
    pub clients: Vec<&'static Profile>,
    /// Events of each client, 1 to [`EVENTS_MAX`].
    pub events: u64,
    /// The time over which they are made.
    pub duration: Duration,
    /// How long clients may go on afterwards.
    pub settle: Duration,
    /// The file of answers.
    pub acks: Option<PathBuf>,
    /// The number of the first client in event ids; the others follow.
    pub run: u32,
}

/// Why nothing can be played.
#[derive(Debug, thiserror::Error)]
pub enum PatienceError {
    /// The file of answers cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The system has no runtime for it.
    #[error("starting the clients: {0}")]
    Runtime(#[from] io::Error),
}
