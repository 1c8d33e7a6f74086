//! Sockets: listening, connection limits, proxied addresses, TLS. Knows no HTTP.

pub(crate) mod listener;
pub mod proxy_protocol;
pub mod tls;

pub use listener::{BindError, bind};
#[cfg(fuzzing)]
pub use proxy_protocol::fuzz as fuzz_proxy_header;
