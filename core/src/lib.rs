//! The path of clickstream bytes between an HTTP request and a destination.
//!
//! Two pure state machines: [`pipeline`] turns a request into records; [`delivery`] turns records into
//! calls, retries and outcomes. They are independent and share only [`record`] and [`ack`].
//!
//! ```text
//!  listener core (proxy/ingest)                      writer thread (sinks/writer), one per output
//!  ----------------------------                      --------------------------------------------
//!  budget::Permit for the body
//!  pipeline: envelope | event -> records, rejects
//!  request_table: entry, one ack::Ticket per record and output
//!  submission of one turn ------ queue (bounded) ---> delivery::step(Records)
//!                                                       -> Send: the sink's call
//!  request_table: settle, wake the client's task           delivery::step(Completed)
//!      ^                                                   -> Settle | retry after a wait
//!      +------------------------ ack::AckQueue ------------------+
//! ```
//!
//! Guarantees:
//! - No I/O: no sockets, files, threads, logs, clocks or random numbers. Time ([`time`]) and randomness
//!   are arguments; counts are returned or kept in plain blocks ([`stats`]).
//! - Nothing vanishes: per request `received == accepted + rejected`, per output
//!   `accepted == delivered + spooled + refused + pending`, per machine
//!   `received == delivered + spooled + refused + held`, each asserted in release builds. A dropped [`ack::Ticket`] is reported.
//! - Everything has a bound, and the error names it.
#![deny(unsafe_code)]

pub mod ack;
pub mod adaptive_limit;
pub mod budget;
pub mod cause;
pub mod civil;
pub mod delivery;
mod envelope;
mod event;
pub mod inflate;
pub mod json;
pub mod partition;
pub mod pipeline;
pub mod plan;
pub mod prepared;
pub mod queue;
pub mod record;
pub mod reject;
pub mod request;
pub mod request_table;
pub mod retry;
pub mod sent;
pub mod stats;
pub mod time;
pub mod topic;
pub mod wake_flag;
