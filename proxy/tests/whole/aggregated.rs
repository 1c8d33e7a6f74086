//! Events that go to Kinesis in containers: what is answered, stored and billed, and what readers get while shards
//! are split and merged.

use crate::support::audit::{count_answered, ids_answered};
use crate::support::client::post;
use crate::support::event::{event, ids_of_record, new_ids};
use crate::support::load::{Load, burst};
use crate::support::proxy::{Proxy, to_kinesis};
use crate::support::stream::{emulator, end_with_the_truth, stored};
use crate::support::wait_until;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use sluice_loadtest::kinesis::{Emulator, Faults, Options, Reject, RejectCode, user_records};
use sluice_loadtest::wire;
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";
/// Keys of their own, and time enough for containers of several.
const AGGREGATED: &str =
    "aggregate = true\npartition_key = \"field:id\"\nlinger_ms = 20\ndescribe_interval_s = 1\n";

fn aggregated(stream: &Emulator) -> String {
    to_kinesis(&stream.url()) + AGGREGATED
}

fn ask(stream: &Emulator, operation: &str, body: &Value) {
    let target = format!("X-Amz-Target: Kinesis_20131202.{operation}");
    let body = body.to_string();
    let reply = wire::post(&stream.addr().to_string(), "/", &[&target], body.as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{operation}");
}

fn split(stream: &Emulator, shard: u32, at: u128) {
    ask(
        stream,
        "SplitShard",
        &json!({
            "StreamName": "clicks",
            "ShardToSplit": format!("shardId-{shard:012}"),
            "NewStartingHashKey": at.to_string(),
        }),
    );
}

fn merge(stream: &Emulator, [one, other]: [u32; 2]) {
    ask(
        stream,
        "MergeShards",
        &json!({
            "StreamName": "clicks",
            "ShardToMerge": format!("shardId-{one:012}"),
            "AdjacentShardToMerge": format!("shardId-{other:012}"),
        }),
    );
}

#[test]
fn ten_reshards_lose_no_aggregated_event() {
    let stream = Emulator::start(Options {
        shards: 2,
        shard_limits: false,
        update: Duration::ZERO,
        ..Options::default()
    });
    let stream = stream.unwrap();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &aggregated(&stream));
    let load = Load::start(proxy.address, EVENTS, 8);
    let mut shard = 0;
    let some_more = || {
        let goal = load.answered() + 120;
        wait_until("more is answered", || load.answered() >= goal);
    };
    // The lower of two shards, again and again, each time elsewhere: no list of shards stays right.
    for (next, sixths) in (2..).step_by(3).zip(1..=5) {
        some_more();
        split(&stream, shard, (1 << 127) / 6 * sixths);
        some_more();
        merge(&stream, [next, next + 1]);
        shard = next + 2;
    }
    some_more();
    proxy.end_cleanly();
    let sent = load.join();
    assert!(count_answered(&sent, 200) > 1_000);
    stored(&stream).assert_truthful(&sent);
    let stats = stream.stats();
    assert_eq!((stats.kpl_damaged, stats.kpl_dropped_by_readers), (0, 0));
    // Those that readers would drop, were they not pinned to where their container is.
    let mut astray = 0;
    for record in stream.stored_records() {
        for user in user_records(&record.data).unwrap_or_default() {
            let hash = u128::from_be_bytes(Md5::digest(user.key).into());
            astray += u64::from(!record.hashes.contains(&hash));
        }
    }
    println!(
        "{} events in {} containers, {astray} of them beside their key's shard",
        stats.kpl_user_records, stats.kpl_containers
    );
    assert!(astray > 0, "no container met a new shard");
}

#[test]
fn a_throttled_container_is_503_for_exactly_its_requests() {
    let stream = emulator(Faults {
        reject: Some(Reject {
            k: 1,
            n: 3,
            code: RejectCode::default(),
        }),
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    // Waits of up to a minute: hardly any retry fits before the ack deadline.
    let waits = "retry_base_ms = 60000\nretry_cap_ms = 60000\n";
    let proxy = Proxy::start(dir.path(), &(aggregated(&stream) + waits));
    let sent = burst(proxy.address, EVENTS, 16, 12);
    proxy.settled_metrics("main");
    stored(&stream).assert_exact(&sent);
    assert!(count_answered(&sent, 503) > 0 && count_answered(&sent, 200) > 0);
    assert!(stream.stats().kpl_containers > 0);
    proxy.end_cleanly();
}

#[test]
fn retried_containers_are_stored_with_their_events_once() {
    let stream = emulator(Faults {
        reject: Some(Reject {
            k: 1,
            n: 3,
            code: RejectCode::default(),
        }),
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    // Without keys, for a shard that throttles often would be paced.
    let patient = "aggregate = true\nlinger_ms = 20\nretry_base_ms = 5\nretry_cap_ms = 20\n[ack]\ndeadline_ms = 8000\n[drain]\ndeadline_ms = 10000\n";
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + patient));
    let sent = burst(proxy.address, EVENTS, 16, 12);
    assert_eq!(count_answered(&sent, 200), sent.len());
    assert_eq!(stored(&stream).ids(), ids_answered(&sent, 200));
    assert!(stream.stats().kpl_containers > 0);
    end_with_the_truth(proxy, &stream, &sent);
}

#[test]
fn spooled_records_are_replayed_in_containers() {
    let stream = emulator(Faults {
        internal_error: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let spool = dir.path().join("spool");
    let settings = format!(
        "{}[outputs.main.spool]\ndir = {spool:?}\nafter_ms = 200\n",
        aggregated(&stream)
    );
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 8, 12);
    assert_eq!(count_answered(&sent, 200), sent.len());
    assert_eq!(stream.stats().stored, 0);
    stream.set_faults(Faults::default()).unwrap();
    wait_until("the spool is empty", || {
        proxy.metrics().family("sluice_spool_waiting_bytes", "main") == 0
    });
    proxy.end_cleanly();
    stored(&stream).assert_truthful(&sent);
    let stats = stream.stats();
    assert!(stats.kpl_user_records > stats.kpl_containers, "{stats:?}");
}

/// What provisioned streams are billed by: each record rounded up to 25 KiB.
#[test]
fn aggregation_saves_put_payload_units() {
    let units = |more: &str| {
        let stream = emulator(Faults::default());
        let dir = tempdir().unwrap();
        let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + more));
        let ids = new_ids(200);
        let events: Vec<_> = ids.iter().map(|id| event(id, 900)).collect();
        let answer = proxy
            .connect()
            .ask(post(EVENTS, format!("[{}]", events.join(","))));
        assert_eq!(answer.status, 200, "{answer:?}");
        proxy.end_cleanly();
        let records = stream.stored_records();
        let delivered = records.iter().flat_map(|record| record.delivered());
        assert_eq!(delivered.flat_map(ids_of_record).count(), 200);
        stream.stats().cost.put_payload_units
    };
    let (alone, together) = (units(""), units("aggregate = true\n"));
    println!("{alone} units alone, {together} in containers");
    assert_eq!(alone, 200);
    // They are seven units and a half; a busy machine may send them in more than one call.
    assert!((8..=12).contains(&together), "{together}");
}
