//! Letters: what is kept of events that cannot be stored as they should be. They go to the output of dead letters.
//!
//! ```text
//!  refused   its client is told: the letter is best effort, bounded by the request's bytes, cut if it is too long
//!  taken     its client is told that it was taken: the letter is a promise like any record's, and is whole
//! ```
//!
//! A letter is one JSON object on one line: first what was wrong, then the event. Privacy comes before it: a letter has
//! no bytes of an event that could not be read, where there are rules for what must not be stored.

use crate::ack::OutputId;
use crate::json::escape::{quote_into, quote_str_into};
use crate::prepared::PreparedRecord;
use crate::reject::Reject;
use crate::request::RequestContext;
use crate::route::{DeliveryClass, OutputSet, Route, Routing};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::Write;
use std::str::FromStr;

/// Bytes of letters about refused events that any request may cause; further ones need a byte sent for each
/// [`REFUSED_RATIO`].
pub const REFUSED_FREE_BYTES: usize = 64 << 10;

/// What a refused event becomes as a letter: text that has to be escaped, or base64, with a head. Less than records
/// may have, because nobody asked for it.
pub const REFUSED_RATIO: usize = 4;

/// Bytes of an event below which a letter is not worth its head.
const EVENT_BYTES_MIN: usize = 64;

/// Why there is a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no event: not JSON, not UTF-8, no object, or packed in a way that cannot be undone.
    Unreadable,
    /// It is nested too deep.
    TooDeep,
    /// It, or its request, is too large, or the request has too many events.
    TooLarge,
    /// It is not what its schema says.
    Schema,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 4] = [
        Reason::Unreadable,
        Reason::TooDeep,
        Reason::TooLarge,
        Reason::Schema,
    ];

    /// Those for which an event is refused, so that its letter is best effort.
    pub const OF_REFUSED: [Reason; 3] = [Reason::Unreadable, Reason::TooDeep, Reason::TooLarge];

    /// Its name in letters, metrics and settings.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Reason::Unreadable => "unreadable",
            Reason::TooDeep => "too_deep",
            Reason::TooLarge => "too_large",
            Reason::Schema => "schema",
        }
    }

    /// The reason for a letter about what was refused; `None` where there is nothing to keep.
    #[must_use]
    pub const fn of(reject: &Reject) -> Option<Reason> {
        match reject {
            Reject::NotJson { .. }
            | Reject::NotUtf8 { .. }
            | Reject::NotAnObject { .. }
            | Reject::Broken { .. }
            | Reject::CodingOverhead { .. }
            | Reject::TooManyCodings { .. } => Some(Reason::Unreadable),
            Reject::TooDeep { .. } => Some(Reason::TooDeep),
            Reject::BodyTooLarge { .. }
            | Reject::RecordTooLarge { .. }
            | Reject::InflatedTooLarge { .. }
            | Reject::RecordsTooLarge { .. }
            | Reject::TooManyEvents { .. } => Some(Reason::TooLarge),
            // Its schema rejects it instead.
            Reject::NoEvents | Reject::Schema { .. } => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// There is no such reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one of unreadable, too_deep, too_large, schema")]
pub struct ReasonError(String);

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(label: &str) -> Result<Reason, ReasonError> {
        let mut all = Reason::ALL.into_iter();
        let named = all.find(|one| one.label() == label);
        named.ok_or_else(|| ReasonError(label.to_owned()))
    }
}

/// Where letters go, and which there are.
#[derive(Clone, Debug)]
pub struct Letters {
    /// The output, or the group.
    pub output: OutputId,
    /// For which reasons a refused event has one.
    pub refused: Vec<Reason>,
    /// The names of the rules of routing, in their order, the unmatched last.
    pub routes: Vec<String>,
}

/// What a letter says of its event.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Why.
    pub reason: Reason,
    /// The same, closer: an error code, or the rule of a schema.
    pub code: &'a str,
    /// The same as a sentence; nothing in it is the client's that privacy would not let through.
    pub message: &'a str,
    /// The schema, if there is one.
    pub schema: Option<&'a str>,
    /// The event's place in the body; `None` for the whole body.
    pub index: Option<u32>,
    /// Which rule of routing took it, by its number among all.
    pub rule: Option<usize>,
}

