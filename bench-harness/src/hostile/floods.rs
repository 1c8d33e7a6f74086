//! Floods of connections that are no requests: TLS handshakes that lead to nothing, and frames of HTTP/2 that keep
//! a server busy without asking for anything. What an honest client keeps of its rate beside them, and the memory
//! that the server takes meanwhile.

mod http2;
mod tls;

use super::server::{Doors, Server};
use super::victim::{self, Outcome};
use crate::running::Places;
use serde::Serialize;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Senders at once.
const SENDERS: usize = 4;

/// Connections of each sender that are held open at once, where a flood holds them.
const HELD: usize = 250;

/// A sender that can neither read nor write looks again after this long.
const PAUSE: Duration = Duration::from_micros(200);

/// The victim's connections are there, and the flood is under way, after this long.
const RUN_IN: Duration = Duration::from_millis(300);

/// Memory that the server may take in all while it is flooded.
pub(super) const MEMORY_MAX: u64 = 160 << 20;

/// What the server says first to a client that behaves like this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Nothing is looked at.
    Any,
    /// A record of TLS that carries a handshake (RFC 8446 section 5.1).
    Handshake,
    /// A record of TLS that carries an alert.
    Alert,
    /// An HTTP/1 answer.
    Http1,
    /// A SETTINGS frame (RFC 9113 section 3.4).
    Settings,
}

impl First {
    fn is(self, bytes: &[u8]) -> bool {
        match self {
            First::Any => true,
            First::Handshake => bytes.first() == Some(&22),
            First::Alert => bytes.first() == Some(&21),
            First::Http1 => bytes.starts_with(b"HTTP/1.1 "),
            First::Settings => bytes.get(3) == Some(&4),
        }
    }
}

/// What a client does.
pub(super) struct Flood {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Whether it goes to the listener with TLS; else to the one that takes HTTP/2 with prior knowledge.
    pub(super) is_tls: bool,
    /// The first bytes of a connection.
    pub(super) opening: Vec<u8>,
    /// The bytes after them, by their number; nothing: the client closes the connection, or holds it.
    pub(super) more: fn(u32) -> Vec<u8>,
    /// Whether connections are held open by the hundred.
    pub(super) holds: bool,
    /// What the server says first.
    pub(super) first: First,
    /// Whether the server puts an end to such a connection by itself, as it must where a client could go on forever.
    pub(super) is_ended: bool,
}

/// What came of a flood.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct FloodFigure {
    pub(super) name: &'static str,
    about: &'static str,
    /// Connections that the senders opened.
    connections: u64,
    /// Those that the server ended.
    ended: u64,
    /// Bytes that the senders wrote.
    bytes: u64,
    /// Part of the time that the server's one worker was busy.
    worker_busy: f64,
    kept: f64,
    victim_p99_ms: f64,
    victim_max_ms: f64,
    /// The most memory that the server had.
    memory_bytes: u64,
    /// Why there are no figures.
    pub(super) error: Option<String>,
}

/// Measures every flood whose name contains `only`.
///
/// # Errors
/// When the server does not start.
pub(super) fn run(
    only: &str,
    time: Duration,
    places: &Places,
    tell: impl Fn(&str),
) -> Result<Vec<FloodFigure>, String> {
    let floods = all();
    let wanted: Vec<&Flood> = floods
        .iter()
        .filter(|flood| flood.name.contains(only))
        .collect();
    let mut figures = Vec::new();
    for flood in wanted {
        // Each meets a fresh server, so that memory is what this one takes.
        let (server, doors) = Server::start_with_doors(places)?;
        let figure = measure(flood, &server, &doors, time).unwrap_or_else(|why| {
            tell(&format!("no figure: {}: {why}", flood.name));
            FloodFigure {
                name: flood.name,
                about: flood.about,
                error: Some(format!("{}: {why}", flood.name)),
                ..FloodFigure::default()
            }
        });
        tell(&format!("flood {}", flood.name));
        figures.push(figure);
    }
    Ok(figures)
}

/// Names of all floods.
pub(super) fn all() -> Vec<Flood> {
    let mut floods = http2::floods();
    floods.extend(tls::floods());
    floods
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    ended: AtomicU64,
    bytes: AtomicU64,
}

