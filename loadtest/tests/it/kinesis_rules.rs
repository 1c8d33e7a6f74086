//! The service's rules, each at its limit and one beyond.

use serde_json::{Value, json};
use sluice_loadtest::kinesis::{
    CALL_BYTES_MAX, CALL_RECORDS_MAX, Distribution, Emulator, EmulatorError, KEY_CHARS_MAX, Mode,
    Options, RECORD_BYTES_MAX, SHARDS_MAX,
};
use sluice_loadtest::wire;

/// An emulator whose shards do not throttle, so that only the rule under test speaks.
pub(crate) fn patient(options: Options) -> Emulator {
    Emulator::start(Options {
        shard_limits: false,
        ..options
    })
    .unwrap()
}

pub(crate) fn call(emulator: &Emulator, operation: &str, body: &[u8]) -> (u16, Value) {
    let target = format!("X-Amz-Target: Kinesis_20131202.{operation}");
    let reply = wire::post(&emulator.addr().to_string(), "/", &[&target], body).unwrap();
    (
        reply.status,
        serde_json::from_slice(&reply.body).unwrap_or(Value::Null),
    )
}

pub(crate) fn record(data: &[u8], key: &str) -> Value {
    let data = base64_simd::STANDARD.encode_to_string(data);
    json!({"Data": data, "PartitionKey": key})
}

pub(crate) fn put(emulator: &Emulator, records: &[Value]) -> (u16, Value) {
    let body = json!({"StreamName": "clicks", "Records": records});
    call(emulator, "PutRecords", body.to_string().as_bytes())
}

/// The error's code and message, after checking that nothing of the call was stored.
fn refused(emulator: &Emulator, records: &[Value]) -> (String, String) {
    let before = emulator.stats().stored;
    let (status, answer) = put(emulator, records);
    assert_eq!(status, 400, "{answer}");
    assert_eq!(emulator.stats().stored, before, "something was stored");
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("__type"), text("message"))
}

fn taken(emulator: &Emulator, records: &[Value]) -> Value {
    let (status, answer) = put(emulator, records);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["FailedRecordCount"], 0, "{answer}");
    assert_eq!(answer["Records"].as_array().unwrap().len(), records.len());
    answer
}

#[test]
fn put_records_accepts_500_records_at_most() {
    let emulator = patient(Options::default());
    let mut records: Vec<Value> = (0..CALL_RECORDS_MAX)
        .map(|at| record(b"x", &at.to_string()))
        .collect();
    taken(&emulator, &records);
    records.push(record(b"x", "one more"));
    let (code, message) = refused(&emulator, &records);
    assert_eq!(code, "ValidationException");
    assert!(message.contains("between 1 and 500, not 501"), "{message}");
}

