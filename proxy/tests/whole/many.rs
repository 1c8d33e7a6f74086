//! Many connections, and the limits of each: what is configured is what holds.

use crate::support::client::{Client, get, post};
use crate::support::event::{event, new_id};
use crate::support::files;
use crate::support::proxy::{Proxy, to_files};
use crate::support::wait_until;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

/// Descriptors that this process, and so its child, may have; raised as far as it is allowed.
fn descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.current.unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_idle_connections_cost_at_most_16_kib_each() {
    // Half of the proxy's descriptors are for connections, and above 80 % of that idle ones end; this process
    // shares its own between all tests.
    let possible = (descriptors() / 2 * 8 / 10).saturating_sub(200);
    let count = usize::try_from(possible).unwrap_or(usize::MAX).min(10_000);
    if count < 10_000 {
        println!("{count} connections instead of 10,000: the descriptor limit allows no more");
    }
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings =
        to_files(&data) + "[listen]\nconnections_max = 20000\nconnections_per_address_max = 0\n";
    // What a connection holds, not what the allocator keeps: by default it returns freed memory only while its thread
    // goes on allocating.
    let variables = [("MIMALLOC_PURGE_DELAY", "0")];
    let proxy = Proxy::start_with(dir.path(), &settings, &variables);
    // Whatever is needed once is there before it is measured.
    let mut ids = vec![new_id()];
    let mut other = proxy.connect();
    assert_eq!(other.ask(post(EVENTS, event(&ids[0], 1_000))).status, 200);
    let before = proxy.rss_kib();

    let mut idle: Vec<Client> = Vec::with_capacity(count);
    let request = get("/ping");
    while idle.len() < count {
        // In waves, so that the accept queues are not what is tried.
        let wave = 500.min(count - idle.len());
        let from = idle.len();
        idle.extend((0..wave).map(|_| proxy.connect()));
        idle[from..]
            .iter_mut()
            .for_each(|client| client.send(&request));
        for client in &mut idle[from..] {
            assert_eq!(client.read().status, 200);
        }
    }
    let metrics = proxy.metrics();
    assert_eq!(
        metrics.get("sluice_connections_capped_total{cap=\"process\"}"),
        0
    );
    assert_eq!(metrics.get("sluice_connections_open"), count as u64 + 1);
    // A connection gives up its buffers a moment after its last request.
    let mut each = f64::MAX;
    wait_until("an idle connection takes 16 KiB at most", || {
        each = proxy.rss_kib().saturating_sub(before) as f64 / count as f64;
        each <= 16.0
    });
    println!("{count} idle connections: {each:.2} KiB each");

    // Someone else, on an old and on a new connection; and the idle ones are still good.
    for client in [&mut other, &mut proxy.connect(), &mut idle[0]] {
        let id = new_id();
        assert_eq!(client.ask(post(EVENTS, event(&id, 1_000))).status, 200);
        ids.push(id);
    }
    drop(idle);
    proxy.end_cleanly();
    assert_eq!(files::stored(&data).ids(), ids.into_iter().collect());
}

/// A proxy that writes to nowhere, with these settings.
fn with(settings: &str) -> (tempfile::TempDir, Proxy) {
    let dir = tempdir().unwrap();
    let nowhere = "[outputs.main]\ntype = \"null\"\n";
    let proxy = Proxy::start(dir.path(), &format!("{nowhere}{settings}"));
    (dir, proxy)
}

/// Whether a new connection is served, not closed at accept.
fn is_let_in(proxy: &Proxy) -> Option<Client> {
    let mut client = proxy.connect();
    let answer = client.ask(get("/ping"));
    if answer.status == 200 {
        return Some(client);
    }
    // An answer, for SDKs drop events when a connection is closed without one.
    answer.assert_retry_later(&["too_many_connections"]);
    assert!(answer.closes() && client.ended());
    None
}

#[test]
fn connections_over_the_configured_caps_are_told_to_retry_later() {
    for (settings, cap) in [
        ("[listen]\nconnections_max = 3\n", "process"),
        // Loopback is a trusted network by default, and peers in those are not counted.
        (
            "[listen]\nconnections_per_address_max = 3\n[client_address]\ntrusted = []\n",
            "address",
        ),
    ] {
        let (_dir, proxy) = with(settings);
        let mut inside: Vec<_> = (0..3).map(|_| is_let_in(&proxy).unwrap()).collect();
        assert!(is_let_in(&proxy).is_none(), "{settings}");
        let capped = format!("sluice_connections_capped_total{{cap=\"{cap}\"}}");
        assert_eq!(proxy.metrics().get(&capped), 1);
        assert_eq!(inside[0].ask(get("/ping")).status, 200);
    }
}

#[test]
fn a_connection_ends_as_configured_after_requests_life_and_silence() {
    let (_dir, proxy) = with("[limits]\nrequests_per_connection_max = 2\n");
    let mut client = proxy.connect();
    assert!(!client.ask(get("/ping")).closes());
    assert!(client.ask(get("/ping")).closes());
    assert!(client.ended());

    let (_dir, proxy) = with("[limits]\nconnection_life_ms = 200\nidle_ms = 200\n");
    let mut client = proxy.connect();
    client.send(get("/ping"));
    assert_eq!(client.read().status, 200);
    // Far below the 60 s that hold where nothing is configured; a read waits 15 s at most.
    assert!(client.ended());
}

#[test]
fn a_body_slower_than_configured_is_408() {
    let (_dir, proxy) = with("[limits]\nbody_rate_min_bytes = 10000000\n");
    let mut client = proxy.connect();
    let request = post(EVENTS, event(&new_id(), 1_000_000));
    client.send(&request[..100_000]);
    // A rate counts after its grace of 2 s only, and long before the body's deadline of 10 s.
    let since = std::time::Instant::now();
    assert_eq!(client.read().status, 408);
    assert!(since.elapsed() < Duration::from_secs(8));
}

#[test]
fn every_thread_is_scheduled_as_configured() {
    for (settings, policy) in [("", 3), ("[process]\nscheduling = 'inherit'\n", 0)] {
        let (_dir, proxy) = with(settings);
        let policies = proxy.policies();
        assert!(policies.len() >= 4, "{settings}: {policies:?}");
        assert!(
            policies.iter().all(|is| *is == policy),
            "{settings}: {policies:?}"
        );
        proxy.end_cleanly();
    }
}
