//! Bodies that break off, are too long, or hold what is not an event: nothing of what was refused is
//! stored, and nothing of what was accepted is lost.

use crate::support::client::{Client, chunk, post, post_chunked};
use crate::support::event::{array, event, lines, new_id, new_ids};
use crate::support::files;
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use crate::support::stream::{emulator, stored};
use crate::support::wait_until;
use serde_json::{Value, json};
use sluice_loadtest::kinesis::{Emulator, Faults, Options};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::{TempDir, tempdir};

const COLLECT: &str = "/collect";
const EVENTS: &str = "/v1/events";

/// A proxy that writes to files, and where.
fn with_files(settings: &str) -> (TempDir, PathBuf, Proxy) {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let proxy = Proxy::start(dir.path(), &(to_files(&data) + settings));
    (dir, data, proxy)
}

fn set(ids: &[String]) -> BTreeSet<String> {
    ids.iter().cloned().collect()
}

#[test]
fn nothing_of_a_body_that_breaks_off_is_stored() {
    let (_dir, data, proxy) = with_files("");
    let mut cut = 0;
    for path in [COLLECT, EVENTS] {
        // What has arrived is whole events already; the end of the body is not known to be theirs.
        let so_far = lines(&new_ids(3));
        let announced = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{so_far}",
            so_far.len() + 50
        );
        let chunked = [post_chunked(path).into_bytes(), chunk(so_far.as_bytes())].concat();
        let within_chunk = chunked[..chunked.len() - 20].to_vec();
        for request in [announced.into_bytes(), chunked, within_chunk] {
            let mut finished = proxy.connect();
            finished.send(&request);
            finished.finish_sending();
            // It may say why, and has to end the connection.
            let answer = finished.try_read();
            assert!(answer.is_none_or(|answer| answer.status == 400 && answer.closes()));
            assert!(finished.ended());
            let mut gone = proxy.connect();
            gone.send(&request);
            // Read at least as far as the head, so that the request is one.
            wait_until("the body is being read", || {
                proxy.metrics().get("sluice_in_flight_bytes") > 0
            });
            gone.reset();
            cut += 2;
            wait_until("both are counted as broken off", || {
                proxy.metrics().get("sluice_requests_broken_off_total") == cut
            });
        }
    }
    let metrics = proxy.settled_metrics("main");
    assert_eq!(metrics.get("sluice_events_received_total"), 0);
    let id = new_id();
    assert_eq!(proxy.post(EVENTS, event(&id, 100)).status, 200);
    proxy.end_cleanly();
    assert_eq!(files::stored(&data).ids(), set(&[id]));
}

#[test]
fn a_client_disconnecting_after_its_body_loses_no_event() {
    let stream = Emulator::start(Options {
        latency: Duration::from_millis(300),
        ..Options::default()
    })
    .unwrap();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let ids = new_ids(4);
    for id in &ids {
        let mut client = proxy.connect();
        client.send(post(EVENTS, event(id, 100)));
        // Its word is out; then it goes.
        wait_until("the event is accepted", || {
            proxy.metrics().records("pending_records", "main") > 0
        });
        client.reset();
    }
    let metrics = proxy.settled_metrics("main");
    assert_eq!(metrics.records("accepted_records_total", "main"), 4);
    assert_eq!(metrics.records("delivered_records_total", "main"), 4);
    wait_until("every request is counted once", || {
        let metrics = proxy.metrics();
        let answered = metrics.answered(200);
        answered + metrics.get("sluice_requests_broken_off_total") == 4
    });
    assert_eq!(stored(&stream).ids(), set(&ids));
    proxy.end_cleanly();
}

