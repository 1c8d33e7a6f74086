//! Machine 2 under seeded schedules: a destination that delivers, throttles, refuses, forgets
//! results and calls batches invalid, in any order and at any time, against rules that have to hold
//! at every step. `SLUICE_SEEDS` sets how many schedules run, `SLUICE_SEED` names a single one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

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

#[test]
fn an_unconfirmed_record_is_spooled_after_its_time() {
    let mut driver = Driver::new(spooling(0, 1, 1_000), limits(1, 1_000));
    driver.records(&[8, 8], at_ms(0), at_ms(4_000));
    assert_eq!(driver.machine.wake_at(), at_ms(1_000));
    driver.step(Input::Tick, at_ms(999), 0);
    assert!(driver.spool.is_empty());
    driver.step(Input::Tick, at_ms(1_000), 0);
    assert_eq!(driver.to_spool(0), [(1, 0)]);
    // The shell gives up waiting for the call.
    driver.complete(0, &[], at_ms(1_000), 0);
    assert_eq!(driver.to_spool(1), [(0, 1)]);
    driver.spooled(0, true, at_ms(1_001));
    driver.spooled(0, true, at_ms(1_001));
    assert_eq!(
        driver.settled,
        [(1, Outcome::Spooled), (0, Outcome::Spooled)]
    );
    assert!(driver.machine.is_idle());
}

#[test]
fn a_call_is_given_up_when_its_oldest_record_is_due() {
    let mut driver = Driver::new(spooling(0, 2, 1_000), limits(10, 1_000));
    driver.records(&[8], at_ms(0), FAR);
    let call = driver.calls[0].0;
    assert_eq!(driver.machine.give_up_at(call, at_ms(0)), at_ms(1_000));
    driver.complete(0, &[THROTTLED], at_ms(900), 0);
    let again = driver.machine.wake_at();
    driver.step(Input::Tick, again, 0);
    let call = driver.calls[0].0;
    // A quarter of the time at least, or a late retry would never be answered.
    let quarter = again + Duration::from_millis(250);
    assert_eq!(driver.machine.give_up_at(call, again), quarter);

    let mut driver = Driver::new(settings(0, 1), limits(10, 1_000));
    driver.records(&[8], at_ms(0), FAR);
    let call = driver.calls[0].0;
    assert_eq!(driver.machine.give_up_at(call, at_ms(0)), Mono::NEVER);
}

#[test]
fn only_causes_that_pass_lead_to_the_spool() {
    for cause in Cause::ALL {
        for result in [RecordResult::Retry(cause), RecordResult::Refused(cause)] {
            let mut driver = Driver::new(spooling(0, 1, 1_000), limits(10, 1_000));
            driver.records(&[8], at_ms(0), FAR);
            driver.complete(0, &[result], at_ms(990), u64::MAX);
            let passes = !matches!(cause, Cause::TooLarge | Cause::Invalid | Cause::Lost);
            assert_eq!(!driver.spool.is_empty(), passes, "{result:?}");
            let refused = driver.settled == [(0, Outcome::Refused(cause))];
            assert_eq!(refused, !passes, "{result:?}");
        }
    }
}

#[test]
fn throttled_records_are_retried_while_there_is_time() {
    let mut driver = Driver::new(spooling(0, 1, 1_000), limits(10, 1_000));
    driver.records(&[8], at_ms(0), FAR);
    driver.complete(0, &[THROTTLED], at_ms(100), u64::MAX);
    assert!(driver.spool.is_empty());
    let again = driver.machine.wake_at();
    driver.step(Input::Tick, again, 0);
    driver.complete(0, &[OK], again, 0);
    assert_eq!(driver.settled, [(0, Outcome::Delivered)]);
}

#[test]
fn an_open_circuit_spools_on_arrival_until_closed() {
    let mut driver = Driver::new(spooling(5, 1, 1_000), limits(10, 1_000));
    for _ in 0..3 {
        driver.step(Input::ReplaySent, at_ms(0), 0);
        driver.step(Input::ReplayEnded { succeeded: false }, at_ms(0), 0);
    }
    assert_eq!(driver.machine.circuit(), CircuitState::Open);
    assert!(driver.machine.wants_input());
    driver.records(&[8], at_ms(0), FAR);
    assert_eq!(driver.to_spool(0), [(0, 0)]);
    assert!(driver.machine.wants_input() && driver.calls.is_empty());
    driver.step(Input::ReplaySent, at_ms(1), 0);
    driver.step(Input::ReplayEnded { succeeded: true }, at_ms(1), 0);
    driver.records(&[8], at_ms(2), FAR);
    driver.step(Input::Tick, at_ms(7), 0);
    assert_eq!((driver.spool.len(), driver.calls.len()), (1, 1));
}

