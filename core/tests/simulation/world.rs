//! A made-up world around the machines of core: clients that send again or leave, cores, queues, writers that may
//! die, destinations that throttle shards, stall, lie and come back, and spools that fill, fail and are replayed.
//! One seed is one schedule. The rules are checked at every step; a broken one panics.

use super::destination::{Call, Destination, SHARDS};
use bytes::Bytes;
use fastrand::Rng;
use sluice_core::ack::{AckBatch, AckQueue, Outcome, OutputId, Settlement, WriterId, WriterState};
use sluice_core::budget::ByteBudget;
use sluice_core::circuit::{CircuitSettings, CircuitState};
use sluice_core::delivery::{
    Action, BatchLimits, CallId, Delivery, DeliverySettings, Input, SpoolRule, ToSpool,
};
use sluice_core::intake::{
    Intake, IntakeSettings, OutputRule, OutputTally, Resolution, RetryAfter, Shed, ShedReason,
};
use sluice_core::lanes::LaneId;
use sluice_core::prepared::{Prepared, PreparedRecord};
use sluice_core::record::{Record, RecordResult};
use sluice_core::reject::Reject;
use sluice_core::retry::RetryPolicy;
use sluice_core::route::{DeliveryClass, OutputSet, Route, Routing};
use sluice_core::time::Mono;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

