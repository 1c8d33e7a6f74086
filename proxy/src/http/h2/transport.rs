//! The transport of a connection as hyper sees it: counts what is read, and reads no more while answers are not.

use super::frames::FrameCount;
use super::{Backlog, TURN_BYTES};
use crate::http::Handler;
use crate::http::server::HttpServer;
use crate::http::transport::Transport;
use hyper::rt::ReadBufCursor;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// The transport.
pub(super) struct H2Io<H> {
    pub(super) transport: Rc<Transport>,
    pub(super) early: Vec<u8>,
    pub(super) frames: FrameCount,
    pub(super) server: Rc<HttpServer<H>>,
    pub(super) backlog: Rc<Backlog>,
}

impl<H> H2Io<H> {
    /// Counts what is read, and the frames in it.
    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        let turn_bytes = &self.backlog.turn_bytes;
        turn_bytes.set(turn_bytes.get() + bytes.len());
        let context = &self.server.context;
        self.frames.pass(bytes, context.recent()).map_err(|error| {
            context.stats.http2_floods.increment();
            io::Error::other(error)
        })
    }

    /// Notes whether the kernel takes what is written.
    fn note<T>(&self, cx: &Context<'_>, write: Poll<T>) -> Poll<T> {
        let blocked = &self.backlog.blocked;
        match (write.is_pending(), blocked.get()) {
            (true, None) => blocked.set(Some(self.server.context.recent())),
            (false, Some(_)) => {
                blocked.set(None);
                // Reading goes on.
                cx.waker().wake_by_ref();
            }
            _ => {}
        }
        write
    }
}

impl<H: Handler> hyper::rt::Read for H2Io<H> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let bytes = this.early.len().min(buffer.remaining());
            let rest = this.early.split_off(bytes);
            let next = std::mem::replace(&mut this.early, rest);
            buffer.put_slice(&next);
            return Poll::Ready(this.pass(&next));
        }
        if this.backlog.turn_bytes.get() >= TURN_BYTES {
            // The connection's task sees that, and comes back.
            return Poll::Pending;
        }
        if this.backlog.blocked.get().is_some() {
            // Who does not read answers asks for no more of them; the write wakes the task.
            return Poll::Pending;
        }
        let server = Rc::clone(&this.server);
        let mut scratch = server.scratch.borrow_mut();
        let room = buffer.remaining().min(scratch.len());
        let read = ready!(this.transport.poll_read(cx, &mut scratch[..room]))?;
        let stats = &this.server.context.stats;
        stats.bytes_received.add(read as u64);
        buffer.put_slice(&scratch[..read]);
        Poll::Ready(this.pass(&scratch[..read]))
    }
}

impl<H: Handler> hyper::rt::Write for H2Io<H> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = self.transport.poll_write(cx, bytes);
        let written = ready!(self.note(cx, write))?;
        let stats = &self.server.context.stats;
        stats.bytes_sent.add(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = self.transport.poll_flush(cx);
        if flush.is_ready() {
            self.backlog.clear();
        }
        self.note(cx, flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_close(cx)
    }
}
