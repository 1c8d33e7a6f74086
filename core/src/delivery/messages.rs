//! What the machine is told, and what it asks for.

use super::ToSpool;
use crate::ack::{Outcome, Ticket};
use crate::cause::Cause;
use crate::record::{Record, RecordResult};

/// Identifies a call from its [`Action::Send`] to its [`Input::Completed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(pub(super) usize);

/// An input of the machine.
#[derive(Debug)]
pub enum Input<T = Ticket> {
    /// Records arrived.
    Records(Vec<Record<T>>),
    /// A call ended; `results` correspond to `records` in order. A missing result counts as
    /// [`Cause::Unknown`].
    Completed {
        /// The call, as given in [`Action::Send`].
        call: CallId,
        /// Its records, in the order they were sent.
        records: Vec<Record<T>>,
        /// One result per record.
        results: Vec<RecordResult>,
    },
    /// The spool answered [`Action::Spool`].
    Spooled {
        /// The records, as they were given.
        records: Vec<ToSpool<T>>,
        /// Whether the disk has them. Those it does not have are tried until their deadline, as without a
        /// spool.
        kept: bool,
    },
    /// Replay sent a call to the same destination.
    ReplaySent,
    /// A call of replay ended.
    ReplayEnded {
        /// Whether the destination answered for any of its records ([`RecordResult::is_answer`]).
        succeeded: bool,
    },
    /// Time passed.
    Tick,
    /// No more records will come: lingering is over.
    Drain,
    /// Time is up: what is not in flight is spooled, or settled as [`Cause::Shutdown`].
    Stop,
}

/// An action for the caller to carry out.
#[derive(Debug)]
pub enum Action<T = Ticket> {
    /// Call the destination with these records; answer with [`Input::Completed`].
    Send {
        /// Returned in [`Input::Completed`].
        call: CallId,
        /// The batch.
        records: Vec<Record<T>>,
    },
    /// Put these records on disk; answer with [`Input::Spooled`].
    Spool(Vec<ToSpool<T>>),
    /// Report the outcome of this record.
    Settle(Record<T>, Outcome),
    /// Report that the destination has all of these: a whole call, for so end almost all of them.
    Delivered(Vec<Record<T>>),
    /// A record will be retried for this cause. Only for counting.
    CountRetry(Cause),
}
