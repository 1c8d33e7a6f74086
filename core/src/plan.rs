//! How the requests of one endpoint become records: the settings of [`crate::pipeline`].

#[cfg(doc)]
use crate::inflate;
use crate::json::split::SplitLimits;
use crate::partition::PartitionRule;
use crate::topic::Topics;
use std::sync::Arc;

/// Nested arrays and objects in one event, unless configured otherwise. SDK events stay under 5; the
/// readers we know of stop at 128 or later.
pub const DEPTH_MAX: usize = 64;

/// Events in one request, unless configured otherwise. SDKs send at most 100.
pub const EVENTS_MAX: usize = 1_000;

/// Bytes of a body once it is unwrapped, unless configured otherwise: 1 MiB, twice what SDKs gather.
pub const INFLATED_BYTES_MAX: usize = 1 << 20;

/// What one record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A whole request: its body as an escaped string among what its head said.
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
    /// What names its topic, where an output has more than one.
    pub topics: Option<Arc<Topics>>,
    /// Event mode: nested arrays and objects allowed in one event, its own braces included.
    pub depth_max: usize,
    /// Event mode: events allowed in one request.
    pub events_max: usize,
    /// Event mode: bytes that a body may have once it is unwrapped ([`inflate::unwrap_events`]).
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
