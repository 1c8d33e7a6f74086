mod letters;
mod placing;
mod priorities;

use super::*;
use crate::ack::{Outcome, Settlement, Ticket, WriterState};
use crate::budget::ByteBudget;
use crate::circuit::CircuitState;
use crate::route::{DeliveryClass, Route, Routing};

const RULE: OutputRule = OutputRule {
    class: DeliveryClass::Required,
    pending_bytes_max: 1_000,
    adaptive_limit: None,
    retry_for: Duration::from_secs(60),
    keyed: true,
    by_topic: false,
    writers: 1,
    home: 0,
    probe_every: Duration::from_millis(250),
    spools: false,
    is_default: true,
    fallback: None,
};
const LATER: OutputRule = OutputRule {
    class: DeliveryClass::BestEffort,
    ..RULE
};
const ACK_DEADLINE: Duration = Duration::from_secs(4);
const DEADLINE: Mono = Mono(4_000_000);
const BOUNDS: RetryAfter = RetryAfter { min_s: 1, max_s: 9 };

struct Desk {
    intake: Intake,
    budget: ByteBudget,
    tickets: Vec<Ticket>,
    submitted: Vec<(WriterId, Option<Bytes>, Mono)>,
    now: Mono,
}

fn event(bytes: usize) -> PreparedRecord {
    PreparedRecord {
        index: 0,
        key: None,
        topic: None,
        payload: Bytes::from(vec![b'.'; bytes]),
        routing: None,
    }
}

fn writer(output: u16, number: u16) -> WriterId {
    WriterId {
        output: OutputId(output),
        number,
    }
}

impl Desk {
    fn new(rules: &[OutputRule]) -> Self {
        Desk::grouped(rules, Vec::new())
    }

    fn grouped(rules: &[OutputRule], groups: Vec<GroupRule>) -> Self {
        Desk::with(rules, groups, Shares::WHOLE)
    }

    fn with(rules: &[OutputRule], groups: Vec<GroupRule>, shares: Shares) -> Self {
        let settings = IntakeSettings {
            ack_deadline: ACK_DEADLINE,
            retry_after: BOUNDS,
            outputs: rules.to_vec(),
            groups,
            shares,
        };
        Desk {
            intake: Intake::new(crate::ack::tests::leaked(), settings),
            budget: ByteBudget::new(20_000),
            tickets: Vec::new(),
            submitted: Vec::new(),
            now: Mono(0),
        }
    }

    fn admit(&mut self, records: Vec<PreparedRecord>) -> Result<RequestKey, Shed> {
        let mut prepared = Prepared {
            received: records.len() as u32,
            records,
            ..Prepared::default()
        };
        self.admit_prepared(&mut prepared)
    }

    fn admit_prepared(&mut self, prepared: &mut Prepared) -> Result<RequestKey, Shed> {
        let permit = self.budget.try_reserve(100, None).unwrap();
        let submit = |writer, record: Record| {
            self.submitted.push((writer, record.key, record.deadline));
            self.tickets.push(record.ticket);
        };
        self.intake
            .admit(prepared, permit, Mono::NEVER, self.now, submit)
    }

    fn request(&mut self, events: usize) -> RequestKey {
        self.admit(vec![event(10); events]).unwrap()
    }

    fn reason(&mut self, bytes: usize) -> Option<ShedReason> {
        self.admit(vec![event(bytes)]).err().map(|shed| shed.reason)
    }

    fn settle(&mut self, settlement: Settlement) {
        let batch = AckBatch {
            settlements: vec![settlement],
            writer: None,
        };
        self.intake.settle(batch, self.now, |writer, record| {
            self.submitted.push((writer, record.key, record.deadline));
            self.tickets.push(record.ticket);
        });
    }

    fn settle_next(&mut self, outcome: Outcome) {
        let (_, settlement) = self.tickets.remove(0).settle(outcome);
        self.settle(settlement);
    }

    fn state(&mut self, writer: WriterId, circuit: CircuitState, throttled: u64) {
        let batch = AckBatch {
            settlements: Vec::new(),
            writer: Some(WriterState {
                writer,
                circuit,
                throttled,
            }),
        };
        self.intake.settle(batch, self.now, |writer, record| {
            self.submitted.push((writer, record.key, record.deadline));
            self.tickets.push(record.ticket);
        });
    }

    fn resolution(&mut self, request: RequestKey) -> Option<Result<(), ShedReason>> {
        match self.intake.poll_resolution(request, 100, Waker::noop()) {
            Poll::Pending => None,
            Poll::Ready(Resolution::Stored) => Some(Ok(())),
            Poll::Ready(Resolution::InDoubt(shed, _)) => Some(Err(shed.reason)),
        }
    }

