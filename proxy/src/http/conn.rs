//! One connection, from accept to its last byte: the engine, and the rules around it.
//!
//! hyper parses and writes; [`framing`](super::framing) says what may reach it, [`conn_table`](super::conn_table)
//! how long it may take, and this file what happens between a head and its answer.

use super::Handler;
use super::body::{Body, discard};
use super::conn_table::{ConnState, ConnTable, End, Phase};
use super::io::CheckedIo;
use super::limits::HttpLimits;
use super::proxied_address::client_of;
use super::turns::Turns;
use crate::clock;
use crate::context::WorkerContext;
use crate::drain_phase::DrainPhase;
use crate::net::listener::ConnectionPermit;
use crate::net::poller::Stream;
use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use sluice_core::request::RequestId;
use sluice_core::time::{Mono, Wall};
use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// What all connections of one core share.
pub(crate) struct Shared {
    pub(super) context: Rc<WorkerContext>,
    pub(super) limits: HttpLimits,
    /// Where every read of this core lands first. It is worth its copy: the engine's own buffer
    /// cannot be handed to the socket without unsafe code, and bytes must be checked before it has them.
    pub(super) scratch: RefCell<Vec<u8>>,
    conn_table: ConnTable,
    turns: Turns,
    ids: RefCell<[fastrand::Rng; 2]>,
}

impl Shared {
    /// The id of the next request.
    pub(super) fn next_id(&self) -> RequestId {
        let [high, low] = &mut *self.ids.borrow_mut();
        RequestId(u128::from(high.u64(..)) << 64 | u128::from(low.u64(..)))
    }

    fn count_open(&self) {
        let open = self.conn_table.open() as u64;
        self.context.stats.connections_open.set(open);
    }
}

/// The HTTP side of one core.
pub(crate) struct HttpServer<H> {
    shared: Rc<Shared>,
    handler: Rc<H>,
    engine: http1::Builder,
}

impl<H: Handler> HttpServer<H> {
    pub(crate) fn new(context: Rc<WorkerContext>, limits: HttpLimits, handler: H) -> HttpServer<H> {
        let mut engine = http1::Builder::new();
        engine
            // A client may end its side after its last request and still wait for the answer.
            .half_close(true)
            .max_buf_size(HttpLimits::READ_AHEAD_BYTES)
            // One buffer, one send: answers are small.
            .writev(false)
            // hyper's timeout closes without an answer, needs a timer object per head, and does not
            // start at the first byte; `conn_table` holds heads to their deadline instead.
            .header_read_timeout(None);
        HttpServer {
            shared: Rc::new(Shared {
                context,
                limits,
                scratch: RefCell::new(vec![0; HttpLimits::READ_AHEAD_BYTES]),
                conn_table: ConnTable::default(),
                turns: Turns::new(),
                ids: RefCell::new([seeded(0), seeded(1)]),
            }),
            handler: Rc::new(handler),
            engine,
        }
    }

    /// Connections that are open on this core.
    pub(crate) fn open(&self) -> usize {
        self.shared.conn_table.open()
    }

    /// Lets the handler do what it does from time to time.
    pub(crate) fn tick(&self, now: Mono) {
        self.handler.tick(now);
    }

    /// Lets the handler do what it does at the end.
    pub(crate) fn end(&self) {
        self.handler.end();
    }

    /// Ends what is overdue; to be called every [`SWEEP_EVERY`](super::conn_table::SWEEP_EVERY).
    pub(crate) fn sweep(&self, now: Mono) {
        self.shared.conn_table.sweep(now, &self.shared.limits);
    }

    /// Ends every connection when it is idle.
    pub(crate) fn end_all_soon(&self) {
        self.shared.conn_table.end_all_soon();
    }

    /// Ends every connection, whatever is in progress.
    pub(crate) fn end_all_now(&self) {
        self.shared.conn_table.end_all_now();
    }
}

/// A generator with a state of its own. Two of them make an id: 128 bits, as far apart between cores and
/// processes as the random keys of the standard library are.
fn seeded(number: u64) -> fastrand::Rng {
    use std::hash::BuildHasher;
    fastrand::Rng::with_seed(std::hash::RandomState::new().hash_one(number))
}

/// The head of one request.
pub struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    peer: SocketAddr,
    id: RequestId,
    received_at: Mono,
    received_wall: Wall,
    state: Rc<ConnState>,
}

impl Head {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request target as sent, at most [`HttpLimits::target_bytes_max`] bytes.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Path and query as sent, `/` when the target names none.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        self.uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// The header lines, at most [`HttpLimits::headers_max`]; a Transfer-Encoding is `chunked`, a Host is one.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The peer of the connection.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The id of this request, which the answer carries as `X-Request-ID`.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// When the whole head was here.
    #[must_use]
    pub fn received_at(&self) -> Mono {
        self.received_at
    }

    /// The same moment on the wall clock.
    #[must_use]
    pub fn received_wall(&self) -> Wall {
        self.received_wall
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        // The answer is written into the same map, the next request is parsed into it: no
        // allocation per request.
        let mut headers = mem::take(&mut self.headers);
        headers.clear();
        *self.state.spare_headers.borrow_mut() = headers;
    }
}

