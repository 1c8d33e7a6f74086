//! HTTP/2 (RFC 9113): hyper's, behind the same handler and the same rules as HTTP/1.1.
//!
//! The head of each request is written as one of HTTP/1.1 and read by the same [codec](super::h1), so that there is
//! one judge of methods, targets and fields. Every stream is a task of its own on the core; its body counts into
//! the byte budget as it arrives.

mod frames;
mod tasks;
mod transport;

use self::frames::FrameCount;
use self::tasks::{OnThisCore, Tasks};
use self::transport::H2Io;
use super::Handler;
use super::accepted::OVERFLOW_DEADLINE;
use super::answer::{Answer, ErrorBody};
use super::conn::millis;
use super::h1::{self, Framing};
use super::head::{Body, BodyBytes};
use super::peer::Peer;
use super::server::{HttpServer, Request};
use super::transport::Transport;
use crate::error_code as code;
use crate::net::listener::give_way;
use crate::runtime::drain::DrainPhase;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use sluice_core::budget::{ByteBudget, Permit, Source};
use sluice_core::time::Mono;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Requests that a connection may have under way.
const STREAMS_MAX: u32 = 128;

/// Bytes that a client may send ahead of what is read, on a stream and on the connection: a body that is read at
/// once needs no more on a round trip of 100 ms at 20 Mbit/s.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes of answers that wait for a stream's window.
const SEND_BUFFER_BYTES: usize = 16 << 10;

/// What a stream takes while its body is waited for and until its answer is sent, the bodies apart, as measured.
const STREAM_BYTES: u64 = 4 << 10;

/// What the task of a stream takes, as measured.
const TASK_BYTES: u64 = 5 << 10;

/// Tasks for which a connection takes memory at once, so that not every request asks for some.
const TASKS_AT_ONCE: u64 = 8;

/// Memory that an answer takes in the library until the kernel has it, as measured, and answers that do not count: a
/// client that reads has fewer under way.
const ANSWER_BYTES: u64 = 6 << 10;
const ANSWERS_FREE: u64 = 8;

/// Streams that were reset before they were looked at, after which the connection ends (rapid reset,
/// CVE-2023-44487).
const RESETS_MAX: usize = 20;

/// A stream lives at most this much longer than its request may take: a client that never opens its window would
/// otherwise hold an answer for ever.
const STREAM_GRACE: Duration = Duration::from_secs(10);

/// Bytes that one connection may have read before others get their turn: a frame can be as short as nine.
const TURN_BYTES: usize = 32 << 10;

