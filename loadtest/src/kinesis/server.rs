//! Serves the stream over HTTP/1.1, and carries out call faults.
//! Every rule of the service is elsewhere.

use super::api::{self, ApiError};
use super::call::decode;
use super::cost::CostMeter;
use super::faults::{CallFault, FaultPlan, Faults, FaultsError};
use super::stream::{Aggregation, AnswerShape, Stream, StreamConfig};
use super::{EmulatorError, NotRetained, Options, StoredRecord};
use crate::event_id::{EventId, IdScanner};
use crate::ledger::{LineFile, STORED_HEADER};
use bytes::Bytes;
use fastrand::Rng;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes of an HTTP body: the largest call in base64, and its JSON around 500 records.
const HTTP_BODY_MAX: usize = 16 << 20;

/// How often ids of stored events are handed to the ledger file.
const LEDGER_FLUSH: Duration = Duration::from_millis(100);

/// Pending ledger bytes that are written at once, without waiting for the timer.
const LEDGER_PENDING_MAX: usize = 1 << 20;

/// Wait after a failed accept, for instance without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

const TARGET_PREFIX: &str = "Kinesis_20131202.";

/// Counters since the start. Also the JSON of `GET /_stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Calls by operation; those of unknown operations under `unknown`.
    pub calls: BTreeMap<String, u64>,
    /// Calls answered with an error, by its code.
    pub errors: BTreeMap<String, u64>,
    /// Call faults carried out, by their name.
    pub faults: BTreeMap<String, u64>,
    /// Records in PutRecords calls that passed the whole-call checks.
    pub records: u64,
    /// Records stored.
    pub stored: u64,
    /// Bytes stored, data and keys.
    pub stored_bytes: u64,
    /// Records refused by shard limits.
    pub throttled: u64,
    /// Records refused by the fault `reject`.
    pub rejected: u64,
    /// Records answered as stored and not stored, by the fault `drop_acked`.
    pub dropped_acked: u64,
    /// Ids of stored events (counted only with a ledger).
    pub ledger_ids: u64,
    /// Records in memory.
    pub retained: u64,
    /// Bytes that they take.
    pub retained_bytes: u64,
    /// Stored records that are not in memory any more, or never were (`--discard`).
    pub not_retained: u64,
    /// Stored records that are containers of the Kinesis Producer Library.
    pub kpl_containers: u64,
    /// Stored records that begin like such a container and are none.
    pub kpl_damaged: u64,
    /// User records in stored containers.
    pub kpl_user_records: u64,
    /// Those of them whose hash is outside the shard that they are stored in: the Kinesis Client
    /// Library drops them on reading. They are in no ledger, and not among the stored ids.
    pub kpl_dropped_by_readers: u64,
    /// Shards that take records now.
    pub open_shards: u64,
    /// What the stream would be billed for.
    pub cost: CostMeter,
    /// Records stored, by shard, closed ones included.
    pub shard_stored: Vec<u64>,
    /// Records refused by shard limits, by shard.
    pub shard_throttled: Vec<u64>,
}

struct State {
    stream: Stream,
    faults: FaultPlan,
    jitter: Rng,
    ledger: Option<LineFile>,
    stats: Stats,
    aggregation: Aggregation,
}

struct Shared {
    state: Mutex<State>,
    scanner: IdScanner,
    latency: Duration,
    latency_jitter: Duration,
    started: Instant,
    /// Set once: why the emulator cannot go on.
    failure: Mutex<Option<EmulatorError>>,
    stop: watch::Sender<bool>,
}

impl Shared {
    /// A panic elsewhere does not make counters and records unreadable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush_ledger(&self) {
        let failed = match &mut self.lock().ledger {
            Some(ledger) => ledger.flush().err(),
            None => None,
        };
        if let Some(error) = failed {
            // Without its ledger an emulator would prove nothing: it ends instead.
            self.fail(EmulatorError::Ledger(error));
        }
    }

    /// Ends the emulator; the first reason is kept.
    fn fail(&self, error: EmulatorError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.send_replace(true);
    }
}

