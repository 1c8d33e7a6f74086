//! The end of a file that a process was writing when it ended.
//!
//! What was confirmed was synced, so it is whole lines without a NUL; bytes after the last such line are
//! moved aside, never dropped.

use super::store::FILE_MODE;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use tracing::warn;

/// What is appended to a file's name for the bytes that were cut off it.
pub(crate) const TORN_SUFFIX: &str = ".torn";

/// Moves what follows the last whole line of a file, opened for reading and writing, to `<path>.torn`, and
/// syncs the file. Says how many bytes are left; the file is the caller's to remove when none are.
pub(crate) fn set_torn_tail_aside(path: &Path, mut file: File) -> io::Result<u64> {
    let bytes = file.metadata()?.len();
    let whole_bytes = whole_lines(&mut file)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    if whole_bytes < bytes {
        let mut torn_path = OsString::from(path);
        torn_path.push(TORN_SUFFIX);
        file.seek(SeekFrom::Start(whole_bytes))?;
        // Overwrites what an earlier start may have begun: the tail is still here, so it is a copy.
        let mut torn = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&torn_path)?;
        io::copy(&mut file, &mut torn)?;
        torn.sync_all()?;
        File::open(parent)?.sync_all()?;
        warn!(
            file = %path.display(),
            torn_bytes = bytes - whole_bytes,
            "set aside the unfinished end of a file: it was never confirmed"
        );
        file.set_len(whole_bytes)?;
    }
    // Lines that were written but not yet synced are readable now, so make them last.
    file.sync_all()?;
    Ok(whole_bytes)
}

/// How many bytes from the start are whole lines. A NUL, which no line contains, is a block that
/// the file system had not written when the machine lost power: nothing from its line on counts.
pub(crate) fn whole_lines(file: &mut impl Read) -> io::Result<u64> {
    let mut chunk = vec![0; 256 * 1024];
    let mut read_bytes = 0;
    let mut whole_bytes = 0;
    loop {
        let filled = match file.read(&mut chunk) {
            Ok(0) => return Ok(whole_bytes),
            Ok(filled) => chunk.get(..filled).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let hole = memchr::memchr(0, filled);
        let sound = filled
            .get(..hole.unwrap_or(filled.len()))
            .unwrap_or_default();
        if let Some(newline) = memchr::memrchr(b'\n', sound) {
            whole_bytes = read_bytes + newline as u64 + 1;
        }
        if hole.is_some() {
            return Ok(whole_bytes);
        }
        read_bytes += filled.len() as u64;
    }
}
