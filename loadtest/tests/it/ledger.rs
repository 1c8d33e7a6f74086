//! The ledger of a running emulator: an event is in it before its call is answered.

use crate::kinesis_rules;
use serde_json::{Value, json};
use sluice_loadtest::event_id::EventId;
use sluice_loadtest::ledger::{Ending, read_stored};
use sluice_loadtest::service::{self, Faults};
use sluice_loadtest::{firehose, kinesis, sqs, wire};
use std::collections::HashSet;
use std::path::Path;
use tempfile::TempDir;

fn ids(ledger: &Path) -> HashSet<EventId> {
    let mut ids = HashSet::new();
    read_stored(ledger, |id| {
        ids.insert(id);
    })
    .unwrap();
    ids
}

/// An emulator's ledger in a directory of its own.
fn ledger() -> (TempDir, service::Options) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let options = service::Options {
        ledger: Some(path),
        ..service::Options::default()
    };
    (dir, options)
}

fn post(addr: &str, target: &str, body: &Value) -> u16 {
    let target = format!("X-Amz-Target: {target}");
    let reply = wire::post(addr, "/", &[&target], body.to_string().as_bytes());
    reply.unwrap().status
}

/// Calls that follow each other, and the ledger after each of them.
fn check(addr: &str, target: &str, ledger: &Path, body: impl Fn(&str) -> Value) {
    for seq in 0..20 {
        let id = EventId { run: 7, seq };
        let event = json!({ "event_id": id.to_string() }).to_string();
        assert_eq!(post(addr, target, &body(&event)), 200);
        assert!(ids(ledger).contains(&id), "{target}: {id} is not there");
    }
}

#[test]
fn an_answered_event_is_in_the_ledger_of_every_emulator() {
    let base64 = |event: &str| base64_simd::STANDARD.encode_to_string(event);
    let (dir, service) = ledger();
    let path = dir.path().join("ledger");
    let emulator = kinesis::Emulator::start(kinesis::Options {
        ledger: service.ledger.clone(),
        ..kinesis::Options::default()
    })
    .unwrap();
    let addr = emulator.addr().to_string();
    check(
        &addr,
        "Kinesis_20131202.PutRecord",
        &path,
        |event| json!({"StreamName": "clicks", "Data": base64(event), "PartitionKey": "k"}),
    );

    let (dir, service) = ledger();
    let path = dir.path().join("ledger");
    let emulator = firehose::Emulator::start(firehose::Options {
        service,
        ..firehose::Options::default()
    })
    .unwrap();
    let addr = emulator.addr().to_string();
    check(
        &addr,
        "Firehose_20150804.PutRecord",
        &path,
        |event| json!({"DeliveryStreamName": "clicks", "Record": {"Data": base64(event)}}),
    );

    let (dir, service) = ledger();
    let path = dir.path().join("ledger");
    let emulator = sqs::Emulator::start(sqs::Options {
        service,
        ..sqs::Options::default()
    })
    .unwrap();
    let addr = emulator.addr().to_string();
    check(
        &addr,
        "AmazonSQS.SendMessage",
        &path,
        |event| json!({"QueueUrl": "http://queue/000000000000/clicks", "MessageBody": event}),
    );
}

#[test]
fn concurrent_calls_find_their_events_in_the_ledger() {
    for threads in [1, 4] {
        let (dir, service) = ledger();
        let path = dir.path().join("ledger");
        let emulator = kinesis_rules::patient(kinesis::Options {
            ledger: service.ledger,
            threads,
            ..kinesis::Options::default()
        });
        std::thread::scope(|scope| {
            for run in 0..8 {
                let (emulator, path) = (&emulator, &path);
                scope.spawn(move || {
                    for call in 0..10 {
                        let batch = (call * 5..call * 5 + 5).map(|seq| EventId { run, seq });
                        let batch: Vec<EventId> = batch.collect();
                        let records = batch
                            .iter()
                            .map(|id| kinesis_rules::record(id.to_string().as_bytes(), "k"));
                        let records: Vec<Value> = records.collect();
                        assert_eq!(kinesis_rules::put(emulator, &records).0, 200);
                        let ids = ids(path);
                        assert!(batch.iter().all(|id| ids.contains(id)), "{batch:?}");
                    }
                });
            }
        });
        emulator.stop().unwrap();
        let mut count = 0;
        let read = read_stored(&path, |_| count += 1).unwrap();
        assert_eq!((count, read.cut), (400, false));
        assert_eq!(read.ending, Ending::Ended);
    }
}

#[test]
fn events_stored_by_failed_calls_are_in_the_ledger() {
    let (dir, service) = ledger();
    let path = dir.path().join("ledger");
    let emulator = kinesis_rules::patient(kinesis::Options {
        ledger: service.ledger,
        faults: Faults {
            error_after: 1.0,
            ..Faults::default()
        },
        ..kinesis::Options::default()
    });
    let id = EventId { run: 1, seq: 1 };
    let record = kinesis_rules::record(id.to_string().as_bytes(), "k");
    assert_eq!(kinesis_rules::put(&emulator, &[record]).0, 500);
    assert!(ids(&path).contains(&id));
}
