//! One thread's part of a rate: requests are numbered over all threads and dealt out in turn.
//! Pure arithmetic on nanoseconds since the run's start.

use super::rate::RateCurve;
use std::sync::Arc;

/// One thread's part of a rate.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    curve: Arc<RateCurve>,
    threads: u64,
    thread: u64,
}

impl Schedule {
    /// `curve` is the rate of all threads together.
    pub(super) fn new(curve: Arc<RateCurve>, threads: usize, thread: usize) -> Schedule {
        Schedule {
            curve,
            threads: threads as u64,
            thread: thread as u64,
        }
    }

    /// When this thread's request number `n` (from 0) is meant to start; `u64::MAX` is never.
    pub(super) fn intended(&self, n: u64) -> u64 {
        let number = n.saturating_mul(self.threads).saturating_add(self.thread);
        self.curve.intended(number)
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
    use super::super::rate::{Load, Trace};
    use super::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    fn schedules(load: &Load, threads: usize) -> Vec<Schedule> {
        let duration = Some(Duration::from_secs(10));
        let curve = Arc::new(load.curve(duration).unwrap().unwrap());
        (0..threads)
            .map(|thread| Schedule::new(Arc::clone(&curve), threads, thread))
            .collect()
    }

    #[test]
    fn threads_together_keep_the_rate_and_never_start_at_once() {
        let threads = schedules(
            &Load::Open {
                per_second: 1_000.0,
            },
            3,
        );
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
        let mut loads: Vec<Load> = [0.5, 3.0, 1_000.0, 61_234.5]
            .map(|per_second| Load::Open { per_second })
            .into();
        loads.push(Load::Ramp {
            from: 0.0,
            to: 5_000.0,
        });
        loads.push(Load::Trace(Trace::parse("1 100\n4 0\n8 70\n9 0").unwrap()));
        for load in &loads {
            for schedule in schedules(load, 2) {
                for end in [0, 1, SECOND / 3, SECOND, 5 * SECOND, 10 * SECOND] {
                    let due = schedule.due_before(end);
                    assert!(due == 0 || schedule.intended(due - 1) < end);
                    assert!(schedule.intended(due) >= end);
                }
            }
        }
        let whole = |load: &Load| schedules(load, 1)[0].due_before(10 * SECOND);
        assert_eq!(whole(&Load::Open { per_second: 100.0 }), 1_000);
        assert_eq!(
            whole(&Load::Ramp {
                from: 0.0,
                to: 200.0
            }),
            1_000
        );
        assert_eq!(whole(&loads[5]), 370);
    }
}