/// What a client of HTTP/2 begins a connection with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one connection to its end. `early` are bytes that were read already. One over a cap is told so by the answer
/// to its first request.
pub(super) async fn serve<H: Handler>(
    transport: Transport,
    early: Vec<u8>,
    peer: Peer,
    server: Rc<HttpServer<H>>,
    retire_at: Mono,
    is_over_cap: bool,
) {
    let transport = Rc::new(transport);
    let limits = server.limits;
    let backlog = Rc::new(Backlog::default());
    let shared = Rc::new(Shared {
        server: Rc::clone(&server),
        peer,
        is_over_cap,
        backlog: Rc::clone(&backlog),
        streams: Cell::new(0),
        requests: Cell::new(0),
    });
    let io = H2Io {
        transport: Rc::clone(&transport),
        early,
        frames: FrameCount::new(PREFACE.len(), server.context.recent()),
        server: Rc::clone(&server),
        backlog: Rc::clone(&backlog),
    };
    // The longest that a request may take, and then some.
    let stream_life = limits.body_deadline_last + limits.answer_deadline + STREAM_GRACE;
    let mut builder = http2::Builder::new(OnThisCore {
        stream_life,
        tasks: Rc::new(Tasks {
            context: Rc::clone(&server.context),
            source: shared.peer.source,
            count: Cell::new(0),
            permit: RefCell::default(),
        }),
    });
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        // Twice what the codec takes, so that it is the codec that refuses, with all headers: the library counts 32
        // bytes more for each field.
        .max_header_list_size(u32::try_from(limits.head_bytes_max * 2).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_MAX)
        // Answers have a date of their own.
        .auto_date_header(false);
    let service = service_fn(|request| Rc::clone(&shared).respond(request));
    let mut connection = pin!(builder.serve_connection(io, service));
    let stream = transport.stream();
    stream.judge_by_itself();
    let requests_max = if is_over_cap {
        1
    } else {
        limits.requests_per_connection_max
    };
    let idle = if is_over_cap {
        OVERFLOW_DEADLINE
    } else {
        limits.idle
    };
    // When it has to have ended, once it was told to.
    let mut leaves_until = None;
    let mut idle_until = None;
    let mut deadline = Mono::NEVER;
    loop {
        let turn = poll_fn(|cx| {
            if stream.is_to_end_now(cx) {
                return Poll::Ready(Turn::End);
            }
            let context = &server.context;
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Turn::End);
            }
            if backlog.turn_bytes.get() >= TURN_BYTES {
                return Poll::Ready(Turn::Over);
            }
            let now = context.recent();
            let is_idle = shared.streams.get() == 0;
            if is_idle != idle_until.is_some() {
                idle_until = is_idle.then_some((now + idle).min(retire_at));
                if is_idle {
                    stream.rest(now);
                } else {
                    stream.work();
                }
            }
            if backlog.is_over_budget.get() {
                return Poll::Ready(Turn::End);
            }
            let blocked = backlog.blocked.get();
            let blocked_until = blocked.map(|since| since + limits.answer_deadline);
            let is_overdue = stream.is_overdue();
            if is_overdue && (leaves_until.is_some() || blocked_until.is_some()) {
                // It was told, and had its time; or it does not read.
                return Poll::Ready(Turn::End);
            }
            let requests = shared.requests.get();
            let is_due = is_overdue
                || stream.is_to_leave()
                || !context.wall_is_writable()
                || requests >= requests_max
                || (requests > 0 && context.drain.phase() != DrainPhase::Serving);
            if is_due && leaves_until.is_none() {
                // GOAWAY; requests under way are answered.
                connection.as_mut().graceful_shutdown();
                let time = match is_idle {
                    _ if is_over_cap => OVERFLOW_DEADLINE,
                    // Answers that are not read yet.
                    true => limits.answer_deadline,
                    false => stream_life,
                };
                leaves_until = Some(now + time);
                cx.waker().wake_by_ref();
            }
            let next = [blocked_until, leaves_until].into_iter().flatten().min();
            let next = next.or(idle_until).unwrap_or(retire_at);
            if next != deadline {
                deadline = next;
                stream.set_deadline(deadline);
            }
            Poll::Pending
        });
        if turn.await == Turn::End {
            return;
        }
        // Another look at the rest is taken in the next turn.
        if server.turns.is_due(server.context.recent()) {
            server.turns.look(&server.context).await;
        } else {
            give_way().await;
        }
        backlog.turn_bytes.set(0);
    }
}

/// How a connection's turn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// With the connection.
    End,
    /// There is more to read, and others have waited.
    Over,
}

/// Answers that the library has and the kernel has not.
#[derive(Default)]
struct Backlog {
    /// Since when the kernel takes nothing of what is written.
    blocked: Cell<Option<Mono>>,
    answers: Cell<u64>,
    /// For their memory, where there are more than [`ANSWERS_FREE`].
    permit: RefCell<Option<Permit>>,
    /// There is no memory for the last of them: the connection ends.
    is_over_budget: Cell<bool>,
    /// Bytes that were read in this turn.
    turn_bytes: Cell<usize>,
}

impl Backlog {
    fn add(&self, budget: &ByteBudget, source: Option<Source>) {
        let answers = self.answers.get() + 1;
        self.answers.set(answers);
        if answers <= ANSWERS_FREE {
            return;
        }
        let bytes = answers * ANSWER_BYTES;
        let mut permit = self.permit.borrow_mut();
        let has_room = match &mut *permit {
            Some(permit) => permit.try_resize(bytes),
            None => {
                *permit = budget.try_reserve(bytes, source);
                permit.is_some()
            }
        };
        if !has_room {
            self.is_over_budget.set(true);
        }
    }

    /// The kernel has all that was written.
    fn clear(&self) {
        if self.answers.replace(0) > ANSWERS_FREE {
            self.permit.replace(None);
        }
    }
}

