//! The command line of `s3`, and how it becomes the emulator's options.

use super::service::ServiceArgs;
use crate::s3;
use crate::service::ScriptError;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Arguments of `s3`; described at [`super::Command`].
#[derive(Debug, Args)]
pub struct S3Args {
    /// Address to listen on; port 0 lets the system choose. Printed when ready.
    #[arg(long, default_value = "127.0.0.1:4572", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// A bucket; repeat for more.
    #[arg(long, value_name = "NAME", default_values = ["clicks"])]
    pub bucket: Vec<String>,
    /// Bytes of memory for objects and parts; beyond it uploads are refused.
    #[arg(long, default_value_t = 1 << 30, value_name = "BYTES")]
    pub memory_bytes_max: usize,
    /// Keep objects in this directory, which must be empty or absent, instead of in memory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Options of all emulators.
    #[command(flatten)]
    pub service: ServiceArgs,
}

impl S3Args {
    /// The emulator's options.
    ///
    /// # Errors
    /// When the fault script cannot be read.
    pub fn options(self) -> Result<s3::Options, ScriptError> {
        Ok(s3::Options {
            buckets: self.bucket,
            memory_bytes_max: self.memory_bytes_max,
            dir: self.dir,
            service: self.service.options(self.listen)?,
        })
    }
}
