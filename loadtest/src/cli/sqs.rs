//! The command line of `sqs`, and how it becomes the emulator's options.

use super::service::ServiceArgs;
use crate::service::ScriptError;
use crate::sqs;
use clap::Args;
use std::net::SocketAddr;

/// Arguments of `sqs`; described at [`super::Command`].
#[derive(Debug, Args)]
pub struct SqsArgs {
    /// Address to listen on; port 0 lets the system choose. Printed when ready.
    #[arg(long, default_value = "127.0.0.1:4576", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Name of the queue; several times for several queues.
    #[arg(long = "queue", default_value = "clicks", value_name = "NAME")]
    pub queues: Vec<String>,
    /// Largest message in KiB, 1 to 1024.
    #[arg(long, default_value_t = 1024, value_name = "KIB")]
    pub message_kib_max: usize,
    /// Bytes of memory for the messages of a queue; beyond it the oldest are dropped and counted.
    #[arg(long, default_value_t = 256 << 20, value_name = "BYTES")]
    pub retain_bytes_max: usize,
    /// Keep no messages, only count them (for benchmarks).
    #[arg(long)]
    pub discard: bool,
    /// Options of all emulators.
    #[command(flatten)]
    pub service: ServiceArgs,
}

impl SqsArgs {
    /// The emulator's options.
    ///
    /// # Errors
    /// When the fault script cannot be read.
    pub fn options(self) -> Result<sqs::Options, ScriptError> {
        Ok(sqs::Options {
            queues: self.queues,
            message_bytes_max: self.message_kib_max.saturating_mul(1024),
            retain_bytes_max: (!self.discard).then_some(self.retain_bytes_max),
            service: self.service.options(self.listen)?,
        })
    }
}
