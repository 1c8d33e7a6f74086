//! Fault scripts: windows of faults, as a TOML file or as the JSON of `POST /_faults`.
//! Reads and writes them; `faults` decides their effect.

use super::faults::Faults;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes that a fault script may have.
pub const SCRIPT_BYTES_MAX: u64 = 1 << 20;

/// Windows of faults. Where they overlap, the first one counts.
///
/// ```toml
/// [[window]]
/// from_s = 10
/// for_s = 5
/// seed = 7
/// throttle_call = 0.2
///
/// [[window]]
/// from_s = 30
/// for_s = 2
/// gone = true
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultScript {
    /// The windows, the more important first.
    #[serde(default)]
    pub window: Vec<Faults>,
}

/// One window alone: its faults are in force from `from_s` for `for_s`.
impl From<Faults> for FaultScript {
    fn from(faults: Faults) -> FaultScript {
        let window = vec![faults];
        FaultScript { window }
    }
}

/// Why a script cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file cannot be opened or read, or is no text.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is too large to be a script.
    #[error("{}: over {SCRIPT_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The text is no script.
    #[error("{} line {line}: {message}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// The reason.
        message: String,
    },
}

impl FaultScript {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// When it cannot be read, is over [`SCRIPT_BYTES_MAX`], or is no fault script; what the
    /// windows ask for is checked where they are put into force.
    pub fn read(path: &Path) -> Result<FaultScript, ScriptError> {
        let io = |source| ScriptError::Io {
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(io)?;
        let mut limited = file.take(SCRIPT_BYTES_MAX + 1);
        limited.read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > SCRIPT_BYTES_MAX {
            let path = path.to_owned();
            return Err(ScriptError::TooLarge { path });
        }
        FaultScript::parse(&text).map_err(|(line, message)| ScriptError::Text {
            path: path.to_owned(),
            line,
            message,
        })
    }

    /// Reads TOML; on failure returns the line and the reason.
    fn parse(text: &str) -> Result<FaultScript, (usize, String)> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..at]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            (line, error.message().replace('\n', " "))
        })
    }

    /// Reads the JSON of `POST /_faults`: a script, or the faults of one window alone.
    pub(super) fn from_json(json: &[u8]) -> Result<FaultScript, serde_json::Error> {
        #[derive(Deserialize)]
        struct Kind {
            window: Option<serde::de::IgnoredAny>,
        }
        // Structs are read from arrays too, where nothing would be named.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(serde::de::Error::custom("expected an object"));
        }
        // The second parse reports the error for input that is neither.
        let script = serde_json::from_slice::<Kind>(json).is_ok_and(|kind| kind.window.is_some());
        if script {
            return serde_json::from_slice(json);
        }
        Ok(serde_json::from_slice::<Faults>(json)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_windows_with_what_differs_from_no_fault() {
        let text = "[[window]]\nfrom_s = 10\nfor_s = 2.5\nseed = 7\nhang = 0.25\n\
                    reject = { k = 1, n = 10, code = \"InternalFailure\" }\n\n\
                    [[window]]\nfrom_s = 30\nfor_s = 1\ngone = true\n";
        let script = FaultScript::parse(text).unwrap();
        assert_eq!(script.window.len(), 2);
        let first = &script.window[0];
        assert_eq!((first.from_s, first.for_s), (10.0, Some(2.5)));
        assert_eq!((first.seed, first.hang), (7, 0.25));
        assert_eq!(first.reject.unwrap().n, 10);
        assert!(script.window[1].gone);
        assert_eq!(FaultScript::parse("").unwrap(), FaultScript::default());
    }

    #[test]
    fn what_is_no_script_is_refused_with_its_line() {
        for (text, line, part) in [
            (
                "[[window]]\nfrom_s = 1\nhangs = 0.5\n",
                3,
                "unknown field `hangs`",
            ),
            ("[[windows]]\nfrom_s = 1\n", 1, "unknown field `windows`"),
            (
                "[[window]]\n\nfrom_s = \"soon\"\n",
                3,
                "invalid type: string",
            ),
            ("[[window]]\nfrom_s = \n", 2, ""),
            (
                "[[window]]\nreject = { k = 1, of = 2 }\n",
                2,
                "unknown field `of`",
            ),
        ] {
            let (actual, message) = FaultScript::parse(text).unwrap_err();
            assert_eq!(actual, line, "{text}: {message}");
            assert!(message.contains(part), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn file_reads_are_bounded_and_errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faults.toml");
        let error = FaultScript::read(&path).unwrap_err().to_string();
        assert!(error.contains("faults.toml: "), "{error}");
        let mut text = "#".repeat(usize::try_from(SCRIPT_BYTES_MAX).unwrap());
        std::fs::write(&path, &text).unwrap();
        assert_eq!(FaultScript::read(&path).unwrap(), FaultScript::default());
        text.push('#');
        std::fs::write(&path, &text).unwrap();
        let error = FaultScript::read(&path).unwrap_err().to_string();
        assert!(error.ends_with("over 1048576 bytes"), "{error}");
        std::fs::write(&path, "\n[[window]]\nx = 1").unwrap();
        let error = FaultScript::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("faults.toml line 3: unknown field `x`"),
            "{error}"
        );
    }

    #[test]
    fn json_is_a_script_or_one_window_alone() {
        let one = FaultScript::from_json(br#"{"hang":0.5}"#).unwrap();
        assert_eq!(one.window.len(), 1);
        let script = FaultScript::from_json(br#"{"window":[{"hang":0.5},{"slow":1}]}"#).unwrap();
        assert_eq!(script.window.len(), 2);
        assert_eq!(script.window[0], one.window[0]);
        assert!(
            FaultScript::from_json(br#"{"window":[]}"#)
                .unwrap()
                .window
                .is_empty()
        );
        for bad in ["{", "[]", r#"{"window":[],"x":1}"#, r#"{"window":3}"#] {
            assert!(FaultScript::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
