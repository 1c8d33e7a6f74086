//! A worker's connections: opened, written, read and closed, and in which state each one is.
//! The worker decides when each request goes out and what a response means.

use super::{BACKOFF_MAX_NS, BACKOFF_MIN_NS, OPENING_MAX, Worker};
use crate::answer::{AnswerReader, BadAnswer};
use crate::run::ANSWER_BYTES_MAX;
use crate::run::stream::{Opening, Stream};
use crate::run::tally::Failure;
use mio::{Interest, Token};
use std::collections::VecDeque;
use std::io::ErrorKind;

#[derive(Debug)]
pub(super) enum State {
    /// May be opened from this time on; 0 when it was never tried.
    Closed {
        retry_at: u64,
    },
    Connecting {
        since: u64,
    },
    Open {
        /// Since when it can take another request.
        free_since: u64,
    },
    /// Its last request, which asked the server to close it, was answered.
    Closing {
        since: u64,
    },
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) intended: u64,
    pub(super) started: u64,
    /// Sequence number of its first event.
    pub(super) first: u64,
    pub(super) events: u32,
    pub(super) preflight: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) stream: Option<Stream>,
    /// Answers come in this order.
    pub(super) in_flight: VecDeque<InFlight>,
    /// Requests since it was opened, the one that it was opened for included.
    pub(super) requests: u64,
    /// When its opening began.
    pub(super) opening_since: u64,
    /// When TCP was connected, while TLS is not.
    tcp_connected: Option<u64>,
    /// Request bytes that are not written yet.
    pub(super) unwritten: Vec<u8>,
    /// The bytes of an unfinished answer.
    pub(super) partial: Vec<u8>,
    pub(super) reader: AnswerReader,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Whether it is in the queue of connections that can take a request.
    pub(super) queued: bool,
}

impl Connection {
    /// One that was never tried.
    pub(super) fn new() -> Connection {
        Connection {
            state: State::Closed { retry_at: 0 },
            stream: None,
            in_flight: VecDeque::with_capacity(1),
            requests: 0,
            opening_since: 0,
            tcp_connected: None,
            unwritten: Vec::new(),
            partial: Vec::new(),
            reader: AnswerReader::new(ANSWER_BYTES_MAX),
            failures: 0,
            queued: false,
        }
    }
}

