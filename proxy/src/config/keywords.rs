//! The settings that are words instead of numbers: how each is written and read.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// A word that is none of those allowed, or an ill-formed value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct WordError {
    /// What was written.
    pub given: String,
    /// What may be written.
    pub expected: &'static str,
}

/// An enum whose variants are words: reading and writing from one table.
macro_rules! keyword_enum {
    ($(#[$doc:meta])* $name:ident, $expected:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// The word that stands for it in the configuration.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        impl FromStr for $name {
            type Err = WordError;

            fn from_str(given: &str) -> Result<Self, WordError> {
                match given {
                    $($word => Ok($name::$variant),)*
                    _ => Err(WordError { given: given.to_owned(), expected: $expected }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

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
    /// Which I/O driver the workers run on.
    Driver, "one of auto, uring, epoll" {
        /// io_uring where the kernel allows it, else epoll.
        Auto = "auto",
        /// io_uring or nothing.
        Uring = "uring",
        /// epoll.
        Epoll = "epoll",
    }
}

keyword_enum! {
    /// The policy by which the kernel shares cores between the threads of the process.
    Scheduling, "one of batch, inherit" {
        /// `SCHED_BATCH`: a thread that wakes does not interrupt the one that runs.
        Batch = "batch",
        /// Whatever the process was started with.
        Inherit = "inherit",
    }
}

keyword_enum! {
    /// Whether connections begin with a PROXY protocol header, version 2. There is no word for "if one
    /// comes": whoever reached the port could then choose an address by sending one.
    ProxyProtocol, "one of off, required" {
        /// They do not, and what looks like one is a malformed request.
        Off = "off",
        /// They do; one without it is closed.
        Required = "required",
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

keyword_enum! {
    /// How a log line looks.
    LogFormat, "one of text, json" {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

keyword_enum! {
    /// The least severe level that is logged.
    LogLevel, "one of error, warn, info, debug, trace" {
        /// Something is broken.
        Error = "error",
        /// Something needs a look.
        Warn = "warn",
        /// Starts, stops, state changes.
        Info = "info",
        /// For finding a defect.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
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
    type Err = WordError;

    fn from_str(given: &str) -> Result<Self, WordError> {
        match (given, given.strip_prefix("field:")) {
            ("random", _) => Ok(PartitionKey::Random),
            ("timestamp", _) => Ok(PartitionKey::Timestamp),
            (_, Some(name)) if (1..=Self::FIELD_BYTES_MAX).contains(&name.len()) => {
                Ok(PartitionKey::Field(name.to_owned()))
            }
            _ => Err(WordError {
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

/// Where the admin port listens: an address, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminAddress(pub Option<SocketAddr>);

impl FromStr for AdminAddress {
    type Err = WordError;

    fn from_str(given: &str) -> Result<Self, WordError> {
        if given == "off" {
            return Ok(AdminAddress(None));
        }
        match given.parse() {
            Ok(address) => Ok(AdminAddress(Some(address))),
            Err(_) => Err(WordError {
                given: given.to_owned(),
                expected: "`off` or an address with a port, for instance 127.0.0.1:9090",
            }),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}
