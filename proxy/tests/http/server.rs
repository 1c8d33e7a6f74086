//! A server with a small handler, and a client that writes what it is told.

use http::StatusCode;
use ipnet::IpNet;
use sluice_core::stats::EndpointLabel;
use sluice_core::time::Mono;
use sluice_proxy::http::Network;
use sluice_proxy::http::{
    Admitted, Answer, AnswerSettings, Body, CorsPolicy, Handler, Head, HttpLimits,
};
use sluice_proxy::listeners::{Http2, ListenAddress, Listener, ListenerSettings};
use sluice_proxy::net::tls::{Tls, TlsSettings};
use sluice_proxy::runtime::clock::Clock;
use sluice_proxy::runtime::drain::Drain;
use sluice_proxy::runtime::driver::Driver;
use sluice_proxy::worker::{ListenSettings, StartError, WorkerSettings, Workers, run_workers};
use std::cell::Cell;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long a client waits before it calls a test failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Answers by path; see `handle`.
pub(crate) struct Demo {
    limits: HttpLimits,
    ticks: Cell<u64>,
}

impl Handler for Demo {
    type Route = ();

    fn admit(&self, head: &Head<'_>) -> Result<Admitted<()>, Answer> {
        match head.path() {
            // An answer without a look at the body.
            "/early" => Err(Answer::empty(StatusCode::FORBIDDEN)),
            "/post-only" if head.method() != "POST" => Err(Answer {
                allow: Some("POST"),
                ..Answer::empty(StatusCode::METHOD_NOT_ALLOWED)
            }),
            _ => Ok(Admitted {
                body_bytes_max: self.limits.body_bytes_max,
                endpoint: EndpointLabel::None,
                route: (),
            }),
        }
    }

    fn handle<'s>(
        &'s self,
        head: &Head<'_>,
        (): (),
        body: Body<'_>,
    ) -> impl Future<Output = Answer> + use<'s> {
        let path = head.path().to_owned();
        let peer = head.peer();
        let body = body.into_bytes();
        async move {
            match path.as_str() {
                "/echo" => Answer {
                    body,
                    ..Answer::empty(StatusCode::OK)
                },
                // Its length only.
                "/length" => Answer::json(StatusCode::OK, body.len().to_string()),
                // The body again, after a while.
                "/late-echo" => {
                    monoio::time::sleep(Duration::from_millis(20)).await;
                    Answer {
                        body,
                        ..Answer::empty(StatusCode::OK)
                    }
                }
                // An answer that takes longer than a sweep.
                "/very-late" => {
                    monoio::time::sleep(Duration::from_millis(600)).await;
                    Answer::empty(StatusCode::OK)
                }
                "/ticks" => Answer::json(StatusCode::OK, self.ticks.get().to_string()),
                // An answer that never comes.
                "/never" => std::future::pending().await,
                "/peer" => Answer::json(StatusCode::OK, peer.to_string()),
                "/large" => Answer::json(StatusCode::OK, vec![b'x'; 32 * 1024 * 1024]),
                "/close" => Answer {
                    close: true,
                    ..Answer::empty(StatusCode::OK)
                },
                "/busy" => Answer {
                    retry_after_s: Some(3),
                    ..Answer::empty(StatusCode::SERVICE_UNAVAILABLE)
                },
                _ => Answer::empty(StatusCode::NOT_FOUND),
            }
        }
    }

    fn tick(&self, _: Mono) {
        self.ticks.set(self.ticks.get() + 1);
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) drain: Arc<Drain>,
    pub(crate) clock: Clock,
    pub(crate) workers: Option<Workers>,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// What a test may change before the server starts.
pub(crate) struct Settings {
    pub(crate) listen: ListenSettings,
    pub(crate) limits: HttpLimits,
    pub(crate) answers: AnswerSettings,
    pub(crate) budget_bytes: u64,
    pub(crate) memory_bytes: u64,
    /// Of the one listener.
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) http2: Http2,
    pub(crate) tls: Option<TlsSettings>,
}

impl Server {
    pub(crate) fn start(change: impl FnOnce(&mut Settings)) -> Server {
        Server::try_start(change).unwrap()
    }

    pub(crate) fn try_start(change: impl FnOnce(&mut Settings)) -> Result<Server, StartError> {
        let clock = Clock::start();
        let drain = Arc::new(Drain::default());
        let mut settings = Settings {
            listen: ListenSettings {
                address: "127.0.0.1:0".parse().unwrap(),
                workers: 1,
                ..ListenSettings::default()
            },
            limits: HttpLimits::default(),
            answers: AnswerSettings::default(),
            budget_bytes: 256 << 20,
            memory_bytes: 1 << 40,
            trusted: Vec::new(),
            http2: Http2::Off,
            tls: None,
        };
        change(&mut settings);
        let networks = settings.trusted.iter();
        let address = ListenAddress::Tcp(settings.listen.address);
        let listener = ListenerSettings {
            name: "listen".to_owned(),
            address,
            proxy_protocol: settings.listen.proxy_protocol,
            proxy_protocol_from: vec![Network::private()],
            trusted: networks
                .map(|net| net.to_string().parse().unwrap())
                .collect(),
            addresses: None,
            logged_addresses: sluice_core::privacy::AddressRule::Keep,
            http2: settings.http2,
            tls: settings.tls,
        };
        let limits = settings.limits;
        let listener = Listener::load(listener).unwrap();
        let tls = listener.tls.clone();
        let settings = WorkerSettings {
            listen: settings.listen,
            has_cpu_quota: false,
            limits,
            answers: settings.answers,
            budget_bytes: settings.budget_bytes,
            memory_bytes: settings.memory_bytes,
            listeners: vec![listener],
            outputs: 0,
            rules: 0,
            schemas: 0,
            clock,
            drain: Arc::clone(&drain),
        };
        let workers = run_workers(&settings, move |_| Demo {
            limits,
            ticks: Cell::new(0),
        })?;
        Ok(Server {
            address: workers.address().unwrap_or(settings.listen.address),
            drain,
            clock,
            workers: Some(workers),
            tls,
        })
    }

