//! Requests of the clients, and what a core may do with them.

use super::draw::{counting, priority};
use super::*;
use sluice_core::cause::Cause;

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
        let outputs = self.rules.iter().map(|rule| rule.is_default);
        let defaults = outputs.chain(self.groups.iter().map(|group| group.is_default));
        let defaults = defaults.enumerate().filter(|(_, is_default)| *is_default);
        let defaults: Vec<usize> = defaults.map(|(entry, _)| entry).collect();
        let random = &mut self.random;
        let client = &mut self.clients[at];
        if client.events.is_empty() {
            if self.stopped || now > self.faults_end + ms(500) {
                client.done = true;
                return;
            }
            (client.priority, client.is_unrepeatable) = priority(random);
            for _ in 0..random.usize(1..4) {
                let is_letter = random.u8(0..8) == 0;
                let routing = (random.u8(0..5) == 0).then(|| routing(random, &defaults));
                let routing = match is_letter {
                    true => Some(letter_routing(random, &defaults, DeliveryClass::Required)),
                    false => routing,
                };
                let key = random.choice([None, Some("u1"), Some("u2"), Some("u3"), Some("u4")]);
                let bytes = random.usize(10..200);
                self.sizes.push(bytes as u64);
                client.events.push(Event {
                    number: self.events,
                    bytes,
                    key: key.flatten().map(|key| Bytes::from_static(key.as_bytes())),
                    routing,
                    is_letter,
                });
                self.events += 1;
            }
        }
        self.asking = counting(client.priority, client.is_unrepeatable);
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
        prepared.priority = match client.is_unrepeatable {
            true => client.priority.raised(),
            false => client.priority,
        };
        for event in &client.events {
            let mut payload = self.submissions.to_be_bytes().to_vec();
            payload.extend(event.number.to_be_bytes());
            let key_bytes = event.key.as_ref().map_or(0, Bytes::len);
            payload.resize(event.bytes - key_bytes, b'.');
            let record = PreparedRecord {
                index: 0,
                key: event.key.clone(),
                topic: None,
                payload: Bytes::from(payload),
                routing: event.routing.clone().map(Box::new),
            };
            self.submissions += 1;
            match event.is_letter {
                true => prepared.letters.push(PreparedLetter {
                    is_taken: true,
                    record,
                }),
                false => prepared.records.push(record),
            }
        }
        for _ in 0..rejected {
            let mut payload = self.submissions.to_be_bytes().to_vec();
            payload.extend(self.events.to_be_bytes());
            let routing = letter_routing(random, &defaults, DeliveryClass::BestEffort);
            prepared.letters.push(PreparedLetter {
                is_taken: false,
                record: PreparedRecord {
                    index: 0,
                    key: None,
                    topic: None,
                    payload: Bytes::from(payload),
                    routing: Some(Box::new(routing)),
                },
            });
            self.submissions += 1;
            self.events += 1;
            self.sizes.push(8);
        }
        let of_letters = prepared.letters.iter();
        let of_letters = of_letters.map(|letter| {
            let key = letter.record.key.as_ref().map_or(0, Bytes::len);
            (letter.record.payload.len() + key) as u64 + OVERHEAD
        });
        let letter_bytes: u64 = of_letters.sum();
        let before: Vec<OutputTally> = core.intake.tallies().copied().collect();
        let held = core.budget.held();
        let deadline = now + ACK_DEADLINE;
        let mut submitted = Vec::new();
        let submit = |writer, record| submitted.push((writer, record));
        let admitted = core
            .intake
            .admit(&mut prepared, permit, deadline, now, submit);
        let (letters, events): (Vec<Event>, Vec<Event>) = client
            .events
            .iter()
            .cloned()
            .partition(|event| event.is_letter);
        let core_at = client.core;
        let bytes: u64 = events.iter().map(|event| event.bytes as u64).sum();
        let expected = held - 50 + bytes + OVERHEAD * events.len() as u64;
        let limit = core.budget.limit();
        match admitted {
            Ok(key) => {
                let number = (key.slot, key.generation);
                core.priorities.insert(number, self.asking);
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
                let actual = core.budget.held();
                assert!(
                    actual == expected || actual == expected + letter_bytes,
                    "the byte budget counts records, and letters that have room"
                );
                assert!(
                    actual <= self.share(self.asking, limit) || held == 50,
                    "admitted over the byte budget"
                );
                let placed = self.submitted(core_at, submitted);
                self.noise_alone(core_at, &placed, &before);
                let of_events = |(number, _): &&(u32, usize)| {
                    events.iter().any(|event| event.number == *number)
                };
                let of_events: Vec<(u32, usize)> =
                    placed.iter().filter(of_events).copied().collect();
                self.check_admission(core_at, &events, &of_events, &before);
                self.check_letters(core_at, &letters, &placed);
            }
            Err(shed) => {
                assert!(submitted.is_empty(), "a shed request was submitted");
                match shed.reason {
                    ShedReason::Queue => self.check_full(core_at, &events, &before),
                    ShedReason::Circuit => self.check_refusal(core_at, &events, &before),
                    ShedReason::Budget => assert!(
                        expected > self.share(self.asking, limit) && held > 50,
                        "shed although the byte budget has room"
                    ),
                    _ => {}
                }
                self.retry_later(at, shed);
            }
        }
    }

    /// The promise of a 200.
    fn assert_stored(&self, event: &Event) {
        for entry in self.entries(event) {
            if !self.class(event, entry).is_awaited() {
                continue;
            }
            let is_there = |output: usize| {
                let writers = self.writers.iter();
                let mut of_output = writers.filter(|it| usize::from(it.id.output.0) == output);
                self.destinations[output].has(event.number)
                    || of_output.any(|it| it.on_disk.contains(&event.number))
            };
            assert!(
                self.reach(entry).into_iter().any(is_there),
                "event {} was acknowledged and is nowhere",
                event.number
            );
        }
    }

    /// The outputs and groups that an event goes to; the numbers of groups follow those of the outputs.
    fn entries(&self, event: &Event) -> Vec<usize> {
        let outputs = self.rules.iter().map(|rule| rule.is_default);
        let defaults = outputs.chain(self.groups.iter().map(|group| group.is_default));
        let goes_to = |(entry, is_default): (usize, bool)| {
            let id = OutputId(entry as u16);
            let routing = event.routing.as_ref();
            let goes = routing.map_or(is_default, |routing| routing.outputs.contains(id));
            goes.then_some(entry)
        };
        defaults.enumerate().filter_map(goes_to).collect()
    }

    /// The outputs that may get an event for one that it goes to: those of a group, each with the ones that stand in
    /// for it.
    fn reach(&self, entry: usize) -> Vec<usize> {
        let mut reach = self.members_of(entry);
        let mut at = 0;
        while let Some(output) = reach.get(at) {
            let fallback = self.rules[*output].fallback.map(|id| usize::from(id.0));
            reach.extend(fallback.filter(|next| !reach.contains(next)));
            at += 1;
        }
        reach
    }

    fn members_of(&self, entry: usize) -> Vec<usize> {
        match entry.checked_sub(self.rules.len()) {
            None => vec![entry],
            Some(group) => {
                let members = self.groups[group].members.iter();
                members.map(|(id, _)| usize::from(id.0)).collect()
            }
        }
    }

    fn class(&self, event: &Event, entry: usize) -> DeliveryClass {
        let id = OutputId(entry as u16);
        let route = event.routing.as_ref().and_then(|routing| routing.route(id));
        // All members of a group have one class.
        let rule = &self.rules[self.members_of(entry)[0]];
        route.and_then(|route| route.class).unwrap_or(rule.class)
    }

    /// Whether an output takes requests that wait for it, as far as the core knows.
    fn takes(&self, core: usize, output: usize) -> bool {
        let heard = &self.cores[core].heard[output];
        let rule = &self.rules[output];
        !heard.is_failing() || rule.spools || self.now >= heard.probe_clock + rule.probe_every
    }

    /// Whether one that fails gets a request because nobody has tried it for a while.
    fn is_avoided(&self, core: usize, output: usize) -> bool {
        let heard = &self.cores[core].heard[output];
        heard.is_failing() && self.now < heard.probe_clock + self.rules[output].probe_every
    }

    fn has_room(&self, output: usize, bytes: u64, before: &[OutputTally]) -> bool {
        let tally = &before[output];
        let capacity = self.share(self.asking, tally.capacity_bytes);
        tally.pending == 0 || tally.pending_bytes + bytes <= capacity
    }

    /// The output that gets the records of one that is avoided, for a request of these bytes.
    fn stand_in(
        &self,
        core: usize,
        output: usize,
        bytes: u64,
        before: &[OutputTally],
    ) -> Option<usize> {
        let mut at = output;
        while self.is_avoided(core, at) {
            at = usize::from(self.rules[at].fallback?.0);
            if self.takes(core, at) && self.has_room(at, bytes, before) {
                return Some(at);
            }
        }
        None
    }

    /// A request was taken: every event went where it should, and nobody got more than there is room for.
    fn check_admission(
        &mut self,
        core: usize,
        events: &[Event],
        placed: &[(u32, usize)],
        before: &[OutputTally],
    ) {
        let bytes: u64 = events.iter().map(|event| event.bytes as u64).sum();
        for event in events {
            let got = placed.iter().filter(|(number, _)| *number == event.number);
            let mut got: Vec<usize> = got.map(|(_, output)| *output).collect();
            for entry in self.entries(event) {
                let reach = self.reach(entry);
                let at = got.iter().position(|output| reach.contains(output));
                assert!(at.is_some(), "an event did not go to one of its outputs");
                let output = got.remove(at.unwrap());
                self.check_place(core, event, entry, output, bytes, before);
            }
            assert!(
                got.is_empty(),
                "an event went to more outputs than it should"
            );
        }
        for output in 0..self.rules.len() {
            let here = placed.iter().filter(|(_, at)| *at == output);
            let here: Vec<&Event> = here
                .filter_map(|(number, _)| events.iter().find(|event| event.number == *number))
                .collect();
            let bytes = here.iter().map(|event| event.bytes as u64).sum();
            assert!(
                here.is_empty() || self.has_room(output, bytes, before),
                "admitted over the bound of output {output}"
            );
            if !here.is_empty() {
                self.tried(core, output);
            }
        }
    }

    /// Letters went nowhere, for lack of room, or where they should.
    fn check_letters(&mut self, core: usize, letters: &[Event], placed: &[(u32, usize)]) {
        for (number, output) in placed {
            if let Some(letter) = letters.iter().find(|letter| letter.number == *number) {
                let entry = self.entries(letter)[0];
                assert!(
                    self.reach(entry).contains(output),
                    "a letter went to {output}, and not to entry {entry}"
                );
            }
            self.tried(core, *output);
        }
    }

    /// An output got records. Whatever goes to a failing one when a probe is due is one, be it awaited or not.
    fn tried(&mut self, core: usize, output: usize) {
        let is_due = !self.is_avoided(core, output);
        let heard = &mut self.cores[core].heard[output];
        if is_due && heard.is_failing() {
            heard.probe_clock = self.now;
        }
    }

    /// Whether the right output got an event, of those that it may go to.
    fn check_place(
        &mut self,
        core: usize,
        event: &Event,
        entry: usize,
        output: usize,
        bytes: u64,
        before: &[OutputTally],
    ) {
        if self.class(event, entry).is_awaited() {
            assert!(
                self.takes(core, output),
                "more than a trickle was admitted to a failing output"
            );
        }
        let members = self.members_of(entry);
        let stand_in = |member: &usize| self.stand_in(core, *member, bytes, before);
        let expected: Vec<usize> = members
            .iter()
            .map(|member| stand_in(member).unwrap_or(*member))
            .collect();
        assert!(
            expected.contains(&output),
            "an event went to {output}, and not to one of {expected:?}"
        );
        let Some(group) = entry
            .checked_sub(self.rules.len())
            .map(|at| &self.groups[at])
        else {
            return;
        };
        match (group.spread, key(event)) {
            (Spread::Hash, Some(key)) if members.contains(&output) => {
                let known = self.members.entry(key.clone()).or_insert(output);
                assert_eq!(*known, output, "a key has moved to another member");
            }
            (Spread::Hash, Some(_)) => {}
            _ => {
                let works = |member: &usize| {
                    let is_closed = !self.cores[core].heard[*member].is_failing();
                    is_closed && self.has_room(*member, bytes, before)
                };
                let is_avoided = members.contains(&output) && self.is_avoided(core, output);
                assert!(
                    !is_avoided || !members.iter().any(works),
                    "a group gave records to a member that fails"
                );
            }
        }
    }

    /// A request was shed because of an open circuit: nobody takes some event that has to be awaited.
    fn check_refusal(&self, core: usize, events: &[Event], before: &[OutputTally]) {
        let bytes: u64 = events.iter().map(|event| event.bytes as u64).sum();
        let is_blocked = |member: usize| {
            !self.takes(core, member) && self.stand_in(core, member, bytes, before).is_none()
        };
        // A group leaves one that fails and spools alone if the whole request has no room there.
        let is_left_alone = |member: usize| {
            let is_full = !self.has_room(member, bytes, before);
            is_blocked(member) || (self.is_avoided(core, member) && is_full)
        };
        let is_reason = |event: &Event, entry: usize| {
            let members = self.members_of(entry);
            let group = entry
                .checked_sub(self.rules.len())
                .map(|at| &self.groups[at]);
            let is_keyed =
                group.is_some_and(|group| group.spread == Spread::Hash) && key(event).is_some();
            self.class(event, entry).is_awaited()
                && match is_keyed {
                    true => members.into_iter().any(is_blocked),
                    false if group.is_some() => members.into_iter().all(is_left_alone),
                    false => members.into_iter().all(is_blocked),
                }
        };
        assert!(
            events.iter().any(|event| self
                .entries(event)
                .into_iter()
                .any(|entry| is_reason(event, entry))),
            "shed although an output may work"
        );
    }

    /// A request was shed for want of room: some output that it may go to has none.
    fn check_full(&self, core: usize, events: &[Event], before: &[OutputTally]) {
        let is_full = |output: usize| {
            let here = events.iter().filter(|event| {
                let entries = self.entries(event);
                entries
                    .into_iter()
                    .any(|entry| self.reach(entry).contains(&output))
            });
            let bytes = here.map(|event| event.bytes as u64).sum();
            bytes > 0
                && !self.has_room(output, bytes, before)
                && (self.asking < Priority::High
                    || self.is_full_of_others(core, output, bytes, &before[output]))
        };
        assert!((0..self.rules.len()).any(is_full), "shed with room left");
    }

    /// Records go to the writers that the core chose for them. Says which event went to which output.
    fn submitted(&mut self, core: usize, submitted: Vec<(WriterId, Record)>) -> Vec<(u32, usize)> {
        let mut placed = Vec::new();
        for (writer, record) in submitted {
            let output = usize::from(writer.output.0);
            let at = self.fate_at(&record, output);
            if self.fates.len() <= at {
                self.fates.resize(at + 1, Fate::default());
            }
            assert!(!self.fates[at].is_given, "given to one output twice");
            self.fates[at] = Fate {
                event: event_number(&record),
                is_given: true,
                deadline: record.deadline,
                ..Fate::default()
            };
            self.noise_came(core, output, &record);
            placed.push((event_number(&record), output));
            self.cores[core].gathered[output][usize::from(writer.number)].push(record);
        }
        placed
    }

    /// A core hears of its records. One that a failing output refused goes to the fallback, if that has room.
    pub(super) fn acks_arrive(&mut self, at: usize, batch: AckBatch) {
        let before: Vec<OutputTally> = self.cores[at].intake.tallies().copied().collect();
        let moves = batch.settlements.iter().any(|settlement| {
            let rule = &self.rules[usize::from(settlement.output.0)];
            let next = rule.fallback.map(|id| usize::from(id.0));
            let heard = &self.cores[at].heard;
            let waits = self.clients.iter().any(|client| {
                client.core == at
                    && client.waiting.as_ref().is_some_and(|waiting| {
                        waiting.key == settlement.request && self.now < waiting.deadline
                    })
            });
            waits
                // Letters about refused events stay where they are.
                && settlement.event < 1 << 31
                && settlement.outcome == Outcome::Refused(Cause::Unavailable)
                && heard[usize::from(settlement.output.0)].is_failing()
                && rule
                    .fallback
                    .is_some_and(|next| !settlement.tried.contains(next))
                && next.is_some_and(|next| !heard[next].is_failing() && before[next].pending == 0)
        });
        self.noise_went(at, &batch);
        let mut submitted = Vec::new();
        let submit = |writer, record| submitted.push((writer, record));
        self.cores[at].intake.settle(batch, self.now, submit);
        assert!(
            !moves || !submitted.is_empty(),
            "a record was refused although its fallback takes it"
        );
        for (writer, record) in &submitted {
            let noise = &mut self.cores[at].noise[usize::from(writer.output.0)];
            noise.beyond_share += self.sizes[event_number(record) as usize];
        }
        for (_, output) in self.submitted(at, submitted) {
            self.tried(at, output);
        }
    }
}

/// The key that decides for an event: its own route, as drawn here, has none.
fn key(event: &Event) -> Option<&Bytes> {
    event.key.as_ref().filter(|_| event.routing.is_none())
}
