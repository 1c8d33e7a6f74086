//! Which records go to the spool, the records on this host's disk in front of the destination, and when.

use super::queued::Queued;
use super::{Action, CallId, Delivery};
use crate::ack::{Outcome, Ticket};
use crate::cause::Cause;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::time::Mono;
use std::time::Duration;

/// When a record leaves for the spool, the records on this host's disk in front of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolRule {
    /// A record that is not confirmed this long after its arrival is spooled. Less than its deadline.
    pub after: Duration,
    /// Every record is spooled on arrival, before any call.
    pub first: bool,
}

/// A record on its way to the spool.
#[derive(Debug)]
pub struct ToSpool<T = Ticket> {
    /// The record.
    pub record: Record<T>,
    /// Calls that have carried it. Above 0 it may be stored already, so that its replay is a duplicate.
    pub attempts: u32,
    since: Mono,
}

impl<T> Delivery<T> {
    /// When the caller should stop waiting for a call that it has just been told to make, and complete it
    /// without results: its oldest record goes to the spool then, or to another output. [`Mono::NEVER`] where there is
    /// neither. Before the spool takes them, a call gets a quarter of the rule's time at least, or a late retry would
    /// never be answered.
    #[must_use]
    pub fn give_up_at(&self, call: CallId, now: Mono) -> Mono {
        let Some(Some(records)) = self.in_flight_calls.get(call.0) else {
            return Mono::NEVER;
        };
        let Some(rule) = self.settings.spool else {
            let deadlines = records.iter().map(|record| record.deadline);
            let first = deadlines.filter(|_| self.settings.has_fallback).min();
            return first.unwrap_or(Mono::NEVER);
        };
        let spoolable = records.iter().filter(|record| !record.unspoolable);
        match spoolable.map(|record| record.since).min() {
            Some(oldest) => (oldest + rule.after).max(now + rule.after / 4),
            None => Mono::NEVER,
        }
    }

    /// After a stop: the spool keeps a record for the next start, where there is one.
    pub(super) fn leave_behind(&mut self, queued: Queued<T>, actions: &mut Vec<Action<T>>) {
        if self.has_spool_for(queued.unspoolable) {
            self.give_to_spool(queued.record, queued.attempts, queued.since);
        } else {
            self.settle(queued.record, Outcome::Refused(Cause::Shutdown), actions);
        }
    }

    pub(super) fn has_spool_for(&self, unspoolable: bool) -> bool {
        self.settings.spool.is_some() && !unspoolable
    }

    pub(super) fn spools_on_arrival(&self) -> bool {
        self.settings
            .spool
            .is_some_and(|rule| rule.first || self.circuit.state().is_failing())
    }

    /// While the circuit is open and every record is spooled on arrival: sends a batch now and then, to see whether
    /// the destination is back.
    pub(super) fn probe(&mut self, now: Mono, actions: &mut Vec<Action<T>>) {
        let probes = self.settings.spool.is_some_and(|rule| !rule.first)
            && !self.stopped
            && !planted::is(Bug::SpoolNeverProbes);
        if probes && !self.waiting.is_empty() && self.circuit.is_probe_due(now) {
            self.send_batch(now, actions);
        }
    }

    /// The place of the oldest waiting record that the spool may take. Those it did not keep are older and
    /// stand in front.
    pub(super) fn first_spoolable(&self) -> Option<usize> {
        self.waiting.iter().position(|queued| !queued.unspoolable)
    }

    /// When the oldest waiting record goes to the spool.
    pub(super) fn spool_at(&self) -> Mono {
        let Some(rule) = self.settings.spool else {
            return Mono::NEVER;
        };
        self.first_spoolable()
            .and_then(|at| self.waiting.get(at))
            .map_or(Mono::NEVER, |queued| queued.since + rule.after)
    }

    pub(super) fn spool_due(&mut self, now: Mono) {
        let Some(rule) = self.settings.spool else {
            return;
        };
        let at_once = self.spools_on_arrival();
        while let Some(at) = self.first_spoolable() {
            let is_due = |queued: &Queued<T>| at_once || queued.since + rule.after <= now;
            if !self.waiting.get(at).is_some_and(is_due) {
                return;
            }
            if let Some(queued) = self.waiting.remove(at) {
                self.waiting_bytes -= queued.record.size();
                self.give_to_spool(queued.record, queued.attempts, queued.since);
            }
        }
    }

    pub(super) fn give_to_spool(&mut self, record: Record<T>, attempts: u32, since: Mono) {
        self.spooling += 1;
        self.to_spool.push(ToSpool {
            record,
            attempts,
            since,
        });
    }

    /// Settles records that the disk has. The others go to the front, as the oldest.
    pub(super) fn spooled(
        &mut self,
        records: Vec<ToSpool<T>>,
        kept: bool,
        actions: &mut Vec<Action<T>>,
    ) {
        self.spooling -= records.len();
        for ToSpool {
            record,
            attempts,
            since,
        } in records.into_iter().rev()
        {
            if kept || planted::is(Bug::FailedSpoolKeeps) {
                self.settle(record, Outcome::Spooled, actions);
                continue;
            }
            self.waiting_bytes += record.size();
            self.waiting.push_front(Queued {
                record,
                // Not known any more: what throttles it counts for all.
                lane: None,
                attempts,
                since,
                alone: false,
                unspoolable: true,
            });
        }
    }
}

/// Whether a record refused for this cause may be taken at a later time, by itself or after an operator has
/// mended something. An invalid batch says little of a record in it: its replay finds out.
pub(super) fn may_pass(cause: Cause) -> bool {
    match cause {
        Cause::Throttled
        | Cause::Unavailable
        | Cause::Unknown
        | Cause::Denied
        | Cause::NotFound
        | Cause::NoSpace
        | Cause::Invalid
        | Cause::Expired
        | Cause::Shutdown => true,
        Cause::TooLarge | Cause::Lost => false,
    }
}
