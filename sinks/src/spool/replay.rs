//! Replays records from disk: lanes of delivery machines, fed in order, beside the live traffic of their writer.
//! Does no I/O and reads no clock.
//!
//! A lane has one call at a time and gets the next records when it has none left, so that records with one key reach
//! the destination in the order in which they were spooled. A record's ticket is its place on disk: the request is the
//! segment, and nobody listens to the ack queue.

use super::SpoolClient;
use super::pace::{Pace, Pacer};
use super::record::Entry;
use super::segments::Place;
use super::thread::{Command, Reply, Settled};
use sluice_core::ack::{AckQueue, Outcome, OutputId, RequestKey, Ticket};
use sluice_core::cause::Cause;
use sluice_core::delivery::{Action, BatchLimits, CallId, Delivery, DeliverySettings, Input};
use sluice_core::record::{Record, RecordResult};
use sluice_core::retry::RetryPolicy;
use sluice_core::time::Mono;
use sluice_core::topic::Topic;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes of records in memory above which no more are read.
const BUFFER_BYTES_MAX: usize = 8 << 20;
/// While live traffic uses every call, replay has one of its own this often, so that it gets somewhere.
const TRICKLE: Duration = Duration::from_millis(250);
/// The longest wait before a destination that does not take records is asked again.
const PROBE_WAIT_MAX: Duration = Duration::from_millis(500);
/// The wait before records are sent again that the destination refused for a cause that an operator has to mend.
const REFUSED_WAIT: Duration = Duration::from_secs(1);
const RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_millis(100),
    cap: PROBE_WAIT_MAX,
};

/// What the writer's live traffic leaves to replay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) now: Mono,
    pub(crate) live_calls: usize,
    pub(crate) calls_max: usize,
    /// Calls fail: one at a time finds out for how long.
    pub(crate) circuit_open: bool,
    pub(crate) limits: BatchLimits,
    /// What replay may take of the destination.
    pub(crate) pace: Pace,
}

/// A call to make.
pub(crate) struct ReplayCall {
    pub(crate) lane: usize,
    pub(crate) call: CallId,
    pub(crate) records: Vec<Record>,
}

/// The lanes of one output.
pub(crate) struct Replay {
    lanes: Vec<Lane>,
    acks: &'static AckQueue,
    buffered_bytes: usize,
    calls: usize,
    last_call: Mono,
    pacer: Pacer,
    probe_at: Mono,
    is_reading: bool,
    next_keyless: usize,
    /// Sets the tickets of a segment's records apart: sinks make deduplication ids of their identity.
    next_record: u32,
    /// The lane that has its turn next.
    next_lane: usize,
    stopped: bool,
}

struct Lane {
    machine: Delivery,
    queue: VecDeque<Record>,
    /// Refused for a cause that passes: back to the front when the call's other records are settled.
    again: Vec<Record>,
    not_before: Mono,
}

impl Replay {
    pub(crate) fn new(lanes: usize, limits: BatchLimits) -> Replay {
        let settings = DeliverySettings {
            linger: Duration::ZERO,
            in_flight_max: 1,
            retry: RETRY,
            circuit: None,
            spool: None,
            has_fallback: false,
        };
        let lane = |_| Lane {
            machine: Delivery::new(settings, limits),
            queue: VecDeque::new(),
            again: Vec::new(),
            not_before: Mono::default(),
        };
        Replay {
            lanes: (0..lanes.max(1)).map(lane).collect(),
            acks: AckQueue::leak(),
            buffered_bytes: 0,
            calls: 0,
            last_call: Mono::default(),
            pacer: Pacer::default(),
            probe_at: Mono::default(),
            is_reading: false,
            next_keyless: 0,
            next_record: 0,
            next_lane: 0,
            stopped: false,
        }
    }

