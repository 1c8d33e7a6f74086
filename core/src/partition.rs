//! Partition keys: which records belong together.

use crate::json::unescape;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The longest partition key, in Unicode characters; the limit of Kinesis' PutRecords.
pub const KEY_CHARS_MAX: usize = 256;

/// Where a record's partition key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PartitionRule {
    /// No key: the sink distributes records freely.
    #[default]
    Random,
    /// The time of the request in RFC 3339, as the replaced service uses it.
    Timestamp,
    /// The value of this top-level field of the event (a string or a number), in envelope mode of this query
    /// parameter. A record without it, or with an empty one, has no key.
    Field(String),
}

impl PartitionRule {
    /// How a rule is written.
    pub const EXPECTED: &'static str = "one of random, timestamp, field:<name of 1 to 256 bytes>";
    /// Bytes of a field's name.
    pub const FIELD_BYTES_MAX: usize = 256;
}

/// A text that is no [`PartitionRule`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {}", PartitionRule::EXPECTED)]
pub struct PartitionRuleError {
    /// The text.
    pub given: String,
}

impl FromStr for PartitionRule {
    type Err = PartitionRuleError;

    fn from_str(given: &str) -> Result<Self, PartitionRuleError> {
        match (given, given.strip_prefix("field:")) {
            ("random", _) => Ok(PartitionRule::Random),
            ("timestamp", _) => Ok(PartitionRule::Timestamp),
            (_, Some(name)) if (1..=Self::FIELD_BYTES_MAX).contains(&name.len()) => {
                Ok(PartitionRule::Field(name.to_owned()))
            }
            _ => Err(PartitionRuleError {
                given: given.to_owned(),
            }),
        }
    }
}

impl fmt::Display for PartitionRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionRule::Random => f.write_str("random"),
            PartitionRule::Timestamp => f.write_str("timestamp"),
            PartitionRule::Field(name) => write!(f, "field:{name}"),
        }
    }
}

/// The partition key for a JSON value: a string's characters, or a number as written. `None` for any
/// other value and for the empty string. `value` must have passed the scanner.
pub(crate) fn key_of_value(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(value).ok()?;
    let key = match value.first()? {
        b'"' => {
            let inside = text.get(1..text.len() - 1)?;
            if inside.contains('\\') {
                Cow::Owned(unescape::chars(inside).take(KEY_CHARS_MAX).collect())
            } else {
                Cow::Borrowed(truncated(inside))
            }
        }
        b'-' | b'0'..=b'9' => Cow::Borrowed(truncated(text)),
        _ => return None,
    };
    (!key.is_empty()).then_some(key)
}

/// The first [`KEY_CHARS_MAX`] characters.
pub(crate) fn truncated(text: &str) -> &str {
    // A character has at least one byte, so short texts need no counting.
    if text.len() <= KEY_CHARS_MAX {
        return text;
    }
    let end = text.char_indices().nth(KEY_CHARS_MAX);
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Option<String> {
        key_of_value(value.as_bytes()).map(Cow::into_owned)
    }

    #[test]
    fn strings_and_numbers_make_keys_and_nothing_else_does() {
        assert_eq!(key(r#""u-1""#), Some("u-1".into()));
        assert_eq!(key(r#""a\u0062\n""#), Some("ab\n".into()));
        assert_eq!(key("-12.50e3"), Some("-12.50e3".into()));
        for none in [r#""""#, "true", "false", "null", "{}", "[1]", ""] {
            assert_eq!(key(none), None, "{none}");
        }
    }

    #[test]
    fn a_key_is_cut_at_256_whole_characters() {
        let long = format!("\"{}\"", "é".repeat(257));
        assert_eq!(key(&long), Some("é".repeat(256)));
        let exact = format!("\"{}\"", "é".repeat(256));
        assert_eq!(key(&exact), Some("é".repeat(256)));
        let escaped = format!("\"{}\"", r"\ud83d\ude00".repeat(300));
        assert_eq!(key(&escaped), Some("😀".repeat(256)));
        assert_eq!(key(&"1".repeat(256)), Some("1".repeat(256)));
        assert_eq!(key(&"1".repeat(257)), Some("1".repeat(256)));
    }
}
