//! Adds up what threads counted, second by second: the series of a report, its overall latencies, and
//! the log of histograms. Runs beside the generator's threads; asks them nothing.

use super::hdr_log::HdrLog;
use super::interval::{Interval, SECOND_NS, TimesPool};
use super::report::{BUSY_MAX, SLIP_US_MAX};
use super::series::Second;
use super::tally::Times;
use super::{Progress, RunError, SERIES_SECONDS_MAX};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// A second that some threads have not handed over yet.
#[derive(Debug, Default)]
struct Open {
    second: Second,
    /// When it ended for the last thread, in nanoseconds since the run's start.
    end: u64,
    busy_max: f64,
    times: Option<Times>,
}

/// What all seconds came to.
#[derive(Debug)]
pub(super) struct Collected {
    /// Latencies of the whole run.
    pub(super) times: Times,
    /// The first [`SERIES_SECONDS_MAX`] seconds.
    pub(super) series: Vec<Second>,
    /// Whole seconds, and those of them in which the generator was late or had no time left.
    pub(super) whole_seconds: u64,
    pub(super) late_seconds: u64,
}

/// Adds up seconds.
pub(super) struct Collector {
    open_loop: bool,
    pool: Arc<Mutex<TimesPool>>,
    log: Option<HdrLog>,
    /// How many seconds each thread has handed over.
    handed: Vec<u64>,
    /// The second that `open` begins with.
    first: u64,
    open: VecDeque<Open>,
    progress: Progress,
    collected: Collected,
}

impl Collector {
    pub(super) fn new(
        threads: usize,
        open_loop: bool,
        pool: Arc<Mutex<TimesPool>>,
        log: Option<HdrLog>,
    ) -> Collector {
        Collector {
            open_loop,
            pool,
            log,
            handed: vec![0; threads],
            first: 0,
            open: VecDeque::new(),
            progress: Progress::default(),
            collected: Collected {
                times: Times::default(),
                series: Vec::new(),
                whole_seconds: 0,
                late_seconds: 0,
            },
        }
    }

    /// The run starts: writes the head of the log.
    ///
    /// # Errors
    /// When the log of histograms cannot be written.
    pub(super) fn begin(&mut self, start: SystemTime) -> Result<(), RunError> {
        match &mut self.log {
            Some(log) => log.begin(start),
            None => Ok(()),
        }
    }

    /// Takes one thread's second.
    pub(super) fn take(&mut self, interval: Interval) {
        // A thread hands over each second once, in order.
        let Some(at) = interval.second.checked_sub(self.first) else {
            return;
        };
        while self.open.len() as u64 <= at {
            self.open.push_back(Open::default());
        }
        let Some(open) = self.open.get_mut(at as usize) else {
            return;
        };
        let second = &mut open.second;
        if self.open_loop {
            *second.intended.get_or_insert(0) += interval.intended;
        }
        second.sent += interval.sent;
        second.ok += interval.ok;
        second.other += interval.other;
        second.client_errors += interval.client_errors;
        second.server_errors += interval.server_errors;
        second.unanswered += interval.unanswered;
        second.events_ok += interval.events_ok;
        second.in_flight += interval.in_flight;
        open.end = open.end.max(interval.end);
        open.busy_max = open.busy_max.max(interval.busy);
        match (&mut open.times, interval.times) {
            (_, None) => {}
            (Some(sum), Some(mut times)) => {
                sum.add(&times);
                times.clear();
                TimesPool::give(&self.pool, times);
            }
            (none, some) => *none = some,
        }
        if let Some(handed) = self.handed.get_mut(interval.thread) {
            *handed = interval.second + 1;
        }
    }

    /// A thread has ended: nothing more comes from it.
    pub(super) fn ended(&mut self, thread: usize) {
        if let Some(handed) = self.handed.get_mut(thread) {
            *handed = u64::MAX;
        }
    }

    /// The next second that all threads have handed over.
    ///
    /// # Errors
    /// When the log of histograms cannot be written.
    pub(super) fn next(&mut self) -> Result<Option<&Progress>, RunError> {
        let all_have = self.handed.iter().all(|handed| *handed > self.first);
        let Some(open) = all_have.then(|| self.open.pop_front()).flatten() else {
            return Ok(None);
        };
        let index = self.first;
        self.first += 1;
        self.close(index, open)?;
        Ok(Some(&self.progress))
    }

