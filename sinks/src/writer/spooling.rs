//! The writer's side of its spool: appends under way, and replay beside the live calls.

use super::{Writer, WriterSpool, batch_limits};
use crate::spool::{Due, Pace, Replay, ReplayCall, SpoolClient, SpoolSettings};
use sluice_core::delivery::{BatchLimits, CallId, DeliverySettings, Input, ToSpool};
use sluice_core::priority::Priority;
use sluice_core::record::{Record, RecordResult};
use sluice_core::time::{Mono, Wall};
use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

/// A disk that has not answered an append after this time has not kept its records: they are tried on as without a
/// spool. It may have written them all the same; then they are delivered twice.
const SPOOL_TIMEOUT: Duration = Duration::from_millis(750);

/// What a writer with a spool keeps for it.
pub(super) struct SpoolDesk {
    client: SpoolClient,
    wall: fn() -> Wall,
    settings: SpoolSettings,
    /// `None` where another writer of the output replays.
    replay: Option<Replay>,
    appending: VecDeque<Appending>,
    /// Records that could not be handed to the spool's thread.
    not_taken: Vec<Vec<ToSpool>>,
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
        let WriterSpool {
            client,
            wall,
            settings,
        } = spool;
        let replays = client.replays();
        SpoolDesk {
            client,
            wall,
            settings,
            replay: replays.then(|| Replay::new(delivery.in_flight_max, limits)),
            appending: VecDeque::new(),
            not_taken: Vec::new(),
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
        let succeeded = results.iter().any(RecordResult::is_answer);
        self.step(Input::ReplayEnded { succeeded });
        let pace = self.pace();
        if let Some(SpoolDesk {
            client,
            replay: Some(replay),
            ..
        }) = &mut self.spool
        {
            let ended = (lane, call, records, results);
            let calls = replay.ended(ended, now, pace, fastrand::u64(..), client);
            self.make(calls);
        }
    }

    /// Asks the disk to take records, the most important ones first.
    pub(super) fn append(&mut self, mut records: Vec<ToSpool>, now: Mono) {
        let Some(spool) = &mut self.spool else {
            return;
        };
        for priority in Priority::ALL.into_iter().rev() {
            let is_of = |of: &mut ToSpool| of.record.ticket.priority() == priority;
            let records: Vec<ToSpool> = records.extract_if(.., is_of).collect();
            if records.is_empty() {
                continue;
            }
            match spool.client.append(&records, priority, (spool.wall)()) {
                Some(number) => spool.appending.push_back(Appending {
                    number,
                    records,
                    overdue_at: now + SPOOL_TIMEOUT,
                }),
                None => spool.not_taken.push(records),
            }
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
        let due = self.due();
        let replay = spool.replay.as_ref();
        overdue.min(replay.map_or(Mono::NEVER, |replay| replay.wake_at(&due)))
    }

    /// Makes the calls that replay may make now.
    pub(super) fn replay(&mut self) {
        let due = self.due();
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
            self.step(Input::ReplaySent);
            // The sink's own time-outs bound it: nobody waits.
            self.send(Some(lane), call, records, Duration::MAX);
        }
    }

    fn due(&self) -> Due {
        Due {
            now: (self.settings.clock)(),
            live_calls: self.machine.in_flight(),
            calls_max: self.settings.delivery.in_flight_max,
            circuit_open: self.machine.circuit().is_failing(),
            limits: batch_limits(&*self.sink),
            pace: self.pace(),
        }
    }

    fn pace(&self) -> Pace {
        let spool = self.spool.as_ref();
        spool.map_or_else(Pace::default, |spool| {
            spool.settings.pace(self.sink.quota())
        })
    }
}
