//! What a delivery stream does to us, and what the clients hear of it; and how events lie in its records.

use crate::support::audit::{Sent, Stored, count_answered, ids_answered};
use crate::support::client::post;
use crate::support::event::{array, event, ids_of_record, new_id, new_ids};
use crate::support::load::{Load, burst};
use crate::support::proxy::Proxy;
use crate::support::wait_until;
use sluice_loadtest::firehose::{Emulator, Options, Quota};
use sluice_loadtest::service::{self, Faults, Reject, RejectCode};
use std::time::{Duration, Instant};
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";
const ENVELOPES: &str = "/collect";
/// What the service bills records in steps of.
const STEP: usize = 5_120;
/// Time for retries that a test waits for.
const PATIENT: &str = "retry_base_ms = 5\nretry_cap_ms = 20\n[ack]\ndeadline_ms = 8000\n[drain]\ndeadline_ms = 10000\n";
/// Waits of up to a minute: hardly any retry fits before the ack deadline.
const IMPATIENT: &str = "retry_base_ms = 60000\nretry_cap_ms = 60000\n";

/// A stream without quotas that refuses nothing but what its faults say.
fn stream(faults: Faults) -> Emulator {
    limited(None, faults)
}

fn limited(quota: Option<Quota>, faults: Faults) -> Emulator {
    let service = service::Options {
        faults,
        ..service::Options::default()
    };
    Emulator::start(Options {
        service,
        quota,
        ..Options::default()
    })
    .unwrap()
}

fn reject(k: u64, n: u64, code: RejectCode) -> Faults {
    Faults {
        reject: Some(Reject { k, n, code }),
        ..Faults::default()
    }
}

/// An output called `main` that writes to it; further keys may follow.
fn output(stream: &Emulator) -> String {
    format!(
        "[outputs.main]\ntype = \"firehose\"\nstream = \"clicks\"\nendpoint_url = \"{}\"\nlinger_ms = 20\n",
        stream.url()
    )
}

/// The events in a record's data. Each ends with a newline, the last one too.
fn lines(data: &[u8]) -> Vec<&[u8]> {
    let text = data
        .strip_suffix(b"\n")
        .expect("a newline after the last event");
    text.split(|byte| *byte == b'\n').collect()
}

fn stored(stream: &Emulator) -> Stored {
    assert_eq!(stream.stats().not_retained, 0);
    let records = stream.stored_records();
    let events = records.iter().flat_map(|record| lines(record));
    Stored::of(events.flat_map(ids_of_record))
}

#[test]
fn firehose_records_stay_within_5_kib() {
    let stream = stream(Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &output(&stream));
    let mut sent = burst(proxy.address, EVENTS, 8, 30);
    sent.extend(burst(proxy.address, ENVELOPES, 4, 10));
    // Around the step, server fields included, and far above it.
    let sizes = [
        100, 1_700, 2_400, 2_450, 2_500, 4_800, 5_000, 5_020, 6_000, 60_000,
    ];
    for at in 0..30 {
        let ids = new_ids(7);
        let events: Vec<_> = (0..)
            .zip(&ids)
            .map(|(nth, id)| event(id, sizes[(at * 3 + nth) % 10]))
            .collect();
        let started = Instant::now();
        let answer = proxy.post(EVENTS, format!("[{}]", events.join(",")));
        sent.push(Sent {
            ids,
            answer: Some(answer),
            took: started.elapsed(),
        });
    }
    assert_eq!(count_answered(&sent, 200), sent.len());
    let metrics = proxy.settled_metrics("main");
    let stored = stored(&stream);
    assert_eq!(stored.ids(), ids_answered(&sent, 200));
    assert_eq!(stored.duplicates(), 0);

    let records = stream.stored_records();
    let (over, within): (Vec<_>, Vec<_>) = records.iter().partition(|data| data.len() > STEP);
    assert!(!over.is_empty());
    for data in over {
        assert_eq!(lines(data).len(), 1, "{} bytes", data.len());
    }
    let most = within.iter().map(|data| lines(data).len()).max();
    assert!(most > Some(20), "{most:?} events in the fullest record");
    let stats = stream.stats();
    let of = |name: &str| metrics.family(&format!("sluice_output_{name}_bytes_total"), "main");
    assert_eq!(of("confirmed"), stats.stored_bytes);
    assert_eq!(of("billed"), stats.billed_bytes);
    proxy.end_cleanly();
}

#[test]
fn without_packing_each_event_is_a_firehose_record() {
    let stream = stream(Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &(output(&stream) + "pack_bytes_max = 0\n"));
    let sent = burst(proxy.address, EVENTS, 4, 9);
    assert_eq!(count_answered(&sent, 200), sent.len());
    let events: usize = sent.iter().map(|sent| sent.ids.len()).sum();
    assert_eq!(stored(&stream).ids(), ids_answered(&sent, 200));
    assert_eq!(stream.stored_records().len(), events);
    proxy.end_cleanly();
}

