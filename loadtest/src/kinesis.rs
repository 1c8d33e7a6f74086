//! A Kinesis Data Streams emulator: an account that begins with one stream, the AWS JSON 1.1 protocol
//! and its CBOR form, the limits of the service as producers meet them, and faults on request. Keeps
//! records in memory. Shards split, merge and double while it runs.

pub(crate) mod aggregate;
mod api;
mod call;
mod cbor;
mod control;
mod cost;
mod demand;
mod listing;
mod parse;
mod read;
mod server;
mod shard;
mod shards;
mod stream;
mod streams;

pub use aggregate::{UserRecord, user_records};
pub use call::{CALL_BYTES_MAX, CALL_RECORDS_MAX, KEY_CHARS_MAX};
pub use cost::{CostMeter, CostPerHour, ON_DEMAND_ROUNDING_BYTES, PUT_PAYLOAD_UNIT_BYTES};
pub use server::{Emulator, Stats};
pub use shard::{
    SHARD_BYTES_PER_SECOND, SHARD_READ_BYTES_PER_SECOND, SHARD_READS_PER_SECOND,
    SHARD_RECORDS_PER_SECOND,
};
pub use stream::{Distribution, Mode};
pub use streams::STREAMS_MAX;

pub use crate::service::{Faults, FaultsError, Portion, Reject, RejectCode};

use crate::service::{self, FaultScript, Latency, LogNormal, Pauses, Signatures, Tls};
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Largest maximum that a stream can be given for its records (service limit), in bytes.
pub const RECORD_BYTES_MAX: usize = 10 << 20;

/// The smallest record maximum that a stream can be given (service limit), in KiB.
const RECORD_KIB_MIN: usize = 1_024;

/// Shards that a stream has at most (service limit).
pub const SHARDS_MAX: u32 = 10_000;

/// Longest time that a stream may be UPDATING.
pub const UPDATE_MAX: Duration = Duration::from_secs(60 * 60);

/// Longest time between two doublings of an on-demand stream that can be asked for.
pub const ON_DEMAND_PERIOD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Characters that a stream's name has at most (service limit).
pub const STREAM_NAME_MAX: usize = 128;

/// Settings of the emulated stream and its server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// A second port, with TLS.
    pub tls: Option<Tls>,
    /// The stream's name: 1 to [`STREAM_NAME_MAX`] of `a-z A-Z 0-9 _ . -`.
    pub stream: String,
    /// Its shards, 1 to [`SHARDS_MAX`].
    pub shards: u32,
    /// Its capacity mode at the start. In on-demand mode the shards double when the load asks
    /// for it.
    pub mode: Mode,
    /// How the shard of a record is chosen.
    pub distribution: Distribution,
    /// Largest record, data and partition key together: 1 MiB to [`RECORD_BYTES_MAX`], whole KiB.
    pub record_bytes_max: usize,
    /// Whether shards throttle writers over 1,000 records/s or 1 MiB/s, and readers over 5 calls/s
    /// or 2 MiB/s.
    pub shard_limits: bool,
    /// How long the stream is UPDATING after a change of its shards, mode or record maximum was
    /// asked for; the change comes at its end. At most [`UPDATE_MAX`].
    pub update: Duration,
    /// The shortest time between two doublings of an on-demand stream; the load is averaged over
    /// a fifteenth of it. 100 ms to [`ON_DEMAND_PERIOD_MAX`].
    pub on_demand_period: Duration,
    /// Delay before each answer.
    pub latency: Duration,
    /// Up to this much more delay, evenly spread, chosen by the faults' seed.
    pub latency_jitter: Duration,
    /// More delay, with a long tail.
    pub latency_log_normal: Option<LogNormal>,
    /// Times in which the service stands still.
    pub latency_pauses: Option<Pauses>,
    /// Whether calls have to be signed.
    pub signatures: Signatures,
    /// The region of ARNs in answers to unsigned calls; others get that of their signature.
    pub region: String,
    /// Memory for records of a stream, in bytes; over it the oldest of a shard go. `None` keeps no
    /// record.
    pub retain_bytes_max: Option<usize>,
    /// File that gets the id of each stored event.
    pub ledger: Option<PathBuf>,
    /// Threads that serve, 1 to 64.
    pub threads: usize,
    /// Faults from the start, outside the windows of the script.
    pub faults: Faults,
    /// Faults at set times.
    pub fault_script: FaultScript,
}

