//! Sockets: listening, who may come in, and waiting for them. Knows no HTTP.

pub(crate) mod listener;
pub(crate) mod poller;

pub use listener::{BindError, bind};
