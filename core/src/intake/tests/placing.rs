//! Fallbacks and groups.

use super::*;

/// Gives its records to the second output.
const FIRST: OutputRule = OutputRule {
    fallback: Some(OutputId(1)),
    ..RULE
};
/// Takes no records of its own.
const SECOND: OutputRule = OutputRule {
    is_default: false,
    ..RULE
};
const SPOOLING: OutputRule = OutputRule {
    spools: true,
    ..FIRST
};
const UNAVAILABLE: Outcome = Outcome::Refused(Cause::Unavailable);

fn opened(desk: &mut Desk, output: u16) {
    desk.state(writer(output, 0), CircuitState::Open, 0);
}

/// The outputs that got the records since the last look.
fn went_to(desk: &mut Desk) -> Vec<u16> {
    let submitted = std::mem::take(&mut desk.submitted);
    submitted
        .iter()
        .map(|(writer, ..)| writer.output.0)
        .collect()
}

fn requested(desk: &mut Desk) -> Vec<u16> {
    desk.request(1);
    went_to(desk)
}

fn keyed(key: &str) -> PreparedRecord {
    PreparedRecord {
        key: Some(Bytes::from(key.to_owned())),
        ..event(10)
    }
}

fn group(spread: Spread, members: u16) -> Vec<GroupRule> {
    let members = (0..members).map(|at| (OutputId(at), member_number(&at.to_string())));
    vec![GroupRule {
        members: members.collect(),
        spread,
        is_default: true,
    }]
}

#[test]
fn a_fallback_gets_records_while_the_circuit_is_open() {
    let mut desk = Desk::new(&[FIRST, SECOND]);
    assert_eq!(requested(&mut desk), [0]);
    opened(&mut desk, 0);
    assert_eq!(requested(&mut desk), [1]);
    // A probe still goes to the first one.
    desk.now = Mono(250_000);
    assert_eq!(
        (requested(&mut desk), requested(&mut desk)),
        (vec![0], vec![1])
    );
    desk.state(writer(0, 0), CircuitState::Closed, 0);
    assert_eq!(requested(&mut desk), [0]);
    assert_eq!((desk.tally(0).accepted, desk.tally(0).diverted), (3, 2));
    assert_eq!((desk.tally(1).accepted, desk.tally(1).diverted), (2, 0));
}

#[test]
fn a_record_refused_by_an_open_circuit_goes_to_the_fallback() {
    let mut desk = Desk::new(&[FIRST, SECOND]);
    let request = desk.request(1);
    opened(&mut desk, 0);
    desk.settle_next(UNAVAILABLE);
    assert_eq!(went_to(&mut desk), [0, 1]);
    assert_eq!(
        desk.resolution(request),
        None,
        "the fallback has not confirmed it"
    );
    desk.settle_next(Outcome::Delivered);
    assert_eq!(desk.resolution(request), Some(Ok(())));
    let first = desk.tally(0);
    assert_eq!(
        (first.accepted, first.refused.iter().sum(), first.diverted),
        (1, 1_u64, 1)
    );
    assert_eq!((desk.tally(1).accepted, desk.tally(1).delivered), (1, 1));
}

#[test]
fn a_record_refused_while_the_circuit_is_closed_stays_refused() {
    let mut desk = Desk::new(&[FIRST, SECOND]);
    let request = desk.request(1);
    desk.settle_next(UNAVAILABLE);
    assert_eq!(desk.resolution(request), Some(Err(ShedReason::Sink)));
    assert_eq!(went_to(&mut desk), [0]);
}

#[test]
fn a_record_that_is_invalid_goes_nowhere_else() {
    let mut desk = Desk::new(&[FIRST, SECOND]);
    let request = desk.request(1);
    opened(&mut desk, 0);
    desk.settle_next(Outcome::Refused(Cause::TooLarge));
    assert_eq!(desk.resolution(request), Some(Err(ShedReason::Sink)));
}

#[test]
fn a_probe_leaves_the_fallback_half_of_the_time() {
    let mut desk = Desk::new(&[FIRST, SECOND]);
    opened(&mut desk, 0);
    desk.now = Mono(1_000_000);
    desk.request(1);
    assert_eq!(desk.submitted[0].2, Mono(3_000_000));
    desk.settle_next(UNAVAILABLE);
    assert_eq!(desk.submitted[1].2, Mono(5_000_000));
}

