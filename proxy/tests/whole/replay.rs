//! `sluice replay`: what lies in dead letters goes through a door again, each letter at least once, and readers can tell
//! which they have already.

use crate::support::client::post;
use crate::support::files;
use crate::support::proxy::Proxy;
use crate::support::wait_until;
use serde_json::Value;
use sluice_loadtest::s3::{Emulator, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

fn replay(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command
        .arg("replay")
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

fn ran(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = replay(dir, arguments).output().unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A letter as the pipeline writes it.
fn letter(rid: usize, index: usize, reason: &str) -> String {
    format!(
        "{{\"reason\":\"{reason}\",\"code\":\"c\",\"message\":\"m\",\"rid\":\"{rid:032x}\",\"index\":{index},\
         \"endpoint\":\"events\",\"listener\":\"listen\",\"time\":1,\"bytes\":9,\"event\":\"{{\\\"n\\\":{rid}}}\"}}\n"
    )
}

/// How often each letter is stored, by its id.
pub(crate) fn stored(dir: &Path) -> BTreeMap<String, usize> {
    let mut stored = BTreeMap::new();
    for record in files::records(dir) {
        let event: Value = serde_json::from_slice(&record).unwrap();
        let id = event["letter_id"].as_str().unwrap().to_owned();
        *stored.entry(id).or_default() += 1;
    }
    stored
}

fn to_events(dir: &Path) -> String {
    format!(
        "[outputs.events]\ntype = \"file\"\ndir = {:?}\n",
        dir.join("events")
    )
}

/// Kills a replay of so many letters again and again, and lets the last one end. The events are under `events`.
pub(crate) fn killed_and_run_again(dir: &Path, letters: usize) {
    let from = dir.join("letters");
    fs::create_dir(&from).unwrap();
    for file in 0..2 {
        let lines = (0..letters).filter(|at| at % 2 == file);
        let text: String = lines.map(|at| letter(at / 3, at % 3, "too_deep")).collect();
        fs::write(from.join(format!("{file}.ndjson")), text).unwrap();
    }
    let proxy = Proxy::start(dir, &to_events(dir));
    let url = format!("http://{}{EVENTS}", proxy.address);
    let arguments = ["--from", "letters", "--to", &url];
    let state = dir.join("sluice-replay.state");
    let batches = || {
        fs::read_to_string(&state)
            .unwrap_or_default()
            .lines()
            .count()
    };
    for _ in 0..5 {
        let before = batches();
        let mut killed = replay(dir, &arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while batches() < before + 3 && killed.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    let (code, text) = ran(dir, &arguments);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains(" 0 lines done before"), "{text}");
    // Once more: nothing is left to do.
    let (code, text) = ran(dir, &arguments);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("0 events taken, 0 refused\n"), "{text}");
    proxy.end_cleanly();
}

#[test]
fn a_replay_killed_and_run_again_stores_each_letter_once() {
    let dir = tempdir().unwrap();
    killed_and_run_again(dir.path(), 6_000);
    let expected: BTreeSet<String> = (0..6_000)
        .map(|at| format!("{:032x}-{}", at / 3, at % 3))
        .collect();
    let stored = stored(&dir.path().join("events"));
    let ids: BTreeSet<String> = stored.keys().cloned().collect();
    assert_eq!(ids, expected);
    // At most a batch for each kill is there twice.
    let twice: usize = stored.values().map(|times| times - 1).sum();
    assert!(twice <= 500, "{twice}");
}

#[test]
fn letters_of_a_proxy_go_through_its_door_again() {
    let dir = tempdir().unwrap();
    let (events, letters) = (dir.path().join("events"), dir.path().join("letters"));
    let settings = |depth: usize| {
        format!(
            "[limits]\njson_depth_max = {depth}\n[dead_letters]\noutput = \"letters\"\n{}\
             [outputs.letters]\ntype = \"file\"\ndir = {letters:?}\n",
            to_events(dir.path())
        )
    };
    let proxy = Proxy::start(dir.path(), &settings(1));
    let body = "{\"id\":\"a\",\"x\":{}}\n{\"id\":\n{\"id\":\"c\"}\n";
    let reply = proxy.post(EVENTS, body);
    assert_eq!(reply.status, 200);
    let rid = reply.header("x-request-id").unwrap().to_owned();
    wait_until("the letters are written", || {
        letters.exists() && files::records(&letters).len() == 2
    });
    proxy.end_cleanly();

    let proxy = Proxy::start(dir.path(), &settings(64));
    let url = format!("http://{}{EVENTS}", proxy.address);
    let from = ["--from", "letters", "--to", &url];
    let (code, text) = ran(dir.path(), &[&from[..], &["--dry-run"]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("1 events (too_deep 1) taken"), "{text}");
    assert!(!dir.path().join("sluice-replay.state").exists());
    assert_eq!(files::records(&events).len(), 1);

    let only = [&from[..], &["--only", "reason=too_deep"]].concat();
    let (code, text) = ran(dir.path(), &only);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 letters not asked for"), "{text}");
    let records = files::records(&events);
    let events = records
        .iter()
        .map(|record| serde_json::from_slice::<Value>(record).unwrap());
    let mut replayed = events.filter(|event| event.get("letter_id").is_some());
    let event = replayed.next().unwrap();
    assert_eq!(
        (&event["id"], &event["letter_id"]),
        (&Value::from("a"), &Value::from(format!("{rid}-0")))
    );

    // The same state is no other replay's.
    let (code, text) = ran(dir.path(), &from);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("it is of another replay"), "{text}");
    // What cannot be sent is told, and told once.
    let (code, text) = ran(dir.path(), &[&from[..], &["--state", "all"]].concat());
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("1 letters have no event to send: they are no JSON object"),
        "{text}"
    );
    let (code, _) = ran(dir.path(), &[&from[..], &["--state", "all"]].concat());
    assert_eq!(code, Some(0));
    proxy.end_cleanly();
}

#[test]
fn an_event_refused_again_costs_no_neighbour() {
    let dir = tempdir().unwrap();
    let lines: String = (0..5).map(|at| letter(at, 0, "too_deep")).collect();
    let deep = letter(9, 1, "too_deep").replace("\\\"n\\\":9", "\\\"n\\\":{}");
    fs::write(dir.path().join("letters.ndjson"), lines + &deep).unwrap();
    let settings = format!("[limits]\njson_depth_max = 1\n{}", to_events(dir.path()));
    let proxy = Proxy::start(dir.path(), &settings);
    let url = format!("http://{}{EVENTS}", proxy.address);
    let (code, text) = ran(dir.path(), &["--from", "letters.ndjson", "--to", &url]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.starts_with("5 events (too_deep 5) taken, 1 refused\n"),
        "{text}"
    );
    assert_eq!(stored(&dir.path().join("events")).len(), 5);
    proxy.end_cleanly();
}

#[test]
fn a_replay_waits_for_a_door_that_is_not_there() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("letters.ndjson"), letter(1, 0, "schema")).unwrap();
    let url = format!("http://{}{EVENTS}", nobody());
    let arguments = ["--from", "letters.ndjson", "--to", &url, "--timeout-s", "2"];
    let (code, text) = ran(dir.path(), &arguments);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the door does not take events"), "{text}");
    assert!(text.contains("0 events taken"), "{text}");
}

