//! The streams of a connection as tasks of its core: how many, and for how long.

use super::{STREAMS_MAX, TASK_BYTES, TASKS_AT_ONCE};
use crate::runtime::context::WorkerContext;
use hyper::rt::Executor;
use sluice_core::budget::{ByteBudget, PARTS_PER_SOURCE, Permit, Source};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// Streams are tasks of the core that their connection is on, for a bounded time. Their number is bounded, too, in
/// all and for each client: a thousand connections can begin a hundred each with a few KiB.
#[derive(Clone)]
pub(super) struct OnThisCore {
    pub(super) stream_life: Duration,
    pub(super) tasks: Rc<Tasks>,
}

/// The tasks of a connection's streams.
pub(super) struct Tasks {
    pub(super) context: Rc<WorkerContext>,
    pub(super) source: Option<Source>,
    pub(super) count: Cell<u64>,
    /// For their memory, while there are any.
    pub(super) permit: RefCell<Option<Permit>>,
}

impl Tasks {
    /// Memory that the tasks of all connections of a core may take: half of what its bodies may. One connection can
    /// always have all of its streams, though one client has an eighth of it.
    fn budget(bodies: &ByteBudget) -> ByteBudget {
        let least = u64::from(STREAMS_MAX) * TASK_BYTES * PARTS_PER_SOURCE;
        ByteBudget::new((bodies.limit() / 2).max(least))
    }

    /// One task more; `None` when there is no memory for it, or its client has too many.
    fn begin(self: &Rc<Tasks>) -> Option<Task> {
        let count = self.count.get() + 1;
        let bytes = count.next_multiple_of(TASKS_AT_ONCE) * TASK_BYTES;
        let mut permit = self.permit.borrow_mut();
        match &mut *permit {
            Some(permit) => {
                if permit.bytes() < bytes && !permit.try_resize(bytes) {
                    return None;
                }
            }
            None => {
                let tasks = || Tasks::budget(&self.context.budget);
                let tasks = self.context.http2_tasks.get_or_init(tasks);
                *permit = Some(tasks.try_reserve(bytes, self.source)?);
            }
        }
        self.count.set(count);
        Some(Task(Rc::clone(self)))
    }
}

/// A stream's task, counted.
struct Task(Rc<Tasks>);

impl Drop for Task {
    fn drop(&mut self) {
        let tasks = &self.0;
        let left = tasks.count.get() - 1;
        tasks.count.set(left);
        if left == 0 {
            tasks.permit.replace(None);
        }
    }
}

impl<F> Executor<F> for OnThisCore
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        let Some(task) = self.tasks.begin() else {
            // A stream that is dropped is reset.
            self.tasks.context.stats.shed_budget.increment();
            return;
        };
        let life = self.stream_life;
        drop(monoio::spawn(async move {
            // Past its time it is reset, too.
            let _ = monoio::time::timeout(life, stream).await;
            drop(task);
        }));
    }
}
