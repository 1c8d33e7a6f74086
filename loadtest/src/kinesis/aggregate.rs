//! Reads the container in which the Kinesis Producer Library packs many user records into one:
//! magic, a protobuf message, and the message's MD5. An own decoder over borrowed bytes.
//! A record without the magic is plain. One with the magic that does not decode is damaged: readers
//! hand it out as it is, and no parser finds events in it.
//!
//! Format: `aggregation-format.md` of the library. The Kinesis Client Library hands out the user
//! records whose hash lies in the shard, and drops the others silently; so do we, but count them.

use crate::event_id::{EventId, IdScanner};
use md5::{Digest, Md5};
use std::ops::RangeInclusive;

/// First bytes of a container.
const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];

/// Bytes of the digest at its end.
const DIGEST_BYTES: usize = 16;

/// Entries that each table, and user records that a container, may have. Beyond it the record is
/// taken as plain; real ones hold at most a few ten thousand.
const ENTRIES_MAX: usize = 1 << 20;

/// A user record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRecord<'a> {
    /// Its partition key.
    pub key: &'a str,
    /// Its explicit hash key, or the MD5 of its partition key.
    pub hash: u128,
    /// Its data.
    pub data: &'a [u8],
}

/// Whether a record claims to be a container; cheap enough to ask of every record.
pub(crate) fn has_magic(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}

/// The user records of a container, in order; `None` when this is none, or a damaged one.
#[must_use]
pub fn user_records(data: &[u8]) -> Option<Vec<UserRecord<'_>>> {
    let rest = data.strip_prefix(&MAGIC)?;
    let message = rest.get(..rest.len().checked_sub(DIGEST_BYTES)?)?;
    let digest: [u8; DIGEST_BYTES] = Md5::digest(message).into();
    if rest.get(message.len()..)? != digest {
        return None;
    }
    let (mut keys, mut hash_keys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(key)) => {
                let text = std::str::from_utf8(key).ok()?;
                keys.push((text, u128::from_be_bytes(Md5::digest(key).into())));
            }
            (2, Value::Bytes(text)) => {
                hash_keys.push(std::str::from_utf8(text).ok()?.parse::<u128>().ok()?);
            }
            (3, Value::Bytes(record)) => records.push(packed(record)?),
            (1..=3, Value::Number(_)) => return None,
            _ => {}
        }
        if keys.len().max(hash_keys.len()).max(records.len()) > ENTRIES_MAX {
            return None;
        }
    }
    // The tables may come after the records that point into them.
    fn entry<T: Copy>(table: &[T], index: u64) -> Option<T> {
        table.get(usize::try_from(index).ok()?).copied()
    }
    records
        .into_iter()
        .map(|packed| {
            let (key, key_hash) = entry(&keys, packed.key)?;
            let hash = match packed.hash_key {
                Some(index) => entry(&hash_keys, index)?,
                None => key_hash,
            };
            let data = packed.data;
            Some(UserRecord { key, hash, data })
        })
        .collect()
}

/// A user record with its keys still as indices into the tables.
struct Packed<'a> {
    key: u64,
    hash_key: Option<u64>,
    data: &'a [u8],
}

fn packed(message: &[u8]) -> Option<Packed<'_>> {
    let (mut key, mut hash_key, mut data) = (None, None, None);
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Number(index)) => key = Some(index),
            (2, Value::Number(index)) => hash_key = Some(index),
            (3, Value::Bytes(bytes)) => data = Some(bytes),
            (1..=3, _) => return None,
            // Tags, which are unused, and fields of later versions.
            _ => {}
        }
    }
    Some(Packed {
        key: key?,
        hash_key,
        data: data?,
    })
}