    /// Asks for more records where there is room for them.
    pub(crate) fn read_on(&mut self, client: &SpoolClient) {
        if !self.is_reading && !self.stopped && self.buffered_bytes < BUFFER_BYTES_MAX {
            self.is_reading = true;
            let reply = client.reply.clone();
            client.tell(Command::Read { reply });
        }
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, records: Vec<(Place, Entry)>) {
        self.is_reading = false;
        for (place, entry) in records {
            let lane = self.lane_of(&entry);
            let record = self.record(place, entry);
            self.buffered_bytes += record.size();
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.queue.push_back(record);
            }
        }
    }

    fn lane_of(&mut self, entry: &Entry) -> usize {
        let Some(key) = &entry.key else {
            self.next_keyless = self.next_keyless.wrapping_add(1);
            // A stretch of records shares a call.
            return (self.next_keyless / 64) % self.lanes.len();
        };
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        usize::try_from(hasher.finish() % self.lanes.len() as u64).unwrap_or(0)
    }

    fn record(&mut self, place: Place, entry: Entry) -> Record {
        self.next_record = self.next_record.wrapping_add(1);
        let request = RequestKey {
            slot: place.segment,
            generation: u32::from(entry.is_attempted),
        };
        let topic = entry.topic.as_ref();
        let topic = topic.and_then(|name| Topic::restored(std::str::from_utf8(name).ok()?));
        Record {
            key: entry.key,
            topic,
            payload: entry.payload,
            deadline: Mono::NEVER,
            ticket: Ticket::new(self.acks, request, OutputId(0), place.bytes)
                .for_event(self.next_record),
        }
    }

    /// Calls running now.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    /// No further call is made: what is not confirmed stays on disk.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        for lane in &mut self.lanes {
            for record in lane.queue.drain(..) {
                // Ends the obligation of a place that stays on disk.
                let _ = record.ticket.settle(Outcome::Spooled);
            }
        }
    }

    /// When [`Replay::start`] may find something to do, if no call ends before.
    pub(crate) fn wake_at(&self, due: &Due) -> Mono {
        if self.stopped {
            return Mono::NEVER;
        }
        let ready = self.lanes.iter().map(Lane::ready_at).min();
        ready.unwrap_or(Mono::NEVER).max(self.gate_at(due))
    }

    /// When the pace, live traffic and the state of the destination allow another call.
    fn gate_at(&self, due: &Due) -> Mono {
        let gate = match self.calls {
            0 if due.circuit_open => self.probe_at,
            _ if due.circuit_open => Mono::NEVER,
            calls if due.live_calls + calls < due.calls_max => Mono::default(),
            0 => self.last_call + TRICKLE,
            _ => Mono::NEVER,
        };
        gate.max(self.pacer.next_at())
    }

    /// The calls to make now.
    pub(crate) fn start(
        &mut self,
        due: &Due,
        mut random: impl FnMut() -> u64,
        client: &SpoolClient,
    ) -> Vec<ReplayCall> {
        let mut calls = Vec::new();
        for _ in 0..self.lanes.len() {
            if self.stopped || self.gate_at(due) > due.now {
                break;
            }
            let number = self.next_lane;
            self.next_lane = (number + 1) % self.lanes.len();
            let Some(lane) = self.lanes.get_mut(number) else {
                break;
            };
            if lane.ready_at() > due.now {
                continue;
            }
            let limits = due.pace.limit(due.limits);
            lane.machine.set_limits(limits);
            let input = match lane.machine.is_idle() {
                true => Input::Records(lane.next_batch(limits)),
                false => Input::Tick,
            };
            let mut actions = Vec::new();
            lane.machine.step(input, due.now, random(), &mut actions);
            self.carry_out(number, actions, due.now, due.pace, client, &mut calls);
        }
        calls
    }

    /// A call ended. Says which calls follow it at once: a rejected batch is sent again in parts.
    pub(crate) fn ended(
        &mut self,
        ended: (usize, CallId, Vec<Record>, Vec<RecordResult>),
        now: Mono,
        pace: Pace,
        random: u64,
        client: &SpoolClient,
    ) -> Vec<ReplayCall> {
        let (number, call, records, results) = ended;
        self.calls = self.calls.saturating_sub(1);
        let has_success = results.contains(&RecordResult::Delivered);
        self.probe_at = match has_success {
            true => now,
            false => now + PROBE_WAIT_MAX,
        };
        let mut calls = Vec::new();
        let Some(lane) = self.lanes.get_mut(number) else {
            return calls;
        };
        let mut actions = Vec::new();
        let input = Input::Completed {
            call,
            records,
            results,
        };
        lane.machine.step(input, now, random, &mut actions);
        self.carry_out(number, actions, now, pace, client, &mut calls);
        calls
    }

    fn carry_out(
        &mut self,
        number: usize,
        actions: Vec<Action>,
        now: Mono,
        pace: Pace,
        client: &SpoolClient,
        calls: &mut Vec<ReplayCall>,
    ) {
        let mut settled = Vec::new();
        let mut refused = Vec::new();
        let Some(lane) = self.lanes.get_mut(number) else {
            return;
        };
        for action in actions {
            match action {
                Action::Send { call, records } => {
                    self.calls += 1;
                    self.last_call = now;
                    let bytes = records.iter().map(Record::size).sum();
                    self.pacer.sent(pace, now, records.len(), bytes);
                    calls.push(ReplayCall {
                        lane: number,
                        call,
                        records,
                    });
                }
                Action::Delivered(records) => {
                    for record in records {
                        self.buffered_bytes -= record.size();
                        settled.push(place(record).0);
                    }
                }
                Action::Settle(record, Outcome::Delivered | Outcome::Spooled) => {
                    self.buffered_bytes -= record.size();
                    settled.push(place(record).0);
                }
                Action::Settle(record, Outcome::Refused(Cause::TooLarge | Cause::Invalid)) => {
                    self.buffered_bytes -= record.size();
                    let (settled, entry) = place(record);
                    refused.push((settled.place, entry));
                }
                Action::Settle(record, Outcome::Refused(_)) => lane.again.push(record),
                Action::Spool(_) | Action::CountRetry(_) => {}
            }
        }
        if !lane.again.is_empty() && lane.machine.is_idle() {
            lane.not_before = now + REFUSED_WAIT;
            for record in lane.again.drain(..).rev() {
                lane.queue.push_front(record);
            }
        }
        if !settled.is_empty() {
            client.tell(Command::Settled(settled));
        }
        if !refused.is_empty() {
            client.tell(Command::Refused(refused));
        }
    }
}

