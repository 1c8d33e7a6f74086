//! What can be wrong with settings, in the operator's words.

use std::borrow::Cow;

use super::{Fault, Kind, Setting, SettingValue};

/// A setting with its value and unit, as the operator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// For instance `ack.deadline_ms`.
    pub key: String,
    /// For instance `4000 ms`.
    pub value: String,
}

impl Given {
    /// A setting and its value.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Given {
        Given {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// One setting, or two, that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A number outside its bounds.
    #[error("`{key}` is {value} {unit}, allowed is {min} to {max} {unit}")]
    OutOfRange {
        /// The setting.
        key: String,
        /// Its value.
        value: u64,
        /// What it counts.
        unit: &'static str,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// Two settings that cannot both be.
    #[error("`{}` is {}, but must be {must} `{}`, which is {}: {why}", .left.key, .left.value, .right.key, .right.value)]
    Contradiction {
        /// One.
        left: Given,
        /// How they must relate: `below`, `at most` and so on.
        must: &'static str,
        /// The other.
        right: Given,
        /// What would go wrong.
        why: &'static str,
    },
    /// A setting that has no meaning where it stands.
    #[error("`{key}` is set, but `{because}` is {value}: it means nothing then")]
    Misplaced {
        /// The setting.
        key: String,
        /// The setting that rules it out.
        because: String,
        /// That one's value.
        value: String,
    },
    /// A setting that has no default.
    #[error("`{key}` is missing: {why}")]
    Missing {
        /// The setting.
        key: String,
        /// What needs it.
        why: Cow<'static, str>,
    },
    /// A text that its type refuses.
    #[error("`{key}`: {why}")]
    RefusedText {
        /// The setting.
        key: String,
        /// What is wrong; names the text.
        why: String,
    },
    /// A text of the wrong form.
    #[error("`{key}` is {value:?}, expected {expected}")]
    Malformed {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
        /// What it must look like.
        expected: &'static str,
    },
}

impl Problem {
    /// The problem of a value that was set by code, not written by an operator.
    pub fn of<T: SettingValue>(setting: &Setting, value: &T) -> Option<Problem> {
        let shown = value.show(&setting.form)?;
        let faults = T::read(&setting.form, &shown).err()?;
        let fault = faults.into_iter().next()?;
        Some(Problem::from_fault(
            setting.key.to_owned(),
            &setting.form.kind,
            fault,
        ))
    }

    /// A fault with the name of its setting.
    pub(super) fn from_fault(key: String, kind: &Kind, fault: Fault) -> Problem {
        match (fault, kind) {
            (Fault::OutOfRange(value), Kind::Number { unit, min, max }) => Problem::OutOfRange {
                key,
                value,
                unit,
                min: *min,
                max: *max,
            },
            (Fault::OutOfRange(value), Kind::List { unit, max, .. }) => Problem::OutOfRange {
                key,
                value,
                unit,
                min: 0,
                max: *max as u64,
            },
            (Fault::OutOfRange(value), _) => Problem::RefusedText {
                key,
                why: format!("{value} is out of range"),
            },
            (Fault::Malformed { value, expected }, _) => Problem::Malformed {
                key,
                value,
                expected,
            },
            (Fault::Refused(why) | Fault::Unreadable(why), _) => Problem::RefusedText { key, why },
        }
    }
}
