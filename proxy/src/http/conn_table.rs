//! Deadlines of connections, and the sweep that enforces them.
//!
//! There is no timer per request or connection: each connection stores its phase and its deadline in
//! a cell, and one sweep per core, every [`SWEEP_EVERY`], ends those that are overdue. A deadline is
//! enforced up to that much late, and a request costs two stores.

use super::answer::ErrorBody;
use super::limits::HttpLimits;
use crate::error_code;
use http::HeaderMap;
use hyper::body::Incoming;
use sluice_core::time::Mono;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// How often a core sweeps its connections.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// A connection that has been idle for this long gives its engine back: the engine's two buffers are
/// 16 KiB, the rest of a connection is a fraction of that. Long enough that a busy client never pays
/// for a new engine.
const REST_AFTER: Duration = Duration::from_secs(2);

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first byte since accept or since the last answer.
    Idle,
    /// The rest of a head.
    Head,
    /// The handler, which has its own deadlines.
    Handler,
    /// More of a body that the handler reads.
    Body,
    /// The kernel, to take the response.
    Answer,
    /// The client, to close after the last response.
    Linger,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Not yet.
    Open,
    /// When it is idle: after the answer that is being made, or at once.
    Soon,
    /// Now, whatever is in progress.
    Now,
}

/// One connection as its core sees it.
pub(super) struct ConnState {
    pub(super) phase: Cell<Phase>,
    pub(super) deadline: Cell<Mono>,
    /// When the present head, body or idle time began.
    pub(super) since: Cell<Mono>,
    /// Bytes read from the socket so far, and how many of them when the present body began.
    pub(super) bytes_read: Cell<u64>,
    pub(super) bytes_before_body: Cell<u64>,
    /// Bytes of the present body that were still to come when its reading began, where it is announced.
    body_left: Cell<Option<u64>>,
    pub(super) end: Cell<End>,
    /// There is an engine, and it may be asked to rest.
    pub(super) has_engine: Cell<bool>,
    pub(super) rest: Cell<bool>,
    /// The present body is overdue.
    pub(super) body_overdue: Cell<bool>,
    /// Its framing is broken.
    pub(super) body_malformed: Cell<bool>,
    /// The client ended the present body before its end.
    pub(super) body_broken_off: Cell<bool>,
    /// A handler has answered, and not all of the answer is written.
    pub(super) answer_owed: Cell<bool>,
    /// A head is half here.
    pub(super) head_begun: Cell<bool>,
    /// The client may still be sending: give it time to read before the socket is closed.
    pub(super) linger: Cell<bool>,
    pub(super) requests: Cell<u32>,
    /// When the connection has lived long enough.
    pub(super) retire_at: Mono,
    /// The answer to a head that no handler gets to see.
    pub(super) error_body: RefCell<Option<ErrorBody>>,
    /// The rest of the current body that the handler did not read.
    pub(super) unread: RefCell<Option<Incoming>>,
    /// The header map that requests and answers of this connection take turns with.
    pub(super) spare_headers: RefCell<HeaderMap>,
    waker: RefCell<Option<Waker>>,
}

impl ConnState {
    pub(super) fn new(now: Mono, limits: &HttpLimits, retire_at: Mono) -> ConnState {
        ConnState {
            phase: Cell::new(Phase::Idle),
            deadline: Cell::new(now + limits.head_deadline),
            since: Cell::new(now),
            bytes_read: Cell::new(0),
            bytes_before_body: Cell::new(0),
            body_left: Cell::new(None),
            end: Cell::new(End::Open),
            has_engine: Cell::new(false),
            rest: Cell::new(false),
            body_overdue: Cell::new(false),
            body_malformed: Cell::new(false),
            body_broken_off: Cell::new(false),
            answer_owed: Cell::new(false),
            head_begun: Cell::new(false),
            linger: Cell::new(false),
            requests: Cell::new(0),
            retire_at,
            error_body: RefCell::new(None),
            unread: RefCell::new(None),
            spare_headers: RefCell::new(HeaderMap::new()),
            waker: RefCell::new(None),
        }
    }

    pub(super) fn enter(&self, phase: Phase, deadline: Mono) {
        self.phase.set(phase);
        self.deadline.set(deadline);
    }

