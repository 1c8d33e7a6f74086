//! The overlay of `SLUICE_*` variables: `SLUICE_LISTEN__ADDRESS` is `listen.address`,
//! `SLUICE_OUTPUTS__MAIN__TYPE` is `outputs.main.type`. Reads no environment itself.

use super::error::ConfigError;
use super::raw::Raw;
use serde::Deserialize;
use std::ffi::OsString;
use toml::{Table, Value};

/// What every variable of ours begins with.
const PREFIX: &str = "SLUICE_";

/// Names the configuration file; the command line reads it.
const FILE_VARIABLE: &str = "SLUICE_CONFIG";

/// Lays the variables that begin with `SLUICE_` over a table, each checked by itself, so that an
/// error can name it.
pub(super) fn overlay(
    table: &mut Table,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    let mut ours: Vec<(String, OsString)> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX) && name != FILE_VARIABLE)
        .collect();
    // The environment has no order; errors should.
    ours.sort();
    for (name, value) in ours {
        let Ok(value) = value.into_string() else {
            return Err(ConfigError::Variable {
                name,
                message: "its value is not UTF-8".to_owned(),
            });
        };
        if is_service_link(&name, &value) {
            continue;
        }
        merge(table, one(&name, &value)?);
    }
    Ok(())
}

/// Kubernetes gives every container variables for each Service of its namespace, and a Service called
/// `sluice` makes them ours by name: `SLUICE_SERVICE_HOST`, `SLUICE_SERVICE_PORT[_NAME]`,
/// `SLUICE_PORT`, `SLUICE_PORT_8088_TCP[_ADDR|_PORT|_PROTO]`. They must not stop the start.
fn is_service_link(name: &str, value: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let port = rest
        .split("_PORT_")
        .nth(1)
        .or_else(|| rest.strip_prefix("PORT_"));
    !rest.contains("__")
        && (rest.ends_with("SERVICE_HOST")
            || rest.contains("SERVICE_PORT")
            || port.is_some_and(|port| port.starts_with(|first: char| first.is_ascii_digit()))
            || (rest.ends_with("PORT") && value.contains("://")))
}

/// The table that one variable stands for.
fn one(name: &str, text: &str) -> Result<Table, ConfigError> {
    let unknown = |detail: String| ConfigError::UnknownVariable {
        name: name.to_owned(),
        detail,
    };
    let path = name
        .strip_prefix(PREFIX)
        .unwrap_or(name)
        .to_ascii_lowercase();
    let keys = path_of(&path).ok_or_else(|| unknown(String::new()))?;
    let table = |value: Value| {
        keys.iter().rev().fold(value, |value, key| {
            Value::Table(Table::from_iter([((*key).to_owned(), value)]))
        })
    };

    // A variable is text; which type the key has, only `Raw` knows. Text first: a stream may be
    // called `123`, and no number or switch accepts text.
    let candidates = [
        Some(Value::String(text.to_owned())),
        text.parse().ok().map(Value::Integer),
        text.parse().ok().map(Value::Boolean),
    ];
    let mut first_error = None;
    for value in candidates.into_iter().flatten() {
        match (Raw::deserialize(table(value.clone())), table(value)) {
            (Ok(_), Value::Table(table)) => return Ok(table),
            (Ok(_), _) => {}
            (Err(error), _) => {
                first_error.get_or_insert(error);
            }
        }
    }
    let message =
        first_error.map_or_else(String::new, |error| error.message().trim_end().to_owned());
    if message.starts_with("unknown field") {
        return Err(unknown(format!(": {message}")));
    }
    Err(ConfigError::Variable {
        name: name.to_owned(),
        message,
    })
}

/// Section and key, or `outputs`, name and key: no key contains `__`, the name of an output may.
fn path_of(path: &str) -> Option<Vec<&str>> {
    let (section, rest) = path.split_once("__")?;
    if section == "outputs" {
        let (output, key) = rest.rsplit_once("__")?;
        return Some(vec![section, output, key]);
    }
    Some(vec![section, rest])
}

/// Lays one table over another, tables within tables merged.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
