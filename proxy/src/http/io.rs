//! The socket as the engine sees it: every byte it reads has passed the [framing](super::framing).

use super::answer::ErrorBody;
use super::conn::Shared;
use super::conn_table::{ConnState, End, Phase};
use super::framing::{FramingCheck, Stop};
use crate::error_code;
use crate::net::poller::Stream;
use hyper::rt::ReadBufCursor;
use sluice_core::stats::EndpointLabel;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How long and for how many bytes a client that still sends after its last answer is read from.
/// Closing a socket with unread bytes resets the connection, which can destroy an answer that the
/// client has not read yet (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) struct CheckedIo {
    stream: Stream,
    shared: Rc<Shared>,
    state: Rc<ConnState>,
    framing: FramingCheck,
    /// Bytes from the socket that the engine has not got: first `ready` that passed the framing, then
    /// an incomplete head. Empty, and without memory, for clients that send a head in one piece.
    held: Vec<u8>,
    ready: usize,
    stop: Option<Stop>,
    /// The last write took only a part.
    mid_write: bool,
    /// The engine answered by itself; nothing of it goes out.
    muted: bool,
}

impl CheckedIo {
    pub(super) fn new(stream: Stream, shared: Rc<Shared>, state: Rc<ConnState>) -> CheckedIo {
        CheckedIo {
            stream,
            shared,
            state,
            framing: FramingCheck::new(),
            held: Vec::new(),
            ready: 0,
            stop: None,
            mid_write: false,
            muted: false,
        }
    }

