//! SQS: SendMessageBatch. The service counts messages, ten to a call, and bills bytes, so events are packed
//! into messages, one per line; an event's result is that of its message. Only the entries of the answer
//! count: a message that no entry names has an unknown result.
//!
//! A timer polls the queue's limit on messages; calls never wait for it.

mod message;
mod send;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::{SqsSettings, TYPE};

use crate::aws::call::{JsonClient, JsonService};
use crate::aws::{Aws, CallFailure, Task, unreadable};
use crate::rate_limited_log::RateLimitedLog;
use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use futures_util::future::join_all;
use message::{Message, calls, event, pack};
use serde::Deserialize;
use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};

/// Messages in one SendMessageBatch, as the service documents it.
pub const MESSAGES_CEILING: usize = 10;
/// Events in one write.
pub const BATCH_RECORDS_CEILING: usize = 5_000;
/// Bytes of the messages of one SendMessageBatch, and of one message, as the service documents it.
pub const BATCH_BYTES_CEILING: usize = 1 << 20;
/// Bytes up to which events are packed: what every queue takes that was made since 2014. Billing counts the
/// bytes of a call, in steps of 64 KiB, so larger messages would cost no less.
const PACK_BYTES: usize = 256 << 10;
/// The least that a queue's limit on messages can be, as the service documents it.
const MESSAGE_BYTES_FLOOR: usize = 1 << 10;
/// How often the queue's limit is read.
const DESCRIBE_EVERY: Duration = Duration::from_secs(300);
/// The wait after that failed, doubled each time up to the usual interval.
const DESCRIBE_AGAIN: Duration = Duration::from_secs(5);
/// As it stands in the log.
const CALL: &str = "SendMessageBatch";
const SERVICE: JsonService = JsonService {
    signing_name: "sqs",
    content_type: "application/x-amz-json-1.0",
    throttled: &[],
};

/// Writes events to one queue.
pub struct SqsSink {
    queue: Arc<Queue>,
    _refresh: Task,
}

impl SqsSink {
    /// Finds region and credentials and reads the queue's attributes, at most 5 s each. Without credentials or
    /// queue the sink starts nevertheless, says so in the log, and goes on looking.
    ///
    /// Timers and connections live on the current tokio runtime: the sink has to be used on it.
    ///
    /// # Errors
    /// A setting is out of its range, or no region can be found.
    pub async fn start(settings: SqsSettings) -> Result<SqsSink, CheckError> {
        SqsSink::start_with(settings, None).await
    }

    async fn start_with(
        settings: SqsSettings,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<SqsSink, CheckError> {
        let name = settings.queue_name().to_owned();
        let fail = |reason| CheckError {
            destination: destination(&name),
            reason,
        };
        if let Some(problem) = settings.out_of_bounds() {
            return Err(fail(problem.to_string()));
        }
        let mut of_url = settings.aws.clone();
        of_url.region = of_url.region.or_else(|| settings.region_of_url());
        let aws = Aws::load(&of_url, "SQS", credentials).await.map_err(fail)?;
        let endpoint = aws
            .endpoint_url(&settings.aws, "SQS")
            .unwrap_or_else(|| settings.origin_of_url().to_owned());
        let client = JsonClient::new(&aws, &settings.aws, SERVICE, &endpoint).map_err(fail)?;
        let queue = Arc::new(Queue {
            client,
            aws,
            name,
            is_fifo: settings.is_fifo(),
            settings,
            message_bytes_max: AtomicUsize::new(BATCH_BYTES_CEILING),
            process: fastrand::u128(..),
            failure_log: RateLimitedLog::default(),
            event_log: RateLimitedLog::default(),
        });
        let is_described = queue.refresh().await;
        let timer = Arc::clone(&queue).keep_described(is_described);
        Ok(SqsSink {
            queue,
            _refresh: Task(tokio::spawn(timer)),
        })
    }
}

impl Sink for SqsSink {
    fn limits(&self) -> SinkLimits {
        let settings = &self.queue.settings;
        let message_bytes_max = self.queue.message_bytes_max.load(Ordering::Relaxed);
        SinkLimits {
            batch_records_max: settings.batch_records_max,
            batch_bytes_max: settings.batch_bytes_max,
            record_bytes_max: message_bytes_max.min(settings.batch_bytes_max),
        }
    }

    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>> {
        Box::pin(self.queue.write(records))
    }

    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(async {
            let destination = destination(&self.queue.name);
            match self.queue.describe().await {
                Ok(message_bytes_max) => {
                    let kind = match self.queue.is_fifo {
                        true => "FIFO",
                        false => "standard",
                    };
                    let packed = match self.queue.settings.message_bytes_max {
                        0 => "one event each".to_owned(),
                        bytes => format!("packed up to {}", bytes.min(message_bytes_max)),
                    };
                    Ok(format!(
                        "{destination}: {kind}, messages up to {message_bytes_max} bytes, {packed}"
                    ))
                }
                Err(failure) => Err(failure.of_check(destination)),
            }
        })
    }
}