    fn in_doubt(&mut self, request: RequestKey, listed_max: usize) -> InDoubt {
        match self
            .intake
            .poll_resolution(request, listed_max, Waker::noop())
        {
            Poll::Ready(Resolution::InDoubt(_, in_doubt)) => in_doubt,
            other => panic!("{other:?}"),
        }
    }

    fn tally(&self, output: usize) -> &OutputTally {
        self.intake.tallies().nth(output).unwrap()
    }

    /// The writers that got the last request.
    fn last_writers(&mut self) -> Vec<u16> {
        let submitted = std::mem::take(&mut self.submitted);
        submitted.iter().map(|(writer, ..)| writer.number).collect()
    }
}

const REFUSED: Outcome = Outcome::Refused(Cause::Throttled);

#[test]
fn a_request_is_stored_once_every_awaited_record_is() {
    let mut desk = Desk::new(&[RULE, RULE]);
    let request = desk.request(2);
    for _ in 0..4 {
        assert_eq!(desk.resolution(request), None);
        desk.settle_next(Outcome::Delivered);
    }
    assert_eq!(desk.resolution(request), Some(Ok(())));
}

#[test]
fn one_refused_record_refuses_the_settled_request() {
    let mut desk = Desk::new(&[RULE]);
    let request = desk.request(2);
    desk.settle_next(REFUSED);
    assert_eq!(desk.resolution(request), None);
    desk.settle_next(Outcome::Delivered);
    assert_eq!(desk.resolution(request), Some(Err(ShedReason::Sink)));
}

#[test]
fn a_spooled_record_is_stored_and_counted_apart() {
    let mut desk = Desk::new(&[RULE]);
    let request = desk.request(2);
    desk.settle_next(Outcome::Spooled);
    assert_eq!(desk.resolution(request), None);
    desk.settle_next(Outcome::Delivered);
    assert_eq!(desk.resolution(request), Some(Ok(())));
    let tally = desk.tally(0);
    assert_eq!((tally.delivered, tally.spooled, tally.pending), (1, 1, 0));
}

#[test]
fn an_expired_record_passed_its_deadline() {
    for cause in [Cause::Expired, Cause::Unknown] {
        let mut desk = Desk::new(&[RULE]);
        let request = desk.request(1);
        desk.settle_next(Outcome::Refused(cause));
        assert_eq!(desk.resolution(request), Some(Err(ShedReason::Deadline)));
    }
}

#[test]
fn a_best_effort_output_holds_the_permit_without_waiting() {
    let mut desk = Desk::new(&[LATER]);
    let request = desk.request(1);
    assert_eq!(desk.resolution(request), Some(Ok(())));
    assert_eq!(desk.submitted[0].2, Mono(60_000_000));
    desk.intake.close(request);
    assert_eq!(desk.budget.held(), 10 + RECORD_OVERHEAD_BYTES);
    desk.settle_next(REFUSED);
    assert_eq!(desk.budget.held(), 0);
    assert_eq!(desk.tally(0).refused[Cause::Throttled as usize], 1);
}

#[test]
fn results_after_the_deadline_are_still_counted() {
    let mut desk = Desk::new(&[RULE]);
    let request = desk.request(1);
    desk.intake.tick(Mono(DEADLINE.0 - 1));
    assert_eq!(desk.resolution(request), None);
    desk.intake.tick(DEADLINE);
    assert_eq!(desk.resolution(request), Some(Err(ShedReason::Deadline)));
    desk.intake.close(request);
    assert!(desk.budget.held() > 0);
    assert_eq!(desk.intake.open_requests(), 1);
    desk.settle_next(Outcome::Delivered);
    assert_eq!((desk.budget.held(), desk.intake.open_requests()), (0, 0));
    assert_eq!(desk.tally(0).delivered_late, 1);
}

#[test]
fn a_result_after_the_deadline_before_the_response_counts() {
    let mut desk = Desk::new(&[RULE]);
    let request = desk.request(1);
    desk.intake.tick(DEADLINE);
    desk.settle_next(Outcome::Delivered);
    assert_eq!(desk.resolution(request), Some(Ok(())));
}

#[test]
fn a_settlement_for_a_slot_that_was_reused_changes_nothing() {
    let mut desk = Desk::new(&[RULE]);
    let first = desk.request(1);
    let (_, stale) = desk.tickets.remove(0).settle(Outcome::Delivered);
    desk.settle(stale);
    desk.intake.close(first);
    let second = desk.request(1);
    assert_eq!(
        (second.slot, second.generation),
        (first.slot, first.generation + 1)
    );
    desk.settle(stale);
    assert_eq!(desk.resolution(second), None);
    assert_eq!(desk.tally(0).pending, 1);
}

