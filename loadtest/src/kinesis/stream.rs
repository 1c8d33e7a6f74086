//! The one stream of an emulator: PutRecords from decoded body to answer.
//! `decode` works on a call alone and needs no lock; `Stream::put` is what calls share.
//! Time is an argument; no sockets, no clock.

use super::api::{ApiError, check_stream};
use super::parse::{self, Entry};
use super::shard::{HashRanges, Retained, Shard, push_sequence_number, push_shard_id};
use super::{RECORD_BYTES_MAX, StoredRecord};
use crate::event_id::{EventId, IdScanner};
use crate::service::FaultPlan;
use base64_simd::AsOut;
use bytes::Bytes;
use md5::{Digest, Md5};
use std::ops::Range;
use std::time::{Duration, SystemTime};

/// Records that one PutRecords call carries at most (service limit).
pub const CALL_RECORDS_MAX: usize = 500;

/// Bytes that one PutRecords call carries at most, partition keys included (service limit).
pub const CALL_BYTES_MAX: usize = 10 << 20;

/// Unicode characters that a partition key has at most (service limit).
pub const KEY_CHARS_MAX: usize = 256;

/// How capacity is set, as DescribeStreamSummary tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A fixed number of shards.
    #[default]
    Provisioned,
    /// Capacity follows the load (here it does not change).
    OnDemand,
}

/// Who chooses the shard of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Distribution {
    /// The MD5 hash of the partition key, or the explicit hash key.
    #[default]
    UserPartitionKey,
    /// The service; keys are ignored and may be absent. On-demand streams only.
    Auto,
}

/// What a stream is.
#[derive(Clone, Debug)]
pub(super) struct StreamConfig {
    pub(super) name: String,
    pub(super) shards: u32,
    pub(super) mode: Mode,
    pub(super) distribution: Distribution,
    pub(super) record_bytes_max: usize,
    pub(super) shard_limits: bool,
    /// `None` keeps no record at all.
    pub(super) retain_bytes_max: Option<usize>,
    /// Whether ids of stored events are wanted.
    pub(super) ids: bool,
}

/// A call that passed every whole-call check.
#[derive(Debug, Default)]
pub(super) struct Call {
    records: Vec<Incoming>,
    ids: Vec<EventId>,
}

#[derive(Debug)]
struct Incoming {
    /// `None`: the service chooses.
    shard: Option<u32>,
    /// Data and key.
    bytes: u32,
    /// `None` when records are only counted.
    kept: Option<(Option<Box<str>>, Bytes)>,
    ids: Range<usize>,
}

