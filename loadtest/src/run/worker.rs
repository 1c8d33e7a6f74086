//! One thread of the generator: its connections, one epoll instance, one timer.
//! Decides when each request starts and records its result; knows no report.

mod connections;

use super::RunError;
use super::body::Requests;
use super::connect::Peer;
use super::interval::Seconds;
use super::lateness::SLIP_MAX_NS;
use super::ok_status::OkStatuses;
use super::schedule::Schedule;
use super::stream::Stream;
use super::tally::{Failure, Tally};
use super::timer::Timer;
use crate::answer::{Answer, refused_indices};
use crate::ledger::{Ack, LineFile};
use connections::{Connection, InFlight, State};
use fastrand::Rng;
use mio::{Events, Poll, Token};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The timer's token; connections have their index.
const TIMER: Token = Token(usize::MAX);

/// Connections being opened at once, so that no accept queue overflows.
const OPENING_MAX: usize = 256;

/// Events taken from the kernel at once: few enough that due requests do not wait for long.
const EVENTS_MAX: usize = 256;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// How often deadlines, lost connections and the stop flag are looked at.
const CHECK_NS: u64 = 10_000_000;

/// Requests are started at least this far apart or together: a wake for each would cost more
/// CPU than the request. The slip shows it.
const PACE_NS: u64 = 50_000;

/// How often, and over how many bytes, answers are handed to the ledger file.
const ACKS_FLUSH_NS: u64 = 100_000_000;
const ACKS_PENDING_MAX: usize = 64 << 10;

/// First and longest wait before a lost connection is opened again.
const BACKOFF_MIN_NS: u64 = 10_000_000;
const BACKOFF_MAX_NS: u64 = 1_000_000_000;

/// How long requests may still be answered after an interrupt.
const INTERRUPT_GRACE_NS: u64 = 1_000_000_000;

/// How long a server has to close a connection after a last request that said so.
const CLOSING_NS: u64 = 1_000_000_000;

/// Groups in which unsent requests are counted at the end.
const UNSENT_STEPS_MAX: u64 = 1_000_000;

/// How long opening all connections may take before the run starts anyway.
const OPENING_TIME_MAX: Duration = Duration::from_secs(5);

/// One thread's share of a run.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) thread: usize,
    pub(super) peer: Peer,
    pub(super) connections: usize,
    /// `None` is a closed loop.
    pub(super) schedule: Option<Schedule>,
    /// End of starting requests, since the run's start.
    pub(super) duration_ns: Option<u64>,
    /// Requests of this thread.
    pub(super) requests_max: Option<u64>,
    pub(super) timeout_ns: u64,
    pub(super) run: u32,
    pub(super) first_seq: u64,
    /// Requests that may wait for their answers on one connection.
    pub(super) pipeline: usize,
    pub(super) requests_per_connection: Option<u64>,
    /// Statuses that are a success.
    pub(super) ok: OkStatuses,
    /// Whether an answer of success may refuse single events.
    pub(super) answers_per_event: bool,
}

impl Task {
    /// Whether connections are opened when a request is due, and not before. A request that has to
    /// have a connection of its own pays for opening it, as clients in the field do.
    fn opens_on_demand(&self) -> bool {
        self.requests_per_connection.is_some()
    }

    /// How many requests were meant to start before a time, and before the end or an interrupt.
    /// Times count from the run's start.
    fn due_before(&self, time: u64, stopped_at: Option<u64>) -> u64 {
        let end = [self.duration_ns, stopped_at]
            .into_iter()
            .flatten()
            .fold(time, u64::min);
        let due = self
            .schedule
            .as_ref()
            .map_or(0, |schedule| schedule.due_before(end));
        self.requests_max.map_or(due, |max| due.min(max))
    }
}

/// State that the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stop: AtomicBool,
    pub(super) acks: Option<LineFile>,
    /// Set once, when answers or histograms cannot be written any more.
    pub(super) failure: Mutex<Option<RunError>>,
    /// Threads meet here when their connections are open.
    pub(super) ready: Barrier,
    /// Zero of all times.
    pub(super) zero: Instant,
    /// When the run started, since `zero`.
    pub(super) start: OnceLock<u64>,
}

impl Shared {
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Hands lines to the file of answers. The first error ends the run.
    fn write_acks(&self, lines: &mut Vec<u8>) {
        let Some(file) = &self.acks else {
            return;
        };
        file.push_lines(lines);
        lines.clear();
        if let Err(error) = file.flush() {
            self.fail(error.into());
        }
    }