impl Lane {
    /// When it could make a call.
    fn ready_at(&self) -> Mono {
        if self.machine.in_flight() > 0 {
            return Mono::NEVER;
        }
        match (self.machine.is_idle(), self.queue.is_empty()) {
            (false, _) => self.machine.wake_at(),
            (true, false) => self.not_before,
            (true, true) => Mono::NEVER,
        }
    }

    /// A batch, so that the machine makes one call of it.
    fn next_batch(&mut self, limits: BatchLimits) -> Vec<Record> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.queue.front() {
            bytes += next.size();
            let is_full = batch.len() >= limits.records_max || bytes > limits.bytes_max;
            if is_full && !batch.is_empty() {
                break;
            }
            batch.extend(self.queue.pop_front());
        }
        batch
    }
}

/// The place of a record, and the record as it stands there.
fn place(record: Record) -> (Settled, Entry) {
    let topic = record.topic.as_ref();
    let entry = Entry {
        key: record.key,
        topic: topic.map(|topic| topic.as_str().to_owned().into()),
        payload: record.payload,
        arrived_micros: 0,
        is_attempted: true,
    };
    let (_, settlement) = record.ticket.settle(Outcome::Delivered);
    let settled = Settled {
        place: Place {
            segment: settlement.request.slot,
            bytes: settlement.bytes,
        },
        is_attempted: settlement.request.generation > 0,
    };
    (settled, entry)
}

