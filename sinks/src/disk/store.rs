//! The disk as sinks see it: a small trait, and the real thing. Every create, write, fsync and
//! truncation on the write path is here, so that tests can make each of them fail.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Mode of files that hold records, before the umask: events are personal data, so nobody outside the
/// owner's group reads them.
pub(crate) const FILE_MODE: u32 = 0o640;

/// A directory tree.
pub(crate) trait Store: Send + Sync + 'static {
    /// Creates one directory; one that exists is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a file that must not exist yet, for appending.
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn StoreFile>>;
    /// Opens a file that exists, for appending.
    #[cfg(feature = "s3")]
    fn open_file(&self, path: &Path) -> io::Result<Box<dyn StoreFile>>;
    /// Gives a file another name in the same directory.
    #[cfg(feature = "s3")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// A file that is written at its end.
pub(crate) trait StoreFile: Send {
    /// One write(2) at the end; says how many bytes it took.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Makes content and length durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts everything after the first `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
    /// Whether any directory still names the file.
    fn is_named(&self) -> io::Result<bool>;
}

/// The file system of the machine.
#[derive(Debug)]
pub(crate) struct Os;

impl Store for Os {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Box::new(file))
    }

    #[cfg(feature = "s3")]
    fn open_file(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    #[cfg(feature = "s3")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl StoreFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn is_named(&self) -> io::Result<bool> {
        Ok(self.metadata()?.nlink() > 0)
    }
}

/// Creates a sink's own directory durably, also where it exists already: the process that created it may
/// have been killed before it synced the parent. A parent that must not be read cannot be synced, and
/// is its owner's to care for.
pub(crate) fn create_root_durably(store: &dyn Store, path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return create_dir_durably(store, path);
    }
    match store.sync_dir(parent_of(path)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// The directory that names this one; a relative path of one part is named by the working directory.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates a directory and what is missing above it. What was created is made durable by syncing
/// the parent that names it; directories that existed are not touched, for they may not be ours.
pub(crate) fn create_dir_durably(store: &dyn Store, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    if parent != Path::new(".") {
        create_dir_durably(store, parent)?;
    }
    store.create_dir(path)?;
    store.sync_dir(parent)
}

/// Tries whether files can be made durable in a directory, and leaves nothing behind.
pub(crate) fn probe(store: &dyn Store, dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".probe-{:016x}", fastrand::u64(..)));
    let mut file = store.create_file(&path)?;
    let written = write_all(&mut *file, b"sluice check\n")
        .and_then(|()| file.sync())
        .and_then(|()| store.sync_dir(dir));
    drop(file);
    store.remove_file(&path).and(written)
}

/// Writes all of `bytes`, going on after a write that took only a part.
pub(crate) fn write_all(file: &mut dyn StoreFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faulty::Faulty;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_parent_of_an_existing_directory_is_synced() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("data");
        fs::create_dir(&dir).unwrap();
        let store = Faulty::default();
        create_root_durably(&store, &dir).unwrap();
        let parent = temp.path().file_name().unwrap().to_string_lossy();
        assert_eq!(
            *store.0.calls.lock().unwrap(),
            [format!("sync_dir {parent}")]
        );
    }

    #[test]
    fn record_files_are_not_readable_by_others() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("records");
        drop(Os.create_file(&path).unwrap());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }
}
