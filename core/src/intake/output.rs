//! One output as one core sees it: what is pending there, what more may be, and which of its writers works.

use super::adaptive_limit::AdaptiveLimit;
use super::delivery_rate::DeliveryRate;
use super::request_table::Settled;
use crate::ack::{Outcome, OutputId, Settlement, WriterState};
use crate::cause::Cause;
use crate::circuit::CircuitState;
use crate::planted::{self, Bug};
use crate::priority::{Priority, Shares};
use crate::route::DeliveryClass;
use crate::time::Mono;
use std::time::Duration;

/// While another writer delivers, the failing one of this core is tried this much less often than a failing
/// output is: each try can cost a request its place.
const HOME_PROBE_FACTOR: u32 = 10;

/// A core's rules for one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputRule {
    /// What records are promised there unless their event says otherwise.
    pub class: DeliveryClass,
    /// Bytes of records that this core may have pending there.
    pub pending_bytes_max: u64,
    /// Longest acceptable latency of a result while the output throttles, which further bounds what may
    /// be pending. `None` if no answer waits for the output.
    pub adaptive_limit: Option<Duration>,
    /// How long a best-effort record may be tried. The ack deadline bounds all others.
    pub retry_for: Duration,
    /// Whether records carry their key, or leave the choice to the sink.
    pub keyed: bool,
    /// Whether records go to the topics that they name.
    pub by_topic: bool,
    /// Its writers, at least 1.
    pub writers: u16,
    /// The writer that gets this core's records while its circuit is closed.
    pub home: u16,
    /// While its circuits are open: the time between two requests that are admitted to try it.
    pub probe_every: Duration,
    /// Whether its writers spool what they cannot deliver, so that an open circuit is no reason to shed.
    pub spools: bool,
    /// Whether events whose routing names no outputs go there. Not to one that only stands in for another, or that is
    /// a member of a group.
    pub is_default: bool,
    /// The output that gets its records while its circuits are open.
    pub fallback: Option<OutputId>,
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
    /// Records meant for this output that another got in its place. Those that this one had refused before are in
    /// `accepted` and `refused`, too, the others in neither: the other output counts them.
    pub diverted: u64,
}

/// What a request has for an output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) bytes: u64,
    pub(crate) is_awaited: bool,
}

/// What was last heard of a writer.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    circuit: CircuitState,
    throttled: u64,
}

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) rule: OutputRule,
    pub(crate) tally: OutputTally,
    pub(crate) rate: DeliveryRate,
    /// Of the request that is being admitted.
    pub(crate) asked: Asked,
    /// The output that gets this one's records of the request that is being admitted.
    pub(crate) stand_in: Option<OutputId>,
    /// Whether another output may get its records.
    pub(crate) has_other_place: bool,
    /// Nothing was pending before the request whose letters are looked at.
    pub(crate) was_idle: bool,
    shares: Shares,
    adaptive_limit: Option<AdaptiveLimit>,
    writers: Box<[Heard]>,
    /// Throttled results of all writers.
    throttled: u64,
    /// Gets the records, usually `rule.home`.
    writer: u16,
    /// Whether any circuit is open that matters here: this core's own writer's, and perhaps all others.
    home_is_failing: bool,
    all_are_failing: bool,
    /// When the next probe is due: some time after this core's last one was sent, or any core's failed.
    probe_at: Mono,
    next_probe: u16,
}

impl Output {
    pub(crate) fn new(rule: OutputRule, shares: Shares) -> Output {
        let adaptive_limit = |target| AdaptiveLimit::new(rule.pending_bytes_max, target);
        Output {
            tally: OutputTally {
                capacity_bytes: rule.pending_bytes_max,
                ..OutputTally::default()
            },
            adaptive_limit: rule.adaptive_limit.map(adaptive_limit),
            rate: DeliveryRate::default(),
            asked: Asked::default(),
            stand_in: None,
            has_other_place: rule.fallback.is_some(),
            was_idle: false,
            shares,
            writers: vec![Heard::default(); usize::from(rule.writers.max(1))].into(),
            throttled: 0,
            writer: rule.home,
            home_is_failing: false,
            all_are_failing: false,
            probe_at: Mono::default(),
            next_probe: rule.home,
            rule,
        }
    }

    /// The writer for the request that is being admitted.
    pub(crate) fn writer(&self) -> u16 {
        self.writer
    }

    /// Whether `bytes` more may be pending for requests of this priority. An output with nothing pending always has
    /// capacity, because this core's share may be smaller than the largest allowed request.
    pub(crate) fn has_capacity_for(&self, bytes: u64, priority: Priority) -> bool {
        let OutputTally {
            pending,
            pending_bytes,
            capacity_bytes,
            ..
        } = self.tally;
        pending == 0
            || self.was_idle
            || pending_bytes + bytes <= self.shares.of(priority, capacity_bytes)
            || planted::is(Bug::NoCapacity)
    }

    /// Whether requests that wait for this output are admitted, if only as probes.
    pub(crate) fn takes_requests(&self, now: Mono) -> bool {
        !self.all_are_failing
            || (self.rule.spools && !planted::is(Bug::SpoolingSheds))
            || (now >= self.probe_at && !planted::is(Bug::NoProbes))
            || planted::is(Bug::ProbesWithoutLimit)
    }

