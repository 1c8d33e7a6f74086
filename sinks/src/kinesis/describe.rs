//! What the service says of a stream: DescribeStreamSummary and ListShards.

use super::is_arn;
use super::shards::{SHARDS_MAX, Shard};
use crate::aws::call::JsonClient;
use crate::aws::{Aws, CallFailure, unreadable};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_core::cause::Cause;

/// The default record limit of a stream, KiB.
pub(super) const RECORD_KIB_DEFAULT: usize = 1024;
/// The highest record limit that a stream can be given, KiB.
const RECORD_KIB_CEILING: usize = 10 * 1024;

/// A stream's description, of which a server may leave out all but the ARN.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct StreamSummary {
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: String,
    stream_mode_details: Option<StreamModeDetails>,
    open_shard_count: u64,
    #[serde(rename = "MaxRecordSizeInKiB")]
    record_kib_max: Option<i64>,
    record_distribution_strategy: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamModeDetails {
    stream_mode: String,
}

/// What we need to know of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamInfo {
    pub(super) record_kib: usize,
    pub(super) is_auto: bool,
}

impl StreamInfo {
    pub(super) fn of(summary: &StreamSummary) -> StreamInfo {
        let record_kib = summary
            .record_kib_max
            .and_then(|kib| usize::try_from(kib).ok())
            .filter(|kib| (1..=RECORD_KIB_CEILING).contains(kib))
            .unwrap_or(RECORD_KIB_DEFAULT);
        // Provisioned streams, and emulators, name no strategy: keys are needed.
        let is_auto = summary.record_distribution_strategy.as_deref() == Some("AUTO");
        StreamInfo {
            record_kib,
            is_auto,
        }
    }

    pub(super) fn say(self, summary: &StreamSummary) -> String {
        let mode = summary
            .stream_mode_details
            .as_ref()
            .map_or("mode not named", |details| &details.stream_mode);
        let distribution = if self.is_auto {
            "AUTO, no keys"
        } else {
            "by partition key"
        };
        format!(
            "{}, {mode}, {} open shards, records up to {} KiB, distribution {distribution}",
            summary.stream_status, summary.open_shard_count, self.record_kib,
        )
    }
}

/// Describes a stream.
pub(super) async fn stream(
    client: &JsonClient,
    aws: &Aws,
    stream: &str,
) -> Result<StreamSummary, CallFailure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        stream_description_summary: Option<StreamSummary>,
    }
    let target = "Kinesis_20131202.DescribeStreamSummary";
    let answer = client.call(aws, target, body(&named(stream))).await?;
    let answer: Answer = serde_json::from_slice(&answer).map_err(|error| unreadable(&error))?;
    let summary = answer.stream_description_summary;
    summary
        .filter(|summary| !summary.stream_arn.is_empty())
        .ok_or_else(|| CallFailure {
            cause: Cause::Unknown,
            is_auth_error: false,
            text: "the answer describes no stream".to_owned(),
        })
}

/// Lists the open shards of a stream.
///
/// # Errors
/// What a log says of it.
pub(super) async fn shards(
    client: &JsonClient,
    aws: &Aws,
    stream: &str,
) -> Result<Vec<Shard>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        shards: Vec<Shard>,
        next_token: Option<String>,
    }
    let mut asked = named(stream);
    asked["ShardFilter"] = json!({"Type": "AT_LATEST"});
    let mut shards = Vec::new();
    // A page has up to 1,000 shards, by the service's default.
    for _ in 0..=SHARDS_MAX / 1_000 {
        let target = "Kinesis_20131202.ListShards";
        let answer = client.call(aws, target, body(&asked)).await;
        let answer = answer.map_err(|failure| failure.text)?;
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|error| unreadable(&error).text)?;
        shards.extend(answer.shards);
        match answer.next_token {
            // A later page is named by its token alone.
            Some(token) => asked = json!({"NextToken": token}),
            None => return Ok(shards),
        }
    }
    Err(format!("more than {SHARDS_MAX} shards"))
}

fn named(stream: &str) -> Value {
    match is_arn(stream) {
        true => json!({"StreamARN": stream}),
        false => json!({"StreamName": stream}),
    }
}

fn body(asked: &Value) -> Bytes {
    Bytes::from(asked.to_string())
}
