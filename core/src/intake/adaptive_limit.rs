//! An adaptive bound on what may be pending at a destination that throttles.
//!
//! An overloaded destination stores as much as it can, but if everything waits equally long, everything is
//! late: clients are told to resend events that were stored, and they do. While the destination throttles
//! and results come late, the capacity is therefore its recent throughput times the longest acceptable
//! latency, and requests over it are rejected immediately. Otherwise the capacity grows back to the
//! configured bound. Pure; time is an argument.

use crate::time::Mono;
use std::time::Duration;

/// The capacity never shrinks below this many bytes, so that a destination that took nothing is tried again.
pub const CAPACITY_BYTES_MIN: u64 = 64 << 10;

/// Intervals per target latency: short enough to follow a destination, long enough to measure it.
const LOOKS: u32 = 2;

/// Bounds the bytes that one core may have pending at one output.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    /// Configured bound, bytes.
    most: u64,
    /// Longest acceptable latency of a result while the destination throttles.
    target: Duration,
    /// Bytes that may be pending now.
    capacity: u64,
    /// When the current interval began.
    since: Mono,
    /// Bytes confirmed in this interval.
    delivered: u64,
    /// Whether a result in this interval took longer than the target, or a record expired.
    late: bool,
    /// Total throttle count at the start of this interval.
    throttled: u64,
    /// Bytes per second, smoothed over intervals.
    rate: Option<u64>,
}

impl AdaptiveLimit {
    /// A limit of `most` bytes until the destination throttles.
    pub(crate) fn new(most: u64, target: Duration) -> AdaptiveLimit {
        AdaptiveLimit {
            most,
            target,
            capacity: most,
            since: Mono::default(),
            delivered: 0,
            late: false,
            throttled: 0,
            rate: None,
        }
    }

    /// Bytes that may be pending now.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Records `bytes` confirmed, `took` after they were accepted.
    pub(crate) fn delivered(&mut self, bytes: u64, took: Duration) {
        self.delivered += bytes;
        self.late |= took > self.target;
    }

    /// Records that a record expired.
    pub(crate) fn given_up(&mut self) {
        self.late = true;
    }

