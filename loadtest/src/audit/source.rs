//! Where stored events are read from: a ledger, files, or a stream.
//! Finds ids, one by one; compares nothing.

use super::AuditError;
use crate::event_id::{EventId, IdScanner};
use crate::kinesis::aggregate;
use crate::ledger::{self, Ending};
use crate::packed;
use crate::run::Target;
use crate::wire;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Bytes that one line of stored data may have: more than any record of a service.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Wait after a call that the stream throttled: a shard answers 5 calls per second.
const THROTTLED_PAUSE: Duration = Duration::from_millis(200);

/// Times that one call is throttled before the reading is given up: a minute of pauses.
const THROTTLED_MAX: u32 = 300;

/// Directories inside each other.
const DEPTH_MAX: usize = 64;

/// Where stored events are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of stored ids, as an emulator writes it.
    Ledger(PathBuf),
    /// Files of newline-delimited records, in a directory and those below it. Files that are gzip
    /// or zstd are unpacked, whatever their names.
    Dir {
        /// The directory.
        path: PathBuf,
        /// Endings of the names of files that count; the others are passed over.
        suffixes: Vec<String>,
    },
    /// A stream, read from its oldest record through the Kinesis protocol, unsigned.
    Kinesis {
        /// Host and port.
        endpoint: Target,
        /// The stream's name.
        stream: String,
    },
}

/// Findings about the files that were read.
#[derive(Debug, Default)]
pub(super) struct Met {
    pub(super) unfinished_files: u64,
    pub(super) cut_ledgers: u64,
    pub(super) open_ledgers: u64,
}

impl Source {
    /// Calls `found` with the id of each stored copy.
    pub(super) fn read(&self, mut found: impl FnMut(EventId)) -> Result<Met, AuditError> {
        let mut met = Met::default();
        match self {
            Source::Ledger(path) => {
                let read = ledger::read_stored(path, found)?;
                let open = read.ending == Ending::Open;
                if open && read.at_end {
                    return Err(AuditError::Early { path: path.clone() });
                }
                met.cut_ledgers += u64::from(read.cut);
                met.open_ledgers += u64::from(open);
            }
            Source::Dir { path, suffixes } => {
                let mut files = Vec::new();
                list(path, suffixes, 0, &mut files)?;
                if files.is_empty() {
                    return Err(AuditError::NoFiles {
                        path: path.clone(),
                        suffixes: suffixes.clone(),
                    });
                }
                for file in files {
                    met.unfinished_files += u64::from(read_lines(&file, &mut found)?);
                }
            }
            Source::Kinesis { endpoint, stream } => {
                let authority = endpoint.authority();
                read_stream(&authority, stream, found).map_err(|message| AuditError::Kinesis {
                    endpoint: format!("http://{authority}"),
                    message,
                })?;
            }
        }
        Ok(met)
    }
}