    /// Ends the run. Only the first reason is kept.
    pub(super) fn fail(&self, error: RunError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One thread of the generator.
pub(super) struct Worker<'a> {
    task: Task,
    shared: &'a Shared,
    requests: Requests,
    poll: Poll,
    timer: Timer,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    opening: usize,
    busy: usize,
    issued: u64,
    /// Sequence number of the next event.
    next_seq: u64,
    buffer: Vec<u8>,
    /// A last request with its header.
    last_request: Vec<u8>,
    acks: Vec<u8>,
    acks_flushed: u64,
    start: u64,
    /// Milliseconds since the Unix epoch at time zero.
    wall_zero_ms: u64,
    /// When the interrupt was seen, or the target was given up.
    stopped_at: Option<u64>,
    /// Whether the target was given up.
    gave_up: bool,
    last_open: u64,
    rng: Rng,
    /// Intended start of the next request, since `zero`; `u64::MAX` is never.
    next_intended: u64,
    /// When the second under way is over, since `zero`.
    second_end: u64,
    /// When the last wait for events began and ended, since `zero`.
    slept: (u64, u64),
    /// CPU time of the thread at the start.
    cpu_start: u64,
    seconds: Seconds,
    tally: Tally,
}

impl<'a> Worker<'a> {
    /// Acquires the system resources of the thread.
    pub(super) fn new(
        task: Task,
        requests: Requests,
        seconds: Seconds,
        shared: &'a Shared,
    ) -> io::Result<Worker<'a>> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(0);
        let connections = (0..task.connections).map(|_| Connection::new());
        Ok(Worker {
            connections: connections.collect(),
            shared,
            requests,
            poll,
            timer,
            idle: VecDeque::with_capacity(task.connections),
            opening: 0,
            busy: 0,
            issued: 0,
            next_seq: task.first_seq,
            buffer: vec![0; READ_BYTES],
            last_request: Vec::new(),
            acks: Vec::new(),
            acks_flushed: 0,
            start: 0,
            wall_zero_ms: wall_ms.saturating_sub(shared.now() / 1_000_000),
            stopped_at: None,
            gave_up: false,
            last_open: 0,
            rng: Rng::with_seed(u64::from(task.run) << 8 | task.thread as u64),
            next_intended: 0,
            second_end: u64::MAX,
            slept: (0, 0),
            cpu_start: 0,
            seconds,
            tally: Tally::default(),
            task,
        })
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// When the system refuses to wait for events.
    pub(super) fn run(mut self) -> io::Result<Tally> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let opened = self.open_all(&mut events);
        self.shared.ready.wait();
        opened?;
        self.start = *self.shared.start.get_or_init(|| self.shared.now());
        self.last_open = self.start;
        self.second_end = self.start + self.seconds.end();
        self.plan_next();
        self.cpu_start = cpu_time();
        let cpu_wait = cpu_wait();
        let mut check_at = 0;
        loop {
            let mut now = self.shared.now();
            if now >= check_at {
                self.check(now);
                now = self.shared.now();
                check_at = now + CHECK_NS;
            }
            self.issue(now);
            if self.is_done() {
                break;
            }
            let before = self.shared.now();
            self.arm(before);
            // Rounded up to a millisecond by mio; the timer is what wakes for requests.
            let wait = Duration::from_nanos(check_at.saturating_sub(before));
            self.wait(&mut events, wait)?;
            let after = self.shared.now();
            self.slept = (before, after);
            self.tally.idle += after - before;
            for event in &events {
                if event.token() != TIMER {
                    self.ready(event.token().0, event.is_read_closed());
                }
            }
        }
        let end = self.shared.now();
        for at in 0..self.connections.len() {
            if !self.connections[at].in_flight.is_empty() {
                self.fail(at, Failure::Interrupted, end);
            }
        }
        self.shared.write_acks(&mut self.acks);
        self.tally.wall = end - self.start;
        self.tally.cpu = cpu_time().saturating_sub(self.cpu_start);
        self.tally.cpu_wait = self::cpu_wait().saturating_sub(cpu_wait);
        let stopped_at = self.stopped_at.map(|at| at - self.start);
        self.count_unsent(end - self.start, stopped_at);
        let due = |end| self.task.due_before(end, stopped_at);
        self.seconds.finish(end - self.start, &mut self.tally, due);
        Ok(self.tally)
    }