#[test]
fn a_body_over_the_limit_is_413_and_not_stored() {
    const LIMIT: usize = 4_096;
    let (_dir, data, proxy) = with_files("[limits]\nbody_bytes_max = 4096\n");
    let too_large = |answer: &crate::support::client::Reply, actual: Value| {
        assert_eq!(answer.status, 413);
        assert_eq!(answer.code(), "body_too_large");
        assert_eq!(answer.json()["limit"], LIMIT);
        assert_eq!(answer.json()["actual"], actual);
    };
    let head = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut kept = Vec::new();
    for path in [COLLECT, EVENTS] {
        // Announced: refused by the head alone. A little is thrown away and the connection goes on ...
        let mut client = proxy.connect();
        let body = event(&new_id(), LIMIT + 1);
        client.send(head(path, body.len()) + &body);
        let answer = client.read();
        too_large(&answer, json!(LIMIT + 1));
        assert!(!answer.closes());
        let id = new_id();
        assert_eq!(client.ask(post(path, event(&id, LIMIT))).status, 200);
        kept.push(id);
        // ... for much, and for what was promised only, it does not.
        let mut client = proxy.connect();
        client.send(head(path, 100_000_000));
        let answer = client.read();
        too_large(&answer, json!(100_000_000));
        assert!(answer.closes());
        assert!(client.ended());
        let mut client = proxy.connect();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n"
        ));
        let answer = client.read();
        too_large(&answer, json!(5_000));
        assert!(answer.closes());
        // In chunks: refused when it is too much, and nobody knows what would still have come.
        let mut client = proxy.connect();
        client.send(post_chunked(path));
        client.send(chunk(event(&new_id(), 3_000).as_bytes()));
        client.try_send(chunk(event(&new_id(), 3_000).as_bytes()));
        let answer = client.read();
        too_large(&answer, Value::Null);
        assert!(answer.closes());
        assert!(client.ended());
    }
    assert_eq!(proxy.settled_metrics("main").answered(413), 8);
    proxy.end_cleanly();
    assert_eq!(files::stored(&data).ids(), set(&kept));
}

