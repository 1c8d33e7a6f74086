//! Kinesis Data Streams: one PutRecords per batch. Only the response entries count: without a readable
//! entry a record's result is unknown, never "delivered".
//!
//! A timer polls the stream's record limit and distribution strategy; calls never wait for it.

pub mod aggregate;
mod cbor;
mod clients;
mod describe;
mod put;
mod settings;
mod shards;
#[cfg(test)]
mod tests;

pub use settings::{Encoding, KinesisSettings, TYPE};

use crate::aws::{Aws, CallFailure, HAS_SDK, Task};
use crate::rate_limited_log::RateLimitedLog;
use crate::sink::{CheckError, Quota, Sink, SinkFuture, SinkLimits};
use aggregate::{CONTAINER_KEY, Packer, RECORD_OVERHEAD_MAX};
use aws_credential_types::provider::SharedCredentialsProvider;
use clients::Clients;
use describe::{StreamInfo, StreamSummary};
use put::{Entry, Key};
use shards::{Advice, ShardMap, Shards, hash_of};
use sluice_core::cause::Cause;
use sluice_core::lanes::LaneId;
use sluice_core::record::{Record, RecordResult};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

/// Records in one PutRecords, as the service documents it.
pub const BATCH_RECORDS_CEILING: usize = 500;
/// Bytes in one PutRecords, partition keys included, as the service documents it.
pub const BATCH_BYTES_CEILING: usize = 10 * 1024 * 1024;
/// Characters of a partition key, as the service documents it.
const KEY_CHARS_MAX: usize = 256;
/// Records that a shard takes in a second.
const SHARD_RECORDS_PER_S: u64 = 1_000;
/// Bytes that a shard takes in a second, keys included.
const SHARD_BYTES_PER_S: u64 = 1 << 20;
/// Bytes of a random partition key: 64 random bits in hex. The service hashes keys, so more
/// would spread records no better, and every byte counts against the shard's throughput.
const RANDOM_KEY_BYTES: usize = 16;
/// Records in one call for each that PutRecords takes, where they are aggregated.
const AGGREGATED: usize = 10;
/// A PUT payload unit, by which provisioned streams are billed.
const PUT_UNIT_BYTES: usize = 25 << 10;
/// The wait after the stream could not be described, doubled each time up to the usual interval, and
/// the wait between descriptions that calls ask for.
const DESCRIBE_AGAIN: Duration = Duration::from_secs(5);
/// What entries of an answer say that ask for less.
const THROTTLED: [&str; 2] = [
    "ProvisionedThroughputExceededException",
    "KMSThrottlingException",
];
/// The log says at most this often what would end the throttling.
const ADVISE_EVERY: Duration = Duration::from_secs(600);
/// As it stands in the log.
const CALL: &str = "PutRecords";

/// Writes records to one stream.
pub struct KinesisSink {
    stream: Arc<Stream>,
    batch_bytes_max: usize,
    _refresh: Task,
}

impl KinesisSink {
    /// Finds region and credentials and describes the stream, at most 5 s each. Without credentials or
    /// stream the sink starts nevertheless, says so in the log, and goes on looking.
    ///
    /// Timers and connections live on the current tokio runtime: the sink has to be used on it.
    ///
    /// # Errors
    /// A setting is out of its range, or no region can be found.
    pub async fn start(settings: KinesisSettings) -> Result<KinesisSink, CheckError> {
        KinesisSink::start_with(settings, None).await
    }

