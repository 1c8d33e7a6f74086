//! `docs/acceptance.md` names tests and files as proof. Names change; a page does not notice.

use super::{all_sources, assert_none, workspace};
use std::collections::BTreeSet;
use std::fs;

/// The checks that the page has to prove.
const CHECKS: [u32; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

/// Commands are built, not kept: what they begin with is no file of the workspace.
const BUILT: &str = "target/";

/// One row of the table: its number, and what stands in backticks in its last column.
fn row(line: &str) -> Option<(u32, Vec<&str>)> {
    let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|');
    let number = cells.next()?.trim().parse().ok()?;
    let proof = cells.nth(1)?;
    Some((number, proof.split('`').skip(1).step_by(2).collect()))
}

/// The names of all functions that a test attribute stands above.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    source.lines().filter_map(move |line| {
        let line = line.trim_start();
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            return None;
        }
        let named = line.trim_start_matches("async ").strip_prefix("fn ");
        let name = named.and_then(|rest| rest.split('(').next());
        name.filter(|_| std::mem::take(&mut is_test))
    })
}

/// What is wrong with a page.
fn faults(page: &str, tests: &BTreeSet<&str>) -> Vec<String> {
    let rows: Vec<_> = page.lines().filter_map(row).collect();
    let mut wrong = Vec::new();
    let numbers: Vec<u32> = rows.iter().map(|(number, _)| *number).collect();
    if numbers != CHECKS {
        wrong.push(format!("the checks are {CHECKS:?}, not {numbers:?}"));
    }
    for (number, proof) in rows {
        if proof.is_empty() {
            wrong.push(format!("check {number} has no proof"));
        }
        for item in proof {
            let is_name = item
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            let exists = if is_name {
                tests.contains(item)
            } else {
                item.starts_with(BUILT) || workspace().join(item).exists()
            };
            if !exists {
                wrong.push(format!("check {number}: there is no {item}"));
            }
        }
    }
    wrong
}

#[test]
fn every_test_and_file_that_the_acceptance_page_names_exists() {
    let page = fs::read_to_string(workspace().join("docs/acceptance.md")).unwrap();
    let sources = all_sources();
    let tests = sources.iter().flat_map(|(_, text)| tests_of(text));
    assert_none(&faults(&page, &tests.collect()));
}

#[test]
fn a_page_that_rots_is_found() {
    let source = "#[test]\n#[ignore]\nfn one_holds() {}\nfn helper_of_it() {}\n\
                  \x20   #[tokio::test(flavor = \"x\")]\n    async fn another_holds() {}\n";
    let tests: BTreeSet<&str> = tests_of(source).collect();
    assert_eq!(tests, BTreeSet::from(["another_holds", "one_holds"]));
    let page = |proof: &str| {
        let rows = CHECKS.map(|number| format!("| {number} | what | {proof} |\n"));
        faults(&rows.concat(), &tests)
    };
    let good = "`one_holds`, `another_holds`; `.ci/run`, `target/release/x y`";
    assert!(page(good).is_empty());
    for wrong in [
        "",
        "one_holds",
        "`helper_of_it`",
        "`one_held`",
        "`.ci/walk`",
        "`docs/upgrade.md`, `docs/downgrade.md`",
    ] {
        assert_eq!(page(wrong).len(), CHECKS.len(), "{wrong}");
    }
    let missing = faults("| 1 | what | `one_holds` |\n", &tests);
    assert_eq!(missing.len(), 1, "{missing:?}");
}