#[test]
fn a_door_that_is_none_ends_a_replay_with_nothing_done() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("letters.ndjson"), letter(1, 0, "schema")).unwrap();
    let proxy = Proxy::start(dir.path(), &to_events(dir.path()));
    let door = |path: &str| {
        let url = format!("http://{}{path}", proxy.address);
        ran(dir.path(), &["--from", "letters.ndjson", "--to", &url])
    };
    let (code, text) = door("/v1/event");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the door answers 404: "), "{text}");
    let (code, text) = door(EVENTS);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("1 events (schema 1) taken, 0 refused\n"),
        "{text}"
    );
    proxy.end_cleanly();
}

#[test]
fn letters_in_a_bucket_are_replayed_from_there() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let dir = tempdir().unwrap();
    let settings = format!(
        "[dead_letters]\noutput = \"letters\"\n{}\
         [outputs.letters]\ntype = \"s3\"\nbucket = \"clicks\"\nprefix = \"dead/\"\nendpoint_url = \"{}\"\n\
         object_age_s = 1\n",
        to_events(dir.path()),
        emulator.url()
    );
    let proxy = Proxy::start(dir.path(), &settings);
    // Not UTF-8, and an array whose second element is no object.
    assert_eq!(proxy.connect().ask(post(EVENTS, b"\xff{")).status, 400);
    assert_eq!(proxy.post(EVENTS, "[{\"id\":\"a\"},7]").status, 200);
    wait_until("the letters are uploaded", || !emulator.keys().is_empty());
    let url = format!("http://{}{EVENTS}", proxy.address);
    let endpoint = emulator.url();
    let bucket = |from: &str| {
        let output = replay(dir.path(), &["--from", from, "--to", &url, "--dry-run"])
            .env("AWS_ENDPOINT_URL_S3", &endpoint)
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let text = bucket("s3://clicks/dead/");
    assert!(
        text.contains("1 letters have no event to send: they are no JSON object"),
        "{text}"
    );
    assert!(
        text.contains("1 letters have no event to send: they are no text"),
        "{text}"
    );
    assert!(bucket("s3://clicks/other/").contains("0 lines are no letters"));
    assert!(bucket("s3://nobodys/").contains("404"));
    proxy.end_cleanly();
}
