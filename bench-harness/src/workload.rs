//! A workload: the requests that the generator sends, and the expected results.

use crate::input;
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
    /// Requests on one connection, then it is closed and another opened; 1 is a connection per request.
    /// Without it connections are kept.
    #[serde(default)]
    pub requests_per_connection: Option<u32>,
    /// Which of the generator's two kinds of request.
    pub mode: Mode,
    /// Events per request.
    pub batch: u32,
    /// Bytes per event, where the generator makes the events.
    #[serde(default)]
    pub event_bytes: Option<u32>,
    /// A file beside the row that is sent as it is, instead of events that the generator makes.
    #[serde(default)]
    pub body: Option<String>,
    /// Expected result of each request.
    pub expect: Expect,
}

/// The generator's two kinds of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// POST of events as JSON.
    Event,
    /// POST of a body that the collector keeps as it is, in one record.
    Envelope,
}

/// Kinds of request bodies that collectors may or may not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// One JSON object.
    Object,
    /// A JSON array of objects.
    Array,
    /// Anything, behind the query string of a web SDK.
    Envelope,
}

/// Expected result of each request: these two add up to its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Events that the answer accepts.
    pub accepted: u32,
    /// Events that the answer refuses one by one. A workload with any meets only those peers that
    /// promise to.
    pub rejected: u32,
}

impl Workload {
    /// The kind of its bodies.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match (self.mode, self.batch) {
            (Mode::Envelope, _) => Shape::Envelope,
            (Mode::Event, 1) => Shape::Object,
            (Mode::Event, _) => Shape::Array,
        }
    }

    /// Records that a request comes to at the destination: an envelope is one, however many events
    /// are in it.
    #[must_use]
    pub fn records(&self) -> u64 {
        match self.mode {
            Mode::Envelope => 1,
            Mode::Event => u64::from(self.expect.accepted),
        }
    }
}

/// A row that may contradict itself.
pub trait Row: for<'de> Deserialize<'de> {
    /// Checks for contradictions.
    ///
    /// # Errors
    /// Names the contradicting keys.
    fn check(&self) -> Result<(), String>;
}

impl Row for Workload {
    fn check(&self) -> Result<(), String> {
        let Expect { accepted, rejected } = self.expect;
        let some_is_none = [self.rate, self.requests_per_connection].contains(&Some(0));
        if self.connections == 0 || self.batch == 0 || some_is_none {
            return Err(
                "connections, batch, rate and requests_per_connection have to be 1 or more"
                    .to_owned(),
            );
        }
        if u64::from(accepted) + u64::from(rejected) != u64::from(self.batch) {
            return Err(format!(
                "accepted {accepted} and rejected {rejected} do not make up batch {}",
                self.batch
            ));
        }
        if self.event_bytes.is_some() == self.body.is_some() {
            return Err("name one of event_bytes and body".to_owned());
        }
        if rejected > 0 && self.body.is_none() {
            return Err(format!(
                "rejected is {rejected}, but the generator makes good events only: name a body"
            ));
        }
        Ok(())
    }
}

/// Reads every `*.toml` of a folder into rows, by name.
///
/// # Errors
/// A file that cannot be read, is no such row or contradicts itself, named.
pub fn rows<T: Row>(folder: &Path) -> Result<Vec<(String, T)>, String> {
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
        let text = input::read(&path, input::SMALL_BYTES_MAX)?;
        let row: T = toml::from_str(&text).map_err(|error| bad(&error))?;
        row.check().map_err(|error| bad(&error))?;
        rows.push((stem.to_owned(), row));
    }
    rows.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    /// The result of reading a folder with this row.
    fn refusal(row: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("odd.toml"), row).unwrap();
        let error = rows::<Workload>(dir.path()).unwrap_err();
        assert!(error.contains("odd.toml"), "{error}");
        error
    }

    const GOOD: &str = "connections = 1\nmode = 'event'\nbatch = 20\n";

    #[test]
    fn every_shipped_workload_parses_with_its_body() {
        let workloads: Vec<(String, Workload)> = rows(&folder("workloads")).unwrap();
        assert!(workloads.len() >= 4);
        for body in workloads.iter().filter_map(|(_, row)| row.body.as_ref()) {
            assert!(folder("workloads").join(body).is_file(), "{body}");
        }
    }

    #[test]
    fn shipped_bad_events_match_their_row() {
        let workloads: Vec<(String, Workload)> = rows(&folder("workloads")).unwrap();
        let mut seen = 0;
        for (name, row) in workloads {
            let Some(body) = row.body else { continue };
            let text = fs::read(folder("workloads").join(body)).unwrap();
            let events: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
            let good = events.iter().filter(|event| event.is_object()).count();
            assert_eq!(good, row.expect.accepted as usize, "{name}");
            assert_eq!(events.len(), row.batch as usize, "{name}");
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn unknown_keys_in_rows_are_refused_by_file() {
        assert!(refusal("connections = 1\nspeed = 2\n").contains("speed"));
        let expect = "[expect]\naccepted = 20\nrejected = 0\nlost = 0\n";
        assert!(refusal(&format!("{GOOD}event_bytes = 9\n{expect}")).contains("lost"));
    }

    #[test]
    fn a_row_of_nothing_is_refused() {
        let expect = "[expect]\naccepted = 20\nrejected = 0\n";
        for key in ["rate", "requests_per_connection"] {
            let error = refusal(&format!("{GOOD}event_bytes = 9\n{key} = 0\n{expect}"));
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn row_counts_must_add_up_to_the_batch() {
        let expect = "[expect]\naccepted = 18\nrejected = 1\n";
        let error = refusal(&format!("{GOOD}body = 'x.json'\n{expect}"));
        assert!(
            error.contains("18") && error.contains("batch 20"),
            "{error}"
        );
    }

    #[test]
    fn rejections_need_a_body_that_earns_them() {
        let expect = "[expect]\naccepted = 18\nrejected = 2\n";
        assert!(refusal(&format!("{GOOD}event_bytes = 800\n{expect}")).contains("name a body"));
        let expect = "[expect]\naccepted = 20\nrejected = 0\n";
        assert!(refusal(&format!("{GOOD}{expect}")).contains("event_bytes and body"));
    }

    #[test]
    fn a_workload_without_expectation_is_refused() {
        assert!(refusal(&format!("{GOOD}event_bytes = 800\n")).contains("expect"));
    }
}
