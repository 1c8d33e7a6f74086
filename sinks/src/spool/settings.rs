//! Settings of `[outputs.<name>.spool]`.

use crate::output::OutputContext;
use crate::settings::{GIB, KIB, MINUTE_MS, Number, Reader, bytes, dir, ms, switch};
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
        let others = ["bytes_max", "after_ms", "fsync"];
        reader.only_if(has_dir, &others, "dir", "not written");
        has_dir.then_some(settings)
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
