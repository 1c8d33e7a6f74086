//! What tells one file from another in its place without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// A file as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    inode: u64,
    device: u64,
    pub(crate) bytes: u64,
    pub(crate) modified: (i64, i64),
}

impl FileStamp {
    pub(crate) fn of(file: &Metadata) -> FileStamp {
        FileStamp {
            inode: file.ino(),
            device: file.dev(),
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        }
    }
}
