//! Limits of requests once they are in, and the time in which they are answered.

use crate::http::{ACK_DEADLINE_MS, CLIENT_PATIENCE_MS, HttpLimits};
use sluice_core::inflate::{CODINGS_CEILING, CODINGS_MAX, Coding};
use sluice_sinks::settings;
use sluice_sinks::settings::{MIB, Number, Reader, SECOND_MS, bytes, list, ms, number, seconds};
use std::time::Duration;

/// This many of the largest bodies must fit into `in_flight_bytes_max`: a body of control characters grows
/// sixfold when it is escaped into a record, and is held beside it meanwhile.
const BODIES_IN_FLIGHT_MIN: u64 = 8;

/// The least default of `in_flight_bytes_max`, bytes.
const IN_FLIGHT_BYTES_LEAST: u64 = 64 << 20;

const CODINGS: &str = "gzip, deflate, zstd, br, snappy";

settings! {
    /// Limits of bodies and events.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct IngestLimits from (reader, http: &HttpLimits, memory_bytes: u64) {
        /// Bytes of a request body once its content codings are undone, and at most 100 times its bytes as sent or
        /// 16 KiB (brotli: 16 times or 1 KiB); more is 413.
        inflated_bytes_max: usize = http.body_bytes_max,
            bytes(1, 64 * MIB).default_is("`body_bytes_max`");
        /// Content codings that one body may have, applied one after the other; more is 415. Gzip that the events
        /// endpoint detects counts as one.
        codings_max: usize = CODINGS_MAX, number("codings", 1, CODINGS_CEILING as u64);
        /// Content codings that the endpoint for clickstream bodies accepts; any other is 415.
        collect_codings: Vec<Coding> = Coding::ALL.to_vec(),
            list("codings", Coding::ALL.len(), CODINGS);
        /// Content codings that the endpoint for JSON events accepts; any other is 415.
        events_codings: Vec<Coding> = Coding::ALL.to_vec(),
            list("codings", Coding::ALL.len(), CODINGS);
        /// Events in one request body.
        events_max: usize = 1_000, number("events", 1, 100_000);
        /// Nesting of arrays and objects in an event.
        json_depth_max: usize = 64, number("levels", 1, 1_000);
        /// Bytes of bodies and records held at once, over all workers; over it requests are answered 503. At
        /// least 8 of the largest bodies, at most the memory limit.
        in_flight_bytes_max: u64 = (memory_bytes / 4)
                .max(IN_FLIGHT_BYTES_LEAST)
                .max(largest_body(http.body_bytes_max, inflated_bytes_max) * BODIES_IN_FLIGHT_MIN)
                .min(memory_bytes),
            bytes(MIB, 1 << 50).default_is("a quarter of the memory limit, at least 64 MiB");
    }
}

fn largest_body(sent: usize, inflated: usize) -> u64 {
    sent.max(inflated) as u64
}

impl IngestLimits {
    /// Rules between settings. Returns the bytes of the largest record that ordinary text can make.
    pub fn check(&self, reader: &mut Reader, memory_bytes: u64) -> Number {
        let body = reader.number("body_bytes_max");
        let inflated = reader.number("inflated_bytes_max");
        let largest = if inflated.value > body.value {
            inflated
        } else {
            body
        };
        let bodies = largest.times(BODIES_IN_FLIGHT_MIN);
        let in_flight = reader.number("in_flight_bytes_max");
        let why = "a body and the records it becomes are held at the same time";
        reader.at_least(&in_flight, &bodies, why);
        let memory = Number::new("the memory limit", "bytes", memory_bytes);
        let why = "the process would be killed before it sheds load";
        reader.at_most(&in_flight, &memory, why);
        let head = reader.number("head_bytes_max");
        largest.plus(&head)
    }
}

/// The default, which leaves a body deadline that was written its time.
fn ack_deadline(body_deadline_ms: Option<u64>) -> Duration {
    let rest = CLIENT_PATIENCE_MS.saturating_sub(body_deadline_ms.unwrap_or(0));
    Duration::from_millis(rest.clamp(1, ACK_DEADLINE_MS))
}

settings! {
    /// When a client is answered.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AckSettings from (reader) {
        /// Time from the end of the body to the response, whatever the outputs do. Below 10 s, where the first
        /// of the SDKs in the field give up: a later 200 is a duplicate to come.
        deadline as "deadline_ms": Duration =
            ack_deadline(reader.given("limits.body_deadline_ms")),
            ms(1, 10 * SECOND_MS - 1).default_is("4000, at most 15000 less a written `body_deadline_ms`");
        /// The shortest `Retry-After`. Each response draws one from the time that the queue takes to drain up to twice
        /// that; from all between the two bounds where nothing drains.
        retry_after_min_s: u32 = 1, seconds(1, 300);
        /// The longest `Retry-After`.
        retry_after_max_s: u32 = retry_after_min_s.max(5), seconds(1, 300);
    }
}

impl AckSettings {
    /// Rules between settings. Returns the ack deadline.
    pub fn check(&self, reader: &mut Reader) -> Number {
        let least = reader.number("retry_after_min_s");
        let most = reader.number("retry_after_max_s");
        reader.at_most(&least, &most, "answers draw a number between the two");
        let deadline = reader.number("deadline_ms");
        let body = reader.number("limits.body_deadline_ms");
        let name = "the time that SDKs wait for an answer";
        let patience = Number::new(name, "ms", CLIENT_PATIENCE_MS);
        let why = "the answer would come after the client gave up, and sent its events again";
        reader.at_most(&body.plus(&deadline), &patience, why);
        deadline
    }
}
