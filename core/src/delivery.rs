//! Machine 2: delivers records to one destination.
//!
//! ```text
//!             arrive            due and fitting           call ended
//!  Records -----------> waiting ---------------> in flight ---------> Settle(Delivered)
//!                          ^                         |                Settle(Refused)
//!                          |        after a wait     |
//!                          +-------- retrying <------+
//!                          |                         |
//!                          +--> Spool --> Spooled ---+--> Settle(Spooled), or tried on until its deadline
//! ```
//!
//! Linger, batch limits, concurrent calls, per-record results, retries, deadlines, the circuit, drain and when a
//! record goes to the spool are decided here and nowhere else. [`Delivery::step`] takes an input and the time and
//! appends actions; it does no I/O, reads no clock and draws no random number. At the end of every step
//! `received == delivered + spooled + refused + held`, asserted in release builds too.

mod messages;
mod pacing;
mod queued;
mod spooling;

pub use messages::{Action, CallId, Input};
pub use spooling::{SpoolRule, ToSpool};

use crate::ack::{Outcome, Ticket};
use crate::cause::Cause;
use crate::circuit::{Circuit, CircuitSettings, CircuitState};
use crate::lanes::{LaneId, Lanes, PacedLane, Routed};
use crate::planted::{self, Bug};
use crate::record::{Record, RecordResult};
use crate::retry::{Decision, RetryPolicy};
use crate::time::Mono;
use crate::time::micros;
use queued::{InFlight, LaneOf, Queued, Retrying};
use spooling::may_pass;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// Above this linger, wake for every arrival: the batch may fill early. Below it a core produces only a
/// few submissions, and waking for each would cost more than it gains.
const LINGER_WITHOUT_INPUT_MAX: Duration = Duration::from_millis(100);

/// How records are batched into calls and how calls are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverySettings {
    /// Longest time a record waits for others before its batch is sent unfilled.
    pub linger: Duration,
    /// Calls that may run at once, at least 1.
    pub in_flight_max: usize,
    /// Back-off between attempts.
    pub retry: RetryPolicy,
    /// When the circuit opens; `None` for never.
    pub circuit: Option<CircuitSettings>,
    /// When records go to the spool; `None` without one.
    pub spool: Option<SpoolRule>,
    /// Whether refused records have another output to go to. A call is then given up when the time of its first record
    /// is over, for others may be left for that.
    pub has_fallback: bool,
}

/// Limits of one call, read from the sink before each step because a service may change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records per call, at least 1.
    pub records_max: usize,
    /// Bytes per call, keys included.
    pub bytes_max: usize,
    /// Bytes of one record, key included.
    pub record_bytes_max: usize,
}

/// Totals in records. `received == delivered + spooled + refused + held`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Records that arrived.
    pub received: u64,
    /// Records that the destination confirmed.
    pub delivered: u64,
    /// Records that the spool keeps.
    pub spooled: u64,
    /// Records that were settled otherwise.
    pub refused: u64,
}

/// The machine. One per output and writer thread.
#[derive(Debug)]
pub struct Delivery<T = Ticket> {
    settings: DeliverySettings,
    limits: BatchLimits,
    waiting: VecDeque<Queued<T>>,
    waiting_bytes: usize,
    retrying: BinaryHeap<Reverse<Retrying<T>>>,
    retries: u64,
    /// Indexed by [`CallId`]; `None` marks a free slot.
    in_flight_calls: Vec<Option<Vec<InFlight>>>,
    in_flight: usize,
    in_flight_records: usize,
    /// What this step gives to the spool.
    to_spool: Vec<ToSpool<T>>,
    /// Records that the spool has not answered for.
    spooling: usize,
    draining: bool,
    stopped: bool,
    tally: Tally,
    circuit: Circuit,
    throttled: u64,
    lane_of: LaneOf<T>,
    lanes: Lanes<Queued<T>>,
    lanes_shed: u64,
}

