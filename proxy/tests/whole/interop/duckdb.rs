//! DuckDB counts what a replay has stored that was killed and run again.

use super::variable;
use crate::replay::killed_and_run_again;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

const LETTERS: usize = 60_000;

#[test]
#[ignore = "needs DuckDB: see .ci/interop"]
fn duckdb_counts_each_letter_once_after_kills() {
    let dir = tempdir().unwrap();
    killed_and_run_again(dir.path(), LETTERS);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/interop/duckdb_count.py");
    let output = Command::new(variable("SLUICE_INTEROP_PYTHON"))
        .arg(script)
        .arg(dir.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    println!("letters, stored, stored without repeats, not stored: {text}");
    let counts: Vec<usize> = text
        .split_whitespace()
        .map(|count| count.parse().unwrap())
        .collect();
    let [letters, stored, once, missing] = counts[..] else {
        panic!("{text}");
    };
    assert_eq!((letters, once, missing), (LETTERS, LETTERS, 0));
    assert!(stored >= LETTERS);
}
