//! What requests of each priority may fill.

use super::*;
use crate::letter::PreparedLetter;

const SHARES: Shares = Shares {
    low_percent: 50,
    mid_percent: 80,
};

/// Low, low that nobody sends again, mid, the same, high: each with its share of 1,000 bytes.
const SHARE_OF: [(Priority, bool, usize); 5] = [
    (Priority::Low, false, 500),
    (Priority::Low, true, 800),
    (Priority::Mid, false, 800),
    (Priority::Mid, true, 1_000),
    (Priority::High, false, 1_000),
];

impl Desk {
    fn sharing(rules: &[OutputRule]) -> Desk {
        Desk::with(rules, Vec::new(), SHARES)
    }

    fn ask(&mut self, bytes: usize, priority: Priority) -> Option<ShedReason> {
        self.ask_for(bytes, priority, false)
    }

    fn ask_for(
        &mut self,
        bytes: usize,
        priority: Priority,
        is_unrepeatable: bool,
    ) -> Option<ShedReason> {
        let mut prepared = Prepared {
            received: 1,
            records: vec![event(bytes)],
            priority: match is_unrepeatable {
                true => priority.raised(),
                false => priority,
            },
            ..Prepared::default()
        };
        let admitted = self.admit_prepared(&mut prepared);
        admitted.err().map(|shed| shed.reason)
    }
}

#[test]
fn a_priority_is_shed_beyond_its_share_of_the_queue() {
    for (priority, is_unrepeatable, share) in SHARE_OF {
        let mut desk = Desk::sharing(&[RULE]);
        assert_eq!(desk.ask(300, Priority::Low), None);
        let mut ask = |bytes| desk.ask_for(bytes, priority, is_unrepeatable);
        assert_eq!(ask(share - 299), Some(ShedReason::Queue));
        assert_eq!(ask(share - 300), None);
        assert_eq!(ask(1), Some(ShedReason::Queue), "{priority:?}");
    }
}

#[test]
fn low_is_shed_where_others_have_filled_its_share() {
    let mut desk = Desk::sharing(&[RULE]);
    assert_eq!(desk.ask(500, Priority::High), None);
    assert_eq!(desk.ask(1, Priority::Low), Some(ShedReason::Queue));
    assert_eq!(desk.ask(300, Priority::Mid), None);
    assert_eq!(desk.ask(200, Priority::High), None);
}

#[test]
fn an_idle_output_takes_a_request_over_its_share() {
    let mut desk = Desk::sharing(&[RULE]);
    assert_eq!(desk.ask(700, Priority::Low), None);
    assert_eq!(desk.ask(1, Priority::Low), Some(ShedReason::Queue));
    assert_eq!(desk.ask(300, Priority::High), None);
}

#[test]
fn requests_without_a_priority_count_as_mid() {
    let mut desk = Desk::sharing(&[RULE]);
    assert_eq!(desk.reason(700), None);
    assert_eq!(desk.reason(101), Some(ShedReason::Queue));
    assert_eq!(desk.reason(100), None);
}

#[test]
fn priorities_share_the_byte_budget() {
    // Of 20,000 bytes, with 160 for each record.
    const WIDE: OutputRule = OutputRule {
        pending_bytes_max: 1 << 20,
        ..RULE
    };
    for (priority, share) in [
        (Priority::Low, 10_000),
        (Priority::Mid, 16_000),
        (Priority::High, 20_000),
    ] {
        let mut desk = Desk::sharing(&[WIDE]);
        assert_eq!(desk.ask(4_840, Priority::High), None);
        let rest = share - 5_000 - 160;
        assert_eq!(desk.ask(rest + 1, priority), Some(ShedReason::Budget));
        assert_eq!(desk.ask(rest, priority), None);
        assert_eq!(desk.budget.held(), share as u64);
    }
}

#[test]
fn a_fallback_takes_no_more_of_low_than_its_share() {
    let first = OutputRule {
        fallback: Some(OutputId(1)),
        ..RULE
    };
    let second = OutputRule {
        is_default: false,
        ..RULE
    };
    for (priority, moves) in [(Priority::Low, false), (Priority::High, true)] {
        let mut desk = Desk::sharing(&[first, second]);
        // Given to the first, which opens its circuit; then the second fills up.
        assert_eq!(desk.ask(10, priority), None);
        desk.state(writer(0, 0), CircuitState::Open, 0);
        assert_eq!(desk.ask(495, Priority::High), None);
        desk.submitted.clear();
        desk.settle_next(Outcome::Refused(Cause::Unavailable));
        assert_eq!(desk.submitted.len(), usize::from(moves));
        // A moved record has its priority with it.
        if moves {
            assert_eq!(desk.tickets.last().unwrap().priority(), priority);
        }
    }
}

#[test]
fn tickets_have_the_priority_that_was_admitted() {
    for (priority, is_unrepeatable, _) in SHARE_OF {
        let mut desk = Desk::sharing(&[RULE]);
        assert_eq!(desk.ask_for(10, priority, is_unrepeatable), None);
        let expected = match is_unrepeatable {
            true => priority.raised(),
            false => priority,
        };
        assert_eq!(desk.tickets[0].priority(), expected);
    }
}

#[test]
fn letters_share_as_their_records_do_unless_the_output_was_idle() {
    for (before, submitted) in [(0, 2), (50, 2), (150, 1)] {
        let mut desk = Desk::sharing(&[RULE]);
        if before > 0 {
            assert_eq!(desk.ask(before, Priority::High), None);
        }
        let size = if before == 0 { 900 } else { 150 };
        let mut prepared = Prepared {
            received: 2,
            records: vec![event(250)],
            letters: vec![PreparedLetter {
                is_taken: true,
                record: event(size),
            }],
            priority: Priority::Low,
            ..Prepared::default()
        };
        desk.submitted.clear();
        assert!(desk.admit_prepared(&mut prepared).is_ok());
        assert_eq!(desk.submitted.len(), submitted, "{before}");
    }
}
