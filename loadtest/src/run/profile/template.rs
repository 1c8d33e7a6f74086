//! Text with places that change from request to request. All have a fixed width, so that they are
//! written over where they are.

use crate::event_id::{EventId, put_hex};
use std::fmt::Write;

/// A session is as long as a visitor stays: it has a new number each half hour.
const SESSION_MS: u64 = 1_800_000;

/// How long the oldest session started before its half hour. With it, and with events at most
/// [`BACK_MS_MAX`] old, an age in milliseconds always has seven digits.
const SESSION_LEAD_MS: u64 = 2_000_000;

/// How old an event of a request may be, in milliseconds.
pub(super) const BACK_MS_MAX: u32 = 900_000;

const _: () = assert!(SESSION_LEAD_MS - BACK_MS_MAX as u64 >= 1_000_000);
const _: () = assert!(SESSION_LEAD_MS + SESSION_MS < 10_000_000);

/// The content of a variable field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// 12 hex digits: the sequence number of the request's event of this index.
    Seq(u32),
    /// 13 decimal digits: milliseconds since the Unix epoch, this many before the request.
    TimeMs {
        /// Before the request's start.
        back_ms: u32,
    },
    /// 9 decimal digits: the number of the request's user.
    User,
    /// 13 decimal digits: when the user's session started.
    SessionStart,
    /// 7 decimal digits: how long the session lasts at an event's time.
    SessionAge {
        /// Before the request's start.
        back_ms: u32,
    },
    /// 9 decimal digits: the number of the request among those of its thread, from 100,000,001 on,
    /// since an SDK's number has no zeros in front.
    Bundle,
}

impl Value {
    /// Bytes that it takes.
    pub(super) fn width(self) -> usize {
        match self {
            Value::Seq(_) => 12,
            Value::TimeMs { .. } | Value::SessionStart => 13,
            Value::User | Value::Bundle => 9,
            Value::SessionAge { .. } => 7,
        }
    }
}

/// A place that changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Its first byte.
    pub(super) at: usize,
    pub(super) value: Value,
}

/// The values that differ between requests from one template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Sequence number of the request's first event.
    pub(super) first: u64,
    /// Milliseconds since the Unix epoch.
    pub(super) now_ms: u64,
    pub(super) user: u64,
    /// Requests of this thread so far.
    pub(super) bundle: u64,
}

impl Moment {
    fn session_start(&self) -> u64 {
        (self.now_ms / SESSION_MS * SESSION_MS).saturating_sub(SESSION_LEAD_MS)
    }

    /// Writes one field.
    fn write(&self, value: Value, out: &mut [u8]) {
        let time = |back_ms: u32| self.now_ms.saturating_sub(u64::from(back_ms));
        let number = match value {
            Value::Seq(index) => return put_hex(out, self.first + u64::from(index)),
            Value::TimeMs { back_ms } => time(back_ms),
            Value::User => self.user,
            Value::SessionStart => self.session_start(),
            Value::SessionAge { back_ms } => time(back_ms).saturating_sub(self.session_start()),
            Value::Bundle => 100_000_000 + self.bundle % 900_000_000,
        };
        put_decimal(out, number);
    }

    /// Writes over all places of a text that begins at `base` in `bytes`.
    pub(super) fn fill(&self, bytes: &mut [u8], base: usize, slots: &[Slot]) {
        for slot in slots {
            let at = base + slot.at;
            self.write(slot.value, &mut bytes[at..at + slot.value.width()]);
        }
    }
}

/// Writes the low digits of a number over the whole of `out`, zeros in front.
pub(in crate::run) fn put_decimal(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Text under construction, and where it changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) slots: Vec<Slot>,
}

impl Text {
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends formatted text. Writing to a string does not fail.
    pub(super) fn format(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = self.text.write_fmt(what);
    }

    /// Appends a placeholder for a value.
    pub(super) fn slot(&mut self, value: Value) {
        let at = self.text.len();
        self.slots.push(Slot { at, value });
        self.text.extend(std::iter::repeat_n('0', value.width()));
    }

    /// Appends the id of the request's event of this index.
    pub(super) fn id(&mut self, run: u32, index: u32) {
        let id = EventId { run, seq: 0 }.to_string();
        let seq = id.len() - Value::Seq(index).width();
        self.push(&id[..seq]);
        self.slot(Value::Seq(index));
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_gets_its_value_in_its_width() {
        let mut text = Text::default();
        text.id(7, 2);
        for value in [
            Value::TimeMs { back_ms: 1_000 },
            Value::User,
            Value::SessionStart,
            Value::SessionAge { back_ms: 1_000 },
            Value::Bundle,
        ] {
            text.push(" ");
            text.slot(value);
        }
        let moment = Moment {
            first: 0x10,
            now_ms: 1_763_000_000_123,
            user: 42,
            bundle: 5,
        };
        let mut bytes = text.text.clone().into_bytes();
        moment.fill(&mut bytes, 0, &text.slots);
        // 1,763,000,000 s is 800 s into its half hour.
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "lt-00000007-000000000012 1762999999123 000000042 1762997200000 2799123 100000005"
        );
    }

    #[test]
    fn a_session_age_never_starts_with_a_zero() {
        for now_ms in (1_763_000_000_000..1_763_003_600_000).step_by(7_777) {
            for back_ms in [0, BACK_MS_MAX] {
                let moment = Moment {
                    first: 0,
                    now_ms,
                    user: 0,
                    bundle: 0,
                };
                let mut out = [0; 7];
                moment.write(Value::SessionAge { back_ms }, &mut out);
                assert_ne!(out[0], b'0');
                let age = now_ms - u64::from(back_ms) - moment.session_start();
                assert_eq!(age.to_string().as_bytes(), out);
            }
        }
    }
}
