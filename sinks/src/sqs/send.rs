//! The body of SendMessageBatch, and what its answer says of each message.

use super::message::Message;
use crate::aws::cause_of_answer;
use crate::aws::json::{Text, push_escaped, push_string};
use crate::aws::signed::hex;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use serde::Deserialize;
use sluice_core::cause::Cause;
use sluice_core::record::RecordResult;
use std::io::Write as _;

/// Bytes of an entry besides its body: names, quotes, and the ids of a FIFO queue.
const ENTRY_BYTES: usize = 320;

/// The body of a call. `process`: what sets the deduplication ids of a FIFO queue apart from those of other
/// processes; without it there are none.
pub(super) fn body(queue_url: &str, messages: &[Message<'_>], process: Option<u128>) -> Bytes {
    // JSON in JSON: every quote gets a backslash. A sixth of the text is what usual events need.
    let bytes = |message: &Message<'_>| ENTRY_BYTES + message.bytes + message.bytes / 6;
    let mut body = Vec::with_capacity(512 + messages.iter().map(bytes).sum::<usize>());
    body.extend_from_slice(br#"{"QueueUrl":"#);
    push_string(&mut body, queue_url);
    body.extend_from_slice(br#","Entries":["#);
    for (at, message) in messages.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        // Writing to memory cannot fail.
        let _ = write!(body, r#"{{"Id":"{at}","MessageBody":""#);
        for (nth, event) in message.events.iter().enumerate() {
            if nth > 0 {
                body.extend_from_slice(br"\n");
            }
            push_escaped(&mut body, event.text);
        }
        body.push(b'"');
        let group = message
            .events
            .first()
            .and_then(|event| event.group.as_ref());
        match (group, process) {
            (Some(group), _) => {
                body.extend_from_slice(br#","MessageGroupId":"#);
                push_string(&mut body, group);
            }
            // A FIFO queue has only messages of groups; those of a group of one are in no order.
            (None, Some(_)) => {
                let group = fastrand::u128(..);
                let _ = write!(body, r#","MessageGroupId":"{group:032x}""#);
            }
            (None, None) => {}
        }
        if let Some(process) = process {
            body.extend_from_slice(br#","MessageDeduplicationId":"#);
            push_string(&mut body, &deduplication_id(message, process));
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body.into()
}

/// The same for each attempt at the same message, so that an attempt that was stored though its answer was
/// lost makes no copy.
fn deduplication_id(message: &Message<'_>, process: u128) -> String {
    let mut context = Context::new(&SHA256);
    context.update(&process.to_be_bytes());
    for event in &message.events {
        context.update(&event.identity);
        // Whatever an identity means elsewhere: messages that differ never have one id, of which the queue
        // would keep one message only.
        context.update(event.text.as_bytes());
    }
    hex(context.finish().as_ref())
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "Successful", borrow)]
    successful: Option<Vec<Stored<'a>>>,
    #[serde(rename = "Failed", borrow)]
    failed: Option<Vec<Failed<'a>>>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(rename = "Id", borrow)]
    id: Text<'a>,
    #[serde(rename = "MessageId", borrow)]
    message_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Failed<'a> {
    #[serde(rename = "Id", borrow)]
    id: Text<'a>,
    #[serde(rename = "SenderFault")]
    is_senders_fault: Option<bool>,
    #[serde(rename = "Code", borrow)]
    code: Option<Text<'a>>,
    #[serde(rename = "Message", borrow)]
    message: Option<Text<'a>>,
}

/// What an answer says.
#[derive(Debug)]
pub(super) struct Answered {
    /// The result of each message.
    pub(super) results: Vec<RecordResult>,
    /// A failed one among them, for the log.
    pub(super) failure: Option<(Cause, String)>,
}

/// Reads an answer for messages of so many `events` each. Entries are matched by their ids; a message that
/// none names, or that both lists name, has an unknown result.
pub(super) fn results(
    answer: &[u8],
    events: impl Iterator<Item = usize>,
) -> Result<Answered, serde_json::Error> {
    let answer: Answer<'_> = serde_json::from_slice(answer)?;
    let mut said: Vec<(usize, Option<RecordResult>)> =
        events.map(|events| (events, None)).collect();
    let mut failure = None;
    for entry in answer.successful.iter().flatten() {
        if let Some((_, said)) = of_id(&mut said, &entry.id) {
            let is_stored = entry.message_id.as_ref().is_some_and(|id| !id.0.is_empty());
            *said = Some(match is_stored {
                true => RecordResult::Delivered,
                false => RecordResult::Retry(Cause::Unknown),
            });
        }
    }
    for entry in answer.failed.iter().flatten() {
        let Some((events, said)) = of_id(&mut said, &entry.id) else {
            continue;
        };
        let code = entry.code.as_ref().map_or("", |code| &code.0);
        let result = match said {
            Some(_) => RecordResult::Retry(Cause::Unknown),
            None => failed(code, entry.is_senders_fault, *events),
        };
        *said = Some(result);
        let (RecordResult::Retry(cause) | RecordResult::Refused(cause)) = result else {
            continue;
        };
        let message = entry.message.as_ref().map_or("no message", |text| &text.0);
        failure.get_or_insert_with(|| (cause, format!("entry failed: {code}: {message}")));
    }
    let unknown = RecordResult::Retry(Cause::Unknown);
    if failure.is_none() && said.iter().any(|(_, said)| said.is_none()) {
        let named = said.iter().filter(|(_, said)| said.is_some()).count();
        let text = format!(
            "{} messages were sent, {named} are named in the answer",
            said.len()
        );
        failure = Some((Cause::Unknown, text));
    }
    let results = said
        .iter()
        .map(|(_, said)| said.unwrap_or(unknown))
        .collect();
    Ok(Answered { results, failure })
}

fn of_id<'a, T>(said: &'a mut [T], id: &Text<'_>) -> Option<&'a mut T> {
    said.get_mut(id.0.parse::<usize>().ok()?)
}

/// A failed entry. What the sender is at fault for does not pass; where several events share the message,
/// which of them spoiled it shows when each is sent alone.
fn failed(code: &str, is_senders_fault: Option<bool>, events: usize) -> RecordResult {
    match (cause_of_answer(code, 500).0, is_senders_fault) {
        // Also of a sender without permission the service says that it is at fault.
        (Cause::Unavailable | Cause::Invalid, Some(true)) if events == 1 => {
            RecordResult::Refused(Cause::Invalid)
        }
        (Cause::Unavailable, Some(true)) => RecordResult::Retry(Cause::Invalid),
        (cause, _) => RecordResult::Retry(cause),
    }
}
