//! Every bound on a number in one table, with the reason where it is not plain sense.

use super::keywords::SinkType;

/// Where a bounded setting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In this section.
    Section(&'static str),
    /// In every output.
    Output,
    /// In outputs of this type.
    OutputOf(SinkType),
    /// In outputs with `ack = "enqueued"`.
    EnqueuedOutput,
}

/// The least and the most that a number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Where the setting stands.
    pub scope: Scope,
    /// Its key there.
    pub key: &'static str,
    /// What it counts.
    pub unit: &'static str,
    /// The least allowed.
    pub min: u64,
    /// The most allowed.
    pub max: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Names the bounds and lists them.
macro_rules! bounds {
    ($($(#[$doc:meta])* $name:ident: $scope:expr, $key:literal, $unit:literal, $min:expr, $max:expr;)*) => {
        $(
            $(#[$doc])*
            pub(super) const $name: Bound = Bound {
                scope: $scope,
                key: $key,
                unit: $unit,
                min: $min,
                max: $max,
            };
        )*

        /// All bounds.
        pub const BOUNDS: &[Bound] = &[$($name),*];
    };
}

use Scope::{EnqueuedOutput, Output, OutputOf, Section};
use SinkType::{File, Firehose, Kafka, Kinesis, Null, S3};

bounds! {
    /// 0 stands for one per core.
    WORKERS: Section("listen"), "workers", "workers", 0, 1_024;
    CONNECTIONS: Section("listen"), "connections_max", "connections", 1, 1_000_000;
    /// 0 stands for no limit.
    CONNECTIONS_PER_ADDRESS: Section("listen"), "connections_per_address_max", "connections", 0, 1_000_000;

    /// hyper reads heads into a buffer of 8 KiB or more.
    HEAD_BYTES: Section("limits"), "head_bytes_max", "bytes", 8 * KIB, MIB;
    HEADERS: Section("limits"), "headers_max", "headers", 1, 1_000;
    /// The `http` crate holds a target's length in 16 bits.
    TARGET_BYTES: Section("limits"), "target_bytes_max", "bytes", 64, 65_534;
    HEAD_DEADLINE: Section("limits"), "head_deadline_ms", "ms", 1, 10 * MINUTE_MS;
    BODY_BYTES: Section("limits"), "body_bytes_max", "bytes", 1, 64 * MIB;
    INFLATED_BYTES: Section("limits"), "inflated_bytes_max", "bytes", 1, 64 * MIB;
    BODY_DEADLINE: Section("limits"), "body_deadline_ms", "ms", 1, 10 * MINUTE_MS;
    /// 0 stands for no limit.
    BODY_RATE: Section("limits"), "body_rate_min_bytes", "bytes per second", 0, 10 * MIB;
    IDLE: Section("limits"), "idle_ms", "ms", 1, HOUR_MS;
    REQUESTS_PER_CONNECTION: Section("limits"), "requests_per_connection_max", "requests", 1, 1_000_000_000;
    CONNECTION_LIFE: Section("limits"), "connection_life_ms", "ms", 1, 24 * HOUR_MS;
    EVENTS: Section("limits"), "events_max", "events", 1, 100_000;
    JSON_DEPTH: Section("limits"), "json_depth_max", "levels", 1, 1_000;
    IN_FLIGHT_BYTES: Section("limits"), "in_flight_bytes_max", "bytes", MIB, 1 << 50;

    /// Browsers cap it: Chromium at two hours, Firefox at a day.
    CORS_MAX_AGE: Section("cors"), "max_age_s", "s", 0, 86_400;

    HOPS: Section("client_address"), "hops", "hops", 0, 32;

    /// SDKs in the field give up at 10 s, and a later 200 is a duplicate to come.
    ACK_DEADLINE: Section("ack"), "deadline_ms", "ms", 1, 10 * SECOND_MS - 1;
    RETRY_AFTER_MIN: Section("ack"), "retry_after_min_s", "s", 1, 300;
    RETRY_AFTER_MAX: Section("ack"), "retry_after_max_s", "s", 1, 300;

    DRAIN_GRACE: Section("drain"), "grace_ms", "ms", 0, 10 * MINUTE_MS;
    DRAIN_DEADLINE: Section("drain"), "deadline_ms", "ms", 1, HOUR_MS;

    QUEUE_BYTES: Output, "queue_bytes_max", "bytes", 1, 64 * GIB;
    LINGER: Output, "linger_ms", "ms", 0, MINUTE_MS;
    /// PutRecords takes 500 records.
    KINESIS_BATCH_RECORDS: OutputOf(Kinesis), "batch_records_max", "records", 1, 500;
    /// PutRecordBatch takes 500 records, so that 500 events fit however they are packed.
    FIREHOSE_BATCH_RECORDS: OutputOf(Firehose), "batch_records_max", "records", 1, 500;
    KAFKA_BATCH_RECORDS: OutputOf(Kafka), "batch_records_max", "records", 1, 100_000;
    FILE_BATCH_RECORDS: OutputOf(File), "batch_records_max", "records", 1, 100_000;
    S3_BATCH_RECORDS: OutputOf(S3), "batch_records_max", "records", 1, 100_000;
    NULL_BATCH_RECORDS: OutputOf(Null), "batch_records_max", "records", 1, 100_000;
    /// PutRecords takes 10 MiB, partition keys included.
    KINESIS_BATCH_BYTES: OutputOf(Kinesis), "batch_bytes_max", "bytes", 1, 10 * MIB;
    /// PutRecordBatch takes 4 MiB.
    FIREHOSE_BATCH_BYTES: OutputOf(Firehose), "batch_bytes_max", "bytes", 1, 4 * MIB;
    KAFKA_BATCH_BYTES: OutputOf(Kafka), "batch_bytes_max", "bytes", 1, 256 * MIB;
    FILE_BATCH_BYTES: OutputOf(File), "batch_bytes_max", "bytes", 1, 256 * MIB;
    S3_BATCH_BYTES: OutputOf(S3), "batch_bytes_max", "bytes", 1, 256 * MIB;
    NULL_BATCH_BYTES: OutputOf(Null), "batch_bytes_max", "bytes", 1, 256 * MIB;
    IN_FLIGHT: Output, "in_flight_max", "calls", 1, 1_024;
    WRITERS: Output, "writers", "writers", 1, 64;
    RETRY_BASE: Output, "retry_base_ms", "ms", 1, MINUTE_MS;
    RETRY_CAP: Output, "retry_cap_ms", "ms", 1, MINUTE_MS;
    RETRY_FOR: EnqueuedOutput, "retry_for_ms", "ms", 1, 24 * HOUR_MS;
    CONNECT_TIMEOUT: OutputOf(Kinesis), "connect_timeout_ms", "ms", 1, MINUTE_MS;
    ATTEMPT_TIMEOUT: OutputOf(Kinesis), "attempt_timeout_ms", "ms", 1, MINUTE_MS;
    DESCRIBE_INTERVAL: OutputOf(Kinesis), "describe_interval_s", "s", 1, 86_400;
    /// A record of Firehose has 1,000 KiB.
    PACK_BYTES: OutputOf(Firehose), "pack_bytes_max", "bytes", 0, 1_000 * KIB;
    DELIVERY_TIMEOUT: OutputOf(Kafka), "delivery_timeout_ms", "ms", 1, 5 * MINUTE_MS;
    /// librdkafka takes no `message.max.bytes` below 1,000; no body is over 64 MiB.
    RECORD_BYTES: OutputOf(Kafka), "record_bytes_max", "bytes", 1_000, 64 * MIB;
    /// Each costs librdkafka and every broker memory, and each is a name that some client chose.
    TOPICS: OutputOf(Kafka), "topics_max", "topics", 1, 10_000;
    ROTATE_BYTES: OutputOf(File), "rotate_bytes", "bytes", 1, 1_024 * GIB;
    ROTATE: OutputOf(File), "rotate_s", "s", 1, 7 * 86_400;
    S3_CONNECT_TIMEOUT: OutputOf(S3), "connect_timeout_ms", "ms", 1, MINUTE_MS;
    S3_ATTEMPT_TIMEOUT: OutputOf(S3), "attempt_timeout_ms", "ms", 1, 10 * MINUTE_MS;
    STAGING_BYTES: OutputOf(S3), "staging_bytes_max", "bytes", 1_000_000, 1_024 * GIB;
    /// One PutObject has to carry it, and the replaced tier takes no more either.
    OBJECT_BYTES: OutputOf(S3), "object_bytes_max", "bytes", 1_000_000, 50_000_000;
    OBJECT_AGE: OutputOf(S3), "object_age_s", "s", 1, 3_600;
}
