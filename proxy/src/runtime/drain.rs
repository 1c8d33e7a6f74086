//! How far the process is on its way: set by the program, read by every core and by probes.

use sluice_core::time::Mono;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainPhase {
    /// Business as usual.
    Serving,
    /// Requests are served and each answer closes its connection; new connections are still accepted,
    /// because the load balancer has not noticed yet.
    Refusing,
    /// Nothing is accepted, idle connections are closed, requests in progress are answered.
    Draining,
}

/// The progress of the process, shared by all threads. It only moves forward.
#[derive(Debug, Default)]
pub struct Drain {
    started: AtomicBool,
    phase: AtomicU8,
    deadline_micros: AtomicU64,
}

impl Drain {
    /// Every worker listens: traffic may come.
    pub fn start(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// Whether every worker listens, or has.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> DrainPhase {
        match self.phase.load(Ordering::Acquire) {
            0 => DrainPhase::Serving,
            1 => DrainPhase::Refusing,
            _ => DrainPhase::Draining,
        }
    }

    /// From now on, answers close their connections.
    pub fn refuse(&self) {
        self.phase.fetch_max(1, Ordering::AcqRel);
    }

    /// From now on, nothing is accepted. The cores return when their last connection is gone, at `deadline`
    /// at the latest.
    pub fn drain(&self, deadline: Mono) {
        self.deadline_micros.store(deadline.0, Ordering::Release);
        self.phase.fetch_max(2, Ordering::AcqRel);
    }

    pub(crate) fn deadline(&self) -> Mono {
        Mono(self.deadline_micros.load(Ordering::Acquire))
    }
}
