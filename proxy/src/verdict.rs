//! What a client should do next, before any dialect puts it into a status.

use sluice_core::reject::Reject;

/// The end of one request.
#[derive(Debug)]
pub enum Verdict {
    /// Every accepted event is where its outputs promised; these were refused alone.
    Done {
        /// Events accepted.
        accepted: u32,
        /// Events refused, by their index in the body.
        rejected: Vec<(u32, Reject)>,
    },
    /// Not known to be stored, through no fault of the client: send it again.
    RetryLater(Shed),
    /// Sending it again as it is will not help.
    GiveUp(Reject),
}

/// Why a request was not taken, or not confirmed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The byte budget is used up; mostly the body was not even read.
    Budget,
    /// The queue of an output is full.
    Queue,
    /// An output did not confirm within the ack deadline.
    Deadline,
    /// An output reported that it could not deliver.
    Sink,
}

impl Shed {
    /// Its name as `code` of error bodies.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Shed::Budget => "overloaded",
            Shed::Queue => "queue_full",
            Shed::Deadline => "not_confirmed",
            Shed::Sink => "not_delivered",
        }
    }

    /// One sentence for people.
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
