//! A disk that is soon full.

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

/// A file system of its own, gone with its owner.
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    pub(crate) fn mount(at: &Path, kib: u64) -> Option<SmallDisk> {
        fs::create_dir(at).unwrap();
        let options = CString::new(format!("size={kib}k")).unwrap();
        match mount("tmpfs", at, "tmpfs", MountFlags::empty(), &*options) {
            Ok(()) => Some(SmallDisk(at.to_path_buf())),
            Err(error) => {
                println!("skipped: a tmpfs cannot be mounted here: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
