//! One thread of the generator: its connections, one epoll instance, one timer.
//! Decides when each request starts and writes down what became of it; knows no report.

use super::ANSWER_BYTES_MAX;
use super::body::Requests;
use super::schedule::Schedule;
use super::tally::{Failure, Tally};
use super::timer::Timer;
use crate::answer::{Answer, AnswerReader, BadAnswer, refused_indices};
use crate::ledger::{Ack, LedgerError, LineFile};
use fastrand::Rng;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// How long opening all connections may take before the run starts anyway.
const OPENING_TIME_MAX: Duration = Duration::from_secs(5);

/// What one thread is to do.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) thread: usize,
    pub(super) address: SocketAddr,
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
    pub(super) batch: u32,
    /// Whether an answer of 200 may refuse single events.
    pub(super) answers_per_event: bool,
}

/// Counts that another thread may look at while the run goes on.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Live {
    pub(super) sent: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) ok: AtomicU64,
    pub(super) unanswered: AtomicU64,
}

/// What threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stop: AtomicBool,
    pub(super) acks: Option<Mutex<LineFile>>,
    /// Set once, when answers cannot be written any more.
    pub(super) failure: Mutex<Option<LedgerError>>,
    pub(super) live: Vec<Live>,
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
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.push_lines(lines);
        lines.clear();
        if let Err(error) = file.flush() {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
enum State {
    /// To be opened at this time.
    Closed {
        retry_at: u64,
    },
    Connecting {
        since: u64,
    },
    Idle {
        since: u64,
    },
    Busy {
        intended: u64,
        started: u64,
        first: u64,
    },
}

#[derive(Debug)]
struct Connection {
    state: State,
    stream: Option<TcpStream>,
    /// What of the request is not written yet.
    unwritten: Vec<u8>,
    /// The bytes of an unfinished answer.
    partial: Vec<u8>,
    reader: AnswerReader,
    /// Failures in a row.
    failures: u32,
    /// Whether it stands in the queue of idle ones.
    queued: bool,
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
    buffer: Vec<u8>,
    acks: Vec<u8>,
    acks_flushed: u64,
    start: u64,
    /// Milliseconds since the Unix epoch at time zero.
    wall_zero_ms: u64,
    /// When the interrupt was seen.
    stopped_at: Option<u64>,
    last_open: u64,
    rng: Rng,
    tally: Tally,
}

impl<'a> Worker<'a> {
    /// Takes what the thread needs from the system.
    pub(super) fn new(
        task: Task,
        requests: Requests,
        shared: &'a Shared,
    ) -> io::Result<Worker<'a>> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(0);
        let connections = (0..task.connections).map(|_| Connection {
            state: State::Closed { retry_at: 0 },
            stream: None,
            unwritten: Vec::new(),
            partial: Vec::new(),
            reader: AnswerReader::new(ANSWER_BYTES_MAX),
            failures: 0,
            queued: false,
        });
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
            buffer: vec![0; READ_BYTES],
            acks: Vec::new(),
            acks_flushed: 0,
            start: 0,
            wall_zero_ms: wall_ms.saturating_sub(shared.now() / 1_000_000),
            stopped_at: None,
            last_open: 0,
            rng: Rng::with_seed(u64::from(task.run) << 8 | task.thread as u64),
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
        let (cpu, cpu_wait) = thread_times();
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
            self.tally.idle += self.shared.now() - before;
            for event in &events {
                if event.token() != TIMER {
                    self.ready(event.token().0, event.is_read_closed());
                }
            }
        }
        let end = self.shared.now();
        for at in 0..self.connections.len() {
            if let State::Busy { .. } = self.connections[at].state {
                self.fail(at, Failure::Interrupted, end);
            }
        }
        self.shared.write_acks(&mut self.acks);
        self.publish();
        self.tally.unsent = self.unsent(end);
        self.tally.wall = end - self.start;
        let (cpu_end, cpu_wait_end) = thread_times();
        self.tally.cpu = cpu_end - cpu;
        self.tally.cpu_wait = cpu_wait_end - cpu_wait;
        Ok(self.tally)
    }

    /// Opens connections until each is open or has failed once, or it takes too long.
    fn open_all(&mut self, events: &mut Events) -> io::Result<()> {
        let started = Instant::now();
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
            Some(schedule) => self.start + schedule.intended(self.issued),
            None => now,
        };
        // What is still waiting for a connection when the end is past is not sent any more.
        (intended < end && now < end.saturating_add(CHECK_NS)).then_some(intended)
    }

    /// Starts what is due, as long as connections are free.
    fn issue(&mut self, mut now: u64) {
        while let Some(intended) = self.due(now)
            && intended <= now
            && let Some(at) = self.next_idle()
        {
            now = self.send(at, intended);
        }
    }

    fn next_idle(&mut self) -> Option<usize> {
        while let Some(at) = self.idle.pop_front() {
            let connection = &mut self.connections[at];
            connection.queued = false;
            if let State::Idle { .. } = connection.state {
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

    /// Requests that were meant to start before the end and did not.
    fn unsent(&self, end: u64) -> u64 {
        let Some(schedule) = &self.task.schedule else {
            return 0;
        };
        let end = self.stopped_at.unwrap_or(end) - self.start;
        let end = self
            .task
            .duration_ns
            .map_or(end, |duration| duration.min(end));
        let due = schedule.due_before(end);
        let due = self.task.requests_max.map_or(due, |max| due.min(max));
        due.saturating_sub(self.issued)
    }

    /// Deadlines, lost connections, the stop flag, and what others want to see.
    fn check(&mut self, now: u64) {
        if self.stopped_at.is_none() && self.shared.stop.load(Ordering::Relaxed) {
            self.stopped_at = Some(now);
        }
        let mut open = 0;
        for at in 0..self.connections.len() {
            match self.connections[at].state {
                State::Busy { started, .. } if now - started > self.task.timeout_ns => {
                    self.fail(at, Failure::Timeout, now);
                }
                State::Connecting { since } if now - since > self.task.timeout_ns => {
                    self.connect_failed(at, Failure::ConnectTimeout, now);
                }
                State::Closed { retry_at } if retry_at <= now && self.opening < OPENING_MAX => {
                    self.open(at, now);
                }
                State::Idle { .. } | State::Busy { .. } => open += 1,
                _ => {}
            }
        }
        if open > 0 {
            self.last_open = now;
        }
        // A number of requests without a time limit must not wait for ever for a dead target.
        if self.task.duration_ns.is_none() && now - self.last_open > self.task.timeout_ns {
            self.stopped_at.get_or_insert(now);
        }
        if self.acks.len() > ACKS_PENDING_MAX || now - self.acks_flushed > ACKS_FLUSH_NS {
            self.acks_flushed = now;
            self.shared.write_acks(&mut self.acks);
        }
        self.publish();
    }

    fn publish(&self) {
        let Some(live) = self.shared.live.get(self.task.thread) else {
            return;
        };
        live.sent.store(self.tally.sent, Ordering::Relaxed);
        live.answered.store(self.tally.answered, Ordering::Relaxed);
        live.ok.store(self.tally.statuses[200], Ordering::Relaxed);
        let unanswered = self.tally.unanswered.values().sum();
        live.unanswered.store(unanswered, Ordering::Relaxed);
    }

    /// Starts to open a connection.
    fn open(&mut self, at: usize, now: u64) {
        let opened = TcpStream::connect(self.task.address).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, Token(at), interest)?;
            Ok(stream)
        });
        self.opening += 1;
        self.connections[at].state = State::Connecting { since: now };
        match opened {
            Ok(stream) => self.connections[at].stream = Some(stream),
            Err(error) => self.connect_failed(at, Failure::of_connect(&error), now),
        }
    }

    fn connect_failed(&mut self, at: usize, failure: Failure, now: u64) {
        *self.tally.connect_failures.entry(failure).or_default() += 1;
        self.connections[at].failures += 1;
        self.close(at, now);
    }

    /// Forgets a connection, and says when it is to be opened again: at once when it worked
    /// before, else after a wait that doubles with each failure in a row.
    fn close(&mut self, at: usize, now: u64) {
        let connection = &mut self.connections[at];
        match connection.state {
            State::Connecting { .. } => self.opening -= 1,
            State::Busy { .. } => self.busy -= 1,
            State::Idle { .. } | State::Closed { .. } => {}
        }
        // Dropping the stream closes it, and takes it out of the epoll set.
        connection.stream = None;
        connection.unwritten.clear();
        connection.partial.clear();
        connection.reader = AnswerReader::new(ANSWER_BYTES_MAX);
        let retry_at = match connection.failures {
            0 => now,
            failures => {
                let doubled = BACKOFF_MIN_NS << (failures - 1).min(7);
                let wait = doubled.min(BACKOFF_MAX_NS);
                now + wait / 2 + self.rng.u64(0..=wait / 2)
            }
        };
        // Zero means never tried.
        connection.state = State::Closed {
            retry_at: retry_at.max(1),
        };
        if connection.failures == 0 && self.opening < OPENING_MAX {
            self.open(at, now);
        }
    }

    /// Counts a request as unanswered, and closes its connection.
    fn fail(&mut self, at: usize, failure: Failure, now: u64) {
        if let State::Busy { first, started, .. } = self.connections[at].state {
            *self.tally.unanswered.entry(failure).or_default() += 1;
            if self.shared.acks.is_some() {
                self.ack(first, started, None)
                    .write_unanswered(&mut self.acks, failure.label());
            }
        }
        self.connections[at].failures += 1;
        self.close(at, now);
    }

    fn ack(&self, first: u64, started: u64, status: Option<u16>) -> Ack {
        let second = started.saturating_sub(self.start) / 1_000_000_000;
        Ack {
            run: self.task.run,
            first,
            count: self.task.batch,
            second: Some(u32::try_from(second).unwrap_or(u32::MAX)),
            status,
            refused: Vec::new(),
        }
    }

    /// Something happened on a connection.
    fn ready(&mut self, at: usize, read_closed: bool) {
        let now = self.shared.now();
        match self.connections[at].state {
            State::Closed { .. } => {}
            State::Connecting { .. } => self.connected(at, now),
            State::Idle { .. } | State::Busy { .. } => {
                if self.write(at, now) {
                    self.read(at, read_closed);
                }
            }
        }
    }

    fn connected(&mut self, at: usize, now: u64) {
        let Some(stream) = &self.connections[at].stream else {
            return;
        };
        let failed = match (stream.take_error(), stream.peer_addr()) {
            (Ok(Some(error)) | Err(error), _) => Some(error),
            (Ok(None), Ok(_)) => None,
            // Not there yet.
            (Ok(None), Err(_)) => return,
        };
        match failed {
            Some(error) => self.connect_failed(at, Failure::of_connect(&error), now),
            None => {
                // Requests are written whole; waiting to join them would only delay them.
                let _ = stream.set_nodelay(true);
                self.opening -= 1;
                self.tally.connects += 1;
                self.last_open = now;
                self.set_idle(at, now);
            }
        }
    }

    fn set_idle(&mut self, at: usize, now: u64) {
        let connection = &mut self.connections[at];
        connection.state = State::Idle { since: now };
        if !connection.queued {
            connection.queued = true;
            self.idle.push_back(at);
        }
    }

    /// Starts the next request on an idle connection. Returns the time of its start.
    fn send(&mut self, at: usize, intended: u64) -> u64 {
        let now = self.shared.now();
        let connection = &mut self.connections[at];
        if let (State::Idle { since }, Some(_)) = (&connection.state, &self.task.schedule) {
            let slip = now.saturating_sub(intended.max(*since));
            self.tally.slip.saturating_record(slip);
        }
        let first = self.task.first_seq + self.issued * u64::from(self.task.batch);
        self.issued += 1;
        self.tally.sent += 1;
        self.busy += 1;
        connection.state = State::Busy {
            intended,
            started: now,
            first,
        };
        let request = self
            .requests
            .next(first, self.wall_zero_ms + now / 1_000_000);
        self.tally.bytes_out += request.len() as u64;
        let written = match &mut connection.stream {
            Some(stream) => write_some(stream, request),
            None => Err(ErrorKind::NotConnected.into()),
        };
        match written {
            Ok(written) => connection.unwritten.extend_from_slice(&request[written..]),
            Err(error) => self.fail(at, Failure::of(&error), now),
        }
        now
    }

    /// Goes on writing a request. Returns whether the connection is still open.
    fn write(&mut self, at: usize, now: u64) -> bool {
        let connection = &mut self.connections[at];
        if connection.unwritten.is_empty() {
            return true;
        }
        let Some(stream) = &mut connection.stream else {
            return false;
        };
        match write_some(stream, &connection.unwritten) {
            Ok(written) => {
                connection.unwritten.drain(..written);
                true
            }
            // An answer may have come before the peer stopped reading.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => true,
            Err(error) => {
                self.fail(at, Failure::of(&error), now);
                false
            }
        }
    }

    fn read(&mut self, at: usize, read_closed: bool) {
        // Taken for the while, so that what was read and the rest of self can be used together.
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(stream) = &mut self.connections[at].stream {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.end_of_stream(at);
                    break;
                }
                Ok(count) => {
                    self.tally.bytes_in += count as u64;
                    let open = self.received(at, &buffer[..count]);
                    // Less than asked for means that nothing is left, unless the end is near.
                    if !open || (count < buffer.len() && !read_closed) {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let now = self.shared.now();
                    match self.connections[at].state {
                        State::Busy { .. } => self.fail(at, Failure::of(&error), now),
                        _ => self.closed_by_server(at, now),
                    }
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes bytes that came. Returns whether the connection is open and may have more.
    fn received(&mut self, at: usize, bytes: &[u8]) -> bool {
        let now = self.shared.now();
        let connection = &mut self.connections[at];
        if !matches!(connection.state, State::Busy { .. }) {
            // Nobody asked.
            *self
                .tally
                .connect_failures
                .entry(Failure::BadAnswer)
                .or_default() += 1;
            self.fail(at, Failure::BadAnswer, now);
            return false;
        }
        // Most answers come whole, and are read where they lie.
        let mut partial = std::mem::take(&mut connection.partial);
        let joined = !partial.is_empty();
        if joined {
            partial.extend_from_slice(bytes);
        }
        let so_far = if joined { &partial } else { bytes };
        match connection.reader.read(so_far, false) {
            Ok(Some(answer)) => {
                let open = self.complete(at, &answer, so_far, now);
                partial.clear();
                self.connections[at].partial = partial;
                open
            }
            Ok(None) => {
                if !joined {
                    partial.extend_from_slice(bytes);
                }
                connection.partial = partial;
                true
            }
            Err(bad) => {
                let failure = match bad {
                    BadAnswer::Malformed => Failure::BadAnswer,
                    BadAnswer::TooLarge => Failure::AnswerTooLarge,
                };
                self.fail(at, failure, now);
                false
            }
        }
    }

    fn end_of_stream(&mut self, at: usize) {
        let now = self.shared.now();
        let connection = &mut self.connections[at];
        if !matches!(connection.state, State::Busy { .. }) {
            return self.closed_by_server(at, now);
        }
        let partial = std::mem::take(&mut connection.partial);
        match connection.reader.read(&partial, true) {
            Ok(Some(answer)) => {
                self.complete(at, &answer, &partial, now);
            }
            _ => self.fail(at, Failure::Closed, now),
        }
    }

    fn closed_by_server(&mut self, at: usize, now: u64) {
        self.tally.closed_by_server += 1;
        if let State::Idle { since } = self.connections[at].state
            && since + BACKOFF_MIN_NS > now
        {
            // A server that closes what it just accepted is not to be hammered.
            self.connections[at].failures += 1;
        }
        self.close(at, now);
    }

    /// Writes an answer down. Returns whether the connection is still open.
    fn complete(&mut self, at: usize, answer: &Answer, bytes: &[u8], now: u64) -> bool {
        let connection = &mut self.connections[at];
        let State::Busy {
            intended,
            started,
            first,
        } = connection.state
        else {
            return false;
        };
        self.tally.answered += 1;
        self.tally.last_answer = now - self.start;
        self.tally.status(answer.status);
        self.tally
            .intended
            .saturating_record(now.saturating_sub(intended));
        self.tally.actual.saturating_record(now - started);
        connection.failures = 0;
        // Surplus bytes, or an answer before the whole request went out: nothing after this
        // could be told apart.
        let keep =
            answer.keep_alive && answer.length == bytes.len() && connection.unwritten.is_empty();
        let mut ack = self.ack(first, started, Some(answer.status));
        if answer.status == 200 {
            if self.task.answers_per_event && !answer.body.is_empty() {
                ack.refused = refused_indices(answer, bytes, self.task.batch);
            }
            let refused = ack.refused.len() as u64;
            self.tally.events_refused += refused;
            self.tally.events_ok += u64::from(self.task.batch) - refused;
        }
        if self.shared.acks.is_some() {
            ack.write_answer(&mut self.acks, answer.status);
        }
        if !keep {
            self.closed_by_server(at, now);
            return false;
        }
        self.busy -= 1;
        self.set_idle(at, now);
        // In a closed loop the next request follows at once.
        if self.task.schedule.is_none() {
            self.issue(now);
        }
        true
    }
}

/// Writes as much as the socket takes now.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Nanoseconds that this thread was on a CPU, and waited for one; zeros where the kernel keeps
/// no such account.
fn thread_times() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut numbers = text
        .split_ascii_whitespace()
        .map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
