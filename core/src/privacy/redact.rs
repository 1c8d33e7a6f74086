//! Rewrites one event: the values that have rules are replaced, every other byte is copied as it stands.
//!
//! The event has passed the scanner. Its members are walked once, without a value tree; members without a rule are
//! stepped over. Where the scan has found all members with rules, only those are looked at: see [`heads`].

mod heads;

pub(super) use heads::{Heads, by_heads};

use super::address::{self, AddressRule};
use super::hash::HashKey;
use super::parameters::{ParameterAction, Parameters};
use super::path::{ROOT, Tree};
use super::{Action, MASK, Tally};
use crate::json::escape::quote_into;
use crate::json::scan::{Found, Span, byte};
use crate::json::split::Event;
use crate::json::step::{skip_space, string_end, value_end};
use crate::json::unescape;
use std::borrow::Cow;

/// How values of one request are treated.
#[derive(Debug)]
pub(super) struct Values<'p> {
    pub(super) parameters: &'p Parameters,
    /// The key that hashes are made with.
    pub(super) key: Option<&'p HashKey>,
    pub(super) addresses: AddressRule,
    /// The key of the day, for addresses.
    pub(super) address_key: Option<HashKey>,
    /// Values that may still be hashed; further ones are masked.
    pub(super) hashes_left: usize,
    pub(super) tally: Tally,
}

impl Values<'_> {
    /// Appends the hash of a text, or the mask. Without quotes.
    fn hash(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match self.key {
            Some(key) if self.hashes_left > 0 => {
                self.hashes_left -= 1;
                self.tally.hashed += 1;
                key.write(text, out);
            }
            _ => self.mask(out),
        }
    }

    fn mask(&mut self, out: &mut Vec<u8>) {
        self.tally.masked += 1;
        out.extend_from_slice(MASK.as_bytes());
    }

    /// Appends what may be stored of addresses, or nothing.
    pub(super) fn address(&mut self, list: &[u8], out: &mut Vec<u8>) -> bool {
        if self.addresses != AddressRule::Keep {
            self.tally.addresses += 1;
        }
        address::write_list(list, self.addresses, self.address_key.as_ref(), out).is_some()
    }

    /// Appends a URL with its parameters treated; false, and nothing appended, if there is nothing to treat.
    pub(super) fn url(&mut self, url: &[u8], out: &mut Vec<u8>) -> bool {
        let parameters = self.parameters;
        let keeps_addresses = self.addresses == AddressRule::Keep;
        let keeps = |action| keeps_addresses && action == ParameterAction::Address;
        parameters.treat(url, out, keeps, |action, value, out| match action {
            ParameterAction::Drop => {
                self.tally.dropped += 1;
                false
            }
            ParameterAction::Mask => {
                self.mask(out);
                true
            }
            ParameterAction::Hash => {
                // All empty ids would become the same one, which looks like somebody.
                if !value.is_empty() {
                    self.hash(value, out);
                }
                true
            }
            ParameterAction::Address => {
                let begin = out.len();
                let is_written = self.address(value, out);
                // A list has spaces, which a query has not.
                for byte in out.iter_mut().skip(begin).filter(|byte| **byte == b' ') {
                    *byte = b'+';
                }
                is_written
            }
        })
    }

    /// Appends what a JSON value becomes by an action. False, and nothing appended, if it stays as it is. An array is
    /// not for this: each of its elements is.
    pub(super) fn write(&mut self, action: Action, value: &[u8], out: &mut Vec<u8>) -> bool {
        let kind = byte(value, 0);
        // It says nothing of anybody.
        if kind == b'n' {
            return false;
        }
        let text = match kind {
            b'"' => text_of(value),
            _ => Cow::Borrowed(value),
        };
        let begin = out.len();
        out.push(b'"');
        match (action, kind) {
            (Action::Hash, b'"') if text.is_empty() => {
                // All empty ids would become the same one, which looks like somebody.
                out.truncate(begin);
                return false;
            }
            (Action::Hash, b'"' | b't' | b'f' | b'-' | b'0'..=b'9') => self.hash(&text, out),
            (Action::Truncate(chars), b'"') => match cut(value, chars) {
                Some(cut) => {
                    out.extend_from_slice(cut);
                    self.tally.truncated += 1;
                }
                None => {
                    out.truncate(begin);
                    return false;
                }
            },
            (Action::Truncate(chars), b'-' | b'0'..=b'9') if value.len() > chars as usize => {
                out.extend_from_slice(&value[..chars as usize]);
                self.tally.truncated += 1;
            }
            (Action::Truncate(_), b't' | b'f' | b'-' | b'0'..=b'9') => {
                out.truncate(begin);
                return false;
            }
            (Action::Url, b'"') => {
                let mut url = Vec::with_capacity(text.len());
                out.truncate(begin);
                if !self.url(&text, &mut url) {
                    return false;
                }
                quote_into(&url, out);
                return true;
            }
            (Action::Address, b'"') => {
                if self.addresses == AddressRule::Keep {
                    out.truncate(begin);
                    return false;
                }
                if !self.address(&text, out) {
                    self.mask(out);
                }
            }
            (Action::Url, _) => {
                out.truncate(begin);
                return false;
            }
            (Action::Address, _) if self.addresses == AddressRule::Keep => {
                out.truncate(begin);
                return false;
            }
            // Objects are hashed and cut by nothing that readers could repeat.
            _ => self.mask(out),
        }
        out.push(b'"');
        true
    }
}

