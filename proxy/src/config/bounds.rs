//! Every bound on a number in one table, with the reason where it is not plain sense.

use super::keywords::SinkType;

/// Where a bounded setting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
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

use Scope::{EnqueuedOutput, Output, OutputOf};
use SinkType::{File, Firehose, Kafka, Kinesis, Null, S3};

bounds! {
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
    DESCRIBE_INTERVAL: OutputOf(Kinesis), "describe_interval_s", "s", 1, 3_600;
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
