//! What a file output has on disk.

use super::audit::Stored;
use super::event::ids_of_record;
use std::fs;
use std::path::{Path, PathBuf};

/// All files under a directory, hidden ones too.
pub(crate) fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn ending(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files = all_files(dir);
    files.retain(|path| path.to_string_lossy().ends_with(suffix));
    files
}

/// The files that hold events.
pub(crate) fn data_files(dir: &Path) -> Vec<PathBuf> {
    ending(dir, ".ndjson")
}

/// What was cut off files that a crash had left unfinished.
pub(crate) fn torn_files(dir: &Path) -> Vec<PathBuf> {
    ending(dir, ".torn")
}

/// The lines of all data files, each of which has to be whole.
pub(crate) fn records(dir: &Path) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for path in data_files(dir) {
        let bytes = fs::read(&path).unwrap();
        if let Some(lines) = bytes.strip_suffix(b"\n") {
            records.extend(lines.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        } else {
            assert!(bytes.is_empty(), "{path:?} ends within a line");
        }
    }
    records
}

pub(crate) fn stored(dir: &Path) -> Stored {
    Stored::of(records(dir).iter().flat_map(|record| ids_of_record(record)))
}
