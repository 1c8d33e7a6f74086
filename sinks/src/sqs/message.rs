//! Events as messages: which can be sent, which share a message, and which messages share a call.

use super::{BATCH_BYTES_CEILING, MESSAGES_CEILING};
use aws_lc_rs::digest::{SHA256, digest};
use sluice_core::cause::Cause;
use sluice_core::record::Record;
use std::borrow::Cow;
use std::collections::HashMap;

/// Characters of a group's name, as the service documents it.
const GROUP_CHARS_MAX: usize = 128;

/// An event that can be sent.
#[derive(Debug)]
pub(super) struct Event<'a> {
    /// Its place in the batch.
    pub(super) at: usize,
    pub(super) text: &'a str,
    /// The messages that the queue keeps in order, or spreads fairly.
    pub(super) group: Option<Cow<'a, str>>,
    /// Its bytes in a deduplication id: the same for every attempt, and no other record has them.
    pub(super) identity: [u8; 20],
}

/// Why an event can never be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsendable {
    #[error("an event of {actual} bytes is over the queue's limit of {limit}")]
    TooLarge { limit: usize, actual: usize },
    #[error("an event is empty")]
    Empty,
    #[error("an event is not UTF-8 from byte {at} on")]
    NotUtf8 { at: usize },
    #[error("an event has U+{code:04X} at byte {at}, a character that SQS does not take")]
    Character { code: u32, at: usize },
    #[error("an event has a line break at byte {at}: packed, it would be two")]
    LineBreak { at: usize },
}

impl Unsendable {
    pub(super) fn cause(self) -> Cause {
        match self {
            Unsendable::TooLarge { .. } => Cause::TooLarge,
            _ => Cause::Invalid,
        }
    }
}

/// The event of a record, or why it can never be sent: one such would fail its whole message.
pub(super) fn event(
    at: usize,
    record: &Record,
    bytes_max: usize,
    is_packed: bool,
) -> Result<Event<'_>, Unsendable> {
    let actual = record.payload.len();
    if actual > bytes_max {
        let limit = bytes_max;
        return Err(Unsendable::TooLarge { limit, actual });
    }
    if actual == 0 {
        return Err(Unsendable::Empty);
    }
    let text = std::str::from_utf8(&record.payload).map_err(|error| Unsendable::NotUtf8 {
        at: error.valid_up_to(),
    })?;
    if let Some((at, char)) = unsendable_char(text) {
        let code = u32::from(char);
        return Err(Unsendable::Character { code, at });
    }
    if is_packed && let Some(at) = memchr::memchr(b'\n', text.as_bytes()) {
        return Err(Unsendable::LineBreak { at });
    }
    let (queue, request, event) = record.ticket.identity();
    let mut identity = [0; 20];
    identity[..8].copy_from_slice(&(queue as u64).to_be_bytes());
    identity[8..12].copy_from_slice(&request.slot.to_be_bytes());
    identity[12..16].copy_from_slice(&request.generation.to_be_bytes());
    identity[16..].copy_from_slice(&event.to_be_bytes());
    Ok(Event {
        at,
        text,
        group: record.key.as_deref().map(group),
        identity,
    })
}

/// The first character that the service does not take: it takes those of XML 1.0.
fn unsendable_char(text: &str) -> Option<(usize, char)> {
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    // All others are of three bytes, of which the first is rare.
    let is_suspect = |byte: &u8| is_control(byte) || *byte == 0xef;
    if !text.as_bytes().iter().any(is_suspect) {
        return None;
    }
    let is_taken = |char: char| {
        matches!(char,
            '\t' | '\n' | '\r'
            | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
    };
    text.char_indices().find(|(_, char)| !is_taken(*char))
}

/// A key as the name of a group: itself, or its digest where names cannot be so.
fn group(key: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(key) {
        Ok(name)
            if (1..=GROUP_CHARS_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Cow::Borrowed(name)
        }
        _ => Cow::Owned(crate::aws::signed::hex(digest(&SHA256, key).as_ref())),
    }
}

/// Whole events of one group.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    /// At least one.
    pub(super) events: Vec<Event<'a>>,
    /// Bytes of its body: of its events, and of the line breaks between them.
    pub(super) bytes: usize,
}

