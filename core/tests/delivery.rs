//! Machine 2 step by step: batches, retries and the circuit; the spool and seeded schedules are modules.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

#[path = "delivery/schedules.rs"]
mod schedules;
#[path = "delivery/spool.rs"]
mod spool;

use bytes::Bytes;
use sluice_core::ack::{AckQueue, Outcome, OutputId, RequestKey, Ticket};
use sluice_core::cause::Cause;
use sluice_core::circuit::{CircuitSettings, CircuitState};
use sluice_core::delivery::{
    Action, BatchLimits, CallId, Delivery, DeliverySettings, Input, SpoolRule, ToSpool,
};
use sluice_core::record::{Record, RecordResult};
use sluice_core::retry::RetryPolicy;
use sluice_core::time::Mono;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_millis(50),
    cap: Duration::from_millis(1_000),
};

const CIRCUIT: CircuitSettings = CircuitSettings {
    open_after: Duration::from_secs(4),
    failures_max: None,
    ack_deadline: Duration::from_secs(4),
};

fn settings(linger_ms: u64, in_flight_max: usize) -> DeliverySettings {
    DeliverySettings {
        linger: Duration::from_millis(linger_ms),
        in_flight_max,
        retry: RETRY,
        circuit: Some(CIRCUIT),
        spool: None,
        has_fallback: false,
    }
}

fn spooling(linger_ms: u64, in_flight_max: usize, after_ms: u64) -> DeliverySettings {
    DeliverySettings {
        spool: Some(SpoolRule {
            after: Duration::from_millis(after_ms),
            first: false,
        }),
        circuit: Some(CircuitSettings {
            failures_max: Some(3),
            ..CIRCUIT
        }),
        ..settings(linger_ms, in_flight_max)
    }
}

fn limits(records_max: usize, bytes_max: usize) -> BatchLimits {
    BatchLimits {
        records_max,
        bytes_max,
        record_bytes_max: bytes_max,
    }
}

/// A record whose payload starts with its number.
fn record(port: &'static AckQueue, number: u64, size: usize, deadline: Mono) -> Record {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(size.max(8), b'.');
    let request = RequestKey {
        slot: 0,
        generation: 0,
    };
    let ticket = Ticket::new(port, request, OutputId(0), u32::try_from(size).unwrap());
    Record {
        key: None,
        topic: None,
        payload: Bytes::from(payload),
        deadline,
        ticket,
    }
}

fn number(record: &Record) -> u64 {
    u64::from_be_bytes(record.payload[..8].try_into().unwrap())
}

/// Steps the machine and splits what it wants into calls and settlements.
struct Driver {
    machine: Delivery,
    calls: Vec<(CallId, Vec<Record>)>,
    spool: Vec<Vec<ToSpool>>,
    settled: Vec<(u64, Outcome)>,
}

impl Driver {
    fn new(settings: DeliverySettings, limits: BatchLimits) -> Self {
        let machine = Delivery::new(settings, limits);
        Driver {
            machine,
            calls: Vec::new(),
            spool: Vec::new(),
            settled: Vec::new(),
        }
    }

    fn step(&mut self, input: Input, now: Mono, random: u64) {
        let mut actions = Vec::new();
        self.machine.step(input, now, random, &mut actions);
        for action in actions {
            match action {
                Action::Send { call, records } => self.calls.push((call, records)),
                Action::Settle(record, outcome) => self.settle(record, outcome),
                Action::Delivered(records) => {
                    for record in records {
                        self.settle(record, Outcome::Delivered);
                    }
                }
                Action::Spool(records) => self.spool.push(records),
                Action::CountRetry(_) => {}
            }
        }
    }

    fn settle(&mut self, record: Record, outcome: Outcome) {
        self.settled.push((number(&record), outcome));
        let _settlement = record.ticket.settle(outcome);
    }

