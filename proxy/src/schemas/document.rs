//! JSON Schema documents: reading them from files, and making checks of them.

use super::built_in::{self, Beyond};
use crate::file_stamp::FileStamp;
use serde_json::Value;
use sluice_core::schema::Check;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one document.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// Documents in one directory, those in its directories included.
pub const DOCUMENTS_MAX: usize = 256;

/// Directories inside each other.
const DIRS_MAX: usize = 8;

/// Documents that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is too large.
    #[error("{name} has over {limit} bytes, the limit of a schema")]
    Bytes {
        /// The file, or where else it is from.
        name: String,
        /// [`DOCUMENT_BYTES_MAX`].
        limit: usize,
    },
    /// There are too many.
    #[error("{} holds over {limit} schemas, or directories more than {DIRS_MAX} deep", dir.display())]
    Count {
        /// The directory.
        dir: PathBuf,
        /// [`DOCUMENTS_MAX`].
        limit: usize,
    },
    /// It is no JSON.
    #[error("{name}: {source}")]
    NotJson {
        /// The file, or where else it is from.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// This build cannot check events against it.
    #[error(
        "{0} is not built in; a program built with `--features json-schema` knows all of JSON Schema"
    )]
    Beyond(#[from] Beyond),
    /// It is no JSON Schema.
    #[error("{0}")]
    Refused(String),
}

/// A document, and those that it may refer to, each under its URI.
#[derive(Debug)]
#[cfg_attr(
    not(any(feature = "json-schema", test)),
    expect(
        dead_code,
        reason = "what is built in refers to nothing outside of its document"
    )
)]
pub(super) struct Document {
    /// The schema.
    pub(super) root: Value,
    /// Others, by URI.
    pub(super) others: Vec<(String, Value)>,
    /// The URI that relative references of the root are resolved against.
    pub(super) base_uri: String,
}

impl Document {
    /// One that stands alone.
    ///
    /// # Errors
    /// It is too large, or no JSON.
    pub(super) fn alone(name: &str, bytes: &[u8]) -> Result<Document, DocumentError> {
        Ok(Document {
            root: parse(name, bytes)?,
            others: Vec::new(),
            base_uri: super::BASE_URI.to_owned(),
        })
    }

    /// The check of events against it. One that has to look at all of an event at once takes at most `event_bytes_max`.
    ///
    /// # Errors
    /// It is no JSON Schema, or one that this build does not know.
    pub(super) fn check(&self, event_bytes_max: usize) -> Result<Arc<dyn Check>, DocumentError> {
        #[cfg(feature = "json-schema")]
        {
            // What it finds wrong with a document is worth more than that a keyword is not built in.
            let full = super::full::Full::new(self, "#", event_bytes_max)?;
            let part = |at: &str| -> Option<Arc<dyn Check>> {
                Some(Arc::new(
                    super::full::Full::new(self, at, event_bytes_max).ok()?,
                ))
            };
            Ok(match built_in::node(&self.root, &part) {
                Ok(node) => Arc::new(node),
                Err(_) => Arc::new(full),
            })
        }
        #[cfg(not(feature = "json-schema"))]
        {
            let _ = event_bytes_max;
            Ok(Arc::new(built_in::node(&self.root, &|_| None)?))
        }
    }
}

fn parse(name: &str, bytes: &[u8]) -> Result<Value, DocumentError> {
    let limit = DOCUMENT_BYTES_MAX;
    if bytes.len() > limit {
        let name = name.to_owned();
        return Err(DocumentError::Bytes { name, limit });
    }
    serde_json::from_slice(bytes).map_err(|source| DocumentError::NotJson {
        name: name.to_owned(),
        source,
    })
}

/// A schema's file, and the directory whose files it may refer to.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The schema.
    pub(super) file: PathBuf,
    /// Its directory.
    pub(super) dir: Option<PathBuf>,
    /// What references call the directory.
    pub(super) base_uri: String,
}

/// Files as they were found, to notice changes.
pub(super) type Stamps = Vec<(PathBuf, FileStamp)>;

impl Files {
    /// All of them, in order.
    fn paths(&self) -> Result<Vec<PathBuf>, DocumentError> {
        let mut paths = vec![self.file.clone()];
        if let Some(dir) = &self.dir {
            let mut found = Vec::new();
            list(dir, dir, DIRS_MAX, &mut found)?;
            found.sort_unstable();
            paths.extend(found);
        }
        Ok(paths)
    }

    /// What tells whether they have changed.
    ///
    /// # Errors
    /// One of them cannot be found.
    pub(super) fn stamps(&self) -> Result<Stamps, DocumentError> {
        let stamp = |path: PathBuf| {
            let file = fs::metadata(&path).map_err(|source| unreadable(&path, source))?;
            Ok((path, FileStamp::of(&file)))
        };
        self.paths()?.into_iter().map(stamp).collect()
    }

