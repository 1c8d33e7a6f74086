//! Shell 2: the thread that runs `core::delivery` for one output and carries out its actions.
//! Makes no decisions of its own, and knows no HTTP.
//!
//! ```text
//!  listener cores --submissions--> [queue] --> step(Records) --+--> Send   -> sink.write, concurrently
//!                 sink.write ended     --> step(Completed) -+--> Settle -> ack queue of the core
//!                 wake_at reached      --> step(Tick)      -+
//!                 queue closed         --> step(Drain)
//!                 stop signal          --> step(Stop)
//!                 spool answered       --> step(Spooled)    +--> Spool  -> the spool's thread
//! ```
//!
//! With a spool, the writer also replays what lies on disk, with the calls that live records leave.

mod spooling;

use crate::runtime;
use crate::sink::Sink;
use crate::spool::{SpoolClient, SpoolSettings};
use sluice_core::ack::{AckBatch, AckQueue, Outcome, Settlement, WriterId, WriterState};
use sluice_core::cause::Cause;
use sluice_core::circuit::CircuitState;
use sluice_core::delivery::{
    Action, BatchLimits, CallId, Delivery, DeliverySettings, Input, Tally,
};
use sluice_core::queue::Receiver;
use sluice_core::record::{Record, RecordResult};
use sluice_core::stats::WriterStats;
use sluice_core::time::{Mono, Wall, micros};
use spooling::SpoolDesk;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tracing::{info, warn};

/// Submissions taken from the queue between two polls for completed calls, so that neither starves the other.
const SUBMISSIONS_PER_TURN: usize = 1_024;

/// Failed calls are logged at most this often per writer, with a count of those in between.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// Settings of a writer.
pub struct WriterSettings {
    /// Name of the output, for the thread and the log.
    pub output: String,
    /// How cores know it.
    pub id: WriterId,
    /// Batching and retries.
    pub delivery: DeliverySettings,
    /// Reads the process's monotonic clock.
    pub clock: Arc<dyn Fn() -> Mono + Send + Sync>,
    /// Its counters.
    pub stats: Arc<WriterStats>,
    /// Called after each sink call with the cause of a failure in it, or `None` if every record was delivered.
    pub trouble: Arc<dyn Fn(Option<Cause>) + Send + Sync>,
    /// The spool in front of the destination; needs a rule in `delivery`.
    pub spool: Option<WriterSpool>,
}

/// The spool in front of a writer's destination.
#[derive(Debug)]
pub struct WriterSpool {
    /// Access to it.
    pub client: SpoolClient,
    /// The wall clock, for the time at which a record was spooled.
    pub wall: fn() -> Wall,
    /// How fast it is replayed.
    pub settings: SpoolSettings,
}

impl fmt::Debug for WriterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterSettings")
            .field("output", &self.output)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

/// Totals of a finished writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// `received == delivered + spooled + refused`.
    pub tally: Tally,
    /// Refused records that were given up at the drain deadline.
    pub left_behind: u64,
    /// Bytes of confirmed records that the sink keeps for the next start.
    pub kept_bytes: u64,
}

/// A writer could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The thread or its runtime could not be created.
    #[error("output {output}: cannot start its thread: {source}")]
    Thread {
        /// The output.
        output: String,
        /// The system's error.
        source: io::Error,
    },
    /// The sink did not start.
    #[error("output {output}: {reason}")]
    Sink {
        /// The output.
        output: String,
        /// The sink's error.
        reason: String,
    },
}

/// A running writer.
#[derive(Debug)]
pub struct WriterHandle {
    /// The writer's thread; ends after the queue is closed and everything is settled, or after
    /// `stop` was set and the running calls ended.
    pub thread: JoinHandle<Summary>,
    /// Set to true at the drain deadline.
    pub stop: watch::Sender<bool>,
}

