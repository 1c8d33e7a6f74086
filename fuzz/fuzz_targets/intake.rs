//! Intake and its ack queue under any sequence of requests, results, dropped tickets, deadlines and
//! late or stale settlements, against a model that keeps every result and counts afresh after each step.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluice_core::ack::{
    AckBatch, AckQueue, Outcome, OutputId, RequestKey, Settlement, Ticket, WriterId, WriterState,
};
use sluice_core::budget::ByteBudget;
use sluice_core::cause::Cause;
use sluice_core::circuit::CircuitState;
use sluice_core::intake::{
    CAPACITY_BYTES_MIN, InDoubt, Intake, IntakeSettings, OutputRule, Resolution, RetryAfter,
    ShedReason,
};
use sluice_core::prepared::{Prepared, PreparedRecord};
use sluice_core::priority::Shares;
use sluice_core::record::Record;
use sluice_core::reject::Reject;
use sluice_core::route::DeliveryClass;
use sluice_core::time::Mono;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

/// Shared by all inputs, because a table's queue lives as long as the process. Empty between inputs.
static ACKS: LazyLock<AckQueue> = LazyLock::new(AckQueue::default);

/// Every step compares everything.
const STEPS_MAX: usize = 200;
const PENDING_BYTES_MAX: u64 = 200_000;
/// What a record counts in the byte budget beside its bytes.
const OVERHEAD: u64 = 160;
const RULE: OutputRule = OutputRule {
    class: DeliveryClass::Required,
    pending_bytes_max: PENDING_BYTES_MAX,
    adaptive_limit: None,
    retry_for: Duration::from_secs(60),
    keyed: true,
    by_topic: true,
    writers: 1,
    home: 0,
    probe_every: Duration::from_millis(250),
    spools: false,
    is_default: true,
    fallback: None,
};
const RULES: [OutputRule; 3] = [
    RULE,
    OutputRule {
        class: DeliveryClass::BestEffort,
        ..RULE
    },
    OutputRule {
        adaptive_limit: Some(Duration::from_millis(100)),
        ..RULE
    },
];

fuzz_target!(|steps: &[u8]| {
    let mut run = Run::new();
    for step in steps.chunks_exact(4).take(STEPS_MAX) {
        run.step([step[0], step[1], step[2], step[3]]);
        run.check();
    }
    run.end();
});

#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the model knows of a request.
struct Request {
    key: RequestKey,
    held_bytes: u64,
    record_bytes: u32,
    deadline: Mono,
    /// For each accepted event, its result at each output.
    results: Vec<[Option<Outcome>; RULES.len()]>,
    /// In the order in which they arrived at the table, from outputs that the answer waits for.
    refusals: Vec<Cause>,
    received: u32,
    delivered_late: [u64; RULES.len()],
    overdue: bool,
    closed: bool,
    waits: bool,
    wakes: Arc<WakeCount>,
    wakes_expected: usize,
}

impl Request {
    fn outstanding(&self, required_only: bool) -> usize {
        let results = self
            .results
            .iter()
            .flat_map(|results| RULES.iter().zip(results));
        results
            .filter(|(rule, result)| {
                result.is_none() && (!required_only || rule.class.is_awaited())
            })
            .count()
    }

    fn is_freed(&self) -> bool {
        self.closed && self.outstanding(false) == 0
    }

    fn wake(&mut self) {
        self.wakes_expected += usize::from(self.waits);
        self.waits = false;
    }

    /// What its client hears: `None` while it waits.
    fn resolution(&self) -> Option<Result<(), ShedReason>> {
        match (self.outstanding(true), self.refusals.first()) {
            (0, None) => Some(Ok(())),
            (0, Some(Cause::Unknown | Cause::Expired)) => Some(Err(ShedReason::Deadline)),
            (0, Some(_)) => Some(Err(ShedReason::Sink)),
            _ if self.overdue => Some(Err(ShedReason::Deadline)),
            _ => None,
        }
    }

    fn in_doubt(&self, listed_max: usize) -> InDoubt {
        let is_confirmed = |results: &[Option<Outcome>; RULES.len()]| {
            RULES.iter().zip(results).all(|(rule, result)| {
                !rule.class.is_awaited() || *result == Some(Outcome::Delivered)
            })
        };
        let mut events: Vec<u32> = (0..)
            .zip(&self.results)
            .filter(|(_, results)| !is_confirmed(results))
            .map(|(event, _)| event)
            .collect();
        if self.received < 2 || self.is_freed() {
            events.clear();
        }
        let total = u32::try_from(events.len()).unwrap();
        events.truncate(listed_max);
        InDoubt { total, events }
    }

    /// Records at `output` that this applies to, as far as the table knows.
    fn count(&self, output: usize, is: impl Fn(Option<Outcome>) -> bool) -> u64 {
        self.results
            .iter()
            .filter(|results| is(results[output]))
            .count() as u64
    }
}

