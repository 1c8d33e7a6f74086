//! Puts in order, at start, what a process that did not end cleanly left behind.
//!
//! Only files with a marker are looked at, one forward read each. What was confirmed was synced, so it
//! is whole lines without a NUL; bytes after the last such line are moved to `<file>.torn`, never dropped.

use super::layout::{FileName, OPEN, TORN_SUFFIX};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use tracing::{info, warn};

/// Looks at every file that was growing when its process ended. A file that cannot be put in order
/// keeps its marker and is tried again at the next start: new events do not need it.
pub(super) fn recover(dir: &Path) {
    let markers = match fs::read_dir(dir.join(OPEN)) {
        Ok(markers) => markers,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            warn!(dir = %dir.display(), %error, "cannot look for files that a crash left");
            return;
        }
    };
    for marker in markers.flatten() {
        let Some(name) = marker.file_name().to_str().and_then(FileName::parse) else {
            warn!(marker = %marker.path().display(), "not a marker of ours: left alone");
            continue;
        };
        if let Err(error) = recover_file(dir, &name) {
            warn!(name = %name, %error, "cannot put a file in order: left for the next start");
        }
    }
}

fn recover_file(dir: &Path, name: &FileName) -> io::Result<()> {
    if let Some([.., hour_dir]) = name.partition(dir) {
        let path = hour_dir.join(name.data_name());
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => set_torn_tail_aside(&path, file)?,
            // The process ended between marker and file, or someone has moved the file away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    fs::remove_file(name.marker(dir))
}

fn set_torn_tail_aside(path: &Path, mut file: File) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    let whole_bytes = whole_lines(&mut file)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    if whole_bytes < bytes {
        let mut torn_path = OsString::from(path);
        torn_path.push(TORN_SUFFIX);
        file.seek(SeekFrom::Start(whole_bytes))?;
        // Overwrites what an earlier start may have begun: the tail is still here, so it is a copy.
        let mut torn = File::create(&torn_path)?;
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
    if whole_bytes == 0 {
        fs::remove_file(path)?;
    } else {
        info!(file = %path.display(), bytes = whole_bytes, "closed a file that a crash had left open");
    }
    Ok(())
}

/// How many bytes from the start are whole lines. A NUL, which no line contains, is a block that
/// the file system had not written when the machine lost power: nothing from its line on counts.
fn whole_lines(file: &mut impl Read) -> io::Result<u64> {
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
