//! What one client may take from us, in numbers.

use std::time::Duration;

/// The bounds that every connection is held to. All of them are on by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a request head, from the request line to the empty line; more is 431.
    /// At most [`HttpLimits::HEAD_BYTES_CEILING`].
    pub head_bytes_max: usize,
    /// Header lines of a request; more is 431. At most [`HttpLimits::HEADERS_CEILING`].
    pub headers_max: usize,
    /// Bytes of the request target; more is 414. RFC 9112 section 3 wants room for 8,000 in the line.
    pub target_bytes_max: usize,
    /// A head is complete this long after its first byte, or the answer is 408. A connection that
    /// sends nothing at all is closed after the same time, without an answer.
    pub head_deadline: Duration,
    /// Bytes of a body as sent; more is 413. It is for the handler to pass to
    /// [`Body::read`](super::Body::read).
    pub body_bytes_max: usize,
    /// A body is complete this long after the handler began to read it, or reading ends with
    /// [`BodyError::TooSlow`](super::BodyError::TooSlow).
    pub body_deadline: Duration,
    /// A body of announced length may take until then, as long as its average rate completes it in
    /// this time. A large body on a slow uplink is then not cut off shortly before its end, only for
    /// its client to send all of it again.
    pub body_deadline_last: Duration,
    /// Bytes per second that a body's average must keep once `body_grace` is over.
    pub body_bytes_per_second_min: u64,
    /// For this long after its start a body may be slower than that.
    pub body_grace: Duration,
    /// An answer is in the kernel's hands this long after it was made, or the connection is cut.
    pub answer_deadline: Duration,
    /// A connection without a request for this long is closed.
    pub idle: Duration,
    /// Requests on one connection; the last one is answered with `Connection: close`.
    pub requests_per_connection_max: u32,
    /// At this age a connection is closed with its next answer or when it is idle. Each
    /// connection takes up to a tenth off, so that many opened together do not return together.
    pub connection_life: Duration,
    /// Connections of the process; one more is closed at accept. Half the descriptor limit bounds
    /// it, too, so that outputs can always open files and sockets.
    pub connections_max: usize,
    /// Connections from one source (an IPv4 address, an IPv6 /64) that is no proxy of one's own; one
    /// more is closed at accept. 0 turns it off.
    pub connections_per_source_max: usize,
}

impl HttpLimits {
    /// The highest `head_bytes_max`: a head has to fit into the engine's buffer of
    /// [`HttpLimits::READ_AHEAD_BYTES`].
    pub const HEAD_BYTES_CEILING: usize = 32 * 1024;
    /// The highest `headers_max`: the engine's table on the stack has 100 places.
    pub const HEADERS_CEILING: usize = 100;
    /// Bytes that are read ahead of the request being handled, per connection.
    pub const READ_AHEAD_BYTES: usize = 64 * 1024;
    /// The unread rest of a body that is read and thrown away after an early answer, so that the
    /// connection can go on; with more left, or an unknown rest, the connection is closed.
    pub const DISCARD_BYTES_MAX: u64 = 64 * 1024;
}

const _: () = assert!(HttpLimits::HEAD_BYTES_CEILING < HttpLimits::READ_AHEAD_BYTES);

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            head_bytes_max: HttpLimits::HEAD_BYTES_CEILING,
            headers_max: HttpLimits::HEADERS_CEILING,
            target_bytes_max: 8 * 1024,
            head_deadline: Duration::from_secs(10),
            body_bytes_max: 1024 * 1024,
            body_deadline: Duration::from_secs(11),
            body_deadline_last: Duration::from_secs(14),
            body_bytes_per_second_min: 500,
            body_grace: Duration::from_secs(2),
            answer_deadline: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            requests_per_connection_max: 10_000,
            connection_life: Duration::from_secs(3_600),
            connections_max: 65_536,
            connections_per_source_max: 512,
        }
    }
}
