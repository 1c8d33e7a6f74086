//! Where the partition key of a routed event comes from.

use super::path::{FieldPath, FieldPaths, PathsError};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::str::FromStr;

/// The source of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// No key: the destination distributes records freely.
    Random,
    /// The time of the request in RFC 3339.
    Timestamp,
    /// The first of these fields that is a string or a number, and not empty.
    Field(FieldPaths),
    /// The same, as an HMAC-SHA-256 of it: readers find a user's events together and do not learn who it is.
    Hmac(FieldPaths),
}

impl KeyRule {
    /// How a rule is written.
    pub const EXPECTED: &'static str = "one of random, timestamp, field:<path>[,<path>…], hmac:<path>[,<path>…] with up to 4 paths";

    /// The fields, in the order in which they are tried.
    #[must_use]
    pub fn fields(&self) -> &[FieldPath] {
        match self {
            KeyRule::Random | KeyRule::Timestamp => &[],
            KeyRule::Field(fields) | KeyRule::Hmac(fields) => &fields.0,
        }
    }
}

/// A text that is no [`KeyRule`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRuleError {
    /// None of the words.
    #[error("`{0}` is not {expected}", expected = KeyRule::EXPECTED)]
    Word(String),
    /// A field that is none.
    #[error(transparent)]
    Paths(#[from] PathsError),
}

impl FromStr for KeyRule {
    type Err = KeyRuleError;

    fn from_str(text: &str) -> Result<KeyRule, KeyRuleError> {
        match (text, text.split_once(':')) {
            ("random", _) => Ok(KeyRule::Random),
            ("timestamp", _) => Ok(KeyRule::Timestamp),
            (_, Some(("field", paths))) => Ok(KeyRule::Field(paths.parse()?)),
            (_, Some(("hmac", paths))) => Ok(KeyRule::Hmac(paths.parse()?)),
            _ => Err(KeyRuleError::Word(text.to_owned())),
        }
    }
}

impl fmt::Display for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyRule::Random => f.write_str("random"),
            KeyRule::Timestamp => f.write_str("timestamp"),
            KeyRule::Field(fields) => write!(f, "field:{fields}"),
            KeyRule::Hmac(fields) => write!(f, "hmac:{fields}"),
        }
    }
}

/// Makes keys that hide their text from all who do not know the salt.
#[derive(Clone)]
pub(crate) struct Hasher(Hmac<Sha256>);

impl Hasher {
    pub(crate) fn new(salt: &[u8]) -> Hasher {
        // A key of any length is taken; the error of its type cannot occur.
        let mac = Hmac::<Sha256>::new_from_slice(salt);
        Hasher(mac.unwrap_or_else(|_| Hmac::new(&Default::default())))
    }

    /// The first half of the HMAC as 32 hex digits: enough that two users never share one.
    pub(crate) fn key(&self, text: &[u8]) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut mac = self.0.clone();
        mac.update(text);
        let tag = mac.finalize().into_bytes();
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(tag.iter()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_rule_round_trips() {
        for text in [
            "random",
            "timestamp",
            "field:user.id",
            "field:user_id,device.id",
            "hmac:\"a,b\".c",
        ] {
            let rule: KeyRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
        }
        for text in [
            "",
            "field",
            "field:",
            "hmac:a b",
            "user_id",
            "field:a,b,c,d,e",
        ] {
            assert!(text.parse::<KeyRule>().is_err(), "{text}");
        }
    }

    /// Test case 2 of RFC 4231, section 4.3.
    #[test]
    fn a_hashed_key_is_the_first_half_of_the_hmac() {
        let key = Hasher::new(b"Jefe").key(b"what do ya want for nothing?");
        assert_eq!(&key, b"5bdcc146bf60754e6a042426089575c7");
    }
}