/// State that calls and the timer share.
struct Queue {
    client: JsonClient,
    aws: Aws,
    name: String,
    is_fifo: bool,
    settings: SqsSettings,
    /// The queue's own limit.
    message_bytes_max: AtomicUsize,
    /// Sets deduplication ids apart from those of other processes.
    process: u128,
    failure_log: RateLimitedLog,
    event_log: RateLimitedLog,
}

impl Queue {
    async fn write(&self, records: &[Record]) -> Vec<RecordResult> {
        let mut results = vec![RecordResult::Retry(Cause::Unknown); records.len()];
        let limit = self.message_bytes_max.load(Ordering::Relaxed);
        let pack_bytes_max = self.settings.message_bytes_max.min(limit);
        let mut events = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            match event(at, record, limit, pack_bytes_max > 0) {
                Ok(event) => events.push(event),
                Err(unsendable) => {
                    let cause = unsendable.cause();
                    self.event_log
                        .warn("event", &self.name, cause, &unsendable.to_string());
                    results[at] = RecordResult::Refused(cause);
                }
            }
        }
        let messages = pack(events, pack_bytes_max);
        let calls = calls(&messages).map(|messages| self.call(messages));
        for (messages, answered) in join_all(calls).await {
            for (message, result) in messages.iter().zip(answered) {
                for event in &message.events {
                    results[event.at] = result;
                }
            }
        }
        results
    }

    /// Sends messages in one call and returns the result of each.
    async fn call<'a>(
        &self,
        messages: &'a [Message<'a>],
    ) -> (&'a [Message<'a>], Vec<RecordResult>) {
        let body = send::body(
            &self.settings.queue_url,
            messages,
            self.is_fifo.then_some(self.process),
        );
        let target = "AmazonSQS.SendMessageBatch";
        let answer = self.client.call(&self.aws, target, body).await;
        let events = |message: &Message<'_>| message.events.len();
        let answer = answer.and_then(|answer| {
            send::results(&answer, messages.iter().map(events)).map_err(|error| unreadable(&error))
        });
        let results = match answer {
            Ok(answered) => {
                if let Some((cause, text)) = answered.failure {
                    self.failure_log.warn(CALL, &self.name, cause, &text);
                }
                answered.results
            }
            Err(failure) => {
                self.failure_log
                    .warn(CALL, &self.name, failure.cause, &failure.text);
                if failure.is_auth_error {
                    self.aws.doubt_credentials();
                }
                let whole = failure.result(messages.iter().map(events).sum());
                vec![whole; messages.len()]
            }
        };
        (messages, results)
    }

    /// The queue's limit on a message.
    async fn describe(&self) -> Result<usize, CallFailure> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "Attributes")]
            attributes: Attributes,
        }
        #[derive(Deserialize)]
        struct Attributes {
            #[serde(rename = "MaximumMessageSize")]
            message_bytes_max: Option<String>,
        }
        let asked = serde_json::json!({
            "QueueUrl": self.settings.queue_url,
            "AttributeNames": ["MaximumMessageSize"],
        });
        let body = Bytes::from(asked.to_string());
        let target = "AmazonSQS.GetQueueAttributes";
        let answer = self.client.call(&self.aws, target, body).await?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| unreadable(&error))?;
        // Not every server that speaks the protocol has the attribute.
        let Some(limit) = answer.attributes.message_bytes_max else {
            return Ok(BATCH_BYTES_CEILING);
        };
        let in_range = |limit: &usize| (MESSAGE_BYTES_FLOOR..=BATCH_BYTES_CEILING).contains(limit);
        limit.parse().ok().filter(in_range).ok_or_else(|| CallFailure {
            cause: Cause::Unknown,
            is_auth_error: false,
            text: format!(
                "a limit of {limit:?} bytes for messages is none of {MESSAGE_BYTES_FLOOR} to {BATCH_BYTES_CEILING}"
            ),
        })
    }

    /// Reads the queue's limit; after a failure the old one stays. Says whether it succeeded.
    async fn refresh(&self) -> bool {
        match self.describe().await {
            Ok(bytes) => {
                if self.message_bytes_max.swap(bytes, Ordering::Relaxed) != bytes {
                    info!(
                        queue = self.name,
                        message_bytes_max = bytes,
                        "queue's limit"
                    );
                }
                true
            }
            Err(failure) => {
                if failure.is_auth_error {
                    self.aws.doubt_credentials();
                }
                warn!(
                    queue = self.name,
                    cause = failure.cause.label(),
                    error = failure.text,
                    "cannot read the queue's limit, going on with the last one known"
                );
                false
            }
        }
    }

    async fn keep_described(self: Arc<Self>, mut is_described: bool) {
        let mut again = DESCRIBE_AGAIN;
        loop {
            let wait = if is_described { DESCRIBE_EVERY } else { again };
            // Many processes start together; the account's limit is shared.
            sleep(wait.mul_f64(fastrand::f64().mul_add(0.2, 0.9))).await;
            is_described = self.refresh().await;
            again = match is_described {
                true => DESCRIBE_AGAIN,
                false => (again * 2).min(DESCRIBE_EVERY),
            };
        }
    }
}

fn destination(queue: &str) -> String {
    format!("sqs queue {queue}")
}
