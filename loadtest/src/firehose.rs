//! An emulator of Firehose with Direct PUT: one delivery stream, its limits and quotas, the meter
//! that bills 5 KiB per record, and faults on request.
//! Delivers nowhere: records stay in memory, their event ids go to the ledger.

mod api;
mod server;

pub use crate::service::EmulatorError;
pub use api::{CALL_BYTES_MAX, CALL_RECORDS_MAX, RECORD_BYTES_MAX};
pub use server::{Emulator, Stats};

use crate::service;

/// Bytes that each record is billed in multiples of (service rule).
pub const BILLED_UNIT: u64 = 5 << 10;

/// Quotas of one delivery stream per second; records and calls over them are throttled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Records.
    pub records_per_s: u64,
    /// Calls.
    pub calls_per_s: u64,
    /// Bytes of data.
    pub bytes_per_s: u64,
}

impl Quota {
    /// The default in us-east-1, us-west-2 and eu-west-1 (Firehose developer guide, quotas).
    pub const LARGE: Quota = Quota {
        records_per_s: 500_000,
        calls_per_s: 2_000,
        bytes_per_s: 5 << 20,
    };

    /// The default in all other regions (Firehose developer guide, quotas).
    pub const SMALL: Quota = Quota {
        records_per_s: 100_000,
        calls_per_s: 1_000,
        bytes_per_s: 1 << 20,
    };

    /// The quota raised or lowered to this many bytes per second: its three parts scale together.
    #[must_use]
    pub fn scaled_to(self, bytes_per_s: u64) -> Quota {
        let scale = |part: u64| {
            let scaled = u128::from(part) * u128::from(bytes_per_s) / u128::from(self.bytes_per_s);
            u64::try_from(scaled).unwrap_or(u64::MAX).max(1)
        };
        Quota {
            records_per_s: scale(self.records_per_s),
            calls_per_s: scale(self.calls_per_s),
            bytes_per_s,
        }
    }
}

/// Settings of the emulated service and its server.
#[derive(Clone, Debug)]
pub struct Options {
    /// How it is run.
    pub service: service::Options,
    /// The delivery stream's name: 1 to 64 of `[a-zA-Z0-9_.-]`.
    pub stream: String,
    /// Quotas per second; `None` disables throttling.
    pub quota: Option<Quota>,
    /// Memory for records, in bytes; over it the oldest go. `None` keeps no record.
    pub retain_bytes_max: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            service: service::Options::default(),
            stream: "clicks".to_owned(),
            quota: Some(Quota::LARGE),
            retain_bytes_max: Some(256 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_quota_scale_together() {
        assert_eq!(Quota::LARGE.scaled_to(5 << 20), Quota::LARGE);
        let doubled = Quota::LARGE.scaled_to(10 << 20);
        assert_eq!(
            (doubled.records_per_s, doubled.calls_per_s),
            (1_000_000, 4_000)
        );
        assert_eq!(Quota::SMALL.scaled_to(1).calls_per_s, 1);
    }
}
