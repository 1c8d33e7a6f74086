//! Sockets in, answers out: the proxy as a library, so that its tests can reach every room.
//!
//! A [`worker`] is one pinned core with its own runtime; [`net`] accepts its connections; [`http`]
//! turns their bytes into requests and answers into bytes, and knows not what a request is for.
//! [`ingest`] does: it takes a request through `core::pipeline` to the [`outputs`] and waits for their
//! word, which a [`dialect`] puts into an answer. [`app`] is where all of it is put together.

pub mod admin;
pub mod admit;
pub mod app;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod context;
pub mod dialect;
pub mod drain_phase;
pub mod error_code;
pub mod http;
pub mod ingest;
pub mod net;
pub mod outputs;
pub mod scheduling;
pub mod verdict;
pub mod worker;
