//! The clocks of the process: a monotonic one for deadlines, the wall clock for timestamps.

use sluice_core::civil::LAST_SECOND;
use sluice_core::time::{Mono, Wall};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock of the process: every [`Mono`] in it counts from the same origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the clock. Call it once, early.
    #[must_use]
    pub fn start() -> Clock {
        Clock {
            origin: Instant::now(),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Mono {
        Mono::default() + self.origin.elapsed()
    }
}

/// The wall clock; it never goes below 1970.
#[must_use]
pub fn wall() -> Wall {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Wall {
        secs: since.as_secs(),
        nanos: since.subsec_nanos(),
    }
}

/// Whether the wall clock reads a year of four digits. hyper panics on a date beyond: connections are
/// closed instead until the clock is right.
pub(crate) fn is_writable() -> bool {
    wall().secs <= LAST_SECOND
}