struct Run {
    intake: Intake,
    budget: ByteBudget,
    now: Mono,
    throttled: u64,
    requests: Vec<Request>,
    tickets: Vec<Ticket>,
    /// Settled and not yet sent.
    settled: Vec<Settlement>,
    /// Applied before; for the table to ignore when their entry is gone.
    applied: Vec<Settlement>,
}

/// No output has a fallback, and there are no groups.
fn nowhere_else(writer: WriterId, _: Record) {
    panic!("a record moved to {writer:?}");
}

impl Run {
    fn new() -> Run {
        Run {
            intake: Intake::new(
                &ACKS,
                IntakeSettings {
                    ack_deadline: Duration::from_secs(3_600),
                    retry_after: RetryAfter { min_s: 1, max_s: 5 },
                    outputs: RULES.to_vec(),
                    groups: Vec::new(),
                    shares: Shares::WHOLE,
                },
            ),
            budget: ByteBudget::new(u64::MAX),
            now: Mono::default(),
            throttled: 0,
            requests: Vec::new(),
            tickets: Vec::new(),
            settled: Vec::new(),
            applied: Vec::new(),
        }
    }

    fn step(&mut self, [step, which, a, b]: [u8; 4]) {
        match step % 8 {
            0 => self.open(u32::from(which % 6), u32::from(a), b),
            1 if !self.tickets.is_empty() => {
                let ticket = self.tickets.remove(usize::from(which) % self.tickets.len());
                let cause = Cause::ALL[usize::from(b) % Cause::ALL.len()];
                let outcome = match a % 3 {
                    0 => Outcome::Delivered,
                    1 => Outcome::Spooled,
                    _ => Outcome::Refused(cause),
                };
                self.settled.push(ticket.settle(outcome).1);
            }
            2 => self.send_acks(),
            3 if !self.tickets.is_empty() => {
                drop(self.tickets.remove(usize::from(which) % self.tickets.len()));
            }
            4 => self.receive(),
            5 => {
                self.now = self.now + Duration::from_millis(u64::from(a));
                self.intake.tick(self.now);
                for request in &mut self.requests {
                    let is_due = request.deadline <= self.now && request.outstanding(true) > 0;
                    if is_due && !request.overdue {
                        request.overdue = true;
                        request.wake();
                    }
                }
                self.throttled += u64::from(b);
            }
            6 if !self.requests.is_empty() => {
                let at = usize::from(which) % self.requests.len();
                self.intake.close(self.requests[at].key);
                self.requests[at].closed = true;
                self.requests[at].waits = false;
            }
            7 if !self.applied.is_empty() => {
                let settlement = self.applied[usize::from(which) % self.applied.len()];
                if self.request(settlement.request).is_freed() {
                    self.settle(settlement);
                }
            }
            _ => {}
        }
    }

    fn settle(&mut self, settlement: Settlement) {
        let batch = AckBatch {
            settlements: vec![settlement],
            writer: None,
        };
        self.intake.settle(batch, self.now, nowhere_else);
    }

    fn send_acks(&mut self) {
        let writer = WriterId {
            output: OutputId(2),
            number: 0,
        };
        ACKS.send(AckBatch {
            settlements: std::mem::take(&mut self.settled),
            writer: Some(WriterState {
                writer,
                circuit: CircuitState::Closed,
                throttled: self.throttled,
            }),
        });
    }

    fn open(&mut self, received: u32, rejected: u32, size: u8) {
        let rejected = rejected % (received + 1);
        // Up to a third of what one output may hold.
        let record_bytes = u32::from(size) * 256;
        let accepted = received - rejected;
        let permit = self.budget.try_reserve(1, None).unwrap();
        let deadline = self.now + Duration::from_millis(u64::from(size));
        let mut prepared = Prepared::default();
        prepared.received = received;
        let refused = (0..rejected).map(|index| (index, Reject::NoEvents));
        prepared.rejected.extend(refused);
        let payload = Bytes::from(vec![b'.'; record_bytes as usize]);
        let record = |index| PreparedRecord {
            index,
            key: None,
            topic: None,
            payload: payload.clone(),
            routing: None,
        };
        prepared.records.extend((0..accepted).map(record));
        let bytes = u64::from(accepted) * u64::from(record_bytes);
        let is_full = bytes > 0 && self.is_full(bytes);
        let tickets = &mut self.tickets;
        let submit = |_, record: Record| tickets.push(record.ticket);
        let admitted = self
            .intake
            .admit(&mut prepared, permit, deadline, self.now, submit);
        let key = match admitted {
            Ok(key) => key,
            Err(shed) => {
                assert_eq!((shed.reason, is_full), (ShedReason::Queue, true));
                return;
            }
        };
        assert!(!is_full, "admitted over a bound");
        self.requests.push(Request {
            key,
            held_bytes: bytes + OVERHEAD * u64::from(accepted),
            record_bytes,
            deadline,
            results: vec![[None; RULES.len()]; accepted as usize],
            refusals: Vec::new(),
            received,
            delivered_late: [0; RULES.len()],
            overdue: false,
            closed: false,
            waits: false,
            wakes: Arc::default(),
            wakes_expected: 0,
        });
    }