impl Options {
    /// How the emulator is run.
    fn frame(&self) -> service::Options {
        service::Options {
            listen: self.listen,
            tls: self.tls.clone(),
            threads: self.threads,
            latency: Latency {
                fixed: self.latency,
                jitter: self.latency_jitter,
                log_normal: self.latency_log_normal,
                pauses: self.latency_pauses,
            },
            ledger: self.ledger.clone(),
            signatures: self.signatures.clone(),
            faults: self.faults.clone(),
            script: self.fault_script.clone(),
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            stream: "clicks".to_owned(),
            shards: 4,
            mode: Mode::default(),
            distribution: Distribution::default(),
            record_bytes_max: 1 << 20,
            shard_limits: true,
            update: Duration::from_secs(1),
            on_demand_period: Duration::from_secs(15 * 60),
            latency: Duration::ZERO,
            latency_jitter: Duration::ZERO,
            latency_log_normal: None,
            latency_pauses: None,
            signatures: Signatures::default(),
            region: service::REGION.to_owned(),
            retain_bytes_max: Some(256 << 20),
            ledger: None,
            threads: 1,
            faults: Faults::default(),
            fault_script: FaultScript::default(),
        }
    }
}

/// Why an emulator cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The stream's name is not one that the service allows.
    #[error("stream must be 1 to {STREAM_NAME_MAX} of a-z A-Z 0-9 _ . -, not {actual:?}")]
    StreamName {
        /// The name given.
        actual: String,
    },
    /// The region is no name of one.
    #[error("region must be letters, digits and -, not {actual:?}")]
    Region {
        /// The name given.
        actual: String,
    },
    /// The service refuses AUTO distribution on provisioned streams.
    #[error("distribution auto needs mode on-demand; the mode is provisioned")]
    AutoNeedsOnDemand,
    /// Errors common to all emulators.
    #[error(transparent)]
    Service(#[from] service::EmulatorError),
}

/// A record as a shard retains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Index of its shard.
    pub shard: u32,
    /// Its place in the shard; numbers grow by 1 for each accepted record.
    pub number: u64,
    /// Its partition key, if it was sent with one.
    pub key: Option<String>,
    /// Its data, decoded.
    pub data: Bytes,
    /// The hashes of its shard.
    pub hashes: RangeInclusive<u128>,
}

impl StoredRecord {
    /// What the Kinesis Client Library hands out of it: of a container the user records whose hash is in the shard.
    #[must_use]
    pub fn delivered(&self) -> Vec<&[u8]> {
        match user_records(&self.data) {
            None => vec![&self.data],
            Some(records) => {
                let records = records.into_iter();
                let here = records.filter(|record| self.hashes.contains(&record.hash));
                here.map(|record| record.data).collect()
            }
        }
    }
}

/// Records were stored that are not retained any more, so a question about all stored records
/// has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{missing} stored records are not retained; raise the retention cap or use a ledger")]
pub struct NotRetained {
    /// How many are gone.
    pub missing: u64,
}

fn millis(time: Duration) -> usize {
    usize::try_from(time.as_millis()).unwrap_or(usize::MAX)
}

/// Whether the service takes this as a stream's name.
fn is_stream_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=STREAM_NAME_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Refuses options that contradict the service or each other.
fn check(options: &Options) -> Result<(), EmulatorError> {
    let ranges = [
        ("shards", options.shards as usize, 1, SHARDS_MAX as usize),
        (
            "record_bytes_max",
            options.record_bytes_max,
            1 << 20,
            RECORD_BYTES_MAX,
        ),
        ("threads", options.threads, 1, 64),
        ("update_ms", millis(options.update), 0, millis(UPDATE_MAX)),
        (
            "on_demand_period_ms",
            millis(options.on_demand_period),
            100,
            millis(ON_DEMAND_PERIOD_MAX),
        ),
    ];
    for (option, actual, min, max) in ranges {
        service::in_range(option, actual, min, max)?;
    }
    if !is_stream_name(&options.stream) {
        return Err(EmulatorError::StreamName {
            actual: options.stream.chars().take(STREAM_NAME_MAX + 1).collect(),
        });
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if options.region.is_empty() || !options.region.bytes().all(word) {
        return Err(EmulatorError::Region {
            actual: options.region.chars().take(STREAM_NAME_MAX).collect(),
        });
    }
    if options.distribution == Distribution::Auto && options.mode == Mode::Provisioned {
        return Err(EmulatorError::AutoNeedsOnDemand);
    }
    options
        .faults
        .check()
        .map_err(service::EmulatorError::from)?;
    Ok(())
}
