//! One connection's bytes: a socket as it is, or TLS over it. Never blocks; knows no HTTP.

use super::connect::{Peer, tls_error};
use mio::net::TcpStream;
use rustls::ClientConnection;
use std::io::{self, ErrorKind, Read, Write};

/// A connection that is opened, written and read without blocking.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// How far the opening of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// TCP is not connected.
    Connecting,
    /// TCP is connected, TLS is not.
    ShakingHands,
    /// Requests may be written.
    Ready,
}

#[derive(Debug)]
pub(super) struct TlsStream {
    socket: TcpStream,
    tls: ClientConnection,
}

impl Stream {
    /// Starts to open a connection.
    pub(super) fn open(peer: &Peer) -> io::Result<Stream> {
        let socket = TcpStream::connect(peer.address)?;
        let Some(tls) = &peer.tls else {
            return Ok(Stream::Plain(socket));
        };
        let mut tls = tls.connection()?;
        // A request is taken whole; its size has a limit already.
        tls.set_buffer_limit(None);
        Ok(Stream::Tls(Box::new(TlsStream { socket, tls })))
    }

    /// The socket to register for events.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &mut stream.socket,
        }
    }

    /// Goes on opening.
    pub(super) fn opened(&mut self) -> io::Result<Opening> {
        let socket = self.socket();
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        if socket.peer_addr().is_err() {
            return Ok(Opening::Connecting);
        }
        // Requests are written whole; waiting to join them would only delay them.
        let _ = socket.set_nodelay(true);
        match self {
            Stream::Plain(_) => Ok(Opening::Ready),
            Stream::Tls(stream) => Ok(match stream.shake_hands()? {
                true => Opening::Ready,
                false => Opening::ShakingHands,
            }),
        }
    }

    /// Writes as much as the socket takes now. Bytes that TLS takes may still be buffered, see `flush`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => write_some(socket, bytes),
            Stream::Tls(stream) => {
                stream.tls.writer().write_all(bytes)?;
                stream.flush()?;
                Ok(bytes.len())
            }
        }
    }

    /// Writes buffered bytes. Returns whether the buffer is empty.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Stream::Plain(_) => Ok(true),
            Stream::Tls(stream) => stream.flush(),
        }
    }

    /// Whether all that was written has left.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Stream::Plain(_) => true,
            Stream::Tls(stream) => !stream.tls.wants_write(),
        }
    }

    /// Reads available bytes; zero bytes are the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }

    /// Whether a read that did not fill its buffer has emptied the socket.
    pub(super) fn short_read_is_last(&self) -> bool {
        matches!(self, Stream::Plain(_))
    }
}

impl TlsStream {
    fn shake_hands(&mut self) -> io::Result<bool> {
        loop {
            self.flush()?;
            if !self.tls.is_handshaking() {
                return Ok(true);
            }
            match self.take_in() {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes bytes from the socket and deciphers them; zero bytes are its end.
    fn take_in(&mut self) -> io::Result<usize> {
        let count = loop {
            match self.tls.read_tls(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Err(error) = self.tls.process_new_packets() {
            // Sends the server an alert with the reason, if it still listens.
            let _ = self.flush();
            return Err(tls_error(error));
        }
        Ok(count)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Many servers close without close_notify; HTTP framing detects missing bytes.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            self.take_in()?;
        }
    }
}

/// Writes as much as the socket takes now.
fn write_some(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
