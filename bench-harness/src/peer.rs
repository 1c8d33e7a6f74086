//! A peer's row: how to install, start, drive, count and stop a server. No processes here.

use crate::counter::{Counter, Counts};
use crate::workload::{Row, Shape, Workload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One row of `peers/`. Commands are a program and its arguments. In them, in variables, pages and
/// copied files these placeholders are replaced:
///
/// | placeholder | value |
/// | --- | --- |
/// | `{bin}` | folder of the release binaries |
/// | `{rows}` | folder of the rows |
/// | `{tools}` | folder that rows install into |
/// | `{dir}` | this peer's folder while it runs, deleted afterwards |
/// | `{disk}` | the same, on a disk below `{tools}`: a row that names it is skipped where that is memory |
/// | `{port}`, `{admin}`, `{aux}`, `{stats}` | free ports: requests, counts, backend, counts of the backend |
/// | `{cores}` | number of cores |
/// | `{<name>}` | path of the program `<name>` of [`Peer::programs`] |
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Description for the table's legend.
    pub about: String,
    /// Third-party programs that it needs, each with the candidates in order: a path, or a name on
    /// the PATH. A row without one of them is skipped.
    #[serde(default)]
    pub programs: BTreeMap<String, Vec<String>>,
    /// Installs the programs, however often it is run; only with `--install`.
    #[serde(default)]
    pub install: Vec<String>,
    /// Files beside the row that are copied to `{dir}` with the placeholders replaced.
    #[serde(default)]
    pub files: Vec<String>,
    /// Starts the server in the foreground. Its descendants count as the peer.
    pub run: Vec<String>,
    /// Environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A server that it needs, which listens on `{aux}` and does not count as the peer.
    #[serde(default)]
    pub backend: Vec<String>,
    /// Commands of which each prints a version in its first line.
    #[serde(default)]
    pub version: Vec<Vec<String>>,
    /// Where and how it takes requests.
    #[serde(default)]
    pub endpoint: Endpoint,
    /// How to see that it is up.
    #[serde(default)]
    pub ready: Ready,
    /// How to end it.
    #[serde(default)]
    pub stop: Stop,
    /// Its own counters; checked after every run.
    #[serde(default)]
    pub counters: Vec<Counter>,
    /// Records that its backend must hold in the end.
    #[serde(default)]
    pub drained: Option<Drained>,
}

/// Records that a backend must hold once the peer, and then the backend by SIGTERM, have ended: each event
/// that was accepted, for a peer that responds before its destination has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drained {
    /// File that the backend writes: a first line, and one with an id for each event. Events of a
    /// workload's own body have none.
    pub ledger: String,
}

/// Where and how a peer takes requests.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// Path; the generator's own for the kind of request, `/v1/events` or `/collect`, unless given.
    pub path: Option<String>,
    /// How requests are sent.
    pub method: Method,
    /// More header lines, `Name: value`.
    pub headers: Vec<String>,
    /// Bodies that it accepts; it is skipped for other workloads.
    pub bodies: Vec<Shape>,
    /// Status of an answer that accepts the request. By any but 200 it accepts all events in it.
    pub status: u16,
    /// Whether it promises to refuse bad events one by one and to list them in an answer of 200. It
    /// then needs counters of accepted and rejected events, which decide.
    pub rejects_events: bool,
}

impl Default for Endpoint {
    fn default() -> Endpoint {
        Endpoint {
            path: None,
            method: Method::Post,
            headers: Vec::new(),
            bodies: vec![Shape::Object, Shape::Array, Shape::Envelope],
            status: 200,
            rejects_events: false,
        }
    }
}

/// How the generator sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// POST.
    Post,
}

/// How to see that a peer is up: its port accepts a connection and, with a path, answers `status`
/// there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ready {
    /// Asked by GET.
    pub path: Option<String>,
    /// Port that is asked, `{port}` unless given.
    pub port: String,
    /// Expected status.
    pub status: u16,
    /// Seconds that it may take, at most 600.
    pub seconds: u64,
}

impl Default for Ready {
    fn default() -> Ready {
        Ready {
            path: None,
            port: "{port}".to_owned(),
            status: 200,
            seconds: 20,
        }
    }
}

