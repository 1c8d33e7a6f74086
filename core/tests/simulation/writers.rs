//! Writers: the shell around a delivery machine, its destination and its spool.

use super::*;

impl World {
    pub(super) fn take(&mut self, at: usize) {
        let writer = &mut self.writers[at];
        writer.take_at = Mono::NEVER;
        let mut arrived = Vec::new();
        while let Some(mut submission) = writer.queue.pop_front() {
            if let Some(record) = submission.first() {
                let cores = self.cores.iter();
                for (core, known) in cores.zip(&mut writer.ack_batches) {
                    known.0 |= std::ptr::eq(core.acks, record.ticket.acks());
                }
            }
            arrived.append(&mut submission);
        }
        if !arrived.is_empty() {
            self.input(at, Input::Records(arrived));
        }
    }

    /// A step of a writer's machine, and what its shell does.
    pub(super) fn input(&mut self, at: usize, input: Input) {
        let now = self.now;
        let mut actions = Vec::new();
        let ended = match &input {
            Input::Completed { results, .. } => Some(results.iter().any(|result| {
                use sluice_core::cause::Cause::{Invalid, Throttled, TooLarge};
                match result {
                    RecordResult::Delivered => true,
                    RecordResult::Retry(cause) | RecordResult::Refused(cause) => {
                        matches!(cause, Invalid | Throttled | TooLarge)
                    }
                }
            })),
            Input::ReplayEnded { succeeded } => Some(*succeeded),
            _ => None,
        };
        let tries = match &input {
            Input::Records(records) => {
                records.iter().any(|record| record.deadline > now)
                    && self.writers[at].tries_again(now)
            }
            _ => false,
        };
        self.writers[at].is_stopped |= matches!(&input, Input::Stop);
        if matches!(&input, Input::ReplaySent) || ended.is_some() {
            self.writers[at].moved_at = now;
        }
        if matches!(&input, Input::ReplaySent) {
            self.writers[at].unsuccessful_since.get_or_insert(now);
        }
        let was_failing = self.writers[at].machine.circuit().is_failing();
        self.writers[at]
            .machine
            .step(input, now, self.random.u64(..), &mut actions);
        self.writers[at].model_circuit(now, ended, was_failing);
        for action in actions {
            match action {
                Action::Send { call, records } => self.send(at, call, records),
                Action::Spool(records) => self.spool(at, records),
                Action::Settle(record, outcome) => self.settled(at, record, outcome),
                Action::Delivered(records) => {
                    for record in records {
                        self.settled(at, record, Outcome::Delivered);
                    }
                }
                Action::CountRetry(_) => {}
            }
        }
        assert!(
            !tries || !self.writers[at].calls.is_empty(),
            "nobody tries whether the destination is back"
        );
        self.flush_acks(at);
    }

    pub(super) fn send(&mut self, at: usize, id: CallId, records: Vec<Record>) {
        let now = self.now;
        let output = usize::from(self.writers[at].id.output.0);
        let limits = self.writers[at].limits;
        assert!(
            !records.is_empty() && records.len() <= limits.records_max,
            "a batch of {} records",
            records.len()
        );
        let bytes: usize = records.iter().map(Record::size).sum();
        assert!(bytes <= limits.bytes_max, "a batch of {bytes} bytes");
        for record in &records {
            let fate_at = self.fate_at(record, output);
            let fate = &mut self.fates[fate_at];
            assert!(!fate.in_flight, "in two calls at once");
            assert!(!fate.settled, "sent after it was settled");
            assert!(!fate.said_delivered, "sent again after it was confirmed");
            assert!(now < fate.deadline, "sent after its deadline");
            fate.in_flight = true;
        }
        let writer = &mut self.writers[at];
        let number = usize::from(writer.id.number);
        let call = self.destinations[output].call(now, number, &mut self.random);
        let gives_up_at = writer.machine.give_up_at(id, now);
        let answered_at = now + call.takes;
        writer.calls.push(InFlight {
            ends_at: answered_at.min(gives_up_at),
            id,
            records,
            call,
            given_up: gives_up_at < answered_at,
        });
        assert!(
            writer.calls.len() <= writer.settings.in_flight_max,
            "too many calls at once"
        );
        writer.moved_at = now;
        writer.unsuccessful_since.get_or_insert(now);
    }