    fn close(&mut self, index: u64, open: Open) -> Result<(), RunError> {
        let whole = open.end >= (index + 1) * SECOND_NS;
        let mut second = open.second;
        second.at = open.end as f64 / 1e9;
        if let Some(mut times) = open.times {
            let latency = match self.open_loop {
                true => &times.intended,
                false => &times.actual,
            };
            let us =
                |times: &Histogram<u64>, quantile| times.value_at_quantile(quantile) as f64 / 1e3;
            if !latency.is_empty() {
                second.p50_us = us(latency, 0.5);
                second.p90_us = us(latency, 0.9);
                second.p99_us = us(latency, 0.99);
                second.p99_9_us = us(latency, 0.999);
                second.p99_99_us = us(latency, 0.9999);
                second.max_us = latency.max() as f64 / 1e3;
            }
            if self.open_loop && !times.actual.is_empty() {
                second.p50_from_start_us = Some(us(&times.actual, 0.5));
                second.p99_from_start_us = Some(us(&times.actual, 0.99));
                second.max_from_start_us = Some(times.actual.max() as f64 / 1e3);
            }
            if self.open_loop && !times.slip.is_empty() {
                second.slip_p99_us = Some(us(&times.slip, 0.99));
            }
            if let Some(log) = &mut self.log {
                let from = Duration::from_nanos(index * SECOND_NS);
                let length = Duration::from_nanos(open.end).saturating_sub(from);
                log.write(&times, self.open_loop, from, length)?;
            }
            self.collected.times.add(&times);
            times.clear();
            TimesPool::give(&self.pool, times);
        }
        let slipped = second.slip_p99_us.is_some_and(|slip| slip > SLIP_US_MAX);
        if whole {
            self.collected.whole_seconds += 1;
            self.collected.late_seconds += u64::from(slipped || open.busy_max > BUSY_MAX);
        }
        let progress = &mut self.progress;
        progress.elapsed = Duration::from_nanos(open.end);
        progress.sent += second.sent;
        progress.ok += second.ok;
        progress.unanswered += second.unanswered;
        progress.answered += second.ok + second.other + second.client_errors + second.server_errors;
        progress.second = second.clone();
        // What is left when a run ends with a second has nothing in it.
        let nothing = Second {
            at: second.at,
            intended: self.open_loop.then_some(0),
            ..Second::default()
        };
        let within = self.collected.series.len() < SERIES_SECONDS_MAX;
        if within && (whole || second != nothing) {
            self.collected.series.push(second);
        }
        Ok(())
    }

    /// Everything, after all threads have ended and all seconds were closed.
    pub(super) fn finish(self) -> Collected {
        self.collected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(thread: usize, second: u64, end: u64, latencies_us: &[u64]) -> Interval {
        let count = latencies_us.len() as u64;
        let times = (count > 0).then(|| {
            let mut times = Times::default();
            for latency in latencies_us {
                times.intended.saturating_record(latency * 1_000);
                times.actual.saturating_record(latency * 1_000);
                times.slip.saturating_record(1_000);
            }
            times
        });
        Interval {
            thread,
            second,
            end,
            intended: count,
            sent: count,
            ok: count,
            other: 0,
            client_errors: 0,
            server_errors: 0,
            unanswered: 0,
            events_ok: count,
            in_flight: 1,
            busy: 0.5,
            times,
        }
    }

    fn collector(threads: usize) -> Collector {
        Collector::new(threads, true, TimesPool::new(threads), None)
    }

    #[test]
    fn a_second_is_told_when_every_thread_has_handed_it_over() {
        let mut collector = collector(2);
        collector.take(interval(0, 0, SECOND_NS, &[10, 20]));
        collector.take(interval(0, 1, 2 * SECOND_NS, &[30]));
        assert!(collector.next().unwrap().is_none());
        collector.take(interval(1, 0, SECOND_NS, &[1_000]));
        let progress = collector.next().unwrap().unwrap();
        assert_eq!((progress.sent, progress.second.sent), (3, 3));
        assert_eq!(progress.second.in_flight, 2);
        assert!((progress.second.max_us - 1_000.0).abs() < 1.0);
        assert!((progress.second.p50_us - 20.0).abs() < 0.1);
        assert!(collector.next().unwrap().is_none());
        collector.ended(1);
        assert_eq!(collector.next().unwrap().unwrap().sent, 4);
        collector.ended(0);
        assert!(collector.next().unwrap().is_none());
        let collected = collector.finish();
        assert_eq!(collected.times.intended.len(), 4);
        assert_eq!(collected.series.len(), 2);
    }

    #[test]
    fn a_rest_without_a_request_is_no_second_and_a_quiet_second_is_one() {
        let mut collector = collector(1);
        collector.take(interval(0, 0, SECOND_NS, &[]));
        collector.take(interval(0, 1, 2 * SECOND_NS, &[5]));
        let mut rest = interval(0, 2, 2 * SECOND_NS + 10, &[]);
        rest.in_flight = 0;
        collector.take(rest);
        collector.ended(0);
        while collector.next().unwrap().is_some() {}
        let ends: Vec<f64> = collector.finish().series.iter().map(|s| s.at).collect();
        assert_eq!(ends, [1.0, 2.0]);
    }

    #[test]
    fn histograms_are_used_again_and_never_without_a_bound() {
        let pool = TimesPool::new(1);
        let mut collector = Collector::new(1, true, Arc::clone(&pool), None);
        for second in 0..5 {
            collector.take(interval(0, second, (second + 1) * SECOND_NS, &[7]));
            collector.next().unwrap();
        }
        let collected = collector.finish();
        assert_eq!(collected.times.actual.len(), 5);
        assert!(
            collected
                .series
                .iter()
                .all(|s| s.sent == 1 && s.p50_us < 8.0)
        );
    }

    #[test]
    fn seconds_in_which_the_generator_was_late_or_busy_are_counted() {
        let mut collector = collector(1);
        let mut busy = interval(0, 0, SECOND_NS, &[5]);
        busy.busy = 0.99;
        collector.take(busy);
        let mut late = interval(0, 1, 2 * SECOND_NS, &[5]);
        late.times
            .as_mut()
            .unwrap()
            .slip
            .saturating_record(90_000_000);
        collector.take(late);
        collector.take(interval(0, 2, 3 * SECOND_NS, &[900_000]));
        while collector.next().unwrap().is_some() {}
        let collected = collector.finish();
        assert_eq!((collected.late_seconds, collected.whole_seconds), (2, 3));
    }
}
