//! How the requests of one endpoint become records: the settings of [`crate::pipeline`].

#[cfg(doc)]
use crate::inflate;
use crate::json::split::SplitLimits;
use crate::partition::PartitionRule;
use crate::topic::Topics;
use std::sync::Arc;

/// Default for nested arrays and objects in one event. SDK events stay under 5 levels; known readers
/// accept 128 or more.
pub const DEPTH_MAX: usize = 64;

/// Default for events in one request. SDKs send at most 100.
pub const EVENTS_MAX: usize = 1_000;

/// Default for bytes of a decoded body: 1 MiB, twice the largest SDK batch.
pub const INFLATED_BYTES_MAX: usize = 1 << 20;

/// The content of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A whole request: its body as an escaped string, with metadata from its head.
    Envelope,
    /// One event of the body, as the client wrote it, plus the server's fields.
    Event,
}

/// How the requests of one endpoint become records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What one record holds.
    pub mode: Mode,
    /// Where its partition key comes from.
    pub partition: PartitionRule,
    /// The template that names its topic, for outputs with several.
    pub topics: Option<Arc<Topics>>,
    /// Event mode: nested arrays and objects allowed in one event, its own braces included.
    pub depth_max: usize,
    /// Event mode: events allowed in one request.
    pub events_max: usize,
    /// Event mode: largest decoded body, in bytes ([`inflate::unwrap_events`]).
    pub inflated_bytes_max: usize,
    /// Envelope mode: whether the query parameter `fakeIp` takes the place of the client's address.
    pub fake_ip: bool,
}

impl Plan {
    /// A plan with the usual limits: [`DEPTH_MAX`], [`EVENTS_MAX`], [`INFLATED_BYTES_MAX`].
    #[must_use]
    pub fn new(mode: Mode, partition: PartitionRule) -> Plan {
        Plan {
            mode,
            partition,
            topics: None,
            depth_max: DEPTH_MAX,
            events_max: EVENTS_MAX,
            inflated_bytes_max: INFLATED_BYTES_MAX,
            fake_ip: false,
        }
    }

    pub(crate) fn split_limits(&self) -> SplitLimits {
        SplitLimits {
            depth_max: self.depth_max,
            events_max: self.events_max,
        }
    }
}