    async fn start_with(
        settings: KinesisSettings,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<KinesisSink, CheckError> {
        let fail = |reason| CheckError {
            destination: destination(&settings.stream),
            reason,
        };
        if let Some(problem) = settings.out_of_bounds() {
            return Err(fail(problem.to_string()));
        }
        settings.client.require(HAS_SDK).map_err(fail)?;
        let aws = Aws::load(&settings.aws, "KINESIS", credentials)
            .await
            .map_err(fail)?;
        let clients = Clients::new(&aws, &settings).map_err(fail)?;
        let stream = Arc::new(Stream {
            clients,
            aws,
            name: settings.stream,
            record_bytes_max: AtomicUsize::new(describe::RECORD_KIB_DEFAULT * 1024),
            is_auto: AtomicBool::new(false),
            shards: Shards::default(),
            spreads_hot_keys: settings.spread_hot_keys,
            batch_records_max: settings.batch_records_max,
            aggregate_bytes_max: settings.aggregate.then_some(settings.aggregate_bytes_max),
            doubted: Notify::new(),
            throttled: Notify::new(),
            advised: Mutex::default(),
            failure_log: RateLimitedLog::default(),
        });
        let is_described = stream.refresh(false).await;
        let timer = Arc::clone(&stream).keep_described(settings.describe_interval, is_described);
        Ok(KinesisSink {
            stream,
            batch_bytes_max: settings.batch_bytes_max,
            _refresh: Task(tokio::spawn(timer)),
        })
    }
}

impl Sink for KinesisSink {
    /// Leaves room for the random keys of records that bring none, and for what containers add.
    fn limits(&self) -> SinkLimits {
        let (batch_records_max, added_bytes) = match self.stream.aggregates() {
            Some(_) => (
                self.stream.batch_records_max * AGGREGATED,
                RECORD_OVERHEAD_MAX,
            ),
            None => (self.stream.batch_records_max, RANDOM_KEY_BYTES),
        };
        let added_bytes = batch_records_max * added_bytes;
        let batch_bytes_max = self.batch_bytes_max.min(BATCH_BYTES_CEILING - added_bytes);
        let record_bytes_max = self.stream.record_bytes_max.load(Ordering::Relaxed);
        SinkLimits {
            batch_records_max,
            batch_bytes_max,
            record_bytes_max: (record_bytes_max - RANDOM_KEY_BYTES).min(batch_bytes_max),
        }
    }

    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>> {
        Box::pin(self.stream.put(records))
    }

    fn lane(&self, record: &Record) -> Option<LaneId> {
        let stream = &*self.stream;
        if stream.spreads_hot_keys || stream.is_auto.load(Ordering::Relaxed) {
            return None;
        }
        let key = std::str::from_utf8(record.key.as_deref()?).ok()?;
        stream.shards.map().shard_of(hash_of(key))
    }

    fn lanes_wanted(&self) -> u64 {
        self.stream.shards.wanted()
    }

    fn quota(&self) -> Option<Quota> {
        if self.stream.is_auto.load(Ordering::Relaxed) {
            return None;
        }
        // Until they are listed, a stream has at least one.
        let shards = self.stream.shards.map().len().max(1) as u64;
        let bytes_per_s = shards * SHARD_BYTES_PER_S;
        Some(Quota {
            records_per_s: match self.stream.aggregates() {
                // Containers are few: bytes are what counts.
                Some(_) => bytes_per_s,
                None => shards * SHARD_RECORDS_PER_S,
            },
            bytes_per_s,
        })
    }

    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(async move {
            match self.stream.describe().await {
                Ok(summary) => Ok(format!(
                    "{}: {}{}",
                    destination(&self.stream.name),
                    StreamInfo::of(&summary).say(&summary),
                    self.stream.say_aggregation(),
                )),
                Err(failure) => Err(failure.of_check(destination(&self.stream.name))),
            }
        })
    }
}

/// State that calls and the timer share.
struct Stream {
    clients: Clients,
    aws: Aws,
    name: String,
    record_bytes_max: AtomicUsize,
    /// The service spreads the records itself and takes them without a key.
    is_auto: AtomicBool,
    /// The open shards. None are known of a stream that spreads the records itself.
    shards: Shards,
    /// Records of a shard that throttles go to others, whatever their key.
    spreads_hot_keys: bool,
    /// Records in one PutRecords.
    batch_records_max: usize,
    /// Bytes of a container; `None` where every record goes alone.
    aggregate_bytes_max: Option<usize>,
    /// A call's answer does not fit what we believe of the stream.
    doubted: Notify,
    /// A shard throttled: perhaps there are others by now.
    throttled: Notify,
    /// When the log last said what would end the throttling.
    advised: Mutex<Option<Instant>>,
    failure_log: RateLimitedLog,
}

