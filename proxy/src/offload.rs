//! Threads beside the listener cores, for bodies whose preparation would hold up a core's other connections.
//!
//! A core serves thousands of connections from one thread, so no request may keep it for long; cutting inflater,
//! scanner and escaper into resumable pieces would cost every request. Large bodies are rare, and worth a
//! change of threads. These threads run at a lower priority than the cores: under full load small requests go first.
//! Knows nothing of requests.

use crate::scheduling;
use crate::wiping;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

/// Jobs that may wait for a thread. The byte budget bounds them first, unless bodies are small.
const WAITING_MAX: usize = 1_024;

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub struct Offload {
    jobs: SyncSender<Arc<dyn Run>>,
}

/// The queue of jobs is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Offload {
    /// Starts the threads. Call it on a thread that is bound to no core, for they inherit that.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(threads: usize) -> io::Result<Offload> {
        let (jobs, receiver) = sync_channel::<Arc<dyn Run>>(WAITING_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads.max(1) {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new()
                .name(format!("offload-{number}"))
                .spawn(move || work(&receiver))?;
        }
        Ok(Offload { jobs })
    }

    /// Runs `work` on one of the threads. When the future is dropped before the work has begun, the work
    /// is dropped too.
    ///
    /// # Errors
    /// [`Full`].
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Offloaded<T>, Full> {
        let slot = Arc::new(Slot {
            state: Mutex::new(State {
                work: Some(Box::new(work)),
                result: None,
                waker: None,
            }),
        });
        let job: Arc<dyn Run> = Arc::<Slot<T>>::clone(&slot);
        self.jobs.try_send(job).map_err(|_| Full)?;
        Ok(Offloaded(slot))
    }
}

fn work(jobs: &Mutex<Receiver<Arc<dyn Run>>>) {
    if let Err(error) = scheduling::yield_to_others() {
        tracing::warn!(%error, "large bodies are prepared at the priority of small ones");
    }
    loop {
        let job = unpoisoned(jobs.lock()).recv();
        match job {
            Ok(job) => {
                job.run();
                // The request goes with its job; then there is nothing of it but on the stack.
                drop(job);
                wiping::wipe_stack();
            }
            Err(_) => return,
        }
    }
}

fn unpoisoned<'a, T>(
    lock: Result<MutexGuard<'a, T>, PoisonError<MutexGuard<'a, T>>>,
) -> MutexGuard<'a, T> {
    // Nothing panics while it holds one of these locks.
    lock.unwrap_or_else(PoisonError::into_inner)
}

trait Run: Send + Sync {
    fn run(&self);
}

impl std::fmt::Debug for dyn Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Run")
    }
}

struct Slot<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    work: Option<Box<dyn FnOnce() -> T + Send>>,
    result: Option<T>,
    waker: Option<Waker>,
}

impl<T: Send> Run for Slot<T> {
    fn run(&self) {
        let Some(work) = unpoisoned(self.state.lock()).work.take() else {
            // The future was dropped.
            return;
        };
        let result = work();
        let mut state = unpoisoned(self.state.lock());
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The result of offloaded work, once it is there.
pub struct Offloaded<T>(Arc<Slot<T>>);

impl<T> Future for Offloaded<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = unpoisoned(self.0.state.lock());
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Offloaded<T> {
    fn drop(&mut self) {
        let mut state = unpoisoned(self.0.state.lock());
        let (work, waker) = (state.work.take(), state.waker.take());
        // Dropping a job may take other locks.
        drop(state);
        drop((work, waker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::Wake;

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => thread::park(),
            }
        }
    }

    #[test]
    fn work_runs_on_another_thread_and_wakes_the_waiting_one() {
        let offload = Offload::start(2).unwrap();
        let here = thread::current().id();
        let there = block_on(offload.run(|| thread::current().id()).unwrap());
        assert_ne!(here, there);
    }

    #[test]
    fn work_that_nobody_waits_for_is_not_begun() {
        let offload = Offload::start(1).unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let first = offload.run(move || wait.recv().is_ok()).unwrap();
        let (dropped, is_dropped) = mpsc::channel::<()>();
        drop(offload.run(move || dropped.send(())).unwrap());
        // Its sender went with it, though the thread is still busy with the first.
        assert!(is_dropped.recv().is_err());
        go.send(()).unwrap();
        assert!(block_on(first));
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let offload = Offload::start(1).unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let first = offload.run(move || wait.recv().is_ok()).unwrap();
        // The thread may or may not have taken the first one yet.
        let waiting = (0..WAITING_MAX + 1)
            .map_while(|_| offload.run(|| ()).ok())
            .collect::<Vec<_>>();
        assert!(waiting.len() <= WAITING_MAX);
        assert!(offload.run(|| ()).is_err());
        go.send(()).unwrap();
        assert!(block_on(first));
    }
}
