//! Firehose, direct puts: one PutRecordBatch per batch. The service bills records in increments of 5 KiB, so
//! events are packed into records, one per line; an event's result is that of its record. Only the response
//! entries count: without a readable entry a record's result is unknown.
//!
//! The stream is described only by `check`: nothing in its description would change a call.

mod pack;
mod put;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::{FirehoseSettings, TYPE};

#[cfg(feature = "aws-sdk")]
use crate::aws::AwsClient;
use crate::aws::call::{JsonClient, JsonService};
use crate::aws::{Aws, CallFailure, HAS_SDK, unreadable};
use crate::rate_limited_log::RateLimitedLog;
use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use pack::{Chunk, pack};
use put::Answered;
use serde::Deserialize;
use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use sluice_core::stats::BillingStats;
use std::sync::Arc;

/// Events in one PutRecordBatch. The service counts records, and takes 500; so many events never make more of
/// them, and an event more would hardly ever save a record. It is also what the service's own de-aggregation
/// takes out of one record.
pub const BATCH_RECORDS_CEILING: usize = 500;
/// Bytes of data in one PutRecordBatch, before base64, as the service documents it.
pub const BATCH_BYTES_CEILING: usize = 4 << 20;
/// Bytes of data in one record, before base64, as the service documents it (1,000 KiB).
pub const RECORD_BYTES_CEILING: usize = 1_000 << 10;
/// The increment in which each record is billed, in bytes, as the service documents it.
const BILLED_STEP: usize = 5 << 10;
/// What entries of an answer say that ask for less.
const THROTTLED: [&str; 1] = ["ServiceUnavailableException"];
/// As it stands in the log.
const CALL: &str = "PutRecordBatch";
/// Its service id, and in upper case the name in variables.
const SERVICE_ID: &str = "Firehose";
/// This service calls its throttling as it does in entries, where others have a code for it.
const SERVICE: JsonService = JsonService {
    signing_name: "firehose",
    content_type: "application/x-amz-json-1.1",
    throttled: &THROTTLED,
};

/// Writes events to one delivery stream.
pub struct FirehoseSink {
    client: JsonClient,
    /// Puts records in place of `client`.
    #[cfg(feature = "aws-sdk")]
    sdk: Option<aws_sdk_firehose::Client>,
    aws: Aws,
    settings: FirehoseSettings,
    failure_log: RateLimitedLog,
    bill: Arc<BillingStats>,
}

impl FirehoseSink {
    /// Finds region and credentials, at most 5 s each. Without credentials the sink starts nevertheless,
    /// says so in the log, and goes on looking.
    ///
    /// Timers and connections live on the current tokio runtime: the sink has to be used on it.
    ///
    /// # Errors
    /// A setting is out of its range, or no region can be found.
    pub async fn start(settings: FirehoseSettings) -> Result<FirehoseSink, CheckError> {
        FirehoseSink::start_with(settings, None).await
    }

