//! What the stream does to us, and what the clients hear of it.

use crate::support::audit::{Sent, count_answered, ids_answered};
use crate::support::client::post;
use crate::support::event::{array, body, event, new_id, new_ids};
use crate::support::load::burst;
use crate::support::proxy::{Proxy, to_kinesis};
use crate::support::stream::{PickyStream, await_success, emulator, end_with_the_truth, stored};
use sluice_loadtest::kinesis::{Emulator, Faults, Options, Reject, RejectCode};
use sluice_loadtest::service::{Key, Signatures};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

fn reject(k: u64, n: u64) -> Option<Reject> {
    Some(Reject {
        k,
        n,
        code: RejectCode::default(),
    })
}

#[test]
fn throttled_records_are_503_for_exactly_their_requests() {
    let stream = emulator(Faults {
        reject: reject(1, 5),
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    // Waits of up to a minute: hardly any retry fits before the ack deadline.
    let waits = "retry_base_ms = 60000\nretry_cap_ms = 60000\n";
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + waits));

    let sent = burst(proxy.address, EVENTS, 8, 12);
    proxy.settled_metrics("main");
    stored(&stream).assert_exact(&sent);
    let refused = count_answered(&sent, 503);
    assert!(refused > 0 && count_answered(&sent, 200) > 0, "{refused}");
    assert_eq!(refused + count_answered(&sent, 200), sent.len());
    for sent in sent.iter().filter(|sent| !sent.is_acked()) {
        sent.answer
            .as_ref()
            .unwrap()
            .assert_retry_later(&["not_delivered"]);
    }
    proxy.end_cleanly();
}

#[test]
fn a_failing_shard_is_503_only_for_its_requests() {
    let stream = PickyStream::start(|key| !key.starts_with("bad-"));
    let dir = tempdir().unwrap();
    let keyed = "partition_key = \"field:id\"\nlinger_ms = 20\nretry_base_ms = 20\n";
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + keyed));

    let good = |count| new_ids(count);
    let bad = || format!("bad-{}", new_id());
    let requests: Vec<Vec<String>> = (0..24)
        .map(|at| match at % 4 {
            0 => good(1),
            1 => vec![bad()],
            2 => [good(2), vec![bad()]].concat(),
            _ => good(3),
        })
        .collect();
    // All on the wire before the first answer is read, so that they share calls.
    let mut asked: Vec<_> = requests
        .into_iter()
        .map(|ids| {
            let mut client = proxy.connect();
            client.send(post(EVENTS, body(&ids)));
            (client, ids)
        })
        .collect();
    for (client, ids) in &mut asked {
        let reply = client.read();
        if ids.iter().any(|id| id.starts_with("bad-")) {
            reply.assert_retry_later(&["not_delivered", "not_confirmed"]);
        } else {
            assert_eq!(reply.status, 200, "{ids:?}");
        }
    }
    let metrics = proxy.settled_metrics("main");
    let good: Vec<_> = asked
        .iter()
        .flat_map(|(_, ids)| ids)
        .filter(|id| !id.starts_with("bad-"))
        .cloned()
        .collect();
    let stored = stream.stored();
    assert_eq!(stored.ids(), good.iter().cloned().collect());
    assert_eq!(stored.duplicates(), 0);
    // They were tried again, alone, while there was time.
    let refused = stream.refused();
    assert_eq!(refused.0.len(), 12);
    assert!(refused.duplicates() > 0);
    assert!(metrics.family("sluice_output_batch_records_count", "main") > 1);
    assert!(metrics.family("sluice_output_calls_total", "main") < 24 + refused.duplicates() + 12);
    proxy.end_cleanly();
}

#[test]
fn a_503_lists_indices_of_events_in_doubt() {
    let stream = PickyStream::start(|key| !key.starts_with("bad-"));
    let dir = tempdir().unwrap();
    let keyed = "partition_key = \"field:id\"\nretry_base_ms = 20\n";
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + keyed));
    let bad = || format!("\"bad-{}\"", new_id());
    let good = || format!("\"{}\"", new_id());
    // The third is no object, so that a place among the records is not an index in the body.
    let object = |id: String| format!("{{\"id\":{id}}}");
    let events = [
        object(good()),
        object(bad()),
        "7".to_owned(),
        object(good()),
        object(bad()),
    ];
    let reply = proxy
        .connect()
        .ask(post(EVENTS, format!("[{}]", events.join(","))));
    reply.assert_retry_later(&["not_delivered", "not_confirmed"]);
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["in_doubt"], 2, "{body}");
    assert_eq!(body["indices"], serde_json::json!([1, 4]), "{body}");
    assert_eq!(stream.stored().0.len(), 2);
    proxy.settled_metrics("main");
    proxy.end_cleanly();
}

