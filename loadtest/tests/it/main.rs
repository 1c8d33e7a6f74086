//! The harness from outside: emulator, generator, audit and command line, each against something
//! whose behaviour is known. One binary, so that it is linked once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod audit;
mod audit_windows;
mod command_line;
mod connections;
mod find_max;
mod firehose;
mod generator;
mod kinesis_faults;
mod kinesis_reading;
mod kinesis_reshard;
mod kinesis_rules;
mod kinesis_wire;
mod ledger;
mod load;
mod patience;
mod plan;
mod report;
mod responder;
mod s3;
mod service;
mod sqs;
mod traffic;
mod traffic_command_line;
mod truth;
