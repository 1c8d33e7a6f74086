//! The admin port's connections, and which of them is evicted for a new one.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

/// The open connections of the port, at most `capacity` of them.
pub(super) struct ConnectionSlots {
    capacity: usize,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    /// Oldest first.
    open: Vec<Open>,
    next: u64,
}

struct Open {
    number: u64,
    peer: IpAddr,
    /// The whole head is here, so an answer is made or on its way.
    has_head: bool,
    task: Option<AbortHandle>,
}

impl Table {
    /// The connection to evict: one without a complete head before one that is being
    /// answered, then one of the address that holds most, then the oldest.
    fn victim(&self) -> Option<usize> {
        let mut held: HashMap<IpAddr, usize> = HashMap::new();
        for open in &self.open {
            *held.entry(open.peer).or_default() += 1;
        }
        let rank = |open: &Open| (!open.has_head, held.get(&open.peer).copied());
        let mut victim = None;
        for (at, open) in self.open.iter().enumerate() {
            if victim.is_none_or(|(_, best)| rank(open) > best) {
                victim = Some((at, rank(open)));
            }
        }
        victim.map(|(at, _)| at)
    }
}

/// One connection's entry, removed when the connection's task ends.
pub(super) struct Slot {
    number: u64,
    table: Arc<Mutex<Table>>,
}

impl ConnectionSlots {
    pub(super) fn new(capacity: usize) -> ConnectionSlots {
        ConnectionSlots {
            capacity,
            table: Arc::default(),
        }
    }

    /// Spawns the task of a new connection, and ends another one if the port is full.
    pub(super) fn admit<F>(&self, peer: IpAddr, serve: impl FnOnce(Arc<Slot>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let evicted = {
            let mut table = lock(&self.table);
            let is_full = table.open.len() >= self.capacity;
            let victim = table.victim().filter(|_| is_full);
            victim.and_then(|at| table.open.remove(at).task)
        };
        if let Some(task) = evicted {
            task.abort();
        }
        let number = {
            let mut table = lock(&self.table);
            table.next += 1;
            let number = table.next;
            table.open.push(Open {
                number,
                peer,
                has_head: false,
                task: None,
            });
            number
        };
        let slot = Arc::new(Slot {
            number,
            table: Arc::clone(&self.table),
        });
        let serving = serve(Arc::clone(&slot));
        let task = tokio::spawn(async move {
            serving.await;
            drop(slot);
        });
        lock(&self.table).with(number, |open| open.task = Some(task.abort_handle()));
    }
}

impl Table {
    fn with(&mut self, number: u64, change: impl FnOnce(&mut Open)) {
        if let Some(open) = self.open.iter_mut().find(|open| open.number == number) {
            change(open);
        }
    }
}

impl Slot {
    /// From now on this connection is evicted only when every other one is being answered, too.
    pub(super) fn head_is_complete(&self) {
        lock(&self.table).with(self.number, |open| open.has_head = true);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let number = self.number;
        lock(&self.table).open.retain(|open| open.number != number);
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(open: &[(u8, bool)]) -> Table {
        let mut table = Table::default();
        for (last, has_head) in open {
            table.next += 1;
            table.open.push(Open {
                number: table.next,
                peer: IpAddr::from([10, 0, 0, *last]),
                has_head: *has_head,
                task: None,
            });
        }
        table
    }

    #[test]
    fn oldest_half_open_connection_of_the_greediest_address_is_evicted() {
        for (open, victim) in [
            (&[][..], None),
            (&[(1, false), (1, false)], Some(0)),
            (&[(1, true), (1, false)], Some(1)),
            (&[(2, false), (1, false), (1, false)], Some(1)),
            (&[(2, false), (1, true), (1, true)], Some(0)),
            (&[(1, true), (2, true), (2, true)], Some(1)),
        ] {
            assert_eq!(table(open).victim(), victim, "{open:?}");
        }
    }
}
