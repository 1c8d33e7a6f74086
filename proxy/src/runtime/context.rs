//! The context of one core: its counters, its clock and the drain phase. Handlers, the HTTP server and
//! the accept loop read it; [`worker`](crate::worker) makes it.

use crate::runtime::clock::{self, Clock, wall};
use crate::runtime::drain::{Drain, DrainPhase};
use sluice_core::budget::ByteBudget;
use sluice_core::civil::LAST_SECOND;
use sluice_core::stats::WorkerStats;
use sluice_core::time::{Mono, Wall};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tracing::error;

/// How often each core ticks its handler and reads the drain phase.
pub const TICK: Duration = Duration::from_millis(10);

/// State that the code of one core shares.
#[derive(Debug)]
pub struct WorkerContext {
    /// Which core of the process, from 0.
    pub index: usize,
    /// This core's counters.
    pub stats: Arc<WorkerStats>,
    /// The process's shutdown progress.
    pub drain: Arc<Drain>,
    clock: Clock,
    recent: Cell<Mono>,
    /// The wall clock, and when it was read.
    anchor: Cell<(Mono, Wall)>,
    /// The wall clock of the last tick as in a Date header.
    date: RefCell<Rc<str>>,
    /// This core's share of the bytes in flight.
    pub budget: ByteBudget,
    /// Connections over a cap that are open, to be told so.
    pub(crate) overflow: Cell<u64>,
    /// For the memory of the tasks that streams of HTTP/2 have; made with the first of them.
    pub(crate) http2_tasks: OnceCell<ByteBudget>,
    /// Whether the wall clock reads a year of four digits.
    is_writable: Cell<bool>,
}

impl WorkerContext {
    pub(crate) fn new(
        index: usize,
        stats: Arc<WorkerStats>,
        drain: Arc<Drain>,
        clock: Clock,
        budget_bytes: u64,
    ) -> WorkerContext {
        WorkerContext {
            budget: ByteBudget::new(budget_bytes),
            overflow: Cell::new(0),
            http2_tasks: OnceCell::new(),
            is_writable: Cell::new(true),
            index,
            stats,
            drain,
            clock,
            recent: Cell::new(clock.now()),
            anchor: Cell::new((clock.now(), wall())),
            date: RefCell::new(http_date(wall()).into()),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Mono {
        let now = self.clock.now();
        self.recent.set(now);
        now
    }

    /// Reads the clock for later calls of [`recent`](Self::recent).
    pub fn refresh(&self) {
        self.recent.set(self.clock.now());
    }

    /// A time at most one [`TICK`] old, without reading the clock: good enough for deadlines of seconds.
    #[must_use]
    pub fn recent(&self) -> Mono {
        self.recent.get()
    }

    /// Both clocks for the price of one: the wall clock is read every [`TICK`] and advanced by the
    /// monotonic clock in between, so a step of the wall clock shows one tick late.
    pub(crate) fn now_and_wall(&self) -> (Mono, Wall) {
        let now = self.now();
        let (then, wall) = self.anchor.get();
        (now, wall + now.since(then))
    }

    /// The time of the last [`TICK`] as in a Date header (RFC 9110 section 5.6.7).
    pub(crate) fn date(&self) -> Rc<str> {
        Rc::clone(&self.date.borrow())
    }

    pub(crate) fn read_wall(&self) {
        let now = wall();
        let (_, before) = self.anchor.replace((self.now(), now));
        if before.secs != now.secs {
            self.date.replace(http_date(now).into());
        }
        self.is_writable.set(now.secs <= LAST_SECOND);
        if before.secs <= LAST_SECOND && now.secs > LAST_SECOND {
            error!(
                "the wall clock reads a year beyond 9999, connections are closed until it does not"
            );
        }
    }

    /// Whether the wall clock reads a year of four digits, which is what records can carry. Connections are closed
    /// while it does not.
    pub(crate) fn wall_is_writable(&self) -> bool {
        // Asked again, so that a clock that is right again counts at once.
        self.is_writable.get() || clock::is_writable()
    }

    pub(crate) fn accepts(&self) -> bool {
        self.drain.phase() != DrainPhase::Draining
    }
}

fn http_date(wall: Wall) -> String {
    // The calendar's range is limited; a clock beyond it must not end the process.
    let now = i64::try_from(wall.secs).map(jiff::Timestamp::from_second);
    let date = match now {
        Ok(Ok(now)) => now,
        _ => jiff::Timestamp::MAX,
    };
    date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
