//! One core's table of requests in flight: which records each client is waiting for.
//!
//! A request opens an entry with its permit, issues a [`Ticket`] per record and output, and waits.
//! Settlements arrive through the core's [`AckQueue`]. The entry is removed when the last ticket is
//! settled, even if the client was answered or disconnected long before: until then the records still
//! occupy memory, so the permit must be kept. The table belongs to one thread and does no I/O.
//!
//! Asserted in release builds: per request `received == accepted + rejected`, per output
//! `accepted == delivered + spooled + refused + pending`.

use crate::ack::Outcome;
use crate::ack::{AckQueue, OutputId, RequestKey, Settlement, Ticket};
use crate::adaptive_limit::AdaptiveLimit;
use crate::budget::Permit;
use crate::cause::Cause;
use crate::time::Mono;
use std::task::Waker;
use std::time::Duration;

/// Whether the answer waits for an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckPolicy {
    /// The answer waits until the destination confirms the record.
    Delivered,
    /// The answer does not wait: it is enough to hand the record to the output. Records lost after that
    /// are counted.
    Enqueued,
}

/// The table's rules for one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputRule {
    /// Whether answers wait for it.
    pub ack: AckPolicy,
    /// Bytes of records that this core may have pending there.
    pub pending_bytes_max: u64,
    /// Longest acceptable latency of a result while the output throttles, which further bounds what may
    /// be pending ([`crate::adaptive_limit`]). `None` if no answer waits for the output.
    pub adaptive_limit: Option<Duration>,
}

/// Counts of one output on one core. `accepted == delivered + spooled + refused + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputTally {
    /// Records handed over.
    pub accepted: u64,
    /// Records confirmed.
    pub delivered: u64,
    /// Records that the output's spool keeps.
    pub spooled: u64,
    /// Records not confirmed, indexed as [`Cause::ALL`].
    pub refused: [u64; Cause::ALL.len()],
    /// Records without a result yet.
    pub pending: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Bytes that may be pending now.
    pub capacity_bytes: u64,
    /// Delivered records whose client had already been answered or had disconnected.
    pub delivered_late: u64,
}

/// State of a request's acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckStatus {
    /// Results are outstanding, and there is time.
    Open,
    /// Every required record is delivered or spooled.
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
    since: Mono,
    deadline: Mono,
    received: u32,
    accepted: u32,
    rejected: u32,
    /// Tickets not yet settled.
    out: u32,
    /// Unsettled tickets the answer waits for.
    required: u32,
    refused: Option<Cause>,
    /// Of a request with several events, for each accepted one: the outputs that the answer waits for
    /// and that have not confirmed it. Empty otherwise.
    unconfirmed: Vec<u8>,
    overdue: bool,
    /// The client was answered or has disconnected.
    closed: bool,
    waker: Option<Waker>,
}

/// Requests in flight on one core.
#[derive(Debug)]
pub struct RequestTable {
    acks: &'static AckQueue,
    rules: Vec<OutputRule>,
    tallies: Vec<OutputTally>,
    /// One for each output whose rule asks for it.
    adaptive_limits: Vec<Option<AdaptiveLimit>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// The time of the last [`RequestTable::expire`]: accurate to a few milliseconds.
    now: Mono,
}

impl RequestTable {
    /// An empty table whose tickets report to `acks`.
    #[must_use]
    pub fn new(acks: &'static AckQueue, rules: Vec<OutputRule>) -> Self {
        let tally = |rule: &OutputRule| OutputTally {
            capacity_bytes: rule.pending_bytes_max,
            ..OutputTally::default()
        };
        let adaptive_limit = |rule: &OutputRule| {
            Some(AdaptiveLimit::new(
                rule.pending_bytes_max,
                rule.adaptive_limit?,
            ))
        };
        RequestTable {
            acks,
            tallies: rules.iter().map(tally).collect(),
            adaptive_limits: rules.iter().map(adaptive_limit).collect(),
            rules,
            entries: Vec::new(),
            free: Vec::new(),
            now: Mono::default(),
        }
    }

    /// Counts of each output, in configuration order.
    #[must_use]
    pub fn tallies(&self) -> &[OutputTally] {
        &self.tallies
    }

