//! TLS of one connection, over a socket that is handed in at every call.
//!
//! ```text
//!  let mut session = tls.accept()?;                                  // one per connection
//!  poll_fn(|cx| session.poll_handshake(cx, &stream)).await?;         // within the handshake deadline
//!  poll_fn(|cx| session.poll_read(cx, &stream, &mut buffer)).await?; // as the socket's own, but plaintext
//!  poll_fn(|cx| session.poll_write(cx, &stream, bytes)).await?;
//!  poll_fn(|cx| session.poll_flush(cx, &stream)).await?;             // after the last bytes of an answer
//!  poll_fn(|cx| session.poll_close(cx, &stream)).await?;             // close_notify, then the socket's FIN
//! ```
//!
//! One task polls a session. `poll_write` says how many bytes it took; their records may still wait for the
//! socket, at most [`UNSENT_BYTES_MAX`] of them. `poll_flush` waits for that, and `poll_read` also sends what
//! waits, so that a peer which waits for an answer gets it before it is asked for more.

use super::subject::{self, SubjectError};
use crate::runtime::clock;
use rustls::server::ServerConnection;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll};

/// Bytes of records that may wait for the socket.
pub const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// What a session needs of its socket, which must not block.
pub trait Socket {
    /// Reads into the buffer; 0 bytes at the end of the stream.
    fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes what the kernel takes.
    fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Shuts down the sending side.
    ///
    /// # Errors
    /// The system's.
    fn shutdown(&self) -> io::Result<()>;
}

impl Socket for crate::runtime::sockets::Stream {
    fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read(cx, buffer)
    }

    fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, bytes)
    }

    fn shutdown(&self) -> io::Result<()> {
        self.shutdown()
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client speaks HTTP without TLS. Nothing was sent: the caller may answer in plain text, through the
    /// socket.
    #[error("a plain HTTP request on a port that speaks TLS")]
    PlainHttp,
    /// It ended before the handshake did.
    #[error("the connection ended within the handshake")]
    Ended,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The library refused the client, which got an alert.
    #[error(transparent)]
    Refused(rustls::Error),
    /// The client's certificate names nobody.
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

/// Whether a connection's first bytes are those of an HTTP request: a letter of a method, where TLS begins
/// with the byte 22.
#[must_use]
pub fn is_plain_http(first: &[u8]) -> bool {
    first.first().is_some_and(u8::is_ascii_alphabetic)
}

/// TLS of one connection.
pub struct TlsSession {
    connection: Box<ServerConnection>,
    /// Bytes that were read from the socket before; they come before its next ones.
    early: Vec<u8>,
    /// Whether a first byte was there.
    has_begun: bool,
    is_closing: bool,
    subject: Option<Box<str>>,
}

/// No key, and nothing that was sent.
impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("version", &self.version())
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// The socket as the library wants it: what is not there now is an error.
struct Io<'a, 'b, S> {
    socket: &'a S,
    cx: &'a Context<'b>,
    early: &'a mut Vec<u8>,
    /// The first byte that was read.
    first: Option<u8>,
}

impl<S: Socket> Read for Io<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.early.len().min(buffer.len()) {
            0 => now(self.socket.poll_read(self.cx, buffer))?,
            early => {
                buffer
                    .iter_mut()
                    .zip(self.early.drain(..early))
                    .for_each(|(to, byte)| *to = byte);
                early
            }
        };
        self.first = buffer.first().copied().filter(|_| read > 0);
        Ok(read)
    }
}