/// How to end a peer. Processes still running after `seconds` are killed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// Signal to the first process.
    pub signal: StopSignal,
    /// Run instead of the signal.
    pub command: Vec<String>,
    /// Patience, at most 60.
    pub seconds: u64,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop {
            signal: StopSignal::Term,
            command: Vec::new(),
            seconds: 5,
        }
    }
}

/// Signals that end servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGKILL, for servers without state to save.
    Kill,
}

impl Row for Peer {
    fn check(&self) -> Result<(), String> {
        if self.run.is_empty() {
            return Err("run is empty".to_owned());
        }
        if self.version.iter().any(Vec::is_empty) {
            return Err("a version command is empty".to_owned());
        }
        for (key, value, limit) in [
            ("ready.seconds", self.ready.seconds, 600),
            ("stop.seconds", self.stop.seconds, 60),
        ] {
            if value > limit {
                return Err(format!("{key} is {value}, at most {limit} are allowed"));
            }
        }
        if !(200..300).contains(&self.endpoint.status) {
            return Err(format!(
                "endpoint.status is {}, which accepts nothing: 200 to 299",
                self.endpoint.status
            ));
        }
        if self.endpoint.rejects_events && self.endpoint.status != 200 {
            return Err(format!(
                "rejects_events needs answers of 200 that list them, endpoint.status is {}",
                self.endpoint.status
            ));
        }
        let has = |counts| self.counters.iter().any(|counter| counter.counts == counts);
        if self.endpoint.rejects_events && !(has(Counts::Accepted) && has(Counts::Rejected)) {
            return Err("rejects_events needs counters of accepted and rejected events".to_owned());
        }
        for counter in &self.counters {
            if !counter.is_whole() {
                return Err(
                    "a counter names a page and one of prometheus and json, or a command"
                        .to_owned(),
                );
            }
        }
        if self.drained.is_some() && self.backend.is_empty() {
            return Err("drained needs a backend that writes its ledger".to_owned());
        }
        Ok(())
    }
}

impl Peer {
    /// Whether a command or a variable has this placeholder.
    #[must_use]
    pub fn names(&self, word: &str) -> bool {
        let commands = [&self.run, &self.backend].into_iter().flatten();
        commands
            .chain(self.env.values())
            .any(|text| text.contains(word))
    }

    /// Why it is skipped for a workload, if it is.
    #[must_use]
    pub fn declines(&self, workload: &Workload) -> Option<&'static str> {
        if !self.endpoint.bodies.contains(&workload.shape()) {
            return Some("it does not take such bodies");
        }
        if workload.expect.rejected > 0 && !self.endpoint.rejects_events {
            return Some("it does not promise to refuse single events");
        }
        None
    }

    /// Where its programs are, by name.
    ///
    /// # Errors
    /// The first program that is not found, with its candidates.
    pub fn find_programs(
        &self,
        fill: impl Fn(&str) -> String,
        path: &std::ffi::OsStr,
    ) -> Result<BTreeMap<String, PathBuf>, String> {
        let find = |name: &String, places: &Vec<String>| {
            let places: Vec<String> = places.iter().map(|place| fill(place)).collect();
            match places.iter().find_map(|place| find_program(place, path)) {
                Some(found) => Ok((name.clone(), found)),
                None => Err(format!("no program {name} ({})", places.join(", "))),
            }
        };
        self.programs
            .iter()
            .map(|(name, places)| find(name, places))
            .collect()
    }
}

/// A program at a path, or under a name in the folders of the PATH or of a system's servers.
fn find_program(place: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    if place.contains('/') {
        let place = Path::new(place);
        return place.is_file().then(|| place.to_path_buf());
    }
    // Servers such as nginx are there, and users' PATHs often are not.
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(path)
        .chain(system)
        .map(|folder| folder.join(place))
        .find(|program| program.is_file())
}

