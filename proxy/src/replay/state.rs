//! How far a replay has come, on disk: a line for each batch that was taken, synced before the next is sent. A replay
//! that was killed goes on from there; what it sent last, and was not told of, it sends again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of a state: two million batches.
const STATE_BYTES_MAX: u64 = 256 << 20;

/// A state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Somebody else works with it.
    #[error("another replay uses it")]
    Locked,
    /// It has another first line.
    #[error("it is of another replay: {found:?}, this is {expected:?}")]
    Other {
        /// What it is of.
        found: String,
        /// What this replay is.
        expected: String,
    },
    /// It is too large.
    #[error("it is over the limit of {limit} bytes, got {actual} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// Its bytes.
        actual: u64,
    },
}

/// How many lines of each source are done.
#[derive(Debug)]
pub struct State {
    /// Locked as long as it is open; `None` for a replay that only looks.
    file: Option<File>,
    done: HashMap<String, u64>,
}

impl State {
    /// Reads the state of the replay that `what` describes, in one line, or begins it. With `is_read_only` nothing is
    /// written.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path, what: &str, is_read_only: bool) -> Result<State, StateError> {
        let file = OpenOptions::new()
            .read(true)
            .append(!is_read_only)
            .create(!is_read_only)
            .open(path);
        let mut file = match file {
            Err(error) if is_read_only && error.kind() == io::ErrorKind::NotFound => {
                let done = HashMap::new();
                return Ok(State { file: None, done });
            }
            file => file?,
        };
        if !is_read_only {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(StateError::Locked),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        let (limit, actual) = (STATE_BYTES_MAX, file.metadata()?.len());
        if actual > limit {
            return Err(StateError::TooLarge { limit, actual });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // What a crash left unfinished was never relied on.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = &bytes[..whole.map_or(0, |end| end + 1)];
        let text = String::from_utf8_lossy(whole);
        let mut lines = text.lines();
        match lines.next() {
            None if is_read_only => {}
            None => {
                file.set_len(0)?;
                writeln!(file, "{what}")?;
                file.sync_all()?;
                // The name of a new file is durable once its directory is.
                let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
                File::open(dir.unwrap_or(Path::new(".")))?.sync_all()?;
            }
            Some(found) if found != what => {
                return Err(StateError::Other {
                    found: found.to_owned(),
                    expected: what.to_owned(),
                });
            }
            Some(_) if is_read_only => {}
            Some(_) => file.set_len(whole.len() as u64)?,
        }
        let mut done = HashMap::new();
        for line in lines {
            if let Some((count, source)) = line.split_once('\t')
                && let Ok(count) = count.parse()
            {
                done.insert(source.to_owned(), count);
            }
        }
        Ok(State {
            file: (!is_read_only).then_some(file),
            done,
        })
    }

    /// How many lines of a source are done.
    #[must_use]
    pub fn done(&self, source: &str) -> u64 {
        self.done.get(source).copied().unwrap_or(0)
    }

    /// So many lines of a source are done. Durable when it returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn set(&mut self, source: &str, lines: u64) -> io::Result<()> {
        if self.done(source) == lines {
            return Ok(());
        }
        self.done.insert(source.to_owned(), lines);
        if let Some(file) = &mut self.file {
            file.write_all(format!("{lines}\t{source}\n").as_bytes())?;
            file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::tempdir;

    #[test]
    fn a_state_is_read_again_without_its_torn_end() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("state");
        let mut state = State::open(&path, "a", false).unwrap();
        state.set("one.ndjson", 3).unwrap();
        state.set("one.ndjson", 7).unwrap();
        assert!(matches!(
            State::open(&path, "a", false),
            Err(StateError::Locked)
        ));
        drop(state);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"99\tone");
        fs::write(&path, &bytes).unwrap();
        let looked = State::open(&path, "a", true).unwrap();
        assert_eq!(looked.done("one.ndjson"), 7);
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let mut state = State::open(&path, "a", false).unwrap();
        assert_eq!((state.done("one.ndjson"), state.done("two")), (7, 0));
        state.set("two", 1).unwrap();
        drop(state);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "a\n3\tone.ndjson\n7\tone.ndjson\n1\ttwo\n"
        );
    }

    #[test]
    fn a_state_of_another_replay_is_refused() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("state");
        drop(State::open(&path, "from a", false).unwrap());
        let error = State::open(&path, "from b", false).unwrap_err();
        let said = "it is of another replay: \"from a\", this is \"from b\"";
        assert_eq!(error.to_string(), said);
        assert_eq!(
            State::open(&dir.path().join("none"), "a", true)
                .unwrap()
                .done("x"),
            0
        );
        assert!(!dir.path().join("none").exists());
    }

    #[test]
    fn a_state_over_its_limit_is_refused() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("state");
        File::create(&path)
            .unwrap()
            .set_len(STATE_BYTES_MAX + 1)
            .unwrap();
        let error = State::open(&path, "a", true).unwrap_err().to_string();
        assert_eq!(
            error,
            "it is over the limit of 268435456 bytes, got 268435457 bytes"
        );
    }
}
