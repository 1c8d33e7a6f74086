//! Sockets in, answers out: the proxy as a library, so that tests reach every module.
//!
//! A [`worker`] is one core's thread with its own [`runtime`]. [`net`] accepts its connections; [`http`] turns
//! their bytes into requests, and answers into bytes, without knowing what a request is for. [`ingest`]
//! knows: it takes a request through `core::pipeline` to the [`outputs`] and waits for their results, which a
//! [`dialect`] turns into an answer. [`app`] puts it all together.

pub mod admin;
pub mod admit;
pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod dead_letters;
pub mod dialect;
pub mod drain;
pub mod error_code;
mod file_stamp;
pub mod host_info;
pub mod http;
pub mod ingest;
pub mod listeners;
pub mod log_writer;
pub mod logging;
pub mod net;
pub mod offload;
pub mod outputs;
pub mod privacy;
pub mod process;
pub mod reloads;
pub mod replay;
pub mod routing;
pub mod runtime;
pub mod scheduling;
pub mod schemas;
pub mod server_fields;
pub mod spool_command;
pub mod verdict;
pub mod wiping;
pub mod worker;
