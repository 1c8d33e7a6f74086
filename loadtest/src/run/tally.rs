//! A thread's counters, and how threads add up.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// How a request, or the opening of a connection, ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The connection was not accepted.
    ConnectRefused,
    /// The connection was not opened in time.
    ConnectTimeout,
    /// This machine has no port left for another connection to the target: too many were closed
    /// lately by us and not by the server.
    NoLocalPort,
    /// The connection could not be opened for another reason.
    ConnectFailed,
    /// TLS failed: in the handshake, or a record was damaged.
    Tls,
    /// No whole answer came in time.
    Timeout,
    /// The connection was reset.
    Reset,
    /// The connection was closed before the whole answer had come.
    Closed,
    /// The bytes received are no HTTP answer, or no request asked for them.
    BadAnswer,
    /// The answer was over the limit for answers.
    AnswerTooLarge,
    /// The socket failed in another way.
    Socket,
    /// The run ended first.
    Interrupted,
}

impl Failure {
    /// Its name in reports and in files of answers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Failure::ConnectRefused => "connect_refused",
            Failure::ConnectTimeout => "connect_timeout",
            Failure::NoLocalPort => "no_local_port",
            Failure::ConnectFailed => "connect_failed",
            Failure::Tls => "tls",
            Failure::Timeout => "timeout",
            Failure::Reset => "reset",
            Failure::Closed => "closed",
            Failure::BadAnswer => "bad_answer",
            Failure::AnswerTooLarge => "answer_too_large",
            Failure::Socket => "socket",
            Failure::Interrupted => "interrupted",
        }
    }

    /// The class of an error on an open connection.
    pub(super) fn of(error: &std::io::Error) -> Failure {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionReset => Failure::Reset,
            ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Failure::Closed,
            ErrorKind::InvalidData => Failure::Tls,
            _ => Failure::Socket,
        }
    }

    /// The class of an error while opening a connection.
    pub(super) fn of_connect(error: &std::io::Error) -> Failure {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => Failure::ConnectRefused,
            ErrorKind::TimedOut => Failure::ConnectTimeout,
            ErrorKind::AddrNotAvailable => Failure::NoLocalPort,
            ErrorKind::InvalidData => Failure::Tls,
            _ => Failure::ConnectFailed,
        }
    }
}

/// One past the largest status that HTTP has.
const STATUS_END: usize = 1_000;

/// Latencies of one second, or of all.
#[derive(Debug)]
pub(super) struct Times {
    /// From the intended start to the answer; empty in a closed loop.
    pub(super) intended: Histogram<u64>,
    /// From the real start to the answer.
    pub(super) actual: Histogram<u64>,
    /// From the moment when a request was due and a connection was free, to its start; empty in a
    /// closed loop.
    pub(super) slip: Histogram<u64>,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            intended: histogram(),
            actual: histogram(),
            slip: histogram(),
        }
    }
}

impl Times {
    pub(super) fn is_empty(&self) -> bool {
        self.intended.is_empty() && self.actual.is_empty() && self.slip.is_empty()
    }

    pub(super) fn add(&mut self, other: &Times) {
        // All have the same bounds, so adding cannot fail.
        let _ = self.intended.add(&other.intended);
        let _ = self.actual.add(&other.actual);
        let _ = self.slip.add(&other.slip);
    }

    pub(super) fn clear(&mut self) {
        self.intended.reset();
        self.actual.reset();
        self.slip.reset();
    }
}

