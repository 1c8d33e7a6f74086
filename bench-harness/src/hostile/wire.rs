//! One client connection: requests are sent as they are, responses are counted by status.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A response has this long to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest response that is read.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// What one send is, and what it is answered with.
#[derive(Clone, Debug)]
pub(super) struct Exchange<'a> {
    /// The bytes of one or several requests.
    pub(super) bytes: &'a [u8],
    /// How many responses come.
    pub(super) responses: usize,
    /// Whether the connection is new each time.
    pub(super) own_connection: bool,
}

/// What one or several connections saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Sends that were answered in full.
    pub(super) sends: u64,
    /// Responses by status; 0 is a connection that ended without one.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Connections opened.
    pub(super) connections: u64,
}

impl Seen {
    pub(super) fn add(&mut self, other: &Seen) {
        self.sends += other.sends;
        self.connections += other.connections;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
    }
}

/// A client with one connection, which it opens again when the server has closed it.
#[derive(Debug)]
pub(super) struct Client {
    server: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    pub(super) seen: Seen,
}

impl Client {
    pub(super) fn new(port: u16) -> Client {
        Client {
            server: SocketAddr::from(([127, 0, 0, 1], port)),
            stream: None,
            buffer: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Sends once and waits for the responses.
    ///
    /// # Errors
    /// When the server cannot be reached, or does not answer in time with HTTP.
    pub(super) fn exchange(&mut self, exchange: &Exchange<'_>) -> io::Result<()> {
        if exchange.own_connection {
            self.stream = None;
        }
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        self.buffer.clear();
        // A server that refuses a head closes while the rest is still being sent; what it answered counts.
        let sent = stream.write_all(exchange.bytes);
        let mut closes = false;
        for _ in 0..exchange.responses {
            let Some(response) = self.response(&mut stream)? else {
                sent?;
                *self.seen.statuses.entry(0).or_default() += 1;
                closes = true;
                break;
            };
            *self.seen.statuses.entry(response.status).or_default() += 1;
            closes = response.closes;
        }
        self.seen.sends += 1;
        if !closes {
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Sends until then.
    ///
    /// # Errors
    /// See [`Client::exchange`].
    pub(super) fn send_until(&mut self, end: Instant, exchange: &Exchange<'_>) -> io::Result<()> {
        while Instant::now() < end {
            self.exchange(exchange)?;
        }
        Ok(())
    }

    /// Opens the connection ahead of the first send.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if self.stream.is_none() {
            self.stream = Some(self.connect()?);
        }
        Ok(())
    }

    fn connect(&mut self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        self.seen.connections += 1;
        Ok(stream)
    }

    /// The next response; `None` when the connection ended before it. A reset after the end of ours is one.
    fn response(&mut self, stream: &mut TcpStream) -> io::Result<Option<Response>> {
        let mut piece = [0; 16 << 10];
        loop {
            match Response::parse(&self.buffer)? {
                // An interim response is none.
                Some(response) if response.status < 200 => {
                    self.buffer.drain(..response.bytes);
                }
                Some(response) => {
                    self.buffer.drain(..response.bytes);
                    return Ok(Some(response));
                }
                None => {
                    let read = match stream.read(&mut piece) {
                        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                        read => read?,
                    };
                    if read == 0 {
                        return Ok(None);
                    }
                    self.buffer.extend_from_slice(&piece[..read]);
                    if self.buffer.len() > RESPONSE_BYTES_MAX {
                        return Err(invalid("a response over 1 MiB"));
                    }
                }
            }
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Response {
    status: u16,
    bytes: usize,
    closes: bool,
}

impl Response {
    /// The response at the start of the bytes, once it is whole.
    fn parse(bytes: &[u8]) -> io::Result<Option<Response>> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| invalid("a head of no text"))?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1."))
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .ok_or_else(|| invalid("no HTTP response"))?;
        let (mut length, mut closes) = (0_usize, false);
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(|_| invalid("no length"))?;
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.trim().eq_ignore_ascii_case("close");
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(invalid("a response in chunks"));
            }
        }
        let bytes_needed = end + 4 + length;
        Ok((bytes.len() >= bytes_needed).then_some(Response {
            status,
            bytes: bytes_needed,
            closes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn a_response_is_whole_with_its_last_byte() {
        let text = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nnoHTTP";
        let whole = Response {
            status: 413,
            bytes: text.len() - 4,
            closes: true,
        };
        assert_eq!(Response::parse(text).unwrap(), Some(whole));
        for cut in 0..whole.bytes {
            assert_eq!(Response::parse(&text[..cut]).unwrap(), None);
        }
        assert!(Response::parse(b"SMTP\r\n\r\n").is_err());
    }

    #[test]
    fn responses_are_counted_by_status_and_a_closed_connection_is_opened_again() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let answers: [&[u8]; 3] = [
                b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 No\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx",
                b"",
            ];
            let mut piece = [0; 16];
            let (mut first, _) = listener.accept().unwrap();
            for answer in &answers[..2] {
                assert_eq!(first.read(&mut piece).unwrap(), 1);
                first.write_all(answer).unwrap();
            }
            let (mut second, _) = listener.accept().unwrap();
            assert_eq!(second.read(&mut piece).unwrap(), 1);
        });
        let mut client = Client::new(port);
        for responses in [2, 1, 1] {
            let exchange = Exchange {
                bytes: b"x",
                responses,
                own_connection: false,
            };
            client.exchange(&exchange).unwrap();
        }
        server.join().unwrap();
        let statuses = [(0, 1), (200, 1), (400, 1), (404, 1)];
        let seen = Seen {
            sends: 3,
            statuses: BTreeMap::from(statuses),
            connections: 2,
        };
        assert_eq!(client.seen, seen);
    }
}
