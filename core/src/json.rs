//! JSON as Sluice needs it: is it valid, where does each event lie, and how is text escaped.
//!
//! No value tree is built and no number is read: what a client sent is kept as it was sent.
//! `scan` decides what is JSON, `split` what is an event, `splice` adds fields to one, `escape` writes
//! strings. The only `unsafe` code of the crate is in `simd`.

pub mod escape;
pub mod scan;
#[allow(unsafe_code)]
mod simd;
pub mod splice;
pub mod split;
pub mod unescape;
