//! The Kinesis sink against a server that answers by script.

mod aggregated;

use super::*;
use crate::aws::AwsClient;
use crate::aws::script::{
    Answer, Server, Service, data, error, failed, keys, record, scripted, three,
};
use aggregated::{
    a_container_in_a_known_wrong_shard_is_sent_again,
    a_container_in_another_shard_has_the_shards_listed_again,
    a_lone_record_of_a_shard_goes_as_it_is, an_invalid_container_is_retried_record_by_record,
    containers_stay_within_their_size_and_smaller_on_hot_shards,
    more_containers_than_a_call_takes_make_several_calls,
    records_without_a_key_share_a_container_outside_hot_shards,
    the_result_of_a_container_is_that_of_its_records, without_shards_or_keys_nothing_is_aggregated,
};
use aws_credential_types::Credentials;
use serde_json::{Value, json};
use std::process::Command;
use tokio::net::TcpListener;

const DELIVERED: RecordResult = RecordResult::Delivered;
const UNKNOWN: RecordResult = RecordResult::Retry(Cause::Unknown);
const THROTTLED: RecordResult = RecordResult::Retry(Cause::Throttled);
const UNAVAILABLE: RecordResult = RecordResult::Retry(Cause::Unavailable);

/// What makes the calls that put.
#[derive(Clone, Copy, Debug)]
enum Client {
    Cbor,
    Json,
    #[cfg(feature = "aws-sdk")]
    Sdk,
}

impl Client {
    fn of(self) -> (AwsClient, Encoding) {
        match self {
            Client::Cbor => (AwsClient::Sluice, Encoding::Cbor),
            Client::Json => (AwsClient::Sluice, Encoding::Json),
            #[cfg(feature = "aws-sdk")]
            Client::Sdk => (AwsClient::Sdk, Encoding::Json),
        }
    }
}

/// Runs tests once with each client: what one makes of an answer, the others make of it.
macro_rules! by_all_clients {
    ($($test:ident),* $(,)?) => {
        mod cbor {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(super::Client::Cbor).await;
                }
            )*
        }
        mod json {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(super::Client::Json).await;
                }
            )*
        }
        #[cfg(feature = "aws-sdk")]
        mod sdk {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(super::Client::Sdk).await;
                }
            )*
        }
    };
}

by_all_clients!(
    records_are_delivered_in_order_by_sequence_number,
    entry_results_win_over_failed_record_count,
    a_mismatched_response_leaves_all_records_unknown,
    a_timed_out_call_is_unknown,
    a_refused_connection_is_unavailable_for_nothing_was_sent,
    the_error_of_a_whole_call_is_each_records_error,
    an_invalid_call_refuses_only_a_lone_record,
    records_without_a_key_get_a_random_one,
    an_invalid_record_is_refused_before_the_call,
    an_auto_stream_gets_no_keys_until_refused,
    kinesis_limits_follow_the_stream_and_include_random_keys,
    an_undescribable_stream_uses_defaults,
    check_describes_a_stream_without_writing,
    a_stream_arn_is_sent_as_an_arn,
    without_credentials_the_sink_starts_and_its_calls_are_denied,
    old_credentials_stay_when_none_can_be_fetched,
    refused_credentials_are_fetched_again_without_waiting_for_the_timer,
    settings_win_over_the_aws_environment,
    records_without_a_key_avoid_a_shard_that_throttles,
    hot_keys_are_spread_where_the_operator_says_so,
    the_result_of_a_container_is_that_of_its_records,
    a_lone_record_of_a_shard_goes_as_it_is,
    records_without_a_key_share_a_container_outside_hot_shards,
    containers_stay_within_their_size_and_smaller_on_hot_shards,
    more_containers_than_a_call_takes_make_several_calls,
    an_invalid_container_is_retried_record_by_record,
    without_shards_or_keys_nothing_is_aggregated,
    a_container_in_another_shard_has_the_shards_listed_again,
    a_container_in_a_known_wrong_shard_is_sent_again,
);

async fn server() -> Server {
    Server::start(Service {
        describe: describe(json!({})),
        stored: |records| entries((0..records).map(|_| stored())),
    })
    .await
}

fn settings(server: &Server, client: Client) -> KinesisSettings {
    let (client, encoding) = client.of();
    KinesisSettings {
        aws: server.aws(),
        client,
        encoding,
        ..KinesisSettings::new("clicks")
    }
}