#[test]
fn briefly_throttled_records_are_200_and_stored_once() {
    let stream = emulator(Faults {
        reject: reject(1, 5),
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let patient = "retry_base_ms = 5\nretry_cap_ms = 20\n[ack]\ndeadline_ms = 8000\n[drain]\ndeadline_ms = 10000\n";
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + patient));

    let sent = burst(proxy.address, EVENTS, 16, 15);
    assert_eq!(count_answered(&sent, 200), sent.len());
    let stored = stored(&stream);
    assert_eq!(stored.ids(), ids_answered(&sent, 200));
    assert_eq!(stored.duplicates(), 0);
    let stats = stream.stats();
    assert!(stats.rejected >= stats.stored / 5, "{stats:?}");
    proxy.end_cleanly();
}

#[test]
fn a_hanging_stream_is_503_in_time_and_recovers() {
    let stream = emulator(Faults {
        hang: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));

    let mut sent = burst(proxy.address, EVENTS, 12, 2);
    for sent in &sent {
        let answer = sent.answer.as_ref().expect("an answer");
        answer.assert_retry_later(&["not_confirmed"]);
        // Deadline and a second: a bound on hanging, no figure.
        assert!(sent.took < Duration::from_millis(1_700), "{sent:?}");
    }
    let metrics = proxy.metrics();
    assert_eq!(metrics.get("sluice_ack_deadline_passed_total"), 24);
    assert_eq!(metrics.answered(503), 24);
    assert_eq!(metrics.answered(200), 0);
    assert!(metrics.unknown_retries("main") > 0);
    // What is wrong can be asked for; the process itself can still take requests.
    assert_eq!(proxy.ready_json()["troubled"]["main"], "unknown");

    stream.set_faults(Faults::default()).unwrap();
    await_success(&proxy, &mut sent);
    let after = burst(proxy.address, EVENTS, 8, 5);
    assert_eq!(count_answered(&after, 200), after.len());
    sent.extend(after);
    proxy.settled_metrics("main");
    stored(&stream).assert_truthful(&sent);
    proxy.end_cleanly();
}

#[test]
fn late_responses_make_copies_but_no_false_200() {
    let stream = emulator(Faults {
        slow: 1.0,
        slow_ms: 1_500,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));

    let mut sent = burst(proxy.address, EVENTS, 12, 1);
    for sent in &sent {
        sent.answer
            .as_ref()
            .expect("an answer")
            .assert_retry_later(&["not_confirmed"]);
        assert!(sent.took < Duration::from_millis(1_700), "{sent:?}");
    }
    stream.set_faults(Faults::default()).unwrap();
    await_success(&proxy, &mut sent);
    end_with_the_truth(proxy, &stream, &sent);
}

#[test]
fn a_reset_after_storing_copies_only_unconfirmed_records() {
    let stream = emulator(Faults {
        reset_after: 0.3,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let patient = "retry_base_ms = 5\n[ack]\ndeadline_ms = 4000\n[drain]\ndeadline_ms = 6000\n";
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + patient));

    let sent = burst(proxy.address, EVENTS, 12, 15);
    let metrics = proxy.settled_metrics("main");
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert!(count_answered(&sent, 200) > 0);
    let resets: u64 = stream.stats().faults.values().sum();
    assert!(resets > 0);
    assert!(
        stored.duplicates() > 0,
        "{resets} resets left nothing in doubt"
    );
    assert!(stored.duplicates() <= metrics.unknown_retries("main"));
    proxy.end_cleanly();
}

/// A load under one fault for half of the calls: answers are 200 or 503, and no 200 is false.
fn under(faults: Faults) -> (Vec<Sent>, crate::support::audit::Stored) {
    let stream = emulator(faults);
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let sent = burst(proxy.address, EVENTS, 8, 6);
    let metrics = proxy.settled_metrics("main");
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert!(stored.duplicates() <= metrics.unknown_retries("main"));
    for sent in &sent {
        match &sent.answer {
            Some(answer) if answer.status == 200 => {}
            Some(answer) => answer.assert_retry_later(&["not_delivered", "not_confirmed"]),
            None => panic!("no answer: {sent:?}"),
        }
    }
    proxy.end_cleanly();
    (sent, stored)
}

#[test]
fn short_or_garbage_responses_make_no_false_200() {
    for seed in 1..=2 {
        under(Faults {
            seed,
            short_answer: 0.3,
            garbage_answer: 0.3,
            // Some of the records whose entry nobody could read were refused.
            reject: reject(1, 3),
            ..Faults::default()
        });
    }
}

#[test]
fn a_stream_that_fails_whole_calls_costs_503_at_most() {
    let (sent, stored) = under(Faults {
        internal_error: 0.3,
        throttle_call: 0.2,
        reset_before: 0.2,
        ..Faults::default()
    });
    assert!(count_answered(&sent, 200) > 0);
    assert!(stored.0.len() >= ids_answered(&sent, 200).len());
}

