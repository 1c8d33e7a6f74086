//! Counters, gauges and histograms in plain blocks, one block per core, read by the exporter.
//!
//! Each block has one writing thread, so an increment is a load and a store, not a locked
//! instruction; a reader on another thread sees values slightly late, never torn.

use crate::cause::Cause;
use crate::circuit::CircuitState;
use crate::intake::OutputTally;
use crate::lanes::PacedLane;
use crate::letter::{LetterTally, Reason};
use crate::priority::Priority;
use crate::privacy::{Tally, Withheld};
use crate::schema::{Outcome, SchemaStats};
use crate::server_fields::{Clashes, ServerField};
use crate::time::micros;
use std::cmp::Reverse;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lanes of a writer that the metrics show one by one.
pub const LANES_SHOWN_MAX: usize = 50;

/// A number that only grows. Written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Sets a count kept elsewhere on the writing thread. It must not decrease.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that moves both ways. Written by one thread.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of observations in fixed buckets, and their sum. Written by one thread.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [Counter; N],
    over: Counter,
    sum: Counter,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram; a value falls into the first bucket whose bound is not below it.
    #[must_use]
    pub fn new(bounds: &'static [u64; N]) -> Self {
        Histogram {
            bounds,
            counts: [const { Counter(AtomicU64::new(0)) }; N],
            over: Counter::default(),
            sum: Counter::default(),
        }
    }

    /// Counts one observation.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(bucket).unwrap_or(&self.over).increment();
        self.sum.add(value);
    }

    /// The upper bounds, ascending; what is above the last one is in [`Histogram::over`].
    #[must_use]
    pub fn bounds(&self) -> &'static [u64; N] {
        self.bounds
    }

    /// How many observations each bucket holds (not cumulative).
    #[must_use]
    pub fn counts(&self) -> [u64; N] {
        std::array::from_fn(|at| self.counts[at].get())
    }

    /// How many observations lie above the last bound.
    #[must_use]
    pub fn over(&self) -> u64 {
        self.over.get()
    }

    /// The sum of all observations.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

/// Bounds of latency histograms, microseconds.
pub static LATENCY_MICROS: [u64; 18] = [
    250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    // 3.9 s tells answers just under the default ack deadline of 4 s from those at it.
    2_000_000, 3_000_000, 3_900_000, 4_000_000, 5_000_000, 10_000_000,
];

/// Bounds of the records-per-call histogram; 500 is the ceiling of PutRecords.
pub static BATCH_RECORDS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

/// Bounds of the bytes-per-call histogram.
pub static BATCH_BYTES: [u64; 8] = [
    1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 10_485_760,
];

/// Which endpoint a response is counted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointLabel {
    /// One record per request.
    Collect,
    /// One record per event.
    Events,
    /// Events in a query string.
    Pixel,
    /// The server's clock.
    Ping,
    /// The balancer's health check.
    Health,
    /// None: an unknown path, or a request that no handler saw.
    #[default]
    None,
}

impl EndpointLabel {
    /// All of them.
    pub const ALL: [EndpointLabel; 6] = [
        EndpointLabel::Collect,
        EndpointLabel::Events,
        EndpointLabel::Pixel,
        EndpointLabel::Ping,
        EndpointLabel::Health,
        EndpointLabel::None,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            EndpointLabel::Collect => "collect",
            EndpointLabel::Events => "events",
            EndpointLabel::Pixel => "pixel",
            EndpointLabel::Ping => "ping",
            EndpointLabel::Health => "health",
            EndpointLabel::None => "none",
        }
    }
}

/// Counters of one listener core for one endpoint.
#[derive(Debug)]
pub struct EndpointStats {
    /// Indexed by status - 100 (0..500).
    responses: Box<[Counter]>,
    /// From the end of a request's head to its response.
    pub latency_micros: Histogram<18>,
}

impl EndpointStats {
    fn new() -> EndpointStats {
        EndpointStats {
            responses: (0..500).map(|_| Counter::default()).collect(),
            latency_micros: Histogram::new(&LATENCY_MICROS),
        }
    }

    /// Responses with this status.
    #[must_use]
    pub fn responses(&self, status: u16) -> u64 {
        let at = usize::from(status).wrapping_sub(100);
        self.responses.get(at).map_or(0, Counter::get)
    }
}

