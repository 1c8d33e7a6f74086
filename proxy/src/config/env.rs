//! The overlay of `SLUICE_*` variables: `SLUICE_LISTEN__ADDRESS` is `listen.address`,
//! `SLUICE_OUTPUTS__MAIN__TYPE` is `outputs.main.type`; listeners have names, too. Reads no environment itself.

use super::error::ConfigError;
use super::known;
use sluice_sinks::settings::{Origin, Tree, Value};
use std::ffi::OsString;

/// The prefix of every variable of Sluice's.
const PREFIX: &str = "SLUICE_";

/// Names the configuration file; the command line reads it.
const FILE_VARIABLE: &str = "SLUICE_CONFIG";

/// Lays the variables that begin with `SLUICE_` over a tree.
pub(super) fn overlay(
    tree: &mut Tree,
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
        if !is_service_link(&name, &value) {
            let path = path_of(&name)?;
            tree.set(path, Value::Untyped(value), Origin::Variable(name));
        }
    }
    Ok(())
}

/// Kubernetes gives every container variables for each Service of its namespace, and a Service called
/// `sluice` makes them look like settings: `SLUICE_SERVICE_HOST`, `SLUICE_SERVICE_PORT[_NAME]`,
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

/// The path of the setting that a variable names: section and key, or `outputs` or `listeners`, name and key.
/// No key contains `__`; a name may.
fn path_of(name: &str) -> Result<String, ConfigError> {
    let unknown = |detail: String| ConfigError::UnknownVariable {
        name: name.to_owned(),
        detail,
    };
    let path = name
        .strip_prefix(PREFIX)
        .unwrap_or(name)
        .to_ascii_lowercase();
    let (section, rest) = path
        .split_once("__")
        .ok_or_else(|| unknown(String::new()))?;
    let (section, key) = match section {
        named if known::NAMED.contains(&named) => {
            let (name, key) = rest
                .rsplit_once("__")
                .ok_or_else(|| unknown(String::new()))?;
            // The section of a spool lies in its output's.
            match name.strip_suffix("__spool") {
                Some(output) => (format!("{section}.{output}.spool"), key),
                None => (format!("{section}.{name}"), key),
            }
        }
        _ if !known::is_section(section) => {
            return Err(unknown(format!(": {}", known::unknown_section(section))));
        }
        _ => (section.to_owned(), rest),
    };
    if !known::has_key(&section, key) {
        return Err(unknown(format!(": {}", known::unknown_key(&section, key))));
    }
    Ok(format!("{section}.{key}"))
}
