//! Finds members of objects that the scanner has accepted, at any depth, by reading them once.
//!
//! Validates nothing: on other bytes the result is of no use, but every call ends.

use super::escape::quote_str_into;
use super::scan::{Span, byte};
use super::step::{equals, skip_space, string_end, value_end};

/// Members to look for, as a tree: those of an object, and those of the objects that are their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members(Vec<Member>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: Box<[u8]>,
    /// Where its value is noted, if somebody asks for it itself.
    slot: Option<usize>,
    inside: Members,
}

impl Members {
    /// Looks for the member at the end of these names from now on, and notes it in `slot` unless it has a slot already.
    /// The slot that it has. `None` without a name.
    pub(crate) fn add<'n>(
        &mut self,
        mut names: impl Iterator<Item = &'n str>,
        slot: usize,
    ) -> Option<usize> {
        let name = names.next()?.as_bytes();
        let at = match self.0.iter().position(|member| *member.name == *name) {
            Some(at) => at,
            None => {
                self.0.push(Member {
                    name: name.into(),
                    slot: None,
                    inside: Members::default(),
                });
                self.0.len() - 1
            }
        };
        let member = self.0.get_mut(at)?;
        match member.inside.add(names, slot) {
            Some(slot) => Some(slot),
            None => Some(*member.slot.get_or_insert(slot)),
        }
    }

    /// The names of the outermost object's members, in the order in which [`Members::note`] counts them.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(|member| &*member.name)
    }

    /// Notes the value of the outermost object's n-th member, which somebody else has found, and what is inside.
    pub(crate) fn note(&self, at: usize, text: &[u8], value: Span, found: &mut [Span]) {
        let Some(member) = self.0.get(at) else {
            return;
        };
        if let Some(slot) = member.slot.and_then(|slot| found.get_mut(slot)) {
            *slot = value;
        }
        member.inside.read(text, value.start as usize, found);
    }

    /// Notes all members of the object that begins at `start`, if one does. The offset after it.
    pub(crate) fn read(&self, text: &[u8], start: usize, found: &mut [Span]) -> usize {
        if self.0.is_empty() || byte(text, start) != b'{' {
            return value_end(text, start);
        }
        let mut at = skip_space(text, start + 1);
        while byte(text, at) == b'"' {
            let key = at + 1;
            let (key_end, is_escaped) = string_end(text, at);
            let key = text.get(key..key_end - 1).unwrap_or_default();
            let value = value_after_key(text, key_end);
            let mut members = self.0.iter();
            let Some(member) = members.find(|member| is_name(key, is_escaped, &member.name)) else {
                at = next_member(text, value_end(text, value));
                continue;
            };
            // The last of several with one name counts: what the others held is forgotten.
            member.forget(found);
            at = member.inside.read(text, value, found);
            if let Some(slot) = member.slot.and_then(|slot| found.get_mut(slot)) {
                // 32 bits suffice: longer bodies are rejected.
                *slot = Span {
                    start: value as u32,
                    end: at as u32,
                };
            }
            at = next_member(text, at);
        }
        at + 1
    }
}

impl Member {
    fn forget(&self, found: &mut [Span]) {
        if let Some(slot) = self.slot.and_then(|slot| found.get_mut(slot)) {
            *slot = Span::default();
        }
        for member in &self.inside.0 {
            member.forget(found);
        }
    }
}

/// Appends the object in `text` without the members of these names. Whether it has none left.
pub(crate) fn without<'n>(
    text: &[u8],
    names: impl Iterator<Item = &'n str> + Clone,
    out: &mut Vec<u8>,
) -> bool {
    let mut at = skip_space(text, 1);
    out.push(b'{');
    let mut is_empty = true;
    while byte(text, at) == b'"' {
        let start = at;
        let (key_end, is_escaped) = string_end(text, at);
        let key = text.get(start + 1..key_end - 1).unwrap_or_default();
        let end = value_end(text, value_after_key(text, key_end));
        if !(names.clone()).any(|name| is_name(key, is_escaped, name.as_bytes())) {
            if !is_empty {
                out.push(b',');
            }
            is_empty = false;
            out.extend_from_slice(text.get(start..end).unwrap_or_default());
        }
        at = next_member(text, end);
    }
    out.push(b'}');
    is_empty
}

/// The text between quotes of a key, for names that are written into JSON.
pub(crate) fn quoted(name: &str) -> Vec<u8> {
    let mut quoted = Vec::new();
    quote_str_into(name, &mut quoted);
    quoted
}

/// Whether a key, as it stands between its quotes, is a name.
fn is_name(key: &[u8], is_escaped: bool, name: &[u8]) -> bool {
    match is_escaped {
        false => key == name,
        true => equals(key, name),
    }
}

/// From the end of a key to its value.
fn value_after_key(text: &[u8], key_end: usize) -> usize {
    let colon = skip_space(text, key_end);
    skip_space(text, colon + 1)
}

