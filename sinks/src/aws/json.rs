//! What bodies of calls are written with, and what their answers are read with, without an allocation per
//! record.

use serde::de::{Deserialize, Deserializer, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A text of an answer, borrowed unless it has escapes.
#[derive(Debug)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Appends a string with its quotes.
pub(crate) fn push_string(body: &mut Vec<u8>, text: &str) {
    body.push(b'"');
    push_escaped(body, text);
    body.push(b'"');
}

/// Appends what is between the quotes of a string.
pub(crate) fn push_escaped(body: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
        body.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => body.extend_from_slice(&[b'\\', byte]),
            b'\n' => body.extend_from_slice(b"\\n"),
            b'\r' => body.extend_from_slice(b"\\r"),
            b'\t' => body.extend_from_slice(b"\\t"),
            byte => {
                body.extend_from_slice(b"\\u00");
                body.push(HEX[usize::from(byte >> 4)]);
                body.push(HEX[usize::from(byte & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    body.extend_from_slice(rest);
}

fn needs_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Appends bytes as a string in base64, quotes included.
pub(crate) fn push_base64(body: &mut Vec<u8>, data: &[u8]) {
    body.push(b'"');
    base64_simd::STANDARD.encode_append(data, body);
    body.push(b'"');
}

/// Bytes that [`push_base64`] appends.
pub(crate) fn base64_bytes(data: usize) -> usize {
    data.div_ceil(3) * 4 + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    proptest! {
        #[test]
        fn a_pushed_string_is_read_back_by_serde_json(text in any::<String>()) {
            let mut body = Vec::new();
            push_string(&mut body, &text);
            prop_assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), Value::String(text));
        }

        #[test]
        fn pushed_base64_has_the_announced_length(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = Vec::new();
            push_base64(&mut body, &data);
            prop_assert_eq!(body.len(), base64_bytes(data.len()));
            let text: String = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(base64_simd::STANDARD.decode_to_vec(text).unwrap(), data);
        }
    }
}
