//! Sockets: listening, and who may come in. Knows no HTTP.

pub(crate) mod listener;

pub use listener::{BindError, bind};
