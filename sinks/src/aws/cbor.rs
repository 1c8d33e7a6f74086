//! CBOR (RFC 8949) in place of JSON, as the AWS SDKs for Java speak it to Kinesis: the same members, and bytes without
//! base64. Bodies are written with this, and answers read.

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use std::fmt;

/// The content type of both.
pub(crate) const CONTENT_TYPE: &str = "application/x-amz-cbor-1.1";

/// Nesting of an answer's values: those of PutRecords have 3.
const DEPTH_MAX: usize = 16;

// Major types, RFC 8949 section 3.1.
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;

/// Bytes that the head of a value takes at most.
pub(crate) const HEAD_BYTES: usize = 9;

/// Begins a map; as many pairs of name and value follow.
pub(crate) fn push_map(body: &mut Vec<u8>, pairs: usize) {
    push_head(body, MAP, pairs);
}

/// Begins an array; as many values follow.
pub(crate) fn push_array(body: &mut Vec<u8>, values: usize) {
    push_head(body, ARRAY, values);
}

/// Appends a text.
pub(crate) fn push_text(body: &mut Vec<u8>, text: &str) {
    push_head(body, TEXT, text.len());
    body.extend_from_slice(text.as_bytes());
}

/// Appends bytes.
pub(crate) fn push_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    push_head(body, BYTES, bytes.len());
    body.extend_from_slice(bytes);
}

fn push_head(body: &mut Vec<u8>, major: u8, count: usize) {
    let count = count as u64;
    let bytes = count.to_be_bytes();
    // The shortest form of the count, which is behind the major type in the first byte or in 1, 2, 4 or 8 more.
    let (short, from) = match count {
        0..=23 => (bytes[7], 8),
        24..=0xff => (24, 7),
        0x100..=0xffff => (25, 6),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 0),
    };
    body.push(major | short);
    body.extend_from_slice(&bytes[from..]);
}

/// Reads an answer, all of it.
///
/// # Errors
/// It is no CBOR, not of this form, nested too deeply, or goes on behind its end.
pub(crate) fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, String> {
    let mut rest = answer;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX)
        .map_err(|error| error.to_string())?;
    match rest.len() {
        0 => Ok(value),
        more => Err(format!("{more} bytes after the answer")),
    }
}

/// Reads what matters of a text, without keeping it; `null` is as good as no text.
///
/// # Errors
/// The value is no text.
pub(crate) fn of_text<'de, D: Deserializer<'de>, T: Default>(
    deserializer: D,
    of: fn(&str) -> T,
) -> Result<T, D::Error> {
    deserializer.deserialize_option(TextVisitor(of))
}

struct TextVisitor<T>(fn(&str) -> T);

impl<'de, T: Default> Visitor<'de> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_none<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ciborium::Value;

    #[test]
    fn every_length_of_a_value_is_read_back() {
        for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536, 70_000] {
            let text = "x".repeat(length);
            let mut body = Vec::new();
            push_array(&mut body, 2);
            push_text(&mut body, &text);
            push_bytes(&mut body, text.as_bytes());
            assert!(body.len() <= 2 * length + 3 * HEAD_BYTES);
            let expected = [Value::Text(text.clone()), Value::Bytes(text.into_bytes())];
            assert_eq!(read::<Value>(&body), Ok(Value::Array(expected.to_vec())));

            let (mut map, mut array) = (Vec::new(), Vec::new());
            push_map(&mut map, length);
            push_array(&mut array, length);
            for at in 0..length {
                push_text(&mut map, &at.to_string());
                for body in [&mut map, &mut array] {
                    push_bytes(body, &[]);
                }
            }
            assert_eq!(read::<Value>(&map).unwrap().as_map().unwrap().len(), length);
            let array: Value = read(&array).unwrap();
            assert_eq!(array.as_array().unwrap().len(), length);
        }
    }

    #[test]
    fn damaged_deep_and_trailing_cbor_is_unreadable() {
        assert_eq!(
            read::<Value>(&[0xa0, 0xa0]),
            Err("1 bytes after the answer".to_owned())
        );
        for answer in [&b""[..], &[0x64, b'a'], &[0x81; 64], &[0xff]] {
            assert!(read::<Value>(answer).is_err(), "{answer:?}");
        }
    }
}
