//! What delivery costs per record: machine 2 by itself, intake, and the hand-off between
//! two threads and back. Every benchmark checks its counts before it is timed.

#![allow(missing_docs, reason = "criterion's macros make items without docs")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot do its work has to stop"
)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sluice_core::ack::{AckBatch, AckQueue, Outcome, OutputId, RequestKey, Ticket};
use sluice_core::budget::ByteBudget;
use sluice_core::cause::Cause;
use sluice_core::circuit::CircuitSettings;
use sluice_core::delivery::{Action, BatchLimits, Delivery, DeliverySettings, Input};
use sluice_core::intake::{Intake, IntakeSettings, OutputRule, Resolution, RetryAfter};
use sluice_core::prepared::{Prepared, PreparedRecord};
use sluice_core::priority::Shares;
use sluice_core::queue::queue;
use sluice_core::record::{Record, RecordResult};
use sluice_core::retry::RetryPolicy;
use sluice_core::route::DeliveryClass;
use sluice_core::time::Mono;
use std::hint::black_box;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

const RECORDS: usize = 500;
const FAR: Mono = Mono(3_600_000_000);

fn records(port: &'static AckQueue, count: usize) -> Vec<Record> {
    let payload = Bytes::from(vec![b'x'; 1_024]);
    let request = RequestKey {
        slot: 0,
        generation: 0,
    };
    (0..count)
        .map(|_| Record {
            key: None,
            topic: None,
            payload: payload.clone(),
            deadline: FAR,
            ticket: Ticket::new(port, request, OutputId(0), 1_024),
        })
        .collect()
}

fn machine() -> Delivery {
    let retry = RetryPolicy {
        base: Duration::from_millis(50),
        cap: Duration::from_secs(1),
    };
    let settings = DeliverySettings {
        linger: Duration::ZERO,
        in_flight_max: 8,
        retry,
        circuit: Some(CircuitSettings {
            open_after: Duration::from_secs(4),
            failures_max: None,
            ack_deadline: Duration::from_secs(4),
        }),
        spool: None,
        has_fallback: false,
    };
    let limits = BatchLimits {
        records_max: 500,
        bytes_max: 5 << 20,
        record_bytes_max: 1 << 20,
    };
    Delivery::new(settings, limits)
}

/// Records in, a call out, its answer in, settlements out. `throttled` of the records are throttled
/// in the first call and delivered in the second. Returns how many were delivered.
fn deliver(machine: &mut Delivery, records: Vec<Record>, throttled: usize) -> usize {
    let mut actions = Vec::new();
    let mut delivered = 0;
    let mut first_call = true;
    machine.step(Input::Records(records), Mono(0), 7, &mut actions);
    loop {
        let mut answers = Vec::new();
        for action in actions.drain(..) {
            match action {
                Action::Send { call, records } => {
                    let mut results = vec![RecordResult::Delivered; records.len()];
                    if first_call {
                        results[..throttled].fill(RecordResult::Retry(Cause::Throttled));
                    }
                    first_call = false;
                    answers.push(Input::Completed {
                        call,
                        records,
                        results,
                    });
                }
                Action::Delivered(records) => {
                    delivered += records.len();
                    for record in records {
                        let _settlement = black_box(record.ticket.settle(Outcome::Delivered));
                    }
                }
                Action::Settle(record, outcome) => {
                    delivered += usize::from(outcome == Outcome::Delivered);
                    let _settlement = black_box(record.ticket.settle(outcome));
                }
                Action::Spool(_) | Action::CountRetry(_) => {}
            }
        }
        if machine.is_idle() {
            return delivered;
        }
        if answers.is_empty() {
            machine.step(Input::Tick, machine.wake_at(), 7, &mut actions);
        }
        for answer in answers {
            machine.step(answer, Mono(1), 7, &mut actions);
        }
    }
}

