//! One core's table of requests in flight: which records each client is waiting for.
//!
//! A request opens an entry with its permit, issues a [`Ticket`] per record and output, and waits.
//! Settlements arrive through the core's [`AckQueue`]. The entry is removed when the last ticket is
//! settled, even if the client was answered or disconnected long before: until then the records still
//! occupy memory, so the permit must be kept. The table belongs to one thread and does no I/O.
//!
//! Asserted in release builds: per request `received == accepted + rejected + withheld`.

use super::letters::LETTERS_FROM;
use crate::ack::Outcome;
use crate::ack::{AckQueue, OutputId, RequestKey, Settlement, Ticket};
use crate::budget::Permit;
use crate::cause::Cause;
use crate::planted::{self, Bug};
use crate::prepared::PreparedRecord;
use crate::priority::Priority;
use crate::time::Mono;
use std::task::Waker;

/// State of a request's acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckStatus {
    /// Results are outstanding, and there is time.
    Open,
    /// Every required record is delivered.
    Delivered,
    /// At least one record was refused; the first cause to arrive.
    Refused(Cause),
    /// The deadline passed with results outstanding.
    DeadlinePassed,
}

/// Events of a request that are not known to be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InDoubt {
    /// How many there are.
    pub total: u32,
    /// The first of them, as their place among the accepted events of the request, from 0.
    pub events: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    /// `None` marks a free slot.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// Held until the entry is removed.
    _permit: Permit,
    priority: Priority,
    since: Mono,
    deadline: Mono,
    received: u32,
    accepted: u32,
    without_record: u32,
    /// Letters about refused events.
    letters: u32,
    /// The number of the event, or letter, whose tickets are issued.
    number: u32,
    /// Tickets not yet settled.
    out: u32,
    /// Unsettled tickets the answer waits for.
    required: u32,
    refused: Option<Cause>,
    /// Of a request with several events, for each accepted one: the outputs that the answer waits for
    /// and that have not confirmed it. Empty otherwise.
    unconfirmed: Vec<u8>,
    /// The accepted events, where a record that one output refuses may go to another.
    kept: Vec<PreparedRecord>,
    overdue: bool,
    /// The client was answered or has disconnected.
    closed: bool,
    waker: Option<Waker>,
}

/// An event, or a letter, of an open request, whose tickets can be issued.
#[derive(Debug)]
pub(crate) struct Accepting<'t> {
    acks: &'static AckQueue,
    request: RequestKey,
    open: &'t mut Open,
}

impl Accepting<'_> {
    /// A ticket for the event's record at one output.
    pub(crate) fn ticket(&mut self, output: OutputId, bytes: u32, is_awaited: bool) -> Ticket {
        self.open.out += 1;
        self.open.required += u32::from(is_awaited);
        if is_awaited && let Some(outputs) = self.open.unconfirmed.last_mut() {
            *outputs += 1;
        }
        Ticket::new(self.acks, self.request, output, bytes)
            .for_event(self.open.number)
            .awaited(is_awaited)
            .of_priority(self.open.priority)
    }
}

/// A settlement of a request that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// When the request was opened.
    pub(crate) since: Mono,
    /// Whether its client had been answered, or had disconnected.
    pub(crate) is_late: bool,
}

/// A refused record on its way to another output.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) record: PreparedRecord,
    pub(crate) ticket: Ticket,
    /// `None` for a record that no client waits for.
    pub(crate) deadline: Option<Mono>,
    /// For the output that refused it.
    pub(crate) settled: Settled,
}

