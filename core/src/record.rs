//! One record on its way to one destination, and what a destination can say of it.

use crate::ack::Ticket;
use crate::time::Mono;
use crate::topic::Topic;
use bytes::Bytes;

/// A record for one output. It owns the obligation ([`Ticket`]) to report what became of it.
#[derive(Debug)]
pub struct Record {
    /// The partition key in UTF-8, at most 256 characters; `None` lets the sink choose
    /// (a random key for Kinesis, no key for Kafka or an AUTO stream).
    pub key: Option<Bytes>,
    /// Where in a destination of several topics it goes; `None`: to the output's own or fallback topic.
    pub topic: Option<Topic>,
    /// What the destination stores, exactly.
    pub payload: Bytes,
    /// After this the client has its answer: a record that still waits then is not sent any more.
    pub deadline: Mono,
    /// The obligation to report an outcome.
    pub ticket: Ticket,
}

impl Record {
    /// Bytes that count against a destination's limits: key and payload.
    #[must_use]
    pub fn size(&self) -> usize {
        self.payload.len() + self.key.as_ref().map_or(0, Bytes::len)
    }
}

/// What one call of a sink says of one record. There is no default: a sink that does not know
/// says [`RecordResult::Retry`] with [`Cause::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordResult {
    /// The destination confirmed this record.
    Delivered,
    /// Not known to be stored; worth another try while there is time.
    Retry(Cause),
    /// The destination will not take this record however often it is sent.
    Refused(Cause),
}

/// Why a record was not delivered, as far as it is known. The label is its name in metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The destination asked for less.
    Throttled,
    /// The destination answered that it failed, or could not be reached at all.
    Unavailable,
    /// The call ended without a readable word on this record: it may be stored. The one legal
    /// source of duplicates.
    Unknown,
    /// Credentials or permissions do not allow the call.
    Denied,
    /// The stream, topic, bucket or directory does not exist.
    NotFound,
    /// The record is over the destination's limit.
    TooLarge,
    /// The destination called the record or the call invalid.
    Invalid,
    /// No space left on the device.
    NoSpace,
    /// Its deadline passed before a call confirmed it.
    Expired,
    /// The process stopped before a call confirmed it.
    Shutdown,
    /// Its ticket was dropped unsettled: a defect in Sluice, never a destination's word.
    Lost,
}

impl Cause {
    /// Every cause, in declaration order.
    pub const ALL: [Cause; 11] = [
        Cause::Throttled,
        Cause::Unavailable,
        Cause::Unknown,
        Cause::Denied,
        Cause::NotFound,
        Cause::TooLarge,
        Cause::Invalid,
        Cause::NoSpace,
        Cause::Expired,
        Cause::Shutdown,
        Cause::Lost,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Cause::Throttled => "throttled",
            Cause::Unavailable => "unavailable",
            Cause::Unknown => "unknown",
            Cause::Denied => "denied",
            Cause::NotFound => "not_found",
            Cause::TooLarge => "too_large",
            Cause::Invalid => "invalid",
            Cause::NoSpace => "no_space",
            Cause::Expired => "expired",
            Cause::Shutdown => "shutdown",
            Cause::Lost => "lost",
        }
    }
}