async fn sink(server: &Server, client: Client) -> KinesisSink {
    start(settings(server, client)).await
}

/// The answer to DescribeStreamSummary, with these members added.
fn describe(more: Value) -> Value {
    let mut summary = json!({
        "StreamName": "clicks",
        "StreamARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks",
        "StreamStatus": "ACTIVE",
        "StreamModeDetails": {"StreamMode": "ON_DEMAND"},
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 1_700_000_000,
        "EnhancedMonitoring": [],
        "OpenShardCount": 4,
    });
    for (name, value) in more.as_object().unwrap() {
        summary[name] = value.clone();
    }
    json!({ "StreamDescriptionSummary": summary })
}

fn stored() -> Value {
    json!({"SequenceNumber": "49", "ShardId": "shardId-000000000000"})
}

/// A PutRecords answer whose FailedRecordCount is always 0, so that relying on it shows.
fn entries(entries: impl IntoIterator<Item = Value>) -> String {
    let entries: Vec<_> = entries.into_iter().collect();
    json!({"FailedRecordCount": 0, "Records": entries}).to_string()
}

async fn start(settings: KinesisSettings) -> KinesisSink {
    KinesisSink::start_with(settings, Some(keys()))
        .await
        .unwrap()
}

fn keyed(key: &str) -> Record {
    Record {
        key: Some(key.to_owned().into()),
        ..record("{}")
    }
}

const HALF: u128 = 1 << 127;

/// A stream of two shards, one half of the hashes each.
async fn two_shards() -> Server {
    let server = server().await;
    let shard = |number: u32, first: u128, last: u128| {
        json!({
            "ShardId": format!("shardId-{number:012}"),
            "HashKeyRange": {
                "StartingHashKey": first.to_string(),
                "EndingHashKey": last.to_string(),
            },
            "SequenceNumberRange": {"StartingSequenceNumber": "1"},
        })
    };
    let shards = [shard(7, 0, HALF - 1), shard(8, HALF, u128::MAX)];
    server.script.lock().unwrap().describe["Shards"] = json!(shards);
    server
}

/// Lets the shard of `hot`, which is the first, throttle.
async fn throttle(server: &Server, sink: &KinesisSink) {
    let throttled = failed("ProvisionedThroughputExceededException");
    server.next(Answer::Says(200, entries([throttled])));
    assert_eq!(sink.write(&[keyed("hot")]).await, [THROTTLED]);
}

