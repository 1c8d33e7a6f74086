//! What is behind the records: readers and their limits, single records, containers of the
//! Kinesis Producer Library, and the cost meter.

use crate::kinesis_rules::{call, patient, put, record};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use sluice_loadtest::audit::{Source, audit};
use sluice_loadtest::event_id::EventId;
use sluice_loadtest::kinesis::{Emulator, Faults, Mode, Options, Reject, RejectCode, Stats};
use sluice_loadtest::ledger::ACKS_HEADER_V1;
use sluice_loadtest::run::Target;
use sluice_loadtest::wire;
use std::time::{Duration, Instant};

fn id(seq: u64) -> EventId {
    EventId { run: 1, seq }
}

/// A container as the Kinesis Producer Library packs it; each user record with its explicit hash
/// key and data.
fn container(users: &[(u128, &[u8])]) -> Vec<u8> {
    fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
        out.push(number << 3 | 2);
        assert!(bytes.len() < 128);
        out.push(bytes.len() as u8);
        out.extend_from_slice(bytes);
    }
    let mut message = Vec::new();
    field(&mut message, 1, b"a");
    for (hash, _) in users {
        field(&mut message, 2, hash.to_string().as_bytes());
    }
    for (index, (_, data)) in users.iter().enumerate() {
        let mut user = vec![0x08, 0, 0x10, index as u8];
        field(&mut user, 3, data);
        field(&mut message, 3, &user);
    }
    let mut out = vec![0xf3, 0x89, 0x9a, 0xc2];
    out.extend_from_slice(&message);
    out.extend_from_slice(&Md5::digest(&message));
    out
}

fn with_hash(data: &[u8], hash: u128) -> Value {
    let mut record = record(data, "a");
    record["ExplicitHashKey"] = hash.to_string().into();
    record
}

fn get_records(emulator: &Emulator) -> (u16, Value) {
    call(
        emulator,
        "GetRecords",
        br#"{"ShardIterator":"it:clicks:0:0"}"#,
    )
}

#[test]
fn a_shard_throttles_reads_over_five_a_second() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let begin = Instant::now();
    let mut answered = 0;
    let refused = loop {
        let (status, answer) = get_records(&emulator);
        if status != 200 {
            assert_eq!(status, 400);
            break answer;
        }
        answered += 1;
        assert!(answered < 1_000, "never throttled");
    };
    assert!(answered >= 5);
    assert!(answered <= 6 + 5 * begin.elapsed().as_secs());
    assert_eq!(refused["__type"], "ProvisionedThroughputExceededException");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("shardId-000000000000 in stream clicks"),
        "{message}"
    );
    // Other shards have limits of their own.
    let (status, _) = call(
        &emulator,
        "GetRecords",
        br#"{"ShardIterator":"it:clicks:1:0"}"#,
    );
    assert_eq!(status, 200);

    let unlimited = patient(Options::default());
    for _ in 0..20 {
        assert_eq!(get_records(&unlimited).0, 200);
    }
}

#[test]
fn put_record_returns_shard_and_sequence_number() {
    let emulator = patient(Options::default());
    let mut body = record(b"x", "b");
    body["StreamName"] = "clicks".into();
    let (status, answer) = call(&emulator, "PutRecord", body.to_string().as_bytes());
    assert_eq!(status, 200);
    assert_eq!(answer["ShardId"], "shardId-000000000002");
    assert_eq!(answer["SequenceNumber"].as_str().unwrap().len(), 56);
    assert_eq!(emulator.stats().stored, 1);
    body["DryRun"] = true.into();
    let (status, answer) = call(&emulator, "PutRecord", body.to_string().as_bytes());
    assert_eq!(
        (status, answer["__type"].as_str()),
        (400, Some("DryRunOperationException"))
    );
    let (_, answer) = call(
        &emulator,
        "PutRecord",
        br#"{"StreamName":"clicks","Data":"eA=="}"#,
    );
    assert_eq!(answer["__type"], "ValidationException");
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("'partitionKey'")
    );
    assert_eq!(emulator.stats().stored, 1);
}

#[test]
fn a_single_record_that_is_refused_fails_its_call() {
    let emulator = patient(Options::default());
    let mut body = record(b"x", "a");
    body["StreamName"] = "clicks".into();
    let body = body.to_string();
    for (code, status) in [
        (RejectCode::ProvisionedThroughputExceededException, 400),
        (RejectCode::InternalFailure, 500),
    ] {
        let reject = Some(Reject { k: 1, n: 1, code });
        let faults = Faults {
            reject,
            ..Faults::default()
        };
        emulator.set_faults(faults).unwrap();
        let (answered, answer) = call(&emulator, "PutRecord", body.as_bytes());
        assert_eq!(
            (answered, answer["__type"].as_str()),
            (status, Some(code.as_str()))
        );
    }
    let stats = emulator.stats();
    assert_eq!((stats.stored, stats.rejected), (0, 2));
    assert_eq!(stats.errors["InternalFailure"], 1);
}

