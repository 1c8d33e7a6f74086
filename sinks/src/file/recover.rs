//! Puts in order, at start, what a process that did not end cleanly left behind.
//!
//! Only files with a marker are looked at, one forward read each. What was confirmed was synced, so it
//! is whole lines without a NUL; bytes after the last such line are moved to `<file>.torn`, never dropped.

use super::layout::{FileName, OPEN};
use crate::disk::tail::set_torn_tail_aside;
use std::fs::{self, OpenOptions};
use std::io;
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
            Ok(file) => match set_torn_tail_aside(&path, file)? {
                0 => fs::remove_file(&path)?,
                bytes => {
                    info!(file = %path.display(), bytes, "closed a file that a crash had left open");
                }
            },
            // The process ended between marker and file, or someone has moved the file away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    fs::remove_file(name.marker(dir))
}
