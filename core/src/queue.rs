//! The bounded queue from listener cores to one writer: crossbeam-channel plus a wake.
//!
//! Its messages are submissions: the records one core sends to one output in one turn of its event loop.
//! The queue is bounded in submissions. Bytes are bounded on admission (by the request table), so a full
//! queue only means that the core keeps its submission and adds to it.

use crate::wake_flag::WakeFlag;
use crossbeam_channel::TryRecvError;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Creates a queue of at most `submissions` submissions.
#[must_use]
pub fn queue<T>(submissions: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let wake = Arc::new(WakeFlag::default());
    let sender = Sender {
        submissions: Some(sender),
        submissions_max: submissions,
        wake: Arc::clone(&wake),
    };
    (
        sender,
        Receiver {
            submissions: receiver,
            wake,
        },
    )
}

/// The queue did not accept the submission, which is returned.
#[derive(Debug, PartialEq, Eq)]
pub enum NotSent<T> {
    /// The queue is full.
    Full(T),
    /// The writer is gone.
    Closed(T),
}

/// A listener core's end.
#[derive(Debug)]
pub struct Sender<T> {
    /// `None` only while it is being dropped.
    submissions: Option<crossbeam_channel::Sender<T>>,
    /// Checked here instead of by the channel, because [`Sender::send_last`] is not bound by it.
    submissions_max: usize,
    wake: Arc<WakeFlag>,
}

impl<T> Sender<T> {
    /// Sends a submission; never blocks.
    ///
    /// # Errors
    /// Returns the submission when the queue is full or the writer is gone.
    pub fn try_send(&self, submission: T) -> Result<(), NotSent<T>> {
        match &self.submissions {
            Some(submissions) if submissions.len() >= self.submissions_max => {
                Err(NotSent::Full(submission))
            }
            _ => self.send_last(submission).map_err(NotSent::Closed),
        }
    }

    /// Hands a submission over although the queue may be full: the last one of a core, which would
    /// otherwise be lost with it. A core sends one per output, so the queue grows by the number of cores.
    ///
    /// # Errors
    /// Gives the submission back when the writer is gone.
    pub fn send_last(&self, submission: T) -> Result<(), T> {
        let Some(submissions) = &self.submissions else {
            return Err(submission);
        };
        submissions
            .send(submission)
            .map_err(crossbeam_channel::SendError::into_inner)?;
        self.wake.notify();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender {
            submissions: self.submissions.clone(),
            submissions_max: self.submissions_max,
            wake: Arc::clone(&self.wake),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // The channel has to know first: the woken writer then finds it closed.
        self.submissions = None;
        self.wake.notify();
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct Receiver<T> {
    submissions: crossbeam_channel::Receiver<T>,
    wake: Arc<WakeFlag>,
}

impl<T> Receiver<T> {
    /// Takes a submission; `Ready(None)` when all senders are gone and nothing is left.
    pub fn poll_recv(&self, waker: &Waker) -> Poll<Option<T>> {
        match self.try_recv() {
            Poll::Pending => {
                self.wake.register(waker);
                self.try_recv()
            }
            ready => ready,
        }
    }

    /// Takes a submission if there is one, without registering a waker.
    pub fn try_recv(&self) -> Poll<Option<T>> {
        match self.submissions.try_recv() {
            Ok(submission) => Poll::Ready(Some(submission)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;
    use std::thread::{self, Thread};

    #[test]
    fn a_full_queue_gives_the_submission_back() {
        let (sender, receiver) = queue(1);
        sender.try_send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(NotSent::Full(2)));
        assert_eq!(receiver.try_recv(), Poll::Ready(Some(1)));
        sender.try_send(3).unwrap();
    }

    #[test]
    fn a_full_queue_takes_the_last_submission() {
        let (sender, receiver) = queue(1);
        sender.try_send(1).unwrap();
        sender.send_last(2).unwrap();
        assert_eq!(sender.try_send(3), Err(NotSent::Full(3)));
        drop(sender);
        assert_eq!(receiver.try_recv(), Poll::Ready(Some(1)));
        assert_eq!(receiver.try_recv(), Poll::Ready(Some(2)));
        assert_eq!(receiver.try_recv(), Poll::Ready(None));
    }

    #[test]
    fn what_was_sent_arrives_before_the_end() {
        let (sender, receiver) = queue(4);
        sender.try_send(1).unwrap();
        drop(sender);
        assert_eq!(receiver.poll_recv(Waker::noop()), Poll::Ready(Some(1)));
        assert_eq!(receiver.poll_recv(Waker::noop()), Poll::Ready(None));
    }

    #[test]
    fn no_submission_is_missed_between_threads() {
        struct Unpark(Thread);

        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }

        // Miri is slow, and shows races without many rounds.
        let each = if cfg!(miri) { 20 } else { 20_000 };
        let (sender, receiver) = queue(4);
        let senders = [0, 1].map(|_| {
            let sender = sender.clone();
            thread::spawn(move || {
                for at in 0..each {
                    while sender.try_send(at).is_err() {
                        thread::yield_now();
                    }
                }
            })
        });
        drop(sender);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut received = 0;
        loop {
            match receiver.poll_recv(&waker) {
                Poll::Ready(Some(_)) => received += 1,
                Poll::Ready(None) => break,
                Poll::Pending => thread::park(),
            }
        }
        assert_eq!(received, 2 * each);
        for sender in senders {
            sender.join().unwrap();
        }
    }

    #[test]
    fn a_queue_without_a_writer_gives_the_submission_back() {
        let (sender, receiver) = queue(4);
        drop(receiver);
        assert_eq!(sender.try_send(1), Err(NotSent::Closed(1)));
    }
}