#[test]
fn failed_entries_count_even_when_failed_record_count_is_0() {
    let (sent, stored) = under(Faults {
        reject: reject(1, 3),
        failed_count_zero: true,
        ..Faults::default()
    });
    stored.assert_exact(&sent);
}

#[test]
fn access_denied_is_503_immediately_and_counted() {
    let stream = emulator(Faults {
        access_denied: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let ids = new_ids(3);
    proxy
        .post(EVENTS, array(&ids))
        .assert_retry_later(&["not_delivered"]);
    let metrics = proxy.settled_metrics("main");
    assert_eq!(metrics.refused("main", "denied"), 3);
    assert_eq!(stream.stats().calls["PutRecords"], 1);
    assert_eq!(stored(&stream).0.len(), 0);
    proxy.end_cleanly();
}

/// Sends events of this user until told to stop: `events` of `bytes` each in a request, one request every `pause` at
/// most.
fn send_as(
    user: &str,
    events: usize,
    bytes: usize,
    pause: Duration,
    proxy: &Proxy,
    is_over: &AtomicBool,
) -> Vec<Sent> {
    let mut client = proxy.connect();
    let mut sent = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let ids = new_ids(events);
        let of_user = |id: &String| {
            let event = event(id, bytes);
            format!("{{\"user\":\"{user}\",{}", &event[1..])
        };
        let all: Vec<_> = ids.iter().map(of_user).collect();
        let started = Instant::now();
        client.send(post(EVENTS, format!("[{}]", all.join(","))));
        let answer = client.try_read();
        let took = started.elapsed();
        thread::sleep(pause.saturating_sub(took));
        sent.push(Sent { ids, answer, took });
    }
    sent
}

#[test]
fn a_hot_key_is_503_for_its_own_requests_only() {
    let options = Options {
        shards: 4,
        ..Options::default()
    };
    let stream = Emulator::start(options).unwrap();
    let dir = tempdir().unwrap();
    let keyed = "partition_key = \"field:user\"\n";
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + keyed));
    let is_over = AtomicBool::new(false);
    let (hot, others) = thread::scope(|scope| {
        let (proxy, is_over) = (&proxy, &is_over);
        // By MD5 `hot` is of the first shard, and each of the others of another one.
        let spawn = |user, events, bytes, pause| {
            scope.spawn(move || send_as(user, events, bytes, pause, proxy, is_over))
        };
        let hot: Vec<_> = (0..8)
            .map(|_| spawn("hot", 20, 5_000, Duration::ZERO))
            .collect();
        thread::sleep(Duration::from_secs(1));
        let others =
            ["ann", "bob", "cat"].map(|user| spawn(user, 1, 100, Duration::from_millis(10)));
        thread::sleep(Duration::from_secs(4));
        is_over.store(true, Ordering::Relaxed);
        let all = |threads: Vec<thread::ScopedJoinHandle<'_, Vec<Sent>>>| {
            let sent = threads.into_iter().flat_map(|it| it.join().unwrap());
            sent.collect::<Vec<_>>()
        };
        (all(hot), all(others.into_iter().collect()))
    });
    assert!(count_answered(&hot, 503) > 0 && count_answered(&hot, 200) > 0);
    assert!(others.len() > 100, "{}", others.len());
    assert_eq!(count_answered(&others, 200), others.len());
    proxy.settled_metrics("main");
    let stored = stored(&stream);
    stored.assert_truthful(&[hot, others].concat());
    assert_eq!(stored.duplicates(), 0);
    proxy.end_cleanly();
}

#[test]
fn either_client_signs_calls_as_the_stream_verifies_them() {
    let key = Key {
        id: "test".to_owned(),
        secret: "test".to_owned(),
    };
    for client in ["sluice", "sdk"] {
        let stream = Emulator::start(Options {
            signatures: Signatures::Verified(key.clone()),
            shard_limits: false,
            ..Options::default()
        })
        .unwrap();
        let dir = tempdir().unwrap();
        let settings = format!("{}client = \"{client}\"\n", to_kinesis(&stream.url()));
        let proxy = Proxy::start(dir.path(), &settings);
        let sent = burst(proxy.address, EVENTS, 4, 5);
        assert_eq!(count_answered(&sent, 200), sent.len(), "{client}");
        proxy.settled_metrics("main");
        assert_eq!(stored(&stream).ids(), ids_answered(&sent, 200));
        proxy.end_cleanly();
        // Another secret is refused: the stream does look.
        let proxy = Proxy::start_with(dir.path(), &settings, &[("AWS_SECRET_ACCESS_KEY", "other")]);
        let answer = proxy.post(EVENTS, body(&[new_id()]));
        assert_eq!(answer.status, 503, "{client}");
        assert_eq!(proxy.ready_json()["troubled"]["main"], "denied");
    }
}
