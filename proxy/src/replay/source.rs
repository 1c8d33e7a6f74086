//! Where letters lie: files below a directory, or objects of a bucket, in the order of their names.

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tokio::runtime::Runtime;

/// Files of one replay; a listing of a bucket has a bound of its own.
pub const SOURCES_MAX: usize = 1_000_000;

/// Bytes of a line; letters are shorter, for every destination has its limit.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Directories within directories.
const DEPTH_MAX: usize = 32;

/// What is named with `--from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, or a directory.
    Path(PathBuf),
    /// A bucket, and how the keys begin.
    Bucket {
        /// Its name.
        bucket: String,
        /// The prefix.
        prefix: String,
    },
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Place, Self::Err> {
        let Some(rest) = text.strip_prefix("s3://") else {
            return Ok(Place::Path(text.into()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        match bucket {
            "" => Err("expected a directory, or s3://bucket/prefix"),
            bucket => Ok(Place::Bucket {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            }),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Path(path) => write!(f, "{}", path.display()),
            Place::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Letters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The bucket.
    #[error("s3 bucket: {0}")]
    Bucket(String),
    /// Too many of them.
    #[error("over the limit of {limit} files")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// A name that a state cannot hold.
    #[error("{0:?} has a control character in its name, or is not UTF-8")]
    Name(String),
}

/// A file or an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path or key.
    pub name: String,
    /// Its bytes when it was listed; what is appended later is for another replay.
    pub bytes: u64,
}

/// Reads an object by its key.
type ReadObject<'r> = Box<dyn Fn(&str) -> Result<Bytes, String> + 'r>;

/// All of them.
pub struct Sources<'r> {
    /// In the order of their names.
    pub all: Vec<Source>,
    /// `None` for files.
    read_object: Option<ReadObject<'r>>,
}

impl<'r> Sources<'r> {
    /// Lists what there is.
    ///
    /// # Errors
    /// It cannot be listed, or is too much.
    pub fn list(from: &Place, runtime: &'r Runtime) -> Result<Sources<'r>, SourceError> {
        let (mut all, mut read_object) = (Vec::new(), None);
        match from {
            Place::Path(path) => below(path, 0, &mut all)?,
            Place::Bucket { bucket, prefix } => {
                let opened = objects(bucket, prefix, runtime).map_err(SourceError::Bucket)?;
                all.extend(opened.0.into_iter().filter(|one| is_lines(&one.name)));
                read_object = Some(opened.1);
            }
        }
        if let Some(odd) = all.iter().find(|one| one.name.contains(char::is_control)) {
            return Err(SourceError::Name(odd.name.clone()));
        }
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(Sources { all, read_object })
    }

    /// The lines of one of them. `counted` sees its bytes as they are read.
    ///
    /// # Errors
    /// It cannot be opened, or is too large.
    pub fn lines(
        &self,
        source: &Source,
        counted: impl FnOnce(Box<dyn Read>) -> Box<dyn Read>,
    ) -> Result<Lines, SourceError> {
        let is_gzip = source.name.ends_with(".gz");
        let bytes: Box<dyn Read> = match &self.read_object {
            Some(read) => {
                let bytes = read(&source.name).map_err(SourceError::Bucket)?;
                Box::new(Cursor::new(bytes))
            }
            None => {
                let file = File::open(&source.name).map_err(in_file(Path::new(&source.name)))?;
                Box::new(file.take(source.bytes))
            }
        };
        let bytes = counted(bytes);
        let bytes: Box<dyn Read> = match is_gzip {
            true => Box::new(MultiGzDecoder::new(bytes)),
            false => bytes,
        };
        Ok(Lines {
            bytes: BufReader::with_capacity(1 << 16, bytes),
            // An object is whole, and has no line end after its last line.
            may_lack_end: is_gzip,
        })
    }
}

/// The objects of a bucket, and how one is read.
#[cfg(feature = "s3")]
fn objects<'r>(
    bucket: &str,
    prefix: &str,
    runtime: &'r Runtime,
) -> Result<(Vec<Source>, ReadObject<'r>), String> {
    use sluice_sinks::objects::Objects;

    let objects = runtime.block_on(Objects::open(bucket))?;
    let listed = runtime.block_on(objects.list(prefix))?;
    let listed = listed.into_iter().map(|one| Source {
        name: one.key,
        bytes: one.bytes,
    });
    let read = move |key: &str| runtime.block_on(objects.read(key));
    Ok((listed.collect(), Box::new(read)))
}

#[cfg(not(feature = "s3"))]
fn objects<'r>(_: &str, _: &str, _: &'r Runtime) -> Result<(Vec<Source>, ReadObject<'r>), String> {
    Err("this build has no S3".to_owned())
}

fn is_lines(name: &str) -> bool {
    [".ndjson", ".ndjson.gz", ".log.gz"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn in_file(path: &Path) -> impl Fn(io::Error) -> SourceError {
    let path = path.display().to_string();
    move |source| SourceError::File {
        path: path.clone(),
        source,
    }
}

/// The files of letters in a directory and those below it, or the one file that is named.
fn below(path: &Path, depth: usize, all: &mut Vec<Source>) -> Result<(), SourceError> {
    let fail = in_file(path);
    let found = fs::metadata(path).map_err(&fail)?;
    if found.is_file() {
        let Some(name) = path.to_str() else {
            return Err(SourceError::Name(path.display().to_string()));
        };
        all.push(Source {
            name: name.to_owned(),
            bytes: found.len(),
        });
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(&fail)? {
        let entry = entry.map_err(&fail)?;
        let kind = entry.file_type().map_err(&fail)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Names of files that are under construction begin with a dot, or lie in a directory that does.
        let is_meant = kind.is_file() && is_lines(&name);
        let is_below = kind.is_dir() && depth < DEPTH_MAX;
        if !name.starts_with('.') && (is_meant || is_below) {
            below(&entry.path(), depth + 1, all)?;
        }
        if all.len() > SOURCES_MAX {
            return Err(SourceError::TooMany { limit: SOURCES_MAX });
        }
    }
    Ok(())
}

/// The lines of a file or object, one after the other.
pub struct Lines {
    bytes: BufReader<Box<dyn Read>>,
    may_lack_end: bool,
}

impl Lines {
    /// Reads the next line into `line`, without its end; `false` at the end of what is finished. Of a line over
    /// [`LINE_BYTES_MAX`] nothing is kept.
    ///
    /// # Errors
    /// The disk's, or bytes that are no gzip.
    pub fn next(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let mut is_long = false;
        loop {
            let mut some = (&mut self.bytes).take(LINE_BYTES_MAX as u64 + 1);
            let read = some.read_until(b'\n', line)?;
            let is_ended = line.last() == Some(&b'\n');
            if is_ended {
                line.pop();
            } else if read == 0 {
                // Nothing, or what somebody is still writing.
                let is_line = (is_long || !line.is_empty()) && self.may_lack_end;
                line.truncate(if is_long { 0 } else { line.len() });
                return Ok(is_line);
            }
            is_long |= line.len() > LINE_BYTES_MAX;
            if is_long {
                line.clear();
            }
            if is_ended {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use tempfile::tempdir;

    fn runtime() -> Runtime {
        sluice_sinks::runtime::current_thread().unwrap()
    }

    fn lines(lines: &mut Lines) -> Vec<String> {
        let (mut line, mut all) = (Vec::new(), Vec::new());
        while lines.next(&mut line).unwrap() {
            all.push(String::from_utf8(line.clone()).unwrap());
        }
        all
    }

    #[test]
    fn files_of_letters_are_listed_by_name_and_read_line_by_line() {
        let dir = tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("b/two.ndjson", b"1\n\n2\nunfinished");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"3\n4").unwrap();
        write("a/one.log.gz", &gzip.finish().unwrap());
        write(".open/three.ndjson", b"5\n");
        write("b/two.ndjson.torn", b"6\n");
        write("notes.txt", b"7\n");
        let runtime = runtime();
        let from = Place::Path(dir.path().to_owned());
        let sources = Sources::list(&from, &runtime).unwrap();
        // What is written from now on is not seen.
        write("b/two.ndjson", b"1\n\n2\nunfinished\n");
        let read = |source| lines(&mut sources.lines(source, |bytes| bytes).unwrap());
        let all: Vec<Vec<String>> = sources.all.iter().map(read).collect();
        assert_eq!(all, [vec!["3", "4"], vec!["1", "", "2"]]);
        let none = Place::Path(dir.path().join("none"));
        assert!(matches!(
            Sources::list(&none, &runtime),
            Err(SourceError::File { .. })
        ));
    }

    #[test]
    fn a_line_over_its_limit_is_empty_and_its_neighbours_are_not() {
        let mut text = b"a\n".to_vec();
        text.resize(text.len() + LINE_BYTES_MAX + 1, b'x');
        text.extend_from_slice(b"\nb\n");
        text.resize(text.len() + LINE_BYTES_MAX, b'y');
        text.push(b'\n');
        let mut found = Lines {
            bytes: BufReader::new(Box::new(Cursor::new(text))),
            may_lack_end: false,
        };
        let lengths: Vec<usize> = lines(&mut found).iter().map(String::len).collect();
        assert_eq!(lengths, [1, 0, 1, LINE_BYTES_MAX]);
    }

    #[test]
    fn a_place_is_a_path_or_a_bucket() {
        let bucket = |text: &str| match text.parse() {
            Ok(Place::Bucket { bucket, prefix }) => Some((bucket, prefix)),
            _ => None,
        };
        assert_eq!(
            bucket("s3://b/p/q"),
            Some(("b".to_owned(), "p/q".to_owned()))
        );
        assert_eq!(bucket("s3://b"), Some(("b".to_owned(), String::new())));
        assert_eq!("./s3".parse(), Ok(Place::Path("./s3".into())));
        assert!("s3:///p".parse::<Place>().is_err());
    }
}
