//! The command line of `kinesis`, and how it becomes the emulator's options.

use super::service::ServiceArgs;
use crate::kinesis::{self, Distribution, Mode};
use crate::service::{REGION, ScriptError};
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;

/// Arguments of `kinesis`; described at [`super::Command`].
#[derive(Debug, Args)]
pub struct KinesisArgs {
    /// Address to listen on; port 0 lets the system choose. Printed when ready.
    #[arg(long, default_value = "127.0.0.1:4567", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Name of the stream.
    #[arg(long, default_value = "clicks")]
    pub stream: String,
    /// Shards of the stream at the start, 1 to 10000.
    #[arg(long, default_value_t = 4)]
    pub shards: u32,
    /// Capacity mode at the start; on-demand doubles the shards when the load requires it.
    #[arg(long, value_enum, default_value = "provisioned")]
    pub mode: Mode,
    /// Who chooses a record's shard; auto needs --mode on-demand, and keys may then be absent.
    #[arg(long, value_enum, default_value = "user-partition-key")]
    pub distribution: Distribution,
    /// Largest record in KiB, data and partition key together, 1024 to 10240.
    #[arg(long, default_value_t = 1024, value_name = "KIB")]
    pub record_kib_max: usize,
    /// Do not throttle shards at 1,000 records/s and 1 MiB/s written, 5 calls/s and 2 MiB/s read.
    #[arg(long)]
    pub no_shard_limits: bool,
    /// How long a stream stays UPDATING before a change of its shards takes effect, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    pub update_ms: u64,
    /// Shortest time between two doublings of an on-demand stream, in milliseconds, 100 to 24 h.
    #[arg(long, default_value_t = 900_000, value_name = "MS")]
    pub on_demand_period_ms: u64,
    /// Region of ARNs in answers to unsigned calls; signed calls get the region of their signature.
    #[arg(long, default_value = REGION)]
    pub region: String,
    /// Bytes of memory for the records of a stream; beyond it the oldest of a shard are dropped and counted.
    #[arg(long, default_value_t = 256 << 20, value_name = "BYTES")]
    pub retain_bytes_max: usize,
    /// Keep no records, only count them (for benchmarks).
    #[arg(long)]
    pub discard: bool,
    /// Options of all emulators.
    #[command(flatten)]
    pub service: ServiceArgs,
}

impl KinesisArgs {
    /// The emulator's options.
    ///
    /// # Errors
    /// When the fault script cannot be read.
    pub fn options(self) -> Result<kinesis::Options, ScriptError> {
        let service = self.service.options(self.listen)?;
        Ok(kinesis::Options {
            listen: service.listen,
            tls: service.tls,
            stream: self.stream,
            shards: self.shards,
            mode: self.mode,
            distribution: self.distribution,
            record_bytes_max: self.record_kib_max.saturating_mul(1024),
            shard_limits: !self.no_shard_limits,
            update: Duration::from_millis(self.update_ms),
            on_demand_period: Duration::from_millis(self.on_demand_period_ms),
            latency: service.latency.fixed,
            latency_jitter: service.latency.jitter,
            latency_log_normal: service.latency.log_normal,
            latency_pauses: service.latency.pauses,
            signatures: service.signatures,
            region: self.region,
            retain_bytes_max: (!self.discard).then_some(self.retain_bytes_max),
            ledger: service.ledger,
            threads: service.threads,
            faults: service.faults,
            fault_script: service.script,
        })
    }
}
