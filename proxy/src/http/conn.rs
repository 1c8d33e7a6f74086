//! One connection in HTTP/1, from its first head to its last byte.
//!
//! ```text
//!  read -> head -> admitted? -> body -> handled -> answered -> read ...
//! ```
//!
//! Bytes are read into a buffer that all connections of a core share. A request that is there as a whole is handled
//! from it without a copy, and a connection that waits, for a client or for an ack, holds nothing but what was sent
//! ahead. What has to be kept, for a request is not complete, counts into the core's byte budget.

use super::answer::{Answer, ErrorBody};
use super::body::{BodyEnd, Dechunked, too_large};
use super::cors::Cors;
use super::h1::{self, About, Closing, Framing};
use super::head::{Body, BodyBytes};
use super::limits::HttpLimits;
use super::peer::Peer;
use super::server::{HttpServer, Request};
use super::transport::Transport;
use super::{Handler, h2};
use crate::error_code as code;
use crate::net::listener::give_way;
use crate::runtime::drain::DrainPhase;
use bytes::Bytes;
use sluice_core::budget::Permit;
use sluice_core::time::Mono;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::mem;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How long and for how many bytes a client that still sends after its last answer is read from.
/// Closing a socket with unread bytes resets the connection, which can destroy an answer that the
/// client has not read yet (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connection that has been idle for this long gives back the memory that requests need. Long enough that a busy
/// client never pays for it.
const REST_AFTER: Duration = Duration::from_secs(2);

/// A buffer for answers that has become larger than this by one is not kept.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Requests that one connection may have answered at once before others get their turn.
const REQUESTS_PER_TURN: u32 = 32;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// At once.
    Close,
    /// The client may still be sending: it gets time to read its last answer.
    Linger,
    /// The connection goes on in HTTP/2, with what is held.
    Http2,
    /// It has been idle for a while: it goes on when there is something to read.
    Rest,
}

/// What the bytes at the front of a connection are.
enum Front<R, F> {
    /// The beginning of a head, or nothing.
    Incomplete,
    /// A request that is here as a whole, and what its answer will be.
    Whole { request: Request, answer: F },
    /// A request whose body is not.
    Partial {
        request: Request,
        route: R,
        limit: usize,
        framing: Framing,
        head_bytes: usize,
        waits: bool,
    },
    /// A request whose answer does not depend on its body. `left` bytes of that are still to come; `None`: it
    /// cannot be told where it ends.
    Early {
        request: Request,
        answer: Answer,
        left: Option<u64>,
    },
    /// The connection goes on in HTTP/2.
    Http2,
    /// No request, or none that there is memory for.
    Refused { answer: Answer, cors: Option<Cors> },
}

pub(super) struct Connection<'s, H> {
    pub(super) server: &'s HttpServer<H>,
    pub(super) transport: Transport,
    peer: Peer,
    pub(super) is_over_cap: bool,
    /// HTTP/2 may begin without a word before it (RFC 9113 section 3.3).
    pub(super) may_begin_with_http2: bool,
    /// Bytes that were read: `used` of them are dealt with, the others are an incomplete request, or requests after
    /// the present one.
    pub(super) held: Vec<u8>,
    pub(super) used: usize,
    held_permit: Option<Permit>,
    /// There was no memory to keep what follows the present request.
    is_cut: bool,
    requests: u32,
    /// When the next request has to have begun.
    pub(super) idle_deadline: Mono,
    /// When the connection has lived long enough.
    pub(super) retire_at: Mono,
}

