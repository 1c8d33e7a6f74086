//! Counts of what checks found, kept by each listener core.

use super::{CheckResult, Rule};
use crate::stats::Counter;
use std::array;

/// Counters of one listener core for one schema.
#[derive(Debug)]
pub struct SchemaStats {
    /// Events that have it.
    pub events: Counter,
    /// Of these, stored unchecked, because the schema was not there yet.
    pub unchecked: Counter,
    /// Of these, that break it, by rule as in [`Rule::NAMES`].
    pub violations: [Counter; Rule::NAMES.len()],
}

impl Default for SchemaStats {
    fn default() -> Self {
        SchemaStats {
            events: Counter::default(),
            unchecked: Counter::default(),
            violations: array::from_fn(|_| Counter::default()),
        }
    }
}

impl SchemaStats {
    pub(crate) fn count(&self, result: CheckResult) {
        self.events.increment();
        match result {
            CheckResult::Kept => {}
            CheckResult::Unchecked => self.unchecked.increment(),
            CheckResult::Broken(rule) => {
                if let Some(counter) = self.violations.get(rule.index()) {
                    counter.increment();
                }
            }
        }
    }
}
