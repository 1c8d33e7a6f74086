//! The parts of HTTP that faults need and a server library does not have: bodies that come in
//! drops, connections that end with a reset. Bounded reading too.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Interval;

/// A request that ends its connection without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionEnd {
    #[error("reset by the fault script")]
    Reset,
    #[error("the client went away")]
    ClientGone,
}

/// Reads a whole body; `None` when it is over `limit` bytes.
pub(super) async fn read_body(
    mut incoming: Incoming,
    limit: usize,
) -> Result<Option<Vec<u8>>, ConnectionEnd> {
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Ok(None);
    }
    let mut body = Vec::with_capacity(announced);
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| ConnectionEnd::ClientGone)?;
        if let Some(data) = frame.data_ref() {
            if body.len() + data.len() > limit {
                return Ok(None);
            }
            body.extend_from_slice(data);
        }
    }
    Ok(Some(body))
}

/// The body of a response, whole or trickled.
pub(super) struct AnswerBody {
    left: Bytes,
    drops: Option<Drops>,
}

struct Drops {
    clock: Interval,
    bytes: usize,
}

/// From one drop to the next, unless a byte takes longer.
const DROP_INTERVAL: Duration = Duration::from_millis(100);

impl AnswerBody {
    pub(super) fn whole(left: Bytes) -> AnswerBody {
        AnswerBody { left, drops: None }
    }

    /// A body at this rate, which is at least 1.
    pub(super) fn in_drops(left: Bytes, bytes_per_s: u32) -> AnswerBody {
        let rate = bytes_per_s.max(1);
        let interval = DROP_INTERVAL.max(Duration::from_secs(1) / rate);
        // Over 10 bytes/s a drop has several of them.
        let bytes = usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1);
        let clock = tokio::time::interval(interval);
        AnswerBody {
            left,
            drops: Some(Drops { clock, bytes }),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let mut count = self.left.len();
        if let Some(drops) = &mut self.drops {
            ready!(drops.clock.poll_tick(cx));
            count = count.min(drops.bytes);
        }
        let data = self.left.split_to(count);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

/// A socket that can end with a reset instead of an orderly close.
pub(super) struct Socket {
    socket: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Socket {
    /// Wraps `socket`; once `reset` is true, it ends with a reset.
    pub(super) fn new(socket: TcpStream, reset: Arc<AtomicBool>) -> Socket {
        Socket { socket, reset }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Closing without lingering discards unsent bytes and sends RST.
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