/// A running emulator on its own thread; it ends when dropped.
pub struct Emulator {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Emulator {
    /// Listens and serves; when this returns, the emulator takes calls.
    ///
    /// # Errors
    /// When an option is out of range or contradicts another, the address is taken, or the
    /// ledger cannot be made.
    pub fn start(options: Options) -> Result<Emulator, EmulatorError> {
        super::check(&options)?;
        let ledger = match &options.ledger {
            Some(path) => Some(LineFile::create(path, STORED_HEADER)?),
            None => None,
        };
        let faults = FaultPlan::new(options.faults.clone())?;
        let listen = |source| EmulatorError::Listen {
            addr: options.listen,
            source,
        };
        // Bound without a runtime, since the caller may be inside another one.
        let listener = std::net::TcpListener::bind(options.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let config = StreamConfig {
            name: options.stream,
            shards: options.shards,
            mode: options.mode,
            distribution: options.distribution,
            record_bytes_max: options.record_bytes_max,
            shard_limits: options.shard_limits,
            update: options.update,
            on_demand_period: options.on_demand_period,
            retain_bytes_max: options.retain_bytes_max,
            ids: ledger.is_some(),
        };
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stream: Stream::new(config, SystemTime::now()),
                jitter: Rng::with_seed(options.faults.seed),
                faults,
                ledger,
                stats: Stats::default(),
                aggregation: Aggregation::default(),
            }),
            scanner: IdScanner::default(),
            latency: options.latency,
            latency_jitter: options.latency_jitter,
            started: Instant::now(),
            failure: Mutex::new(None),
            stop,
        });
        let runtime = if options.threads == 1 {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        } else {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(options.threads)
                .enable_all()
                .build()
        }
        .map_err(EmulatorError::Start)?;
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("kinesis".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, &for_thread, stopped)) {
                    for_thread.fail(EmulatorError::Start(error));
                }
                // Ends every connection, those that hang on purpose too.
                runtime.shutdown_timeout(Duration::from_secs(1));
                for_thread.flush_ledger();
            })
            .map_err(EmulatorError::Start)?;
        Ok(Emulator {
            addr,
            shared,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its endpoint URL, as `AWS_ENDPOINT_URL_KINESIS` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Replaces the faults from the next call on, and starts their choices anew.
    ///
    /// # Errors
    /// When they are impossible; the old ones then stay.
    pub fn set_faults(&self, faults: Faults) -> Result<(), FaultsError> {
        let plan = FaultPlan::new(faults)?;
        self.shared.lock().faults = plan;
        Ok(())
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        stats(&self.shared)
    }

    /// All records in memory, shard by shard, oldest first.
    #[must_use]
    pub fn stored_records(&self) -> Vec<StoredRecord> {
        self.shared.lock().stream.records()
    }

    /// The ids of all events stored, once per stored copy, in no particular order. Of containers
    /// of the Kinesis Producer Library, those that its readers get.
    ///
    /// # Errors
    /// When stored records are not in memory any more.
    pub fn stored_ids(&self) -> Result<Vec<EventId>, NotRetained> {
        let missing = self.stats().not_retained;
        if missing > 0 {
            return Err(NotRetained { missing });
        }
        let state = self.shared.lock();
        Ok(state.stream.delivered_ids(&self.shared.scanner))
    }

    /// Returns when the emulator ended by itself, as it does when its ledger cannot be written,
    /// or when `stop` says so; then ends it.
    ///
    /// # Errors
    /// Why it ended by itself.
    pub fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), EmulatorError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(EmulatorError::Start)?;
        let mut stopped = self.shared.stop.subscribe();
        runtime.block_on(async {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = stop => {}
            }
        });
        self.stop()
    }

    /// Ends it: connections are closed, the ledger is written out, the port is free again.
    ///
    /// # Errors
    /// When the ledger could not be written.
    pub fn stop(mut self) -> Result<(), EmulatorError> {
        self.end();
        let mut failure = self
            .shared
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match failure.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn end(&mut self) {
        self.shared.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed there.
            let _ = thread.join();
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(
    listener: std::net::TcpListener,
    shared: &Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut flush = tokio::time::interval(LEDGER_FLUSH);
    flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            _ = flush.tick() => shared.flush_ledger(),
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    tokio::spawn(connection(socket, Arc::clone(shared)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

async fn connection(socket: TcpStream, shared: Arc<Shared>) {
    shared.lock().stats.connections += 1;
    // Without it answers may wait for delayed acknowledgements; a socket that refuses is served.
    let _ = socket.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let socket = Socket {
        socket,
        reset: Arc::clone(&reset),
    };
    let service = hyper::service::service_fn(|request| {
        let (shared, reset) = (&shared, &reset);
        async move {
            answer(request, shared).await.map_err(|fault| {
                if let ConnectionEnd::Reset = fault {
                    reset.store(true, Ordering::Relaxed);
                }
                fault
            })
        }
    });
    // Its error is a client that went away, or the end that a fault asked for.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

/// A request that ends its connection without an answer.
#[derive(Debug, thiserror::Error)]
enum ConnectionEnd {
    #[error("reset by the fault script")]
    Reset,
    #[error("the client went away")]
    ClientGone,
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>, ConnectionEnd> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/_stats") => Ok(admin_json(&stats(shared))),
        (&Method::GET, "/_faults") => {
            let faults = shared.lock().faults.faults().clone();
            Ok(admin_json(&faults))
        }
        (&Method::POST, "/_faults") => {
            let body = match read_body(request).await? {
                Some(body) => body,
                None => return Ok(too_large()),
            };
            let set = serde_json::from_slice::<Faults>(&body)
                .map_err(|error| error.to_string())
                .and_then(|faults| FaultPlan::new(faults).map_err(|error| error.to_string()));
            Ok(match set {
                Ok(plan) => {
                    let answer = admin_json(plan.faults());
                    shared.lock().faults = plan;
                    answer
                }
                Err(error) => {
                    let body = serde_json::json!({"error": error}).to_string();
                    response(400, body.into())
                }
            })
        }
        _ => call(request, shared).await,
    }
}

/// One call of the service.
async fn call(
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>, ConnectionEnd> {
    let operation = operation(&request);
    let (fault, failed_count_zero, jitter) = {
        let mut state = shared.lock();
        *state.stats.calls.entry(operation.to_owned()).or_default() += 1;
        let fault = state.faults.call(operation);
        if let Some(fault) = fault {
            *state.stats.faults.entry(format!("{fault:?}")).or_default() += 1;
        }
        let jitter = shared.latency_jitter.mul_f64(state.jitter.f64());
        (fault, state.faults.faults().failed_count_zero, jitter)
    };
    if let Some(CallFault::ResetBefore) = fault {
        return Err(ConnectionEnd::Reset);
    }
    let Some(body) = read_body(request).await? else {
        return Ok(too_large());
    };
    let result = match fault {
        Some(CallFault::Hang) => std::future::pending().await,
        Some(CallFault::InternalError) => Err(ApiError::internal()),
        Some(CallFault::ThrottleCall) => Err(ApiError::call_throttled()),
        Some(CallFault::AccessDenied) => Err(ApiError::access_denied(operation)),
        _ => {
            let shape = AnswerShape {
                short: fault == Some(CallFault::ShortAnswer),
                failed_count_zero,
            };
            apply(shared, operation, &body, shape)
        }
    };
    let mut delay = shared.latency + jitter;
    if fault == Some(CallFault::Slow) {
        delay += Duration::from_millis(shared.lock().faults.faults().slow_ms);
    }
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match (result, fault) {
        (_, Some(CallFault::ResetAfter)) => Err(ConnectionEnd::Reset),
        (Ok(_), Some(CallFault::GarbageAnswer)) => {
            Ok(response(200, Bytes::from_static(b"<html>it works</html>")))
        }
        (Ok(body), _) => Ok(response(200, body.into())),
        (Err(error), _) => {
            let mut state = shared.lock();
            *state.stats.errors.entry(error.code.to_owned()).or_default() += 1;
            drop(state);
            Ok(response(error.status, error.body().into()))
        }
    }
}

/// The operation that a call names; `unknown` for those that are not emulated.
fn operation(request: &Request<Incoming>) -> &'static str {
    let target = request
        .headers()
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok());
    let named = target.and_then(|target| target.strip_prefix(TARGET_PREFIX));
    api::operation(named.unwrap_or_default())
}

fn apply(
    shared: &Shared,
    operation: &str,
    body: &[u8],
    shape: AnswerShape,
) -> Result<Vec<u8>, ApiError> {
    if matches!(operation, "PutRecords" | "PutRecord") {
        return put(shared, operation == "PutRecord", body, shape);
    }
    let mut state = shared.lock();
    // Read under the lock, so that time does not go back between calls.
    let now = shared.started.elapsed();
    api::operate(operation, &mut state.stream, now, body)
}

/// PutRecords, or with `single` PutRecord.
fn put(
    shared: &Shared,
    single: bool,
    body: &[u8],
    shape: AnswerShape,
) -> Result<Vec<u8>, ApiError> {
    let config = Arc::clone(shared.lock().stream.config());
    let call = decode(&config, &shared.scanner, body, single, &mut Vec::new())?;
    let mut state = shared.lock();
    let State {
        stream,
        faults,
        ledger,
        stats,
        aggregation,
        ..
    } = &mut *state;
    let mut ids = 0;
    // Read under the lock, so that time does not go back between calls.
    let now = shared.started.elapsed();
    let outcome = stream.put(call, faults, shape, now, |id| {
        if let Some(ledger) = ledger {
            ledger.push_id(id);
            ids += 1;
        }
    });
    stats.records += outcome.stored + outcome.throttled + outcome.rejected + outcome.dropped_acked;
    stats.stored += outcome.stored;
    stats.throttled += outcome.throttled;
    stats.rejected += outcome.rejected;
    stats.dropped_acked += outcome.dropped_acked;
    stats.ledger_ids += ids;
    aggregation.add(outcome.aggregation);
    let full = ledger
        .as_ref()
        .is_some_and(|ledger| ledger.pending() > LEDGER_PENDING_MAX);
    drop(state);
    if full {
        shared.flush_ledger();
    }
    match outcome.error {
        Some(error) => Err(error),
        None => Ok(outcome.answer),
    }
}

fn stats(shared: &Shared) -> Stats {
    let mut state = shared.lock();
    let now = shared.started.elapsed();
    state.stream.settle(now);
    let shards = state.stream.shards().all();
    let retained: u64 = shards.iter().map(|shard| shard.retained() as u64).sum();
    Stats {
        stored_bytes: shards.iter().map(|shard| shard.stored_bytes).sum(),
        retained,
        retained_bytes: shards.iter().map(|shard| shard.retained_bytes as u64).sum(),
        not_retained: state.stats.stored - retained,
        kpl_containers: state.aggregation.containers,
        kpl_damaged: state.aggregation.damaged,
        kpl_user_records: state.aggregation.user_records,
        kpl_dropped_by_readers: state.aggregation.dropped_by_readers,
        open_shards: state.stream.shards().open_count().into(),
        cost: state.stream.cost(now),
        shard_stored: shards.iter().map(|shard| shard.stored).collect(),
        shard_throttled: shards.iter().map(|shard| shard.throttled).collect(),
        ..state.stats.clone()
    }
}

/// The whole body, or `None` when it is over [`HTTP_BODY_MAX`].
async fn read_body(request: Request<Incoming>) -> Result<Option<Vec<u8>>, ConnectionEnd> {
    let mut incoming = request.into_body();
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > HTTP_BODY_MAX {
        return Ok(None);
    }
    let mut body = Vec::with_capacity(announced);
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| ConnectionEnd::ClientGone)?;
        if let Some(data) = frame.data_ref() {
            if body.len() + data.len() > HTTP_BODY_MAX {
                return Ok(None);
            }
            body.extend_from_slice(data);
        }
    }
    Ok(Some(body))
}

fn too_large() -> Response<Full<Bytes>> {
    let mut response = response(413, Bytes::new());
    // The rest of the body is not read.
    let close = HeaderValue::from_static("close");
    response
        .headers_mut()
        .insert(hyper::header::CONNECTION, close);
    response
}

fn admin_json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => response(200, body.into()),
        Err(_) => response(500, Bytes::new()),
    }
}

fn response(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// A socket that can be told to end with a reset instead of an orderly close.
struct Socket {
    socket: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Closing without lingering discards what is unsent and sends RST.
            let _ = self.socket.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            // An orderly FIN would come before the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
