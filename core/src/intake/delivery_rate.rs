//! How fast an output delivers, from which follows when a queue will have drained.

use crate::time::{Mono, micros};
use std::time::Duration;

/// The time over which the rate is measured, then smoothed with the time before.
const INTERVAL: Duration = Duration::from_millis(500);

/// Bytes per second, smoothed.
#[derive(Debug, Default)]
pub(crate) struct DeliveryRate {
    since: Mono,
    delivered: u64,
    per_second: u64,
}

impl DeliveryRate {
    /// Counts bytes that were confirmed.
    pub(crate) fn delivered(&mut self, bytes: u64) {
        self.delivered += bytes;
    }

    /// Lets time pass. An interval in which nothing `was_pending` says nothing about the rate.
    pub(crate) fn tick(&mut self, now: Mono, was_pending: bool) {
        let passed = now.since(self.since);
        if passed < INTERVAL {
            return;
        }
        if was_pending || self.delivered > 0 {
            let lately = u128::from(self.delivered) * 1_000_000 / u128::from(micros(passed).max(1));
            let lately = u64::try_from(lately).unwrap_or(u64::MAX);
            // The first measurement counts in full, so that a queue that fills at start has a rate.
            self.per_second = match self.per_second {
                0 => lately,
                before => before / 2 + lately / 2,
            };
        }
        self.since = now;
        self.delivered = 0;
    }

    /// The time in which this many bytes are delivered, rounded up; `None` where nothing was, lately.
    pub(crate) fn seconds_for(&self, bytes: u64) -> Option<u32> {
        if self.per_second == 0 {
            return None;
        }
        Some(u32::try_from(bytes.div_ceil(self.per_second)).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drain_time_is_pending_bytes_over_delivery_rate() {
        let mut rate = DeliveryRate::default();
        assert_eq!(rate.seconds_for(1), None);
        rate.delivered(500);
        rate.tick(Mono(500_000), true);
        assert_eq!(rate.seconds_for(1_000), Some(1));
        assert_eq!(rate.seconds_for(1_001), Some(2));
        // Nothing for half a second halves it, and idle time says nothing.
        rate.tick(Mono(1_000_000), true);
        rate.tick(Mono(9_000_000), false);
        assert_eq!(rate.seconds_for(1_000), Some(2));
        for stalled in 0..20 {
            rate.tick(Mono(9_500_000 + stalled * 500_000), true);
        }
        assert_eq!(rate.seconds_for(1), None);
    }
}
