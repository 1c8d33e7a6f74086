//! Errors as the service writes them, and which operation is whose. Those that put records are
//! in `call` and `stream`; all others go through [`operate`].

use super::stream::{Stream, StreamConfig};
use super::{control, listing, read};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The account that owns the stream.
pub(super) const ACCOUNT: &str = "000000000000";

/// The operation that a call names, without the service's prefix; `unknown` for those that are
/// not emulated.
pub(super) fn operation(name: &str) -> &'static str {
    const OPERATIONS: [&str; 13] = [
        "PutRecords",
        "PutRecord",
        "GetRecords",
        "GetShardIterator",
        "ListShards",
        "DescribeStream",
        "DescribeStreamSummary",
        "SplitShard",
        "MergeShards",
        "UpdateShardCount",
        "UpdateStreamMode",
        "UpdateMaxRecordSize",
        "UpdateStreamRecordDistributionStrategy",
    ];
    let found = OPERATIONS.into_iter().find(|known| *known == name);
    found.unwrap_or("unknown")
}

/// Answers a call of any operation that puts no records. `now` is the time since the stream's
/// creation.
///
/// # Errors
/// What the service answers instead.
pub(super) fn operate(
    operation: &str,
    stream: &mut Stream,
    now: Duration,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    stream.settle(now);
    match operation {
        "GetRecords" => read::get_records(stream, now, body),
        "GetShardIterator" => read::get_shard_iterator(stream, body),
        "ListShards" => listing::list_shards(stream, now, body),
        "DescribeStream" => listing::describe_stream(stream, body),
        "DescribeStreamSummary" => listing::describe_stream_summary(stream, body),
        "SplitShard" => control::split_shard(stream, now, body),
        "MergeShards" => control::merge_shards(stream, now, body),
        "UpdateShardCount" => control::update_shard_count(stream, now, body),
        "UpdateStreamMode" => control::update_stream_mode(stream, now, body),
        "UpdateMaxRecordSize" => control::update_max_record_size(stream, now, body),
        "UpdateStreamRecordDistributionStrategy" => control::update_distribution(stream, body),
        _ => Err(ApiError::unknown_operation()),
    }
}

/// An error for a whole call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn client(code: &'static str, message: impl Into<String>) -> ApiError {
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

    /// The stream is in the middle of a change.
    pub(super) fn in_use(stream: &str) -> ApiError {
        let message = format!(
            "Stream {stream} under account {ACCOUNT} not ACTIVE, instead in state UPDATING"
        );
        ApiError::client("ResourceInUseException", message)
    }

    /// More than the service allows.
    pub(super) fn limit_exceeded(message: impl Into<String>) -> ApiError {
        ApiError::client("LimitExceededException", message)
    }

    /// The service failed.
    pub(super) fn internal() -> ApiError {
        ApiError {
            status: 500,
            code: "InternalFailure",
            message: "Internal service failure.".to_owned(),
        }
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
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// The request in a body.
pub(super) fn request<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
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
    let message = format!("Stream {named} under account {ACCOUNT} not found.");
    Err(ApiError::client("ResourceNotFoundException", message))
}

/// How a call names the stream.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamName {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

impl StreamName {
    /// Whether the call names no stream at all.
    pub(super) fn is_absent(&self) -> bool {
        self.stream_name.is_none() && self.stream_arn.is_none()
    }

    /// As [`check_stream`].
    pub(super) fn check(&self, config: &StreamConfig) -> Result<(), ApiError> {
        let (name, arn) = (self.stream_name.as_deref(), self.stream_arn.as_deref());
        check_stream(config, name, arn)
    }
}