/// Starts a writer on its own thread with a single-threaded tokio runtime, in which `start` creates the
/// sink. Returns when the sink has started.
///
/// # Errors
/// When the thread cannot be created, or the sink does not start.
pub fn spawn<F, Fut, E>(
    settings: WriterSettings,
    queue: Receiver<Vec<Record>>,
    start: F,
) -> Result<(WriterHandle, Arc<dyn Sink>), StartError>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Arc<dyn Sink>, E>>,
    E: fmt::Display,
{
    let output = settings.output.clone();
    let thread_error = |source| StartError::Thread {
        output: output.clone(),
        source,
    };
    let (stop, stopped) = watch::channel(false);
    let (report, reported) = mpsc::channel();
    let runtime = runtime::current_thread().map_err(thread_error)?;
    let thread = Builder::new()
        .name(format!("writer-{output}"))
        .spawn(move || {
            runtime.block_on(async move {
                match start().await {
                    Ok(sink) => {
                        // The receiver waits for this one message and is still there.
                        let _ = report.send(Ok(Arc::clone(&sink)));
                        run(settings, queue, sink, stopped).await
                    }
                    Err(error) => {
                        let _ = report.send(Err(error.to_string()));
                        Summary::default()
                    }
                }
            })
        })
        .map_err(thread_error)?;
    match reported.recv() {
        Ok(Ok(sink)) => Ok((WriterHandle { thread, stop }, sink)),
        Ok(Err(reason)) => Err(StartError::Sink { output, reason }),
        Err(_) => Err(StartError::Sink {
            output,
            reason: "its thread ended at start".into(),
        }),
    }
}

/// What the metrics show of lanes is this old at most, while there are records.
const SHOW_LANES_EVERY: Duration = Duration::from_millis(500);

/// Why the writer woke up.
enum Wakeup {
    /// A submission was taken from the queue into [`Writer::arrived`].
    Arrived,
    /// All cores have ended, and the queue is empty.
    Closed,
    Ended(Ended),
    /// The disk answered an append: its number, and whether the disk has the records.
    Spooled(u64, bool),
    /// Records were read from disk.
    Read,
    Time,
    Stop,
}

/// A completed call of the sink.
struct Ended {
    /// The lane of replay; `None` for live records.
    lane: Option<usize>,
    call: CallId,
    records: Vec<Record>,
    results: Vec<RecordResult>,
    took: Duration,
}

/// Runs until the queue is closed and everything is settled. Needs a tokio runtime with time enabled.
pub async fn run(
    mut settings: WriterSettings,
    queue: Receiver<Vec<Record>>,
    sink: Arc<dyn Sink>,
    stopped: watch::Receiver<bool>,
) -> Summary {
    let (delivery, limits) = (settings.delivery, batch_limits(&*sink));
    let mut machine = Delivery::new(delivery, limits);
    let lanes_of = Arc::clone(&sink);
    machine.set_lanes(move |record| lanes_of.lane(record));
    let spool = settings.spool.take();
    let mut writer = Writer {
        machine,
        spool: spool.map(|spool| SpoolDesk::new(spool, delivery, limits)),
        stop: stopped.clone(),
        settings,
        sink,
        calls: JoinSet::new(),
        ended_at_once: VecDeque::new(),
        arrived: Vec::new(),
        actions: Vec::new(),
        ack_batches: Vec::new(),
        failures: FailureLog::default(),
        circuit: CircuitState::default(),
        failing_since: None,
        lanes_shown_until: Mono::default(),
        left_behind: 0,
    };
    let stop = stopped.clone();
    let (mut open, mut stopped) = (true, Some(stopped));
    // What an earlier process left is replayed without waiting for traffic.
    writer.replay();
    while open || writer.is_busy(stopped.is_none()) {
        let wakeup = next_wakeup(&queue, open, &mut writer, &mut stopped).await;
        // First the records that arrived in the meantime, so that a batch that is now due includes them.
        writer.take_submissions(&queue);
        match wakeup {
            Wakeup::Arrived => {}
            Wakeup::Closed => {
                open = false;
                writer.step(Input::Drain);
            }
            Wakeup::Ended(ended) => writer.ended(ended),
            Wakeup::Spooled(number, kept) => writer.spooled(number, kept),
            Wakeup::Read => {}
            Wakeup::Time => writer.step(Input::Tick),
            Wakeup::Stop => {
                stopped = None;
                if let Some(spool) = &mut writer.spool {
                    spool.stop();
                }
                writer.step(Input::Stop);
            }
        }
        while let Some(ended) = writer.next_ended() {
            writer.ended(ended);
        }
        writer.give_up_appends();
        writer.replay();
        writer.flush_acks();
    }
    let kept_bytes = writer.sink.finish(Box::pin(stop_signal(stop))).await;
    Summary {
        tally: writer.machine.tally(),
        left_behind: writer.left_behind,
        kept_bytes,
    }
}

