//! Letters: what becomes of a request whose letters find no room.

use super::*;
use crate::letter::PreparedLetter;

const DEAD: u16 = 1;
const DEAD_RULE: OutputRule = OutputRule {
    is_default: false,
    ..RULE
};

fn letter(bytes: usize, is_taken: bool) -> PreparedLetter {
    let output = OutputId(DEAD);
    let class = match is_taken {
        true => DeliveryClass::Required,
        false => DeliveryClass::BestEffort,
    };
    let route = Route {
        class: Some(class),
        ..Route::default()
    };
    PreparedLetter {
        is_taken,
        record: PreparedRecord {
            routing: Some(Box::new(Routing {
                outputs: OutputSet::NONE.with(output),
                routes: vec![(output, route)],
            })),
            ..event(bytes)
        },
    }
}

/// Two good events, two letters of this size that were taken, and one about a refused event.
fn post(desk: &mut Desk, bytes: usize) -> Result<RequestKey, Shed> {
    let mut prepared = Prepared {
        received: 5,
        records: vec![event(10); 2],
        rejected: vec![(4, crate::reject::Reject::NoEvents)],
        letters: [true, true, false].map(|it| letter(bytes, it)).to_vec(),
        ..Prepared::default()
    };
    desk.admit_prepared(&mut prepared)
}

fn outputs(desk: &Desk) -> Vec<u16> {
    let submitted = desk.submitted.iter();
    submitted.map(|(writer, ..)| writer.output.0).collect()
}

#[test]
fn letters_go_to_their_output_after_the_records() {
    let mut desk = Desk::new(&[RULE, DEAD_RULE]);
    let request = post(&mut desk, 100).unwrap();
    assert_eq!(outputs(&desk), [0, 0, DEAD, DEAD, DEAD]);
    for _ in 0..3 {
        desk.settle_next(Outcome::Delivered);
    }
    assert_eq!(desk.resolution(request), None);
    desk.settle_next(Outcome::Delivered);
    // Nobody waits for the last one.
    assert_eq!(desk.resolution(request), Some(Ok(())));
    desk.settle_next(Outcome::Refused(Cause::Unavailable));
    assert_eq!(desk.intake.lost_letters().not_delivered, 1);
    desk.intake.close(request);
    assert_eq!(desk.intake.open_requests(), 0);
}

#[test]
fn letters_without_room_leave_their_neighbours_stored() {
    for is_full in [true, false] {
        let mut desk = Desk::new(&[RULE, DEAD_RULE]);
        if is_full {
            let mut one = Prepared {
                received: 1,
                letters: vec![letter(900, true)],
                ..Prepared::default()
            };
            desk.admit_prepared(&mut one).unwrap();
        } else {
            desk.state(writer(DEAD, 0), CircuitState::Open, 0);
        }
        let held: Vec<Ticket> = desk.tickets.drain(..).collect();
        desk.submitted.clear();
        let request = post(&mut desk, 100).unwrap();
        assert_eq!(outputs(&desk), [0, 0]);
        desk.settle_next(Outcome::Delivered);
        desk.settle_next(Outcome::Delivered);
        assert_eq!(desk.resolution(request), Some(Err(ShedReason::Sink)));
        let in_doubt = desk.in_doubt(request, 100);
        assert_eq!((in_doubt.total, in_doubt.events), (2, vec![2, 3]));
        assert_eq!(desk.intake.lost_letters().no_room, 1);
        desk.intake.close(request);
        drop(held);
    }
}

#[test]
fn one_event_whose_letter_has_no_room_is_in_doubt() {
    let mut desk = Desk::new(&[RULE, DEAD_RULE]);
    desk.state(writer(DEAD, 0), CircuitState::Open, 0);
    let mut one = Prepared {
        received: 1,
        letters: vec![letter(10, true)],
        ..Prepared::default()
    };
    let request = desk.admit_prepared(&mut one).unwrap();
    assert_eq!(desk.resolution(request), Some(Err(ShedReason::Sink)));
}

#[test]
fn letters_over_the_byte_budget_leave_the_records_taken() {
    let mut desk = Desk::new(&[
        RULE,
        OutputRule {
            pending_bytes_max: 1 << 20,
            ..DEAD_RULE
        },
    ]);
    // Alone, a request may have more than the budget.
    desk.request(1);
    let request = post(&mut desk, 10_000).unwrap();
    assert_eq!(outputs(&desk), [0, 0, 0]);
    for _ in 0..3 {
        desk.settle_next(Outcome::Delivered);
    }
    assert_eq!(desk.in_doubt(request, 100).events, [2, 3]);
    assert_eq!(desk.intake.lost_letters().no_room, 1);
}

#[test]
fn letters_of_a_request_that_is_shed_are_lost() {
    let mut desk = Desk::new(&[RULE, DEAD_RULE]);
    desk.state(writer(0, 0), CircuitState::Open, 0);
    assert!(post(&mut desk, 100).is_err());
    assert!(desk.submitted.is_empty());
    assert_eq!(desk.intake.lost_letters().no_room, 1);
}