impl Worker<'_> {
    /// Starts to open a connection.
    pub(super) fn open(&mut self, at: usize, now: u64) {
        let opened = Stream::open(&self.task.peer).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(stream.socket(), Token(at), interest)?;
            Ok(stream)
        });
        self.opening += 1;
        self.connections[at].state = State::Connecting { since: now };
        self.connections[at].opening_since = now;
        self.connections[at].tcp_connected = None;
        match opened {
            Ok(stream) => self.connections[at].stream = Some(stream),
            Err(error) => self.connect_failed(at, Failure::of_connect(&error), now),
        }
    }

    /// The connection cannot be opened; a request that it was opened for fails with it.
    pub(super) fn connect_failed(&mut self, at: usize, failure: Failure, now: u64) {
        *self.tally.connect_failures.entry(failure).or_default() += 1;
        self.fail(at, failure, now);
    }

    fn connected(&mut self, at: usize, now: u64) {
        let Some(stream) = &mut self.connections[at].stream else {
            return;
        };
        match stream.opened() {
            Err(error) => self.connect_failed(at, Failure::of_connect(&error), now),
            Ok(Opening::Connecting) => {}
            Ok(Opening::ShakingHands) => {
                self.connections[at].tcp_connected.get_or_insert(now);
            }
            Ok(Opening::Ready) => {
                self.opening -= 1;
                self.tally.connects += 1;
                self.last_open = now;
                let connection = &mut self.connections[at];
                let tcp = connection.tcp_connected.take().unwrap_or(now);
                let connect = tcp.saturating_sub(connection.opening_since);
                self.tally.connect_times.saturating_record(connect);
                if self.task.peer.tls.is_some() {
                    let handshake = now.saturating_sub(tcp);
                    self.tally.handshake_times.saturating_record(handshake);
                }
                connection.state = State::Open { free_since: now };
                // The request that it was opened for.
                if connection.unwritten.is_empty() || self.write(at, now) {
                    self.queue(at, now);
                }
            }
        }
    }

    /// Closes a connection on which no request waits, and says when it may be opened again: at once
    /// when it worked before, else after a wait that doubles with each failure in a row.
    pub(super) fn close(&mut self, at: usize, now: u64) {
        let connection = &mut self.connections[at];
        if let State::Connecting { .. } = connection.state {
            self.opening -= 1;
        }
        connection.requests = 0;
        // Dropping the stream closes it, and takes it out of the epoll set.
        connection.stream = None;
        connection.unwritten.clear();
        connection.partial.clear();
        connection.reader = AnswerReader::new(ANSWER_BYTES_MAX);
        let retry_at = match connection.failures {
            0 => now,
            failures => {
                let doubled = BACKOFF_MIN_NS << (failures - 1).min(7);
                let wait = doubled.min(BACKOFF_MAX_NS);
                now + wait / 2 + self.rng.u64(0..=wait / 2)
            }
        };
        // Zero means never tried.
        connection.state = State::Closed {
            retry_at: retry_at.max(1),
        };
        if connection.failures == 0 {
            self.reopen(at, now);
        }
    }

    /// Opens a closed connection that may be opened again, or keeps it for the request that it will
    /// be opened for.
    pub(super) fn reopen(&mut self, at: usize, now: u64) {
        if self.task.opens_on_demand() {
            self.queue(at, now);
        } else if self.opening < OPENING_MAX {
            self.open(at, now);
        }
    }

    /// Queues a connection that can take a request.
    pub(super) fn queue(&mut self, at: usize, now: u64) {
        if !self.connections[at].queued && self.has_room(at, now) {
            self.connections[at].queued = true;
            self.idle.push_back(at);
        }
    }

    /// Whether another request may be given to a connection now.
    pub(super) fn has_room(&self, at: usize, now: u64) -> bool {
        let connection = &self.connections[at];
        match connection.state {
            State::Closed { retry_at } => self.task.opens_on_demand() && retry_at <= now,
            State::Connecting { .. } | State::Closing { .. } => false,
            State::Open { .. } => {
                connection.in_flight.len() < self.task.pipeline
                    && Some(connection.requests) != self.task.requests_per_connection
            }
        }
    }

    /// Something happened on a connection.
    pub(super) fn ready(&mut self, at: usize, read_closed: bool) {
        let now = self.shared.now();
        match self.connections[at].state {
            State::Closed { .. } => {}
            State::Connecting { .. } => self.connected(at, now),
            State::Open { .. } | State::Closing { .. } => {
                if self.write(at, now) {
                    self.read(at, read_closed);
                }
            }
        }
    }

    /// Goes on writing requests. Returns whether the connection is still open.
    fn write(&mut self, at: usize, now: u64) -> bool {
        let connection = &mut self.connections[at];
        let Some(stream) = &mut connection.stream else {
            return false;
        };
        let written = match connection.unwritten.is_empty() {
            true => stream.flush().map(|_| 0),
            false => stream.write(&connection.unwritten),
        };
        match written {
            Ok(written) => {
                connection.unwritten.drain(..written);
                true
            }
            // An answer may have come before the peer stopped reading.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => true,
            Err(error) => {
                self.fail(at, Failure::of(&error), now);
                false
            }
        }
    }

    fn read(&mut self, at: usize, read_closed: bool) {
        // Taken for the while, so that what was read and the rest of self can be used together.
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(stream) = &mut self.connections[at].stream {
            let short_is_last = stream.short_read_is_last();
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.end_of_stream(at);
                    break;
                }
                Ok(count) => {
                    self.tally.bytes_in += count as u64;
                    let open = self.received(at, &buffer[..count]);
                    // Less than asked for means that nothing is left, unless the end is near.
                    if !open || (count < buffer.len() && !read_closed && short_is_last) {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let now = self.shared.now();
                    match self.connections[at].in_flight.is_empty() {
                        false => self.fail(at, Failure::of(&error), now),
                        true => self.closed_idle(at, now),
                    }
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes bytes that came. Returns whether the connection is open and may have more.
    fn received(&mut self, at: usize, bytes: &[u8]) -> bool {
        let now = self.shared.now();
        let connection = &mut self.connections[at];
        if connection.in_flight.is_empty() {
            // Nobody asked.
            *self
                .tally
                .connect_failures
                .entry(Failure::BadAnswer)
                .or_default() += 1;
            self.fail(at, Failure::BadAnswer, now);
            return false;
        }
        // Most answers come whole, and are read where they lie.
        let mut partial = std::mem::take(&mut connection.partial);
        let joined = !partial.is_empty();
        if joined {
            partial.extend_from_slice(bytes);
        }
        let so_far = if joined { &partial } else { bytes };
        let mut read = 0;
        while read < so_far.len() {
            let rest = &so_far[read..];
            match self.connections[at].reader.read(rest, false) {
                Ok(Some(answer)) => {
                    if !self.complete(at, &answer, rest, now) {
                        return false;
                    }
                    read += answer.length;
                }
                Ok(None) => break,
                Err(bad) => {
                    let failure = match bad {
                        BadAnswer::Malformed => Failure::BadAnswer,
                        BadAnswer::TooLarge => Failure::AnswerTooLarge,
                    };
                    self.fail(at, failure, now);
                    return false;
                }
            }
        }
        if joined {
            partial.drain(..read);
        } else {
            partial.extend_from_slice(&bytes[read..]);
        }
        self.connections[at].partial = partial;
        true
    }

    fn end_of_stream(&mut self, at: usize) {
        let now = self.shared.now();
        let connection = &mut self.connections[at];
        if connection.in_flight.is_empty() {
            return self.closed_idle(at, now);
        }
        let partial = std::mem::take(&mut connection.partial);
        match connection.reader.read(&partial, true) {
            Ok(Some(answer)) => {
                self.complete(at, &answer, &partial, now);
                // The server has closed it, as requested.
                if let State::Closing { .. } = self.connections[at].state {
                    self.close(at, now);
                }
            }
            _ => self.fail(at, Failure::Closed, now),
        }
    }

    /// The server closed a connection that waits for no answer.
    fn closed_idle(&mut self, at: usize, now: u64) {
        let connection = &mut self.connections[at];
        match connection.state {
            // As requested.
            State::Closing { .. } => return self.close(at, now),
            // Does not hammer a server that closes connections right after accepting them.
            State::Open { free_since } if free_since + BACKOFF_MIN_NS > now => {
                connection.failures += 1;
            }
            _ => {}
        }
        self.closed_by_server(at, now);
    }

    pub(super) fn closed_by_server(&mut self, at: usize, now: u64) {
        self.tally.closed_by_server += 1;
        self.give_up(at, Failure::Closed, now);
        self.close(at, now);
    }
}