/// Waits for the first of: a completed call, a submission, the stop signal, the timer. In that order,
/// because a completed call frees a slot that the next step can use.
async fn next_wakeup(
    queue: &Receiver<Vec<Record>>,
    open: bool,
    writer: &mut Writer,
    stopped: &mut Option<watch::Receiver<bool>>,
) -> Wakeup {
    let wake_at = writer.machine.wake_at().min(writer.spool_wake_at());
    let mut timer = pin!(async {
        if wake_at == Mono::NEVER {
            pending().await
        } else {
            sleep(wake_at.since((writer.settings.clock)())).await;
        }
    });
    let mut stop = pin!(async {
        let stopped_now = match stopped {
            Some(stopped) => stopped.wait_for(|stop| *stop).await.is_ok(),
            None => false,
        };
        if !stopped_now {
            // Already stopped, or the sender is gone and never will stop us.
            pending().await
        }
    });
    // Do not register for arrivals that could only wait: while a batch lingers or every call is in use,
    // the writer sleeps until there is something to do, and the cores are spared the wake.
    let wants_input = open && writer.machine.wants_input();
    let Writer {
        calls,
        ended_at_once,
        arrived,
        spool,
        ..
    } = writer;
    poll_fn(|cx| {
        if let Some(ended) = ended_at_once.pop_front() {
            return Poll::Ready(Wakeup::Ended(ended));
        }
        if let Poll::Ready(Some(ended)) = calls.poll_join_next(cx) {
            return Poll::Ready(Wakeup::Ended(unwrap_call(ended)));
        }
        if let Some(spool) = spool
            && let Poll::Ready(answer) = spool.poll(cx)
        {
            return Poll::Ready(match answer {
                Some((number, kept)) => Wakeup::Spooled(number, kept),
                None => Wakeup::Read,
            });
        }
        if wants_input && let Poll::Ready(submission) = queue.poll_recv(cx.waker()) {
            return Poll::Ready(match submission {
                Some(records) => {
                    *arrived = records;
                    Wakeup::Arrived
                }
                None => Wakeup::Closed,
            });
        }
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Wakeup::Stop);
        }
        timer.as_mut().poll(cx).map(|()| Wakeup::Time)
    })
    .await
}

/// Ends when the writer is told to stop.
async fn stop_signal(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone: the signal will never come.
    if stop.wait_for(|stop| *stop).await.is_err() {
        pending().await
    }
}

/// The same; never without a signal.
async fn asked_to_stop(stop: Option<watch::Receiver<bool>>) {
    match stop {
        Some(stop) => stop_signal(stop).await,
        None => pending().await,
    }
}

