//! Keyed hashes: HMAC-SHA-256 (RFC 2104), written with the id of their key.
//!
//! `k2:9f…`, the digest in 64 lower-case hex digits. Values hashed with one key can be compared, on all hosts that have
//! the key; the id says which key that was.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Keys at most.
pub const KEYS_MAX: usize = 8;

/// Bytes of a key's id.
pub const KEY_ID_BYTES_MAX: usize = 16;

/// Bytes of a key, at least: fewer could be guessed.
pub const KEY_BYTES_MIN: usize = 16;

/// Bytes of a key, at most.
pub const KEY_BYTES_MAX: usize = 1_024;

/// A digest.
pub(super) type Digest = [u8; 32];

/// A key and its id.
#[derive(Clone)]
pub struct HashKey {
    id: Box<str>,
    mac: Hmac<Sha256>,
}

/// A key that cannot be used. Does not show it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashKeyError {
    /// Its id has the wrong form.
    #[error("the id of a key has 1 to {KEY_ID_BYTES_MAX} bytes of a-z, 0-9, - and _")]
    Id,
    /// It is too short or too long.
    #[error("the key `{id}` has {actual} bytes: {KEY_BYTES_MIN} to {KEY_BYTES_MAX}")]
    Length {
        /// Its id.
        id: String,
        /// Its bytes.
        actual: usize,
    },
}

impl HashKey {
    /// A key by its id.
    ///
    /// # Errors
    /// See [`HashKeyError`].
    pub fn new(id: &str, key: &[u8]) -> Result<HashKey, HashKeyError> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_id = |byte: u8| is_plain(byte) || b"-_".contains(&byte);
        if !(1..=KEY_ID_BYTES_MAX).contains(&id.len()) || !id.bytes().all(is_id) {
            return Err(HashKeyError::Id);
        }
        let wrong = || HashKeyError::Length {
            id: id.to_owned(),
            actual: key.len(),
        };
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
            return Err(wrong());
        }
        Ok(HashKey {
            id: id.into(),
            // HMAC takes keys of every length.
            mac: Hmac::new_from_slice(key).map_err(|_| wrong())?,
        })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The digest of a text. Never in one of what begins with a byte that no text has.
    pub(super) fn digest(&self, bytes: &[u8]) -> Digest {
        let mut mac = self.mac.clone();
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// A key made of this one for a day (`2026-11-22`), under the same id. No text has this digest: the first byte
    /// is in no text.
    pub(super) fn of_day(&self, date: &[u8]) -> Option<HashKey> {
        let mut mac = self.mac.clone();
        mac.update(&[0xff]);
        mac.update(date);
        let key: Digest = mac.finalize().into_bytes().into();
        Some(HashKey {
            id: self.id.clone(),
            mac: Hmac::new_from_slice(&key).ok()?,
        })
    }

    /// Appends the hash of a text: id, colon and digits.
    pub(super) fn write(&self, text: &[u8], out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.extend_from_slice(self.id.as_bytes());
        out.push(b':');
        for byte in self.digest(text) {
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: &HashKey, text: &[u8]) -> String {
        let mut out = Vec::new();
        key.write(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hashes_are_those_of_rfc_4231() {
        // Test cases 1, 6 and 7; the others have keys that are too short here.
        let key = HashKey::new("k1", &[0x0b; 20]).unwrap();
        assert_eq!(
            hash(&key, b"Hi There"),
            "k1:b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        let key = HashKey::new("k1", &[0xaa; 131]).unwrap();
        assert_eq!(
            hash(
                &key,
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            ),
            "k1:60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn a_days_key_is_another_one_under_the_same_id() {
        let key = HashKey::new("k1", &[1; 16]).unwrap();
        let day = key.of_day(b"2026-11-22").unwrap();
        assert_eq!(day.id(), "k1");
        assert_eq!(
            hash(&day, b"x"),
            hash(&key.of_day(b"2026-11-22").unwrap(), b"x")
        );
        assert_ne!(hash(&day, b"x"), hash(&key, b"x"));
        assert_ne!(
            hash(&day, b"x"),
            hash(&key.of_day(b"2026-11-23").unwrap(), b"x")
        );
    }

    #[test]
    fn a_key_outside_its_bounds_is_refused_and_never_shown() {
        let new = |id: &str, bytes: usize| HashKey::new(id, &vec![b'x'; bytes]);
        for id in ["", "K", "a:b", "a b", &"x".repeat(17)] {
            assert_eq!(new(id, 32).unwrap_err(), HashKeyError::Id, "{id}");
        }
        for (bytes, is_taken) in [(15, false), (16, true), (1_024, true), (1_025, false)] {
            let made = new("k-1_", bytes);
            assert_eq!(made.is_ok(), is_taken, "{bytes}");
            let text = format!("{made:?}");
            assert!(!text.contains("xxx"), "{text}");
        }
        let error = new("k1", 15).unwrap_err().to_string();
        assert_eq!(error, "the key `k1` has 15 bytes: 16 to 1024");
    }
}
