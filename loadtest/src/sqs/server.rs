//! The queue as a service: its operations, its responses and its counters.

use super::api::{self, BATCH_BYTES_MAX, Checked, EntryError, hex};
use super::queue::{Message, Queue};
use super::{BILLED_UNIT, EmulatorError, Options, QUEUES_MAX};
use crate::event_id::IdScanner;
use crate::service::{
    self, Call, CallStats, CommonError, Frame, Refusal, RejectCode, Reply, Service,
    State as FrameState,
};
use bytes::Bytes;
use hyper::http::request::Parts;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TARGET_PREFIX: &str = "AmazonSQS.";

/// The account in the queue's URL and ARN.
const ACCOUNT: &str = "000000000000";

/// How long a received message is hidden unless the call says otherwise (service default).
const HIDDEN_SECONDS: u64 = 30;

/// The longest that a received message is hidden (service limit).
const HIDDEN_SECONDS_MAX: u64 = 43_200;

/// Messages that one ReceiveMessage call gives at most (service limit).
const RECEIVE_MAX: usize = 10;

/// Counters since the start. Also the JSON of `GET /_stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Of all calls.
    #[serde(flatten)]
    pub common: CallStats,
    /// Messages in calls that passed the whole-call checks.
    pub messages: u64,
    /// Messages stored.
    pub stored: u64,
    /// Bytes stored, bodies and attributes.
    pub stored_bytes: u64,
    /// Requests that would be billed for sending them: one per call and 64 KiB begun.
    pub billed_requests: u64,
    /// Messages refused by the rules of the service, inside answers of 200.
    pub invalid: u64,
    /// Messages refused by the fault `reject`.
    pub rejected: u64,
    /// Messages answered as stored and not stored, by the fault `drop_acked`.
    pub dropped_acked: u64,
    /// Messages received, again and again ones included.
    pub received: u64,
    /// Messages deleted by their readers' receipts.
    pub deleted: u64,
    /// Messages in memory.
    pub retained: u64,
    /// Bytes that they take.
    pub retained_bytes: u64,
    /// Stored messages that were neither deleted nor are in memory any more.
    pub not_retained: u64,
}

/// State shared by all calls.
pub(super) struct Own {
    /// In the order of their names.
    queues: Vec<Queue>,
    stats: Stats,
}

pub(super) struct Sqs {
    queues: Vec<String>,
    message_bytes_max: usize,
    scanner: Option<IdScanner>,
    created: SystemTime,
}

type State = FrameState<Own>;
type Shared = service::Shared<Sqs>;

/// Members of the answer for an accepted message.
fn taken(number: u64, message: &Checked) -> Value {
    let mut entry = json!({
        "MessageId": format!("00000000-0000-4000-8000-{number:012x}"),
        "MD5OfMessageBody": message.body_md5,
    });
    if let Some((_, digest)) = &message.attributes {
        entry["MD5OfMessageAttributes"] = digest.as_str().into();
    }
    if let Some(digest) = &message.system_attributes_md5 {
        entry["MD5OfMessageSystemAttributes"] = digest.as_str().into();
    }
    entry
}

fn refused(code: RejectCode) -> (&'static str, &'static str) {
    match code {
        RejectCode::ProvisionedThroughputExceededException => ("RequestThrottled", "Slow down."),
        RejectCode::InternalFailure => ("InternalError", "The service failed on this message."),
    }
}

impl Sqs {
    /// Stores a message. Returns its entry in the response, or why it is refused.
    fn put(
        &self,
        state: &mut State,
        queue: usize,
        now: Duration,
        message: Checked,
    ) -> Result<Value, RejectCode> {
        let stats = &mut state.own.stats;
        stats.messages += 1;
        if let Some(code) = state.faults.reject() {
            stats.rejected += 1;
            return Err(code);
        }
        let entry = taken(stats.messages, &message);
        if state.faults.drop_acked() {
            stats.dropped_acked += 1;
            return Ok(entry);
        }
        stats.stored += 1;
        stats.stored_bytes += message.bytes as u64;
        let number = stats.messages;
        if let Some(scanner) = &self.scanner {
            let mut ids = Vec::new();
            scanner.scan(&message.body, |id| ids.push(id));
            state.note_stored(ids);
        }
        let message = Message {
            number,
            visible_at: now + Duration::from_secs(message.delay_seconds),
            body: message.body,
            attributes: message.attributes,
        };
        if let Some(queue) = state.own.queues.get_mut(queue) {
            queue.push(now, message);
        }
        Ok(entry)
    }