#[test]
fn a_partial_failure_is_sent_again_alone() {
    for code in [
        RejectCode::ProvisionedThroughputExceededException,
        RejectCode::InternalFailure,
    ] {
        let stream = stream(reject(1, 4, code));
        let dir = tempdir().unwrap();
        // Two events of some 200 bytes in a record, so that there are many.
        let packed = output(&stream) + "pack_bytes_max = 600\n" + PATIENT;
        let proxy = Proxy::start(dir.path(), &packed);
        let sent = burst(proxy.address, EVENTS, 16, 15);
        assert_eq!(count_answered(&sent, 200), sent.len());
        let metrics = proxy.settled_metrics("main");
        let stored = stored(&stream);
        assert_eq!(stored.ids(), ids_answered(&sent, 200));
        assert_eq!(stored.duplicates(), 0, "what was stored was not sent again");
        let stats = stream.stats();
        assert!(stats.rejected >= stats.stored / 4, "{stats:?}");
        let cause = match code {
            RejectCode::InternalFailure => "unavailable",
            RejectCode::ProvisionedThroughputExceededException => "throttled",
        };
        let series = format!("sluice_output_retries_total{{output=\"main\",cause=\"{cause}\"}}");
        assert!(
            metrics.get(&series) >= stats.rejected,
            "each event of a record is tried again"
        );
        proxy.end_cleanly();
    }
}

#[test]
fn failed_firehose_records_are_503_for_their_requests() {
    let stream = stream(reject(1, 5, RejectCode::default()));
    let dir = tempdir().unwrap();
    let packed = output(&stream) + "pack_bytes_max = 600\n" + IMPATIENT;
    let proxy = Proxy::start(dir.path(), &packed);
    let sent = burst(proxy.address, EVENTS, 8, 12);
    proxy.settled_metrics("main");
    let stored = stored(&stream);
    stored.assert_exact(&sent);
    let refused = count_answered(&sent, 503);
    assert!(refused > 0 && count_answered(&sent, 200) > 0, "{refused}");
    assert_eq!(refused + count_answered(&sent, 200), sent.len());
    proxy.end_cleanly();
}

