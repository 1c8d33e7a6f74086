//! More than there is room for: told at once, and not at the cost of those who are in.

use crate::support::audit::{Sent, Stored, count_answered};
use crate::support::client::{chunk, post, post_chunked};
use crate::support::event::{event, new_id};
use crate::support::files;
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use crate::support::stream::stored;
use crate::support::wait_until;
use sluice_loadtest::kinesis::{Emulator, Options};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

#[test]
fn a_full_queue_is_503_immediately_for_new_requests() {
    let slow = Duration::from_millis(1_000);
    let stream = Emulator::start(Options {
        shard_limits: false,
        latency: slow,
        ..Options::default()
    })
    .unwrap();
    let dir = tempdir().unwrap();
    let settings = to_kinesis(&stream.url())
        + "queue_bytes_max = 16384\nbatch_bytes_max = 16384\n\
           [listen]\nworkers = 1\n[limits]\nbody_bytes_max = 4096\nhead_bytes_max = 8192\n\
           [ack]\ndeadline_ms = 6000\n[drain]\ndeadline_ms = 8000\n";
    let proxy = Proxy::start(dir.path(), &settings);
    // Each on a thread of its own: who is refused must not be read after somebody who waits.
    let asked: Vec<_> = (0..40)
        .map(|_| {
            let id = new_id();
            let mut client = proxy.connect();
            client.send(post(EVENTS, event(&id, 1_000)));
            let since = Instant::now();
            thread::spawn(move || Sent {
                answer: client.try_read(),
                ids: vec![id],
                took: since.elapsed(),
            })
        })
        .collect();
    let sent: Vec<Sent> = asked
        .into_iter()
        .map(|asked| asked.join().unwrap())
        .collect();
    let (taken, refused) = (count_answered(&sent, 200), count_answered(&sent, 503));
    assert!(taken > 5 && refused > 5, "{taken} taken, {refused} refused");
    assert_eq!(taken + refused, sent.len());
    for sent in sent.iter().filter(|sent| !sent.is_acked()) {
        sent.answer
            .as_ref()
            .unwrap()
            .assert_retry_later(&["queue_full"]);
        assert!(sent.took < slow, "it waited for the stream: {sent:?}");
    }
    let metrics = proxy.settled_metrics("main");
    let shed = metrics.get("sluice_shed_total{reason=\"queue\"}");
    assert_eq!(shed, refused as u64);
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert_eq!(stored.0.len(), taken);
    // There is room again.
    assert_eq!(proxy.post(EVENTS, event(&new_id(), 1_000)).status, 200);
    proxy.end_cleanly();
}

#[test]
fn an_exhausted_byte_budget_is_503_with_bodies_unread() {
    const BODY_MAX: usize = 131_072;
    // Eight of these leave room for what the server adds to them, and for little else.
    const BODY: usize = BODY_MAX - 1_000;
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = to_files(&data)
        + "[listen]\nworkers = 1\n\
           [limits]\nbody_bytes_max = 131072\nin_flight_bytes_max = 1048576\n";
    let proxy = Proxy::start(dir.path(), &settings);

    // Eight large bodies on their way, nearly here: the budget is used up by what has arrived.
    let mut ids = Vec::new();
    let mut inside: Vec<_> = (0..8)
        .map(|_| {
            let id = new_id();
            let request = post(EVENTS, event(&id, BODY));
            let (now, later) = request.split_at(request.len() - 10);
            let mut client = proxy.connect();
            client.send(now);
            ids.push(id);
            (client, later.to_vec())
        })
        .collect();
    wait_until("the budget is used up", || {
        proxy.metrics().get("sluice_in_flight_bytes") >= 8 * BODY as u64
    });

    // A little that is left unread is thrown away, and the connection goes on.
    let mut small = proxy.connect();
    for _ in 0..3 {
        let answer = small.ask(post(EVENTS, event(&new_id(), 9_000)));
        answer.assert_retry_later(&["overloaded"]);
        assert!(!answer.closes());
    }
    // Much is not read: the answer comes first, then the connection ends.
    let mut large = proxy.connect();
    let request = post(EVENTS, event(&new_id(), BODY));
    // An announcement takes nothing; what arrives does.
    let (now, later) = request.split_at(request.len() - BODY + 20_000);
    large.send(now);
    let answer = large.read();
    answer.assert_retry_later(&["overloaded"]);
    assert!(answer.closes());
    large.try_send(later);
    assert!(large.ended());
    // So with a body of unknown length.
    let mut chunked = proxy.connect();
    chunked.send(post_chunked(EVENTS));
    chunked.send(chunk(event(&new_id(), 9_000).as_bytes()));
    let answer = chunked.read();
    answer.assert_retry_later(&["overloaded"]);
    assert!(answer.closes());
    assert!(chunked.ended());
    let metrics = proxy.metrics();
    assert_eq!(metrics.get("sluice_shed_total{reason=\"budget\"}"), 5);

    for (client, later) in &mut inside {
        assert_eq!(client.ask(later).status, 200);
    }
    let id = new_id();
    assert_eq!(small.ask(post(EVENTS, event(&id, 9_000))).status, 200);
    ids.push(id);
    proxy.end_cleanly();
    assert_eq!(files::stored(&data).ids(), Stored::of(ids).ids());
}

#[test]
fn an_idle_proxy_sheds_no_request_within_limits() {
    // The least room that is allowed for these sizes, divided by more cores than fit into it.
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = to_files(&data)
        + "queue_bytes_max = 2621440\nbatch_bytes_max = 163840\n\
           [listen]\nworkers = 16\n\
           [limits]\nbody_bytes_max = 131072\nin_flight_bytes_max = 1048576\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let mut ids = Vec::new();
    for path in [EVENTS, "/collect"] {
        // New connections, so that they meet more than one core.
        for _ in 0..8 {
            let id = new_id();
            let answer = proxy.post(path, event(&id, 131_072));
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            ids.push(id);
        }
    }
    proxy.end_cleanly();
    assert_eq!(files::stored(&data).ids(), Stored::of(ids).ids());
}
