//! Sends one kind of request in a closed loop and takes the server's CPU time for it, once the counts agree.

use super::kinds::Kind;
use super::server::{Counted, Server};
use super::wire::{Client, Exchange, Seen};
use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Connections that send at once: a worker that is woken for one request alone would make every kind look alike.
pub(super) const CONNECTIONS: usize = 4;

/// Headers of TCP and IPv4, with timestamps, that each segment has on the wire, and the content of one on Ethernet.
const SEGMENT_HEADER_BYTES: usize = 52;
const SEGMENT_BYTES: usize = 1_448;

/// Segments that a client sends for a connection beside its requests: SYN, which is 8 bytes longer, and three of no
/// content.
const CONNECTION_BYTES: usize = 8 + 4 * SEGMENT_HEADER_BYTES;

/// What one request of a kind costs the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Requests that were sent.
    pub(super) requests: u64,
    /// CPU time of all threads per request, in microseconds.
    pub(super) cpu_us: f64,
    /// The part of it that the serving thread spent.
    pub(super) worker_us: f64,
    /// CPU time per byte sent, in nanoseconds.
    pub(super) ns_per_byte: f64,
    /// Requests that were prepared on another thread, of 1.
    pub(super) offloaded: f64,
}

impl Kind {
    pub(super) fn exchange(&self) -> Exchange<'_> {
        Exchange {
            bytes: &self.bytes,
            responses: self.requests,
            own_connection: self.own_connection,
        }
    }

    /// Bytes that one send has on the wire. What a client sends to acknowledge responses is left out.
    pub(super) fn wire_bytes(&self) -> usize {
        let segments = self.bytes.len().div_ceil(SEGMENT_BYTES);
        let connection = if self.own_connection {
            CONNECTION_BYTES
        } else {
            0
        };
        self.bytes.len() + segments * SEGMENT_HEADER_BYTES + connection
    }
}

/// Sends for this long.
///
/// # Errors
/// When the server does not answer, or counts differ from what the kind states.
pub(super) fn sample(server: &Server, kind: &Kind, time: Duration) -> Result<Sample, String> {
    let context = |error: String| format!("{}: {error}", kind.name);
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| Client::new(server.port()))
        .collect();
    if !kind.own_connection {
        for client in &mut clients {
            client.open().map_err(|error| context(error.to_string()))?;
        }
    }
    let before = server.counted()?;
    let cpu_before = server.cpu()?;
    let end = Instant::now() + time;
    let exchange = kind.exchange();
    let sent: io::Result<Vec<()>> = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| client.send_until(end, &exchange)))
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::Other.into()),
        });
        joined.collect()
    });
    sent.map_err(|error| context(error.to_string()))?;
    let mut seen = Seen::default();
    for client in &clients {
        seen.add(&client.seen);
    }
    // Connections in the midst of their end count for the kind, too.
    drop(clients);
    let requests = seen.sends * kind.requests as u64;
    check_statuses(kind, &seen.statuses, requests).map_err(context)?;
    let expected = Counted {
        delivered: requests * kind.accepted,
        rejected: requests * kind.rejected,
        responses: requests,
        offloaded: 0,
    };
    let is_as_expected = |counted: &Counted| {
        let counted = counted.since(before);
        Counted {
            offloaded: 0,
            ..counted
        } == expected
    };
    let counted = server.settled(is_as_expected)?;
    if !is_as_expected(&counted) {
        let counted = counted.since(before);
        return Err(context(format!(
            "{requests} requests should have become {expected:?}, the server counted {counted:?}"
        )));
    }
    let cpu = server.cpu()?.since(cpu_before);
    let counted = counted.since(before);
    let per_request = |nanos: u64| nanos as f64 / requests as f64;
    let bytes = seen.sends as f64 * kind.wire_bytes() as f64;
    Ok(Sample {
        requests,
        cpu_us: per_request(cpu.all) / 1e3,
        worker_us: per_request(cpu.workers) / 1e3,
        ns_per_byte: cpu.all as f64 / bytes,
        offloaded: counted.offloaded as f64 / requests as f64,
    })
}

fn check_statuses(kind: &Kind, seen: &BTreeMap<u16, u64>, requests: u64) -> Result<(), String> {
    if requests == 0 {
        return Err("nothing was sent".to_owned());
    }
    if *seen == BTreeMap::from([(kind.status, requests)]) {
        return Ok(());
    }
    Err(format!(
        "{requests} responses of {} were expected, these came: {seen:?}",
        kind.status
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::kinds::{plain, plain_alone};

    #[test]
    fn headers_of_segments_are_bytes_on_the_wire() {
        assert_eq!(plain().wire_bytes(), 1_083 + 52);
        assert_eq!(plain_alone().wire_bytes(), 1_083 + 52 + 60 + 3 * 52);
        let long = Kind {
            bytes: vec![0; 1_449],
            ..plain()
        };
        assert_eq!(long.wire_bytes(), 1_449 + 2 * 52);
    }

    #[test]
    fn responses_of_another_status_are_an_error() {
        let kind = plain();
        let check = |seen: &[(u16, u64)], requests| {
            check_statuses(&kind, &seen.iter().copied().collect(), requests)
        };
        assert_eq!(check(&[(200, 5)], 5), Ok(()));
        assert!(check(&[(200, 4)], 5).is_err());
        assert!(check(&[(200, 4), (503, 1)], 5).is_err());
        assert!(check(&[], 0).is_err());
    }
}
