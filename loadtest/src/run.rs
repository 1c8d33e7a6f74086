//! The generator: sends events over HTTP/1.1 at a constant rate or as fast as they are answered,
//! measures latency, and writes down what was answered for which event.
//! Judges nothing: whether acknowledged events arrived is the audit's question.

mod body;
mod connect;
mod profile;
mod report;
mod schedule;
mod series;
mod stream;
mod tally;
mod target;
mod timer;
mod worker;

pub use body::{
    BODY_BYTES_MAX, BODY_FILES_BYTES_MAX, BODY_FILES_MAX, BodyError, BodyMode, BodyOptions,
    BodySource, EVENT_BYTES_MIN, FileOptions, PREFLIGHTS, PREFLIGHTS_MAX, USERS_MAX, UserOptions,
    ZIPF_MAX,
};
pub use connect::{AddressFamily, ConnectError, ConnectOptions, PIPELINE_MAX};
pub use profile::Profile;
pub use report::{Generator, Latency, LoadReport, REPORT_FORMAT, Report};
pub use series::{Machine, ProcessSample, Second, WatchedProcess};
pub use tally::Failure;
pub use target::{Target, TargetError};

use crate::event_id::EventId;
use crate::ledger::{ACKS_HEADER, LedgerError, LineFile};
use body::Bodies;
use connect::Peer;
use schedule::Schedule;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tally::Tally;
use worker::{Live, Shared, Task, Worker};

/// Connections that one run may keep.
pub const CONNECTIONS_MAX: usize = 100_000;

/// Threads that one run may use; sequence numbers are dealt out to this many.
pub const THREADS_MAX: usize = 256;

/// Largest rate of an open loop, in requests per second.
pub const RATE_MAX: f64 = 100_000_000.0;

/// Bytes of an answer, head and body, that are read before its connection is given up.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// Sequence numbers that each thread has for itself.
const SEQ_PER_THREAD: u64 = EventId::SEQ_END / THREADS_MAX as u64;

/// When requests start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// At a constant rate, whether or not earlier ones were answered.
    Open {
        /// Requests per second.
        per_second: f64,
    },
    /// On each connection, when the one before was answered.
    Closed,
}

/// What to send, where, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where requests go.
    pub target: Target,
    /// When they start.
    pub load: Load,
    /// Connections, 1 to [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// How they are made and used.
    pub connect: ConnectOptions,
    /// Threads, 1 to [`THREADS_MAX`]; no more are used than there are connections.
    pub threads: usize,
    /// For how long requests are started. This or `requests` must be set.
    pub duration: Option<Duration>,
    /// How many requests are sent at most.
    pub requests: Option<u64>,
    /// How long opening a connection, and an answer, may take.
    pub timeout: Duration,
    /// What requests carry.
    pub body: BodyOptions,
    /// File that gets what was answered for which event.
    pub acks: Option<PathBuf>,
    /// The run's number in event ids; should not repeat among runs whose events meet.
    pub run: u32,
}

/// Why a run cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An option is outside its range.
    #[error("{option} must be between {min} and {max}, not {actual}")]
    Range {
        /// The option.
        option: &'static str,
        /// Smallest value.
        min: String,
        /// Largest value.
        max: String,
        /// The value given.
        actual: String,
    },
    /// Neither a duration nor a number of requests.
    #[error("a run needs a duration or a number of requests")]
    Endless,
    /// The body is not possible.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Connections are not possible as asked.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The name has no address.
    #[error("cannot resolve {authority}: {source}")]
    Resolve {
        /// Host and port.
        authority: String,
        /// The system's word.
        source: io::Error,
    },
    /// Nobody listens there.
    #[error("cannot connect to {authority}: {source}")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// The system's word.
        source: io::Error,
    },
    /// The file of answers cannot be written.
    #[error("answers: {0}")]
    Acks(#[from] LedgerError),
    /// The system gives no thread, or no way to wait for events.
    #[error("cannot run: {0}")]
    System(io::Error),
}