/// A panic in a sink is a defect. It ends the writer in builds that unwind, and the process in builds
/// that abort. Calls are never cancelled, so a join error is always a panic.
fn unwrap_call(ended: Result<Ended, JoinError>) -> Ended {
    match ended {
        Ok(ended) => ended,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

struct Writer {
    settings: WriterSettings,
    machine: Delivery,
    sink: Arc<dyn Sink>,
    calls: JoinSet<Ended>,
    /// Calls that had their results as soon as they were made.
    ended_at_once: VecDeque<Ended>,
    spool: Option<SpoolDesk>,
    /// Ends the calls of a writer with a spool, which has a place for their records.
    stop: watch::Receiver<bool>,
    /// Taken from the queue, not yet passed to the machine.
    arrived: Vec<Record>,
    actions: Vec<Action>,
    /// Settlements of this turn, for each core that has ever sent records.
    ack_batches: Vec<(&'static AckQueue, Vec<Settlement>)>,
    failures: FailureLog,
    /// As the cores know it.
    circuit: CircuitState,
    failing_since: Option<Mono>,
    /// When what is shown of lanes is to be renewed.
    lanes_shown_until: Mono,
    left_behind: u64,
}

impl Writer {
    /// Passes everything that has arrived to the machine in one step, so that batches can be full.
    fn take_submissions(&mut self, queue: &Receiver<Vec<Record>>) {
        let mut arrived = std::mem::take(&mut self.arrived);
        self.know_core(&arrived);
        for _ in 0..SUBMISSIONS_PER_TURN {
            let Poll::Ready(Some(mut submission)) = queue.try_recv() else {
                break;
            };
            self.know_core(&submission);
            arrived.append(&mut submission);
        }
        if !arrived.is_empty() {
            self.step(Input::Records(arrived));
        }
    }

    fn step(&mut self, input: Input) {
        let now = (self.settings.clock)();
        self.machine.set_limits(batch_limits(&*self.sink));
        let mut actions = std::mem::take(&mut self.actions);
        self.machine
            .step(input, now, fastrand::u64(..), &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Send { call, records } => {
                    let until = self.machine.give_up_at(call, now);
                    self.send(None, call, records, until.since(now));
                }
                Action::Settle(record, outcome) => self.settle(record, outcome),
                Action::Delivered(records) => {
                    for record in records {
                        self.settle(record, Outcome::Delivered);
                    }
                }
                Action::Spool(records) => self.append(records, now),
                Action::CountRetry(cause) => {
                    self.settings.stats.retries[cause as usize].increment();
                    self.failures.note(cause);
                }
            }
        }
        self.actions = actions;
        let stats = &self.settings.stats;
        stats.held.set(self.machine.held() as u64);
        stats.calls_in_flight.set(self.machine.in_flight() as u64);
        stats.lanes_shed.set(self.machine.lanes_shed());
        if now >= self.lanes_shown_until {
            self.lanes_shown_until = now + SHOW_LANES_EVERY;
            let paced: Vec<_> = self.machine.paced_lanes().collect();
            stats.show_lanes(paced, self.sink.lanes_wanted());
        }
        self.failures.log_due(&self.settings.output, now);
    }

    /// Whether something is left to do once nothing more arrives.
    fn is_busy(&self, is_stopped: bool) -> bool {
        let spool = self.spool.as_ref();
        !self.machine.is_idle() || spool.is_some_and(|spool| spool.has_replay_left(is_stopped))
    }

    /// Makes a call. It is dropped when it takes longer than `limit`, and with a spool at a stop: its records' results
    /// are unknown then, and they go to the disk or to another output.
    fn send(&mut self, lane: Option<usize>, call: CallId, records: Vec<Record>, limit: Duration) {
        let stats = &self.settings.stats;
        stats.batch_records.observe(records.len() as u64);
        stats
            .batch_bytes
            .observe(records.iter().map(|record| record.size() as u64).sum());
        let sink = Arc::clone(&self.sink);
        let clock = Arc::clone(&self.settings.clock);
        let delivery = &self.settings.delivery;
        let is_cut_short = self.spool.is_some() || delivery.has_fallback;
        let stop = self.spool.is_some().then(|| self.stop.clone());
        let mut call = Box::pin(async move {
            let started = clock();
            let results = match is_cut_short {
                false => sink.write(&records).await,
                true => tokio::select! {
                    biased;
                    results = sink.write(&records) => results,
                    () = sleep(limit) => Vec::new(),
                    () = asked_to_stop(stop) => Vec::new(),
                },
            };
            Ended {
                lane,
                call,
                records,
                results,
                took: clock().since(started),
            }
        });
        // A sink that has its results at once needs no task. The task of any other polls again, with its own waker.
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => self.ended_at_once.push_back(ended),
            Poll::Pending => {
                self.calls.spawn(call);
            }
        }
    }

    fn next_ended(&mut self) -> Option<Ended> {
        let at_once = self.ended_at_once.pop_front();
        at_once.or_else(|| self.calls.try_join_next().map(unwrap_call))
    }

    fn ended(&mut self, ended: Ended) {
        let Ended {
            lane,
            call,
            records,
            results,
            took,
        } = ended;
        let stats = &self.settings.stats;
        stats.calls.increment();
        stats.call_micros.observe(micros(took));
        if results.contains(&RecordResult::Delivered) {
            stats.last_delivery_micros.set((self.settings.clock)().0);
        }
        (self.settings.trouble)(results.iter().find_map(|result| match result {
            RecordResult::Delivered => None,
            // The records' results are unknown, but the cause may be known.
            RecordResult::Retry(Cause::Unknown) => {
                Some(self.sink.connection_error().unwrap_or(Cause::Unknown))
            }
            RecordResult::Retry(cause) | RecordResult::Refused(cause) => Some(*cause),
        }));
        match lane {
            None => self.step(Input::Completed {
                call,
                records,
                results,
            }),
            Some(lane) => self.replayed(lane, call, records, results),
        }
    }

    fn settle(&mut self, record: Record, outcome: Outcome) {
        if let Outcome::Refused(cause) = outcome {
            self.failures.note(cause);
            self.left_behind += u64::from(cause == Cause::Shutdown);
        }
        let (acks, settlement) = record.ticket.settle(outcome);
        self.ack_batch(acks).push(settlement);
    }

    /// Remembers the core that sent a submission: it hears of the circuit even before the first of its records is
    /// settled.
    fn know_core(&mut self, submission: &[Record]) {
        if let Some(record) = submission.first() {
            self.ack_batch(record.ticket.acks());
        }
    }

    fn ack_batch(&mut self, acks: &'static AckQueue) -> &mut Vec<Settlement> {
        let mut known = self.ack_batches.iter();
        // There are few cores: a linear search is cheaper than a map.
        let at = known.position(|(known, _)| std::ptr::eq(*known, acks));
        let at = at.unwrap_or_else(|| {
            self.ack_batches.push((acks, Vec::new()));
            self.ack_batches.len() - 1
        });
        &mut self.ack_batches[at].1
    }

    /// Sends the settlements of this turn, and the state of the circuit, when it has changed, to every core that has
    /// ever sent records.
    fn flush_acks(&mut self) {
        let circuit = self.machine.circuit();
        let before = std::mem::replace(&mut self.circuit, circuit);
        let has_changed = circuit != before;
        if has_changed {
            self.settings.stats.circuit.set(circuit as u64);
        }
        if circuit.is_failing() != before.is_failing() {
            self.log_circuit();
        }
        let state = WriterState {
            writer: self.settings.id,
            circuit,
            throttled: self.machine.throttled(),
        };
        for (acks, batch) in &mut self.ack_batches {
            if !batch.is_empty() || has_changed {
                acks.send(AckBatch {
                    settlements: std::mem::take(batch),
                    writer: Some(state),
                });
            }
        }
    }

    fn log_circuit(&mut self) {
        let output = &self.settings.output;
        let now = (self.settings.clock)();
        if self.circuit.is_failing() {
            self.failing_since = Some(now);
            self.settings.stats.circuit_opened.increment();
            let delivery = &self.settings.delivery;
            match (delivery.has_fallback, delivery.spool) {
                (true, _) => warn!(
                    output,
                    "circuit open: calls fail, another output gets the records"
                ),
                (false, Some(_)) => warn!(
                    output,
                    "circuit open: calls fail, records go to the spool on arrival"
                ),
                (false, None) => warn!(
                    output,
                    "circuit open: no call has succeeded for circuit_open_after_ms, only probes are let through"
                ),
            }
        } else {
            let open_ms = self
                .failing_since
                .take()
                .map(|since| now.since(since).as_millis());
            info!(
                output,
                open_ms = open_ms.and_then(|ms| u64::try_from(ms).ok()),
                "circuit closed: a call succeeded"
            );
        }
    }
}

fn batch_limits(sink: &dyn Sink) -> BatchLimits {
    let limits = sink.limits();
    BatchLimits {
        records_max: limits.batch_records_max,
        bytes_max: limits.batch_bytes_max,
        record_bytes_max: limits.record_bytes_max,
    }
}

/// Failures since the last log line.
#[derive(Default)]
struct FailureLog {
    counts: [u64; Cause::ALL.len()],
    any: bool,
    told_at: Option<Mono>,
}

impl FailureLog {
    fn note(&mut self, cause: Cause) {
        self.counts[cause as usize] += 1;
        self.any = true;
    }

    fn log_due(&mut self, output: &str, now: Mono) {
        let quiet = self
            .told_at
            .is_some_and(|told_at| now < told_at + WARN_EVERY);
        if !self.any || quiet {
            return;
        }
        for cause in Cause::ALL {
            let results = std::mem::take(&mut self.counts[cause as usize]);
            if results > 0 {
                warn!(
                    output,
                    cause = cause.label(),
                    results,
                    "records not delivered"
                );
            }
        }
        self.any = false;
        self.told_at = Some(now);
    }
}
