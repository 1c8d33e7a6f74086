//! Rewrites an event by what the scan has found: the members that have rules, of the event and of the objects in it.
//! Others are copied unread, but for those that have rules further in: these are walked. Gives what the walk over all
//! members gives, at a fraction of its cost.

use super::super::path::Tree;
use super::{ROOT, Redactor, Values, byte, redact, skip_space, span};
use crate::json::scan::{Found, WANTED_MAX, Wanted};
use crate::json::split::Event;

/// The members that matter to rules, by the slots of the scan.
#[derive(Debug)]
pub(crate) struct Heads {
    heads: [Option<Head>; WANTED_MAX],
    /// The slots of the event's own, by bit.
    own: u16,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    node: u16,
    /// Bytes of its name.
    name_bytes: u16,
    /// All members with rules that an object in it may have are found, too.
    is_flat: bool,
}

impl Heads {
    /// Has the scan look for all of them; `None` if it has no room for them, or if others look into a member that has a
    /// rule as a whole, or rules far inside.
    pub(crate) fn want<'p>(tree: &'p Tree, wanted: &mut Wanted<'p>) -> Option<Heads> {
        let mut heads = Heads {
            heads: [None; WANTED_MAX],
            own: 0,
        };
        for (name, node) in tree.members(ROOT) {
            let slot = wanted.add(name.as_bytes())?;
            heads.put(slot, name, node)?;
            heads.own |= 1 << slot;
        }
        for outer in 0..WANTED_MAX {
            let Some(head) = heads.get(outer) else {
                continue;
            };
            let members = tree.members(head.node.into());
            if heads.own >> outer & 1 == 0
                || !(members.clone()).all(|(_, member)| tree.action(member).is_some())
            {
                continue;
            }
            let mut are_found = true;
            for (name, node) in members {
                let slot = wanted.add_inside(outer, name.as_bytes());
                are_found &= slot.and_then(|slot| heads.put(slot, name, node)).is_some();
            }
            if let Some(Some(head)) = heads.heads.get_mut(outer) {
                head.is_flat = are_found;
            }
        }
        // Where other values in it end up is only known of one that is neither treated as a whole nor walked.
        let is_followed = |head: Head| head.is_flat && tree.action(head.node.into()).is_none();
        let mut outers = (0..wanted.len()).filter_map(|slot| wanted.outer(slot));
        match outers.all(|outer| heads.get(outer).is_none_or(is_followed)) {
            true => Some(heads),
            false => None,
        }
    }

    fn put(&mut self, slot: usize, name: &str, node: usize) -> Option<()> {
        let head = Head {
            node: u16::try_from(node).ok()?,
            name_bytes: u16::try_from(name.len()).ok()?,
            is_flat: false,
        };
        *self.heads.get_mut(slot)? = Some(head);
        Some(())
    }

    fn get(&self, slot: usize) -> Option<Head> {
        self.heads.get(slot).copied().flatten()
    }

    /// Whether an event has any of them.
    pub(crate) fn are_in(&self, event: &Event) -> bool {
        event.found.among(self.own) != 0
    }
}