    /// Number of entries.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The first output without capacity for `bytes` more. Call it before the first ticket: a request is
    /// submitted as a whole or not at all. An output with nothing pending always has capacity, because
    /// this core's share may be smaller than the largest allowed request.
    #[must_use]
    pub fn without_capacity_for(&self, bytes: u64) -> Option<OutputId> {
        let full = self.tallies.iter().position(|tally| {
            tally.pending > 0 && tally.pending_bytes + bytes > tally.capacity_bytes
        })?;
        u16::try_from(full).ok().map(OutputId)
    }

    /// Opens an entry for a request with `received` events, of which `rejected` are invalid.
    pub fn open(
        &mut self,
        received: u32,
        rejected: u32,
        permit: Permit,
        deadline: Mono,
    ) -> RequestKey {
        let open = Open {
            _permit: permit,
            since: self.now,
            deadline,
            received,
            accepted: 0,
            rejected,
            out: 0,
            required: 0,
            refused: None,
            unconfirmed: Vec::with_capacity(if received > 1 { received as usize } else { 0 }),
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

    /// Accepts one event for all outputs and issues its tickets, one per output, in order.
    pub fn accept(
        &mut self,
        request: RequestKey,
        bytes: u32,
        mut hand_over: impl FnMut(OutputId, Ticket),
    ) {
        let acks = self.acks;
        let Some(open) = find(&mut self.entries, request) else {
            return;
        };
        let event = open.accepted;
        open.accepted += 1;
        if open.received > 1 {
            let waits = self
                .rules
                .iter()
                .filter(|rule| rule.ack == AckPolicy::Delivered);
            open.unconfirmed
                .push(u8::try_from(waits.count()).unwrap_or(u8::MAX));
        }
        for (at, (rule, tally)) in self.rules.iter().zip(&mut self.tallies).enumerate() {
            let output = OutputId(u16::try_from(at).unwrap_or(u16::MAX));
            open.out += 1;
            open.required += u32::from(rule.ack == AckPolicy::Delivered);
            tally.accepted += 1;
            tally.pending += 1;
            tally.pending_bytes += u64::from(bytes);
            hand_over(
                output,
                Ticket::new(acks, request, output, bytes).for_event(event),
            );
        }
    }

    /// The request's status. While it is [`AckStatus::Open`], `waker` is woken when that changes.
    pub fn status(&mut self, request: RequestKey, waker: &Waker) -> AckStatus {
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
    #[must_use]
    pub fn in_doubt(&mut self, request: RequestKey, listed_max: usize) -> InDoubt {
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

    /// Marks the client as answered or disconnected. The entry stays until its last ticket is settled.
    pub fn close(&mut self, request: RequestKey) {
        let Some(open) = find(&mut self.entries, request) else {
            return;
        };
        open.closed = true;
        open.waker = None;
        assert!(
            open.received == open.accepted + open.rejected,
            "an event vanished: received {}, accepted {}, rejected {}",
            open.received,
            open.accepted,
            open.rejected
        );
        self.free_if_done(request);
    }

    /// Applies one settlement.
    pub fn settle(&mut self, settlement: Settlement) {
        let Settlement {
            request,
            event,
            output,
            bytes,
            outcome,
        } = settlement;
        let Some(open) = find(&mut self.entries, request) else {
            return;
        };
        let at = usize::from(output.0);
        let (Some(rule), Some(tally), Some(adaptive_limit)) = (
            self.rules.get(at),
            self.tallies.get_mut(at),
            self.adaptive_limits.get_mut(at),
        ) else {
            return;
        };
        let required = rule.ack == AckPolicy::Delivered;
        tally.pending -= 1;
        tally.pending_bytes -= u64::from(bytes);
        match outcome {
            Outcome::Delivered => {
                tally.delivered += 1;
                if required && let Some(outputs) = open.unconfirmed.get_mut(event as usize) {
                    *outputs = outputs.saturating_sub(1);
                }
                tally.delivered_late += u64::from(required && open.closed);
                if let Some(adaptive_limit) = adaptive_limit {
                    adaptive_limit.delivered(u64::from(bytes), self.now.since(open.since));
                }
            }
            Outcome::Spooled => {
                tally.spooled += 1;
                if required && let Some(outputs) = open.unconfirmed.get_mut(event as usize) {
                    *outputs = outputs.saturating_sub(1);
                }
            }
            Outcome::Refused(cause) => {
                tally.refused[cause as usize] += 1;
                if let (Some(adaptive_limit), Cause::Throttled | Cause::Expired) =
                    (adaptive_limit, cause)
                {
                    adaptive_limit.given_up();
                }
                if required {
                    open.refused = open.refused.or(Some(cause));
                }
            }
        }
        assert!(
            tally.accepted
                == tally.delivered
                    + tally.spooled
                    + tally.refused.iter().sum::<u64>()
                    + tally.pending,
            "a record vanished at output {at}: {tally:?}"
        );
        open.out -= 1;
        open.required -= u32::from(required);
        if open.required == 0
            && let Some(waker) = open.waker.take()
        {
            waker.wake();
        }
        self.free_if_done(request);
    }

    /// Wakes requests whose deadline has passed. Call every few milliseconds; costs one comparison per
    /// open request.
    pub fn expire(&mut self, now: Mono) {
        self.now = now;
        for entry in &mut self.entries {
            let Some(open) = &mut entry.open else {
                continue;
            };
            if open.deadline <= now && open.required > 0 && !open.overdue {
                open.overdue = true;
                if let Some(waker) = open.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Passes on the total throttle count of an output's destination. Call after every
    /// [`RequestTable::expire`].
    pub fn observe_throttling(&mut self, output: OutputId, throttled: u64) {
        let at = usize::from(output.0);
        if let (Some(Some(adaptive_limit)), Some(tally)) =
            (self.adaptive_limits.get_mut(at), self.tallies.get_mut(at))
        {
            adaptive_limit.tick(self.now, throttled);
            tally.capacity_bytes = adaptive_limit.capacity();
        }
    }

    fn free_if_done(&mut self, request: RequestKey) {
        let entry = &mut self.entries[request.slot as usize];
        if entry
            .open
            .as_ref()
            .is_some_and(|open| open.closed && open.out == 0)
        {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::ByteBudget;

    const RULE: OutputRule = OutputRule {
        ack: AckPolicy::Delivered,
        pending_bytes_max: 1_000,
        adaptive_limit: None,
    };
    const LATER: OutputRule = OutputRule {
        ack: AckPolicy::Enqueued,
        pending_bytes_max: 1_000,
        adaptive_limit: None,
    };
    const DEADLINE: Mono = Mono(4_000_000);

    struct Desk {
        table: RequestTable,
        budget: ByteBudget,
        tickets: Vec<Ticket>,
    }

    impl Desk {
        fn new(rules: &[OutputRule]) -> Self {
            let table = RequestTable::new(crate::ack::tests::leaked(), rules.to_vec());
            Desk {
                table,
                budget: ByteBudget::new(10_000),
                tickets: Vec::new(),
            }
        }

        fn request(&mut self, events: u32) -> RequestKey {
            let permit = self.budget.try_reserve(100, None).unwrap();
            let request = self.table.open(events, 0, permit, DEADLINE);
            for _ in 0..events {
                self.table
                    .accept(request, 10, |_, ticket| self.tickets.push(ticket));
            }
            request
        }

        fn settle_next(&mut self, outcome: Outcome) {
            let (_, settlement) = self.tickets.remove(0).settle(outcome);
            self.table.settle(settlement);
        }

        fn status(&mut self, request: RequestKey) -> AckStatus {
            self.table.status(request, Waker::noop())
        }
    }

    #[test]
    fn status_is_delivered_once_every_required_record_is() {
        let mut desk = Desk::new(&[RULE, RULE]);
        let request = desk.request(2);
        for _ in 0..4 {
            assert_eq!(desk.status(request), AckStatus::Open);
            desk.settle_next(Outcome::Delivered);
        }
        assert_eq!(desk.status(request), AckStatus::Delivered);
    }

    #[test]
    fn one_refused_record_refuses_the_settled_request() {
        let mut desk = Desk::new(&[RULE]);
        let request = desk.request(2);
        desk.settle_next(Outcome::Refused(Cause::Throttled));
        assert_eq!(desk.status(request), AckStatus::Open);
        desk.settle_next(Outcome::Delivered);
        assert_eq!(desk.status(request), AckStatus::Refused(Cause::Throttled));
    }

    #[test]
    fn a_spooled_record_is_confirmed_and_counted_apart() {
        let mut desk = Desk::new(&[RULE]);
        let request = desk.request(2);
        desk.settle_next(Outcome::Spooled);
        assert_eq!(desk.table.in_doubt(request, 10).events, [1]);
        desk.settle_next(Outcome::Delivered);
        assert_eq!(desk.status(request), AckStatus::Delivered);
        let tally = desk.table.tallies()[0];
        assert_eq!((tally.delivered, tally.spooled, tally.pending), (1, 1, 0));
    }

    #[test]
    fn an_enqueued_output_holds_the_permit_without_waiting() {
        let mut desk = Desk::new(&[LATER]);
        let request = desk.request(1);
        assert_eq!(desk.status(request), AckStatus::Delivered);
        desk.table.close(request);
        assert_eq!(desk.budget.held(), 100);
        desk.settle_next(Outcome::Refused(Cause::Throttled));
        assert_eq!(desk.budget.held(), 0);
        assert_eq!(
            desk.table.tallies()[0].refused[Cause::Throttled as usize],
            1
        );
    }

    #[test]
    fn results_after_the_deadline_are_still_counted() {
        let mut desk = Desk::new(&[RULE]);
        let request = desk.request(1);
        desk.table.expire(Mono(DEADLINE.0 - 1));
        assert_eq!(desk.status(request), AckStatus::Open);
        desk.table.expire(DEADLINE);
        assert_eq!(desk.status(request), AckStatus::DeadlinePassed);
        desk.table.close(request);
        assert_eq!((desk.budget.held(), desk.table.open_requests()), (100, 1));
        desk.settle_next(Outcome::Delivered);
        assert_eq!((desk.budget.held(), desk.table.open_requests()), (0, 0));
        assert_eq!(desk.table.tallies()[0].delivered_late, 1);
    }

    #[test]
    fn a_result_after_the_deadline_before_the_response_counts() {
        let mut desk = Desk::new(&[RULE]);
        let request = desk.request(1);
        desk.table.expire(DEADLINE);
        desk.settle_next(Outcome::Delivered);
        assert_eq!(desk.status(request), AckStatus::Delivered);
    }

    #[test]
    fn a_settlement_for_a_slot_that_was_reused_changes_nothing() {
        let mut desk = Desk::new(&[RULE]);
        let first = desk.request(1);
        desk.settle_next(Outcome::Delivered);
        desk.table.close(first);
        let second = desk.request(1);
        assert_eq!(
            (second.slot, second.generation),
            (first.slot, first.generation + 1)
        );
        let stale = Settlement {
            request: first,
            event: 0,
            output: OutputId(0),
            bytes: 10,
            outcome: Outcome::Delivered,
        };
        desk.table.settle(stale);
        assert_eq!(desk.status(second), AckStatus::Open);
    }

    #[test]
    fn capacity_is_pending_bytes_per_output() {
        let mut desk = Desk::new(&[
            RULE,
            OutputRule {
                pending_bytes_max: 30,
                ..RULE
            },
        ]);
        let _request = desk.request(2);
        assert_eq!(desk.table.without_capacity_for(10), None);
        assert_eq!(desk.table.without_capacity_for(11), Some(OutputId(1)));
        desk.settle_next(Outcome::Delivered);
        desk.settle_next(Outcome::Delivered);
        assert_eq!(desk.table.without_capacity_for(20), None);
    }

    #[test]
    fn an_idle_output_accepts_any_request() {
        let desk = Desk::new(&[RULE]);
        assert_eq!(
            desk.table.without_capacity_for(RULE.pending_bytes_max + 1),
            None
        );
    }

    #[test]
    #[should_panic(expected = "an event vanished")]
    fn a_lost_event_panics_at_close() {
        let mut desk = Desk::new(&[RULE]);
        let permit = desk.budget.try_reserve(1, None).unwrap();
        let request = desk.table.open(2, 1, permit, DEADLINE);
        desk.table.close(request);
    }

    #[test]
    fn events_in_doubt_lack_a_required_confirmation() {
        let mut desk = Desk::new(&[RULE, LATER]);
        let request = desk.request(4);
        // Tickets come by event, and by output within it.
        for (delivered, enqueued) in [(true, false), (false, true), (true, true)] {
            for is_good in [delivered, enqueued] {
                let refused = Outcome::Refused(Cause::Throttled);
                desk.settle_next(if is_good { Outcome::Delivered } else { refused });
            }
        }
        // Of the fourth nothing is known yet.
        let in_doubt = desk.table.in_doubt(request, 100);
        assert_eq!((in_doubt.total, in_doubt.events), (2, vec![1, 3]));
        let bounded = desk.table.in_doubt(request, 1);
        assert_eq!((bounded.total, bounded.events), (2, vec![1]));
        desk.table.close(request);
        for _ in 0..2 {
            desk.settle_next(Outcome::Delivered);
        }
        assert_eq!(desk.table.in_doubt(request, 100), InDoubt::default());
    }
}
