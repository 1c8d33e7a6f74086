//! A stream whose shards, mode and settings change while it is written and read.

use crate::kinesis_rules::{call, patient, put, record};
use serde_json::{Value, json};
use sluice_loadtest::kinesis::{Distribution, Emulator, Mode, Options, UPDATE_MAX};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks";

/// Changes come at once.
fn instant(options: Options) -> Emulator {
    patient(Options {
        update: Duration::ZERO,
        ..options
    })
}

fn shard_name(id: u32) -> String {
    format!("shardId-{id:012}")
}

/// The answer to a call that must succeed.
fn ask(emulator: &Emulator, operation: &str, body: Value) -> Value {
    let (status, answer) = call(emulator, operation, body.to_string().as_bytes());
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

/// The code of a call that must fail.
fn refusal(emulator: &Emulator, operation: &str, body: Value) -> String {
    let (status, answer) = call(emulator, operation, body.to_string().as_bytes());
    assert_eq!(status, 400, "{operation}: {answer}");
    assert!(!answer["message"].as_str().unwrap().is_empty());
    answer["__type"].as_str().unwrap().to_owned()
}

fn split(shard: u32, at: u128) -> Value {
    json!({
        "StreamName": "clicks",
        "ShardToSplit": shard_name(shard),
        "NewStartingHashKey": at.to_string(),
    })
}

fn merge(first: u32, second: u32) -> Value {
    json!({
        "StreamName": "clicks",
        "ShardToMerge": shard_name(first),
        "AdjacentShardToMerge": shard_name(second),
    })
}

fn count(target: u64) -> Value {
    json!({"StreamName": "clicks", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"})
}

fn ids(listed: &Value) -> Vec<u32> {
    let shards = listed["Shards"].as_array().unwrap();
    shards
        .iter()
        .map(|shard| shard["ShardId"].as_str().unwrap()[8..].parse().unwrap())
        .collect()
}

fn list(emulator: &Emulator, filter: Value) -> Vec<u32> {
    let body = json!({"StreamName": "clicks", "ShardFilter": filter});
    ids(&ask(emulator, "ListShards", body))
}

fn summary(emulator: &Emulator) -> Value {
    let answer = ask(
        emulator,
        "DescribeStreamSummary",
        json!({"StreamName": "clicks"}),
    );
    answer["StreamDescriptionSummary"].clone()
}

fn start(emulator: &Emulator, shard: u32, kind: &str) -> Value {
    let body = json!({
        "StreamName": "clicks", "ShardId": shard_name(shard), "ShardIteratorType": kind,
    });
    ask(emulator, "GetShardIterator", body)["ShardIterator"].clone()
}

fn read(emulator: &Emulator, iterator: &Value) -> Value {
    ask(emulator, "GetRecords", json!({"ShardIterator": iterator}))
}

/// The shard that a record with this hash goes to.
fn shard_of(emulator: &Emulator, hash: u128) -> String {
    let record = json!({"Data": "eA==", "PartitionKey": "k", "ExplicitHashKey": hash.to_string()});
    let (status, answer) = put(emulator, &[record]);
    assert_eq!(status, 200, "{answer}");
    answer["Records"][0]["ShardId"].as_str().unwrap().to_owned()
}

#[test]
fn a_split_shard_is_read_before_its_children() {
    let emulator = instant(Options {
        shards: 2,
        ..Options::default()
    });
    let point = 1 << 125;
    assert_eq!(shard_of(&emulator, 5), shard_name(0));
    let latest = start(&emulator, 0, "LATEST");
    ask(&emulator, "SplitShard", split(0, point));
    assert_eq!(shard_of(&emulator, 5), shard_name(2));
    assert_eq!(shard_of(&emulator, point), shard_name(3));
    assert_eq!(shard_of(&emulator, u128::MAX), shard_name(1));

    let page = read(&emulator, &start(&emulator, 0, "TRIM_HORIZON"));
    assert_eq!(page["Records"].as_array().unwrap().len(), 1);
    assert!(page.get("NextShardIterator").is_none(), "{page}");
    assert_eq!(page["MillisBehindLatest"], 0);
    let children = page["ChildShards"].as_array().unwrap();
    assert_eq!(children[0]["ShardId"], shard_name(2));
    assert_eq!(children[1]["ShardId"], shard_name(3));
    assert_eq!(children[1]["ParentShards"], json!([shard_name(0)]));
    let range = &children[1]["HashKeyRange"];
    assert_eq!(range["StartingHashKey"], point.to_string());
    assert_eq!(range["EndingHashKey"], ((1u128 << 127) - 1).to_string());

    // An iterator from before the split, with nothing behind it, ends too.
    let page = read(&emulator, &latest);
    assert_eq!(page["Records"], json!([]));
    assert!(page.get("NextShardIterator").is_none());
    // One in an open shard goes on.
    let page = read(&emulator, &start(&emulator, 2, "TRIM_HORIZON"));
    assert!(page["NextShardIterator"].is_string());
    assert!(page.get("ChildShards").is_none());
}

#[test]
fn child_shards_come_with_the_last_record() {
    let emulator = instant(Options {
        shards: 1,
        ..Options::default()
    });
    put(&emulator, &vec![record(b"x", "k"); 3]);
    ask(&emulator, "SplitShard", split(0, 1 << 127));
    let mut iterator = start(&emulator, 0, "TRIM_HORIZON");
    for left in [2, 1, 0] {
        let body = json!({"ShardIterator": iterator, "Limit": 1});
        let page = ask(&emulator, "GetRecords", body);
        assert_eq!(page["Records"].as_array().unwrap().len(), 1);
        assert_eq!(page.get("ChildShards").is_some(), left == 0);
        iterator = page["NextShardIterator"].clone();
        assert_eq!(iterator.is_null(), left == 0);
    }
}

#[test]
fn a_merged_shard_names_both_parents() {
    let emulator = instant(Options::default());
    assert_eq!(shard_of(&emulator, 1 << 126), shard_name(1));
    ask(&emulator, "MergeShards", merge(1, 2));
    assert_eq!(shard_of(&emulator, 1 << 126), shard_name(4));
    assert_eq!(shard_of(&emulator, 1 << 127), shard_name(4));
    let listed = ask(&emulator, "ListShards", json!({"StreamName": "clicks"}));
    let shards = &listed["Shards"];
    assert_eq!(shards[4]["ParentShardId"], shard_name(1));
    assert_eq!(shards[4]["AdjacentParentShardId"], shard_name(2));
    assert!(shards[0].get("ParentShardId").is_none());
    let numbers = |shard: usize| &shards[shard]["SequenceNumberRange"];
    assert!(numbers(0).get("EndingSequenceNumber").is_none());
    let page = read(&emulator, &start(&emulator, 1, "TRIM_HORIZON"));
    let last = &page["Records"][0]["SequenceNumber"];
    assert_eq!(&numbers(1)["EndingSequenceNumber"], last);
    assert!(
        numbers(4)["StartingSequenceNumber"].as_str() > numbers(1)["EndingSequenceNumber"].as_str()
    );
    let parents = json!([shard_name(1), shard_name(2)]);
    assert_eq!(page["ChildShards"][0]["ParentShards"], parents);
    let described = ask(&emulator, "DescribeStream", json!({"StreamName": "clicks"}));
    assert_eq!(&described["StreamDescription"]["Shards"], shards);
    assert_eq!(summary(&emulator)["OpenShardCount"], 3);
    assert_eq!(emulator.stats().open_shards, 3);
}

#[test]
fn an_updating_stream_refuses_other_changes() {
    let emulator = patient(Options {
        update: UPDATE_MAX,
        ..Options::default()
    });
    assert_eq!(summary(&emulator)["StreamStatus"], "ACTIVE");
    ask(&emulator, "SplitShard", split(0, 1 << 125));
    assert_eq!(summary(&emulator)["StreamStatus"], "UPDATING");
    assert_eq!(summary(&emulator)["OpenShardCount"], 4);
    assert_eq!(shard_of(&emulator, 0), shard_name(0));
    for (operation, body) in [
        ("SplitShard", split(1, 1 << 126 | 1 << 100)),
        ("MergeShards", merge(1, 2)),
        ("UpdateShardCount", count(8)),
        (
            "UpdateMaxRecordSize",
            json!({"StreamARN": ARN, "MaxRecordSizeInKiB": 2_048}),
        ),
        (
            "UpdateStreamMode",
            json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}),
        ),
    ] {
        assert_eq!(
            refusal(&emulator, operation, body),
            "ResourceInUseException",
            "{operation}"
        );
    }
}

#[test]
fn an_update_ends_by_itself() {
    let emulator = patient(Options {
        update: Duration::from_millis(20),
        ..Options::default()
    });
    ask(&emulator, "UpdateShardCount", count(8));
    let end = Instant::now() + Duration::from_secs(20);
    while summary(&emulator)["StreamStatus"] != "ACTIVE" {
        assert!(Instant::now() < end, "still updating");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(summary(&emulator)["OpenShardCount"], 8);
}

#[test]
fn wrong_changes_are_refused_with_the_services_codes() {
    let emulator = instant(Options::default());
    let (argument, missing) = ("InvalidArgumentException", "ResourceNotFoundException");
    for (operation, body, code) in [
        ("SplitShard", split(9, 5), missing),
        ("SplitShard", split(0, 0), argument),
        ("SplitShard", split(0, 1 << 126), argument),
        ("MergeShards", merge(0, 2), argument),
        ("MergeShards", merge(0, 0), argument),
        ("MergeShards", merge(0, 4), missing),
        ("UpdateShardCount", count(9), argument),
        ("UpdateShardCount", count(1), argument),
        ("UpdateShardCount", count(0), "ValidationException"),
        (
            "UpdateShardCount",
            json!({"StreamName": "clicks"}),
            "SerializationException",
        ),
        (
            "UpdateShardCount",
            json!({"StreamName": "other", "TargetShardCount": 8, "ScalingType": "UNIFORM_SCALING"}),
            missing,
        ),
    ] {
        assert_eq!(refusal(&emulator, operation, body.clone()), code, "{body}");
    }
    let mut odd = split(0, 5);
    odd["NewStartingHashKey"] = "007".into();
    assert_eq!(
        refusal(&emulator, "SplitShard", odd.clone()),
        "ValidationException"
    );
    odd["NewStartingHashKey"] = "9".repeat(39).into();
    assert_eq!(refusal(&emulator, "SplitShard", odd), argument);
    ask(&emulator, "SplitShard", split(0, 1 << 125));
    assert_eq!(
        refusal(&emulator, "SplitShard", split(0, 1 << 125)),
        argument
    );
    assert_eq!(refusal(&emulator, "MergeShards", merge(0, 1)), argument);
}

#[test]
fn update_shard_count_has_its_documented_limits() {
    let emulator = instant(Options::default());
    let answer = ask(&emulator, "UpdateShardCount", count(8));
    assert_eq!(
        (&answer["CurrentShardCount"], &answer["TargetShardCount"]),
        (&json!(4), &json!(8))
    );
    assert_eq!(answer["StreamARN"], ARN);
    for target in [4, 5, 3, 6, 4, 8, 4, 8, 4] {
        ask(&emulator, "UpdateShardCount", count(target));
        assert_eq!(emulator.stats().open_shards, target);
    }
    assert_eq!(
        refusal(&emulator, "UpdateShardCount", count(5)),
        "LimitExceededException"
    );
}

#[test]
fn on_demand_streams_refuse_resharding() {
    let emulator = instant(Options {
        mode: Mode::OnDemand,
        ..Options::default()
    });
    for (operation, body) in [
        ("SplitShard", split(0, 1 << 125)),
        ("MergeShards", merge(0, 1)),
        ("UpdateShardCount", count(8)),
    ] {
        assert_eq!(refusal(&emulator, operation, body), "ValidationException");
    }
}

#[test]
fn shards_are_listed_by_when_they_were_open() {
    let emulator = instant(Options {
        shards: 2,
        ..Options::default()
    });
    let before = std::time::SystemTime::now();
    let before = before.duration_since(std::time::UNIX_EPOCH).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    ask(&emulator, "SplitShard", split(1, 3 << 126));
    ask(&emulator, "MergeShards", merge(0, 2));
    let kind = |kind: &str| list(&emulator, json!({"Type": kind}));
    assert_eq!(kind("AT_LATEST"), [3, 4]);
    assert_eq!(kind("AT_TRIM_HORIZON"), [0, 1]);
    assert_eq!(kind("FROM_TRIM_HORIZON"), [0, 1, 2, 3, 4]);
    let at = |kind: &str, time: f64| list(&emulator, json!({"Type": kind, "Timestamp": time}));
    assert_eq!(at("AT_TIMESTAMP", before.as_secs_f64()), [0, 1]);
    assert_eq!(at("FROM_TIMESTAMP", before.as_secs_f64()), [0, 1, 2, 3, 4]);
    let after = json!({"Type": "AFTER_SHARD_ID", "ShardId": shard_name(2)});
    assert_eq!(list(&emulator, after), [3, 4]);
    let body = json!({"StreamName": "clicks", "ExclusiveStartShardId": shard_name(3)});
    assert_eq!(ids(&ask(&emulator, "ListShards", body)), [4]);

    let first = json!({
        "StreamName": "clicks", "MaxResults": 1, "ShardFilter": {"Type": "AT_LATEST"},
    });
    let page = ask(&emulator, "ListShards", first);
    assert_eq!(ids(&page), [3]);
    let next = json!({"NextToken": page["NextToken"], "MaxResults": 1});
    let page = ask(&emulator, "ListShards", next);
    assert_eq!(ids(&page), [4]);
    assert!(page.get("NextToken").is_none());

    for (member, value) in [
        ("StreamName", json!("clicks")),
        ("StreamARN", json!(ARN)),
        ("ShardFilter", json!({"Type": "AT_LATEST"})),
        ("ExclusiveStartShardId", json!(shard_name(0))),
    ] {
        let body = json!({"NextToken": "all:0:1", member: value});
        assert_eq!(
            refusal(&emulator, "ListShards", body),
            "InvalidArgumentException"
        );
    }
    for filter in [
        json!({"Type": "AT_TIMESTAMP"}),
        json!({"Type": "AT_TIMESTAMP", "Timestamp": 1e12}),
        json!({"Type": "AFTER_SHARD_ID"}),
        json!({"Type": "AFTER_SHARD_ID", "ShardId": "0"}),
        json!({"Type": "AT_LATEST", "ShardId": shard_name(0)}),
        json!({"Type": "AT_LATEST", "Timestamp": 1.0}),
    ] {
        let body = json!({"StreamName": "clicks", "ShardFilter": filter});
        assert_eq!(
            refusal(&emulator, "ListShards", body),
            "InvalidArgumentException"
        );
    }
    let body = json!({"StreamName": "clicks", "ShardFilter": {"Type": "NOW"}});
    assert_eq!(
        refusal(&emulator, "ListShards", body),
        "ValidationException"
    );
}

#[test]
fn a_stream_is_described_in_pages_of_100_shards() {
    let emulator = instant(Options {
        shards: 150,
        ..Options::default()
    });
    let page = |body: Value| ask(&emulator, "DescribeStream", body)["StreamDescription"].clone();
    let first = page(json!({"StreamName": "clicks", "Limit": 10_000}));
    assert_eq!(ids(&first), (0..100).collect::<Vec<_>>());
    assert_eq!(first["HasMoreShards"], true);
    let body = json!({"StreamName": "clicks", "ExclusiveStartShardId": shard_name(99)});
    let second = page(body);
    assert_eq!(ids(&second), (100..150).collect::<Vec<_>>());
    assert_eq!(second["HasMoreShards"], false);
}

/// Reads the stream as its readers do: a shard after all of its parents, until the open ones are
/// empty.
fn read_all(emulator: &Emulator) -> HashMap<String, Vec<String>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    let mut waiting = list(emulator, json!({"Type": "AT_TRIM_HORIZON"}));
    let mut ended_parents: HashMap<u32, usize> = HashMap::new();
    while let Some(shard) = waiting.pop() {
        let mut iterator = start(emulator, shard, "TRIM_HORIZON");
        while !iterator.is_null() {
            let page = read(emulator, &iterator);
            let records = page["Records"].as_array().unwrap();
            for record in records {
                let key = record["PartitionKey"].as_str().unwrap().to_owned();
                let number = record["SequenceNumber"].as_str().unwrap().to_owned();
                found.entry(key).or_default().push(number);
            }
            for child in page["ChildShards"].as_array().into_iter().flatten() {
                let id: u32 = child["ShardId"].as_str().unwrap()[8..].parse().unwrap();
                let parents = child["ParentShards"].as_array().unwrap().len();
                let ended = ended_parents.entry(id).or_default();
                *ended += 1;
                if *ended == parents {
                    waiting.push(id);
                }
            }
            if records.is_empty() {
                break;
            }
            iterator = page["NextShardIterator"].clone();
        }
    }
    found
}

#[test]
fn records_put_during_resharding_are_read_exactly_once() {
    let emulator = patient(Options {
        update: Duration::from_millis(3),
        threads: 2,
        ..Options::default()
    });
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let emulator = &emulator;
            scope.spawn(move || {
                for call in 0..40 {
                    let records: Vec<Value> = (0..25)
                        .map(|at| record(b"x", &format!("{writer}-{call}-{at}")))
                        .collect();
                    let (status, answer) = put(emulator, &records);
                    assert_eq!((status, &answer["FailedRecordCount"]), (200, &json!(0)));
                }
            });
        }
        for target in [8, 5, 7, 4, 6, 3] {
            ask(&emulator, "UpdateShardCount", count(target));
            while summary(&emulator)["StreamStatus"] != "ACTIVE" {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let found = read_all(&emulator);
    assert_eq!(found.len(), 3_000);
    assert!(found.values().all(|numbers| numbers.len() == 1));
    assert_eq!(emulator.stats().stored, 3_000);
}

#[test]
fn key_order_survives_splits_and_merges() {
    let emulator = instant(Options {
        shards: 2,
        ..Options::default()
    });
    for target in [4, 3, 5, 4, 2] {
        put(&emulator, &vec![record(b"x", "same"); 10]);
        ask(&emulator, "UpdateShardCount", count(target));
    }
    put(&emulator, &vec![record(b"x", "same"); 10]);
    let numbers = &read_all(&emulator)["same"];
    assert_eq!(numbers.len(), 60);
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn an_on_demand_stream_doubles_under_load() {
    let emulator = patient(Options {
        mode: Mode::OnDemand,
        update: Duration::ZERO,
        on_demand_period: Duration::from_millis(100),
        ..Options::default()
    });
    let records = vec![record(&[b'x'; 20_000], "k"); 100];
    let end = Instant::now() + Duration::from_secs(30);
    while emulator.stats().open_shards < 8 {
        assert!(Instant::now() < end, "still 4 shards");
        assert_eq!(put(&emulator, &records).0, 200);
    }
    let listed = ask(&emulator, "ListShards", json!({"StreamName": "clicks"}));
    assert_eq!(listed["Shards"][4]["ParentShardId"], shard_name(0));

    let idle = patient(Options {
        mode: Mode::OnDemand,
        on_demand_period: Duration::from_millis(100),
        ..Options::default()
    });
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(idle.stats().open_shards, 4);
}

#[test]
fn stream_mode_switches_twice_a_day() {
    let emulator = instant(Options::default());
    let mode = |mode: &str| json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": mode}});
    for wanted in ["ON_DEMAND", "PROVISIONED"] {
        ask(&emulator, "UpdateStreamMode", mode(wanted));
        let summary = summary(&emulator);
        assert_eq!(summary["StreamModeDetails"]["StreamMode"], wanted);
        assert_eq!(summary["OpenShardCount"], 4);
    }
    assert_eq!(
        refusal(&emulator, "UpdateStreamMode", mode("ON_DEMAND")),
        "LimitExceededException"
    );
    assert_eq!(
        refusal(&emulator, "UpdateStreamMode", mode("BOTH")),
        "ValidationException"
    );
}

#[test]
fn max_record_size_of_a_stream_changes() {
    let emulator = instant(Options::default());
    let size = |kib: usize| json!({"StreamARN": ARN, "MaxRecordSizeInKiB": kib});
    let large = [record(&vec![b'x'; 2 << 20], "k")];
    assert_eq!(put(&emulator, &large).0, 400);
    ask(&emulator, "UpdateMaxRecordSize", size(10_240));
    assert_eq!(put(&emulator, &large).0, 200);
    assert_eq!(summary(&emulator)["MaxRecordSizeInKiB"], 10_240);
    ask(&emulator, "UpdateMaxRecordSize", size(1_024));
    assert_eq!(put(&emulator, &large).0, 400);
    for kib in [1_023, 10_241] {
        assert_eq!(
            refusal(&emulator, "UpdateMaxRecordSize", size(kib)),
            "ValidationException"
        );
    }
}

#[test]
fn record_distribution_changes_with_the_next_call() {
    let emulator = instant(Options {
        mode: Mode::OnDemand,
        ..Options::default()
    });
    let set = |strategy: &str| json!({"StreamARN": ARN, "RecordDistributionStrategy": strategy});
    let operation = "UpdateStreamRecordDistributionStrategy";
    let keyless = vec![json!({"Data": "eA=="}); 4];
    assert_eq!(put(&emulator, &keyless).0, 400);
    ask(&emulator, operation, set("AUTO"));
    assert_eq!(put(&emulator, &keyless).0, 200);
    assert_eq!(emulator.stats().shard_stored, [1, 1, 1, 1]);
    let page = read(&emulator, &start(&emulator, 0, "TRIM_HORIZON"));
    assert_eq!(page["Records"][0]["PartitionKey"], Value::Null);
    assert_eq!(summary(&emulator)["RecordDistributionStrategy"], "AUTO");
    let provisioned = json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": "PROVISIONED"}});
    assert_eq!(
        refusal(&emulator, "UpdateStreamMode", provisioned),
        "InvalidArgumentException"
    );
    ask(&emulator, operation, set("USER_PARTITION_KEY"));
    assert_eq!(put(&emulator, &keyless).0, 400);
    assert_eq!(
        refusal(&emulator, operation, set("RANDOM")),
        "ValidationException"
    );

    let fixed = instant(Options::default());
    assert_eq!(
        refusal(&fixed, operation, set("AUTO")),
        "InvalidArgumentException"
    );
}

#[test]
fn auto_distribution_goes_on_over_new_shards() {
    let emulator = instant(Options {
        shards: 1,
        ..Options::default()
    });
    ask(&emulator, "UpdateShardCount", count(2));
    let mode = json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ask(&emulator, "UpdateStreamMode", mode);
    let auto = json!({"StreamARN": ARN, "RecordDistributionStrategy": "AUTO"});
    ask(&emulator, "UpdateStreamRecordDistributionStrategy", auto);
    put(&emulator, &vec![json!({"Data": "eA=="}); 10]);
    assert_eq!(emulator.stats().shard_stored, [0, 5, 5]);
}

#[test]
fn options_of_a_changing_stream_are_refused_out_of_range() {
    let error = |options: Options| Emulator::start(options).unwrap_err().to_string();
    let update = UPDATE_MAX + Duration::from_millis(1);
    assert_eq!(
        error(Options {
            update,
            ..Options::default()
        }),
        "update_ms must be between 0 and 3600000, not 3600001"
    );
    let on_demand_period = Duration::from_millis(99);
    assert_eq!(
        error(Options {
            on_demand_period,
            ..Options::default()
        }),
        "on_demand_period_ms must be between 100 and 86400000, not 99"
    );
    for stream in ["", "a b", "a/b", "\u{e4}", &"n".repeat(129)] {
        let stream = stream.to_owned();
        assert!(
            error(Options {
                stream,
                distribution: Distribution::Auto,
                ..Options::default()
            })
            .contains("stream must be 1 to 128 of a-z")
        );
    }
}
