//! Calls of SQS as they are read, and its errors: whole calls, and entries one by one.
//! Knows the service's limits; stores nothing.

use crate::service::Refusal;
use bytes::Bytes;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Entries that one batch has at most (service limit).
pub const BATCH_ENTRIES_MAX: usize = 10;

/// Bytes that one message, and all messages of a batch together, have at most: bodies and
/// attributes (service limit).
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Characters of a batch entry's id (service limit).
pub const ID_CHARS_MAX: usize = 80;

/// Seconds that a message can be delayed (service limit).
const DELAY_SECONDS_MAX: i64 = 900;

/// Attributes that a message has at most (service limit).
const ATTRIBUTES_MAX: usize = 10;

/// A message attribute.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attribute {
    data_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
}

type Attributes = BTreeMap<String, Attribute>;

/// A message as sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    #[serde(default)]
    pub(super) id: String,
    message_body: Option<String>,
    delay_seconds: Option<i64>,
    #[serde(default)]
    message_attributes: Attributes,
    #[serde(default)]
    message_system_attributes: Attributes,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    queue_url: Option<String>,
    entries: Option<Vec<Entry>>,
}

/// Why one entry of a batch is refused. All of these are the sender's fault.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EntryError {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl EntryError {
    fn value(reason: impl std::fmt::Display) -> EntryError {
        EntryError {
            code: "InvalidParameterValue",
            message: format!("One or more parameters are invalid. Reason: {reason}"),
        }
    }
}

/// A message that passed the checks.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) body: Bytes,
    pub(super) body_md5: String,
    /// The JSON of its attributes, and their digest.
    pub(super) attributes: Option<(Bytes, String)>,
    pub(super) system_attributes_md5: Option<String>,
    pub(super) delay_seconds: u64,
    /// Body and attributes, as they count against limits.
    pub(super) bytes: usize,
}

/// The error of a code that is the client's fault.
pub(super) fn refusal(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::client(code, message)
}

/// Reads the body of a call.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| refusal("SerializationException", error.to_string()))
}

/// Which of the queues a call names.
pub(super) fn check_queue(queues: &[String], url: Option<&str>) -> Result<usize, Refusal> {
    let Some(url) = url else {
        return Err(refusal(
            "MissingParameter",
            "The request must contain the parameter QueueUrl.",
        ));
    };
    let named = url.rsplit('/').next().unwrap_or_default();
    let found = queues.iter().position(|queue| queue == named);
    found.ok_or_else(no_such_queue)
}

pub(super) fn no_such_queue() -> Refusal {
    refusal("QueueDoesNotExist", "The specified queue does not exist.")
}

/// Reads a SendMessage call.
pub(super) fn send_message(
    queues: &[String],
    message_bytes_max: usize,
    body: &[u8],
) -> Result<(usize, Checked), Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Queue {
        queue_url: Option<String>,
    }
    let asked: Queue = read(body)?;
    let queue = check_queue(queues, asked.queue_url.as_deref())?;
    let entry: Entry = read(body)?;
    let checked = check_entry(entry, message_bytes_max);
    let checked = checked.map_err(|error| refusal(error.code, error.message))?;
    Ok((queue, checked))
}

/// An entry's id, and the entry or its error.
pub(super) type CheckedEntry = (String, Result<Checked, EntryError>);

/// Reads a SendMessageBatch call.
pub(super) fn send_message_batch(
    queues: &[String],
    message_bytes_max: usize,
    body: &[u8],
) -> Result<(usize, Vec<CheckedEntry>), Refusal> {
    let asked: Batch = read(body)?;
    let queue = check_queue(queues, asked.queue_url.as_deref())?;
    let entries = asked.entries.unwrap_or_default();
    if entries.is_empty() {
        return Err(refusal(
            "EmptyBatchRequest",
            "There should be at least one SendMessageBatchRequestEntry in the request.",
        ));
    }
    if entries.len() > BATCH_ENTRIES_MAX {
        let actual = entries.len();
        return Err(refusal(
            "TooManyEntriesInBatchRequest",
            format!(
                "Maximum number of entries per request are {BATCH_ENTRIES_MAX}. \
                 You have sent {actual}."
            ),
        ));
    }
    let mut ids = HashSet::new();
    for Entry { id, .. } in &entries {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if !(1..=ID_CHARS_MAX).contains(&id.len()) || !id.bytes().all(known) {
            return Err(refusal(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and \
                 underscores. It can be at most 80 letters long.",
            ));
        }
        if !ids.insert(id) {
            return Err(refusal(
                "BatchEntryIdsNotDistinct",
                format!("Id {id} repeated."),
            ));
        }
    }
    let bytes: usize = entries.iter().map(entry_bytes).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(refusal(
            "BatchRequestTooLong",
            format!(
                "Batch requests cannot be longer than {BATCH_BYTES_MAX} bytes. \
                 You have sent {bytes} bytes."
            ),
        ));
    }
    let checked = entries.into_iter().map(|mut entry| {
        let id = std::mem::take(&mut entry.id);
        (id, check_entry(entry, message_bytes_max))
    });
    Ok((queue, checked.collect()))
}