    pub(crate) fn with_limits(change: impl FnOnce(&mut HttpLimits)) -> Server {
        Server::start(|settings| change(&mut settings.limits))
    }

    pub(crate) fn connect(&self) -> Client {
        Client::over(TcpStream::connect(self.address).unwrap())
    }

    /// A client of another address of this host.
    pub(crate) fn connect_from(&self, address: [u8; 4]) -> Client {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        Client::over(socket.into())
    }

    /// The sum over the cores.
    pub(crate) fn count(&self, read: impl Fn(&sluice_core::stats::WorkerStats) -> u64) -> u64 {
        let workers = self.workers.as_ref().unwrap();
        workers.stats.iter().map(|stats| read(stats)).sum()
    }

    pub(crate) fn answered(&self, status: u16) -> u64 {
        self.count(|stats| stats.responses(status))
    }

    /// Waits for a counter that another thread moves.
    pub(crate) fn await_value(
        &self,
        want: u64,
        read: impl Fn(&sluice_core::stats::WorkerStats) -> u64,
    ) {
        for _ in 0..2_000 {
            if self.count(&read) == want {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited for {want}, have {}", self.count(&read));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(workers) = self.workers.take() {
            self.drain.drain(Mono::default());
            workers.join().unwrap();
        }
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
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

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `code` of an error body, which has to be well formed.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert!(
            value["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        value["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        value[name].as_u64()
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

impl Client {
    pub(crate) fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends as much as the server lets in; it may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; 65_536];
        match self.stream.read(&mut piece) {
            Ok(bytes) => {
                self.buffer.extend_from_slice(&piece[..bytes]);
                bytes > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}, so far {:?}", self.buffer),
        }
    }

    /// The next answer, interim ones included; `None` when the connection ends first.
    pub(crate) fn try_read(&mut self) -> Option<Reply> {
        let mut reply = self.try_read_head()?;
        let length = reply
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            assert!(self.fill(), "the body is cut");
        }
        reply.body = self.buffer.drain(..length).collect();
        Some(reply)
    }

    fn try_read_head(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "cut: {:?}", self.buffer);
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

    /// The next answer, when it has to have no body.
    pub(crate) fn read_head(&mut self) -> Reply {
        self.try_read_head().expect("the connection ended")
    }

    pub(crate) fn read(&mut self) -> Reply {
        self.try_read().expect("the connection ended")
    }

    pub(crate) fn ask(&mut self, request: &str) -> Reply {
        self.send(request);
        self.read()
    }

    /// Whether there is something to read, or the end, within `patience`.
    pub(crate) fn readable(&mut self, patience: Duration) -> bool {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        let ready = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        !self.buffer.is_empty()
            || !matches!(ready, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// All that comes until the end.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        while self.fill() {}
        self.buffer
    }

    /// Whether the server ends the connection now, without another byte.
    pub(crate) fn ended(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

pub(crate) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Those that this kernel permits.
pub(crate) fn drivers() -> Vec<Driver> {
    match Driver::Uring.choose() {
        Ok(_) => vec![Driver::Uring, Driver::Epoll],
        Err(error) => {
            println!("skipped io_uring: {error}");
            vec![Driver::Epoll]
        }
    }
}

/// A POST in chunks of `size` bytes.
pub(crate) fn chunked(path: &str, body: &str, size: usize) -> String {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.as_bytes().chunks(size) {
        let text = std::str::from_utf8(chunk).unwrap();
        request.push_str(&format!("{:x}\r\n{text}\r\n", chunk.len()));
    }
    request.push_str("0\r\n\r\n");
    request
}

/// Sends a byte now and then, the last one again and again, until there is an answer.
pub(crate) fn drip(client: &mut Client, bytes: &str) -> Reply {
    let mut bytes = bytes.bytes();
    for _ in 0..200 {
        if client.readable(Duration::from_millis(50)) {
            return client.read();
        }
        client.try_send([bytes.next().unwrap_or(b'x')]);
    }
    panic!("a dripping request was not ended");
}

/// Pages of every origin may read the answers; a client is to wait for 7 seconds.
pub(crate) fn answers_to_any_origin() -> AnswerSettings {
    AnswerSettings {
        cors: CorsPolicy::new(vec!["*".parse().unwrap()], Duration::from_secs(60)),
        retry_after_s: 7..=7,
    }
}
