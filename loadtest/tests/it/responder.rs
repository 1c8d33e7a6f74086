//! A server of which everything is known: it tells what it was sent, and does what it is told.
//! One thread per connection, blocking; good for a few connections.

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sluice_loadtest::event_id::{EventId, IdScanner};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request with a longer body is answered when its head has come, its body unread.
pub(crate) const BODY_READ_MAX: usize = 8 << 20;

/// A request as it came.
pub(crate) struct Request {
    /// Its number among all requests, from 0.
    pub(crate) number: usize,
    /// The number of its connection, from 0.
    pub(crate) connection: usize,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What to do with a request.
pub(crate) enum Action {
    /// Send these bytes and go on.
    Send(Vec<u8>),
    /// Wait first.
    SendAfter(Duration, Vec<u8>),
    /// Send these bytes, then close.
    SendAndClose(Vec<u8>),
    /// Send these bytes, then neither read nor close.
    SendAndStop(Vec<u8>),
    /// Reset the connection.
    Reset,
    /// Say nothing, and keep the connection.
    Silence,
}

/// An answer without a body.
pub(crate) fn status(status: u16) -> Action {
    Action::Send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

/// An answer of 200 with a body.
pub(crate) fn ok(body: &str) -> Action {
    let length = body.len();
    Action::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
}

/// A connection as it is, or in TLS.
trait Wire: Read + Write {
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

pub(crate) struct Responder {
    addr: SocketAddr,
    scheme: &'static str,
    stop: Arc<AtomicBool>,
    received: Arc<Mutex<Vec<EventId>>>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    pub(crate) fn start(respond: impl Fn(&Request) -> Action + Send + Sync + 'static) -> Responder {
        Responder::start_on("127.0.0.1:0", None, respond)
    }

    pub(crate) fn start_on(
        addr: &str,
        tls: Option<Arc<ServerConfig>>,
        respond: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> Responder {
        Responder::start_late(addr, tls, Duration::ZERO, respond)
    }

    /// Reads nothing of a connection, TLS's first words neither, until `late` after it was opened.
    pub(crate) fn start_late(
        addr: &str,
        tls: Option<Arc<ServerConfig>>,
        late: Duration,
        respond: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> Responder {
        let listener = TcpListener::bind(addr).unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let addr = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(Mutex::new(Vec::new()));
        let (stopping, ids) = (Arc::clone(&stop), Arc::clone(&received));
        let respond = Arc::new(respond);
        let number = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if stopping.load(Ordering::SeqCst) {
                    break;
                }
                let (stopping, ids) = (Arc::clone(&stopping), Arc::clone(&ids));
                let (respond, number) = (Arc::clone(&respond), Arc::clone(&number));
                let (tls, connection) = (tls.clone(), connections.len());
                connections.push(std::thread::spawn(move || {
                    std::thread::sleep(late);
                    let mut wire: Box<dyn Wire> = match tls {
                        None => Box::new(stream),
                        Some(config) => {
                            let tls = ServerConnection::new(config).unwrap();
                            Box::new(StreamOwned::new(tls, stream))
                        }
                    };
                    serve(&mut *wire, connection, &stopping, &ids, &number, &*respond);
                }));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Responder {
            addr,
            scheme,
            stop,
            received,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// The ids of all events that came, in the order in which they came.
    pub(crate) fn received(&self) -> Vec<EventId> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: &mut dyn Wire,
    connection: usize,
    stop: &AtomicBool,
    ids: &Mutex<Vec<EventId>>,
    number: &AtomicUsize,
    respond: &dyn Fn(&Request) -> Action,
) {
    stream.socket().set_nodelay(true).unwrap();
    stream
        .socket()
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let scanner = IdScanner::default();
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !stop.load(Ordering::SeqCst) {
        if let Some((request, length)) = split(&bytes, number, connection) {
            bytes.drain(..length);
            ids.lock().unwrap().extend(scanner.ids(&request.body));
            let (delay, answer, close) = match respond(&request) {
                Action::Send(answer) => (Duration::ZERO, answer, false),
                Action::SendAfter(delay, answer) => (delay, answer, false),
                Action::SendAndClose(answer) => (Duration::ZERO, answer, true),
                Action::SendAndStop(answer) => {
                    let _ = stream.write_all(&answer);
                    while !stop.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    return;
                }
                Action::Reset => {
                    let socket = socket2::SockRef::from(stream.socket());
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                    return;
                }
                Action::Silence => continue,
            };
            std::thread::sleep(delay);
            // TLS may hold back what it was given.
            let sent = stream.write_all(&answer).and_then(|()| stream.flush());
            if sent.is_err() || close {
                return;
            }
            continue;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn split(bytes: &[u8], number: &AtomicUsize, connection: usize) -> Option<(Request, usize)> {
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let length: usize = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("content-length").then_some(value))
        .map_or(0, |length| length.parse().unwrap());
    if length > BODY_READ_MAX {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let body = Vec::new();
        return Some((
            Request {
                number,
                connection,
                head,
                body,
            },
            head_end,
        ));
    }
    let body = bytes.get(head_end..head_end + length)?.to_vec();
    let number = number.fetch_add(1, Ordering::SeqCst);
    Some((
        Request {
            number,
            connection,
            head,
            body,
        },
        head_end + length,
    ))
}

/// An address that refuses connections: its port was free a moment ago.
pub(crate) fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