fn list(
    dir: &Path,
    suffixes: &[String],
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> Result<(), AuditError> {
    let io = |source| AuditError::Io {
        path: dir.to_owned(),
        source,
    };
    if depth > DEPTH_MAX {
        return Err(AuditError::Depth {
            path: dir.to_owned(),
            limit: DEPTH_MAX,
        });
    }
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        // Links are not followed, so that nothing is read twice.
        let kind = entry.file_type().map_err(io)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() {
            list(&entry.path(), suffixes, depth + 1, files)?;
        } else if kind.is_file() && suffixes.iter().any(|suffix| name.ends_with(suffix)) {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Finds ids in the finished lines of a file, unpacked when it is gzip or zstd. Returns whether it
/// ends in an unfinished line, or in the middle of what it is packed with.
fn read_lines(path: &Path, mut found: impl FnMut(EventId)) -> Result<bool, AuditError> {
    let io = |source| AuditError::Io {
        path: path.to_owned(),
        source,
    };
    let scanner = IdScanner::default();
    let file = BufReader::with_capacity(READ_BYTES, File::open(path).map_err(io)?);
    let mut file = packed::open(file).map_err(io)?;
    let mut bytes = vec![0; READ_BYTES];
    // Bytes at the front that belong to a line whose end was not read yet.
    let mut kept = 0;
    loop {
        if kept == bytes.len() {
            if kept >= LINE_BYTES_MAX {
                return Err(AuditError::Line {
                    path: path.to_owned(),
                    limit: LINE_BYTES_MAX,
                });
            }
            bytes.resize(kept * 2, 0);
        }
        let count = match file.read(&mut bytes[kept..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Only decoders say so: the writer was cut off in a member or frame.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
            other => other.map_err(io)?,
        };
        if count == 0 {
            return Ok(kept > 0);
        }
        let end = kept + count;
        kept = end;
        if let Some(newline) = memchr::memrchr(b'\n', &bytes[..end]) {
            scanner.scan(&bytes[..newline], &mut found);
            bytes.copy_within(newline + 1..end, 0);
            kept = end - newline - 1;
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shards {
    shards: Vec<Shard>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shard {
    shard_id: String,
    hash_key_range: HashKeyRange,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HashKeyRange {
    starting_hash_key: String,
    ending_hash_key: String,
}

impl HashKeyRange {
    fn hashes(&self) -> Result<RangeInclusive<u128>, String> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| format!("ListShards: {text} is no hash key"))
        };
        Ok(parse(&self.starting_hash_key)?..=parse(&self.ending_hash_key)?)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShardIterator {
    shard_iterator: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Records {
    records: Vec<Record>,
    next_shard_iterator: Option<String>,
    millis_behind_latest: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    data: String,
}

fn call<T: serde::de::DeserializeOwned>(
    authority: &str,
    operation: &str,
    body: &serde_json::Value,
) -> Result<T, String> {
    let target = format!("X-Amz-Target: Kinesis_20131202.{operation}");
    let headers = [target.as_str(), "Content-Type: application/x-amz-json-1.1"];
    let body = body.to_string();
    let mut throttled = 0;
    loop {
        let reply = wire::post(authority, "/", &headers, body.as_bytes())
            .map_err(|error| format!("{operation}: {error}"))?;
        if reply.status == 200 {
            return serde_json::from_slice(&reply.body)
                .map_err(|error| format!("{operation}: {error}"));
        }
        let text = reply.text();
        let wait = text.contains("ProvisionedThroughputExceededException");
        if !wait || throttled == THROTTLED_MAX {
            return Err(format!("{operation}: status {}: {text:.300}", reply.status));
        }
        throttled += 1;
        thread::sleep(THROTTLED_PAUSE);
    }
}

fn read_stream(
    authority: &str,
    stream: &str,
    mut found: impl FnMut(EventId),
) -> Result<(), String> {
    // Our own emulator says when it has let records go; others have no such page.
    let stats = wire::get(authority, "/_stats").map_err(|error| error.to_string())?;
    let stats: Option<serde_json::Value> = serde_json::from_slice(&stats.body).ok();
    let gone = stats
        .and_then(|stats| stats.get("not_retained")?.as_u64())
        .unwrap_or(0);
    if gone > 0 {
        return Err(format!(
            "{gone} stored records are not retained any more; audit its --ledger instead"
        ));
    }
    let scanner = IdScanner::default();
    let mut list = serde_json::json!({"StreamName": stream});
    loop {
        let shards: Shards = call(authority, "ListShards", &list)?;
        for shard in &shards.shards {
            let hashes = shard.hash_key_range.hashes()?;
            read_shard(authority, stream, &shard.shard_id, |data| {
                // Records that readers drop are not stored; the stats count them.
                aggregate::scan_delivered(&scanner, data, &hashes, &mut found);
            })?;
        }
        match shards.next_token {
            Some(token) => list = serde_json::json!({"NextToken": token}),
            None => return Ok(()),
        }
    }
}

fn read_shard(
    authority: &str,
    stream: &str,
    shard: &str,
    mut found: impl FnMut(&[u8]),
) -> Result<(), String> {
    let start = serde_json::json!({
        "StreamName": stream,
        "ShardId": shard,
        "ShardIteratorType": "TRIM_HORIZON",
    });
    let start: ShardIterator = call(authority, "GetShardIterator", &start)?;
    let mut next = Some(start.shard_iterator);
    while let Some(iterator) = next {
        let ask = serde_json::json!({"ShardIterator": iterator});
        let page: Records = call(authority, "GetRecords", &ask)?;
        for record in &page.records {
            let data = base64_simd::STANDARD
                .decode_to_vec(&record.data)
                .map_err(|_| "GetRecords: Data is not base64".to_owned())?;
            found(&data);
        }
        let at_end = page.records.is_empty() && page.millis_behind_latest.unwrap_or(0) == 0;
        next = page.next_shard_iterator.filter(|_| !at_end);
    }
    Ok(())
}