    fn send_message(&self, call: &Call<'_>, shared: &Shared) -> Result<Value, Refusal> {
        let (queue, message) = api::send_message(&self.queues, self.message_bytes_max, &call.body)?;
        let mut state = shared.lock();
        state.own.stats.billed_requests += billed(message.bytes);
        let put = self.put(&mut state, queue, shared.now(), message);
        put.map_err(|code| match code {
            RejectCode::InternalFailure => internal(),
            RejectCode::ProvisionedThroughputExceededException => throttled(),
        })
    }

    fn send_message_batch(&self, call: &Call<'_>, shared: &Shared) -> Result<Value, Refusal> {
        let asked = api::send_message_batch(&self.queues, self.message_bytes_max, &call.body);
        let (queue, entries) = asked?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        let mut fail = |id: &str, sender_fault: bool, code: &str, message: &str| {
            failed.push(json!({
                "Id": id, "SenderFault": sender_fault, "Code": code, "Message": message,
            }));
        };
        let mut state = shared.lock();
        let bytes = entries.iter().flat_map(|(_, entry)| entry);
        let bytes = bytes.map(|entry| entry.bytes).sum();
        state.own.stats.billed_requests += billed(bytes);
        for (id, entry) in entries {
            match entry {
                Err(EntryError { code, message }) => {
                    state.own.stats.messages += 1;
                    state.own.stats.invalid += 1;
                    fail(&id, true, code, &message);
                }
                Ok(message) => match self.put(&mut state, queue, shared.now(), message) {
                    Ok(mut entry) => {
                        entry["Id"] = id.into();
                        successful.push(entry);
                    }
                    Err(code) => {
                        let (code, message) = refused(code);
                        fail(&id, false, code, message);
                    }
                },
            }
        }
        if call.short && successful.pop().is_none() {
            failed.pop();
        }
        Ok(json!({"Successful": successful, "Failed": failed}))
    }

    fn get_queue_url(&self, call: &Call<'_>) -> Result<Value, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Asked {
            queue_name: Option<String>,
        }
        let asked: Asked = api::read(&call.body)?;
        let named = asked.queue_name.filter(|name| self.queues.contains(name));
        let queue = named.ok_or_else(api::no_such_queue)?;
        let host = call.head.headers.get(hyper::header::HOST);
        let host = host
            .and_then(|host| host.to_str().ok())
            .unwrap_or("localhost");
        Ok(json!({"QueueUrl": format!("http://{host}/{ACCOUNT}/{queue}")}))
    }

    fn get_queue_attributes(&self, call: &Call<'_>, shared: &Shared) -> Result<Value, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Asked {
            queue_url: Option<String>,
            #[serde(default)]
            attribute_names: Vec<String>,
        }
        let asked: Asked = api::read(&call.body)?;
        let queue = api::check_queue(&self.queues, asked.queue_url.as_deref())?;
        let name = self.queues.get(queue).cloned().unwrap_or_default();
        let region = call.region().unwrap_or(service::REGION);
        let counts = shared.lock().own.queues.get(queue).map(Queue::counts);
        let (ready, hidden) = counts.unwrap_or_default();
        let created = self.created.duration_since(UNIX_EPOCH).unwrap_or_default();
        let all = [
            ("ApproximateNumberOfMessages", ready.to_string()),
            ("ApproximateNumberOfMessagesNotVisible", hidden.to_string()),
            ("CreatedTimestamp", created.as_secs().to_string()),
            ("DelaySeconds", "0".to_owned()),
            ("MaximumMessageSize", self.message_bytes_max.to_string()),
            ("MessageRetentionPeriod", "345600".to_owned()),
            ("QueueArn", format!("arn:aws:sqs:{region}:{ACCOUNT}:{name}")),
            ("ReceiveMessageWaitTimeSeconds", "0".to_owned()),
            ("VisibilityTimeout", HIDDEN_SECONDS.to_string()),
        ];
        let wanted = |name: &str| {
            let mut names = asked.attribute_names.iter();
            names.any(|wanted| wanted == "All" || wanted == name)
        };
        let attributes: serde_json::Map<String, Value> = all
            .into_iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        Ok(json!({"Attributes": attributes}))
    }

    fn receive_message(&self, call: &Call<'_>, shared: &Shared) -> Result<Value, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Asked {
            queue_url: Option<String>,
            max_number_of_messages: Option<usize>,
            visibility_timeout: Option<u64>,
        }
        let asked: Asked = api::read(&call.body)?;
        let queue = api::check_queue(&self.queues, asked.queue_url.as_deref())?;
        let count = asked.max_number_of_messages.unwrap_or(1);
        let hidden = asked.visibility_timeout.unwrap_or(HIDDEN_SECONDS);
        for (name, actual, min, max) in [
            ("MaxNumberOfMessages", count as u64, 1, RECEIVE_MAX as u64),
            ("VisibilityTimeout", hidden, 0, HIDDEN_SECONDS_MAX),
        ] {
            if !(min..=max).contains(&actual) {
                let message = format!(
                    "Value {actual} for parameter {name} is invalid. Reason: Must be between \
                     {min} and {max}, if provided."
                );
                return Err(api::refusal("InvalidParameterValue", message));
            }
        }
        let mut state = shared.lock();
        let own = &mut state.own;
        let hidden = Duration::from_secs(hidden);
        let queue = own.queues.get_mut(queue);
        let received = queue.map(|queue| queue.receive(shared.now(), count, hidden));
        let received = received.unwrap_or_default();
        own.stats.received += received.len() as u64;
        drop(state);
        let messages: Vec<Value> = received.iter().map(received_json).collect();
        Ok(json!({"Messages": messages}))
    }

    fn delete_message(&self, call: &Call<'_>, shared: &Shared) -> Result<Value, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Asked {
            queue_url: Option<String>,
            #[serde(default)]
            receipt_handle: String,
        }
        let asked: Asked = api::read(&call.body)?;
        let queue = api::check_queue(&self.queues, asked.queue_url.as_deref())?;
        if !delete(&mut shared.lock(), queue, &asked.receipt_handle) {
            let message = "The input receipt handle is invalid.";
            return Err(api::refusal("ReceiptHandleIsInvalid", message));
        }
        Ok(json!({}))
    }

    fn delete_message_batch(&self, call: &Call<'_>, shared: &Shared) -> Result<Value, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Entry {
            id: String,
            receipt_handle: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Asked {
            queue_url: Option<String>,
            entries: Vec<Entry>,
        }
        let asked: Asked = api::read(&call.body)?;
        let queue = api::check_queue(&self.queues, asked.queue_url.as_deref())?;
        let mut state = shared.lock();
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for Entry { id, receipt_handle } in asked.entries {
            if delete(&mut state, queue, &receipt_handle) {
                successful.push(json!({"Id": id}));
            } else {
                failed.push(json!({
                    "Id": id, "SenderFault": true, "Code": "ReceiptHandleIsInvalid",
                }));
            }
        }
        Ok(json!({"Successful": successful, "Failed": failed}))
    }
}

