//! When requests are meant to start in an open loop: a constant rate, dealt out to threads in
//! turn. Pure arithmetic on nanoseconds since the run's start.

/// One thread's part of a constant rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    per_second: f64,
    threads: u64,
    thread: u64,
}

impl Schedule {
    /// `per_second` is the rate of all threads together, above 0.
    pub(super) fn new(per_second: f64, threads: usize, thread: usize) -> Schedule {
        Schedule {
            per_second,
            threads: threads as u64,
            thread: thread as u64,
        }
    }

    /// When this thread's request number `n` (from 0) is meant to start.
    pub(super) fn intended(&self, n: u64) -> u64 {
        // Exact to a nanosecond for a hundred days.
        let number = n * self.threads + self.thread;
        (number as f64 * 1e9 / self.per_second) as u64
    }

    /// How many of this thread's requests are meant to start before `end`.
    pub(super) fn due_before(&self, end: u64) -> u64 {
        let (mut low, mut high) = (0, 1);
        while self.intended(high) < end {
            low = high;
            high *= 2;
        }
        if self.intended(0) >= end {
            return 0;
        }
        // `low` is before the end, `high` is not.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.intended(middle) < end {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn threads_together_keep_the_rate_and_never_start_at_once() {
        let threads = [0, 1, 2].map(|thread| Schedule::new(1_000.0, 3, thread));
        let mut starts: Vec<u64> = threads
            .iter()
            .flat_map(|schedule| (0..100).map(|n| schedule.intended(n)))
            .collect();
        starts.sort_unstable();
        for (n, start) in starts.iter().enumerate() {
            assert_eq!(*start, n as u64 * 1_000_000);
        }
    }

    #[test]
    fn what_is_due_counts_exactly_the_starts_before_the_end() {
        for rate in [0.5, 3.0, 1_000.0, 61_234.5] {
            for thread in 0..2 {
                let schedule = Schedule::new(rate, 2, thread);
                for end in [0, 1, SECOND / 3, SECOND, 10 * SECOND] {
                    let due = schedule.due_before(end);
                    assert!(due == 0 || schedule.intended(due - 1) < end);
                    assert!(schedule.intended(due) >= end);
                }
            }
        }
        assert_eq!(Schedule::new(100.0, 1, 0).due_before(10 * SECOND), 1_000);
    }
}
