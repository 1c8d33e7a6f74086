//! Records that go in containers.

use super::*;

async fn aggregating(server: &Server, client: Client) -> KinesisSink {
    start(KinesisSettings {
        aggregate: true,
        aggregate_bytes_max: 60_000,
        ..settings(server, client)
    })
    .await
}

/// By `md5sum`, "hot" is of the first shard, 2736…, "1" and "0" are of the second, c4ca… and cfcd….
fn five() -> Vec<Record> {
    ["hot", "1", "0", "1", "hot"].map(keyed).into()
}

fn is_container(entry: &Value) -> bool {
    data(entry).starts_with(&[0xf3, 0x89, 0x9a, 0xc2])
}

/// Of the first call, how many entries are containers and how many are not.
fn shapes(puts: &[Vec<Value>]) -> (usize, usize) {
    let containers = puts[0].iter().filter(|entry| is_container(entry)).count();
    (containers, puts[0].len() - containers)
}

pub(super) async fn the_result_of_a_container_is_that_of_its_records(client: Client) {
    let server = two_shards().await;
    let sink = aggregating(&server, client).await;
    let throttled = failed("ProvisionedThroughputExceededException");
    server.next(Answer::Says(200, entries([throttled, stored()])));
    let results = sink.write(&five()).await;
    assert_eq!(
        results,
        [THROTTLED, DELIVERED, DELIVERED, DELIVERED, THROTTLED]
    );
    let puts = server.puts();
    assert_eq!(shapes(&puts), (2, 0));
    for (entry, range) in puts[0].iter().zip([0..HALF, HALF..u128::MAX]) {
        assert_eq!(entry["PartitionKey"], "a");
        assert!(hash_of_entry(entry).is_some_and(|hash| range.contains(&hash)));
    }
    // They are tried again, with whatever else is there by then.
    assert_eq!(
        sink.write(&[keyed("hot"), keyed("hot")]).await,
        [DELIVERED; 2]
    );
}

pub(super) async fn a_lone_record_of_a_shard_goes_as_it_is(client: Client) {
    let server = two_shards().await;
    let sink = aggregating(&server, client).await;
    let results = sink.write(&[keyed("hot"), keyed("1"), keyed("0")]).await;
    assert_eq!(results, [DELIVERED; 3]);
    let puts = server.puts();
    assert_eq!(shapes(&puts), (1, 1));
    assert_eq!(puts[0][0]["PartitionKey"], "hot");
    assert_eq!(data(&puts[0][0]), b"{}");
    assert_eq!(hash_of_entry(&puts[0][0]), None);
}

pub(super) async fn records_without_a_key_share_a_container_outside_hot_shards(client: Client) {
    let server = two_shards().await;
    let sink = aggregating(&server, client).await;
    throttle(&server, &sink).await;
    for _ in 0..8 {
        let mut records: Vec<Record> = three().into();
        records.push(keyed("hot"));
        sink.write(&records).await;
    }
    let puts = server.puts();
    assert_eq!(puts.len(), 9);
    for call in &puts[1..] {
        assert_eq!(call.len(), 2);
        assert!(is_container(&call[0]) && !is_container(&call[1]));
        assert!(hash_of_entry(&call[0]).is_some_and(|hash| hash >= HALF));
    }
}

pub(super) async fn containers_stay_within_their_size_and_smaller_on_hot_shards(client: Client) {
    let server = two_shards().await;
    let sink = aggregating(&server, client).await;
    let large = |key: &str| Record {
        payload: vec![b'x'; 10_000].into(),
        ..keyed(key)
    };
    let twelve = || -> Vec<Record> { (0..12).map(|_| large("hot")).collect() };
    assert_eq!(sink.write(&twelve()).await, [DELIVERED; 12]);
    throttle(&server, &sink).await;
    assert_eq!(sink.write(&twelve()).await, [DELIVERED; 12]);
    let puts = server.puts();
    let bytes =
        |call: &[Value]| -> Vec<usize> { call.iter().map(|entry| data(entry).len() + 1).collect() };
    let (free, hot) = (bytes(&puts[0]), bytes(&puts[2]));
    assert_eq!((free.len(), hot.len()), (3, 6));
    assert!(free.iter().all(|bytes| *bytes <= 60_000), "{free:?}");
    assert!(hot.iter().all(|bytes| *bytes <= PUT_UNIT_BYTES), "{hot:?}");
}

pub(super) async fn more_containers_than_a_call_takes_make_several_calls(client: Client) {
    let server = two_shards().await;
    let sink = start(KinesisSettings {
        aggregate: true,
        batch_records_max: 1,
        ..settings(&server, client)
    })
    .await;
    assert_eq!(sink.limits().batch_records_max, AGGREGATED);
    server.next(Answer::Says(200, entries([stored()])));
    server.next(Answer::Says(500, error("InternalFailure")));
    let results = sink.write(&five()).await;
    let kept = (results[0], results[4]);
    assert_eq!(kept, (DELIVERED, DELIVERED));
    assert!(results[1..4].iter().all(|result| *result != DELIVERED));
    assert_eq!(server.puts().len(), 2);
}