impl RunError {
    /// Whether other options would help, as against a target or a system in another state.
    #[must_use]
    pub fn is_bad_argument(&self) -> bool {
        match self {
            RunError::Range { .. }
            | RunError::Endless
            | RunError::Body(_)
            | RunError::Connect(_) => true,
            RunError::Resolve { .. }
            | RunError::Unreachable { .. }
            | RunError::Acks(_)
            | RunError::System(_) => false,
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Answers of 200.
    pub ok: u64,
    /// Requests that will not be answered any more.
    pub unanswered: u64,
}

impl Progress {
    /// Requests that wait for their answer.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.answered + self.unanswered)
    }
}

/// A range of allowed values, for the message.
fn in_range<T: PartialOrd + ToString>(
    option: &'static str,
    actual: T,
    min: T,
    max: T,
) -> Result<(), RunError> {
    if min <= actual && actual <= max {
        return Ok(());
    }
    Err(RunError::Range {
        option,
        min: min.to_string(),
        max: max.to_string(),
        actual: actual.to_string(),
    })
}

fn check(options: &Options) -> Result<(), RunError> {
    in_range("connections", options.connections, 1, CONNECTIONS_MAX)?;
    in_range("threads", options.threads, 1, THREADS_MAX)?;
    in_range(
        "timeout (seconds)",
        options.timeout.as_secs_f64(),
        0.001,
        3_600.0,
    )?;
    if let Load::Open { per_second } = options.load {
        in_range("rate", per_second, 0.001, RATE_MAX)?;
    }
    match (options.duration, options.requests) {
        (None, None) => return Err(RunError::Endless),
        (Some(duration), _) => {
            in_range(
                "duration (seconds)",
                duration.as_secs_f64(),
                0.001,
                30.0 * 86_400.0,
            )?;
        }
        (None, Some(_)) => {}
    }
    if let Some(requests) = options.requests {
        let max = SEQ_PER_THREAD / u64::from(options.body.events_max().max(1));
        in_range("requests", requests, 1, max)?;
    }
    in_range("pipeline", options.connect.pipeline, 1, PIPELINE_MAX)?;
    if let Some(requests) = options.connect.requests_per_connection {
        in_range("requests-per-connection", requests, 1, u64::MAX)?;
    }
    options.body.check()?;
    if options.acks.is_some() && options.body.events_max() == 0 {
        return Err(BodyError::NoIds.into());
    }
    Ok(())
}

/// Sends until the end, or until `stop` is set; `progress` is told once per second.
///
/// # Errors
/// When options are out of range, the target cannot be reached at all, or the file of answers
/// cannot be written. Trouble with the target during the run is part of the report.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    mut progress: impl FnMut(Progress),
) -> Result<Report, RunError> {
    check(options)?;
    let bodies = Bodies::load(&options.body, &options.target)?;
    let peer = Peer::reach(&options.target, &options.connect, options.timeout)?;
    let acks = match &options.acks {
        Some(path) => Some(Mutex::new(LineFile::create(path, ACKS_HEADER)?)),
        None => None,
    };
    let threads = options.threads.min(options.connections);
    let shared = Shared {
        stop: AtomicBool::new(false),
        acks,
        failure: Mutex::new(None),
        live: (0..threads).map(|_| Live::default()).collect(),
        ready: Barrier::new(threads),
        zero: Instant::now(),
        start: OnceLock::new(),
    };
    let mut workers = Vec::with_capacity(threads);
    for thread in 0..threads {
        let task = task(options, peer.clone(), threads, thread);
        let requests = bodies.requests(options.run, thread);
        workers.push(Worker::new(task, requests, &shared).map_err(RunError::System)?);
    }
    let mut total = Tally::default();
    thread::scope(|scope| {
        let mut running = Vec::with_capacity(threads);
        for worker in workers {
            running.push(scope.spawn(|| worker.run()));
        }
        let mut told = Instant::now();
        while running.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(Duration::from_millis(5));
            if stop.load(Ordering::Relaxed) {
                shared.stop.store(true, Ordering::Relaxed);
            }
            if told.elapsed() >= PROGRESS {
                told += PROGRESS;
                progress(look(&shared));
            }
        }
        for thread in running {
            match thread.join() {
                Ok(tally) => total.add(&tally.map_err(RunError::System)?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<(), RunError>(())
    })?;
    let failure = shared
        .failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failure {
        return Err(error.into());
    }
    // A number of requests that was not reached without a time limit: it gave up.
    let short = options.duration.is_none() && options.requests.is_some_and(|max| total.sent < max);
    let interrupted = stop.load(Ordering::Relaxed) || short;
    Ok(Report::new(options, options.run, &total, interrupted))
}

fn task(options: &Options, peer: Peer, threads: usize, thread: usize) -> Task {
    // Remainders go to the first threads.
    let share = |total: u64| {
        let (threads, thread) = (threads as u64, thread as u64);
        total / threads + u64::from(thread < total % threads)
    };
    Task {
        thread,
        peer,
        connections: usize::try_from(share(options.connections as u64)).unwrap_or(1),
        schedule: match options.load {
            Load::Open { per_second } => Some(Schedule::new(per_second, threads, thread)),
            Load::Closed => None,
        },
        duration_ns: options.duration.map(nanos),
        requests_max: options.requests.map(share),
        timeout_ns: nanos(options.timeout),
        run: options.run,
        first_seq: thread as u64 * SEQ_PER_THREAD,
        pipeline: options.connect.pipeline,
        requests_per_connection: options.connect.requests_per_connection,
        answers_per_event: options.body.answers_per_event(),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn look(shared: &Shared) -> Progress {
    let sum = |count: fn(&Live) -> &std::sync::atomic::AtomicU64| {
        shared
            .live
            .iter()
            .map(|live| count(live).load(Ordering::Relaxed))
            .sum()
    };
    let start = shared.start.get().copied().unwrap_or_else(|| shared.now());
    Progress {
        elapsed: Duration::from_nanos(shared.now().saturating_sub(start)),
        sent: sum(|live| &live.sent),
        answered: sum(|live| &live.answered),
        ok: sum(|live| &live.ok),
        unanswered: sum(|live| &live.unanswered),
    }
}