impl Stream {
    async fn put(&self, records: &[Record]) -> Vec<RecordResult> {
        let is_auto = self.is_auto.load(Ordering::Relaxed);
        let record_bytes_max = self.record_bytes_max.load(Ordering::Relaxed);
        let mut results = vec![RecordResult::Retry(Cause::Unknown); records.len()];
        let mut entries = Vec::with_capacity(records.len());
        let mut sent = Vec::with_capacity(records.len());
        let avoids_hot = !is_auto && self.shards.has_hot(Instant::now());
        for (record, result) in records.iter().zip(&mut results) {
            match entry(record, is_auto, record_bytes_max) {
                Ok(mut entry) => {
                    if avoids_hot {
                        entry.hash = self.cool_hash(entry.key);
                    }
                    entries.push(entry);
                    sent.push(result);
                }
                Err(cause) => *result = RecordResult::Refused(cause),
            }
        }
        let answered = match self.aggregates() {
            Some((shards, bytes_max)) => {
                let hot = avoids_hot.then_some(&self.shards);
                self.put_aggregated(&entries, &shards, bytes_max.min(record_bytes_max), hot)
                    .await
            }
            None => self.call(&entries, is_auto).await,
        };
        for (result, answered) in sent.into_iter().zip(answered) {
            *result = answered;
        }
        results
    }

    /// The shards, and the bytes of a container; `None` where records go alone: the operator wants it so, the service
    /// spreads them itself, or the shards are not known.
    fn aggregates(&self) -> Option<(Arc<ShardMap>, usize)> {
        let bytes_max = self.aggregate_bytes_max?;
        let shards = self.shards.map();
        let is_possible = !self.is_auto.load(Ordering::Relaxed) && shards.len() > 0;
        is_possible.then_some((shards, bytes_max))
    }

    fn say_aggregation(&self) -> String {
        match (self.aggregate_bytes_max, self.aggregates()) {
            (None, _) => String::new(),
            (Some(_), None) => {
                ", NOT aggregated: that takes a partition key, and a list of shards".to_owned()
            }
            (Some(_), Some((_, bytes_max))) => format!(
                ", aggregated up to {bytes_max} bytes: the Kinesis Client Library and Firehose take that apart; \
                 Lambda functions and all who call GetRecords or SubscribeToShard have to"
            ),
        }
    }

