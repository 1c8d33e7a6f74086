//! Errors as the service writes them, and the operations beside PutRecords.
//! Answers are built from the stream's state; nothing here changes it.

use super::shard::{
    Shard, parse_sequence_number, parse_shard_id, push_sequence_number, push_shard_id,
};
use super::stream::{Distribution, Mode, Stream, StreamConfig};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Records that one GetRecords answer holds at most (service limit).
const GET_RECORDS_MAX: usize = 10_000;

/// Data bytes that one GetRecords answer holds at most (service limit).
const GET_BYTES_MAX: usize = 10 << 20;

/// Shards that one ListShards answer holds at most (service limit).
const LIST_SHARDS_MAX: usize = 1_000;

/// The account in the stream's ARN.
const ARN_PREFIX: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/";

/// An error for a whole call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl ApiError {
    fn client(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            status: 400,
            code,
            message: message.into(),
        }
    }

    /// A constraint of the service model is broken.
    pub(super) fn validation(constraint: &str) -> ApiError {
        let message = format!("1 validation error detected: {constraint}");
        ApiError::client("ValidationException", message)
    }

    /// A value that is well formed, but not for this stream.
    pub(super) fn argument(message: impl Into<String>) -> ApiError {
        ApiError::client("InvalidArgumentException", message)
    }

    /// The body is not the JSON of this operation.
    pub(super) fn serialization(message: impl Into<String>) -> ApiError {
        ApiError::client("SerializationException", message)
    }

    pub(super) fn unknown_operation() -> ApiError {
        ApiError::client("UnknownOperationException", "")
    }

    pub(super) fn dry_run() -> ApiError {
        let message = "Request would have succeeded, but the DryRun flag is set.";
        ApiError::client("DryRunOperationException", message)
    }

    pub(super) fn call_throttled() -> ApiError {
        let message = "Rate exceeded for the stream.";
        ApiError::client("ProvisionedThroughputExceededException", message)
    }
}

/// The JSON of a value that is known to have one.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn request<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::serialization(error.to_string()))
}

/// Checks that a call names the one stream that exists.
pub(super) fn check_stream(
    config: &StreamConfig,
    name: Option<&str>,
    arn: Option<&str>,
) -> Result<(), ApiError> {
    let named = match (name, arn) {
        (Some(name), _) => name,
        (None, Some(arn)) => arn.rsplit('/').next().unwrap_or_default(),
        (None, None) => {
            let message = "Either StreamName or StreamARN must be given.";
            return Err(ApiError::argument(message));
        }
    };
    if named == config.name {
        return Ok(());
    }
    let message = format!("Stream {named} under account 000000000000 not found.");
    Err(ApiError::client("ResourceNotFoundException", message))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamRequest<'a> {
    #[serde(borrow)]
    stream_name: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "StreamARN")]
    stream_arn: Option<Cow<'a, str>>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

/// DescribeStreamSummary.
pub(super) fn describe_stream_summary(stream: &Stream, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let config = stream.config();
    let asked: StreamRequest<'_> = request(body)?;
    check_stream(
        config,
        asked.stream_name.as_deref(),
        asked.stream_arn.as_deref(),
    )?;
    let mode = match config.mode {
        Mode::Provisioned => "PROVISIONED",
        Mode::OnDemand => "ON_DEMAND",
    };
    let mut summary = serde_json::json!({
        "StreamName": config.name,
        "StreamARN": format!("{ARN_PREFIX}{}", config.name),
        "StreamStatus": "ACTIVE",
        "StreamModeDetails": {"StreamMode": mode},
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": seconds(stream.created()),
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE",
        "OpenShardCount": config.shards,
        "ConsumerCount": 0,
        "MaxRecordSizeInKiB": config.record_bytes_max / 1024,
    });
    // The service shows the strategy of on-demand streams only.
    if config.mode == Mode::OnDemand {
        let strategy = match config.distribution {
            Distribution::UserPartitionKey => "USER_PARTITION_KEY",
            Distribution::Auto => "AUTO",
        };
        summary["RecordDistributionStrategy"] = strategy.into();
    }
    Ok(json(
        &serde_json::json!({"StreamDescriptionSummary": summary}),
    ))
}

/// ListShards; filters are ignored, as all shards are open.
pub(super) fn list_shards(stream: &Stream, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let config = stream.config();
    let asked: StreamRequest<'_> = request(body)?;
    let start = match (&asked.next_token, &asked.stream_name, &asked.stream_arn) {
        (Some(token), None, None) => token
            .parse()
            .ok()
            .filter(|start| *start < config.shards)
            .ok_or_else(|| ApiError::argument("NextToken is not valid."))?,
        (Some(_), _, _) => {
            let message = "NextToken and StreamName cannot be provided together.";
            return Err(ApiError::argument(message));
        }
        (None, name, arn) => {
            check_stream(config, name.as_deref(), arn.as_deref())?;
            0
        }
    };
    let page = asked.max_results.unwrap_or(LIST_SHARDS_MAX);
    if !(1..=10_000).contains(&page) {
        let constraint = "Value at 'maxResults' must be between 1 and 10000";
        return Err(ApiError::validation(constraint));
    }
    let page = u32::try_from(page.min(LIST_SHARDS_MAX)).unwrap_or(u32::MAX);
    let end = start.saturating_add(page).min(config.shards);
    let shards: Vec<_> = (start..end)
        .map(|shard| {
            let (first, last) = stream.ranges().range(shard);
            serde_json::json!({
                "ShardId": shard_id(shard),
                "HashKeyRange": {
                    "StartingHashKey": first.to_string(),
                    "EndingHashKey": last.to_string(),
                },
                "SequenceNumberRange": {"StartingSequenceNumber": sequence_number(shard, 0)},
            })
        })
        .collect();
    let mut answer = serde_json::json!({"Shards": shards});
    if end < config.shards {
        answer["NextToken"] = end.to_string().into();
    }
    Ok(json(&answer))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IteratorRequest<'a> {
    #[serde(borrow)]
    stream_name: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "StreamARN")]
    stream_arn: Option<Cow<'a, str>>,
    #[serde(borrow)]
    shard_id: Cow<'a, str>,
    #[serde(borrow)]
    shard_iterator_type: Cow<'a, str>,
    starting_sequence_number: Option<String>,
    timestamp: Option<f64>,
}

