//! What is stored is what was sent, at every destination that was promised.

use crate::support::client::get;
use crate::support::event::{array, event, ids_of_record, new_id, new_ids};
use crate::support::files;
use crate::support::proxy::{Proxy, to_kinesis};
use crate::support::stream::{emulator, stored};
use serde_json::{Value, json};
use sluice_loadtest::kinesis::{Distribution, Emulator, Faults, Mode, Options};
use std::path::Path;
use tempfile::tempdir;

const COLLECT: &str = "/collect";
const EVENTS: &str = "/v1/events";

fn denied() -> Emulator {
    emulator(Faults {
        access_denied: 1.0,
        ..Faults::default()
    })
}

/// A second output, of type `file`.
fn and_files(data: &Path, ack: &str) -> String {
    format!("[outputs.files]\ntype = \"file\"\ndir = {data:?}\nack = \"{ack}\"\n")
}

#[test]
fn an_envelope_has_body_and_uri_byte_for_byte() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let proxy = Proxy::start(dir.path(), &and_files(&data, "delivered"));
    let every_control: String = (0_u8..32).map(char::from).collect();
    let bodies = [
        String::new(),
        "plain".to_owned(),
        "{\"a\": \"b\\u00e9\\n\"}\r\n".to_owned(),
        every_control,
        "\"\\/\u{7f}\u{80}\u{2028}\u{fffd}\u{10ffff}\u{e9}".to_owned(),
        "\\".repeat(10_000),
        "x".repeat(200_000) + "\"",
    ];
    let query =
        "?appId=a%20b+c&platform=Web&compression=&x=%22%5C%00&event_bundle_sequence_id=7&a=1&a=2";
    let path = "/collect/web~1/%C3%A9";
    let mut rids = Vec::new();
    for body in &bodies {
        let answer = proxy.post(&format!("{path}{query}"), body);
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        rids.push(answer.header("x-request-id").unwrap().to_owned());
    }
    // What is not UTF-8 cannot be a JSON string: replaced, not refused.
    let answer = proxy.post(COLLECT, b"a\xff\xc3(b");
    assert_eq!(answer.status, 200);
    proxy.end_cleanly();

    let records: Vec<Value> = files::records(&data)
        .iter()
        .map(|record| serde_json::from_slice(record).unwrap())
        .collect();
    assert_eq!(records.len(), bodies.len() + 1);
    for (body, rid) in bodies.iter().zip(&rids) {
        let record = records.iter().find(|record| record["rid"] == *rid).unwrap();
        assert_eq!(record["data"], *body);
        assert_eq!(record["uri"], format!("{path}{query}"));
        assert_eq!(record["path"], path);
        assert_eq!(record["appId"], "a b c");
        assert_eq!(record["platform"], "Web");
        assert_eq!(record["compression"], "");
        assert_eq!(record["method"], "POST");
    }
    let replaced = records.iter().find(|record| record["uri"] == COLLECT);
    assert_eq!(replaced.unwrap()["data"], "a\u{fffd}\u{fffd}(b");
}

#[test]
fn server_fields_follow_the_bytes_of_an_event() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let id = new_id();
    let sent = format!(
        "{{ \"id\":\"{id}\", \"n\": 1.50e+2, \"s\":\"\\u00e9\u{e9}\\/\", \"deep\":[[{{}}]] }}"
    );
    let answer = proxy.post(EVENTS, format!("[{sent}]"));
    assert_eq!(answer.status, 200);
    proxy.end_cleanly();
    let records = stream.stored_records();
    assert_eq!(records.len(), 1);
    let text = std::str::from_utf8(&records[0].data).unwrap();
    // All of the client's object but its closing brace.
    let begin = sent.strip_suffix(" }").unwrap();
    assert!(text.starts_with(begin), "{text}");
    let added: Value =
        serde_json::from_str(&format!("{{\"none\":0{}", text[begin.len()..].trim_start())).unwrap();
    assert_eq!(added["rid"], answer.header("x-request-id").unwrap());
    assert!(added["ingest_time"].as_u64().unwrap() > 1_600_000_000_000);
    assert_eq!(added["ip"], "127.0.0.1");
}

#[test]
fn every_required_output_has_every_acknowledged_event() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = to_kinesis(&stream.url()) + &and_files(&data, "delivered");
    let proxy = Proxy::start(dir.path(), &settings);
    let ids = new_ids(20);
    assert_eq!(proxy.post(EVENTS, array(&ids)).status, 200);
    proxy.end_cleanly();
    for stored in [stored(&stream), files::stored(&data)] {
        assert_eq!(stored.ids(), ids.iter().cloned().collect());
        assert_eq!(stored.duplicates(), 0);
    }
}

#[test]
fn only_a_failing_required_output_is_503() {
    for (ack, status) in [("delivered", 503), ("enqueued", 200)] {
        let stream = denied();
        let dir = tempdir().unwrap();
        let data = dir.path().join("data");
        let settings = format!(
            "{}ack = \"{ack}\"\n{}",
            to_kinesis(&stream.url()),
            and_files(&data, "delivered")
        );
        let proxy = Proxy::start(dir.path(), &settings);
        let ids = new_ids(2);
        let answer = proxy.post(EVENTS, array(&ids));
        assert_eq!(answer.status, status, "{ack}");
        let metrics = proxy.settled_metrics("main");
        assert_eq!(metrics.refused("main", "denied"), 2);
        assert_eq!(metrics.records("delivered_records_total", "files"), 2);
        let ready = proxy.ready_json();
        assert_eq!(ready["ready"], json!(true));
        assert_eq!(ready["troubled"], json!({ "main": "denied" }));
        assert_eq!(proxy.connect().ask(get("/health")).status, 200);
        proxy.end_cleanly();
        // The other output's copy is legal in either case.
        assert_eq!(files::stored(&data).ids(), ids.into_iter().collect());
        assert_eq!(stored(&stream).0.len(), 0);
    }
}

#[test]
fn a_stream_that_spreads_records_itself_takes_them_without_keys() {
    let stream = Emulator::start(Options {
        mode: Mode::OnDemand,
        distribution: Distribution::Auto,
        ..Options::default()
    })
    .unwrap();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let ids = new_ids(30);
    assert_eq!(proxy.post(EVENTS, array(&ids)).status, 200);
    assert_eq!(proxy.post(COLLECT, event(&ids[0], 100)).status, 200);
    proxy.end_cleanly();
    let records = stream.stored_records();
    assert_eq!(records.len(), 31);
    assert!(records.iter().all(|record| record.key.is_none()));
    let stored: Vec<_> = records
        .iter()
        .flat_map(|record| ids_of_record(&record.data))
        .collect();
    assert!(ids.iter().all(|id| stored.contains(id)));
}

#[test]
fn partition_keys_come_from_the_configured_field() {
    for (setting, by_field) in [("", false), ("partition_key = \"field:id\"\n", true)] {
        let stream = emulator(Faults::default());
        let dir = tempdir().unwrap();
        let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + setting));
        let ids = new_ids(20);
        assert_eq!(proxy.post(EVENTS, array(&ids)).status, 200);
        proxy.end_cleanly();
        let mut keys: Vec<_> = stream
            .stored_records()
            .into_iter()
            .map(|record| record.key.unwrap())
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 20);
        assert_eq!(keys == ids, by_field, "{keys:?}");
    }
}
