//! One record on its way to one destination, and what a destination can say of it.

use crate::ack::Ticket;
use crate::cause::Cause;
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