/// GetShardIterator.
pub(super) fn get_shard_iterator(stream: &Stream, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let config = stream.config();
    let asked: IteratorRequest<'_> = request(body)?;
    check_stream(
        config,
        asked.stream_name.as_deref(),
        asked.stream_arn.as_deref(),
    )?;
    let found = parse_shard_id(&asked.shard_id).and_then(|id| Some((id, stream.shard(id)?)));
    let Some((id, shard)) = found else {
        let message = format!(
            "Shard {} in stream {} does not exist",
            asked.shard_id, config.name
        );
        return Err(ApiError::client("ResourceNotFoundException", message));
    };
    let starting = || {
        let text = asked
            .starting_sequence_number
            .as_deref()
            .unwrap_or_default();
        parse_sequence_number(text, id)
            .ok_or_else(|| ApiError::argument(format!("StartingSequenceNumber {text} is invalid")))
    };
    let position = match asked.shard_iterator_type.as_ref() {
        "TRIM_HORIZON" => 0,
        "LATEST" => shard.upcoming(),
        "AT_SEQUENCE_NUMBER" => starting()?,
        "AFTER_SEQUENCE_NUMBER" => starting()?.saturating_add(1),
        "AT_TIMESTAMP" => at_timestamp(shard, asked.timestamp)?,
        other => {
            let constraint = format!(
                "Value '{other}' at 'shardIteratorType' failed to satisfy constraint: Member must \
                 satisfy enum value set: [AFTER_SEQUENCE_NUMBER, AT_SEQUENCE_NUMBER, \
                 AT_TIMESTAMP, LATEST, TRIM_HORIZON]"
            );
            return Err(ApiError::validation(&constraint));
        }
    };
    Ok(json(
        &serde_json::json!({"ShardIterator": iterator(id, position)}),
    ))
}

fn at_timestamp(shard: &Shard, timestamp: Option<f64>) -> Result<u64, ApiError> {
    let Some(timestamp) = timestamp.filter(|timestamp| timestamp.is_finite()) else {
        return Err(ApiError::argument(
            "Timestamp is required for AT_TIMESTAMP.",
        ));
    };
    let first = shard
        .records()
        .find(|record| record.arrival_ms as f64 >= timestamp * 1_000.0);
    Ok(first.map_or(shard.upcoming(), |record| record.number))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RecordsRequest<'a> {
    #[serde(borrow)]
    shard_iterator: Cow<'a, str>,
    limit: Option<usize>,
}

/// GetRecords.
pub(super) fn get_records(
    stream: &Stream,
    now: SystemTime,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: RecordsRequest<'_> = request(body)?;
    let limit = asked.limit.unwrap_or(GET_RECORDS_MAX);
    if !(1..=GET_RECORDS_MAX).contains(&limit) {
        let constraint = format!("Value '{limit}' at 'limit' must be between 1 and 10000");
        return Err(ApiError::validation(&constraint));
    }
    let found = parse_iterator(&asked.shard_iterator)
        .and_then(|(id, position)| Some((id, position, stream.shard(id)?)));
    let Some((id, position, shard)) = found else {
        return Err(ApiError::argument("Invalid ShardIterator."));
    };
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut behind = Duration::ZERO;
    let next = shard
        .records_from(position)
        .try_fold(position, |next, record| {
            if records.len() == limit || bytes + record.data.len() > GET_BYTES_MAX {
                let arrival = UNIX_EPOCH + Duration::from_millis(record.arrival_ms);
                behind = now.duration_since(arrival).unwrap_or_default();
                return ControlFlow::Break(next);
            }
            bytes += record.data.len();
            records.push(serde_json::json!({
                "SequenceNumber": sequence_number(id, record.number),
                "ApproximateArrivalTimestamp": record.arrival_ms as f64 / 1_000.0,
                "Data": base64_simd::STANDARD.encode_to_string(&record.data),
                "PartitionKey": record.key,
                "EncryptionType": "NONE",
            }));
            ControlFlow::Continue(record.number + 1)
        });
    let next = match next {
        ControlFlow::Break(next) => next,
        // Past everything that was retained: later reads go on from here.
        ControlFlow::Continue(next) => next.max(shard.upcoming()),
    };
    Ok(json(&serde_json::json!({
        "Records": records,
        "NextShardIterator": iterator(id, next),
        "MillisBehindLatest": u64::try_from(behind.as_millis()).unwrap_or(u64::MAX),
    })))
}

fn iterator(shard: u32, position: u64) -> String {
    format!("it:{shard}:{position}")
}

fn parse_iterator(text: &str) -> Option<(u32, u64)> {
    let (shard, position) = text.strip_prefix("it:")?.split_once(':')?;
    Some((shard.parse().ok()?, position.parse().ok()?))
}

fn shard_id(shard: u32) -> String {
    let mut id = Vec::new();
    push_shard_id(&mut id, shard);
    String::from_utf8(id).unwrap_or_default()
}

fn sequence_number(shard: u32, number: u64) -> String {
    let mut text = Vec::new();
    push_sequence_number(&mut text, shard, number);
    String::from_utf8(text).unwrap_or_default()
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