    pub(super) fn call_ended(&mut self, at: usize, call: usize) {
        self.take(at);
        let output = usize::from(self.writers[at].id.output.0);
        let in_flight = self.writers[at].calls.swap_remove(call);
        let numbers: Vec<u32> = in_flight.records.iter().map(event_number).collect();
        let mut results =
            self.destinations[output].results(&in_flight.call, &numbers, &mut self.random);
        if in_flight.given_up {
            results.clear();
        }
        for (at, record) in in_flight.records.iter().enumerate() {
            let fate_at = self.fate_at(record, output);
            let fate = &mut self.fates[fate_at];
            fate.in_flight = false;
            fate.said_delivered = results.get(at) == Some(&RecordResult::Delivered);
        }
        self.writers[at].moved_at = self.now;
        let fates: Vec<usize> = in_flight
            .records
            .iter()
            .map(|it| self.fate_at(it, output))
            .collect();
        self.input(
            at,
            Input::Completed {
                call: in_flight.id,
                records: in_flight.records,
                results,
            },
        );
        let writer = &self.writers[at];
        if writer.machine.circuit().is_failing() && writer.settings.spool.is_none() {
            for fate in fates.iter().map(|at| &self.fates[*at]) {
                let waits = fate.deadline <= self.now + ACK_DEADLINE;
                assert!(
                    fate.settled || !waits,
                    "a client waits for a retry that will most likely fail"
                );
            }
        }
    }

    pub(super) fn spool(&mut self, at: usize, records: Vec<ToSpool>) {
        let output = usize::from(self.writers[at].id.output.0);
        for record in &records {
            let fate = &self.fates[self.fate_at(&record.record, output)];
            assert!(!fate.in_flight && !fate.settled, "spooled while under way");
        }
        let mut records = records;
        for priority in Priority::ALL.into_iter().rev() {
            let is_of = |of: &mut ToSpool| of.record.ticket.priority() == priority;
            let part: Vec<ToSpool> = records.extract_if(.., is_of).collect();
            if part.is_empty() {
                continue;
            }
            let fails = self.now < self.faults_end && self.random.u8(0..10) == 0;
            let ends_at = self.now + ms(self.random.u64(0..30));
            self.writers[at].appends.push((ends_at, !fails, part));
        }
    }

    pub(super) fn appended(&mut self, at: usize, append: usize) {
        self.take(at);
        let output = usize::from(self.writers[at].id.output.0);
        let (_, works, records) = self.writers[at].appends.swap_remove(append);
        let writer = &self.writers[at];
        let priority = records[0].record.ticket.priority();
        let disk_max = self.share(priority, writer.disk_max as u64);
        let kept = works && (writer.on_disk.len() + records.len()) as u64 <= disk_max;
        if kept {
            let numbers = records.iter().map(|record| event_number(&record.record));
            self.writers[at].on_disk.extend(numbers);
        }
        for record in &records {
            let fate_at = self.fate_at(&record.record, output);
            self.fates[fate_at].said_kept = kept;
        }
        if self.writers[at].is_alive {
            self.input(at, Input::Spooled { records, kept });
        }
    }

    /// Sends some records from the disk; how they fare, the circuit learns.
    pub(super) fn replay(&mut self, at: usize) {
        let output = usize::from(self.writers[at].id.output.0);
        let number = usize::from(self.writers[at].id.number);
        let count = self.random.usize(1..8).min(self.writers[at].on_disk.len());
        let batch: Vec<u32> = self.writers[at].on_disk[..count].to_vec();
        let call = self.destinations[output].call(self.now, number, &mut self.random);
        let results = self.destinations[output].results(&call, &batch, &mut self.random);
        let mut results = results.iter();
        let writer = &mut self.writers[at];
        let mut place = 0;
        let mut has_succeeded = false;
        writer.on_disk.retain(|_| {
            place += 1;
            let is_done = place <= count && results.next() == Some(&RecordResult::Delivered);
            has_succeeded |= is_done;
            !is_done
        });
        writer.replay_at = self.now + ms(self.random.u64(5..100));
        if writer.is_alive {
            self.input(at, Input::ReplaySent);
            let succeeded = has_succeeded;
            self.input(at, Input::ReplayEnded { succeeded });
        }
    }

    pub(super) fn settled(&mut self, at: usize, record: Record, outcome: Outcome) {
        let output = usize::from(self.writers[at].id.output.0);
        let fate_at = self.fate_at(&record, output);
        let fate = &mut self.fates[fate_at];
        assert!(!fate.settled, "settled twice");
        assert!(!fate.in_flight, "settled while a call carries it");
        let is_delivered = outcome == Outcome::Delivered;
        assert_eq!(is_delivered, fate.said_delivered, "not what was said");
        if outcome == Outcome::Spooled {
            assert!(fate.said_kept, "spooled, and the disk does not have it");
        }
        fate.settled = true;
        let acks = record.ticket.acks();
        let core = self
            .cores
            .iter()
            .position(|core| std::ptr::eq(core.acks, acks));
        let (_, settlement) = record.ticket.settle(outcome);
        self.writers[at].ack_batches[core.unwrap()]
            .1
            .push(settlement);
    }

    pub(super) fn flush_acks(&mut self, at: usize) {
        let writer = &mut self.writers[at];
        let circuit = writer.machine.circuit();
        let has_changed = circuit != writer.circuit;
        writer.circuit = circuit;
        let state = WriterState {
            writer: writer.id,
            circuit,
            throttled: writer.machine.throttled(),
        };
        for (core, (is_known, batch)) in self.cores.iter_mut().zip(&mut writer.ack_batches) {
            if batch.is_empty() && !(has_changed && *is_known) {
                continue;
            }
            core.acks.send(AckBatch {
                settlements: std::mem::take(batch),
                writer: Some(state),
            });
            let delay = Duration::from_micros(self.random.u64(0..3_000));
            core.hear_at = core.hear_at.min(self.now + delay);
        }
    }