impl<'s, H: Handler> Connection<'s, H> {
    /// A connection that is over every cap and has no deadline; the caller says where that is not so.
    pub(super) fn new(
        server: &'s HttpServer<H>,
        transport: Transport,
        peer: Peer,
    ) -> Connection<'s, H> {
        Connection {
            server,
            transport,
            peer,
            is_over_cap: true,
            may_begin_with_http2: false,
            held: Vec::new(),
            used: 0,
            held_permit: None,
            is_cut: false,
            requests: 0,
            idle_deadline: Mono::NEVER,
            retire_at: Mono::NEVER,
        }
    }

    /// What goes on in HTTP/2. The bytes that are held are counted again there.
    pub(super) fn into_parts(self) -> (Transport, Vec<u8>, Peer) {
        (self.transport, self.held, self.peer)
    }

    /// Waits until there is something to read, or the time is over.
    pub(super) async fn rest(&self) {
        let stream = self.transport.stream();
        stream.set_deadline(self.idle_deadline);
        poll_fn(|cx| stream.poll_readable(cx)).await;
    }

    /// Requests, until the connection ends or rests. `head_deadline` is for each head.
    pub(super) async fn run(&mut self, head_deadline: Duration) -> Ending {
        let server = self.server;
        let mut at_once = 0;
        loop {
            let front = match self.front(head_deadline).await {
                Ok(front) => front,
                Err(ending) => return ending,
            };
            let (request, answer, left) = match front {
                Front::Incomplete => return Ending::Close,
                Front::Http2 => return Ending::Http2,
                Front::Refused { answer, cors } => return self.refuse(answer, cors).await,
                Front::Whole { request, answer } => {
                    let Some(answer) = self.settled(answer).await else {
                        server.context.stats.broken_off.increment();
                        return Ending::Close;
                    };
                    (request, answer, Some(0))
                }
                Front::Early {
                    request,
                    answer,
                    left,
                } => (request, answer, left),
                Front::Partial {
                    request,
                    route,
                    limit,
                    framing,
                    head_bytes,
                    waits,
                } => {
                    // In a box: a body that is not here with its head is waited for.
                    let body = Box::pin(self.body(framing, head_bytes, limit, waits)).await;
                    match body {
                        Ok(body) => {
                            let answer = self.handle(&request, route, head_bytes, body);
                            let Some(answer) = self.settled(answer).await else {
                                server.context.stats.broken_off.increment();
                                return Ending::Close;
                            };
                            (request, answer, Some(0))
                        }
                        Err((BodyEnd::Gone, _)) => {
                            server.context.stats.broken_off.increment();
                            return Ending::Close;
                        }
                        Err((BodyEnd::BrokenOff, _)) => {
                            server.context.stats.broken_off.increment();
                            let answer = Answer {
                                close: true,
                                ..self.without_body(BodyEnd::BrokenOff, limit, framing)
                            };
                            // Not counted as an answer: it is counted already, and nobody may be there.
                            self.write(&request, &answer, Closing::Close).await;
                            return Ending::Close;
                        }
                        Err((end, left)) => {
                            let answer = self.without_body(end, limit, framing);
                            (request, answer, left)
                        }
                    }
                }
            };
            let now = server.context.recent();
            let may_discard =
                left.is_some_and(|left| left <= HttpLimits::DISCARD_BYTES_MAX) && !answer.close;
            let closing = if may_discard && self.goes_on(&request, now) {
                Closing::KeepAlive
            } else {
                Closing::Close
            };
            server.count(&request, &answer);
            if !self.write(&request, &answer, closing).await {
                return Ending::Close;
            }
            if closing == Closing::Close {
                let is_sending = left != Some(0)
                    || !self.unused().is_empty()
                    || self.transport.stream().may_have_more();
                return if is_sending {
                    Ending::Linger
                } else {
                    Ending::Close
                };
            }
            if left != Some(0) && !self.discard(left.unwrap_or(0)).await {
                return Ending::Close;
            }
            self.idle_deadline = (now + server.limits.idle).min(self.retire_at);
            at_once += 1;
            if at_once % REQUESTS_PER_TURN == 0 && !self.unused().is_empty() {
                give_way().await;
            }
        }
    }

    /// Whether the connection may go on after this request.
    fn goes_on(&self, request: &Request, now: Mono) -> bool {
        request.keeps_alive
            && !(self.is_over_cap || self.is_cut)
            && !self.transport.stream().is_to_leave()
            && self.requests < self.server.limits.requests_per_connection_max
            && now < self.retire_at
            && self.server.context.drain.phase() == DrainPhase::Serving
    }

    /// Waits for a request, its body apart.
    async fn front(
        &mut self,
        head_deadline: Duration,
    ) -> Result<Front<H::Route, impl Future<Output = Answer> + use<'s, H>>, Ending> {
        let server = self.server;
        if server.turns.is_due(server.context.recent()) {
            server.turns.look(&server.context).await;
        }
        if self.unused() == b"\r\n" {
            // The empty line that old browsers send after a body (RFC 9112 section 2.2) is no head that begins.
            self.use_up(2);
        }
        // When the head that is held began.
        let mut begun = None;
        if !self.unused().is_empty() {
            match self.look(&[]) {
                Front::Incomplete => begun = Some(server.context.recent()),
                front => return Ok(front),
            }
        }
        match begun {
            Some(begun) => self.transport.stream().set_deadline(begun + head_deadline),
            None => {
                let now = server.context.recent();
                let stream = self.transport.stream();
                stream.rest(now);
                stream.set_deadline(self.idle_deadline.min(now + REST_AFTER));
            }
        }
        loop {
            let read = poll_fn(|cx| {
                let mut scratch = server.scratch.borrow_mut();
                match ready!(self.poll_read(cx, &mut scratch)) {
                    Ok(0) => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                    Ok(_) if !server.context.wall_is_writable() => {
                        Poll::Ready(Err(ErrorKind::Other.into()))
                    }
                    Ok(read) => Poll::Ready(Ok(self.look(&scratch[..read]))),
                    Err(error) => Poll::Ready(Err(error)),
                }
            });
            let front = match read.await {
                Ok(front) => front,
                Err(error)
                    if begun.is_none()
                        && error.kind() == ErrorKind::TimedOut
                        && server.context.now() < self.idle_deadline =>
                {
                    return Err(Ending::Rest);
                }
                // Nothing was begun, or nobody is there to hear of it.
                Err(_) if begun.is_none() => return Err(Ending::Close),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    let waited =
                        begun.map_or(Duration::ZERO, |begun| server.context.now().since(begun));
                    let error = ErrorBody::new(
                        code::HEAD_TOO_SLOW,
                        "the request head did not arrive in time (milliseconds)",
                    )
                    .over(millis(head_deadline), millis(waited));
                    let cors = self.cors_of(self.unused());
                    return Err(self.refuse(Answer::from(&error), cors).await);
                }
                Err(error) => {
                    if error.kind() == ErrorKind::UnexpectedEof {
                        server.context.stats.broken_off.increment();
                    }
                    return Err(Ending::Close);
                }
            };
            match front {
                Front::Incomplete => {
                    if begun.is_none() {
                        let now = server.context.now();
                        begun = Some(now);
                        self.transport.stream().work();
                        self.transport.stream().set_deadline(now + head_deadline);
                    }
                }
                front => return Ok(front),
            }
        }
    }

    /// What is held and not used up.
    fn unused(&self) -> &[u8] {
        self.held.get(self.used..).unwrap_or_default()
    }

    fn use_up(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used >= self.held.len() {
            // A connection at rest keeps no buffer.
            self.held = Vec::new();
            self.used = 0;
            self.held_permit = None;
        }
    }

    /// What is at the front of the connection once these bytes are there. Those that are not used up are held.
    fn look(&mut self, bytes: &[u8]) -> Front<H::Route, impl Future<Output = Answer> + use<'s, H>> {
        if self.unused().is_empty() {
            let (front, used) = self.look_at(bytes);
            let rest = &bytes[used..];
            return if self.keep(rest) {
                front
            } else {
                self.without_memory(front, rest)
            };
        }
        let before = self.unused().len();
        if !self.keep(bytes) {
            return self.without_memory(Front::Incomplete, bytes);
        }
        if !bytes.is_empty() && !h1::may_complete(self.unused(), before, &self.server.limits) {
            return Front::Incomplete;
        }
        let held = mem::take(&mut self.held);
        let (front, used) = self.look_at(held.get(self.used..).unwrap_or_default());
        self.held = held;
        self.use_up(used);
        front
    }

    /// What is done about bytes that there is no memory to keep.
    fn without_memory<F>(&mut self, front: Front<H::Route, F>, lost: &[u8]) -> Front<H::Route, F> {
        let overloaded = |this: &Self| this.without_body(BodyEnd::NoBudget, 0, Framing::Chunked);
        match front {
            Front::Incomplete => Front::Refused {
                answer: overloaded(self),
                cors: self.cors_of(lost),
            },
            Front::Partial {
                request,
                framing,
                head_bytes,
                ..
            } => Front::Early {
                request,
                answer: overloaded(self),
                left: match framing {
                    Framing::Length(length) => {
                        Some(length.saturating_sub((lost.len() - head_bytes) as u64))
                    }
                    Framing::Chunked => None,
                },
            },
            // The request is answered; those that came behind it are not begun.
            front => {
                self.is_cut = true;
                front
            }
        }
    }

    pub(super) fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(self.transport.poll_read(cx, buffer))?;
        self.server.context.stats.bytes_received.add(read as u64);
        Poll::Ready(Ok(read))
    }

    /// Keeps bytes for later, behind those that are kept already; `false` when there is no memory for them.
    fn keep(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        self.held.drain(..self.used);
        self.used = 0;
        let needed = self.held.len() + bytes.len();
        if !self.reserve(needed) {
            return false;
        }
        if self.held.capacity() < needed {
            self.held.reserve_exact(bytes.len());
        }
        self.held.extend_from_slice(bytes);
        true
    }

    /// Counts what is held into the budget.
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        match &mut self.held_permit {
            Some(permit) => permit.try_resize(bytes as u64),
            None => {
                let budget = &self.server.context.budget;
                self.held_permit = budget.try_reserve_unread(bytes as u64, self.peer.source);
                self.held_permit.is_some()
            }
        }
    }

    /// What these bytes are, and how many of them are used up. Handles a request that is there as a whole.
    fn look_at(
        &mut self,
        bytes: &[u8],
    ) -> (
        Front<H::Route, impl Future<Output = Answer> + use<'s, H>>,
        usize,
    ) {
        let server = self.server;
        if self.may_begin_with_http2 && self.requests == 0 {
            let common = bytes.len().min(h2::PREFACE.len());
            if bytes[..common] == h2::PREFACE[..common] {
                let is_whole = common == h2::PREFACE.len();
                let front = if is_whole {
                    Front::Http2
                } else {
                    Front::Incomplete
                };
                return (front, 0);
            }
        }
        let head = match h1::decode(bytes, &server.limits) {
            Ok(Some(head)) => head,
            Ok(None) => return (Front::Incomplete, 0),
            Err(refusal) => {
                let cors = self.cors_of(bytes);
                let answer = Answer::from(&ErrorBody::from(refusal));
                return (Front::Refused { answer, cors }, bytes.len());
            }
        };
        self.requests += 1;
        self.transport.stream().work();
        self.transport.stream().set_deadline(Mono::NEVER);
        let mut request = server.request(&head);
        let head_bytes = head.bytes();
        let arrived = (bytes.len() - head_bytes) as u64;
        let framing = head.framing();
        let waits = head.waits_for_continue() && arrived == 0;
        let admitted = if self.is_over_cap {
            Err(server.too_many_connections())
        } else {
            server.admit(&mut request, &self.peer, head)
        };
        let refused = match admitted {
            Err(answer) => answer,
            Ok(admitted) => match framing {
                Framing::Length(length) if length > admitted.body_bytes_max as u64 => {
                    too_large(admitted.body_bytes_max, Some(length))
                }
                Framing::Length(length) if length <= arrived => {
                    // Not longer than what is here.
                    let end = head_bytes + length as usize;
                    let body = Body {
                        bytes: BodyBytes::Borrowed(&bytes[head_bytes..end]),
                        permit: None,
                    };
                    let head = self.peer.head_of(&request, head);
                    let answer = server.handler.handle(&head, admitted.route, body);
                    return (Front::Whole { request, answer }, end);
                }
                framing => {
                    let front = Front::Partial {
                        request,
                        route: admitted.route,
                        limit: admitted.body_bytes_max,
                        framing,
                        head_bytes,
                        waits,
                    };
                    return (front, 0);
                }
            },
        };
        let left = match framing {
            // A client that waits for `100 Continue` may send the body all the same, or not.
            Framing::Length(length) if length > arrived && waits => None,
            Framing::Length(length) => Some(length.saturating_sub(arrived)),
            Framing::Chunked => None,
        };
        let used = match framing {
            Framing::Length(length) => bytes
                .len()
                .min(head_bytes.saturating_add(usize::try_from(length).unwrap_or(usize::MAX))),
            Framing::Chunked => bytes.len(),
        };
        let front = Front::Early {
            request,
            answer: refused,
            left,
        };
        (front, used)
    }

    /// CORS headers for the answer to a head that is not one.
    fn cors_of(&self, bytes: &[u8]) -> Option<Cors> {
        let is_preflight = bytes.starts_with(b"OPTIONS ");
        self.server.cors(h1::origin_of(bytes), is_preflight)
    }

    /// Handles a request whose body had to be waited for. What is held is its head and, where that has an announced
    /// length, its body.
    fn handle(
        &mut self,
        request: &Request,
        route: H::Route,
        head_bytes: usize,
        body: Option<Dechunked>,
    ) -> impl Future<Output = Answer> + use<'s, H> {
        let server = self.server;
        let whole = Bytes::from(mem::take(&mut self.held));
        let permit = self.held_permit.take();
        let content = match body {
            None => whole.slice(head_bytes..),
            Some(body) => {
                self.is_cut = !self.keep(&body.next);
                Bytes::from(body.content)
            }
        };
        let body = Body {
            bytes: BodyBytes::Owned(content),
            permit,
        };
        // They were a head when they came, so they are one now.
        let head = h1::decode(&whole, &server.limits).ok().flatten();
        let answer = head.map(|head| {
            let head = self.peer.head_of(request, head);
            server.handler.handle(&head, route, body)
        });
        async move {
            match answer {
                Some(answer) => answer.await,
                None => Answer::from(&ErrorBody::new(code::BAD_HEAD, "the head is malformed")),
            }
        }
    }

    /// Waits for an answer; `None` when the connection is to end first.
    async fn settled(&self, answer: impl Future<Output = Answer>) -> Option<Answer> {
        let mut answer = pin!(answer);
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.transport.stream().is_to_end_now(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Answers what is no request, or none in time.
    async fn refuse(&self, answer: Answer, cors: Option<Cors>) -> Ending {
        let request = self.server.refused(cors);
        self.server.count(&request, &answer);
        self.write(&request, &answer, Closing::Close).await;
        Ending::Linger
    }

    /// Writes an answer; `false` when the connection broke, or the client does not read.
    pub(super) async fn write(&self, request: &Request, answer: &Answer, closing: Closing) -> bool {
        let server = self.server;
        // Another connection that writes meanwhile makes a buffer of its own.
        let mut out = server.out.take();
        out.clear();
        {
            let date = server.context.date();
            let about = About {
                id: request.id,
                minor: request.minor,
                is_head: request.is_head,
                closing,
                cors: request.cors.as_ref(),
                date: &date,
            };
            h1::encode(answer, &about, &mut out);
        }
        let is_written = self.write_all(&out).await;
        if out.capacity() <= KEPT_BYTES_MAX {
            server.out.replace(out);
        }
        is_written
    }

    pub(super) async fn write_all(&self, bytes: &[u8]) -> bool {
        let context = &self.server.context;
        let mut rest = bytes;
        let mut permit = None;
        loop {
            let write = poll_fn(|cx| {
                if permit.is_none() {
                    self.transport
                        .stream()
                        .set_deadline(context.recent() + self.server.limits.answer_deadline);
                }
                let written = self.transport.poll_write(cx, rest);
                if written.is_pending() && permit.is_none() {
                    // The kernel is full: from now on the rest is ours to keep.
                    permit = context
                        .budget
                        .try_reserve(rest.len() as u64, self.peer.source);
                    if permit.is_none() {
                        return Poll::Ready(Err(ErrorKind::OutOfMemory.into()));
                    }
                }
                written
            });
            let written = match write.await {
                Ok(written) if written > 0 => written,
                _ => return false,
            };
            context.stats.bytes_sent.add(written as u64);
            rest = rest.get(written..).unwrap_or_default();
            if rest.is_empty() {
                return poll_fn(|cx| self.transport.poll_flush(cx)).await.is_ok();
            }
        }
    }

    /// Says that the connection ends here, if the socket takes it at once.
    pub(super) async fn say_goodbye(&self) {
        poll_fn(|cx| {
            // Whether it is taken or not, the connection is over.
            let _ = self.transport.poll_close(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Ends what is sent, and gives the client time to read.
    pub(super) async fn linger(&self) {
        let now = self.server.context.now();
        self.transport.stream().work();
        self.transport.stream().set_deadline(now + LINGER);
        if poll_fn(|cx| self.transport.poll_close(cx)).await.is_err() {
            return;
        }
        let mut left = LINGER_BYTES_MAX;
        loop {
            let read = poll_fn(|cx| {
                let mut scratch = self.server.scratch.borrow_mut();
                self.poll_read(cx, &mut scratch)
            });
            match read.await {
                Ok(bytes) if bytes > 0 && bytes < left => left -= bytes,
                _ => return,
            }
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
