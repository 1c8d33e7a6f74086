//! The counters tell the same story as clients and destinations.

use crate::support::audit::{Sent, count_answered};
use crate::support::client::post;
use crate::support::event::{array, event, lines, new_id, new_ids};
use crate::support::load::burst;
use crate::support::metrics::Metrics;
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use crate::support::stream::{emulator, stored};
use crate::support::wait_until;
use sluice_loadtest::kinesis::{Faults, Reject, RejectCode};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

fn assert_balanced(metrics: &Metrics, outputs: &[&str]) {
    for output in outputs {
        let records = |what| metrics.records(what, output);
        assert_eq!(
            records("accepted_records_total"),
            records("delivered_records_total")
                + records("refused_records_total")
                + records("pending_records"),
            "{output}"
        );
    }
    let events = |what: &str| metrics.get(&format!("sluice_events_{what}_total"));
    assert_eq!(
        events("received"),
        events("accepted") + events("rejected") + events("shed")
    );
}

#[test]
fn metrics_balance_with_clients_and_stream() {
    let stream = emulator(Faults {
        reject: Some(Reject {
            k: 1,
            n: 4,
            code: RejectCode::InternalFailure,
        }),
        internal_error: 0.1,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = to_kinesis(&stream.url())
        + "retry_base_ms = 400\n"
        + &to_files(&data).replace("main", "files")
        + "[limits]\nbody_bytes_max = 100000\n";
    let proxy = Proxy::start(dir.path(), &settings);

    let mut sent = burst(proxy.address, EVENTS, 8, 8);
    sent.extend(burst(proxy.address, "/collect", 4, 4));
    let envelopes = 16;
    let mut ask = |ids: Vec<String>, request: Vec<u8>| {
        let answer = Some(proxy.connect().ask(request));
        sent.push(Sent {
            ids,
            answer,
            took: Duration::ZERO,
        });
    };
    // Two of three events are taken, none of one, a body is refused whole, and another is too large.
    let ids = new_ids(2);
    ask(ids.clone(), post(EVENTS, lines(&ids) + "nonsense\n"));
    ask(Vec::new(), post(EVENTS, "nonsense"));
    ask(Vec::new(), post(EVENTS, "[1,"));
    ask(Vec::new(), post(EVENTS, event(&new_id(), 100_001)));
    ask(Vec::new(), post("/nowhere", ""));

    let metrics = proxy.settled_metrics("main");
    assert_balanced(&metrics, &["main", "files"]);
    for status in [200, 400, 404, 413, 503] {
        let clients = count_answered(&sent, status) as u64;
        assert_eq!(metrics.answered(status), clients, "{status}");
    }
    assert!(count_answered(&sent, 503) > 0);
    assert_eq!(metrics.get("sluice_requests_broken_off_total"), 0);
    // One record per event, and one per request on the envelope endpoint.
    let records: usize = sent.iter().map(|sent| sent.ids.len()).sum();
    let in_envelopes: usize = sent[64..64 + envelopes].iter().map(|s| s.ids.len()).sum();
    let expected = (records - in_envelopes + envelopes) as u64;
    for output in ["main", "files"] {
        assert_eq!(metrics.records("accepted_records_total", output), expected);
    }
    let delivered = metrics.records("delivered_records_total", "main");
    assert_eq!(delivered, stream.stats().stored);
    stored(&stream).assert_truthful(&sent);
    crate::support::files::stored(&data).assert_truthful(&sent);
    let log = proxy.end_cleanly();
    let last = log
        .iter()
        .find(|entry| entry["message"] == "output flushed" && entry["output"] == "main")
        .unwrap();
    assert_eq!(last["received"], expected);
    assert_eq!(last["delivered"], delivered);
    assert_eq!(
        last["refused"],
        metrics.records("refused_records_total", "main")
    );
}

#[test]
fn shed_events_are_neither_accepted_nor_rejected() {
    let stream = emulator(Faults {
        hang: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let settings = to_kinesis(&stream.url())
        + "queue_bytes_max = 16384\nbatch_bytes_max = 16384\n\
           [listen]\nworkers = 1\n[limits]\nbody_bytes_max = 4096\nhead_bytes_max = 8192\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let mut clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = proxy.connect();
            client.send(post(EVENTS, array(&new_ids(9)) + "\n"));
            client
        })
        .collect();
    for client in &mut clients {
        client
            .read()
            .assert_retry_later(&["queue_full", "not_confirmed"]);
    }
    let metrics = proxy.settled_metrics("main");
    assert_balanced(&metrics, &["main"]);
    let shed = metrics.get("sluice_shed_total{reason=\"queue\"}");
    assert!(shed > 0);
    assert_eq!(metrics.get("sluice_events_received_total"), 180);
    assert_eq!(metrics.get("sluice_events_shed_total"), 9 * shed);
}

#[test]
fn every_byte_on_client_connections_is_counted() {
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_files(&dir.path().join("data")));
    let bytes = |direction| {
        proxy
            .metrics()
            .get(&format!("sluice_{direction}_bytes_total"))
    };
    assert_eq!((bytes("received"), bytes("sent")), (0, 0));
    let body = event(&new_id(), 70_000);
    let length = body.len();
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    let expected = (request.len() as u64, answer.len() as u64);
    wait_until("both directions are counted", || {
        (bytes("received"), bytes("sent")) == expected
    });
}

#[test]
fn configured_limits_and_the_start_are_on_the_page() {
    let unix_secs = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs()
    };
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data"))
        + "queue_bytes_max = 70000001\n[ack]\ndeadline_ms = 3000\n[listen]\nconnections_max = 41\nconnections_per_address_max = 7\n\
           [limits]\nbody_bytes_max = 100001\nin_flight_bytes_max = 9000001\n";
    let before = unix_secs();
    let proxy = Proxy::start(dir.path(), &settings);
    let page = proxy.metrics();
    let expected = [
        ("sluice_in_flight_limit_bytes", 9_000_001),
        ("sluice_connections_limit", 41),
        ("sluice_connections_per_address_limit", 7),
        ("sluice_body_limit_bytes", 100_001),
        ("sluice_ack_deadline_seconds", 3),
        (
            "sluice_output_queue_limit_bytes{output=\"main\"}",
            70_000_001,
        ),
    ];
    let found = expected.map(|(series, _)| (series, page.get(series)));
    assert_eq!(found, expected);
    let started = page.get("process_start_time_seconds");
    assert!((before..=unix_secs()).contains(&started), "{started}");
}
