//! The header that proves who we are. Its value comes from a file or a variable, and is never shown.

use super::HttpSettings;
use ::http::header::{HeaderName, HeaderValue};
use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Bytes of the value; servers take 8 KiB of headers.
const VALUE_BYTES_MAX: usize = 4_096;

/// The value cannot be used; says where it comes from, never what it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthError {
    #[error("`auth_file` {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("`auth_env`: the variable {name} is not set")]
    Variable { name: String },
    #[error("{origin} has {actual} bytes, and a header's value has 1 to {VALUE_BYTES_MAX}")]
    Length { origin: String, actual: usize },
    #[error("{origin} has characters that no header's value can have")]
    Characters { origin: String },
    #[error("`auth_header`: {name:?} is no name of a header")]
    Name { name: String },
}

/// A header, and the file that its value comes from, if it can change.
pub(super) struct Auth {
    name: HeaderName,
    value: RwLock<HeaderValue>,
    file: Option<PathBuf>,
}

impl Auth {
    /// `None` if the settings name no origin.
    pub(super) fn of(settings: &HttpSettings) -> Result<Option<Auth>, AuthError> {
        let value = match (&settings.auth_file, &settings.auth_env) {
            (Some(path), _) => of_file(path)?,
            (None, Some(name)) => of_variable(name)?,
            (None, None) => return Ok(None),
        };
        let name = settings.auth_header.parse().map_err(|_| AuthError::Name {
            name: settings.auth_header.clone(),
        })?;
        Ok(Some(Auth {
            name,
            value: RwLock::new(value),
            file: settings.auth_file.clone(),
        }))
    }

    pub(super) fn header(&self) -> (HeaderName, HeaderValue) {
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        (self.name.clone(), value.clone())
    }

    /// Reads the file again: the server refused the value, perhaps because there is a new one.
    pub(super) fn read_again(&self) -> Result<(), AuthError> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let value = of_file(path)?;
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }
}

fn of_file(path: &Path) -> Result<HeaderValue, AuthError> {
    let fail = |source| AuthError::File {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(fail)?;
    // A newline more than the value, and a byte to see that it goes on.
    let bytes = VALUE_BYTES_MAX as u64 + 2;
    file.take(bytes).read_to_end(&mut text).map_err(fail)?;
    value(text.trim_ascii(), || {
        format!("`auth_file` {}", path.display())
    })
}

fn of_variable(name: &str) -> Result<HeaderValue, AuthError> {
    let text = env::var_os(name).ok_or_else(|| AuthError::Variable {
        name: name.to_owned(),
    })?;
    let text = text.as_encoded_bytes().trim_ascii();
    value(text, || format!("`auth_env`: the variable {name}"))
}

fn value(text: &[u8], origin: impl Fn() -> String) -> Result<HeaderValue, AuthError> {
    if !(1..=VALUE_BYTES_MAX).contains(&text.len()) {
        return Err(AuthError::Length {
            origin: origin(),
            actual: text.len(),
        });
    }
    let value = HeaderValue::from_bytes(text);
    let mut value = value.map_err(|_| AuthError::Characters { origin: origin() })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth_of(file: &Path) -> Result<Option<Auth>, AuthError> {
        Auth::of(&HttpSettings {
            auth_file: Some(file.to_owned()),
            ..HttpSettings::new("http://host/")
        })
    }

    #[test]
    fn an_auth_file_is_one_header_value_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let secret = "Bearer s3cret";
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        let auth = auth_of(&file).unwrap().unwrap();
        let (name, value) = auth.header();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("authorization", secret.as_bytes())
        );
        assert!(!format!("{value:?}").contains("s3cret"));
        for (text, said) in [
            (
                String::new(),
                "has 0 bytes, and a header's value has 1 to 4096",
            ),
            ("\n".to_owned(), "has 0 bytes"),
            ("x".repeat(4_097), "has 4097 bytes"),
            (
                "s3cret\ntwo".to_owned(),
                "has characters that no header's value can have",
            ),
            ("s3cret\0".to_owned(), "has characters"),
        ] {
            std::fs::write(&file, &text).unwrap();
            let error = auth_of(&file).err().unwrap().to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
            assert!(auth.read_again().is_err());
            assert_eq!(
                auth.header().1.as_bytes(),
                secret.as_bytes(),
                "the old one stays"
            );
        }
        std::fs::write(&file, "x".repeat(4_096) + "\n").unwrap();
        assert!(auth_of(&file).is_ok());
        std::fs::remove_file(&file).unwrap();
        let error = auth_of(&file).err().unwrap().to_string();
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_missing_auth_variable_is_named() {
        let error = Auth::of(&HttpSettings {
            auth_env: Some("SLUICE_TEST_NO_SUCH".to_owned()),
            ..HttpSettings::new("http://host/")
        });
        let error = error.err().unwrap().to_string();
        assert_eq!(
            error,
            "`auth_env`: the variable SLUICE_TEST_NO_SUCH is not set"
        );
        // Of each process of tests Cargo says where it is.
        let auth = Auth::of(&HttpSettings {
            auth_env: Some("CARGO_MANIFEST_DIR".to_owned()),
            auth_header: "x-key".to_owned(),
            ..HttpSettings::new("http://host/")
        });
        let (name, value) = auth.unwrap().unwrap().header();
        let expected = env::var("CARGO_MANIFEST_DIR").unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("x-key", expected.as_bytes())
        );
    }
}