/// The characters of a JSON string.
pub(super) fn text_of(value: &[u8]) -> Cow<'_, [u8]> {
    let inside = value.get(1..value.len().saturating_sub(1));
    let inside = inside.unwrap_or_default();
    if memchr::memchr(b'\\', inside).is_none() {
        return Cow::Borrowed(inside);
    }
    let text = String::from_utf8_lossy(inside);
    let text: String = unescape::chars(&text).collect();
    Cow::Owned(text.into_bytes())
}

/// The first characters of a JSON string, as they stand between its quotes; `None` if it has no more.
fn cut(value: &[u8], chars: u32) -> Option<&[u8]> {
    let inside = value.get(1..value.len().checked_sub(1)?)?;
    let mut at = 0;
    for _ in 0..chars {
        at += match inside.get(at)? {
            b'\\' if byte(inside, at + 1) == b'u' => match is_pair(inside, at) {
                true => 12,
                false => 6,
            },
            b'\\' => 2,
            0..=0x7f => 1,
            first => first.leading_ones() as usize,
        };
    }
    inside.get(..at).filter(|cut| cut.len() < inside.len())
}

/// Whether two escapes are one character.
fn is_pair(text: &[u8], at: usize) -> bool {
    let is_half = |at: usize, second: &[u8]| {
        text.get(at..at + 4).is_some_and(|half| {
            half.starts_with(b"\\u")
                && half[2].eq_ignore_ascii_case(&b'd')
                && second.contains(&half[3].to_ascii_lowercase())
        })
    };
    is_half(at, b"89ab") && is_half(at + 6, b"cdef")
}

/// Appends the event with its values treated. Gives what the event is now, in `out`.
pub(super) fn redact(
    tree: &Tree,
    values: &mut Values<'_>,
    body: &[u8],
    event: &Event,
    out: &mut Vec<u8>,
) -> Event {
    let start = event.span.start as usize;
    let begin = out.len();
    let mut redactor = Redactor {
        tree,
        values,
        json: body,
        copied: start,
        out,
        next: event.found.next(0),
        before: &event.found,
        after: Found::default(),
    };
    let (end, is_empty) = redactor.object(start, ROOT, true);
    redactor.flush(end);
    let mut found = redactor.after;
    // Only the event's own members are followed.
    found.make_irregular();
    Event {
        span: span(begin, out.len()),
        found,
        is_empty,
        line_breaks: event.line_breaks,
    }
}

/// Appends an event as it is.
pub(super) fn copied(body: &[u8], event: &Event, out: &mut Vec<u8>) -> Event {
    let begin = out.len();
    out.extend_from_slice(event.span.of(body));
    let shift = |span: Span| {
        let moved = |at: u32| begin + at.saturating_sub(event.span.start) as usize;
        self::span(moved(span.start), moved(span.end))
    };
    let mut found = event.found;
    found.update(shift);
    Event {
        span: shift(event.span),
        found,
        ..*event
    }
}

/// 32 bits suffice: a body has fewer, and what becomes of it is bounded by the values that may be hashed.
fn span(start: usize, end: usize) -> Span {
    let offset = |at| u32::try_from(at).unwrap_or(u32::MAX);
    Span {
        start: offset(start),
        end: offset(end),
    }
}

struct Redactor<'a, 'p> {
    tree: &'a Tree,
    values: &'a mut Values<'p>,
    json: &'a [u8],
    /// Up to here it is copied or replaced.
    copied: usize,
    out: &'a mut Vec<u8>,
    before: &'a Found,
    /// The next of the values in `before`, in the order of the event: its slot and where it starts.
    next: Option<(usize, u32)>,
    after: Found,
}

impl Redactor<'_, '_> {
    fn flush(&mut self, end: usize) {
        let json = self.json;
        let part = json.get(self.copied..end).unwrap_or_default();
        self.out.extend_from_slice(part);
        self.copied = self.copied.max(end);
    }

    /// Where a byte that is not copied yet will be.
    fn place(&self, at: usize) -> usize {
        self.out.len() + at.saturating_sub(self.copied)
    }

