//! Batches posted to another server, which here is another Sluice that writes files.

use crate::support::audit::{Stored, count_answered, ids_answered};
use crate::support::files;
use crate::support::load::burst;
use crate::support::proxy::Proxy;
use std::time::Duration;
use tempfile::{TempDir, tempdir};

const EVENTS: &str = "/v1/events";
/// Time for retries that a test waits for.
const PATIENT: &str = "retry_base_ms = 5\nretry_cap_ms = 20\n[ack]\ndeadline_ms = 8000\n[drain]\ndeadline_ms = 10000\n";
const FILES: &str = "[outputs.files]\ntype = \"file\"\ndir = \"events\"\n";

/// An output called `main` that posts to it; further keys may follow.
fn output(server: &Proxy) -> String {
    format!(
        "[outputs.main]\ntype = \"http\"\nurl = \"http://{}{EVENTS}\"\nformat = \"json_array\"\nlinger_ms = 20\n",
        server.address
    )
}

fn server(settings: &str) -> (TempDir, Proxy) {
    let dir = tempdir().unwrap();
    let server = Proxy::start(dir.path(), &format!("{FILES}{settings}"));
    (dir, server)
}

fn stored(dir: &TempDir) -> Stored {
    files::stored(&dir.path().join("events"))
}

#[test]
fn a_server_has_every_posted_event_once() {
    for gzip in ["", "gzip = true\n"] {
        let (at_server, server) = server("");
        let dir = tempdir().unwrap();
        let proxy = Proxy::start(dir.path(), &(output(&server) + gzip));
        let sent = burst(proxy.address, EVENTS, 8, 20);
        assert_eq!(count_answered(&sent, 200), sent.len());
        proxy.end_cleanly();
        server.end_cleanly();
        let stored = stored(&at_server);
        assert_eq!(stored.ids(), ids_answered(&sent, 200));
        assert_eq!(stored.duplicates(), 0);
    }
}

#[test]
fn a_batch_that_is_refused_is_sent_event_by_event() {
    // Room for an event and its server fields, not for a request of events.
    let (at_server, server) = server("[limits]\nbody_bytes_max = 1000\nhead_bytes_max = 8192\n");
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &(output(&server) + PATIENT));
    let sent = burst(proxy.address, EVENTS, 4, 5);
    assert_eq!(count_answered(&sent, 200), sent.len());
    let metrics = proxy.settled_metrics("main");
    assert!(metrics.get("sluice_output_retries_total{output=\"main\",cause=\"invalid\"}") > 0);
    proxy.end_cleanly();
    server.end_cleanly();
    let stored = stored(&at_server);
    assert_eq!(stored.ids(), ids_answered(&sent, 200));
    assert_eq!(stored.duplicates(), 0);
}

#[test]
fn a_server_that_went_away_is_503_and_no_false_200() {
    let (at_server, mut server) = server("");
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &output(&server));
    let mut sent = burst(proxy.address, EVENTS, 2, 2);
    server.terminate();
    server.wait(Duration::from_secs(10));
    sent.extend(burst(proxy.address, EVENTS, 1, 1));
    let answer = sent.last().and_then(|sent| sent.answer.as_ref());
    answer.unwrap().assert_retry_later(&["not_delivered"]);
    assert_eq!(proxy.ready_json()["troubled"]["main"], "unavailable");
    stored(&at_server).assert_truthful(&sent);
}
