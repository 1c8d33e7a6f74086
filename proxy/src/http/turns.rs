//! Keeps one worker fair to what arrives from outside of its tasks.
//!
//! The runtime takes in wakes from other threads, and fires timers, only when no task is ready. Under a flood of
//! requests that are answered at once there is always one: on io_uring the set of sockets is looked at in between,
//! which makes the next tasks ready. Acks and ticks would then wait for as long as the flood goes on.

use crate::runtime::context::WorkerContext;
use sluice_core::time::Mono;
use std::cell::Cell;
use std::time::Duration;

/// A worker goes on for this long without a look at them.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// When this worker's requests last left room for a look.
pub(super) struct Turns(Cell<Mono>);

impl Turns {
    pub(super) fn new(now: Mono) -> Turns {
        Turns(Cell::new(now))
    }

    /// Whether the next request has to wait for a look.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        now.since(self.0.get()) >= LOOK_EVERY
    }

    /// Waits until the runtime has looked within the last [`LOOK_EVERY`]; not at all if it has already.
    pub(super) async fn look(&self, context: &WorkerContext) {
        // A timer of the past fires with the next look, and at once where that has been. In a box, as few requests
        // need it.
        Box::pin(monoio::time::sleep_until(
            monoio::time::Instant::now() - LOOK_EVERY,
        ))
        .await;
        self.0.set(context.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::Clock;
    use crate::runtime::drain::Drain;
    use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
    use sluice_core::stats::WorkerStats;
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::sync::{Arc, mpsc};
    use std::task::{Poll, Waker};
    use std::thread;
    use std::time::Instant;

    /// Wakes itself for ever, as a connection does whose client sends faster than it is served.
    async fn stay_ready() {
        let mut has_woken = false;
        poll_fn(|cx| {
            if has_woken {
                return Poll::Ready(());
            }
            has_woken = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Whether a wake from another thread arrived beside a task that is always ready.
    async fn is_woken_beside_a_busy_task() -> bool {
        let (sender, wakers) = mpsc::channel::<Waker>();
        let waker_thread = thread::spawn(move || {
            let waker = wakers.recv().unwrap();
            thread::sleep(Duration::from_millis(5));
            waker.wake();
        });
        let woken = monoio::spawn(async move {
            let mut sent = false;
            poll_fn(|cx| {
                if sent {
                    return Poll::Ready(());
                }
                sent = true;
                let _ = sender.send(cx.waker().clone());
                Poll::Pending
            })
            .await;
        });
        let clock = Clock::start();
        let context = WorkerContext::new(
            0,
            Arc::new(WorkerStats::new(0, 0)),
            Arc::new(Drain::default()),
            clock,
            0,
        );
        let turns = Turns::new(context.now());
        let give_up = Instant::now() + Duration::from_secs(5);
        let mut woken = pin!(woken);
        let mut arrived = false;
        while !arrived && Instant::now() < give_up {
            if turns.is_due(context.now()) {
                turns.look(&context).await;
            }
            stay_ready().await;
            arrived = poll_fn(|cx| Poll::Ready(woken.as_mut().poll(cx).is_ready())).await;
        }
        waker_thread.join().unwrap();
        arrived
    }

    #[test]
    fn a_wake_from_another_thread_arrives_beside_a_busy_task() {
        // Where the kernel or its sandbox has no io_uring, the other driver alone is tested.
        if let Ok(mut runtime) = RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .build()
        {
            assert!(runtime.block_on(is_woken_beside_a_busy_task()));
        }
        let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()
            .unwrap();
        assert!(runtime.block_on(is_woken_beside_a_busy_task()));
    }
}