#[test]
fn capacity_is_pending_bytes_per_output() {
    let small = OutputRule {
        pending_bytes_max: 30,
        ..RULE
    };
    let mut desk = Desk::new(&[RULE, small]);
    desk.request(2);
    assert_eq!(desk.reason(11), Some(ShedReason::Queue));
    assert_eq!(desk.tickets.len(), 4);
    assert_eq!(desk.reason(10), None);
    for _ in 0..6 {
        desk.settle_next(Outcome::Delivered);
    }
    // An idle output accepts any request.
    assert_eq!(desk.reason(2_000), None);
}

#[test]
fn records_beyond_the_byte_budget_are_shed() {
    let mut desk = Desk::new(&[OutputRule {
        pending_bytes_max: 100_000,
        ..RULE
    }]);
    desk.request(1);
    assert_eq!(desk.reason(19_800), Some(ShedReason::Budget));
    assert_eq!(desk.budget.held(), 10 + RECORD_OVERHEAD_BYTES);
    assert_eq!(desk.tally(0).pending, 1);
}

#[test]
#[should_panic(expected = "an event vanished")]
fn a_lost_event_panics_at_close() {
    let mut desk = Desk::new(&[RULE]);
    let mut prepared = Prepared {
        received: 2,
        records: vec![event(10)],
        ..Prepared::default()
    };
    let permit = desk.budget.try_reserve(1, None).unwrap();
    let submit = |_, record: Record| desk.tickets.push(record.ticket);
    let request = desk
        .intake
        .admit(&mut prepared, permit, Mono::NEVER, Mono(0), submit);
    desk.intake.close(request.unwrap());
}

#[test]
fn events_in_doubt_lack_an_awaited_confirmation() {
    let mut desk = Desk::new(&[RULE, LATER]);
    let request = desk.request(4);
    // Tickets come by event, and by output within it.
    for (awaited, best_effort) in [(true, false), (false, true), (true, true)] {
        for is_good in [awaited, best_effort] {
            desk.settle_next(if is_good { Outcome::Delivered } else { REFUSED });
        }
    }
    // Of the fourth nothing is known at the deadline.
    desk.intake.tick(DEADLINE);
    let in_doubt = desk.in_doubt(request, 100);
    assert_eq!((in_doubt.total, in_doubt.events), (2, vec![1, 3]));
    let bounded = desk.in_doubt(request, 1);
    assert_eq!((bounded.total, bounded.events), (2, vec![1]));
}

#[test]
fn an_event_goes_only_where_its_routing_says() {
    let mut desk = Desk::new(&[RULE, RULE, LATER]);
    let route = |output, key: &'static str, class| {
        let key = Some(Bytes::from_static(key.as_bytes()));
        let route = Route {
            key,
            topic: None,
            class,
        };
        (OutputId(output), route)
    };
    let mut record = event(10);
    record.key = Some(Bytes::from_static(b"usual"));
    record.routing = Some(Box::new(Routing {
        outputs: OutputSet::NONE.with(OutputId(0)).with(OutputId(2)),
        routes: vec![route(2, "own", Some(DeliveryClass::Required))],
    }));
    let request = desk.admit(vec![record]).unwrap();
    let keys = [(0, "usual"), (2, "own")];
    let keys = keys.map(|(output, key)| (writer(output, 0), Some(Bytes::from(key)), DEADLINE));
    assert_eq!(desk.submitted, keys);
    desk.settle_next(Outcome::Delivered);
    // The event waits for the output that is best effort otherwise.
    assert_eq!(desk.resolution(request), None);
    desk.settle_next(Outcome::Delivered);
    assert_eq!(desk.resolution(request), Some(Ok(())));
}

#[test]
fn an_open_circuit_admits_one_probe_at_a_time() {
    let mut desk = Desk::new(&[RULE]);
    desk.state(writer(0, 0), CircuitState::Open, 0);
    assert_eq!(desk.reason(10), Some(ShedReason::Circuit));
    desk.now = Mono(250_000);
    assert_eq!(desk.reason(10), None);
    assert_eq!(desk.reason(10), Some(ShedReason::Circuit));
    desk.now = Mono(500_000);
    assert_eq!(desk.reason(10), None);
    desk.state(writer(0, 0), CircuitState::HalfOpen, 0);
    assert_eq!(desk.reason(10), Some(ShedReason::Circuit));
    desk.state(writer(0, 0), CircuitState::Closed, 0);
    assert_eq!((desk.reason(10), desk.reason(10)), (None, None));
}

#[test]
fn the_next_probe_is_due_after_the_last_one_failed() {
    let mut desk = Desk::new(&[RULE]);
    desk.state(writer(0, 0), CircuitState::Open, 0);
    desk.now = Mono(250_000);
    assert_eq!(desk.reason(10), None);
    desk.now = Mono(700_000);
    desk.state(writer(0, 0), CircuitState::HalfOpen, 0);
    desk.state(writer(0, 0), CircuitState::Open, 0);
    desk.now = Mono(949_999);
    assert_eq!(desk.reason(10), Some(ShedReason::Circuit));
    desk.now = Mono(950_000);
    assert_eq!(desk.reason(10), None);
}