/// Replaces placeholders; unknown ones stay as they are.
#[must_use]
pub fn fill(text: &str, words: &[(String, String)]) -> String {
    words.iter().fold(text.to_owned(), |text, (word, value)| {
        text.replace(&format!("{{{word}}}"), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::rows;
    use std::ffi::OsStr;
    use std::fs;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
    }

    fn refusal(row: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("odd.toml"), row).unwrap();
        let error = rows::<Peer>(dir.path()).unwrap_err();
        assert!(error.contains("odd.toml"), "{error}");
        error
    }

    #[test]
    fn every_shipped_peer_parses_with_its_files() {
        let peers: Vec<(String, Peer)> = rows(&folder()).unwrap();
        assert!(peers.iter().any(|(name, _)| name == "limit"));
        for (name, peer) in peers {
            assert!(!peer.about.is_empty(), "{name}");
            for file in &peer.files {
                assert!(folder().join(file).is_file(), "{name}: {file}");
            }
        }
    }

    #[test]
    fn every_word_in_a_row_that_ships_has_a_value() {
        for (name, peer) in rows::<Peer>(&folder()).unwrap() {
            let known = [
                "bin", "rows", "tools", "dir", "disk", "port", "admin", "aux", "stats", "cores",
            ];
            let words: Vec<(String, String)> = known
                .iter()
                .map(|word| (*word).to_owned())
                .chain(peer.programs.keys().cloned())
                .map(|word| (word, String::new()))
                .collect();
            let commands = [&peer.run, &peer.install, &peer.backend, &peer.stop.command];
            let texts = commands
                .into_iter()
                .chain(&peer.version)
                .chain(peer.counters.iter().map(|counter| &counter.command))
                .flatten()
                .chain(peer.env.values())
                .chain(peer.drained.iter().map(|drained| &drained.ledger));
            for text in texts {
                assert!(!fill(text, &words).contains('{'), "{name}: {text}");
            }
        }
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        let good = "about = 'x'\nrun = ['true']\n";
        for (odd, word) in [
            ("speed = 1", "speed"),
            ("[endpoint]\nverb = 'POST'", "verb"),
            ("[ready]\nstatsu = 200", "statsu"),
            ("[stop]\nsignl = 'TERM'", "signl"),
            ("[drained]\nledger = 'x'\nlines = 1", "lines"),
            (
                "[[counters]]\ncounts = 'requests'\npage = '{admin}/'\njson = 'n'\nof = 1",
                "of",
            ),
        ] {
            let error = refusal(&format!("{good}{odd}\n"));
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn rows_that_contradict_themselves_are_refused() {
        let good = "about = 'x'\nrun = ['true']\n";
        for (odd, word) in [
            ("[endpoint]\nmethod = 'PUT'", "PUT"),
            ("[endpoint]\nstatus = 500", "500"),
            ("[endpoint]\nstatus = 204\nrejects_events = true", "204"),
            ("[endpoint]\nrejects_events = true", "counters of accepted"),
            ("[ready]\nseconds = 601", "at most 600"),
            ("[stop]\nseconds = 61", "at most 60"),
            (
                "[[counters]]\ncounts = 'requests'\npage = '{admin}/'",
                "counter",
            ),
        ] {
            let error = refusal(&format!("{good}{odd}\n"));
            assert!(error.contains(word), "{error}");
        }
        assert!(refusal("about = 'x'\nrun = []\n").contains("run"));
        let error = refusal(&format!("{good}[drained]\nledger = '{{dir}}/ledger'\n"));
        assert!(error.contains("needs a backend"), "{error}");
    }

    #[test]
    fn a_peer_declines_what_it_does_not_promise() {
        let peer = |endpoint: &str| -> Peer {
            toml::from_str(&format!(
                "about = 'x'\nrun = ['x']\n[endpoint]\n{endpoint}\n"
            ))
            .unwrap()
        };
        let bad: Workload = toml::from_str(
            "connections = 1\nmode = 'event'\nbatch = 20\nbody = 'x'\n\
             [expect]\naccepted = 18\nrejected = 2\n",
        )
        .unwrap();
        assert!(peer("").declines(&bad).is_some());
        assert!(peer("rejects_events = true").declines(&bad).is_none());
        let objects = peer("bodies = ['object']\nrejects_events = true");
        assert!(objects.declines(&bad).is_some());
    }

    #[test]
    fn programs_are_searched_in_order_and_missed_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("here"), "").unwrap();
        let row = "about = 'x'\nrun = ['{a}']\n[programs]\na = ['{dir}/nowhere', 'here']\n";
        let peer: Peer = toml::from_str(row).unwrap();
        let fill = |text: &str| text.replace("{dir}", "/nonexistent");
        let found = peer.find_programs(fill, dir.path().as_os_str()).unwrap();
        assert_eq!(found["a"], dir.path().join("here"));
        let missed = peer.find_programs(fill, OsStr::new("")).unwrap_err();
        assert_eq!(missed, "no program a (/nonexistent/nowhere, here)");
    }
}
