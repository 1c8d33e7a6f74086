//! A workload: what the generator sends.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// One row of `workloads/`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name in tables, the file's name without its ending.
    #[serde(skip_deserializing)]
    pub name: String,
    /// Keep-alive connections. Without a rate each has one request under way: a closed loop.
    pub connections: u32,
    /// Requests per second, sent on a schedule whether or not they are answered: an open loop. Peers
    /// are then compared at the same load; in a closed loop the faster one also works in larger turns.
    #[serde(default)]
    pub rate: Option<u32>,
    /// `event` or `envelope`.
    pub mode: String,
    /// Events per request.
    pub batch: u32,
    /// Bytes per event.
    pub event_bytes: u32,
}

/// Reads every `*.toml` of a folder into rows, by name.
///
/// # Errors
/// A file that cannot be read or is no such row, named.
pub fn rows<T: for<'de> Deserialize<'de>>(folder: &Path) -> Result<Vec<(String, T)>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut rows = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let (Some(stem), Some("toml")) = (
            path.file_stem().and_then(|stem| stem.to_str()),
            path.extension().and_then(|end| end.to_str()),
        ) else {
            continue;
        };
        let bad = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| bad(&error))?;
        rows.push((
            stem.to_owned(),
            toml::from_str(&text).map_err(|error| bad(&error))?,
        ));
    }
    rows.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;

    fn folder(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    #[test]
    fn every_row_that_ships_can_be_read() {
        let workloads: Vec<(String, Workload)> = rows(&folder("workloads")).unwrap();
        let peers: Vec<(String, Peer)> = rows(&folder("peers")).unwrap();
        assert!(workloads.len() >= 4 && peers.len() >= 3);
        for (name, workload) in workloads {
            assert!(
                ["event", "envelope"].contains(&workload.mode.as_str()),
                "{name}"
            );
            assert!(workload.connections > 0 && workload.batch > 0, "{name}");
        }
    }

    #[test]
    fn a_row_with_an_unknown_key_is_refused_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("odd.toml"), "connections = 1\nspeed = 2\n").unwrap();
        let error = rows::<Workload>(dir.path()).unwrap_err();
        assert!(
            error.contains("odd.toml") && error.contains("speed"),
            "{error}"
        );
    }
}
