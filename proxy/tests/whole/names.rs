//! Outputs that list streams, queues, prefixes or directories: each event is stored in the place that its rule's
//! template names, and values that name none harm nothing.

use crate::support::client::{Client, get};
use crate::support::event::ids_of_record;
use crate::support::files;
use crate::support::proxy::Proxy;
use crate::support::wait_until;
use serde_json::json;
use sluice_loadtest::kinesis;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

/// Sends an event of each type and id.
fn send(proxy: &Proxy, events: &[(&str, &str)]) -> u16 {
    let events = events
        .iter()
        .map(|(id, kind)| json!({"id": id, "type": kind}));
    let body = serde_json::to_vec(&events.collect::<Vec<_>>()).unwrap();
    proxy.post(EVENTS, body).status
}

/// Events of two types that are listed, and of others that are not; what is stored of them in that order.
const MIXED: &[(&str, &str)] = &[
    ("a", "buy"),
    ("b", "view"),
    ("c", "buy"),
    ("d", "other"),
    ("e", "../buy"),
    ("f", "bu\u{0}y"),
];
const STORED: [&[&str]; 3] = [&["a", "c"], &["b"], &["d", "e", "f"]];

fn ids(records: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<String> {
    let records = records.into_iter();
    let lines = records.flat_map(|record| {
        let lines = record.as_ref().split(|byte| *byte == b'\n');
        lines.flat_map(ids_of_record).collect::<Vec<_>>()
    });
    let mut ids: Vec<String> = lines.collect();
    ids.sort_unstable();
    ids
}

/// An output `c` with these settings, and a rule that names its places by the type of the event.
fn settings(output: &str, topic: &str) -> String {
    format!(
        "[outputs.c]\n{output}\n[[routes]]\nname = \"typed\"\noutputs = [\"c\"]\ntopic = \"{topic}\"\n"
    )
}

/// A service whose streams are there as soon as they are created.
fn kinesis() -> kinesis::Emulator {
    let options = kinesis::Options {
        shard_limits: false,
        update: Duration::ZERO,
        ..kinesis::Options::default()
    };
    kinesis::Emulator::start(options).unwrap()
}

fn create_stream(service: &kinesis::Emulator, name: &str) {
    let body = format!("{{\"StreamName\":\"{name}\",\"ShardCount\":2}}");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Target: Kinesis_20131202.CreateStream\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = Client::connect(service.addr()).ask(head);
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn in_stream(service: &kinesis::Emulator, name: &str) -> Vec<String> {
    let records = service.stored_in(name).into_iter();
    ids(records.map(|record| record.data))
}

#[test]
fn events_of_each_type_reach_their_own_stream() {
    let service = kinesis();
    for stream in ["clicks-buy", "clicks-view"] {
        create_stream(&service, stream);
    }
    let dir = tempdir().unwrap();
    let output = format!(
        "type = \"kinesis\"\nstream = \"clicks\"\nstreams = [\"clicks-buy\", \"clicks-view\"]\n\
         endpoint_url = \"{}\"\n",
        service.url()
    );
    let proxy = Proxy::start(dir.path(), &settings(&output, "clicks-{type}"));
    assert_eq!(send(&proxy, MIXED), 200);
    let stored = ["clicks-buy", "clicks-view", "clicks"].map(|name| in_stream(&service, name));
    assert_eq!(stored, STORED);
    wait_until("the counters are there", || {
        let metrics = proxy.metrics();
        let outputs = ["c.clicks-buy", "c.clicks-view", "c"];
        outputs.map(|name| metrics.records("delivered_records_total", name)) == [2, 1, 3]
    });
    let without = "sluice_route_events_without_topic_total{rule=\"typed\"}";
    assert_eq!(proxy.metrics().get(without), 3);
    proxy.end_cleanly();
}

#[test]
fn a_stream_that_fails_spools_its_own_events_only() {
    let service = kinesis();
    create_stream(&service, "clicks-view");
    let dir = tempdir().unwrap();
    let output = format!(
        "type = \"kinesis\"\nstream = \"clicks\"\nstreams = [\"clicks-buy\", \"clicks-view\"]\n\
         endpoint_url = \"{}\"\nspool = {{ dir = \"spool\", after_ms = 50 }}\n",
        service.url()
    );
    let proxy = Proxy::start(dir.path(), &settings(&output, "clicks-{type}"));
    assert_eq!(send(&proxy, MIXED), 200);
    let stored = || ["clicks-buy", "clicks-view", "clicks"].map(|name| in_stream(&service, name));
    wait_until("the others are stored", || stored()[1..] == STORED[1..]);
    let spooled = |name: &str| proxy.metrics().family("sluice_spool_waiting_records", name);
    assert_eq!(spooled("c.clicks-buy"), 2);
    assert!(dir.path().join("spool/clicks-buy").is_dir());
    create_stream(&service, "clicks-buy");
    wait_until("the spool is delivered", || stored() == STORED);
    let spool = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args([&["spool"], arguments, &["--config", "sluice.toml"]].concat())
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    spool(&["wait", "--output", "c.clicks-buy", "--timeout-s", "10"]);
    let listed = spool(&["list"]);
    assert!(!listed.contains("unknown"), "{listed}");
    proxy.end_cleanly();
}

#[test]
fn a_missing_stream_refuses_its_own_events_only() {
    let service = kinesis();
    create_stream(&service, "clicks-view");
    let dir = tempdir().unwrap();
    let output = format!(
        "type = \"kinesis\"\nstream = \"clicks\"\nstreams = [\"clicks-buy\", \"clicks-view\"]\n\
         endpoint_url = \"{}\"\n",
        service.url()
    );
    let proxy = Proxy::start(dir.path(), &settings(&output, "clicks-{type}"));
    assert_eq!(send(&proxy, &MIXED[..1]), 503);
    assert_eq!(send(&proxy, &MIXED[3..]), 200);
    assert_eq!(send(&proxy, &MIXED[1..2]), 200);
    assert_eq!(in_stream(&service, "clicks-view"), STORED[1]);
    proxy.end_cleanly();
}

#[cfg(feature = "sqs")]
#[test]
fn events_of_each_type_reach_their_own_queue() {
    use sluice_loadtest::sqs::{Emulator, Options};
    let names = ["clicks-buy", "clicks-view", "clicks"];
    let service = Emulator::start(Options {
        queues: names.map(str::to_owned).into(),
        ..Options::default()
    });
    let service = service.unwrap();
    let dir = tempdir().unwrap();
    let output = format!(
        "type = \"sqs\"\nqueue_url = \"{}/000000000000/clicks\"\nqueues = [\"clicks-buy\", \"clicks-view\"]",
        service.url()
    );
    let proxy = Proxy::start(dir.path(), &settings(&output, "clicks-{type}"));
    assert_eq!(send(&proxy, MIXED), 200);
    assert_eq!(names.map(|name| ids(service.stored_in(name))), STORED);
    proxy.end_cleanly();
}

#[cfg(feature = "s3")]
#[test]
fn each_s3_prefix_survives_a_sigkill() {
    use flate2::read::GzDecoder;
    use sluice_loadtest::s3::{Emulator, Options};
    use std::io::Read;
    let service = Emulator::start(Options::default()).unwrap();
    let dir = tempdir().unwrap();
    let output = format!(
        "type = \"s3\"\nbucket = \"clicks\"\nprefix = \"clicks/rest/\"\nstaging_dir = \"staging\"\n\
         prefixes = [\"clicks/type=buy/\", \"clicks/type=view/\"]\nendpoint_url = \"{}\"\nretry_base_ms = 5\n",
        service.url()
    );
    let settings = settings(&output, "clicks/type={type}/");
    let proxy = Proxy::start(dir.path(), &settings);
    assert_eq!(send(&proxy, MIXED), 200);
    proxy.kill();
    assert!(service.keys().is_empty(), "the objects are not full yet");
    let log = Proxy::start(dir.path(), &settings).end_cleanly();
    let is_strange = |line: &serde_json::Value| line.to_string().contains("left alone");
    assert!(!log.iter().any(is_strange), "{log:?}");
    let below = |prefix: &str| {
        let objects = service.keys().into_iter();
        let objects = objects.filter(|(_, key)| key.starts_with(prefix));
        let lines = objects.map(|(bucket, key)| {
            let packed = service.object(&bucket, &key).unwrap().unwrap();
            let mut lines = Vec::new();
            GzDecoder::new(&*packed).read_to_end(&mut lines).unwrap();
            lines
        });
        ids(lines)
    };
    let prefixes = ["clicks/type=buy/", "clicks/type=view/", "clicks/rest/"];
    assert_eq!(prefixes.map(below), STORED);
    let mut left = files::all_files(&dir.path().join("staging"));
    left.retain(|file| fs::metadata(file).unwrap().len() > 0);
    assert!(left.is_empty(), "{left:?}");
}

/// What lies in a directory.
fn entries(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect()
}

/// The outputs that metrics tell of.
fn in_metrics(proxy: &Proxy) -> BTreeSet<String> {
    let page = Client::connect(proxy.admin()).ask(get("/metrics"));
    let page = String::from_utf8(page.body).unwrap();
    let names = page.split("output=\"").skip(1);
    let names = names.map(|rest| rest.split('"').next().unwrap());
    names.map(str::to_owned).collect()
}

#[test]
fn ten_thousand_invented_names_make_no_directory() {
    let dir = tempdir().unwrap();
    let output = "type = \"file\"\ndir = \"data/rest\"\ndirs = [\"data/buy\", \"data/view\"]";
    let proxy = Proxy::start(dir.path(), &settings(output, "data/{type}"));
    let before = entries(dir.path());
    let invented: Vec<(String, String)> = (0..10_000)
        .map(|n| {
            let hostile = ["../", "/etc/", "buy/../", "\u{0}", "é", "{type}"];
            (
                format!("x{n}"),
                format!("{}{n}", hostile[n % hostile.len()]),
            )
        })
        .collect();
    for part in invented.chunks(1_000) {
        let part: Vec<_> = part.iter().map(|(id, kind)| (&**id, &**kind)).collect();
        assert_eq!(send(&proxy, &part), 200);
    }
    assert_eq!(send(&proxy, MIXED), 200);
    let outputs = ["c", "c.data.buy", "c.data.view"];
    assert_eq!(in_metrics(&proxy), outputs.map(str::to_owned).into());
    proxy.end_cleanly();
    assert_eq!(entries(dir.path()), before);
    let data = dir.path().join("data");
    assert_eq!(
        entries(&data),
        ["buy", "rest", "view"].map(str::to_owned).into()
    );
    let stored = ["buy", "view"].map(|name| ids(files::records(&data.join(name))));
    assert_eq!(stored, STORED[..2]);
    let rest = files::stored(&data.join("rest")).ids();
    assert_eq!(rest.len(), invented.len() + STORED[2].len());
}
