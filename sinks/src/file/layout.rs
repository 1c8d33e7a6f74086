//! What lies where under the directory of a file sink.
//!
//! ```text
//! <dir>/.open/<name>                             exists while <name>.ndjson may still grow
//! <dir>/year=2026/month=11/day=20/hour=07/<name>.ndjson
//!                                        /<name>.ndjson.torn   what a crash left unfinished
//! ```
//!
//! `<name>` is `<unix seconds of creation>-<16 hex digits>`; the seconds also give the hour, so a
//! marker in `.open` leads to its file without searching the tree.

use sluice_core::time::Wall;
use std::path::{Path, PathBuf};

/// Name of the directory of markers in the sink's directory.
pub(super) const OPEN: &str = ".open";
/// Ending of files that hold events.
pub(super) const DATA_SUFFIX: &str = ".ndjson";

/// Names one data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    secs: u64,
    random: u64,
}

impl FileName {
    /// A name for a file created now.
    pub(super) fn new(now: Wall, random: u64) -> FileName {
        FileName {
            secs: now.secs,
            random,
        }
    }

    /// Reads the name of a marker; `None` when it is not of our making.
    pub(super) fn parse(text: &str) -> Option<FileName> {
        let (secs, random) = text.split_once('-')?;
        let name = FileName {
            secs: secs.parse().ok()?,
            random: u64::from_str_radix(random, 16).ok()?,
        };
        (name.to_string() == text).then_some(name)
    }

    /// Hours since 1970 of its creation.
    pub(super) fn hour(&self) -> u64 {
        self.secs / 3600
    }

    /// Seconds from its creation to `now`, zero if the clock went back.
    pub(super) fn age_secs(&self, now: Wall) -> u64 {
        now.secs.saturating_sub(self.secs)
    }

    /// The directories of its hour from `dir` downwards: year, month, day, hour. `None` when the
    /// clock reads a year beyond 9999.
    pub(super) fn partition(&self, dir: &Path) -> Option<[PathBuf; 4]> {
        let at = jiff::Timestamp::from_second(i64::try_from(self.secs).ok()?).ok()?;
        let utc = jiff::tz::Offset::UTC.to_datetime(at);
        let year = dir.join(format!("year={:04}", utc.year()));
        let month = year.join(format!("month={:02}", utc.month()));
        let day = month.join(format!("day={:02}", utc.day()));
        let hour = day.join(format!("hour={:02}", utc.hour()));
        Some([year, month, day, hour])
    }

    /// Where its marker lies.
    pub(super) fn marker(&self, dir: &Path) -> PathBuf {
        dir.join(OPEN).join(self.to_string())
    }

    /// The data file's own name.
    pub(super) fn data_name(&self) -> String {
        format!("{self}{DATA_SUFFIX}")
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:016x}", self.secs, self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_the_utc_hour_of_its_creation() {
        let name = FileName::new(
            Wall {
                secs: 1_795_158_000,
                nanos: 0,
            },
            0xab,
        );
        let [.., hour] = name.partition(Path::new("d")).unwrap();
        assert_eq!(hour, Path::new("d/year=2026/month=11/day=20/hour=07"));
        assert_eq!(name.data_name(), "1795158000-00000000000000ab.ndjson");
    }

    #[test]
    fn marker_names_round_trip() {
        let name = FileName::new(Wall { secs: 7, nanos: 0 }, u64::MAX);
        assert_eq!(FileName::parse(&name.to_string()), Some(name));
        for unknown in [
            "",
            "7",
            "7-",
            "7-ff",
            "+7-00000000000000ff",
            "7-00000000000000FF",
            ".swp",
        ] {
            assert_eq!(FileName::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_clock_beyond_the_calendar_has_no_partition() {
        for secs in [u64::MAX, 253_402_300_800] {
            assert_eq!(
                FileName::new(Wall { secs, nanos: 0 }, 0).partition(Path::new("d")),
                None
            );
        }
    }
}
