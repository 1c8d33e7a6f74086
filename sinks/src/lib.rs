//! How a batch reaches a destination, and what we then know of each record.
#![forbid(unsafe_code)]

pub mod file;
pub mod null;
pub mod sink;
pub mod writer;