const CORES_MAX: usize = 2;
const TICK: Duration = Duration::from_millis(50);
const ACK_DEADLINE: Duration = Duration::from_millis(1_000);
const RETRY_AFTER: RetryAfter = RetryAfter { min_s: 1, max_s: 5 };
/// Submissions that wait for a writer.
const QUEUE_MAX: usize = 4;
/// What a record counts in the byte budget beside its bytes.
const OVERHEAD: u64 = 160;
/// Far more than any schedule has.
const STEPS_MAX: u32 = 100_000;
/// Once faults have ended, all work is done within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The ack queues of the cores, which live as long as the process.
pub(crate) struct Acks([&'static AckQueue; CORES_MAX]);

impl Acks {
    pub(crate) fn leak() -> Acks {
        Acks([(); CORES_MAX].map(|()| AckQueue::leak()))
    }
}

/// Remembers that a task was woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One record at one output.
#[derive(Clone, Copy, Default)]
struct Fate {
    event: u32,
    deadline: Mono,
    in_flight: bool,
    said_delivered: bool,
    said_kept: bool,
    settled: bool,
}

/// A client with one request at a time.
struct Client {
    core: usize,
    /// When it sends, or sends again.
    next_at: Mono,
    /// The events of its request; none before a new one.
    events: Vec<Event>,
    waiting: Option<Waiting>,
    /// Whether it waits as long as it is told to.
    heeds_retry_after: bool,
    done: bool,
}

#[derive(Clone)]
struct Event {
    number: u32,
    bytes: usize,
    routing: Option<Routing>,
}

struct Waiting {
    key: sluice_core::ack::RequestKey,
    flag: Arc<Flag>,
    deadline: Mono,
    /// When the client disconnects.
    leaves_at: Mono,
}

/// What a core was told of an output, and its probes.
#[derive(Clone, Default)]
struct Heard {
    circuits: Vec<CircuitState>,
    /// The latest of: the output began to fail, a probe was sent, a probe failed.
    probe_clock: Mono,
}

impl Heard {
    fn is_failing(&self) -> bool {
        self.circuits.iter().all(|state| state.is_failing())
    }
}

struct Core {
    acks: &'static AckQueue,
    intake: Intake,
    budget: ByteBudget,
    tick_at: Mono,
    hear_at: Mono,
    heard: Vec<Heard>,
    /// Records of this turn, per output and writer.
    gathered: Vec<Vec<Vec<Record>>>,
}

struct InFlight {
    ends_at: Mono,
    id: CallId,
    records: Vec<Record>,
    call: Call,
    /// The shell stopped waiting.
    given_up: bool,
}

struct Writer {
    id: WriterId,
    is_alive: bool,
    machine: Delivery,
    /// It knows the shards of the destination, and paces those that throttle.
    has_lanes: bool,
    settings: DeliverySettings,
    limits: BatchLimits,
    queue: VecDeque<Vec<Record>>,
    take_at: Mono,
    calls: Vec<InFlight>,
    /// Appends under way: when they end, and whether the disk takes them.
    appends: Vec<(Mono, bool, Vec<ToSpool>)>,
    on_disk: Vec<u32>,
    disk_max: usize,
    replay_at: Mono,
    /// Per core: whether it ever sent records, and settlements for it.
    ack_batches: Vec<(bool, Vec<Settlement>)>,
    circuit: CircuitState,
    told_open: bool,
    /// A model of the circuit: when the first call after the last success was sent.
    unsuccessful_since: Option<Mono>,
    /// When a call was last sent or ended.
    moved_at: Mono,
}

pub(crate) struct World {
    random: Rng,
    now: Mono,
    rules: Vec<OutputRule>,
    destinations: Vec<Destination>,
    cores: Vec<Core>,
    writers: Vec<Writer>,
    clients: Vec<Client>,
    /// Indexed by the submission's number and the output.
    fates: Vec<Fate>,
    submissions: u32,
    events: u32,
    faults_end: Mono,
    /// When clients stop to send again, and writers are stopped.
    stop_at: Mono,
    stopped: bool,
    die_at: Mono,
    has_died: bool,
}

pub(crate) fn run(seed: u64, acks: &Acks) {
    // A run that failed may have left something.
    for acks in acks.0 {
        while acks.poll_recv(Waker::noop()).is_some() {}
    }
    let mut world = World::new(seed, acks);
    let mut steps = 0;
    while let Some((at, next)) = world.next() {
        steps += 1;
        assert!(steps < STEPS_MAX, "things happen for ever");
        world.now = world.now.max(at);
        assert!(
            world.now <= world.faults_end + PATIENCE,
            "work is left long after the last fault: {}",
            world.work_left()
        );
        world.step(next);
        world.flush();
        world.check();
    }
    world.end();
}

/// What happens next.
#[derive(Clone, Copy)]
enum Next {
    Client(usize),
    Tick(usize),
    Hear(usize),
    Take(usize),
    Wake(usize),
    CallEnds(usize, usize),
    Appended(usize, usize),
    Replay(usize),
    Stop,
    Death,
}

impl World {
    fn new(seed: u64, acks: &Acks) -> World {
        let mut random = Rng::with_seed(seed);
        let faults_end = Mono::default() + ms(random.u64(200..4_000));
        let outputs = random.u16(1..3);
        let cores = random.usize(1..CORES_MAX + 1);
        let mut rules = Vec::new();
        let mut destinations = Vec::new();
        let mut writers = Vec::new();
        for output in 0..outputs {
            let has_spool = random.u8(0..4) == 0;
            let class = match random.u8(0..5) {
                0 => DeliveryClass::BestEffort,
                _ => DeliveryClass::Required,
            };
            let count = random.u16(1..3);
            rules.push(OutputRule {
                class,
                pending_bytes_max: random.u64(500..4_000),
                adaptive_limit: class.is_awaited().then_some(ACK_DEADLINE / 8),
                retry_for: ms(random.u64(500..5_000)),
                keyed: true,
                by_topic: false,
                writers: count,
                home: 0,
                probe_every: ms(random.u64(10..250)),
                spools: has_spool,
            });
            destinations.push(Destination::new(
                &mut random,
                usize::from(count),
                faults_end,
            ));
            let settings = DeliverySettings {
                linger: ms(random.u64(0..10)),
                in_flight_max: random.usize(1..4),
                retry: RetryPolicy {
                    base: ms(20),
                    cap: ms(200),
                },
                circuit: (random.u8(0..8) > 0).then_some(CircuitSettings {
                    open_after: ms(random.u64(100..1_000)),
                    ack_deadline: ACK_DEADLINE,
                }),
                spool: has_spool.then_some(SpoolRule {
                    after: ms(random.u64(50..500)),
                    first: random.u8(0..4) == 0,
                }),
            };
            let bytes_max = random.usize(300..1_000);
            let limits = BatchLimits {
                records_max: random.usize(1..8),
                bytes_max,
                record_bytes_max: bytes_max,
            };
            for number in 0..count {
                let id = WriterId {
                    output: OutputId(output),
                    number,
                };
                writers.push(Writer::new(id, settings, limits, cores, &mut random));
            }
        }
        let cores: Vec<Core> = (0..cores)
            .map(|core| {
                let home = |rule: &OutputRule| OutputRule {
                    home: core as u16 % rule.writers,
                    ..*rule
                };
                let settings = IntakeSettings {
                    ack_deadline: ACK_DEADLINE,
                    retry_after: RETRY_AFTER,
                    outputs: rules.iter().map(home).collect(),
                };
                let heard = |rule: &OutputRule| Heard {
                    circuits: vec![CircuitState::Closed; usize::from(rule.writers)],
                    ..Heard::default()
                };
                let lanes = |rule: &OutputRule| (0..rule.writers).map(|_| Vec::new()).collect();
                Core {
                    acks: acks.0[core],
                    intake: Intake::new(acks.0[core], settings),
                    budget: ByteBudget::new(random.u64(2_000..8_000)),
                    tick_at: Mono::default() + TICK,
                    hear_at: Mono::NEVER,
                    heard: rules.iter().map(heard).collect(),
                    gathered: rules.iter().map(lanes).collect(),
                }
            })
            .collect();
        let clients = (0..random.usize(1..6)).map(|_| Client {
            core: random.usize(0..cores.len()),
            next_at: Mono::default() + ms(random.u64(0..500)),
            events: Vec::new(),
            waiting: None,
            heeds_retry_after: random.bool(),
            done: false,
        });
        let clients = clients.collect();
        let before_end = |random: &mut Rng, one_in: u8| match random.u8(0..one_in) {
            0 => Mono(random.u64(0..faults_end.0)),
            _ => Mono::NEVER,
        };
        let stop_at = before_end(&mut random, 8);
        let die_at = before_end(&mut random, 20);
        World {
            now: Mono::default(),
            rules,
            destinations,
            cores,
            writers,
            clients,
            fates: Vec::new(),
            submissions: 0,
            events: 0,
            faults_end,
            stop_at,
            stopped: false,
            die_at,
            has_died: false,
            random,
        }
    }

    /// The next thing to happen; among things of the same time, any.
    fn next(&mut self) -> Option<(Mono, Next)> {
        let mut best: Option<(Mono, Next)> = None;
        let random = &mut self.random;
        let mut offer = |at: Mono, next: Next| {
            let is_better = match best {
                _ if at == Mono::NEVER => false,
                None => true,
                Some((known, _)) => at < known || (at == known && random.bool()),
            };
            if is_better {
                best = Some((at, next));
            }
        };
        let mut is_busy = false;
        for (at, client) in self.clients.iter().enumerate() {
            is_busy |= !client.done;
            let due = match &client.waiting {
                Some(waiting) if waiting.flag.0.load(Ordering::Relaxed) => self.now,
                Some(waiting) => waiting.leaves_at,
                None if client.done => Mono::NEVER,
                None => client.next_at,
            };
            offer(due, Next::Client(at));
        }
        for (at, writer) in self.writers.iter().enumerate() {
            is_busy |= !writer.is_done();
            if writer.is_alive {
                offer(writer.take_at, Next::Take(at));
                offer(writer.machine.wake_at(), Next::Wake(at));
            }
            for (call, in_flight) in writer.calls.iter().enumerate() {
                offer(in_flight.ends_at, Next::CallEnds(at, call));
            }
            for (append, (ends_at, ..)) in writer.appends.iter().enumerate() {
                offer(*ends_at, Next::Appended(at, append));
            }
            if !writer.on_disk.is_empty() && !self.stopped {
                offer(writer.replay_at, Next::Replay(at));
            }
        }
        for (at, core) in self.cores.iter().enumerate() {
            is_busy |= core.hear_at != Mono::NEVER || core.intake.open_requests() > 0;
            is_busy |= core.gathered.iter().flatten().any(|lane| !lane.is_empty());
            offer(core.hear_at, Next::Hear(at));
        }
        if is_busy {
            for (at, core) in self.cores.iter().enumerate() {
                offer(core.tick_at, Next::Tick(at));
            }
            offer(self.die_at, Next::Death);
            offer(self.stop_at, Next::Stop);
        }
        if is_busy { best } else { None }
    }

    /// For the message of a failure.
    fn work_left(&self) -> String {
        let clients = self.clients.iter().filter(|client| !client.done).count();
        let writers = self.writers.iter().map(|writer| {
            let Writer {
                id,
                is_alive,
                machine,
                queue,
                on_disk,
                ..
            } = writer;
            format!(
                "{}.{}: alive {is_alive}, held {}, in flight {}, queue {}, circuit {:?}, on disk {}",
                id.output.0,
                id.number,
                machine.held(),
                machine.in_flight(),
                queue.len(),
                machine.circuit(),
                on_disk.len()
            )
        });
        let writers: Vec<String> = writers.collect();
        format!(
            "{clients} clients, writers {writers:#?}, rules {:#?}",
            self.rules
        )
    }

    fn step(&mut self, next: Next) {
        match next {
            Next::Client(at) => self.client(at),
            Next::Tick(at) => {
                let core = &mut self.cores[at];
                core.intake.tick(self.now);
                core.tick_at = self.now + TICK;
            }
            Next::Hear(at) => self.hear(at),
            Next::Take(at) => self.take(at),
            Next::Wake(at) => {
                self.take(at);
                self.input(at, Input::Tick);
            }
            Next::CallEnds(at, call) => self.call_ended(at, call),
            Next::Appended(at, append) => self.appended(at, append),
            Next::Replay(at) => self.replay(at),
            Next::Stop => self.stop(),
            Next::Death => self.death(),
        }
    }

    fn client(&mut self, at: usize) {
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
    fn assert_stored(&self, event: &Event) {
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

    fn retry_later(&mut self, at: usize, shed: Shed) {
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

    fn send_request(&mut self, at: usize) {
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
    fn full_output(&self, events: &[Event], before: &[OutputTally]) -> Option<usize> {
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
    fn failing(&self, core: usize, events: &[Event]) -> impl Iterator<Item = usize> {
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

    fn check_admission(&mut self, core: usize, events: &[Event], before: &[OutputTally]) {
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
    fn check_refusal(&self, core: usize, events: &[Event]) {
        let mut failing = self.failing(core, events).peekable();
        assert!(failing.peek().is_some(), "shed although a writer may work");
        let heard = &self.cores[core].heard;
        let not_due =
            |output: usize| self.now < heard[output].probe_clock + self.rules[output].probe_every;
        assert!(failing.any(not_due), "a probe was due");
    }

    fn submitted(&mut self, core: usize, submitted: Vec<(WriterId, Record)>, events: &[Event]) {
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

    fn fate_at(&self, record: &Record, output: usize) -> usize {
        submission_number(record) as usize * self.rules.len() + output
    }

    /// Cores hand over what they gathered; dead writers' queues are closed.
    fn flush(&mut self) {
        for at in 0..self.writers.len() {
            let id = self.writers[at].id;
            for core in &mut self.cores {
                let lane = &mut core.gathered[usize::from(id.output.0)][usize::from(id.number)];
                if lane.is_empty() {
                    continue;
                }
                let writer = &mut self.writers[at];
                if !writer.is_alive {
                    lane.clear();
                    core.hear_at = core.hear_at.min(self.now + ms(1));
                } else if writer.queue.len() < QUEUE_MAX {
                    writer.queue.push_back(std::mem::take(lane));
                }
            }
            let writer = &mut self.writers[at];
            let is_wanted = !writer.queue.is_empty() && writer.machine.wants_input();
            if is_wanted && writer.take_at == Mono::NEVER {
                writer.take_at = self.now + Duration::from_micros(self.random.u64(0..1_000));
            }
        }
    }

    fn hear(&mut self, at: usize) {
        let core = &mut self.cores[at];
        core.hear_at = Mono::NEVER;
        while let Some(batch) = core.acks.poll_recv(Waker::noop()) {
            if let Some(state) = batch.writer {
                let output = usize::from(state.writer.output.0);
                let heard = &mut core.heard[output];
                let number = usize::from(state.writer.number);
                let was = (heard.circuits[number], heard.is_failing());
                heard.circuits[number] = state.circuit;
                let has_opened = was.0 != state.circuit && state.circuit == CircuitState::Open;
                if has_opened || heard.is_failing() != was.1 {
                    heard.probe_clock = self.now;
                }
            }
            core.intake.settle(batch, self.now);
        }
        for client in self.clients.iter().filter(|client| client.core == at) {
            if let Some(waiting) = &client.waiting
                && !waiting.flag.0.load(Ordering::Relaxed)
            {
                let waker = Waker::from(Arc::clone(&waiting.flag));
                let resolution = core.intake.poll_resolution(waiting.key, 0, &waker);
                assert!(resolution.is_pending(), "a resolved request was not woken");
            }
        }
    }

    fn take(&mut self, at: usize) {
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
    fn input(&mut self, at: usize, input: Input) {
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
            _ => None,
        };
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
                Action::CountRetry(_) => {}
            }
        }
        self.flush_acks(at);
        // The shell of a writer with a spool tells its machine of the circuit.
        let writer = &mut self.writers[at];
        let is_failing = writer.machine.circuit().is_failing();
        if writer.settings.spool.is_some()
            && ended == Some(!is_failing)
            && is_failing != writer.told_open
        {
            writer.told_open = is_failing;
            self.input(at, Input::Circuit { open: is_failing });
        }
    }

    fn send(&mut self, at: usize, id: CallId, records: Vec<Record>) {
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

    fn call_ended(&mut self, at: usize, call: usize) {
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

    fn spool(&mut self, at: usize, records: Vec<ToSpool>) {
        let output = usize::from(self.writers[at].id.output.0);
        for record in &records {
            let fate = &self.fates[self.fate_at(&record.record, output)];
            assert!(!fate.in_flight && !fate.settled, "spooled while under way");
        }
        let fails = self.now < self.faults_end && self.random.u8(0..10) == 0;
        let ends_at = self.now + ms(self.random.u64(0..30));
        self.writers[at].appends.push((ends_at, !fails, records));
    }

    fn appended(&mut self, at: usize, append: usize) {
        self.take(at);
        let output = usize::from(self.writers[at].id.output.0);
        let (_, works, records) = self.writers[at].appends.swap_remove(append);
        let writer = &mut self.writers[at];
        let kept = works && writer.on_disk.len() + records.len() <= writer.disk_max;
        if kept {
            let numbers = records.iter().map(|record| event_number(&record.record));
            writer.on_disk.extend(numbers);
        }
        for record in &records {
            let fate_at = self.fate_at(&record.record, output);
            self.fates[fate_at].said_kept = kept;
        }
        if self.writers[at].is_alive {
            self.input(at, Input::Spooled { records, kept });
        }
    }

    /// Sends some records from the disk; their success closes the circuit of the spool.
    fn replay(&mut self, at: usize) {
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
        if has_succeeded && writer.told_open && writer.is_alive {
            writer.told_open = false;
            self.input(at, Input::Circuit { open: false });
        }
    }

    fn settled(&mut self, at: usize, record: Record, outcome: Outcome) {
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

    fn flush_acks(&mut self, at: usize) {
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

    /// The program ends: nobody sends again, and what is not in flight is settled.
    fn stop(&mut self) {
        self.stop_at = Mono::NEVER;
        if !self.stopped {
            self.stopped = true;
            self.stop_at = self.now + ms(self.random.u64(0..700));
            self.all_writers(|| Input::Drain);
            return;
        }
        self.all_writers(|| Input::Stop);
    }

    fn all_writers(&mut self, input: impl Fn() -> Input) {
        for at in 0..self.writers.len() {
            if self.writers[at].is_alive {
                self.take(at);
                self.input(at, input());
            }
        }
    }

    /// A writer dies with everything it holds.
    fn death(&mut self) {
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

    /// Rules that hold between any two steps.
    fn check(&self) {
        for client in &self.clients {
            if let Some(waiting) = &client.waiting {
                assert!(
                    self.now <= waiting.deadline + TICK + TICK,
                    "a request is not answered at its deadline"
                );
            }
        }
        for core in &self.cores {
            for (tally, rule) in core.intake.tallies().zip(&self.rules) {
                let refused: u64 = tally.refused.iter().sum();
                assert_eq!(
                    tally.accepted,
                    tally.delivered + tally.spooled + refused + tally.pending
                );
                assert!(tally.capacity_bytes <= rule.pending_bytes_max);
                assert!(
                    tally.pending_bytes <= core.budget.held(),
                    "pending records are not in the byte budget"
                );
            }
        }
        for writer in &self.writers {
            if writer.is_alive {
                writer.check(self.now);
            }
        }
    }

    fn end(&mut self) {
        for core in &self.cores {
            assert_eq!((core.intake.open_requests(), core.budget.held()), (0, 0));
            assert!(core.acks.poll_recv(Waker::noop()).is_none());
            for tally in core.intake.tallies() {
                assert_eq!((tally.pending, tally.pending_bytes), (0, 0));
            }
        }
        let sum = |of: fn(&OutputTally) -> u64| {
            let cores = self.cores.iter();
            cores
                .map(|core| core.intake.tallies().map(of).sum::<u64>())
                .sum::<u64>()
        };
        let settled = self.fates.iter().filter(|fate| fate.settled).count() as u64;
        let accepted = sum(|tally| tally.accepted);
        if self.has_died {
            assert!(settled <= accepted);
        } else {
            assert_eq!(settled, accepted);
        }
        assert!(self.events == 0 || self.fates.iter().all(|fate| fate.event < self.events));
    }
}

fn machine(settings: DeliverySettings, limits: BatchLimits, has_lanes: bool) -> Delivery {
    let mut machine = Delivery::new(settings, limits);
    if has_lanes {
        machine.set_lanes(|record| Some(LaneId(event_number(record) % SHARDS)));
    }
    machine
}

impl Writer {
    fn new(
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
            told_open: false,
            unsuccessful_since: None,
            moved_at: Mono::default(),
        }
    }

    fn is_done(&self) -> bool {
        self.queue.is_empty()
            && self.calls.is_empty()
            && self.appends.is_empty()
            && (!self.is_alive || self.machine.is_idle())
    }

    /// When a circuit may open, and when it has to.
    fn model_circuit(&mut self, now: Mono, ended: Option<bool>, was_failing: bool) {
        let is_failing = self.machine.circuit().is_failing();
        let Some(rule) = self.settings.circuit else {
            assert!(!is_failing, "a circuit that is off has opened");
            return;
        };
        let is_over =
            |since: Option<Mono>| since.is_some_and(|since| now >= since + rule.open_after);
        let could_open = is_over(self.unsuccessful_since);
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

    fn check(&self, now: Mono) {
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

fn submission_number(record: &Record) -> u32 {
    u32::from_be_bytes(record.payload[..4].try_into().unwrap())
}

fn event_number(record: &Record) -> u32 {
    u32::from_be_bytes(record.payload[4..8].try_into().unwrap())
}
