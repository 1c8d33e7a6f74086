//! The SQS sink against a server that answers by script.

use super::*;
use crate::aws::script::{Answer, Server, Service, error, keys, record, scripted, three};
use serde_json::{Value, json};
use sluice_core::ack::{AckQueue, OutputId, RequestKey, Ticket};

const DELIVERED: RecordResult = RecordResult::Delivered;
const UNKNOWN: RecordResult = RecordResult::Retry(Cause::Unknown);
const THROTTLED: RecordResult = RecordResult::Retry(Cause::Throttled);
const UNAVAILABLE: RecordResult = RecordResult::Retry(Cause::Unavailable);
const APART: RecordResult = RecordResult::Retry(Cause::Invalid);
const INVALID: RecordResult = RecordResult::Refused(Cause::Invalid);

fn attributes(limit: &str) -> Value {
    json!({"Attributes": {"MaximumMessageSize": limit}})
}

fn stored(id: usize) -> Value {
    json!({"Id": id.to_string(), "MessageId": "5fea", "MD5OfMessageBody": "00"})
}

fn failed(id: usize, code: &str, is_senders_fault: bool) -> Value {
    json!({"Id": id.to_string(), "Code": code, "Message": "why", "SenderFault": is_senders_fault})
}

async fn server() -> Server {
    Server::start(Service {
        describe: attributes("1048576"),
        stored: |entries| {
            let successful: Vec<_> = (0..entries).map(stored).collect();
            json!({"Successful": successful}).to_string()
        },
    })
    .await
}

const STANDARD: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/clicks";
const FIFO: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/clicks.fifo";

fn settings(server: &Server, queue_url: &str) -> SqsSettings {
    SqsSettings {
        aws: server.aws(),
        ..SqsSettings::new(queue_url)
    }
}

async fn start(settings: SqsSettings) -> SqsSink {
    SqsSink::start_with(settings, Some(keys())).await.unwrap()
}

async fn packed(server: &Server) -> SqsSink {
    start(settings(server, STANDARD)).await
}

/// Each event in a message of its own.
async fn unpacked(server: &Server) -> SqsSink {
    start(SqsSettings {
        message_bytes_max: 0,
        ..settings(server, STANDARD)
    })
    .await
}

fn keyed(key: &str, payload: &str) -> Record {
    Record {
        key: Some(key.to_owned().into()),
        ..record(payload)
    }
}

fn member(entry: &Value, name: &str) -> String {
    entry[name].as_str().unwrap_or("none").to_owned()
}

fn members(entries: &[Value], name: &str) -> Vec<String> {
    entries.iter().map(|entry| member(entry, name)).collect()
}

#[tokio::test]
async fn events_are_packed_one_per_line_as_they_are() {
    let server = server().await;
    let sink = packed(&server).await;
    let events = [r#"{"a":"\"\\"}"#, "{\"é\":\"\u{10348}\t\"}", "{}"];
    assert_eq!(sink.write(&events.map(record)).await, [DELIVERED; 3]);
    let puts = server.puts();
    assert_eq!(puts.len(), 1);
    assert_eq!(members(&puts[0], "MessageBody"), [events.join("\n")]);
    assert_eq!(member(&puts[0][0], "MessageGroupId"), "none");
    assert_eq!(member(&puts[0][0], "MessageDeduplicationId"), "none");
    let script = server.script.lock().unwrap();
    assert_eq!(script.seen.last().unwrap().body["QueueUrl"], STANDARD);
}

#[tokio::test]
async fn a_write_is_as_many_calls_as_its_messages_need() {
    let server = server().await;
    let sink = unpacked(&server).await;
    let records: Vec<_> = (0..25)
        .map(|at| record(format!("{{\"at\":{at}}}")))
        .collect();
    assert_eq!(sink.write(&records).await, [DELIVERED; 25]);
    let mut sizes: Vec<_> = server.puts().iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 10, 10]);
    let half = "x".repeat(BATCH_BYTES_CEILING / 2);
    let records = [&*half, &half, "{}"].map(record);
    assert_eq!(sink.write(&records).await, [DELIVERED; 3]);
    assert_eq!(server.puts().len(), 5);
    assert_eq!(sink.write(&[]).await, []);
    assert_eq!(
        server.puts().len(),
        5,
        "a call without messages is not made"
    );
}