/// From the end of a value to the next key, or to the end of the object.
fn next_member(text: &[u8], value_end: usize) -> usize {
    let at = skip_space(text, value_end);
    match byte(text, at) {
        b',' => skip_space(text, at + 1),
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const PATHS: [&[&str]; 6] = [
        &["a"],
        &["a", "b"],
        &["b", "a", "b"],
        &["b"],
        &["é\"", "a"],
        &[""],
    ];

    fn found(text: &str) -> Vec<Option<Value>> {
        let mut members = Members::default();
        for (slot, path) in PATHS.iter().enumerate() {
            assert_eq!(members.add(path.iter().copied(), slot), Some(slot));
        }
        let mut found = [Span::default(); PATHS.len()];
        let end = members.read(text.as_bytes(), 0, &mut found);
        assert_eq!(end, text.len());
        let value = |span: &Span| {
            (span.end != 0).then(|| serde_json::from_slice(span.of(text.as_bytes())).unwrap())
        };
        found.iter().map(value).collect()
    }

    fn naive(text: &str) -> Vec<Option<Value>> {
        let root: Value = serde_json::from_str(text).unwrap();
        let at = |path: &&[&str]| {
            let mut value = &root;
            for name in *path {
                value = value.as_object()?.get(*name)?;
            }
            Some(value.clone())
        };
        PATHS.iter().map(at).collect()
    }

    #[test]
    fn of_duplicate_members_only_the_last_counts() {
        for text in [
            r#"{"a":{"b":1},"a":{"c":2}}"#,
            r#"{"a":{"b":1},"a":2,"b":{"a":{"b":3,"b":[4]}}}"#,
            r#"{"a":1,"\u0061":{"\u0062":"x"}}"#,
            r#"{ "a" : { "b" : "}\"{" } , "" : null }"#,
        ] {
            assert_eq!(found(text), naive(text), "{text}");
        }
    }

    #[test]
    fn a_path_has_one_slot_however_often_it_is_added() {
        let mut members = Members::default();
        assert_eq!(members.add(["a", "b"].into_iter(), 0), Some(0));
        assert_eq!(members.add(["a"].into_iter(), 1), Some(1));
        assert_eq!(members.add(["a", "b"].into_iter(), 2), Some(0));
        assert_eq!(members.add([].into_iter(), 2), None);
    }

    #[test]
    fn members_are_removed_with_all_their_duplicates() {
        let left = |text: &str| {
            let mut out = Vec::new();
            let is_empty = without(text.as_bytes(), ["ip", "r"].into_iter(), &mut out);
            (String::from_utf8(out).unwrap(), is_empty)
        };
        for (text, expected) in [
            (
                r#"{"ip":1,"a":{"ip":2},"\u0069p":[3]}"#,
                r#"{"a":{"ip":2}}"#,
            ),
            (r#"{ "a" : 1 , "r":"}" , "b":2 }"#, r#"{"a" : 1,"b":2}"#),
            (r#"{"ip":{},"r":null}"#, "{}"),
            ("{}", "{}"),
        ] {
            assert_eq!(left(text), (expected.to_owned(), expected == "{}"));
        }
    }

    /// Objects with names that the paths ask for, some of them twice.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("1".to_owned()),
            Just("\"x\\\"}\\\\\"".to_owned()),
            Just("[1,{\"a\":\"]\"}]".to_owned()),
            Just("null".to_owned()),
        ];
        let name = prop_oneof![
            Just("\"a\""),
            Just("\"\\u0061\""),
            Just("\"b\""),
            Just("\"\""),
            Just("\"\\u00e9\\\"\""),
            Just(" \"other\" "),
        ];
        let object = move |value: BoxedStrategy<String>| {
            prop::collection::vec((name.clone(), value), 0..5).prop_map(|members| {
                let members: Vec<String> = members
                    .iter()
                    .map(|(name, value)| format!("{name}:{value}"))
                    .collect();
                format!("{{{}}}", members.join(", "))
            })
        };
        let nested = leaf.boxed().prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![inner.clone(), object.clone()(inner)].boxed()
        });
        let name = prop_oneof![Just("\"a\""), Just("\"b\""), Just("\"\\u0062\"")];
        prop::collection::vec((name, nested), 0..5).prop_map(|members| {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name}\n:\t{value}"))
                .collect();
            format!("{{{}}}", members.join(","))
        })
    }

    proptest! {
        #[test]
        fn members_are_those_that_serde_json_finds(text in json()) {
            prop_assert_eq!(found(&text), naive(&text));
        }

        #[test]
        fn no_bytes_make_a_walk_panic_or_last(text in r#"[{}\[\]":,\\ab1 ]{0,60}"#) {
            let mut members = Members::default();
            members.add(["a", "b"].into_iter(), 0);
            let _ = members.read(text.as_bytes(), 0, &mut [Span::default()]);
            without(text.as_bytes(), ["a"].into_iter(), &mut Vec::new());
        }
    }
}
