//! A blocking HTTP/1.1 client that writes given bytes and reads responses.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any response may take; a read that takes this long is a hang.
const PATIENCE: Duration = Duration::from_secs(15);

/// A page's origin, for tests of what pages may read.
pub(crate) const ORIGIN: &str = "https://shop.example.com";

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// What every answer says to a page on [`ORIGIN`], where such pages may read answers.
    pub(crate) fn assert_readable(&self) {
        let origin = self.header("access-control-allow-origin");
        assert_eq!(origin, Some(ORIGIN), "{self:?}");
        let credentials = self.header("access-control-allow-credentials");
        assert_eq!(credentials, Some("true"), "{self:?}");
        assert_eq!(self.header("vary"), Some("Origin"), "{self:?}");
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `code` of an error body.
    pub(crate) fn code(&self) -> String {
        match self.json()["code"].as_str() {
            Some(code) => code.to_owned(),
            None => panic!("no code in {self:?}"),
        }
    }

    /// That it is a 503 with this code and a Retry-After that a client can follow.
    pub(crate) fn assert_retry_later(&self, codes: &[&str]) {
        assert_eq!(self.status, 503, "{self:?}");
        assert!(codes.contains(&self.code().as_str()), "{self:?}");
        let seconds = self.header("retry-after").map(|text| text.parse::<u32>());
        assert!(
            matches!(seconds, Some(Ok(1..=5))),
            "Retry-After has to be 1 to 5 s: {self:?}"
        );
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Client> {
        Client::over(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    pub(crate) fn over(stream: TcpStream) -> std::io::Result<Client> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream,
            buffer: Vec::new(),
        })
    }

    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends as much as the server lets in; it may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// No byte comes after this.
    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Disconnects immediately, with a reset: data in transit is lost.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; 65_536];
        match self.stream.read(&mut piece) {
            Ok(bytes) => {
                self.buffer.extend_from_slice(&piece[..bytes]);
                bytes > 0
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) =>
            {
                false
            }
            Err(error) => panic!("neither answer nor end: {error}, so far {:?}", self.buffer),
        }
    }

    /// The head of the next answer; `None` when the connection ends first.
    fn try_read_head(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        Some(Reply {
            status: head[9..12].parse().unwrap(),
            head,
            body: Vec::new(),
        })
    }

    /// The next answer, when its body does not matter or it has none whatever its length says.
    pub(crate) fn read_head(&mut self) -> Reply {
        self.try_read_head()
            .expect("an answer, not the connection's end")
    }

    /// The next answer; `None` when the connection ends first.
    pub(crate) fn try_read(&mut self) -> Option<Reply> {
        let mut reply = self.try_read_head()?;
        let length = match reply.header("content-length") {
            Some(length) => length.parse().unwrap(),
            None => 0,
        };
        while self.buffer.len() < length {
            if !self.fill() {
                return None;
            }
        }
        reply.body = self.buffer.drain(..length).collect();
        Some(reply)
    }

    pub(crate) fn read(&mut self) -> Reply {
        self.try_read()
            .expect("an answer, not the connection's end")
    }

    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Reply {
        self.send(request);
        self.read()
    }

    /// Whether the server ends the connection without another byte.
    pub(crate) fn ended(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }
}

pub(crate) fn post(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// The head of a request whose body comes in chunks.
pub(crate) fn post_chunked(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
}

pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
