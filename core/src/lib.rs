//! What happens to bytes between an HTTP request and a destination.
#![deny(unsafe_code)]

pub mod ack;
pub mod budget;
pub mod delivery;
pub mod ledger;
pub mod queue;
pub mod record;
pub mod request;
pub mod retry;
pub mod stats;
pub mod time;
pub mod wake;
