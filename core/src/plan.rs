//! How the requests of one endpoint become records: the settings of [`crate::pipeline`].

use crate::inflate::{self, AcceptedCodings, CODINGS_MAX, CodingError, Codings};
use crate::json::split::SplitLimits;
use crate::letter::Letters;
use crate::partition::PartitionRule;
use crate::privacy::Privacy;
use crate::route::rules::Rules;
use crate::schema::Schemas;
use crate::sent::events_limit;
use crate::server_fields::ServerFields;
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
#[derive(Clone, Debug)]
pub struct Plan {
    /// What one record holds.
    pub mode: Mode,
    /// Where its partition key comes from.
    pub partition: PartitionRule,
    /// The template that names its topic, for outputs with several.
    pub topics: Option<Arc<Topics>>,
    /// Where each record goes; `None` sends all of them to every output.
    pub rules: Option<Arc<Rules>>,
    /// Event mode: nested arrays and objects allowed in one event, its own braces included.
    pub depth_max: usize,
    /// Event mode: events allowed in one request.
    pub events_max: usize,
    /// Largest decoded body, in bytes; see also [`inflate::inflated_limit`].
    pub inflated_bytes_max: usize,
    /// Codings that one body may have, applied one after the other. Gzip that event mode detects counts as one.
    pub codings_max: usize,
    /// Codings that are accepted.
    pub codings: AcceptedCodings,
    /// Envelope mode: whether the query parameter `fakeIp` takes the place of the client's address.
    pub fake_ip: bool,
    /// Event mode: what the server writes into events.
    pub server_fields: Arc<ServerFields>,
    /// What must not be stored; `None` if everything may.
    pub privacy: Option<Arc<Privacy>>,
    /// What is kept of events that cannot be stored as they should be; `None` keeps nothing.
    pub letters: Option<Arc<Letters>>,
    /// Event mode: what events have to look like; `None` if that is all the same.
    pub schemas: Option<Arc<Schemas>>,
}

impl Plan {
    /// A plan with the usual limits: [`DEPTH_MAX`], [`EVENTS_MAX`], [`INFLATED_BYTES_MAX`].
    #[must_use]
    pub fn new(mode: Mode, partition: PartitionRule) -> Plan {
        Plan {
            mode,
            partition,
            topics: None,
            rules: None,
            depth_max: DEPTH_MAX,
            events_max: EVENTS_MAX,
            inflated_bytes_max: INFLATED_BYTES_MAX,
            codings_max: CODINGS_MAX,
            codings: AcceptedCodings::ALL,
            fake_ip: false,
            server_fields: Arc::default(),
            privacy: None,
            letters: None,
            schemas: None,
        }
    }

    /// Whether a body with these codings is accepted.
    ///
    /// # Errors
    /// See [`Codings::check`].
    pub fn accept(&self, codings: &Codings) -> Result<(), CodingError> {
        codings.check(self.codings_max, self.codings)
    }

    /// Largest decoded form, in bytes, of a body of this many bytes.
    #[must_use]
    pub fn inflated_limit(&self, body_bytes: usize) -> usize {
        inflate::inflated_limit(body_bytes, self.inflated_bytes_max)
    }

    pub(crate) fn split_limits(&self, sent_bytes: usize) -> SplitLimits {
        SplitLimits {
            depth_max: self.depth_max,
            events_max: events_limit(sent_bytes, self.events_max),
        }
    }
}