    /// Whether its circuits are open, as far as this core knows.
    pub(crate) fn is_failing(&self) -> bool {
        self.all_are_failing
    }

    /// Whether its circuits are open, and the request that is being admitted is no probe.
    pub(crate) fn is_avoided(&self, now: Mono) -> bool {
        self.all_are_failing && (now < self.probe_at || planted::is(Bug::NoProbes))
    }

    /// Whether a record that was meant for another output can be given to this one.
    pub(crate) fn can_stand_in(&self, bytes: u64, priority: Priority, now: Mono) -> bool {
        self.takes_requests(now) && self.has_capacity_for(bytes, priority)
    }

    /// How full it is, from 0, of what it may have pending now.
    pub(crate) fn load(&self) -> u64 {
        // A capacity is never 0 (see `adaptive_limit::CAPACITY_BYTES_MIN`); pending bytes are far below 2^43.
        (self.tally.pending_bytes << 20) / self.tally.capacity_bytes.max(1)
    }

    /// Chooses the writer for a request, which is a probe if one is due.
    pub(crate) fn choose_writer(&mut self, now: Mono) {
        if !self.home_is_failing {
            return;
        }
        let is_probe = now >= self.probe_at;
        let count = self.rule.writers.max(1);
        self.writer = match (self.all_are_failing, is_probe) {
            (true, true) => {
                self.probe_at = now + self.rule.probe_every;
                let probed = self.next_probe;
                // The next probe shows how another writer fares.
                self.next_probe = (probed + 1) % count;
                probed
            }
            (true, false) => self.rule.home,
            (false, true) => {
                self.probe_at = now + self.rule.probe_every * HOME_PROBE_FACTOR;
                self.rule.home
            }
            (false, false) => self.working_writer().unwrap_or(self.rule.home),
        };
    }

    fn working_writer(&self) -> Option<u16> {
        let count = self.rule.writers.max(1);
        let mut from_home = (0..count).map(|step| (self.rule.home + step) % count);
        from_home.find(|number| !self.writer_is_failing(*number))
    }

    fn writer_is_failing(&self, writer: u16) -> bool {
        let heard = self.writers.get(usize::from(writer));
        heard.is_some_and(|heard| heard.circuit.is_failing())
    }

    /// Takes in the state of one of its writers.
    pub(crate) fn heard(&mut self, state: WriterState, now: Mono) {
        let Some(heard) = self.writers.get_mut(usize::from(state.writer.number)) else {
            return;
        };
        self.throttled += state.throttled.saturating_sub(heard.throttled);
        heard.throttled = state.throttled;
        if heard.circuit == state.circuit {
            return;
        }
        heard.circuit = state.circuit;
        let were_failing = (self.home_is_failing, self.all_are_failing);
        self.home_is_failing = self.writer_is_failing(self.rule.home);
        self.all_are_failing = self.working_writer().is_none()
            || (self.home_is_failing && planted::is(Bug::OneWriterFailsAll));
        if !self.home_is_failing {
            self.writer = self.rule.home;
        }
        let next_probe = now + self.rule.probe_every;
        if (self.home_is_failing, self.all_are_failing) != were_failing {
            self.probe_at = next_probe;
        } else if state.circuit == CircuitState::Open {
            // A probe has failed. A client that sends one request after the other would send nothing but probes,
            // and wait for each, if their time counted from their start.
            self.probe_at = self.probe_at.max(next_probe);
        }
    }

    /// A record was handed over.
    pub(crate) fn accepted(&mut self, bytes: u32) {
        self.tally.accepted += 1;
        self.tally.pending += 1;
        self.tally.pending_bytes += u64::from(bytes);
    }

    /// Applies one settlement.
    pub(crate) fn settle(&mut self, settlement: &Settlement, settled: Settled, now: Mono) {
        let tally = &mut self.tally;
        let bytes = u64::from(settlement.bytes);
        tally.pending -= 1;
        tally.pending_bytes -= bytes;
        match settlement.outcome {
            Outcome::Delivered => {
                tally.delivered += 1;
                tally.delivered_late += u64::from(settlement.is_awaited && settled.is_late);
                self.rate.delivered(bytes);
                if let Some(adaptive_limit) = &mut self.adaptive_limit {
                    adaptive_limit.delivered(bytes, now.since(settled.since));
                }
            }
            // The disk confirms at its own pace, which says nothing of the destination's.
            Outcome::Spooled => tally.spooled += 1,
            Outcome::Refused(cause) => {
                tally.refused[cause as usize] += 1;
                if let (Some(adaptive_limit), Cause::Throttled | Cause::Expired) =
                    (&mut self.adaptive_limit, cause)
                {
                    adaptive_limit.given_up();
                }
            }
        }
        assert!(
            tally.accepted
                == tally.delivered
                    + tally.spooled
                    + tally.refused.iter().sum::<u64>()
                    + tally.pending,
            "a record vanished at an output: {tally:?}"
        );
    }

    pub(crate) fn tick(&mut self, now: Mono) {
        self.rate.tick(now, self.tally.pending > 0);
        if let Some(adaptive_limit) = &mut self.adaptive_limit {
            adaptive_limit.tick(now, self.throttled);
            self.tally.capacity_bytes = adaptive_limit.capacity();
        }
    }
}
