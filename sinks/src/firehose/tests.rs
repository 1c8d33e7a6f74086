//! The Firehose sink against a server that answers by script.

use super::*;
use crate::aws::script::{
    Answer, Server, Service, by_both_clients, data, error, failed, keys, record, scripted, three,
};
use serde_json::{Value, json};
use std::time::Duration;

const DELIVERED: RecordResult = RecordResult::Delivered;
const UNKNOWN: RecordResult = RecordResult::Retry(Cause::Unknown);
const THROTTLED: RecordResult = RecordResult::Retry(Cause::Throttled);
const UNAVAILABLE: RecordResult = RecordResult::Retry(Cause::Unavailable);

by_both_clients!(
    events_are_packed_in_order_up_to_5_kib,
    entry_results_win_over_failed_put_count,
    a_record_result_applies_to_each_packed_event,
    confirmed_bytes_are_billed_in_5_kib_increments,
    a_mismatched_response_leaves_all_records_unknown,
    a_timed_out_call_is_unknown,
    a_call_error_applies_to_each_event,
    an_invalid_call_refuses_only_a_lone_event,
    an_invalid_event_is_refused_before_the_call,
    firehose_limits_include_newlines_and_500_records,
    check_finds_a_direct_put_stream_without_writing,
    without_credentials_the_sink_starts_and_its_calls_are_denied,
);

/// The answer to DescribeDeliveryStream, with these members changed.
fn describe(more: Value) -> Value {
    let mut description = json!({
        "DeliveryStreamName": "clicks",
        "DeliveryStreamARN": "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks",
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamType": "DirectPut",
        "VersionId": "1",
        "Destinations": [],
        "HasMoreDestinations": false,
    });
    for (name, value) in more.as_object().unwrap() {
        description[name] = value.clone();
    }
    json!({ "DeliveryStreamDescription": description })
}

fn stored() -> Value {
    json!({"RecordId": "jI3Ux"})
}

/// A PutRecordBatch answer whose FailedPutCount is always 0, so that relying on it shows.
fn entries(entries: impl IntoIterator<Item = Value>) -> String {
    let entries: Vec<_> = entries.into_iter().collect();
    json!({"FailedPutCount": 0, "Encrypted": false, "RequestResponses": entries}).to_string()
}

async fn server() -> Server {
    Server::start(Service {
        describe: describe(json!({})),
        stored: |records| entries((0..records).map(|_| stored())),
    })
    .await
}

fn settings(server: &Server, client: AwsClient) -> FirehoseSettings {
    FirehoseSettings {
        aws: server.aws(),
        client,
        ..FirehoseSettings::new("clicks")
    }
}

async fn start(settings: FirehoseSettings) -> FirehoseSink {
    FirehoseSink::start_with(settings, Some(keys()))
        .await
        .unwrap()
}

/// Each event in a record of its own.
async fn unpacked(server: &Server, client: AwsClient) -> FirehoseSink {
    start(FirehoseSettings {
        pack_bytes_max: 0,
        ..settings(server, client)
    })
    .await
}

/// The data of the records of each call so far.
fn puts(server: &Server) -> Vec<Vec<Vec<u8>>> {
    let puts = server.puts();
    puts.iter()
        .map(|entries| entries.iter().map(data).collect())
        .collect()
}

async fn events_are_packed_in_order_up_to_5_kib(client: AwsClient) {
    let server = server().await;
    let sink = start(settings(&server, client)).await;
    let payloads: Vec<String> = (0..100)
        .map(|at| format!("{{\"at\":{at},\"é\":\"{}\"}}", "x".repeat(at * 7)))
        .collect();
    let records: Vec<_> = payloads.iter().cloned().map(record).collect();
    assert_eq!(sink.write(&records).await, [DELIVERED; 100]);
    let puts = puts(&server);
    assert_eq!(puts.len(), 1);
    let expected: String = payloads
        .iter()
        .map(|payload| format!("{payload}\n"))
        .collect();
    assert_eq!(puts[0].concat(), expected.as_bytes());
    assert!(puts[0].len() < 10, "{} records", puts[0].len());
    for data in &puts[0] {
        assert!(data.len() <= 5_120 && data.ends_with(b"\n"));
    }
    let script = server.script.lock().unwrap();
    let body = &script.seen.last().unwrap().body;
    assert_eq!(body["DeliveryStreamName"], "clicks");
}