    fn records(&mut self, sizes: &[usize], now: Mono, deadline: Mono) {
        let port = AckQueue::leak();
        let records = (0..)
            .zip(sizes)
            .map(|(at, size)| record(port, at, *size, deadline))
            .collect();
        self.step(Input::Records(records), now, 0);
    }

    fn complete(&mut self, at: usize, results: &[RecordResult], now: Mono, random: u64) {
        let (call, records) = self.calls.remove(at);
        self.step(
            Input::Completed {
                call,
                records,
                results: results.to_vec(),
            },
            now,
            random,
        );
    }

    fn spooled(&mut self, at: usize, kept: bool, now: Mono) {
        let records = self.spool.remove(at);
        self.step(Input::Spooled { records, kept }, now, 0);
    }

    /// Number and attempts of each record that waits for the disk.
    fn to_spool(&self, at: usize) -> Vec<(u64, u32)> {
        let records = self.spool[at].iter();
        records
            .map(|of| (number(&of.record), of.attempts))
            .collect()
    }

    fn numbers(&self, at: usize) -> Vec<u64> {
        self.calls[at].1.iter().map(number).collect()
    }
}

const FAR: Mono = Mono(3_600_000_000);
const OK: RecordResult = RecordResult::Delivered;
const THROTTLED: RecordResult = RecordResult::Retry(Cause::Throttled);

fn at_ms(ms: u64) -> Mono {
    Mono(ms * 1_000)
}

#[test]
fn a_batch_leaves_when_its_oldest_record_has_lingered() {
    let mut driver = Driver::new(settings(5, 1), limits(10, 1_000));
    driver.records(&[8, 8], at_ms(0), FAR);
    driver.step(Input::Tick, Mono(4_999), 0);
    assert!(driver.calls.is_empty());
    assert_eq!(driver.machine.wake_at(), at_ms(5));
    driver.step(Input::Tick, at_ms(5), 0);
    assert_eq!(driver.numbers(0), [0, 1]);
}

#[test]
fn wants_no_input_while_lingering_or_at_in_flight_max() {
    let mut driver = Driver::new(settings(5, 1), limits(10, 1_000));
    assert!(driver.machine.wants_input());
    driver.records(&[8], at_ms(0), FAR);
    assert!(!driver.machine.wants_input());
    driver.step(Input::Tick, at_ms(5), 0);
    assert!(!driver.machine.wants_input());
    driver.complete(0, &[OK], at_ms(6), 0);
    assert!(driver.machine.wants_input());
}

#[test]
fn a_long_linger_wants_input_to_fill_early() {
    let mut driver = Driver::new(settings(300_000, 1), limits(2, 1_000));
    driver.records(&[8], at_ms(0), FAR);
    assert!(driver.machine.wants_input());
    driver.records(&[8], at_ms(1), FAR);
    assert_eq!(driver.calls.len(), 1);
}

#[test]
fn a_full_batch_is_sent_immediately() {
    let mut driver = Driver::new(settings(1_000, 9), limits(2, 1_000));
    driver.records(&[8, 8, 8], at_ms(0), FAR);
    assert_eq!((driver.calls.len(), driver.numbers(0)), (1, vec![0, 1]));

    let mut driver = Driver::new(settings(1_000, 9), limits(100, 100));
    driver.records(&[60, 40, 60], at_ms(0), FAR);
    assert_eq!((driver.calls.len(), driver.numbers(0)), (1, vec![0, 1]));
}

#[test]
fn only_the_failed_records_of_a_call_are_sent_again() {
    let mut driver = Driver::new(settings(0, 1), limits(10, 1_000));
    driver.records(&[8, 8, 8], at_ms(0), FAR);
    driver.complete(0, &[OK, THROTTLED, OK], at_ms(1), u64::MAX / 2);
    assert_eq!(
        driver.settled,
        [(0, Outcome::Delivered), (2, Outcome::Delivered)]
    );
    let again = driver.machine.wake_at();
    driver.step(Input::Tick, again, 0);
    assert_eq!(driver.numbers(0), [1]);
}

