//! The tools of `resolve`: numbers that know their names, and a list of all that is wrong.

use super::bounds::Bound;
use sluice_sinks::settings::{Given as Setting, Problem};
use std::time::Duration;

/// A number with its name and unit, so that a contradiction can show it.
#[derive(Clone, Debug)]
pub(super) struct Number {
    pub(super) key: String,
    pub(super) unit: &'static str,
    pub(super) value: u64,
}

impl Number {
    pub(super) fn setting(&self) -> Setting {
        setting(&self.key, format!("{} {}", self.value, self.unit))
    }

    /// For counts and sizes: all bounds lie far below what a pointer can address.
    pub(super) fn size(&self) -> usize {
        usize::try_from(self.value).unwrap_or(usize::MAX)
    }

    pub(super) fn ms(&self) -> Duration {
        Duration::from_millis(self.value)
    }

    pub(super) fn seconds(&self) -> Duration {
        Duration::from_secs(self.value)
    }

    pub(super) fn plus(&self, other: &Number) -> Number {
        Number {
            key: format!("{} + {}", self.key, other.key),
            unit: self.unit,
            value: self.value.saturating_add(other.value),
        }
    }

    pub(super) fn times(&self, factor: u64) -> Number {
        Number {
            key: format!("{factor} * {}", self.key),
            unit: self.unit,
            value: self.value.saturating_mul(factor),
        }
    }
}

pub(super) fn setting(key: impl Into<String>, value: impl Into<String>) -> Setting {
    Setting {
        key: key.into(),
        value: value.into(),
    }
}

/// Collects what is wrong, so that the operator sees all of it at once.
#[derive(Default)]
pub(super) struct Check {
    pub(super) problems: Vec<Problem>,
}

impl Check {
    /// What was written, if it is within its bound; else the default, so that one mistake is
    /// reported once.
    pub(super) fn number(
        &mut self,
        bound: &Bound,
        output: &str,
        given: Option<u64>,
        default: u64,
    ) -> Number {
        let key = format!("outputs.{output}.{}", bound.key);
        let mut value = given.unwrap_or(default.clamp(bound.min, bound.max));
        if !(bound.min..=bound.max).contains(&value) {
            self.problems.push(Problem::OutOfRange {
                key: key.clone(),
                value,
                unit: bound.unit,
                min: bound.min,
                max: bound.max,
            });
            value = default.clamp(bound.min, bound.max);
        }
        Number {
            key,
            unit: bound.unit,
            value,
        }
    }

    pub(super) fn require(
        &mut self,
        holds: bool,
        left: &Number,
        must: &'static str,
        right: &Number,
        why: &'static str,
    ) {
        if !holds {
            self.problems.push(Problem::Contradiction {
                left: left.setting(),
                must,
                right: right.setting(),
                why,
            });
        }
    }

    pub(super) fn below(&mut self, left: &Number, right: &Number, why: &'static str) {
        self.require(left.value < right.value, left, "below", right, why);
    }

    pub(super) fn at_most(&mut self, left: &Number, right: &Number, why: &'static str) {
        self.require(left.value <= right.value, left, "at most", right, why);
    }

    pub(super) fn at_least(&mut self, left: &Number, right: &Number, why: &'static str) {
        self.require(left.value >= right.value, left, "at least", right, why);
    }

    /// A list is not too long.
    pub(super) fn few(&mut self, key: &str, count: usize, unit: &'static str, max: usize) {
        if count > max {
            self.problems.push(Problem::OutOfRange {
                key: key.to_owned(),
                value: count as u64,
                unit,
                min: 0,
                max: max as u64,
            });
        }
    }

    pub(super) fn malformed(
        &mut self,
        key: impl Into<String>,
        value: &str,
        expected: &'static str,
    ) {
        self.problems.push(Problem::Malformed {
            key: key.into(),
            value: value.to_owned(),
            expected,
        });
    }
}
