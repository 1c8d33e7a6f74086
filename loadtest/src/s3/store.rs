//! The objects, in memory or in a directory, and the memory that they and parts of them may take.

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes of a key (service limit).
pub const KEY_BYTES_MAX: usize = 1_024;

/// Bytes that cannot stand in a file name or mean something else there.
const UNSAFE: &AsciiSet = &CONTROLS.add(b'/').add(b'\\').add(b'%').add(b':').add(b'*');

/// An object without its bytes.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) size: usize,
    pub(super) etag: String,
    pub(super) modified: SystemTime,
    /// Headers that come back with it.
    pub(super) headers: Vec<(String, String)>,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    Memory(Bytes),
    File(PathBuf),
}

impl Object {
    /// The object's bytes.
    pub(super) fn read(&self) -> io::Result<Bytes> {
        match &self.data {
            Data::Memory(bytes) => Ok(bytes.clone()),
            Data::File(path) => Ok(Bytes::from(std::fs::read(path)?)),
        }
    }

    /// The bytes from `start` to before `end`, both within the object.
    pub(super) fn read_part(&self, start: u64, end: u64) -> io::Result<Bytes> {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.size);
        let (from, to) = (place(start), place(end));
        match &self.data {
            Data::Memory(bytes) => Ok(bytes.slice(from..to)),
            Data::File(path) => {
                let mut bytes = vec![0; to.saturating_sub(from)];
                File::open(path)?.read_exact_at(&mut bytes, start)?;
                Ok(Bytes::from(bytes))
            }
        }
    }
}

/// Why an object is not taken.
#[derive(Debug)]
pub(super) enum StoreError {
    /// It would take too much memory.
    Full {
        limit: usize,
    },
    Io(io::Error),
}

/// An object to be stored.
pub(super) struct New {
    pub(super) data: Vec<u8>,
    pub(super) etag: String,
    pub(super) headers: Vec<(String, String)>,
}

/// All objects, by bucket and key.
#[derive(Debug)]
pub(super) struct Store {
    objects: BTreeMap<(String, String), Object>,
    bytes: u64,
    memory: usize,
    memory_max: usize,
    dir: Option<PathBuf>,
    /// Files written so far: names of unfinished ones.
    files: u64,
}

impl Store {
    /// An empty store. `dir` is made when it is not there.
    ///
    /// # Errors
    /// When `dir` cannot be made or is not empty.
    pub(super) fn new(memory_max: usize, dir: Option<PathBuf>) -> io::Result<Store> {
        if let Some(dir) = &dir {
            std::fs::create_dir_all(dir)?;
            if std::fs::read_dir(dir)?.next().is_some() {
                return Err(io::Error::other("the directory for objects must be empty"));
            }
        }
        Ok(Store {
            objects: BTreeMap::new(),
            bytes: 0,
            memory: 0,
            memory_max,
            dir,
            files: 0,
        })
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Option<&Object> {
        self.objects.get(&(bucket.to_owned(), key.to_owned()))
    }

    /// Objects of a bucket in the order of their keys, from the first key that is not below
    /// `from`.
    pub(super) fn of_bucket<'a>(
        &'a self,
        bucket: &'a str,
        from: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Object)> {
        let first = (bucket.to_owned(), from.to_owned());
        let own = self.objects.range(first..);
        let own = own.take_while(move |((own, _), _)| own == bucket);
        own.map(|((_, key), object)| (key.as_str(), object))
    }