impl SpoolClient {
    /// The next result of an append, as its number and whether the disk has the records. Takes what was read on the
    /// way; `Ready(None)` says that something was.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        replay: Option<&mut Replay>,
    ) -> Poll<Option<(u64, bool)>> {
        match self.replies.poll_recv(cx) {
            Poll::Ready(Some(Reply::Appended { number, kept })) => {
                Poll::Ready(Some((number, kept)))
            }
            Poll::Ready(Some(Reply::Read(records))) => {
                if let Some(replay) = replay {
                    replay.take(records);
                }
                Poll::Ready(None)
            }
            // The client holds a sender itself, so the channel is never closed.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sluice_core::stats::SpoolStats;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use tokio::sync::mpsc::unbounded_channel;

    const LIMITS: BatchLimits = BatchLimits {
        records_max: 2,
        bytes_max: 1_000,
        record_bytes_max: 1_000,
    };
    const OK: RecordResult = RecordResult::Delivered;
    const DENIED: RecordResult = RecordResult::Retry(Cause::Denied);

    struct Bench {
        pace: Pace,
        replay: Replay,
        client: SpoolClient,
        told: Receiver<Command>,
        /// Lane, call and payloads, in the order in which they were made.
        calls: VecDeque<ReplayCall>,
        now: Mono,
        next: u32,
    }

    fn bench(lanes: usize) -> Bench {
        let (commands, told) = channel();
        let (reply, replies) = unbounded_channel();
        let client = SpoolClient {
            commands,
            stats: Arc::new(SpoolStats::default()),
            reply,
            replies,
            replays: true,
            next_number: 0,
        };
        Bench {
            pace: Pace::default(),
            replay: Replay::new(lanes, LIMITS),
            client,
            told,
            calls: VecDeque::new(),
            now: Mono(1_000_000),
            next: 0,
        }
    }

    impl Bench {
        fn spooled(&mut self, key: Option<&'static str>, payloads: &[&'static str]) {
            let records = payloads.iter().map(|payload| {
                self.next += 1;
                let place = Place {
                    segment: self.next,
                    bytes: 1,
                };
                let entry = Entry {
                    key: key.map(|key| Bytes::from_static(key.as_bytes())),
                    topic: None,
                    payload: Bytes::from_static(payload.as_bytes()),
                    arrived_micros: 0,
                    is_attempted: false,
                };
                (place, entry)
            });
            let records: Vec<_> = records.collect();
            self.replay.take(records);
        }

        fn due(&self, live_calls: usize, circuit_open: bool) -> Due {
            Due {
                now: self.now,
                live_calls,
                calls_max: 4,
                circuit_open,
                limits: LIMITS,
                pace: self.pace,
            }
        }

        fn start(&mut self, live_calls: usize, circuit_open: bool) -> usize {
            let due = self.due(live_calls, circuit_open);
            let calls = self.replay.start(&due, || 0, &self.client);
            let started = calls.len();
            self.calls.extend(calls);
            started
        }

        /// Ends the oldest call.
        fn end(&mut self, results: &[RecordResult]) -> Vec<String> {
            let ReplayCall {
                lane,
                call,
                records,
            } = self.calls.pop_front().unwrap();
            let text = |record: &Record| String::from_utf8(record.payload.to_vec()).unwrap();
            let texts = records.iter().map(text).collect();
            let ended = (lane, call, records, results.to_vec());
            let more = self
                .replay
                .ended(ended, self.now, self.pace, 0, &self.client);
            self.calls.extend(more);
            texts
        }

        /// Numbers of records that were settled and refused.
        fn told(&self) -> (usize, usize) {
            let (mut settled, mut refused) = (0, 0);
            for command in self.told.try_iter() {
                match command {
                    Command::Settled(records) => settled += records.len(),
                    Command::Refused(records) => refused += records.len(),
                    Command::Append { .. } | Command::Read { .. } => {}
                }
            }
            (settled, refused)
        }

        fn pass(&mut self, time: Duration) {
            self.now = self.now + time;
        }
    }

    #[test]
    fn replayed_records_of_a_segment_have_identities_of_their_own() {
        let mut bench = bench(1);
        let same = |_| {
            let place = Place {
                segment: 7,
                bytes: 1,
            };
            let entry = Entry {
                key: None,
                topic: None,
                payload: Bytes::from_static(b"{}"),
                arrived_micros: 0,
                is_attempted: false,
            };
            (place, entry)
        };
        bench.replay.take((0..2).map(same).collect());
        bench.start(0, false);
        let records = &bench.calls[0].records;
        assert_eq!(records.len(), 2);
        assert_ne!(records[0].ticket.identity(), records[1].ticket.identity());
    }

    #[test]
    fn records_with_one_key_keep_their_order() {
        let mut bench = bench(4);
        bench.spooled(Some("u-1"), &["1", "2", "3", "4", "5"]);
        assert_eq!(
            bench.start(0, false),
            1,
            "a key has one lane, a lane one call"
        );
        // The second is tried again before the third goes.
        assert_eq!(
            bench.end(&[OK, RecordResult::Retry(Cause::Throttled)]),
            ["1", "2"]
        );
        bench.pass(RETRY.cap);
        let mut order = Vec::new();
        while bench.start(0, false) > 0 {
            order.extend(bench.end(&[OK, OK]));
        }
        assert_eq!(order, ["2", "3", "4", "5"]);
        assert_eq!(bench.told(), (5, 0));
    }

    #[test]
    fn live_calls_come_first() {
        let mut bench = bench(4);
        bench.spooled(None, &["1", "2"]);
        bench.start(0, false);
        bench.end(&[OK, OK]);
        for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            bench.spooled(Some(key), &["1"]);
        }
        assert_eq!(bench.start(4, false), 0);
        // It has a call of its own now and then, or it would get nowhere.
        let wakes_at = bench.replay.wake_at(&bench.due(4, false));
        assert_eq!(wakes_at, bench.now + TRICKLE);
        bench.pass(TRICKLE);
        assert_eq!(bench.start(4, false), 1);
        assert_eq!(bench.start(3, false), 0);
        assert_eq!(bench.start(2, false), 1);
    }

    #[test]
    fn a_bounded_replay_waits_between_its_calls() {
        let mut bench = bench(4);
        bench.pace.records_per_s = Some(10);
        for key in ["a", "b", "c", "d"] {
            bench.spooled(Some(key), &["1", "2", "3"]);
        }
        assert_eq!(bench.start(0, false), 1);
        let wakes_at = bench.replay.wake_at(&bench.due(0, false));
        assert_eq!(wakes_at, bench.now + Duration::from_millis(200));
        assert_eq!(bench.start(0, false), 0);
        bench.pass(Duration::from_millis(200));
        assert_eq!(bench.start(0, false), 1);
        assert_eq!(bench.end(&[OK, OK]).len(), 2);
    }

    #[test]
    fn an_open_circuit_leaves_one_call_as_its_probe() {
        let mut bench = bench(4);
        for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            bench.spooled(Some(key), &["1"]);
        }
        assert_eq!(bench.start(0, true), 1);
        assert_eq!(bench.start(0, true), 0);
        bench.end(&[]);
        assert_eq!(bench.start(0, true), 0);
        bench.pass(PROBE_WAIT_MAX);
        assert_eq!(bench.start(0, true), 1);
        bench.end(&[OK]);
        assert!(bench.start(0, false) > 1);
    }

    #[test]
    fn records_refused_for_good_are_put_aside_alone() {
        let mut bench = bench(1);
        bench.spooled(Some("a"), &["good", "bad"]);
        bench.start(0, false);
        bench.end(&[OK, RecordResult::Refused(Cause::TooLarge)]);
        assert_eq!(bench.told(), (1, 1));
        assert_eq!(bench.replay.wake_at(&bench.due(0, false)), Mono::NEVER);
    }

    #[test]
    fn one_invalid_record_never_costs_its_batch() {
        let mut bench = bench(1);
        let invalid = RecordResult::Retry(Cause::Invalid);
        bench.spooled(Some("a"), &["good", "bad"]);
        bench.start(0, false);
        bench.end(&[invalid, invalid]);
        for _ in 0..2 {
            if bench.calls.is_empty() {
                bench.pass(RETRY.cap);
                bench.start(0, false);
            }
            let is_bad = &bench.calls[0].records[0].payload[..] == b"bad";
            bench.end(&[if is_bad { invalid } else { OK }]);
        }
        assert_eq!(bench.told(), (1, 1));
    }

    #[test]
    fn causes_for_an_operator_wait_and_come_again_in_order() {
        let mut bench = bench(1);
        bench.spooled(Some("a"), &["1", "2", "3"]);
        bench.start(0, false);
        bench.end(&[DENIED, DENIED]);
        assert_eq!(bench.start(0, false), 0);
        bench.pass(REFUSED_WAIT);
        bench.start(0, false);
        assert_eq!(bench.end(&[OK, OK]), ["1", "2"]);
        assert_eq!(bench.told(), (2, 0));
    }

    #[test]
    fn after_a_stop_nothing_is_settled_and_nothing_starts() {
        let mut bench = bench(1);
        bench.spooled(Some("a"), &["1", "2", "3"]);
        bench.start(0, false);
        bench.replay.stop();
        bench.end(&[]);
        bench.pass(Duration::from_secs(10));
        assert_eq!(bench.start(0, false), 0);
        assert_eq!(bench.told(), (0, 0));
        assert_eq!(bench.replay.calls(), 0);
    }

    #[test]
    fn reading_stops_while_many_bytes_wait_in_memory() {
        let mut bench = bench(1);
        let reads = |bench: &Bench| bench.told.try_iter().count();
        bench.replay.read_on(&bench.client);
        bench.replay.read_on(&bench.client);
        assert_eq!(reads(&bench), 1, "one at a time");
        bench.replay.buffered_bytes = BUFFER_BYTES_MAX;
        bench.replay.take(Vec::new());
        bench.replay.read_on(&bench.client);
        assert_eq!(reads(&bench), 0);
    }
}