#[tokio::test]
async fn sqs_entries_are_matched_by_id() {
    let server = server().await;
    let sink = unpacked(&server).await;
    let answer = json!({
        "Failed": [
            failed(6, "RequestThrottled", false),
            failed(1, "InternalError", false),
            failed(5, "InvalidMessageContents", true),
            failed(7, "FreshlyInvented", true),
            failed(8, "KmsAccessDenied", true),
            failed(3, "InternalError", false),
            failed(99, "InternalError", false),
        ],
        "Successful": [stored(4), stored(0), stored(3), json!({"Id": "9"}), json!({"Id": "x"})],
    });
    server.next(Answer::Says(200, answer.to_string()));
    let records: Vec<_> = (0..10).map(|_| record("{}")).collect();
    assert_eq!(
        sink.write(&records).await,
        [
            DELIVERED,
            UNAVAILABLE,
            UNKNOWN,
            UNKNOWN,
            DELIVERED,
            INVALID,
            THROTTLED,
            INVALID,
            RecordResult::Retry(Cause::Denied),
            UNKNOWN,
        ]
    );
}

#[tokio::test]
async fn a_message_result_applies_to_each_packed_event() {
    let server = server().await;
    let sink = start(SqsSettings {
        message_bytes_max: 11,
        ..settings(&server, STANDARD)
    })
    .await;
    // Two events of 5 bytes and a line break, one of 12, two of 3.
    let payloads = ["aaaaa", "aaaaa", "bbbbbbbbbbbb", "ccc", "ccc"];
    let answer = json!({
        "Successful": [stored(1)],
        "Failed": [failed(0, "InvalidMessageContents", true), failed(2, "InternalError", false)],
    });
    server.next(Answer::Says(200, answer.to_string()));
    assert_eq!(
        sink.write(&payloads.map(record)).await,
        [APART, APART, DELIVERED, UNAVAILABLE, UNAVAILABLE],
        "which of two events is at fault shows when each is alone"
    );
}

#[tokio::test]
async fn an_answer_that_names_no_message_is_unknown() {
    let server = server().await;
    let sink = unpacked(&server).await;
    let good = json!({"Successful": [stored(0), stored(1), stored(2)]}).to_string();
    for answer in [
        Answer::Says(200, "{}".to_owned()),
        Answer::Says(200, String::new()),
        Answer::Says(200, "<html>good gateway</html>".to_owned()),
        Answer::Says(200, good[..good.len() - 4].to_owned()),
        Answer::Says(200, json!({"Successful": null, "Failed": []}).to_string()),
        Answer::Says(200, error("InternalError")),
        Answer::Says(302, String::new()),
        Answer::BreaksOff(good.clone(), good.len() - 1),
        Answer::Resets,
    ] {
        server.next(answer);
        assert_eq!(sink.write(&three()).await, [UNKNOWN; 3]);
    }
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    assert_eq!(server.puts().len(), 10, "nothing is sent twice");
}

#[tokio::test]
async fn the_error_of_a_sqs_call_is_each_events_error() {
    let server = server().await;
    let sink = packed(&server).await;
    for (status, code, cause) in [
        (403, "RequestThrottled", Cause::Throttled),
        (400, "com.amazonaws.sqs#KmsThrottled", Cause::Throttled),
        (400, "com.amazonaws.sqs#QueueDoesNotExist", Cause::NotFound),
        (
            400,
            "AWS.SimpleQueueService.NonExistentQueue",
            Cause::NotFound,
        ),
        (400, "AccessDeniedException", Cause::Denied),
        (400, "ExpiredToken", Cause::Denied),
        (400, "BatchRequestTooLong", Cause::Invalid),
        (500, "InternalError", Cause::Unavailable),
        (503, "ServiceUnavailable", Cause::Unavailable),
    ] {
        server.next(Answer::Says(status, error(code)));
        let expected = [RecordResult::Retry(cause); 3];
        assert_eq!(sink.write(&three()).await, expected, "{status} {code}");
    }
    server.next(Answer::Says(400, error("InvalidMessageContents")));
    assert_eq!(sink.write(&[record("a")]).await, [INVALID]);
}