/// Counts of one thread, or of all. Times in nanoseconds.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// Answers by status.
    pub(super) statuses: Vec<u64>,
    /// Answers as they should be: with a status of success, or 204 to a preflight.
    pub(super) ok: u64,
    /// Answers to preflights.
    pub(super) preflights: u64,
    /// Events in requests that were answered with success, less those that the answer refused.
    pub(super) events_ok: u64,
    /// Events that an answer of success refused.
    pub(super) events_refused: u64,
    pub(super) unanswered: BTreeMap<Failure, u64>,
    pub(super) connect_failures: BTreeMap<Failure, u64>,
    pub(super) connects: u64,
    /// How long it took to connect TCP, and to shake hands with TLS, for connections that opened.
    pub(super) connect_times: Histogram<u64>,
    pub(super) handshake_times: Histogram<u64>,
    /// Connections that the server closed while no request was on them, or after an answer.
    pub(super) closed_by_server: u64,
    /// Scheduled and never sent, for want of a free connection.
    pub(super) unsent: u64,
    pub(super) bytes_out: u64,
    pub(super) bytes_in: u64,
    /// Latencies of the second under way.
    pub(super) times: Times,
    /// Requests that started over [`super::lateness::SLIP_MAX_NS`] late by this machine's or this
    /// thread's fault, and those of them that fell due while the thread was awake.
    pub(super) late: u64,
    pub(super) late_awake: u64,
    /// Time of the run, of waiting for events in it, on a CPU, and waiting for a CPU.
    pub(super) wall: u64,
    pub(super) idle: u64,
    pub(super) cpu: u64,
    pub(super) cpu_wait: u64,
    /// Largest share of the run in which a thread did not wait for events, was on a CPU, and waited
    /// for one.
    pub(super) busy_max: f64,
    pub(super) cpu_max: f64,
    pub(super) starved_max: f64,
    /// When the last answer came, since the start.
    pub(super) last_answer: u64,
}

/// 100 ns to an hour, three significant digits: 0.1 %.
fn histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used, reason = "the bounds are constants, and valid")]
    Histogram::new_with_bounds(100, 3_600_000_000_000, 3).expect("valid bounds")
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            sent: 0,
            answered: 0,
            statuses: vec![0; STATUS_END],
            ok: 0,
            preflights: 0,
            events_ok: 0,
            events_refused: 0,
            unanswered: BTreeMap::new(),
            connect_failures: BTreeMap::new(),
            connects: 0,
            connect_times: histogram(),
            handshake_times: histogram(),
            closed_by_server: 0,
            unsent: 0,
            late: 0,
            late_awake: 0,
            bytes_out: 0,
            bytes_in: 0,
            times: Times::default(),
            wall: 0,
            idle: 0,
            cpu: 0,
            cpu_wait: 0,
            busy_max: 0.0,
            cpu_max: 0.0,
            starved_max: 0.0,
            last_answer: 0,
        }
    }
}

impl Tally {
    pub(super) fn status(&mut self, status: u16) {
        if let Some(count) = self.statuses.get_mut(usize::from(status)) {
            *count += 1;
        }
    }

    /// A part of the run's time.
    fn share(&self, part: u64) -> f64 {
        if self.wall == 0 {
            return 0.0;
        }
        part as f64 / self.wall as f64
    }

    /// Adds another thread's counts. Its latencies were handed over second by second.
    pub(super) fn add(&mut self, other: &Tally) {
        self.sent += other.sent;
        self.answered += other.answered;
        for (count, more) in self.statuses.iter_mut().zip(&other.statuses) {
            *count += more;
        }
        self.ok += other.ok;
        self.preflights += other.preflights;
        self.events_ok += other.events_ok;
        self.events_refused += other.events_refused;
        for (failure, more) in &other.unanswered {
            *self.unanswered.entry(*failure).or_default() += more;
        }
        for (failure, more) in &other.connect_failures {
            *self.connect_failures.entry(*failure).or_default() += more;
        }
        self.connects += other.connects;
        // All have the same bounds, so adding cannot fail.
        let _ = self.connect_times.add(&other.connect_times);
        let _ = self.handshake_times.add(&other.handshake_times);
        self.closed_by_server += other.closed_by_server;
        self.unsent += other.unsent;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.wall = self.wall.max(other.wall);
        self.idle += other.idle;
        self.cpu += other.cpu;
        self.cpu_wait += other.cpu_wait;
        let busy = other.wall.saturating_sub(other.idle);
        self.busy_max = self.busy_max.max(other.share(busy));
        self.cpu_max = self.cpu_max.max(other.share(other.cpu));
        self.starved_max = self.starved_max.max(other.share(other.cpu_wait));
        self.last_answer = self.last_answer.max(other.last_answer);
    }
}
