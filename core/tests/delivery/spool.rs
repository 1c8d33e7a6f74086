//! When records go to the spool, and what comes back from it.

use super::*;

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