fn measure(
    flood: &Flood,
    server: &Server,
    doors: &Doors,
    time: Duration,
) -> Result<FloodFigure, String> {
    let port = if flood.is_tls { doors.tls } else { doors.http2 };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    check(flood, address)?;
    let (counts, is_over) = (Counts::default(), AtomicBool::new(false));
    let most = AtomicU64::new(0);
    let begun = Instant::now();
    let cpu_before = server.cpu()?;
    let outcome = thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| send(flood, address, &counts, &is_over));
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(server.memory().unwrap_or(0), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        thread::sleep(RUN_IN);
        let outcome = victim::alone(server, time);
        is_over.store(true, Ordering::Relaxed);
        outcome
    })?;
    let busy = server.cpu()?.since(cpu_before).workers as f64 / begun.elapsed().as_nanos() as f64;
    let Outcome {
        kept,
        p99_ms,
        max_ms,
    } = outcome;
    let connections = counts.connections.load(Ordering::Relaxed);
    if connections == 0 {
        return Err("no connection could be opened".to_owned());
    }
    Ok(FloodFigure {
        name: flood.name,
        about: flood.about,
        connections,
        ended: counts.ended.load(Ordering::Relaxed),
        bytes: counts.bytes.load(Ordering::Relaxed),
        worker_busy: busy,
        kept,
        victim_p99_ms: p99_ms,
        victim_max_ms: max_ms,
        memory_bytes: most.load(Ordering::Relaxed),
        error: None,
    })
}

