//! Wakes one sleeping task of another thread, once, however many senders ask.

use atomic_waker::AtomicWaker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// The bell of a mailbox. Senders put something into the mailbox, then [`ring`](Bell::ring); the
/// receiver looks, and if it finds nothing calls [`listen`](Bell::listen) and looks once more.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    /// Wakes the receiver unless it is already being woken: a wake across threads costs a system call,
    /// a look at the flag does not.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Registers who is to be woken by the next ring. The receiver has to look into its mailbox again
    /// after this and before it sleeps.
    pub fn listen(&self, waker: &Waker) {
        self.waker.register(waker);
        // A swap, not a store: it reads the flag of a sender that came before it, and with that sees
        // what this sender left; a sender that comes after it reads `false`, and wakes.
        self.rung.swap(false, Ordering::AcqRel);
    }
}
