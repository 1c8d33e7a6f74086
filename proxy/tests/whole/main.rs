//! The real program as a child process, with real sockets on one side and an emulator or files on the
//! other. The invariant of every test: each id answered 200 is stored.
#![forbid(unsafe_code)]
// Helpers of tests stand outside of test functions here; they may panic and print like those.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

mod addresses;
mod admission;
mod aggregated;
mod bodies;
mod browsers;
mod clients;
mod clocks;
mod dead_letters;
mod disk;
mod endpoints;
mod fallback;
mod faults;
#[cfg(feature = "firehose")]
mod firehose;
#[cfg(feature = "http")]
mod http_output;
mod interop;
#[cfg(feature = "kafka")]
mod kafka;
mod kinesis;
mod many;
mod names;
mod numbers;
mod outage;
mod packed;
mod pressure;
mod priorities;
#[cfg(feature = "s3")]
mod privacy;
mod process;
mod readers;
mod records;
mod refused;
mod replay;
mod routes;
#[cfg(feature = "s3")]
mod s3;
mod schema_suite;
mod schemas;
mod server_fields;
mod shutdown;
mod spool;
#[cfg(feature = "sqs")]
mod sqs;
mod tls;
