//! What can be wrong with a configuration, in the operator's words.

use sluice_sinks::settings::Problem;
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
         SLUICE_OUTPUTS__<NAME>__<KEY>, SLUICE_LISTENERS__<NAME>__<KEY> and SLUICE_CONFIG){detail}"
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
    /// The value of an option of the command line does not fit.
    #[error("{flag}: {message}")]
    Flag {
        /// The option.
        flag: &'static str,
        /// What is wrong with the value.
        message: String,
    },
    /// Everything can be read, but not everything makes sense.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// The problems, one per line.
fn lines(problems: &[Problem]) -> impl fmt::Display {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
