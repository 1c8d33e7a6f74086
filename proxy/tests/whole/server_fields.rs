//! Fields that Sluice writes into events: no client forges them, unless the configuration lets it.

use crate::clients::envelope;
use crate::support::client::{get, post};
use crate::support::files;
use crate::support::metrics::Metrics;
use crate::support::proxy::{Proxy, to_files};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::tempdir;

/// What becomes of a forged event, a forged pixel and an envelope, in the order of `n`.
fn stored(dir: &Path, settings: &str) -> (Vec<Value>, Metrics) {
    let data = dir.join("data");
    let proxy = Proxy::start(dir, &(to_files(&data) + settings));
    let forged = r#"[{"n":"0"},{"n":"1","ip":"6.6.6.6","r\u0069d":"mine","ip":7,"place":9}]"#;
    assert_eq!(proxy.post("/v1/events", forged).status, 200);
    let pixel = get("/i?n=2&ip=6.6.6.6&%72id=mine&rid=again");
    assert_eq!(proxy.connect().ask(pixel).status, 200);
    let metrics = proxy.metrics();
    proxy.end_cleanly();
    let mut records: Vec<Value> = files::records(&data)
        .iter()
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    records.sort_by_key(|record| record["n"].as_str().map(str::to_owned));
    (records, metrics)
}

#[test]
fn no_client_forges_what_the_server_writes() {
    let dir = tempdir().unwrap();
    let (records, metrics) = stored(dir.path(), "[server_fields]\nindex = \"place\"\n");
    for record in &records {
        assert_eq!(record["ip"], "127.0.0.1");
        assert_eq!(record["rid"].as_str().unwrap().len(), 32);
    }
    let places: Vec<_> = records.iter().map(|record| &record["place"]).collect();
    assert_eq!(places, [&json!(0), &json!(1), &json!(0)]);
    for (field, events) in [("address", 2), ("request_id", 2), ("index", 1), ("gpc", 0)] {
        let series = format!("sluice_server_field_clashes_total{{field=\"{field}\"}}");
        assert_eq!(metrics.get(&series), events, "{field}");
    }
}

#[test]
fn each_endpoint_decides_whose_field_stays() {
    let dir = tempdir().unwrap();
    let settings = "[server_fields]\nrequest_id = \"request\"\nuser_agent = \"off\"\n\
        clash = \"client\"\npixel_clash = \"prefix\"\nprefix = \"s_\"\n";
    let (records, _) = stored(dir.path(), settings);
    let [_, event, pixel] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!((&event["ip"], &event["rid"]), (&json!(7), &json!("mine")));
    assert_eq!(event["request"].as_str().unwrap().len(), 32);
    assert_eq!(
        (&pixel["ip"], &pixel["rid"]),
        (&json!("6.6.6.6"), &json!("again"))
    );
    assert_eq!(pixel["s_ip"], "127.0.0.1");
    assert_eq!(pixel["s_request"].as_str().unwrap().len(), 32);
    assert!(pixel.get("s_ua").is_none() && event.get("ua").is_none());
}

#[test]
fn an_envelope_keeps_its_names_whatever_events_have() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings =
        "[server_fields]\naddress = \"client\"\nuser_agent = \"off\"\nclash = \"prefix\"\n";
    let proxy = Proxy::start(dir.path(), &(to_files(&data) + settings));
    assert_eq!(proxy.connect().ask(post("/collect", "{}")).status, 200);
    proxy.end_cleanly();
    let record = envelope(&files::records(&data)[0]);
    assert_eq!(record["ip"], "127.0.0.1");
    assert_eq!(record.as_object().unwrap().len(), 17);
}
