//! An emulator of S3 for uploaders and readers: PutObject, multipart uploads,
//! HeadObject, GetObject, ListObjectsV2, by path and by virtual host. Objects in memory or in a
//! directory. No versions, no access control, no ranges, no other storage than the standard one.
//!
//! Its ledger is written when it ends, from the objects as they are then: what an upload that
//! replaced another one lost is not in it.

mod body;
mod ids;
mod list;
mod range;
mod route;
mod server;
mod store;
mod upload;
mod xml;

pub use crate::service::EmulatorError;
pub use ids::INFLATED_BYTES_MAX;
pub use server::{Emulator, Stats};
pub use store::KEY_BYTES_MAX;
pub use upload::{PART_BYTES_MIN, PART_NUMBER_MAX};

use crate::service;
use std::path::PathBuf;

/// Bytes of one request's body, thus of one object or part. The service takes 5 GiB; an emulator
/// has each in memory for a moment.
pub const BODY_BYTES_MAX: usize = 256 << 20;

/// Settings of the emulated service and its server.
#[derive(Clone, Debug)]
pub struct Options {
    /// How it is run.
    pub service: service::Options,
    /// The buckets that exist: 1 to 100, each 3 to 63 of `[a-z0-9.-]`.
    pub buckets: Vec<String>,
    /// Memory for objects and parts, in bytes; over it uploads are refused.
    pub memory_bytes_max: usize,
    /// Empty directory for objects, which then take no memory; made when absent.
    pub dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            service: service::Options::default(),
            buckets: vec!["clicks".to_owned()],
            memory_bytes_max: 1 << 30,
            dir: None,
        }
    }
}
