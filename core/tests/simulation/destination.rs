//! A destination that fails in every way that a service does, at set times, and then no more.

use fastrand::Rng;
use sluice_core::cause::Cause;
use sluice_core::record::RecordResult;
use sluice_core::time::Mono;
use std::collections::HashSet;
use std::time::Duration;

pub(crate) const SHARDS: u32 = 4;
/// Clients of services give up a call after some time.
const CALL_TIMEOUT_MS: u64 = 400;

/// How calls fare for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// One shard throttles.
    HotShard,
    /// Everything is throttled.
    Throttles,
    /// Nobody listens.
    Refuses,
    /// Calls never end, and may be carried out.
    Hangs,
    /// Nobody is permitted.
    Denies,
    /// Calls are carried out, and answered as failed, or for some of their records only.
    Lies,
    /// Each record meets with a fate of its own.
    Mixed,
}

impl Fault {
    pub(crate) const ALL: [Fault; 8] = [
        Fault::None,
        Fault::HotShard,
        Fault::Throttles,
        Fault::Refuses,
        Fault::Hangs,
        Fault::Denies,
        Fault::Lies,
        Fault::Mixed,
    ];
}

/// A call under way.
pub(crate) struct Call {
    pub(crate) takes: Duration,
    fault: Fault,
}

pub(crate) struct Destination {
    /// Until when, and what; for each writer, because one can lose its connections alone.
    phases: Vec<Vec<(Mono, Fault)>>,
    stored: HashSet<u32>,
}

impl Destination {
    pub(crate) fn new(random: &mut Rng, writers: usize, faults_end: Mono) -> Destination {
        let mut phases = Vec::new();
        let same_for_all = random.bool();
        for _ in 0..writers {
            let mut own = Vec::new();
            let mut until = Mono::default();
            while until < faults_end {
                until = until + Duration::from_millis(random.u64(100..2_500));
                let fault = Fault::ALL[random.usize(0..Fault::ALL.len())];
                own.push((until.min(faults_end), fault));
            }
            phases.push(own);
        }
        if same_for_all {
            let first = phases[0].clone();
            phases.fill(first);
        }
        Destination {
            phases,
            stored: HashSet::new(),
        }
    }

    /// Whether it has an event.
    pub(crate) fn has(&self, event: u32) -> bool {
        self.stored.contains(&event)
    }

    /// A writer calls.
    pub(crate) fn call(&self, now: Mono, writer: usize, random: &mut Rng) -> Call {
        let phase = self.phases[writer].iter().find(|(until, _)| now < *until);
        let fault = phase.map_or(Fault::None, |(_, fault)| *fault);
        let ms = match fault {
            Fault::Hangs => CALL_TIMEOUT_MS,
            Fault::Refuses => random.u64(0..2),
            _ => random.u64(1..30),
        };
        Call {
            takes: Duration::from_millis(ms),
            fault,
        }
    }

    /// A call ends. Events are stored, whatever is said of them.
    pub(crate) fn results(
        &mut self,
        call: &Call,
        events: &[u32],
        random: &mut Rng,
    ) -> Vec<RecordResult> {
        use RecordResult::{Delivered, Refused, Retry};
        let mut results = Vec::with_capacity(events.len());
        for event in events {
            let (is_stored, result) = match call.fault {
                Fault::None => (true, Delivered),
                Fault::HotShard if event % SHARDS == 0 => (false, Retry(Cause::Throttled)),
                Fault::HotShard => (true, Delivered),
                Fault::Throttles => (false, Retry(Cause::Throttled)),
                Fault::Refuses => (false, Retry(Cause::Unavailable)),
                Fault::Hangs => (random.bool(), Retry(Cause::Unknown)),
                Fault::Denies => (false, Retry(Cause::Denied)),
                Fault::Lies => (true, Retry(Cause::Unknown)),
                Fault::Mixed => match random.u8(0..8) {
                    0 => (false, Retry(Cause::Throttled)),
                    1 => (false, Retry(Cause::Unavailable)),
                    2 => (false, Retry(Cause::Unknown)),
                    3 => (false, Retry(Cause::Invalid)),
                    4 => (false, Refused(Cause::Denied)),
                    _ => (true, Delivered),
                },
            };
            if is_stored {
                self.stored.insert(*event);
            }
            results.push(result);
        }
        if call.fault == Fault::Lies || (call.fault == Fault::Mixed && random.u8(0..8) == 0) {
            results.truncate(random.usize(0..results.len() + 1));
        }
        results
    }
}
