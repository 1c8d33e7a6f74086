//! PutRecords in CBOR: a quarter fewer bytes to hash and to send than base64 makes of them.

use super::put::{Entry, EntryResult, Key, hex_of};
use super::shards::lane_of;
use super::{RANDOM_KEY_BYTES, THROTTLED, is_arn};
use crate::aws::cbor::{HEAD_BYTES, of_text, push_array, push_bytes, push_map, push_text, read};
use crate::aws::result_of_entry;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use sluice_core::lanes::LaneId;

/// Bytes of an entry besides its data and its key: heads and names.
const ENTRY_BYTES: usize = 5 * HEAD_BYTES + "DataPartitionKey".len();
/// Bytes of an explicit hash key of up to 39 digits, its name included.
const HASH_BYTES: usize = 2 * HEAD_BYTES + "ExplicitHashKey".len() + 39;

pub(super) fn body(stream: &str, entries: &[Entry<'_>]) -> Bytes {
    let bytes = |entry: &Entry<'_>| {
        let hash = entry.hash.map_or(0, |_| HASH_BYTES);
        ENTRY_BYTES + entry.data.len() + entry.key.bytes() + hash
    };
    let mut body = Vec::with_capacity(512 + entries.iter().map(bytes).sum::<usize>());
    push_map(&mut body, 2);
    push_text(
        &mut body,
        if is_arn(stream) {
            "StreamARN"
        } else {
            "StreamName"
        },
    );
    push_text(&mut body, stream);
    push_text(&mut body, "Records");
    push_array(&mut body, entries.len());
    for entry in entries {
        let has_key = !matches!(entry.key, Key::None);
        push_map(
            &mut body,
            1 + usize::from(has_key) + usize::from(entry.hash.is_some()),
        );
        push_text(&mut body, "Data");
        push_bytes(&mut body, entry.data);
        if has_key {
            push_text(&mut body, "PartitionKey");
        }
        match entry.key {
            Key::None => {}
            Key::Given(key) => push_text(&mut body, key),
            Key::Random(key) => {
                let key: [u8; RANDOM_KEY_BYTES] = hex_of(key);
                push_text(&mut body, std::str::from_utf8(&key).unwrap_or_default());
            }
        }
        if let Some(hash) = entry.hash {
            push_text(&mut body, "ExplicitHashKey");
            push_text(&mut body, &hash.to_string());
        }
    }
    body.into()
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Records")]
    entries: Option<Vec<AnswerEntry>>,
}

#[derive(Deserialize)]
struct AnswerEntry {
    #[serde(rename = "SequenceNumber", default, deserialize_with = "is_filled")]
    is_stored: bool,
    #[serde(rename = "ErrorCode")]
    error_code: Option<String>,
    #[serde(rename = "ShardId", default, deserialize_with = "lane")]
    shard: Option<LaneId>,
}

fn is_filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    of_text(deserializer, |text| !text.is_empty())
}

fn lane<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LaneId>, D::Error> {
    of_text(deserializer, lane_of)
}

/// What each entry of an answer says.
///
/// # Errors
/// It cannot be read.
pub(super) fn results(answer: &[u8]) -> Result<Vec<EntryResult>, String> {
    let answer: Answer = read(answer)?;
    let result_of = |entry: &AnswerEntry| EntryResult {
        result: result_of_entry(entry.is_stored, entry.error_code.as_deref(), &THROTTLED),
        shard: entry.shard,
    };
    Ok(answer.entries.iter().flatten().map(result_of).collect())
}

#[cfg(test)]
mod tests {
    use super::super::put;
    use super::*;
    use crate::aws::script::in_json;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    proptest! {
        #[test]
        fn a_call_in_cbor_says_the_same_as_one_in_json(
            entries in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..300), 0..3_u8, ".{1,30}", any::<u64>(), any::<Option<u128>>()),
                0..40,
            ),
            is_by_arn: bool,
        ) {
            let stream = if is_by_arn { "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks" } else { "clicks" };
            let entries: Vec<Entry<'_>> = entries.iter().map(|(data, kind, key, random, hash)| Entry {
                data,
                key: match kind {
                    0 => Key::None,
                    1 => Key::Given(key),
                    _ => Key::Random(*random),
                },
                hash: *hash,
                records: 1,
            }).collect();
            let cbor = read(&body(stream, &entries)).unwrap();
            let json: Json = serde_json::from_slice(&put::body(stream, &entries)).unwrap();
            prop_assert_eq!(in_json(cbor), json);
        }
    }
}