    /// Ends the connection: the answer to a refused head, then the end of what we send, then,
    /// where the client may still be sending, time for it to read.
    pub(super) async fn finish(mut self) {
        let state = Rc::clone(&self.state);
        let shared = Rc::clone(&self.shared);
        let error_body = state.error_body.borrow_mut().take();
        let cut = state.phase.get() == Phase::Answer || error_body.is_none();
        if state.end.get() == End::Now && cut {
            return;
        }
        state.end.set(End::Open);
        let now = shared.context.now();
        state.enter(Phase::Linger, now + LINGER);
        if let Some(error_body) = error_body {
            let status = error_body.status.as_u16();
            let stats = &shared.context.stats;
            stats.answered(EndpointLabel::None, status, None);
            state.linger.set(true);
            let wire = error_body.to_wire(shared.next_id());
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                match poll_fn(|cx| {
                    self.poll_unless_ended(cx, |stream, cx| stream.poll_write(cx, rest))
                })
                .await
                {
                    Ok(written) if written > 0 => {
                        shared.context.stats.bytes_sent.add(written as u64);
                        rest = rest.get(written..).unwrap_or_default();
                    }
                    _ => return,
                }
            }
        }
        if self.stream.shutdown().is_err() || !state.linger.get() {
            return;
        }
        let mut left = LINGER_BYTES_MAX;
        loop {
            let read = poll_fn(|cx| {
                self.poll_unless_ended(cx, |stream, cx| {
                    stream.poll_read(cx, &mut shared.scratch.borrow_mut())
                })
            })
            .await;
            match read {
                Ok(bytes) if bytes > 0 && bytes < left => left -= bytes,
                _ => return,
            }
        }
    }

    fn poll_unless_ended(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&Stream, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.state.register(cx.waker());
        if self.state.end.get() == End::Now {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        act(&self.stream, cx)
    }

    /// Waits, without an engine, until there is something for one. `false` when there will be nothing:
    /// the client has left, its time is over, or its head is refused.
    pub(super) async fn first_bytes(&mut self) -> bool {
        poll_fn(|cx| self.poll_first_bytes(cx)).await
    }

    fn poll_first_bytes(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.state.register(cx.waker());
        loop {
            if self.ready > 0 {
                return Poll::Ready(true);
            }
            if self.stop.is_some() || self.state.end.get() != End::Open {
                return Poll::Ready(false);
            }
            let shared = Rc::clone(&self.shared);
            let mut scratch = shared.scratch.borrow_mut();
            let room = scratch.len();
            match ready!(self.poll_socket(cx, &mut scratch, room)) {
                Ok(bytes) if !bytes.is_empty() => self.take_in_held(bytes),
                _ => return Poll::Ready(false),
            }
        }
    }

    /// Takes back what an engine had read and not used. It has passed the framing.
    pub(super) fn take_back(&mut self, unused: &[u8]) {
        self.held.splice(..0, unused.iter().copied());
        self.ready += unused.len();
    }

    /// Reads at most `room` bytes into `scratch`; none at the end.
    fn poll_socket<'a>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'a mut [u8],
        room: usize,
    ) -> Poll<io::Result<&'a [u8]>> {
        let room = room.min(scratch.len());
        let bytes = ready!(self.stream.poll_read(cx, &mut scratch[..room]))?;
        if bytes == 0 && !self.held.is_empty() {
            self.shared.context.stats.broken_off.increment();
        }
        self.shared.context.stats.bytes_received.add(bytes as u64);
        let so_far = self.state.bytes_read.get();
        self.state.bytes_read.set(so_far + bytes as u64);
        Poll::Ready(Ok(&scratch[..bytes]))
    }

    /// Gives the engine what passed the framing earlier and did not fit.
    fn give_held(&mut self, buffer: &mut ReadBufCursor<'_>) {
        let bytes = self.ready.min(buffer.remaining());
        buffer.put_slice(&self.held[..bytes]);
        self.held.drain(..bytes);
        self.ready -= bytes;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// What the engine reads when nothing more may pass: the end, where a message would begin, so
    /// that it answers all before it and stops; an error within a body.
    fn stopped(&self) -> Option<io::Result<()>> {
        match self.stop.as_ref()? {
            Stop::Head(_) => Some(Ok(())),
            Stop::Body => Some(Err(io::ErrorKind::InvalidData.into())),
        }
    }

    /// The engine answers a head that it cannot parse by itself, with an empty body. That is what it
    /// writes when no handler's answer is due, unless it asks for a body: then the client gets our
    /// form of it when the engine has ended.
    fn mute(&self, bytes: &[u8]) -> bool {
        let code = match bytes.get(9..12) {
            Some(b"100") => return false,
            Some(b"414") => error_code::TARGET_TOO_LONG,
            Some(b"431") => error_code::HEAD_TOO_LARGE,
            _ => error_code::BAD_HEAD,
        };
        let message = "the request line or a header is malformed";
        *self.state.error_body.borrow_mut() = Some(ErrorBody::new(code, message));
        true
    }

    /// Checks `bytes`, which follow the held ones, and passes valid bytes on to the engine.
    fn take_in(&mut self, bytes: &[u8], buffer: &mut ReadBufCursor<'_>) {
        if self.held.is_empty() {
            let pass = self.framing.pass(bytes, &self.shared.limits);
            let given = pass.bytes.min(buffer.remaining());
            buffer.put_slice(&bytes[..given]);
            self.ready = pass.bytes - given;
            let keep = if pass.stop.is_some() {
                pass.bytes
            } else {
                bytes.len()
            };
            self.held.extend_from_slice(&bytes[given..keep]);
            self.note(pass.stop);
        } else {
            self.take_in_held(bytes);
            self.give_held(buffer);
        }
    }

    /// The same without an engine to pass bytes to. What is held before is an incomplete head, if anything.
    fn take_in_held(&mut self, bytes: &[u8]) {
        let begun = !self.held.is_empty();
        self.held.extend_from_slice(bytes);
        // Without a new line an incomplete head is still that, or over the limit.
        let may_go_on = self.held.len() <= self.shared.limits.head_bytes_max;
        if begun && may_go_on && memchr::memchr(b'\n', bytes).is_none() {
            return;
        }
        let pass = self.framing.pass(&self.held, &self.shared.limits);
        self.ready = pass.bytes;
        if pass.stop.is_some() {
            self.held.truncate(pass.bytes);
        }
        self.note(pass.stop);
    }

    /// Keeps what the framing said last, and whether a head is half here now.
    fn note(&mut self, stop: Option<Stop>) {
        match &stop {
            Some(Stop::Head(error_body)) => {
                *self.state.error_body.borrow_mut() = Some(error_body.clone())
            }
            Some(Stop::Body) => self.state.body_malformed.set(true),
            None => {}
        }
        self.stop = stop;
        if self.held.len() == self.ready {
            self.state.head_begun.set(false);
        } else if self.ready > 0 || !self.state.head_begun.get() {
            // `ready` bytes are messages before it, so this head is a new one.
            self.state
                .head_begins(self.shared.context.now(), &self.shared.limits);
        }
    }
}

impl hyper::rt::Read for CheckedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buffer.remaining();
        loop {
            if this.ready > 0 {
                this.give_held(&mut buffer);
                return Poll::Ready(Ok(()));
            }
            if let Some(end) = this.stopped() {
                return Poll::Ready(end);
            }
            let shared = Rc::clone(&this.shared);
            let mut scratch = shared.scratch.borrow_mut();
            let bytes = ready!(this.poll_socket(cx, &mut scratch, room))?;
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.take_in(bytes, &mut buffer);
            if buffer.remaining() < room {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl hyper::rt::Write for CheckedIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.muted && !this.mid_write && !this.state.answer_owed.get() {
            this.muted = this.mute(bytes);
        }
        if this.muted {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(this.stream.poll_write(cx, bytes))?;
        this.shared.context.stats.bytes_sent.add(written as u64);
        this.mid_write = written < bytes.len();
        Poll::Ready(Ok(written))
    }

    /// The engine flushes when it has written all it has.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.answer_owed.get() {
            self.state
                .answered(self.shared.context.recent(), &self.shared.limits);
        }
        Poll::Ready(Ok(()))
    }

    /// [`CheckedIo::finish`] does it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
