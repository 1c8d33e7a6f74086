//! Monotonic and wall-clock time as plain values. Core never reads a clock; its callers do.

use std::ops::Add;
use std::time::Duration;

/// Monotonic time: microseconds since an origin chosen at process start. Used for deadlines and waits,
/// because wall time jumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// A time that is never reached.
    pub const NEVER: Mono = Mono(u64::MAX);

    /// Time since `earlier`, zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, wait: Duration) -> Mono {
        Mono(
            self.0
                .saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

/// Wall-clock time, as written into records; never used for deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub secs: u64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

impl Add<Duration> for Wall {
    type Output = Wall;

    fn add(self, wait: Duration) -> Wall {
        let nanos = self.nanos + wait.subsec_nanos();
        Wall {
            secs: self
                .secs
                .saturating_add(wait.as_secs() + u64::from(nanos / 1_000_000_000)),
            nanos: nanos % 1_000_000_000,
        }
    }
}

impl Wall {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        self.secs * 1000 + u64::from(self.nanos / 1_000_000)
    }
}

/// A duration in whole microseconds, saturating.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_carry_into_seconds() {
        let wall = Wall {
            secs: 7,
            nanos: 999_999_999,
        };
        assert_eq!(wall + Duration::from_nanos(1), Wall { secs: 8, nanos: 0 });
        assert_eq!(wall + Duration::new(2, 3), Wall { secs: 10, nanos: 2 });
    }
}
