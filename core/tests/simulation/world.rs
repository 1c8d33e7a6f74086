//! A made-up world around the machines of core: clients that send again or leave, cores, queues, writers that may
//! die, destinations that throttle shards, stall, lie and come back, and spools that fill, fail and are replayed.
//! One seed is one schedule. The rules are checked at every step; a broken one panics.

mod clients;
mod draw;
mod priorities;
mod rules;
mod writers;

use super::destination::{Call, Destination, SHARDS};
use bytes::Bytes;
use draw::{has, letter_routing, routing, shares, stand_ins};
use fastrand::Rng;
use priorities::Noise;
use sluice_core::ack::{AckBatch, AckQueue, Outcome, OutputId, Settlement, WriterId, WriterState};
use sluice_core::budget::ByteBudget;
use sluice_core::circuit::{CircuitSettings, CircuitState, FAILURES_MAX, PROBE_EVERY};
use sluice_core::delivery::{
    Action, BatchLimits, CallId, Delivery, DeliverySettings, Input, SpoolRule, ToSpool,
};
use sluice_core::intake::{
    GroupRule, Intake, IntakeSettings, OutputRule, OutputTally, Resolution, RetryAfter, Shed,
    ShedReason, Spread, member_number,
};
use sluice_core::lanes::LaneId;
use sluice_core::letter::PreparedLetter;
use sluice_core::prepared::{Prepared, PreparedRecord};
use sluice_core::priority::{Priority, Shares};
use sluice_core::record::{Record, RecordResult};
use sluice_core::reject::Reject;
use sluice_core::retry::RetryPolicy;
use sluice_core::route::{DeliveryClass, OutputSet, Route, Routing};
use sluice_core::time::Mono;
use std::collections::{HashMap, VecDeque};
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
    is_given: bool,
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
    /// That of the request.
    priority: Priority,
    is_unrepeatable: bool,
    waiting: Option<Waiting>,
    /// Whether it waits as long as it is told to.
    heeds_retry_after: bool,
    done: bool,
}

#[derive(Clone)]
struct Event {
    number: u32,
    /// Key and payload.
    bytes: usize,
    key: Option<Bytes>,
    routing: Option<Routing>,
    /// It is taken as a letter.
    is_letter: bool,
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
    /// Of each request that was taken, as it counts.
    priorities: HashMap<(u32, u32), Priority>,
    /// Per output.
    noise: Vec<Noise>,
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
    is_stopped: bool,
    /// A model of the circuit: calls that failed in a row, and when the first call after the last success was sent.
    failures: u32,
    unsuccessful_since: Option<Mono>,
    /// When a call was last sent or ended.
    moved_at: Mono,
}

pub(crate) struct World {
    random: Rng,
    now: Mono,
    rules: Vec<OutputRule>,
    groups: Vec<GroupRule>,
    shares: Shares,
    /// The priority of the request that is being admitted.
    asking: Priority,
    /// The member that records with a key went to.
    members: HashMap<Bytes, usize>,
    destinations: Vec<Destination>,
    cores: Vec<Core>,
    writers: Vec<Writer>,
    clients: Vec<Client>,
    /// Indexed by the submission's number and the output.
    fates: Vec<Fate>,
    submissions: u32,
    events: u32,
    /// Bytes of each event, its key included.
    sizes: Vec<u64>,
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
        let outputs = random.u16(1..4);
        let (fallbacks, groups) = stand_ins(&mut random, outputs);
        let shares = shares(&mut random);
        let cores = random.usize(1..CORES_MAX + 1);
        let mut rules: Vec<OutputRule> = Vec::new();
        let mut destinations = Vec::new();
        let mut writers = Vec::new();
        for output in 0..outputs {
            let has_spool = random.u8(0..4) == 0;
            let class = match random.u8(0..5) {
                0 => DeliveryClass::BestEffort,
                _ => DeliveryClass::Required,
            };
            // The members of a group promise the same.
            let class = match output {
                1 if !groups.is_empty() => rules[0].class,
                _ => class,
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
                is_default: !fallbacks.contains(&Some(OutputId(output)))
                    && !groups.iter().any(|group| has(group, usize::from(output))),
                fallback: fallbacks[usize::from(output)],
            });
            let has_fallback = fallbacks[usize::from(output)].is_some()
                || groups.iter().any(|group| {
                    group.spread == Spread::LeastLoaded && has(group, usize::from(output))
                });
            destinations.push(Destination::new(
                &mut random,
                usize::from(count),
                faults_end,
            ));
            // Which may get its records back.
            let mut firsts = rules
                .iter()
                .filter(|rule| rule.fallback == Some(OutputId(output)));
            let has_fallback = has_fallback || firsts.clone().any(|first| first.spools);
            let is_fallback = firsts.next().is_some();
            let settings = DeliverySettings {
                linger: ms(random.u64(0..10)),
                in_flight_max: random.usize(1..4),
                retry: RetryPolicy {
                    base: ms(20),
                    cap: ms(200),
                },
                circuit: (random.u8(0..8) > 0).then_some(CircuitSettings {
                    open_after: ms(random.u64(100..1_000)),
                    failures_max: (has_spool || has_fallback || is_fallback)
                        .then_some(FAILURES_MAX),
                    ack_deadline: ACK_DEADLINE,
                }),
                spool: has_spool.then_some(SpoolRule {
                    after: ms(random.u64(50..500)),
                    first: random.u8(0..4) == 0,
                }),
                has_fallback,
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
                    groups: groups.clone(),
                    shares,
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
                    priorities: HashMap::new(),
                    noise: vec![Noise::default(); rules.len()],
                    gathered: rules.iter().map(lanes).collect(),
                }
            })
            .collect();
        let clients = (0..random.usize(1..6)).map(|_| Client {
            core: random.usize(0..cores.len()),
            next_at: Mono::default() + ms(random.u64(0..500)),
            events: Vec::new(),
            priority: Priority::Mid,
            is_unrepeatable: false,
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
            groups,
            shares,
            asking: Priority::Mid,
            members: HashMap::new(),
            destinations,
            cores,
            writers,
            clients,
            fates: Vec::new(),
            submissions: 0,
            events: 0,
            sizes: Vec::new(),
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
        self.cores[at].hear_at = Mono::NEVER;
        while let Some(batch) = self.cores[at].acks.poll_recv(Waker::noop()) {
            let core = &mut self.cores[at];
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
            self.acks_arrive(at, batch);
        }
        let core = &mut self.cores[at];
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
}

fn submission_number(record: &Record) -> u32 {
    u32::from_be_bytes(record.payload[..4].try_into().unwrap())
}

fn event_number(record: &Record) -> u32 {
    u32::from_be_bytes(record.payload[4..8].try_into().unwrap())
}
