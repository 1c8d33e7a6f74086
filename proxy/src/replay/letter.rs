//! One letter as a line, and the event that is made of it again.

use sluice_core::json::escape::quote_str_into;
use sluice_core::json::scan::{Span, Wanted};
use sluice_core::json::split::{Event, SplitLimits, split};
use sluice_core::json::unescape::chars;
use std::fmt;
use std::str::FromStr;

/// The field of a replayed event by which readers know it again, however often it was sent: the request's id and the
/// event's place in its body.
pub const ID_FIELD: &str = "letter_id";

/// Letters and their events may nest this deep.
const DEPTH_MAX: usize = 1_000;

/// What may be asked of a letter with `--only`.
const ASKED: [&str; 6] = ["reason", "code", "schema", "route", "endpoint", "listener"];

/// What is read of a letter besides.
const READ: [&str; 5] = ["rid", "index", "event", "cut", "withheld"];

/// One condition on letters: `reason=schema`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Only {
    key: usize,
    value: String,
}

/// No condition.
#[derive(Debug, thiserror::Error)]
#[error("expected KEY=VALUE, with a KEY of reason, code, schema, route, endpoint, listener")]
pub struct OnlyError;

impl FromStr for Only {
    type Err = OnlyError;

    fn from_str(text: &str) -> Result<Only, OnlyError> {
        let (key, value) = text.split_once('=').ok_or(OnlyError)?;
        let key = ASKED
            .iter()
            .position(|known| *known == key)
            .ok_or(OnlyError)?;
        Ok(Only {
            key,
            value: value.to_owned(),
        })
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", ASKED[self.key], self.value)
    }
}

/// A line, as far as a replay is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// No letter.
    Other,
    /// A letter that nobody asked for.
    NotAsked,
    /// A letter without an event that could be sent.
    Unsendable {
        /// Its reason.
        reason: String,
        /// Why not.
        why: &'static str,
    },
    /// An event to send.
    Event {
        /// The letter's reason.
        reason: String,
        /// The event, with its id.
        json: Vec<u8>,
    },
}

impl Line {
    /// Reads a line.
    #[must_use]
    pub fn read(line: &[u8], only: &[Only]) -> Line {
        let Some((letter, line)) = object(line, &[&ASKED[..], &READ[..]].concat()) else {
            return Line::Other;
        };
        let value = |slot: usize| letter.found.get(slot).map(|span: Span| span.of(line));
        let string = |slot: usize| value(slot).and_then(text);
        let (Some(reason), Some(rid)) = (string(0), string(ASKED.len())) else {
            return Line::Other;
        };
        // Of the conditions on one key, one has to hold.
        let holds = |one: &Only| string(one.key).is_some_and(|found| found == one.value);
        let is_asked = |one: &Only| {
            only.iter()
                .any(|other| other.key == one.key && holds(other))
        };
        if !only.iter().all(is_asked) {
            return Line::NotAsked;
        }
        let read = |at: usize| ASKED.len() + at;
        let why = match (value(read(3)), value(read(4)), string(read(2))) {
            _ if string(4).is_some_and(|endpoint| endpoint == "collect") => {
                "they are bodies of paths.collect"
            }
            (_, Some(_), _) => "privacy withheld them",
            (Some(_), ..) => "they were cut",
            (.., None) => "they are no text",
            (.., Some(event)) => {
                let index = value(read(1)).filter(|index| *index != b"null");
                let index = index.and_then(|index| std::str::from_utf8(index).ok());
                let id = format!("{rid}-{}", index.unwrap_or("body"));
                match with_id(event.as_bytes(), &id) {
                    Some(json) => return Line::Event { reason, json },
                    None => "they are no JSON object",
                }
            }
        };
        Line::Unsendable { reason, why }
    }
}