    /// Walks the object that opens there. Gives its end, and whether no member is left.
    fn object(&mut self, open: usize, node: usize, is_event: bool) -> (usize, bool) {
        let json = self.json;
        let mut at = skip_space(json, open + 1);
        if byte(json, at) == b'}' {
            return (at + 1, true);
        }
        // Behind the last member that stays.
        let mut kept_end = open + 1;
        let (mut is_kept, mut is_gap) = (false, false);
        while at < json.len() {
            let key_at = at;
            let (key_end, is_escaped) = string_end(json, at);
            let key = json.get(key_at + 1..key_end - 1).unwrap_or_default();
            let child = self.tree.child(node, key, is_escaped);
            // Over the colon.
            at = skip_space(json, key_end);
            at = skip_space(json, at + 1);
            let action = child.and_then(|child| self.tree.action(child));
            if self.drops(action) {
                if !is_gap {
                    self.flush(kept_end);
                    is_gap = true;
                }
                at = value_end(json, at);
            } else {
                if is_gap {
                    if is_kept {
                        self.out.push(b',');
                    }
                    self.copied = key_at;
                    is_gap = false;
                }
                is_kept = true;
                let (value_at, place) = (at, self.place(at));
                at = match child {
                    Some(child) => self.value(at, child, action),
                    None => value_end(json, at),
                };
                while is_event
                    && let Some((slot, next)) = self.next
                    && next as usize <= value_at
                {
                    // One that was passed by was dropped.
                    if next as usize == value_at {
                        self.after.set(slot, span(place, self.place(at)));
                    }
                    self.next = self.before.next(next + 1);
                }
                kept_end = at;
            }
            at = skip_space(json, at);
            if byte(json, at) != b',' {
                break;
            }
            at = skip_space(json, at + 1);
        }
        if is_gap {
            self.copied = at;
        }
        (at + 1, !is_kept)
    }

    fn drops(&mut self, action: Option<Action>) -> bool {
        let address = self.values.addresses;
        match action {
            Some(Action::Drop) => self.values.tally.dropped += 1,
            Some(Action::Address) if address == AddressRule::Drop => {
                self.values.tally.addresses += 1;
            }
            _ => return false,
        }
        true
    }

    /// Walks or treats the value there. Gives its end.
    fn value(&mut self, at: usize, node: usize, action: Option<Action>) -> usize {
        match (byte(self.json, at), action) {
            (b'[', None) => self.array(at, node, action),
            (b'[', Some(action)) if action != Action::Mask => self.array(at, node, Some(action)),
            (b'{', None) => self.object(at, node, false).0,
            (_, None) => value_end(self.json, at),
            (_, Some(action)) => self.treat(at, action),
        }
    }

    fn array(&mut self, open: usize, node: usize, action: Option<Action>) -> usize {
        let json = self.json;
        let mut at = skip_space(json, open + 1);
        if byte(json, at) == b']' {
            return at + 1;
        }
        while at < json.len() {
            at = self.value(at, node, action);
            at = skip_space(json, at);
            if byte(json, at) != b',' {
                break;
            }
            at = skip_space(json, at + 1);
        }
        at + 1
    }

    fn treat(&mut self, at: usize, action: Action) -> usize {
        let end = value_end(self.json, at);
        self.treat_span(at, end, action);
        end
    }

    fn treat_span(&mut self, at: usize, end: usize, action: Action) {
        let value = self.json.get(at..end).unwrap_or_default();
        self.flush(at);
        if self.values.write(action, value, self.out) {
            self.copied = end;
        }
    }
}

/// Gives every text and number at the paths of the tree to `visit`, until it returns true.
pub(super) fn any(tree: &Tree, json: &[u8], visit: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let mut search = Search {
        tree,
        json,
        visit,
        is_found: false,
    };
    search.value(0, ROOT);
    search.is_found
}

struct Search<'a> {
    tree: &'a Tree,
    json: &'a [u8],
    visit: &'a mut dyn FnMut(&[u8]) -> bool,
    is_found: bool,
}

impl Search<'_> {
    /// Gives the end of the value there.
    fn value(&mut self, at: usize, node: usize) -> usize {
        let json = self.json;
        let is_object = match byte(json, at) {
            b'{' => true,
            b'[' => false,
            kind => {
                let end = value_end(json, at);
                let value = json.get(at..end).unwrap_or_default();
                if self.tree.action(node).is_some() {
                    self.is_found |= match kind {
                        b'"' => {
                            let text = text_of(value);
                            !text.is_empty() && (self.visit)(&text)
                        }
                        b'-' | b'0'..=b'9' => (self.visit)(value),
                        _ => false,
                    };
                }
                return end;
            }
        };
        let mut at = skip_space(json, at + 1);
        if matches!(byte(json, at), b'}' | b']') {
            return at + 1;
        }
        while at < json.len() && !self.is_found {
            let mut child = Some(node);
            if is_object {
                let (key_end, is_escaped) = string_end(json, at);
                let key = json.get(at + 1..key_end - 1).unwrap_or_default();
                child = self.tree.child(node, key, is_escaped);
                at = skip_space(json, key_end);
                at = skip_space(json, at + 1);
            }
            at = match child {
                Some(child) => self.value(at, child),
                None => value_end(json, at),
            };
            at = skip_space(json, at);
            if byte(json, at) != b',' {
                break;
            }
            at = skip_space(json, at + 1);
        }
        at + 1
    }
}