    fn is_full(&self, bytes: u64) -> bool {
        self.intake
            .tallies()
            .any(|tally| tally.pending > 0 && tally.pending_bytes + bytes > tally.capacity_bytes)
    }

    fn request(&mut self, key: RequestKey) -> &mut Request {
        let mut requests = self.requests.iter_mut();
        requests.find(|request| request.key == key).unwrap()
    }

    fn receive(&mut self) {
        let Some(batch) = ACKS.poll_recv(Waker::noop()) else {
            return;
        };
        let settlements = batch.settlements.clone();
        self.intake.settle(batch, self.now, nowhere_else);
        for settlement in settlements {
            self.applied.push(settlement);
            let output = usize::from(settlement.output.0);
            let is_required = RULES[output].class.is_awaited();
            let request = self.request(settlement.request);
            let result = &mut request.results[settlement.event as usize][output];
            assert_eq!(*result, None, "a ticket was settled twice");
            *result = Some(settlement.outcome);
            match settlement.outcome {
                Outcome::Refused(cause) if is_required => request.refusals.push(cause),
                Outcome::Delivered if is_required && request.closed => {
                    request.delivered_late[output] += 1;
                }
                _ => {}
            }
            if request.outstanding(true) == 0 {
                request.wake();
            }
        }
    }

    fn check(&mut self) {
        for request in &mut self.requests {
            assert_eq!(
                request.wakes.0.load(Ordering::Relaxed),
                request.wakes_expected
            );
            // A closed request asks no more.
            if request.closed {
                continue;
            }
            let resolution = request.resolution();
            let waker = Waker::from(Arc::clone(&request.wakes));
            for listed_max in [0, 1, 100] {
                let told = self.intake.poll_resolution(request.key, listed_max, &waker);
                let told = match told {
                    Poll::Pending => None,
                    Poll::Ready(Resolution::Stored) => Some(Ok(())),
                    Poll::Ready(Resolution::InDoubt(shed, in_doubt)) => {
                        assert_eq!(in_doubt, request.in_doubt(listed_max));
                        Some(Err(shed.reason))
                    }
                };
                assert_eq!(told, resolution);
            }
            request.waits = resolution.is_none();
        }
        let open = self.requests.iter().filter(|request| !request.is_freed());
        assert_eq!(
            (self.intake.open_requests(), self.budget.held()),
            (
                open.clone().count(),
                open.map(|request| request.held_bytes).sum()
            )
        );
        for (at, tally) in self.intake.tallies().enumerate() {
            let sum = |of: &dyn Fn(&Request) -> u64| self.requests.iter().map(of).sum::<u64>();
            let pending_bytes = sum(&|request| {
                request.count(at, |result| result.is_none()) * u64::from(request.record_bytes)
            });
            let expected = [
                sum(&|request| request.count(at, |_| true)),
                sum(&|request| request.count(at, |result| result == Some(Outcome::Delivered))),
                sum(&|request| request.count(at, |result| result == Some(Outcome::Spooled))),
                sum(&|request| request.count(at, |result| result.is_none())),
                pending_bytes,
                sum(&|request| request.delivered_late[at]),
            ];
            let actual = [
                tally.accepted,
                tally.delivered,
                tally.spooled,
                tally.pending,
                tally.pending_bytes,
                tally.delivered_late,
            ];
            assert_eq!(actual, expected, "output {at}");
            for cause in Cause::ALL {
                let refused = Some(Outcome::Refused(cause));
                assert_eq!(
                    tally.refused[cause as usize],
                    sum(&|request| request.count(at, |result| result == refused))
                );
            }
            let lowest = match RULES[at].adaptive_limit {
                Some(_) => CAPACITY_BYTES_MIN,
                None => PENDING_BYTES_MAX,
            };
            assert!((lowest..=PENDING_BYTES_MAX).contains(&tally.capacity_bytes));
        }
    }

    /// Whatever happened: once clients and writers are gone, nothing is left.
    fn end(mut self) {
        for request in &mut self.requests {
            self.intake.close(request.key);
            request.closed = true;
            request.waits = false;
        }
        self.tickets.clear();
        self.send_acks();
        while self.requests.iter().any(|request| !request.is_freed()) {
            self.receive();
        }
        self.check();
        assert_eq!((self.intake.open_requests(), self.budget.held()), (0, 0));
    }
}
