//! The delivery machine by itself: numbered records go to a destination that throttles, on a clock that the
//! program makes up. Run it with `cargo run -p sluice-core --example delivery`.
#![forbid(unsafe_code)]
// An example prints.
#![allow(clippy::print_stdout)]

use bytes::Bytes;
use sluice_core::ack::Outcome;
use sluice_core::cause::Cause;
use sluice_core::delivery::{Action, BatchLimits, Delivery, DeliverySettings, Input};
use sluice_core::record::{Record, RecordResult};
use sluice_core::retry::RetryPolicy;
use sluice_core::time::Mono;
use std::time::Duration;

/// What a record owes an answer to. Sluice uses a ticket that wakes a client's core; here it is a number.
type Obligation = usize;

fn main() {
    let settings = DeliverySettings {
        linger: Duration::from_millis(5),
        in_flight_max: 2,
        retry: RetryPolicy {
            base: Duration::from_millis(50),
            cap: Duration::from_secs(1),
        },
        circuit: None,
        spool: None,
        has_fallback: false,
    };
    let limits = BatchLimits {
        records_max: 100,
        bytes_max: 1 << 20,
        record_bytes_max: 1 << 16,
    };
    let mut machine: Delivery<Obligation> = Delivery::new(settings, limits);
    let mut now = Mono(0);
    let mut actions = Vec::new();
    let records = (0..1_000).map(|number| record(number, now + Duration::from_secs(4)));
    machine.step(Input::Records(records.collect()), now, 0, &mut actions);

    let (mut calls, mut delivered, mut refused) = (0_u64, 0, 0);
    loop {
        // An action may lead to an input, and that to more actions.
        while let Some(action) = actions.pop() {
            match action {
                Action::Send { call, records } => {
                    calls += 1;
                    let results = destination(calls, &records);
                    let done = Input::Completed {
                        call,
                        records,
                        results,
                    };
                    machine.step(done, now, scramble(calls), &mut actions);
                }
                Action::Delivered(records) => {
                    delivered += records.into_iter().map(settle).sum::<u64>();
                }
                Action::Settle(record, Outcome::Delivered) => delivered += settle(record),
                Action::Settle(record, _) => refused += settle(record),
                // Without a spool, nothing is to be put on disk.
                Action::Spool(_) | Action::CountRetry(_) => {}
            }
        }
        if machine.is_idle() {
            break;
        }
        // Nothing sleeps: the next moment at which something is due is now.
        now = machine.wake_at();
        machine.step(Input::Tick, now, scramble(now.0), &mut actions);
    }
    assert_eq!(
        (delivered, refused),
        (1_000, 0),
        "every record was settled once"
    );
    println!(
        "{delivered} records delivered by {calls} calls in {:?}",
        now.since(Mono(0))
    );
}

fn record(number: usize, deadline: Mono) -> Record<Obligation> {
    Record {
        key: None,
        topic: None,
        payload: Bytes::from(format!("{{\"number\":{number}}}")),
        deadline,
        ticket: number,
    }
}

/// Every third call throttles half of its records.
fn destination(call: u64, records: &[Record<Obligation>]) -> Vec<RecordResult> {
    let throttles = |at: usize| call.is_multiple_of(3) && at.is_multiple_of(2);
    let results = (0..records.len()).map(|at| match throttles(at) {
        true => RecordResult::Retry(Cause::Throttled),
        false => RecordResult::Delivered,
    });
    results.collect()
}

fn settle(record: Record<Obligation>) -> u64 {
    let _the_obligation: Obligation = record.ticket;
    1
}

/// Stands in for randomness, so that each run prints the same.
fn scramble(seed: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}

#[test]
fn every_record_is_settled_once() {
    main();
}