    /// Advances time. `throttled` is the destination's total throttle count so far. Call every few
    /// milliseconds.
    pub(crate) fn tick(&mut self, now: Mono, throttled: u64) {
        let passed = now.since(self.since);
        if passed < self.target / LOOKS {
            return;
        }
        // Below 2^64: bytes of an interval are bounded by the budget, and an interval is a second or so.
        let lately = u128::from(self.delivered) * 1_000_000 / passed.as_micros().max(1);
        let lately = u64::try_from(lately).unwrap_or(u64::MAX);
        let rate = match self.rate {
            None => lately,
            Some(before) => before / 2 + lately / 2,
        };
        self.rate = Some(rate);
        if self.late && throttled > self.throttled {
            let in_time = u128::from(rate) * self.target.as_micros() / 1_000_000;
            let in_time = u64::try_from(in_time).unwrap_or(u64::MAX);
            self.capacity = in_time.clamp(CAPACITY_BYTES_MIN.min(self.most), self.most);
        } else {
            self.capacity = (self.capacity + self.capacity / 4 + 1).min(self.most);
        }
        self.since = now;
        self.delivered = 0;
        self.late = false;
        self.throttled = throttled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const MOST: u64 = 100 << 20;
    const TARGET: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_millis(500);

    /// One interval of an adaptive limit: `bytes` confirmed after `took`, `throttled` so far.
    fn interval(
        adaptive_limit: &mut AdaptiveLimit,
        now: &mut Mono,
        bytes: u64,
        took: Duration,
        throttled: u64,
    ) {
        adaptive_limit.delivered(bytes, took);
        *now = *now + INTERVAL;
        adaptive_limit.tick(*now, throttled);
    }

    #[test]
    fn without_throttling_capacity_stays() {
        let (mut adaptive_limit, mut now) = (AdaptiveLimit::new(MOST, TARGET), Mono::default());
        for _ in 0..100 {
            interval(&mut adaptive_limit, &mut now, 1_000, 3 * TARGET, 0);
            adaptive_limit.given_up();
        }
        assert_eq!(adaptive_limit.capacity(), MOST);
    }

    #[test]
    fn throttling_that_delays_nobody_changes_nothing() {
        let (mut adaptive_limit, mut now) = (AdaptiveLimit::new(MOST, TARGET), Mono::default());
        for throttled in 1..100 {
            interval(&mut adaptive_limit, &mut now, 1_000_000, TARGET, throttled);
        }
        assert_eq!(adaptive_limit.capacity(), MOST);
    }

    #[test]
    fn late_throttled_results_shrink_capacity_to_the_target_throughput() {
        for late in [
            |adaptive_limit: &mut AdaptiveLimit| {
                adaptive_limit.delivered(0, TARGET + Duration::from_micros(1))
            },
            AdaptiveLimit::given_up,
        ] {
            let (mut adaptive_limit, mut now) = (AdaptiveLimit::new(MOST, TARGET), Mono::default());
            late(&mut adaptive_limit);
            interval(&mut adaptive_limit, &mut now, 1_000_000, TARGET, 1);
            assert_eq!(adaptive_limit.capacity(), 2_000_000);
        }
    }

    #[test]
    fn capacity_has_a_minimum_and_grows_back() {
        let (mut adaptive_limit, mut now) = (AdaptiveLimit::new(MOST, TARGET), Mono::default());
        for throttled in 1..20 {
            adaptive_limit.given_up();
            interval(&mut adaptive_limit, &mut now, 0, TARGET, throttled);
        }
        assert_eq!(adaptive_limit.capacity(), CAPACITY_BYTES_MIN);
        let mut looks = 0;
        while adaptive_limit.capacity() < MOST {
            let before = adaptive_limit.capacity();
            interval(&mut adaptive_limit, &mut now, 0, Duration::ZERO, 19);
            assert!(adaptive_limit.capacity() > before);
            looks += 1;
        }
        assert!(looks < 60, "{looks}");

        // A bound below the least capacity is the bound.
        let (mut adaptive_limit, mut now) = (AdaptiveLimit::new(10, TARGET), Mono::default());
        adaptive_limit.given_up();
        interval(&mut adaptive_limit, &mut now, 0, TARGET, 1);
        assert_eq!(adaptive_limit.capacity(), 10);
    }

    #[test]
    fn between_looks_nothing_moves() {
        let mut adaptive_limit = AdaptiveLimit::new(MOST, TARGET);
        adaptive_limit.given_up();
        adaptive_limit.tick(Mono(INTERVAL.as_micros() as u64 - 1), 1);
        assert_eq!(adaptive_limit.capacity(), MOST);
        adaptive_limit.tick(Mono::default() + INTERVAL, 1);
        assert_eq!(adaptive_limit.capacity(), CAPACITY_BYTES_MIN);
    }

    /// A destination that takes `capacity` bytes per second from the head of a line, `offered` per second
    /// by clients, in portions of 10 ms. The share of what it stored that came within two target
    /// times.
    fn in_time(offered: usize, capacity: usize, limited: bool) -> f64 {
        let (mut adaptive_limit, mut now) = (AdaptiveLimit::new(MOST, TARGET), Mono::default());
        let mut line: VecDeque<(Mono, u64)> = VecDeque::new();
        let (portion, mut pending, mut throttled, mut may) = (offered as u64 / 100, 0, 0, 0);
        let (mut good, mut stored) = (0, 0);
        for _ in 0..6_000 {
            now = now + Duration::from_millis(10);
            if pending + portion
                <= if limited {
                    adaptive_limit.capacity()
                } else {
                    MOST
                }
            {
                pending += portion;
                line.push_back((now, portion));
            }
            may = (may + capacity as u64 / 100).min(capacity as u64);
            while let Some((since, bytes)) = line.pop_front() {
                let took = now.since(since);
                if took > 4 * TARGET {
                    adaptive_limit.given_up();
                } else if may < bytes {
                    throttled += 1;
                    line.push_front((since, bytes));
                    break;
                } else {
                    may -= bytes;
                    stored += bytes;
                    good += u64::from(took <= 2 * TARGET) * bytes;
                    adaptive_limit.delivered(bytes, took);
                }
                pending -= bytes;
            }
            adaptive_limit.tick(now, throttled);
        }
        good as f64 / stored as f64
    }

    #[test]
    fn results_are_in_time_under_twofold_overload() {
        assert!(in_time(2_000_000, 1_000_000, false) < 0.2);
        assert!(in_time(2_000_000, 1_000_000, true) > 0.9);
        assert!(in_time(900_000, 1_000_000, true) > 0.999);
    }
}
