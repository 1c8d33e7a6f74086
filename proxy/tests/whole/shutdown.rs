//! Shutdown: no acknowledged event is lost.

use crate::support::audit::{Sent, Stored, count_answered, ids_answered};
use crate::support::client::{get, post};
use crate::support::event::{body, new_ids};
use crate::support::load::{Load, burst};
use crate::support::proxy::{Proxy, to_kinesis};
use crate::support::stream::{emulator, stored};
use crate::support::wait_until;
use serde_json::Value;
use sluice_loadtest::kinesis::{Emulator, Faults, Options};
use std::collections::BTreeSet;
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

/// The one line about an output at the end.
fn flushed(log: &[Value]) -> &Value {
    let mut lines = log
        .iter()
        .filter(|entry| entry["message"] == "output flushed");
    let line = lines.next().expect("the output's last line");
    assert!(lines.next().is_none());
    line
}

#[test]
fn sigterm_fails_health_first_and_loses_nothing() {
    // Drivers differ in what they have accepted and still buffer at the end.
    for driver in ["auto", "epoll"] {
        end_under_load(driver);
    }
}

fn end_under_load(driver: &str) {
    let stream = Emulator::start(Options {
        shard_limits: false,
        latency: Duration::from_millis(5),
        ..Options::default()
    })
    .unwrap();
    let dir = tempdir().unwrap();
    let settings = format!(
        "{}[drain]\ngrace_ms = 800\ndeadline_ms = 6000\n[listen]\ndriver = \"{driver}\"\n",
        to_kinesis(&stream.url())
    );
    let mut proxy = Proxy::start(dir.path(), &settings);
    assert_eq!(proxy.connect().ask(get("/health")).status, 200);

    let load = Load::start(proxy.address, EVENTS, 16);
    wait_until("the load is on", || load.answered() > 200);
    proxy.terminate();
    wait_until("health says no", || {
        proxy.connect().ask(get("/health")).status == 503
    });
    // During the grace requests are served as before, the last one on each connection.
    assert!(!proxy.is_ready());
    let before = load.answered();
    let mut extra = Vec::new();
    for _ in 0..5 {
        let ids = new_ids(2);
        let answer = proxy.post(EVENTS, body(&ids));
        assert_eq!(answer.status, 200);
        assert!(answer.closes());
        extra.push(Sent {
            ids,
            answer: Some(answer),
            took: Duration::ZERO,
        });
    }
    wait_until("the load is still served", || load.answered() > before);

    let status = proxy.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{:#?}", proxy.log());
    let mut sent = load.join();
    let (answered, cut) = (count_answered(&sent, 200), sent.len());
    assert!(
        sent.iter()
            .all(|sent| matches!(sent.status(), Some(200) | None)),
        "a drain refuses no request"
    );
    println!("{answered} of {cut} requests were answered, the others saw their connection end");
    sent.extend(extra);

    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
    let log = proxy.log();
    let counts = flushed(&log);
    let in_store = stored.0.len() as u64;
    assert_eq!(counts["received"], in_store);
    assert_eq!(counts["delivered"], in_store);
    assert_eq!(counts["refused"], 0);
    assert_eq!(counts["left_behind"], 0);
    // More is stored than was confirmed only where a response was lost.
    let unanswered = sent.iter().filter(|sent| sent.answer.is_none());
    let unanswered: usize = unanswered.map(|sent| sent.ids.len()).sum();
    let acked = ids_answered(&sent, 200).len() as u64;
    assert!((acked..=acked + unanswered as u64).contains(&in_store));
}

/// An output whose clients do not wait, with this long to drain.
fn enqueued(stream: &Emulator, keys: &str, drain_ms: u64) -> String {
    format!(
        "{}ack = \"enqueued\"\n{keys}\n[drain]\ngrace_ms = 0\ndeadline_ms = {drain_ms}\n",
        to_kinesis(&stream.url())
    )
}

#[test]
fn an_enqueued_output_delivers_everything_before_exit_0() {
    // Slower than the ack deadline: an answer that waited for it would be 503.
    let stream = Emulator::start(Options {
        shard_limits: false,
        latency: Duration::from_millis(1_200),
        ..Options::default()
    })
    .unwrap();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &enqueued(&stream, "", 8_000));
    let sent = burst(proxy.address, EVENTS, 8, 5);
    assert_eq!(count_answered(&sent, 200), sent.len());
    let log = proxy.end_cleanly();
    let stored = stored(&stream);
    assert_eq!(stored.ids(), ids_answered(&sent, 200));
    assert_eq!(stored.duplicates(), 0);
    assert_eq!(flushed(&log)["delivered"], stored.0.len() as u64);
}