/// What there is of an event.
#[derive(Clone, Copy, Debug)]
pub enum Contents<'a> {
    /// Its bytes, as privacy left them.
    Bytes(&'a [u8]),
    /// This many bytes, which privacy could not treat.
    Withheld(usize),
}

/// A letter, ready to be given to its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedLetter {
    /// Whether it is all that is kept of an event whose client is told that it was taken.
    pub is_taken: bool,
    /// The letter; its `index` is the event's.
    pub record: PreparedRecord,
}

/// Letters of one request, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetterTally {
    /// Written, indexed as [`Reason::ALL`].
    pub written: [u64; Reason::ALL.len()],
    /// Refused events whose letter found no room.
    pub lost: u64,
}

impl LetterTally {
    /// The reason for the one letter that there is.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        let at = self.written.iter().position(|written| *written == 1)?;
        Reason::ALL.get(at).copied()
    }
}

/// Writes the letters of one request. Letters that are `taken` count among its events.
#[derive(Debug)]
pub struct Desk<'a> {
    letters: &'a Letters,
    request: &'a RequestContext<'a>,
    bytes_max: usize,
    /// For letters about refused events.
    bytes_left: usize,
    out: &'a mut Vec<PreparedLetter>,
    tally: &'a mut LetterTally,
}

impl<'a> Desk<'a> {
    /// For a request of `sent` bytes, whose letters may have `bytes_max` bytes each.
    #[must_use]
    pub fn new(
        letters: &'a Letters,
        request: &'a RequestContext<'a>,
        bytes_max: usize,
        sent: usize,
        out: &'a mut Vec<PreparedLetter>,
        tally: &'a mut LetterTally,
    ) -> Desk<'a> {
        Desk {
            letters,
            request,
            bytes_max,
            bytes_left: sent.saturating_mul(REFUSED_RATIO).max(REFUSED_FREE_BYTES),
            out,
            tally,
        }
    }

    /// Why this refusal has a letter, if it has one.
    fn reason(&self, reject: &Reject) -> Option<Reason> {
        Reason::of(reject).filter(|reason| self.letters.refused.contains(reason))
    }

    /// Writes the letter about what was refused, if there is one and room for it.
    pub fn refused(
        &mut self,
        reject: &Reject,
        index: Option<u32>,
        rule: Option<usize>,
        contents: Contents<'_>,
    ) {
        let Some(reason) = self.reason(reject) else {
            return;
        };
        let about = About {
            reason,
            code: reject.label(),
            message: &reject.to_string(),
            schema: None,
            index,
            rule,
        };
        match self.line(&about, contents, self.bytes_max.min(self.bytes_left)) {
            Some(line) => {
                self.bytes_left -= line.len();
                self.put(&about, line, false);
            }
            None => self.tally.lost += 1,
        }
    }

    /// Writes the letter that stands for an event whose client is told that it was taken. `event` is the record that
    /// it would have been.
    ///
    /// # Errors
    /// It does not fit a letter, so that the client has to be told.
    pub fn taken(&mut self, about: &About<'_>, event: &[u8]) -> Result<(), Reject> {
        let line = self.line(about, Contents::Bytes(event), usize::MAX);
        let line = line.unwrap_or_default();
        let (limit, actual) = (self.bytes_max, line.len());
        if actual > limit {
            return Err(Reject::RecordTooLarge { limit, actual });
        }
        self.put(about, line, true);
        Ok(())
    }

    fn put(&mut self, about: &About<'_>, line: Vec<u8>, is_taken: bool) {
        self.tally.written[about.reason as usize] += 1;
        let output = self.letters.output;
        let class = match is_taken {
            true => DeliveryClass::Required,
            false => DeliveryClass::BestEffort,
        };
        let route = Route {
            class: Some(class),
            ..Route::default()
        };
        self.out.push(PreparedLetter {
            is_taken,
            record: PreparedRecord {
                index: about.index.unwrap_or(0),
                key: None,
                topic: None,
                payload: Bytes::from(line),
                routing: Some(Box::new(Routing {
                    outputs: OutputSet::NONE.with(output),
                    routes: vec![(output, route)],
                })),
            },
        });
    }

    /// The letter in at most `bytes_max` bytes; `None` if there is no room for anything of the event.
    fn line(&self, about: &About<'_>, contents: Contents<'_>, bytes_max: usize) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(512);
        let out = &mut text;
        out.extend_from_slice(b"{\"reason\":");
        quote_str_into(about.reason.label(), out);
        let mut add = |name: &str, value: &dyn Fn(&mut Vec<u8>)| {
            out.push(b',');
            quote_str_into(name, out);
            out.push(b':');
            value(out);
        };
        add("code", &|out| quote_str_into(about.code, out));
        add("message", &|out| quote_str_into(about.message, out));
        if let Some(schema) = about.schema {
            add("schema", &|out| quote_str_into(schema, out));
        }
        let rid = self.request.id.to_hex();
        add("rid", &|out| quote_into(&rid, out));
        add("index", &|out| match about.index {
            Some(index) => number(u64::from(index), out),
            None => out.extend_from_slice(b"null"),
        });
        if let Some(route) = about.rule.and_then(|rule| self.letters.routes.get(rule)) {
            add("route", &|out| quote_str_into(route, out));
        }
        let door = &self.request.door;
        add("endpoint", &|out| quote_str_into(door.endpoint, out));
        add("listener", &|out| quote_str_into(door.listener, out));
        let millis = self.request.received_at.unix_millis();
        add("time", &|out| number(millis, out));
        let bytes = match contents {
            Contents::Bytes(bytes) => bytes.len(),
            Contents::Withheld(count) => count,
        };
        add("bytes", &|out| number(bytes as u64, out));
        match contents {
            Contents::Withheld(_) => add("withheld", &|out| quote_str_into("privacy", out)),
            Contents::Bytes(event) => {
                // The head, a closing brace, and what a cut letter has besides.
                let besides = out.len() + CUT_BYTES + 1;
                let room = bytes_max.checked_sub(besides).filter(|room| {
                    // Short events fit, or the letter has no room for any.
                    *room >= EVENT_BYTES_MIN.min(event.len())
                })?;
                write_event(event, room, out);
            }
        }
        text.push(b'}');
        (text.len() <= bytes_max).then_some(text)
    }
}

