//! JSON scanning, splitting and escaping.
//!
//! No value tree is built and no number is parsed: the client's bytes are kept as sent. `scan` validates,
//! `split` finds events, `splice` adds fields, `escape` writes strings. The only `unsafe` code of the crate is in `simd`.

pub mod escape;
pub mod scan;
#[allow(unsafe_code)]
mod simd;
pub mod splice;
pub mod split;
pub(crate) mod step;
pub mod unescape;
pub(crate) mod walk;
