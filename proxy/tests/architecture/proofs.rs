//! `docs/acceptance.md` and `docs/faults.md` name tests and files as proof. Names change; a page does not notice.

use super::{all_sources, assert_none, workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The checks that the page on acceptance has to prove.
const CHECKS: [&str; 10] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];

/// The rows of the fault matrix, by their letter.
const FAULTS: [(char, u32); 6] = [
    ('A', 18),
    ('B', 11),
    ('C', 9),
    ('D', 10),
    ('E', 7),
    ('F', 4),
];

/// Rows that divide another one.
const DIVIDED: [(&str, &[&str]); 2] = [("A1", &["A1", "A1x"]), ("A5", &["A5a", "A5b"])];

/// Commands are built, not kept: what they begin with is no file of the workspace.
const BUILT: &str = "target/";

/// Tests by name, with the parts of the paths of the files that have one of this name.
type Tests = BTreeMap<String, BTreeSet<String>>;

fn fault_ids() -> Vec<String> {
    let all = FAULTS.iter();
    let all = all.flat_map(|(letter, last)| (1..=*last).map(move |at| format!("{letter}{at}")));
    all.flat_map(|id| match DIVIDED.iter().find(|(whole, _)| **whole == id) {
        Some((_, parts)) => parts.iter().map(|&part| part.to_owned()).collect(),
        None => vec![id],
    })
    .collect()
}

/// One row of a table: its id, and what stands in backticks in its last column. Heads and rules have no digit.
fn row(line: &str) -> Option<(&str, Vec<&str>)> {
    let cells = line.strip_prefix('|')?.strip_suffix('|')?;
    let (id, rest) = cells.split_once('|')?;
    let (_, proof) = rest.rsplit_once('|')?;
    let id = id.trim();
    let is_id = id.bytes().any(|byte| byte.is_ascii_digit());
    is_id.then(|| (id, proof.split('`').skip(1).step_by(2).collect()))
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

fn tests_in(sources: &[(String, String)]) -> Tests {
    let mut tests = Tests::new();
    for (path, text) in sources {
        for name in tests_of(text) {
            let parts = path.split(['/', '.']).map(str::to_owned);
            tests.entry(name.to_owned()).or_default().extend(parts);
        }
    }
    tests
}

/// Whether a test of this name is there, in the module that may stand before it.
fn is_test(item: &str, tests: &Tests) -> Option<bool> {
    let (module, name) = item.rsplit_once("::").unwrap_or(("", item));
    let is_word = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    (is_word(module) && is_word(name)).then(|| {
        let parts = tests.get(name);
        parts.is_some_and(|parts| module.is_empty() || parts.contains(module))
    })
}

/// What is wrong with a page that has to have these rows.
fn faults(page: &str, ids: &[impl AsRef<str>], tests: &Tests) -> Vec<String> {
    let rows: Vec<_> = page.lines().filter_map(row).collect();
    let mut wrong = Vec::new();
    let ids: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
    let found: Vec<&str> = rows.iter().map(|(id, _)| *id).collect();
    if ids != found {
        wrong.push(format!("the rows are {ids:?}, not {found:?}"));
    }
    for (id, proof) in rows {
        if proof.is_empty() {
            wrong.push(format!("row {id} has no proof"));
        }
        for item in proof {
            let exists = is_test(item, tests)
                .unwrap_or_else(|| item.starts_with(BUILT) || workspace().join(item).exists());
            if !exists {
                wrong.push(format!("row {id}: there is no {item}"));
            }
        }
    }
    wrong
}

#[test]
fn tests_and_files_named_as_proof_exist() {
    let tests = tests_in(&all_sources());
    let page = |name: &str| fs::read_to_string(workspace().join("docs").join(name)).unwrap();
    assert_none(&faults(&page("acceptance.md"), &CHECKS, &tests));
    assert_none(&faults(&page("faults.md"), &fault_ids(), &tests));
}

#[test]
fn a_page_that_rots_is_found() {
    let source = "#[test]\n#[ignore]\nfn one_holds() {}\nfn helper_of_it() {}\n\
                  \x20   #[tokio::test(flavor = \"x\")]\n    async fn another_holds() {}\n";
    let tests = tests_in(&[("proxy/tests/whole/spool.rs".to_owned(), source.to_owned())]);
    let names: Vec<&String> = tests.keys().collect();
    assert_eq!(names, ["another_holds", "one_holds"]);
    let page = |proof: &str| {
        let rows = CHECKS.map(|number| format!("| {number} | what | {proof} |\n"));
        faults(&rows.concat(), &CHECKS, &tests)
    };
    let good = "`one_holds`, `spool::another_holds`; `.ci/run`, `target/release/x y`";
    assert!(page(good).is_empty());
    for wrong in [
        "",
        "one_holds",
        "`helper_of_it`",
        "`one_held`",
        "`disk::one_holds`",
        "`.ci/walk`",
        "`docs/upgrade.md`, `docs/downgrade.md`",
    ] {
        assert_eq!(page(wrong).len(), CHECKS.len(), "{wrong}");
    }
    let missing = faults("| 1 | what | `one_holds` |\n", &CHECKS, &tests);
    assert_eq!(missing.len(), 1, "{missing:?}");
}

#[test]
fn the_fault_matrix_has_61_rows() {
    let ids = fault_ids();
    assert_eq!(ids.len(), 61);
    assert_eq!(ids[..3], ["A1", "A1x", "A2"]);
}
