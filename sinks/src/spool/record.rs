//! Records as bytes of a segment: how they are written, and how they are found again in a damaged one.
//!
//! ```text
//! segment   "SLUICEsp" | version u32 | salt u64 | CRC-32C of these | record…
//! record    f5 "slr" | crc u32 | payload u32 | key u16 | topic u16 | arrived u64 | flags u8 | key | topic | payload
//! ```
//!
//! Numbers are little-endian; `arrived` is Unix time in microseconds. The CRC-32C covers the salt and everything
//! behind the CRC. The salt is random, so that no client can send an event whose bytes look like a record of its
//! segment: after damage, the next record is looked for by its mark. A mark begins with a byte that UTF-8 never has.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use std::ops::Range;

/// Bytes in front of the first record.
pub(super) const SEGMENT_HEAD: usize = 8 + 4 + 8 + 4;
/// Bytes in front of a record's key.
pub(super) const RECORD_HEAD: usize = 4 + 4 + 4 + 2 + 2 + 8 + 1;
/// The longest payload: no sink takes a larger record, and a damaged length claims no more.
pub(super) const PAYLOAD_BYTES_MAX: usize = 256 << 20;

const SEGMENT_MARK: &[u8; 8] = b"SLUICEsp";
const VERSION: u32 = 1;
const RECORD_MARK: [u8; 4] = [0xf5, b's', b'l', b'r'];

const HAS_KEY: u8 = 1;
const HAS_TOPIC: u8 = 2;
const IS_ATTEMPTED: u8 = 4;
const KNOWN_FLAGS: u8 = HAS_KEY | HAS_TOPIC | IS_ATTEMPTED;

/// A record as the spool keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The partition key.
    pub key: Option<Bytes>,
    /// The name of its topic.
    pub topic: Option<Bytes>,
    /// The bytes that the destination stores.
    pub payload: Bytes,
    /// Unix time in microseconds at which the spool took it.
    pub arrived_micros: u64,
    /// A call has carried it, so that the destination may have it already.
    pub is_attempted: bool,
}

/// A record does not fit the format.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} of {actual} bytes, the limit is {limit}")]
pub(super) struct TooLong {
    what: &'static str,
    actual: usize,
    limit: usize,
}

impl Entry {
    /// Bytes that it takes in a segment.
    #[must_use]
    pub(super) fn size(&self) -> usize {
        let length = |text: &Option<Bytes>| text.as_ref().map_or(0, Bytes::len);
        RECORD_HEAD + length(&self.key) + length(&self.topic) + self.payload.len()
    }

    /// Appends it to `out`, which stays as it was where it does not fit the format.
    pub(super) fn encode(&self, salt: u64, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let short = |what, text: &Option<Bytes>| {
            let actual = text.as_ref().map_or(0, Bytes::len);
            u16::try_from(actual).map_err(|_| TooLong {
                what,
                actual,
                limit: usize::from(u16::MAX),
            })
        };
        let key_len = short("a key", &self.key)?;
        let topic_len = short("a topic", &self.topic)?;
        let actual = self.payload.len();
        let payload_len = u32::try_from(actual)
            .ok()
            .filter(|_| actual <= PAYLOAD_BYTES_MAX);
        let payload_len = payload_len.ok_or(TooLong {
            what: "a payload",
            actual,
            limit: PAYLOAD_BYTES_MAX,
        })?;
        let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
        let flags = flag(self.key.is_some(), HAS_KEY)
            | flag(self.topic.is_some(), HAS_TOPIC)
            | flag(self.is_attempted, IS_ATTEMPTED);
        let start = out.len();
        out.extend_from_slice(&RECORD_MARK);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&payload_len.to_le_bytes());
        out.extend_from_slice(&key_len.to_le_bytes());
        out.extend_from_slice(&topic_len.to_le_bytes());
        out.extend_from_slice(&self.arrived_micros.to_le_bytes());
        out.push(flags);
        for text in [&self.key, &self.topic].into_iter().flatten() {
            out.extend_from_slice(text);
        }
        out.extend_from_slice(&self.payload);
        let (head, covered) = out.split_at_mut(start + 8);
        if let Some(crc) = head.get_mut(start + 4..) {
            crc.copy_from_slice(&checksum(salt, covered).to_le_bytes());
        }
        Ok(())
    }
}

