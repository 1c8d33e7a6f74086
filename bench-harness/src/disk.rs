//! A folder on a real disk for peers that must write durably. On a memory file system an fsync is free,
//! and the figure would mean nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// File systems that are memory.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// A folder that is deleted with all in it when this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Where it is, for instance `ext4 (/dev/vda)`.
    pub on: String,
}

impl Folder {
    /// Creates the folder and determines its file system.
    ///
    /// # Errors
    /// When it cannot be made, or is in memory.
    pub fn create(path: &Path) -> Result<Folder, String> {
        let at = |error: io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(path).map_err(at)?;
        let mut folder = Folder {
            path: path.to_path_buf(),
            on: "a file system unknown".to_owned(),
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(at)?;
        if let Some((kind, source)) = mount_of(&mounts, &path.canonicalize().map_err(at)?) {
            if IN_MEMORY.contains(&kind) {
                return Err(format!("{} is on {kind}, no disk", path.display()));
            }
            folder.on = format!("{kind} ({source})");
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Leftovers stay in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Kind and source of the file system that a path is on, from the lines of proc_pid_mountinfo(5): the
/// longest mount point wins, and of two on one place the later one.
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<(&'a str, &'a str)> {
    let mount = |line: &'a str| {
        let (place, file_system) = line.split_once(" - ")?;
        let point = Path::new(place.split(' ').nth(4)?);
        let mut words = file_system.split(' ');
        let found = (words.next()?, words.next()?);
        path.starts_with(point)
            .then(|| (point.components().count(), found))
    };
    let all = mounts.lines().filter_map(mount);
    all.max_by_key(|(depth, _)| *depth).map(|(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 254:0 / / rw,noatime shared:1 - ext4 /dev/vda rw\n\
        25 22 0:23 / /tmp rw shared:3 - tmpfs tmpfs rw,size=1024k\n\
        26 22 254:16 / /tmp/disk rw - xfs /dev/vdb rw\n\
        27 22 254:32 / /tmp/disk rw - btrfs /dev/vdc rw\n";

    #[test]
    fn the_longest_latest_mount_point_wins() {
        let of = |path: &str| mount_of(MOUNTS, Path::new(path));
        assert_eq!(of("/work"), Some(("ext4", "/dev/vda")));
        assert_eq!(of("/tmpfile"), Some(("ext4", "/dev/vda")));
        assert_eq!(of("/tmp/x"), Some(("tmpfs", "tmpfs")));
        assert_eq!(of("/tmp/disk/x"), Some(("btrfs", "/dev/vdc")));
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn a_disk_folder_is_removed_and_tmpfs_refused() {
        let path = std::env::temp_dir().join(format!("sluice-bench-disk-{}", std::process::id()));
        if let Ok(folder) = Folder::create(&path) {
            assert!(path.is_dir() && !folder.on.is_empty());
            fs::write(path.join("file"), "x").unwrap();
        }
        assert!(!path.exists());
        // Mounted as memory on any Linux.
        let shared = Path::new("/dev/shm");
        if shared.is_dir() {
            let path = shared.join(format!("sluice-bench-disk-{}", std::process::id()));
            let error = Folder::create(&path).unwrap_err();
            assert!(error.contains("tmpfs"), "{error}");
            assert!(!path.exists());
        }
    }
}