fn entry_bytes(entry: &Entry) -> usize {
    let attributes = entry.message_attributes.iter().map(|(name, attribute)| {
        // Binary values count decoded.
        let binary = attribute.binary_value.as_ref();
        name.len()
            + attribute.data_type.len()
            + attribute.string_value.as_ref().map_or(0, String::len)
            + binary.map_or(0, |value| value.len() / 4 * 3)
    });
    entry.message_body.as_ref().map_or(0, String::len) + attributes.sum::<usize>()
}

fn check_entry(entry: Entry, message_bytes_max: usize) -> Result<Checked, EntryError> {
    let bytes = entry_bytes(&entry);
    let Some(body) = entry.message_body else {
        return Err(EntryError {
            code: "MissingParameter",
            message: "The request must contain the parameter MessageBody.".to_owned(),
        });
    };
    if body.is_empty() {
        return Err(EntryError::value("Message must be at least one character."));
    }
    if bytes > message_bytes_max {
        return Err(EntryError::value(format_args!(
            "Message must be shorter than {message_bytes_max} bytes, not {bytes}."
        )));
    }
    if let Some(wrong) = body.chars().find(|char| !allowed(*char)) {
        let code = u32::from(wrong);
        return Err(EntryError {
            code: "InvalidMessageContents",
            message: format!("Invalid characters found: #x{code:X}."),
        });
    }
    let delay_seconds = entry.delay_seconds.unwrap_or(0);
    if !(0..=DELAY_SECONDS_MAX).contains(&delay_seconds) {
        return Err(EntryError::value(format_args!(
            "DelaySeconds must be >= 0 and <= {DELAY_SECONDS_MAX}, not {delay_seconds}."
        )));
    }
    let count = entry.message_attributes.len();
    if count > ATTRIBUTES_MAX {
        return Err(EntryError::value(format_args!(
            "Number of message attributes [{count}] exceeds the allowed maximum \
             [{ATTRIBUTES_MAX}]."
        )));
    }
    let attributes = match digest_of(&entry.message_attributes)? {
        Some(digest) => {
            // Attributes came from JSON, so they can go back.
            let json = serde_json::to_vec(&entry.message_attributes).unwrap_or_default();
            Some((Bytes::from(json), digest))
        }
        None => None,
    };
    Ok(Checked {
        body_md5: hex(&Md5::digest(body.as_bytes())),
        body: Bytes::from(body),
        attributes,
        system_attributes_md5: digest_of(&entry.message_system_attributes)?,
        delay_seconds: delay_seconds.unsigned_abs(),
        bytes,
    })
}

