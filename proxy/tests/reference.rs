//! The reference pages of metrics and error codes are what the code's own tables say. A stale page
//! fails; `UPDATE_REFERENCE=1` writes it anew.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::panic)]

use sluice_proxy::admin::metrics::FAMILIES;
use sluice_proxy::error_code::ALL;
use std::fmt::Write;
use std::path::Path;

fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/reference")
        .join(name);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/reference/{name} is stale: UPDATE_REFERENCE=1 cargo test -p sluice-proxy --test reference"
    );
}

/// A vertical bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn metrics_page_is_up_to_date() {
    let mut page = String::from(
        "# Metrics\n\n\
         Served at `/metrics` of the admin port (`admin.address`), as Prometheus text or, where Accept asks for it,\n\
         as OpenMetrics. A counter only grows and starts at 0 with the process. Label `output` is the name of an\n\
         output, `cause` why the destination did not take a record.\n\n\
         This page is generated from the code.\n\n\
         | name | type | labels | unit | meaning | alarms |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for family in FAMILIES {
        let quoted = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        };
        writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            family.name,
            family.kind.label(),
            quoted(family.labels),
            family.unit,
            cell(family.help),
            family.alarms.join(", "),
        )
        .unwrap();
    }
    check("metrics.md", &page);
}

#[test]
fn errors_page_is_up_to_date() {
    let mut page = String::from(
        "# Error codes\n\n\
         Every response that is not a success has a JSON body:\n\n\
         ```json\n{\"code\":\"body_too_large\",\"message\":\"...\",\"limit\":1048576,\"actual\":2000000}\n```\n\n\
         `code` is stable and meant for programs, `message` for people. `limit` and `actual` stand where a limit was\n\
         passed, `offset` where a byte of the body is to blame. A request for an event array that was taken in part\n\
         is answered 200 with `accepted`, `rejected` and `errors`, whose entries have the same codes. A 503 to such a\n\
         request also has `in_doubt`, the number of events that are not known to be stored, and `indices`, the first\n\
         100 of them.\n\n\
         This page is generated from the code.\n\n\
         | code | status | when | what a client should do |\n| --- | --- | --- | --- |\n",
    );
    for code in ALL {
        let (status, when) = (code.status.as_u16(), cell(code.when));
        let advice = code.advice.text();
        writeln!(page, "| `{}` | {status} | {when} | {advice} |", code.name).unwrap();
    }
    check("errors.md", &page);
}

#[test]
fn error_codes_are_unique() {
    let mut names: Vec<_> = ALL.iter().map(|code| code.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len());
}