impl<T> Delivery<T> {
    /// An idle machine.
    #[must_use]
    pub fn new(settings: DeliverySettings, limits: BatchLimits) -> Self {
        Delivery {
            settings,
            limits,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            retrying: BinaryHeap::new(),
            retries: 0,
            in_flight_calls: Vec::new(),
            in_flight: 0,
            in_flight_records: 0,
            to_spool: Vec::new(),
            spooling: 0,
            draining: false,
            stopped: false,
            tally: Tally::default(),
            circuit: Circuit::new(settings.circuit),
            throttled: 0,
            lane_of: LaneOf(Box::new(|_| None)),
            lanes: Lanes::default(),
            lanes_shed: 0,
        }
    }

    /// Tells which lane of the destination a record goes to: one that throttles is paced by itself
    /// ([`crate::lanes`]).
    pub fn set_lanes(&mut self, lane_of: impl Fn(&Record<T>) -> Option<LaneId> + Send + 'static) {
        self.lane_of = LaneOf(Box::new(lane_of));
    }

    /// Records refused because too many waited for their lane.
    #[must_use]
    pub fn lanes_shed(&self) -> u64 {
        self.lanes_shed
    }

    /// The lanes that throttle, or did lately.
    pub fn paced_lanes(&self) -> impl Iterator<Item = PacedLane> {
        self.lanes.paced()
    }

    /// Updates the destination's limits.
    pub fn set_limits(&mut self, limits: BatchLimits) {
        self.limits = limits;
    }

    /// Counts so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How the destination fares.
    #[must_use]
    pub fn circuit(&self) -> CircuitState {
        self.circuit.state()
    }

