//! A record in the machine, and its history.

use crate::lanes::LaneId;
use crate::record::Record;
use crate::time::Mono;
use std::fmt;

/// Which lane of the destination a record goes to, if it has any.
pub(super) struct LaneOf<T>(pub(super) Box<LaneOfRecord<T>>);

pub(super) type LaneOfRecord<T> = dyn Fn(&Record<T>) -> Option<LaneId> + Send;

impl<T> fmt::Debug for LaneOf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LaneOf")
    }
}

/// A queued record and its history.
#[derive(Debug)]
pub(super) struct Queued<T> {
    pub(super) record: Record<T>,
    pub(super) lane: Option<LaneId>,
    /// Calls that have carried it.
    pub(super) attempts: u32,
    /// When it arrived, for lingering.
    pub(super) since: Mono,
    /// It was in a batch the destination rejected as invalid. It is sent alone, so that one invalid
    /// record cannot keep failing its neighbours.
    pub(super) alone: bool,
    /// The spool did not keep it: it is tried until its deadline.
    pub(super) unspoolable: bool,
}

/// History of a record while a call carries it.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) lane: Option<LaneId>,
    pub(super) attempts: u32,
    pub(super) since: Mono,
    pub(super) deadline: Mono,
    pub(super) unspoolable: bool,
}

/// A record that waits for its next attempt. Ordered by time, then by arrival.
#[derive(Debug)]
pub(super) struct Retrying<T> {
    pub(super) at: Mono,
    pub(super) number: u64,
    pub(super) queued: Queued<T>,
}

impl<T> PartialEq for Retrying<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Retrying<T> {}

impl<T> PartialOrd for Retrying<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Retrying<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