    /// Reads them.
    ///
    /// # Errors
    /// See [`DocumentError`].
    pub(super) fn read(&self) -> Result<Document, DocumentError> {
        let mut paths = self.paths()?.into_iter();
        let root = read(&paths.next().unwrap_or_default())?;
        let uri = |path: &Path| {
            let dir = self.dir.as_deref().unwrap_or(Path::new(""));
            let inside = path.strip_prefix(dir).unwrap_or(path);
            format!("{}{}", self.base_uri, inside.display())
        };
        let others: Result<Vec<_>, DocumentError> =
            paths.map(|path| Ok((uri(&path), read(&path)?))).collect();
        let is_inside = self
            .dir
            .as_ref()
            .is_some_and(|dir| self.file.starts_with(dir));
        Ok(Document {
            root,
            others: others?,
            base_uri: match is_inside {
                true => uri(&self.file),
                false => self.base_uri.clone(),
            },
        })
    }
}

fn unreadable(path: &Path, source: io::Error) -> DocumentError {
    DocumentError::Unreadable {
        path: path.to_path_buf(),
        source,
    }
}

/// The `.json` files of a directory. Links are followed to files, and not to directories.
fn list(
    root: &Path,
    dir: &Path,
    dirs_left: usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), DocumentError> {
    let entries = fs::read_dir(dir).map_err(|source| unreadable(dir, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| unreadable(dir, source))?;
        let path = entry.path();
        let kind = entry
            .file_type()
            .map_err(|source| unreadable(&path, source))?;
        let is_schema = path
            .extension()
            .is_some_and(|extension| extension == "json");
        if (kind.is_dir() && dirs_left == 0) || (is_schema && found.len() == DOCUMENTS_MAX) {
            let (dir, limit) = (root.to_path_buf(), DOCUMENTS_MAX);
            return Err(DocumentError::Count { dir, limit });
        }
        if kind.is_dir() {
            list(root, &path, dirs_left - 1, found)?;
        } else if is_schema {
            found.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value, DocumentError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    let mut bytes = Vec::new();
    file.take(DOCUMENT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| unreadable(path, source))?;
    parse(&path.display().to_string(), &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(result: Result<T, DocumentError>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn documents_over_a_bound_are_refused_with_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        let files = |dir: Option<&Path>| Files {
            file: file.clone(),
            dir: dir.map(Path::to_path_buf),
            base_uri: String::new(),
        };
        assert!(error(files(None).read()).contains("a.json: No such file"));
        fs::write(&file, vec![b' '; DOCUMENT_BYTES_MAX + 1]).unwrap();
        assert!(error(files(None).read()).contains("has over 1048576 bytes"));
        fs::write(&file, "{").unwrap();
        assert!(error(files(None).read()).contains("a.json: EOF"));
        fs::write(&file, "{}").unwrap();
        let others = dir.path().join("others");
        fs::create_dir(&others).unwrap();
        for at in 0..DOCUMENTS_MAX {
            fs::write(others.join(format!("{at}.json")), "{}").unwrap();
        }
        assert_eq!(files(Some(&others)).read().unwrap().others.len(), 256);
        fs::write(others.join("over.json"), "{}").unwrap();
        assert!(error(files(Some(&others)).stamps()).contains("over 256 schemas"));
        let deep = dir.path().join("deep").join("d/".repeat(DIRS_MAX + 1));
        fs::create_dir_all(deep).unwrap();
        let deep = dir.path().join("deep");
        assert!(error(files(Some(&deep)).read()).contains("more than 8 deep"));
    }

    #[test]
    fn files_of_a_directory_have_its_uri() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        for name in ["a.json", "b/c.json", "read.me"] {
            fs::write(dir.path().join(name), "{}").unwrap();
        }
        let files = Files {
            file: dir.path().join("a.json"),
            dir: Some(dir.path().to_path_buf()),
            base_uri: "https://x.example/".to_owned(),
        };
        let document = files.read().unwrap();
        let uris: Vec<_> = document
            .others
            .iter()
            .map(|(uri, _)| uri.as_str())
            .collect();
        assert_eq!(
            uris,
            ["https://x.example/a.json", "https://x.example/b/c.json"]
        );
        assert_eq!(document.base_uri, "https://x.example/a.json");
        let before = files.stamps().unwrap();
        assert_eq!(before, files.stamps().unwrap());
        fs::write(dir.path().join("b/c.json"), "[]").unwrap();
        assert_ne!(before, files.stamps().unwrap());
    }
}