/// A field's value; fixed-width ones are passed over as numbers.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value; `Some(None)` at the end, `None` when it is damaged.
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Number(u32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            _ => return None,
        };
        Some(Some((tag >> 3, value)))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for at in 0..10 {
            let byte = *self.take(1)?.first()?;
            let bits = u64::from(byte & 0x7f);
            // Only one bit of the tenth byte fits.
            if at == 9 && bits > 1 {
                return None;
            }
            number |= bits << (7 * at);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

/// Calls `found` with each id that a reader of a shard with the hashes of `range` gets out of one
/// of its records: all of a plain one; of a container those of the user records that belong there;
/// none of a damaged container, which readers get as one record that no parser of events takes.
/// Returns how many user records do not belong there.
pub(crate) fn scan_delivered(
    scanner: &IdScanner,
    data: &[u8],
    range: &RangeInclusive<u128>,
    mut found: impl FnMut(EventId),
) -> u64 {
    if !has_magic(data) {
        scanner.scan(data, found);
        return 0;
    }
    let mut dropped = 0;
    for user in user_records(data).unwrap_or_default() {
        if range.contains(&user.hash) {
            scanner.scan(user.data, &mut found);
        } else {
            dropped += 1;
        }
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (pk a, hello), (pk b, world), (pk a, explicit hash key 123, empty), as PyPI
    /// `aws_kinesis_agg` 1.2.3 writes it.
    const GOLDEN: &str = "f3899ac20a01610a016212033132331a0908001a0568656c6c6f1a0908011a05776f7\
                          26c641a06080010001a00c885b4771f51e879fc6d2ff0452e54d0";

    fn golden() -> Vec<u8> {
        let digits = GOLDEN.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// A container around any message.
    fn sealed(message: &[u8]) -> Vec<u8> {
        let mut data = MAGIC.to_vec();
        data.extend_from_slice(message);
        data.extend_from_slice(&Md5::digest(message));
        data
    }

    fn md5(key: &str) -> u128 {
        u128::from_be_bytes(Md5::digest(key.as_bytes()).into())
    }

    #[test]
    fn the_golden_container_is_read() {
        let golden = golden();
        assert_eq!(golden.len(), 61);
        let user = |key, hash, data| UserRecord { key, hash, data };
        assert_eq!(
            user_records(&golden).unwrap(),
            [
                user("a", md5("a"), &b"hello"[..]),
                user("b", md5("b"), &b"world"[..]),
                user("a", 123, &b""[..]),
            ]
        );
    }

    #[test]
    fn a_damaged_kpl_container_is_a_plain_record() {
        let golden = golden();
        for end in 0..golden.len() {
            assert_eq!(user_records(&golden[..end]), None, "cut at {end}");
        }
        for at in 0..golden.len() * 8 {
            let mut damaged = golden.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert_eq!(user_records(&damaged), None, "bit {at}");
        }
    }

    #[test]
    fn a_non_aggregate_with_valid_digest_is_a_plain_record() {
        for (message, why) in [
            (&b"\x1a\x04\x08\x00\x1a\x00"[..], "no such key"),
            (
                b"\x0a\x01a\x1a\x04\x08\x01\x1a\x00",
                "key index out of the table",
            ),
            (
                b"\x0a\x01a\x1a\x06\x08\x00\x10\x00\x1a\x00",
                "hash key index out of the table",
            ),
            (b"\x0a\x01a\x1a\x02\x08\x00", "no data"),
            (b"\x0a\x01a\x1a\x02\x1a\x00", "no key index"),
            (b"\x0a\x01\xff", "key is not UTF-8"),
            (b"\x12\x01x", "hash key is no number"),
            (b"\x08\x01", "key of the wrong type"),
            (b"\x0a\x05a", "length beyond the end"),
            (
                b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
                "length over 64 bits",
            ),
            (
                b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
                "endless number",
            ),
            (b"\x0b", "unknown wire type"),
        ] {
            assert_eq!(user_records(&sealed(message)), None, "{why}");
        }
        let over = [b"\x0a\x00".repeat(ENTRIES_MAX + 1)].concat();
        assert_eq!(user_records(&sealed(&over)), None);
    }

    #[test]
    fn any_message_with_a_right_digest_is_read_or_plain() {
        let whole = golden();
        let message = &whole[4..whole.len() - 16];
        let mut read = 0;
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut message = message.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..message.len());
                match random.u8(0..3) {
                    0 => message[at] = random.u8(..),
                    1 => message.truncate(at.max(1)),
                    _ => message.insert(at, random.u8(..)),
                }
            }
            let users = sealed(&message);
            read += usize::from(user_records(&users).is_some());
        }
        assert!((1..20_000).contains(&read), "{read}");
    }

    #[test]
    fn protobuf_field_order_is_free_and_unknown_fields_skipped() {
        let message = b"\x1a\x08\x22\x02\x0a\x00\x08\x00\x1a\x00\x20\x07\x29\x01\x02\x03\x04\x05\x06\x07\x08\x35\x01\x02\x03\x04\x0a\x01a";
        let data = sealed(message);
        let users = user_records(&data).unwrap();
        assert_eq!(users.len(), 1);
        assert_eq!(users[0].hash, md5("a"));
        assert_eq!(user_records(&sealed(b"")), Some(vec![]));
    }

    #[test]
    fn user_records_of_other_shards_are_not_delivered() {
        let (one, two) = ("lt-00000001-000000000001", "lt-00000001-000000000002");
        let mut message = b"\x12\x01\x35\x12\x02\x31\x30\x0a\x01a".to_vec();
        for (index, id) in [(0, one), (1, two)] {
            message.extend_from_slice(&[0x1a, 30, 8, 0, 0x10, index, 0x1a, 24]);
            message.extend_from_slice(id.as_bytes());
        }
        let data = sealed(&message);
        let scanner = IdScanner::default();
        for (range, ids, dropped) in [
            (0..=10, &[one, two][..], 0),
            (0..=9, &[one], 1),
            (6..=10, &[two], 1),
            (11..=u128::MAX, &[], 2),
        ] {
            let mut found = Vec::new();
            let lost = scan_delivered(&scanner, &data, &range, |id| found.push(id.to_string()));
            assert_eq!(
                (found, lost),
                (ids.iter().map(|id| (*id).to_owned()).collect(), dropped)
            );
        }
        let mut damaged = data;
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let mut found = 0;
        assert_eq!(
            scan_delivered(&scanner, &damaged, &(0..=u128::MAX), |_| found += 1),
            0
        );
        assert_eq!(found, 0);
    }
}
