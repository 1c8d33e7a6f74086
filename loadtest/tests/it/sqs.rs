//! The SQS emulator from outside: batches, readers, faults and the ledger.

use serde_json::{Value, json};
use sluice_loadtest::event_id::EventId;
use sluice_loadtest::ledger::read_stored;
use sluice_loadtest::service::{self, Faults, Portion, Reject, RejectCode};
use sluice_loadtest::sqs::{Emulator, Options};
use sluice_loadtest::wire::{self, Reply};

fn exchange(emulator: &Emulator, operation: &str, body: &Value) -> Reply {
    let target = format!("X-Amz-Target: AmazonSQS.{operation}");
    let addr = emulator.addr().to_string();
    wire::post(&addr, "/", &[&target], body.to_string().as_bytes()).unwrap()
}

fn call(emulator: &Emulator, operation: &str, body: &Value) -> (u16, Value) {
    let reply = exchange(emulator, operation, body);
    let answer = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    (reply.status, answer)
}

const URL: &str = "http://queue/000000000000/clicks";

fn send(emulator: &Emulator, entries: &[Value]) -> (u16, Value) {
    let body = json!({"QueueUrl": URL, "Entries": entries});
    call(emulator, "SendMessageBatch", &body)
}

fn event(seq: u64) -> Value {
    let body = format!("{{\"event_id\":\"{}\"}}", EventId { run: 1, seq });
    json!({"Id": seq.to_string(), "MessageBody": body})
}

/// The ids of one list of an answer.
fn ids(answer: &Value, list: &str) -> Vec<String> {
    let entries = answer[list].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["Id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn bad_batch_entries_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let emulator = Emulator::start(Options {
        service: service::Options {
            ledger: Some(ledger.clone()),
            ..service::Options::default()
        },
        ..Options::default()
    })
    .unwrap();
    let bad = json!({"Id": "bad", "MessageBody": "\u{1}"});
    let (status, answer) = send(&emulator, &[event(1), bad, event(2)]);
    assert_eq!(status, 200);
    assert_eq!(ids(&answer, "Successful"), ["1", "2"]);
    assert_eq!(ids(&answer, "Failed"), ["bad"]);
    assert_eq!(answer["Failed"][0]["SenderFault"], true);
    let one = json!({"QueueUrl": URL, "MessageBody": "hello"});
    let (status, answer) = call(&emulator, "SendMessage", &one);
    assert_eq!(status, 200);
    // MD5 of "hello".
    assert_eq!(
        answer["MD5OfMessageBody"],
        "5d41402abc4b2a76b9719d911017c592"
    );
    let stats = emulator.stats();
    assert_eq!(
        (stats.stored, stats.invalid, stats.billed_requests),
        (3, 1, 2)
    );
    emulator.stop().unwrap();
    let mut found = Vec::new();
    read_stored(&ledger, |id| found.push(id.seq)).unwrap();
    assert_eq!(found, [1, 2]);
}

#[test]
fn call_errors_name_codes_for_both_protocols() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let reply = exchange(
        &emulator,
        "SendMessageBatch",
        &json!({"QueueUrl": URL, "Entries": []}),
    );
    assert_eq!(reply.status, 400);
    assert!(
        reply.text().contains("\"EmptyBatchRequest\""),
        "{}",
        reply.text()
    );
    assert_eq!(
        reply.header("x-amzn-query-error"),
        Some("AWS.SimpleQueueService.EmptyBatchRequest;Sender")
    );
    let more: Vec<Value> = (0..11).map(event).collect();
    assert_eq!(send(&emulator, &more).0, 400);
    assert_eq!(emulator.stats().stored, 0);
}

#[test]
fn a_reader_finds_the_queue_receives_and_deletes() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let (_, found) = call(&emulator, "GetQueueUrl", &json!({"QueueName": "clicks"}));
    let url = found["QueueUrl"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&emulator.url()), "{url}");
    let entries: Vec<Value> = (0..3).map(event).collect();
    send(&emulator, &entries);
    let ask = json!({"QueueUrl": url, "MaxNumberOfMessages": 10});
    let (_, received) = call(&emulator, "ReceiveMessage", &ask);
    let messages = received["Messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[0]["Body"], entries[0]["MessageBody"]);
    let delete = json!({"QueueUrl": url, "ReceiptHandle": messages[0]["ReceiptHandle"]});
    assert_eq!(call(&emulator, "DeleteMessage", &delete).0, 200);
    let names = json!({"QueueUrl": url, "AttributeNames": ["All"]});
    let (_, told) = call(&emulator, "GetQueueAttributes", &names);
    assert_eq!(told["Attributes"]["ApproximateNumberOfMessages"], "0");
    assert_eq!(
        told["Attributes"]["ApproximateNumberOfMessagesNotVisible"],
        "2"
    );
    let stats = emulator.stats();
    assert_eq!((stats.received, stats.deleted, stats.retained), (3, 1, 2));
    let too_many = json!({"QueueUrl": url, "MaxNumberOfMessages": 11});
    assert_eq!(call(&emulator, "ReceiveMessage", &too_many).0, 400);
}

#[test]
fn faults_speak_the_words_of_sqs() {
    let faulty = |faults| {
        Emulator::start(Options {
            service: service::Options {
                faults,
                ..service::Options::default()
            },
            ..Options::default()
        })
    };
    let emulator = faulty(Faults {
        reject: Some(Reject {
            k: 1,
            n: 2,
            code: RejectCode::InternalFailure,
        }),
        drop_acked: Some(Portion { k: 1, n: 5 }),
        ..Faults::default()
    })
    .unwrap();
    let (_, answer) = send(&emulator, &(0..10).map(event).collect::<Vec<_>>());
    assert_eq!(ids(&answer, "Successful").len(), 5);
    assert_eq!(answer["Failed"][0]["SenderFault"], false);
    let stats = emulator.stats();
    assert_eq!(
        (stats.rejected, stats.dropped_acked, stats.stored),
        (5, 1, 4)
    );
    let throttling = faulty(Faults {
        throttle_call: 1.0,
        ..Faults::default()
    })
    .unwrap();
    let (status, answer) = send(&throttling, &[event(1)]);
    assert_eq!(
        (status, &answer["__type"]),
        (403, &json!("RequestThrottled"))
    );
    let error = faulty(Faults {
        failed_count_zero: true,
        ..Faults::default()
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "fault failed_count_zero means nothing to sqs"
    );
}