    /// Puts records in containers; one result for each. Those of a container have the same. `hot` where shards throttle.
    async fn put_aggregated(
        &self,
        entries: &[Entry<'_>],
        shards: &ShardMap,
        bytes_max: usize,
        hot: Option<&Shards>,
    ) -> Vec<RecordResult> {
        let mut packer = Packer::default();
        for entry in entries {
            let (key, shard, hash) = match entry.key {
                Key::Given(key) => {
                    let hash = entry.hash();
                    (Some(key), shards.place_of(hash), hash)
                }
                // It may go with any others that are free to go anywhere.
                Key::None | Key::Random(_) => {
                    let hash = entry.hash.unwrap_or_else(|| fastrand::u128(..));
                    (None, Some(shards.len()), hash)
                }
            };
            packer.push(key, entry.data, shard, hash, || match hot {
                // The less a container takes, the more of what a shard throttles gets through.
                Some(hot) if hot.is_hot(hash) => bytes_max.min(PUT_UNIT_BYTES),
                _ => bytes_max,
            });
        }
        let containers = packer.containers();
        let sealed: Vec<_> = containers
            .iter()
            .map(|container| (container.records() > 1).then(|| container.seal()))
            .collect();
        let mut alone = vec![None; containers.len()];
        for (entry, at) in entries.iter().zip(packer.container_of()) {
            if let Some(alone) = alone.get_mut(*at) {
                *alone = Some(*entry);
            }
        }
        let all = containers.iter().zip(&sealed).zip(alone);
        let containers: Vec<Entry<'_>> = all
            .filter_map(|((container, sealed), alone)| match sealed {
                None => alone,
                Some(data) => Some(Entry {
                    data,
                    key: Key::Given(CONTAINER_KEY),
                    hash: Some(container.hash()),
                    records: container.records(),
                }),
            })
            .collect();
        let mut answered = Vec::with_capacity(containers.len());
        for call in containers.chunks(self.batch_records_max) {
            answered.extend(self.call(call, false).await);
        }
        let of_container = |at: &usize| answered.get(*at).copied();
        let results = packer.container_of().iter().map(of_container);
        results
            .map(|result| result.unwrap_or(RecordResult::Retry(Cause::Unknown)))
            .collect()
    }

    /// One PutRecords; one result for each entry.
    async fn call(&self, entries: &[Entry<'_>], is_auto: bool) -> Vec<RecordResult> {
        if entries.is_empty() {
            return Vec::new();
        }
        match self.clients.put(&self.aws, &self.name, entries).await {
            Ok(mut answered) if answered.len() == entries.len() => {
                let (now, shards) = (Instant::now(), self.shards.map());
                let (mut is_throttled, mut is_elsewhere) = (false, false);
                for (answered, entry) in answered.iter_mut().zip(entries) {
                    if answered.result == RecordResult::Retry(Cause::Throttled) && !is_auto {
                        is_throttled = true;
                        self.shards.throttled(entry.hash(), now);
                    }
                    if let (Some(hash), Some(shard)) = (entry.hash, answered.shard)
                        && shards.shard_of(hash) != Some(shard)
                    {
                        is_elsewhere = true;
                        // A new shard has the hash: the stream was resharded. One that we know has not: the service spreads
                        // records itself now, and consumers drop what is in a container there.
                        if entry.records > 1 && shards.has(shard) {
                            answered.result = RecordResult::Retry(Cause::Unknown);
                        }
                    }
                }
                if is_throttled {
                    self.throttled.notify_one();
                }
                if is_elsewhere {
                    self.doubted.notify_one();
                }
                answered.into_iter().map(|it| it.result).collect()
            }
            Ok(answered) => {
                self.failure_log
                    .warn_of_entries(CALL, &self.name, entries.len(), answered.len());
                vec![RecordResult::Retry(Cause::Unknown); entries.len()]
            }
            Err(failure) => {
                self.failure_log
                    .warn(CALL, &self.name, failure.cause, &failure.text);
                if failure.is_auth_error {
                    self.aws.doubt_credentials();
                }
                let records = entries.iter().map(|entry| entry.records).sum();
                vec![self.whole_call(&failure, records, is_auto); entries.len()]
            }
        }
    }

    /// A hash for a record that may go to another shard than its key's, if that throttles.
    fn cool_hash(&self, key: Key<'_>) -> Option<u128> {
        match key {
            Key::None => None,
            Key::Random(_) => self.shards.cool_hash(fastrand::u128(..)),
            Key::Given(key) if self.spreads_hot_keys && self.shards.is_hot(hash_of(key)) => {
                self.shards.cool_hash(fastrand::u128(..))
            }
            Key::Given(_) => None,
        }
    }

    /// The result of each record of a call that failed as a whole.
    fn whole_call(&self, failure: &CallFailure, sent: usize, is_auto: bool) -> RecordResult {
        if failure.cause == Cause::Invalid {
            self.doubted.notify_one();
            if is_auto {
                // Perhaps the stream wants keys again; it takes them in either case.
                self.is_auto.store(false, Ordering::Relaxed);
                return RecordResult::Retry(Cause::Unavailable);
            }
        }
        failure.result(sent)
    }

    async fn describe(&self) -> Result<StreamSummary, CallFailure> {
        describe::stream(self.clients.control(), &self.aws, &self.name).await
    }

    /// Describes the stream and keeps what it learned; after a failure the old info stay. Says
    /// whether it succeeded. `is_known`: whether the info come from a description.
    async fn refresh(&self, is_known: bool) -> bool {
        match self.describe().await {
            Ok(summary) => {
                let info = StreamInfo::of(&summary);
                let bytes = info.record_kib * 1024;
                let is_changed = self.record_bytes_max.swap(bytes, Ordering::Relaxed) != bytes;
                let is_changed = (self.is_auto.swap(info.is_auto, Ordering::Relaxed)
                    != info.is_auto)
                    || is_changed;
                if is_changed || !is_known {
                    info!(stream = self.name, "stream is {}", info.say(&summary));
                }
                if !info.is_auto {
                    self.refresh_shards().await;
                }
                true
            }
            Err(failure) => {
                if failure.is_auth_error {
                    self.aws.doubt_credentials();
                }
                warn!(
                    stream = self.name,
                    cause = failure.cause.label(),
                    error = failure.text,
                    "cannot describe the stream, going on with what is known of it"
                );
                false
            }
        }
    }

    /// Lists the open shards. Without a list records go out as they are, and throttling counts for all of them.
    async fn refresh_shards(&self) {
        let listed = describe::shards(self.clients.control(), &self.aws, &self.name).await;
        let map =
            listed.and_then(|shards| ShardMap::of(&shards).map_err(|error| error.to_string()));
        match map {
            Ok(map) => {
                let open = map.len();
                if self.shards.replace(map) {
                    info!(stream = self.name, open, "shards listed");
                }
            }
            Err(error) => warn!(
                stream = self.name,
                error, "cannot list the shards, going on with those that are known"
            ),
        }
    }

    /// Says once in a while what would end the throttling.
    fn advise(&self) {
        let now = Instant::now();
        let advice = self.shards.look(now);
        let mut last = self.advised.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.is_none_or(|at| now.duration_since(at) >= ADVISE_EVERY);
        if advice == Advice::None || !is_new {
            return;
        }
        *last = Some(now);
        let open = self.shards.map().len();
        match advice {
            Advice::None => {}
            Advice::HotKeys { hot } => warn!(
                stream = self.name,
                hot,
                open,
                "some shards throttle while others have room: keys are hot, and more shards would not help"
            ),
            Advice::Shards { wanted } => warn!(
                stream = self.name,
                open,
                wanted,
                "most shards throttle: set this number of shards with UpdateShardCount"
            ),
        }
    }

    async fn keep_described(self: Arc<Self>, interval: Duration, mut is_described: bool) {
        let mut is_known = is_described;
        let mut again = DESCRIBE_AGAIN.min(interval);
        loop {
            let wait = if is_described { interval } else { again };
            // Many processes start together; the account's limit is shared.
            let wait = wait.mul_f64(fastrand::f64().mul_add(0.2, 0.9));
            let is_doubted = tokio::select! {
                () = sleep(wait) => false,
                () = self.doubted.notified() => true,
                () = self.throttled.notified() => {
                    self.refresh_shards().await;
                    self.advise();
                    sleep(DESCRIBE_AGAIN).await;
                    continue;
                }
            };
            is_described = self.refresh(is_known).await;
            is_known |= is_described;
            again = if is_described {
                DESCRIBE_AGAIN
            } else {
                again * 2
            };
            again = again.min(interval);
            if is_doubted {
                sleep(DESCRIBE_AGAIN).await;
            }
        }
    }
}

/// The record as it is sent, or why it never can be. Core has checked the same; one record that the
/// service calls invalid would fail the whole call.
fn entry(record: &Record, is_auto: bool, record_bytes_max: usize) -> Result<Entry<'_>, Cause> {
    let key = match &record.key {
        _ if is_auto => Key::None,
        None => Key::Random(fastrand::u64(..)),
        Some(key) => {
            let key = std::str::from_utf8(key).map_err(|_| Cause::Invalid)?;
            // Bytes first: a key of at most 256 bytes need not be counted.
            if key.is_empty() || (key.len() > KEY_CHARS_MAX && key.chars().count() > KEY_CHARS_MAX)
            {
                return Err(Cause::Invalid);
            }
            Key::Given(key)
        }
    };
    if record.payload.len() + key.bytes() > record_bytes_max {
        return Err(Cause::TooLarge);
    }
    let data = &record.payload;
    Ok(Entry {
        data,
        key,
        hash: None,
        records: 1,
    })
}

fn is_arn(stream: &str) -> bool {
    stream.starts_with("arn:")
}

fn destination(stream: &str) -> String {
    format!("kinesis stream {stream}")
}