#[test]
fn both_circuits_open_shed_or_spool() {
    let mut desk = Desk::new(&[FIRST, SECOND]);
    opened(&mut desk, 0);
    opened(&mut desk, 1);
    assert_eq!(desk.reason(10), Some(ShedReason::Circuit));
    let mut desk = Desk::new(&[SPOOLING, SECOND]);
    opened(&mut desk, 0);
    opened(&mut desk, 1);
    assert_eq!(requested(&mut desk), [0]);
}

#[test]
fn a_record_the_fallback_refuses_returns_to_the_spool() {
    let mut desk = Desk::new(&[SPOOLING, SECOND]);
    opened(&mut desk, 0);
    let request = desk.request(1);
    desk.settle_next(UNAVAILABLE);
    assert_eq!(went_to(&mut desk), [1, 0]);
    desk.settle_next(Outcome::Spooled);
    assert_eq!(desk.resolution(request), Some(Ok(())));
    // The disk failed, too: that is the end of it.
    let request = desk.request(1);
    desk.settle_next(UNAVAILABLE);
    desk.settle_next(UNAVAILABLE);
    assert_eq!(desk.resolution(request), Some(Err(ShedReason::Sink)));
    assert_eq!(went_to(&mut desk), [1, 0]);
}

#[test]
fn a_fallback_leaves_the_spool_half_of_the_time() {
    let mut desk = Desk::new(&[SPOOLING, SECOND]);
    opened(&mut desk, 0);
    desk.request(1);
    assert_eq!(desk.submitted[0].2, Mono(2_000_000));
    desk.now = Mono(2_000_000);
    desk.settle_next(Outcome::Refused(Cause::Expired));
    assert_eq!(desk.submitted[1].2, DEADLINE);
}

#[test]
fn a_full_fallback_gets_nothing_more() {
    let small = OutputRule {
        pending_bytes_max: 10,
        ..SECOND
    };
    let mut desk = Desk::new(&[FIRST, small]);
    opened(&mut desk, 0);
    assert_eq!(requested(&mut desk), [1]);
    assert_eq!(desk.reason(10), Some(ShedReason::Circuit));
}

#[test]
fn a_failing_fallback_hands_on_to_its_own() {
    let middle = OutputRule {
        fallback: Some(OutputId(2)),
        ..SECOND
    };
    let mut desk = Desk::new(&[FIRST, middle, SECOND]);
    opened(&mut desk, 0);
    opened(&mut desk, 1);
    assert_eq!(requested(&mut desk), [2]);
    // The middle one is tried, too, or nobody would learn that it works.
    desk.now = Mono(250_000);
    assert_eq!(
        (requested(&mut desk), requested(&mut desk)),
        (vec![0], vec![1])
    );
    desk.settle_next(UNAVAILABLE);
}

#[test]
fn an_event_routed_to_both_goes_to_the_fallback_once() {
    let small = OutputRule {
        pending_bytes_max: 20,
        ..SECOND
    };
    let mut desk = Desk::new(&[FIRST, small]);
    opened(&mut desk, 0);
    assert_eq!(requested(&mut desk), [1]);
    // There is room for one more, not for two.
    let mut record = event(10);
    record.routing = Some(Box::new(Routing {
        outputs: OutputSet::NONE.with(OutputId(0)).with(OutputId(1)),
        routes: Vec::new(),
    }));
    let request = desk.admit(vec![record]).unwrap();
    assert_eq!(went_to(&mut desk), [1]);
    desk.settle_next(Outcome::Delivered);
    assert_eq!(desk.resolution(request), None);
    desk.settle_next(Outcome::Delivered);
    assert_eq!(desk.resolution(request), Some(Ok(())));
}

#[test]
fn a_client_that_was_answered_has_nothing_moved() {
    let mut desk = Desk::new(&[FIRST, SECOND]);
    let request = desk.request(1);
    opened(&mut desk, 0);
    desk.intake.tick(DEADLINE);
    assert_eq!(desk.resolution(request), Some(Err(ShedReason::Deadline)));
    desk.intake.close(request);
    desk.settle_next(UNAVAILABLE);
    assert_eq!(went_to(&mut desk), [0]);
    assert_eq!(desk.intake.open_requests(), 0);
}

