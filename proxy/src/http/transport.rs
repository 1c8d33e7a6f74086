//! What a connection reads and writes: the socket, or TLS on it.

use crate::net::tls::{HandshakeError, Tls, TlsSession};
use crate::runtime::sockets::Stream;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

pub(super) struct Transport {
    stream: Stream,
    /// In a cell, for reading and writing both change it.
    tls: Option<RefCell<TlsSession>>,
}

impl Transport {
    pub(super) fn plain(stream: Stream) -> Transport {
        Transport { stream, tls: None }
    }

    /// Shakes hands; with an error, the socket comes back.
    pub(super) async fn secured(
        stream: Stream,
        tls: &Tls,
    ) -> Result<Transport, (Stream, HandshakeError)> {
        let mut session = match tls.accept() {
            Ok(session) => session,
            Err(error) => return Err((stream, HandshakeError::Refused(error))),
        };
        match poll_fn(|cx| session.poll_handshake(cx, &stream)).await {
            Ok(()) => Ok(Transport {
                stream,
                tls: Some(RefCell::new(session)),
            }),
            Err(error) => Err((stream, error)),
        }
    }

    /// The socket, for its deadlines and its state.
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether the client asked for HTTP/2 with TLS.
    pub(super) fn speaks_http2(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.borrow().alpn() == Some(b"h2"))
    }

    /// Whether a ticket saved the most of the handshake.
    pub(super) fn is_resumed(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.borrow().is_resumed())
    }

    /// Whom the client's certificate names.
    pub(super) fn client_subject(&self) -> Option<Box<str>> {
        let tls = self.tls.as_ref()?.borrow();
        tls.client_subject().map(Box::from)
    }

    /// Reads into the buffer; 0 bytes at the end.
    ///
    /// # Errors
    /// As [`Stream::poll_read`]; and those of TLS.
    pub(super) fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match &self.tls {
            None => self.stream.poll_read(cx, buffer),
            Some(tls) => tls.borrow_mut().poll_read(cx, &self.stream, buffer),
        }
    }

    /// Takes bytes; they are sent when [`Transport::poll_flush`] is ready.
    ///
    /// # Errors
    /// As [`Stream::poll_write`].
    pub(super) fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &self.tls {
            None => self.stream.poll_write(cx, bytes),
            Some(tls) => tls.borrow_mut().poll_write(cx, &self.stream, bytes),
        }
    }

    /// Ready when the kernel has all that was taken.
    ///
    /// # Errors
    /// As [`Stream::poll_write`].
    pub(super) fn poll_flush(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            None => Poll::Ready(Ok(())),
            Some(tls) => tls.borrow_mut().poll_flush(cx, &self.stream),
        }
    }

    /// Ends the sending side.
    ///
    /// # Errors
    /// As [`Stream::poll_write`].
    pub(super) fn poll_close(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            None => Poll::Ready(self.stream.shutdown()),
            Some(tls) => tls.borrow_mut().poll_close(cx, &self.stream),
        }
    }

    /// Whether a closed connection owes the client a word before the end of the stream: TLS has one, without which
    /// the end may be an attacker's.
    pub(super) fn says_goodbye(&self) -> bool {
        self.tls.is_some()
    }
}