fn billed(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BILLED_UNIT).max(1)
}

/// A message as ReceiveMessage gives it. Its receipt is when it becomes visible again, and its
/// number.
fn received_json(message: &Message) -> Value {
    let number = message.number;
    let mut received = json!({
        "MessageId": format!("00000000-0000-4000-8000-{number:012x}"),
        "ReceiptHandle": format!("{}-{number}", message.visible_at.as_nanos()),
        "MD5OfBody": hex(&Md5::digest(&message.body)),
        "Body": String::from_utf8_lossy(&message.body),
    });
    if let Some((attributes, digest)) = &message.attributes {
        received["MD5OfMessageAttributes"] = digest.as_str().into();
        received["MessageAttributes"] = serde_json::from_slice(attributes).unwrap_or(Value::Null);
    }
    received
}

/// Deletes the message that a receipt names; `false` when the receipt is unknown.
fn delete(state: &mut State, queue: usize, receipt: &str) -> bool {
    let parse = || {
        let (nanos, number) = receipt.split_once('-')?;
        let nanos = Duration::from_nanos(nanos.parse().ok()?);
        Some((nanos, number.parse().ok()?))
    };
    let Some((visible_at, number)) = parse() else {
        return false;
    };
    let own = &mut state.own;
    let queue = own.queues.get_mut(queue);
    let is_deleted = queue.is_some_and(|queue| queue.delete(visible_at, number));
    own.stats.deleted += u64::from(is_deleted);
    true
}

fn throttled() -> Refusal {
    Refusal::new(403, "RequestThrottled", "Slow down.")
}

fn internal() -> Refusal {
    Refusal::new(500, "InternalError", "The service failed.")
}