    async fn start_with(
        settings: FirehoseSettings,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<FirehoseSink, CheckError> {
        let fail = |reason| CheckError {
            destination: destination(&settings.stream),
            reason,
        };
        if let Some(problem) = settings.out_of_bounds() {
            return Err(fail(problem.to_string()));
        }
        settings.client.require(HAS_SDK).map_err(fail)?;
        let aws = Aws::load(&settings.aws, "FIREHOSE", credentials)
            .await
            .map_err(fail)?;
        let client = client(&aws, &settings).map_err(fail)?;
        #[cfg(feature = "aws-sdk")]
        let sdk =
            (settings.client == AwsClient::Sdk).then(|| aws_sdk_firehose::Client::new(&aws.config));
        Ok(FirehoseSink {
            client,
            #[cfg(feature = "aws-sdk")]
            sdk,
            aws,
            settings,
            failure_log: RateLimitedLog::default(),
            bill: Arc::default(),
        })
    }

    async fn put(&self, records: &[Record]) -> Vec<RecordResult> {
        let mut results = vec![RecordResult::Retry(Cause::Unknown); records.len()];
        let mut events: Vec<&[u8]> = Vec::with_capacity(records.len());
        let mut sent = Vec::with_capacity(records.len());
        for (record, result) in records.iter().zip(&mut results) {
            match line(&record.payload) {
                Ok(event) => {
                    events.push(event);
                    sent.push(result);
                }
                Err(cause) => *result = RecordResult::Refused(cause),
            }
        }
        let sent_results = if events.is_empty() {
            Vec::new()
        } else {
            self.call(pack(&events, self.settings.pack_bytes_max)).await
        };
        for (slot, result) in sent.into_iter().zip(sent_results) {
            *slot = result;
        }
        results
    }

    /// Puts the chunks and returns one result per event.
    async fn call(&self, chunks: Vec<Chunk>) -> Vec<RecordResult> {
        let sizes: Vec<(usize, u64)> = chunks
            .iter()
            .map(|chunk| (chunk.events, chunk.data.len() as u64))
            .collect();
        let events = sizes.iter().map(|(events, _)| events).sum();
        let stream = &self.settings.stream;
        let answer = self.put_chunks(chunks).await;
        match answer {
            Ok(answered) if answered.len() == sizes.len() => {
                let mut results = Vec::with_capacity(events);
                for ((events, bytes), result) in sizes.into_iter().zip(answered) {
                    if result == RecordResult::Delivered {
                        self.bill.confirmed_bytes.add(bytes);
                        let billed = bytes.next_multiple_of(BILLED_STEP as u64);
                        self.bill.billed_bytes.add(billed);
                    }
                    results.extend(std::iter::repeat_n(result, events));
                }
                results
            }
            Ok(answered) => {
                self.failure_log
                    .warn_of_entries(CALL, stream, sizes.len(), answered.len());
                vec![RecordResult::Retry(Cause::Unknown); events]
            }
            Err(failure) => {
                self.failure_log
                    .warn(CALL, stream, failure.cause, &failure.text);
                if failure.is_auth_error {
                    self.aws.doubt_credentials();
                }
                vec![failure.result(events); events]
            }
        }
    }

    async fn put_chunks(&self, chunks: Vec<Chunk>) -> Answered {
        let stream = &self.settings.stream;
        #[cfg(feature = "aws-sdk")]
        if let Some(client) = &self.sdk {
            return put::by_sdk(client, stream, chunks).await;
        }
        put::by_own_client(&self.client, &self.aws, stream, &chunks).await
    }

    async fn describe(&self) -> Result<String, CheckError> {
        let destination = destination(&self.settings.stream);
        let fail = |failure: CallFailure| failure.of_check(destination.clone());
        let asked = serde_json::json!({"DeliveryStreamName": self.settings.stream, "Limit": 1});
        let target = "Firehose_20150804.DescribeDeliveryStream";
        let body = Bytes::from(asked.to_string());
        let answer = self.client.call(&self.aws, target, body).await;
        let answer = answer.map_err(fail)?;
        let answer: Described =
            serde_json::from_slice(&answer).map_err(|error| fail(unreadable(&error)))?;
        let found = answer
            .delivery_stream_description
            .filter(|found| !found.delivery_stream_arn.is_empty());
        let reason = match found {
            None => "the answer describes no stream".to_owned(),
            Some(found) if found.delivery_stream_type != "DirectPut" => {
                format!(
                    "it takes no direct puts: its source is {}",
                    found.delivery_stream_type
                )
            }
            Some(found) if found.delivery_stream_status != "ACTIVE" => {
                format!(
                    "it is {}, and takes records only when ACTIVE",
                    found.delivery_stream_status
                )
            }
            Some(_) => {
                return Ok(format!(
                    "{destination}: ACTIVE, takes direct puts, packed up to {} bytes",
                    self.settings.pack_bytes_max
                ));
            }
        };
        Err(CheckError {
            destination,
            reason,
        })
    }
}

impl Sink for FirehoseSink {
    /// Leaves room for the newline of each event.
    fn limits(&self) -> SinkLimits {
        let FirehoseSettings {
            batch_records_max,
            batch_bytes_max,
            ..
        } = self.settings;
        let batch_bytes_max = batch_bytes_max.min(BATCH_BYTES_CEILING - batch_records_max);
        SinkLimits {
            batch_records_max,
            batch_bytes_max,
            record_bytes_max: (RECORD_BYTES_CEILING - 1).min(batch_bytes_max),
        }
    }

    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>> {
        Box::pin(self.put(records))
    }

    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(self.describe())
    }

    fn billing_stats(&self) -> Option<Arc<BillingStats>> {
        Some(Arc::clone(&self.bill))
    }
}

/// The event as a line to be, or why it never can be one. Core has checked the same; a record over the limit
/// would fail the whole call, and a newline inside would make two events of one.
fn line(payload: &[u8]) -> Result<&[u8], Cause> {
    if payload.len() >= RECORD_BYTES_CEILING {
        return Err(Cause::TooLarge);
    }
    if payload.is_empty() || memchr::memchr(b'\n', payload).is_some() {
        return Err(Cause::Invalid);
    }
    Ok(payload)
}

/// The answer of DescribeDeliveryStream.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    delivery_stream_description: Option<DeliveryStream>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DeliveryStream {
    #[serde(rename = "DeliveryStreamARN")]
    delivery_stream_arn: String,
    delivery_stream_type: String,
    delivery_stream_status: String,
}

fn client(aws: &Aws, settings: &FirehoseSettings) -> Result<JsonClient, String> {
    let region = aws.config.region().ok_or("no region")?.to_string();
    let given = aws.endpoint_url(&settings.aws, SERVICE_ID);
    let url = aws.endpoint(&region, given.as_deref()).url("firehose")?;
    JsonClient::new(aws, &settings.aws, SERVICE, &url)
}

fn destination(stream: &str) -> String {
    format!("firehose stream {stream}")
}
