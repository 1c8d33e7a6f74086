//! A destination that is away: after one ack deadline requests are answered at once, a few try it, and the first
//! success ends that.

use crate::support::audit::{Sent, count_answered};
use crate::support::client::post;
use crate::support::event::{event, new_id};
use crate::support::load::Load;
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use crate::support::stream::{emulator, stored};
use crate::support::wait_until;
use sluice_loadtest::kinesis::Faults;
use std::time::{Duration, Instant};
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";
/// Of the tests' proxies.
const ACK_DEADLINE: Duration = Duration::from_millis(700);
const OPEN: &str =
    "circuit open: no call has succeeded for circuit_open_after_ms, only probes are let through";
const CLOSED: &str = "circuit closed: a call succeeded";

fn ask(proxy: &Proxy) -> Sent {
    let id = new_id();
    let mut client = proxy.connect();
    let started = Instant::now();
    client.send(post(EVENTS, event(&id, 200)));
    Sent {
        answer: client.try_read(),
        ids: vec![id],
        took: started.elapsed(),
    }
}

/// Lets a stream fail in this way until the circuits of both workers are open, and then come back.
fn outage(faults: Faults) {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let mut sent = vec![ask(&proxy)];
    assert!(sent[0].is_acked());
    stream.set_faults(faults).unwrap();

    // Connections spread over the workers; each has to hear of it.
    let is_shed = |sent: &Sent| {
        sent.answer
            .as_ref()
            .is_some_and(|it| it.status == 503 && it.code() == "circuit_open")
    };
    let mut in_a_row = 0;
    let began = Instant::now();
    while in_a_row < 12 {
        assert!(began.elapsed() < Duration::from_secs(20), "{sent:#?}");
        sent.push(ask(&proxy));
        in_a_row = match sent.last().is_some_and(is_shed) {
            true => in_a_row + 1,
            false => 0,
        };
    }
    let calls = |stream: &sluice_loadtest::kinesis::Emulator| stream.stats().calls["PutRecords"];
    let (calls_before, mut during) = (calls(&stream), Vec::new());
    for _ in 0..200 {
        during.push(ask(&proxy));
    }
    let tried = calls(&stream) - calls_before;
    let shed: Vec<_> = during.iter().filter(|sent| is_shed(sent)).collect();
    assert!(shed.len() > during.len() / 2, "{during:#?}");
    for sent in &shed {
        assert!(
            sent.took < ACK_DEADLINE,
            "it waited for the stream: {sent:?}"
        );
        let answer = sent.answer.as_ref().unwrap();
        answer.assert_retry_later(&["circuit_open"]);
    }
    assert!(tried < 100, "{tried} calls for 200 requests are no trickle");
    let shed = shed.len();
    // A call that was under way when the stream began to fail may still succeed; none does later.
    assert_eq!(count_answered(&during, 200), 0, "{during:#?}");
    sent.append(&mut during);

    let state = &proxy.ready_json()["circuits"]["main"];
    assert!(
        ["open", "half_open"].contains(&state.as_str().unwrap()),
        "{state}"
    );
    assert!(proxy.is_ready());
    let metrics = proxy.metrics();
    assert!(metrics.get("sluice_shed_total{reason=\"circuit\"}") >= shed as u64);
    assert!(metrics.get("sluice_output_circuit_state{output=\"main\"}") > 0);
    assert_eq!(
        metrics.get("sluice_output_circuit_opened_total{output=\"main\"}"),
        1
    );
    assert_eq!(proxy.said(OPEN).len(), 1);

    stream.set_faults(Faults::default()).unwrap();
    let back = Instant::now();
    while !sent.last().is_some_and(Sent::is_acked) {
        sent.push(ask(&proxy));
        // The promise is a second; a busy machine gets more.
        assert!(back.elapsed() < Duration::from_secs(5), "{sent:#?}");
    }
    println!(
        "first success {:?} after the stream came back",
        back.elapsed()
    );
    wait_until("the circuit is closed", || proxy.said(CLOSED).len() == 1);
    for _ in 0..20 {
        sent.push(ask(&proxy));
    }
    let last = &sent[sent.len() - 20..];
    assert_eq!(count_answered(last, 200), 20, "{last:#?}");
    assert_eq!(proxy.ready_json()["circuits"], serde_json::json!({}));
    proxy.end_cleanly();
    stored(&stream).assert_truthful(&sent);
}

#[test]
fn circuit_opens_and_closes_when_connections_are_refused() {
    outage(Faults {
        gone: true,
        for_s: Some(60.0),
        ..Faults::default()
    });
}

#[test]
fn circuit_opens_and_closes_when_calls_are_answered_500() {
    outage(Faults {
        internal_error: 1.0,
        ..Faults::default()
    });
}

#[test]
fn circuit_opens_and_closes_when_calls_hang() {
    outage(Faults {
        hang: 1.0,
        ..Faults::default()
    });
}

#[test]
fn a_throttling_stream_opens_no_circuit() {
    let stream = emulator(Faults {
        throttle_call: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let load = Load::start(proxy.address, EVENTS, 4);
    wait_until("requests have failed for three deadlines", || {
        load.answered() >= 12
    });
    assert_eq!(proxy.said(OPEN).len(), 0);
    let metrics = proxy.metrics();
    assert_eq!(metrics.get("sluice_shed_total{reason=\"circuit\"}"), 0);
    stream.set_faults(Faults::default()).unwrap();
    proxy.end_cleanly();
    assert!(load.join().iter().all(|sent| sent.status() != Some(400)));
}

#[test]
fn a_best_effort_output_with_an_open_circuit_sheds_nothing() {
    let stream = emulator(Faults {
        internal_error: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let best_effort = to_kinesis(&stream.url()).replace("outputs.main", "outputs.extra");
    let settings = to_files(&dir.path().join("data"))
        + &best_effort
        + "ack = \"enqueued\"\nretry_for_ms = 20000\ncircuit_open_after_ms = 100\n";
    let proxy = Proxy::start(dir.path(), &settings);
    assert!(ask(&proxy).is_acked());
    wait_until("the circuit is open", || proxy.said(OPEN).len() == 1);
    for _ in 0..50 {
        assert!(ask(&proxy).is_acked());
    }
    // Nothing of it is given up meanwhile.
    stream.set_faults(Faults::default()).unwrap();
    proxy.end_cleanly();
    assert_eq!(stored(&stream).ids().len(), 51);
}
