//! The list of ids of which nothing is stored any more.
//!
//! One keyed hash a line, as events hold them: `k2:` and 64 hex digits. Empty lines and those that begin with `#` say
//! nothing. Of a hash, 128 bits are kept: two of a million collide with a probability of one in 10^26.

use super::hash::{Digest, HashKey};
use std::sync::{Arc, PoisonError, RwLock};

/// Ids in a list.
pub const SUPPRESSED_MAX: usize = 1_000_000;

/// Bytes of a list.
pub const SUPPRESS_BYTES_MAX: usize = 96 << 20;

/// Hashed ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuppressList {
    /// By the position of their key, in order.
    ids: Vec<Vec<u128>>,
}

/// A list that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuppressError {
    /// It is too large.
    #[error("the list has {actual} bytes, the limit is {limit}")]
    Bytes {
        /// [`SUPPRESS_BYTES_MAX`].
        limit: usize,
        /// Its bytes.
        actual: u64,
    },
    /// It has too many entries.
    #[error("the list has {actual} entries, the limit is {limit}")]
    Entries {
        /// [`SUPPRESSED_MAX`].
        limit: usize,
        /// Its entries.
        actual: usize,
    },
    /// A line is no keyed hash.
    #[error("line {line}: expected the id of a key, a colon, and 64 hex digits")]
    Line {
        /// From 1.
        line: usize,
    },
    /// A line was hashed with another key.
    #[error("line {line}: there is no key `{id}` among hash_keys")]
    Key {
        /// From 1.
        line: usize,
        /// The id of its key.
        id: String,
    },
}

impl SuppressList {
    /// Reads a list of hashes made with these keys.
    ///
    /// # Errors
    /// See [`SuppressError`].
    pub fn parse(text: &[u8], keys: &[HashKey]) -> Result<SuppressList, SuppressError> {
        if text.len() > SUPPRESS_BYTES_MAX {
            return Err(SuppressError::Bytes {
                limit: SUPPRESS_BYTES_MAX,
                actual: text.len() as u64,
            });
        }
        let mut ids = vec![Vec::new(); keys.len()];
        let mut count = 0;
        for (line, entry) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let entry = entry.trim_ascii();
            if entry.is_empty() || entry.starts_with(b"#") {
                continue;
            }
            let (key, id) = entry_of(entry).ok_or(SuppressError::Line { line })?;
            let Some(at) = keys.iter().position(|known| known.id() == key) else {
                return Err(SuppressError::Key {
                    line,
                    // No longer than a line that was read as an entry.
                    id: key.chars().take(super::hash::KEY_ID_BYTES_MAX).collect(),
                });
            };
            if let Some(ids) = ids.get_mut(at) {
                ids.push(id);
            }
            count += 1;
        }
        if count > SUPPRESSED_MAX {
            return Err(SuppressError::Entries {
                limit: SUPPRESSED_MAX,
                actual: count,
            });
        }
        for ids in &mut ids {
            ids.sort_unstable();
            ids.dedup();
            ids.shrink_to_fit();
        }
        Ok(SuppressList { ids })
    }

    /// Different ids in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.iter().all(Vec::is_empty)
    }

    /// Whether the hash of this id by any of the keys is in the list.
    pub(super) fn has(&self, id: &[u8], keys: &[HashKey]) -> bool {
        self.ids
            .iter()
            .zip(keys)
            .filter(|(ids, _)| !ids.is_empty())
            .any(|(ids, key)| ids.binary_search(&shortened(&key.digest(id))).is_ok())
    }
}

fn entry_of(entry: &[u8]) -> Option<(&str, u128)> {
    let (key, digits) = std::str::from_utf8(entry).ok()?.split_once(':')?;
    let is_hash = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let first = digits.get(..32).filter(|_| is_hash)?;
    Some((key, u128::from_str_radix(first, 16).ok()?))
}

fn shortened(digest: &Digest) -> u128 {
    let (first, _) = digest.split_at(16);
    first.iter().fold(0, |id, byte| id << 8 | u128::from(*byte))
}

/// The list in force, which all cores share.
#[derive(Debug, Default)]
pub struct SuppressCell(RwLock<Arc<SuppressList>>);

impl SuppressCell {
    /// Puts another list in force.
    pub fn set(&self, list: SuppressList) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
    }

    /// The list in force.
    #[must_use]
    pub fn get(&self) -> Arc<SuppressList> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<HashKey> {
        vec![
            HashKey::new("k2", &[2; 16]).unwrap(),
            HashKey::new("k1", &[1; 16]).unwrap(),
        ]
    }

    fn line(key: &HashKey, id: &str) -> String {
        let mut out = Vec::new();
        key.write(id.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_id_is_found_by_whichever_key_hashed_it() {
        let keys = keys();
        let text = format!(
            "# gone\n\n{}\r\n  {}\n{}",
            line(&keys[0], "a"),
            line(&keys[1], "b").to_uppercase().replace("K1", "k1"),
            line(&keys[0], "a"),
        );
        let list = SuppressList::parse(text.as_bytes(), &keys).unwrap();
        assert_eq!(list.len(), 2);
        assert!(list.has(b"a", &keys) && list.has(b"b", &keys));
        assert!(!list.has(b"c", &keys) && !list.has(b"", &keys));
        assert!(SuppressList::parse(b"", &keys).unwrap().is_empty());
    }

    #[test]
    fn a_broken_line_is_refused_by_its_number() {
        let keys = keys();
        let good = line(&keys[0], "a");
        for broken in [
            "x",
            "k2:",
            "k2:00",
            &good[..good.len() - 1],
            &good.replace(':', " "),
        ] {
            let text = format!("{good}\n{broken}\n");
            let error = SuppressList::parse(text.as_bytes(), &keys).unwrap_err();
            assert_eq!(error, SuppressError::Line { line: 2 }, "{broken}");
        }
        let text = good.replace("k2:", "k3:");
        let error = SuppressList::parse(text.as_bytes(), &keys).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 1: there is no key `k3` among hash_keys"
        );
    }

    #[test]
    fn a_list_over_its_entries_is_refused_with_both_numbers() {
        let keys = keys();
        let mut text = format!("{}\n", line(&keys[0], "a")).repeat(SUPPRESSED_MAX);
        assert_eq!(
            SuppressList::parse(text.as_bytes(), &keys).unwrap().len(),
            1
        );
        text += &line(&keys[0], "a");
        let error = SuppressList::parse(text.as_bytes(), &keys).unwrap_err();
        let expected = "the list has 1000001 entries, the limit is 1000000";
        assert_eq!(error.to_string(), expected);
        let large = vec![b'\n'; SUPPRESS_BYTES_MAX + 1];
        let error = SuppressList::parse(&large, &keys).unwrap_err();
        let expected = "the list has 100663297 bytes, the limit is 100663296";
        assert_eq!(error.to_string(), expected);
    }
}
