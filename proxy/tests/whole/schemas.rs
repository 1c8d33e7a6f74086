//! Schemas, from the socket to the destination: events that break them are tagged or rejected, and files are taken
//! again.

use crate::support::files;
use crate::support::proxy::{Proxy, to_files};
use crate::support::wait_until;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
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
           [[routes]]\nname = 'orders'\nwhen = { field = 'type', equals = 'order' }\noutputs = ['main']\nschema = 'orders'\n";
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

/// A server that answers every request with this text; with 500 where there is none.
fn registry(answer: Arc<Mutex<Option<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let asked = "GET /subjects/orders-value/versions/latest HTTP/1.1\r\n";
            assert!(head.starts_with(asked.as_bytes()));
            let (status, body) = match answer.lock().unwrap().clone() {
                Some(body) => ("200 OK", body),
                None => ("500 Trouble", String::new()),
            };
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn a_registry_outage_refuses_no_event_and_keeps_the_last_copy() {
    let dir = tempdir().unwrap();
    let answer = Arc::new(Mutex::new(None));
    let url = registry(Arc::clone(&answer));
    let settings = |url: &str| {
        to_files(&dir.path().join("data"))
            + &format!(
                "[paths]\ncollect = 'off'\n[routing]\nschema = 'orders'\n\
                 [schemas.orders]\nmode = 'reject'\nregistry = 'confluent'\nurl = '{url}'\nsubject = 'orders-value'\n\
                 cache_dir = {:?}\nrefresh_ms = 5000\n",
                dir.path().join("schemas")
            )
    };
    let proxy = Proxy::start(dir.path(), &settings(&url));
    let status = |proxy: &Proxy| proxy.post(EVENTS, r#"{"value":1}"#).status;
    let fetches = |proxy: &Proxy, result: &str| {
        let series =
            format!("sluice_schema_fetches_total{{schema=\"orders\",result=\"{result}\"}}");
        proxy.metrics().get(&series)
    };
    wait_until("the registry was asked", || fetches(&proxy, "failed") > 0);
    assert_eq!(status(&proxy), 200);
    let unchecked = "sluice_schema_unchecked_total{schema=\"orders\"}";
    assert_eq!(proxy.metrics().get(unchecked), 1);

    let document = r#"{"schemaType":"JSON","schema":"{\"required\":[\"id\"]}"}"#;
    *answer.lock().unwrap() = Some(document.to_owned());
    wait_until("the schema is fetched", || fetches(&proxy, "ok") > 0);
    assert_eq!(status(&proxy), 422);
    let copy = dir.path().join("schemas/orders.json");
    assert_eq!(fs::read_to_string(&copy).unwrap(), r#"{"required":["id"]}"#);

    let failed = fetches(&proxy, "failed");
    *answer.lock().unwrap() = Some(r#"{"schemaType":"JSON","schema":"{"}"#.to_owned());
    wait_until("a broken schema came", || {
        fetches(&proxy, "failed") > failed
    });
    assert_eq!(status(&proxy), 422);
    proxy.end_cleanly();

    // Nobody listens there.
    let proxy = Proxy::start(dir.path(), &settings("http://127.0.0.1:1"));
    assert_eq!(status(&proxy), 422);
    proxy.end_cleanly();
    fs::write(&copy, "{").unwrap();
    let proxy = Proxy::start(dir.path(), &settings("http://127.0.0.1:1"));
    assert_eq!(status(&proxy), 200);
    proxy.end_cleanly();
}

#[test]
fn a_dead_letter_is_stored_in_the_place_of_its_event() {
    let dir = tempdir().unwrap();
    let (data, letters) = (dir.path().join("data"), dir.path().join("letters"));
    let settings = to_files(&data)
        + &format!(
            "[outputs.letters]\ntype = 'file'\ndir = {letters:?}\n[dead_letters]\noutput = 'letters'\n\
             [paths]\ncollect = 'off'\n[routing]\nschema = 'orders'\n\
             [schemas.orders]\nmode = 'dead_letter'\nrequired = ['id']\n"
        );
    let proxy = Proxy::start(dir.path(), &settings);
    let answer = proxy.post(EVENTS, r#"[{"id":1},{"value":2}]"#);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    proxy.end_cleanly();
    assert_eq!(files::records(&data).len(), 1);
    let letter: Value = serde_json::from_slice(&files::records(&letters)[0]).unwrap();
    assert_eq!(
        (&letter["reason"], &letter["code"]),
        (&json!("schema"), &json!("required"))
    );
    assert_eq!(
        (&letter["schema"], &letter["index"]),
        (&json!("orders"), &json!(1))
    );
}