/// The one JSON object of a text, and where these members of it are.
fn object<'t>(text: &'t [u8], members: &[&str]) -> Option<(Event, &'t [u8])> {
    let mut wanted = Wanted::default();
    for name in members {
        wanted.add(name.as_bytes());
    }
    let limits = SplitLimits {
        depth_max: DEPTH_MAX,
        events_max: 1,
    };
    let mut events = Vec::new();
    split(text, limits, &wanted, &mut events).ok()?;
    // An array of one is not what a letter is, nor an event.
    let event = events.pop()?.ok()?;
    (text.trim_ascii_start().first() == Some(&b'{')).then_some((event, text))
}

/// A string's characters.
fn text(json: &[u8]) -> Option<String> {
    let inner = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(chars(std::str::from_utf8(inner).ok()?).collect())
}

/// The event with its id, unless an earlier replay has given it one.
fn with_id(event: &[u8], id: &str) -> Option<Vec<u8>> {
    let (found, event) = object(event, &[ID_FIELD])?;
    let mut json = found.span.of(event).to_vec();
    if found.found.get(0).is_none() {
        json.pop();
        json.extend_from_slice(if found.is_empty { b"\"" } else { b",\"" });
        json.extend_from_slice(ID_FIELD.as_bytes());
        json.extend_from_slice(b"\":");
        quote_str_into(id, &mut json);
        json.push(b'}');
    }
    Some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(rest: &str) -> String {
        format!("{{\"reason\":\"schema\",\"code\":\"required\",\"rid\":\"0a\",{rest}}}")
    }

    fn sent(rest: &str) -> Option<String> {
        match Line::read(letter(rest).as_bytes(), &[]) {
            Line::Event { json, .. } => Some(String::from_utf8(json).unwrap()),
            _ => None,
        }
    }

    #[test]
    fn an_event_is_sent_with_the_id_of_its_letter() {
        let event = r#""index":3,"event":"{\"a\":\"\\u00e9\"}""#;
        let expected = r#"{"a":"\u00e9","letter_id":"0a-3"}"#;
        assert_eq!(sent(event).as_deref(), Some(expected));
        let body = r#""index":null,"event":" {} ""#;
        assert_eq!(sent(body).as_deref(), Some(r#"{"letter_id":"0a-body"}"#));
        // The first letter about an event decides.
        let again = r#""index":3,"event":"{\"letter_id\":\"0b-1\"}""#;
        assert_eq!(sent(again).as_deref(), Some(r#"{"letter_id":"0b-1"}"#));
    }

    #[test]
    fn a_letter_without_a_whole_event_is_not_sent() {
        for (rest, why) in [
            (r#""event":"{\"a\"","cut":true"#, "they were cut"),
            (r#""withheld":"privacy""#, "privacy withheld them"),
            (r#""event_base64":"AA==""#, "they are no text"),
            (r#""event":"{\"a\":""#, "they are no JSON object"),
            (r#""event":"[{}]""#, "they are no JSON object"),
            (r#""event":"{}{}""#, "they are no JSON object"),
            (
                r#""endpoint":"collect","event":"{}""#,
                "they are bodies of paths.collect",
            ),
        ] {
            let reason = "schema".to_owned();
            let expected = Line::Unsendable { reason, why };
            assert_eq!(Line::read(letter(rest).as_bytes(), &[]), expected, "{rest}");
        }
        for other in ["", "{}", "[]", "{\"reason\":\"schema\"}", "x"] {
            assert_eq!(Line::read(other.as_bytes(), &[]), Line::Other, "{other}");
        }
    }

    #[test]
    fn conditions_on_one_key_are_alternatives_and_keys_add_up() {
        let line = letter(r#""route":"orders","event":"{}""#);
        let asked = |only: &[&str]| {
            let only: Vec<Only> = only.iter().map(|text| text.parse().unwrap()).collect();
            Line::read(line.as_bytes(), &only) != Line::NotAsked
        };
        assert!(asked(&["reason=schema", "reason=too_deep", "route=orders"]));
        assert!(!asked(&["reason=schema", "route=noise"]));
        assert!(!asked(&["schema=order"]));
        for bad in ["reason", "event=x", "=x"] {
            assert!(bad.parse::<Only>().is_err(), "{bad}");
        }
    }
}
