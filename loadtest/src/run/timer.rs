//! A timer that wakes an epoll wait with nanosecond resolution; the wait's own timeout has only
//! milliseconds, which at 10,000 requests/s is ten requests at once.

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A timer registered with an epoll instance.
#[derive(Debug)]
pub(super) struct Timer {
    fd: OwnedFd,
    set: bool,
}

impl Timer {
    /// A timer that is not set.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Timer { fd, set: false })
    }

    /// Wakes once after `wait` nanoseconds, or not at all. Replaces an earlier timer, so the
    /// expirations need not be read.
    pub(super) fn set(&mut self, wait: Option<u64>) {
        if wait.is_none() && !self.set {
            return;
        }
        self.set = wait.is_some();
        // A wait of zero would mean not at all.
        let wait = wait.map_or(0, |wait| wait.clamp(1, i64::MAX as u64));
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let spec = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: (wait / 1_000_000_000) as i64,
                tv_nsec: (wait % 1_000_000_000) as i64,
            },
        };
        // It fails only for a bad descriptor or time. The wait's own timeout still ends it.
        let _ = timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec);
    }
}
