//! Wakes a task on another thread once, however many senders notify it.

use atomic_waker::AtomicWaker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// The wake flag of a queue. A sender pushes, then calls [`notify`](WakeFlag::notify). The receiver polls
/// the queue and, if it is empty, calls [`register`](WakeFlag::register) and polls once more.
#[derive(Debug, Default)]
pub struct WakeFlag {
    notified: AtomicBool,
    waker: AtomicWaker,
}

impl WakeFlag {
    /// Wakes the receiver unless a wake is already pending: a wake across threads costs a system call,
    /// reading the flag does not.
    pub fn notify(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Registers the waker for the next notification. The receiver must poll its queue again after this
    /// and before it sleeps.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
        // A swap, not a store: it synchronises with any earlier sender, whose message the following poll
        // then sees; any later sender reads `false` and wakes.
        self.notified.swap(false, Ordering::AcqRel);
    }
}
