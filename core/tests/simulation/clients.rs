//! Requests of the clients, and what a core may do with them.

use super::*;

impl World {
    pub(super) fn client(&mut self, at: usize) {
        let now = self.now;
        let client = &mut self.clients[at];
        let Some(waiting) = &mut client.waiting else {
            return self.send_request(at);
        };
        let core = &mut self.cores[client.core];
        if !waiting.flag.0.swap(false, Ordering::Relaxed) {
            // It leaves, and nobody tells it.
            core.intake.close(waiting.key);
            client.waiting = None;
            client.done = true;
            return;
        }
        let waker = Waker::from(Arc::clone(&waiting.flag));
        let Poll::Ready(resolution) = core.intake.poll_resolution(waiting.key, 2, &waker) else {
            return;
        };
        core.intake.close(waiting.key);
        assert!(
            now <= waiting.deadline + TICK,
            "answered after the deadline"
        );
        client.waiting = None;
        match resolution {
            Resolution::Stored => {
                let events = std::mem::take(&mut client.events);
                client.next_at = now + ms(self.random.u64(0..400));
                for event in &events {
                    self.assert_stored(event);
                }
            }
            Resolution::InDoubt(shed, in_doubt) => {
                assert!(in_doubt.total as usize <= client.events.len());
                assert!(in_doubt.events.len() <= 2);
                self.retry_later(at, shed);
            }
        }
    }

    /// The promise of a 200.
    pub(super) fn assert_stored(&self, event: &Event) {
        for (output, rule) in self.rules.iter().enumerate() {
            if !goes_to(event, output) || !class(event, output, rule).is_awaited() {
                continue;
            }
            let is_stored = self.destinations[output].has(event.number);
            let writers = self.writers.iter();
            let mut of_output = writers.filter(|it| usize::from(it.id.output.0) == output);
            assert!(
                is_stored || of_output.any(|it| it.on_disk.contains(&event.number)),
                "event {} was acknowledged and is nowhere",
                event.number
            );
        }
    }

    pub(super) fn retry_later(&mut self, at: usize, shed: Shed) {
        let RetryAfter { min_s, max_s } = shed.retry_after;
        assert!(
            RETRY_AFTER.min_s <= min_s && min_s <= max_s && max_s <= RETRY_AFTER.max_s,
            "Retry-After is out of bounds"
        );
        let client = &mut self.clients[at];
        let wait = match client.heeds_retry_after {
            true => Duration::from_secs(self.random.u32(min_s..=max_s).into()),
            false => ms(self.random.u64(1..300)),
        };
        client.next_at = self.now + wait;
        // Some give up, and so do all once the program ends, or when a dead writer will never take anything.
        let is_hopeless = self.stopped || (self.has_died && self.now > self.faults_end);
        client.done = is_hopeless || self.random.u8(0..50) == 0;
    }

    pub(super) fn send_request(&mut self, at: usize) {
        let now = self.now;
        let random = &mut self.random;
        let client = &mut self.clients[at];
        if client.events.is_empty() {
            if self.stopped || now > self.faults_end + ms(500) {
                client.done = true;
                return;
            }
            for _ in 0..random.usize(1..4) {
                let routing = (random.u8(0..5) == 0).then(|| routing(random, self.rules.len()));
                client.events.push(Event {
                    number: self.events,
                    bytes: random.usize(8..200),
                    routing,
                });
                self.events += 1;
            }
        }
        let core = &mut self.cores[client.core];
        let Some(permit) = core.budget.try_reserve(50, None) else {
            let shed = core.intake.shed(ShedReason::Budget);
            return self.retry_later(at, shed);
        };
        let rejected = random.u32(0..2);
        let mut prepared = Prepared::default();
        prepared.received = client.events.len() as u32 + rejected;
        let invalid = (0..rejected).map(|at| (at, Reject::NoEvents));
        prepared.rejected.extend(invalid);
        for event in &client.events {
            let mut payload = self.submissions.to_be_bytes().to_vec();
            payload.extend(event.number.to_be_bytes());
            payload.resize(event.bytes, b'.');
            prepared.records.push(PreparedRecord {
                index: 0,
                key: None,
                topic: None,
                payload: Bytes::from(payload),
                routing: event.routing.clone().map(Box::new),
            });
            self.submissions += 1;
        }
        let before: Vec<OutputTally> = core.intake.tallies().copied().collect();
        let held = core.budget.held();
        let deadline = now + ACK_DEADLINE;
        let mut submitted = Vec::new();
        let submit = |writer, record| submitted.push((writer, record));
        let admitted = core
            .intake
            .admit(&mut prepared, permit, deadline, now, submit);
        let events = client.events.clone();
        let core_at = client.core;
        match admitted {
            Ok(key) => {
                let flag = Arc::new(Flag(AtomicBool::new(true)));
                client.waiting = Some(Waiting {
                    key,
                    flag,
                    deadline,
                    leaves_at: match random.u8(0..20) {
                        0 => now + ms(random.u64(0..1_500)),
                        _ => Mono::NEVER,
                    },
                });
                let bytes: u64 = events.iter().map(|event| event.bytes as u64).sum();
                let expected = held - 50 + bytes + OVERHEAD * events.len() as u64;
                assert_eq!(
                    core.budget.held(),
                    expected,
                    "the byte budget counts records"
                );
                assert!(
                    expected <= core.budget.limit() || held == 50,
                    "admitted over the byte budget"
                );
                self.submitted(core_at, submitted, &events);
                self.check_admission(core_at, &events, &before);
            }
            Err(shed) => {
                assert!(submitted.is_empty(), "a shed request was submitted");
                let is_full = self.full_output(&events, &before).is_some();
                match shed.reason {
                    ShedReason::Queue => assert!(is_full, "shed with room left"),
                    ShedReason::Circuit => self.check_refusal(core_at, &events),
                    _ => {}
                }
                self.retry_later(at, shed);
            }
        }
    }

