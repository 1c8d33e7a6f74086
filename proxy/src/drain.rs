//! How the process ends.

use sluice_sinks::settings;
use sluice_sinks::settings::{HOUR_MS, MINUTE_MS, Number, Reader, ms};
use std::time::Duration;

settings! {
    /// How the process ends. Both times count from the signal.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DrainSettings from (reader, ack_deadline: Duration) {
        /// How long requests are still accepted while the health endpoint says 503.
        grace as "grace_ms": Duration = Duration::from_secs(15), ms(0, 10 * MINUTE_MS);
        /// When the process ends, whatever is left; at least grace and ack deadline together.
        deadline as "deadline_ms": Duration = (grace + ack_deadline).max(Duration::from_secs(25)),
            ms(1, HOUR_MS).default_is("25000, at least `grace_ms` + `ack.deadline_ms`");
    }
}

impl DrainSettings {
    /// Rules between settings.
    pub fn check(&self, reader: &mut Reader, ack_deadline: &Number) {
        let needed = reader.number("grace_ms").plus(ack_deadline);
        let deadline = reader.number("deadline_ms");
        let why = "the last request of the grace still waits for its answer";
        reader.at_least(&deadline, &needed, why);
    }
}