    pub(super) fn all_writers(&mut self, input: impl Fn() -> Input) {
        for at in 0..self.writers.len() {
            if self.writers[at].is_alive {
                self.take(at);
                self.input(at, input());
            }
        }
    }

    /// A writer dies with everything it holds.
    pub(super) fn death(&mut self) {
        self.die_at = Mono::NEVER;
        self.has_died = true;
        let at = self.random.usize(0..self.writers.len());
        let writer = &mut self.writers[at];
        writer.is_alive = false;
        writer.take_at = Mono::NEVER;
        writer.queue.clear();
        writer.calls.clear();
        writer.appends.clear();
        writer.machine = machine(writer.settings, writer.limits, writer.has_lanes);
        for core in &mut self.cores {
            core.hear_at = core.hear_at.min(self.now + ms(1));
        }
    }
}

pub(super) fn machine(
    settings: DeliverySettings,
    limits: BatchLimits,
    has_lanes: bool,
) -> Delivery {
    let mut machine = Delivery::new(settings, limits);
    if has_lanes {
        machine.set_lanes(|record| Some(LaneId(event_number(record) % SHARDS)));
    }
    machine
}

impl Writer {
    pub(super) fn new(
        id: WriterId,
        settings: DeliverySettings,
        limits: BatchLimits,
        cores: usize,
        random: &mut Rng,
    ) -> Writer {
        let has_lanes = random.bool();
        Writer {
            id,
            is_alive: true,
            machine: machine(settings, limits, has_lanes),
            has_lanes,
            settings,
            limits,
            queue: VecDeque::new(),
            take_at: Mono::NEVER,
            calls: Vec::new(),
            appends: Vec::new(),
            on_disk: Vec::new(),
            disk_max: random.usize(0..40),
            replay_at: Mono::default(),
            ack_batches: vec![(false, Vec::new()); cores],
            circuit: CircuitState::Closed,
            failures: 0,
            is_stopped: false,
            unsuccessful_since: None,
            moved_at: Mono::default(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty()
            && self.calls.is_empty()
            && self.appends.is_empty()
            && (!self.is_alive || self.machine.is_idle())
    }

    /// When a circuit may open, and when it has to.
    pub(super) fn model_circuit(&mut self, now: Mono, ended: Option<bool>, was_failing: bool) {
        let is_failing = self.machine.circuit().is_failing();
        let Some(rule) = self.settings.circuit else {
            assert!(!is_failing, "a circuit that is off has opened");
            return;
        };
        let is_over =
            |since: Option<Mono>| since.is_some_and(|since| now >= since + rule.open_after);
        self.failures = match ended {
            Some(true) => 0,
            Some(false) => self.failures + 1,
            None => self.failures,
        };
        let are_many = rule.failures_max.is_some_and(|most| self.failures >= most);
        let could_open = is_over(self.unsuccessful_since) || are_many;
        if is_failing && !was_failing {
            assert!(could_open, "the circuit opened too early");
        }
        match ended {
            Some(true) => {
                // A call that is sent within the same step counts from now on.
                self.unsuccessful_since = (!self.calls.is_empty()).then_some(now);
                assert!(!is_failing, "the circuit stayed open after a success");
            }
            Some(false) => assert_eq!(
                is_failing,
                was_failing || could_open,
                "calls failed for long and the circuit is closed"
            ),
            None => assert!(
                !was_failing || is_failing,
                "the circuit closed without a success"
            ),
        }
    }

    /// Whether it has not heard of a failing destination for long, and spools all that comes.
    fn tries_again(&self, now: Mono) -> bool {
        self.machine.circuit() == CircuitState::Open
            && self.settings.spool.is_some_and(|rule| !rule.first)
            && now >= self.moved_at + PROBE_EVERY
            && !self.is_stopped
    }

    pub(super) fn check(&self, now: Mono) {
        let held: usize = self.calls.iter().map(|call| call.records.len()).sum();
        let appends: usize = self.appends.iter().map(|(.., records)| records.len()).sum();
        assert!(held + appends <= self.machine.held());
        // A due record and a free call never meet.
        if self.calls.len() < self.settings.in_flight_max {
            assert!(self.machine.wake_at() >= now, "something due was left");
        }
        // Calls that do not end open the circuit, too.
        if let (Some(rule), Some(since), false) = (
            self.settings.circuit,
            self.unsuccessful_since,
            self.calls.is_empty(),
        ) {
            let opens_at = (since + rule.open_after).max(self.moved_at + rule.open_after / 4);
            assert!(
                now <= opens_at || self.machine.circuit().is_failing(),
                "calls hang and the circuit is closed"
            );
        }
    }
}