#[test]
fn missing_results_are_unknown_and_retried() {
    let mut driver = Driver::new(settings(0, 1), limits(10, 1_000));
    driver.records(&[8, 8], at_ms(0), FAR);
    driver.complete(0, &[OK], at_ms(1), 0);
    assert_eq!(driver.settled, [(0, Outcome::Delivered)]);
    let again = driver.machine.wake_at();
    driver.step(Input::Tick, again, 0);
    assert_eq!(driver.numbers(0), [1]);
}

#[test]
fn records_that_failed_together_are_tried_again_together() {
    // The first waits are spread over 50 ms, the shortest: no tick is longer.
    for (linger_ms, calls) in [(100, 1), (10, 5), (0, 20)] {
        let mut driver = Driver::new(settings(linger_ms, 100), limits(20, 1_000));
        driver.records(&[8; 20], at_ms(0), FAR);
        driver.complete(0, &[THROTTLED; 20], at_ms(1_000), 3);
        while driver.machine.wake_at() <= at_ms(1_050) {
            driver.step(Input::Tick, driver.machine.wake_at(), 0);
        }
        assert_eq!(driver.calls.len(), calls, "linger {linger_ms} ms");
        let carried: usize = driver.calls.iter().map(|(_, records)| records.len()).sum();
        assert_eq!(carried, 20);
    }
}

#[test]
fn no_retry_is_put_off_beyond_its_deadline_for_company() {
    for random in 0..100 {
        let mut driver = Driver::new(settings(47, 1), limits(10, 1_000));
        driver.records(&[8], at_ms(50), at_ms(151));
        driver.step(Input::Tick, at_ms(97), 0);
        // It may go between 100 and 150 ms, and ticks come at 141 and 188.
        driver.complete(0, &[THROTTLED], at_ms(100), random);
        driver.step(Input::Tick, driver.machine.wake_at(), 0);
        assert_eq!(driver.calls.len(), 1, "{random}: {:?}", driver.settled);
    }
}

#[test]
fn a_retry_past_the_deadline_is_refused_immediately() {
    let mut driver = Driver::new(settings(0, 1), limits(10, 1_000));
    driver.records(&[8], at_ms(0), at_ms(20));
    driver.complete(0, &[THROTTLED], at_ms(10), u64::MAX);
    assert_eq!(driver.settled, [(0, Outcome::Refused(Cause::Throttled))]);
}

#[test]
fn a_record_that_waited_past_its_deadline_is_never_sent() {
    let mut driver = Driver::new(settings(0, 1), limits(1, 1_000));
    driver.records(&[8, 8], at_ms(0), at_ms(20));
    driver.complete(0, &[OK], at_ms(20), 0);
    assert!(driver.calls.is_empty());
    assert_eq!(driver.settled[1], (1, Outcome::Refused(Cause::Expired)));
}

#[test]
fn one_invalid_record_does_not_poison_its_batch() {
    let mut driver = Driver::new(settings(0, 1), limits(10, 1_000));
    driver.records(&[8, 8, 8], at_ms(0), FAR);
    let bad = |numbers: &[u64]| numbers.contains(&1);
    let mut now = at_ms(0);
    while !driver.machine.is_idle() {
        if driver.calls.is_empty() {
            now = driver.machine.wake_at();
            driver.step(Input::Tick, now, 0);
            continue;
        }
        let numbers = driver.numbers(0);
        let result = if bad(&numbers) {
            RecordResult::Retry(Cause::Invalid)
        } else {
            OK
        };
        driver.complete(0, &vec![result; numbers.len()], now, 7);
    }
    driver.settled.sort_by_key(|(number, _)| *number);
    assert_eq!(
        driver.settled,
        [
            (0, Outcome::Delivered),
            (1, Outcome::Refused(Cause::Invalid)),
            (2, Outcome::Delivered)
        ]
    );
}