/// Appends the event with its values treated. Gives what the event is now, in `out`.
pub(crate) fn by_heads(
    heads: &Heads,
    wanted: &Wanted<'_>,
    tree: &Tree,
    values: &mut Values<'_>,
    body: &[u8],
    event: &Event,
    out: &mut Vec<u8>,
) -> Event {
    let Some(found) = event.found.in_order() else {
        return redact(tree, values, body, event, out);
    };
    let (start, end) = (event.span.start as usize, event.span.end as usize);
    let begin = out.len();
    out.reserve(end - start);
    let mut redactor = Redactor {
        tree,
        values,
        json: body,
        copied: start,
        out,
        next: None,
        before: &event.found,
        after: Found::default(),
    };
    let mut gap = None;
    // The object that is gone through: its slot, its first byte, and where that will be.
    let mut object: Option<(usize, usize, usize)> = None;
    for (slot, value) in found {
        let (at, end) = (value.start as usize, value.end as usize);
        let outer = wanted.outer(slot);
        if let Some(outer) = outer
            && object.is_none_or(|object| object.0 != outer)
        {
            redactor.close(&mut gap);
            let first = event
                .found
                .get(outer)
                .map_or(at, |outer| outer.start as usize);
            object = Some((outer, first, redactor.place(first)));
        }
        let head = heads.get(slot);
        let node = head.map_or(ROOT, |head| head.node.into());
        let action = head.and_then(|_| tree.action(node));
        if let Some(head) = head
            && redactor.drops(action)
        {
            let brace = match (outer, object) {
                (Some(_), Some((_, first, _))) => first,
                _ => start,
            };
            let key = key_start(body, at, head.name_bytes.into());
            redactor.drop_member(brace, key, end, &mut gap);
            continue;
        }
        redactor.close(&mut gap);
        let place = match object.take_if(|object| object.0 == slot) {
            Some((.., place)) => place,
            None => redactor.place(at),
        };
        match (head, byte(body, at), action) {
            (None, ..) => {}
            (Some(head), b'{', None) if head.is_flat => {}
            (_, b'{' | b'[', _) => {
                redactor.value(at, node, action);
            }
            (_, _, Some(action)) => redactor.treat_span(at, end, action),
            _ => {}
        }
        let after = span(place, redactor.place(end));
        redactor.after.set(slot, after);
    }
    let is_empty =
        event.is_empty || (gap == Some(Gap::First) && byte(body, redactor.copied) == b'}');
    redactor.close(&mut gap);
    redactor.flush(end);
    let found = redactor.after;
    Event {
        span: span(begin, out.len()),
        found,
        is_empty,
        line_breaks: event.line_breaks,
    }
}

/// Members were dropped, and copying goes on behind them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// All members so far.
    First,
    /// One before them stays.
    Behind,
}

impl Redactor<'_, '_> {
    /// Leaves out the member whose key and value are there.
    fn drop_member(&mut self, brace: usize, key: usize, end: usize, gap: &mut Option<Gap>) {
        let json = self.json;
        if gap.is_none() || key != self.copied {
            self.close(gap);
            let before = space_start(json, key);
            // Nothing but the brace is before the first member, and a comma before all others.
            let is_first = before <= brace + 1;
            *gap = Some(if is_first { Gap::First } else { Gap::Behind });
            self.flush(match is_first {
                true => brace + 1,
                false => space_start(json, before - 1),
            });
        }
        let next = skip_space(json, end);
        self.copied = match byte(json, next) {
            b',' => skip_space(json, next + 1),
            _ => next,
        };
    }

    /// A member comes behind the gap, or the end of the object.
    fn close(&mut self, gap: &mut Option<Gap>) {
        if gap.take() == Some(Gap::Behind) && byte(self.json, self.copied) != b'}' {
            self.out.push(b',');
        }
    }
}

/// Where the key of a value begins that has no escapes: its opening quote.
fn key_start(json: &[u8], value: usize, name_bytes: usize) -> usize {
    let colon = space_start(json, value).saturating_sub(1);
    space_start(json, colon).saturating_sub(name_bytes + 2)
}

