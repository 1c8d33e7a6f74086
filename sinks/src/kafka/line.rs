//! A producer with the thread that polls its delivery reports, and its replacement after a fatal error.
//! librdkafka notices changes of topics and permissions by itself, within seconds. A record is settled only
//! by the delivery report of its message.

use super::iam::IamSigner;
use super::verdict;
use rdkafka::client::OAuthToken;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use sluice_core::topic::Topic;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

/// Poll time-out of a producer's thread; between polls it checks whether to end.
const POLL: Duration = Duration::from_millis(100);
/// Minimum age of a producer before it is replaced.
const REPLACE_AFTER: Duration = Duration::from_secs(2);
/// Minimum time between two log lines about the same kind of failure.
const WARN_INTERVAL: Duration = Duration::from_secs(30);
/// How long a connection error explains messages that time out. An unreachable broker is retried every
/// second, with an error each time.
const SUSPICION_LIFE: Duration = Duration::from_secs(5);
/// Error texts are truncated to this length in logs.
const ERROR_TEXT_CHARS: usize = 300;

/// The records of one call of the sink.
pub(super) struct Call {
    state: Mutex<CallState>,
    alone: bool,
}

struct CallState {
    results: Vec<RecordResult>,
    open: usize,
    answer: Option<oneshot::Sender<Vec<RecordResult>>>,
}

impl Call {
    /// A call of `records` records, and the receiver of its results once all are known.
    pub(super) fn new(records: usize) -> (Arc<Call>, oneshot::Receiver<Vec<RecordResult>>) {
        let (sender, receiver) = oneshot::channel();
        let state = CallState {
            results: vec![RecordResult::Retry(verdict::NO_REPORT); records],
            open: records,
            answer: Some(sender),
        };
        let call = Call {
            state: Mutex::new(state),
            alone: records == 1,
        };
        (Arc::new(call), receiver)
    }

    fn settle(&self, at: usize, result: RecordResult) {
        let mut state = lock(&self.state);
        if let Some(place) = state.results.get_mut(at) {
            *place = result;
        }
        state.open = state.open.saturating_sub(1);
        if state.open == 0
            && let Some(answer) = state.answer.take()
        {
            // The receiver is gone if the call was given up.
            let _ = answer.send(std::mem::take(&mut state.results));
        }
    }
}

/// Carried through librdkafka with a message: identifies its result. Dropped without a report, it counts
/// as unknown.
pub(super) struct Place {
    call: Arc<Call>,
    at: usize,
    /// Bytes of the record.
    size: usize,
    /// The topic that the record named.
    topic: Option<Topic>,
    result: RecordResult,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.call.settle(self.at, self.result);
    }
}

/// The last log line.
struct LoggedError {
    cause: Cause,
    text: String,
    at: Instant,
}

/// The last connection error.
struct ConnectionError {
    cause: Cause,
    at: Instant,
}

/// State that outlives a producer.
#[derive(Default)]
struct Memory {
    last_logged: Mutex<Option<LoggedError>>,
    connection_error: Mutex<Option<ConnectionError>>,
    /// Bytes of the largest record that was delivered.
    largest: AtomicUsize,
}

impl Memory {
    /// Records a connection error that belongs to no message.
    fn note_connection_error(&self, code: RDKafkaErrorCode, cause: Cause) {
        let mut connection_error = lock(&self.connection_error);
        // That all brokers are down only sums up the errors of each.
        let is_sum = code == RDKafkaErrorCode::AllBrokersDown;
        if is_sum
            && connection_error
                .as_ref()
                .is_some_and(ConnectionError::is_fresh)
        {
            return;
        }
        *connection_error = Some(ConnectionError {
            cause,
            at: Instant::now(),
        });
    }

    /// The recent connection error, if any.
    fn connection_error(&self) -> Option<Cause> {
        let connection_error = lock(&self.connection_error);
        let fresh = connection_error
            .as_ref()
            .filter(|connection_error| connection_error.is_fresh());
        fresh.map(|connection_error| connection_error.cause)
    }
}

impl ConnectionError {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < SUSPICION_LIFE
    }
}

/// What a producer calls back. One for each producer.
pub(super) struct Context {
    /// It will never send again.
    dead: AtomicBool,
    signer: Option<Arc<IamSigner>>,
    memory: Arc<Memory>,
}

