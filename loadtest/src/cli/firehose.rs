//! The command line of `firehose`, and how it becomes the emulator's options.

use super::service::ServiceArgs;
use crate::firehose::{self, Quota};
use crate::service::ScriptError;
use clap::{Args, ValueEnum};
use std::net::SocketAddr;

/// Arguments of `firehose`; described at [`super::Command`].
#[derive(Debug, Args)]
pub struct FirehoseArgs {
    /// Address to listen on; port 0 lets the system choose. Printed when ready.
    #[arg(long, default_value = "127.0.0.1:4573", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Name of the delivery stream.
    #[arg(long, default_value = "clicks")]
    pub stream: String,
    /// Quota of the stream per second: the default of large regions (500,000 records, 2,000 calls, 5 MiB),
    /// that of the others (100,000 records, 1,000 calls, 1 MiB), or none.
    #[arg(long, value_enum, default_value = "large")]
    pub quota: QuotaName,
    /// Raise or lower the quota to this many MiB/s; its three parts scale together.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub quota_mib: Option<u64>,
    /// Bytes of memory for records; beyond it the oldest are dropped and counted.
    #[arg(long, default_value_t = 256 << 20, value_name = "BYTES")]
    pub retain_bytes_max: usize,
    /// Keep no records, only count them (for benchmarks).
    #[arg(long)]
    pub discard: bool,
    /// Options of all emulators.
    #[command(flatten)]
    pub service: ServiceArgs,
}

/// The quotas that new streams have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QuotaName {
    /// us-east-1, us-west-2 and eu-west-1.
    Large,
    /// All other regions.
    Small,
    /// No throttling.
    None,
}

impl FirehoseArgs {
    /// The emulator's options.
    ///
    /// # Errors
    /// When the fault script cannot be read.
    pub fn options(self) -> Result<firehose::Options, ScriptError> {
        let quota = match self.quota {
            QuotaName::Large => Some(Quota::LARGE),
            QuotaName::Small => Some(Quota::SMALL),
            QuotaName::None => None,
        };
        let scaled = |quota: Quota| match self.quota_mib {
            Some(mib) => quota.scaled_to(mib << 20),
            None => quota,
        };
        Ok(firehose::Options {
            stream: self.stream,
            quota: quota.map(scaled),
            retain_bytes_max: (!self.discard).then_some(self.retain_bytes_max),
            service: self.service.options(self.listen)?,
        })
    }
}
