//! Streams that stand in for each other, and streams that share one traffic.

use crate::support::audit::{Sent, Stored, count_answered};
use crate::support::client::post;
use crate::support::event::{event, ids_of_record, new_id};
use crate::support::load::burst;
use crate::support::metrics::Metrics;
use crate::support::proxy::Proxy;
use crate::support::stream::emulator;
use crate::support::wait_until;
use sluice_loadtest::kinesis::{Emulator, Faults};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

fn gone() -> Faults {
    Faults {
        gone: true,
        for_s: Some(60.0),
        ..Faults::default()
    }
}

/// An output of this name that writes to a stream; further keys may follow.
fn output(name: &str, stream: &Emulator) -> String {
    format!(
        "[outputs.{name}]\ntype = \"kinesis\"\nstream = \"clicks\"\nendpoint_url = \"{}\"\n",
        stream.url()
    )
}

/// All events of some streams.
fn stored(streams: &[&Emulator]) -> Stored {
    let records = streams.iter().flat_map(|stream| stream.stored_records());
    Stored::of(records.flat_map(|record| ids_of_record(&record.data)))
}

fn count(stream: &Emulator) -> usize {
    stream.stored_records().len()
}

/// The equation of an output that has nothing under way.
fn assert_adds_up(metrics: &Metrics, output: &str) {
    let of = |what: &str| metrics.records(what, output);
    let refused = metrics.family("sluice_output_refused_records_total", output);
    assert_eq!(of("pending_records"), 0);
    assert_eq!(
        of("accepted_records_total"),
        of("delivered_records_total") + of("spooled_records_total") + refused
    );
}

/// The metrics once no output has anything under way.
fn settled(proxy: &Proxy, outputs: &[&str]) -> Metrics {
    wait_until("no record is pending", || {
        let metrics = proxy.metrics();
        metrics.get("sluice_in_flight_bytes") == 0
            && outputs.iter().all(|output| {
                metrics.records("pending_records", output) == 0
                    && metrics.records("held_records", output) == 0
            })
    });
    proxy.metrics()
}

fn ask(proxy: &Proxy, body: &str, id: String) -> Sent {
    let started = Instant::now();
    let mut client = proxy.connect();
    client.send(post(EVENTS, body));
    Sent {
        answer: client.try_read(),
        ids: vec![id],
        took: started.elapsed(),
    }
}

/// Sends events one by one until `holds`.
fn ask_until(proxy: &Proxy, sent: &mut Vec<Sent>, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        let id = new_id();
        sent.push(ask(proxy, &event(&id, 100), id));
        assert!(began.elapsed() < Duration::from_secs(15), "{sent:#?}");
    }
}

#[test]
fn a_second_stream_takes_over_until_the_first_is_back() {
    let (first, second) = (emulator(Faults::default()), emulator(Faults::default()));
    let dir = tempdir().unwrap();
    let settings = output("main", &first) + "fallback = \"second\"\n" + &output("second", &second);
    let proxy = Proxy::start(dir.path(), &settings);
    let mut sent = burst(proxy.address, EVENTS, 4, 6);
    assert_eq!(count(&second), 0);
    assert!(
        proxy.ready_json()["means"]["main"]
            .to_string()
            .contains("fallback")
    );

    first.set_faults(gone()).unwrap();
    ask_until(&proxy, &mut sent, || count(&second) > 0);
    // Both workers know by then, or learn with their next records, which then go to the second.
    let during = burst(proxy.address, EVENTS, 4, 20);
    assert_eq!(count_answered(&during, 200), during.len(), "{during:#?}");
    sent.extend(during);

    first.set_faults(Faults::default()).unwrap();
    let before = count(&first);
    ask_until(&proxy, &mut sent, || count(&first) > before + 5);
    let metrics = settled(&proxy, &["main", "second"]);
    for output in ["main", "second"] {
        assert_adds_up(&metrics, output);
    }
    let diverted = metrics.records("diverted_records_total", "main");
    assert_eq!(
        metrics.records("accepted_records_total", "second"),
        diverted
    );
    assert_eq!(metrics.records("diverted_records_total", "second"), 0);
    assert_eq!(count(&second) as u64, diverted);
    proxy.end_cleanly();
    stored(&[&first, &second]).assert_truthful(&sent);
}

#[test]
fn a_hanging_stream_gives_its_records_to_the_fallback() {
    let (first, second) = (emulator(Faults::default()), emulator(Faults::default()));
    let dir = tempdir().unwrap();
    let settings = output("main", &first) + "fallback = \"second\"\n" + &output("second", &second);
    let proxy = Proxy::start(dir.path(), &settings);
    let hangs = Faults {
        hang: 1.0,
        ..Faults::default()
    };
    first.set_faults(hangs).unwrap();
    let mut sent = Vec::new();
    ask_until(&proxy, &mut sent, || count(&second) > 4);
    let during = burst(proxy.address, EVENTS, 4, 10);
    // A probe's call hangs for half of its time; then its records are the fallback's.
    assert!(
        count_answered(&during, 200) > during.len() * 8 / 10,
        "{during:#?}"
    );
    sent.extend(during);
    first.set_faults(Faults::default()).unwrap();
    settled(&proxy, &["main", "second"]);
    proxy.end_cleanly();
    stored(&[&first, &second]).assert_truthful(&sent);
}