/// The offset behind the last byte before `at` that is no blank.
fn space_start(json: &[u8], mut at: usize) -> usize {
    while at > 0 && matches!(byte(json, at - 1), b' ' | b'\n' | b'\r' | b'\t') {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::super::super::{Action, AddressRule, Tally, parameters::Parameters};
    use super::*;
    use crate::json::scan::Span;
    use crate::json::split::{SplitLimits, split};
    use crate::json::walk::Members;
    use proptest::prelude::*;

    const RULES: [(&str, Action); 7] = [
        ("a", Action::Drop),
        ("b", Action::Mask),
        ("c.a", Action::Drop),
        ("c.b", Action::Truncate(1)),
        ("d", Action::Drop),
        ("ip", Action::Address),
        ("e.a.b", Action::Mask),
    ];

    fn tree() -> Tree {
        let mut tree = Tree::new();
        for (path, action) in RULES {
            tree.add(&path.parse().unwrap(), action).unwrap();
        }
        tree
    }

    /// What an event becomes by the members that were found, and by the walk over all.
    fn both(text: &str) -> [(String, Event, Tally); 2] {
        let tree = tree();
        let mut wanted = Wanted::default();
        // Somebody else's.
        for name in ["key", "b"] {
            wanted.add(name.as_bytes());
        }
        let outer = wanted.add(b"x").unwrap();
        wanted.add_inside(outer, b"b").unwrap();
        let heads = Heads::want(&tree, &mut wanted).unwrap();
        let limits = SplitLimits {
            depth_max: 9,
            events_max: 1,
        };
        let mut events = Vec::new();
        split(text.as_bytes(), limits, &wanted, &mut events).unwrap();
        let event = events.remove(0).unwrap();
        let parameters = Parameters::default();
        [true, false].map(|by_found| {
            let mut values = Values {
                parameters: &parameters,
                key: None,
                addresses: AddressRule::Drop,
                address_key: None,
                hashes_left: 0,
                tally: Tally::default(),
            };
            let (body, mut out) = (text.as_bytes(), b"before".to_vec());
            let event = match by_found {
                true => by_heads(&heads, &wanted, &tree, &mut values, body, &event, &mut out),
                false => redact(&tree, &mut values, body, &event, &mut out),
            };
            (String::from_utf8(out).unwrap(), event, values.tally)
        })
    }

    fn event() -> impl Strategy<Value = String> {
        let names = vec![
            "a", "b", "c", "d", "e", "ip", "key", "x", "", "\\u0061", "\\u0063",
        ];
        let values = vec![
            "1",
            "\"long \\\" text\"",
            "null",
            "{}",
            "[{\"a\":1},{\"b\":\"xy\"}]",
            "{ \"a\" : 1, \"b\":\"xyz\" ,\"a\":{} }",
            "{\"a\":\"}\"}",
            "{\"a\":{\"b\":1}, \"b\" : \"xy\",\"c\":2}",
        ];
        let space = prop::sample::select(vec!["", "", " ", "\t \n"]);
        let member = (
            prop::sample::select(names),
            space.clone(),
            prop::sample::select(values),
            space.clone(),
        );
        let member = member.prop_map(|(name, before, value, after)| {
            format!("{before}\"{name}\"{after}:{before}{value}{after}")
        });
        (prop::collection::vec(member, 0..8), space)
            .prop_map(|(members, end)| format!("{{{end}{}}}", members.join(",")))
    }

    #[test]
    fn an_event_is_walked_where_values_could_not_be_followed() {
        let tree = tree();
        for (name, is_followed) in [("a", false), ("c", true), ("e", false), ("x", true)] {
            let mut wanted = Wanted::default();
            let outer = wanted.add(name.as_bytes()).unwrap();
            wanted.add_inside(outer, b"b").unwrap();
            assert_eq!(
                Heads::want(&tree, &mut wanted).is_some(),
                is_followed,
                "{name}"
            );
        }
    }

    #[test]
    fn dropped_members_leave_no_comma_too_many() {
        for (event, left) in [
            (r#"{"a":1}"#, "{}"),
            (r#"{ "a" : 1 , "d":2 }"#, "{}"),
            (r#"{"a":1,"x":2}"#, r#"{"x":2}"#),
            (r#"{"x":2, "a":1 }"#, r#"{"x":2}"#),
            (r#"{"x":1, "a":1, "d":2 , "y":2}"#, r#"{"x":1,"y":2}"#),
            (r#"{"a":1,"x":1,"d":2,"key":3}"#, r#"{"x":1,"key":3}"#),
            (r#"{"ip":1,"key":1,"d":2}"#, r#"{"key":1}"#),
        ] {
            let [(out, found, _), _] = both(event);
            assert_eq!(out, format!("before{left}"), "{event}");
            assert_eq!(found.is_empty, left == "{}");
        }
    }

    proptest! {
        #[test]
        fn found_members_are_redacted_as_the_walk_does(event in event()) {
            let [(text, found, tally), (walked, by_walk, walk_tally)] = both(&event);
            prop_assert_eq!((&text, tally), (&walked, walk_tally), "{}", event);
            prop_assert_eq!((found.span, found.is_empty), (by_walk.span, by_walk.is_empty));
            // Where the values are now that others look for, as reading the event again tells.
            let mut members = Members::default();
            let paths: [&[&str]; 4] = [&["key"], &["b"], &["x"], &["x", "b"]];
            for (slot, path) in paths.iter().enumerate() {
                members.add(path.iter().copied(), slot);
            }
            let mut read = [Span::default(); 4];
            members.read(text.as_bytes(), "before".len(), &mut read);
            let is_there = |span: &Span| (span.end != 0).then_some(*span);
            for (slot, span) in read.iter().enumerate().filter(|_| found.found.is_regular()) {
                prop_assert_eq!(found.found.get(slot), is_there(span), "{} {}", slot, event);
            }
        }
    }
}
