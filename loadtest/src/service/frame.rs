//! Runs one service: its listener and connections on threads of their own, the admin pages, call
//! faults, latency, the ledger and the end. Every rule of a service is behind [`Service`].

use super::faults::{CallFault, FaultPlan, Faults, FaultsError};
use super::http::{AnswerBody, ConnectionEnd, Socket, read_body};
use super::latency::Sampler;
use super::script::FaultScript;
use super::signature;
use super::tls::{HANDSHAKE_MAX, Identity};
use super::{CallStats, CommonError, EmulatorError, Options, Refusal, Reply, Service, Signatures};
use crate::event_id::EventId;
use crate::ledger::{LedgerError, LineFile, STORED_AT_END_HEADER, STORED_HEADER};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

/// Wait after a failed accept, for instance without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long a connection that set faults outlives the endpoint.
const ADMIN_GRACE: Duration = Duration::from_millis(50);

/// Requests under way on one h2 connection.
const H2_STREAMS_MAX: u32 = 1_000;

/// Bytes of a body that an h2 client may send ahead: the largest body of Kinesis.
const H2_WINDOW_BYTES: u32 = 16 << 20;

/// Bytes of a `POST /_faults`.
const ADMIN_BODY_MAX: usize = 1 << 20;

/// State shared by all calls, under one lock.
pub(crate) struct State<T> {
    /// The service's own state.
    pub(crate) own: T,
    pub(crate) faults: FaultPlan,
    pub(crate) ledger: Option<Arc<LineFile>>,
    pub(crate) calls: CallStats,
    latency: Sampler,
}

impl<T> State<T> {
    /// Notes events as stored, when there is a ledger.
    pub(crate) fn note_stored(&mut self, ids: impl IntoIterator<Item = EventId>) {
        let Some(ledger) = &self.ledger else {
            return;
        };
        for id in ids {
            ledger.push_id(id);
            self.calls.ledger_ids += 1;
        }
    }
}

/// A running service, as its threads see it.
pub(crate) struct Shared<S: Service> {
    pub(crate) service: S,
    state: Mutex<State<S::Own>>,
    /// The same as in the state, to be written without its lock.
    ledger: Option<Arc<LineFile>>,
    signatures: Signatures,
    started: Instant,
    /// Told when other faults were set.
    faults_set: watch::Sender<()>,
    /// Whether the endpoint is gone.
    gone: watch::Sender<bool>,
    /// Set once: why the emulator cannot go on.
    failure: Mutex<Option<EmulatorError>>,
    stop: watch::Sender<bool>,
}

impl<S: Service> Shared<S> {
    /// A panic elsewhere does not make counters and records unreadable.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<S::Own>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the start. Read under the lock it does not go back between calls.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counters up to now.
    pub(crate) fn stats(&self) -> S::Stats {
        let mut state = self.lock();
        let now = self.now();
        self.service.tick(&mut state.own, now);
        self.service.stats(&state)
    }

    fn set_faults(&self, windows: Vec<Faults>) -> Result<(), FaultsError> {
        known_faults::<S>(&windows)?;
        let mut state = self.lock();
        state.faults = FaultPlan::new(windows, self.now())?;
        drop(state);
        self.faults_set.send_replace(());
        Ok(())
    }

    /// Returns when the ledger has every event stored so far, `false` when it cannot be written:
    /// then nothing may be answered any more.
    async fn commit(&self) -> bool {
        let Some(ledger) = &self.ledger else {
            return true;
        };
        let position = ledger.position();
        // Calls that are ready to run add their lines to the same write.
        tokio::task::yield_now().await;
        self.ledger_written(ledger.flush_to(position))
    }

    /// Without its ledger an emulator would prove nothing: it ends instead.
    fn ledger_written(&self, written: Result<(), LedgerError>) -> bool {
        written.map_err(|error| self.fail(error.into())).is_ok()
    }

    /// Ends the emulator; the first reason is kept.
    fn fail(&self, error: EmulatorError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.send_replace(true);
    }
}

/// Refuses faults that the service has no place for.
fn known_faults<S: Service>(windows: &[Faults]) -> Result<(), FaultsError> {
    for name in windows.iter().flat_map(Faults::entry_faults) {
        if S::FAULTS_UNKNOWN.contains(&name) {
            let service = S::NAME;
            return Err(FaultsError::Unknown { name, service });
        }
    }
    Ok(())
}