#[tokio::test]
async fn an_unsendable_event_is_refused_before_the_call() {
    let server = server().await;
    server.script.lock().unwrap().describe = attributes("1024");
    let sink = packed(&server).await;
    assert_eq!(sink.limits().record_bytes_max, 1_024);
    let records = [
        record("first"),
        record("a\u{1}"),
        record("\u{fffe}"),
        record(vec![0xff]),
        record("two\nlines"),
        record(""),
        record("x".repeat(1_025)),
        record("x".repeat(1_024)),
        record("last"),
    ];
    let too_large = RecordResult::Refused(Cause::TooLarge);
    assert_eq!(
        sink.write(&records).await,
        [
            DELIVERED, INVALID, INVALID, INVALID, INVALID, INVALID, too_large, DELIVERED, DELIVERED
        ]
    );
    let bodies = members(&server.puts()[0], "MessageBody");
    assert_eq!(bodies, ["first", &"x".repeat(1_024), "last"]);
    assert_eq!(sink.write(&records[1..2]).await, [INVALID]);
    assert_eq!(server.puts().len(), 1);
}

#[tokio::test]
async fn a_fifo_message_has_a_group_and_keeps_its_deduplication_id() {
    let server = server().await;
    let sink = start(settings(&server, FIFO)).await;
    let mut records = vec![keyed("u-1", "{}"), keyed("two words", "{}"), record("{}")];
    let acks = AckQueue::leak();
    for (event, record) in (0..).zip(&mut records) {
        let request = RequestKey {
            slot: 7,
            generation: 1,
        };
        record.ticket = Ticket::new(acks, request, OutputId(0), 1).for_event(event);
    }
    server.next(Answer::Resets);
    assert_eq!(sink.write(&records).await, [UNKNOWN; 3]);
    assert_eq!(sink.write(&records).await, [DELIVERED; 3]);
    let puts = server.puts();
    assert_eq!(puts[0].len(), 3, "each event has a message");
    let groups = members(&puts[0], "MessageGroupId");
    assert_eq!(groups[0], "u-1");
    assert_eq!((groups[1].len(), groups[2].len()), (64, 32));
    let ids = members(&puts[0], "MessageDeduplicationId");
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids[0].len() == 64,
        "{ids:?}"
    );
    assert_eq!(members(&puts[1], "MessageDeduplicationId"), ids);
    let other = start(settings(&server, FIFO)).await;
    other.write(&records).await;
    assert_ne!(
        members(&server.puts()[2], "MessageDeduplicationId"),
        ids,
        "another process"
    );
    records[0].payload = "{\"a\":1}".into();
    sink.write(&records[..1]).await;
    assert_ne!(
        members(&server.puts()[3], "MessageDeduplicationId"),
        ids[..1],
        "another event"
    );
}

#[tokio::test]
async fn packed_events_share_a_message_only_within_their_group() {
    let server = server().await;
    let sink = packed(&server).await;
    let records = [
        keyed("a", "1"),
        keyed("b", "2"),
        keyed("a", "3"),
        record("4"),
        keyed("b", "5"),
        record("6"),
    ];
    assert_eq!(sink.write(&records).await, [DELIVERED; 6]);
    let put = &server.puts()[0];
    assert_eq!(members(put, "MessageBody"), ["1\n3", "2\n5", "4\n6"]);
    assert_eq!(members(put, "MessageGroupId"), ["a", "b", "none"]);
}