fn hash_of_entry(entry: &Value) -> Option<u128> {
    let hash = entry.get("ExplicitHashKey")?;
    Some(hash.as_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn the_lane_of_a_record_is_the_shard_of_its_key() {
    let server = two_shards().await;
    let sink = sink(&server, Client::Cbor).await;
    // By `md5sum`: 2736… and c4ca….
    assert_eq!(sink.lane(&keyed("hot")), Some(LaneId(7)));
    assert_eq!(sink.lane(&keyed("1")), Some(LaneId(8)));
    assert_eq!(sink.lane(&record("{}")), None);
}

#[tokio::test]
async fn the_quota_of_a_stream_is_that_of_its_open_shards() {
    for (server, shards) in [(two_shards().await, 2), (server().await, 1)] {
        let sink = sink(&server, Client::Cbor).await;
        let quota = sink.quota().unwrap();
        assert_eq!(quota.records_per_s, shards * 1_000);
        assert_eq!(quota.bytes_per_s, shards << 20);
    }
    // Nothing says what one takes that spreads the records itself.
    let server = server().await;
    server.script.lock().unwrap().describe =
        describe(json!({"RecordDistributionStrategy": "AUTO"}));
    let sink = sink(&server, Client::Cbor).await;
    assert_eq!(sink.quota(), None);
}

async fn records_without_a_key_avoid_a_shard_that_throttles(client: Client) {
    let server = two_shards().await;
    let sink = sink(&server, client).await;
    sink.write(&[record("{}"), keyed("hot")]).await;
    throttle(&server, &sink).await;
    sink.write(&[record("{}"), keyed("hot")]).await;
    let puts = server.puts();
    assert_eq!(hash_of_entry(&puts[0][0]), None);
    // A key that somebody chose decides, also of a shard that throttles.
    let [free, keyed] = &puts[2][..] else {
        panic!("{puts:?}");
    };
    assert!(hash_of_entry(free).is_some_and(|hash| hash >= HALF));
    assert!(free["PartitionKey"].is_string());
    assert_eq!(hash_of_entry(keyed), None);
}

async fn hot_keys_are_spread_where_the_operator_says_so(client: Client) {
    let server = two_shards().await;
    let sink = start(KinesisSettings {
        spread_hot_keys: true,
        ..settings(&server, client)
    })
    .await;
    throttle(&server, &sink).await;
    sink.write(&[keyed("hot"), keyed("1")]).await;
    let puts = server.puts();
    let [hot, cool] = &puts[1][..] else {
        panic!("{puts:?}");
    };
    assert!(hash_of_entry(hot).is_some_and(|hash| hash >= HALF));
    assert_eq!(hot["PartitionKey"], "hot");
    assert_eq!(hash_of_entry(cool), None);
    // It may go anywhere, so that no shard holds it up.
    assert_eq!(sink.lane(&keyed("hot")), None);
}

async fn records_are_delivered_in_order_by_sequence_number(client: Client) {
    let server = server().await;
    let sink = sink(&server, client).await;
    let payloads: [&[u8]; 3] = [b"{\"a\":1}", "é\n".as_bytes(), &[0xff, 0]];
    assert_eq!(sink.write(&payloads.map(record)).await, [DELIVERED; 3]);
    let puts = server.puts();
    assert_eq!(puts.len(), 1);
    let data: Vec<_> = puts[0].iter().map(data).collect();
    assert_eq!(data, payloads);
    let script = server.script.lock().unwrap();
    assert_eq!(script.seen.last().unwrap().body["StreamName"], "clicks");
}

async fn entry_results_win_over_failed_record_count(client: Client) {
    let server = server().await;
    let sink = sink(&server, client).await;
    let cases = [
        (stored(), DELIVERED),
        (failed("ProvisionedThroughputExceededException"), THROTTLED),
        (failed("InternalFailure"), UNAVAILABLE),
        (failed("FreshlyInvented"), UNAVAILABLE),
        (json!({}), UNKNOWN),
        (json!({"ShardId": "shardId-000000000000"}), UNKNOWN),
        (json!({"SequenceNumber": ""}), UNKNOWN),
        (json!({"SequenceNumber": null, "ErrorCode": null}), UNKNOWN),
        (
            json!({"SequenceNumber": "49", "ErrorCode": "InternalFailure"}),
            UNKNOWN,
        ),
        (stored(), DELIVERED),
    ];
    let (answers, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    server.next(Answer::Says(200, entries(answers)));
    let records: Vec<_> = expected.iter().map(|_| record("{}")).collect();
    assert_eq!(sink.write(&records).await, expected);
    let bare = json!({"Records": [stored()]}).to_string();
    server.next(Answer::Says(200, bare));
    assert_eq!(sink.write(&records[..1]).await, [DELIVERED]);
}

async fn a_mismatched_response_leaves_all_records_unknown(client: Client) {
    let server = server().await;
    let sink = sink(&server, client).await;
    let good = entries([stored(), stored(), stored()]);
    for answer in [
        Answer::Says(200, entries([stored(), stored()])),
        Answer::Says(200, entries([stored(), stored(), stored(), stored()])),
        Answer::Says(200, entries([])),
        Answer::Says(200, "{}".to_owned()),
        Answer::Says(200, String::new()),
        Answer::Says(200, "<html>good gateway</html>".to_owned()),
        Answer::Says(200, good[..good.len() - 20].to_owned()),
        Answer::Says(200, "null".to_owned()),
        Answer::Says(200, error("InternalFailure")),
        Answer::Says(200, good.replace("\"49\"", "49")),
        Answer::Says(200, format!("{good}{good}")),
        Answer::Says(200, "[]".to_owned()),
        Answer::Says(302, String::new()),
        Answer::BreaksOff(good.clone(), 0),
        Answer::BreaksOff(good.clone(), good.len() - 1),
        Answer::Resets,
    ] {
        let what = match &answer {
            Answer::Says(status, body) => format!("{status} {body}"),
            Answer::BreaksOff(_, part) => format!("breaks off after {part}"),
            _ => "resets".to_owned(),
        };
        server.next(answer);
        assert_eq!(sink.write(&three()).await, [UNKNOWN; 3], "{what}");
    }
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    assert_eq!(server.puts().len(), 17, "nothing is sent twice");
}

async fn a_timed_out_call_is_unknown(client: Client) {
    let server = server().await;
    let mut settings = settings(&server, client);
    settings.aws.attempt_timeout = Duration::from_millis(300);
    let sink = start(settings).await;
    server.next(Answer::Hangs);
    assert_eq!(sink.write(&three()).await, [UNKNOWN; 3]);
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
}

async fn a_refused_connection_is_unavailable_for_nothing_was_sent(client: Client) {
    let server = server().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(&server, client);
    settings.aws.endpoint_url = Some(format!("http://{}", gone.local_addr().unwrap()));
    drop(gone);
    let sink = start(settings).await;
    assert_eq!(sink.write(&three()).await, [UNAVAILABLE; 3]);
    let error = sink.check().await.unwrap_err();
    assert!(error.reason.contains("Connection refused"), "{error}");
    assert!(error.reason.ends_with("(unavailable)"), "{error}");
}

async fn the_error_of_a_whole_call_is_each_records_error(client: Client) {
    let server = server().await;
    let sink = sink(&server, client).await;
    for (status, code, cause) in [
        (
            400,
            "ProvisionedThroughputExceededException",
            Cause::Throttled,
        ),
        (
            400,
            "com.amazonaws.kinesis#ProvisionedThroughputExceededException",
            Cause::Throttled,
        ),
        (503, "SlowDown", Cause::Throttled),
        (400, "KMSThrottlingException", Cause::Throttled),
        (400, "AccessDeniedException", Cause::Denied),
        (400, "ExpiredTokenException", Cause::Denied),
        (403, "UnrecognizedClientException", Cause::Denied),
        (400, "ResourceNotFoundException", Cause::NotFound),
        (400, "KMSDisabledException", Cause::Unavailable),
        (400, "FreshlyInventedException", Cause::Unavailable),
        (500, "InternalFailure", Cause::Unavailable),
        (503, "ServiceUnavailable", Cause::Unavailable),
    ] {
        server.next(Answer::Says(status, error(code)));
        let expected = [RecordResult::Retry(cause); 3];
        assert_eq!(sink.write(&three()).await, expected, "{status} {code}");
    }
    for (status, body, cause) in [
        (500, "", Cause::Unavailable),
        (503, "<html>unavailable</html>", Cause::Unavailable),
        (502, "<html>bad gateway</html>", Cause::Unknown),
        (504, "", Cause::Unknown),
        (403, "", Cause::Denied),
        (413, "", Cause::Invalid),
    ] {
        server.next(Answer::Says(status, body.to_owned()));
        let expected = [RecordResult::Retry(cause); 3];
        assert_eq!(sink.write(&three()).await, expected, "{status} {body}");
    }
    // Front ends of the service name the error in a header.
    for (named, body, cause) in [
        ("ThrottlingException:http://internal/", "", Cause::Throttled),
        (
            "SlowDown",
            r#"{"__type":"AccessDeniedException"}"#,
            Cause::Throttled,
        ),
        ("ThrottlingException", "<html>", Cause::Unavailable),
    ] {
        let header = ("x-amzn-errortype", named.to_owned());
        server.next(Answer::SaysWith(400, header, body.to_owned()));
        let expected = [RecordResult::Retry(cause); 3];
        assert_eq!(sink.write(&three()).await, expected, "{named} {body}");
    }
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
}

async fn an_invalid_call_refuses_only_a_lone_record(client: Client) {
    let server = server().await;
    let sink = sink(&server, client).await;
    for code in ["ValidationException", "InvalidArgumentException"] {
        server.next(Answer::Says(400, error(code)));
        let apart = RecordResult::Retry(Cause::Invalid);
        assert_eq!(sink.write(&three()).await, [apart; 3]);
        server.next(Answer::Says(400, error(code)));
        let refused = RecordResult::Refused(Cause::Invalid);
        assert_eq!(sink.write(&[record("a")]).await, [refused]);
    }
}

async fn records_without_a_key_get_a_random_one(client: Client) {
    let server = server().await;
    let sink = sink(&server, client).await;
    let longest = "é".repeat(256);
    let records = [record("{}"), record("{}"), keyed("user 7"), keyed(&longest)];
    assert_eq!(sink.write(&records).await, [DELIVERED; 4]);
    let sent = &server.puts()[0];
    let keys: Vec<_> = sent
        .iter()
        .map(|entry| entry["PartitionKey"].as_str().unwrap())
        .collect();
    assert_eq!(keys[2..], ["user 7", longest.as_str()]);
    assert_ne!(keys[0], keys[1]);
    for key in &keys[..2] {
        assert_eq!(key.len(), RANDOM_KEY_BYTES);
        assert!(key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    }
}

async fn an_invalid_record_is_refused_before_the_call(client: Client) {
    let server = server().await;
    let sink = sink(&server, client).await;
    let limit = sink.limits().record_bytes_max;
    let mut not_utf8 = record("{}");
    not_utf8.key = Some(vec![0xff].into());
    let mut large = keyed("kk");
    large.payload = vec![b'x'; 1024 * 1024 - 1].into();
    let records = [
        record("first"),
        keyed(""),
        keyed(&"é".repeat(257)),
        not_utf8,
        large,
        record(vec![b'x'; limit]),
        record(vec![b'x'; limit + 1]),
        record("last"),
    ];
    let invalid = RecordResult::Refused(Cause::Invalid);
    let too_large = RecordResult::Refused(Cause::TooLarge);
    assert_eq!(
        sink.write(&records).await,
        [
            DELIVERED, invalid, invalid, invalid, too_large, DELIVERED, too_large, DELIVERED
        ]
    );
    assert_eq!(server.puts()[0].len(), 3);
    assert_eq!(sink.write(&records[1..2]).await, [invalid]);
    assert_eq!(sink.write(&[]).await, []);
    assert_eq!(server.puts().len(), 1, "a call without records is not made");
}

async fn an_auto_stream_gets_no_keys_until_refused(client: Client) {
    let server = server().await;
    server.script.lock().unwrap().describe =
        describe(json!({"RecordDistributionStrategy": "AUTO"}));
    let sink = sink(&server, client).await;
    let records = [record("{}"), keyed("user 7")];
    assert_eq!(sink.write(&records).await, [DELIVERED; 2]);
    for entry in &server.puts()[0] {
        assert!(entry.get("PartitionKey").is_none(), "{entry}");
    }
    server.script.lock().unwrap().describe = describe(json!({}));
    server.next(Answer::Says(400, error("ValidationException")));
    assert_eq!(
        sink.write(&records[..1]).await,
        [UNAVAILABLE],
        "no record is blamed"
    );
    assert_eq!(sink.write(&records).await, [DELIVERED; 2]);
    let sent = &server.puts()[2];
    assert_eq!(sent[1]["PartitionKey"], "user 7");
    assert_eq!(
        sent[0]["PartitionKey"].as_str().unwrap().len(),
        RANDOM_KEY_BYTES
    );
}

async fn kinesis_limits_follow_the_stream_and_include_random_keys(client: Client) {
    let server = server().await;
    let mut settings = settings(&server, client);
    settings.describe_interval = Duration::from_secs(1);
    settings.batch_bytes_max = BATCH_BYTES_CEILING;
    let sink = start(settings).await;
    let keys_bytes = 500 * RANDOM_KEY_BYTES;
    let mut limits = SinkLimits {
        batch_records_max: 500,
        batch_bytes_max: BATCH_BYTES_CEILING - keys_bytes,
        record_bytes_max: 1024 * 1024 - RANDOM_KEY_BYTES,
    };
    assert_eq!(sink.limits(), limits);
    for (kib, record_bytes_max) in [
        (json!(2048), 2048 * 1024 - RANDOM_KEY_BYTES),
        // A record has to fit into a call.
        (json!(10_240), limits.batch_bytes_max),
        // Beyond what the service documents: the default.
        (json!(10_241), 1024 * 1024 - RANDOM_KEY_BYTES),
    ] {
        server.script.lock().unwrap().describe = describe(json!({"MaxRecordSizeInKiB": kib}));
        limits.record_bytes_max = record_bytes_max;
        for _ in 0..300 {
            if sink.limits() == limits {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(sink.limits(), limits, "{kib}");
    }
}

async fn an_undescribable_stream_uses_defaults(client: Client) {
    let server = server().await;
    for answer in [json!({}), json!("nonsense")] {
        server.script.lock().unwrap().describe = answer;
        let sink = sink(&server, client).await;
        assert_eq!(
            sink.limits().record_bytes_max,
            1024 * 1024 - RANDOM_KEY_BYTES
        );
        assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
        assert!(sink.check().await.is_err());
    }
}

async fn check_describes_a_stream_without_writing(client: Client) {
    let server = server().await;
    server.script.lock().unwrap().describe = describe(json!({
        "RecordDistributionStrategy": "AUTO",
        "MaxRecordSizeInKiB": 2048,
    }));
    let sink = sink(&server, client).await;
    assert_eq!(
        sink.check().await.unwrap(),
        "kinesis stream clicks: ACTIVE, ON_DEMAND, 4 open shards, records up to 2048 KiB, \
         distribution AUTO, no keys"
    );
    assert!(server.puts().is_empty());
}

async fn a_stream_arn_is_sent_as_an_arn(client: Client) {
    let server = server().await;
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks";
    let mut settings = settings(&server, client);
    settings.stream = arn.to_owned();
    let sink = start(settings).await;
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    let script = server.script.lock().unwrap();
    for seen in &script.seen {
        assert_eq!(seen.body["StreamARN"], arn);
        assert!(seen.body.get("StreamName").is_none());
    }
}

#[tokio::test]
async fn settings_out_of_range_are_start_errors() {
    let good = || KinesisSettings::new("clicks");
    let endpoint = |url: &str| {
        let mut settings = good();
        settings.aws.endpoint_url = Some(url.to_owned());
        settings
    };
    for (settings, named) in [
        (KinesisSettings::new(""), ["`stream` is \"\"", "1 to 128"]),
        (
            KinesisSettings {
                batch_records_max: 501,
                ..good()
            },
            ["501", "500"],
        ),
        (
            KinesisSettings {
                batch_records_max: 0,
                ..good()
            },
            ["is 0", "1 to 500"],
        ),
        (
            KinesisSettings {
                batch_bytes_max: BATCH_BYTES_CEILING + 1,
                ..good()
            },
            ["10485761", "10485760"],
        ),
        (
            KinesisSettings {
                batch_bytes_max: 1023,
                ..good()
            },
            ["1023", "1024"],
        ),
        (
            KinesisSettings {
                describe_interval: Duration::from_millis(999),
                ..good()
            },
            ["0 s", "1 to 3600 s"],
        ),
        (
            KinesisSettings {
                describe_interval: Duration::MAX,
                ..good()
            },
            ["`describe_interval_s` is", "1 to 3600 s"],
        ),
        (endpoint("127.0.0.1:4567"), ["127.0.0.1:4567", "http://"]),
        (endpoint("ftp://host"), ["ftp://host", "https://"]),
        (endpoint("http://"), ["\"http://\"", "a host"]),
        (endpoint("http:///path"), ["http:///path", "a host"]),
        (endpoint("http://a host/"), ["http://a host/", "a host"]),
    ] {
        let error = KinesisSink::start(settings).await.err().unwrap();
        for part in named {
            assert!(error.reason.contains(part), "{error}");
        }
    }
}

async fn without_credentials_the_sink_starts_and_its_calls_are_denied(client: Client) {
    let server = server().await;
    let sink = KinesisSink::start_with(settings(&server, client), Some(scripted([])))
        .await
        .unwrap();
    let denied = RecordResult::Retry(Cause::Denied);
    assert_eq!(sink.write(&three()).await, [denied; 3]);
    let error = sink.check().await.unwrap_err();
    assert!(
        error.reason.contains("no AWS credentials were found yet"),
        "{error}"
    );
    assert!(server.script.lock().unwrap().seen.is_empty());
}

async fn old_credentials_stay_when_none_can_be_fetched(client: Client) {
    let server = server().await;
    let ended = std::time::SystemTime::UNIX_EPOCH;
    let old = Credentials::new("AKIDOLD", "secret", None, Some(ended), "test");
    let sink = KinesisSink::start_with(settings(&server, client), Some(scripted([old])))
        .await
        .unwrap();
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    assert!(server.last_authorization().contains("AKIDOLD"));
}

async fn refused_credentials_are_fetched_again_without_waiting_for_the_timer(client: Client) {
    let server = server().await;
    let one = ["AKIDONE", "AKIDTWO"].map(|id| {
        let end = std::time::SystemTime::now() + Duration::from_secs(86_400);
        Credentials::new(id, "secret", None, Some(end), "test")
    });
    let sink = KinesisSink::start_with(settings(&server, client), Some(scripted(one)))
        .await
        .unwrap();
    server.next(Answer::Says(400, error("ExpiredTokenException")));
    let denied = RecordResult::Retry(Cause::Denied);
    assert_eq!(sink.write(&three()).await, [denied; 3]);
    for _ in 0..300 {
        assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
        if server.last_authorization().contains("AKIDTWO") {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the second credentials were never used");
}

/// The environment belongs to the whole process, so what reads it runs in a process of its own:
/// this test binary again, with only `child` chosen.
async fn child(server: &Server, client: Client, environment: &[(&str, String)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "kinesis::tests::child_of_other_tests",
            "--nocapture",
        ])
        .env_clear()
        .env("SLUICE_TEST_CHILD", format!("http://{}", server.address))
        .env("SLUICE_TEST_CLIENT", client.of().0.word())
        .env("SLUICE_TEST_ENCODING", client.of().1.word())
        .env("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test]
async fn child_of_other_tests() {
    let Ok(server) = std::env::var("SLUICE_TEST_CHILD") else {
        return;
    };
    let variable = |name| std::env::var(name).unwrap();
    let mut settings = KinesisSettings {
        client: variable("SLUICE_TEST_CLIENT").parse().unwrap(),
        encoding: variable("SLUICE_TEST_ENCODING").parse().unwrap(),
        ..KinesisSettings::new("clicks")
    };
    if std::env::var_os("SLUICE_TEST_SET_ENDPOINT").is_some() {
        settings.aws.endpoint_url = Some(server);
    }
    let sink = KinesisSink::start(settings).await.unwrap();
    println!("found {:?}", sink.check().await);
    println!("put {:?}", sink.write(&three()).await);
}

async fn settings_win_over_the_aws_environment(client: Client) {
    let server = server().await;
    let here = format!("http://{}", server.address);
    // A port that was free a moment ago: nothing listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let cases = [
        vec![("AWS_ENDPOINT_URL", here.clone())],
        vec![
            ("AWS_ENDPOINT_URL_KINESIS", here),
            ("AWS_ENDPOINT_URL", nowhere.clone()),
        ],
        vec![
            ("SLUICE_TEST_SET_ENDPOINT", "1".to_owned()),
            ("AWS_ENDPOINT_URL_KINESIS", nowhere.clone()),
            ("AWS_ENDPOINT_URL", nowhere),
        ],
    ];
    for environment in cases {
        let found = child(&server, client, &environment).await;
        assert!(
            found.contains("found Ok(\"kinesis stream clicks: ACTIVE"),
            "{found}"
        );
        assert!(
            found.contains("put [Delivered, Delivered, Delivered]"),
            "{found}"
        );
        let authorization = server.last_authorization();
        assert!(
            authorization.contains("AKIDENVIRONMENT/"),
            "{authorization}"
        );
        assert!(
            authorization.contains("/us-east-1/kinesis/"),
            "{authorization}"
        );
    }
    child(
        &server,
        client,
        &[
            ("SLUICE_TEST_SET_ENDPOINT", "1".to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
        ],
    )
    .await;
    let authorization = server.last_authorization();
    assert!(
        authorization.contains("/eu-central-1/kinesis/"),
        "{authorization}"
    );
}

#[tokio::test]
async fn a_server_that_reads_no_cbor_gets_json() {
    let server = server().await;
    server.script.lock().unwrap().reads_cbor = false;
    let sink = sink(&server, Client::Cbor).await;
    assert_eq!(sink.write(&[record("a")]).await, [DELIVERED]);
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    let script = server.script.lock().unwrap();
    let puts = script
        .seen
        .iter()
        .filter(|seen| seen.target == "PutRecords");
    let in_cbor: Vec<bool> = puts.map(|seen| seen.is_cbor).collect();
    assert_eq!(in_cbor, [true, false, false], "CBOR is tried once");
}

#[tokio::test]
async fn a_foreign_server_error_to_cbor_is_not_repeated() {
    let server = server().await;
    let sink = sink(&server, Client::Cbor).await;
    // A gateway's: whether the service has the records is not known.
    server.script.lock().unwrap().reads_cbor = false;
    server.script.lock().unwrap().cbor_status = 502;
    assert_eq!(sink.write(&three()).await, [UNKNOWN; 3]);
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    assert_eq!(server.puts().len(), 2);
}
