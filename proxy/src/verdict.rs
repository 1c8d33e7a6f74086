//! The result of a request, before a dialect turns it into a response.

use crate::error_code::{self, ErrorCode};
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

/// Why a request was shed, or not confirmed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The byte budget is exhausted; in most cases the body was not read.
    Budget,
    /// The queue of an output is full.
    Queue,
    /// An output did not confirm within the ack deadline.
    Deadline,
    /// An output reported that it could not deliver.
    Sink,
}

impl Shed {
    /// Its `code` in error bodies.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Shed::Budget => error_code::OVERLOADED,
            Shed::Queue => error_code::QUEUE_FULL,
            Shed::Deadline => error_code::NOT_CONFIRMED,
            Shed::Sink => error_code::NOT_DELIVERED,
        }
    }

    /// One sentence for humans.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Shed::Budget => "too many bytes are in flight; nothing was taken, send it again later",
            Shed::Queue => "the destination is behind; nothing was taken, send it again later",
            Shed::Deadline => {
                "the destination did not confirm in time; it may have the events, send them again"
            }
            Shed::Sink => "the destination did not take every event, send them again later",
        }
    }
}
