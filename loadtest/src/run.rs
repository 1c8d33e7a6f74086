//! The generator: sends events over HTTP/1.1 on a schedule or as fast as they are answered,
//! measures latency, and records the answer to each event.
//! Whether acknowledged events arrived is for the audit to decide.

mod body;
mod collect;
mod connect;
mod hdr_log;
mod interval;
mod lateness;
mod machine;
mod ok_status;
mod process_sampler;
mod profile;
mod rate;
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
pub use ok_status::{OkStatuses, OkStatusesError};
pub use process_sampler::WATCHED_MAX;
pub use profile::Profile;
pub use rate::{Load, STEPS_MAX, TRACE_POINTS_MAX, Trace, TraceError};
pub use report::{Generator, Latency, LoadReport, REPORT_FORMAT, Report};
pub use series::{HostInfo, ProcessSample, Second, WatchedProcess};
pub use tally::Failure;
pub use target::{Target, TargetError};

use crate::event_id::EventId;
use crate::ledger::{self, LedgerError, LineFile, RunStart};
use body::Bodies;
use collect::Collector;
use connect::Peer;
use hdr_log::HdrLog;
use interval::{Seconds, TimesPool};
use machine::Taken;
use process_sampler::ProcessSampler;
use rate::RateCurve;
use report::Measured;
use schedule::Schedule;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tally::Tally;
use worker::{Shared, Task, Worker};

/// Connections that one run may keep.
pub const CONNECTIONS_MAX: usize = 100_000;

/// Threads that one run may use; sequence numbers are dealt out to this many.
pub const THREADS_MAX: usize = 256;

/// Largest rate of an open loop, in requests per second.
pub const RATE_MAX: f64 = 100_000_000.0;

/// Bytes of an answer, head and body, that are read before its connection is given up.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Seconds that a report holds one by one, a day. Sums, overall latencies and the log of histograms
/// know no such end.
pub const SERIES_SECONDS_MAX: usize = 86_400;

/// How often the ends of threads and the stop flag are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Seconds between samples of watched processes, and the shortest rest of a run that gets one.
const SAMPLE: f64 = 1.0;
const SAMPLE_MIN: f64 = 0.1;

/// Sequence numbers that each thread has for itself.
const SEQ_PER_THREAD: u64 = EventId::SEQ_END / THREADS_MAX as u64;

/// A run: target, schedule, connections and bodies.
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
    /// Request bodies.
    pub body: BodyOptions,
    /// Statuses that are a success. A CORS preflight may be answered 204 besides.
    pub ok: OkStatuses,
    /// File for the response to each event.
    pub acks: Option<PathBuf>,
    /// File that gets the latencies of each second as a log of HdrHistograms.
    pub hdr_log: Option<PathBuf>,
    /// Processes to sample for CPU time and memory, up to [`WATCHED_MAX`].
    pub watch: Vec<u32>,
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
    /// A shape of load that spans the run, and the run has no length.
    #[error("a {shape} needs a duration")]
    NeedsDuration {
        /// The shape.
        shape: &'static str,
    },
    /// A process that is to be watched does not run.
    #[error("there is no process {pid} to watch")]
    NoProcess {
        /// Its number.
        pid: u32,
    },
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
        /// The operating system's error.
        source: io::Error,
    },
    /// The target accepts no connection.
    #[error("cannot connect to {authority}: {source}")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file of answers cannot be written.
    #[error("answers: {0}")]
    Acks(#[from] LedgerError),
    /// The log of histograms cannot be written.
    #[error("histograms: {}: {source}", path.display())]
    HdrLog {
        /// Its path.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
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
            | RunError::NeedsDuration { .. }
            | RunError::NoProcess { .. }
            | RunError::Body(_)
            | RunError::Connect(_) => true,
            RunError::Resolve { .. }
            | RunError::Unreachable { .. }
            | RunError::Acks(_)
            | RunError::HdrLog { .. }
            | RunError::System(_) => false,
        }
    }
}

/// How far a run is, at the end of a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Answers as they should be.
    pub ok: u64,
    /// Requests that will not be answered any more.
    pub unanswered: u64,
    /// The second that has just ended.
    pub second: Second,
}

impl Progress {
    /// Requests that wait for their answer.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.answered + self.unanswered)
    }
}

