//! Finds the events of a body.
//!
//! A body is one object, an array of objects, or one object per line. The form is detected from the
//! bytes alone, because browser beacons cannot set a content type.
//!
//! - First byte `[`: an array. A syntax error inside it rejects the whole array, because the start of the
//!   next event is unknown.
//! - Otherwise, if the whole body is one JSON value: that value.
//! - Otherwise, if the first non-blank line is a JSON value, or the second one an object: lines. An
//!   invalid line is rejected alone. The second line is checked so that an invalid first line does not
//!   reject the others; checking more lines would find events inside one broken pretty-printed object.
//! - Otherwise: not JSON.

use super::scan::{self, Fault, Found, Kind, Span, TRAILING, Value, Wanted, byte, skip_space};
use crate::reject::Reject;
use memchr::memchr;

/// Bounds of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitLimits {
    /// Nested arrays and objects in one event, its own braces included.
    pub depth_max: usize,
    /// Events in one body.
    pub events_max: usize,
}

/// One JSON object of a body, and where in the body its wanted fields lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The object, braces included.
    pub span: Span,
    /// The values of the wanted top-level fields.
    pub found: Found,
    /// Whether it has no member.
    pub is_empty: bool,
    /// Whether CR or LF stand between its tokens.
    pub line_breaks: bool,
}

/// What stands in the place of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its line, or the element of the array.
    pub span: Span,
    /// Why it is none.
    pub reject: Reject,
}

/// Finds the events of `body` and appends each, or the reason for its rejection, in order. Blank lines
/// are not counted.
///
/// # Errors
/// When the whole body is rejected: not JSON or not UTF-8 (for lines these affect only their line), no
/// event, or too many. The contents of `events` are then unspecified.
pub fn split(
    body: &[u8],
    limits: SplitLimits,
    wanted: &Wanted<'_>,
    events: &mut Vec<Result<Event, Refused>>,
) -> Result<(), Reject> {
    if u32::try_from(body.len()).is_err() {
        return Err(Reject::BodyTooLarge {
            limit: u32::MAX as usize,
            actual: Some(body.len()),
        });
    }
    let start = skip_space(body, 0);
    if start == body.len() {
        return Err(Reject::NoEvents);
    }
    let utf8 = match simdutf8::basic::from_utf8(body) {
        Ok(_) => Ok(()),
        // The fast check does not report a position.
        Err(_) => check_utf8(body, 0),
    };
    let mut split = Split {
        body,
        limits,
        wanted,
        events,
    };
    if body[start] == b'[' {
        utf8?;
        split.array(start)?;
    } else {
        split.objects(start, utf8)?;
    }
    Ok(())
}

fn check_utf8(body: &[u8], start: usize) -> Result<(), Reject> {
    match simdutf8::compat::from_utf8(&body[start..]) {
        Ok(_) => Ok(()),
        Err(error) => Err(Reject::NotUtf8 {
            at: start + error.valid_up_to(),
        }),
    }
}

fn not_json(fault: Fault) -> Reject {
    Reject::NotJson {
        at: fault.at,
        what: fault.what,
    }
}

struct Split<'a, 'n, 'e> {
    body: &'a [u8],
    limits: SplitLimits,
    wanted: &'a Wanted<'n>,
    events: &'e mut Vec<Result<Event, Refused>>,
}