/// Thousands of events for a stream of 2,000 events a second, so that the queue to the writer is full, and
/// SIGTERM. The exit code, the answered ids, what is stored, and the output's last line.
fn end_with_full_queue(drain_ms: u64) -> (Option<i32>, BTreeSet<String>, Stored, Value) {
    let stream = Emulator::start(Options {
        shard_limits: false,
        latency: Duration::from_secs(1),
        ..Options::default()
    })
    .unwrap();
    let dir = tempdir().unwrap();
    let settings = enqueued(&stream, "in_flight_max = 4", drain_ms);
    let mut proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 4, 1_200);
    assert_eq!(count_answered(&sent, 200), sent.len());
    proxy.terminate();
    let code = proxy.wait(Duration::from_secs(30)).code();
    let counts = flushed(&proxy.log()).clone();
    let answered = ids_answered(&sent, 200);
    assert_eq!(counts["received"], answered.len() as u64);
    (code, answered, stored(&stream), counts)
}

#[test]
fn enqueued_records_in_full_queues_survive_sigterm() {
    let (code, answered, stored, counts) = end_with_full_queue(25_000);
    assert_eq!(code, Some(0), "{counts}");
    assert_eq!(stored.ids(), answered);
    assert_eq!(counts["left_behind"], 0);
}

#[test]
fn enqueued_records_without_time_count_as_left_behind() {
    let (code, answered, stored, counts) = end_with_full_queue(1_500);
    assert_eq!(code, Some(1), "{counts}");
    let delivered = counts["delivered"].as_u64().unwrap();
    let left_behind = counts["left_behind"].as_u64().unwrap();
    assert!(left_behind > 1_000, "{counts}");
    assert_eq!(delivered + left_behind, answered.len() as u64);
    // The last calls may have been stored without their answer.
    assert!(stored.ids().len() as u64 >= delivered);
}

/// Sends records that are never stored, terminates the proxy, and returns its log.
fn end_with_a_stream_that_hangs(keys: &str) -> Vec<Value> {
    let stream = emulator(Faults {
        hang: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let mut proxy = Proxy::start(dir.path(), &enqueued(&stream, keys, 1_500));
    let sent = burst(proxy.address, EVENTS, 4, 2);
    assert_eq!(count_answered(&sent, 200), sent.len());
    proxy.terminate();
    let status = proxy.wait(Duration::from_secs(10));
    assert_eq!(
        status.code(),
        Some(1),
        "records were left behind: {:#?}",
        proxy.log()
    );
    assert_eq!(stored(&stream).0.len(), 0);
    proxy.log()
}

#[test]
fn a_call_that_outlasts_the_drain_is_no_clean_end() {
    let log = end_with_a_stream_that_hangs("attempt_timeout_ms = 30000");
    assert!(log.iter().any(|entry| {
        entry["message"] == "a call of the sink does not end, its records' fate is unknown"
    }));
}

#[test]
fn records_of_calls_failing_after_drain_are_left_behind() {
    // The second attempt is under way when time is up, and ends within the last second.
    let log = end_with_a_stream_that_hangs(
        "attempt_timeout_ms = 1000\nconnect_timeout_ms = 500\nretry_base_ms = 1\nretry_cap_ms = 1",
    );
    let counts = flushed(&log);
    assert_eq!(counts["left_behind"], counts["received"]);
    assert_eq!(counts["delivered"], 0);
}

#[test]
fn a_second_sigterm_changes_nothing() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let settings = to_kinesis(&stream.url()) + "[drain]\ngrace_ms = 500\ndeadline_ms = 6000\n";
    let mut proxy = Proxy::start(dir.path(), &settings);
    let mut client = proxy.connect();
    proxy.terminate();
    wait_until("the drain is under way", || !proxy.is_ready());
    proxy.terminate();
    let ids = new_ids(1);
    assert_eq!(client.ask(post(EVENTS, body(&ids))).status, 200);
    assert_eq!(proxy.wait(Duration::from_secs(10)).code(), Some(0));
    assert_eq!(stored(&stream).ids(), ids.into_iter().collect());
}

#[test]
fn connections_accepted_before_the_listener_closes_are_answered() {
    // Clients reconnect for each request, as all do at the end of a grace, until the listener is
    // closed: connections accepted in the last moment are served.
    let stream = emulator(Faults::default());
    let mut cut = 0;
    let mut answered = 0;
    for _ in 0..3 {
        let dir = tempdir().unwrap();
        let settings = to_kinesis(&stream.url()) + "[drain]\ngrace_ms = 200\n";
        let mut proxy = Proxy::start(dir.path(), &settings);
        let load = Load::start(proxy.address, EVENTS, 16);
        wait_until("the load is on", || load.answered() > 50);
        proxy.terminate();
        assert_eq!(proxy.wait(Duration::from_secs(10)).code(), Some(0));
        let sent = load.join();
        answered += count_answered(&sent, 200);
        cut += sent.iter().filter(|sent| sent.answer.is_none()).count();
    }
    // The kernel resets connections that arrive while the listener closes: a few at most.
    println!("{answered} answered, {cut} cut off");
    assert!(cut <= 16, "{cut} of {} were cut off", answered + cut);
}
