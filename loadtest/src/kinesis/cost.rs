//! Billing counters in the service's units, without prices.

use super::stream::Mode;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Bytes of a PUT payload unit (pricing of provisioned streams: 25 KB, taken as KiB).
pub const PUT_PAYLOAD_UNIT_BYTES: u32 = 25 << 10;

/// Bytes that on-demand streams round each record up to (pricing: 1 KB, taken as KiB).
pub const ON_DEMAND_ROUNDING_BYTES: u32 = 1 << 10;

/// Billing counters of the stream so far. Both ways of counting records go on whatever the
/// mode is, so that one run shows what it costs in either; `mode` says which of them applies.
/// A record counts with its data and partition key. Retrieval and retention are not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostMeter {
    /// The capacity mode in force: `PROVISIONED` or `ON_DEMAND`.
    pub mode: String,
    /// Milliseconds since the stream began.
    pub elapsed_ms: u64,
    /// PUT payload units, as provisioned streams are billed: each record rounded up to 25 KiB.
    pub put_payload_units: u64,
    /// Bytes as on-demand streams are billed: each record rounded up to 1 KiB.
    pub on_demand_bytes: u64,
    /// Seconds that shards were open, of all shards together; 3,600 are one shard hour. Closed
    /// shards are not counted, nor is a part of an hour rounded up.
    pub shard_seconds: u64,
    /// The same, were it to go on like this for an hour.
    pub per_hour: CostPerHour,
}

/// A [`CostMeter`] extrapolated to an hour; zeros before the first millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostPerHour {
    /// PUT payload units.
    pub put_payload_units: u64,
    /// Bytes as on-demand streams are billed.
    pub on_demand_bytes: u64,
    /// Seconds that shards are open.
    pub shard_seconds: u64,
}

/// Counts as records come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Billed {
    put_payload_units: u64,
    on_demand_kib: u64,
}

impl Billed {
    /// Counts a record that was answered as stored. The empty one counts as the smallest.
    pub(super) fn add(&mut self, bytes: u32) {
        let bytes = bytes.max(1);
        self.put_payload_units += u64::from(bytes.div_ceil(PUT_PAYLOAD_UNIT_BYTES));
        self.on_demand_kib += u64::from(bytes.div_ceil(ON_DEMAND_ROUNDING_BYTES));
    }

    /// The meter at `now`, the time since the stream began, with the time that shards were open.
    pub(super) fn meter(self, mode: Mode, now: Duration, open: Duration) -> CostMeter {
        let elapsed_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let on_demand_bytes = self.on_demand_kib * u64::from(ON_DEMAND_ROUNDING_BYTES);
        let per_hour = |count: u128| {
            let hour = (count * 3_600_000).checked_div(u128::from(elapsed_ms));
            u64::try_from(hour.unwrap_or(0)).unwrap_or(u64::MAX)
        };
        CostMeter {
            mode: mode.as_str().to_owned(),
            elapsed_ms,
            put_payload_units: self.put_payload_units,
            on_demand_bytes,
            shard_seconds: open.as_secs(),
            per_hour: CostPerHour {
                put_payload_units: per_hour(u128::from(self.put_payload_units)),
                on_demand_bytes: per_hour(u128::from(on_demand_bytes)),
                shard_seconds: per_hour(open.as_millis()) / 1_000,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_rounded_up_by_itself() {
        let mut billed = Billed::default();
        for bytes in [0, 1, 1_024, 1_025, 25_600, 25_601] {
            billed.add(bytes);
        }
        let meter = billed.meter(Mode::OnDemand, Duration::ZERO, Duration::ZERO);
        assert_eq!(meter.put_payload_units, 1 + 1 + 1 + 1 + 1 + 2);
        assert_eq!(meter.on_demand_bytes, (1 + 1 + 1 + 2 + 25 + 26) * 1_024);
        assert_eq!(meter.mode, "ON_DEMAND");
        assert_eq!(meter.per_hour, CostPerHour::default());
    }

    #[test]
    fn an_hour_is_extrapolated_from_what_was() {
        let mut billed = Billed::default();
        for _ in 0..100 {
            billed.add(1_000);
        }
        let open = Duration::from_secs(4 * 90);
        let meter = billed.meter(Mode::Provisioned, Duration::from_secs(90), open);
        assert_eq!((meter.elapsed_ms, meter.shard_seconds), (90_000, 360));
        assert_eq!(
            meter.per_hour,
            CostPerHour {
                put_payload_units: 4_000,
                on_demand_bytes: 4_000 * 1_024,
                shard_seconds: 4 * 3_600,
            }
        );
    }
}