#[test]
fn a_record_over_the_stream_limit_is_413_alone() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let settings =
        to_kinesis(&stream.url()) + "linger_ms = 50\n[limits]\nbody_bytes_max = 2097152\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let limit = (1 << 20) - 16;
    let ids = new_ids(3);

    // 700 KB of quotes are 1.4 MB once they are escaped into a record.
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.connect()).collect();
    clients[0].send(post(COLLECT, event(&ids[0], 100)));
    clients[1].send(post(COLLECT, "\"".repeat(700_000)));
    clients[2].send(post(EVENTS, event(&ids[1], 100)));
    let statuses: Vec<_> = clients.iter_mut().map(Client::read).collect();
    assert_eq!(statuses[0].status, 200);
    assert_eq!(statuses[2].status, 200);
    let refused = &statuses[1];
    assert_eq!(
        (refused.status, refused.code()),
        (413, "record_too_large".into())
    );
    assert_eq!(refused.json()["limit"], limit);
    assert!(refused.json()["actual"].as_u64().unwrap() > 1_400_000);

    // In a batch, alone.
    let body = format!("{}\n{}\n", event(&ids[2], 100), event(&new_id(), 1_048_500));
    let answer = proxy.post(EVENTS, body);
    assert_eq!(answer.status, 200);
    let listed = answer.json();
    assert_eq!(
        (&listed["accepted"], &listed["rejected"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(listed["errors"][0]["index"], 1);
    assert_eq!(listed["errors"][0]["code"], "record_too_large");
    assert_eq!(listed["errors"][0]["limit"], limit);

    let stats = stream.stats();
    assert!(stats.errors.is_empty(), "{stats:?}");
    assert_eq!(stats.records, 3);
    assert_eq!(stored(&stream).ids(), set(&ids));
    proxy.end_cleanly();
}

/// Sends one body and returns the status and the answer's JSON, null where it is empty.
fn told(proxy: &Proxy, body: impl AsRef<[u8]>) -> (u16, Value) {
    let answer = proxy.post(EVENTS, body);
    let json = match answer.body.is_empty() {
        true => Value::Null,
        false => answer.json(),
    };
    (answer.status, json)
}

#[test]
fn bad_events_of_a_batch_are_rejected_by_index() {
    let (_dir, data, proxy) = with_files("");
    let mut kept = Vec::new();
    let mut good = || {
        let id = new_id();
        kept.push(id.clone());
        event(&id, 100)
    };

    // A line that is no JSON, between two that are.
    let first = good();
    let broken = format!("{{\"id\":\"{}\",}}", new_id());
    let (status, answer) = told(&proxy, format!("{first}\n{broken}\n{}\n", good()));
    assert_eq!(status, 200);
    assert_eq!(answer["accepted"], 2);
    assert_eq!(answer["rejected"], 1);
    let error = &answer["errors"][0];
    assert_eq!(
        (&error["index"], &error["code"]),
        (&json!(1), &json!("not_json"))
    );
    assert_eq!(error["offset"], first.len() + 1 + broken.len() - 1);

    // A line cut in its middle, and one that is not UTF-8.
    let cut = &event(&new_id(), 100)[..50];
    let mut body = format!("{}\n{cut}\n", good()).into_bytes();
    body.extend_from_slice(b"{\"id\":\"\xff\xfe\"}\n");
    body.extend_from_slice(good().as_bytes());
    let (status, answer) = told(&proxy, body);
    assert_eq!(
        (status, &answer["accepted"], &answer["rejected"]),
        (200, &json!(2), &json!(2))
    );
    assert_eq!(answer["errors"][0]["index"], 1);
    assert_eq!(answer["errors"][1]["index"], 2);
    assert_eq!(answer["errors"][1]["code"], "not_utf8");

    // Elements of an array that are no objects.
    let (status, answer) = told(&proxy, format!("[{},7,{},[]]", good(), good()));
    assert_eq!(
        (status, &answer["accepted"], &answer["rejected"]),
        (200, &json!(2), &json!(2))
    );
    assert_eq!(answer["errors"][0]["index"], 1);
    assert_eq!(answer["errors"][0]["code"], "not_an_object");
    assert_eq!(answer["errors"][1]["index"], 3);

    // 150 bad ones: all counted, the first hundred named.
    let (status, answer) = told(&proxy, format!("{}\n{}", good(), "no\n\n".repeat(150)));
    assert_eq!((status, &answer["rejected"]), (200, &json!(150)));
    assert_eq!(answer["errors"].as_array().unwrap().len(), 100);

    // An array in which the events cannot be told apart is refused whole, and so is what has no event.
    let whole = event(&new_id(), 100);
    for (body, code) in [
        (format!("[{whole},{{\"id\":,{whole}]"), "not_json"),
        (format!("[{whole},{whole}"), "not_json"),
        (format!("[{whole}] {whole}"), "not_json"),
        (String::new(), "no_events"),
        ("[]".to_owned(), "no_events"),
        ("7".to_owned(), "not_an_object"),
    ] {
        let (status, answer) = told(&proxy, &body);
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!(code)),
            "{body}: {answer}"
        );
    }
    // Nothing taken, each refused alone: the first refusal's status, and the list.
    let (status, answer) = told(&proxy, "[7,[]]");
    assert_eq!(
        (status, &answer["accepted"], &answer["rejected"]),
        (400, &json!(0), &json!(2))
    );

    // A thousand good ones and one: too many, none of them taken.
    let (status, answer) = told(&proxy, array(&new_ids(1_001)));
    assert_eq!((status, &answer["code"]), (400, &json!("too_many_events")));
    assert_eq!(
        (&answer["limit"], &answer["actual"]),
        (&json!(1_000), &json!(1_001))
    );

    let metrics = proxy.settled_metrics("main");
    let value = |name: &str| metrics.get(&format!("sluice_events_{name}_total"));
    assert_eq!(value("accepted"), kept.len() as u64);
    assert_eq!(value("received"), value("accepted") + value("rejected"));
    proxy.end_cleanly();
    let stored = files::stored(&data);
    assert_eq!(stored.ids(), set(&kept));
    assert_eq!(stored.duplicates(), 0);
}
