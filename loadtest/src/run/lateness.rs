//! Why requests started late: because the generator had too much to do, or because the machine did not
//! run it. Pure arithmetic on what a thread counted; asks no clock and no kernel.
//!
//! A thread that is late while it sleeps was woken late: requests fell due, its timer rang, and no CPU
//! was given to it. A thread that is late while it is awake was either working, which its CPU time
//! shows, or had been taken off its CPU, which the rest of its waking time shows.

/// A thread that did not wait for events in more than this share of the time had none left.
pub(super) const BUSY_MAX: f64 = 0.95;

/// A request that was due, with a connection free, and starts later than this, starts late. When more
/// than one in [`LATE_ONE_IN`] does, so that the p99 of the slip is over it, the thread was late.
pub(super) const SLIP_MAX_NS: u64 = 5_000_000;
const LATE_ONE_IN: u64 = 100;

/// A thread that was awake and not on a CPU for more than this share of the time, and had this much of
/// it left, was late for that reason. The share is [`SLIP_MAX_NS`] of a second.
const STALLED_MIN: f64 = 0.005;
const ON_CPU_MAX: f64 = 0.8;

/// A thread that had no time left was stalled, not busy, if this share of it was spent off the CPU.
const STALLED_OF_BUSY_MIN: f64 = 0.1;

/// Steal and throttling that are evidence by themselves.
const TAKEN_MIN: f64 = 0.05;

/// Late in more than this share of a run's seconds, and in at least this many, means late in the run: a
/// rate that changes does not ask for the same all the time. A single such second may be a hiccup.
const LATE_SHARE_MAX: f64 = 0.05;
const LATE_SECONDS_MIN: u64 = 2;

/// A thread that could have run, and had no CPU, for more than this share of a run was starved.
pub(super) const STARVED_MAX: f64 = 0.1;

/// How one thread spent a second, or the rest of one. Shares are of its length.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ThreadTime {
    /// Requests sent, of these late ones, and of these the ones that fell due while it was awake.
    pub(super) sent: u64,
    pub(super) late: u64,
    pub(super) late_awake: u64,
    /// Share in which it did not wait for events.
    pub(super) awake: f64,
    /// Share in which it was on a CPU.
    pub(super) on_cpu: f64,
}

/// CPU time that the machine withheld.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct MachineTime {
    /// Share of all cores that a hypervisor gave to others.
    pub(super) stolen: f64,
    /// Share of the time in which a CPU quota stopped the process.
    pub(super) throttled: f64,
}

/// Why a thread was late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Late {
    /// The machine did not run it.
    Machine,
    /// It had too much to do.
    Generator,
}

impl ThreadTime {
    /// Whether it was late, and why.
    pub(super) fn judge(&self, machine: MachineTime) -> Option<Late> {
        let is_more = |count: u64| count.saturating_mul(LATE_ONE_IN) > self.sent;
        let (is_late, is_full) = (is_more(self.late), self.awake > BUSY_MAX);
        if !is_late && !is_full {
            return None;
        }
        let stalled = (self.awake - self.on_cpu).max(0.0);
        let taken = machine.stolen.max(machine.throttled);
        let by_machine = if self.on_cpu > BUSY_MAX {
            false
        } else if is_full {
            stalled > STALLED_OF_BUSY_MIN * self.awake
        } else {
            !is_more(self.late_awake)
                || taken > TAKEN_MIN
                || (stalled > STALLED_MIN && self.on_cpu < ON_CPU_MAX)
        };
        Some(if by_machine {
            Late::Machine
        } else {
            Late::Generator
        })
    }
}

/// How often one reason made threads late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lateness {
    /// Whole seconds.
    pub(super) seconds: u64,
    /// Late requests.
    pub(super) requests: u64,
}

impl Lateness {
    /// Whether a run of that many whole seconds and requests was late.
    pub(super) fn is_of_run(&self, seconds: u64, requests: u64) -> bool {
        let often = self.seconds as f64 > LATE_SHARE_MAX * seconds as f64;
        (self.seconds >= LATE_SECONDS_MIN && often)
            || self.requests.saturating_mul(LATE_ONE_IN) > requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(late: u64, late_awake: u64, awake: f64, on_cpu: f64) -> ThreadTime {
        ThreadTime {
            sent: 1_000,
            late,
            late_awake,
            awake,
            on_cpu,
        }
    }

    fn judge(thread: ThreadTime) -> Option<Late> {
        thread.judge(MachineTime::default())
    }

    #[test]
    fn one_late_request_in_a_hundred_is_not_late() {
        assert_eq!(judge(thread(10, 10, 0.9, 0.9)), None);
        assert_eq!(judge(thread(11, 11, 0.9, 0.9)), Some(Late::Generator));
        assert_eq!(judge(ThreadTime::default()), None);
    }

    #[test]
    fn an_idle_thread_woken_late_was_starved() {
        assert_eq!(judge(thread(500, 0, 0.01, 0.01)), Some(Late::Machine));
        assert_eq!(judge(thread(500, 10, 0.15, 0.15)), Some(Late::Machine));
    }

    #[test]
    fn a_preempted_busy_thread_was_starved() {
        assert_eq!(judge(thread(500, 500, 0.15, 0.05)), Some(Late::Machine));
        assert_eq!(judge(thread(500, 500, 0.97, 0.4)), Some(Late::Machine));
        assert_eq!(judge(thread(0, 0, 0.97, 0.4)), Some(Late::Machine));
    }

    #[test]
    fn a_thread_that_worked_all_the_time_was_the_bottleneck() {
        assert_eq!(judge(thread(0, 0, 0.99, 0.98)), Some(Late::Generator));
        assert_eq!(judge(thread(900, 900, 0.97, 0.93)), Some(Late::Generator));
        // Whatever else happened to the machine.
        let stolen = MachineTime {
            stolen: 0.2,
            throttled: 0.0,
        };
        let busy = thread(900, 900, 0.99, 0.98);
        assert_eq!(busy.judge(stolen), Some(Late::Generator));
    }

    #[test]
    fn late_work_in_one_piece_is_the_generators() {
        // A tenth of a second's work at once delayed the requests that fell due meanwhile.
        assert_eq!(judge(thread(100, 100, 0.1, 0.1)), Some(Late::Generator));
        let stolen = MachineTime {
            stolen: 0.2,
            throttled: 0.0,
        };
        let throttled = MachineTime {
            stolen: 0.0,
            throttled: 0.2,
        };
        for machine in [stolen, throttled] {
            let late = thread(100, 100, 0.1, 0.1).judge(machine);
            assert_eq!(late, Some(Late::Machine));
        }
    }

    #[test]
    fn lateness_needs_enough_late_seconds_or_requests() {
        let late = |seconds, requests| Lateness { seconds, requests };
        assert!(!late(0, 0).is_of_run(60, 1_000));
        // The top of a ramp, or a burst: too little of the run to show in its p99.
        assert!(late(4, 5).is_of_run(60, 1_000));
        assert!(!late(3, 5).is_of_run(60, 1_000));
        // One bad second is a hiccup, unless the run's p99 shows it.
        assert!(!late(1, 5).is_of_run(3, 1_000));
        assert!(late(2, 5).is_of_run(3, 1_000));
        assert!(late(1, 11).is_of_run(3, 1_000));
        assert!(late(0, 3).is_of_run(0, 100));
    }
}