/// Counters of one listener core.
#[derive(Debug)]
pub struct WorkerStats {
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections refused because the process had as many as it may.
    pub connections_capped: Counter,
    /// Connections refused because their address had as many as it may.
    pub connections_capped_by_address: Counter,
    /// Idle connections closed for new ones.
    pub connections_evicted: Counter,
    /// HTTP/2 connections closed because they sent too many frames that ask for nothing.
    pub http2_floods: Counter,
    /// Connections closed because the required PROXY header was missing or invalid.
    pub proxy_headers_refused: Counter,
    /// TLS handshakes from the beginning.
    pub tls_full: Counter,
    /// TLS handshakes that a ticket shortened.
    pub tls_resumed: Counter,
    /// TLS handshakes that failed, or took too long.
    pub tls_failed: Counter,
    /// Errors of accept(2), mostly from exhausted descriptors.
    pub accept_errors: Counter,
    /// Connections open now.
    pub connections_open: Gauge,
    /// Bytes read from client connections.
    pub bytes_received: Counter,
    /// Bytes written to client connections.
    pub bytes_sent: Counter,
    /// Indexed as [`EndpointLabel::ALL`].
    endpoints: [EndpointStats; EndpointLabel::ALL.len()],
    /// Requests that disconnected before an answer could be sent.
    pub broken_off: Counter,
    /// Events (event mode) or requests (envelope mode) that arrived in readable bodies.
    pub events_received: Counter,
    /// Of these, handed to every output.
    pub events_accepted: Counter,
    /// Of these, refused to the client.
    pub events_rejected: Counter,
    /// Of these, shed for lack of capacity: submitted to no output, and answered 503.
    /// `received == accepted + rejected + shed + withheld`.
    pub events_shed: Counter,
    /// Of these, not stored and answered as if they were, by reason as in [`Withheld::ALL`].
    pub events_withheld: [Counter; Withheld::ALL.len()],
    /// Letters handed to the output of dead letters, or lost, by reason as in [`Reason::ALL`].
    pub letters_written: [Counter; Reason::ALL.len()],
    /// Refused events whose letters would have been out of proportion to their request.
    pub letters_over: Counter,
    /// Letters about refused events for which their output, or the byte budget, had no room.
    pub letters_without_room: Counter,
    /// Letters about refused events that their output did not deliver.
    pub letters_not_delivered: Counter,
    /// Fields of clients that have names of the server's, by [`ServerField::ALL`].
    pub server_field_clashes: [Counter; ServerField::ALL.len()],
    /// Values of events and requests that privacy dropped, masked, cut or hashed, and addresses.
    pub privacy_dropped: Counter,
    /// See [`WorkerStats::privacy_dropped`].
    pub privacy_masked: Counter,
    /// See [`WorkerStats::privacy_dropped`].
    pub privacy_truncated: Counter,
    /// See [`WorkerStats::privacy_dropped`].
    pub privacy_hashed: Counter,
    /// See [`WorkerStats::privacy_dropped`].
    pub privacy_addresses: Counter,
    /// Valid events that named no usable topic, or one over the limit; they use the fallback topic.
    pub events_without_topic: Counter,
    /// Requests whose X-Forwarded-For was ignored because their peer is not trusted.
    pub forwarded_for_untrusted: Counter,
    /// Requests of trusted peers whose X-Forwarded-For held something that is no address.
    pub forwarded_for_invalid: Counter,
    /// Bytes of bodies that became records, or rejects, as they were sent.
    pub body_bytes: Counter,
    /// The same bodies once they were unpacked.
    pub unpacked_bytes: Counter,
    /// Bodies that were prepared on another thread for their size.
    pub bodies_offloaded: Counter,
    /// Bytes of bodies and records that the byte budget holds now.
    pub budget_bytes: Gauge,
    /// Requests answered 503 because the byte budget was used up.
    pub shed_budget: Counter,
    /// Requests answered 503 because an output's queue was full.
    pub shed_queue: Counter,
    /// Requests answered 503 because an output has failed for long.
    pub shed_circuit: Counter,
    /// Of these, requests whose events had been read, by the priority that counted, as in [`Priority::ALL`].
    pub shed_by_priority: [Counter; Priority::ALL.len()],
    /// Requests answered 503 because the ack deadline passed.
    pub deadline_passed: Counter,
    /// From the end of the body to the last required settlement.
    pub ack_latency_micros: Histogram<18>,
    /// The I/O driver that runs: 1 io_uring with all flags, 2 plain io_uring, 3 epoll, 0 not yet known.
    pub driver: Gauge,
    /// Per output, in configuration order.
    pub outputs: Box<[OutputStats]>,
    /// Per rule of routing, in configuration order, the events that none matched last.
    pub rules: Box<[RuleStats]>,
    /// Per schema, in the order of their ids.
    pub schemas: Box<[SchemaStats]>,
}

