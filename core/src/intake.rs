//! Machine 3: decides on one core which requests are taken, which writer gets their records, and when they are
//! answered.
//!
//! ```text
//!                room at the outputs, a closed circuit (or a probe is due), the byte budget
//!  admit(prepared) ---------------------------------------------------> open --> submissions
//!         |                                                              |
//!         v                                             settle(acks)     v     tick(now)
//!        Shed                             every awaited record settled <---> deadline passed
//!                                                                |
//!                                                                v
//!                                                   Resolution: stored, or in doubt
//! ```
//!
//! Letters go to the output of dead letters once the records are taken (`letters`).
//!
//! A record that an output with an open circuit refuses, or would, goes to the one that stands in for it, and the
//! request waits for that one.
//!
//! Throttling and the state of circuits arrive with the acks ([`crate::ack::AckBatch`]). Belongs to one thread;
//! does no I/O, reads no clock and draws no random number.
//!
//! Asserted in release builds: per request `received == accepted + rejected + withheld`, per output
//! `accepted == delivered + spooled + refused + pending`.

mod adaptive_limit;
mod delivery_rate;
mod group;
mod letters;
mod output;
mod placing;
mod request_table;
#[cfg(test)]
mod tests;

pub use adaptive_limit::CAPACITY_BYTES_MIN;
pub use group::{GroupRule, Spread, member_number};
pub use letters::LostLetters;
pub use output::{OutputRule, OutputTally};
pub use request_table::InDoubt;

use crate::ack::{AckBatch, AckQueue, OutputId, RequestKey, WriterId};
use crate::budget::Permit;
use crate::cause::Cause;
use crate::planted::{self, Bug};
use crate::prepared::{Prepared, PreparedRecord};
use crate::priority::{Priority, Shares};
use crate::record::Record;
use crate::route::{OutputSet, Routing};
use crate::time::Mono;
use bytes::Bytes;
use group::Group;
use output::Output;
use placing::{Given, Placed};
use request_table::{AckStatus, RequestTable};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Memory that a record in flight costs beside its payload (its place in batches, its ticket).
/// Counted into the byte budget so that a million tiny events are not free.
const RECORD_OVERHEAD_BYTES: u64 = 160;

/// The rules of one core.
#[derive(Clone, Debug)]
pub struct IntakeSettings {
    /// From the admission of a request to its answer, at most.
    pub ack_deadline: Duration,
    /// Bounds of Retry-After.
    pub retry_after: RetryAfter,
    /// In configuration order; with the groups at most [`crate::route::OUTPUTS_MAX`].
    pub outputs: Vec<OutputRule>,
    /// Their ids follow those of the outputs.
    pub groups: Vec<GroupRule>,
    /// What each priority may fill of the outputs' queues and of the byte budget.
    pub shares: Shares,
}

/// Seconds of which Retry-After is drawn uniformly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// The fewest.
    pub min_s: u32,
    /// The most, not below `min_s`.
    pub max_s: u32,
}

impl RetryAfter {
    /// The range for a queue that needs `drain_s` to drain: not before that, and not long after, within these
    /// bounds. Its lower half stays open, so that clients do not all come back in the same second.
    fn after(self, drain_s: u32) -> RetryAfter {
        let RetryAfter { min_s, max_s } = self;
        let halfway = min_s + (max_s - min_s) / 2;
        if planted::is(Bug::RetryAfterUnbounded) {
            return RetryAfter {
                min_s: drain_s,
                max_s: drain_s,
            };
        }
        let at_least = drain_s.clamp(min_s, halfway);
        RetryAfter {
            min_s: at_least,
            max_s: drain_s.max(1).saturating_mul(2).clamp(at_least, max_s),
        }
    }
}

/// Why a request was shed, or not confirmed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedReason {
    /// The byte budget is exhausted, or the share of the request's priority. If all of it is, the body was in most
    /// cases not read.
    Budget,
    /// The queue of an output is full, or the share that requests of this priority have in it.
    Queue,
    /// An output has failed for long, and this request is no probe.
    Circuit,
    /// An output did not confirm within the ack deadline.
    Deadline,
    /// An output reported that it could not deliver.
    Sink,
}

