//! The readers' calls: GetShardIterator and GetRecords, with the limits of a shard's readers.

use super::api::{ApiError, StreamName, json, request};
use super::listing::child_json;
use super::shard::{Shard, parse_sequence_number, parse_shard_id, sequence_number};
use super::stream::Stream;
use serde::Deserialize;
use std::ops::ControlFlow;
use std::time::{Duration, UNIX_EPOCH};

/// Records that one GetRecords answer holds at most (service limit).
const GET_RECORDS_MAX: usize = 10_000;

/// Data bytes that one GetRecords answer holds at most (service limit).
const GET_BYTES_MAX: usize = 10 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IteratorRequest {
    #[serde(flatten)]
    stream: StreamName,
    shard_id: String,
    shard_iterator_type: String,
    starting_sequence_number: Option<String>,
    timestamp: Option<f64>,
}

/// GetShardIterator.
pub(super) fn get_shard_iterator(stream: &Stream, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let config = stream.config();
    let asked: IteratorRequest = request(body)?;
    asked.stream.check(config)?;
    let shards = stream.shards();
    let found = parse_shard_id(&asked.shard_id).and_then(|id| Some((id, shards.get(id)?)));
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
    let position = match asked.shard_iterator_type.as_str() {
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
        &serde_json::json!({"ShardIterator": iterator(&config.name, id, position)}),
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
struct RecordsRequest {
    shard_iterator: String,
    limit: Option<usize>,
    #[serde(default)]
    dry_run: bool,
}

/// GetRecords. It uses up the read capacity of the shard.
pub(super) fn get_records(
    stream: &mut Stream,
    now: Duration,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: RecordsRequest = request(body)?;
    let limit = asked.limit.unwrap_or(GET_RECORDS_MAX);
    if !(1..=GET_RECORDS_MAX).contains(&limit) {
        let constraint = format!("Value '{limit}' at 'limit' must be between 1 and 10000");
        return Err(ApiError::validation(&constraint));
    }
    let limited = stream.config().shard_limits;
    let wall_clock = stream.created() + now;
    let found = parse_iterator(&asked.shard_iterator, &stream.config().name);
    let Some((id, position)) = found.filter(|(id, _)| stream.shards().get(*id).is_some()) else {
        return Err(ApiError::argument("Invalid ShardIterator."));
    };
    if asked.dry_run {
        return Err(ApiError::dry_run());
    }
    if limited
        && !stream
            .shard_mut(id)
            .is_some_and(|shard| shard.reads.admit(now))
    {
        return Err(stream.throttled(id));
    }
    let Some(shard) = stream.shards().get(id) else {
        return Err(ApiError::internal());
    };
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut behind = Duration::ZERO;
    let next = shard
        .records_from(position)
        .try_fold(position, |next, record| {
            if records.len() == limit || bytes + record.data.len() > GET_BYTES_MAX {
                let arrival = UNIX_EPOCH + Duration::from_millis(record.arrival_ms);
                behind = wall_clock.duration_since(arrival).unwrap_or_default();
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
    let (next, at_end) = match next {
        ControlFlow::Break(next) => (next, false),
        // Past everything that was retained: later reads go on from here.
        ControlFlow::Continue(next) => (next.max(shard.upcoming()), true),
    };
    let mut answer = serde_json::json!({
        "Records": records,
        "MillisBehindLatest": u64::try_from(behind.as_millis()).unwrap_or(u64::MAX),
    });
    // A closed shard ends where its records end, and its children go on.
    if at_end && shard.closed.is_some() {
        let children = shard.children.iter();
        let children: Vec<_> = children
            .filter_map(|child| Some(child_json(*child, stream.shards().get(*child)?)))
            .collect();
        answer["ChildShards"] = children.into();
    } else {
        answer["NextShardIterator"] = iterator(&stream.config().name, id, next).into();
    }
    if let Some(shard) = stream.shard_mut(id) {
        shard.reads.took(bytes);
    }
    Ok(json(&answer))
}

fn iterator(stream: &str, shard: u32, position: u64) -> String {
    format!("it:{stream}:{shard}:{position}")
}

/// The stream that an iterator belongs to.
pub(super) fn iterator_stream(text: &str) -> Option<&str> {
    Some(text.strip_prefix("it:")?.split_once(':')?.0)
}

fn parse_iterator(text: &str, stream: &str) -> Option<(u32, u64)> {
    let (own, place) = text.strip_prefix("it:")?.split_once(':')?;
    let (shard, position) = place.split_once(':')?;
    (own == stream).then_some((shard.parse().ok()?, position.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::Mode;
    use crate::kinesis::stream::tests::{put, stream};

    #[test]
    fn reads_use_capacity_and_throttled_reads_use_none() {
        let second = Duration::from_secs(1);
        let mut stream = stream(Mode::Provisioned);
        for turn in 0..3 {
            assert_eq!(put(&mut stream, turn * second, 1 << 18), 4);
        }
        let now = 10 * second;
        let mut refusal = |now| {
            let answer = get_records(&mut stream, now, br#"{"ShardIterator":"it:clicks:0:0"}"#);
            answer.err().map(|error| error.code)
        };
        let throttled = Some("ProvisionedThroughputExceededException");
        // Three answers of 0.75 MiB are more than the 2 MiB of a second: 0.25 MiB of debt.
        for _ in 0..3 {
            assert_eq!(refusal(now), None);
        }
        for _ in 0..50 {
            assert_eq!(refusal(now), throttled);
        }
        assert_eq!(refusal(now + Duration::from_millis(100)), throttled);
        assert_eq!(refusal(now + Duration::from_millis(125)), None);
    }
}