impl Service for Sqs {
    const NAME: &'static str = "sqs";
    /// The largest batch with every character of its bodies escaped, and JSON around it.
    const BODY_BYTES_MAX: usize = 6 * BATCH_BYTES_MAX + (1 << 20);
    const CONTENT_TYPE: &'static str = "application/x-amz-json-1.0";
    const FAULTS_UNKNOWN: &'static [&'static str] = &["failed_count_zero"];
    type Own = Own;
    type Stats = Stats;

    fn operation(&self, head: &Parts) -> &'static str {
        let target = head.headers.get("x-amz-target");
        let target = target.and_then(|target| target.to_str().ok());
        match target.and_then(|target| target.strip_prefix(TARGET_PREFIX)) {
            Some("SendMessage") => "SendMessage",
            Some("SendMessageBatch") => "SendMessageBatch",
            Some("GetQueueUrl") => "GetQueueUrl",
            Some("GetQueueAttributes") => "GetQueueAttributes",
            Some("ReceiveMessage") => "ReceiveMessage",
            Some("DeleteMessage") => "DeleteMessage",
            Some("DeleteMessageBatch") => "DeleteMessageBatch",
            _ => "unknown",
        }
    }

    fn call(&self, call: Call<'_>, shared: &Shared) -> Result<Reply, Refusal> {
        let answer = match call.operation {
            "SendMessage" => self.send_message(&call, shared)?,
            "SendMessageBatch" => self.send_message_batch(&call, shared)?,
            "GetQueueUrl" => self.get_queue_url(&call)?,
            "GetQueueAttributes" => self.get_queue_attributes(&call, shared)?,
            "ReceiveMessage" => self.receive_message(&call, shared)?,
            "DeleteMessage" => self.delete_message(&call, shared)?,
            "DeleteMessageBatch" => self.delete_message_batch(&call, shared)?,
            _ => return Err(Refusal::unknown_operation()),
        };
        Ok(Reply::json(&answer))
    }

    fn common_error(&self, error: CommonError, operation: &str) -> Refusal {
        match error {
            CommonError::Internal => internal(),
            other => other.json(Self::NAME, operation, throttled()),
        }
    }

    fn refuse(&self, refusal: &Refusal, _head: &Parts) -> Reply {
        // Clients that knew the older protocol read the code from this header.
        let fault = if refusal.status < 500 {
            "Sender"
        } else {
            "Receiver"
        };
        let code = match refusal.code {
            "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
            "EmptyBatchRequest"
            | "TooManyEntriesInBatchRequest"
            | "BatchEntryIdsNotDistinct"
            | "BatchRequestTooLong"
            | "InvalidBatchEntryId" => format!("AWS.SimpleQueueService.{}", refusal.code),
            other => other.to_owned(),
        };
        let reply = refusal.json();
        reply.with("x-amzn-query-error", &format!("{code};{fault}"))
    }

    fn stats(&self, state: &State) -> Stats {
        let Own { queues, stats } = &state.own;
        let counts = queues.iter().map(Queue::counts);
        let retained = counts.map(|(ready, hidden)| ready + hidden).sum::<usize>() as u64;
        Stats {
            common: state.calls.clone(),
            retained,
            retained_bytes: queues.iter().map(Queue::bytes).sum::<usize>() as u64,
            not_retained: stats.stored - stats.deleted - retained,
            ..stats.clone()
        }
    }
}

/// A running emulator; it ends when dropped.
pub struct Emulator {
    frame: Frame<Sqs>,
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator")
            .field("addr", &self.frame.addr())
            .finish_non_exhaustive()
    }
}

impl Emulator {
    /// Listens and serves; when this returns, the emulator takes calls.
    ///
    /// # Errors
    /// When an option is out of range, the address is taken, or the ledger cannot be made.
    pub fn start(options: Options) -> Result<Emulator, EmulatorError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let is_name = |name: &String| (1..=80).contains(&name.len()) && name.bytes().all(known);
        service::in_range("queues", options.queues.len(), 1, QUEUES_MAX)?;
        if let Some(name) = options.queues.iter().find(|name| !is_name(name)).cloned() {
            return Err(EmulatorError::Name {
                what: "queue",
                name,
                rule: "1 to 80 of a-z, A-Z, 0-9, '_' and '-' (FIFO queues are not emulated)",
            });
        }
        service::in_range(
            "message_bytes_max",
            options.message_bytes_max,
            1 << 10,
            BATCH_BYTES_MAX,
        )?;
        let queues = options.queues.iter();
        let queues = queues
            .map(|_| Queue::new(options.retain_bytes_max))
            .collect();
        let sqs = Sqs {
            queues: options.queues,
            message_bytes_max: options.message_bytes_max,
            scanner: options
                .service
                .ledger
                .as_ref()
                .map(|_| IdScanner::default()),
            created: SystemTime::now(),
        };
        let own = Own {
            queues,
            stats: Stats::default(),
        };
        let frame = Frame::start(options.service, sqs, own)?;
        Ok(Emulator { frame })
    }

    /// The bodies of all messages in memory, in no particular order.
    #[must_use]
    pub fn stored_messages(&self) -> Vec<Bytes> {
        let state = self.frame.shared().lock();
        let bodies = state.own.queues.iter().flat_map(Queue::bodies);
        bodies.cloned().collect()
    }

    /// The same of one queue; none if it does not exist.
    #[must_use]
    pub fn stored_in(&self, queue: &str) -> Vec<Bytes> {
        let shared = self.frame.shared();
        let at = shared.service.queues.iter().position(|name| name == queue);
        let state = shared.lock();
        let queue = at.and_then(|at| state.own.queues.get(at));
        queue.into_iter().flat_map(Queue::bodies).cloned().collect()
    }

    service::emulator_methods!(Stats);
}