#[test]
fn a_group_fills_its_least_loaded_member() {
    let mut desk = Desk::grouped(&[SECOND; 3], group(Spread::LeastLoaded, 3));
    assert_eq!(requested(&mut desk), [0]);
    assert_eq!(requested(&mut desk), [1]);
    assert_eq!(requested(&mut desk), [2]);
    // The second has its record, the others wait for theirs.
    let (_, settlement) = desk.tickets.remove(1).settle(Outcome::Delivered);
    desk.settle(settlement);
    assert_eq!(requested(&mut desk), [1]);
}

#[test]
fn equally_loaded_members_of_a_group_take_turns() {
    let mut rules = [SECOND; 4];
    rules[3].is_default = true;
    let mut desk = Desk::grouped(&rules, group(Spread::LeastLoaded, 3));
    let mut went = Vec::new();
    for _ in 0..4 {
        // A request for another output is nobody's turn.
        let mut other = event(10);
        other.routing = Some(Box::new(Routing {
            outputs: OutputSet::NONE.with(OutputId(3)),
            routes: Vec::new(),
        }));
        desk.admit(vec![other]).unwrap();
        went_to(&mut desk);
        went.extend(requested(&mut desk).into_iter().filter(|at| *at < 3));
        while !desk.tickets.is_empty() {
            desk.settle_next(Outcome::Delivered);
        }
    }
    assert_eq!(went, [0, 1, 2, 0]);
}

#[test]
fn other_members_get_the_share_of_a_failing_one() {
    let mut desk = Desk::grouped(&[SECOND; 3], group(Spread::LeastLoaded, 3));
    let request = desk.request(1);
    opened(&mut desk, 0);
    desk.settle_next(UNAVAILABLE);
    assert_eq!(went_to(&mut desk), [0, 1]);
    desk.settle_next(Outcome::Delivered);
    assert_eq!(desk.resolution(request), Some(Ok(())));
    for _ in 0..6 {
        assert_ne!(requested(&mut desk), [0]);
    }
    desk.now = Mono(250_000);
    assert_eq!(requested(&mut desk), [0], "a probe");
    opened(&mut desk, 1);
    opened(&mut desk, 2);
    assert_eq!(desk.reason(10), Some(ShedReason::Circuit));
}

#[test]
fn a_key_stays_with_its_member_even_if_that_fails() {
    let mut desk = Desk::grouped(&[SECOND; 3], group(Spread::Hash, 3));
    let keys: Vec<String> = (0..60).map(|user| format!("u-{user}")).collect();
    let places = |desk: &mut Desk| -> Vec<Option<u16>> {
        let asked = keys.iter().map(|key| {
            let admitted = desk.admit(vec![keyed(key)]).is_ok();
            let place = went_to(desk);
            for _ in 0..desk.tickets.len() {
                desk.settle_next(Outcome::Delivered);
            }
            admitted.then(|| place[0])
        });
        asked.collect()
    };
    let before = places(&mut desk);
    assert!((0..3).all(|at| before.contains(&Some(at))));
    opened(&mut desk, 1);
    let after = places(&mut desk);
    for (before, after) in before.iter().zip(after) {
        // Its share is refused; the others' keys stay where they are.
        assert_eq!(after, before.filter(|at| *at != 1));
    }
}

#[test]
fn records_of_one_request_spread_by_their_keys() {
    let mut desk = Desk::grouped(&[SECOND; 2], group(Spread::Hash, 2));
    let records: Vec<_> = (0..20).map(|user| keyed(&format!("u-{user}"))).collect();
    desk.admit(records).unwrap();
    let mut places = went_to(&mut desk);
    places.sort_unstable();
    places.dedup();
    assert_eq!(places, [0, 1]);
}

#[test]
fn an_event_routed_to_a_group_goes_to_one_member() {
    let mut desk = Desk::grouped(&[RULE, SECOND, SECOND], {
        let mut groups = group(Spread::LeastLoaded, 3);
        groups[0].members.remove(0);
        groups[0].is_default = false;
        groups
    });
    assert_eq!(requested(&mut desk), [0]);
    let mut record = event(10);
    record.routing = Some(Box::new(Routing {
        outputs: OutputSet::NONE.with(OutputId(3)),
        routes: Vec::new(),
    }));
    desk.admit(vec![record]).unwrap();
    assert_eq!(went_to(&mut desk), [1]);
}