/// Requests in flight on one core.
#[derive(Debug)]
pub(crate) struct RequestTable {
    acks: &'static AckQueue,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl RequestTable {
    /// An empty table whose tickets report to `acks`.
    pub(crate) fn new(acks: &'static AckQueue) -> Self {
        RequestTable {
            acks,
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Number of entries.
    pub(crate) fn open_requests(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Opens an entry for a request with `received` events, of which `without_record` were rejected or withheld.
    pub(crate) fn open(
        &mut self,
        received: u32,
        without_record: u32,
        permit: Permit,
        priority: Priority,
        since: Mono,
        deadline: Mono,
    ) -> RequestKey {
        let open = Open {
            _permit: permit,
            priority,
            since,
            deadline,
            received,
            accepted: 0,
            without_record,
            letters: 0,
            number: 0,
            out: 0,
            required: 0,
            refused: None,
            unconfirmed: Vec::with_capacity(if received > 1 { received as usize } else { 0 }),
            kept: Vec::new(),
            overdue: false,
            closed: false,
            waker: None,
        };
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.entries[slot as usize];
            entry.open = Some(open);
            return RequestKey {
                slot,
                generation: entry.generation,
            };
        }
        self.entries.push(Entry {
            generation: 0,
            open: Some(open),
        });
        // Requests are bounded by connections and the byte budget, far below 2^32.
        let slot = u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX);
        RequestKey {
            slot,
            generation: 0,
        }
    }

    /// Begins the next event of an open request, or else the next letter about a refused one.
    pub(crate) fn begin(&mut self, request: RequestKey, is_event: bool) {
        let Some(open) = find(&mut self.entries, request) else {
            return;
        };
        if is_event {
            open.number = open.accepted;
            open.accepted += 1;
            if open.received > 1 {
                open.unconfirmed.push(0);
            }
        } else {
            open.number = LETTERS_FROM + open.letters;
            open.letters += 1;
        }
    }

    /// The event that was begun last goes nowhere, and is in doubt.
    pub(crate) fn refuse(&mut self, request: RequestKey, cause: Cause) {
        if let Some(open) = find(&mut self.entries, request) {
            open.refused = open.refused.or(Some(cause));
            if let Some(outputs) = open.unconfirmed.last_mut() {
                *outputs += 1;
            }
        }
    }

    /// Lets an open request accept what was begun last.
    pub(crate) fn accepting(&mut self, request: RequestKey) -> Option<Accepting<'_>> {
        Some(Accepting {
            acks: self.acks,
            request,
            open: find(&mut self.entries, request)?,
        })
    }

    /// The request's status. While it is [`AckStatus::Open`], `waker` is woken when that changes.
    pub(crate) fn status(&mut self, request: RequestKey, waker: &Waker) -> AckStatus {
        let Some(open) = find(&mut self.entries, request) else {
            // Reached only by a request that has closed its own entry.
            return AckStatus::Refused(Cause::Lost);
        };
        if open.required > 0 && !open.overdue {
            match &mut open.waker {
                Some(known) => known.clone_from(waker),
                unknown => *unknown = Some(waker.clone()),
            }
            return AckStatus::Open;
        }
        match open.refused {
            _ if open.required > 0 => AckStatus::DeadlinePassed,
            Some(cause) => AckStatus::Refused(cause),
            None => AckStatus::Delivered,
        }
    }

    /// The accepted events that some output, of those that the answer waits for, has not confirmed; at
    /// most `listed_max` of them by their number. Of a request with one event, which its status tells, none.
    pub(crate) fn in_doubt(&mut self, request: RequestKey, listed_max: usize) -> InDoubt {
        let Some(open) = find(&mut self.entries, request) else {
            return InDoubt::default();
        };
        let mut found = InDoubt::default();
        for (event, outputs) in (0..).zip(&open.unconfirmed) {
            if *outputs > 0 {
                found.total += 1;
                if found.events.len() < listed_max {
                    found.events.push(event);
                }
            }
        }
        found
    }

    /// Keeps the event that was accepted last.
    pub(crate) fn keep(&mut self, request: RequestKey, record: PreparedRecord) {
        if let Some(open) = find(&mut self.entries, request) {
            open.kept.push(record);
        }
    }

    /// The record that was settled, if it can still be given to another output: not once its client has its answer.
    pub(crate) fn kept(&self, settlement: &Settlement) -> Option<&PreparedRecord> {
        let entry = self.entries.get(settlement.request.slot as usize)?;
        let open = entry.open.as_ref()?;
        let is_answered = open.closed || open.overdue;
        if entry.generation != settlement.request.generation
            || (settlement.is_awaited && is_answered)
        {
            return None;
        }
        open.kept.get(settlement.event as usize)
    }

