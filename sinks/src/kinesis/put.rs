//! PutRecords by either client: the same entries go out, and the same answer means the same results.

use super::shards::{hash_of, lane_of};
use super::{THROTTLED, cbor, is_arn};
use crate::aws::call::{CborFailure, JsonClient};
use crate::aws::json::{Text, base64_bytes, push_base64, push_string};
use crate::aws::{Aws, CallFailure, result_of_entry, unreadable};
use bytes::Bytes;
use serde::Deserialize;
use sluice_core::lanes::LaneId;
use sluice_core::record::RecordResult;
use std::io::Write as _;

const TARGET: &str = "Kinesis_20131202.PutRecords";
/// Bytes of an entry besides its data and its key: names, quotes, braces.
const ENTRY_BYTES: usize = r#"{"Data":,"PartitionKey":""},"#.len();

/// Bytes of an explicit hash key of up to 39 digits, its name included.
const HASH_BYTES: usize = r#","ExplicitHashKey":"""#.len() + 39;

/// A record as it is sent.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) data: &'a [u8],
    pub(super) key: Key<'a>,
    /// Which shard it goes to, whatever its key.
    pub(super) hash: Option<u128>,
    /// Events in it: several in a container.
    pub(super) records: usize,
}

impl Entry<'_> {
    /// What decides its shard.
    pub(super) fn hash(&self) -> u128 {
        self.hash.unwrap_or_else(|| match self.key {
            // The service decides.
            Key::None => 0,
            Key::Given(key) => hash_of(key),
            Key::Random(key) => hash_of(&format!("{key:016x}")),
        })
    }
}

/// A partition key.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    /// The service spreads the records.
    None,
    Given(&'a str),
    /// Written as 16 hexadecimal digits.
    Random(u64),
}

impl Key<'_> {
    /// Bytes that count against the service's limits.
    pub(super) fn bytes(self) -> usize {
        match self {
            Key::None => 0,
            Key::Given(key) => key.len(),
            Key::Random(_) => super::RANDOM_KEY_BYTES,
        }
    }
}

/// One result for each entry of the answer, however many there are.
pub(super) type Answered = Result<Vec<EntryResult>, CallFailure>;

/// What an entry of the answer says.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryResult {
    pub(super) result: RecordResult,
    /// Where a delivered record is.
    pub(super) shard: Option<LaneId>,
}

/// By our own client, in JSON.
pub(super) async fn in_json(
    client: &JsonClient,
    aws: &Aws,
    stream: &str,
    entries: &[Entry<'_>],
) -> Answered {
    let answer = client.call(aws, TARGET, body(stream, entries)).await?;
    results(&answer).map_err(|error| unreadable(&error))
}

/// By our own client, in CBOR.
pub(super) async fn in_cbor(
    client: &JsonClient,
    aws: &Aws,
    stream: &str,
    entries: &[Entry<'_>],
) -> Result<Vec<EntryResult>, CborFailure> {
    let body = cbor::body(stream, entries);
    let answer = client.call_in_cbor(aws, TARGET, body).await?;
    cbor::results(&answer).map_err(|error| CborFailure::from(unreadable(&error)))
}

pub(super) fn body(stream: &str, entries: &[Entry<'_>]) -> Bytes {
    let bytes = |entry: &Entry<'_>| {
        let hash = entry.hash.map_or(0, |_| HASH_BYTES);
        ENTRY_BYTES + base64_bytes(entry.data.len()) + entry.key.bytes() + hash
    };
    let mut body = Vec::with_capacity(512 + entries.iter().map(bytes).sum::<usize>());
    body.extend_from_slice(match is_arn(stream) {
        true => br#"{"StreamARN":"#,
        false => br#"{"StreamName":"#,
    });
    push_string(&mut body, stream);
    body.extend_from_slice(br#","Records":["#);
    for (at, entry) in entries.iter().enumerate() {
        body.extend_from_slice(match at {
            0 => br#"{"Data":"#,
            _ => br#",{"Data":"#.as_slice(),
        });
        push_base64(&mut body, entry.data);
        match entry.key {
            Key::None => {}
            Key::Given(key) => {
                body.extend_from_slice(br#","PartitionKey":"#);
                push_string(&mut body, key);
            }
            Key::Random(key) => {
                body.extend_from_slice(br#","PartitionKey":""#);
                body.extend_from_slice(&hex_of(key));
                body.push(b'"');
            }
        }
        if let Some(hash) = entry.hash {
            // Writing to memory cannot fail.
            let _ = write!(body, ",\"ExplicitHashKey\":\"{hash}\"");
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body.into()
}

/// As `{key:016x}` has it, without the formatter: most records have such a key.
pub(super) fn hex_of(key: u64) -> [u8; super::RANDOM_KEY_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(key >> (60 - 4 * at) & 15) as usize])
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "Records", borrow)]
    entries: Option<Vec<AnswerEntry<'a>>>,
}

#[derive(Deserialize)]
struct AnswerEntry<'a> {
    #[serde(rename = "SequenceNumber", borrow)]
    sequence_number: Option<Text<'a>>,
    #[serde(rename = "ErrorCode", borrow)]
    error_code: Option<Text<'a>>,
    #[serde(rename = "ShardId", borrow)]
    shard_id: Option<Text<'a>>,
}

fn results(answer: &[u8]) -> Result<Vec<EntryResult>, serde_json::Error> {
    let answer: Answer<'_> = serde_json::from_slice(answer)?;
    let result_of = |entry: &AnswerEntry<'_>| {
        let id = entry.sequence_number.as_ref();
        let is_stored = id.is_some_and(|id| !id.0.is_empty());
        let error_code = entry.error_code.as_ref().map(|text| &*text.0);
        EntryResult {
            result: result_of_entry(is_stored, error_code, &THROTTLED),
            shard: entry.shard_id.as_ref().and_then(|id| lane_of(&id.0)),
        }
    };
    Ok(answer.entries.iter().flatten().map(result_of).collect())
}

/// The same through the SDK.
#[cfg(feature = "aws-sdk")]
pub(super) async fn by_sdk(
    client: &aws_sdk_kinesis::Client,
    stream: &str,
    entries: &[Entry<'_>],
) -> Answered {
    use aws_sdk_kinesis::primitives::Blob;
    use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
    let (name, arn) = match is_arn(stream) {
        true => (None, Some(stream.to_owned())),
        false => (Some(stream.to_owned()), None),
    };
    let mut call = client
        .put_records()
        .set_stream_name(name)
        .set_stream_arn(arn);
    for entry in entries {
        let key = match entry.key {
            Key::None => None,
            Key::Given(key) => Some(key.to_owned()),
            Key::Random(key) => Some(format!("{key:016x}")),
        };
        let entry = PutRecordsRequestEntry::builder()
            .data(Blob::new(entry.data))
            .set_partition_key(key)
            .set_explicit_hash_key(entry.hash.map(|hash| hash.to_string()))
            .build()
            .map_err(|error| CallFailure::not_sent(&error))?;
        call = call.records(entry);
    }
    let answer = call.send().await.map_err(|error| CallFailure::of(&error))?;
    let entries = answer.records().iter();
    let result_of = |entry: &PutRecordsResultEntry| {
        let is_stored = entry.sequence_number().is_some_and(|id| !id.is_empty());
        EntryResult {
            result: result_of_entry(is_stored, entry.error_code(), &THROTTLED),
            shard: entry.shard_id().and_then(lane_of),
        }
    };
    Ok(entries.map(result_of).collect())
}