/// A request that has to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// Why.
    pub reason: ShedReason,
    /// When.
    pub retry_after: RetryAfter,
}

/// What became of an admitted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Every record that the answer waits for is where its class promises.
    Stored,
    /// Some are not known to be.
    InDoubt(Shed, InDoubt),
}

/// The machine. One per core.
#[derive(Debug)]
pub struct Intake {
    settings: IntakeSettings,
    outputs: Vec<Output>,
    groups: Vec<Group>,
    /// For events whose routing names none.
    default_outputs: OutputSet,
    /// Whether refused records may go to another output, so that requests have to keep theirs.
    keeps_records: bool,
    requests: RequestTable,
    lost_letters: LostLetters,
    /// The places of one record; keeps its memory.
    scratch: Vec<Placed>,
}

impl Intake {
    /// An idle machine whose tickets report to `acks`.
    #[must_use]
    pub fn new(acks: &'static AckQueue, settings: IntakeSettings) -> Intake {
        let output = |rule: &OutputRule| Output::new(*rule, settings.shares);
        let mut outputs: Vec<_> = settings.outputs.iter().map(output).collect();
        let groups: Vec<_> = settings.groups.iter().cloned().map(Group::new).collect();
        for (id, output) in (0..).map(OutputId).zip(&mut outputs) {
            output.has_other_place |= groups.iter().any(|group| group.has_others(id));
        }
        let of_outputs = settings.outputs.iter().map(|rule| rule.is_default);
        let of_groups = settings.groups.iter().map(|rule| rule.is_default);
        let entries = (0..).map(OutputId).zip(of_outputs.chain(of_groups));
        let default_outputs = entries
            .filter(|(_, is_default)| *is_default)
            .fold(OutputSet::NONE, |set, (id, _)| set.with(id));
        Intake {
            keeps_records: outputs.iter().any(|output| output.has_other_place),
            outputs,
            groups,
            default_outputs,
            requests: RequestTable::new(acks),
            lost_letters: LostLetters::default(),
            scratch: Vec::new(),
            settings,
        }
    }

    /// Counts of each output, in configuration order.
    pub fn tallies(&self) -> impl Iterator<Item = &OutputTally> {
        self.outputs.iter().map(|output| &output.tally)
    }

