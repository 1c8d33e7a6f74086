//! The load harness: a generator for HTTP event collectors, emulators of the services behind
//! them, and an audit that compares acknowledged events with stored ones.
//!
//! It shares no code with the collector that it tests. Its emulators are a library too, so that
//! tests can start one in their own process.

#![forbid(unsafe_code)]

mod answer;
pub mod audit;
pub mod cli;
pub mod event_id;
pub mod find_max;
pub mod firehose;
pub mod kinesis;
pub mod ledger;
mod packed;
pub mod patience;
pub mod plan;
pub mod report;
pub mod run;
pub mod s3;
pub mod service;
pub mod sqs;
pub mod wire;
