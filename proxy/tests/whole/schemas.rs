//! Schemas, from the socket to the destination: events that break them are tagged or rejected, and files are taken
//! again.

use crate::support::files;
use crate::support::proxy::{Proxy, to_files};
use crate::support::wait_until;
use serde_json::{Value, json};
use std::fs;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

#[test]
fn schemas_see_what_privacy_left_and_count_by_rule() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = to_files(&data)
        + "[paths]\ncollect = 'off'\n[privacy]\nmask = ['mail']\n\
           [routing]\nschema = 'rest'\n\
           [schemas.rest]\nrequired = ['id']\n\
           [schemas.orders]\nmode = 'reject'\nrequired = ['id', 'value']\ntypes = ['value=number']\nlengths = ['mail=..3']\n\
           [[routes]]\nname = 'orders'\nwhen = { field = 'type', equals = 'order' }\noutputs = ['files']\nschema = 'orders'\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let body = r#"[{"type":"order","id":1,"value":2,"mail":"long@x.example"},
        {"type":"order","id":2,"value":"2"},
        {"type":"view"},
        {"type":"view","id":4},
        {"type":"order","value":1}]"#;
    let answer = proxy.post(EVENTS, body);
    assert_eq!(answer.status, 200);
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(3), &json!(2))
    );
    let expected = json!({
        "index": 1, "code": "schema_violated", "path": "/value",
        "message": "schema `orders`: `/value` breaks `type`: expected number",
    });
    assert_eq!(answer["errors"][0], expected);
    assert_eq!(answer["errors"][1]["path"], "");
    let alone = proxy.post(EVENTS, r#"{"type":"order"}"#);
    assert_eq!(alone.status, 422);

    let metrics = proxy.metrics();
    let of =
        |what: &str, labels: &str| metrics.get(&format!("sluice_schema_{what}_total{{{labels}}}"));
    assert_eq!(of("events", r#"schema="orders""#), 4);
    assert_eq!(of("events", r#"schema="rest""#), 2);
    assert_eq!(of("violations", r#"schema="orders",rule="type""#), 1);
    assert_eq!(of("violations", r#"schema="orders",rule="required""#), 2);
    assert_eq!(of("violations", r#"schema="rest",rule="required""#), 1);
    proxy.end_cleanly();

    let records = files::records(&data);
    let tags: Vec<Value> = records
        .iter()
        .map(|record| serde_json::from_slice::<Value>(record).unwrap()["schema_error"].clone())
        .collect();
    let tag =
        json!({"schema": "rest", "rule": "required", "path": "", "reason": "`id` is missing"});
    assert_eq!(tags, [Value::Null, tag, Value::Null]);
}

#[test]
fn a_changed_schema_is_taken_while_running() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("order.json");
    fs::write(&file, r#"{"required":["id"]}"#).unwrap();
    let settings = to_files(&dir.path().join("data"))
        + &format!(
            "[paths]\ncollect = 'off'\n[routing]\nschema = 'orders'\n\
             [schemas.orders]\nmode = 'reject'\nfile = {file:?}\n"
        );
    let proxy = Proxy::start(dir.path(), &settings);
    let status = || proxy.post(EVENTS, r#"{"id":1}"#).status;
    let reloads = |result: &str| {
        let series =
            format!("sluice_schema_reloads_total{{schema=\"orders\",result=\"{result}\"}}");
        proxy.metrics().get(&series)
    };
    assert_eq!(status(), 200);
    // Another file in its place, as tools write them.
    let replace = |text: &str| {
        let new = dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &file).unwrap();
    };
    replace(r#"{"required":["id","value"]}"#);
    wait_until("the schema is taken", || reloads("taken") == 1);
    assert_eq!(status(), 422);
    replace("{");
    wait_until("the broken schema is refused", || reloads("refused") == 1);
    assert_eq!(status(), 422);
    proxy.end_cleanly();
}