/// `,"cut":true,"sha256":"<64 digits>","event_base64":""`.
const CUT_BYTES: usize = 12 + 77 + 18;

fn number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends an event as text if it is text, else in base64. What does not fit `room` bytes is cut, and the hash of the
/// whole says what it was.
fn write_event(event: &[u8], room: usize, out: &mut Vec<u8>) {
    let text = simdutf8::basic::from_utf8(event).ok();
    let shown = match text {
        Some(text) => fitting(text, room),
        None => &event[..event.len().min(room / 4 * 3)],
    };
    if shown.len() < event.len() {
        out.extend_from_slice(b",\"cut\":true,\"sha256\":\"");
        for byte in Sha256::digest(event) {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{byte:02x}");
        }
        out.push(b'"');
    }
    if text.is_some() {
        out.extend_from_slice(b",\"event\":");
        quote_into(shown, out);
    } else {
        out.extend_from_slice(b",\"event_base64\":\"");
        let encoded = base64_simd::STANDARD.encode_to_string(shown);
        out.extend_from_slice(encoded.as_bytes());
        out.push(b'"');
    }
}

/// The longest beginning, or nearly, that has at most `room` bytes once it is escaped.
fn fitting(text: &str, room: usize) -> &[u8] {
    let mut shown = text;
    let mut escaped = Vec::new();
    loop {
        escaped.clear();
        quote_str_into(shown, &mut escaped);
        // Without the quotes, which the head has counted.
        let actual = escaped.len() - 2;
        if actual <= room {
            return shown.as_bytes();
        }
        // Always shorter than before, by as much as it is too long.
        let len = (shown.len() as u128 * room as u128 / actual as u128) as usize;
        shown = &shown[..shown.floor_char_boundary(len)];
    }
}
