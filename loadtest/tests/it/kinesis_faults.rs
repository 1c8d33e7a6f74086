//! What the emulator does wrong on purpose, and what is stored then.

use crate::kinesis_rules::{call, patient, put, record};
use serde_json::{Value, json};
use sluice_loadtest::event_id::EventId;
use sluice_loadtest::kinesis::{Emulator, Faults, Options, Portion, Reject, RejectCode};
use sluice_loadtest::ledger::read_stored;
use sluice_loadtest::wire;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn with(faults: Faults) -> Emulator {
    patient(Options {
        faults,
        ..Options::default()
    })
}

fn id(seq: u64) -> EventId {
    EventId { run: 1, seq }
}

/// A record that holds the event with this number.
fn event(seq: u64) -> Value {
    record(format!(r#"{{"event_id":"{}"}}"#, id(seq)).as_bytes(), "k")
}

/// The raw bytes of a call with one record.
fn raw_put() -> Vec<u8> {
    let body = json!({"StreamName": "clicks", "Records": [event(1)]}).to_string();
    format!(
        "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: Kinesis_20131202.PutRecords\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn k_of_n_records_are_refused_and_others_stored() {
    for code in [
        RejectCode::ProvisionedThroughputExceededException,
        RejectCode::InternalFailure,
    ] {
        let emulator = with(Faults {
            reject: Some(Reject { k: 3, n: 10, code }),
            ..Faults::default()
        });
        let records: Vec<Value> = (0..100).map(event).collect();
        let (status, answer) = put(&emulator, &records);
        assert_eq!(
            (status, answer["FailedRecordCount"].as_u64()),
            (200, Some(30))
        );
        let mut stored = emulator.stored_ids().unwrap();
        stored.sort_unstable();
        let mut answered = Vec::new();
        for (entry, seq) in answer["Records"].as_array().unwrap().iter().zip(0..) {
            if entry.get("ErrorCode").is_none() {
                answered.push(id(seq));
            } else {
                assert_eq!(entry["ErrorCode"], code.as_str());
            }
        }
        assert_eq!(stored, answered);
        assert_eq!(emulator.stats().rejected, 30);
    }
}

#[test]
fn failed_record_count_can_lie_while_entries_tell_the_truth() {
    let emulator = with(Faults {
        reject: Some(Reject {
            k: 1,
            n: 1,
            code: RejectCode::InternalFailure,
        }),
        failed_count_zero: true,
        ..Faults::default()
    });
    let (_, answer) = put(&emulator, &[event(1)]);
    assert_eq!(answer["FailedRecordCount"], 0);
    assert_eq!(answer["Records"][0]["ErrorCode"], "InternalFailure");
    assert_eq!(emulator.stats().stored, 0);
}

#[test]
fn silently_dropped_records_are_not_in_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let emulator = patient(Options {
        faults: Faults {
            drop_acked: Some(Portion { k: 2, n: 25 }),
            ..Faults::default()
        },
        ledger: Some(path.clone()),
        ..Options::default()
    });
    let records: Vec<Value> = (0..100).map(event).collect();
    let (_, answer) = put(&emulator, &records);
    assert_eq!(answer["FailedRecordCount"], 0);
    assert_eq!(
        (emulator.stats().stored, emulator.stats().dropped_acked),
        (92, 8)
    );
    let mut stored = emulator.stored_ids().unwrap();
    emulator.stop().unwrap();
    let mut ledger = Vec::new();
    read_stored(&path, |id| ledger.push(id)).unwrap();
    stored.sort_unstable();
    ledger.sort_unstable();
    assert_eq!(stored.len(), 92);
    assert_eq!(ledger, stored);
}

#[test]
fn envelope_ids_are_in_the_ledger_per_stored_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let emulator = patient(Options {
        ledger: Some(path.clone()),
        retain_bytes_max: None,
        ..Options::default()
    });
    let envelope = format!(
        r#"{{"data":"[{{\"event_id\":\"{}\"}},{{\"event_id\":\"{}\"}}]"}}"#,
        id(1),
        id(2)
    );
    put(&emulator, &[record(envelope.as_bytes(), "k"), event(1)]);
    emulator.stop().unwrap();
    let mut ledger = Vec::new();
    read_stored(&path, |id| ledger.push(id)).unwrap();
    assert_eq!(ledger, [id(1), id(2), id(1)]);
}

#[test]
fn calls_answered_with_an_error_store_nothing() {
    for (faults, expected) in [
        (
            Faults {
                internal_error: 1.0,
                ..Faults::default()
            },
            (500, "InternalFailure"),
        ),
        (
            Faults {
                throttle_call: 1.0,
                ..Faults::default()
            },
            (400, "ProvisionedThroughputExceededException"),
        ),
        (
            Faults {
                access_denied: 1.0,
                ..Faults::default()
            },
            (400, "AccessDeniedException"),
        ),
    ] {
        let emulator = with(faults);
        let (status, answer) = put(&emulator, &[event(1)]);
        assert_eq!((status, answer["__type"].as_str().unwrap()), expected);
        assert_eq!(emulator.stats().stored, 0);
        // Other operations are not touched.
        let summary = br#"{"StreamName":"clicks"}"#;
        assert_eq!(call(&emulator, "DescribeStreamSummary", summary).0, 200);
    }
}

#[test]
fn a_reset_comes_before_or_after_storing() {
    for (faults, stored) in [
        (
            Faults {
                reset_before: 1.0,
                ..Faults::default()
            },
            0,
        ),
        (
            Faults {
                reset_after: 1.0,
                ..Faults::default()
            },
            1,
        ),
    ] {
        let emulator = with(faults);
        let error = wire::exchange(emulator.addr(), &raw_put()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        assert_eq!(emulator.stats().stored, stored);
    }
}

#[test]
fn a_hanging_call_stores_nothing() {
    let emulator = with(Faults {
        hang: 1.0,
        ..Faults::default()
    });
    let mut stream = TcpStream::connect(emulator.addr()).unwrap();
    stream.write_all(&raw_put()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut buffer = [0; 16];
    assert_eq!(
        stream.read(&mut buffer).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    // The same connection hangs on; another one is served when the fault is gone.
    emulator.set_faults(Faults::default()).unwrap();
    assert_eq!(put(&emulator, &[event(2)]).0, 200);
    assert_eq!(emulator.stored_ids().unwrap(), [id(2)]);
    emulator.stop().unwrap();
    stream.set_read_timeout(None).unwrap();
    assert!(matches!(stream.read(&mut buffer), Ok(0) | Err(_)));
}

#[test]
fn a_slow_answer_comes_after_the_records_are_stored() {
    let emulator = with(Faults {
        slow: 1.0,
        slow_ms: 1,
        ..Faults::default()
    });
    assert_eq!(put(&emulator, &[event(1)]).0, 200);
    emulator
        .set_faults(Faults {
            slow: 1.0,
            slow_ms: 3_600_000,
            ..Faults::default()
        })
        .unwrap();
    let mut stream = TcpStream::connect(emulator.addr()).unwrap();
    stream.write_all(&raw_put()).unwrap();
    while emulator.stats().stored < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_short_answer_lacks_entries_of_records_that_are_stored() {
    let emulator = with(Faults {
        short_answer: 1.0,
        ..Faults::default()
    });
    let (status, answer) = put(&emulator, &[event(1), event(2), event(3)]);
    assert_eq!(
        (status, answer["Records"].as_array().unwrap().len()),
        (200, 2)
    );
    assert_eq!(emulator.stats().stored, 3);
    let (_, answer) = put(&emulator, &[event(4)]);
    assert_eq!(answer["Records"], json!([]));
}

#[test]
fn a_garbage_response_is_200_with_records_stored() {
    let emulator = with(Faults {
        garbage_answer: 1.0,
        ..Faults::default()
    });
    let (status, answer) = put(&emulator, &[event(1)]);
    assert_eq!((status, answer), (200, Value::Null));
    assert_eq!(emulator.stats().stored, 1);
}

#[test]
fn the_same_seed_faults_the_same_calls() {
    let statuses = |seed| {
        let emulator = with(Faults {
            seed,
            internal_error: 0.5,
            ..Faults::default()
        });
        (0..40)
            .map(|at| put(&emulator, &[event(at)]).0)
            .collect::<Vec<_>>()
    };
    let first = statuses(1);
    assert!(first.contains(&200) && first.contains(&500));
    assert_eq!(first, statuses(1));
    assert_ne!(first, statuses(2));
}

#[test]
fn faults_can_be_replaced_at_run_time() {
    let emulator = patient(Options::default());
    let addr = emulator.addr().to_string();
    let set = |body: &str| wire::post(&addr, "/_faults", &[], body.as_bytes()).unwrap();
    let reply = set(r#"{"seed":9,"internal_error":1,"calls_max":2}"#);
    assert_eq!(reply.status, 200);
    for (body, part) in [
        (r#"{"hang":2}"#, "hang is a share"),
        (r#"{"hangs":1}"#, "unknown field"),
        ("{", "EOF"),
    ] {
        let reply = set(body);
        assert_eq!(reply.status, 400);
        assert!(reply.text().contains(part), "{}", reply.text());
    }
    let get = wire::get(&addr, "/_faults").unwrap();
    let faults: Faults = serde_json::from_slice(&get.body).unwrap();
    assert_eq!((faults.seed, faults.calls_max), (9, Some(2)));
    let statuses: Vec<u16> = (0..4).map(|at| put(&emulator, &[event(at)]).0).collect();
    assert_eq!(statuses, [500, 500, 200, 200]);
    set("{}");
    assert_eq!(put(&emulator, &[event(9)]).0, 200);

    let stats: Value = serde_json::from_slice(&wire::get(&addr, "/_stats").unwrap().body).unwrap();
    assert_eq!(stats["stored"], 3);
    assert_eq!(stats["calls"]["PutRecords"], 5);
    assert_eq!(stats["errors"]["InternalFailure"], 2);
}
