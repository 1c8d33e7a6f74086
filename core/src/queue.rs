//! The bounded hand-off from listener cores to one writer: a face over crossbeam-channel, with a bell.
//!
//! What travels is a parcel: all that one core submitted to one output in one turn of its loop.
//! The queue is bounded in parcels; the bytes in it are bounded where they are admitted (the ledger
//! book), so a full queue only means that the core keeps its parcel and adds to it.

use crate::wake::Bell;
use crossbeam_channel::{TryRecvError, TrySendError};
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Makes a queue for at most `parcels` parcels.
#[must_use]
pub fn queue<T>(parcels: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(parcels);
    let bell = Arc::new(Bell::default());
    let sender = Sender {
        parcels: Some(sender),
        bell: Arc::clone(&bell),
    };
    (
        sender,
        Receiver {
            parcels: receiver,
            bell,
        },
    )
}

/// The queue did not take this parcel; here it is.
#[derive(Debug, PartialEq, Eq)]
pub enum NotSent<T> {
    /// No room now.
    Full(T),
    /// The writer is gone.
    Closed(T),
}

/// A listener core's end.
#[derive(Debug)]
pub struct Sender<T> {
    /// `None` only while it is being dropped.
    parcels: Option<crossbeam_channel::Sender<T>>,
    bell: Arc<Bell>,
}

impl<T> Sender<T> {
    /// Hands a parcel over; never blocks.
    ///
    /// # Errors
    /// Gives the parcel back when the queue is full or the writer is gone.
    pub fn try_send(&self, parcel: T) -> Result<(), NotSent<T>> {
        let Some(parcels) = &self.parcels else {
            return Err(NotSent::Closed(parcel));
        };
        match parcels.try_send(parcel) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(TrySendError::Full(parcel)) => Err(NotSent::Full(parcel)),
            Err(TrySendError::Disconnected(parcel)) => Err(NotSent::Closed(parcel)),
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender {
            parcels: self.parcels.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // The channel has to know first: the woken writer then finds it closed.
        self.parcels = None;
        self.bell.ring();
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct Receiver<T> {
    parcels: crossbeam_channel::Receiver<T>,
    bell: Arc<Bell>,
}

impl<T> Receiver<T> {
    /// Takes a parcel; `Ready(None)` when all senders are gone and nothing is left.
    pub fn poll_recv(&self, waker: &Waker) -> Poll<Option<T>> {
        match self.try_recv() {
            Poll::Pending => {
                self.bell.listen(waker);
                self.try_recv()
            }
            ready => ready,
        }
    }

    /// Takes a parcel if one is there, without arranging to be woken.
    pub fn try_recv(&self) -> Poll<Option<T>> {
        match self.parcels.try_recv() {
            Ok(parcel) => Poll::Ready(Some(parcel)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_the_parcel_back() {
        let (sender, receiver) = queue(1);
        sender.try_send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(NotSent::Full(2)));
        assert_eq!(receiver.try_recv(), Poll::Ready(Some(1)));
        sender.try_send(3).unwrap();
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
    fn a_queue_without_a_writer_gives_the_parcel_back() {
        let (sender, receiver) = queue(4);
        drop(receiver);
        assert_eq!(sender.try_send(1), Err(NotSent::Closed(1)));
    }
}
