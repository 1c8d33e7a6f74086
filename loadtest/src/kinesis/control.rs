//! Calls that change the stream: splits, merges, shard count, mode, record size, distribution.
//! Reads and checks the request; the stream decides whether the change is possible.

use super::api::{ApiError, ModeDetails, StreamName, json, request};
use super::listing::arn;
use super::shard::parse_shard_id;
use super::stream::{Change, Distribution, Mode, Stream};
use super::{RECORD_BYTES_MAX, RECORD_KIB_MIN, SHARDS_MAX};
use serde::Deserialize;
use std::time::Duration;

fn constraint<T>(text: impl AsRef<str>) -> Result<T, ApiError> {
    Err(ApiError::validation(text.as_ref()))
}

/// A shard as a call names it; the service does not know ids of another form.
fn shard(name: &str) -> Result<u32, ApiError> {
    let message = || format!("Could not find shard {name}.");
    parse_shard_id(name).ok_or_else(|| ApiError::client("ResourceNotFoundException", message()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SplitRequest {
    #[serde(flatten)]
    stream: StreamName,
    shard_to_split: String,
    new_starting_hash_key: String,
}

/// SplitShard.
pub(super) fn split_shard(
    stream: &mut Stream,
    now: Duration,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: SplitRequest = request(body)?;
    let text = &asked.new_starting_hash_key;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || (!text.starts_with('0') && (1..=39).contains(&text.len()));
    if !digits || !plain {
        return constraint(format!(
            "Value '{text}' at 'newStartingHashKey' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: 0|([1-9]\\d{{0,38}})"
        ));
    }
    asked.stream.check(stream.config())?;
    let shard = shard(&asked.shard_to_split)?;
    // 39 digits can be more than the hash space has.
    let start = text
        .parse()
        .map_err(|_| ApiError::argument(format!("NewStartingHashKey {text} is not below 2^128")))?;
    stream.begin(now, Change::Split { shard, start })?;
    Ok(Vec::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MergeRequest {
    #[serde(flatten)]
    stream: StreamName,
    shard_to_merge: String,
    adjacent_shard_to_merge: String,
}

/// MergeShards.
pub(super) fn merge_shards(
    stream: &mut Stream,
    now: Duration,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: MergeRequest = request(body)?;
    asked.stream.check(stream.config())?;
    let first = shard(&asked.shard_to_merge)?;
    let second = shard(&asked.adjacent_shard_to_merge)?;
    stream.begin(now, Change::Merge { first, second })?;
    Ok(Vec::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CountRequest {
    #[serde(flatten)]
    stream: StreamName,
    target_shard_count: u32,
    scaling_type: String,
}

/// UpdateShardCount: at most to the double, at least to the half.
pub(super) fn update_shard_count(
    stream: &mut Stream,
    now: Duration,
    region: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: CountRequest = request(body)?;
    if asked.scaling_type != "UNIFORM_SCALING" {
        return constraint(format!(
            "Value '{}' at 'scalingType' failed to satisfy constraint: Member must satisfy enum \
             value set: [UNIFORM_SCALING]",
            asked.scaling_type
        ));
    }
    let count = asked.target_shard_count;
    if count == 0 {
        return constraint(
            "Value '0' at 'targetShardCount' failed to satisfy constraint: Member must have \
             value greater than or equal to 1",
        );
    }
    asked.stream.check(stream.config())?;
    let open = stream.shards().open_count();
    let (least, most) = (open.div_ceil(2), open.saturating_mul(2).min(SHARDS_MAX));
    if stream.config().mode == Mode::Provisioned && !(least..=most).contains(&count) {
        return Err(ApiError::argument(format!(
            "UpdateShardCount from {open} shards goes to {least} at least and {most} at most, \
             not to {count}."
        )));
    }
    stream.begin(now, Change::Resize { count })?;
    Ok(json(&serde_json::json!({
        "StreamName": stream.config().name,
        "StreamARN": arn(stream, region),
        "CurrentShardCount": open,
        "TargetShardCount": count,
    })))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ModeRequest {
    #[serde(flatten)]
    stream: StreamName,
    stream_mode_details: ModeDetails,
}

/// UpdateStreamMode. The shards stay as they are.
pub(super) fn update_stream_mode(
    stream: &mut Stream,
    now: Duration,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: ModeRequest = request(body)?;
    let mode = asked.stream_mode_details.mode()?;
    let config = stream.config();
    asked.stream.check(config)?;
    // Provisioned streams know no AUTO. What the service does with a stream that has it is not
    // documented; it is refused here rather than guessed.
    if mode == Mode::Provisioned && config.distribution == Distribution::Auto {
        return Err(ApiError::argument(
            "The stream's record distribution strategy is AUTO, which provisioned mode does not \
             support; set USER_PARTITION_KEY first.",
        ));
    }
    stream.begin(now, Change::Mode(mode))?;
    Ok(Vec::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RecordSizeRequest {
    #[serde(flatten)]
    stream: StreamName,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: usize,
}

/// UpdateMaxRecordSize.
pub(super) fn update_max_record_size(
    stream: &mut Stream,
    now: Duration,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: RecordSizeRequest = request(body)?;
    let kib = asked.max_record_size_in_kib;
    let kib_max = RECORD_BYTES_MAX / 1024;
    if !(RECORD_KIB_MIN..=kib_max).contains(&kib) {
        return constraint(format!(
            "Value '{kib}' at 'maxRecordSizeInKiB' must be between {RECORD_KIB_MIN} and {kib_max}"
        ));
    }
    asked.stream.check(stream.config())?;
    stream.begin(now, Change::RecordBytesMax(kib * 1024))?;
    Ok(Vec::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DistributionRequest {
    #[serde(flatten)]
    stream: StreamName,
    record_distribution_strategy: String,
}

/// UpdateStreamRecordDistributionStrategy: takes effect with the next call.
pub(super) fn update_distribution(stream: &mut Stream, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let asked: DistributionRequest = request(body)?;
    let distribution = match asked.record_distribution_strategy.as_str() {
        "AUTO" => Distribution::Auto,
        "USER_PARTITION_KEY" => Distribution::UserPartitionKey,
        other => {
            return constraint(format!(
                "Value '{other}' at 'recordDistributionStrategy' failed to satisfy constraint: \
                 Member must satisfy enum value set: [AUTO, USER_PARTITION_KEY]"
            ));
        }
    };
    let config = stream.config();
    asked.stream.check(config)?;
    if config.mode == Mode::Provisioned {
        return Err(ApiError::argument(
            "Record distribution strategies are for streams in on-demand capacity mode; this one \
             is provisioned.",
        ));
    }
    stream.set_distribution(distribution)?;
    Ok(Vec::new())
}