/// Serves one accepted connection to its end, and gives its slot back then.
pub(crate) async fn serve<H: Handler>(
    stream: Stream,
    peer: SocketAddr,
    mut permit: ConnectionPermit,
    server: Rc<HttpServer<H>>,
) {
    let shared = Rc::clone(&server.shared);
    let now = shared.context.now();
    let state = Rc::new(ConnState::new(
        now,
        &shared.limits,
        now + jittered(shared.limits.connection_life),
    ));
    let _slot = Slot::take(&shared, &state);
    let Some(peer) = client_of(&stream, peer, &mut permit, &shared, &state).await else {
        return;
    };
    let mut io = CheckedIo::new(stream, Rc::clone(&shared), Rc::clone(&state));
    while io.first_bytes().await {
        // In a box, and dropped when the client rests: most connections are idle most of the time.
        let mut engine = Box::new(server.engine.serve_connection(
            io,
            service_fn(|request| {
                let handler = Rc::clone(&server.handler);
                respond(
                    handler,
                    Rc::clone(&shared),
                    Rc::clone(&state),
                    peer,
                    request,
                )
            }),
        ));
        state.has_engine.set(true);
        let rests = drive(Pin::new(&mut *engine), &state).await;
        state.has_engine.set(false);
        let parts = engine.into_parts();
        io = parts.io;
        if !rests {
            break;
        }
        io.take_back(&parts.read_buf);
    }
    io.finish().await;
}

/// Runs an engine until its connection ends, or has been idle long enough to drop the engine.
async fn drive<S>(mut engine: Pin<&mut http1::Connection<CheckedIo, S>>, state: &ConnState) -> bool
where
    S: HttpService<Incoming, ResBody = Full<Bytes>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut is_closing = false;
    poll_fn(|cx| {
        state.register(cx.waker());
        match state.end.get() {
            End::Open if state.rest.take() && state.phase.get() == Phase::Idle => {
                return Poll::Ready(true);
            }
            End::Open => {}
            End::Now => return Poll::Ready(false),
            End::Soon if is_closing => {}
            End::Soon => {
                is_closing = true;
                engine.as_mut().graceful_shutdown();
            }
        }
        if !clock::is_writable() {
            return Poll::Ready(false);
        }
        // An error here is the client's: it is gone, or the framing or the deadline said why.
        engine.as_mut().poll(cx).map(|_| false)
    })
    .await
}

/// Leaves the conn_table when the connection's task ends, however it ends.
struct Slot {
    slot: usize,
    shared: Rc<Shared>,
}

impl Slot {
    fn take(shared: &Rc<Shared>, state: &Rc<ConnState>) -> Slot {
        let slot = shared.conn_table.insert(Rc::clone(state));
        shared.count_open();
        Slot {
            slot,
            shared: Rc::clone(shared),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.conn_table.remove(self.slot);
        self.shared.count_open();
    }
}

fn jittered(life: Duration) -> Duration {
    life.mul_f64(1.0 - fastrand::f64() / 10.0)
}

/// Counts a request whose connection ended before its answer.
struct AbortGuard(Option<Rc<Shared>>);

impl AbortGuard {
    fn is_over(&mut self) {
        self.0 = None;
    }
}

impl Drop for AbortGuard {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.context.stats.broken_off.increment();
        }
    }
}

/// Not an `async fn`: it would keep its arguments twice, and the engine copies the future.
fn respond<H: Handler>(
    handler: Rc<H>,
    shared: Rc<Shared>,
    state: Rc<ConnState>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> {
    let (parts, incoming) = request.into_parts();
    let waits_for_continue = parts.headers.contains_key(EXPECT);
    let (received_at, received_wall) = shared.context.now_and_wall();
    state.requests.set(state.requests.get() + 1);
    state.body_overdue.set(false);
    state.body_broken_off.set(false);
    state.enter(Phase::Handler, Mono::NEVER);

    let head = Head {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        peer,
        id: shared.next_id(),
        received_at,
        received_wall,
        state: Rc::clone(&state),
    };
    let mut body = Body::new(incoming, Rc::clone(&shared), Rc::clone(&state));
    let mut abort_guard = AbortGuard(Some(Rc::clone(&shared)));
    async move {
        if shared.turns.is_due() {
            shared.turns.look().await;
        }
        let answer = handler.handle(&head, &mut body).await;
        let id = head.id;
        // Both leave something for the connection: its header map, and what is unread of the body.
        drop((head, body));

        let mut close = answer.close
            || state.body_broken_off.get()
            || state.end.get() != End::Open
            || state.requests.get() >= shared.limits.requests_per_connection_max
            || shared.context.recent() >= state.retire_at
            || shared.context.drain.phase() != DrainPhase::Serving;
        let unread = state.unread.borrow_mut().take();
        if let Some(unread) = unread
            && !discard(unread, waits_for_continue, &shared, &state).await
        {
            close = true;
            state.linger.set(true);
        }
        if !state.body_broken_off.get() {
            abort_guard.is_over();
            let took = shared.context.recent().since(received_at);
            let stats = &shared.context.stats;
            stats.answered(answer.endpoint, answer.status.as_u16(), Some(took));
        }
        state.answer_owed.set(true);
        state.enter(
            Phase::Answer,
            shared.context.recent() + shared.limits.answer_deadline,
        );
        let headers = mem::take(&mut *state.spare_headers.borrow_mut());
        Ok(answer.into_response(id, close, headers))
    }
}
