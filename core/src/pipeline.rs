//! Machine 1: turns a request into records. Read this first.
//!
//! ```text
//! envelope   the whole body, escaped, in one record around what the request said
//! event      unwrap gzip and base64 -> split the body -> scan each event -> key -> splice the server's fields in
//!            (an event that will not do is rejected alone)
//! ```
//! No I/O, no clock, no randomness: request, body and limits come in, records and rejects go out. What
//! becomes of the records is machine 2's affair (`delivery`).

#[cfg(doc)]
use crate::inflate;
use crate::json::split::SplitLimits;
use crate::partition::PartitionRule;
use crate::reject::Reject;
use crate::request::RequestContext;
use crate::topic::{self, Topic, Topics};
use crate::{envelope, event};
use bytes::Bytes;
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

/// A record without its ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedRecord {
    /// Which event of the body it is, counted from 0; 0 in envelope mode.
    pub index: u32,
    /// The partition key, at most [`crate::partition::KEY_CHARS_MAX`] characters; `None` lets the
    /// sink choose.
    pub key: Option<Bytes>,
    /// The topic that its values name; `None` where nothing names one.
    pub topic: Option<Topic>,
    /// One JSON object on one line, without a line end. Records of one request share their memory.
    pub payload: Bytes,
}

/// What [`Plan::run`] made of one request. Made once and used for one request after the other, so that
/// its memory is reused. `received == records.len() + rejected.len()`, always.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Events in the body; 1 in envelope mode.
    pub received: u32,
    /// What is to be delivered, in the order of the body.
    pub records: Vec<PreparedRecord>,
    /// Which events were rejected, and why, in the order of the body.
    pub rejected: Vec<(u32, Reject)>,
    pub(crate) envelope_scratch: envelope::Scratch,
    pub(crate) event_scratch: event::Scratch,
    pub(crate) topic_scratch: topic::Scratch,
}

impl Prepared {
    /// Forgets the last request, keeps the memory.
    pub fn clear(&mut self) {
        self.received = 0;
        self.records.clear();
        self.rejected.clear();
    }
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

    /// Turns one request into records. What was in `out` is forgotten. A record, key included, may have at
    /// most `record_bytes_max` bytes: the smallest limit among the destinations. An event too deep
    /// or too large is rejected alone, also when the body holds no other; so is an array element or a
    /// line that is no object.
    ///
    /// # Errors
    /// The body is refused whole, and `out` is empty. Envelope mode: [`Reject::RecordTooLarge`]. Event
    /// mode: [`Reject::Broken`], [`Reject::InflatedTooLarge`], [`Reject::NotJson`], [`Reject::NotUtf8`], [`Reject::NotAnObject`] (the body is one
    /// JSON value and that is no object), [`Reject::NoEvents`], [`Reject::TooManyEvents`]; for a
    /// body of 4 GiB [`Reject::BodyTooLarge`].
    pub fn run(
        &self,
        request: &RequestContext<'_>,
        body: &[u8],
        record_bytes_max: usize,
        out: &mut Prepared,
    ) -> Result<(), Reject> {
        out.clear();
        let prepare = match self.mode {
            Mode::Envelope => envelope::prepare,
            Mode::Event => event::prepare,
        };
        let result = prepare(self, request, body, record_bytes_max, out);
        if result.is_err() {
            out.clear();
        }
        assert!(
            out.received as usize == out.records.len() + out.rejected.len(),
            "an event was lost between body and records"
        );
        result
    }

    pub(crate) fn split_limits(&self) -> SplitLimits {
        SplitLimits {
            depth_max: self.depth_max,
            events_max: self.events_max,
        }
    }
}
