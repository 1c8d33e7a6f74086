//! Acknowledgements: how the result for a record travels from the writer back to the core whose client
//! is waiting, together with the state of the writer's destination.

use crate::cause::Cause;
use crate::circuit::CircuitState;
use crate::priority::Priority;
use crate::route::OutputSet;
use crate::wake_flag::WakeFlag;
use crossbeam_queue::SegQueue;
use std::mem;
use std::task::Waker;

/// The final result for one record at one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has it.
    Delivered,
    /// The spool has it: it is on this host's disk, from where the destination gets it.
    Spooled,
    /// The destination does not have it, or is not known to have it.
    Refused(Cause),
}

/// A settled ticket: which request of the core, which output, how many bytes, what outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The request's key in its core's request table.
    pub request: RequestKey,
    /// Which accepted event of the request the record is for, from 0.
    pub event: u32,
    /// The output the record went to.
    pub output: OutputId,
    /// The output that it was meant for, whose place the other may have taken.
    pub meant_for: OutputId,
    /// The outputs that were given it so far, this one included.
    pub tried: OutputSet,
    /// The record's size as it was admitted, in bytes.
    pub bytes: u32,
    /// Whether the answer to the request waits for the record.
    pub is_awaited: bool,
    /// What became of the record.
    pub outcome: Outcome,
}

/// Identifies one open request within one core: a slot and a generation, so that a settlement that
/// arrives after the slot was reused is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Index into the request table.
    pub slot: u32,
    /// Number of earlier uses of the slot.
    pub generation: u32,
}

/// Index of a configured output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputId(pub u16);

/// One of the writers of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriterId {
    /// The output.
    pub output: OutputId,
    /// Which of its writers, from 0.
    pub number: u16,
}

/// What a writer knows of its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterState {
    /// The writer.
    pub writer: WriterId,
    /// Whether its calls succeed.
    pub circuit: CircuitState,
    /// Results so far by which the destination throttled a record.
    pub throttled: u64,
}

/// Settlements for one core, and the state of the writer that sends them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AckBatch {
    /// May be empty, where only the state has changed.
    pub settlements: Vec<Settlement>,
    /// `None` where no writer sent them: a ticket was dropped.
    pub writer: Option<WriterState>,
}

/// One per listener core: where settlements for its requests arrive.
///
/// One message and one wake carry the settlements of a whole batch, because the wake is the expensive
/// part (the benchmark `hand_off` compares a submission of one record with one of 16). The queue is
/// bounded by the records in flight, which the byte budget and the request table bound.
#[derive(Debug, Default)]
pub struct AckQueue {
    batches: SegQueue<AckBatch>,
    wake: WakeFlag,
}

impl AckQueue {
    /// Creates an ack queue that lives as long as the process, as its core does, so that tickets can
    /// point to it without reference counting. Called once per core at start.
    #[must_use]
    pub fn leak() -> &'static AckQueue {
        Box::leak(Box::default())
    }

    /// Sends a batch, and wakes the core unless a wake is already pending.
    pub fn send(&self, batch: AckBatch) {
        self.batches.push(batch);
        self.wake.notify();
    }

    /// The core's side: takes a batch, or registers `waker` and returns `None`.
    pub fn poll_recv(&self, waker: &Waker) -> Option<AckBatch> {
        self.batches.pop().or_else(|| {
            self.wake.register(waker);
            self.batches.pop()
        })
    }
}

/// The obligation to report the outcome of one record. Dropping a ticket unsettled is a defect in
/// Sluice; it is reported as [`Cause::Lost`], so the client gets a 503 and the counters show it.
#[must_use = "a ticket has to be settled"]
#[derive(Debug)]
pub struct Ticket {
    acks: &'static AckQueue,
    request: RequestKey,
    event: u32,
    output: OutputId,
    meant_for: OutputId,
    tried: OutputSet,
    bytes: u32,
    is_awaited: bool,
    priority: Priority,
}

impl Ticket {
    /// A ticket for one record of an open request, whose answer waits for it. Only the request table issues
    /// these.
    pub fn new(
        acks: &'static AckQueue,
        request: RequestKey,
        output: OutputId,
        bytes: u32,
    ) -> Ticket {
        Ticket {
            acks,
            request,
            event: 0,
            output,
            meant_for: output,
            tried: OutputSet::NONE.with(output),
            bytes,
            is_awaited: true,
            priority: Priority::default(),
        }
    }