#[test]
fn one_batch_tries_a_destination_that_failed_before() {
    let mut driver = Driver::new(spooling(5, 1, 5_000), limits(2, 1_000));
    for ms in 0..3 {
        driver.records(&[8, 8], at_ms(ms), FAR);
        driver.complete(0, &[UNAVAILABLE, UNAVAILABLE], at_ms(ms), 0);
    }
    // Those of the first two calls follow the third's.
    driver.step(Input::Tick, at_ms(500), 0);
    assert!(driver.calls.is_empty());
    assert_eq!(driver.machine.circuit(), CircuitState::Open);
    let spooled = driver.spool.len();
    driver.records(&[8, 8], at_ms(1_001), FAR);
    assert!(driver.calls.is_empty(), "a call has told not long ago");
    driver.records(&[8, 8, 8], at_ms(1_002), FAR);
    assert_eq!(driver.calls.len(), 1);
    assert_eq!(driver.calls[0].1.len(), 2);
    assert_eq!(
        driver.spool.len(),
        spooled + 2,
        "the third waits for no probe"
    );
    driver.complete(0, &[OK, OK], at_ms(1_003), 0);
    assert_eq!(driver.machine.circuit(), CircuitState::Closed);
}

#[test]
fn a_call_with_a_fallback_ends_with_its_first_deadline() {
    for (has_fallback, until) in [(true, at_ms(700)), (false, Mono::NEVER)] {
        let rules = DeliverySettings {
            has_fallback,
            ..settings(0, 1)
        };
        let mut driver = Driver::new(rules, limits(10, 1_000));
        driver.records(&[8], at_ms(0), at_ms(700));
        let call = driver.calls[0].0;
        assert_eq!(driver.machine.give_up_at(call, at_ms(0)), until);
    }
}

#[test]
fn an_expired_record_behind_others_is_settled_when_they_go() {
    let mut driver = Driver::new(settings(5, 2), limits(2, 1_000));
    let port = AckQueue::leak();
    let deadlines = [at_ms(900), at_ms(900), at_ms(100)];
    let records = (0..).zip(deadlines);
    let records = records.map(|(at, deadline)| record(port, at, 8, deadline));
    driver.step(Input::Records(records.collect()), at_ms(100), 0);
    assert_eq!(driver.calls.len(), 1);
    assert_eq!(driver.settled, [(2, Outcome::Refused(Cause::Expired))]);
}

#[test]
fn durable_records_are_spooled_before_any_call() {
    let mut rules = spooling(5, 1, 1_000);
    rules.spool = rules.spool.map(|rule| SpoolRule {
        first: true,
        ..rule
    });
    let mut driver = Driver::new(rules, limits(10, 1_000));
    driver.records(&[8, 8], at_ms(0), FAR);
    assert_eq!(driver.to_spool(0), [(0, 0), (1, 0)]);
    driver.spooled(0, true, at_ms(1));
    assert_eq!(driver.settled.len(), 2);
    assert!(driver.calls.is_empty() && driver.machine.is_idle());
}

#[test]
fn records_the_spool_refused_are_tried_until_their_deadline() {
    let mut driver = Driver::new(spooling(0, 1, 1_000), limits(10, 1_000));
    driver.records(&[8, 8], at_ms(0), at_ms(4_000));
    driver.complete(0, &[], at_ms(1_000), 0);
    driver.spooled(0, false, at_ms(1_001));
    assert_eq!(driver.numbers(0), [0, 1]);
    let call = driver.calls[0].0;
    assert_eq!(driver.machine.give_up_at(call, at_ms(1_001)), Mono::NEVER);
    driver.complete(0, &[OK, THROTTLED], at_ms(1_100), 0);
    assert_eq!(driver.settled, [(0, Outcome::Delivered)]);
    driver.step(Input::Tick, at_ms(1_200), 0);
    driver.complete(0, &[THROTTLED], at_ms(3_999), u64::MAX);
    assert_eq!(driver.settled[1], (1, Outcome::Refused(Cause::Throttled)));
    assert!(driver.spool.is_empty());
}

