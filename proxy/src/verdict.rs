//! The result of a request, before a dialect turns it into a response.

use crate::error_code::{self, ErrorCode};
use sluice_core::intake::{RetryAfter, Shed, ShedReason};
use sluice_core::reject::Reject;

/// Events that one response lists by index; their number is always given. Bounds the response to a
/// hostile body.
pub const LISTED_MAX: usize = 100;

/// The result of one request.
#[derive(Debug)]
pub enum Verdict {
    /// Every accepted event is stored as its outputs promise; some were refused individually.
    Done {
        /// Events accepted.
        accepted: u32,
        /// Events refused, by their index in the body.
        rejected: Vec<(u32, Reject)>,
    },
    /// Not known to be stored, through no fault of the client: it should send the request again.
    RetryLater(Shed),
    /// The same for a request with several events: only these are in doubt, the others are stored.
    InDoubt {
        /// Why.
        shed: Shed,
        /// How many events.
        total: u32,
        /// The first of them, by their index in the body; at most [`LISTED_MAX`].
        indices: Vec<u32>,
    },
    /// The request is at fault: sending it again unchanged will not help.
    GiveUp(Reject),
}

impl Verdict {
    /// When the client should send its request again.
    #[must_use]
    pub fn retry_after(&self) -> Option<RetryAfter> {
        match self {
            Verdict::RetryLater(shed) | Verdict::InDoubt { shed, .. } => Some(shed.retry_after),
            Verdict::Done { .. } | Verdict::GiveUp(_) => None,
        }
    }
}

/// The `code` of a shed request in error bodies.
#[must_use]
pub const fn code(reason: ShedReason) -> ErrorCode {
    match reason {
        ShedReason::Budget => error_code::OVERLOADED,
        ShedReason::Queue => error_code::QUEUE_FULL,
        ShedReason::Circuit => error_code::CIRCUIT_OPEN,
        ShedReason::Deadline => error_code::NOT_CONFIRMED,
        ShedReason::Sink => error_code::NOT_DELIVERED,
    }
}

/// One sentence for humans.
#[must_use]
pub const fn message(reason: ShedReason) -> &'static str {
    match reason {
        ShedReason::Budget => {
            "too many bytes are in flight; nothing was taken, send it again later"
        }
        ShedReason::Queue => "the destination is behind; nothing was taken, send it again later",
        ShedReason::Circuit => {
            "the destination has failed for a while; nothing was taken, send it again later"
        }
        ShedReason::Deadline => {
            "the destination did not confirm in time; it may have the events, send them again"
        }
        ShedReason::Sink => "the destination did not take every event, send them again later",
    }
}
