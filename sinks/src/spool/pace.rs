//! How fast records are replayed. Reads no clock.

use sluice_core::delivery::BatchLimits;
use sluice_core::time::Mono;
use std::time::Duration;

/// A batch is at most what may be sent in this part of a second: a whole second's records at once would take the place
/// of live ones for that second.
const BATCHES_PER_S: u64 = 4;

/// Bounds of replay; `None` for no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) records_per_s: Option<u64>,
    pub(crate) bytes_per_s: Option<u64>,
}

impl Pace {
    /// The limits of a batch of replay, where a call has these.
    pub(crate) fn limit(self, limits: BatchLimits) -> BatchLimits {
        let share = |rate: Option<u64>| {
            let share = rate.map(|rate| (rate / BATCHES_PER_S).max(1));
            share.map_or(usize::MAX, |share| {
                usize::try_from(share).unwrap_or(usize::MAX)
            })
        };
        BatchLimits {
            records_max: limits.records_max.min(share(self.records_per_s)),
            // A record is never too large for its batch.
            bytes_max: limits
                .bytes_max
                .min(share(self.bytes_per_s).max(limits.record_bytes_max)),
            ..limits
        }
    }

    /// The time that a call of this many records and bytes stands for.
    fn cost(self, records: usize, bytes: usize) -> Duration {
        let time = |count: usize, rate: Option<u64>| match rate {
            // The declarations allow no rate of 0; a small part of a small quota may be.
            Some(rate) => Duration::from_secs_f64(count as f64 / rate.max(1) as f64),
            None => Duration::ZERO,
        };
        time(records, self.records_per_s).max(time(bytes, self.bytes_per_s))
    }
}

/// When the next call may be made.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    next_at: Mono,
}

impl Pacer {
    /// A call was made. Time in which there was none is not made up for.
    pub(crate) fn sent(&mut self, pace: Pace, now: Mono, records: usize, bytes: usize) {
        self.next_at = self.next_at.max(now) + pace.cost(records, bytes);
    }

    /// When the next call may be made.
    pub(crate) fn next_at(&self) -> Mono {
        self.next_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits {
        records_max: 500,
        bytes_max: 5 << 20,
        record_bytes_max: 1 << 20,
    };

    /// Records and bytes that go in so many seconds, in batches as large as they may be.
    fn sent(pace: Pace, record_bytes: usize, seconds: u64) -> (usize, usize) {
        let (mut pacer, mut now, mut records) = (Pacer::default(), Mono(0), 0);
        let limits = pace.limit(LIMITS);
        while now < Mono(seconds * 1_000_000) {
            let batch = limits.records_max.min(limits.bytes_max / record_bytes);
            pacer.sent(pace, now, batch, batch * record_bytes);
            records += batch;
            now = pacer.next_at();
        }
        (records, records * record_bytes)
    }

    #[test]
    fn replay_keeps_to_records_and_bytes_a_second() {
        let pace = Pace {
            records_per_s: Some(250),
            bytes_per_s: Some(256 << 10),
        };
        let (records, _) = sent(pace, 100, 100);
        assert!((24_900..=25_100).contains(&records), "{records}");
        let (_, bytes) = sent(pace, 64 << 10, 100);
        let most = 256 << 10;
        assert!((99 * most..=105 * most).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_replayed_batch_is_a_quarter_second_at_most() {
        let pace = Pace {
            records_per_s: Some(250),
            bytes_per_s: Some(16 << 20),
        };
        let limits = pace.limit(LIMITS);
        assert_eq!((limits.records_max, limits.bytes_max), (62, 4 << 20));
        // One record fits, however low the rate.
        let slow = Pace {
            records_per_s: Some(1),
            bytes_per_s: Some(1),
        };
        let limits = slow.limit(LIMITS);
        assert_eq!((limits.records_max, limits.bytes_max), (1, 1 << 20));
        assert_eq!(Pace::default().limit(LIMITS), LIMITS);
    }

    #[test]
    fn time_without_replay_is_not_made_up_for() {
        let pace = Pace {
            records_per_s: Some(100),
            bytes_per_s: None,
        };
        let mut pacer = Pacer::default();
        pacer.sent(pace, Mono(60_000_000), 25, 0);
        assert_eq!(pacer.next_at(), Mono(60_250_000));
    }

    #[test]
    fn replay_without_bounds_never_waits() {
        let mut pacer = Pacer::default();
        pacer.sent(Pace::default(), Mono(7), 1_000_000, 1 << 30);
        assert_eq!(pacer.next_at(), Mono(7));
    }
}
