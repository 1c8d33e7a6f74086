//! Bodies from files, sent as they are, in turn. Their events are unknown.

use super::super::target::Target;
use super::{BODY_BYTES_MAX, BodyError, OWN_AGENT, Prepared, push, push_headers};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that one run may send.
pub const BODY_FILES_MAX: usize = 1_000;

/// Bytes that they may have together: they are kept in memory.
pub const BODY_FILES_BYTES_MAX: usize = 256 << 20;

const METHOD_BYTES_MAX: usize = 20;

/// Bodies from files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// The files, 1 to [`BODY_FILES_MAX`], sent in turn.
    pub paths: Vec<PathBuf>,
    /// Method of requests.
    pub method: String,
    /// Their content type.
    pub content_type: String,
}

impl FileOptions {
    pub(super) fn check(&self) -> Result<(), BodyError> {
        if !(1..=BODY_FILES_MAX).contains(&self.paths.len()) {
            return Err(BodyError::Files(self.paths.len()));
        }
        // An answer to HEAD announces a body that never comes, one to CONNECT is no HTTP.
        let known = (1..=METHOD_BYTES_MAX).contains(&self.method.len())
            && self.method.bytes().all(|byte| byte.is_ascii_uppercase())
            && !matches!(self.method.as_str(), "HEAD" | "CONNECT");
        if !known {
            return Err(BodyError::Method(self.method.clone()));
        }
        if self.content_type.contains(char::is_control) {
            return Err(BodyError::ContentType(self.content_type.clone()));
        }
        Ok(())
    }

    /// Reads all files and puts their heads before them.
    pub(super) fn read(
        &self,
        headers: &[String],
        target: &Target,
    ) -> Result<Vec<FileRequest>, BodyError> {
        let mut requests = Vec::with_capacity(self.paths.len());
        let mut together = 0;
        for path in &self.paths {
            let body = read(path)?;
            together += body.len();
            if together > BODY_FILES_BYTES_MAX {
                return Err(BodyError::FilesBytes);
            }
            let mut head = String::new();
            let path = target.path.as_deref().unwrap_or("/");
            push(
                &mut head,
                format_args!("{} {path} HTTP/1.1\r\n", self.method),
            );
            let headers_at = head.len();
            let usual = [
                ("User-Agent", OWN_AGENT),
                ("Accept", "*/*"),
                ("Content-Type", &self.content_type),
            ];
            push_headers(&mut head, target, &usual, headers, Some(body.len()));
            let mut bytes = head.into_bytes();
            bytes.extend_from_slice(&body);
            requests.push(FileRequest { bytes, headers_at });
        }
        Ok(requests)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    let limit = BODY_BYTES_MAX as u64;
    // One byte more distinguishes a file at the limit from one over it, whatever its metadata says.
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut body));
    read.map_err(|error| BodyError::File {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    if body.len() > BODY_BYTES_MAX {
        return Err(BodyError::FileBytes {
            path: path.to_owned(),
            actual: body.len() as u64,
        });
    }
    Ok(body)
}

/// One file as a request.
#[derive(Debug)]
pub(super) struct FileRequest {
    bytes: Vec<u8>,
    headers_at: usize,
}

/// Requests of one thread.
#[derive(Debug)]
pub(in crate::run) struct FileRequests {
    files: Arc<[FileRequest]>,
    at: usize,
}

impl FileRequests {
    pub(super) fn new(files: Arc<[FileRequest]>) -> FileRequests {
        FileRequests { files, at: 0 }
    }

    pub(super) fn next(&mut self) -> Prepared<'_> {
        let file = &self.files[self.at];
        self.at = (self.at + 1) % self.files.len();
        Prepared {
            bytes: &file.bytes,
            headers_at: file.headers_at,
            events: 0,
            preflight: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(paths: &[&Path]) -> FileOptions {
        FileOptions {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            method: "PUT".to_owned(),
            content_type: "text/csv".to_owned(),
        }
    }

    #[test]
    fn files_are_sent_as_they_are_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, b"1,2\r\n\0\xff").unwrap();
        std::fs::write(&b, b"").unwrap();
        let target = Target::parse("http://h:1/in?k=v").unwrap();
        let files = options(&[&a, &b]).read(&[], &target).unwrap();
        let mut requests = FileRequests::new(files.into());
        for _ in 0..2 {
            let first = requests.next();
            assert_eq!((first.events, first.preflight), (0, false));
            assert!(
                first
                    .bytes
                    .starts_with(b"PUT /in?k=v HTTP/1.1\r\nHost: h:1\r\n")
            );
            assert!(first.bytes[first.headers_at..].starts_with(b"Host: "));
            assert!(
                first
                    .bytes
                    .ends_with(b"Content-Type: text/csv\r\nContent-Length: 7\r\n\r\n1,2\r\n\0\xff")
            );
            assert!(
                requests
                    .next()
                    .bytes
                    .ends_with(b"Content-Length: 0\r\n\r\n")
            );
        }
    }

    #[test]
    fn body_files_are_accepted_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        let file = File::create(&path).unwrap();
        file.set_len(BODY_BYTES_MAX as u64).unwrap();
        assert_eq!(read(&path).unwrap().len(), BODY_BYTES_MAX);
        file.set_len(BODY_BYTES_MAX as u64 + 1).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.contains("16777217 bytes") && error.contains("16777216"),
            "{error}"
        );
        // Says of itself that it is empty, and never ends.
        assert!(matches!(
            read(Path::new("/dev/zero")),
            Err(BodyError::FileBytes { .. })
        ));
        let none = dir.path().join("none");
        assert!(read(&none).unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn methods_and_numbers_out_of_range_are_refused() {
        let path = Path::new("x");
        assert!(options(&[path]).check().is_ok());
        assert_eq!(options(&[]).check(), Err(BodyError::Files(0)));
        let many = vec![path; BODY_FILES_MAX + 1];
        assert_eq!(options(&many).check(), Err(BodyError::Files(many.len())));
        assert!(options(&many[1..]).check().is_ok());
        for method in ["", "HEAD", "CONNECT", "get", "A B", "ABCDEFGHIJKLMNOPQRSTU"] {
            let mut wrong = options(&[path]);
            wrong.method = method.to_owned();
            assert_eq!(wrong.check(), Err(BodyError::Method(method.to_owned())));
        }
        let mut wrong = options(&[path]);
        wrong.content_type = "a\r\nb: c".to_owned();
        assert!(matches!(wrong.check(), Err(BodyError::ContentType(_))));
    }
}
