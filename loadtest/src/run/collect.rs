//! Adds up what threads counted, second by second: the series of a report, its overall latencies, and
//! the log of histograms. Runs beside the generator's threads; asks them nothing.

use super::hdr_log::HdrLog;
use super::interval::{Interval, SECOND_NS, TimesPool};
use super::lateness::{Late, Lateness, MachineTime};
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
    /// Why a thread was late in it; the generator outweighs the machine.
    late: Option<Late>,
    times: Option<Times>,
}

/// Totals over all seconds.
#[derive(Debug)]
pub(super) struct Collected {
    /// Latencies of the whole run.
    pub(super) times: Times,
    /// The first [`SERIES_SECONDS_MAX`] seconds.
    pub(super) series: Vec<Second>,
    /// Whole seconds.
    pub(super) whole_seconds: u64,
    /// Late seconds and requests, by cause.
    pub(super) late_by_generator: Lateness,
    pub(super) late_by_machine: Lateness,
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
    /// The latest sample of stolen and throttled CPU time.
    machine: MachineTime,
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
            machine: MachineTime::default(),
            progress: Progress::default(),
            collected: Collected {
                times: Times::default(),
                series: Vec::new(),
                whole_seconds: 0,
                late_by_generator: Lateness::default(),
                late_by_machine: Lateness::default(),
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

    /// Sets stolen and throttled CPU time for the seconds that are handed over next.
    pub(super) fn observe_machine(&mut self, machine: MachineTime) {
        self.machine = machine;
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
        let late = interval.thread_time.judge(self.machine);
        open.late = open.late.max(late);
        let requests = interval.thread_time.late;
        match late {
            Some(Late::Generator) => self.collected.late_by_generator.requests += requests,
            Some(Late::Machine) => self.collected.late_by_machine.requests += requests,
            None => {}
        }
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
        if whole {
            self.collected.whole_seconds += 1;
            match open.late {
                Some(Late::Generator) => self.collected.late_by_generator.seconds += 1,
                Some(Late::Machine) => self.collected.late_by_machine.seconds += 1,
                None => {}
            }
        }
        let progress = &mut self.progress;
        progress.elapsed = Duration::from_nanos(open.end);
        progress.sent += second.sent;
        progress.ok += second.ok;
        progress.unanswered += second.unanswered;
        progress.answered += second.ok + second.other + second.client_errors + second.server_errors;
        progress.second = second.clone();
        // A run that ends exactly with a second leaves an empty one.
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
    use super::super::lateness::ThreadTime;
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
            thread_time: ThreadTime {
                sent: count,
                awake: 0.5,
                on_cpu: 0.5,
                ..ThreadTime::default()
            },
            times,
        }
    }

    fn collector(threads: usize) -> Collector {
        Collector::new(threads, true, TimesPool::new(threads), None)
    }

    #[test]
    fn a_second_is_complete_once_every_thread_reported() {
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
    fn idle_seconds_count_and_empty_rests_do_not() {
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
    fn lateness_is_counted_by_cause() {
        let mut collector = collector(2);
        let mut busy = interval(0, 0, SECOND_NS, &[5]);
        busy.thread_time.awake = 0.99;
        busy.thread_time.on_cpu = 0.99;
        collector.take(busy);
        let mut woken_late = interval(1, 0, SECOND_NS, &[5]);
        woken_late.thread_time.late = 1;
        collector.take(woken_late);
        let mut woken_late = interval(1, 1, 2 * SECOND_NS, &[5]);
        woken_late.thread_time.late = 1;
        collector.take(woken_late);
        collector.take(interval(0, 1, 2 * SECOND_NS, &[5]));
        for thread in 0..2 {
            collector.take(interval(thread, 2, 3 * SECOND_NS, &[900_000]));
        }
        while collector.next().unwrap().is_some() {}
        let collected = collector.finish();
        let late = |seconds, requests| Lateness { seconds, requests };
        // In the first second both were; the generator's fault is the one to mend.
        assert_eq!(collected.late_by_generator, late(1, 0));
        assert_eq!(collected.late_by_machine, late(1, 2));
        assert_eq!(collected.whole_seconds, 3);
    }
}
