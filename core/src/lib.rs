//! What happens to bytes between an HTTP request and a destination.

#![deny(unsafe_code)]

pub mod ack;
pub mod civil;
mod envelope;
pub mod event;
pub mod json;
pub mod partition;
pub mod pipeline;
pub mod record;
pub mod reject;
pub mod request;
pub mod stats;
pub mod time;