/// A running emulator on its own threads; it ends when dropped.
pub(crate) struct Frame<S: Service> {
    addr: SocketAddr,
    tls: Option<(SocketAddr, String)>,
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Service> Frame<S> {
    /// Listens and serves; when this returns, the emulator takes calls.
    pub(crate) fn start(options: Options, service: S, own: S::Own) -> Result<Self, EmulatorError> {
        options.check()?;
        let seed = options.faults.seed;
        let mut windows = options.script.window;
        windows.push(options.faults);
        known_faults::<S>(&windows)?;
        let ledger = match &options.ledger {
            Some(path) => {
                let header = match S::LEDGER_AT_END {
                    true => STORED_AT_END_HEADER,
                    false => STORED_HEADER,
                };
                Some(Arc::new(LineFile::create(path, header)?))
            }
            None => None,
        };
        let (addr, listener) = bind(options.listen)?;
        let mut sockets = vec![listener];
        let mut ports = vec![Port {
            addr,
            listener: None,
            acceptor: None,
        }];
        let mut tls = None;
        if let Some(asked) = &options.tls {
            let identity = Identity::make(asked)?;
            let (addr, listener) = bind(asked.listen)?;
            sockets.push(listener);
            ports.push(Port {
                addr,
                listener: None,
                acceptor: Some(identity.acceptor),
            });
            tls = Some((addr, identity.certificate_pem));
        }
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            service,
            state: Mutex::new(State {
                own,
                faults: FaultPlan::new(windows, Duration::ZERO)?,
                ledger: ledger.clone(),
                calls: CallStats::default(),
                latency: Sampler::new(options.latency, seed),
            }),
            ledger,
            signatures: options.signatures,
            started: Instant::now(),
            faults_set: watch::Sender::new(()),
            gone: watch::Sender::new(false),
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
            .name(S::NAME.to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(ports, sockets, &for_thread, stopped)) {
                    for_thread.fail(error);
                }
                // Ends every connection, those that hang on purpose too.
                runtime.shutdown_timeout(Duration::from_secs(1));
                let finished = for_thread.service.finish(&mut for_thread.lock());
                if let Err(error) = finished {
                    for_thread.fail(error);
                }
                if let Some(ledger) = &for_thread.ledger {
                    for_thread.ledger_written(ledger.finish());
                }
            })
            .map_err(EmulatorError::Start)?;
        Ok(Frame {
            addr,
            tls,
            shared,
            thread: Some(thread),
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The TLS port and its certificate in PEM.
    pub(crate) fn tls(&self) -> Option<(SocketAddr, &str)> {
        let (addr, pem) = self.tls.as_ref()?;
        Some((*addr, pem))
    }

    pub(crate) fn shared(&self) -> &Shared<S> {
        &self.shared
    }

    pub(crate) fn set_faults(&self, windows: Vec<Faults>) -> Result<(), FaultsError> {
        self.shared.set_faults(windows)
    }

    /// Returns when the emulator ended by itself, or when `stop` says so; then ends it.
    pub(crate) fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), EmulatorError> {
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
    pub(crate) fn stop(mut self) -> Result<(), EmulatorError> {
        self.end();
        let failure = &self.shared.failure;
        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().map_or(Ok(()), Err)
    }

    fn end(&mut self) {
        self.shared.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed there.
            let _ = thread.join();
        }
    }
}

impl<S: Service> Drop for Frame<S> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Bound without a runtime, since the caller may be inside another one.
fn bind(addr: SocketAddr) -> Result<(SocketAddr, std::net::TcpListener), EmulatorError> {
    let listen = |source| EmulatorError::Listen { addr, source };
    let listener = std::net::TcpListener::bind(addr).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    Ok((listener.local_addr().map_err(listen)?, listener))
}

/// One of the emulator's ports.
struct Port {
    addr: SocketAddr,
    /// `None` while the endpoint is gone.
    listener: Option<TcpListener>,
    acceptor: Option<TlsAcceptor>,
}

async fn serve<S: Service>(
    mut ports: Vec<Port>,
    sockets: Vec<std::net::TcpListener>,
    shared: &Arc<Shared<S>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), EmulatorError> {
    let mut faults_set = shared.faults_set.subscribe();
    for (port, socket) in ports.iter_mut().zip(sockets) {
        port.listener = Some(TcpListener::from_std(socket).map_err(EmulatorError::Start)?);
    }
    let mut change = follow_faults(shared, &mut ports).await?;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            _ = faults_set.changed() => change = follow_faults(shared, &mut ports).await?,
            () = until(shared, change) => change = follow_faults(shared, &mut ports).await?,
            accepted = accept(&ports) => match accepted {
                Ok((socket, acceptor)) => {
                    tokio::spawn(connection(socket, acceptor, Arc::clone(shared)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

/// Goes away or comes back as the faults want it now; returns when they may want something else.
async fn follow_faults<S: Service>(
    shared: &Shared<S>,
    ports: &mut [Port],
) -> Result<Option<Duration>, EmulatorError> {
    let was_there = ports.iter().any(|port| port.listener.is_some());
    let (gone, change) = {
        let mut state = shared.lock();
        let now = shared.now();
        state.faults.advance(now);
        let gone = state.faults.faults().is_some_and(|faults| faults.gone);
        if gone && was_there {
            *state.calls.faults.entry("Gone".to_owned()).or_default() += 1;
        }
        (gone, state.faults.next_change(now))
    };
    for port in ports {
        let addr = port.addr;
        if gone {
            port.listener = None;
        } else if port.listener.is_none() {
            let again = TcpListener::bind(addr).await;
            let again = again.map_err(|source| EmulatorError::Listen { addr, source })?;
            port.listener = Some(again);
        }
    }
    shared.gone.send_if_modified(|was| {
        let modified = *was != gone;
        *was = gone;
        modified
    });
    Ok(change)
}

/// Waits until a time of the emulator's clock, or forever.
async fn until<S: Service>(shared: &Shared<S>, moment: Option<Duration>) {
    let deadline = moment.and_then(|moment| shared.started.checked_add(moment));
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The next connection of any port.
async fn accept(ports: &[Port]) -> io::Result<(TcpStream, Option<TlsAcceptor>)> {
    let mut next = None;
    std::future::poll_fn(|cx| {
        for port in ports {
            let accepted = port.listener.as_ref().map(|own| own.poll_accept(cx));
            if let Some(Poll::Ready(accepted)) = accepted {
                next = Some((accepted?.0, port.acceptor.clone()));
                return Poll::Ready(Ok::<(), io::Error>(()));
            }
        }
        Poll::Pending
    })
    .await?;
    match next {
        Some(next) => Ok(next),
        None => std::future::pending().await,
    }
}

async fn connection<S: Service>(
    socket: TcpStream,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared<S>>,
) {
    shared.lock().calls.connections += 1;
    // Without it answers may wait for delayed acknowledgements; a socket that refuses is served.
    let _ = socket.set_nodelay(true);
    let end = Arc::new(End::default());
    let socket = Socket::new(socket, Arc::clone(&end.reset));
    let Some(acceptor) = acceptor else {
        return requests(socket, end, shared).await;
    };
    let handshake = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(socket));
    // A client that does not trust the certificate goes away here; it says why on its side.
    if let Ok(Ok(stream)) = handshake.await {
        requests(stream, end, shared).await;
    }
}

/// How a connection ends before its client wants it to.
#[derive(Default)]
struct End {
    /// Whether the socket ends with a reset.
    reset: Arc<AtomicBool>,
    /// Told to end the connection now: an h2 connection outlives a request that failed.
    now: Notify,
    /// Whether the connection asked for the admin pages.
    asked_admin: AtomicBool,
}

/// Serves HTTP/1.1 or h2, as the client begins.
async fn requests<S: Service>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    end: Arc<End>,
    shared: Arc<Shared<S>>,
) {
    let mut gone = shared.gone.subscribe();
    let for_requests = Arc::clone(&end);
    let service = hyper::service::service_fn(move |request| {
        let (shared, end) = (Arc::clone(&shared), Arc::clone(&for_requests));
        async move {
            answer(request, &shared, &end.asked_admin)
                .await
                .inspect_err(|fault| {
                    if let ConnectionEnd::Reset = fault {
                        end.reset.store(true, Ordering::Relaxed);
                        end.now.notify_one();
                    }
                })
        }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .initial_stream_window_size(H2_WINDOW_BYTES)
        .initial_connection_window_size(H2_WINDOW_BYTES);
    let served = http.serve_connection(TokioIo::new(io), service);
    let gone = async {
        let told = gone.wait_for(|gone| *gone).await.is_ok();
        if told && end.asked_admin.load(Ordering::Relaxed) {
            // The response to the call that asked for it is still being sent.
            tokio::time::sleep(ADMIN_GRACE).await;
        }
        // Before the socket is dropped, as it is when this ends.
        end.reset.store(true, Ordering::Relaxed);
    };
    tokio::select! {
        // Its error is a client that went away, or the end that a fault asked for.
        _ = served => {}
        () = gone => {}
        () = end.now.notified() => {}
    }
}

async fn answer<S: Service>(
    request: Request<Incoming>,
    shared: &Shared<S>,
    asked_admin: &AtomicBool,
) -> Result<Response<AnswerBody>, ConnectionEnd> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/_stats") => Ok(admin_json(200, &shared.stats())),
        (&Method::GET, "/_faults") => Ok(faults_json(shared)),
        (&Method::POST, "/_faults") => {
            asked_admin.store(true, Ordering::Relaxed);
            let Some(body) = read_body(request.into_body(), ADMIN_BODY_MAX).await? else {
                let message = format!("over {ADMIN_BODY_MAX} bytes");
                return Ok(too_large(Reply::new(413, message)));
            };
            let set = FaultScript::from_json(&body)
                .map_err(|error| error.to_string())
                .and_then(|script| {
                    let set = shared.set_faults(script.window);
                    set.map_err(|error| error.to_string())
                });
            Ok(match set {
                Ok(()) => faults_json(shared),
                Err(error) => admin_json(400, &serde_json::json!({"error": error})),
            })
        }
        _ => call(request, shared).await,
    }
}

/// The faults as they were set: one window alone, or a script.
fn faults_json<S: Service>(shared: &Shared<S>) -> Response<AnswerBody> {
    let state = shared.lock();
    let mut windows = state.faults.windows();
    match (windows.next(), windows.len()) {
        (Some(alone), 0) => admin_json(200, alone),
        (first, _) => {
            let window = first.into_iter().chain(windows).cloned().collect();
            admin_json(200, &FaultScript { window })
        }
    }
}

/// The faults and delay drawn for one call.
struct Drawn {
    fault: Option<CallFault>,
    delay: Duration,
    trickle_bytes_per_s: u32,
    failed_count_zero: bool,
}

fn draw<S: Service>(shared: &Shared<S>, operation: &str) -> Drawn {
    let mut state = shared.lock();
    let now = shared.now();
    state.calls.count_call(operation);
    state.faults.advance(now);
    let mut delay = state.latency.sample(now);
    let fault = state.faults.call(operation);
    if let Some(fault) = fault {
        *state.calls.faults.entry(format!("{fault:?}")).or_default() += 1;
    }
    let faults = state.faults.faults();
    if fault == Some(CallFault::Slow) {
        let slow = faults.map_or(0, |faults| faults.slow_ms);
        delay = delay.saturating_add(Duration::from_millis(slow));
    }
    Drawn {
        fault,
        delay,
        trickle_bytes_per_s: faults.map_or(1, |faults| faults.trickle_bytes_per_s),
        failed_count_zero: faults.is_some_and(|faults| faults.failed_count_zero),
    }
}

/// One call of a service.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) head: &'a Parts,
    /// As [`Service::operation`] named it.
    pub(crate) operation: &'static str,
    pub(crate) body: Vec<u8>,
    /// Leave the last entry out of the answer.
    pub(crate) short: bool,
    /// Count no failures in the answer.
    pub(crate) failed_count_zero: bool,
}

impl Call<'_> {
    /// The region that it is signed for.
    pub(crate) fn region(&self) -> Option<&str> {
        signature::region(self.head)
    }
}

/// In h2 the host is the request's authority; services and signatures know it as a header.
fn name_host(head: &mut Parts) {
    if head.headers.contains_key(HOST) {
        return;
    }
    let authority = head.uri.authority().map(|authority| authority.as_str());
    if let Some(Ok(host)) = authority.map(HeaderValue::from_str) {
        head.headers.insert(HOST, host);
    }
}

async fn call<S: Service>(
    request: Request<Incoming>,
    shared: &Shared<S>,
) -> Result<Response<AnswerBody>, ConnectionEnd> {
    let (mut head, incoming) = request.into_parts();
    name_host(&mut head);
    let operation = shared.service.operation(&head);
    let drawn = draw(shared, operation);
    if let Some(CallFault::ResetBefore) = drawn.fault {
        return Err(ConnectionEnd::Reset);
    }
    let Some(body) = read_body(incoming, S::BODY_BYTES_MAX).await? else {
        return Ok(too_large(shared.service.too_large(&head)));
    };
    if let Some(CallFault::Hang) = drawn.fault {
        return std::future::pending().await;
    }
    let result = carry_out(shared, &head, operation, body, &drawn);
    if !shared.commit().await {
        return Err(ConnectionEnd::Reset);
    }
    if !drawn.delay.is_zero() {
        tokio::time::sleep(drawn.delay).await;
    }
    let reply = match (result, drawn.fault) {
        (_, Some(CallFault::ResetAfter)) => return Err(ConnectionEnd::Reset),
        (Ok(_), Some(CallFault::GarbageAnswer)) => Reply::new(200, "<html>it works</html>"),
        (Ok(reply), _) => reply,
        (Err(refusal), _) => {
            shared.lock().calls.count_error(refusal.code);
            shared.service.refuse(&refusal, &head)
        }
    };
    let reply = reply.with(S::REQUEST_ID, &format!("{:032x}", fastrand::u128(..)));
    let in_drops = drawn.fault == Some(CallFault::Trickle);
    let body = match in_drops {
        true => AnswerBody::in_drops(reply.body, drawn.trickle_bytes_per_s),
        false => AnswerBody::whole(reply.body),
    };
    Ok(respond(reply.status, S::CONTENT_TYPE, reply.headers, body))
}

fn carry_out<S: Service>(
    shared: &Shared<S>,
    head: &Parts,
    operation: &'static str,
    body: Vec<u8>,
    drawn: &Drawn,
) -> Result<Reply, Refusal> {
    let signed = signature::check(&shared.signatures, S::NAME, head, &body, SystemTime::now());
    let error = match (signed, drawn.fault) {
        (Err(problem), _) => CommonError::Signature(problem),
        (Ok(()), Some(CallFault::InternalError)) => CommonError::Internal,
        (Ok(()), Some(CallFault::ThrottleCall)) => CommonError::Throttled,
        (Ok(()), Some(CallFault::AccessDenied)) => CommonError::AccessDenied,
        (Ok(()), Some(CallFault::ExpiredToken)) => CommonError::ExpiredToken,
        (Ok(()), _) => {
            let call = Call {
                head,
                operation,
                body,
                short: drawn.fault == Some(CallFault::ShortAnswer),
                failed_count_zero: drawn.failed_count_zero,
            };
            let mut reply = shared.service.call(call, shared);
            if drawn.fault == Some(CallFault::ErrorAfter) && reply.is_ok() {
                reply = Err(shared
                    .service
                    .common_error(CommonError::Internal, operation));
            }
            return reply;
        }
    };
    Err(shared.service.common_error(error, operation))
}

/// A response to a request with too large a body; the rest of the body is not read.
fn too_large(reply: Reply) -> Response<AnswerBody> {
    let mut headers = reply.headers;
    headers.push((CONNECTION, HeaderValue::from_static("close")));
    let body = AnswerBody::whole(reply.body);
    respond(reply.status, "text/plain", headers, body)
}

fn admin_json(status: u16, value: &impl Serialize) -> Response<AnswerBody> {
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(_) => (500, Vec::new()),
    };
    let body = AnswerBody::whole(Bytes::from(body));
    respond(status, "application/json", Vec::new(), body)
}

fn respond(
    status: u16,
    content_type: &'static str,
    headers: Vec<(hyper::header::HeaderName, HeaderValue)>,
    body: AnswerBody,
) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let own = response.headers_mut();
    own.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in headers {
        own.insert(name, value);
    }
    response
}