    /// Requests with unsettled records.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.open_requests()
    }

    /// Takes a request's records out of `prepared` and submits them to the outputs: all of them, or none. Then its
    /// letters, whose output cannot hold up the records. The
    /// answer is due by `answer_by` at the latest. The caller closes the request.
    ///
    /// # Errors
    /// The request is shed; `prepared` keeps its records, and its letters about refused events are lost.
    pub fn admit(
        &mut self,
        prepared: &mut Prepared,
        mut permit: Permit,
        answer_by: Mono,
        now: Mono,
        mut submit: impl FnMut(WriterId, Record),
    ) -> Result<RequestKey, Shed> {
        let bytes: u64 = prepared.records.iter().map(size).sum();
        let priority = prepared.priority;
        self.choose(bytes, priority, now);
        self.ask(prepared.records.iter());
        // From here on the budget counts the records instead of the body.
        let held = bytes + RECORD_OVERHEAD_BYTES * prepared.records.len() as u64;
        let held_with_letters = held + letters::held(&prepared.letters);
        let is_free = planted::is(Bug::RecordsAreFree);
        let mut has_letter_room = true;
        let shares = self.settings.shares;
        let is_taken = self.check(priority, now).and_then(|()| {
            has_letter_room = is_free || permit.try_resize_as(held_with_letters, priority, shares);
            match has_letter_room || permit.try_resize_as(held, priority, shares) {
                true => Ok(()),
                false => Err(ShedReason::Budget),
            }
        });
        if let Err(reason) = is_taken {
            self.lose(&prepared.letters);
            return Err(self.shed(reason));
        }
        let deadline = (now + self.settings.ack_deadline).min(answer_by);
        // Neither becomes a record, and neither is waited for.
        let without_record = prepared.rejected.len() + prepared.withheld.len();
        let without_record = u32::try_from(without_record).unwrap_or(u32::MAX);
        let key = self.requests.open(
            prepared.received,
            without_record,
            permit,
            priority,
            now,
            deadline,
        );
        self.choose_writers(now);
        if !prepared.letters.is_empty() {
            self.note_idle();
        }
        let mut places = std::mem::take(&mut self.scratch);
        places.clear();
        let mut are_common = false;
        for mut record in prepared.records.drain(..) {
            self.find_places(&record, &mut places, &mut are_common);
            self.requests.begin(key, true);
            self.take(key, &mut record, &places, deadline, now, &mut submit);
            if self.keeps_records {
                self.requests.keep(key, record);
            }
        }
        self.scratch = places;
        if !prepared.letters.is_empty() {
            let room = has_letter_room.then_some(priority);
            let letters = &mut prepared.letters;
            self.post(key, letters, room, (deadline, now), &mut submit);
        }
        Ok(key)
    }

    /// Chooses the writers for what is asked.
    fn choose_writers(&mut self, now: Mono) {
        for output in &mut self.outputs {
            if output.asked.bytes > 0 {
                output.choose_writer(now);
            }
        }
        for group in &mut self.groups {
            let mut members = group.rule.members.iter();
            let gets = |(id, _): &(OutputId, u64)| {
                let output = self.outputs.get(usize::from(id.0));
                output.is_some_and(|output| output.asked.bytes > 0 || output.stand_in.is_some())
            };
            if members.any(gets) {
                group.took_turn();
            }
        }
    }

    /// Submits one record of a request that is being admitted, once to each output that it goes to.
    fn take(
        &mut self,
        key: RequestKey,
        record: &mut PreparedRecord,
        places: &[Placed],
        deadline: Mono,
        now: Mono,
        submit: &mut impl FnMut(WriterId, Record),
    ) {
        // A record is bounded by the sinks' limits, far below 4 GiB.
        let bytes = u32::try_from(size(record)).unwrap_or(u32::MAX);
        let mut done = OutputSet::NONE;
        for (number, Placed { meant_for, at, .. }) in (1..).zip(places) {
            if at != meant_for
                && let Some(output) = self.outputs.get_mut(usize::from(meant_for.0))
            {
                output.tally.diverted += 1;
            }
            let Some(output) = self.outputs.get_mut(usize::from(at.0)) else {
                continue;
            };
            if done.contains(*at) {
                continue;
            }
            done = done.with(*at);
            let mut here = places.iter().filter(|place| place.at == *at);
            let is_awaited =
                here.any(|place| place.class.is_awaited()) && !planted::is(Bug::NothingAwaited);
            output.accepted(bytes);
            let until = self.until(*meant_for, *at, deadline, now);
            let Some(mut accepting) = self.requests.accepting(key) else {
                return;
            };
            let ticket = accepting
                .ticket(*at, bytes, is_awaited)
                .in_place_of(*meant_for, OutputSet::NONE);
            let given = Given {
                record: &mut *record,
                is_last: number == places.len() && !self.keeps_records,
                meant_for: *meant_for,
                at: *at,
                until: is_awaited.then_some(until),
                ticket,
            };
            self.submit(given, now, submit);
        }
    }

    /// How long an output may try a record that its client waits for. Half of the time is left for another output if
    /// this one is likely to fail, or stands in for one that can spool the record.
    fn until(&self, meant_for: OutputId, at: OutputId, deadline: Mono, now: Mono) -> Mono {
        let output = |id: OutputId| self.outputs.get(usize::from(id.0));
        let is_probe = output(at).is_some_and(|it| it.is_failing() && it.has_other_place);
        let may_return = at != meant_for && output(meant_for).is_some_and(|it| it.rule.spools);
        let spools = output(at).is_some_and(|it| it.rule.spools);
        match (is_probe || may_return) && !spools {
            true => now + deadline.since(now) / 2,
            false => deadline,
        }
    }

    /// Whether every output that the records go to takes them.
    fn check(&self, priority: Priority, now: Mono) -> Result<(), ShedReason> {
        let (mut is_failing, mut is_full) = (false, false);
        for output in &self.outputs {
            let asked = output.asked;
            is_full |= asked.bytes > 0 && !output.has_capacity_for(asked.bytes, priority);
            is_failing |= asked.is_awaited && !output.takes_requests(now);
        }
        match (is_failing, is_full) {
            (true, _) => Err(ShedReason::Circuit),
            (_, true) => Err(ShedReason::Queue),
            _ => Ok(()),
        }
    }

    /// A request shed for this reason, now.
    #[must_use]
    pub fn shed(&self, reason: ShedReason) -> Shed {
        let bounds = self.settings.retry_after;
        let drain_s = match reason {
            ShedReason::Budget | ShedReason::Queue | ShedReason::Deadline => self.drain_s(),
            // What is pending does not drain.
            ShedReason::Circuit | ShedReason::Sink => None,
        };
        Shed {
            reason,
            retry_after: drain_s.map_or(bounds, |drain_s| bounds.after(drain_s)),
        }
    }

    /// Seconds until everything that is pending now is delivered at the recent rates; `None` where an output has
    /// delivered nothing lately.
    fn drain_s(&self) -> Option<u32> {
        let of_output = |output: &Output| match output.tally.pending_bytes {
            0 => Some(0),
            pending => output.rate.seconds_for(pending),
        };
        self.outputs
            .iter()
            .try_fold(0, |longest, output| Some(of_output(output)?.max(longest)))
    }

    /// What became of a request. Until that is known, `waker` is woken when it changes. At most `listed_max` events
    /// in doubt are listed.
    pub fn poll_resolution(
        &mut self,
        request: RequestKey,
        listed_max: usize,
        waker: &Waker,
    ) -> Poll<Resolution> {
        let reason = match self.requests.status(request, waker) {
            AckStatus::Open => return Poll::Pending,
            AckStatus::Delivered => return Poll::Ready(Resolution::Stored),
            // These may be stored, too. Writer and table watch the same deadline, so either may come
            // first.
            AckStatus::DeadlinePassed | AckStatus::Refused(Cause::Unknown | Cause::Expired) => {
                ShedReason::Deadline
            }
            AckStatus::Refused(_) => ShedReason::Sink,
        };
        let in_doubt = self.requests.in_doubt(request, listed_max);
        Poll::Ready(Resolution::InDoubt(self.shed(reason), in_doubt))
    }

    /// The client was answered, or has disconnected. The request's permit is kept until its last record is settled.
    pub fn close(&mut self, request: RequestKey) {
        self.requests.close(request);
    }

    /// Applies what a writer reports. Records that it refused may be submitted to another output.
    pub fn settle(&mut self, batch: AckBatch, now: Mono, mut submit: impl FnMut(WriterId, Record)) {
        let is_heard = batch.settlements.is_empty() || !planted::is(Bug::CircuitOfEmptyAcksOnly);
        if is_heard
            && let Some(state) = batch.writer
            && let Some(output) = self.outputs.get_mut(usize::from(state.writer.output.0))
        {
            output.heard(state, now);
        }
        for settlement in batch.settlements {
            if self.keeps_records
                && let Some(next) = self.next_place(&settlement, now)
            {
                self.move_on(&settlement, next, now, &mut submit);
                continue;
            }
            let Some(output) = self.outputs.get_mut(usize::from(settlement.output.0)) else {
                continue;
            };
            if let Some(settled) = self.requests.settle(&settlement) {
                output.settle(&settlement, settled, now);
                self.letter_settled(&settlement);
            }
        }
    }

    /// Lets time pass: wakes requests whose deadline has passed, and adapts capacities. Call every few
    /// milliseconds.
    pub fn tick(&mut self, now: Mono) {
        self.requests.expire(now);
        for output in &mut self.outputs {
            output.tick(now);
        }
    }
}

/// Bytes by which a record counts at the outputs.
fn size(record: &PreparedRecord) -> u64 {
    let of_routes = record.routing.as_deref().map_or(0, Routing::key_bytes);
    let key = record.key.as_ref().map_or(0, Bytes::len).max(of_routes);
    (record.payload.len() + key) as u64
}
