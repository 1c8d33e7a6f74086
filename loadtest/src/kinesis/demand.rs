//! When an on-demand stream grows: it doubles when it carried more than half of what its shards
//! take, so that it stands ready for about twice the highest load that it has seen.
//! A pure function of (time, bytes, records); it never shrinks, for the service remembers a peak
//! for weeks.

use super::SHARDS_MAX;
use super::shard::{SHARD_BYTES_PER_SECOND, SHARD_RECORDS_PER_SECOND};
use std::time::Duration;

/// Samples that a period is divided into: a peak must last one sample to count.
const SAMPLES: u32 = 15;

/// The load of an on-demand stream. Times are since the stream's creation, and never go back.
#[derive(Debug)]
pub(super) struct Demand {
    period: Duration,
    sample_start: Duration,
    bytes: u64,
    records: u64,
    /// Highest load of a finished sample, in thousandths of what one shard takes.
    peak_millishards: u64,
    grown: Duration,
}

impl Demand {
    /// `period` is the shortest time between two doublings; at least 15 ns.
    pub(super) fn new(period: Duration) -> Demand {
        Demand {
            period,
            sample_start: Duration::ZERO,
            bytes: 0,
            records: 0,
            peak_millishards: 0,
            grown: Duration::ZERO,
        }
    }

    /// Counts records stored at `now`.
    pub(super) fn add(&mut self, now: Duration, bytes: u64, records: u64) {
        self.roll(now);
        self.bytes += bytes;
        self.records += records;
    }

    /// Ends the current sample if its time is over. What it counted was within that one sample:
    /// every call rolls first.
    fn roll(&mut self, now: Duration) {
        let sample = (self.period / SAMPLES).max(Duration::from_nanos(1));
        let elapsed = now.saturating_sub(self.sample_start);
        if elapsed < sample {
            return;
        }
        let per_second = |count: u64, one_shard: u32| {
            let scale = 1_000 * 1_000_000_000 / u128::from(one_shard);
            u64::try_from(u128::from(count) * scale / sample.as_nanos()).unwrap_or(u64::MAX)
        };
        let load = per_second(self.bytes, SHARD_BYTES_PER_SECOND)
            .max(per_second(self.records, SHARD_RECORDS_PER_SECOND));
        self.peak_millishards = self.peak_millishards.max(load);
        (self.bytes, self.records) = (0, 0);
        let over = elapsed.as_nanos() % sample.as_nanos();
        self.sample_start = now - Duration::from_nanos(u64::try_from(over).unwrap_or(0));
    }

    /// The number of shards that a stream of `open` shards now grows to, if it does: at most twice
    /// as many, and once in a period.
    pub(super) fn growth(&mut self, now: Duration, open: u32) -> Option<u32> {
        self.roll(now);
        let enough = self.peak_millishards.saturating_mul(2) <= u64::from(open) * 1_000;
        let early = now.saturating_sub(self.grown) < self.period;
        let wanted = open.saturating_mul(2).min(SHARDS_MAX);
        if enough || early || wanted <= open {
            return None;
        }
        self.grown = now;
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(900);

    /// A constant load from `from_s` to `to_s`, counted every second.
    fn load(demand: &mut Demand, from_s: u64, to_s: u64, bytes: u64, records: u64) {
        for second in from_s..to_s {
            demand.add(Duration::from_secs(second), bytes, records);
        }
    }

    #[test]
    fn an_on_demand_stream_over_half_its_capacity_doubles() {
        for (bytes, records) in [((2 << 20) + 2_000, 1), (1, 2_002)] {
            let mut demand = Demand::new(PERIOD);
            load(&mut demand, 0, 900, bytes, records);
            assert_eq!(demand.growth(PERIOD, 4), Some(8));
            assert_eq!(demand.growth(2 * PERIOD, 8), None);
        }
        let mut demand = Demand::new(PERIOD);
        load(&mut demand, 0, 900, 2 << 20, 2_000);
        assert_eq!(demand.growth(PERIOD, 4), None);
    }

    #[test]
    fn it_doubles_at_most_once_in_a_period() {
        let mut demand = Demand::new(PERIOD);
        load(&mut demand, 0, 600, 64 << 20, 1);
        assert_eq!(demand.growth(Duration::from_secs(899), 4), None);
        assert_eq!(demand.growth(PERIOD, 4), Some(8));
        assert_eq!(demand.growth(Duration::from_secs(1_799), 8), None);
        assert_eq!(demand.growth(2 * PERIOD, 8), Some(16));
    }

    #[test]
    fn peaks_are_kept_and_spikes_averaged_per_sample() {
        let mut demand = Demand::new(PERIOD);
        load(&mut demand, 0, 60, 3 << 20, 1);
        assert_eq!(demand.growth(10 * PERIOD, 4), Some(8));

        let mut demand = Demand::new(PERIOD);
        load(&mut demand, 0, 1, 100 << 20, 1);
        assert_eq!(demand.growth(10 * PERIOD, 4), None);
    }

    #[test]
    fn load_after_a_pause_counts_for_its_own_time_only() {
        let mut demand = Demand::new(PERIOD);
        load(&mut demand, 0, 30, 3 << 20, 1);
        load(&mut demand, 100_020, 100_050, 3 << 20, 1);
        assert_eq!(demand.growth(Duration::from_secs(200_000), 4), None);
    }

    #[test]
    fn it_stops_at_the_most_shards_that_a_stream_has() {
        let mut demand = Demand::new(PERIOD);
        load(&mut demand, 0, 60, u64::MAX >> 8, 1);
        assert_eq!(demand.growth(PERIOD, 6_000), Some(SHARDS_MAX));
        assert_eq!(demand.growth(2 * PERIOD, SHARDS_MAX), None);
    }
}
