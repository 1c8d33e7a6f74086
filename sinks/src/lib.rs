//! Sinks: how a batch of records reaches a destination, and the result for each record.
#![forbid(unsafe_code)]

pub mod aws;
mod disk;
pub mod door;
pub mod file;
#[cfg(feature = "firehose")]
pub mod firehose;
#[cfg(any(feature = "http", feature = "s3"))]
mod gzip;
#[cfg(feature = "http")]
pub mod http;
mod http_client;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod kinesis;
pub mod names;
pub mod null;
pub mod output;
mod rate_limited_log;
pub mod registry;
pub mod runtime;
#[cfg(feature = "s3")]
pub mod s3;
pub mod settings;
pub mod sink;
pub mod spool;
#[cfg(feature = "sqs")]
pub mod sqs;
pub mod writer;

use output::OutputType;
#[cfg(feature = "s3")]
pub use s3::objects;

/// The types of outputs in this build.
pub const TYPES: &[OutputType] = &[
    file::TYPE,
    #[cfg(feature = "firehose")]
    firehose::TYPE,
    #[cfg(feature = "http")]
    http::TYPE,
    #[cfg(feature = "kafka")]
    kafka::TYPE,
    kinesis::TYPE,
    null::TYPE,
    #[cfg(feature = "s3")]
    s3::TYPE,
    #[cfg(feature = "sqs")]
    sqs::TYPE,
];
