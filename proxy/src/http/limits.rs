//! Limits of a client: sizes, counts and times.

use sluice_sinks::settings;
use sluice_sinks::settings::{HOUR_MS, KIB, MIB, MINUTE_MS, Reader, bytes, ms, number};
use std::time::Duration;

/// How long SDKs in the field wait for the response to a batch, from its first byte.
pub const CLIENT_PATIENCE_MS: u64 = 15_000;

/// Default of the body deadline. With [`ACK_DEADLINE_MS`] it fits into the patience of clients.
const BODY_DEADLINE_MS: u64 = 11_000;
/// Default of the ack deadline.
pub const ACK_DEADLINE_MS: u64 = 4_000;
const _: () = assert!(BODY_DEADLINE_MS + ACK_DEADLINE_MS <= CLIENT_PATIENCE_MS);

/// The default, which leaves an ack deadline that was written its time.
fn body_deadline(ack_deadline_ms: Option<u64>) -> Duration {
    let rest = CLIENT_PATIENCE_MS.saturating_sub(ack_deadline_ms.unwrap_or(ACK_DEADLINE_MS));
    Duration::from_millis(rest.clamp(1, BODY_DEADLINE_MS))
}

settings! {
    /// Limits of every connection. All of them are on by default.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HttpLimits from (reader) {
        /// Bytes of the request line and headers together; more is 431.
        head_bytes_max: usize = HttpLimits::HEAD_BYTES_CEILING,
            bytes(8 * KIB, HttpLimits::HEAD_BYTES_CEILING as u64);
        /// Header lines of a request; more is 431.
        headers_max: usize = HttpLimits::HEADERS_CEILING,
            number("headers", 1, HttpLimits::HEADERS_CEILING as u64);
        /// Bytes of the request target; more is 414. Below `head_bytes_max`, of which it is a part.
        target_bytes_max: usize = (head_bytes_max / 2).min(8 * 1024),
            bytes(64, HttpLimits::TARGET_BYTES_CEILING)
                .default_is("half of `head_bytes_max`, at most 8192");
        /// Time from the first byte of a request (or from accept) to the end of its head, else 408. A
        /// connection that sends nothing at all is closed after the same time, without a response.
        head_deadline as "head_deadline_ms": Duration = Duration::from_secs(10),
            ms(1, 10 * MINUTE_MS);
        /// Bytes of a request body as it is sent; more is 413.
        body_bytes_max: usize = 1024 * 1024, bytes(1, 64 * MIB);
        /// Time from the end of the head to the end of the body, else 408. With `ack.deadline_ms` at most the
        /// 15 s for which SDKs wait.
        body_deadline as "body_deadline_ms": Duration = body_deadline(reader.given("ack.deadline_ms")),
            ms(1, 10 * MINUTE_MS).default_is("11000, at most 15000 less `ack.deadline_ms`");
        /// Bytes per second that a body must keep on average after its first two seconds, else 408. 0 is no
        /// such limit.
        body_bytes_per_second_min as "body_rate_min_bytes": u64 = 500,
            number("bytes per second", 0, 10 * MIB);
        /// Requests on one connection; the response to the last one closes it.
        requests_per_connection_max: u32 = 10_000, number("requests", 1, 1_000_000_000);
        /// Age at which a connection is closed with its next response or when it is idle. Each connection
        /// takes up to a tenth off, so that many opened together do not return together.
        connection_life as "connection_life_ms": Duration = Duration::from_secs(3_600),
            ms(1, 24 * HOUR_MS);
        /// Time for which a kept-alive connection may be silent between requests. At most
        /// `connection_life_ms`.
        idle as "idle_ms": Duration = connection_life.min(Duration::from_secs(60)), ms(1, HOUR_MS);
        /// Connections open at once, over all workers; one more gets 503 to its first request. Half of the descriptor
        /// limit caps it further, so that outputs can always open files and sockets, and so does a quarter of the memory limit, at 24 KiB each.
        connections_max as "listen.connections_max": usize = 65_536,
            number("connections", 1, 1_000_000);
        /// Connections open at once from one address (IPv4) or network (IPv6 /64) that is no trusted proxy, and four
        /// times as many from an IPv6 /48; one more gets 503 to its first request. 0 is no such limit.
        connections_per_source_max as "listen.connections_per_address_max": usize =
            connections_max.min(512),
            number("connections", 0, 1_000_000).default_is("512, at most `connections_max`");
    }
    and {
        /// A body of announced length may take until then, as long as its average rate completes it in
        /// this time. A large body on a slow uplink is then not cut off shortly before its end, only for
        /// its client to send all of it again.
        body_deadline_last: Duration = body_deadline + Duration::from_secs(3);
        /// A body may be slower than `body_bytes_per_second_min` for this long after its start.
        body_grace: Duration = Duration::from_secs(2);
        /// A response is in the kernel's hands this long after it was made, or the connection is cut.
        answer_deadline: Duration = Duration::from_secs(10);
    }
}

impl HttpLimits {
    /// The highest `head_bytes_max`: what a balancer passes on at most, cookies and signed claims included.
    pub const HEAD_BYTES_CEILING: usize = 32 * 1024;
    /// The highest `headers_max`: what common proxies pass on at most.
    pub const HEADERS_CEILING: usize = 100;
    /// The highest `target_bytes_max`: the `http` crate holds a target's length in 16 bits.
    pub const TARGET_BYTES_CEILING: u64 = 65_534;
    /// Bytes that are read at once: a body of 16 KiB with its head. What comes with a request, beyond it, is what a
    /// connection reads ahead at most.
    pub const READ_BYTES: usize = 20 * 1024;
    /// The unread rest of a body that is read and thrown away after an early answer, so that the
    /// connection can go on; with more left, or an unknown rest, the connection is closed.
    pub const DISCARD_BYTES_MAX: u64 = 64 * 1024;
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits::read(&mut Reader::default())
    }
}

impl HttpLimits {
    /// Rules between settings.
    pub fn check(&self, reader: &mut Reader) {
        let target = reader.number("target_bytes_max");
        let head = reader.number("head_bytes_max");
        reader.below(&target, &head, "the target is a part of the head");
        let idle = reader.number("idle_ms");
        let life = reader.number("connection_life_ms");
        reader.at_most(&idle, &life, "it could never be reached");
        let per_address = reader.number("listen.connections_per_address_max");
        let connections = reader.number("listen.connections_max");
        let why = "it could never be reached (0 switches it off)";
        reader.at_most(&per_address, &connections, why);
    }
}