impl<S: Socket> Write for Io<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(self.socket.poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn now(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
    match poll {
        Poll::Ready(done) => done,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

/// The other way round.
fn later<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        done => Poll::Ready(done),
    }
}

/// What a look at the socket brought.
enum Received {
    Bytes,
    End,
}

impl TlsSession {
    /// A session whose handshake has not begun.
    ///
    /// # Errors
    /// The configuration makes none.
    pub fn new(config: Arc<ServerConfig>) -> Result<TlsSession, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        connection.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        Ok(TlsSession {
            connection: Box::new(connection),
            early: Vec::new(),
            has_begun: false,
            is_closing: false,
            subject: None,
        })
    }

    /// Hands in bytes that were read from the socket already, together with a PROXY header. Before the handshake
    /// begins.
    #[must_use]
    pub fn after(mut self, early: &[u8]) -> TlsSession {
        self.early.extend_from_slice(early);
        self
    }

    /// Carries the handshake on. Ready when both sides may send.
    ///
    /// # Errors
    /// See [`HandshakeError`]; the connection has to be closed.
    pub fn poll_handshake<S: Socket>(
        &mut self,
        cx: &Context<'_>,
        socket: &S,
    ) -> Poll<Result<(), HandshakeError>> {
        loop {
            if self.poll_flush(cx, socket)?.is_pending() {
                return Poll::Pending;
            }
            if !self.connection.is_handshaking() {
                self.subject = match self.connection.peer_certificates() {
                    Some([own, ..]) => Some(subject::of(own, clock::wall())?),
                    _ => None,
                };
                return Poll::Ready(Ok(()));
            }
            match self.poll_receive(cx, socket) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Received::Bytes)) => {}
                Poll::Ready(Ok(Received::End)) => return Poll::Ready(Err(HandshakeError::Ended)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads records once.
    fn poll_receive<S: Socket>(
        &mut self,
        cx: &Context<'_>,
        socket: &S,
    ) -> Poll<Result<Received, HandshakeError>> {
        let mut io = Io {
            socket,
            cx,
            early: &mut self.early,
            first: None,
        };
        let read = match later(self.connection.read_tls(&mut io)) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read?,
        };
        if read > 0 && !std::mem::replace(&mut self.has_begun, true) {
            let first = io.first.as_slice();
            if is_plain_http(first) {
                return Poll::Ready(Err(HandshakeError::PlainHttp));
            }
        }
        if let Err(error) = self.connection.process_new_packets() {
            // The alert says why, if the socket takes it now; the connection is over in any case.
            let _ = self.poll_flush(cx, socket);
            return Poll::Ready(Err(HandshakeError::Refused(error)));
        }
        Poll::Ready(Ok(match read {
            0 => Received::End,
            _ => Received::Bytes,
        }))
    }

    /// Reads plaintext into the buffer; 0 bytes when the peer has said that it sends no more.
    ///
    /// # Errors
    /// The socket's; [`ErrorKind::UnexpectedEof`] when the connection ended without that; and
    /// [`ErrorKind::InvalidData`] when the records are wrong.
    pub fn poll_read<S: Socket>(
        &mut self,
        cx: &Context<'_>,
        socket: &S,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            // What was read may ask for an answer: new keys, or a refusal to negotiate anew. Whether the socket takes
            // it or not, the peer may send.
            if let Poll::Ready(Err(error)) = self.poll_flush(cx, socket) {
                return Poll::Ready(Err(error));
            }
            let read = later(self.connection.reader().read(buffer));
            if read.is_ready() {
                return read;
            }
            match self.poll_receive(cx, socket) {
                Poll::Pending => return Poll::Pending,
                // Without room for the end, the reader says what kind of end it is.
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(HandshakeError::Io(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, error)));
                }
            }
        }
    }

    /// Takes plaintext, at least one byte of it, and sends what the socket takes.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_write<S: Socket>(
        &mut self,
        cx: &Context<'_>,
        socket: &S,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let flushed = self.poll_flush(cx, socket)?;
        match self.connection.writer().write(bytes)? {
            0 if flushed.is_pending() => Poll::Pending,
            taken => {
                // Records that the socket does not take wait for the next call.
                let _ = self.poll_flush(cx, socket)?;
                Poll::Ready(Ok(taken))
            }
        }
    }

    /// Ready when the socket has all that was written.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_flush<S: Socket>(&mut self, cx: &Context<'_>, socket: &S) -> Poll<io::Result<()>> {
        let mut io = Io {
            socket,
            cx,
            early: &mut self.early,
            first: None,
        };
        while self.connection.wants_write() {
            match later(self.connection.write_tls(&mut io)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be sent, then shuts down the socket's sending side.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_close<S: Socket>(&mut self, cx: &Context<'_>, socket: &S) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.connection.send_close_notify();
        }
        match self.poll_flush(cx, socket) {
            Poll::Ready(Ok(())) => Poll::Ready(socket.shutdown()),
            unfinished => unfinished,
        }
    }

    /// The protocol that both sides chose (ALPN).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The name that the client asked for (SNI).
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.connection.server_name()
    }

    /// Whom the client's certificate names, by RFC 4514: `CN=sdk-7,O=Example`. `None` without a certificate.
    #[must_use]
    pub fn client_subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The version in use, once it is known.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("1.2"),
            ProtocolVersion::TLSv1_3 => Some("1.3"),
            _ => None,
        }
    }

    /// Whether the client brought a ticket back, which saves the most of a handshake.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}