/// Counters of one listener core for one rule of routing.
#[derive(Debug, Default)]
pub struct RuleStats {
    /// Events that it matched.
    pub events: Counter,
    /// Of these, left out of its sample.
    pub sampled_away: Counter,
    /// Of these, sent to the default topic instead of one of their own.
    pub without_topic: Counter,
}

impl WorkerStats {
    /// A block for `outputs` outputs and `rules` rules, the unmatched events included, all zero.
    #[must_use]
    pub fn new(outputs: usize, rules: usize) -> Self {
        WorkerStats {
            connections_accepted: Counter::default(),
            connections_capped: Counter::default(),
            connections_capped_by_address: Counter::default(),
            connections_evicted: Counter::default(),
            http2_floods: Counter::default(),
            proxy_headers_refused: Counter::default(),
            tls_full: Counter::default(),
            tls_resumed: Counter::default(),
            tls_failed: Counter::default(),
            accept_errors: Counter::default(),
            connections_open: Gauge::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            endpoints: std::array::from_fn(|_| EndpointStats::new()),
            broken_off: Counter::default(),
            events_received: Counter::default(),
            events_accepted: Counter::default(),
            events_rejected: Counter::default(),
            events_shed: Counter::default(),
            events_withheld: Default::default(),
            letters_written: Default::default(),
            letters_over: Counter::default(),
            letters_without_room: Counter::default(),
            letters_not_delivered: Counter::default(),
            server_field_clashes: Default::default(),
            privacy_dropped: Counter::default(),
            privacy_masked: Counter::default(),
            privacy_truncated: Counter::default(),
            privacy_hashed: Counter::default(),
            privacy_addresses: Counter::default(),
            events_without_topic: Counter::default(),
            forwarded_for_untrusted: Counter::default(),
            forwarded_for_invalid: Counter::default(),
            body_bytes: Counter::default(),
            unpacked_bytes: Counter::default(),
            bodies_offloaded: Counter::default(),
            budget_bytes: Gauge::default(),
            shed_budget: Counter::default(),
            shed_queue: Counter::default(),
            shed_circuit: Counter::default(),
            shed_by_priority: Default::default(),
            deadline_passed: Counter::default(),
            ack_latency_micros: Histogram::new(&LATENCY_MICROS),
            driver: Gauge::default(),
            outputs: (0..outputs).map(|_| OutputStats::default()).collect(),
            rules: (0..rules).map(|_| RuleStats::default()).collect(),
            schemas: Box::default(),
        }
    }

    /// A block with room for this many schemas.
    #[must_use]
    pub fn with_schemas(self, schemas: usize) -> Self {
        WorkerStats {
            schemas: (0..schemas).map(|_| SchemaStats::default()).collect(),
            ..self
        }
    }

    /// Counts what checks of schemas found in one request.
    pub fn checked(&self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            if let Some(stats) = self.schemas.get(usize::from(outcome.schema.0)) {
                stats.count(outcome.result);
            }
        }
    }

    /// Counts what privacy did with one request.
    pub fn treated(&self, tally: &Tally) {
        // Mostly nothing is configured.
        if *tally == Tally::default() {
            return;
        }
        self.privacy_dropped.add(tally.dropped);
        self.privacy_masked.add(tally.masked);
        self.privacy_truncated.add(tally.truncated);
        self.privacy_hashed.add(tally.hashed);
        self.privacy_addresses.add(tally.addresses);
        for (counter, events) in self.events_withheld.iter().zip(tally.withheld) {
            counter.add(events);
        }
    }

    /// Counts the letters of one request.
    pub fn wrote(&self, tally: &LetterTally) {
        if *tally == LetterTally::default() {
            return;
        }
        for (counter, letters) in self.letters_written.iter().zip(tally.written) {
            counter.add(letters);
        }
        self.letters_over.add(tally.lost);
    }

    /// Counts the fields of one request that clashed with the server's.
    pub fn clashed(&self, clashes: &Clashes) {
        if *clashes == Clashes::default() {
            return;
        }
        for (counter, events) in self.server_field_clashes.iter().zip(clashes) {
            counter.add(*events);
        }
    }

    /// The counters of one endpoint.
    #[must_use]
    pub fn endpoint(&self, endpoint: EndpointLabel) -> &EndpointStats {
        &self.endpoints[endpoint as usize]
    }

    /// Counts a response, and its latency if the whole head had arrived.
    pub fn answered(&self, endpoint: EndpointLabel, status: u16, latency: Option<Duration>) {
        let endpoint = self.endpoint(endpoint);
        let at = usize::from(status).wrapping_sub(100);
        if let Some(counter) = endpoint.responses.get(at) {
            counter.increment();
        }
        if let Some(latency) = latency {
            endpoint.latency_micros.observe(micros(latency));
        }
    }

    /// Responses of all endpoints with this status.
    #[must_use]
    pub fn responses(&self, status: u16) -> u64 {
        self.endpoints
            .iter()
            .map(|endpoint| endpoint.responses(status))
            .sum()
    }
}

