//! The generator: sends events over HTTP/1.1 at a constant rate or as fast as they are answered,
//! measures latency, and writes down what was answered for which event.
//! Judges nothing: whether acknowledged events arrived is the audit's question.

mod body;
mod report;
mod schedule;
mod series;
mod tally;
mod target;
mod timer;
mod worker;

pub use body::{BODY_BYTES_MAX, BodyError, BodyMode, BodyOptions, EVENT_BYTES_MIN};
pub use report::{Generator, Latency, LoadReport, REPORT_FORMAT, Report};
pub use series::{Machine, ProcessSample, Second, WatchedProcess};
pub use tally::Failure;
pub use target::{Target, TargetError};

use crate::event_id::EventId;
use crate::ledger::{self, LedgerError, LineFile, RunStart};
use body::Requests;
use schedule::Schedule;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
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
    /// Connections, all kept alive, 1 to [`CONNECTIONS_MAX`].
    pub connections: usize,
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
        let max = SEQ_PER_THREAD / u64::from(options.body.batch.max(1));
        in_range("requests", requests, 1, max)?;
    }
    Ok(options.body.check()?)
}

/// The first address that takes a connection.
fn reach(target: &Target, timeout: Duration) -> Result<SocketAddr, RunError> {
    let authority = target.authority();
    let addresses = (target.host.as_str(), target.port).to_socket_addrs();
    let addresses = addresses.map_err(|source| RunError::Resolve {
        authority: authority.clone(),
        source,
    })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(_) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(RunError::Unreachable {
        authority,
        source: last,
    })
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
    let address = reach(&options.target, options.timeout)?;
    let acks = match &options.acks {
        Some(path) => Some(Mutex::new(acks_file(path, options)?)),
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
        let task = task(options, address, threads, thread);
        let seed = u64::from(options.run) << 16 | thread as u64;
        let requests = Requests::new(&options.body, &options.target, options.run, seed);
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

fn acks_file(path: &Path, options: &Options) -> Result<LineFile, LedgerError> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let run = RunStart {
        run: options.run,
        start: since_epoch.unwrap_or_default().as_secs(),
        profile: options.body.mode.label().to_owned(),
    };
    ledger::create_acks(path, &run)
}

fn task(options: &Options, address: SocketAddr, threads: usize, thread: usize) -> Task {
    // Remainders go to the first threads.
    let share = |total: u64| {
        let (threads, thread) = (threads as u64, thread as u64);
        total / threads + u64::from(thread < total % threads)
    };
    Task {
        thread,
        address,
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
        batch: options.body.batch,
        answers_per_event: options.body.mode == BodyMode::Event,
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
