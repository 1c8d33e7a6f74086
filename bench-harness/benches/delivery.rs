//! What delivery costs per record: machine 2 by itself, the request table, and the hand-off between
//! two threads and back. Every benchmark checks its counts before it is timed.

#![allow(missing_docs, reason = "criterion's macros make items without docs")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot do its work has to stop"
)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sluice_core::ack::{AckQueue, Outcome, OutputId, RequestKey, Settlement, Ticket};
use sluice_core::budget::ByteBudget;
use sluice_core::cause::Cause;
use sluice_core::delivery::{Action, BatchLimits, Delivery, DeliverySettings, Input};
use sluice_core::queue::queue;
use sluice_core::record::{Record, RecordResult};
use sluice_core::request_table::{AckPolicy, AckStatus, OutputRule, RequestTable};
use sluice_core::retry::RetryPolicy;
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
        spool: None,
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

/// Opens, accepts, settles and closes one request of one record.
fn through_the_table(table: &mut RequestTable, budget: &ByteBudget) -> AckStatus {
    let permit = budget.try_reserve(1_024, None).unwrap();
    let request = table.open(1, 0, permit, FAR);
    let mut word: Option<Settlement> = None;
    table.accept(request, 1_024, |_, ticket| {
        word = Some(ticket.settle(Outcome::Delivered).1)
    });
    assert_eq!(table.status(request, Waker::noop()), AckStatus::Open);
    table.settle(word.unwrap());
    let status = table.status(request, Waker::noop());
    table.close(request);
    status
}

fn ledger(c: &mut Criterion) {
    let rule = OutputRule {
        ack: AckPolicy::Delivered,
        pending_bytes_max: 1 << 30,
        adaptive_limit: Some(Duration::from_secs(1)),
    };
    let mut table = RequestTable::new(AckQueue::leak(), vec![rule]);
    let budget = ByteBudget::new(1 << 30);
    assert_eq!(through_the_table(&mut table, &budget), AckStatus::Delivered);
    assert_eq!(table.open_requests(), 0);
    c.bench_function("ledger/one_request", |b| {
        b.iter(|| through_the_table(&mut table, &budget));
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
                        port.send(words);
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
                    Some(words) => back += words.len(),
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

criterion_group!(benches, delivery, ledger, hand_off);
criterion_main!(benches);