#[test]
fn with_both_streams_away_the_spool_takes_records() {
    let (first, second) = (emulator(gone()), emulator(gone()));
    let dir = tempdir().unwrap();
    let spool = dir.path().join("spool");
    let settings = output("main", &first)
        + "fallback = \"second\"\n"
        + &format!("[outputs.main.spool]\ndir = {spool:?}\nafter_ms = 200\n")
        + &output("second", &second);
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 4, 10);
    assert_eq!(count_answered(&sent, 200), sent.len(), "{sent:#?}");
    let metrics = settled(&proxy, &["main", "second"]);
    assert_adds_up(&metrics, "main");
    assert_adds_up(&metrics, "second");
    assert!(metrics.records("spooled_records_total", "main") > 0);
    first.set_faults(Faults::default()).unwrap();
    wait_until("the spool is empty", || {
        proxy.metrics().family("sluice_spool_disk_bytes", "main") == 0
    });
    proxy.end_cleanly();
    stored(&[&first]).assert_truthful(&sent);
}

#[test]
fn without_a_spool_both_streams_away_are_503() {
    let (first, second) = (emulator(gone()), emulator(gone()));
    let dir = tempdir().unwrap();
    let settings = output("main", &first) + "fallback = \"second\"\n" + &output("second", &second);
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 4, 10);
    assert_eq!(count_answered(&sent, 503), sent.len(), "{sent:#?}");
    let metrics = settled(&proxy, &["main", "second"]);
    assert_adds_up(&metrics, "main");
    assert_adds_up(&metrics, "second");
    proxy.end_cleanly();
}

/// A group of three streams.
fn group(streams: &[Emulator], spread: &str) -> String {
    let outputs = ["a", "b", "c"].iter().zip(streams);
    let keyed = "partition_key = \"field:user\"\n";
    let outputs: String = outputs
        .map(|(name, stream)| output(name, stream) + keyed)
        .collect();
    format!(
        "{outputs}[outputs.clicks]\ntype = \"group\"\nof = [\"a\", \"b\", \"c\"]\nspread = \"{spread}\"\n"
    )
}

#[test]
fn a_group_spreads_over_its_streams_and_survives_one() {
    let streams = [(); 3].map(|()| emulator(Faults::default()));
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &group(&streams, "least_loaded"));
    let mut sent = burst(proxy.address, EVENTS, 8, 12);
    assert_eq!(count_answered(&sent, 200), sent.len());
    assert!(streams.iter().all(|stream| count(stream) > 10));

    streams[1].set_faults(gone()).unwrap();
    let during = burst(proxy.address, EVENTS, 8, 30);
    assert_eq!(count_answered(&during, 200), during.len(), "{during:#?}");
    sent.extend(during);
    streams[1].set_faults(Faults::default()).unwrap();
    let before = count(&streams[1]);
    ask_until(&proxy, &mut sent, || count(&streams[1]) > before + 3);
    let metrics = settled(&proxy, &["a", "b", "c"]);
    for output in ["a", "b", "c"] {
        assert_adds_up(&metrics, output);
    }
    assert!(metrics.records("diverted_records_total", "b") > 0);
    proxy.end_cleanly();
    let streams: Vec<&Emulator> = streams.iter().collect();
    stored(&streams).assert_truthful(&sent);
}

#[test]
fn a_group_by_hash_keeps_each_key_on_one_stream() {
    let streams = [(); 3].map(|()| emulator(Faults::default()));
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &group(&streams, "hash"));
    let mut sent = Vec::new();
    let user_event = |user: usize, id: &str| format!("{{\"id\":\"{id}\",\"user\":\"u-{user}\"}}");
    for user in (0..30).cycle().take(90) {
        let id = new_id();
        sent.push(ask(&proxy, &user_event(user, &id), id));
    }
    assert_eq!(count_answered(&sent, 200), sent.len(), "{sent:#?}");
    let mut streams_of: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (at, stream) in streams.iter().enumerate() {
        assert!(count(stream) > 0, "three streams share 30 keys");
        for record in stream.stored_records() {
            streams_of
                .entry(record.key.unwrap())
                .or_default()
                .insert(at);
        }
    }
    assert_eq!(streams_of.len(), 30);
    assert!(
        streams_of.values().all(|streams| streams.len() == 1),
        "{streams_of:?}"
    );

    // The share of a stream that is away is refused, and no other gets it.
    let home = |user: usize| *streams_of[&format!("u-{user}")].first().unwrap();
    streams[0].set_faults(gone()).unwrap();
    for user in (0..30).cycle().take(60) {
        let id = new_id();
        let answered = ask(&proxy, &user_event(user, &id), id);
        assert_eq!(answered.is_acked(), home(user) != 0, "{answered:?}");
        sent.push(answered);
    }
    settled(&proxy, &["a", "b", "c"]);
    proxy.end_cleanly();
    let streams: Vec<&Emulator> = streams.iter().collect();
    stored(&streams).assert_truthful(&sent);
}
