//! HTTP/1.1 by hand, for tests: raw bytes out on a new connection, one response back.
//! Blocking, for tests and small tools; the generator does not use it.

use crate::answer::{AnswerReader, BadAnswer, body_of};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Bytes of an answer, head and body, that are read.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// How long connecting, and each wait for bytes, may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Status line and headers as they came, the empty line included.
    pub head: String,
    /// Its body, out of its chunks if it came in such.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The body as text, with invalid UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends bytes as they are on a new connection, and reads one answer. Nothing is closed before
/// it came, so a server that waits for more lets this wait too.
///
/// # Errors
/// When the connection fails or is closed first, nothing comes for 30 s, or what comes is no
/// HTTP answer or is over [`REPLY_BYTES_MAX`].
pub fn exchange(addr: impl ToSocketAddrs, request: &[u8]) -> io::Result<Reply> {
    let addr = addr
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(ErrorKind::NotFound, "no address"))?;
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    let written = stream.write_all(request);
    let reply = read_reply(&mut stream);
    // An answer may come before the whole request is taken.
    if reply.is_err() {
        written?;
    }
    reply
}

/// Reads one answer from a connection.
///
/// # Errors
/// As [`exchange`].
pub fn read_reply(stream: &mut impl Read) -> io::Result<Reply> {
    let mut reader = AnswerReader::new(REPLY_BYTES_MAX);
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        bytes.extend_from_slice(&buffer[..count]);
        match reader.read(&bytes, count == 0) {
            Ok(Some(answer)) => {
                let head = bytes.get(..answer.body.start).unwrap_or_default();
                return Ok(Reply {
                    status: answer.status,
                    head: String::from_utf8_lossy(head).into_owned(),
                    body: body_of(&answer, &bytes).into_owned(),
                });
            }
            Ok(None) if count == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(None) => {}
            Err(BadAnswer::Malformed) => {
                return Err(io::Error::new(ErrorKind::InvalidData, "not an HTTP answer"));
            }
            Err(BadAnswer::TooLarge) => {
                let message = format!("answer over {REPLY_BYTES_MAX} bytes");
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
        }
    }
}

/// Sends a GET and reads the answer.
///
/// # Errors
/// As [`exchange`].
pub fn get(authority: &str, path: &str) -> io::Result<Reply> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    exchange(authority, request.as_bytes())
}

/// Sends a POST with more header lines (`Name: value`), and reads the answer.
///
/// # Errors
/// As [`exchange`].
pub fn post(authority: &str, path: &str, headers: &[&str], body: &[u8]) -> io::Result<Reply> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: {authority}\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str(&format!(
        "Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    ));
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    exchange(authority, &request)
}