/// A range of allowed values, for the message.
pub(crate) fn in_range<T: PartialOrd + ToString>(
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

/// Values derived from checked options.
struct Plan {
    /// For how long requests are started.
    duration: Option<Duration>,
    /// The rate over time; `None` in a closed loop.
    curve: Option<Arc<RateCurve>>,
}

fn check(options: &Options) -> Result<Plan, RunError> {
    in_range("connections", options.connections, 1, CONNECTIONS_MAX)?;
    in_range("threads", options.threads, 1, THREADS_MAX)?;
    in_range(
        "timeout (seconds)",
        options.timeout.as_secs_f64(),
        0.001,
        3_600.0,
    )?;
    in_range("watched processes", options.watch.len(), 0, WATCHED_MAX)?;
    let duration = options.duration.or_else(|| options.load.end());
    match (duration, options.requests) {
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
    let curve = options.load.curve(duration)?.map(Arc::new);
    Ok(Plan { duration, curve })
}

/// Sends until the end, or until `stop` is set; `progress` is called at the end of each second.
///
/// # Errors
/// When options are out of range, the target cannot be reached at all, a process that is to be
/// watched does not run, or the file of answers or the log of histograms cannot be written. Failures
/// with the target during the run are part of the report.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    mut progress: impl FnMut(&Progress),
) -> Result<Report, RunError> {
    let plan = check(options)?;
    let sampler = ProcessSampler::new(&options.watch)?;
    let bodies = Bodies::load(&options.body, &options.target)?;
    let peer = Peer::reach(&options.target, &options.connect, options.timeout)?;
    let acks = match &options.acks {
        Some(path) => Some(acks_file(path, options)?),
        None => None,
    };
    let log = match &options.hdr_log {
        Some(path) => Some(HdrLog::create(path)?),
        None => None,
    };
    let threads = options.threads.min(options.connections);
    let shared = Shared {
        stop: AtomicBool::new(false),
        acks,
        failure: Mutex::new(None),
        ready: Barrier::new(threads),
        zero: Instant::now(),
        start: OnceLock::new(),
    };
    let wall_zero = SystemTime::now();
    let pool = TimesPool::new(threads);
    let mut workers = Vec::with_capacity(threads);
    let mut handed = Vec::with_capacity(threads);
    for thread in 0..threads {
        let task = task(options, &plan, peer.clone(), threads, thread);
        let requests = bodies.requests(options.run, thread);
        let (to, from) = channel();
        let seconds = Seconds::new(thread, to, Arc::clone(&pool));
        let worker = Worker::new(task, requests, seconds, &shared);
        workers.push(worker.map_err(RunError::System)?);
        handed.push(from);
    }
    let mut beside = Beside {
        shared: &shared,
        wall_zero,
        started: None,
        handed,
        collector: Collector::new(threads, plan.curve.is_some(), pool, log),
        sampler,
        taken: Taken::begin(),
        sampled: 0.0,
    };
    let mut total = Tally::default();
    thread::scope(|scope| {
        let mut running = Vec::with_capacity(threads);
        for worker in workers {
            running.push(scope.spawn(|| worker.run()));
        }
        while running.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(POLL_INTERVAL);
            if stop.load(Ordering::Relaxed) {
                shared.stop.store(true, Ordering::Relaxed);
            }
            // The first error ends the run; it is returned when the threads have ended.
            if let Err(error) = beside.poll(&mut progress) {
                shared.fail(error);
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
    let measured = beside.finish(&mut progress);
    if let Some(acks) = &shared.acks {
        // Fails again where an earlier write has failed; the first reason is kept.
        let _ = acks.finish().map_err(|error| shared.fail(error.into()));
    }
    let failure = shared
        .failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failure {
        return Err(error);
    }
    // A number of requests that was not reached without a time limit: it gave up.
    let short = plan.duration.is_none() && options.requests.is_some_and(|max| total.sent < max);
    let interrupted = stop.load(Ordering::Relaxed) || short;
    let whole = plan.duration.unwrap_or(Duration::from_nanos(total.wall));
    let rate = plan.curve.map(|curve| curve.mean(whole.as_secs_f64()));
    Ok(Report::new(options, rate, &total, measured?, interrupted))
}

fn acks_file(path: &Path, options: &Options) -> Result<LineFile, LedgerError> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let run = RunStart {
        run: options.run,
        start: since_epoch.unwrap_or_default().as_secs(),
        profile: options.body.label().to_owned(),
    };
    ledger::create_acks(path, &run)
}

/// The main thread's work while the generator threads run: collecting seconds, sampling, progress.
struct Beside<'a> {
    shared: &'a Shared,
    /// Wall clock time at the run's time zero.
    wall_zero: SystemTime,
    /// When the threads started to send, since time zero.
    started: Option<u64>,
    handed: Vec<Receiver<interval::Interval>>,
    collector: Collector,
    sampler: ProcessSampler,
    taken: Taken,
    /// Seconds from the start to the last sample of watched processes.
    sampled: f64,
}

impl Beside<'_> {
    fn begin(&mut self, start: u64) -> Result<(), RunError> {
        self.started = Some(start);
        self.sampler.begin(Instant::now());
        self.taken = Taken::begin();
        self.collector
            .begin(self.wall_zero + Duration::from_nanos(start))
    }

    fn poll(&mut self, progress: &mut impl FnMut(&Progress)) -> Result<(), RunError> {
        let Some(start) = self.started else {
            return match self.shared.start.get() {
                Some(&start) => self.begin(start),
                None => Ok(()),
            };
        };
        let elapsed = self.shared.now().saturating_sub(start) as f64 / 1e9;
        if elapsed >= self.sampled + SAMPLE {
            self.sampled = elapsed;
            self.sampler.sample(Instant::now(), elapsed);
            let machine = self.taken.look(Instant::now());
            self.collector.observe_machine(machine);
        }
        for handed in &self.handed {
            handed
                .try_iter()
                .for_each(|interval| self.collector.take(interval));
        }
        self.show_progress(progress)
    }

    fn show_progress(&mut self, progress: &mut impl FnMut(&Progress)) -> Result<(), RunError> {
        while let Some(now) = self.collector.next()? {
            // The report tells of what is left of a second when the run ends, unless it is most of one.
            if !(1..500).contains(&now.elapsed.subsec_millis()) {
                progress(now);
            }
        }
        Ok(())
    }

    /// Takes the last results, after all threads have ended.
    fn finish(mut self, progress: &mut impl FnMut(&Progress)) -> Result<Measured, RunError> {
        // Threads may have started and ended between two checks.
        if let (None, Some(&start)) = (self.started, self.shared.start.get()) {
            self.begin(start)?;
        }
        let start = self.started.unwrap_or_else(|| self.shared.now());
        let elapsed = self.shared.now().saturating_sub(start) as f64 / 1e9;
        if elapsed >= self.sampled + SAMPLE_MIN {
            self.sampler.sample(Instant::now(), elapsed);
            let machine = self.taken.look(Instant::now());
            self.collector.observe_machine(machine);
        }
        for (thread, handed) in self.handed.iter().enumerate() {
            handed
                .try_iter()
                .for_each(|interval| self.collector.take(interval));
            self.collector.ended(thread);
        }
        self.show_progress(progress)?;
        let wall = self.wall_zero + Duration::from_nanos(start);
        let since_epoch = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Measured {
            collected: self.collector.finish(),
            watched: self.sampler.finish(),
            taken: self.taken,
            started_unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

fn task(options: &Options, plan: &Plan, peer: Peer, threads: usize, thread: usize) -> Task {
    // Remainders go to the first threads.
    let share = |total: u64| {
        let (threads, thread) = (threads as u64, thread as u64);
        total / threads + u64::from(thread < total % threads)
    };
    Task {
        thread,
        peer,
        connections: usize::try_from(share(options.connections as u64)).unwrap_or(1),
        schedule: plan
            .curve
            .as_ref()
            .map(|curve| Schedule::new(Arc::clone(curve), threads, thread)),
        duration_ns: plan.duration.map(nanos),
        requests_max: options.requests.map(share),
        timeout_ns: nanos(options.timeout),
        run: options.run,
        first_seq: thread as u64 * SEQ_PER_THREAD,
        pipeline: options.connect.pipeline,
        requests_per_connection: options.connect.requests_per_connection,
        ok: options.ok.clone(),
        answers_per_event: options.body.answers_per_event(),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
