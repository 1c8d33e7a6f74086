//! A PutRecords or PutRecord call from body to checked records: what the service says of the call
//! as a whole is said here. Needs no lock and changes nothing.

use super::RECORD_BYTES_MAX;
use super::aggregate;
use super::api::ApiError;
use super::parse::{self, Entry};
use super::stream::{Distribution, StreamConfig};
use crate::event_id::{EventId, IdScanner};
use base64_simd::AsOut;
use bytes::Bytes;
use md5::{Digest, Md5};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Records that one PutRecords call carries at most (service limit).
pub const CALL_RECORDS_MAX: usize = 500;

/// Bytes that one PutRecords call carries at most, partition keys included (service limit).
pub const CALL_BYTES_MAX: usize = 10 << 20;

/// Unicode characters that a partition key has at most (service limit).
pub const KEY_CHARS_MAX: usize = 256;

/// A call that passed every whole-call check.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// The name of the stream that it goes to.
    pub(super) stream: String,
    /// PutRecord: one record, and its failure is the call's.
    pub(super) single: bool,
    pub(super) records: Vec<Incoming>,
    /// Ids of events in the records that are no containers.
    pub(super) ids: Vec<EventId>,
    /// User records in the records that are containers of the Kinesis Producer Library.
    pub(super) users: Vec<IncomingUser>,
}

/// A record of a call.
#[derive(Debug)]
pub(super) struct Incoming {
    /// `None`: the service chooses the shard.
    pub(super) hash: Option<u128>,
    /// Data and key.
    pub(super) bytes: u32,
    /// `None` when records are only counted.
    pub(super) kept: Option<(Option<Box<str>>, Bytes)>,
    /// Its part of [`Call::ids`].
    pub(super) ids: Range<usize>,
    pub(super) packing: Packing,
}

/// How the Kinesis Producer Library packed a record, if it did.
#[derive(Debug)]
pub(super) enum Packing {
    /// A plain record.
    Plain,
    /// Begins like a container and does not decode: readers find no events in it.
    Damaged,
    /// A container, with its part of [`Call::users`].
    Container(Range<usize>),
}

/// A user record inside a container.
#[derive(Debug)]
pub(super) struct IncomingUser {
    pub(super) hash: u128,
    /// Its part of [`Call::ids`].
    pub(super) ids: Range<usize>,
}

/// Finds the settings of the stream that a call names by name or ARN.
pub(super) type ConfigOf<'a> =
    &'a dyn Fn(Option<&str>, Option<&str>) -> Result<Arc<StreamConfig>, ApiError>;

/// Reads and checks a PutRecords call, or with `single` a PutRecord call. `scratch` holds the bytes
/// of one record at a time.
///
/// # Errors
/// The service's error for the whole call; none of its records is stored then.
pub(super) fn decode(
    config_of: ConfigOf<'_>,
    scanner: &IdScanner,
    body: &[u8],
    single: bool,
    scratch: &mut Vec<u8>,
) -> Result<Call, ApiError> {
    let parsed = if single {
        parse::put_record(body)
    } else {
        parse::put_records(body, CALL_RECORDS_MAX)
    };
    let asked = parsed.map_err(|error| {
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
    // Validation by the service's model comes before any lookup.
    let member = |at: usize| Member((!single).then_some(at + 1));
    for (at, entry) in entries.iter().enumerate() {
        check_model(member(at), entry)?;
    }
    let config = &*config_of(asked.stream_name.as_deref(), asked.stream_arn.as_deref())?;

    let mut call = Call {
        stream: config.name.clone(),
        single,
        records: Vec::with_capacity(entries.len()),
        ..Call::default()
    };
    let mut call_bytes = 0;
    for (at, entry) in entries.iter().enumerate() {
        let member = member(at);
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
                "Value at '{member}data' failed to satisfy constraint: Member must have length \
                 less than or equal to {RECORD_BYTES_MAX}, not {}",
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
        let packing = if aggregate::has_magic(data) {
            unpack(config, scanner, data, &mut call)
        } else {
            Packing::Plain
        };
        let ids_start = call.ids.len();
        if config.ids && matches!(packing, Packing::Plain) {
            scanner.scan(data, |id| call.ids.push(id));
        }
        call.records.push(Incoming {
            hash: hash(config, member, entry)?,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            kept: config
                .retain_bytes_max
                .map(|_| (key.map(Box::from), Bytes::copy_from_slice(data))),
            ids: ids_start..call.ids.len(),
            packing,
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

/// Notes the user records of a container, each with the ids of its events.
fn unpack(config: &StreamConfig, scanner: &IdScanner, data: &[u8], call: &mut Call) -> Packing {
    let Some(users) = aggregate::user_records(data) else {
        return Packing::Damaged;
    };
    let start = call.users.len();
    for user in users {
        let ids_start = call.ids.len();
        if config.ids {
            scanner.scan(user.data, |id| call.ids.push(id));
        }
        call.users.push(IncomingUser {
            hash: user.hash,
            ids: ids_start..call.ids.len(),
        });
    }
    Packing::Container(start..call.users.len())
}

/// Where a call's members are, in the service's messages: `records.3.member.` of PutRecords, and
/// nothing of PutRecord.
#[derive(Clone, Copy)]
struct Member(Option<usize>);

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, "records.{at}.member."),
            None => Ok(()),
        }
    }
}

fn check_model(member: Member, entry: &Entry<'_>) -> Result<(), ApiError> {
    if entry.data.is_none() {
        return Err(ApiError::validation(&format!(
            "Value null at '{member}data' failed to satisfy constraint: \
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
                "Value at '{member}partitionKey' failed to satisfy constraint: \
                 Member must have length between 1 and {KEY_CHARS_MAX}, not {chars}"
            )));
        }
    }
    if let Some(hash) = &entry.explicit_hash_key {
        let digits = hash.bytes().all(|byte| byte.is_ascii_digit());
        let plain = hash == "0" || (!hash.starts_with('0') && (1..=39).contains(&hash.len()));
        if !digits || !plain {
            return Err(ApiError::validation(&format!(
                "Value '{hash}' at '{member}explicitHashKey' failed to satisfy \
                 constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{{0,38}})"
            )));
        }
    }
    Ok(())
}

/// The hash of a record; `None` when the service chooses its shard.
fn hash(
    config: &StreamConfig,
    member: Member,
    entry: &Entry<'_>,
) -> Result<Option<u128>, ApiError> {
    if config.distribution == Distribution::Auto {
        return Ok(None);
    }
    let Some(key) = entry.key.as_deref() else {
        return Err(ApiError::validation(&format!(
            "Value null at '{member}partitionKey' failed to satisfy constraint: Member must not \
             be null"
        )));
    };
    let hash = match entry.explicit_hash_key.as_deref() {
        // 39 digits can be more than the 128 bits of the hash space.
        Some(hash) => hash.parse().map_err(|_| {
            ApiError::argument(format!(
                "Invalid ExplicitHashKey {hash} at '{member}explicitHashKey': it must be below \
                 2^128"
            ))
        })?,
        None => u128::from_be_bytes(Md5::digest(key.as_bytes()).into()),
    };
    Ok(Some(hash))
}