impl Context {
    /// Applies a failure to the producer's state, and logs it.
    fn note(&self, code: RDKafkaErrorCode, cause: Cause, text: &str) {
        if code == RDKafkaErrorCode::Fatal {
            self.dead.store(true, Ordering::Release);
        }
        if cause == Cause::Denied
            && let Some(signer) = &self.signer
        {
            signer.doubt_credentials();
        }
        let mut last_logged = lock(&self.memory.last_logged);
        let is_new = last_logged.as_ref().is_none_or(|last| {
            // That all brokers are down only sums up the errors of each.
            let is_other = last.cause != cause && code != RDKafkaErrorCode::AllBrokersDown;
            is_other || last.at.elapsed() >= WARN_INTERVAL
        });
        if is_new {
            let text: String = text.chars().take(ERROR_TEXT_CHARS).collect();
            warn!(cause = cause.label(), error = text, "kafka");
            *last_logged = Some(LoggedError {
                cause,
                text,
                at: Instant::now(),
            });
        }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// Anything that matters also arrives as an error.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        debug!(?level, facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let code = code.unwrap_or(RDKafkaErrorCode::Unknown);
        let about_connection = verdict::of_connection(code, reason);
        if let Some(cause) = about_connection {
            self.memory.note_connection_error(code, cause);
        }
        let cause = about_connection.unwrap_or_else(|| verdict::cause(code));
        self.note(code, cause, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        match &self.signer {
            Some(signer) => signer.token(),
            None => Err("no tokens are made for this cluster".into()),
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Place>;

    fn delivery(&self, report: &DeliveryResult<'_>, mut place: Box<Place>) {
        place.result = match report {
            Ok(_) => {
                self.memory.largest.fetch_max(place.size, Ordering::Relaxed);
                if let Some(topic) = &place.topic {
                    topic.delivered();
                }
                RecordResult::Delivered
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code();
                let code = code.unwrap_or(RDKafkaErrorCode::Unknown);
                // For the log; nothing more is known about the record.
                let cause = match verdict::cause(code) {
                    Cause::Unknown => self.memory.connection_error().unwrap_or(Cause::Unknown),
                    cause => cause,
                };
                self.note(code, cause, &format!("delivery: {error}"));
                let fits = place.size <= self.memory.largest.load(Ordering::Relaxed);
                verdict::of_report(code, place.call.alone, fits)
            }
        };
    }
}

/// A producer. Its thread keeps it until it is retired and has no message left.
struct Line {
    producer: BaseProducer<Context>,
    retired: AtomicBool,
    built: Instant,
}

impl Line {
    fn start(
        config: &ClientConfig,
        context: Context,
        patience: Duration,
    ) -> Result<Running, String> {
        let producer = BaseProducer::from_config_and_context(config, context);
        let line = Arc::new(Line {
            producer: producer.map_err(|error| config_error(&error))?,
            retired: AtomicBool::new(false),
            built: Instant::now(),
        });
        let served = Arc::clone(&line);
        let thread = Builder::new()
            .name("kafka".to_owned())
            .spawn(move || served.serve(patience))
            .map_err(|error| format!("cannot start its thread: {error}"))?;
        Ok(Running {
            line,
            thread: Some(thread),
        })
    }

    fn serve(self: Arc<Line>, patience: Duration) {
        let mut retired_at = None;
        loop {
            self.producer.poll(POLL);
            if !self.retired.load(Ordering::Acquire) {
                continue;
            }
            let retired_at: Instant = *retired_at.get_or_insert_with(Instant::now);
            // Every message ends by its time-out; the margin covers defects.
            if self.producer.in_flight_count() == 0 || retired_at.elapsed() > patience {
                return;
            }
        }
    }

    fn context(&self) -> &Context {
        self.producer.client().context()
    }
}

/// Without the value, which may be a password.
fn config_error(error: &KafkaError) -> String {
    let text = match error {
        KafkaError::ClientConfig(_, what, key, _) => format!("{key}: {what}"),
        error => error.to_string(),
    };
    // librdkafka does not say more about a mismatched key or a wrong password.
    text.replace("ssl.key.location", "key_file or key_password")
        .replace("ssl.certificate.location", "certificate_file")
}

/// The current producer, and everything needed to create another.
pub(super) struct Lines {
    config: ClientConfig,
    signer: Option<Arc<IamSigner>>,
    memory: Arc<Memory>,
    patience: Duration,
    current: Mutex<Running>,
}

struct Running {
    line: Arc<Line>,
    /// Taken when it ends.
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Creates the first producer, which connects in the background. `patience` is how long a retired one is
    /// kept for its outstanding reports.
    ///
    /// # Errors
    /// librdkafka refuses a setting, or no thread can be created.
    pub(super) fn start(
        config: ClientConfig,
        signer: Option<Arc<IamSigner>>,
        patience: Duration,
    ) -> Result<Lines, String> {
        let memory: Arc<Memory> = Arc::default();
        let context = Context {
            dead: AtomicBool::new(false),
            signer: signer.clone(),
            memory: Arc::clone(&memory),
        };
        let first = Line::start(&config, context, patience)?;
        Ok(Lines {
            config,
            signer,
            memory,
            patience,
            current: Mutex::new(first),
        })
    }

    /// Passes records to librdkafka. Records that it does not accept get their results immediately. `topic` is
    /// for records that name none.
    pub(super) fn send(&self, topic: &str, records: &[Record], bytes_max: usize, call: &Arc<Call>) {
        let line = self.usable();
        for (at, record) in records.iter().enumerate() {
            let mut place = Box::new(Place {
                call: Arc::clone(call),
                at,
                size: record.size(),
                topic: record.topic.clone(),
                result: RecordResult::Retry(verdict::NO_REPORT),
            });
            if record.size() > bytes_max {
                place.result = RecordResult::Refused(Cause::TooLarge);
                continue;
            }
            let topic = record.topic.as_ref().map_or(topic, Topic::as_str);
            let mut message = BaseRecord::with_opaque_to(topic, place).payload(&record.payload[..]);
            if let Some(key) = &record.key {
                message = message.key(&key[..]);
            }
            if let Err((error, mut message)) = line.producer.send(message) {
                let code = error.rdkafka_error_code();
                let code = code.unwrap_or(RDKafkaErrorCode::Unknown);
                let cause = verdict::cause(code);
                line.context()
                    .note(code, cause, &format!("not taken: {error}"));
                message.delivery_opaque.result = verdict::of_refusal(code);
            }
        }
    }

    /// The current producer, replaced if it has failed. The old one is kept until it has reported on
    /// everything it holds.
    fn usable(&self) -> Arc<Line> {
        let mut current = lock(&self.current);
        let line = &current.line;
        let is_dead = line.context().dead.load(Ordering::Acquire);
        if !is_dead || line.built.elapsed() < REPLACE_AFTER {
            return Arc::clone(line);
        }
        let context = Context {
            dead: AtomicBool::new(false),
            signer: self.signer.clone(),
            memory: Arc::clone(&self.memory),
        };
        match Line::start(&self.config, context, self.patience) {
            Ok(next) => {
                info!("kafka: the producer is replaced");
                let old = std::mem::replace(&mut *current, next);
                old.line.retired.store(true, Ordering::Release);
            }
            Err(error) => warn!(error, "kafka: the producer cannot be replaced"),
        }
        Arc::clone(&current.line)
    }

    /// A call ended with delivery reports missing: a defect that a new producer may not have.
    pub(super) fn reports_are_missing(&self) {
        let line = Arc::clone(&lock(&self.current).line);
        line.context().dead.store(true, Ordering::Release);
        tracing::error!("kafka: delivery reports are missing");
    }

    /// The last connection error, if it is recent.
    pub(super) fn connection_error(&self) -> Option<Cause> {
        self.memory.connection_error()
    }

    /// The cluster's metadata for the topic, and the number of other topics that begin with `prefix`. Blocks
    /// for at most `timeout`.
    ///
    /// # Errors
    /// No broker answers, or the topic does not exist or is not visible to us.
    pub(super) fn describe(
        &self,
        topic: &str,
        prefix: Option<&str>,
        timeout: Duration,
    ) -> Result<String, String> {
        let line = Arc::clone(&lock(&self.current).line);
        // For all topics: asking for a single one may create it.
        let metadata = line
            .producer
            .client()
            .fetch_metadata(None, timeout)
            .map_err(|error| {
                lock(&self.memory.last_logged).as_ref().map_or_else(
                    || error.to_string(),
                    |last| format!("{} ({})", last.text, last.cause.label()),
                )
            })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or(
            "no such topic, or none that may be seen; \
             where brokers make topics, the first event would",
        )?;
        let partitions = found.partitions();
        let leaderless = partitions.iter().filter(|part| part.leader() < 0).count();
        if partitions.is_empty() || leaderless == partitions.len() {
            return Err(format!(
                "{} partitions, none with a leader",
                partitions.len()
            ));
        }
        let others = prefix.map_or_else(String::new, |prefix| {
            let names = metadata.topics().iter().map(|found| found.name());
            let count = names.filter(|name| name.starts_with(prefix)).count();
            format!("; {count} topics begin with {prefix}")
        });
        let replicas = partitions.iter().map(|part| part.replicas().len()).min();
        Ok(format!(
            "{} partitions ({leaderless} without a leader), {} replicas, {} brokers{others}",
            partitions.len(),
            replicas.unwrap_or(0),
            metadata.brokers().len(),
        ))
    }
}

impl Drop for Lines {
    /// Joins the producer's thread: librdkafka's threads must not outlive the main thread.
    fn drop(&mut self) {
        let current = self
            .current
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        current.line.retired.store(true, Ordering::Release);
        if let Some(thread) = current.thread.take() {
            // A panic there has already been reported.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
