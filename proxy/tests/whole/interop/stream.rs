//! A stream of a third_party emulator: made, and read back whole, through the AWS SDK.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::types::{Shard, ShardIteratorType, StreamStatus};
use std::env;
use std::time::Duration;
use tokio::time::sleep;

/// What the emulators think the account's region is; they refuse none.
pub(crate) const REGION: &str = "us-east-1";
/// GetRecords calls for one shard, so that an emulator that never comes to an end ends the test.
const READS_MAX: usize = 2_000;

pub(crate) struct Stream {
    pub(crate) endpoint: String,
    pub(crate) name: String,
    client: Client,
}

/// One record as a consumer gets it.
pub(crate) struct Stored {
    pub(crate) shard: String,
    /// The first and the last hash of the shard.
    pub(crate) hashes: [String; 2],
    pub(crate) key: String,
    pub(crate) sequence_number: String,
    pub(crate) data: Vec<u8>,
}

impl Stream {
    /// A new stream at the endpoint that the variable names.
    pub(crate) async fn create(variable: &str, shards: i32) -> Stream {
        let endpoint = env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} has to hold the emulator's endpoint"));
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&endpoint)
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new("interop", "secret", None, None, "test"))
            .retry_config(RetryConfig::standard().with_max_attempts(5))
            .build();
        let stream = Stream {
            endpoint,
            name: format!("interop-{:016x}", fastrand::u64(..)),
            client: Client::from_conf(config),
        };
        stream
            .client
            .create_stream()
            .stream_name(&stream.name)
            .shard_count(shards)
            .send()
            .await
            .unwrap();
        stream.await_active().await;
        stream
    }

    async fn await_active(&self) {
        for _ in 0..200 {
            let answer = self
                .client
                .describe_stream_summary()
                .stream_name(&self.name)
                .send()
                .await
                .unwrap();
            let summary = answer.stream_description_summary().unwrap();
            if *summary.stream_status() == StreamStatus::Active {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("the stream does not become active");
    }

    /// Every record of every shard, from the oldest on.
    pub(crate) async fn read(&self) -> Vec<Stored> {
        let shards = self
            .client
            .list_shards()
            .stream_name(&self.name)
            .send()
            .await
            .unwrap();
        assert!(shards.next_token().is_none(), "more shards than were made");
        let mut stored = Vec::new();
        for shard in shards.shards() {
            self.read_shard(shard, &mut stored).await;
        }
        stored
    }

    /// Splits the shard of the lowest hashes and merges its parts, five times, each time elsewhere and with a while in
    /// between.
    pub(crate) async fn reshard_ten_times(&self) {
        for sixths in 1..=5 {
            sleep(Duration::from_millis(250)).await;
            let shard = self.open_shards().await.remove(0);
            let [first, last] = hashes(&shard).map(|hash| hash.parse::<u128>().unwrap());
            let split = self.client.split_shard().stream_name(&self.name);
            let split = split.shard_to_split(shard.shard_id());
            let at = first + (last - first) / 6 * sixths;
            split
                .new_starting_hash_key(at.to_string())
                .send()
                .await
                .unwrap();
            self.await_active().await;
            sleep(Duration::from_millis(250)).await;
            let shards = self.open_shards().await;
            let merge = self.client.merge_shards().stream_name(&self.name);
            merge
                .shard_to_merge(shards[0].shard_id())
                .adjacent_shard_to_merge(shards[1].shard_id())
                .send()
                .await
                .unwrap();
            self.await_active().await;
        }
    }

    /// By their hashes.
    async fn open_shards(&self) -> Vec<Shard> {
        let listed = self.client.list_shards().stream_name(&self.name);
        let mut shards = listed.send().await.unwrap().shards.unwrap();
        shards.retain(|shard| {
            let range = shard.sequence_number_range();
            range.is_some_and(|range| range.ending_sequence_number().is_none())
        });
        shards.sort_by_key(|shard| hashes(shard)[0].parse::<u128>().unwrap());
        shards
    }

    async fn read_shard(&self, shard: &Shard, stored: &mut Vec<Stored>) {
        let answer = self
            .client
            .get_shard_iterator()
            .stream_name(&self.name)
            .shard_id(shard.shard_id())
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await
            .unwrap();
        let mut iterator = answer.shard_iterator().map(str::to_owned);
        for _ in 0..READS_MAX {
            let Some(from) = iterator else { return };
            let answer = self
                .client
                .get_records()
                .shard_iterator(from)
                .send()
                .await
                .unwrap();
            let is_end =
                answer.records().is_empty() && answer.millis_behind_latest().unwrap_or(0) == 0;
            stored.extend(answer.records.into_iter().map(|record| {
                Stored {
                    shard: shard.shard_id().to_owned(),
                    hashes: hashes(shard),
                    key: record
                        .partition_key
                        .expect("all of these streams need keys"),
                    sequence_number: record.sequence_number,
                    data: record.data.into_inner(),
                }
            }));
            if is_end {
                return;
            }
            iterator = answer.next_shard_iterator;
        }
        panic!("{shard:?} has no end");
    }
}

fn hashes(shard: &Shard) -> [String; 2] {
    let range = shard.hash_key_range().unwrap();
    [range.starting_hash_key(), range.ending_hash_key()].map(str::to_owned)
}
