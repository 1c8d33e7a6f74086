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
//! Throttling and the state of circuits arrive with the acks ([`crate::ack::AckBatch`]). Belongs to one thread;
//! does no I/O, reads no clock and draws no random number.
//!
//! Asserted in release builds: per request `received == accepted + rejected`, per output
//! `accepted == delivered + spooled + refused + pending`.

mod adaptive_limit;
mod delivery_rate;
mod output;
mod request_table;
#[cfg(test)]
mod tests;

pub use adaptive_limit::CAPACITY_BYTES_MIN;
pub use output::{OutputRule, OutputTally};
pub use request_table::InDoubt;

use crate::ack::{AckBatch, AckQueue, OutputId, RequestKey, WriterId};
use crate::budget::Permit;
use crate::cause::Cause;
use crate::planted::{self, Bug};
use crate::prepared::{Prepared, PreparedRecord};
use crate::record::Record;
use crate::route::{DeliveryClass, OutputSet};
use crate::time::Mono;
use bytes::Bytes;
use output::Output;
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
    /// In configuration order; at most [`crate::route::OUTPUTS_MAX`].
    pub outputs: Vec<OutputRule>,
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
    /// The byte budget is exhausted; in most cases the body was not read.
    Budget,
    /// The queue of an output is full.
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
    requests: RequestTable,
}

impl Intake {
    /// An idle machine whose tickets report to `acks`.
    #[must_use]
    pub fn new(acks: &'static AckQueue, settings: IntakeSettings) -> Intake {
        Intake {
            outputs: settings.outputs.iter().copied().map(Output::new).collect(),
            requests: RequestTable::new(acks),
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

    /// Takes a request's records out of `prepared` and submits them to the outputs: all of them, or none. The
    /// answer is due by `answer_by` at the latest. The caller closes the request.
    ///
    /// # Errors
    /// The request is shed; `prepared` keeps its records.
    pub fn admit(
        &mut self,
        prepared: &mut Prepared,
        mut permit: Permit,
        answer_by: Mono,
        now: Mono,
        mut submit: impl FnMut(WriterId, Record),
    ) -> Result<RequestKey, Shed> {
        self.check(&prepared.records, now)
            .map_err(|reason| self.shed(reason))?;
        let bytes: u64 = prepared.records.iter().map(size).sum();
        // From here on the budget counts the records instead of the body.
        let held = bytes + RECORD_OVERHEAD_BYTES * prepared.records.len() as u64;
        if !planted::is(Bug::RecordsAreFree) && !permit.try_resize(held) {
            return Err(self.shed(ShedReason::Budget));
        }
        let deadline = (now + self.settings.ack_deadline).min(answer_by);
        let rejected = u32::try_from(prepared.rejected.len()).unwrap_or(u32::MAX);
        let key = self
            .requests
            .open(prepared.received, rejected, permit, now, deadline);
        for (id, output) in (0..).map(OutputId).zip(&mut self.outputs) {
            if prepared.records.iter().any(|record| goes_to(record, id)) {
                output.choose_writer(now);
            }
        }
        let Some(mut accepting) = self.requests.accepting(key) else {
            return Ok(key);
        };
        for record in prepared.records.drain(..) {
            // A record is bounded by the sinks' limits, far below 4 GiB.
            let bytes = u32::try_from(size(&record)).unwrap_or(u32::MAX);
            accepting.event();
            for (id, output) in (0..).map(OutputId).zip(&mut self.outputs) {
                if !goes_to(&record, id) {
                    continue;
                }
                let class = class(&record, id, &output.rule);
                let is_awaited = class.is_awaited() && !planted::is(Bug::NothingAwaited);
                output.tally.accepted += 1;
                output.tally.pending += 1;
                output.tally.pending_bytes += u64::from(bytes);
                let routing = record.routing.as_deref();
                let (topic, key) = match routing.and_then(|routing| routing.route(id)) {
                    Some(route) => (&route.topic, &route.key),
                    None => (&record.topic, &record.key),
                };
                let record = Record {
                    key: key.clone().filter(|_| output.rule.keyed),
                    topic: topic.clone().filter(|_| output.rule.by_topic),
                    // Clones a reference: outputs share the bytes.
                    payload: record.payload.clone(),
                    deadline: match is_awaited {
                        true => deadline,
                        false => now + output.rule.retry_for,
                    },
                    ticket: accepting.ticket(id, bytes, is_awaited),
                };
                let writer = WriterId {
                    output: id,
                    number: output.writer(),
                };
                submit(writer, record);
            }
        }
        Ok(key)
    }

    /// Whether every output that the records go to takes them.
    fn check(&self, records: &[PreparedRecord], now: Mono) -> Result<(), ShedReason> {
        let (mut is_failing, mut is_full) = (false, false);
        for (id, output) in (0..).map(OutputId).zip(&self.outputs) {
            let (mut bytes, mut is_awaited) = (0, false);
            for record in records.iter().filter(|record| goes_to(record, id)) {
                bytes += size(record);
                is_awaited |= class(record, id, &output.rule).is_awaited();
            }
            is_full |= bytes > 0 && !output.has_capacity_for(bytes);
            is_failing |= is_awaited && !output.takes_requests(now);
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

    /// Applies what a writer reports.
    pub fn settle(&mut self, batch: AckBatch, now: Mono) {
        let is_heard = batch.settlements.is_empty() || !planted::is(Bug::CircuitOfEmptyAcksOnly);
        if is_heard
            && let Some(state) = batch.writer
            && let Some(output) = self.outputs.get_mut(usize::from(state.writer.output.0))
        {
            output.heard(state, now);
        }
        for settlement in batch.settlements {
            let Some(output) = self.outputs.get_mut(usize::from(settlement.output.0)) else {
                continue;
            };
            if let Some(settled) = self.requests.settle(&settlement) {
                output.settle(&settlement, settled, now);
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
    (record.payload.len() + record.key.as_ref().map_or(0, Bytes::len)) as u64
}

fn goes_to(record: &PreparedRecord, output: OutputId) -> bool {
    let routing = record.routing.as_deref();
    let outputs = routing.map_or(OutputSet::ALL, |routing| routing.outputs);
    outputs.contains(output) || planted::is(Bug::RoutingIgnored)
}

fn class(record: &PreparedRecord, id: OutputId, rule: &OutputRule) -> DeliveryClass {
    let routing = record.routing.as_deref();
    let route = routing.and_then(|routing| routing.route(id));
    route.and_then(|route| route.class).unwrap_or(rule.class)
}