#[test]
fn stop_spools_what_no_call_has_confirmed() {
    let mut driver = Driver::new(spooling(0, 1, 1_000), limits(1, 1_000));
    driver.records(&[8, 8], at_ms(0), FAR);
    driver.step(Input::Stop, at_ms(1), 0);
    assert_eq!(driver.to_spool(0), [(1, 0)]);
    driver.complete(0, &[], at_ms(2), 0);
    assert_eq!(driver.to_spool(1), [(0, 1)]);
    driver.spooled(0, true, at_ms(3));
    driver.spooled(0, false, at_ms(3));
    assert_eq!(
        driver.settled,
        [
            (1, Outcome::Spooled),
            (0, Outcome::Refused(Cause::Shutdown))
        ]
    );
}

/// What the imagined destination did with a record.
#[derive(Default)]
struct Fate {
    stored: u32,
    sent: u32,
    flying: bool,
    said_delivered: bool,
    at_disk: bool,
    on_disk: bool,
    unspoolable: bool,
    settled: Option<Outcome>,
    deadline: Mono,
}

fn draw_result(random: &mut fastrand::Rng, trouble: u32) -> RecordResult {
    if random.u32(0..100) >= trouble {
        return OK;
    }
    match random.u32(0..10) {
        0..5 => THROTTLED,
        5 => RecordResult::Retry(Cause::Unavailable),
        6 => RecordResult::Retry(Cause::Unknown),
        7 => RecordResult::Retry(Cause::Invalid),
        8 => RecordResult::Retry(Cause::Denied),
        _ => RecordResult::Refused(Cause::TooLarge),
    }
}