impl Split<'_, '_, '_> {
    fn scan(&self, text: &[u8], start: usize) -> Result<(Value, Found), Fault> {
        let mut found = Found::default();
        let value = scan::value(text, start, self.limits.depth_max, self.wanted, &mut found)?;
        Ok((value, found))
    }

    /// Keeps an event, unless there are too many already: then the rest is not worth reading.
    fn push(&mut self, event: Result<Event, Refused>) -> Result<(), Reject> {
        let (limit, actual) = (self.limits.events_max, self.events.len() + 1);
        if actual > limit {
            return Err(Reject::TooManyEvents { limit, actual });
        }
        self.events.push(event);
        Ok(())
    }

    /// Whether this value may be an event.
    fn admit(&self, start: usize, value: &Value, found: Found) -> Result<Event, Refused> {
        // `split` checked that the body's length fits.
        let span = Span {
            start: start as u32,
            end: value.end as u32,
        };
        let limit = self.limits.depth_max;
        let reject = match value.too_deep_at {
            _ if value.kind == Kind::Other => Some(Reject::NotAnObject { at: start }),
            Some(at) => Some(Reject::TooDeep { limit, at }),
            None => None,
        };
        if let Some(reject) = reject {
            return Err(Refused { span, reject });
        }
        Ok(Event {
            span,
            found,
            is_empty: value.kind == Kind::EmptyObject,
            line_breaks: value.line_breaks,
        })
    }

    fn array(&mut self, start: usize) -> Result<(), Reject> {
        let body = self.body;
        let mut at = skip_space(body, start + 1);
        if byte(body, at) == b']' {
            self.nothing_after(at + 1)?;
            return Err(Reject::NoEvents);
        }
        loop {
            let (value, found) = self.scan(body, at).map_err(not_json)?;
            let event = self.admit(at, &value, found);
            self.push(event)?;
            at = skip_space(body, value.end);
            match byte(body, at) {
                b',' => at = skip_space(body, at + 1),
                b']' => return self.nothing_after(at + 1),
                _ => {
                    let what = "expected `,` or `]`";
                    return Err(Reject::NotJson { at, what });
                }
            }
        }
    }

    fn nothing_after(&self, end: usize) -> Result<(), Reject> {
        let at = skip_space(self.body, end);
        if at == self.body.len() {
            return Ok(());
        }
        let what = TRAILING;
        Err(Reject::NotJson { at, what })
    }

    /// A body that is not an array: one value, or lines.
    fn objects(&mut self, start: usize, utf8: Result<(), Reject>) -> Result<(), Reject> {
        let body = self.body;
        let fault = match self.scan(body, start) {
            Ok((value, found)) => {
                let next = skip_space(body, value.end);
                if next == body.len() {
                    utf8?;
                    if value.kind == Kind::Other {
                        return Err(Reject::NotAnObject { at: start });
                    }
                    let event = self.admit(start, &value, found);
                    self.push(event)?;
                    return Ok(());
                }
                let is_one_line = memchr(b'\n', &body[start..value.end]).is_none();
                let line_break = memchr(b'\n', &body[value.end..next]);
                match line_break {
                    Some(_) if is_one_line && utf8.is_err() => return self.lines(start, false),
                    Some(line_break) if is_one_line => {
                        let event = self.admit(start, &value, found);
                        self.push(event)?;
                        return self.lines(value.end + line_break, true);
                    }
                    // A value over several lines with data after it: not a supported form.
                    _ if !is_one_line => {
                        utf8?;
                        let what = TRAILING;
                        return Err(Reject::NotJson { at: next, what });
                    }
                    _ => Fault {
                        at: next,
                        what: TRAILING,
                    },
                }
            }
            Err(fault) => fault,
        };
        if self.second_line_is_an_object(start) {
            return self.lines(start, utf8.is_ok());
        }
        utf8?;
        Err(not_json(fault))
    }

    fn second_line_is_an_object(&self, start: usize) -> bool {
        let Some(line_break) = memchr(b'\n', &self.body[start..]) else {
            return false;
        };
        let start = skip_space(self.body, start + line_break);
        let end = memchr(b'\n', &self.body[start..]).map_or(self.body.len(), |len| start + len);
        let line = &self.body[..end];
        self.scan(line, start).is_ok_and(|(value, _)| {
            value.kind != Kind::Other && skip_space(line, value.end) == line.len()
        })
    }

    /// Treats every non-blank line from `at` on as an event, or rejects it alone.
    fn lines(&mut self, mut at: usize, utf8: bool) -> Result<(), Reject> {
        let body = self.body;
        while at < body.len() {
            let end = memchr(b'\n', &body[at..]).map_or(body.len(), |len| at + len);
            let line = &body[..end];
            let start = skip_space(line, at);
            if start < end {
                let event = self.line(line, start, utf8);
                self.push(event)?;
            }
            at = end + 1;
        }
        Ok(())
    }

    /// The event in `line[start..]`.
    fn line(&self, line: &[u8], start: usize, utf8: bool) -> Result<Event, Refused> {
        let refused = |reject| Refused {
            span: Span {
                start: start as u32,
                end: line.len() as u32,
            },
            reject,
        };
        if !utf8 {
            check_utf8(line, start).map_err(refused)?;
        }
        let (value, found) = self
            .scan(line, start)
            .map_err(|fault| refused(not_json(fault)))?;
        let end = skip_space(line, value.end);
        if end != line.len() {
            let what = TRAILING;
            return Err(refused(Reject::NotJson { at: end, what }));
        }
        self.admit(start, &value, found)
    }
}
