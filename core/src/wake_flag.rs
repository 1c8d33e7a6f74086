//! Wakes one sleeping task of another thread, once, however many senders ask.

use atomic_waker::AtomicWaker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// The wake flag of a mailbox. Senders put something into the mailbox, then [`notify`](WakeFlag::notify); the
/// receiver looks, and if it finds nothing calls [`register`](WakeFlag::register) and looks once more.
#[derive(Debug, Default)]
pub struct WakeFlag {
    notified: AtomicBool,
    waker: AtomicWaker,
}

impl WakeFlag {
    /// Wakes the receiver unless it is already being woken: a wake across threads costs a system call,
    /// a look at the flag does not.
    pub fn notify(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Registers who is to be woken by the next notify. The receiver has to look into its mailbox again
    /// after this and before it sleeps.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
        // A swap, not a store: it reads the flag of a sender that came before it, and with that sees
        // what this sender left; a sender that comes after it reads `false`, and wakes.
        self.notified.swap(false, Ordering::AcqRel);
    }
}