/// What the streams of a connection share.
struct Shared<H> {
    server: Rc<HttpServer<H>>,
    peer: Peer,
    is_over_cap: bool,
    backlog: Rc<Backlog>,
    /// Requests under way.
    streams: Cell<u64>,
    requests: Cell<u32>,
}

/// Counts a request while it is under way, and one that ends without an answer: its client took it back or went, or
/// its time was over.
struct Stream<H> {
    shared: Rc<Shared<H>>,
    is_answered: bool,
}

impl<H> Stream<H> {
    fn begin(shared: &Rc<Shared<H>>) -> Stream<H> {
        shared.streams.set(shared.streams.get() + 1);
        shared.requests.set(shared.requests.get() + 1);
        Stream {
            shared: Rc::clone(shared),
            is_answered: false,
        }
    }
}

impl<H> Drop for Stream<H> {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.streams.set(shared.streams.get() - 1);
        if !self.is_answered {
            shared.server.context.stats.broken_off.increment();
        }
    }
}

impl<H: Handler> Shared<H> {
    async fn respond(
        self: Rc<Self>,
        request: http::Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Infallible> {
        let mut stream = Stream::begin(&self);
        let server = &self.server;
        if server.turns.is_due(server.context.recent()) {
            server.turns.look(&server.context).await;
        }
        let (parts, incoming) = request.into_parts();
        let bytes = as_http1(&parts);
        let (request, answer) = match h1::decode(&bytes, &server.limits) {
            Ok(Some(head)) => self.answer(&bytes, head, incoming).await,
            other => {
                let error = match other {
                    Err(refusal) => ErrorBody::from(refusal),
                    _ => ErrorBody::new(code::BAD_HEAD, "the request's head is malformed"),
                };
                let origin = h1::origin_of(&bytes);
                let is_preflight = parts.method == http::Method::OPTIONS;
                let cors = server.cors(origin, is_preflight);
                let request = server.refused(cors);
                (request, Some(Answer::from(&error)))
            }
        };
        let Some(answer) = answer else {
            // The stream is reset already, so that this is not sent.
            let error = ErrorBody::new(code::BODY_BROKEN_OFF, "the body ended before its end");
            return Ok(server.response(&request, Answer::from(&error), self.peer.source));
        };
        stream.is_answered = true;
        drop(stream);
        server.count(&request, &answer);
        self.backlog.add(&server.context.budget, self.peer.source);
        Ok(server.response(&request, answer, self.peer.source))
    }

    /// The answer to a request; `None` when its body broke off.
    async fn answer(
        &self,
        bytes: &[u8],
        head: h1::RequestHead<'_>,
        incoming: Incoming,
    ) -> (Request, Option<Answer>) {
        let server = &*self.server;
        let mut request = server.request(&head);
        let framing = head.framing();
        if self.is_over_cap {
            return (request, Some(server.too_many_connections()));
        }
        let admitted = server.admit(&mut request, &self.peer, head);
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(answer) => return (request, Some(answer)),
        };
        let limit = admitted.body_bytes_max;
        if let Framing::Length(length) = framing
            && length > limit as u64
        {
            return (request, Some(super::body::too_large(limit, Some(length))));
        }
        let body = match self.body(incoming, limit).await {
            Ok(body) => body,
            Err(None) => return (request, None),
            Err(Some(answer)) => return (request, Some(*answer)),
        };
        // The same bytes as before.
        let Ok(Some(head)) = h1::decode(bytes, &server.limits) else {
            return (request, None);
        };
        let head = self.peer.head_of(&request, head);
        let answer = server.handler.handle(&head, admitted.route, body).await;
        (request, Some(answer))
    }

    /// Counts a stream and so many bytes of its body into the budget.
    fn has_room(&self, permit: &mut Option<Permit>, body_bytes: usize) -> bool {
        let bytes = STREAM_BYTES + body_bytes as u64;
        match permit {
            Some(permit) => permit.try_resize(bytes),
            None => {
                let budget = &self.server.context.budget;
                *permit = budget.try_reserve_unread(bytes, self.peer.source);
                permit.is_some()
            }
        }
    }

