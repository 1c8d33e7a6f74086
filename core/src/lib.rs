//! What happens to bytes between an HTTP request and a destination.

pub mod ack;
pub mod record;
pub mod request;
pub mod stats;
pub mod time;