/// Whether the server takes the client for what it is meant to be: a flood that is refused at its first byte shows
/// nothing.
fn check(flood: &Flood, address: SocketAddr) -> Result<(), String> {
    if flood.first == First::Any && !flood.is_ended {
        return Ok(());
    }
    let failed = |error: io::Error| format!("the first connection: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(failed)?;
    stream.write_all(&flood.opening).map_err(failed)?;
    if flood.first != First::Any {
        let mut bytes = [0; 64];
        let read = stream.read(&mut bytes).map_err(failed)?;
        if !flood.first.is(&bytes[..read]) {
            return Err(format!(
                "{:?} was expected, {:?} came",
                flood.first,
                &bytes[..read]
            ));
        }
    }
    if flood.is_ended {
        stream.set_nonblocking(true).map_err(failed)?;
        let (give_up, mut number) = (Instant::now() + Duration::from_secs(15), 0);
        let mut client = Sender::of(stream);
        while client.go_on(flood, &mut number) != Progress::Ended {
            if Instant::now() > give_up {
                return Err("the server never puts an end to it".to_owned());
            }
        }
    }
    Ok(())
}

fn send(flood: &Flood, address: SocketAddr, counts: &Counts, is_over: &AtomicBool) {
    let mut held: Vec<(Sender, u32)> = Vec::new();
    let at_once = if flood.holds { HELD } else { 1 };
    while !is_over.load(Ordering::Relaxed) {
        if held.len() < at_once {
            match Sender::open(address, &flood.opening) {
                Ok(sender) => {
                    counts.connections.fetch_add(1, Ordering::Relaxed);
                    counts
                        .bytes
                        .fetch_add(flood.opening.len() as u64, Ordering::Relaxed);
                    held.push((sender, 0));
                }
                // Every port is in use by connections that have just ended.
                Err(_) => thread::sleep(PAUSE),
            }
        }
        let mut is_stuck = true;
        held.retain_mut(|(sender, number)| {
            let progress = sender.go_on(flood, number);
            counts
                .bytes
                .fetch_add(std::mem::take(&mut sender.written), Ordering::Relaxed);
            is_stuck &= progress == Progress::Stuck;
            if progress == Progress::Ended {
                counts.ended.fetch_add(1, Ordering::Relaxed);
            }
            matches!(progress, Progress::Stuck | Progress::Some)
        });
        if is_stuck && held.len() >= at_once {
            thread::sleep(PAUSE);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It can neither write nor read now.
    Stuck,
    Some,
    /// The client is done.
    Done,
    /// The server put an end to it.
    Ended,
}

/// One connection of a flood.
struct Sender {
    stream: TcpStream,
    unsent: Vec<u8>,
    written: u64,
}

impl Sender {
    fn open(address: SocketAddr, opening: &[u8]) -> io::Result<Sender> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(opening)?;
        stream.set_nonblocking(true)?;
        Ok(Sender::of(stream))
    }

    fn of(stream: TcpStream) -> Sender {
        Sender {
            stream,
            unsent: Vec::new(),
            written: 0,
        }
    }

    /// Writes what is next, and reads what is there.
    fn go_on(&mut self, flood: &Flood, number: &mut u32) -> Progress {
        let mut progress = Progress::Stuck;
        let mut answer = [0; 16 << 10];
        match self.stream.read(&mut answer) {
            Ok(0) => return Progress::Ended,
            Ok(_) => progress = Progress::Some,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Progress::Ended,
        }
        if self.unsent.is_empty() {
            self.unsent = (flood.more)(*number);
            *number = number.wrapping_add(1);
            if self.unsent.is_empty() {
                // One that waits for the server's word has it now.
                let is_done =
                    !flood.holds && (flood.first == First::Any || progress == Progress::Some);
                return if is_done { Progress::Done } else { progress };
            }
        }
        match self.stream.write(&self.unsent) {
            Ok(written) => {
                self.written += written as u64;
                self.unsent.drain(..written);
                Progress::Some
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => progress,
            Err(_) => Progress::Ended,
        }
    }
}

impl FloodFigure {
    /// Every limit that it breaks.
    pub(super) fn offences(&self, kept_min: f64) -> Vec<String> {
        if let Some(error) = &self.error {
            return vec![error.clone()];
        }
        let mut offences = Vec::new();
        if self.kept < kept_min {
            offences.push(format!(
                "{}: the victim kept {:.0} %, at least {:.0}",
                self.name,
                100.0 * self.kept,
                100.0 * kept_min
            ));
        }
        if self.memory_bytes > MEMORY_MAX {
            offences.push(format!(
                "{}: {} MiB of memory, at most {}",
                self.name,
                self.memory_bytes >> 20,
                MEMORY_MAX >> 20
            ));
        }
        offences
    }

    pub(super) fn row(&self) -> String {
        format!(
            "| `{}` | {} | {} | {} | {:.1} | {:.0} % | {} | {:.0} % | {:.1} | {:.1} |",
            self.name,
            self.about,
            self.connections,
            self.ended,
            self.bytes as f64 / f64::from(1 << 20),
            100.0 * self.worker_busy,
            self.memory_bytes >> 20,
            100.0 * self.kept,
            self.victim_p99_ms,
            self.victim_max_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    #[test]
    fn floods_have_names_of_their_own_and_go_to_both_doors() {
        let floods = all();
        let names: BTreeSet<_> = floods.iter().map(|flood| flood.name).collect();
        assert_eq!(names.len(), floods.len());
        assert!(floods.iter().any(|flood| flood.is_tls));
        assert!(floods.iter().any(|flood| !flood.is_tls));
    }

    #[test]
    fn a_flood_that_the_server_never_ends_is_an_error() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let flood = Flood {
            name: "x",
            about: "",
            is_tls: false,
            opening: b"x".to_vec(),
            more: |_| Vec::new(),
            holds: false,
            first: First::Alert,
            is_ended: true,
        };
        let server = thread::spawn(move || {
            for answer in [&b"HTTP"[..], &[21]] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0]).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        // What comes is no alert; then it is one, and the server ends it.
        assert!(check(&flood, address).is_err());
        assert_eq!(check(&flood, address), Ok(()));
        server.join().unwrap();
    }

    #[test]
    fn a_victim_that_starves_and_memory_without_bound_are_offences() {
        let good = FloodFigure {
            kept: 0.9,
            memory_bytes: MEMORY_MAX,
            ..FloodFigure::default()
        };
        assert!(good.offences(0.9).is_empty());
        let starved = FloodFigure {
            kept: 0.89,
            ..good.clone()
        };
        let large = FloodFigure {
            memory_bytes: MEMORY_MAX + 1,
            ..good
        };
        assert_eq!(starved.offences(0.9).len() + large.offences(0.9).len(), 2);
    }
}
