//! One thread's counts of one second of a run, and their hand-over to the thread that adds seconds
//! up. Sums over time need no work per request: a second is the difference of two looks at
//! the thread's counts, and the histograms are those of the second, emptied between.

use super::lateness::ThreadTime;
use super::tally::{Tally, Times};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// Length of a second in nanoseconds.
pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// Sets of histograms, 700 KB each, that a thread may have under way. When the thread that adds up
/// does not keep pace (its terminal is stopped), latencies stay with their thread until it does.
const TIMES_PER_THREAD_MAX: usize = 16;

/// One thread's part of one second.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) thread: usize,
    /// Number of the second, from 0.
    pub(super) second: u64,
    /// When it ended, since the run's start.
    pub(super) end: u64,
    /// Requests that were meant to start in it.
    pub(super) intended: u64,
    pub(super) sent: u64,
    pub(super) ok: u64,
    pub(super) other: u64,
    pub(super) client_errors: u64,
    pub(super) server_errors: u64,
    pub(super) unanswered: u64,
    pub(super) events_ok: u64,
    pub(super) in_flight: u64,
    /// How the thread spent its time.
    pub(super) thread_time: ThreadTime,
    /// `None` when nothing was measured in it.
    pub(super) times: Option<Times>,
}

/// Counts since the run's start.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u64,
    ok: u64,
    other: u64,
    client_errors: u64,
    server_errors: u64,
    unanswered: u64,
    events_ok: u64,
    idle: u64,
    cpu: u64,
    late: u64,
    late_awake: u64,
    intended: u64,
}

impl Counts {
    fn of(tally: &Tally, intended: u64) -> Counts {
        let statuses = |from: usize, to: usize| tally.statuses[from..to].iter().sum::<u64>();
        // Statuses of success are below 400.
        let other = statuses(0, 400) + statuses(600, tally.statuses.len());
        Counts {
            sent: tally.sent,
            ok: tally.ok,
            other: other - tally.ok,
            client_errors: statuses(400, 500),
            server_errors: statuses(500, 600),
            unanswered: tally.unanswered.values().sum(),
            events_ok: tally.events_ok,
            idle: tally.idle,
            cpu: tally.cpu,
            late: tally.late,
            late_awake: tally.late_awake,
            intended,
        }
    }

    fn in_flight(&self) -> u64 {
        let ended =
            self.ok + self.other + self.client_errors + self.server_errors + self.unanswered;
        self.sent.saturating_sub(ended)
    }
}

/// Histograms that are used again.
#[derive(Debug, Default)]
pub(super) struct TimesPool {
    free: Vec<Times>,
    made: usize,
    max: usize,
}

impl TimesPool {
    /// A pool for this many threads.
    pub(super) fn new(threads: usize) -> Arc<Mutex<TimesPool>> {
        Arc::new(Mutex::new(TimesPool {
            max: threads * TIMES_PER_THREAD_MAX,
            ..TimesPool::default()
        }))
    }

    /// Takes emptied histograms back.
    pub(super) fn give(pool: &Mutex<TimesPool>, times: Times) {
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.free.push(times);
    }

    fn take(pool: &Mutex<TimesPool>) -> Option<Times> {
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = pool.free.pop() {
            return Some(times);
        }
        if pool.made == pool.max {
            return None;
        }
        pool.made += 1;
        Some(Times::default())
    }
}

/// Cuts one thread's run into seconds.
#[derive(Debug)]
pub(super) struct Seconds {
    thread: usize,
    to: Sender<Interval>,
    pool: Arc<Mutex<TimesPool>>,
    second: u64,
    /// Time up to which all was handed over, since the run's start.
    from: u64,
    counted: Counts,
}

impl Seconds {
    pub(super) fn new(thread: usize, to: Sender<Interval>, pool: Arc<Mutex<TimesPool>>) -> Seconds {
        Seconds {
            thread,
            to,
            pool,
            second: 0,
            from: 0,
            counted: Counts::default(),
        }
    }

    /// When the second under way ends, since the run's start.
    pub(super) fn end(&self) -> u64 {
        (self.second + 1) * SECOND_NS
    }

    /// Hands over all seconds that are over. `now` counts from the run's start, and `due_before`
    /// says how many requests are meant to start before a time.
    pub(super) fn pass(&mut self, now: u64, tally: &mut Tally, due_before: impl Fn(u64) -> u64) {
        while now >= self.end() {
            self.hand_over(self.end(), tally, &due_before);
            self.second += 1;
        }
    }

    /// Hands over the rest when the run is over.
    pub(super) fn finish(mut self, now: u64, tally: &mut Tally, due_before: impl Fn(u64) -> u64) {
        self.pass(now, tally, &due_before);
        self.hand_over(now, tally, &due_before);
    }

    fn hand_over(&mut self, end: u64, tally: &mut Tally, due_before: &impl Fn(u64) -> u64) {
        let (new, old) = (Counts::of(tally, due_before(end)), self.counted);
        let measured = !tally.times.is_empty();
        let times = measured
            .then(|| TimesPool::take(&self.pool))
            .flatten()
            .map(|empty| std::mem::replace(&mut tally.times, empty));
        let length = end.saturating_sub(self.from).max(1);
        let share = |part: u64| part.min(length) as f64 / length as f64;
        let thread_time = ThreadTime {
            sent: new.sent - old.sent,
            late: new.late - old.late,
            late_awake: new.late_awake - old.late_awake,
            awake: 1.0 - share(new.idle - old.idle),
            on_cpu: share(new.cpu - old.cpu),
        };
        let interval = Interval {
            thread: self.thread,
            second: self.second,
            end,
            intended: new.intended.saturating_sub(old.intended),
            sent: new.sent - old.sent,
            ok: new.ok - old.ok,
            other: new.other - old.other,
            client_errors: new.client_errors - old.client_errors,
            server_errors: new.server_errors - old.server_errors,
            unanswered: new.unanswered - old.unanswered,
            events_ok: new.events_ok - old.events_ok,
            in_flight: new.in_flight(),
            thread_time,
            times,
        };
        self.from = end;
        self.counted = new;
        // The other side ends only after this one.
        let _ = self.to.send(interval);
    }
}
