//! The settings that are words instead of numbers: how each is written and read.

use sluice_sinks::keyword_enum;
use sluice_sinks::settings::KeywordError;
use std::fmt;
use std::str::FromStr;

/// Several words: an array in a file, or one text with commas between them, as in a variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List(pub(super) Vec<String>);

impl From<&str> for List {
    fn from(text: &str) -> List {
        let words = text.split(',').map(str::trim);
        List(
            words
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }
}

keyword_enum! {
    /// The type of a destination.
    SinkType, "one of file, firehose, kafka, kinesis, null, s3" {
        /// Local files.
        File = "file",
        /// A Firehose delivery stream.
        Firehose = "firehose",
        /// A Kafka topic.
        Kafka = "kafka",
        /// A Kinesis data stream.
        Kinesis = "kinesis",
        /// Nowhere.
        Null = "null",
        /// Objects in a bucket.
        S3 = "s3",
    }
}

keyword_enum! {
    /// How a Kafka output says who it is.
    SaslMechanism, "one of none, plain, scram-sha-256, scram-sha-512, msk-iam" {
        /// Not at all.
        None = "none",
        /// Name and password.
        Plain = "plain",
        /// Challenge and response, SHA-256.
        ScramSha256 = "scram-sha-256",
        /// Challenge and response, SHA-512.
        ScramSha512 = "scram-sha-512",
        /// A token of the AWS credentials.
        MskIam = "msk-iam",
    }
}

keyword_enum! {
    /// What batches of a Kafka output are packed with.
    CompressionWord, "one of none, gzip, snappy, lz4, zstd" {
        /// Nothing.
        None = "none",
        /// gzip.
        Gzip = "gzip",
        /// Snappy.
        Snappy = "snappy",
        /// LZ4.
        Lz4 = "lz4",
        /// Zstandard.
        Zstd = "zstd",
    }
}

keyword_enum! {
    /// The storage class of an S3 output's objects: those whose objects can be read at once.
    StorageClassWord,
    "one of STANDARD, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR" {
        /// For what is read often.
        Standard = "STANDARD",
        /// For what is read seldom.
        StandardIa = "STANDARD_IA",
        /// For what is read seldom and could be made again.
        OnezoneIa = "ONEZONE_IA",
        /// Moved by how often it is read.
        IntelligentTiering = "INTELLIGENT_TIERING",
        /// For what is hardly read.
        GlacierIr = "GLACIER_IR",
    }
}

keyword_enum! {
    /// What a client's 200 waits for at an output.
    AckMode, "one of delivered, durable, enqueued" {
        /// The destination's word.
        Delivered = "delivered",
        /// A place on the local disk, synced.
        Durable = "durable",
        /// A place in the queue.
        Enqueued = "enqueued",
    }
}

/// What decides a record's place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionKey {
    /// Chance: even load.
    Random,
    /// The record's ingest time.
    Timestamp,
    /// The text of this field of the event, 1 to [`PartitionKey::FIELD_BYTES_MAX`] bytes.
    Field(String),
}

impl PartitionKey {
    /// A field's name may have this many bytes.
    pub const FIELD_BYTES_MAX: usize = 256;
}

impl FromStr for PartitionKey {
    type Err = KeywordError;

    fn from_str(given: &str) -> Result<Self, KeywordError> {
        match (given, given.strip_prefix("field:")) {
            ("random", _) => Ok(PartitionKey::Random),
            ("timestamp", _) => Ok(PartitionKey::Timestamp),
            (_, Some(name)) if (1..=Self::FIELD_BYTES_MAX).contains(&name.len()) => {
                Ok(PartitionKey::Field(name.to_owned()))
            }
            _ => Err(KeywordError {
                given: given.to_owned(),
                expected: "one of random, timestamp, field:<name of 1 to 256 bytes>",
            }),
        }
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionKey::Random => f.write_str("random"),
            PartitionKey::Timestamp => f.write_str("timestamp"),
            PartitionKey::Field(name) => write!(f, "field:{name}"),
        }
    }
}

/// A text that is neither printed nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Secret {
    /// What is shown in its place.
    pub const MASK: &'static str = "***";
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Secret::MASK)
    }
}