#[test]
fn a_hanging_stream_is_503_in_time_and_recovers() {
    let stream = stream(Faults {
        hang: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &output(&stream));
    let mut sent = burst(proxy.address, EVENTS, 12, 2);
    for sent in &sent {
        let answer = sent.answer.as_ref().expect("an answer");
        answer.assert_retry_later(&["not_confirmed"]);
        // Deadline and a second: a bound on hanging, no figure.
        assert!(sent.took < Duration::from_millis(1_700), "{sent:?}");
    }
    assert!(proxy.metrics().unknown_retries("main") > 0);

    stream.set_faults(Faults::default()).unwrap();
    wait_until("requests succeed again", || {
        sent.extend(burst(proxy.address, EVENTS, 1, 1));
        sent.last().is_some_and(Sent::is_acked)
    });
    proxy.settled_metrics("main");
    stored(&stream).assert_truthful(&sent);
    proxy.end_cleanly();
}

#[test]
fn unreadable_responses_make_copies_but_no_false_200() {
    let stream = stream(Faults {
        short_answer: 0.2,
        garbage_answer: 0.2,
        reset_after: 0.2,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &(output(&stream) + PATIENT));
    let sent = burst(proxy.address, EVENTS, 12, 10);
    let metrics = proxy.settled_metrics("main");
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert!(count_answered(&sent, 200) > 0);
    assert!(stored.duplicates() <= metrics.unknown_retries("main"));
    assert!(stored.duplicates() > 0, "none was in doubt");
    proxy.end_cleanly();
}

#[test]
fn a_stream_over_quota_loses_no_acknowledged_event() {
    // 100 KiB/s: less than a tenth of what comes.
    let quota = Quota::SMALL.scaled_to(100 << 10);
    let stream = limited(Some(quota), Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &output(&stream));
    let mut sent = Vec::new();
    for _ in 0..12 {
        let asked: Vec<_> = (0..16)
            .map(|_| {
                let ids = new_ids(20);
                let events: Vec<_> = ids.iter().map(|id| event(id, 500)).collect();
                let mut client = proxy.connect();
                client.send(post(EVENTS, format!("[{}]", events.join(","))));
                (client, ids, Instant::now())
            })
            .collect();
        sent.extend(asked.into_iter().map(|(mut client, ids, since)| Sent {
            answer: client.try_read(),
            ids,
            took: since.elapsed(),
        }));
    }
    let metrics = proxy.settled_metrics("main");
    let (taken, refused) = (count_answered(&sent, 200), count_answered(&sent, 503));
    println!(
        "{taken} requests taken, {refused} refused, {:?}",
        stream.stats()
    );
    assert_eq!(taken + refused, sent.len());
    assert!(taken > 0 && refused > 0);
    assert!(metrics.get("sluice_output_retries_total{output=\"main\",cause=\"throttled\"}") > 0);
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
    proxy.end_cleanly();
}

#[test]
fn a_throttled_call_shows_in_metrics_and_health() {
    let stream = stream(Faults {
        throttle_call: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &output(&stream));
    let id = new_id();
    let answer = proxy.post(EVENTS, event(&id, 0));
    answer.assert_retry_later(&["not_delivered", "not_confirmed"]);
    let metrics = proxy.settled_metrics("main");
    assert_eq!(metrics.refused("main", "throttled"), 1);
    assert_eq!(proxy.ready_json()["troubled"]["main"], "throttled");
    stream.set_faults(Faults::default()).unwrap();
    assert_eq!(proxy.post(EVENTS, event(&new_id(), 0)).status, 200);
    assert!(!stored(&stream).has(&id));
    proxy.end_cleanly();
}

#[test]
fn sigterm_loses_and_duplicates_no_acknowledged_event() {
    let stream = stream(Faults::default());
    let dir = tempdir().unwrap();
    let mut proxy = Proxy::start(dir.path(), &output(&stream));
    let load = Load::start(proxy.address, EVENTS, 16);
    wait_until("the load is on", || load.answered() > 200);
    proxy.terminate();
    let status = proxy.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{:#?}", proxy.log());
    let sent = load.join();
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
    assert!(count_answered(&sent, 200) > 200);
}

#[test]
fn a_firehose_call_has_at_most_500_records() {
    let stream = stream(Faults::default());
    let dir = tempdir().unwrap();
    let roomy = "[limits]\nevents_max = 1000\nin_flight_bytes_max = 200000000\n[ack]\ndeadline_ms = 8000\n[drain]\ndeadline_ms = 10000\n";
    let proxy = Proxy::start(
        dir.path(),
        &(output(&stream) + "pack_bytes_max = 0\n" + roomy),
    );
    // 1,000 events at once, none packed: the 501st would spoil a call for all of them.
    let ids = new_ids(1_000);
    assert_eq!(proxy.post(EVENTS, array(&ids)).status, 200);
    let metrics = proxy.settled_metrics("main");
    assert!(metrics.family("sluice_output_calls_total", "main") >= 2);
    assert_eq!(stream.stored_records().len(), 1_000);
    // Nine megabytes at once: the emulator refuses a call over 4 MiB as the service does.
    let mut asked: Vec<_> = (0..9)
        .map(|_| {
            let mut client = proxy.connect();
            client.send(post(EVENTS, event(&new_id(), 1_000_000)));
            client
        })
        .collect();
    for client in &mut asked {
        assert_eq!(client.read().status, 200);
    }
    let metrics = proxy.settled_metrics("main");
    assert_eq!(metrics.family("sluice_output_retries_total", "main"), 0);
    assert_eq!(stored(&stream).0.len(), 1_009);
    proxy.end_cleanly();
}

#[test]
fn an_event_over_the_firehose_limit_is_413_alone() {
    let stream = stream(Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &output(&stream));
    let refused = proxy.post(EVENTS, event(&new_id(), 1_024_000));
    assert_eq!(refused.status, 413);
    let error = &refused.json()["errors"][0];
    assert_eq!(error["code"], "record_too_large");
    // 1,000 KiB, less the newline.
    assert_eq!(error["limit"], 1_023_999);
    let over = error["actual"].as_u64().unwrap() - 1_023_999;
    assert_eq!(
        proxy.metrics().family("sluice_output_calls_total", "main"),
        0
    );

    let (good, bad, largest) = (new_id(), new_id(), new_id());
    let bytes = 1_024_000 - usize::try_from(over).unwrap();
    for (ids, bytes) in [([&good, &bad], bytes + 1), ([&good, &largest], bytes)] {
        // Both in one body, which is under its own limit of 1 MiB.
        let body = format!("[{},{}]", event(ids[0], 100), event(ids[1], bytes));
        assert_eq!(proxy.post(EVENTS, body).status, 200);
    }
    let stored = stored(&stream);
    assert!(stored.has(&good) && stored.has(&largest) && !stored.has(&bad));
    let records = stream.stored_records();
    let longest = records.iter().map(|data| data.len()).max();
    assert_eq!(longest, Some(1_024_000));
    proxy.end_cleanly();
}
