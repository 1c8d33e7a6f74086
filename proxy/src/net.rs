//! Sockets: listening, who may come in, and whose a connection is. Knows no HTTP.

pub(crate) mod listener;
pub(crate) mod proxy_protocol;

pub use listener::{BindError, bind};
