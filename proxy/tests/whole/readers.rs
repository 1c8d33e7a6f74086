//! What stands behind a stream reads every kind of traffic: a reader made from the rules that the readers
//! of the replaced tier follow, not from our writer.
//!
//! One record is one JSON document. `data` is JSON when its first character opens an array or an object,
//! else base64 of gzip of that. What is not lifted into keys of its own is searched for in `uri`.

use crate::support::files;
use crate::support::proxy::{Proxy, to_files};
use flate2::read::GzDecoder;
use serde_json::Value;
use sluice_loadtest::run::{
    BodyOptions, BodySource, ConnectOptions, Load, Options, Profile, Target, run,
};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::tempdir;

/// Requests of each kind.
const REQUESTS: u64 = 60;

/// Keys of an envelope whose request named `upload_timestamp`, in the order in which they are written.
pub(crate) const KEYS: [&str; 17] = [
    "appId",
    "client_timestamp",
    "compression",
    "data",
    "date",
    "fakeIp",
    "ingest_time",
    "ip",
    "method",
    "path",
    "platform",
    "rid",
    "server_ingest_time",
    "source_type",
    "timestamp",
    "ua",
    "uri",
];

/// Sends one kind of traffic; returns how many events were answered 200.
fn send(proxy: &Proxy, profile: Profile) -> u64 {
    let target = Target::parse(&format!("http://{}", proxy.address)).unwrap();
    let options = Options {
        target,
        load: Load::Closed,
        connections: 4,
        connect: ConnectOptions::default(),
        threads: 1,
        duration: None,
        requests: Some(REQUESTS),
        timeout: Duration::from_secs(10),
        body: BodyOptions {
            source: BodySource::Profile(profile),
            seed: Some(7),
            ..BodyOptions::default()
        },
        acks: None,
        hdr_log: None,
        watch: Vec::new(),
        run: 0xa1,
    };
    let report = run(&options, &AtomicBool::new(false), |_| {}).unwrap();
    assert!(report.all_ok(), "{report}");
    report.events_ok
}

/// The number behind `name=` in a request target, as a reader's expression `name=(\d+)` finds it.
pub(crate) fn number_in(uri: &str, name: &str) -> Option<u64> {
    let (_, behind) = uri.split_once(&format!("{name}="))?;
    let digits = behind.find(|character: char| !character.is_ascii_digit());
    behind[..digits.unwrap_or(behind.len())].parse().ok()
}

/// The events of an envelope.
pub(crate) fn events_of(record: &Value) -> Vec<Value> {
    let data = record["data"].as_str().unwrap();
    let text = if data.starts_with(['[', '{']) {
        data.to_owned()
    } else {
        let packed = base64_simd::STANDARD.decode_to_vec(data).unwrap();
        let mut text = String::new();
        GzDecoder::new(&packed[..])
            .read_to_string(&mut text)
            .unwrap();
        text
    };
    match serde_json::from_str(&text).unwrap() {
        Value::Array(events) => events,
        event => vec![event],
    }
}

/// That a file lies where readers of an hour look for it.
fn assert_partitioned(file: &Path, data: &Path) {
    let path = file
        .strip_prefix(data)
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let parts: Vec<&str> = path.split('/').collect();
    let numbers = |part: &str, name: &str, digits: usize| {
        let value = part
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('='));
        value
            .is_some_and(|value| value.len() == digits && value.bytes().all(|b| b.is_ascii_digit()))
    };
    assert!(
        parts.len() == 5
            && numbers(parts[0], "year", 4)
            && numbers(parts[1], "month", 2)
            && numbers(parts[2], "day", 2)
            && numbers(parts[3], "hour", 2),
        "{path}"
    );
}

#[test]
fn every_envelope_of_every_sdk_s_traffic_is_read_to_its_last_event() {
    for (profile, platforms, compression) in [
        (Profile::Web, &["Web"][..], None),
        (Profile::Mobile, &["Android", "iOS"], Some("gzip")),
        (Profile::Batch, &["Android", "iOS"], Some("gzip")),
    ] {
        let dir = tempdir().unwrap();
        let data = dir.path().join("data");
        let proxy = Proxy::start(dir.path(), &to_files(&data));
        let sent = send(&proxy, profile);
        proxy.end_cleanly();
        for file in files::data_files(&data) {
            assert_partitioned(&file, &data);
        }
        let mut ids = BTreeSet::new();
        let mut rids = BTreeSet::new();
        for line in files::records(&data) {
            let line = String::from_utf8(line).unwrap();
            let record: Value = serde_json::from_str(&line).unwrap();
            // Written in this order, which a parsed object does not keep.
            let mut at = 0;
            for key in KEYS {
                let found = line[at..].find(&format!("\"{key}\":"));
                at += found.unwrap_or_else(|| panic!("{key} is not in its place: {line}"));
            }
            assert_eq!(record.as_object().unwrap().len(), KEYS.len(), "{line}");
            let uri = record["uri"].as_str().unwrap();
            assert!(
                number_in(uri, "event_bundle_sequence_id").is_some(),
                "{uri}"
            );
            let uploaded = number_in(uri, "upload_timestamp").unwrap();
            assert_eq!(record["client_timestamp"], uploaded.to_string());
            assert_eq!(record["method"], "POST");
            assert_eq!(record["source_type"], "http_server");
            assert_eq!(record["compression"].as_str(), compression, "{line}");
            let platform = record["platform"].as_str().unwrap();
            assert!(platforms.contains(&platform), "{line}");
            let ingested = record["ingest_time"].as_u64().unwrap();
            assert!(ingested.is_multiple_of(1_000), "{line}");
            assert!(rids.insert(record["rid"].as_str().unwrap().to_owned()));
            for event in events_of(&record) {
                assert!(event["event_type"].is_string(), "{event}");
                assert!(ids.insert(event["event_id"].as_str().unwrap().to_owned()));
            }
        }
        assert_eq!(ids.len() as u64, sent, "{profile:?}");
    }
}

#[test]
fn every_event_of_servers_traffic_is_one_line_with_the_server_s_fields() {
    for profile in [Profile::Single, Profile::Flat, Profile::Firehose] {
        let dir = tempdir().unwrap();
        let data = dir.path().join("data");
        let proxy = Proxy::start(dir.path(), &to_files(&data));
        let sent = send(&proxy, profile);
        proxy.end_cleanly();
        let records = files::records(&data);
        assert_eq!(records.len() as u64, sent, "{profile:?}");
        for line in records {
            let event: Value = serde_json::from_slice(&line).unwrap();
            for key in ["rid", "ip"] {
                assert!(event[key].is_string(), "{profile:?}: {event}");
            }
            assert!(event["ingest_time"].is_u64(), "{profile:?}: {event}");
        }
    }
}