/// One listener core's counters for one output. At every moment
/// `accepted == delivered + spooled + the sum of refused + pending`.
#[derive(Debug, Default)]
pub struct OutputStats {
    /// Records handed to the output.
    pub accepted: Counter,
    /// Records that the destination confirmed.
    pub delivered: Counter,
    /// Records that the output's spool keeps.
    pub spooled: Counter,
    /// Records not delivered, by cause, indexed as [`Cause::ALL`].
    pub refused: [Counter; Cause::ALL.len()],
    /// Records without a result yet.
    pub pending: Gauge,
    /// Their bytes.
    pub pending_bytes: Gauge,
    /// Bytes that may be pending: the configured bound, or less while the destination throttles.
    pub capacity_bytes: Gauge,
    /// Records confirmed after their client was answered 503; expect a duplicate of each.
    pub delivered_late: Counter,
    /// Records meant for the output that another got in its place.
    pub diverted: Counter,
}

impl OutputStats {
    /// Copies the counts of a core's intake.
    pub fn publish(&self, tally: &OutputTally) {
        self.accepted.set(tally.accepted);
        self.delivered.set(tally.delivered);
        self.spooled.set(tally.spooled);
        for (counter, refused) in self.refused.iter().zip(tally.refused) {
            counter.set(refused);
        }
        self.pending.set(tally.pending);
        self.pending_bytes.set(tally.pending_bytes);
        self.capacity_bytes.set(tally.capacity_bytes);
        self.delivered_late.set(tally.delivered_late);
        self.diverted.set(tally.diverted);
    }
}

/// Counters of one writer.
#[derive(Debug)]
pub struct WriterStats {
    /// Calls of the sink that ended.
    pub calls: Counter,
    /// Calls running now.
    pub calls_in_flight: Gauge,
    /// Records per call.
    pub batch_records: Histogram<10>,
    /// Bytes per call.
    pub batch_bytes: Histogram<8>,
    /// How long calls took.
    pub call_micros: Histogram<18>,
    /// Results that asked for another try, by cause, indexed as [`Cause::ALL`].
    pub retries: [Counter; Cause::ALL.len()],
    /// Records the writer holds.
    pub held: Gauge,
    /// The number of its [`CircuitState`].
    pub circuit: Gauge,
    /// How often the circuit has opened.
    pub circuit_opened: Counter,
    /// Lanes that are paced now, as of the last look; at most [`LANES_SHOWN_MAX`], those that most waits for.
    pub lanes: Mutex<Vec<PacedLane>>,
    /// How many there are.
    pub lanes_paced: Gauge,
    /// Records refused because too many waited for their lane.
    pub lanes_shed: Counter,
    /// How many lanes the destination should have; 0 while those that it has will do.
    pub lanes_wanted: Gauge,
    /// Microseconds of the monotonic clock when a call last delivered anything, 0 before the first.
    pub last_delivery_micros: Gauge,
}

impl Default for WriterStats {
    fn default() -> Self {
        WriterStats {
            calls: Counter::default(),
            calls_in_flight: Gauge::default(),
            batch_records: Histogram::new(&BATCH_RECORDS),
            batch_bytes: Histogram::new(&BATCH_BYTES),
            call_micros: Histogram::new(&LATENCY_MICROS),
            retries: Default::default(),
            held: Gauge::default(),
            circuit: Gauge::default(),
            circuit_opened: Counter::default(),
            lanes: Mutex::default(),
            lanes_paced: Gauge::default(),
            lanes_shed: Counter::default(),
            lanes_wanted: Gauge::default(),
            last_delivery_micros: Gauge::default(),
        }
    }
}

impl WriterStats {
    /// Shows how lanes fare.
    pub fn show_lanes(&self, mut paced: Vec<PacedLane>, wanted: u64) {
        self.lanes_paced.set(paced.len() as u64);
        self.lanes_wanted.set(wanted);
        paced.sort_by_key(|lane| Reverse(lane.waiting_bytes));
        paced.truncate(LANES_SHOWN_MAX);
        *self.lanes.lock().unwrap_or_else(PoisonError::into_inner) = paced;
    }