/// The bytes in front of a segment's records.
pub(super) fn segment_head(salt: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(SEGMENT_HEAD);
    head.extend_from_slice(SEGMENT_MARK);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&salt.to_le_bytes());
    let crc = checksum(0, &head);
    head.extend_from_slice(&crc.to_le_bytes());
    head
}

/// The salt that a segment begins with. `None` where its head is damaged, or of another version.
pub(super) fn salt_of(bytes: &[u8]) -> Option<u64> {
    let head = bytes.get(..SEGMENT_HEAD)?;
    let (covered, crc) = head.split_at_checked(SEGMENT_HEAD - 4)?;
    let is_ours = covered.starts_with(SEGMENT_MARK)
        && u32_at(covered, 8)? == VERSION
        && u32_at(crc, 0)? == checksum(0, covered);
    if is_ours { u64_at(covered, 12) } else { None }
}

/// What stands at a place of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record, and the place behind it.
    Record(Entry, usize),
    /// Bytes that are no record, up to the next record or the end.
    Damage(Range<usize>),
    /// Nothing more.
    End,
}

/// Looks at a place of a segment.
pub(super) fn find(bytes: &Bytes, salt: u64, at: usize) -> Found {
    if at >= bytes.len() {
        return Found::End;
    }
    if let Some((entry, next)) = decode(bytes, salt, at) {
        return Found::Record(entry, next);
    }
    let mut from = at + 1;
    while let Some(rest) = bytes.get(from..) {
        let Some(found) = memchr::memmem::find(rest, &RECORD_MARK) else {
            break;
        };
        if decode(bytes, salt, from + found).is_some() {
            return Found::Damage(at..from + found);
        }
        from += found + 1;
    }
    Found::Damage(at..bytes.len())
}

/// The record at a place, and the place behind it.
fn decode(bytes: &Bytes, salt: u64, at: usize) -> Option<(Entry, usize)> {
    let rest = bytes.get(at..)?;
    let head = rest.get(..RECORD_HEAD)?;
    if !head.starts_with(&RECORD_MARK) {
        return None;
    }
    let crc = u32_at(head, 4)?;
    let payload_len = usize::try_from(u32_at(head, 8)?).ok()?;
    let key_len = usize::from(u16_at(head, 12)?);
    let topic_len = usize::from(u16_at(head, 14)?);
    let arrived_micros = u64_at(head, 16)?;
    let flags = *head.get(24)?;
    let size = RECORD_HEAD + key_len + topic_len + payload_len;
    let is_possible = payload_len <= PAYLOAD_BYTES_MAX
        && flags & !KNOWN_FLAGS == 0
        && (flags & HAS_KEY != 0 || key_len == 0)
        && (flags & HAS_TOPIC != 0 || topic_len == 0);
    if !is_possible || checksum(salt, rest.get(8..size)?) != crc {
        return None;
    }
    let key_at = at + RECORD_HEAD;
    let topic_at = key_at + key_len;
    let payload_at = topic_at + topic_len;
    let entry = Entry {
        key: (flags & HAS_KEY != 0).then(|| bytes.slice(key_at..topic_at)),
        topic: (flags & HAS_TOPIC != 0).then(|| bytes.slice(topic_at..payload_at)),
        payload: bytes.slice(payload_at..at + size),
        arrived_micros,
        is_attempted: flags & IS_ATTEMPTED != 0,
    };
    Some((entry, at + size))
}

fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    crc32c_append(crc32c(&salt.to_le_bytes()), bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALT: u64 = 0x0123_4567_89ab_cdef;

    fn entry(payload: &[u8]) -> Entry {
        Entry {
            key: Some(Bytes::from_static(b"u-1")),
            topic: None,
            payload: Bytes::copy_from_slice(payload),
            arrived_micros: 7,
            is_attempted: true,
        }
    }

    fn encoded(entries: &[Entry]) -> Vec<u8> {
        let mut out = Vec::new();
        for entry in entries {
            entry.encode(SALT, &mut out).unwrap();
        }
        out
    }

    fn all(bytes: Vec<u8>) -> (Vec<Entry>, Vec<Range<usize>>) {
        let bytes = Bytes::from(bytes);
        let (mut entries, mut damage, mut at) = (Vec::new(), Vec::new(), 0);
        loop {
            match find(&bytes, SALT, at) {
                Found::Record(entry, next) => {
                    entries.push(entry);
                    at = next;
                }
                Found::Damage(range) => {
                    at = range.end;
                    damage.push(range);
                }
                Found::End => return (entries, damage),
            }
        }
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from);
        (
            proptest::option::of(bytes(20)),
            proptest::option::of(bytes(20)),
            bytes(200),
            any::<u64>(),
            any::<bool>(),
        )
            .prop_map(
                |(key, topic, payload, arrived_micros, is_attempted)| Entry {
                    key,
                    topic,
                    payload,
                    arrived_micros,
                    is_attempted,
                },
            )
    }

    proptest! {
        #[test]
        fn records_read_back_as_written(entries in proptest::collection::vec(any_entry(), 0..8)) {
            let bytes = encoded(&entries);
            prop_assert_eq!(bytes.len(), entries.iter().map(Entry::size).sum::<usize>());
            prop_assert_eq!(all(bytes), (entries, Vec::new()));
        }

        #[test]
        fn a_flipped_bit_costs_only_its_record(
            entries in proptest::collection::vec(any_entry(), 1..8),
            place in any::<proptest::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let mut bytes = encoded(&entries);
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut end = 0;
            let hit = entries.iter().position(|entry| {
                end += entry.size();
                at < end
            });
            let hit = hit.unwrap();
            let (start, size) = (end - entries[hit].size(), entries[hit].size());
            let mut rest = entries;
            rest.remove(hit);
            let (found, damage) = all(bytes);
            prop_assert_eq!(found, rest);
            prop_assert_eq!(damage.len(), 1);
            prop_assert_eq!(damage[0].clone(), start..start + size);
        }

        #[test]
        fn a_cut_costs_only_records_behind_it(
            entries in proptest::collection::vec(any_entry(), 1..8),
            place in any::<proptest::sample::Index>(),
        ) {
            let mut bytes = encoded(&entries);
            bytes.truncate(place.index(bytes.len()));
            let mut end = 0;
            let whole = entries.iter().take_while(|entry| {
                end += entry.size();
                end <= bytes.len()
            });
            let whole: Vec<Entry> = whole.cloned().collect();
            prop_assert_eq!(all(bytes).0, whole);
        }
    }

    #[test]
    fn a_record_inside_a_payload_is_never_taken_for_one() {
        let mut other = Vec::new();
        entry(b"{}").encode(SALT + 1, &mut other).unwrap();
        let mut bytes = encoded(&[entry(&other)]);
        bytes[4] ^= 1;
        assert_eq!(all(bytes).0, []);
    }

    #[test]
    fn a_key_over_the_limit_is_named_with_its_length() {
        let long = Entry {
            key: Some(Bytes::from(vec![b'k'; 65_536])),
            ..entry(b"{}")
        };
        let mut out = b"before".to_vec();
        let error = long.encode(SALT, &mut out).unwrap_err().to_string();
        assert_eq!(error, "a key of 65536 bytes, the limit is 65535");
        assert_eq!(out, b"before");
    }

    #[test]
    fn a_damaged_segment_head_has_no_salt() {
        let head = segment_head(SALT);
        assert_eq!(head.len(), SEGMENT_HEAD);
        assert_eq!(salt_of(&head), Some(SALT));
        for at in 0..head.len() {
            let mut bad = head.clone();
            bad[at] ^= 4;
            assert_eq!(salt_of(&bad), None, "byte {at}");
        }
        assert_eq!(salt_of(&head[1..]), None);
    }
}
