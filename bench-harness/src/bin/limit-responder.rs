//! The lower limit: the cost of the kernel's TCP on this machine, and nothing else.
//!
//! An epoll loop per thread that finds the end of each request by its Content-Length and answers
//! a constant 200. It checks nothing, stores nothing, and is no HTTP server: it is the floor that
//! Sluice and its peers are measured against. `limit-responder ADDRESS THREADS [COUNTS_ADDRESS]`, until
//! it is killed. The last address serves `{"requests":N}`, so that as a backend it can show
//! whether a proxy has forwarded every request that it answered.

#![forbid(unsafe_code)]

use memchr::memmem;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const LISTENER: Token = Token(usize::MAX - 1);
/// Larger than any request of the workloads, so that one read fetches one.
const BUFFER_BYTES: usize = 64 * 1024;

const USAGE: &str = "usage: limit-responder ADDRESS THREADS [COUNTS_ADDRESS]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, threads, counts) = match arguments.as_slice() {
        [address, threads] => (address, threads, None),
        [address, threads, counts] => (address, threads, Some(counts)),
        _ => return fail(USAGE),
    };
    let (Ok(address), Ok(threads), Ok(counts)) = (
        address.parse::<SocketAddr>(),
        threads.parse::<usize>(),
        counts
            .map(|address| address.parse::<SocketAddr>())
            .transpose(),
    ) else {
        return fail(USAGE);
    };
    // Each thread has its own counter, so that counting costs nothing measurable.
    let requests: Vec<Arc<AtomicU64>> = (0..threads).map(|_| Arc::default()).collect();
    let running: Vec<_> = requests
        .iter()
        .map(|requests| {
            let requests = Arc::clone(requests);
            std::thread::spawn(move || serve(address, &requests))
        })
        .collect();
    if let Some(counts) = counts {
        match std::net::TcpListener::bind(counts) {
            Ok(listener) => {
                std::thread::spawn(move || show(&listener, &requests));
            }
            Err(error) => return fail(&format!("{counts}: {error}")),
        }
    }
    for thread in running {
        match thread.join() {
            Ok(Err(error)) => return fail(&format!("{address}: {error}")),
            Ok(Ok(())) => {}
            Err(_) => return fail("a thread panicked"),
        }
    }
    ExitCode::SUCCESS
}

/// Serves the sum of the counters.
fn show(listener: &std::net::TcpListener, requests: &[Arc<AtomicU64>]) {
    for mut stream in listener.incoming().flatten() {
        // A slow or disconnected client must not block the next one.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
        let asked = read_head(&mut stream);
        let sum: u64 = requests
            .iter()
            .map(|requests| requests.load(Ordering::Relaxed))
            .sum();
        let body = format!("{{\"requests\":{sum}}}");
        let length = body.len();
        let _ = asked.and_then(|_| {
            write!(
                stream,
                "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        });
    }
}

#[allow(clippy::print_stderr, reason = "a program's word to its user")]
fn fail(why: &str) -> ExitCode {
    eprintln!("limit-responder: {why}");
    ExitCode::FAILURE
}

/// A connection and how many bytes of the current request are still to come.
struct Connection {
    stream: TcpStream,
    missing: usize,
}

/// Reads to the end of a request without a body; whatever came by then is answered, for to close on
/// unread bytes would be a reset.
fn read_head(stream: &mut impl Read) -> io::Result<()> {
    let (mut head, mut filled) = ([0; 4096], 0);
    while filled < head.len() && memmem::find(&head[..filled], b"\r\n\r\n").is_none() {
        match stream.read(&mut head[filled..])? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    Ok(())
}

fn serve(address: SocketAddr, requests: &AtomicU64) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    let mut listener = TcpListener::from_std(socket.into());
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, poll.registry(), &mut connections)?;
            } else {
                let answered = answer(event, &mut connections, &mut buffer);
                requests.fetch_add(answered, Ordering::Relaxed);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    registry: &Registry,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nodelay(true)?;
                let place = connections
                    .iter()
                    .position(Option::is_none)
                    .unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                registry.register(&mut stream, Token(place), Interest::READABLE)?;
                connections[place] = Some(Connection { stream, missing: 0 });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Answers what a connection has sent; says how many requests that were.
fn answer(event: &Event, connections: &mut [Option<Connection>], buffer: &mut [u8]) -> u64 {
    let mut sum = 0;
    let Some(place) = connections.get_mut(event.token().0) else {
        return sum;
    };
    let Some(connection) = place else { return sum };
    loop {
        match connection.stream.read(buffer) {
            Ok(0) => break *place = None,
            Ok(bytes) => {
                let requests = count(&buffer[..bytes], &mut connection.missing);
                sum += requests as u64;
                let answered = (0..requests).try_for_each(|_| connection.stream.write_all(ANSWER));
                if answered.is_err() {
                    break *place = None;
                }
                // A short read emptied the socket: mio's edge comes again with the next bytes.
                if bytes < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => break *place = None,
        }
    }
    sum
}

/// How many requests end in these bytes. A head is expected to come in one piece, as it does from the
/// generator.
fn count(mut bytes: &[u8], missing: &mut usize) -> usize {
    let mut requests = 0;
    while !bytes.is_empty() {
        if *missing == 0 {
            let head = memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
            *missing = head + content_length(&bytes[..head]);
        }
        let taken = bytes.len().min(*missing);
        bytes = &bytes[taken..];
        *missing -= taken;
        requests += usize::from(*missing == 0);
    }
    requests
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"ontent-";
    let Some(at) = memmem::find_iter(head, NAME).find(|at| {
        head[at + NAME.len()..]
            .get(..8)
            .is_some_and(|rest| rest.eq_ignore_ascii_case(b"length: "))
    }) else {
        return 0;
    };
    head[at + NAME.len() + 8..]
        .iter()
        .take_while(|digit| digit.is_ascii_digit())
        .fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_where_they_end_in_however_many_pieces() {
        let request =
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: t\r\nContent-Length: 5\r\n\r\nhello";
        let mut missing = 0;
        assert_eq!(count(request, &mut missing), 1);
        assert_eq!(count(&request[..request.len() - 2], &mut missing), 0);
        assert_eq!(count(b"lo", &mut missing), 1);
        assert_eq!(
            count(&[request.as_slice(), request].concat(), &mut missing),
            2
        );
        assert_eq!(count(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &mut missing), 1);
    }
}