    /// The priority of an open request.
    pub(crate) fn priority(&self, request: RequestKey) -> Option<Priority> {
        let entry = self.entries.get(request.slot as usize)?;
        entry.open.as_ref().map(|open| open.priority)
    }

    /// Issues the ticket for another try of a refused record, at the output `to`. The request waits on.
    pub(crate) fn move_on(&mut self, settlement: &Settlement, to: OutputId) -> Option<Moved> {
        let record = self.kept(settlement)?.clone();
        let acks = self.acks;
        let open = find(&mut self.entries, settlement.request)?;
        let is_awaited = settlement.is_awaited;
        if planted::is(Bug::MovedIsForgotten) {
            open.required -= u32::from(is_awaited);
        }
        let ticket = Ticket::new(acks, settlement.request, to, settlement.bytes)
            .for_event(settlement.event)
            .awaited(is_awaited && !planted::is(Bug::MovedIsForgotten))
            .in_place_of(settlement.meant_for, settlement.tried)
            .of_priority(open.priority);
        Some(Moved {
            record,
            ticket,
            deadline: is_awaited.then_some(open.deadline),
            settled: Settled {
                since: open.since,
                is_late: open.closed,
            },
        })
    }

    /// Marks the client as answered or disconnected. The entry stays until its last ticket is settled.
    pub(crate) fn close(&mut self, request: RequestKey) {
        let Some(open) = find(&mut self.entries, request) else {
            return;
        };
        open.closed = true;
        open.waker = None;
        assert!(
            open.received == open.accepted + open.without_record,
            "an event vanished: received {}, accepted {}, without a record {}",
            open.received,
            open.accepted,
            open.without_record
        );
        self.free_if_done(request);
    }

    /// Applies one settlement; `None` for one of a request that is gone.
    pub(crate) fn settle(&mut self, settlement: &Settlement) -> Option<Settled> {
        let Settlement {
            request,
            event,
            is_awaited,
            outcome,
            ..
        } = *settlement;
        let open = find(&mut self.entries, request)?;
        if open.closed && planted::is(Bug::LateAckIgnored) {
            return None;
        }
        let settled = Settled {
            since: open.since,
            is_late: open.closed,
        };
        if is_awaited {
            match outcome {
                Outcome::Delivered | Outcome::Spooled => {
                    if let Some(outputs) = open.unconfirmed.get_mut(event as usize) {
                        *outputs = outputs.saturating_sub(1);
                    }
                }
                Outcome::Refused(Cause::Lost) if planted::is(Bug::LostDelivers) => {}
                Outcome::Refused(_) if planted::is(Bug::RefusalForgotten) => {}
                Outcome::Refused(cause) => open.refused = open.refused.or(Some(cause)),
            }
        }
        open.out -= 1;
        open.required = match planted::is(Bug::FirstAckAnswers) {
            true => 0,
            false => open.required - u32::from(is_awaited),
        };
        if open.required == 0
            && !planted::is(Bug::NobodyWoken)
            && let Some(waker) = open.waker.take()
        {
            waker.wake();
        }
        self.free_if_done(request);
        Some(settled)
    }

    /// Wakes requests whose deadline has passed. Call every few milliseconds; costs one comparison per
    /// open request.
    pub(crate) fn expire(&mut self, now: Mono) {
        for entry in &mut self.entries {
            let Some(open) = &mut entry.open else {
                continue;
            };
            let is_over = open.deadline <= now && !planted::is(Bug::NoDeadline);
            if is_over && open.required > 0 && !open.overdue {
                open.overdue = true;
                if let Some(waker) = open.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    fn free_if_done(&mut self, request: RequestKey) {
        let entry = &mut self.entries[request.slot as usize];
        if entry.open.as_ref().is_some_and(|open| {
            open.closed && (open.out == 0 || planted::is(Bug::PermitGoesWithClient))
        }) {
            entry.open = None;
            entry.generation = entry.generation.wrapping_add(1);
            self.free.push(request.slot);
        }
    }
}

fn find(entries: &mut [Entry], request: RequestKey) -> Option<&mut Open> {
    entries
        .get_mut(request.slot as usize)
        .filter(|entry| entry.generation == request.generation)?
        .open
        .as_mut()
}
