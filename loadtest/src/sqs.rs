//! An emulator of SQS: standard queues, the AWS JSON 1.0 protocol, the limits that producers
//! meet, the meter that bills a request per 64 KiB, and faults on request.
//! Keeps messages in memory; no FIFO queues, no long polling.

mod api;
mod queue;
mod server;

pub use crate::service::EmulatorError;
pub use api::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, ID_CHARS_MAX};
pub use server::{Emulator, Stats};

use crate::service;

/// Queues of one emulator.
pub const QUEUES_MAX: usize = 100;

/// Bytes that are billed as one request (service rule).
pub const BILLED_UNIT: u64 = 64 << 10;

/// Settings of the emulated service and its server.
#[derive(Clone, Debug)]
pub struct Options {
    /// How it is run.
    pub service: service::Options,
    /// The queues' names, up to [`QUEUES_MAX`]: each has 1 to 80 of `[a-zA-Z0-9_-]`.
    pub queues: Vec<String>,
    /// Largest message in bytes, 1 KiB to [`BATCH_BYTES_MAX`].
    pub message_bytes_max: usize,
    /// Memory for the messages of a queue, in bytes; over it the oldest go. `None` keeps no message.
    pub retain_bytes_max: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            service: service::Options::default(),
            queues: vec!["clicks".to_owned()],
            message_bytes_max: BATCH_BYTES_MAX,
            retain_bytes_max: Some(256 << 20),
        }
    }
}