    /// Reads a body whole. With an error comes the answer, if there is anybody to hear it.
    async fn body(
        &self,
        mut incoming: Incoming,
        limit: usize,
    ) -> Result<Body<'static>, Option<Box<Answer>>> {
        let server = &*self.server;
        let limits = &server.limits;
        let begun = server.context.now();
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        let mut permit = None;
        let mut timer = None;
        while !incoming.is_end_stream() {
            let frame = poll_fn(|cx| {
                if let Poll::Ready(frame) = Pin::new(&mut incoming).poll_frame(cx) {
                    return Poll::Ready(Ok(Some(frame)));
                }
                if permit.is_none() && !self.has_room(&mut permit, 0) {
                    return Poll::Ready(Err(()));
                }
                // A timer for those bodies only that are waited for.
                let timer = timer.get_or_insert_with(|| {
                    Box::pin(monoio::time::sleep(
                        limits.body_grace.min(limits.body_deadline),
                    ))
                });
                timer.as_mut().poll(cx).map(|()| Ok(None))
            });
            let Ok(frame) = frame.await else {
                return Err(Some(Box::new(server.overloaded())));
            };
            let piece = match frame {
                Some(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Some(None) => break,
                Some(Some(Err(_))) => return Err(None),
                None => {
                    let elapsed = server.context.now().since(begun);
                    let progress = (first.len() + all.len()) as u64;
                    let left = incoming.size_hint().exact();
                    if super::body::is_too_slow(elapsed, progress, left, limits) {
                        let error =
                            ErrorBody::new(code::BODY_TOO_SLOW, "the body did not arrive in time")
                                .over(millis(limits.body_deadline), millis(elapsed));
                        return Err(Some(Box::new(Answer::from(&error))));
                    }
                    timer = Some(Box::pin(monoio::time::sleep(super::body::LOOK_EVERY)));
                    continue;
                }
            };
            let length = first.len() + all.len() + piece.len();
            if length > limit {
                let announced = incoming.size_hint().exact();
                let announced = announced.map(|left| left + length as u64);
                return Err(Some(Box::new(super::body::too_large(limit, announced))));
            }
            let has_room = self.has_room(&mut permit, length);
            if !has_room {
                return Err(Some(Box::new(server.overloaded())));
            }
            if length == piece.len() {
                first = piece;
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&piece);
            }
        }
        let bytes = if all.is_empty() { first } else { all.freeze() };
        Ok(Body {
            bytes: BodyBytes::Owned(bytes),
            permit,
        })
    }
}

/// A head as HTTP/1.1 has it. The library has refused fields that belong to a connection, and bytes that no field
/// may have.
fn as_http1(parts: &http::request::Parts) -> Vec<u8> {
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let mut bytes = Vec::with_capacity(512);
    let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| bytes.extend_from_slice(part));
    add(&[
        parts.method.as_str().as_bytes(),
        b" ",
        target.as_bytes(),
        b" HTTP/1.1\r\n",
    ]);
    // `:authority` counts instead of Host (RFC 9113 section 8.3.1).
    let authority = parts.uri.authority();
    if let Some(authority) = authority {
        add(&[b"host: ", authority.as_str().as_bytes(), b"\r\n"]);
    }
    for (name, value) in &parts.headers {
        if authority.is_none() || name != HOST {
            add(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    add(&[b"\r\n"]);
    bytes
}

impl<H: Handler> HttpServer<H> {
    fn response(
        &self,
        request: &Request,
        answer: Answer,
        source: Option<Source>,
    ) -> Response<AnswerBody> {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: &[u8]| {
            // Every value is ASCII of our own, or was a valid field of the request.
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        add("x-request-id", &request.id.to_hex());
        answer.headers(&mut add);
        if let Some(cors) = request.cors.as_ref() {
            cors.headers(&mut add);
        }
        add("date", self.context.date().as_bytes());
        if request.is_head {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
        }
        let mut body = AnswerBody::default();
        if !request.is_head && !answer.body.is_empty() {
            let bytes = STREAM_BYTES + answer.body.len() as u64;
            body.permit = self.context.budget.try_reserve(bytes, source);
            // Without room the client gets the status only: its answers wait for its windows.
            if body.permit.is_some() {
                body.bytes = Full::new(answer.body);
            }
        }
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = headers;
        response
    }
}

/// The body of an answer, and its part of the budget until it is sent.
#[derive(Default)]
struct AnswerBody {
    bytes: Full<Bytes>,
    permit: Option<Permit>,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.bytes).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}