pub(super) async fn an_invalid_container_is_retried_record_by_record(client: Client) {
    let server = two_shards().await;
    let sink = aggregating(&server, client).await;
    server.next(Answer::Says(400, error("InvalidArgumentException")));
    let results = sink.write(&[keyed("hot"), keyed("hot")]).await;
    assert_eq!(results, [RecordResult::Retry(Cause::Invalid); 2]);
    server.next(Answer::Says(400, error("InvalidArgumentException")));
    let refused = RecordResult::Refused(Cause::Invalid);
    assert_eq!(sink.write(&[keyed("hot")]).await, [refused]);
}

pub(super) async fn without_shards_or_keys_nothing_is_aggregated(client: Client) {
    let unlisted = server().await;
    let auto = two_shards().await;
    let sinks = [
        aggregating(&unlisted, client).await,
        aggregating(&auto, client).await,
    ];
    // It was by key when the shards were listed.
    auto.script.lock().unwrap().describe = describe(json!({"RecordDistributionStrategy": "AUTO"}));
    assert!(sinks[1].stream.refresh(true).await);
    for (server, sink) in [unlisted, auto].iter().zip(sinks) {
        assert_eq!(sink.write(&five()).await, [DELIVERED; 5]);
        assert_eq!(shapes(&server.puts()), (0, 5));
        assert_eq!(sink.limits().batch_records_max, BATCH_RECORDS_CEILING);
        let said = sink.check().await.unwrap();
        assert!(
            said.ends_with(", NOT aggregated: that takes a partition key, and a list of shards")
        );
    }
}

pub(super) async fn a_container_in_another_shard_has_the_shards_listed_again(client: Client) {
    let server = two_shards().await;
    let sink = aggregating(&server, client).await;
    let elsewhere = json!({"SequenceNumber": "49", "ShardId": "shardId-000000000009"});
    server.next(Answer::Says(200, entries([elsewhere])));
    let lists = || {
        let script = server.script.lock().unwrap();
        let seen = script.seen.iter();
        seen.filter(|seen| seen.target == "ListShards").count()
    };
    assert_eq!(lists(), 1);
    let results = sink.write(&[keyed("hot"), keyed("hot")]).await;
    assert_eq!(results, [DELIVERED; 2]);
    for _ in 0..300 {
        if lists() > 1 {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the shards were not listed again");
}

pub(super) async fn a_container_in_a_known_wrong_shard_is_sent_again(client: Client) {
    let server = two_shards().await;
    let sink = aggregating(&server, client).await;
    let in_shard =
        |number: u32| json!({"SequenceNumber": "49", "ShardId": format!("shardId-{number:012}")});
    let hot = [keyed("hot"), keyed("hot")];
    // The other of two, a new one, and the one that its hash is of.
    for (number, expected) in [(8, UNKNOWN), (9, DELIVERED), (7, DELIVERED)] {
        server.next(Answer::Says(200, entries([in_shard(number)])));
        assert_eq!(sink.write(&hot).await, [expected; 2], "{number}");
    }
    // A record by itself is read wherever it is.
    server.next(Answer::Says(200, entries([in_shard(8)])));
    assert_eq!(sink.write(&hot[..1]).await, [DELIVERED]);
}

#[tokio::test]
async fn only_bytes_bound_the_quota_of_containers() {
    let server = two_shards().await;
    let quota = aggregating(&server, Client::Cbor).await.quota().unwrap();
    assert_eq!((quota.records_per_s, quota.bytes_per_s), (2 << 20, 2 << 20));
}

#[tokio::test]
async fn limits_leave_room_for_what_containers_add() {
    let server = two_shards().await;
    let sink = start(KinesisSettings {
        aggregate: true,
        batch_bytes_max: BATCH_BYTES_CEILING,
        ..settings(&server, Client::Cbor)
    })
    .await;
    let limits = sink.limits();
    assert_eq!(limits.batch_records_max, 5_000);
    let records = vec![b'x'; limits.batch_bytes_max / limits.batch_records_max];
    let mut packer = Packer::default();
    for hash in 0..limits.batch_records_max as u128 {
        // Two to a container: what it adds is shared by no more.
        packer.push(
            None,
            &records,
            Some(hash as usize / 2),
            u128::MAX - hash,
            || 1 << 20,
        );
    }
    let sealed: usize = packer
        .containers()
        .iter()
        .map(|it| it.seal().len() + 1)
        .sum();
    assert!(sealed <= BATCH_BYTES_CEILING, "{sealed}");
}

#[tokio::test]
async fn check_says_who_can_read_containers() {
    let server = two_shards().await;
    let sink = aggregating(&server, Client::Cbor).await;
    let said = sink.check().await.unwrap();
    assert!(
        said.contains("aggregated up to 60000 bytes: the Kinesis Client Library"),
        "{said}"
    );
}