fn delivery(c: &mut Criterion) {
    let port = AckQueue::leak();
    let mut group = c.benchmark_group("delivery");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (name, throttled) in [
        ("500_records_delivered", 0),
        ("500_records_100_throttled_once", 100),
    ] {
        assert_eq!(
            deliver(&mut machine(), records(port, RECORDS), throttled),
            RECORDS
        );
        group.bench_function(name, |b| {
            let mut machine = machine();
            b.iter_batched(
                || records(port, RECORDS),
                |records| deliver(&mut machine, records, throttled),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Admits, settles and closes one request of one record.
fn through_intake(
    intake: &mut Intake,
    budget: &ByteBudget,
    prepared: &mut Prepared,
    payload: &Bytes,
) -> Poll<Resolution> {
    prepared.received = 1;
    prepared.records.push(PreparedRecord {
        index: 0,
        key: None,
        topic: None,
        payload: payload.clone(),
        routing: None,
    });
    let permit = budget.try_reserve(1_024, None).unwrap();
    let mut settlements = Vec::new();
    let request = intake.admit(prepared, permit, FAR, Mono(0), |_, record| {
        settlements.push(record.ticket.settle(Outcome::Delivered).1);
    });
    let request = request.unwrap();
    assert!(
        intake
            .poll_resolution(request, 100, Waker::noop())
            .is_pending()
    );
    let batch = AckBatch {
        settlements,
        writer: None,
    };
    intake.settle(batch, Mono(0), |_, _| ());
    let resolution = intake.poll_resolution(request, 100, Waker::noop());
    intake.close(request);
    resolution
}

fn intake(c: &mut Criterion) {
    let rule = OutputRule {
        class: DeliveryClass::Required,
        pending_bytes_max: 1 << 30,
        adaptive_limit: Some(Duration::from_secs(1)),
        retry_for: Duration::from_secs(60),
        keyed: false,
        by_topic: false,
        writers: 1,
        home: 0,
        probe_every: Duration::from_millis(250),
        spools: false,
        is_default: true,
        fallback: None,
    };
    let settings = IntakeSettings {
        ack_deadline: Duration::from_secs(4),
        retry_after: RetryAfter { min_s: 1, max_s: 5 },
        outputs: vec![rule],
        groups: Vec::new(),
        shares: Shares::WHOLE,
    };
    let mut intake = Intake::new(AckQueue::leak(), settings);
    let budget = ByteBudget::new(1 << 30);
    let payload = Bytes::from(vec![b'x'; 1_024]);
    let mut prepared = Prepared::default();
    let stored = Poll::Ready(Resolution::Stored);
    assert_eq!(
        through_intake(&mut intake, &budget, &mut prepared, &payload),
        stored
    );
    assert_eq!(intake.open_requests(), 0);
    c.bench_function("intake/one_request", |b| {
        b.iter(|| through_intake(&mut intake, &budget, &mut prepared, &payload));
    });
}

/// Sends submissions to a thread that settles all of it, and waits until every word is back.
fn hand_off(c: &mut Criterion) {
    let mut group = c.benchmark_group("hand_off");
    for submission in [1, 16, 256] {
        let port = AckQueue::leak();
        let (sender, receiver) = queue::<Vec<Record>>(64);
        let writer = thread::spawn(move || {
            let mut settled = 0_usize;
            loop {
                match receiver.try_recv() {
                    Poll::Ready(Some(records)) => {
                        settled += records.len();
                        let words = records
                            .into_iter()
                            .map(|record| record.ticket.settle(Outcome::Delivered).1)
                            .collect();
                        port.send(AckBatch {
                            settlements: words,
                            writer: None,
                        });
                    }
                    Poll::Ready(None) => return settled,
                    Poll::Pending => std::hint::spin_loop(),
                }
            }
        });
        let mut sent = 0;
        let mut round = || {
            sent += submission;
            sender.try_send(records(port, submission)).unwrap();
            let mut back = 0;
            while back < submission {
                match port.poll_recv(Waker::noop()) {
                    Some(words) => back += words.settlements.len(),
                    None => std::hint::spin_loop(),
                }
            }
            back
        };
        assert_eq!(round(), submission);
        group.throughput(Throughput::Elements(submission as u64));
        group.bench_function(format!("submission_of_{submission}_round_trip"), |b| {
            b.iter(&mut round)
        });
        drop(sender);
        assert_eq!(writer.join().unwrap(), sent);
    }
    group.finish();
}

criterion_group!(benches, delivery, intake, hand_off);
criterion_main!(benches);