    /// The first output without room for the events.
    pub(super) fn full_output(&self, events: &[Event], before: &[OutputTally]) -> Option<usize> {
        (0..self.rules.len()).find(|output| {
            let tally = &before[*output];
            let events = events.iter().filter(|event| goes_to(event, *output));
            let bytes: usize = events.map(|event| event.bytes).sum();
            bytes > 0
                && tally.pending > 0
                && tally.pending_bytes + bytes as u64 > tally.capacity_bytes
        })
    }

    /// Outputs that the events wait for, and that have failed for long as far as the core knows.
    pub(super) fn failing(&self, core: usize, events: &[Event]) -> impl Iterator<Item = usize> {
        let core = &self.cores[core];
        let is_failing = |output: &usize| {
            let rule = &self.rules[*output];
            let mut events = events.iter().filter(|event| goes_to(event, *output));
            core.heard[*output].is_failing()
                && !rule.spools
                && events.any(|event| class(event, *output, rule).is_awaited())
        };
        let failing: Vec<usize> = (0..self.rules.len()).filter(is_failing).collect();
        failing.into_iter()
    }

    pub(super) fn check_admission(
        &mut self,
        core: usize,
        events: &[Event],
        before: &[OutputTally],
    ) {
        if let Some(output) = self.full_output(events, before) {
            panic!("admitted over the bound of output {output}");
        }
        for output in self.failing(core, events) {
            let since = self.cores[core].heard[output].probe_clock;
            assert!(
                self.now >= since + self.rules[output].probe_every,
                "more than a trickle was admitted to a failing output"
            );
        }
        // Whatever goes to a failing output is a probe, be it awaited or not.
        for output in 0..self.rules.len() {
            let heard = &mut self.cores[core].heard[output];
            let is_due = self.now >= heard.probe_clock + self.rules[output].probe_every;
            if is_due && heard.is_failing() && events.iter().any(|event| goes_to(event, output)) {
                heard.probe_clock = self.now;
            }
        }
    }

    /// A request was shed because of an open circuit.
    pub(super) fn check_refusal(&self, core: usize, events: &[Event]) {
        let mut failing = self.failing(core, events).peekable();
        assert!(failing.peek().is_some(), "shed although a writer may work");
        let heard = &self.cores[core].heard;
        let not_due =
            |output: usize| self.now < heard[output].probe_clock + self.rules[output].probe_every;
        assert!(failing.any(not_due), "a probe was due");
    }

    pub(super) fn submitted(
        &mut self,
        core: usize,
        submitted: Vec<(WriterId, Record)>,
        events: &[Event],
    ) {
        let expected = events.iter().map(|event| {
            let outputs = 0..self.rules.len();
            outputs.filter(|output| goes_to(event, *output)).count()
        });
        assert_eq!(submitted.len(), expected.sum::<usize>());
        for (writer, record) in submitted {
            let output = usize::from(writer.output.0);
            let at = self.fate_at(&record, output);
            if self.fates.len() <= at {
                self.fates.resize(at + 1, Fate::default());
            }
            self.fates[at] = Fate {
                event: event_number(&record),
                deadline: record.deadline,
                ..Fate::default()
            };
            self.cores[core].gathered[output][usize::from(writer.number)].push(record);
        }
    }
}

fn routing(random: &mut Rng, outputs: usize) -> Routing {
    let mut set = OutputSet::NONE.with(OutputId(random.u16(0..outputs as u16)));
    if random.bool() {
        set = OutputSet::ALL;
    }
    let class = random.choice([
        None,
        Some(DeliveryClass::Required),
        Some(DeliveryClass::Durable),
        Some(DeliveryClass::BestEffort),
    ]);
    let route = Route {
        class: class.flatten(),
        ..Route::default()
    };
    Routing {
        outputs: set,
        routes: vec![(OutputId(random.u16(0..outputs as u16)), route)],
    }
}

fn goes_to(event: &Event, output: usize) -> bool {
    let id = OutputId(output as u16);
    event
        .routing
        .as_ref()
        .is_none_or(|routing| routing.outputs.contains(id))
}

fn class(event: &Event, output: usize, rule: &OutputRule) -> DeliveryClass {
    let id = OutputId(output as u16);
    let route = event.routing.as_ref().and_then(|routing| routing.route(id));
    route.and_then(|route| route.class).unwrap_or(rule.class)
}
