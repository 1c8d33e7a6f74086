//! Calls that describe streams: DescribeStreamSummary, DescribeStream and ListShards with its
//! filters and pages. Changes nothing.

use super::SHARDS_MAX;
use super::api::{ACCOUNT, ApiError, StreamName, json, request};
use super::shard::{Shard, parse_shard_id, sequence_number, shard_id};
use super::stream::{Distribution, Mode, Stream};
use super::streams::{STREAMS_MAX, Streams};
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// Shards that one ListShards answer holds at most (service limit).
const LIST_SHARDS_MAX: usize = 1_000;

/// Shards that one DescribeStream answer holds at most (service limit).
const DESCRIBE_SHARDS_MAX: usize = 100;

/// Streams that one ListStreams answer holds unless the call asks for another number (service default).
const LIST_STREAMS_MAX: usize = 100;

/// Default retention of the service.
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The stream's ARN in a region.
pub(super) fn arn(stream: &Stream, region: &str) -> String {
    let name = &stream.config().name;
    let partition = match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    format!("arn:{partition}:kinesis:{region}:{ACCOUNT}:stream/{name}")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeRequest {
    #[serde(flatten)]
    stream: StreamName,
    limit: Option<usize>,
    exclusive_start_shard_id: Option<String>,
}

/// When the stream was created, in Unix seconds.
fn created(stream: &Stream) -> f64 {
    let created = stream.created().duration_since(UNIX_EPOCH);
    created.unwrap_or_default().as_secs_f64()
}

/// Members of both descriptions.
fn description(stream: &Stream, region: &str) -> Value {
    let config = stream.config();
    serde_json::json!({
        "StreamName": config.name,
        "StreamARN": arn(stream, region),
        "StreamStatus": stream.status(),
        "StreamModeDetails": {"StreamMode": config.mode.as_str()},
        "RetentionPeriodHours": RETENTION.as_secs() / 3_600,
        "StreamCreationTimestamp": created(stream),
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE",
    })
}

/// DescribeStreamSummary.
pub(super) fn describe_stream_summary(
    stream: &Stream,
    region: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let config = stream.config();
    let asked: DescribeRequest = request(body)?;
    asked.stream.check(config)?;
    let mut summary = description(stream, region);
    summary["OpenShardCount"] = stream.shards().open_count().into();
    summary["ConsumerCount"] = 0.into();
    summary["MaxRecordSizeInKiB"] = (config.record_bytes_max / 1024).into();
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

/// DescribeStream.
pub(super) fn describe_stream(
    stream: &Stream,
    region: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: DescribeRequest = request(body)?;
    asked.stream.check(stream.config())?;
    let limit = asked.limit.unwrap_or(DESCRIBE_SHARDS_MAX);
    if !(1..=10_000).contains(&limit) {
        let constraint = format!("Value '{limit}' at 'limit' must be between 1 and 10000");
        return Err(ApiError::validation(&constraint));
    }
    let start = after(asked.exclusive_start_shard_id.as_deref())?;
    let limit = limit.min(DESCRIBE_SHARDS_MAX);
    let (shards, next) = page(stream, Filter::All, start, limit);
    let mut description = description(stream, region);
    description["Shards"] = shards.into();
    description["HasMoreShards"] = next.is_some().into();
    Ok(json(&serde_json::json!({"StreamDescription": description})))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListStreamsRequest {
    limit: Option<usize>,
    exclusive_start_stream_name: Option<String>,
    next_token: Option<String>,
}

/// ListStreams: by name.
pub(super) fn list_streams(
    streams: &Streams,
    region: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: ListStreamsRequest = request(body)?;
    let limit = asked.limit.unwrap_or(LIST_STREAMS_MAX);
    if !(1..=10_000).contains(&limit) {
        let constraint = format!("Value '{limit}' at 'limit' must be between 1 and 10000");
        return Err(ApiError::validation(&constraint));
    }
    // A token is the last name of the page before it.
    let after = asked.next_token.or(asked.exclusive_start_stream_name);
    let mut listed: Vec<&Stream> = streams.all().collect();
    listed.sort_by(|a, b| a.config().name.cmp(&b.config().name));
    listed.retain(|stream| {
        after
            .as_ref()
            .is_none_or(|after| stream.config().name > *after)
    });
    let more = listed.len() > limit;
    listed.truncate(limit);
    let names: Vec<&str> = listed
        .iter()
        .map(|stream| stream.config().name.as_str())
        .collect();
    let summary = |stream: &&Stream| {
        serde_json::json!({
            "StreamName": stream.config().name,
            "StreamARN": arn(stream, region),
            "StreamStatus": stream.status(),
            "StreamModeDetails": {"StreamMode": stream.config().mode.as_str()},
            "StreamCreationTimestamp": created(stream),
        })
    };
    let summaries: Vec<Value> = listed.iter().map(summary).collect();
    let mut answer = serde_json::json!({
        "StreamNames": names,
        "HasMoreStreams": more,
        "StreamSummaries": summaries,
    });
    if let (true, Some(last)) = (more, names.last()) {
        answer["NextToken"] = (*last).into();
    }
    Ok(json(&answer))
}

/// DescribeLimits.
pub(super) fn describe_limits(streams: &Streams) -> Vec<u8> {
    let open: u32 = streams
        .all()
        .map(|stream| stream.shards().open_count())
        .sum();
    let on_demand = streams
        .all()
        .filter(|stream| stream.config().mode == Mode::OnDemand);
    json(&serde_json::json!({
        "ShardLimit": SHARDS_MAX,
        "OpenShardCount": open,
        "OnDemandStreamCount": on_demand.count(),
        "OnDemandStreamCountLimit": STREAMS_MAX,
    }))
}

/// The shard after the one that a call names; the first without one.
fn after(shard: Option<&str>) -> Result<u32, ApiError> {
    let Some(text) = shard else {
        return Ok(0);
    };
    let id = parse_shard_id(text).and_then(|id| id.checked_add(1));
    id.ok_or_else(|| ApiError::argument(format!("Shard id {text} is invalid.")))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListRequest {
    #[serde(flatten)]
    stream: StreamName,
    next_token: Option<String>,
    max_results: Option<usize>,
    exclusive_start_shard_id: Option<String>,
    shard_filter: Option<FilterRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FilterRequest {
    #[serde(rename = "Type")]
    kind: String,
    shard_id: Option<String>,
    timestamp: Option<f64>,
}

/// Which shards are listed. Times are since the stream's creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    All,
    /// Open now.
    Latest,
    /// Open at a time.
    At(Duration),
    /// Open at a time or later.
    From(Duration),
}

impl Filter {
    fn takes(self, shard: &Shard) -> bool {
        match self {
            Filter::All => true,
            Filter::Latest => shard.closed.is_none(),
            Filter::At(time) => shard.was_open(time),
            Filter::From(time) => shard.closed.is_none_or(|closed| closed > time),
        }
    }

    /// A page's token holds the filter with its time, so that pages agree with each other.
    /// It begins with the stream's name, which later calls do not give.
    fn token(self, stream: &str, next: u32) -> String {
        let nanos = |time: Duration| time.as_nanos();
        match self {
            Filter::All => format!("{stream}:all:0:{next}"),
            Filter::Latest => format!("{stream}:latest:0:{next}"),
            Filter::At(time) => format!("{stream}:at:{}:{next}", nanos(time)),
            Filter::From(time) => format!("{stream}:from:{}:{next}", nanos(time)),
        }
    }

    fn parse_token(token: &str, stream: &str) -> Option<(Filter, u32)> {
        let mut parts = token.strip_prefix(stream)?.strip_prefix(':')?.split(':');
        let (kind, nanos, next) = (parts.next()?, parts.next()?, parts.next()?);
        let time = Duration::from_nanos(nanos.parse().ok()?);
        let filter = match kind {
            "all" => Filter::All,
            "latest" => Filter::Latest,
            "at" => Filter::At(time),
            "from" => Filter::From(time),
            _ => return None,
        };
        (parts.next().is_none()).then_some((filter, next.parse().ok()?))
    }
}

/// Reads a filter, and the shard that the list begins with.
fn filter(
    stream: &Stream,
    now: Duration,
    asked: &FilterRequest,
) -> Result<(Filter, u32), ApiError> {
    let horizon = now.saturating_sub(RETENTION);
    // Before the stream's creation nothing was open; the service refuses times to come.
    let timestamp = || {
        let unix = asked
            .timestamp
            .and_then(|timestamp| Duration::try_from_secs_f64(timestamp).ok())
            .ok_or_else(|| ApiError::argument("Timestamp is required for this ShardFilter."))?;
        let created = stream.created().duration_since(UNIX_EPOCH);
        let time = unix.saturating_sub(created.unwrap_or_default());
        if time > now {
            return Err(ApiError::argument("Timestamp cannot be in the future."));
        }
        Ok(time)
    };
    let is_given = (asked.shard_id.is_some(), asked.timestamp.is_some());
    let may_be = match asked.kind.as_str() {
        "AFTER_SHARD_ID" => (true, false),
        "AT_TIMESTAMP" | "FROM_TIMESTAMP" => (false, true),
        _ => (false, false),
    };
    if is_given.0 && !may_be.0 || is_given.1 && !may_be.1 {
        let message = format!("ShardFilter {} has a member too many.", asked.kind);
        return Err(ApiError::argument(message));
    }
    let filter = match asked.kind.as_str() {
        "AFTER_SHARD_ID" if is_given.0 => {
            return Ok((Filter::All, after(asked.shard_id.as_deref())?));
        }
        "AFTER_SHARD_ID" => {
            return Err(ApiError::argument(
                "ShardId is required for AFTER_SHARD_ID.",
            ));
        }
        "AT_LATEST" => Filter::Latest,
        "AT_TRIM_HORIZON" => Filter::At(horizon),
        "FROM_TRIM_HORIZON" => Filter::From(horizon),
        "AT_TIMESTAMP" => Filter::At(timestamp()?),
        "FROM_TIMESTAMP" => Filter::From(timestamp()?),
        other => {
            let constraint = format!(
                "Value '{other}' at 'shardFilter.type' failed to satisfy constraint: Member must \
                 satisfy enum value set: [AFTER_SHARD_ID, AT_LATEST, AT_TIMESTAMP, \
                 AT_TRIM_HORIZON, FROM_TIMESTAMP, FROM_TRIM_HORIZON]"
            );
            return Err(ApiError::validation(&constraint));
        }
    };
    Ok((filter, 0))
}

/// ListShards.
pub(super) fn list_shards(
    stream: &Stream,
    now: Duration,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let asked: ListRequest = request(body)?;
    let (filter, start) = match (&asked.next_token, &asked.shard_filter) {
        (Some(_), _) if !asked.stream.is_absent() => {
            let message = "NextToken and StreamName cannot be provided together.";
            return Err(ApiError::argument(message));
        }
        (Some(_), _) if asked.exclusive_start_shard_id.is_some() => {
            let message = "NextToken and ExclusiveStartShardId cannot be provided together.";
            return Err(ApiError::argument(message));
        }
        (Some(token), None) => Filter::parse_token(token, &stream.config().name)
            .ok_or_else(|| ApiError::argument("NextToken is not valid."))?,
        (Some(_), Some(_)) => {
            let message = "NextToken and ShardFilter cannot be provided together.";
            return Err(ApiError::argument(message));
        }
        (None, shard_filter) => {
            asked.stream.check(stream.config())?;
            let (filter, start) = match shard_filter {
                Some(asked) => filter(stream, now, asked)?,
                None => (Filter::All, 0),
            };
            let after = after(asked.exclusive_start_shard_id.as_deref())?;
            (filter, start.max(after))
        }
    };
    let limit = asked.max_results.unwrap_or(LIST_SHARDS_MAX);
    if !(1..=10_000).contains(&limit) {
        let constraint = "Value at 'maxResults' must be between 1 and 10000";
        return Err(ApiError::validation(constraint));
    }
    let (shards, next) = page(stream, filter, start, limit.min(LIST_SHARDS_MAX));
    let mut answer = serde_json::json!({"Shards": shards});
    if let Some(next) = next {
        answer["NextToken"] = filter.token(&stream.config().name, next).into();
    }
    Ok(json(&answer))
}

/// Up to `limit` shards by id from `start` on, and the first that did not fit.
fn page(stream: &Stream, filter: Filter, start: u32, limit: usize) -> (Vec<Value>, Option<u32>) {
    let shards = (0..).zip(stream.shards().all());
    let mut found = shards
        .skip(start as usize)
        .filter(|(_, shard)| filter.takes(shard));
    let page = found.by_ref().take(limit);
    let page = page.map(|(id, shard)| shard_json(id, shard)).collect();
    (page, found.next().map(|(id, _)| id))
}

fn range_json(shard: &Shard) -> Value {
    serde_json::json!({
        "StartingHashKey": shard.range.start().to_string(),
        "EndingHashKey": shard.range.end().to_string(),
    })
}

fn shard_json(id: u32, shard: &Shard) -> Value {
    let mut numbers = serde_json::json!({"StartingSequenceNumber": sequence_number(id, 0)});
    if shard.closed.is_some() {
        let last = sequence_number(id, shard.last_number());
        numbers["EndingSequenceNumber"] = last.into();
    }
    let mut json = serde_json::json!({
        "ShardId": shard_id(id),
        "HashKeyRange": range_json(shard),
        "SequenceNumberRange": numbers,
    });
    if let Some(parent) = shard.parent {
        json["ParentShardId"] = shard_id(parent).into();
    }
    if let Some(parent) = shard.adjacent_parent {
        json["AdjacentParentShardId"] = shard_id(parent).into();
    }
    json
}

/// A shard as GetRecords reports it to readers at the end of its parent.
pub(super) fn child_json(id: u32, shard: &Shard) -> Value {
    let parents = [shard.parent, shard.adjacent_parent];
    let parents: Vec<String> = parents.into_iter().flatten().map(shard_id).collect();
    serde_json::json!({
        "ShardId": shard_id(id),
        "ParentShards": parents,
        "HashKeyRange": range_json(shard),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_its_filter_and_garbage_is_none() {
        let time = Duration::from_nanos(1_234_567_890_123);
        for filter in [
            Filter::All,
            Filter::Latest,
            Filter::At(time),
            Filter::From(time),
        ] {
            assert_eq!(
                Filter::parse_token(&filter.token("s.1", 17), "s.1"),
                Some((filter, 17))
            );
        }
        assert_eq!(Filter::parse_token("s.2:all:0:1", "s.1"), None);
        for token in [
            "",
            "17",
            "all:0",
            "all:0:1:2",
            "any:0:1",
            "at:x:1",
            "at:1:-1",
        ] {
            let token = format!("s.1:{token}");
            assert_eq!(Filter::parse_token(&token, "s.1"), None, "{token}");
        }
    }

    #[test]
    fn a_time_filter_lists_shards_open_then() {
        let seconds = Duration::from_secs;
        let mut parent = Shard::new(0..=u128::MAX, seconds(0));
        parent.closed = Some(seconds(10));
        let child = Shard::new(0..=u128::MAX, seconds(10));
        for (filter, takes) in [
            (Filter::All, (true, true)),
            (Filter::Latest, (false, true)),
            (Filter::At(seconds(9)), (true, false)),
            (Filter::At(seconds(10)), (false, true)),
            (Filter::From(seconds(9)), (true, true)),
            (Filter::From(seconds(10)), (false, true)),
        ] {
            assert_eq!(
                (filter.takes(&parent), filter.takes(&child)),
                takes,
                "{filter:?}"
            );
        }
    }
}