    /// The lanes that are paced, those first that most waits for.
    #[must_use]
    pub fn shown_lanes(&self) -> Vec<PacedLane> {
        let lanes = self.lanes.lock();
        lanes.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The writer's circuit.
    #[must_use]
    pub fn circuit(&self) -> CircuitState {
        let number = usize::try_from(self.circuit.get());
        let state = number.ok().and_then(|at| CircuitState::ALL.get(at));
        state.copied().unwrap_or_default()
    }
}

/// Billing counters, for destinations that bill in fixed increments.
#[derive(Debug, Default)]
pub struct BillingStats {
    /// Bytes of records that were confirmed, as they were sent.
    pub confirmed_bytes: Counter,
    /// The same, each record rounded up.
    pub billed_bytes: Counter,
}

/// Staging counters, for sinks that collect records into objects. A sink that confirms records before they
/// are uploaded keeps them in segments on a local disk. Values written by two threads are set under one
/// lock.
#[derive(Debug, Default)]
pub struct StagingStats {
    /// Bytes on disk not yet uploaded.
    pub staged_bytes: Gauge,
    /// Bytes above which records are refused.
    pub staged_bytes_max: Gauge,
    /// Closed segments not yet uploaded.
    pub segments_waiting: Gauge,
    /// Of these, segments that cannot be handled themselves, and wait for another try while others go on.
    pub segments_blocked: Gauge,
    /// Unix time in seconds at which the oldest non-empty segment was created; 0 for none.
    pub oldest_unix_secs: Gauge,
    /// Objects that the destination confirmed.
    pub objects: Counter,
    /// Bytes uploaded.
    pub object_bytes: Counter,
    /// Attempts that failed, by cause, indexed as [`Cause::ALL`].
    pub failures: [Counter; Cause::ALL.len()],
    /// Cause of the last failure: the index in [`Cause::ALL`] plus 1, or 0 after a success.
    pub trouble: Gauge,
}

impl StagingStats {
    /// Records the result of an upload attempt.
    pub fn attempted(&self, failed: Option<Cause>) {
        let at = failed.map(|cause| cause as usize);
        if let Some(counter) = at.and_then(|at| self.failures.get(at)) {
            counter.increment();
        }
        self.trouble.set(at.map_or(0, |at| at as u64 + 1));
    }

    /// Cause of the last attempt's failure, if it failed.
    #[must_use]
    pub fn trouble(&self) -> Option<Cause> {
        let at = usize::try_from(self.trouble.get()).ok()?.checked_sub(1)?;
        Cause::ALL.get(at).copied()
    }
}

/// Counters of an output's spool. Written by its thread.
#[derive(Debug, Default)]
pub struct SpoolStats {
    /// Records that were put on disk.
    pub spooled_records: Counter,
    /// Their bytes on disk.
    pub spooled_bytes: Counter,
    /// Records that the destination confirmed from disk.
    pub replayed_records: Counter,
    /// Of these, carried by a call before they were put on disk: possible duplicates.
    pub replayed_attempted_records: Counter,
    /// Records that the destination refused from disk, for good.
    pub refused_records: Counter,
    /// Records on disk that are not confirmed, as far as they have been counted.
    pub waiting_records: Gauge,
    /// Bytes on disk that are not confirmed.
    pub waiting_bytes: Gauge,
    /// Bytes of all files of the spool.
    pub disk_bytes: Gauge,
    /// Bytes above which no record is put on disk.
    pub disk_bytes_max: Gauge,
    /// Records that found no room there, by priority as in [`Priority::ALL`].
    pub unkept_records: [Counter; Priority::ALL.len()],
    /// Bytes that were put aside: damaged, or refused by the destination.
    pub put_aside_bytes: Gauge,
    /// Of these, bytes that were damaged or refused, and not only left unfinished by a crash.
    pub lost_bytes: Gauge,
    /// Unix time in seconds of the oldest segment; 0 for none.
    pub oldest_unix_secs: Gauge,
    /// 1 while the disk fails, and records are confirmed by the destination only.
    pub failing: Gauge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_bounds_are_inclusive() {
        let histogram = Histogram::new(&BATCH_RECORDS);
        for value in [1, 2, 3, 1_000, 1_001] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts(), [1, 1, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(histogram.over(), 1);
        assert_eq!(histogram.sum(), 2_007);
    }
}
