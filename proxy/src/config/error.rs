//! What can be wrong with a configuration, in the operator's words.

use std::fmt;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, too large or not text.
    #[error("{}: {reason}", file.display())]
    Unreadable {
        /// Its path as given.
        file: PathBuf,
        /// What stood in the way.
        reason: String,
    },
    /// The file is not TOML, or has a key that does not exist or whose value has the wrong type.
    #[error("{}:{line}: {message}", file.display())]
    Syntax {
        /// Its path as given.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there; names the key.
        message: String,
    },
    /// A variable begins with `SLUICE_` but names no key.
    #[error(
        "environment variable {name} names no setting (they are written SLUICE_<SECTION>__<KEY>, \
         SLUICE_OUTPUTS__<NAME>__<KEY> and SLUICE_CONFIG){detail}"
    )]
    UnknownVariable {
        /// The variable.
        name: String,
        /// Which part of it is unknown; may be empty.
        detail: String,
    },
    /// A variable names a key, but its value does not fit.
    #[error("environment variable {name}: {message}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong with the value.
        message: String,
    },
    /// File and variables are each right but do not go together.
    #[error("file and environment together: {message}")]
    Merged {
        /// What is wrong.
        message: String,
    },
    /// Everything can be read, but not everything makes sense.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// A setting with its value and unit, as the operator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// For instance `ack.deadline_ms`.
    pub key: String,
    /// For instance `4000 ms`.
    pub value: String,
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
        left: Setting,
        /// How they must relate: `below`, `at most` and so on.
        must: &'static str,
        /// The other.
        right: Setting,
        /// What would go wrong.
        why: &'static str,
    },
    /// A setting that has no meaning where it stands.
    #[error("`{key}` is set, but `{because}` is {value}, which knows no such setting")]
    Misplaced {
        /// The setting.
        key: String,
        /// The setting that rules it out.
        because: String,
        /// That one's value.
        value: String,
    },
    /// A setting without which the rest makes no sense.
    #[error("`{key}` is missing: {why}")]
    Missing {
        /// The setting.
        key: String,
        /// What needs it.
        why: &'static str,
    },
    /// A text that is not what it has to be.
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

/// The problems, one per line.
fn lines(problems: &[Problem]) -> impl fmt::Display {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