#[test]
fn a_record_over_a_lowered_limit_is_refused_alone() {
    let mut driver = Driver::new(settings(10, 1), limits(10, 1_000));
    driver.records(&[8, 500, 8], at_ms(0), FAR);
    driver.machine.set_limits(BatchLimits {
        record_bytes_max: 100,
        ..limits(10, 1_000)
    });
    driver.step(Input::Tick, at_ms(10), 0);
    assert_eq!(driver.settled, [(1, Outcome::Refused(Cause::TooLarge))]);
    assert_eq!(driver.numbers(0), [0, 2]);
}

#[test]
fn drain_sends_lingering_and_stop_settles_waiting_records() {
    let mut driver = Driver::new(settings(1_000, 1), limits(2, 1_000));
    driver.records(&[8], at_ms(0), FAR);
    driver.step(Input::Drain, at_ms(1), 0);
    assert_eq!(driver.numbers(0), [0]);
    driver.records(&[8], at_ms(2), FAR);
    driver.step(Input::Stop, at_ms(3), 0);
    assert_eq!(driver.settled, [(0, Outcome::Refused(Cause::Shutdown))]);
    driver.complete(0, &[THROTTLED], at_ms(4), 0);
    // Without the stop it would have been tried again: it is left behind like what waited.
    assert_eq!(driver.settled[1], (0, Outcome::Refused(Cause::Shutdown)));
    assert!(driver.machine.is_idle());
}

const UNAVAILABLE: RecordResult = RecordResult::Retry(Cause::Unavailable);

/// Fails every call for as long as it takes the circuit to open.
fn failing(driver: &mut Driver, result: RecordResult) -> Mono {
    let mut now = at_ms(0);
    driver.records(&[8], now, FAR);
    while now < Mono::default() + CIRCUIT.open_after {
        if driver.calls.is_empty() {
            now = driver.machine.wake_at();
            driver.step(Input::Tick, now, 0);
        } else {
            driver.complete(0, &[result], now, u64::MAX);
        }
    }
    while !driver.calls.is_empty() {
        driver.complete(0, &[result], now, u64::MAX);
    }
    now
}

#[test]
fn an_open_circuit_gives_up_at_the_first_failure() {
    let mut driver = Driver::new(settings(0, 1), limits(1, 1_000));
    let now = failing(&mut driver, UNAVAILABLE);
    assert_eq!(driver.machine.circuit(), CircuitState::Open);
    // A record with time left beyond any client's patience is best effort, and still retried.
    assert_eq!(driver.settled, []);
    driver.records(&[8], now, now + CIRCUIT.ack_deadline);
    assert_eq!(driver.machine.circuit(), CircuitState::HalfOpen);
    driver.complete(0, &[UNAVAILABLE], now, u64::MAX);
    let refused = Outcome::Refused(Cause::Unavailable);
    assert_eq!(driver.settled, [(0, refused)]);
    driver.records(&[8], now, now + CIRCUIT.ack_deadline);
    driver.complete(0, &[OK], now, 0);
    assert_eq!(driver.machine.circuit(), CircuitState::Closed);
}

#[test]
fn a_throttling_destination_keeps_its_circuit_closed() {
    let mut driver = Driver::new(settings(0, 1), limits(1, 1_000));
    failing(&mut driver, THROTTLED);
    assert_eq!(driver.machine.circuit(), CircuitState::Closed);
    assert!(driver.machine.throttled() > 3);
}

#[test]
fn calls_that_hang_open_the_circuit_at_their_time() {
    let mut driver = Driver::new(settings(0, 1), limits(1, 1_000));
    driver.records(&[8], at_ms(0), FAR);
    assert_eq!(driver.machine.wake_at(), at_ms(4_000));
    driver.step(Input::Tick, at_ms(4_000), 0);
    assert_eq!(driver.machine.circuit(), CircuitState::HalfOpen);
}
