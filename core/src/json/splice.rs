//! Adds fields to a JSON object without parsing it: they are inserted before its closing brace.
//!
//! A request's fields are rendered once and copied into each of its events, but for one that may hold the event's
//! index. The caller names the fields to skip because the client sent them itself.

/// The fields to add, rendered as `,"name":value` one after the other.
#[derive(Debug, Default)]
pub struct Additions {
    text: Vec<u8>,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
    /// `,"name":` of the field behind all others that holds the index; empty without one.
    index: Vec<u8>,
}

/// A set of additions, by bit: those that an object already has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present(pub(crate) u32);

impl Present {
    fn contains(self, number: usize) -> bool {
        self.0 >> number & 1 == 1
    }
}

impl Additions {
    /// Clears the fields, keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.index.clear();
    }

    /// Counts a field that this request has not.
    pub fn skip(&mut self) {
        self.ends.push(self.text.len());
    }

    /// Adds the field that holds an event's index, as the last one.
    pub fn add_index(&mut self, name: &str) {
        self.index.extend_from_slice(b",\"");
        self.index.extend_from_slice(name.as_bytes());
        self.index.extend_from_slice(b"\":");
    }

    /// Adds a field; `value` appends its JSON. `name` must not need escaping. Fields are numbered from 0;
    /// at most 32 can be distinguished.
    pub fn add(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        self.text.extend_from_slice(b",\"");
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        value(&mut self.text);
        self.ends.push(self.text.len());
    }

    /// The fields that are not present, each with its leading comma.
    fn missing(&self, present: Present) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends
            .iter()
            .enumerate()
            .filter_map(move |(number, end)| {
                let field = &self.text[start..*end];
                start = *end;
                (!present.contains(number) && !field.is_empty()).then_some(field)
            })
    }

    /// Whether the index is added.
    fn has_index(&self, present: Present) -> bool {
        !self.index.is_empty() && !present.contains(self.ends.len())
    }

    /// How long `object` will be with all fields that are not `present`. `index` is the event's.
    #[must_use]
    pub fn spliced_len(
        &self,
        object: &[u8],
        is_empty: bool,
        present: Present,
        index: u32,
    ) -> usize {
        let mut added = if present == Present::default() {
            self.text.len()
        } else {
            self.missing(present).map(<[u8]>::len).sum()
        };
        if self.has_index(present) {
            added += self.index.len() + itoa::Buffer::new().format(index).len();
        }
        // In an empty object the first field goes without its comma.
        object.len() + added - usize::from(is_empty && added != 0)
    }

    /// Appends `object`, which ends with its closing brace, with all fields that are not `present`.
    /// `is_empty` says that it has no member, `index` is the event's.
    pub fn splice_into(
        &self,
        object: &[u8],
        is_empty: bool,
        present: Present,
        index: u32,
        out: &mut Vec<u8>,
    ) {
        let Some((brace, inside)) = object.split_last() else {
            return;
        };
        out.extend_from_slice(inside);
        let fields_at = out.len();
        if present == Present::default() {
            let skip = usize::from(is_empty && !self.text.is_empty());
            out.extend_from_slice(&self.text[skip..]);
        } else {
            for field in self.missing(present) {
                let skip = usize::from(is_empty && out.len() == fields_at);
                out.extend_from_slice(&field[skip..]);
            }
        }
        if self.has_index(present) {
            let skip = usize::from(is_empty && out.len() == fields_at);
            out.extend_from_slice(&self.index[skip..]);
            out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
        }
        out.push(*brace);
    }
}

/// Replaces CR and LF with spaces, so that the text is one line. In valid JSON they occur only between
/// tokens, where a space is equivalent.
pub fn flatten(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn additions() -> Additions {
        let mut additions = Additions::default();
        additions.add("a", |out| out.extend_from_slice(b"1"));
        additions.add("b", |out| out.extend_from_slice(b"\"two\""));
        additions.add("c", |out| out.extend_from_slice(b"null"));
        additions
    }

    fn spliced(additions: &Additions, object: &str, is_empty: bool, present: &[usize]) -> String {
        let set = Present(present.iter().fold(0, |set, number| set | 1 << number));
        let mut out = Vec::new();
        additions.splice_into(object.as_bytes(), is_empty, set, 17, &mut out);
        assert_eq!(
            out.len(),
            additions.spliced_len(object.as_bytes(), is_empty, set, 17)
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_go_before_the_closing_brace() {
        let all = additions();
        assert_eq!(
            spliced(&all, r#"{"x":{}}"#, false, &[]),
            r#"{"x":{},"a":1,"b":"two","c":null}"#
        );
        assert_eq!(
            spliced(&all, "{}", true, &[]),
            r#"{"a":1,"b":"two","c":null}"#
        );
        assert_eq!(
            spliced(&all, "{ }", true, &[]),
            r#"{ "a":1,"b":"two","c":null}"#
        );
    }

    #[test]
    fn a_present_field_is_not_added_again() {
        let all = additions();
        assert_eq!(
            spliced(&all, r#"{"b":2}"#, false, &[1]),
            r#"{"b":2,"a":1,"c":null}"#
        );
        assert_eq!(spliced(&all, r#"{"x":2}"#, false, &[0, 1, 2]), r#"{"x":2}"#);
        assert_eq!(spliced(&all, "{}", true, &[0]), r#"{"b":"two","c":null}"#);
        assert_eq!(spliced(&all, "{}", true, &[0, 1, 2]), "{}");
    }

    #[test]
    fn the_index_comes_last_unless_it_is_present() {
        let mut all = Additions::default();
        all.skip();
        all.add("b", |out| out.push(b'1'));
        all.add_index("n");
        assert_eq!(spliced(&all, "{}", true, &[]), r#"{"b":1,"n":17}"#);
        assert_eq!(spliced(&all, "{}", true, &[1]), r#"{"n":17}"#);
        assert_eq!(spliced(&all, r#"{"n":0}"#, false, &[2]), r#"{"n":0,"b":1}"#);
        assert_eq!(spliced(&all, "{}", true, &[1, 2]), "{}");
    }

    #[test]
    fn nothing_to_add_changes_nothing() {
        let none = Additions::default();
        assert_eq!(spliced(&none, "{}", true, &[]), "{}");
        assert_eq!(spliced(&none, r#"{"x":2}"#, false, &[]), r#"{"x":2}"#);
    }

    #[test]
    fn a_flattened_document_is_one_line() {
        let mut json = *b"{\r\n\"a\": [1,\n2]}";
        flatten(&mut json);
        assert_eq!(&json, b"{  \"a\": [1, 2]}");
    }
}
