//! The context of one core: its counters, its clock and the drain phase. Handlers, the HTTP server and
//! the accept loop read it; [`worker`](crate::worker) makes it.

use crate::clock::{self, Clock, wall};
use crate::drain_phase::Drain;
use sluice_core::civil::LAST_SECOND;
use sluice_core::stats::WorkerStats;
use sluice_core::time::{Mono, Wall};
use std::cell::Cell;
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
    accepting: Cell<bool>,
}

impl WorkerContext {
    pub(crate) fn new(
        index: usize,
        stats: Arc<WorkerStats>,
        drain: Arc<Drain>,
        clock: Clock,
    ) -> WorkerContext {
        WorkerContext {
            index,
            stats,
            drain,
            clock,
            recent: Cell::new(clock.now()),
            anchor: Cell::new((clock.now(), wall())),
            accepting: Cell::new(true),
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

    pub(crate) fn read_wall(&self) {
        let (_, before) = self.anchor.replace((self.now(), wall()));
        if before.secs <= LAST_SECOND && !clock::is_writable() {
            error!(
                "the wall clock reads a year beyond 9999, connections are closed until it does not"
            );
        }
    }

    pub(crate) fn accepts(&self) -> bool {
        self.accepting.get()
    }

    /// Ends accepting; `true` the first time.
    pub(crate) fn stop_accepting(&self) -> bool {
        self.accepting.replace(false)
    }
}
