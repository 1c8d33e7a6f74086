//! Details of failed calls, which counters do not have, without a line per call.

use sluice_core::cause::Cause;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// The least time between two log lines about the same kind of failure.
const WARN_INTERVAL: Duration = Duration::from_secs(30);

/// Logs details of failed calls, at most once per cause every 30 s.
#[derive(Debug, Default)]
pub(crate) struct RateLimitedLog(Mutex<Option<(Cause, Instant)>>);

impl RateLimitedLog {
    pub(crate) fn warn(&self, call: &str, stream: &str, cause: Cause, text: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_repeat =
            last.is_some_and(|(before, at)| before == cause && at.elapsed() < WARN_INTERVAL);
        if !is_repeat {
            *last = Some((cause, Instant::now()));
            warn!(stream, cause = cause.label(), error = text, "{call} failed");
        }
    }

    /// The response has a different number of entries than the call had records.
    pub(crate) fn warn_of_entries(&self, call: &str, stream: &str, sent: usize, came: usize) {
        let text = format!("{sent} records were sent, {came} entries came back");
        self.warn(call, stream, Cause::Unknown, &text);
    }
}
