//! Files as input: all of them bounded, and every complaint names the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Largest row, configuration or stored baseline that is read, in bytes.
pub const SMALL_BYTES_MAX: u64 = 4 << 20;

/// Largest report of the generator that is read, in bytes: it has a line for every second.
pub const REPORT_BYTES_MAX: u64 = 256 << 20;

/// Reads a text file of at most `bytes_max` bytes.
///
/// # Errors
/// A file that cannot be read, is no UTF-8 or is larger, named.
pub fn read(path: &Path, bytes_max: u64) -> Result<String, String> {
    let bad = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| bad(&error))?;
    let bytes = file.metadata().map_err(|error| bad(&error))?.len();
    if bytes > bytes_max {
        return Err(bad(&format!("{bytes} bytes, at most {bytes_max} are read")));
    }
    let mut text = String::new();
    // It may grow meanwhile, and a device has no length.
    file.take(bytes_max)
        .read_to_string(&mut text)
        .map_err(|error| bad(&error))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_the_limit_is_refused_with_both_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.toml");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).as_deref(), Ok("12345"));
        let error = read(&path, 4).unwrap_err();
        assert!(
            error.ends_with("big.toml: 5 bytes, at most 4 are read"),
            "{error}"
        );
    }
}
