//! Dead letters, from the socket to their output: what is refused is kept there, and nothing else is.

use crate::support::files;
use crate::support::proxy::Proxy;
use crate::support::stream::emulator;
use crate::support::wait_until;
use serde_json::Value;
use sluice_loadtest::kinesis::Faults;
use std::path::Path;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

fn lines(dir: &Path) -> Vec<Value> {
    if !dir.exists() {
        return Vec::new();
    }
    let records = files::records(dir);
    let parse = |line: &Vec<u8>| serde_json::from_slice(line).unwrap();
    records.iter().map(parse).collect()
}

/// Two file outputs, `events` and `letters`.
fn settings(dir: &Path, more: &str) -> String {
    let (events, letters) = (dir.join("events"), dir.join("letters"));
    format!(
        "{more}\n[dead_letters]\noutput = \"letters\"\n\
         [outputs.events]\ntype = \"file\"\ndir = {events:?}\n\
         [outputs.letters]\ntype = \"file\"\ndir = {letters:?}\n"
    )
}

#[test]
fn refused_events_are_kept_and_their_neighbours_stored() {
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &settings(dir.path(), ""));
    let reply = proxy.post(EVENTS, "{\"id\":\"a\"}\n{\"id\":\n{\"id\":\"c\"}\n");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["rejected"], 1);
    assert_eq!(proxy.post(EVENTS, "{\"id\":").status, 400);
    let letters = dir.path().join("letters");
    wait_until("the letters are written", || lines(&letters).len() == 2);
    let metrics = proxy.metrics();
    let written = metrics.get("sluice_dead_letters_total{reason=\"unreadable\"}");
    assert_eq!(written, 2);
    proxy.end_cleanly();
    let found = lines(&letters);
    assert_eq!(
        (&found[0]["index"], &found[1]["index"]),
        (&Value::from(1), &Value::Null)
    );
    assert_eq!(found[0]["event"], "{\"id\":");
    // The letters' output has no events, the events' output no letters.
    assert_eq!(lines(&dir.path().join("events")).len(), 2);
}

#[test]
fn letters_hold_nothing_that_privacy_could_not_treat() {
    let dir = tempdir().unwrap();
    let private = "[paths]\ncollect = \"off\"\n[privacy]\nmask = [\"email\"]";
    let proxy = Proxy::start(dir.path(), &settings(dir.path(), private));
    proxy.post(
        EVENTS,
        "{\"email\":\"ann@example.com\"}\n{\"email\":\"ann@example.com\"\n",
    );
    proxy.post(EVENTS, "{\"email\":\"ann@example.com\"");
    let letters = dir.path().join("letters");
    wait_until("the letters are written", || lines(&letters).len() == 2);
    proxy.end_cleanly();
    for letter in lines(&letters) {
        assert_eq!(letter["withheld"], "privacy");
        assert_eq!(letter.get("event"), None);
    }
    let text = files::all_files(dir.path());
    let canary = b"ann@example.com";
    for file in text {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(canary.len()).any(|window| window == canary);
        assert!(!found, "{file:?}");
    }
}

#[test]
fn a_dead_letter_output_in_trouble_blocks_no_events() {
    let stream = emulator(Faults {
        internal_error: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let events = dir.path().join("events");
    let settings = format!(
        "[dead_letters]\noutput = \"letters\"\n\
         [outputs.events]\ntype = \"file\"\ndir = {events:?}\n\
         [outputs.letters]\ntype = \"kinesis\"\nstream = \"clicks\"\nendpoint_url = \"{}\"\n\
         ack = \"enqueued\"\nretry_for_ms = 1000\n",
        stream.url()
    );
    let proxy = Proxy::start(dir.path(), &settings);
    for _ in 0..20 {
        assert_eq!(proxy.post(EVENTS, "{\"id\":\"a\"}\n{\n").status, 200);
    }
    let lost = || {
        let metrics = proxy.metrics();
        let lost =
            |why: &str| metrics.get(&format!("sluice_dead_letters_lost_total{{why=\"{why}\"}}"));
        lost("not_delivered") + lost("no_room")
    };
    wait_until("the letters are given up", || lost() == 20);
    assert_eq!(lines(&events).len(), 20);
}

#[test]
fn a_group_of_outputs_shares_the_letters() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let (events, one) = (dir.path().join("events"), dir.path().join("one"));
    let settings = format!(
        "[dead_letters]\noutput = \"letters\"\n\
         [outputs.letters]\ntype = \"group\"\nof = [\"one\", \"stream\"]\n\
         [outputs.events]\ntype = \"file\"\ndir = {events:?}\n\
         [outputs.one]\ntype = \"file\"\ndir = {one:?}\n\
         [outputs.stream]\ntype = \"kinesis\"\nstream = \"clicks\"\nendpoint_url = \"{}\"\n",
        stream.url()
    );
    let proxy = Proxy::start(dir.path(), &settings);
    for _ in 0..20 {
        assert_eq!(proxy.post(EVENTS, "{\"id\":\"a\"}\n{\n").status, 200);
    }
    let of_stream = || stream.stored_records();
    wait_until("the letters are kept", || {
        lines(&one).len() + of_stream().len() == 20
    });
    assert!(!lines(&one).is_empty() && !of_stream().is_empty());
    for record in of_stream() {
        let letter: Value = serde_json::from_slice(&record.data).unwrap();
        assert_eq!(
            (&letter["reason"], &letter["index"]),
            (&Value::from("unreadable"), &Value::from(1))
        );
    }
    assert_eq!(lines(&events).len(), 20);
    proxy.end_cleanly();
}