fn run_schedule(seed: u64, port: &'static AckQueue) {
    let mut random = fastrand::Rng::with_seed(seed);
    let bounds = limits(random.usize(1..20), random.usize(50..400));
    let mut rules = settings(random.u64(0..20), random.usize(1..5));
    rules.spool = random.bool().then(|| SpoolRule {
        after: Duration::from_millis(random.u64(1..2_000)),
        first: random.u32(0..4) == 0,
    });
    let disk_trouble = random.choice([0, 20, 100]).unwrap();
    let trouble = random.choice([0, 5, 50, 100]).unwrap();
    let mut driver = Driver::new(rules, bounds);
    let mut fates: HashMap<u64, Fate> = HashMap::new();
    let mut in_flight_calls: Vec<(Mono, CallId, Vec<Record>)> = Vec::new();
    let mut at_disk: Vec<(Mono, Vec<ToSpool>)> = Vec::new();
    let mut now = Mono(0);
    let mut arrivals_left = random.u32(1..15);
    let stop_at = random.bool().then(|| Mono(random.u64(0..3_000_000)));
    let (mut drained, mut stopped, mut cut_short) = (false, false, false);

    loop {
        // What comes next: an arrival, an answer, a timer, or the end.
        let answer_at = in_flight_calls
            .iter()
            .map(|flight| flight.0)
            .min()
            .unwrap_or(Mono::NEVER);
        let timer_at = driver.machine.wake_at();
        let input = if arrivals_left > 0 && random.u32(0..3) == 0 {
            arrivals_left -= 1;
            let deadline = now + Duration::from_millis(random.u64(1..4_000));
            let first = fates.len() as u64;
            let count = random.u64(1..12);
            let records = (first..first + count)
                .map(|number| record(port, number, random.usize(8..bounds.bytes_max), deadline))
                .collect();
            for number in first..first + count {
                fates.insert(
                    number,
                    Fate {
                        deadline,
                        ..Fate::default()
                    },
                );
            }
            Input::Records(records)
        } else if random.u32(0..20) == 0 {
            let succeeded = random.bool();
            driver.step(Input::ReplaySent, now, 0);
            Input::ReplayEnded { succeeded }
        } else if !at_disk.is_empty() && random.u32(0..3) == 0 {
            let (at, records) = at_disk.swap_remove(random.usize(0..at_disk.len()));
            now = now.max(at);
            let kept = random.u32(0..100) >= disk_trouble;
            for ToSpool { record, .. } in &records {
                let fate = fates.get_mut(&number(record)).unwrap();
                (fate.at_disk, fate.on_disk, fate.unspoolable) = (false, kept, !kept);
            }
            Input::Spooled { records, kept }
        } else if arrivals_left == 0 && !drained && random.bool() {
            drained = true;
            Input::Drain
        } else if !stopped && stop_at.is_some_and(|stop_at| stop_at <= now) {
            stopped = true;
            drained = true;
            Input::Stop
        } else if answer_at != Mono::NEVER && (answer_at <= timer_at || random.bool()) {
            now = now.max(answer_at);
            let at = in_flight_calls
                .iter()
                .position(|flight| flight.0 == answer_at)
                .unwrap();
            let (_, call, records) = in_flight_calls.swap_remove(at);
            let mut results = Vec::new();
            for record in &records {
                let result = draw_result(&mut random, trouble);
                let fate = fates.get_mut(&number(record)).unwrap();
                fate.flying = false;
                fate.said_delivered = result == OK;
                fate.stored += u32::from(result == OK);
                results.push(result);
            }
            if random.u32(0..20) == 0 {
                // The answer is cut short: stored, but nobody was told.
                cut_short = true;
                for record in records.iter().skip(results.len() / 2) {
                    fates.get_mut(&number(record)).unwrap().said_delivered = false;
                }
                results.truncate(results.len() / 2);
            }
            Input::Completed {
                call,
                records,
                results,
            }
        } else if timer_at != Mono::NEVER {
            now = now.max(timer_at);
            Input::Tick
        } else if arrivals_left == 0 && in_flight_calls.is_empty() && at_disk.is_empty() && drained
        {
            break;
        } else {
            now = now + Duration::from_micros(random.u64(1..10_000));
            Input::Tick
        };
        driver.step(input, now, random.u64(..));

        for (call, records) in driver.calls.drain(..) {
            assert!(
                !records.is_empty() && records.len() <= bounds.records_max,
                "batch by count"
            );
            let bytes: usize = records.iter().map(Record::size).sum();
            assert!(bytes <= bounds.bytes_max, "batch of {bytes} bytes");
            for record in &records {
                let fate = fates.get_mut(&number(record)).unwrap();
                assert!(!fate.flying, "in two calls at once");
                assert!(!fate.at_disk, "sent while the spool has it");
                assert!(fate.settled.is_none(), "sent after it was settled");
                assert!(!fate.said_delivered, "sent again after it was confirmed");
                assert!(now < fate.deadline, "sent after its deadline");
                fate.flying = true;
                fate.sent += 1;
            }
            in_flight_calls.push((
                now + Duration::from_micros(random.u64(0..500_000)),
                call,
                records,
            ));
        }
        assert!(
            in_flight_calls.len() <= rules.in_flight_max,
            "too many calls at once"
        );
        for records in driver.spool.drain(..) {
            assert!(rules.spool.is_some(), "spooled without a spool");
            for ToSpool {
                record, attempts, ..
            } in &records
            {
                let fate = fates.get_mut(&number(record)).unwrap();
                assert!(!fate.at_disk && !fate.flying, "in two places at once");
                assert!(!fate.unspoolable, "spooled again after the disk refused it");
                assert!(!fate.said_delivered, "spooled after it was confirmed");
                assert_eq!(*attempts, fate.sent, "attempts are not the truth");
                fate.at_disk = true;
            }
            at_disk.push((now + Duration::from_micros(random.u64(0..50_000)), records));
        }
        for (number, outcome) in driver.settled.drain(..) {
            let fate = fates.get_mut(&number).unwrap();
            assert!(fate.settled.is_none(), "settled twice");
            assert!(!fate.flying, "settled while a call carries it");
            assert!(!fate.at_disk, "settled while the spool has it");
            assert_eq!(
                outcome == Outcome::Delivered,
                fate.said_delivered,
                "not the truth"
            );
            assert_eq!(outcome == Outcome::Spooled, fate.on_disk, "not on disk");
            fate.settled = Some(outcome);
        }
        // Nothing that could go out is kept: a free call and a due record never meet.
        if in_flight_calls.len() < rules.in_flight_max {
            assert!(driver.machine.wake_at() > now, "something due was left");
        }
    }

    assert!(driver.machine.is_idle(), "records left behind");
    let tally = driver.machine.tally();
    assert_eq!(tally.received, fates.len() as u64);
    for (number, fate) in &fates {
        assert!(fate.settled.is_some(), "record {number} was never settled");
        if fate.settled == Some(Outcome::Delivered) {
            assert!(
                fate.stored > 0,
                "record {number} is acknowledged and not stored"
            );
        }
    }
    if trouble == 0 && !cut_short {
        assert!(
            fates.values().all(|fate| fate.sent <= 1),
            "repeated without a failure"
        );
    }
}

#[test]
fn no_schedule_loses_repeats_or_misreports_a_record() {
    let port = AckQueue::leak();
    if let Ok(seed) = std::env::var("SLUICE_SEED") {
        return run_schedule(seed.parse().unwrap(), port);
    }
    let seeds = std::env::var("SLUICE_SEEDS").map_or(20_000, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let run = catch_unwind(AssertUnwindSafe(|| run_schedule(seed, port)));
        assert!(run.is_ok(), "failed with SLUICE_SEED={seed}");
    }
}
