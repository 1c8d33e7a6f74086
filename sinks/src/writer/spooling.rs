//! The writer's side of its spool: appends under way, the circuit, and replay beside the live calls.

use super::{Writer, WriterSpool, batch_limits};
use crate::spool::{Due, Replay, ReplayCall, SpoolClient};
use sluice_core::cause::Cause;
use sluice_core::circuit::CircuitState;
use sluice_core::delivery::{BatchLimits, CallId, DeliverySettings, Input, ToSpool};
use sluice_core::record::{Record, RecordResult};
use sluice_core::time::{Mono, Wall};
use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;
use tracing::{info, warn};

/// Calls in a row without any success before records are spooled on arrival.
const CIRCUIT_FAILURES: u32 = 3;

/// A disk that has not answered an append after this time has not kept its records: they are tried on as without a
/// spool. It may have written them all the same; then they are delivered twice.
const SPOOL_TIMEOUT: Duration = Duration::from_millis(750);

/// What a writer with a spool keeps for it.
pub(super) struct SpoolDesk {
    client: SpoolClient,
    wall: fn() -> Wall,
    /// `None` where another writer of the output replays.
    replay: Option<Replay>,
    appending: VecDeque<Appending>,
    /// Records that could not be handed to the spool's thread.
    not_taken: Vec<Vec<ToSpool>>,
    /// Calls in a row without any success.
    failures: u32,
    circuit_open: bool,
}

struct Appending {
    number: u64,
    records: Vec<ToSpool>,
    overdue_at: Mono,
}

impl SpoolDesk {
    pub(super) fn new(
        spool: WriterSpool,
        delivery: DeliverySettings,
        limits: BatchLimits,
    ) -> SpoolDesk {
        let WriterSpool { client, wall } = spool;
        let replays = client.replays();
        SpoolDesk {
            client,
            wall,
            replay: replays.then(|| Replay::new(delivery.in_flight_max, limits)),
            appending: VecDeque::new(),
            not_taken: Vec::new(),
            failures: 0,
            circuit_open: false,
        }
    }

    /// No further record is replayed.
    pub(super) fn stop(&mut self) {
        if let Some(replay) = &mut self.replay {
            replay.stop();
        }
    }

    /// The number of an append that the disk has answered, and whether it has the records; `None` says that records
    /// were read for replay.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(u64, bool)>> {
        self.client.poll(cx, self.replay.as_mut())
    }

    /// Whether the writer has to go on for what lies on disk.
    pub(super) fn has_replay_left(&self, is_stopped: bool) -> bool {
        self.replay
            .as_ref()
            .is_some_and(|replay| replay.calls() > 0 || (!is_stopped && self.client.has_waiting()))
    }
}

impl Writer {
    /// A call of a lane ended.
    pub(super) fn replayed(
        &mut self,
        lane: usize,
        call: CallId,
        records: Vec<Record>,
        results: Vec<RecordResult>,
    ) {
        let now = (self.settings.clock)();
        if let Some(SpoolDesk {
            client,
            replay: Some(replay),
            ..
        }) = &mut self.spool
        {
            let ended = (lane, call, records, results);
            let calls = replay.ended(ended, now, fastrand::u64(..), client);
            self.make(calls);
        }
    }

    /// Opens the circuit after calls without a success, and closes it after one with it.
    pub(super) fn observe(&mut self, results: &[RecordResult]) {
        let Some(spool) = &mut self.spool else {
            return;
        };
        let shows_life = |result: &RecordResult| match result {
            RecordResult::Delivered => true,
            // The destination works, and says what it does not take.
            RecordResult::Retry(cause) | RecordResult::Refused(cause) => {
                matches!(cause, Cause::Throttled | Cause::TooLarge | Cause::Invalid)
            }
        };
        // A call that was given up has no results.
        spool.failures = match results.iter().any(shows_life) {
            true => 0,
            false => spool.failures.saturating_add(1),
        };
        let open = spool.failures >= CIRCUIT_FAILURES;
        if open == spool.circuit_open {
            return;
        }
        spool.circuit_open = open;
        let (output, stats) = (&self.settings.output, &self.settings.stats);
        match open {
            true => {
                stats.circuit.set(CircuitState::Open as u64);
                stats.circuit_opened.increment();
                warn!(output, "calls fail: records go to the spool on arrival");
            }
            false => {
                stats.circuit.set(CircuitState::Closed as u64);
                info!(output, "calls succeed again");
            }
        }
        self.step(Input::Circuit { open });
    }

    /// Asks the disk to take records.
    pub(super) fn append(&mut self, records: Vec<ToSpool>, now: Mono) {
        let Some(spool) = &mut self.spool else {
            return;
        };
        match spool.client.append(&records, (spool.wall)()) {
            Some(number) => spool.appending.push_back(Appending {
                number,
                records,
                overdue_at: now + SPOOL_TIMEOUT,
            }),
            None => spool.not_taken.push(records),
        }
    }

    /// The disk answered.
    pub(super) fn spooled(&mut self, number: u64, kept: bool) {
        let Some(spool) = &mut self.spool else {
            return;
        };
        // Answers come in order. What was given up before is not here any more.
        let is_first = |of: &Appending| of.number == number;
        if spool.appending.front().is_some_and(is_first)
            && let Some(Appending { records, .. }) = spool.appending.pop_front()
        {
            self.step(Input::Spooled { records, kept });
        }
    }

    /// Takes records back that the disk has not answered for in time.
    pub(super) fn give_up_appends(&mut self) {
        let now = (self.settings.clock)();
        while let Some(spool) = &mut self.spool {
            let is_overdue = |of: &Appending| of.overdue_at <= now;
            let records = match spool.appending.front().is_some_and(is_overdue) {
                true => spool.appending.pop_front().map(|of| of.records),
                false => spool.not_taken.pop(),
            };
            let Some(records) = records else {
                return;
            };
            self.step(Input::Spooled {
                records,
                kept: false,
            });
        }
    }

    /// When an append is overdue, or replay may go on.
    pub(super) fn spool_wake_at(&self) -> Mono {
        let Some(spool) = &self.spool else {
            return Mono::NEVER;
        };
        let overdue = spool.appending.front();
        let overdue = overdue.map_or(Mono::NEVER, |of| of.overdue_at);
        let due = self.due(spool.circuit_open);
        let replay = spool.replay.as_ref();
        overdue.min(replay.map_or(Mono::NEVER, |replay| replay.wake_at(&due)))
    }

    /// Makes the calls that replay may make now.
    pub(super) fn replay(&mut self) {
        let Some(circuit_open) = self.spool.as_ref().map(|spool| spool.circuit_open) else {
            return;
        };
        let due = self.due(circuit_open);
        if let Some(SpoolDesk {
            client,
            replay: Some(replay),
            ..
        }) = &mut self.spool
        {
            replay.read_on(client);
            let calls = replay.start(&due, || fastrand::u64(..), client);
            self.make(calls);
        }
    }

    fn make(&mut self, calls: Vec<ReplayCall>) {
        for ReplayCall {
            lane,
            call,
            records,
        } in calls
        {
            // The sink's own time-outs bound it: nobody waits.
            self.send(Some(lane), call, records, Duration::MAX);
        }
    }

    fn due(&self, circuit_open: bool) -> Due {
        Due {
            now: (self.settings.clock)(),
            live_calls: self.machine.in_flight(),
            calls_max: self.settings.delivery.in_flight_max,
            circuit_open,
            limits: batch_limits(&*self.sink),
        }
    }
}
