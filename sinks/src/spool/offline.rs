//! What lies in a spool directory, for commands that look at it while no process, or another one, uses it. Changes
//! nothing.

use super::segments::{Content, Kind, content, list};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its path.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What it is: `segment`, `refused`, `bad`, `torn` or `unknown`.
    pub what: &'static str,
    /// Whole records in it.
    pub records: u64,
    /// Bytes between records that are none.
    pub bad_bytes: u64,
    /// Bytes at its end that are no record.
    pub torn_bytes: u64,
    /// When its oldest record was spooled: Unix time in seconds.
    pub oldest_secs: Option<u64>,
    /// Why it cannot be read.
    pub error: Option<String>,
}

/// Sums over a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments that wait for the destination.
    pub segments: u64,
    /// Their records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are damaged, refused by the destination, or in files that cannot be read.
    pub lost_bytes: u64,
    /// Bytes that a crash left unfinished: they were never confirmed.
    pub torn_bytes: u64,
}

/// Looks at all files of a directory, oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn verify(dir: &Path, mut each: impl FnMut(&Verified)) -> io::Result<Report> {
    visit(dir, |verified, _| {
        each(verified);
        Ok(())
    })
}

/// Writes the payload of each waiting record as a line, oldest first.
///
/// # Errors
/// The directory cannot be read, or nothing can be written to `out`.
pub fn export(dir: &Path, out: &mut dyn Write) -> io::Result<Report> {
    visit(dir, |verified, content| {
        if verified.what != "segment" {
            return Ok(());
        }
        for entry in &content.entries {
            out.write_all(&entry.payload)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

fn visit(
    dir: &Path,
    mut each: impl FnMut(&Verified, &Content) -> io::Result<()>,
) -> io::Result<Report> {
    let mut report = Report::default();
    for listed in list(dir)? {
        let what = match listed.kind {
            Kind::Segment { .. } => "segment",
            Kind::Refused => "refused",
            Kind::Bad => "bad",
            Kind::Torn => "torn",
            Kind::Foreign => "unknown",
        };
        let has_records = matches!(listed.kind, Kind::Segment { .. } | Kind::Refused);
        let (found, error) = match has_records.then(|| content(&listed)) {
            Some(Ok(found)) => (found, None),
            Some(Err(error)) => (Content::default(), Some(error.to_string())),
            None => (Content::default(), None),
        };
        let oldest = found.entries.iter().map(|entry| entry.arrived_micros).min();
        let verified = Verified {
            file: listed.path.clone(),
            bytes: listed.bytes,
            what,
            records: found.entries.len() as u64,
            bad_bytes: found.bad_bytes,
            torn_bytes: found.torn_bytes,
            oldest_secs: oldest.map(|micros| micros / 1_000_000),
            error,
        };
        match listed.kind {
            Kind::Segment { .. } => {
                report.segments += 1;
                report.records += verified.records;
                report.bytes += listed.bytes;
                report.lost_bytes += match verified.error {
                    Some(_) => listed.bytes.max(1),
                    None => verified.bad_bytes,
                };
                report.torn_bytes += verified.torn_bytes;
            }
            Kind::Refused | Kind::Bad => report.lost_bytes += listed.bytes,
            Kind::Torn => report.torn_bytes += listed.bytes,
            Kind::Foreign => {}
        }
        each(&verified, &found)?;
    }
    Ok(report)
}