    /// Counts the requests that were due before `end` and never sent, each with the time from its
    /// intended start to the end. Times count from the run's start.
    fn count_unsent(&mut self, end: u64, stopped_at: Option<u64>) {
        let due = self.task.due_before(end, stopped_at);
        // A number of requests that is given up on a dead target was asked for as a whole.
        let asked = self.task.requests_max.filter(|_| self.gave_up);
        self.tally.unsent = asked.unwrap_or(due).saturating_sub(self.issued);
        let Some(schedule) = &self.task.schedule else {
            return;
        };
        // Far too high a rate leaves billions: those that were due one after the other count
        // together, with the longest time among them.
        let step = due.saturating_sub(self.issued).div_ceil(UNSENT_STEPS_MAX);
        let step = step.max(1);
        let mut first = self.issued;
        while first < due {
            let count = step.min(due - first);
            let waited = end.saturating_sub(schedule.intended(first));
            let times = &mut self.tally.times;
            times.intended.saturating_record_n(waited, count);
            first += count;
        }
    }

    /// Opens connections until each is open or has failed once, or it takes too long.
    fn open_all(&mut self, events: &mut Events) -> io::Result<()> {
        let started = Instant::now();
        if self.task.opens_on_demand() {
            let now = self.shared.now();
            (0..self.connections.len()).for_each(|at| self.queue(at, now));
            return Ok(());
        }
        while started.elapsed() < OPENING_TIME_MAX && !self.shared.stop.load(Ordering::Relaxed) {
            let now = self.shared.now();
            for at in 0..self.connections.len() {
                let fresh = matches!(self.connections[at].state, State::Closed { retry_at: 0 });
                if fresh && self.opening < OPENING_MAX {
                    self.open(at, now);
                }
            }
            if self.opening == 0 {
                break;
            }
            self.wait(events, Duration::from_millis(10))?;
            for event in &*events {
                if event.token() != TIMER {
                    self.ready(event.token().0, event.is_read_closed());
                }
            }
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, wait: Duration) -> io::Result<()> {
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// Whether another request may start now, and if so when it was meant to.
    fn due(&self, now: u64) -> Option<u64> {
        if self.stopped_at.is_some() || self.task.requests_max == Some(self.issued) {
            return None;
        }
        let end = self
            .task
            .duration_ns
            .map_or(u64::MAX, |duration| self.start + duration);
        let intended = match &self.task.schedule {
            Some(_) => self.next_intended,
            None => now,
        };
        // Requests that still wait for a connection after the end are not sent any more.
        (intended < end && now < end.saturating_add(CHECK_NS)).then_some(intended)
    }

    /// Starts due requests while connections are free.
    fn issue(&mut self, mut now: u64) {
        while let Some(intended) = self.due(now)
            && intended <= now
            && let Some(at) = self.next_idle(now)
        {
            now = self.send(at, intended);
        }
    }

    fn next_idle(&mut self, now: u64) -> Option<usize> {
        while let Some(at) = self.idle.pop_front() {
            self.connections[at].queued = false;
            if self.has_room(at, now) {
                return Some(at);
            }
        }
        None
    }

    fn is_done(&self) -> bool {
        match self.stopped_at {
            Some(at) => self.busy == 0 || self.shared.now() > at + INTERRUPT_GRACE_NS,
            None => self.busy == 0 && self.due(self.shared.now()).is_none(),
        }
    }

    /// Sets the timer to the next start, if a connection is free for it.
    fn arm(&mut self, now: u64) {
        let next = match &self.task.schedule {
            Some(_) if !self.idle.is_empty() => self.due(now),
            _ => None,
        };
        self.timer
            .set(next.map(|next| next.max(now + PACE_NS) - now));
    }

    /// Determines the intended start of the next request.
    fn plan_next(&mut self) {
        if let Some(schedule) = &self.task.schedule {
            self.next_intended = self.start.saturating_add(schedule.intended(self.issued));
        }
    }

    /// Hands over the seconds that are over.
    #[cold]
    fn pass_second(&mut self, now: u64) {
        self.tally.cpu = cpu_time().saturating_sub(self.cpu_start);
        let stopped_at = self.stopped_at.map(|at| at - self.start);
        let due = |end| self.task.due_before(end, stopped_at);
        self.seconds.pass(now - self.start, &mut self.tally, due);
        self.second_end = self.start + self.seconds.end();
    }

    /// Checks deadlines, lost connections and the stop flag; flushes answers and passes seconds on.
    fn check(&mut self, now: u64) {
        if self.stopped_at.is_none() && self.shared.stop.load(Ordering::Relaxed) {
            self.stopped_at = Some(now);
        }
        let mut open = 0;
        for at in 0..self.connections.len() {
            let connection = &self.connections[at];
            if let Some(oldest) = connection.in_flight.front()
                && now.saturating_sub(oldest.started) > self.task.timeout_ns
            {
                match connection.state {
                    State::Connecting { .. } => {
                        self.connect_failed(at, Failure::ConnectTimeout, now);
                    }
                    _ => self.fail(at, Failure::Timeout, now),
                }
                continue;
            }
            match connection.state {
                State::Connecting { since } if now - since > self.task.timeout_ns => {
                    self.connect_failed(at, Failure::ConnectTimeout, now);
                }
                State::Closed { retry_at } if retry_at <= now => {
                    // Kept for a request, and not known to be dead.
                    open += usize::from(self.task.opens_on_demand() && connection.failures == 0);
                    self.reopen(at, now);
                }
                State::Closing { since } if now - since > CLOSING_NS => self.close(at, now),
                State::Open { .. } | State::Closing { .. } => open += 1,
                _ => {}
            }
        }
        if open > 0 {
            self.last_open = now;
        }
        // A number of requests without a time limit must not wait forever for a dead target.
        if self.task.duration_ns.is_none() && now - self.last_open > self.task.timeout_ns {
            self.gave_up |= self.stopped_at.is_none();
            self.stopped_at.get_or_insert(now);
        }
        if self.acks.len() > ACKS_PENDING_MAX || now - self.acks_flushed > ACKS_FLUSH_NS {
            self.acks_flushed = now;
            self.shared.write_acks(&mut self.acks);
        }
        if now >= self.second_end {
            self.pass_second(now);
        }
    }

    /// Counts the requests on a connection as unanswered, and closes it.
    fn fail(&mut self, at: usize, failure: Failure, now: u64) {
        self.give_up(at, failure, now);
        self.connections[at].failures += 1;
        self.close(at, now);
    }

    /// Counts the requests on a connection as unanswered, each with the time until now: an answer
    /// would have taken longer.
    fn give_up(&mut self, at: usize, failure: Failure, now: u64) {
        while let Some(request) = self.connections[at].in_flight.pop_front() {
            self.busy -= 1;
            self.measure(&request, now);
            *self.tally.unanswered.entry(failure).or_default() += 1;
            if self.shared.acks.is_some() && request.events > 0 {
                self.ack(&request, None)
                    .write_unanswered(&mut self.acks, failure.label());
            }
        }
    }

    fn ack(&self, request: &InFlight, status: Option<u16>) -> Ack {
        let second = request.started.saturating_sub(self.start) / 1_000_000_000;
        Ack {
            run: self.task.run,
            first: request.first,
            count: request.events,
            second: Some(u32::try_from(second).unwrap_or(u32::MAX)),
            status,
            refused: Vec::new(),
        }
    }

    /// Starts the next request on a connection that can take one. Returns the time of its start.
    fn send(&mut self, at: usize, intended: u64) -> u64 {
        let now = self.shared.now();
        if now >= self.second_end {
            self.pass_second(now);
        }
        let connection = &mut self.connections[at];
        let is_open_loop = self.task.schedule.is_some();
        let (is_closed, free_since) = match connection.state {
            State::Closed { retry_at } => (true, retry_at),
            State::Open { free_since } => (false, free_since),
            State::Connecting { .. } | State::Closing { .. } => (false, now),
        };
        if is_open_loop {
            let due = intended.max(free_since);
            let slip = now.saturating_sub(due);
            self.tally.times.slip.saturating_record(slip);
            if slip > SLIP_MAX_NS {
                self.tally.late += 1;
                // Of the time after it fell due, the thread slept through this.
                let (asleep, awake) = self.slept;
                let slept = awake.saturating_sub(due.max(asleep)).min(slip);
                self.tally.late_awake += u64::from(slip - slept > SLIP_MAX_NS);
            }
        }
        // When a lost connection is opened again while a request waits for it, opening it is part of
        // the request. In a closed loop one always waits.
        let waited_since = if is_open_loop { intended } else { 0 };
        let opened_for_it = !is_closed
            && connection.requests == 0
            && connection.opening_since >= self.start
            && waited_since < free_since;
        let started = match opened_for_it {
            true => connection.opening_since.max(waited_since),
            false => now,
        };
        let first = self.next_seq;
        let request = self
            .requests
            .next(first, self.wall_zero_ms + now / 1_000_000);
        self.issued += 1;
        self.next_seq += u64::from(request.events);
        self.tally.sent += 1;
        self.busy += 1;
        connection.requests += 1;
        connection.in_flight.push_back(InFlight {
            intended,
            started,
            first,
            events: request.events,
            preflight: request.preflight,
        });
        let mut bytes = request.bytes;
        if Some(connection.requests) == self.task.requests_per_connection {
            let (line, rest) = bytes.split_at(request.headers_at);
            self.last_request.clear();
            for part in [line, LAST_REQUEST, rest] {
                self.last_request.extend_from_slice(part);
            }
            bytes = &self.last_request;
        }
        self.tally.bytes_out += bytes.len() as u64;
        if is_closed {
            connection.unwritten.extend_from_slice(bytes);
            self.open(at, now);
            self.plan_next();
            return now;
        }
        let written = match &mut connection.stream {
            // It has to wait behind an earlier one.
            Some(_) if !connection.unwritten.is_empty() => Ok(0),
            Some(stream) => stream.write(bytes),
            None => Err(ErrorKind::NotConnected.into()),
        };
        match written {
            Ok(written) => {
                connection.unwritten.extend_from_slice(&bytes[written..]);
                self.queue(at, now);
            }
            Err(error) => self.fail(at, Failure::of(&error), now),
        }
        self.plan_next();
        now
    }

    /// Writes an answer down. Returns whether the connection is still open.
    fn complete(&mut self, at: usize, answer: &Answer, bytes: &[u8], now: u64) -> bool {
        if now >= self.second_end {
            self.pass_second(now);
        }
        let connection = &mut self.connections[at];
        let Some(request) = connection.in_flight.pop_front() else {
            return false;
        };
        self.busy -= 1;
        connection.failures = 0;
        let is_last = Some(connection.requests) == self.task.requests_per_connection
            && connection.in_flight.is_empty();
        // Surplus bytes, or an answer before the whole request went out: nothing after this
        // could be told apart.
        let in_step = !connection.in_flight.is_empty()
            || (answer.length == bytes.len()
                && connection.unwritten.is_empty()
                && connection.stream.as_ref().is_some_and(Stream::is_flushed));
        self.count(&request, answer, bytes, now);
        if is_last && in_step {
            if answer.keep_alive {
                // A server that does not close when asked to is abandoned.
                self.close(at, now);
            } else {
                self.connections[at].state = State::Closing { since: now };
            }
            return !answer.keep_alive;
        }
        if !answer.keep_alive || !in_step {
            self.closed_by_server(at, now);
            return false;
        }
        let connection = &mut self.connections[at];
        if connection.in_flight.len() + 1 == self.task.pipeline {
            connection.state = State::Open { free_since: now };
        }
        self.queue(at, now);
        // In a closed loop the next request follows immediately.
        if self.task.schedule.is_none() {
            self.issue(now);
        }
        matches!(self.connections[at].state, State::Open { .. })
    }

    /// Records the latency of a request that is over.
    fn measure(&mut self, request: &InFlight, now: u64) {
        let times = &mut self.tally.times;
        if self.task.schedule.is_some() {
            let latency = now.saturating_sub(request.intended);
            times.intended.saturating_record(latency);
        }
        let latency = now.saturating_sub(request.started);
        times.actual.saturating_record(latency);
    }

    /// Counts an answer.
    fn count(&mut self, request: &InFlight, answer: &Answer, bytes: &[u8], now: u64) {
        self.tally.answered += 1;
        self.tally.last_answer = now - self.start;
        self.tally.status(answer.status);
        self.measure(request, now);
        let accepted = self.task.ok.contains(answer.status);
        let ok = accepted || (request.preflight && answer.status == 204);
        self.tally.ok += u64::from(ok);
        self.tally.preflights += u64::from(request.preflight);
        let mut ack = self.ack(request, Some(answer.status));
        if accepted {
            if self.task.answers_per_event && !answer.body.is_empty() {
                ack.refused = refused_indices(answer, bytes, request.events);
            }
            let refused = ack.refused.len() as u64;
            self.tally.events_refused += refused;
            self.tally.events_ok += u64::from(request.events) - refused;
        }
        if self.shared.acks.is_some() && request.events > 0 {
            ack.write_answer(&mut self.acks, answer.status);
        }
    }
}

/// The header of the last request on a connection.
const LAST_REQUEST: &[u8] = b"Connection: close\r\n";

/// Nanoseconds that this thread was on a CPU.
fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Nanoseconds that this thread waited in a run queue; 0 where the kernel keeps no such account.
fn cpu_wait() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = text.split_ascii_whitespace().nth(1);
    waited.and_then(|word| word.parse().ok()).unwrap_or(0)
}