async fn entry_results_win_over_failed_put_count(client: AwsClient) {
    let server = server().await;
    let sink = unpacked(&server, client).await;
    let cases = [
        (stored(), DELIVERED),
        (failed("ServiceUnavailableException"), THROTTLED),
        (failed("InternalFailure"), UNAVAILABLE),
        (failed("FreshlyInvented"), UNAVAILABLE),
        (json!({}), UNKNOWN),
        (json!({"RecordId": ""}), UNKNOWN),
        (json!({"RecordId": null, "ErrorCode": null}), UNKNOWN),
        (
            json!({"RecordId": "jI3Ux", "ErrorCode": "InternalFailure"}),
            UNKNOWN,
        ),
        (stored(), DELIVERED),
    ];
    let (answers, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    server.next(Answer::Says(200, entries(answers)));
    let records: Vec<_> = expected.iter().map(|_| record("{}")).collect();
    assert_eq!(sink.write(&records).await, expected);
}

async fn a_record_result_applies_to_each_packed_event(client: AwsClient) {
    let server = server().await;
    let sink = start(FirehoseSettings {
        pack_bytes_max: 10,
        ..settings(&server, client)
    })
    .await;
    // Two lines of 5 bytes, one of 12, three of 3.
    let payloads = ["aaaa", "aaaa", "bbbbbbbbbbb", "cc", "cc", "cc"];
    server.next(Answer::Says(
        200,
        entries([
            failed("ServiceUnavailableException"),
            stored(),
            failed("InternalFailure"),
        ]),
    ));
    assert_eq!(
        sink.write(&payloads.map(record)).await,
        [
            THROTTLED,
            THROTTLED,
            DELIVERED,
            UNAVAILABLE,
            UNAVAILABLE,
            UNAVAILABLE
        ]
    );
    assert_eq!(puts(&server)[0].len(), 3);
}

async fn confirmed_bytes_are_billed_in_5_kib_increments(client: AwsClient) {
    let server = server().await;
    let sink = unpacked(&server, client).await;
    let of = |bytes: usize| record(vec![b'x'; bytes - 1]);
    assert_eq!(
        sink.write(&[of(5_120), of(5_121), of(1)][..2]).await,
        [DELIVERED; 2]
    );
    server.next(Answer::Says(
        200,
        entries([failed("InternalFailure"), stored()]),
    ));
    sink.write(&[of(100_000), of(2)]).await;
    let bill = sink.billing_stats().unwrap();
    assert_eq!(bill.confirmed_bytes.get(), 5_120 + 5_121 + 2);
    assert_eq!(bill.billed_bytes.get(), (1 + 2 + 1) * 5_120);
}

async fn a_mismatched_response_leaves_all_records_unknown(client: AwsClient) {
    let server = server().await;
    let sink = unpacked(&server, client).await;
    let good = entries([stored(), stored(), stored()]);
    for answer in [
        Answer::Says(200, entries([stored(), stored()])),
        Answer::Says(200, entries([stored(), stored(), stored(), stored()])),
        Answer::Says(200, "{}".to_owned()),
        Answer::Says(200, String::new()),
        Answer::Says(200, "<html>good gateway</html>".to_owned()),
        Answer::Says(200, good[..good.len() - 20].to_owned()),
        Answer::Says(302, String::new()),
        Answer::BreaksOff(good.clone(), good.len() - 1),
        Answer::Resets,
    ] {
        server.next(answer);
        assert_eq!(sink.write(&three()).await, [UNKNOWN; 3]);
    }
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    assert_eq!(server.puts().len(), 10, "nothing is sent twice");
    // As many entries as events, but not as many as records.
    let sink = start(settings(&server, client)).await;
    server.next(Answer::Says(200, good));
    assert_eq!(sink.write(&three()).await, [UNKNOWN; 3]);
}

async fn a_timed_out_call_is_unknown(client: AwsClient) {
    let server = server().await;
    let mut settings = settings(&server, client);
    settings.aws.attempt_timeout = Duration::from_millis(300);
    let sink = start(settings).await;
    server.next(Answer::Hangs);
    assert_eq!(sink.write(&three()).await, [UNKNOWN; 3]);
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
}

async fn a_call_error_applies_to_each_event(client: AwsClient) {
    let server = server().await;
    let sink = start(settings(&server, client)).await;
    for (status, code, cause) in [
        (503, "ServiceUnavailableException", Cause::Throttled),
        (
            400,
            "com.amazonaws.firehose#ServiceUnavailableException",
            Cause::Throttled,
        ),
        (400, "LimitExceededException", Cause::Throttled),
        (400, "ThrottlingException", Cause::Throttled),
        (503, "ServiceUnavailable", Cause::Unavailable),
        (500, "InternalFailure", Cause::Unavailable),
        (400, "InvalidKMSResourceException", Cause::Unavailable),
        (400, "InvalidSourceException", Cause::Unavailable),
        (400, "AccessDeniedException", Cause::Denied),
        (400, "ExpiredTokenException", Cause::Denied),
        (400, "ResourceNotFoundException", Cause::NotFound),
    ] {
        server.next(Answer::Says(status, error(code)));
        let expected = [RecordResult::Retry(cause); 3];
        assert_eq!(sink.write(&three()).await, expected, "{status} {code}");
    }
    server.next(Answer::Says(503, "<html>busy</html>".to_owned()));
    assert_eq!(sink.write(&three()).await, [UNAVAILABLE; 3]);
}

async fn an_invalid_call_refuses_only_a_lone_event(client: AwsClient) {
    let server = server().await;
    let sink = start(settings(&server, client)).await;
    for code in ["ValidationException", "InvalidArgumentException"] {
        server.next(Answer::Says(400, error(code)));
        let apart = RecordResult::Retry(Cause::Invalid);
        assert_eq!(sink.write(&three()).await, [apart; 3]);
        server.next(Answer::Says(400, error(code)));
        let refused = RecordResult::Refused(Cause::Invalid);
        assert_eq!(sink.write(&[record("a")]).await, [refused]);
    }
}

async fn an_invalid_event_is_refused_before_the_call(client: AwsClient) {
    let server = server().await;
    let sink = start(settings(&server, client)).await;
    let limit = sink.limits().record_bytes_max;
    assert_eq!(limit, 1_023_999);
    let records = [
        record("first"),
        record(""),
        record("two\nlines"),
        record(vec![b'x'; limit + 1]),
        record(vec![b'x'; limit]),
        record("last"),
    ];
    let invalid = RecordResult::Refused(Cause::Invalid);
    let too_large = RecordResult::Refused(Cause::TooLarge);
    assert_eq!(
        sink.write(&records).await,
        [DELIVERED, invalid, invalid, too_large, DELIVERED, DELIVERED]
    );
    let sizes: Vec<_> = puts(&server)[0].iter().map(Vec::len).collect();
    assert_eq!(sizes, [6, 1_024_000, 5]);
    assert_eq!(sink.write(&records[1..2]).await, [invalid]);
    assert_eq!(sink.write(&[]).await, []);
    assert_eq!(server.puts().len(), 1, "a call without records is not made");
}

async fn firehose_limits_include_newlines_and_500_records(client: AwsClient) {
    let server = server().await;
    let sink = start(settings(&server, client)).await;
    let limits = SinkLimits {
        batch_records_max: 500,
        batch_bytes_max: 4 * 1024 * 1024 - 500,
        record_bytes_max: 1_023_999,
    };
    assert_eq!(sink.limits(), limits);
    // As many and as much as the writer may send, none of them together.
    let events = vec![vec![b'x'; limits.batch_bytes_max / 500]; 500];
    let records: Vec<_> = events.into_iter().map(record).collect();
    assert_eq!(sink.write(&records).await, [DELIVERED; 500]);
    let put = &puts(&server)[0];
    assert_eq!(put.len(), 500);
    let bytes: usize = put.iter().map(Vec::len).sum();
    assert!((4 * 1024 * 1024 - 500..=4 * 1024 * 1024).contains(&bytes));

    let small = FirehoseSettings {
        batch_records_max: 10,
        batch_bytes_max: 2_000,
        ..settings(&server, client)
    };
    assert_eq!(
        start(small).await.limits(),
        SinkLimits {
            batch_records_max: 10,
            batch_bytes_max: 2_000,
            record_bytes_max: 2_000,
        }
    );
}

async fn check_finds_a_direct_put_stream_without_writing(client: AwsClient) {
    let server = server().await;
    let sink = start(settings(&server, client)).await;
    assert_eq!(
        sink.check().await.unwrap(),
        "firehose stream clicks: ACTIVE, takes direct puts, packed up to 5120 bytes"
    );
    for (description, reason) in [
        (
            describe(json!({"DeliveryStreamType": "KinesisStreamAsSource"})),
            "it takes no direct puts: its source is KinesisStreamAsSource",
        ),
        (
            describe(json!({"DeliveryStreamStatus": "CREATING"})),
            "it is CREATING, and takes records only when ACTIVE",
        ),
        (json!({}), "the answer describes no stream"),
    ] {
        server.script.lock().unwrap().describe = description;
        assert_eq!(sink.check().await.unwrap_err().reason, reason);
    }
    let seen = server.script.lock().unwrap().seen.len();
    assert_eq!(seen, 4, "a start asks nothing");
    assert!(server.puts().is_empty());
}

async fn without_credentials_the_sink_starts_and_its_calls_are_denied(client: AwsClient) {
    let server = server().await;
    let sink = FirehoseSink::start_with(settings(&server, client), Some(scripted([])))
        .await
        .unwrap();
    let denied = RecordResult::Retry(Cause::Denied);
    assert_eq!(sink.write(&three()).await, [denied; 3]);
    let error = sink.check().await.unwrap_err();
    assert!(error.reason.contains("no AWS credentials"), "{error}");
    assert!(server.script.lock().unwrap().seen.is_empty());
}

#[tokio::test]
async fn settings_out_of_range_are_start_errors() {
    let good = || FirehoseSettings::new("clicks");
    let mut schemeless = good();
    schemeless.aws.endpoint_url = Some("127.0.0.1:4573".to_owned());
    for (settings, named) in [
        (FirehoseSettings::new(""), ["`stream` is \"\"", "1 to 64"]),
        (
            FirehoseSettings {
                batch_records_max: 501,
                ..good()
            },
            ["501", "500"],
        ),
        (
            FirehoseSettings {
                batch_records_max: 0,
                ..good()
            },
            ["is 0", "1 to 500"],
        ),
        (
            FirehoseSettings {
                batch_bytes_max: BATCH_BYTES_CEILING + 1,
                ..good()
            },
            ["4194305", "4194304"],
        ),
        (
            FirehoseSettings {
                batch_bytes_max: 1_023,
                ..good()
            },
            ["1023", "1024"],
        ),
        (
            FirehoseSettings {
                pack_bytes_max: 1_024_001,
                ..good()
            },
            ["1024001", "1024000"],
        ),
        (schemeless, ["127.0.0.1:4573", "http://"]),
    ] {
        let error = FirehoseSink::start(settings).await.err().unwrap();
        for part in named {
            assert!(error.reason.contains(part), "{error}");
        }
    }
}

#[cfg(feature = "aws-sdk")]
#[tokio::test]
async fn the_service_is_where_the_sdk_finds_it() {
    use crate::aws::endpoint::{Endpoint, REGIONS};
    use aws_sdk_firehose::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
    for region in REGIONS {
        for flags in 0..8 {
            let endpoint = Endpoint {
                region,
                given: (flags & 4 != 0).then_some("http://127.0.0.1:4573"),
                fips: flags & 1 != 0,
                dual_stack: flags & 2 != 0,
            };
            let params = Params::builder()
                .region(region)
                .use_fips(endpoint.fips)
                .use_dual_stack(endpoint.dual_stack)
                .set_endpoint(endpoint.given.map(str::to_owned))
                .build()
                .unwrap();
            let sdks = DefaultResolver::new().resolve_endpoint(&params).await;
            let sdks = sdks.ok().map(|found| found.url().to_owned());
            assert_eq!(endpoint.url("firehose").ok(), sdks, "{endpoint:?}");
        }
    }
}