#[test]
fn a_request_without_the_failing_output_is_admitted() {
    let mut desk = Desk::new(&[RULE, RULE]);
    desk.state(writer(1, 0), CircuitState::Open, 0);
    let mut record = event(10);
    record.routing = Some(Box::new(Routing {
        outputs: OutputSet::NONE.with(OutputId(0)),
        routes: Vec::new(),
    }));
    assert!(desk.admit(vec![record.clone()]).is_ok());
    assert_eq!(desk.reason(10), Some(ShedReason::Circuit));
    // It was no probe either.
    desk.now = Mono(250_000);
    assert!(desk.admit(vec![record]).is_ok());
    assert_eq!(desk.reason(10), None);
}

#[test]
fn open_circuits_of_best_effort_and_spooling_outputs_shed_nothing() {
    let spooling = OutputRule {
        spools: true,
        ..RULE
    };
    for rule in [LATER, spooling] {
        let mut desk = Desk::new(&[rule]);
        desk.state(writer(0, 0), CircuitState::Open, 0);
        assert_eq!(desk.reason(10), None);
    }
}

#[test]
fn records_go_to_a_writer_whose_circuit_is_closed() {
    let mut desk = Desk::new(&[OutputRule {
        writers: 3,
        home: 1,
        ..RULE
    }]);
    let asked = |desk: &mut Desk| {
        assert_eq!(desk.reason(10), None);
        desk.last_writers()
    };
    assert_eq!(asked(&mut desk), [1]);
    desk.state(writer(0, 1), CircuitState::Open, 0);
    assert_eq!(asked(&mut desk), [2]);
    desk.state(writer(0, 2), CircuitState::Open, 0);
    assert_eq!(asked(&mut desk), [0]);
    // Its own writer gets to show now and then whether it still fails.
    desk.now = Mono(250_000);
    assert_eq!((asked(&mut desk), asked(&mut desk)), (vec![1], vec![0]));
    desk.state(writer(0, 1), CircuitState::Closed, 0);
    assert_eq!(asked(&mut desk), [1]);
}

#[test]
fn probes_try_all_writers_of_a_failing_output() {
    let mut desk = Desk::new(&[OutputRule {
        writers: 3,
        home: 1,
        ..RULE
    }]);
    for number in 0..3 {
        desk.state(writer(0, number), CircuitState::Open, 0);
    }
    let mut probed = Vec::new();
    for _ in 0..3 {
        desk.now = desk.now + RULE.probe_every;
        assert_eq!(desk.reason(10), None);
        assert_eq!(desk.reason(10), Some(ShedReason::Circuit));
        probed.append(&mut desk.last_writers());
    }
    assert_eq!(probed, [1, 2, 0]);
}

#[test]
fn throttling_heard_with_late_acks_lowers_the_capacity() {
    for throttled in [0, 1] {
        let mut desk = Desk::new(&[OutputRule {
            pending_bytes_max: 10 * CAPACITY_BYTES_MIN,
            adaptive_limit: Some(Duration::from_millis(100)),
            ..RULE
        }]);
        desk.request(1);
        desk.now = Mono(200_000);
        desk.settle_next(Outcome::Delivered);
        desk.state(writer(0, 0), CircuitState::Closed, throttled);
        desk.intake.tick(desk.now);
        let lowered = desk.tally(0).capacity_bytes == CAPACITY_BYTES_MIN;
        assert_eq!(lowered, throttled > 0);
    }
}

#[test]
fn retry_after_is_the_time_the_queue_takes_to_drain() {
    let mut desk = Desk::new(&[OutputRule {
        pending_bytes_max: 10_000,
        ..RULE
    }]);
    desk.admit(vec![event(900)]).unwrap();
    // Nothing was measured yet.
    assert_eq!(desk.intake.shed(ShedReason::Queue).retry_after, BOUNDS);
    desk.settle_next(Outcome::Delivered);
    // From here on 900 bytes a second.
    desk.intake.tick(Mono(1_000_000));
    for (pending, expected) in [(0, (1, 2)), (1, (1, 2)), (3, (3, 6)), (9, (5, 9))] {
        for _ in 0..pending {
            desk.admit(vec![event(900)]).unwrap();
        }
        let RetryAfter { min_s, max_s } = desk.intake.shed(ShedReason::Queue).retry_after;
        assert_eq!((min_s, max_s), expected, "{pending} s of records pending");
        assert_eq!(desk.intake.shed(ShedReason::Circuit).retry_after, BOUNDS);
        for _ in 0..pending {
            desk.settle_next(Outcome::Delivered);
        }
    }
}