/// The characters that a message may have, as the service lists them.
fn allowed(char: char) -> bool {
    matches!(char,
        '\u{9}' | '\u{A}' | '\u{D}'
        | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// The digest of attributes that senders compare: of each in the order of names, name, type and
/// value behind their lengths (SQS developer guide, "Calculating the MD5 message digest").
fn digest_of(attributes: &Attributes) -> Result<Option<String>, EntryError> {
    if attributes.is_empty() {
        return Ok(None);
    }
    let mut text = Vec::new();
    for (name, attribute) in attributes {
        let binary = attribute.data_type.starts_with("Binary");
        let (kind, value) = match (&attribute.string_value, &attribute.binary_value) {
            (Some(value), _) if !binary => (1, value.clone().into_bytes()),
            (_, Some(value)) if binary => {
                let decoded = base64_simd::STANDARD.decode_to_vec(value.as_bytes());
                let decoded = decoded.map_err(|_| {
                    EntryError::value(format_args!("Attribute '{name}' is not base64."))
                })?;
                (2, decoded)
            }
            _ => {
                return Err(EntryError::value(format_args!(
                    "The message attribute '{name}' must contain a value of its type."
                )));
            }
        };
        put(&mut text, name.as_bytes());
        put(&mut text, attribute.data_type.as_bytes());
        text.push(kind);
        put(&mut text, &value);
    }
    Ok(Some(hex(&Md5::digest(&text))))
}

fn put(text: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    text.extend_from_slice(&length.to_be_bytes());
    text.extend_from_slice(bytes);
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn queues() -> [String; 2] {
        ["other", "clicks"].map(str::to_owned)
    }

    fn entry(id: &str, body: &str) -> Value {
        json!({"Id": id, "MessageBody": body})
    }

    fn batch(entries: &[Value]) -> Result<Vec<CheckedEntry>, Refusal> {
        let body = json!({"QueueUrl": "http://x/1/clicks", "Entries": entries});
        let (queue, entries) =
            send_message_batch(&queues(), BATCH_BYTES_MAX, body.to_string().as_bytes())?;
        assert_eq!(queue, 1);
        Ok(entries)
    }

    fn code(entries: &[Value]) -> &'static str {
        batch(entries).unwrap_err().code
    }

    fn entry_code(entry: Value) -> &'static str {
        let (_, result) = batch(&[entry]).unwrap().pop().unwrap();
        result.unwrap_err().code
    }

    #[test]
    fn a_batch_has_1_to_10_entries_with_distinct_ids() {
        let entries: Vec<Value> = (0..10).map(|at| entry(&at.to_string(), "x")).collect();
        assert_eq!(batch(&entries).unwrap().len(), 10);
        let more: Vec<Value> = (0..11).map(|at| entry(&at.to_string(), "x")).collect();
        assert_eq!(code(&more), "TooManyEntriesInBatchRequest");
        assert_eq!(code(&[]), "EmptyBatchRequest");
        assert_eq!(
            code(&[entry("a", "x"), entry("a", "y")]),
            "BatchEntryIdsNotDistinct"
        );
        assert!(batch(&[entry(&"a".repeat(80), "x")]).is_ok());
        for id in ["", "a b", "\u{e4}", &"a".repeat(81)] {
            assert_eq!(code(&[entry(id, "x")]), "InvalidBatchEntryId", "{id}");
        }
    }

    #[test]
    fn a_batch_has_1_mib_of_bodies_and_attributes() {
        let half = "x".repeat(BATCH_BYTES_MAX / 2);
        assert!(batch(&[entry("a", &half), entry("b", &half)]).is_ok());
        let mut attributed = entry("b", &half);
        attributed["MessageAttributes"] = json!({"n": {"DataType": "String", "StringValue": "v"}});
        let refusal = batch(&[entry("a", &half), attributed]).unwrap_err();
        assert_eq!(refusal.code, "BatchRequestTooLong");
        let actual = format!("You have sent {} bytes", BATCH_BYTES_MAX + 8);
        assert!(refusal.message.contains(&actual), "{}", refusal.message);
    }

    #[test]
    fn an_entry_that_cannot_be_is_refused_alone() {
        for (name, value, expected) in [
            ("MessageBody", json!(""), "InvalidParameterValue"),
            ("MessageBody", Value::Null, "MissingParameter"),
            ("MessageBody", json!("a\u{1}"), "InvalidMessageContents"),
            ("MessageBody", json!("\u{fffe}"), "InvalidMessageContents"),
            ("DelaySeconds", json!(901), "InvalidParameterValue"),
            ("DelaySeconds", json!(-1), "InvalidParameterValue"),
            (
                "MessageAttributes",
                json!({"n": {"DataType": "String"}}),
                "InvalidParameterValue",
            ),
            (
                "MessageAttributes",
                json!({"n": {"DataType": "Binary", "BinaryValue": "x"}}),
                "InvalidParameterValue",
            ),
        ] {
            let mut wrong = entry("a", "x");
            wrong[name] = value;
            assert_eq!(entry_code(wrong), expected, "{name}");
        }
        let results = batch(&[entry("a", "\t\r\n \u{e000}\u{10ffff}"), entry("b", "\0")]);
        let results = results.unwrap();
        assert!(results[0].1.is_ok() && results[1].1.is_err());
    }

    #[test]
    fn the_digest_of_attributes_is_the_one_that_senders_compute() {
        // Attribute and digest of the tests of moto and LocalStack.
        let body = json!({
            "QueueUrl": "x/clicks",
            "MessageBody": "x",
            "MessageAttributes": {
                "timestamp": {"DataType": "Number", "StringValue": "1493147359900"},
            },
        });
        let (_, message) = send_message(&queues(), 1_024, body.to_string().as_bytes()).unwrap();
        let (_, digest) = message.attributes.unwrap();
        assert_eq!(digest, "235c5c510d26fb653d073faed50ae77c");
    }

    #[test]
    fn an_oversized_message_is_refused_with_both_sizes() {
        let body = json!({"QueueUrl": "x/clicks", "MessageBody": "x".repeat(1_025)}).to_string();
        assert!(send_message(&queues(), 1_025, body.as_bytes()).is_ok());
        let refusal = send_message(&queues(), 1_024, body.as_bytes()).unwrap_err();
        assert!(
            refusal
                .message
                .ends_with("shorter than 1024 bytes, not 1025.")
        );
    }

    #[test]
    fn another_queue_and_no_queue_are_refused() {
        for (body, expected) in [
            ("{", "SerializationException"),
            (r#"{"MessageBody":"x"}"#, "MissingParameter"),
            (
                r#"{"QueueUrl":"http://x/1/none","MessageBody":"x"}"#,
                "QueueDoesNotExist",
            ),
        ] {
            let refusal = send_message(&queues(), 1_024, body.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, expected);
        }
    }
}
