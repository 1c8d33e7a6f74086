//! The Firehose emulator from outside: limits, quotas, the meter, faults and the ledger.

use serde_json::{Value, json};
use sluice_loadtest::event_id::EventId;
use sluice_loadtest::firehose::{Emulator, Options, Quota};
use sluice_loadtest::ledger::read_stored;
use sluice_loadtest::service::{self, Faults, Portion, Reject, RejectCode};
use sluice_loadtest::wire;

fn start(options: Options) -> Emulator {
    Emulator::start(options).unwrap()
}

fn faulty(faults: Faults) -> Emulator {
    start(Options {
        service: service::Options {
            faults,
            ..service::Options::default()
        },
        ..Options::default()
    })
}

fn call(emulator: &Emulator, operation: &str, body: &Value) -> (u16, Value) {
    let target = format!("X-Amz-Target: Firehose_20150804.{operation}");
    let addr = emulator.addr().to_string();
    let reply = wire::post(&addr, "/", &[&target], body.to_string().as_bytes()).unwrap();
    let answer = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    (reply.status, answer)
}

fn put(emulator: &Emulator, records: &[Vec<u8>]) -> (u16, Value) {
    let records: Vec<Value> = records
        .iter()
        .map(|data| json!({"Data": base64_simd::STANDARD.encode_to_string(data)}))
        .collect();
    let body = json!({"DeliveryStreamName": "clicks", "Records": records});
    call(emulator, "PutRecordBatch", &body)
}

fn event(seq: u64) -> Vec<u8> {
    format!("{{\"event_id\":\"{}\"}}\n", EventId { run: 1, seq }).into_bytes()
}

#[test]
fn records_are_stored_in_order_and_in_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let emulator = start(Options {
        service: service::Options {
            ledger: Some(ledger.clone()),
            ..service::Options::default()
        },
        ..Options::default()
    });
    let (status, answer) = put(&emulator, &[event(1), [event(2), event(3)].concat()]);
    assert_eq!((status, &answer["FailedPutCount"]), (200, &json!(0)));
    assert_eq!(answer["RequestResponses"].as_array().unwrap().len(), 2);
    let one = json!({
        "DeliveryStreamName": "clicks",
        "Record": {"Data": base64_simd::STANDARD.encode_to_string(event(4))},
    });
    let (status, answer) = call(&emulator, "PutRecord", &one);
    assert_eq!(status, 200);
    assert!(answer["RecordId"].is_string(), "{answer}");
    let stored = emulator.stored_records();
    assert_eq!(stored, [event(1), [event(2), event(3)].concat(), event(4)]);
    emulator.stop().unwrap();
    let mut ids = Vec::new();
    read_stored(&ledger, |id| ids.push(id.seq)).unwrap();
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[test]
fn records_are_billed_in_5_kib_increments() {
    let emulator = start(Options::default());
    put(&emulator, &[vec![], vec![b'x'; 5_120], vec![b'x'; 5_121]]);
    let stats = emulator.stats();
    assert_eq!((stats.stored, stats.stored_bytes), (3, 10_241));
    assert_eq!(stats.billed_bytes, 4 * 5_120);
}

#[test]
fn records_over_quota_fail_one_by_one() {
    for quota in [
        Quota {
            records_per_s: 3,
            ..Quota::LARGE
        },
        Quota {
            bytes_per_s: 30,
            ..Quota::LARGE
        },
    ] {
        let emulator = start(Options {
            quota: Some(quota),
            ..Options::default()
        });
        let (status, answer) = put(&emulator, &vec![vec![b'x'; 10]; 50]);
        let failed = answer["FailedPutCount"].as_u64().unwrap();
        // What refills meanwhile depends on the machine.
        assert_eq!(status, 200);
        assert!((1..=47).contains(&failed), "{failed}");
        let entries = answer["RequestResponses"].as_array().unwrap();
        assert!(
            entries[..3]
                .iter()
                .all(|entry| entry["RecordId"].is_string())
        );
        assert_eq!(entries[3]["ErrorCode"], "ServiceUnavailableException");
        let stats = emulator.stats();
        assert_eq!((stats.throttled, stats.stored), (failed, 50 - failed));
    }
}

#[test]
fn over_the_quota_of_calls_the_call_fails() {
    let emulator = start(Options {
        quota: Some(Quota {
            calls_per_s: 1,
            ..Quota::LARGE
        }),
        ..Options::default()
    });
    let answers: Vec<(u16, Value)> = (0..20).map(|at| put(&emulator, &[event(at)])).collect();
    assert_eq!(answers[0].0, 200);
    let (status, answer) = answers.iter().find(|(status, _)| *status != 200).unwrap();
    assert_eq!(
        (*status, answer["__type"].as_str()),
        (503, Some("ServiceUnavailableException"))
    );
    let taken = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(emulator.stats().stored, taken as u64);
}

#[test]
fn faults_speak_the_words_of_firehose() {
    let emulator = faulty(Faults {
        reject: Some(Reject {
            k: 1,
            n: 2,
            code: RejectCode::default(),
        }),
        drop_acked: Some(Portion { k: 1, n: 5 }),
        ..Faults::default()
    });
    let (_, answer) = put(&emulator, &(0..10).map(event).collect::<Vec<_>>());
    assert_eq!(answer["FailedPutCount"], 5);
    let entries = answer["RequestResponses"].as_array().unwrap();
    let codes = entries
        .iter()
        .filter_map(|entry| entry["ErrorCode"].as_str());
    assert!(codes.eq(["ServiceUnavailableException"; 5]));
    let stats = emulator.stats();
    assert_eq!(
        (stats.rejected, stats.dropped_acked, stats.stored),
        (5, 1, 4)
    );
    for (faults, expected) in [
        (
            Faults {
                throttle_call: 1.0,
                ..Faults::default()
            },
            (503, "ServiceUnavailableException"),
        ),
        (
            Faults {
                expired_token: 1.0,
                ..Faults::default()
            },
            (400, "ExpiredTokenException"),
        ),
    ] {
        let emulator = faulty(faults);
        let (status, answer) = put(&emulator, &[event(1)]);
        assert_eq!((status, answer["__type"].as_str().unwrap()), expected);
        assert_eq!(emulator.stats().stored, 0);
    }
}

#[test]
fn describe_works_and_other_operations_are_refused() {
    let emulator = start(Options::default());
    let name = json!({"DeliveryStreamName": "clicks"});
    let (status, answer) = call(&emulator, "DescribeDeliveryStream", &name);
    assert_eq!(status, 200);
    let description = &answer["DeliveryStreamDescription"];
    assert_eq!(description["DeliveryStreamStatus"], "ACTIVE");
    let (status, answer) = call(&emulator, "CreateDeliveryStream", &name);
    assert_eq!(
        (status, &answer["__type"]),
        (400, &json!("UnknownOperationException"))
    );
}

#[test]
fn names_that_the_service_would_not_take_are_refused() {
    for stream in ["", "a b", &"a".repeat(65)] {
        let options = Options {
            stream: stream.to_owned(),
            ..Options::default()
        };
        let error = Emulator::start(options).unwrap_err().to_string();
        assert!(error.contains("delivery stream"), "{error}");
    }
}
