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
    BodyOptions, BodySource, ConnectOptions, Load, OkStatuses, Options, Profile, Target, run,
};
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::tempdir;

/// Every kind of traffic.
pub(crate) const PROFILES: [Profile; 6] = [
    Profile::Web,
    Profile::Mobile,
    Profile::Single,
    Profile::Flat,
    Profile::Batch,
    Profile::Firehose,
];

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
pub(crate) fn send(proxy: &Proxy, profile: Profile) -> u64 {
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
        ok: OkStatuses::default(),
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

/// That a file or object lies where readers of an hour look for it; its path from where they begin.
pub(crate) fn assert_partitioned(path: &str) {
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

/// Reads every record of one kind of traffic to its last event; there have to be `sent`.
pub(crate) fn read(profile: Profile, lines: impl Iterator<Item = Vec<u8>>, sent: u64) {
    match profile {
        Profile::Web => read_envelopes(profile, lines, sent, &["Web"], None),
        Profile::Mobile | Profile::Batch => {
            read_envelopes(profile, lines, sent, &["Android", "iOS"], Some("gzip"));
        }
        Profile::Single | Profile::Flat | Profile::Firehose => read_events(profile, lines, sent),
    }
}

fn read_envelopes(
    profile: Profile,
    lines: impl Iterator<Item = Vec<u8>>,
    sent: u64,
    platforms: &[&str],
    compression: Option<&str>,
) {
    let mut ids = BTreeSet::new();
    let mut rids = BTreeSet::new();
    for line in lines {
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

fn read_events(profile: Profile, lines: impl Iterator<Item = Vec<u8>>, sent: u64) {
    let mut count = 0;
    for line in lines {
        count += 1;
        let event: Value = serde_json::from_slice(&line).unwrap();
        for key in ["rid", "ip"] {
            assert!(event[key].is_string(), "{profile:?}: {event}");
        }
        assert!(event["ingest_time"].is_u64(), "{profile:?}: {event}");
    }
    assert_eq!(count, sent, "{profile:?}");
}

/// One kind of traffic by way of files.
fn read_from_files(profile: Profile) {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let proxy = Proxy::start(dir.path(), &to_files(&data));
    let sent = send(&proxy, profile);
    proxy.end_cleanly();
    for file in files::data_files(&data) {
        let path = file.strip_prefix(&data).unwrap();
        assert_partitioned(path.to_str().unwrap());
    }
    read(profile, files::records(&data).into_iter(), sent);
}

#[test]
fn every_sdk_envelope_is_read_to_its_last_event() {
    for profile in [Profile::Web, Profile::Mobile, Profile::Batch] {
        read_from_files(profile);
    }
}

#[test]
fn every_server_event_is_one_line_with_server_fields() {
    for profile in [Profile::Single, Profile::Flat, Profile::Firehose] {
        read_from_files(profile);
    }
}
