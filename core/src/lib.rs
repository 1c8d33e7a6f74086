//! The path of clickstream bytes between an HTTP request and a destination.
//!
//! Three pure state machines: [`pipeline`] turns a request into records; [`intake`] decides whether they are taken,
//! where they go and when the request is answered; [`delivery`] turns records into calls, retries and outcomes.
//! Pipeline and delivery do not know each other; they share only [`record`] and [`ack`].
//!
//! ```text
//!  listener core (proxy/ingest)                      writer thread (sinks/writer), one per output
//!  ----------------------------                      --------------------------------------------
//!  budget::Permit for the body
//!  pipeline: envelope | event -> records, rejects
//!  intake::admit: one ack::Ticket per record and output, or shed
//!  submission of one turn ------ queue (bounded) ---> delivery::step(Records)
//!                                                       -> Send: the sink's call
//!  intake::settle: wake the client's task               delivery::step(Completed)
//!      ^                                                   -> Settle | retry after a wait
//!      +-------- ack::AckQueue, with the circuit's state --------+
//! ```
//!
//! Guarantees:
//! - No I/O: no sockets, files, threads, logs, clocks or random numbers. Time ([`time`]) and randomness
//!   are arguments; counts are returned or kept in plain blocks ([`stats`]).
//! - Nothing vanishes: per request `received == accepted + rejected + withheld`, per output
//!   `accepted == delivered + spooled + refused + pending`, per machine
//!   `received == delivered + spooled + refused + held`, each asserted in release builds. A dropped [`ack::Ticket`] is reported.
//! - Everything has a bound, and the error names it.
#![deny(unsafe_code)]

pub mod ack;
pub mod budget;
pub mod cause;
pub mod circuit;
pub mod civil;
pub mod delivery;
mod envelope;
mod event;
pub mod inflate;
pub mod intake;
pub mod json;
pub mod lanes;
pub mod letter;
pub mod partition;
pub mod pipeline;
pub mod plan;
pub mod planted;
pub mod prepared;
pub mod priority;
pub mod privacy;
pub mod queue;
pub mod record;
pub mod reject;
pub mod request;
pub mod retry;
pub mod route;
pub mod schema;
pub mod sent;
pub mod server_fields;
pub mod stats;
pub mod time;
pub mod topic;
pub mod wake_flag;