#[tokio::test]
async fn check_reads_the_queues_limit_without_writing() {
    let server = server().await;
    let sink = packed(&server).await;
    assert_eq!(
        sink.check().await.unwrap(),
        "sqs queue clicks: standard, messages up to 1048576 bytes, packed up to 262144"
    );
    let fifo = start(settings(&server, FIFO)).await;
    assert_eq!(
        fifo.check().await.unwrap(),
        "sqs queue clicks.fifo: FIFO, messages up to 1048576 bytes, one event each"
    );
    for (limit, told) in [
        ("1048577", "1048577"),
        ("1023", "1024 to 1048576"),
        ("many", "many"),
    ] {
        server.script.lock().unwrap().describe = attributes(limit);
        let error = sink.check().await.unwrap_err();
        assert!(error.reason.contains(told), "{error}");
    }
    server.script.lock().unwrap().describe = json!({});
    assert!(sink.check().await.is_err());
    server.script.lock().unwrap().describe = json!({"Attributes": {}});
    let found = sink.check().await.unwrap();
    assert!(found.contains("messages up to 1048576 bytes"), "{found}");
    assert_eq!(sink.limits().record_bytes_max, BATCH_BYTES_CEILING);
    assert!(server.puts().is_empty());
}

#[tokio::test]
async fn without_credentials_the_sink_starts_and_its_calls_are_denied() {
    let server = server().await;
    let settings = settings(&server, STANDARD);
    let sink = SqsSink::start_with(settings, Some(scripted([])))
        .await
        .unwrap();
    let denied = RecordResult::Retry(Cause::Denied);
    assert_eq!(sink.write(&three()).await, [denied; 3]);
    let error = sink.check().await.unwrap_err();
    assert!(error.reason.contains("no AWS credentials"), "{error}");
    assert!(server.script.lock().unwrap().seen.is_empty());
}

#[test]
fn the_queue_url_tells_endpoint_and_region() {
    for (url, origin, region) in [
        (
            STANDARD,
            "https://sqs.eu-west-1.amazonaws.com",
            Some("eu-west-1"),
        ),
        (
            "https://sqs.cn-north-1.amazonaws.com.cn/1/clicks",
            "https://sqs.cn-north-1.amazonaws.com.cn",
            Some("cn-north-1"),
        ),
        (
            "http://127.0.0.1:9324/queue/clicks",
            "http://127.0.0.1:9324",
            None,
        ),
        (
            "https://sqs.example.com/1/clicks",
            "https://sqs.example.com",
            None,
        ),
    ] {
        let settings = SqsSettings::new(url);
        assert_eq!(settings.origin_of_url(), origin);
        assert_eq!(settings.region_of_url().as_deref(), region);
        assert_eq!(settings.queue_name(), "clicks");
    }
}

#[tokio::test]
async fn settings_out_of_range_are_start_errors() {
    let good = || SqsSettings::new(STANDARD);
    let long = format!("http://host/1/{}", "q".repeat(81));
    for (settings, named) in [
        (SqsSettings::new(""), ["`queue_url` is \"\"", "http://"]),
        (SqsSettings::new("clicks"), ["clicks", "http://"]),
        (SqsSettings::new("http://host"), ["host", "a path"]),
        (SqsSettings::new("http:///1/clicks"), ["clicks", "a host"]),
        (SqsSettings::new("http://host/1/"), ["host", "queue's name"]),
        (
            SqsSettings::new("http://host/1/a b"),
            ["a b", "queue's name"],
        ),
        (SqsSettings::new("http://u@host/1/a"), ["u@host", "a host"]),
        (SqsSettings::new(long), ["qqq", "queue's name"]),
        (
            SqsSettings {
                message_bytes_max: BATCH_BYTES_CEILING + 1,
                ..good()
            },
            ["1048577", "1048576"],
        ),
        (
            SqsSettings {
                batch_records_max: 5_001,
                ..good()
            },
            ["5001", "5000"],
        ),
        (
            SqsSettings {
                batch_bytes_max: BATCH_BYTES_CEILING + 1,
                ..good()
            },
            ["1048577", "1048576"],
        ),
    ] {
        let error = SqsSink::start(settings).await.err().unwrap();
        for part in named {
            assert!(error.reason.contains(part), "{error}");
        }
    }
}