    /// All objects: bucket, key and object.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str, &Object)> {
        let all = self.objects.iter();
        all.map(|((bucket, key), object)| (bucket.as_str(), key.as_str(), object))
    }

    /// How many objects there are, and how many bytes they have.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.objects.len() as u64, self.bytes)
    }

    /// Takes memory for something that is no object yet.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<(), StoreError> {
        let limit = self.memory_max;
        let memory = self.memory.saturating_add(bytes);
        if memory > limit {
            return Err(StoreError::Full { limit });
        }
        self.memory = memory;
        Ok(())
    }

    /// Gives memory back.
    pub(super) fn release(&mut self, bytes: usize) {
        self.memory = self.memory.saturating_sub(bytes);
    }

    /// Stores an object in place of the one with this key. Returns whether there was one.
    pub(super) fn put(
        &mut self,
        bucket: &str,
        key: &str,
        new: New,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let size = new.data.len();
        let data = match self.dir.clone() {
            None => {
                self.reserve(size)?;
                Data::Memory(Bytes::from(new.data))
            }
            Some(dir) => {
                let path = self.write(&dir, bucket, key, &new.data);
                Data::File(path.map_err(StoreError::Io)?)
            }
        };
        let object = Object {
            size,
            etag: new.etag,
            modified: now,
            headers: new.headers,
            data,
        };
        self.bytes += size as u64;
        let place = (bucket.to_owned(), key.to_owned());
        let Some(old) = self.objects.insert(place, object) else {
            return Ok(false);
        };
        self.bytes -= old.size as u64;
        if let Data::Memory(_) = old.data {
            self.release(old.size);
        }
        Ok(true)
    }

    /// Writes a whole file or none: under another name first.
    fn write(&mut self, dir: &Path, bucket: &str, key: &str, data: &[u8]) -> io::Result<PathBuf> {
        let path = path_of(dir, bucket, key);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        self.files += 1;
        // No bucket's name begins with a dot.
        let unfinished = dir.join(format!(".unfinished-{}", self.files));
        std::fs::write(&unfinished, data)?;
        std::fs::rename(&unfinished, &path)?;
        Ok(path)
    }
}

/// The path of an object: always below the directory, whatever its key.
fn path_of(dir: &Path, bucket: &str, key: &str) -> PathBuf {
    let mut path = dir.join(bucket);
    for segment in key.split('/') {
        match segment {
            "" => path.push("%"),
            "." => path.push("%2E"),
            ".." => path.push("%2E%2E"),
            _ => path.push(utf8_percent_encode(segment, UNSAFE).to_string()),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(data: &[u8]) -> New {
        New {
            data: data.to_vec(),
            etag: "e".to_owned(),
            headers: Vec::new(),
        }
    }

    #[test]
    fn no_key_leaves_the_directory() {
        let dir = Path::new("/d");
        for (key, expected) in [
            ("a/b.json", "/d/b/a/b.json"),
            ("../x", "/d/b/%2E%2E/x"),
            ("/etc/./x", "/d/b/%/etc/%2E/x"),
            ("a//b/", "/d/b/a/%/b/%"),
            ("a%2F\0b", "/d/b/a%252F%00b"),
            ("year=2026/h\u{e4}", "/d/b/year=2026/h%C3%A4"),
        ] {
            assert_eq!(path_of(dir, "b", key), Path::new(expected), "{key}");
        }
    }

    #[test]
    fn memory_is_bounded_and_given_back_by_what_is_replaced() {
        let mut store = Store::new(10, None).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        assert!(!store.put("b", "k", new(b"12345"), now).unwrap());
        assert!(store.put("b", "k", new(b"54321"), now).unwrap());
        assert!(!store.put("b", "l", new(b"12345"), now).unwrap());
        assert!(matches!(
            store.put("b", "m", new(b"1"), now),
            Err(StoreError::Full { limit: 10 })
        ));
        assert_eq!(store.counts(), (2, 10));
        assert_eq!(store.get("b", "k").unwrap().read().unwrap(), "54321");
    }

    #[test]
    fn a_store_directory_must_start_empty() {
        let dir = tempfile::tempdir().unwrap();
        let objects = dir.path().join("objects");
        let now = SystemTime::UNIX_EPOCH;
        let mut store = Store::new(0, Some(objects.clone())).unwrap();
        store.put("b", "a/k.json", new(b"one"), now).unwrap();
        store.put("b", "a/k.json", new(b"two"), now).unwrap();
        assert_eq!(std::fs::read(objects.join("b/a/k.json")).unwrap(), b"two");
        assert_eq!(store.get("b", "a/k.json").unwrap().read().unwrap(), "two");
        let error = Store::new(0, Some(objects)).unwrap_err().to_string();
        assert!(error.contains("must be empty"), "{error}");
    }
}
