//! Errors as the service writes them, and which operation is whose. Those that put records are
//! in `call` and `stream`; all others go through [`operate`].

use super::stream::{Mode, StreamConfig};
use super::streams::{Found, Streams};
use super::{control, listing, read};
use crate::service::Refusal;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The account that owns the stream.
pub(super) const ACCOUNT: &str = "000000000000";

/// The operation that a call names, without the service's prefix; `unknown` for those that are
/// not emulated.
pub(super) fn operation(name: &str) -> &'static str {
    const OPERATIONS: [&str; 17] = [
        "PutRecords",
        "PutRecord",
        "GetRecords",
        "GetShardIterator",
        "ListShards",
        "ListStreams",
        "CreateStream",
        "DeleteStream",
        "DescribeLimits",
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

/// Answers a call of any operation that puts no records. `now` is the time since the emulator's start;
/// `region` goes into ARNs.
///
/// # Errors
/// The service's error.
pub(super) fn operate(
    operation: &str,
    streams: &mut Streams,
    now: Duration,
    region: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    streams.settle(now);
    match operation {
        "CreateStream" => return streams.create(now, body),
        "DeleteStream" => return streams.delete(now, body),
        "ListStreams" => return listing::list_streams(streams, region, body),
        "DescribeLimits" => return Ok(listing::describe_limits(streams)),
        "unknown" => return Err(ApiError::unknown_operation()),
        _ => {}
    }
    let Found { stream, now } = streams.of_call(now, body)?;
    match operation {
        "GetRecords" => read::get_records(stream, now, body),
        "GetShardIterator" => read::get_shard_iterator(stream, body),
        "ListShards" => listing::list_shards(stream, now, body),
        "DescribeStream" => listing::describe_stream(stream, region, body),
        "DescribeStreamSummary" => listing::describe_stream_summary(stream, region, body),
        "SplitShard" => control::split_shard(stream, now, body),
        "MergeShards" => control::merge_shards(stream, now, body),
        "UpdateShardCount" => control::update_shard_count(stream, now, region, body),
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
    pub(super) fn in_use(stream: &str, status: &str) -> ApiError {
        let message = format!(
            "Stream {stream} under account {ACCOUNT} not ACTIVE, instead in state {status}"
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
        let Refusal { code, message, .. } = Refusal::unknown_operation();
        ApiError::client(code, message)
    }

    pub(super) fn no_stream(name: &str) -> ApiError {
        let message = format!("Stream {name} under account {ACCOUNT} not found.");
        ApiError::client("ResourceNotFoundException", message)
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

/// The name of the stream that a call means.
pub(super) fn stream_name<'a>(
    name: Option<&'a str>,
    arn: Option<&'a str>,
) -> Result<&'a str, ApiError> {
    match (name, arn) {
        (Some(name), _) => Ok(name),
        (None, Some(arn)) => Ok(arn.rsplit('/').next().unwrap_or_default()),
        (None, None) => {
            let message = "Either StreamName or StreamARN must be given.";
            Err(ApiError::argument(message))
        }
    }
}

/// A capacity mode as calls give it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ModeDetails {
    stream_mode: String,
}

impl ModeDetails {
    pub(super) fn mode(&self) -> Result<Mode, ApiError> {
        match self.stream_mode.as_str() {
            "PROVISIONED" => Ok(Mode::Provisioned),
            "ON_DEMAND" => Ok(Mode::OnDemand),
            other => Err(ApiError::validation(&format!(
                "Value '{other}' at 'streamModeDetails.streamMode' failed to satisfy constraint: \
                 Member must satisfy enum value set: [ON_DEMAND, PROVISIONED]"
            ))),
        }
    }
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

    /// Checks that the call names this stream.
    pub(super) fn check(&self, config: &StreamConfig) -> Result<(), ApiError> {
        let (name, arn) = (self.stream_name.as_deref(), self.stream_arn.as_deref());
        match stream_name(name, arn)? {
            name if name == config.name => Ok(()),
            name => Err(ApiError::no_stream(name)),
        }
    }
}