    /// The same ticket for a record that was meant for another output, and that these had before.
    pub fn in_place_of(mut self, meant_for: OutputId, tried: OutputSet) -> Ticket {
        self.meant_for = meant_for;
        self.tried = tried.with(self.output);
        self
    }

    /// The same ticket for a record that the answer may not wait for.
    pub fn awaited(mut self, is_awaited: bool) -> Ticket {
        self.is_awaited = is_awaited;
        self
    }

    /// The same ticket for another event of its request than the first.
    pub fn for_event(mut self, event: u32) -> Ticket {
        self.event = event;
        self
    }

    /// The same ticket for a request of this priority.
    pub fn of_priority(mut self, priority: Priority) -> Ticket {
        self.priority = priority;
        self
    }

    /// The priority of its request.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Where its settlement goes.
    #[must_use]
    pub fn acks(&self) -> &'static AckQueue {
        self.acks
    }

    /// Where the record came from: its core, its request, and its place in that. The same as long as the
    /// ticket lives, and no other ticket of this process has it meanwhile.
    #[must_use]
    pub fn identity(&self) -> (usize, RequestKey, u32) {
        let core = std::ptr::from_ref(self.acks).addr();
        (core, self.request, self.event)
    }

    /// Ends the obligation. The caller sends the settlement to the ack queue.
    #[must_use = "the settlement has to reach the ack queue"]
    pub fn settle(self, outcome: Outcome) -> (&'static AckQueue, Settlement) {
        let settlement = self.settlement(outcome);
        let acks = self.acks;
        mem::forget(self);
        (acks, settlement)
    }

    fn settlement(&self, outcome: Outcome) -> Settlement {
        Settlement {
            request: self.request,
            event: self.event,
            output: self.output,
            meant_for: self.meant_for,
            tried: self.tried,
            bytes: self.bytes,
            is_awaited: self.is_awaited,
            outcome,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.acks.send(AckBatch {
            settlements: vec![self.settlement(Outcome::Refused(Cause::Lost))],
            writer: None,
        });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    /// A queue of one test. A static refers to it, so that Miri reports only what else is leaked.
    pub(crate) fn leaked() -> &'static AckQueue {
        static ALL: Mutex<Vec<&AckQueue>> = Mutex::new(Vec::new());
        let acks = AckQueue::leak();
        ALL.lock().unwrap().push(acks);
        acks
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn ticket(acks: &'static AckQueue, slot: u32) -> Ticket {
        Ticket::new(
            acks,
            RequestKey {
                slot,
                generation: 7,
            },
            OutputId(2),
            99,
        )
    }

    fn batch(ticket: Ticket) -> AckBatch {
        AckBatch {
            settlements: vec![ticket.settle(Outcome::Delivered).1],
            writer: None,
        }
    }

    #[test]
    fn a_dropped_ticket_is_reported_as_lost() {
        let acks = leaked();
        drop(ticket(acks, 5));
        let settled = acks.poll_recv(Waker::noop()).unwrap();
        assert_eq!(
            settled.settlements,
            [Settlement {
                request: RequestKey {
                    slot: 5,
                    generation: 7
                },
                event: 0,
                output: OutputId(2),
                meant_for: OutputId(2),
                tried: OutputSet::NONE.with(OutputId(2)),
                bytes: 99,
                is_awaited: true,
                outcome: Outcome::Refused(Cause::Lost),
            }]
        );
    }

    #[test]
    fn a_settled_ticket_says_nothing_more_when_it_goes() {
        let acks = leaked();
        let (_, settlement) = ticket(acks, 1).settle(Outcome::Delivered);
        assert_eq!(settlement.outcome, Outcome::Delivered);
        assert!(acks.poll_recv(Waker::noop()).is_none());
    }

    #[test]
    fn ack_batches_before_a_poll_wake_once() {
        let acks = leaked();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(acks.poll_recv(&waker).is_none());
        for slot in 0..3 {
            acks.send(batch(ticket(acks, slot)));
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        for _ in 0..3 {
            assert!(acks.poll_recv(&waker).is_some());
        }
        assert!(acks.poll_recv(&waker).is_none());
        acks.send(batch(ticket(acks, 3)));
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
    }
}
