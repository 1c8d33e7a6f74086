//! The only path from a listener core to the writers.
//!
//! A core collects records per output over one turn of its event loop and sends them as one submission: one
//! message, and at most one wake, per turn instead of per event. Bytes under way are bounded earlier, on
//! admission (by `core::intake`), so a full queue only makes the next submission larger.

use sluice_core::ack::WriterId;
use sluice_core::queue::{NotSent, Sender};
use sluice_core::record::Record;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use tracing::error;

/// One core's lanes, one per writer of each output.
#[derive(Debug)]
pub struct Outputs {
    lanes: Vec<Vec<Lane>>,
    /// Records were submitted since the last flush.
    dirty: Cell<bool>,
    flusher: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Lane {
    gathered: RefCell<Vec<Record>>,
    /// `None` once the core has ended.
    queue: RefCell<Option<Sender<Vec<Record>>>>,
}

impl Outputs {
    /// Creates the lanes, in configuration order, from the queues of each output's writers.
    #[must_use]
    pub fn new(queues: Vec<Vec<Sender<Vec<Record>>>>) -> Rc<Self> {
        let lane = |queue: Sender<Vec<Record>>| Lane {
            gathered: RefCell::default(),
            queue: RefCell::new(Some(queue)),
        };
        Rc::new(Outputs {
            lanes: queues
                .into_iter()
                .map(|writers| writers.into_iter().map(lane).collect())
                .collect(),
            dirty: Cell::new(false),
            flusher: RefCell::default(),
        })
    }

    /// Adds a record to its writer's lane; it leaves with this turn's submission.
    pub fn submit(&self, writer: WriterId, record: Record) {
        // A record for a writer that is not there drops its ticket, which is then reported as lost.
        let writers = self.lanes.get(usize::from(writer.output.0));
        let Some(lane) = writers.and_then(|lanes| lanes.get(usize::from(writer.number))) else {
            return;
        };
        lane.gathered.borrow_mut().push(record);
        if !self.dirty.replace(true)
            && let Some(flusher) = self.flusher.borrow().as_ref()
        {
            flusher.wake_by_ref();
        }
    }

    /// Sends the collected records. Records a full queue has no room for leave with the next flush.
    pub fn flush(&self) {
        self.dirty.set(false);
        for lane in self.lanes.iter().flatten() {
            lane.flush();
        }
    }

    /// Sends the remaining records and closes this core's ends of the queues. An acknowledged record of an
    /// `enqueued` output may be among them, so a full queue takes them too: from here on the writer delivers
    /// them, or counts them as left behind at the drain deadline.
    pub fn close(&self) {
        for lane in self.lanes.iter().flatten() {
            lane.close();
        }
    }

    /// Flushes whenever something was submitted. The runtime runs woken tasks in turn, so this
    /// comes after all connections that were ready, and takes their records together.
    pub async fn flush_every_turn(self: Rc<Self>) {
        poll_fn(|cx| {
            let mut flusher = self.flusher.borrow_mut();
            match flusher.as_mut() {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *flusher = Some(cx.waker().clone()),
            }
            drop(flusher);
            if self.dirty.get() {
                self.flush();
            }
            Poll::<()>::Pending
        })
        .await;
    }
}

impl Lane {
    fn close(&self) {
        let rest = self.gathered.take();
        let Some(queue) = self.queue.take() else {
            return;
        };
        if !rest.is_empty()
            && let Err(rest) = queue.send_last(rest)
        {
            tell_writer_gone(rest.len());
        }
    }

    fn flush(&self) {
        let mut gathered = self.gathered.borrow_mut();
        if gathered.is_empty() {
            return;
        }
        let submission = std::mem::take(&mut *gathered);
        // A submission is about as large as the one before.
        let expected = submission.len();
        let queue = self.queue.borrow();
        let sent = match queue.as_ref() {
            Some(queue) => queue.try_send(submission),
            None => Err(NotSent::Closed(submission)),
        };
        match sent {
            Ok(()) => gathered.reserve(expected),
            Err(NotSent::Full(submission)) => *gathered = submission,
            Err(NotSent::Closed(submission)) => {
                // The tickets report themselves as lost; the clients get 503.
                tell_writer_gone(submission.len());
            }
        }
    }
}

fn tell_writer_gone(records: usize) {
    error!(records, "a writer is gone, its records are refused");
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sluice_core::ack::{AckQueue, Outcome, OutputId, RequestKey, Ticket};
    use sluice_core::cause::Cause;
    use sluice_core::queue::queue;
    use sluice_core::time::Mono;

    const WRITER: WriterId = WriterId {
        output: OutputId(0),
        number: 0,
    };

    fn record(port: &'static AckQueue, slot: u32) -> Record {
        let request = RequestKey {
            slot,
            generation: 0,
        };
        Record {
            key: None,
            topic: None,
            payload: Bytes::from_static(b"{}"),
            deadline: Mono::NEVER,
            ticket: Ticket::new(port, request, OutputId(0), 2),
        }
    }

    #[test]
    fn records_a_full_queue_refused_leave_with_a_later_flush() {
        let (sender, receiver) = queue(1);
        let outputs = Outputs::new(vec![vec![sender]]);
        let port = AckQueue::leak();
        for slot in 0..3 {
            outputs.submit(WRITER, record(port, slot));
            outputs.flush();
        }
        let submissions = || match receiver.try_recv() {
            Poll::Ready(Some(submission)) => submission.len(),
            _ => 0,
        };
        assert_eq!(submissions(), 1);
        outputs.flush();
        assert_eq!(submissions(), 2);
    }

    #[test]
    fn a_full_queue_takes_the_last_records_of_a_core() {
        let (sender, receiver) = queue(1);
        let outputs = Outputs::new(vec![vec![sender]]);
        let port = AckQueue::leak();
        outputs.submit(WRITER, record(port, 0));
        outputs.flush();
        outputs.submit(WRITER, record(port, 1));
        // Nothing is received meanwhile, as with a sink whose calls are all in flight.
        outputs.close();
        let mut taken = 0;
        while let Poll::Ready(Some(submission)) = receiver.try_recv() {
            taken += submission.len();
        }
        assert_eq!(taken, 2);
    }

    #[test]
    fn records_for_an_ended_writer_are_reported_lost() {
        let (sender, receiver) = queue(1);
        drop(receiver);
        let outputs = Outputs::new(vec![vec![sender]]);
        let port = AckQueue::leak();
        outputs.submit(WRITER, record(port, 7));
        outputs.flush();
        let acks = port.poll_recv(Waker::noop()).unwrap().settlements;
        assert_eq!(acks[0].request.slot, 7);
        assert_eq!(acks[0].outcome, Outcome::Refused(Cause::Lost));
    }
}