    /// Results so far by which the destination throttled a record, those of lanes apart: a lane is paced by itself,
    /// and others have room.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.throttled
    }

    /// Records that the machine, a running call or the spool's thread holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.waiting.len()
            + self.retrying.len()
            + self.in_flight_records
            + self.spooling
            + self.lanes.held()
    }

    /// Calls running now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether nothing is left to do until records arrive.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.held() == 0
    }

    /// Whether arriving records could lead to an action before [`Delivery::wake_at`]. They cannot while a
    /// batch lingers briefly (they would join it) or every call is in use (they would wait). With a spool,
    /// their time runs from their arrival, so that the first of them is wanted all the same.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        if self.spools_on_arrival() {
            return true;
        }
        if self.settings.spool.is_some() && self.in_flight >= self.settings.in_flight_max {
            return self.waiting.is_empty();
        }
        let linger = self.settings.linger;
        self.in_flight < self.settings.in_flight_max
            && (self.waiting.is_empty() || linger.is_zero() || linger > LINGER_WITHOUT_INPUT_MAX)
    }

    /// When [`Input::Tick`] is due if nothing else happens; [`Mono::NEVER`] if nothing waits for time.
    #[must_use]
    pub fn wake_at(&self) -> Mono {
        let retry = self
            .retrying
            .peek()
            .map_or(Mono::NEVER, |Reverse(retrying)| retrying.at)
            .min(self.spool_at())
            .min(self.circuit.wake_at())
            .min(self.lanes.wake_at());
        let Some(oldest) = self.waiting.front() else {
            return retry;
        };
        // While every call is in use, the only timed action is to expire waiting records.
        let oldest = if self.in_flight < self.settings.in_flight_max {
            (oldest.since + self.settings.linger).min(oldest.record.deadline)
        } else {
            oldest.record.deadline
        };
        retry.min(oldest)
    }

    /// Processes one input at time `now` and appends the resulting actions. `random` is a fresh, uniformly
    /// random number for each call.
    pub fn step(&mut self, input: Input<T>, now: Mono, random: u64, actions: &mut Vec<Action<T>>) {
        match input {
            Input::Records(records) => self.arrive(records, now, actions),
            Input::Completed {
                call,
                records,
                results,
            } => {
                self.complete(call, records, &results, now, random, actions);
            }
            Input::Spooled { records, kept } => self.spooled(records, kept, actions),
            Input::ReplaySent => self.circuit.call_sent(now),
            Input::ReplayEnded { succeeded } => self.circuit.call_ended(succeeded, now),
            Input::Tick => self.circuit.tick(now),
            Input::Drain => self.draining = true,
            Input::Stop => {
                self.draining = true;
                self.stopped = true;
            }
        }
        self.take_due_retries(now);
        self.release_lanes(now, actions);
        self.drop_hopeless(now, actions);
        self.probe(now, actions);
        self.spool_due(now);
        self.send(now, actions);
        // Behind those that were sent.
        self.drop_expired(now, actions);
        if !self.to_spool.is_empty() {
            actions.push(Action::Spool(std::mem::take(&mut self.to_spool)));
        }
        let Tally {
            received,
            delivered,
            spooled,
            refused,
        } = self.tally;
        assert!(
            received == delivered + spooled + refused + self.held() as u64,
            "a record vanished: received {received}, delivered {delivered}, spooled {spooled}, \
             refused {refused}, held {}",
            self.held()
        );
    }

    fn arrive(&mut self, records: Vec<Record<T>>, now: Mono, actions: &mut Vec<Action<T>>) {
        self.tally.received += records.len() as u64;
        for record in records {
            let lane = (self.lane_of.0)(&record);
            let queued = Queued {
                record,
                lane,
                attempts: 0,
                since: now,
                alone: false,
                unspoolable: false,
            };
            let Some(lane) = lane.filter(|_| !self.spools_on_arrival()) else {
                self.enqueue(queued);
                continue;
            };
            let (bytes, until) = (queued.record.size(), self.waits_until(&queued));
            match self.lanes.arrive(lane, queued, bytes, until, now) {
                Routed::Go(queued) => self.enqueue(queued),
                Routed::Waits => {}
                Routed::Full(queued) => {
                    self.lanes_shed += 1;
                    self.give_up_lane(queued, actions);
                }
            }
        }
    }

    fn enqueue(&mut self, queued: Queued<T>) {
        self.waiting_bytes += queued.record.size();
        self.waiting.push_back(queued);
    }

    fn complete(
        &mut self,
        call: CallId,
        records: Vec<Record<T>>,
        results: &[RecordResult],
        now: Mono,
        random: u64,
        actions: &mut Vec<Action<T>>,
    ) {
        let in_flight = self
            .in_flight_calls
            .get_mut(call.0)
            .and_then(Option::take)
            .unwrap_or_default();
        // The call must return exactly the records it was given, or the counts are wrong from here on.
        assert!(
            in_flight.len() == records.len(),
            "a call gave back other records than it was given"
        );
        self.in_flight -= 1;
        self.in_flight_records -= records.len();
        self.circuit
            .call_ended(results.iter().any(RecordResult::is_answer), now);
        let is_delivered = |result: &RecordResult| *result == RecordResult::Delivered;
        if results.len() >= records.len() && results.iter().all(is_delivered) {
            for (record, in_flight) in records.iter().zip(&in_flight) {
                if let Some(lane) = in_flight.lane {
                    self.lanes.delivered(lane, record.size(), now);
                }
            }
            self.tally.delivered += records.len() as u64;
            actions.push(Action::Delivered(records));
            return;
        }
        let was_alone = records.len() == 1;
        for (at, (record, in_flight)) in records.into_iter().zip(in_flight).enumerate() {
            match results.get(at).copied().unwrap_or(
                match planted::is(Bug::MissingResultDelivers) {
                    false => RecordResult::Retry(Cause::Unknown),
                    true => RecordResult::Delivered,
                },
            ) {
                RecordResult::Retry(Cause::Unknown) if planted::is(Bug::UnknownDelivers) => {
                    self.settle(record, Outcome::Delivered, actions);
                }
                RecordResult::Delivered => {
                    if let Some(lane) = in_flight.lane {
                        self.lanes.delivered(lane, record.size(), now);
                    }
                    self.settle(record, Outcome::Delivered, actions);
                }
                RecordResult::Refused(cause)
                    if cause != Cause::Invalid
                        && may_pass(cause)
                        && self.has_spool_for(in_flight.unspoolable) =>
                {
                    let attempts = in_flight.attempts + 1;
                    self.give_to_spool(record, attempts, in_flight.since);
                }
                RecordResult::Refused(cause) => {
                    self.settle(record, Outcome::Refused(cause), actions);
                }
                RecordResult::Retry(Cause::Invalid) if was_alone => {
                    self.settle(record, Outcome::Refused(Cause::Invalid), actions);
                }
                RecordResult::Retry(cause) => {
                    match in_flight.lane.filter(|_| cause == Cause::Throttled) {
                        Some(lane) => self.lanes.throttled(lane, now),
                        None => self.throttled += u64::from(cause == Cause::Throttled),
                    }
                    actions.push(Action::CountRetry(cause));
                    let random = scatter(random, at as u64);
                    self.retry(record, in_flight, cause, now, random, actions);
                }
            }
        }
    }

    fn retry(
        &mut self,
        record: Record<T>,
        in_flight: InFlight,
        cause: Cause,
        now: Mono,
        random: u64,
        actions: &mut Vec<Action<T>>,
    ) {
        let attempts = in_flight.attempts + 1;
        let InFlight {
            since, unspoolable, ..
        } = in_flight;
        let rule = self.settings.spool.filter(|_| !unspoolable);
        let until = rule.map_or(record.deadline, |rule| {
            record.deadline.min(since + rule.after)
        });
        let decision = self
            .settings
            .retry
            .decide(cause, attempts, now, until, random);
        if rule.is_some() && may_pass(cause) {
            let is_over =
                decision == Decision::GiveUp || self.circuit.state().is_failing() || self.stopped;
            if is_over {
                return self.give_to_spool(record, attempts, since);
            }
        }
        match decision {
            Decision::Again(_) if self.is_hopeless(record.deadline, now) => {
                self.settle(record, Outcome::Refused(cause), actions);
            }
            Decision::Again(_) if planted::is(Bug::RetryVanishes) => {}
            Decision::Again(at) if !self.stopped => {
                let at = self.gathered(at, until);
                let alone = cause == Cause::Invalid;
                self.retries += 1;
                self.retrying.push(Reverse(Retrying {
                    at,
                    number: self.retries,
                    queued: Queued {
                        record,
                        lane: in_flight.lane,
                        attempts,
                        since,
                        alone,
                        unspoolable,
                    },
                }));
            }
            // It would have been retried; only the shutdown prevents that.
            Decision::Again(_) => {
                self.settle(record, Outcome::Refused(Cause::Shutdown), actions);
            }
            Decision::GiveUp => self.settle(record, Outcome::Refused(cause), actions),
        }
    }

    /// Whether a retry would only keep a client waiting for a 503.
    fn is_hopeless(&self, deadline: Mono, now: Mono) -> bool {
        let is_failing = self.circuit.state().is_failing();
        let circuit = self.settings.circuit.filter(|_| is_failing);
        circuit.is_some_and(|circuit| deadline <= now + circuit.ack_deadline)
            && !planted::is(Bug::OpenCircuitRetries)
    }

    /// Rounds the retry time up to the next linger tick (or the shortest back-off, if smaller), so that
    /// retries share a call. Sending each at its own random time would make one call per record, which is
    /// expensive at a destination that limits or bills calls, just when it throttles.
    fn gathered(&self, at: Mono, deadline: Mono) -> Mono {
        let DeliverySettings { linger, retry, .. } = self.settings;
        let tick = micros(linger.min(retry.base)).max(1);
        let together = Mono(at.0.checked_next_multiple_of(tick).unwrap_or(at.0));
        if together < deadline { together } else { at }
    }

    /// Retries go before fresh records: their clients have waited longest.
    fn take_due_retries(&mut self, now: Mono) {
        while self
            .retrying
            .peek()
            .is_some_and(|Reverse(retrying)| retrying.at <= now)
        {
            let Some(Reverse(Retrying { queued, .. })) = self.retrying.pop() else {
                break;
            };
            let (bytes, until) = (queued.record.size(), self.waits_until(&queued));
            let due = match queued.lane {
                Some(lane) => self.lanes.return_to(lane, queued, bytes, until, now),
                None => Some(queued),
            };
            if let Some(queued) = due {
                self.waiting_bytes += bytes;
                self.waiting.push_front(queued);
            }
        }
    }

    /// Settles records that must not be sent any more: expired ones at the head of the queue, and every waiting
    /// record after a stop.
    fn drop_hopeless(&mut self, now: Mono, actions: &mut Vec<Action<T>>) {
        if self.stopped {
            let waiting = std::mem::take(&mut self.waiting);
            self.waiting_bytes = 0;
            let in_lanes = self.lanes.take_all();
            for queued in waiting.into_iter().chain(in_lanes) {
                self.leave_behind(queued, actions);
            }
            while let Some(Reverse(retrying)) = self.retrying.pop() {
                self.leave_behind(retrying.queued, actions);
            }
        }
        self.drop_expired(now, actions);
    }

    /// Settles expired records at the head of the queue. Requests have the same time, so that age order is deadline
    /// order, but for records that leave some of it to another output: those are met when they come to the head.
    fn drop_expired(&mut self, now: Mono, actions: &mut Vec<Action<T>>) {
        while self
            .waiting
            .front()
            .is_some_and(|queued| queued.record.deadline <= now)
        {
            if let Some(queued) = self.pop_waiting() {
                self.settle(queued.record, Outcome::Refused(Cause::Expired), actions);
            }
        }
    }

    fn pop_waiting(&mut self) -> Option<Queued<T>> {
        let queued = self.waiting.pop_front()?;
        self.waiting_bytes -= queued.record.size();
        Some(queued)
    }

    fn send(&mut self, now: Mono, actions: &mut Vec<Action<T>>) {
        let in_flight_max =
            self.settings.in_flight_max + usize::from(planted::is(Bug::OneCallTooMany));
        while self.in_flight < in_flight_max && self.is_due(now) {
            self.send_batch(now, actions);
        }
    }

    /// Sends the next batch, if any record is left that may be sent.
    fn send_batch(&mut self, now: Mono, actions: &mut Vec<Action<T>>) {
        let (records, in_flight) = self.fill_batch(now, actions);
        if records.is_empty() {
            return;
        }
        self.in_flight += 1;
        self.circuit.call_sent(now);
        self.in_flight_records += records.len();
        let free = self.in_flight_calls.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.in_flight_calls.push(None);
            self.in_flight_calls.len() - 1
        });
        self.in_flight_calls[place] = Some(in_flight);
        actions.push(Action::Send {
            call: CallId(place),
            records,
        });
    }

    fn is_due(&self, now: Mono) -> bool {
        let Some(oldest) = self.waiting.front() else {
            return false;
        };
        self.draining
            || self.waiting.len() >= self.limits.records_max
            || self.waiting_bytes >= self.limits.bytes_max
            || oldest.since + self.settings.linger <= now
    }

    fn fill_batch(
        &mut self,
        now: Mono,
        actions: &mut Vec<Action<T>>,
    ) -> (Vec<Record<T>>, Vec<InFlight>) {
        let expected = self.waiting.len().min(self.limits.records_max);
        let mut records = Vec::with_capacity(expected);
        let mut in_flight = Vec::with_capacity(expected);
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            let size = next.record.size();
            let full = records.len() >= self.limits.records_max
                || (bytes + size > self.limits.bytes_max && !planted::is(Bug::BatchOverBytes))
                || next.alone;
            if full && !records.is_empty() {
                break;
            }
            let Some(queued) = self.pop_waiting() else {
                break;
            };
            if queued.record.deadline <= now && !planted::is(Bug::SendsExpired) {
                self.settle(queued.record, Outcome::Refused(Cause::Expired), actions);
                continue;
            }
            // Also checked on admission: only a limit lowered since then gets here.
            if size > self.limits.record_bytes_max || size > self.limits.bytes_max {
                self.settle(queued.record, Outcome::Refused(Cause::TooLarge), actions);
                continue;
            }
            bytes += size;
            in_flight.push(InFlight {
                lane: queued.lane,
                attempts: queued.attempts,
                since: queued.since,
                deadline: queued.record.deadline,
                unspoolable: queued.unspoolable,
            });
            records.push(queued.record);
            if queued.alone {
                break;
            }
        }
        (records, in_flight)
    }

    fn settle(&mut self, record: Record<T>, outcome: Outcome, actions: &mut Vec<Action<T>>) {
        match outcome {
            Outcome::Delivered => self.tally.delivered += 1,
            Outcome::Spooled => self.tally.spooled += 1,
            Outcome::Refused(_) => self.tally.refused += 1,
        }
        actions.push(Action::Settle(record, outcome));
    }
}

/// An independent-looking random number for each record of a call from the one that the step was
/// given (the finaliser of SplitMix64, Steele et al. 2014).
fn scatter(random: u64, at: u64) -> u64 {
    let mut z = random.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