    /// The first byte of a head is here, the last one is not.
    pub(super) fn head_begins(&self, now: Mono, limits: &HttpLimits) {
        self.head_begun.set(true);
        self.since.set(now);
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head, now + limits.head_deadline);
        }
    }

    /// The handler waits for the body from now on; `left` bytes are still to come.
    pub(super) fn body_begins(&self, now: Mono, left: Option<u64>, limits: &HttpLimits) {
        self.body_left.set(left);
        self.since.set(now);
        self.bytes_before_body.set(self.bytes_read.get());
        self.enter(Phase::Body, now + limits.body_deadline);
    }

    /// All answers are written.
    pub(super) fn answered(&self, now: Mono, limits: &HttpLimits) {
        self.answer_owed.set(false);
        if self.head_begun.get() {
            self.enter(Phase::Head, self.since.get() + limits.head_deadline);
        } else {
            self.since.set(now);
            self.enter(Phase::Idle, now + limits.idle);
        }
    }

    /// Stores the waker. A connection keeps its task, and so its waker.
    pub(super) fn register(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match slot.as_ref() {
            Some(known) if known.will_wake(waker) => {}
            _ => *slot = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn end_soon(&self) {
        if self.end.get() == End::Open {
            self.end.set(End::Soon);
            self.wake();
        }
    }

    fn end_now(&self) {
        self.end.set(End::Now);
        self.wake();
    }

    fn sweep(&self, now: Mono, limits: &HttpLimits) {
        let overdue = now >= self.deadline.get();
        match self.phase.get() {
            Phase::Idle if overdue || now >= self.retire_at => self.end_soon(),
            Phase::Idle if self.has_engine.get() && now.since(self.since.get()) >= REST_AFTER => {
                self.rest.set(true);
                self.wake();
            }
            Phase::Head if overdue => {
                let waited = now.since(self.since.get());
                *self.error_body.borrow_mut() = Some(
                    ErrorBody::new(
                        error_code::HEAD_TOO_SLOW,
                        "the request head did not arrive in time (milliseconds)",
                    )
                    .over(millis(limits.head_deadline), millis(waited)),
                );
                self.end_now();
            }
            Phase::Body
                if (overdue && !self.body_will_end(now, limits))
                    || self.body_is_slow(now, limits) =>
            {
                self.body_overdue.set(true);
                self.wake();
            }
            Phase::Answer | Phase::Linger if overdue => self.end_now(),
            _ => {}
        }
    }

    /// Whether the body, at its average rate so far, is complete by the last deadline.
    fn body_will_end(&self, now: Mono, limits: &HttpLimits) -> bool {
        let elapsed = now.since(self.since.get());
        let got = self.bytes_read.get() - self.bytes_before_body.get();
        let last = limits.body_deadline_last;
        self.body_left.get().is_some_and(|left| {
            elapsed < last
                && u128::from(left) * elapsed.as_millis() <= u128::from(got) * last.as_millis()
        })
    }

    fn body_is_slow(&self, now: Mono, limits: &HttpLimits) -> bool {
        let elapsed = now.since(self.since.get());
        if elapsed <= limits.body_grace {
            return false;
        }
        let got = self.bytes_read.get() - self.bytes_before_body.get();
        let due = u128::from(limits.body_bytes_per_second_min) * elapsed.as_millis() / 1000;
        u128::from(got) < due
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// All connections of one core.
#[derive(Default)]
pub(super) struct ConnTable {
    slots: RefCell<Vec<Option<Rc<ConnState>>>>,
    free: RefCell<Vec<usize>>,
}

impl ConnTable {
    /// Adds a connection and returns its slot.
    pub(super) fn insert(&self, state: Rc<ConnState>) -> usize {
        let mut slots = self.slots.borrow_mut();
        match self.free.borrow_mut().pop() {
            Some(slot) => {
                slots[slot] = Some(state);
                slot
            }
            None => {
                slots.push(Some(state));
                slots.len() - 1
            }
        }
    }

    pub(super) fn remove(&self, slot: usize) {
        self.slots.borrow_mut()[slot] = None;
        self.free.borrow_mut().push(slot);
    }

    pub(super) fn open(&self) -> usize {
        self.slots.borrow().len() - self.free.borrow().len()
    }

    pub(super) fn sweep(&self, now: Mono, limits: &HttpLimits) {
        for state in self.slots.borrow().iter().flatten() {
            state.sweep(now, limits);
        }
    }

    /// Ends every connection as soon as it is idle.
    pub(super) fn end_all_soon(&self) {
        for state in self.slots.borrow().iter().flatten() {
            state.end_soon();
        }
    }

    /// Ends every connection, whatever is in progress.
    pub(super) fn end_all_now(&self) {
        for state in self.slots.borrow().iter().flatten() {
            state.error_body.borrow_mut().take();
            state.end_now();
        }
    }
}