#[test]
fn a_dry_run_read_uses_no_capacity() {
    let emulator = Emulator::start(Options::default()).unwrap();
    for _ in 0..20 {
        let body = br#"{"ShardIterator":"it:clicks:0:0","DryRun":true}"#;
        let (status, answer) = call(&emulator, "GetRecords", body);
        assert_eq!(
            (status, answer["__type"].as_str()),
            (400, Some("DryRunOperationException"))
        );
    }
    assert_eq!(get_records(&emulator).0, 200);
}

fn source(emulator: &Emulator) -> Source {
    Source::Kinesis {
        endpoint: Target::parse(&emulator.url()).unwrap(),
        stream: "clicks".to_owned(),
    }
}

#[test]
fn events_of_misplaced_user_records_and_damaged_containers_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let emulator = patient(Options {
        ledger: Some(ledger.clone()),
        ..Options::default()
    });
    let texts: Vec<String> = (0..5).map(|seq| id(seq).to_string()).collect();
    let text = |seq: usize| texts[seq].as_bytes();
    let quarter = 1u128 << 126;
    let good = container(&[(0, text(0)), (quarter - 1, text(1))]);
    let stray = container(&[(7, text(2)), (quarter, text(3))]);
    let mut damaged = container(&[(u128::MAX, text(4))]);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let records = [
        with_hash(&good, 0),
        with_hash(&stray, 7),
        with_hash(&damaged, 0),
    ];
    assert_eq!(put(&emulator, &records).0, 200);

    let stats = emulator.stats();
    assert_eq!((stats.stored, stats.kpl_containers), (3, 2));
    assert_eq!((stats.kpl_user_records, stats.kpl_damaged), (4, 1));
    assert_eq!(stats.kpl_dropped_by_readers, 1);
    let mut stored = emulator.stored_ids().unwrap();
    stored.sort();
    assert_eq!(stored, [id(0), id(1), id(2)]);

    let acks = dir.path().join("acks");
    let line = "00000001 000000000000 5 200";
    std::fs::write(&acks, format!("{ACKS_HEADER_V1}\n{line}\n")).unwrap();
    let report = audit(&[acks], &source(&emulator)).unwrap();
    assert_eq!((report.acked, report.lost), (5, 2));
    assert_eq!(report.lost_examples, [texts[3].clone(), texts[4].clone()]);

    emulator.stop().unwrap();
    let mut lines: Vec<String> = std::fs::read_to_string(&ledger)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("lt-"))
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, texts[..3]);
}

#[test]
fn an_audit_reads_closed_and_throttled_shards() {
    let dir = tempfile::tempdir().unwrap();
    let emulator = Emulator::start(Options {
        shards: 1,
        update: Duration::ZERO,
        ..Options::default()
    })
    .unwrap();
    let one = id(0).to_string();
    assert_eq!(put(&emulator, &[record(one.as_bytes(), "k")]).0, 200);
    let split = json!({
        "StreamName": "clicks", "ShardToSplit": "shardId-000000000000",
        "NewStartingHashKey": (1u128 << 127).to_string(),
    });
    assert_eq!(
        call(&emulator, "SplitShard", split.to_string().as_bytes()).0,
        200
    );
    let two = id(1).to_string();
    assert_eq!(put(&emulator, &[record(two.as_bytes(), "k")]).0, 200);
    while get_records(&emulator).0 == 200 {}
    let acks = dir.path().join("acks");
    let line = "00000001 000000000000 2 200";
    std::fs::write(&acks, format!("{ACKS_HEADER_V1}\n{line}\n")).unwrap();
    let report = audit(&[acks], &source(&emulator)).unwrap();
    assert_eq!((report.acked_stored, report.lost), (2, 0));
}

#[test]
fn the_meter_counts_what_either_mode_would_bill() {
    let emulator = patient(Options {
        mode: Mode::OnDemand,
        ..Options::default()
    });
    // With their key of one byte: 1 KiB, one byte more, 25 KiB, one byte more.
    let records = [1_023, 1_024, 25_599, 25_600].map(|bytes| record(&vec![b'x'; bytes], "k"));
    assert_eq!(put(&emulator, &records).0, 200);
    std::thread::sleep(Duration::from_millis(20));
    let reply = wire::get(&emulator.addr().to_string(), "/_stats").unwrap();
    let stats: Stats = serde_json::from_slice(&reply.body).unwrap();
    let cost = &stats.cost;
    assert_eq!(cost.mode, "ON_DEMAND");
    assert_eq!(cost.put_payload_units, 1 + 1 + 1 + 2);
    assert_eq!(cost.on_demand_bytes, (1 + 2 + 25 + 26) * 1_024);
    assert!(cost.elapsed_ms >= 20);
    assert_eq!(
        cost.per_hour.put_payload_units,
        5 * 3_600_000 / cost.elapsed_ms
    );
    // Four shards, all the time; each figure is rounded down.
    assert!((4 * 3_600 - 800..=4 * 3_600 + 800).contains(&cost.per_hour.shard_seconds));
    // What was refused is not billed.
    let reject = Some(Reject {
        k: 1,
        n: 1,
        code: RejectCode::default(),
    });
    emulator
        .set_faults(Faults {
            reject,
            ..Faults::default()
        })
        .unwrap();
    put(&emulator, &records);
    assert_eq!(emulator.stats().cost.put_payload_units, 5);
}
