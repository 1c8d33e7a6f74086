//! Finds the values that rules ask for, in one request and its events. Decides nothing.

use super::super::condition::Value;
use super::super::path::FieldPath;
use super::{Choice, Rules, Scratch, Slot};
use crate::envelope;
use crate::json::scan::{Span, WANTED_MAX, Wanted};
use crate::json::split::Event;
use crate::request::{RequestContext, host_name};
use std::borrow::Cow;

/// Applies rules to the events of one request.
pub(crate) struct Reading<'r> {
    pub(super) rules: &'r Rules,
    pub(super) request: &'r RequestContext<'r>,
    pub(super) queries: Vec<Option<Vec<u8>>>,
    /// Where the scan puts the outermost fields that rules want, if it has room for all of them.
    pub(super) heads: Option<[usize; WANTED_MAX]>,
    /// Where it puts all fields that rules want, if none is further in than one object, and it has room for all.
    pub(super) all: Option<[usize; WANTED_MAX]>,
}

impl<'r> Reading<'r> {
    /// Has the scan look for the outermost fields, so that only what is inside of them is read again.
    pub(crate) fn want(&mut self, wanted: &mut Wanted<'r>) {
        let names = self.rules.members.names();
        if names.len() > WANTED_MAX {
            return;
        }
        let mut slots = [0; WANTED_MAX];
        for (slot, name) in slots.iter_mut().zip(names) {
            match wanted.add(name) {
                Some(found) => *slot = found,
                // The names that were added are looked up in vain.
                None => return,
            }
        }
        self.heads = Some(slots);
        self.all = self.want_all(wanted);
    }

    fn want_all(&self, wanted: &mut Wanted<'r>) -> Option<[usize; WANTED_MAX]> {
        let mut slots = [0; WANTED_MAX];
        for (at, path) in self.rules.fields.iter().enumerate() {
            let mut names = path.names().map(str::as_bytes);
            let outer = wanted.add(names.next()?)?;
            *slots.get_mut(at)? = match names.next() {
                None => outer,
                Some(name) => wanted.add_inside(outer, name)?,
            };
            if names.next().is_some() {
                return None;
            }
        }
        Some(slots)
    }

    /// What happens to this event of `body`.
    pub(crate) fn event(&self, event: &Event, body: &[u8], scratch: &mut Scratch) -> Choice {
        if let Some(slots) = self.all.filter(|_| event.found.is_regular()) {
            let field = |slot: usize| {
                let found = slots.get(slot).and_then(|slot| event.found.get(*slot));
                found.map_or(Value::Absent, |value| Value::Json(value.of(body)))
            };
            let value = |slot| self.value(slot, &field);
            return self.rules.choose(self.request, scratch, &value);
        }
        let members = &self.rules.members;
        let mut spans = std::mem::take(&mut scratch.spans);
        spans.clear();
        spans.resize(self.rules.fields.len(), Span::default());
        match &self.heads {
            Some(slots) => {
                for (at, slot) in slots.iter().enumerate().take(members.names().len()) {
                    if let Some(value) = event.found.get(*slot) {
                        members.note(at, body, value, &mut spans);
                    }
                }
            }
            None => {
                members.read(body, event.span.start as usize, &mut spans);
            }
        }
        let field = |slot: usize| match spans.get(slot) {
            // No value ends at byte 0.
            Some(span) if span.end != 0 => Value::Json(span.of(body)),
            _ => Value::Absent,
        };
        let choice = self
            .rules
            .choose(self.request, scratch, &|slot| self.value(slot, &field));
        scratch.spans = spans;
        choice
    }

    /// What happens to the envelope of this request.
    pub(crate) fn envelope(&self, scratch: &mut Scratch) -> Choice {
        let key = |path: &FieldPath| envelope::key_of(self.request, path.only_name()?);
        let fields: Vec<_> = self.rules.fields.iter().map(key).collect();
        let field = |slot: usize| match fields.get(slot) {
            Some(Some(text)) => Value::Text(Cow::Borrowed(&**text)),
            _ => Value::Absent,
        };
        self.rules
            .choose(self.request, scratch, &|slot| self.value(slot, &field))
    }

    fn value<'v>(&'v self, slot: Slot, field: &impl Fn(usize) -> Value<'v>) -> Value<'v> {
        let text = |text: &'v [u8]| Value::Text(Cow::Borrowed(text));
        match slot {
            Slot::Field(slot) => field(slot),
            Slot::Query(slot) => match self.queries.get(slot) {
                Some(Some(value)) => text(value),
                _ => Value::Absent,
            },
            Slot::Endpoint => text(self.request.door.endpoint.as_bytes()),
            Slot::Listener => text(self.request.door.listener.as_bytes()),
            Slot::Host => match self.request.door.host {
                Some(host) => Value::Text(host_name(host)),
                None => Value::Absent,
            },
        }
    }
}
