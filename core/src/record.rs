//! A record on its way to one destination, and the result of a call for it.

use crate::ack::Ticket;
use crate::cause::Cause;
use crate::planted::{self, Bug};
use crate::time::Mono;
use crate::topic::Topic;
use bytes::Bytes;

/// A record for one output. It owns the obligation to report its outcome: `T`, in Sluice a [`Ticket`].
#[derive(Debug)]
pub struct Record<T = Ticket> {
    /// The partition key in UTF-8, at most 256 characters; `None` lets the sink choose
    /// (a random key for Kinesis, no key for Kafka or an AUTO stream).
    pub key: Option<Bytes>,
    /// The topic, for outputs with several; `None` means the output's own or fallback topic.
    pub topic: Option<Topic>,
    /// The bytes the destination stores, exactly.
    pub payload: Bytes,
    /// By this time the client has its answer; a record still waiting is not sent any more.
    pub deadline: Mono,
    /// The obligation to report an outcome.
    pub ticket: T,
}

impl<T> Record<T> {
    /// Bytes that count against a destination's limits: key and payload.
    #[must_use]
    pub fn size(&self) -> usize {
        self.payload.len() + self.key.as_ref().map_or(0, Bytes::len)
    }
}

/// A sink call's result for one record. There is no default: a sink that does not know returns
/// [`RecordResult::Retry`] with [`Cause::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordResult {
    /// The destination confirmed this record.
    Delivered,
    /// Not known to be stored; retry while there is time.
    Retry(Cause),
    /// The destination will never accept this record.
    Refused(Cause),
}

impl RecordResult {
    /// Whether the destination itself answered for the record, be it to throttle or to reject it. Anything else is
    /// what an outage looks like.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            RecordResult::Delivered => true,
            RecordResult::Retry(cause) | RecordResult::Refused(cause) => {
                matches!(cause, Cause::Throttled | Cause::Invalid | Cause::TooLarge)
                    && !(*cause == Cause::Throttled && planted::is(Bug::ThrottlingOpensCircuit))
            }
        }
    }
}