#[test]
fn a_call_without_records_is_refused() {
    let emulator = patient(Options::default());
    assert_eq!(refused(&emulator, &[]).0, "ValidationException");
    let (status, answer) = call(&emulator, "PutRecords", br#"{"StreamName":"clicks"}"#);
    assert_eq!(
        (status, answer["__type"].as_str()),
        (400, Some("ValidationException"))
    );
}

#[test]
fn a_record_over_the_streams_maximum_refuses_the_whole_call() {
    for record_bytes_max in [1 << 20, RECORD_BYTES_MAX] {
        let emulator = patient(Options {
            record_bytes_max,
            ..Options::default()
        });
        let data = vec![b'x'; record_bytes_max - 1];
        taken(&emulator, &[record(&data, "k")]);
        let (code, message) = refused(&emulator, &[record(b"small", "k"), record(&data, "kk")]);
        assert_eq!(code, "InvalidArgumentException");
        let (actual, limit) = (record_bytes_max + 1, record_bytes_max);
        assert!(message.contains(&format!("{actual} bytes")), "{message}");
        assert!(
            message.contains(&format!("maximum is {limit}")),
            "{message}"
        );
    }
}

#[test]
fn put_records_accepts_10_mib_with_keys_at_most() {
    let emulator = patient(Options::default());
    let mut records = vec![record(&vec![b'x'; (1 << 20) - 1], "k"); 10];
    taken(&emulator, &records);
    records.push(record(b"", "k"));
    let (code, message) = refused(&emulator, &records);
    assert_eq!(code, "InvalidArgumentException");
    assert!(
        message.contains(&(CALL_BYTES_MAX + 1).to_string()),
        "{message}"
    );
}

#[test]
fn a_key_has_1_to_256_characters_not_bytes() {
    let emulator = patient(Options::default());
    taken(&emulator, &[record(b"x", &"\u{e4}".repeat(KEY_CHARS_MAX))]);
    taken(&emulator, &[record(b"x", &"k".repeat(KEY_CHARS_MAX))]);
    for key in [
        "\u{e4}".repeat(KEY_CHARS_MAX + 1),
        "k".repeat(KEY_CHARS_MAX + 1),
        String::new(),
    ] {
        let (code, message) = refused(&emulator, &[record(b"x", "k"), record(b"x", &key)]);
        assert_eq!(code, "ValidationException");
        assert!(
            message.contains("records.2.member.partitionKey"),
            "{message}"
        );
    }
    let (code, _) = refused(&emulator, &[json!({"Data": ""})]);
    assert_eq!(code, "ValidationException");
}

#[test]
fn explicit_hash_keys_are_decimals_below_2_to_128() {
    let emulator = patient(Options::default());
    let with = |hash: &str| json!({"Data": "", "PartitionKey": "a", "ExplicitHashKey": hash});
    let largest = u128::MAX.to_string();
    let answer = taken(
        &emulator,
        &[with("0"), with(&largest), with(&(1u128 << 127).to_string())],
    );
    let shards: Vec<&str> = (0..3)
        .map(|at| answer["Records"][at]["ShardId"].as_str().unwrap())
        .collect();
    assert_eq!(
        shards,
        [
            "shardId-000000000000",
            "shardId-000000000003",
            "shardId-000000000002"
        ]
    );
    let over = "340282366920938463463374607431768211456";
    assert_eq!(
        refused(&emulator, &[with(over)]).0,
        "InvalidArgumentException"
    );
    for hash in ["01", "", "-1", "1x"] {
        assert_eq!(
            refused(&emulator, &[with(hash)]).0,
            "ValidationException",
            "{hash}"
        );
    }
}

#[test]
fn a_key_goes_to_the_shard_of_its_md5_hash() {
    let emulator = patient(Options::default());
    // MD5 of a, b, c, d begins 0c, 92, 4a, 82: quarters 0, 2, 1, 2.
    let records = ["a", "b", "c", "d"].map(|key| record(b"x", key));
    let answer = taken(&emulator, &records);
    let shard = |at: usize| {
        answer["Records"][at]["ShardId"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        [shard(0), shard(1), shard(2), shard(3)].map(|id| id[19..].to_owned()),
        ["0", "2", "1", "2"]
    );
}

#[test]
fn auto_distribution_spreads_records_and_takes_them_without_keys() {
    let emulator = patient(Options {
        mode: Mode::OnDemand,
        distribution: Distribution::Auto,
        ..Options::default()
    });
    let mut records = vec![json!({"Data": "eA=="}); 6];
    records.extend(vec![record(b"x", "same"); 6]);
    taken(&emulator, &records);
    assert_eq!(emulator.stats().shard_stored, [3, 3, 3, 3]);
    let keys: Vec<Option<String>> = emulator
        .stored_records()
        .into_iter()
        .map(|record| record.key)
        .collect();
    assert_eq!(keys.iter().filter(|key| key.is_none()).count(), 6);
}

#[test]
fn a_shard_over_its_limit_throttles_only_its_records() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let full = vec![b'x'; (1 << 20) - 1];
    // Keys a and b are on different shards; time within a call stands still.
    let records = [
        record(&full, "a"),
        record(b"x", "a"),
        record(&full, "b"),
        record(b"y", "a"),
    ];
    let (status, answer) = put(&emulator, &records);
    assert_eq!(
        (status, answer["FailedRecordCount"].as_u64()),
        (200, Some(2))
    );
    for at in [0, 2] {
        assert!(answer["Records"][at]["SequenceNumber"].is_string(), "{at}");
        assert!(answer["Records"][at].get("ErrorCode").is_none(), "{at}");
    }
    for at in [1, 3] {
        let entry = &answer["Records"][at];
        assert_eq!(entry["ErrorCode"], "ProvisionedThroughputExceededException");
        assert!(
            entry["ErrorMessage"]
                .as_str()
                .unwrap()
                .contains("shardId-000000000000")
        );
        assert!(entry.get("SequenceNumber").is_none());
    }
    let stats = emulator.stats();
    assert_eq!((stats.stored, stats.throttled), (2, 2));
    assert_eq!(stats.shard_throttled, [2, 0, 0, 0]);

    let unlimited = patient(Options::default());
    taken(&unlimited, &records);
}

#[test]
fn sequence_numbers_grow_within_a_shard() {
    let emulator = patient(Options {
        shards: 1,
        ..Options::default()
    });
    let mut last = String::new();
    for _ in 0..3 {
        let answer = taken(&emulator, &vec![record(b"x", "k"); 5]);
        for entry in answer["Records"].as_array().unwrap() {
            let number = entry["SequenceNumber"].as_str().unwrap().to_owned();
            assert!(number > last, "{number} after {last}");
            last = number;
        }
    }
}

#[test]
fn a_dry_run_stores_nothing() {
    let emulator = patient(Options::default());
    let body = json!({"StreamName": "clicks", "DryRun": true, "Records": [record(b"x", "k")]});
    let (status, answer) = call(&emulator, "PutRecords", body.to_string().as_bytes());
    assert_eq!(
        (status, answer["__type"].as_str()),
        (400, Some("DryRunOperationException"))
    );
    assert_eq!(emulator.stats().stored, 0);
}

#[test]
fn wrong_calls_are_refused_with_the_services_codes() {
    let emulator = patient(Options::default());
    let code = |operation: &str, body: &str| {
        let (status, answer) = call(&emulator, operation, body.as_bytes());
        assert_eq!(status, 400, "{answer}");
        answer["__type"].as_str().unwrap().to_owned()
    };
    let one = r#""Records":[{"Data":"eA==","PartitionKey":"k"}]"#;
    assert_eq!(code("AddTagsToStream", "{}"), "UnknownOperationException");
    assert_eq!(code("PutRecords", "{"), "SerializationException");
    assert_eq!(
        code(
            "PutRecords",
            r#"{"StreamName":"clicks","Records":[{"Data":"e","PartitionKey":"k"}]}"#
        ),
        "SerializationException"
    );
    assert_eq!(
        code(
            "PutRecords",
            r#"{"StreamName":"clicks","Records":[{"PartitionKey":"k"}]}"#
        ),
        "ValidationException"
    );
    assert_eq!(
        code("PutRecords", &format!(r#"{{"StreamName":"other",{one}}}"#)),
        "ResourceNotFoundException"
    );
    assert_eq!(
        code("PutRecords", &format!("{{{one}}}")),
        "InvalidArgumentException"
    );
    assert_eq!(
        code("DescribeStreamSummary", "[]"),
        "SerializationException"
    );
    assert_eq!(
        code("GetRecords", r#"{"ShardIterator":"x"}"#),
        "InvalidArgumentException"
    );
    assert_eq!(
        code("GetRecords", r#"{"ShardIterator":"it:0:0","Limit":10001}"#),
        "ValidationException"
    );
    let shard = r#""StreamName":"clicks","ShardId":"shardId-000000000004""#;
    assert_eq!(
        code(
            "GetShardIterator",
            &format!(r#"{{{shard},"ShardIteratorType":"LATEST"}}"#)
        ),
        "ResourceNotFoundException"
    );
    assert_eq!(emulator.stats().errors["SerializationException"], 3);
}

#[test]
fn a_stream_is_named_by_its_arn_too() {
    let emulator = patient(Options::default());
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks";
    let body = json!({"StreamARN": arn, "Records": [record(b"x", "k")]});
    assert_eq!(
        call(&emulator, "PutRecords", body.to_string().as_bytes()).0,
        200
    );
}

#[test]
fn a_body_over_16_mib_is_refused_unread() {
    let emulator = patient(Options::default());
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: Kinesis_20131202.PutRecords\r\n\
         Content-Length: {}\r\n\r\n",
        (16 << 20) + 1
    );
    let reply = wire::exchange(emulator.addr(), request.as_bytes()).unwrap();
    assert_eq!(reply.status, 413);
    assert_eq!(reply.header("connection"), Some("close"));
}

#[test]
fn the_summary_tells_mode_size_limit_and_distribution() {
    let summary = |options: Options| {
        let emulator = patient(options);
        let (status, answer) = call(
            &emulator,
            "DescribeStreamSummary",
            br#"{"StreamName":"clicks"}"#,
        );
        assert_eq!(status, 200);
        answer["StreamDescriptionSummary"].clone()
    };
    let provisioned = summary(Options::default());
    assert_eq!(
        provisioned["StreamModeDetails"]["StreamMode"],
        "PROVISIONED"
    );
    assert_eq!(provisioned["MaxRecordSizeInKiB"], 1024);
    assert_eq!(provisioned["OpenShardCount"], 4);
    assert!(provisioned.get("RecordDistributionStrategy").is_none());
    let auto = summary(Options {
        mode: Mode::OnDemand,
        distribution: Distribution::Auto,
        record_bytes_max: RECORD_BYTES_MAX,
        ..Options::default()
    });
    assert_eq!(auto["StreamModeDetails"]["StreamMode"], "ON_DEMAND");
    assert_eq!(auto["MaxRecordSizeInKiB"], 10_240);
    assert_eq!(auto["RecordDistributionStrategy"], "AUTO");
}

#[test]
fn shards_are_listed_in_pages_and_cover_the_hash_space() {
    let emulator = patient(Options {
        shards: 2_500,
        ..Options::default()
    });
    let mut ask = json!({"StreamName": "clicks"});
    let (mut pages, mut next) = (vec![], Some(0u128));
    loop {
        let (_, page) = call(&emulator, "ListShards", ask.to_string().as_bytes());
        let shards = page["Shards"].as_array().unwrap();
        pages.push(shards.len());
        for shard in shards {
            let hash = |name: &str| -> u128 {
                shard["HashKeyRange"][name]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            };
            assert_eq!(Some(hash("StartingHashKey")), next);
            next = hash("EndingHashKey").checked_add(1);
        }
        match page.get("NextToken") {
            Some(token) => ask = json!({"NextToken": token}),
            None => break,
        }
    }
    assert_eq!(pages, [1_000, 1_000, 500]);
    assert_eq!(next, None);
}

#[test]
fn records_are_read_back_in_order_from_any_start() {
    let emulator = patient(Options {
        shards: 1,
        ..Options::default()
    });
    let records: Vec<Value> = (0..10u8).map(|at| record(&[at], "k")).collect();
    let answer = taken(&emulator, &records);
    let read = |start: Value, limit: usize| {
        let mut ask = json!({"StreamName": "clicks", "ShardId": "shardId-000000000000"});
        ask.as_object_mut()
            .unwrap()
            .extend(start.as_object().unwrap().clone());
        let (status, start) = call(&emulator, "GetShardIterator", ask.to_string().as_bytes());
        assert_eq!(status, 200, "{start}");
        let mut iterator = start["ShardIterator"].clone();
        let mut data = Vec::new();
        loop {
            let ask = json!({"ShardIterator": iterator, "Limit": limit});
            let (_, page) = call(&emulator, "GetRecords", ask.to_string().as_bytes());
            let found = page["Records"].as_array().unwrap();
            if found.is_empty() {
                return data;
            }
            assert!(found.len() <= limit);
            for record in found {
                assert_eq!(record["PartitionKey"], "k");
                let bytes = record["Data"].as_str().unwrap();
                data.extend(base64_simd::STANDARD.decode_to_vec(bytes).unwrap());
            }
            iterator = page["NextShardIterator"].clone();
        }
    };
    let all: Vec<u8> = (0..10).collect();
    assert_eq!(read(json!({"ShardIteratorType": "TRIM_HORIZON"}), 3), all);
    assert_eq!(
        read(
            json!({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 0.0}),
            10
        ),
        all
    );
    assert_eq!(read(json!({"ShardIteratorType": "LATEST"}), 3), [0u8; 0]);
    let fifth = answer["Records"][4]["SequenceNumber"].clone();
    for (kind, expected) in [("AT", &all[4..]), ("AFTER", &all[5..])] {
        let kind = format!("{kind}_SEQUENCE_NUMBER");
        let start = json!({"ShardIteratorType": kind, "StartingSequenceNumber": fifth});
        assert_eq!(read(start, 4), expected);
    }
}

#[test]
fn ids_beyond_retention_cannot_be_listed() {
    let emulator = patient(Options {
        shards: 1,
        retain_bytes_max: Some(10_000),
        ..Options::default()
    });
    taken(&emulator, &vec![record(&[b'x'; 1_000], "k"); 5]);
    assert!(emulator.stored_ids().is_ok());
    taken(&emulator, &vec![record(&[b'x'; 1_000], "k"); 10]);
    let stats = emulator.stats();
    assert_eq!(
        (stats.stored, stats.retained + stats.not_retained),
        (15, 15)
    );
    assert!(stats.retained_bytes <= 10_000);
    assert_eq!(
        emulator.stored_ids().unwrap_err().missing,
        stats.not_retained
    );

    let discard = patient(Options {
        retain_bytes_max: None,
        ..Options::default()
    });
    taken(&discard, &[record(b"x", "k")]);
    assert_eq!((discard.stats().stored, discard.stats().retained), (1, 0));
}

#[test]
fn options_out_of_range_are_refused_with_the_range() {
    let error = |options: Options| Emulator::start(options).unwrap_err().to_string();
    for shards in [0, SHARDS_MAX + 1] {
        assert_eq!(
            error(Options {
                shards,
                ..Options::default()
            }),
            format!("shards must be between 1 and 10000, not {shards}")
        );
    }
    for record_bytes_max in [(1 << 20) - 1, RECORD_BYTES_MAX + 1] {
        assert!(
            error(Options {
                record_bytes_max,
                ..Options::default()
            })
            .contains("record_bytes_max must be between")
        );
    }
    assert!(
        error(Options {
            distribution: Distribution::Auto,
            ..Options::default()
        })
        .contains("auto needs mode on-demand")
    );
}

#[test]
fn a_port_in_use_is_an_error_until_freed() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let options = Options {
        listen: emulator.addr(),
        ..Options::default()
    };
    let error = Emulator::start(options.clone()).unwrap_err();
    assert!(
        matches!(
            error,
            EmulatorError::Service(sluice_loadtest::service::EmulatorError::Listen { .. })
        ),
        "{error}"
    );
    emulator.stop().unwrap();
    let again = Emulator::start(options).unwrap();
    assert_eq!(put(&again, &[record(b"x", "k")]).0, 200);
}

#[tokio::test]
async fn an_emulator_starts_and_stops_inside_an_async_runtime() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let options = Options {
        listen: emulator.addr(),
        ..Options::default()
    };
    assert!(Emulator::start(options).is_err());
    emulator.stop().unwrap();
    drop(Emulator::start(Options::default()).unwrap());
}

#[test]
fn several_threads_serve_one_stream() {
    let emulator = patient(Options {
        threads: 2,
        ..Options::default()
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    taken(&emulator, &vec![record(b"x", "k"); 50]);
                }
            });
        }
    });
    let numbers: Vec<u64> = emulator
        .stored_records()
        .iter()
        .map(|record| record.number)
        .collect();
    assert_eq!(numbers, (1..=4_000).collect::<Vec<_>>());
}