/// Reads, checks and routes a PutRecords call. `scratch` holds the bytes of one record at a time.
///
/// # Errors
/// What the service says of the whole call; then nothing of it is stored.
pub(super) fn decode(
    config: &StreamConfig,
    ranges: HashRanges,
    scanner: &IdScanner,
    body: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<Call, ApiError> {
    let asked = parse::put_records(body, CALL_RECORDS_MAX).map_err(|error| {
        ApiError::serialization(format!("expected {} at byte {}", error.expected, error.at))
    })?;
    let entries = match (&asked.entries, asked.entries_seen) {
        (None, _) => {
            let constraint = "Value null at 'records' failed to satisfy constraint: \
                              Member must not be null";
            return Err(ApiError::validation(constraint));
        }
        (Some(_), seen) if !(1..=CALL_RECORDS_MAX).contains(&seen) => {
            return Err(ApiError::validation(&format!(
                "Value at 'records' failed to satisfy constraint: Member must have length \
                 between 1 and {CALL_RECORDS_MAX}, not {seen}"
            )));
        }
        (Some(entries), _) => entries,
    };
    // What breaks the service's model is found before anything is looked up.
    for (at, entry) in entries.iter().enumerate() {
        check_model(at + 1, entry)?;
    }
    check_stream(
        config,
        asked.stream_name.as_deref(),
        asked.stream_arn.as_deref(),
    )?;

    let mut call = Call {
        records: Vec::with_capacity(entries.len()),
        ids: Vec::new(),
    };
    let mut call_bytes = 0;
    for (at, entry) in entries.iter().enumerate() {
        let at = at + 1;
        let text = entry.data.as_deref().unwrap_or_default();
        scratch.resize(text.len() / 4 * 3 + 3, 0);
        let data = base64_simd::STANDARD
            .decode(text, scratch.as_mut_slice().as_out())
            .map_err(|_| ApiError::serialization(format!("Data of record {at} is not base64")))?;
        let data: &[u8] = data;
        let key = entry.key.as_deref();
        let bytes = data.len() + key.map_or(0, str::len);
        call_bytes += bytes;
        if data.len() > RECORD_BYTES_MAX {
            return Err(ApiError::validation(&format!(
                "Value at 'records.{at}.member.data' failed to satisfy constraint: Member must \
                 have length less than or equal to {RECORD_BYTES_MAX}, not {}",
                data.len()
            )));
        }
        if bytes > config.record_bytes_max {
            return Err(ApiError::argument(format!(
                "Record {at} has {bytes} bytes, data and partition key together; the stream's \
                 maximum is {}",
                config.record_bytes_max
            )));
        }
        let ids_start = call.ids.len();
        if config.ids {
            scanner.scan(data, |id| call.ids.push(id));
        }
        call.records.push(Incoming {
            shard: route(config, ranges, at, entry)?,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            kept: config
                .retain_bytes_max
                .map(|_| (key.map(Box::from), Bytes::copy_from_slice(data))),
            ids: ids_start..call.ids.len(),
        });
    }
    if call_bytes > CALL_BYTES_MAX {
        return Err(ApiError::argument(format!(
            "Records have {call_bytes} bytes, data and partition keys together; the maximum of a \
             call is {CALL_BYTES_MAX}"
        )));
    }
    if asked.dry_run {
        return Err(ApiError::dry_run());
    }
    Ok(call)
}

fn check_model(at: usize, entry: &Entry<'_>) -> Result<(), ApiError> {
    if entry.data.is_none() {
        return Err(ApiError::validation(&format!(
            "Value null at 'records.{at}.member.data' failed to satisfy constraint: \
             Member must not be null"
        )));
    }
    if let Some(key) = &entry.key {
        // Bytes are at least as many as characters, and much faster to count.
        let chars = if key.len() <= KEY_CHARS_MAX {
            key.len()
        } else {
            key.chars().count()
        };
        if !(1..=KEY_CHARS_MAX).contains(&chars) {
            return Err(ApiError::validation(&format!(
                "Value at 'records.{at}.member.partitionKey' failed to satisfy constraint: \
                 Member must have length between 1 and {KEY_CHARS_MAX}, not {chars}"
            )));
        }
    }
    if let Some(hash) = &entry.explicit_hash_key {
        let digits = hash.bytes().all(|byte| byte.is_ascii_digit());
        let plain = hash == "0" || (!hash.starts_with('0') && (1..=39).contains(&hash.len()));
        if !digits || !plain {
            return Err(ApiError::validation(&format!(
                "Value '{hash}' at 'records.{at}.member.explicitHashKey' failed to satisfy \
                 constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{{0,38}})"
            )));
        }
    }
    Ok(())
}

/// The shard of a record; `None` when the service chooses.
fn route(
    config: &StreamConfig,
    ranges: HashRanges,
    at: usize,
    entry: &Entry<'_>,
) -> Result<Option<u32>, ApiError> {
    if config.distribution == Distribution::Auto {
        return Ok(None);
    }
    let Some(key) = entry.key.as_deref() else {
        return Err(ApiError::validation(&format!(
            "Value null at 'records.{at}.member.partitionKey' failed to satisfy constraint: \
             Member must not be null"
        )));
    };
    let hash = match entry.explicit_hash_key.as_deref() {
        // 39 digits can be more than the 128 bits of the hash space.
        Some(hash) => hash.parse().map_err(|_| {
            ApiError::argument(format!(
                "Invalid ExplicitHashKey {hash} of record {at}: it must be below 2^128"
            ))
        })?,
        None => u128::from_be_bytes(Md5::digest(key.as_bytes()).into()),
    };
    Ok(Some(ranges.shard_of(hash)))
}

/// What became of a call's records.
#[derive(Debug, Default)]
pub(super) struct PutOutcome {
    /// The answer's body.
    pub(super) answer: Vec<u8>,
    pub(super) stored: u64,
    pub(super) throttled: u64,
    pub(super) rejected: u64,
    pub(super) dropped_acked: u64,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerShape {
    /// Leave the last entry out.
    pub(super) short: bool,
    /// Say `FailedRecordCount` 0.
    pub(super) failed_count_zero: bool,
}

/// What calls share: the shards and what they hold.
#[derive(Debug)]
pub(super) struct Stream {
    config: StreamConfig,
    ranges: HashRanges,
    shards: Vec<Shard>,
    created: SystemTime,
    /// Where AUTO distribution goes on.
    auto_next: u32,
}

impl Stream {
    pub(super) fn new(config: StreamConfig, created: SystemTime) -> Stream {
        Stream {
            ranges: HashRanges::new(config.shards),
            shards: (0..config.shards).map(|_| Shard::default()).collect(),
            created,
            auto_next: 0,
            config,
        }
    }

    pub(super) fn config(&self) -> &StreamConfig {
        &self.config
    }

    pub(super) fn ranges(&self) -> HashRanges {
        self.ranges
    }

    pub(super) fn created(&self) -> SystemTime {
        self.created
    }

    pub(super) fn shard(&self, id: u32) -> Option<&Shard> {
        self.shards.get(usize::try_from(id).ok()?)
    }

    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Everything retained, shard by shard, oldest first.
    pub(super) fn records(&self) -> Vec<StoredRecord> {
        let shards = self.shards.iter().zip(0..);
        shards
            .flat_map(|(shard, id)| {
                shard.records().map(move |record| StoredRecord {
                    shard: id,
                    number: record.number,
                    key: record.key.as_deref().map(str::to_owned),
                    data: record.data.clone(),
                })
            })
            .collect()
    }

    /// Stores what a call carries, record by record, as faults and shard limits let it.
    /// `now` is the time since the stream's creation; `stored` gets the id of each stored event.
    pub(super) fn put(
        &mut self,
        call: Call,
        faults: &mut FaultPlan,
        shape: AnswerShape,
        now: Duration,
        mut stored: impl FnMut(EventId),
    ) -> PutOutcome {
        let arrival = (self.created + now).duration_since(SystemTime::UNIX_EPOCH);
        let arrival_ms = u64::try_from(arrival.unwrap_or_default().as_millis()).unwrap_or(0);
        let retain_max = self.config.retain_bytes_max.unwrap_or(0) / self.shards.len().max(1);
        let mut outcome = PutOutcome::default();
        let answered = call.records.len() - usize::from(shape.short);
        let mut entries = Vec::with_capacity(answered * 128 + 64);
        for (at, record) in call.records.into_iter().enumerate() {
            let id = record.shard.unwrap_or_else(|| {
                self.auto_next = (self.auto_next + 1) % self.config.shards.max(1);
                self.auto_next
            });
            let Some(shard) = self.shards.get_mut(id as usize) else {
                continue;
            };
            let refused = if let Some(code) = faults.reject() {
                outcome.rejected += 1;
                Some((code.as_str(), "Refused by the fault script."))
            } else if self.config.shard_limits && !shard.limits.admit(now, record.bytes) {
                outcome.throttled += 1;
                shard.throttled += 1;
                let code = super::RejectCode::ProvisionedThroughputExceededException;
                Some((code.as_str(), "Rate exceeded for shard "))
            } else {
                None
            };
            let number = if refused.is_some() {
                0
            } else {
                shard.next_number()
            };
            if at < answered {
                entries.extend_from_slice(if at == 0 { b"{" } else { b",{" });
                if let Some((code, message)) = refused {
                    entries.extend_from_slice(b"\"ErrorCode\":\"");
                    entries.extend_from_slice(code.as_bytes());
                    entries.extend_from_slice(b"\",\"ErrorMessage\":\"");
                    entries.extend_from_slice(message.as_bytes());
                    if message.ends_with(' ') {
                        push_shard_id(&mut entries, id);
                    }
                } else {
                    entries.extend_from_slice(b"\"SequenceNumber\":\"");
                    push_sequence_number(&mut entries, id, number);
                    entries.extend_from_slice(b"\",\"ShardId\":\"");
                    push_shard_id(&mut entries, id);
                }
                entries.extend_from_slice(b"\"}");
            }
            if refused.is_some() {
                continue;
            }
            if faults.drop_acked() {
                outcome.dropped_acked += 1;
                continue;
            }
            outcome.stored += 1;
            shard.stored += 1;
            shard.stored_bytes += u64::from(record.bytes);
            call.ids[record.ids].iter().for_each(|id| stored(*id));
            if let Some((key, data)) = record.kept {
                let retained = Retained {
                    number,
                    key,
                    data,
                    arrival_ms,
                };
                shard.retain(retained, retain_max);
            }
        }
        let failed = outcome.rejected + outcome.throttled;
        let failed = if shape.failed_count_zero { 0 } else { failed };
        let answer = &mut outcome.answer;
        answer.reserve_exact(entries.len() + 64);
        answer.extend_from_slice(b"{\"FailedRecordCount\":");
        answer.extend_from_slice(itoa::Buffer::new().format(failed).as_bytes());
        answer.extend_from_slice(b",\"Records\":[");
        answer.extend_from_slice(&entries);
        answer.extend_from_slice(b"]}");
        outcome
    }
}
