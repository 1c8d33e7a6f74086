//! The real disk, failing on command.

use super::store::{Os, Store, StoreFile};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

/// What goes wrong at the next call of its kind.
pub(crate) enum Fault {
    Write(io::ErrorKind),
    ShortWrite(usize),
    Sync(io::ErrorKind),
    /// The sync ends when the other end is dropped.
    SyncHangs(mpsc::Receiver<()>),
    Cut,
    /// The sync of a directory fails after this many that work.
    SyncDirAfter(usize),
    RemoveFile,
    /// The rename takes effect, and says that it failed.
    #[cfg(feature = "s3")]
    RenameTakesEffect,
}

/// The real disk, its next calls' faults, and what it was asked to do.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) faults: Mutex<Vec<Fault>>,
    pub(crate) calls: Mutex<Vec<String>>,
}

impl Script {
    fn take<T>(&self, pick: impl Fn(&Fault) -> bool, map: impl Fn(Fault) -> T) -> Option<T> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(pick)?;
        Some(map(faults.remove(at)))
    }

    fn note(&self, call: &str, path: &Path) {
        let path = path.file_name().unwrap().to_string_lossy();
        self.calls.lock().unwrap().push(format!("{call} {path}"));
    }
}

#[derive(Clone, Default)]
pub(crate) struct Faulty(pub(crate) Arc<Script>);

struct FaultyFile {
    script: Arc<Script>,
    path: PathBuf,
    file: Box<dyn StoreFile>,
}

impl Store for Faulty {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        Os.create_dir(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        self.0.note("create", path);
        Ok(Box::new(FaultyFile {
            script: Arc::clone(&self.0),
            path: path.to_owned(),
            file: Os.create_file(path)?,
        }))
    }

    #[cfg(feature = "s3")]
    fn open_file(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        Os.open_file(path)
    }

    #[cfg(feature = "s3")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let fault = self
            .0
            .take(|fault| matches!(fault, Fault::RenameTakesEffect), drop);
        Os.rename(from, to)?;
        match fault {
            Some(()) => Err(io::ErrorKind::Other.into()),
            None => Ok(()),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        match self
            .0
            .take(|fault| matches!(fault, Fault::RemoveFile), drop)
        {
            Some(()) => Err(io::ErrorKind::Other.into()),
            None => Os.remove_file(path),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.note("sync_dir", path);
        let fault = self.0.take(
            |fault| matches!(fault, Fault::SyncDirAfter(_)),
            |fault| fault,
        );
        match fault {
            Some(Fault::SyncDirAfter(0)) => return Err(io::ErrorKind::Other.into()),
            Some(Fault::SyncDirAfter(healthy)) => {
                let mut faults = self.0.faults.lock().unwrap();
                faults.push(Fault::SyncDirAfter(healthy - 1));
            }
            _ => {}
        }
        Os.sync_dir(path)
    }
}

impl StoreFile for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.script.note("write", &self.path);
        let fault = self.script.take(
            |fault| matches!(fault, Fault::Write(_) | Fault::ShortWrite(_)),
            |fault| fault,
        );
        match fault {
            Some(Fault::Write(kind)) => Err(kind.into()),
            Some(Fault::ShortWrite(taken)) => self.file.write(&bytes[..taken]),
            _ => self.file.write(bytes),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.script.note("sync", &self.path);
        let fault = self.script.take(
            |fault| matches!(fault, Fault::Sync(_) | Fault::SyncHangs(_)),
            |fault| fault,
        );
        match fault {
            Some(Fault::Sync(kind)) => return Err(kind.into()),
            Some(Fault::SyncHangs(end)) => drop(end.recv()),
            _ => {}
        }
        self.file.sync()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        match self.script.take(|fault| matches!(fault, Fault::Cut), drop) {
            Some(()) => Err(io::ErrorKind::Other.into()),
            None => self.file.cut(len),
        }
    }

    fn is_named(&self) -> io::Result<bool> {
        self.file.is_named()
    }
}
