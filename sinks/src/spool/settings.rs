//! Settings of `[outputs.<name>.spool]`.

use super::pace::Pace;
use crate::output::OutputContext;
use crate::settings::{GIB, KIB, MINUTE_MS, Number, Reader, bytes, dir, ms, number, switch};
use crate::sink::Quota;
use std::path::PathBuf;
use std::time::Duration;

/// The section inside an output's.
pub const SECTION: &str = "spool";

crate::settings! {
    /// Where an output keeps records that its destination does not take, and when.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SpoolSettings from (reader) {
        /// The directory of records that wait for the destination; created when missing, and locked: no other output or process may have the same. Without it there is no spool.
        dir: Option<PathBuf> = None, dir().default_is("no spool");
        /// Bytes that the directory may hold; over it, records are confirmed by the destination only.
        bytes_max: u64 = 4 * GIB, bytes(64 * KIB, 64 * 1_024 * GIB);
        /// A record that the destination has not confirmed after this time goes to the disk, and its client is answered. Less than the client or `retry_for_ms` allows; more than the destination takes on a slow day, or records are delivered twice.
        after as "after_ms": Duration = Duration::from_secs(1), ms(10, MINUTE_MS);
        /// Whether the disk is synced before a client is answered. Without, records outlive the process but not the host.
        fsync: bool = true, switch();
        /// Replay takes at most this part of what the destination's limits allow, where it has known ones, so that the rest is for live records: 1,000 records and 1 MiB a second for each shard of a Kinesis stream. Each proxy takes as much. `off` for no such bound.
        replay_percent: Option<u32> = Some(25), number("percent", 1, 100).or_off();
        /// Replay sends at most this many records a second; `off` for no such bound.
        replay_records_per_s: Option<u64> = None, number("records/s", 1, 10_000_000).or_off();
    }
}

impl Default for SpoolSettings {
    fn default() -> SpoolSettings {
        SpoolSettings::read(&mut Reader::default())
    }
}

impl SpoolSettings {
    /// Reads the spool of the output whose section is entered next.
    pub fn of_output(reader: &mut Reader, section: &str) -> Option<SpoolSettings> {
        reader.enter(format!("{section}.{SECTION}"));
        let settings = SpoolSettings::read(reader);
        let has_dir = settings.dir.is_some();
        let others = [
            "bytes_max",
            "after_ms",
            "fsync",
            "replay_percent",
            "replay_records_per_s",
        ];
        reader.only_if(has_dir, &others, "dir", "not written");
        has_dir.then_some(settings)
    }

    /// How fast records are replayed to a destination with these limits.
    pub(crate) fn pace(&self, quota: Option<Quota>) -> Pace {
        let part = |of: u64| {
            self.replay_percent
                .map(|percent| of * u64::from(percent) / 100)
        };
        let records = quota.and_then(|quota| part(quota.records_per_s));
        let bounds = [records, self.replay_records_per_s];
        Pace {
            records_per_s: bounds.into_iter().flatten().min(),
            bytes_per_s: quota.and_then(|quota| part(quota.bytes_per_s)),
        }
    }

    /// Checks the spool against the time that the output has for a record.
    pub(crate) fn check(&self, reader: &mut Reader, output: &OutputContext, within: &Number) {
        let key = format!("outputs.{}.{SECTION}.after_ms", output.name);
        let after = u64::try_from(self.after.as_millis()).unwrap_or(u64::MAX);
        let after = Number::new(key, "ms", after);
        reader.below(
            &after,
            within,
            "the record would be refused before it is spooled",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        records_per_s: 4_000,
        bytes_per_s: 4 << 20,
    };

    fn pace(percent: Option<u32>, records: Option<u64>, quota: Option<Quota>) -> Pace {
        let settings = SpoolSettings {
            replay_percent: percent,
            replay_records_per_s: records,
            ..SpoolSettings::default()
        };
        settings.pace(quota)
    }

    #[test]
    fn replay_takes_a_quarter_of_a_known_quota_by_default() {
        let expected = Pace {
            records_per_s: Some(1_000),
            bytes_per_s: Some(1 << 20),
        };
        assert_eq!(SpoolSettings::default().pace(Some(QUOTA)), expected);
        assert_eq!(SpoolSettings::default().pace(None), Pace::default());
    }

    #[test]
    fn the_lower_bound_of_replay_holds() {
        let records = |pace: Pace| pace.records_per_s;
        assert_eq!(records(pace(Some(50), Some(100), Some(QUOTA))), Some(100));
        assert_eq!(
            records(pace(Some(50), Some(9_000), Some(QUOTA))),
            Some(2_000)
        );
        assert_eq!(records(pace(Some(50), Some(100), None)), Some(100));
        assert_eq!(pace(None, None, Some(QUOTA)), Pace::default());
    }
}
