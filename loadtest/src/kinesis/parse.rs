//! Reads the body of a PutRecords or PutRecord call: strings borrowed from it, no tree of values.
//! Knows JSON and the member names; knows none of the service's limits.

use memchr::memchr2;
use std::borrow::Cow;

/// Nesting allowed in members that are skipped.
const DEPTH_MAX: usize = 64;

/// A PutRecords call as sent.
#[derive(Debug, Default)]
pub(super) struct PutRecords<'a> {
    pub(super) stream_name: Option<Cow<'a, str>>,
    pub(super) stream_arn: Option<Cow<'a, str>>,
    pub(super) dry_run: bool,
    /// `None` when the member is absent. Holds at most `entries_max` entries.
    pub(super) entries: Option<Vec<Entry<'a>>>,
    /// How many entries the call has; more than `entries` holds when it is over the limit.
    pub(super) entries_seen: usize,
}

/// One entry of the call; absent or null members are `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Still in base64.
    pub(super) data: Option<Cow<'a, [u8]>>,
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) explicit_hash_key: Option<Cow<'a, str>>,
}

/// Where and why a body is not the JSON of a PutRecords call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParseError {
    pub(super) at: usize,
    pub(super) expected: &'static str,
}

/// Reads a call. Entries after the first `entries_max` are checked and counted, not kept.
pub(super) fn put_records(body: &[u8], entries_max: usize) -> Result<PutRecords<'_>, ParseError> {
    let mut cursor = Cursor { body, at: 0 };
    let mut call = PutRecords::default();
    cursor.object(|cursor, name| {
        match name {
            b"StreamName" => call.stream_name = cursor.text_or_null()?,
            b"StreamARN" => call.stream_arn = cursor.text_or_null()?,
            b"DryRun" => call.dry_run = cursor.bool_or_null()?,
            b"Records" if cursor.null()? => call.entries = None,
            b"Records" => {
                let mut entries = Vec::new();
                let mut seen = 0;
                cursor.array(|cursor| {
                    let entry = cursor.entry()?;
                    seen += 1;
                    if seen <= entries_max {
                        entries.push(entry);
                    }
                    Ok(())
                })?;
                call.entries = Some(entries);
                call.entries_seen = seen;
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    cursor.end()?;
    Ok(call)
}

/// Reads a PutRecord call: as a call of one entry, whose members are the call's own.
pub(super) fn put_record(body: &[u8]) -> Result<PutRecords<'_>, ParseError> {
    let mut cursor = Cursor { body, at: 0 };
    let mut call = PutRecords::default();
    let mut entry = Entry::default();
    cursor.object(|cursor, name| {
        match name {
            b"StreamName" => call.stream_name = cursor.text_or_null()?,
            b"StreamARN" => call.stream_arn = cursor.text_or_null()?,
            b"DryRun" => call.dry_run = cursor.bool_or_null()?,
            _ => cursor.entry_member(name, &mut entry)?,
        }
        Ok(())
    })?;
    cursor.end()?;
    call.entries = Some(vec![entry]);
    call.entries_seen = 1;
    Ok(call)
}

struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, expected: &'static str) -> ParseError {
        ParseError {
            at: self.at,
            expected,
        }
    }

    fn space(&mut self) {
        while matches!(self.body.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte that is not space, not consumed.
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.body.get(self.at).copied()
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), ParseError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }

    fn literal(&mut self, word: &[u8]) -> bool {
        self.space();
        let found = self.body[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn null(&mut self) -> Result<bool, ParseError> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        if self.literal(b"null") {
            Ok(true)
        } else {
            Err(self.error("null"))
        }
    }

    fn bool_or_null(&mut self) -> Result<bool, ParseError> {
        if self.literal(b"true") {
            Ok(true)
        } else if self.literal(b"false") || self.null()? {
            Ok(false)
        } else {
            Err(self.error("true or false"))
        }
    }

    /// A string with its quotes, still escaped, and whether it has escapes.
    fn raw_string(&mut self) -> Result<(&'a [u8], bool), ParseError> {
        self.take(b'"', "a string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            match memchr2(b'"', b'\\', &self.body[self.at..]) {
                None => return Err(self.error("the end of a string")),
                Some(offset) if self.body[self.at + offset] == b'"' => {
                    self.at += offset + 1;
                    return Ok((&self.body[start - 1..self.at], escaped));
                }
                Some(offset) => {
                    escaped = true;
                    // The byte after the backslash cannot end the string.
                    self.at += offset + 2;
                    if self.at > self.body.len() {
                        self.at = self.body.len();
                        return Err(self.error("the end of a string"));
                    }
                }
            }
        }
    }

    fn text(&mut self) -> Result<Cow<'a, str>, ParseError> {
        self.space();
        let start = self.at;
        let (raw, escaped) = self.raw_string()?;
        let inner = &raw[1..raw.len() - 1];
        let text = if escaped {
            serde_json::from_slice(raw).ok().map(Cow::Owned)
        } else if inner.iter().any(|byte| *byte < b' ') {
            None
        } else {
            std::str::from_utf8(inner).ok().map(Cow::Borrowed)
        };
        text.ok_or(ParseError {
            at: start,
            expected: "a valid string",
        })
    }

    fn text_or_null(&mut self) -> Result<Option<Cow<'a, str>>, ParseError> {
        if self.null()? {
            return Ok(None);
        }
        self.text().map(Some)
    }

    /// A string that is decoded later by someone stricter, so its bytes are not looked at.
    fn bytes_or_null(&mut self) -> Result<Option<Cow<'a, [u8]>>, ParseError> {
        if self.null()? {
            return Ok(None);
        }
        self.space();
        let start = self.at;
        let (raw, escaped) = self.raw_string()?;
        if !escaped {
            return Ok(Some(Cow::Borrowed(&raw[1..raw.len() - 1])));
        }
        let text: String = serde_json::from_slice(raw).map_err(|_| ParseError {
            at: start,
            expected: "a valid string",
        })?;
        Ok(Some(Cow::Owned(text.into_bytes())))
    }

    fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &[u8]) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        self.take(b'{', "an object")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let (raw, _) = self.raw_string()?;
            self.take(b':', "a colon")?;
            member(self, &raw[1..raw.len() - 1])?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error("a comma or the end of an object")),
            }
        }
    }

    fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        self.take(b'[', "an array")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error("a comma or the end of an array")),
            }
        }
    }

    fn entry(&mut self) -> Result<Entry<'a>, ParseError> {
        let mut entry = Entry::default();
        self.object(|cursor, name| cursor.entry_member(name, &mut entry))?;
        Ok(entry)
    }

    fn entry_member(&mut self, name: &[u8], entry: &mut Entry<'a>) -> Result<(), ParseError> {
        match name {
            b"Data" => entry.data = self.bytes_or_null()?,
            b"PartitionKey" => entry.key = self.text_or_null()?,
            b"ExplicitHashKey" => entry.explicit_hash_key = self.text_or_null()?,
            _ => self.skip()?,
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), ParseError> {
        self.space();
        if self.at == self.body.len() {
            Ok(())
        } else {
            Err(self.error("the end of the body"))
        }
    }

    /// Skips a value: brackets and strings are matched, numbers and
    /// words are not judged.
    fn skip(&mut self) -> Result<(), ParseError> {
        let mut depth = 0;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.raw_string()?;
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return Err(self.error("less nesting"));
                    }
                    self.at += 1;
                    continue;
                }
                Some(b'}' | b']' | b',' | b':') if depth > 0 => {
                    if matches!(self.body[self.at], b'}' | b']') {
                        depth -= 1;
                    }
                    self.at += 1;
                    if depth > 0 {
                        continue;
                    }
                }
                Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') => {
                    while let Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') =
                        self.body.get(self.at)
                    {
                        self.at += 1;
                    }
                }
                _ => return Err(self.error("a value")),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys<'a>(call: &'a PutRecords<'_>) -> Vec<Option<&'a str>> {
        let entries = call.entries.as_deref().unwrap_or_default();
        entries.iter().map(|entry| entry.key.as_deref()).collect()
    }

    #[test]
    fn a_call_is_read_without_copying() {
        let body = br#" {"Records":[{"Data":"aGk=","PartitionKey":"k1"},
            {"PartitionKey":null,"ExplicitHashKey":"7","Data":"", "Other":[1,{"a":"}]"}]}],
            "StreamName":"clicks","DryRun":false,"Extra":{"x":[true,-1.5e+3,null]}} "#;
        let call = put_records(body, 500).unwrap();
        assert_eq!(call.stream_name.as_deref(), Some("clicks"));
        assert_eq!(call.entries_seen, 2);
        assert_eq!(keys(&call), [Some("k1"), None]);
        let entries = call.entries.unwrap();
        assert!(matches!(entries[0].data, Some(Cow::Borrowed(b"aGk="))));
        assert_eq!(entries[1].explicit_hash_key.as_deref(), Some("7"));
        assert_eq!(entries[1].data.as_deref(), Some(&b""[..]));
    }

    #[test]
    fn escapes_are_undone_in_keys_and_data() {
        let body =
            br#"{"Records":[{"Data":"a\/b=","PartitionKey":"\u00e4\"\\"}],"StreamName":"c\u006c"}"#;
        let call = put_records(body, 500).unwrap();
        assert_eq!(call.stream_name.as_deref(), Some("cl"));
        assert_eq!(keys(&call), [Some("\u{e4}\"\\")]);
        assert_eq!(call.entries.unwrap()[0].data.as_deref(), Some(&b"a/b="[..]));
    }

    #[test]
    fn put_record_members_belong_to_the_call() {
        let body = br#"{"Data":"aGk=","SequenceNumberForOrdering":"1","PartitionKey":"k",
            "StreamName":"clicks","DryRun":true}"#;
        let call = put_record(body).unwrap();
        assert_eq!(call.stream_name.as_deref(), Some("clicks"));
        assert!(call.dry_run);
        assert_eq!((call.entries_seen, keys(&call)), (1, vec![Some("k")]));
        assert_eq!(call.entries.unwrap()[0].data.as_deref(), Some(&b"aGk="[..]));
        for end in 0..body.len() {
            assert!(put_record(&body[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn entries_over_the_limit_are_counted_and_not_kept() {
        let call = put_records(br#"{"Records":[{},{},{}]}"#, 2).unwrap();
        assert_eq!(call.entries_seen, 3);
        assert_eq!(call.entries.unwrap().len(), 2);
    }

    #[test]
    fn absent_records_differ_from_no_records() {
        assert_eq!(put_records(b"{}", 1).unwrap().entries, None);
        assert_eq!(
            put_records(br#"{"Records":null}"#, 1).unwrap().entries,
            None
        );
        let call = put_records(br#"{"Records":[]}"#, 1).unwrap();
        assert_eq!(call.entries, Some(vec![]));
    }

    #[test]
    fn every_cut_of_a_call_is_an_error() {
        let body = br#"{"Records":[{"Data":"aGk=","PartitionKey":"k\n1","X":[{"y":1}]}],"StreamName":"c"}"#;
        assert!(put_records(body, 500).is_ok());
        for end in 0..body.len() {
            assert!(put_records(&body[..end], 500).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn hostile_bodies_are_errors() {
        let deep = format!("{{\"X\":{}", "[".repeat(100_000));
        for body in [
            "[]",
            "{}x",
            r#"{"Records":{}}"#,
            r#"{"Records":[1]}"#,
            r#"{"Records":[{"Data":1}]}"#,
            r#"{"Records":[{}}"#,
            r#"{"Records":[{}]]"#,
            r#"{"StreamName":"\ud800"}"#,
            "{\"StreamName\":\"a\nb\"}",
            r#"{"StreamName":nul}"#,
            r#"{"a" 1}"#,
            r#"{"a":1,}"#,
            "\"\\",
            &deep,
        ] {
            assert!(put_records(body.as_bytes(), 500).is_err(), "{body:.60}");
        }
        assert!(put_records(b"{\"StreamName\":\"\xff\"}", 500).is_err());
    }
}
