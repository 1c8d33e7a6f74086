//! The files of a spool directory: their names, and what a segment holds.

use super::read_range;
use crate::spool::record::{Entry, Found, SEGMENT_HEAD, find, salt_of};
use sluice_core::time::Wall;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SEGMENT_SUFFIX: &str = ".spool";
/// Bytes in the middle of a segment that are no record.
pub(in crate::spool) const BAD_SUFFIX: &str = ".bad";
/// Bytes at the end of a segment that are no record.
pub(in crate::spool) const TORN_SUFFIX: &str = ".torn";
/// A segment of records that the destination refused for good.
pub(in crate::spool) const REFUSED_SUFFIX: &str = ".refused";

/// `<seconds>-<nanoseconds>-<salt>.spool`, so that names sort by age.
pub(super) fn segment_name(now: Wall, salt: u64) -> String {
    format!(
        "{:012}-{:09}-{salt:016x}{SEGMENT_SUFFIX}",
        now.secs, now.nanos
    )
}

/// Seconds and salt of a segment's name.
fn parse_segment_name(name: &str) -> Option<(u64, u64)> {
    let mut parts = name.strip_suffix(SEGMENT_SUFFIX)?.split('-');
    let (secs, nanos, salt) = (parts.next()?, parts.next()?, parts.next()?);
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_form = parts.next().is_none()
        && is_plain(secs)
        && is_plain(nanos)
        && nanos.len() == 9
        && salt.len() == 16;
    has_form.then_some(())?;
    Some((secs.parse().ok()?, u64::from_str_radix(salt, 16).ok()?))
}

/// What a file of the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spool) enum Kind {
    Segment { began_secs: u64, salt: u64 },
    Torn,
    Bad,
    Refused,
    Foreign,
}

/// A file of the directory.
#[derive(Clone, Debug)]
pub(in crate::spool) struct Listed {
    pub(in crate::spool) path: PathBuf,
    pub(in crate::spool) bytes: u64,
    pub(in crate::spool) kind: Kind,
}

/// The files of a spool directory, oldest segment first. Hidden ones are not listed.
pub(in crate::spool) fn list(dir: &Path) -> io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let kind = match parse_segment_name(&name) {
            Some((began_secs, salt)) => Kind::Segment { began_secs, salt },
            None if name.ends_with(TORN_SUFFIX) => Kind::Torn,
            None if name.ends_with(BAD_SUFFIX) => Kind::Bad,
            None if name.ends_with(REFUSED_SUFFIX) => Kind::Refused,
            // Another output's: one that was made for a name in a list.
            None if entry.path().is_dir() => continue,
            None => Kind::Foreign,
        };
        // One that cannot be asked is in the list all the same, as what cannot be read.
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        let path = entry.path();
        found.push(Listed { path, bytes, kind });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::spool) struct Content {
    pub(in crate::spool) entries: Vec<Entry>,
    /// Bytes that are no record, with more records behind them.
    pub(in crate::spool) bad_bytes: u64,
    /// Bytes at the end that are no record.
    pub(in crate::spool) torn_bytes: u64,
}

/// All that a segment holds, without changing it.
pub(in crate::spool) fn content(listed: &Listed) -> io::Result<Content> {
    let bytes = read_range(&listed.path, 0..listed.bytes)?;
    let salt = match (salt_of(&bytes), listed.kind) {
        (Some(salt), _) | (None, Kind::Segment { salt, .. }) => salt,
        (None, _) => return Err(io::Error::other("its head is damaged")),
    };
    let mut content = Content::default();
    let mut from = SEGMENT_HEAD.min(bytes.len());
    loop {
        match find(&bytes, salt, from) {
            Found::Record(entry, next) => {
                content.entries.push(entry);
                from = next;
            }
            Found::Damage(range) => {
                from = range.end;
                let length = range.len() as u64;
                match range.end == bytes.len() {
                    true => content.torn_bytes += length,
                    false => content.bad_bytes += length,
                }
            }
            Found::End => return Ok(content),
        }
    }
}