/// Packs events in order: each goes to the last message of its group as long as that stays within
/// `bytes_max`. A larger event, and every event if `bytes_max` is 0, has its own message.
pub(super) fn pack(events: Vec<Event<'_>>, bytes_max: usize) -> Vec<Message<'_>> {
    let mut messages: Vec<Message<'_>> = Vec::new();
    let mut last_of_group: HashMap<Option<Cow<'_, str>>, usize> = HashMap::new();
    for event in events {
        let bytes = event.text.len();
        let last = last_of_group.get(&event.group).copied();
        let room = last.and_then(|last| messages.get_mut(last));
        match room.filter(|message| message.bytes + 1 + bytes <= bytes_max) {
            Some(message) => {
                message.bytes += 1 + bytes;
                message.events.push(event);
            }
            None => {
                if bytes_max > 0 {
                    last_of_group.insert(event.group.clone(), messages.len());
                }
                messages.push(Message {
                    events: vec![event],
                    bytes,
                });
            }
        }
    }
    messages
}

/// The messages of each call, in order.
pub(super) fn calls<'a>(
    mut messages: &'a [Message<'a>],
) -> impl Iterator<Item = &'a [Message<'a>]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = messages
            .iter()
            .take(MESSAGES_CEILING)
            .take_while(|message| {
                bytes += message.bytes;
                bytes <= BATCH_BYTES_CEILING
            });
        // No message is over the limit of a call by itself.
        let (these, others) = messages.split_at_checked(fitting.count())?;
        messages = others;
        (!these.is_empty()).then_some(these)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::script::record;
    use proptest::prelude::*;

    fn events(texts: &[(String, Option<u8>)]) -> Vec<Event<'_>> {
        let mut events = Vec::new();
        for (at, (text, group)) in texts.iter().enumerate() {
            events.push(Event {
                at,
                text,
                group: group.map(|group| group.to_string().into()),
                identity: [0; 20],
            });
        }
        events
    }

    fn unsendable(payload: &[u8]) -> Option<Unsendable> {
        event(0, &record(payload), 100, true).err()
    }

    #[test]
    fn characters_that_xml_has_not_are_refused() {
        for (payload, code, at) in [
            ("a\0b".to_owned(), 0, 1),
            ("\u{1}".to_owned(), 1, 0),
            ("ab\u{b}".to_owned(), 0xb, 2),
            ("é\u{1f}".to_owned(), 0x1f, 2),
            ("\u{fffd}\u{fffe}".to_owned(), 0xfffe, 3),
            ("\u{ffff}".to_owned(), 0xffff, 0),
        ] {
            let expected = Some(Unsendable::Character { code, at });
            assert_eq!(unsendable(payload.as_bytes()), expected, "{payload:?}");
        }
        for payload in [
            "\t\r {}",
            "\u{7f}\u{80}",
            "\u{d7ff}\u{e000}\u{fffd}",
            "\u{10ffff}\u{1fffe}",
        ] {
            assert_eq!(unsendable(payload.as_bytes()), None, "{payload:?}");
        }
    }

    #[test]
    fn an_unsendable_event_names_limit_and_place() {
        assert_eq!(unsendable(&[b'x'; 100]), None);
        let said = |payload: &[u8]| unsendable(payload).unwrap().to_string();
        let over = said(&[b'x'; 101]);
        assert_eq!(
            over,
            "an event of 101 bytes is over the queue's limit of 100"
        );
        assert_eq!(said(b""), "an event is empty");
        assert_eq!(said(b"ab\xff"), "an event is not UTF-8 from byte 2 on");
        let character = "an event has U+0001 at byte 2, a character that SQS does not take";
        assert_eq!(said(b"ab\x01"), character);
        let broken = "an event has a line break at byte 1: packed, it would be two";
        assert_eq!(said(b"a\nb"), broken);
        assert!(event(0, &record("a\nb"), 100, false).is_ok());
    }

    #[test]
    fn a_key_that_is_no_group_name_becomes_its_digest() {
        for name in ["u-17", "!~", &"x".repeat(128)] {
            assert_eq!(group(name.as_bytes()), name);
        }
        for key in ["two words", "é", &"x".repeat(129)] {
            let name = group(key.as_bytes());
            assert_eq!(name.len(), 64);
            assert!(name.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert_ne!(name, group(format!("{key}!").as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn messages_keep_events_whole_and_in_order(
            texts in prop::collection::vec(("[a-z]{1,40}", prop::option::of(0..3_u8)), 0..60),
            bytes_max in 0..200_usize,
        ) {
            let messages = pack(events(&texts), bytes_max);
            let mut seen: Vec<usize> = Vec::new();
            for message in &messages {
                let group = &message.events[0].group;
                let mut bytes = message.events.len() - 1;
                for pair in message.events.windows(2) {
                    prop_assert!(pair[0].at < pair[1].at);
                }
                for event in &message.events {
                    prop_assert_eq!(&event.group, group);
                    bytes += event.text.len();
                    seen.push(event.at);
                }
                prop_assert_eq!(message.bytes, bytes);
                prop_assert!(bytes <= bytes_max || message.events.len() == 1);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..texts.len()).collect::<Vec<_>>());
            // Within a group, messages are in order and none could have taken the next event.
            for group in [None, Some("0"), Some("1"), Some("2")] {
                let of_group: Vec<_> = messages
                    .iter()
                    .filter(|message| message.events[0].group.as_deref() == group)
                    .collect();
                for pair in of_group.windows(2) {
                    let next = &pair[1].events[0];
                    prop_assert!(pair[0].events.last().unwrap().at < next.at);
                    prop_assert!(pair[0].bytes + 1 + next.text.len() > bytes_max);
                }
            }
        }

        #[test]
        fn a_call_has_ten_messages_and_a_mebibyte(
            sizes in prop::collection::vec(1..=BATCH_BYTES_CEILING, 0..60),
        ) {
            let messages: Vec<Message<'_>> = sizes
                .iter()
                .map(|bytes| Message { events: Vec::new(), bytes: *bytes })
                .collect();
            let mut count = 0;
            for call in calls(&messages) {
                prop_assert!((1..=MESSAGES_CEILING).contains(&call.len()));
                let bytes: usize = call.iter().map(|message| message.bytes).sum();
                prop_assert!(bytes <= BATCH_BYTES_CEILING);
                count += call.len();
            }
            prop_assert_eq!(count, messages.len());
        }
    }
}
